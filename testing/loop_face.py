"""A face that shows its body's loop and nothing else."""

from __future__ import annotations

from orchestrator.media.sources import Body
from visavis.playout.playout import Picture


class LoopFace:
    """The body's loop and nothing else."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def tick(self, frame: int) -> Picture:
        return Picture(frame % len(self.body.frames))
