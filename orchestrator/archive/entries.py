"""What the archive keeps: plain values, each of one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.calls.records import CallRecord
from orchestrator.conversation.transcript import TranscriptEntry


class NotErased(Exception):
    """What belongs to calls cannot be erased now, and may be later: one sentence."""


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """The record of an ended call; ``refused``: there was no room for it."""

    record: CallRecord
    refused: bool = False

    @property
    def call_id(self) -> str:
        """Of its call."""
        return self.record.call_id


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """An entry of a call's transcript."""

    call_id: str
    entry: TranscriptEntry


@dataclass(frozen=True, slots=True)
class RecordingPart:
    """A part of a call's recording: a file. Sound of ``seconds`` from ``began_at`` on (since the epoch), a picture
    of ``width`` x ``height``, 0 without one; ``size`` in bytes. ``cut``: the recorder ended in the midst of it.
    ``place`` is where it lies: see :class:`orchestrator.recording.store.Store`."""

    call_id: str
    number: int
    began_at: float
    seconds: float
    size: int
    width: int
    height: int
    state: Literal["recording", "whole", "cut"]
    place: str
    encrypted: bool

    @property
    def recording_id(self) -> str:
        """The call's id and the number."""
        return f"{self.call_id}-{self.number}"


Entry = KeptRecord | KeptEntry | RecordingPart


@dataclass(frozen=True, slots=True)
class Page:
    """Records to be shown: ended from ``since`` on and before ``until`` (seconds since the epoch), and older than
    the one that ``after`` names by its end and its call; the newest ``limit`` of them."""

    limit: int
    since: float | None = None
    until: float | None = None
    after: tuple[float, str] | None = None

    def takes(self, record: CallRecord) -> bool:
        """Whether a record is among them, but for the limit."""
        place = (record.ended_at, record.call_id)
        return (
            (self.since is None or self.since <= record.ended_at)
            and (self.until is None or record.ended_at < self.until)
            and (self.after is None or place < self.after)
        )


def newest_first(records: list[CallRecord]) -> list[CallRecord]:
    """In the order of pages."""
    return sorted(records, key=lambda record: (record.ended_at, record.call_id), reverse=True)


def record_of(fields: dict[str, Any]) -> CallRecord:
    """A record out of what was kept of it, be it by another version: fields that are unknown are left out."""
    return CallRecord(**{name: fields[name] for name in CallRecord.__dataclass_fields__ if name in fields})
