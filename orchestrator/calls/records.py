"""What is kept of calls that have ended: who ended them and why, what was agreed, how it was heard."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.calls.call import Call
from orchestrator.calls.gateway import CallEnd, RefusedInvitation, Trace
from orchestrator.calls.token_bucket import TokenBucket
from visavis.service.logs import Log

log = Log(__name__)
TRACES = 1000
REFUSED_BURST = 20.0
REFUSED_PER_SECOND = 1.0


@dataclass(frozen=True)
class CallRecord:
    """One ended call. Times are seconds since the epoch; ``answered_at`` is None for one nobody answered.

    ``ended_by`` is "peer" or "us", ``reason`` the peer's words; ``media`` holds the call's last figures, where RTCP
    had its say. ``signalling`` is what its gateway keeps of it, by names of its own.
    """

    call_id: str
    direction: str
    caller: str
    dialled: str
    source: str
    account: str
    avatar: str
    started_at: float
    answered_at: float | None
    ended_at: float
    seconds: float
    cause: str
    ended_by: str
    reason: str
    audio: str | None
    video: str | None
    srtp: bool
    media: Mapping[str, Any] = field(default_factory=dict)
    signalling: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything side by side, as the API and the log tell it."""
        fields = asdict(self)
        signalling: dict[str, Any] = fields.pop("signalling")
        return fields | signalling


def make_record(call: Call, end: CallEnd) -> CallRecord:
    """The record of a call that is over."""
    assert call.ended_at is not None
    answered, signalling = call.answered_at, call.signalling
    return CallRecord(
        call_id=call.call_id,
        direction=signalling.direction,
        caller=signalling.caller,
        dialled=signalling.dialled,
        source=signalling.source,
        account=signalling.account,
        avatar=call.portrait.name,
        started_at=round(call.started_at, 3),
        answered_at=None if answered is None else round(answered, 3),
        ended_at=round(call.ended_at, 3),
        seconds=0.0 if answered is None else round(call.ended_at - answered, 3),
        cause=call.cause,
        ended_by=end.by,
        reason=end.text,
        audio=None if answered is None else call.audio,
        video=None if answered is None else call.video,
        srtp=call.srtp,
        media=call.stats,
        signalling=end.signalling,
    )


def refused_record(call: RefusedInvitation, avatar: str, now: float) -> CallRecord:
    """The record of a call that there was no room for."""
    return CallRecord(
        call_id=call.call_id,
        direction="in",
        caller=call.caller,
        dialled=call.dialled,
        source=call.source,
        account=call.account,
        avatar=avatar,
        started_at=round(now, 3),
        answered_at=None,
        ended_at=round(now, 3),
        seconds=0.0,
        cause=call.cause,
        ended_by="us",
        reason=call.text,
        audio=None,
        video=None,
        srtp=False,
        signalling=call.signalling,
    )


class RecordBook:
    """Hands records to ``keep``, each with whether its call was refused; of calls that were traced, the last
    ``TRACES`` messages of signalling are kept here.

    However many calls are refused, twenty of their records are kept at once, then one a second.
    """

    def __init__(
        self,
        keep: Callable[[CallRecord, bool], None] = lambda record, refused: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keep = keep
        self._now = now
        self._refusals = TokenBucket(REFUSED_PER_SECOND, REFUSED_BURST, now())
        self._left_out = 0
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def add(self, record: CallRecord, trace: Trace | None, *, refused: bool = False) -> None:
        """Keep a record and write it to the log."""
        if trace is not None:
            self._traces[record.call_id] = trace
            if len(self._traces) > TRACES:
                self._traces.popitem(last=False)
        log.info("call_record", **{("call" if k == "call_id" else k): v for k, v in record.as_dict().items()})
        self.keep(record, refused)

    def refuse(self, record: CallRecord) -> None:
        """Keep the record of a refused call, unless there were too many of late: those are only counted."""
        if not self._refusals.take(self._now()):
            self._left_out += 1
            return
        if self._left_out:
            log.warning("refused_unrecorded", calls=self._left_out)
            self._left_out = 0
        self.add(record, None, refused=True)

    def trace(self, call_id: str) -> Trace | None:
        """The messages of a call that was traced."""
        return self._traces.get(call_id)

    def forget(self, call_id: str) -> None:
        """Keep nothing of this call."""
        self._traces.pop(call_id, None)
