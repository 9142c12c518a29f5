"""What is kept of calls that have ended: who ended them and why, what was agreed, how it was heard."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.line import Line
from orchestrator.media.session import SessionStats
from orchestrator.sip.events import EndCause
from orchestrator.sip.trace import Trace
from visavis.logs import Log

log = Log(__name__)


@dataclass(frozen=True)
class CallRecord:
    """One ended call. Times are seconds since the epoch; ``answered_at`` is None for one nobody answered.

    ``ended_by`` is "peer" or "us"; ``sip_cause`` and ``sip_status`` are those of
    :class:`orchestrator.sip.events.EndCause`; ``media`` holds the call's last figures, where RTCP had its say.
    """

    call_id: str
    sip_call_id: str
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
        sip_call_id=sip.sip_call_id,
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


class RecordBook:
    """The last ``limit`` records and, of calls that were traced, their SIP messages."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, tuple[CallRecord, Trace | None]] = OrderedDict()

    def add(self, record: CallRecord, trace: Trace | None) -> None:
        """Keep a record and write it to the log."""
        self._kept[record.call_id] = record, trace
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        log.info("call_record", **{("call" if k == "call_id" else k): v for k, v in asdict(record).items()})

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
