"""Draws what a :class:`Playout` decided: body frames, mouths pasted over them, and the fades between."""

from __future__ import annotations

import numpy as np

from visavis.client.body_cache import Body
from visavis.frames import I420, crop_i420, paste_i420
from visavis.playout.playout import Picture


class Canvas:
    """Pictures of one conversation, one after the other; each is a new array or a view of the body."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self._last: I420 = body.frame(0)  # the last picture that was no fade away from a mouth

    def draw(self, picture: Picture) -> I420:
        """``(height * 3 // 2, width)`` uint8, not to be written to."""
        if picture.hold:
            return self._last
        base = self.body.frame(picture.loop_index)
        if picture.frame is None:
            if picture.fade is not None:
                return _mix(self._last, base, picture.fade)
            self._last = base
            return base
        frame = picture.frame
        if frame.rect is None or frame.pixels is None:
            raise ValueError("a picture's frame has pixels and a rectangle")
        width, height = self.body.width, self.body.height
        pixels: bytes | memoryview = frame.pixels
        if picture.fade is not None:
            under = np.frombuffer(crop_i420(base, width, height, frame.rect), np.uint8)
            pixels = _mix(under, np.frombuffer(frame.pixels, np.uint8), picture.fade).data
        drawn = np.array(base)
        paste_i420(drawn, width, height, frame.rect, pixels)
        self._last = drawn
        return drawn


def _mix(one: I420, other: I420, weight: float) -> I420:
    """``weight`` parts of ``one``, the rest ``other``."""
    w = np.int16(round(weight * 128))
    mixed = one.astype(np.int16) * w + other.astype(np.int16) * (np.int16(128) - w) + np.int16(64)
    return (mixed >> 7).astype(np.uint8)
