"""The values of a playout: the picture of a tick, the anchor of a turn, its counters."""

from __future__ import annotations

from dataclasses import dataclass

from visavis.frames import Frame


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture of one tick.

    ``loop_index``: where the body is. ``hold``: the last picture again, whole. Otherwise the picture is body
    frame ``loop_index``, with ``frame`` pasted over it where there is one. ``fade``, in (0, 1), is a weight:
    without a frame, of the last picture that was no such fade, against the body frame; with a frame, of the
    plain body frame against the pasted one (the mouth comes back softly).
    """

    loop_index: int
    frame: Frame | None = None
    hold: bool = False
    fade: float | None = None


@dataclass(frozen=True, slots=True)
class TurnAnchor:
    """The loop index that is on screen when ``sample`` of the turn (16 kHz) is heard; tell the server."""

    turn_id: int
    epoch: int
    sample: int
    loop_index: int


@dataclass(slots=True)
class PlayoutStats:
    """Counters over the playout's life, in ticks; ``freeze_s`` is time spent on held pictures."""

    shown: int = 0  # frames of a turn on screen at their own tick
    late: int = 0  # ticks of a turn whose frame was not there
    held: int = 0
    starved: int = 0  # times the mouth was faded away because nothing came
    dropped: int = 0  # frames that came after their tick
    misplaced: int = 0  # frames for another loop index than the body's at that tick
    stale: int = 0  # frames of another turn or an older epoch
    freeze_s: float = 0.0
