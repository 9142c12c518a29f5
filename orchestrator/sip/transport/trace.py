"""Bounded records of calls' SIP messages, kept only where somebody asked for them."""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import NamedTuple

from visavis.service.text import escaped

MAX_FOLLOWED = 1000
_CALL_ID = re.compile(rb"^(?:call-id|i)[ \t]*:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
_SECRET_HEADERS = (b"authorization", b"proxy-authorization")
_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")
_KEY = re.compile(
    rb"(?P<relayed>^[ \t]*signal[ \t]*=[ \t]*)[^\r\n]*|(?P<alone>\A[ \t]*)(?:[0-9*#A-D!]|1[0-6])(?=\s*\Z)",
    re.I | re.M,
)
"""What an INFO says that the caller has pressed (application/dtmf-relay, application/dtmf)."""


class TraceEntry(NamedTuple):
    """One message. `time` is Unix time; `direction` "in" or "out"."""

    time: float
    direction: str
    remote: tuple[str, int]
    data: bytes


class Trace:
    """The last `limit` messages of one call, kept without credentials, SRTP keys, ICE passwords, keys pressed."""

    def __init__(self, limit: int) -> None:
        self._entries: deque[TraceEntry] = deque(maxlen=limit)

    def add(self, entry: TraceEntry) -> None:
        self._entries.append(entry._replace(data=_without_secrets(entry.data)))

    def entries(self) -> list[TraceEntry]:
        return list(self._entries)

    def text(self) -> str:
        """The record as a person reads it; control characters and bytes that are no UTF-8 are escaped."""
        return "\n".join(
            f"--- {datetime.fromtimestamp(e.time, UTC).isoformat(timespec='milliseconds')} {e.direction} "
            f"{e.remote[0]}:{e.remote[1]}\n{_shown(e.data)}"
            for e in self._entries
        )


class Tracer:
    """The traces of all calls. Messages belong to a trace by their Call-ID, also before and after the dialog.

    `upcoming` is how many calls from now on are traced from their INVITE; None: all of them.
    """

    def __init__(self, limit: int) -> None:
        self.upcoming: int | None = 0
        self._limit = limit
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def begin(self, sip_call_id: str) -> Trace | None:
        """A trace for a call that starts, where one is wanted."""
        if self.upcoming == 0:
            return None
        if self.upcoming is not None:
            self.upcoming -= 1
        return self.follow(sip_call_id)

    def follow(self, sip_call_id: str) -> Trace:
        """Record every message with this Call-ID from now on."""
        trace = self._traces.get(sip_call_id)
        if trace is None:
            trace = self._traces[sip_call_id] = Trace(self._limit)
            if len(self._traces) > MAX_FOLLOWED:
                self._traces.popitem(last=False)
        return trace

    def note(self, direction: str, remote: tuple[str, int], data: bytes) -> None:
        """One message as it passed the socket; kept only where its call is followed."""
        if not self._traces or (found := _CALL_ID.search(data)) is None:
            return
        trace = self._traces.get(found[1].decode("utf-8", "surrogateescape"))
        if trace is not None:
            trace.add(TraceEntry(time.time(), direction, remote, data))


def _shown(data: bytes) -> str:
    return escaped(data.decode("utf-8", "surrogateescape").replace("\r\n", "\n"), lines=True)


def _without_secrets(data: bytes) -> bytes:
    found = _EMPTY_LINE.search(data, len(data) - len(data.lstrip(b"\r\n")))  # as lenient as who reads it
    body = found.end() if found else len(data)
    lines = (data[:body] + _KEY.sub(rb"\g<relayed>\g<alone>(removed)", data[body:])).split(b"\n")
    secret = False
    for index, line in enumerate(lines):
        end = b"\r" if line.endswith(b"\r") else b""
        name, colon, _ = line.partition(b":")
        if line[:1] not in (b" ", b"\t"):
            secret = bool(colon) and name.strip().lower() in _SECRET_HEADERS
            kept = name + b": (removed)"
        else:
            kept = b" (removed)"  # a folded line of the header above
        if secret:
            lines[index] = kept + end
        elif line.lower().startswith(b"a=crypto:"):
            lines[index] = line.partition(b"inline:")[0] + b"inline:(removed)" + end
        elif line.lower().startswith(b"a=ice-pwd:"):
            lines[index] = b"a=ice-pwd:(removed)" + end
    return b"\n".join(lines)
