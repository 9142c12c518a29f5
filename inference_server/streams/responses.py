"""What a session says to its client, in terms of no transport."""

from __future__ import annotations

from dataclasses import dataclass

from visavis.client.messages import GoAway as GoAway
from visavis.client.messages import Interrupted as Interrupted
from visavis.client.messages import Stats as Stats
from visavis.client.messages import TurnAccepted as TurnAccepted
from visavis.client.messages import TurnFinished as TurnFinished
from visavis.client.messages import TurnRejected as TurnRejected
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
