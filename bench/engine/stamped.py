"""A mock engine that draws nothing but the times at which it heard a frame's audio and had the frame ready.

``bench.engine.load`` runs the server with it: what lies between those two times is the device's, the rest is the
server's own. Settings as the mock engine's.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from inference_server.engines import base
from inference_server.engines.mock import MockEngine, MockHandle, MockTicket, MockTrack
from visavis.frames import frame_at

STAMP = struct.Struct("<qq")
"""Nanoseconds of the monotonic clock: audio heard, frame ready. The first bytes of a frame's pixels."""


class StampedTrack(MockTrack):
    """Remembers when the audio of each frame was complete."""

    def __init__(self, handle: MockHandle, fps: Fraction, origin: int, look_ahead: int) -> None:
        super().__init__(handle, fps, origin, look_ahead)
        self.heard: dict[int, int] = {}
        self._samples = origin

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio; only its length counts."""
        before = frame_at(self._samples, self.fps)
        super().append(pcm)
        self._samples += len(pcm)
        now = time.monotonic_ns()
        for frame in range(before, frame_at(self._samples, self.fps)):
            self.heard[frame] = now


@dataclass
class StampedTicket(MockTicket):
    """Keeps the rows until their time has come."""

    rows: Sequence[base.Row] = ()


class StampedEngine(MockEngine):
    """See the module's docstring."""

    def track(self, handle: base.Handle, fps: Fraction, origin: int) -> MockTrack:
        """A new turn."""
        assert isinstance(handle, MockHandle)
        return StampedTrack(handle, fps, origin, self.info.look_ahead)

    def submit(self, rows: Sequence[base.Row]) -> StampedTicket:
        """Be done when the simulated device is."""
        ticket = super().submit(rows)
        return StampedTicket(ticket.finished, ticket.results, rows)

    def collect(self, ticket: base.Ticket, wait_s: float) -> list[base.Result] | None:
        """The results with their stamps."""
        results = super().collect(ticket, wait_s)
        if results is not None and isinstance(ticket, StampedTicket):
            now = time.monotonic_ns()
            for row in ticket.rows:
                assert isinstance(row.track, StampedTrack)
                STAMP.pack_into(row.out, 0, row.track.heard.pop(row.frame, now), now)
        return results

    def _draw(self, row: base.Row) -> base.Result:
        assert isinstance(row.track, StampedTrack)
        return base.Result("mouth", row.track.handle.rect(row.loop_index))
