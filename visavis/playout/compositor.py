"""The compositor of what a playout decided: body frames, pasted mouths, held pictures and fades."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from visavis.frames import I420, LoopFrames, paste_i420
from visavis.playout.picture import Picture


class Body(Protocol):
    """Body frames of one size: ``(n, height * 3 // 2, width)`` uint8, I420; :class:`visavis.Body` is such."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def frames(self) -> LoopFrames: ...


class Compositor:
    """Draws the pictures of one conversation, one after the other, into a buffer of its own."""

    def __init__(self) -> None:
        self._shown: I420 = np.zeros((0, 0), np.uint8)
        self._before_fade: I420 | None = None
        self._has_shown = False

    def forget(self) -> None:
        """The stream went on without this compositor: there is no last picture to hold or to fade."""
        self._has_shown, self._before_fade = False, None

    def compose(self, picture: Picture, body: Body) -> I420:
        """The whole picture: I420 of the body's size, ``(height * 3 // 2, width)``, valid until the next call."""
        plain: I420 = body.frames[picture.loop_index % len(body.frames)]
        if self._shown.shape != plain.shape:
            self._shown = np.empty(plain.shape, np.uint8)
            self.forget()
        shown, had_shown = self._shown, self._has_shown
        self._has_shown = True
        if picture.hold and had_shown:
            return shown
        frame, fade = picture.frame, picture.fade
        if fade is None or (frame is None and not had_shown):
            self._before_fade = None
        elif frame is None:
            if self._before_fade is None:
                self._before_fade = shown.copy()
            _mix(self._before_fade, plain, fade, shown)
            return shown
        np.copyto(shown, plain)
        if frame is not None and frame.pixels is not None:
            if frame.rect is None:
                shown.reshape(-1)[:] = np.frombuffer(frame.pixels, np.uint8)
            else:
                paste_i420(shown, body.width, body.height, frame.rect, frame.pixels)
            if fade is not None:
                _mix(plain, shown, fade, shown)
        return shown


def _mix(first: I420, second: I420, weight: float, out: I420) -> None:
    """``out = weight * first + (1 - weight) * second``, rounded; ``out`` may be either of them."""
    parts = round(weight * 256)
    mixed = first.astype(np.uint16) * parts
    mixed += second.astype(np.uint16) * np.uint16(256 - parts)
    mixed += 128
    mixed >>= 8
    np.copyto(out, mixed, casting="unsafe")
