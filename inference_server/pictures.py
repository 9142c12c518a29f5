"""Frames as a stream asked for them: the rectangle or the whole picture, I420 or RGB24."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from inference_server.engines.base import BodyLoop
from inference_server.responses import FrameReady
from visavis.frames import Rect, paste_i420

PixelFormat = Literal["i420", "rgb24"]
Scope = Literal["rectangle", "whole"]


class Pictures:
    """Pixels of one stream."""

    def __init__(self, body: BodyLoop, pixel_format: PixelFormat, scope: Scope) -> None:
        self.format = pixel_format
        self.scope = scope
        self._body = body
        self._whole = Rect(0, 0, body.width, body.height)

    def pixels(self, frame: FrameReady) -> tuple[Rect | None, bytes | None]:
        """What travels: a rectangle and its pixels, or nothing where the client holds the picture itself."""
        rect, pixels = frame.rect, frame.pixels
        if self.scope == "whole":
            picture = np.array(self._body.frame(frame.loop_index))
            if rect is not None and pixels is not None:
                paste_i420(picture, self._body.width, self._body.height, rect, pixels)
            rect, pixels = self._whole, picture.tobytes()
        if rect is None or pixels is None:
            return None, None
        if self.format == "rgb24":
            packed = np.frombuffer(pixels, np.uint8).reshape(rect.height * 3 // 2, rect.width)
            pixels = cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420).tobytes()
        return rect, pixels
