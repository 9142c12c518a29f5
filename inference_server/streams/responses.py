"""What a session says to its client, in terms of no transport."""

from __future__ import annotations

from dataclasses import dataclass

from visavis.avatar.v1.contract import GoAway as GoAway
from visavis.avatar.v1.contract import Interrupted as Interrupted
from visavis.avatar.v1.contract import Stats as Stats
from visavis.avatar.v1.contract import TurnAccepted as TurnAccepted
from visavis.avatar.v1.contract import TurnFinished as TurnFinished
from visavis.avatar.v1.contract import TurnRejected as TurnRejected
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


Response = FrameReady | TurnAccepted | TurnRejected | TurnFinished | Interrupted | GoAway | Stats
