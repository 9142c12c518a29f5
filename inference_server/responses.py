"""What a session says to its client, in terms of no transport."""

from __future__ import annotations

from dataclasses import dataclass

from visavis.frames import FrameKind, Rect


@dataclass(frozen=True, slots=True)
class FrameReady:
    """Frame ``number`` of a turn. ``pixels``: the rectangle in I420, ``None`` for the body as it is."""

    turn_id: int
    epoch: int
    number: int
    sample: int
    loop_index: int
    kind: FrameKind
    rect: Rect | None = None
    pixels: bytes | None = None
    last: bool = False


@dataclass(frozen=True, slots=True)
class TurnAccepted:
    """A speaking slot is taken for the turn."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class TurnRejected:
    """No speaking slot now."""

    turn_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """All frames of the turn were sent, or were too late."""

    turn_id: int
    frames: int
    late: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Everything older than ``epoch`` is dead."""

    epoch: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The stream ends within ``deadline_ms``: open another one elsewhere."""

    reason: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Rolling p95 of waiting and rendering in ms; late frames of the stream so far."""

    queue_ms: int
    render_ms: int
    late: int


Response = FrameReady | TurnAccepted | TurnRejected | TurnFinished | Interrupted | GoAway | Stats
