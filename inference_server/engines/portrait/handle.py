"""A prepared portrait in memory: any mouth on any body frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.i420 import half
from inference_server.engines.base import BodyLoop, Prepared
from inference_server.engines.portrait.atlas import REST
from visavis.frames import Rect, i420_planes


class _Place:
    """Where the mouth goes on one body frame."""

    def __init__(self, affine: NDArray[np.float32], region: Rect, body: BodyLoop) -> None:
        self.rect = _covered(affine, region, body)
        self.matrices = []
        for plane in range(3):
            s = 1 if plane == 0 else 2
            matrix = (affine if plane == 0 else half(affine)).astype(np.float64)
            shift = matrix[:, :2] @ [region.x // s, region.y // s]
            matrix[:, 2] += shift - [self.rect.x // s, self.rect.y // s]
            self.matrices.append(matrix)
        self.rest: tuple[NDArray[np.uint8], ...] = ()

    def moved(self, picture: NDArray[np.uint8], plane: int) -> NDArray[np.uint8]:
        """A plane of the region as the body frame shows it, over the rectangle."""
        s = 1 if plane == 0 else 2
        size = (self.rect.width // s, self.rect.height // s)
        how = cv2.INTER_CUBIC if plane == 0 else cv2.INTER_LINEAR
        matrix = self.matrices[plane]
        out = cv2.warpAffine(picture, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(out, np.uint8)

    def settle(self, rest: tuple[NDArray[np.uint8], ...]) -> tuple[NDArray[np.uint8], ...]:
        """The mouth at rest, moved once and kept: every mouth drawn here is compared with it."""
        self.rest = tuple(self.moved(rest[plane], plane) for plane in range(3))
        return self.rest


class PortraitHandle:
    """One prepared avatar: the atlas, and where it goes on every body frame."""

    def __init__(self, prepared: Prepared, body: BodyLoop) -> None:
        self.body = body
        self.atlas: NDArray[np.uint8] = prepared.arrays["atlas"]
        self.region = Rect(*(int(v) for v in prepared.meta["region"]))
        self._rest = i420_planes(self.atlas[REST], self.region.width, self.region.height)
        places: dict[bytes, _Place] = {}  # frames in the same pose share theirs
        for affine in body.motion:
            if affine.tobytes() not in places:
                places[affine.tobytes()] = _Place(affine, self.region, body)
        self._places = [places[affine.tobytes()] for affine in body.motion]
        rects = [place.rect for place in places.values()]
        left, top = min(r.x for r in rects), min(r.y for r in rects)
        right, bottom = max(r.x + r.width for r in rects), max(r.y + r.height for r in rects)
        self._largest = Rect(left, top, right - left, bottom - top)

    @property
    def largest_rect(self) -> Rect:
        """No rectangle of this avatar is outside it."""
        return self._largest

    @property
    def nbytes(self) -> int:
        """Bytes of the atlas and, once drawn on, of the mouth at rest in every pose of the body."""
        return self.atlas.nbytes + sum(place.rect.i420_size for place in set(self._places))

    def rect(self, loop_index: int) -> Rect:
        """The rectangle that changes when the mouth is drawn on this body frame."""
        return self._places[loop_index % len(self._places)].rect

    def draw(self, picture: NDArray[np.uint8], loop_index: int, out: memoryview) -> Rect:
        """The body frame with this mouth (packed I420 of the region) into ``out``, packed.

        What is drawn is the mouth's difference from the portrait at rest, moved as the body frame was moved:
        where the mouth changes nothing, not a bit of the body frame changes.
        """
        index = loop_index % len(self._places)
        place, region = self._places[index], self.region
        rect = place.rect
        body = i420_planes(self.body.frames[index], self.body.width, self.body.height)
        mouth = i420_planes(picture, region.width, region.height)
        target = i420_planes(np.frombuffer(out, np.uint8)[: rect.i420_size], rect.width, rect.height)
        rest = place.rest or place.settle(self._rest)
        for plane in range(3):
            s = 1 if plane == 0 else 2
            x, y, w, h = (v // s for v in rect)
            change = cv2.subtract(place.moved(mouth[plane], plane), rest[plane], dtype=cv2.CV_16S)
            cv2.add(body[plane][y : y + h, x : x + w], change, target[plane], dtype=cv2.CV_8U)
        return rect


def _covered(affine: NDArray[np.float32], region: Rect, body: BodyLoop) -> Rect:
    x, y, w, h = region
    corners = np.array([[x, y], [x + w - 1, y], [x, y + h - 1], [x + w - 1, y + h - 1]], np.float64)
    placed = corners @ affine[:, :2].T.astype(np.float64) + affine[:, 2]
    low, high = np.floor(placed.min(0)), np.ceil(placed.max(0)) + 1
    x0, y0 = (max(int(v) // 2 * 2, 0) for v in low)
    x1 = min(-(-int(high[0]) // 2) * 2, body.width)
    y1 = min(-(-int(high[1]) // 2) * 2, body.height)
    return Rect(x0, y0, x1 - x0, y1 - y0)
