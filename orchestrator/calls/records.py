"""What is kept of calls that have ended: who ended them and why, what was agreed, how it was heard."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.calls.line import Line
from orchestrator.media.session import SessionStats
from orchestrator.sip.call.events import EndCause, RefusedCall
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.transport.trace import Trace
from visavis.service.logs import Log

log = Log(__name__)
REFUSED_SHARE = 10
REFUSED_BURST = 20.0
REFUSED_PER_SECOND = 1.0


@dataclass(frozen=True)
class CallRecord:
    """One ended call. Times are seconds since the epoch; ``answered_at`` is None for one nobody answered.

    ``ended_by`` is "peer" or "us"; ``sip_cause`` and ``sip_status`` are those of
    :class:`orchestrator.sip.call.events.EndCause`; ``media`` holds the call's last figures, where RTCP had its say.
    """

    call_id: str
    sip_call_id: PeerText
    direction: str
    caller: PeerText
    dialled: PeerText
    source: str
    account: str
    avatar: str
    started_at: float
    answered_at: float | None
    ended_at: float
    seconds: float
    cause: str
    ended_by: str
    sip_cause: str
    sip_status: int
    reason: str
    audio: str | None
    video: str | None
    srtp: bool
    media: Mapping[str, Any] = field(default_factory=dict)


def figures_of(stats: SessionStats) -> dict[str, Any]:
    """A call's figures as the API shows them."""
    return {
        name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(stats).items()
    }


def make_record(line: Line, cause: EndCause, ended_at: float, media: Mapping[str, Any]) -> CallRecord:
    """The record of a line that is over."""
    sip, call = line.sip, line.call
    agreed = sip.media.audio if sip.media else None
    return CallRecord(
        call_id=sip.id,
        sip_call_id=PeerText(sip.sip_call_id),
        direction=sip.direction,
        caller=sip.remote_uri,
        dialled=sip.user,
        source=sip.source[0],
        account=sip.account,
        avatar=line.portrait.name,
        started_at=round(line.started_at, 3),
        answered_at=round(call.answered_at, 3) if call else None,
        ended_at=round(ended_at, 3),
        seconds=round(ended_at - call.answered_at, 3) if call else 0.0,
        cause=line.ended_as(cause),
        ended_by=cause.by,
        sip_cause=cause.kind,
        sip_status=cause.status,
        reason=cause.text,
        audio=call.info.audio if call else None,
        video=call.info.video if call else None,
        srtp=bool(agreed and agreed.crypto),
        media=media,
    )


def refused_record(call: RefusedCall, avatar: str, now: float) -> CallRecord:
    """The record of a call that there was no room for."""
    return CallRecord(
        call_id=call.id,
        sip_call_id=call.sip_call_id,
        direction="in",
        caller=call.caller,
        dialled=call.user,
        source=call.source,
        account=call.account,
        avatar=avatar,
        started_at=round(now, 3),
        answered_at=None,
        ended_at=round(now, 3),
        seconds=0.0,
        cause=call.cause,
        ended_by="us",
        sip_cause="rejected",
        sip_status=503,
        reason=call.text,
        audio=None,
        video=None,
        srtp=False,
    )


class RecordBook:
    """The last ``limit`` records and, of calls that were traced, their SIP messages.

    However many calls are refused, their records take a tenth of the book at most and twenty lines of the log
    at once, then one a second.
    """

    def __init__(self, limit: int, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._now = now
        self._refused: deque[str] = deque()
        self._room, self._room_at = REFUSED_BURST, now()
        self._left_out = 0
        self._kept: OrderedDict[str, tuple[CallRecord, Trace | None]] = OrderedDict()

    def add(self, record: CallRecord, trace: Trace | None) -> None:
        """Keep a record and write it to the log."""
        self._kept[record.call_id] = record, trace
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        log.info("call_record", **{("call" if k == "call_id" else k): v for k, v in asdict(record).items()})

    def refuse(self, record: CallRecord) -> None:
        """Keep the record of a refused call, unless there were too many of late: those are only counted."""
        now = self._now()
        self._room = min(REFUSED_BURST, self._room + (now - self._room_at) * REFUSED_PER_SECOND)
        self._room_at = now
        if self._room < 1:
            self._left_out += 1
            return
        self._room -= 1
        if self._left_out:
            log.warning("refused_unrecorded", calls=self._left_out)
            self._left_out = 0
        self._refused.append(record.call_id)
        if len(self._refused) > max(1, self._limit // REFUSED_SHARE):
            self._kept.pop(self._refused.popleft(), None)
        self.add(record, None)

    def latest(self, limit: int) -> list[CallRecord]:
        """The newest first."""
        return [record for record, _ in list(self._kept.values())[::-1][:limit]]

    def find(self, call_id: str) -> CallRecord | None:
        """The record of this call."""
        kept = self._kept.get(call_id)
        return kept[0] if kept else None

    def trace(self, call_id: str) -> Trace | None:
        """The messages of a call that was traced."""
        kept = self._kept.get(call_id)
        return kept[1] if kept else None
