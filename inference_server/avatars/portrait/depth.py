"""A rendered depth map as what parallax needs: smooth, and without a step where the background begins."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.cast import Rendered
from inference_server.avatars.portrait.framing import scale_of

_STEP_MM = 25.0  # what is nearer by so much than what is beside it hides it
_HIDES_MM = 8.0  # and takes this much of it along, so that an outline is not torn
_SOFT_MM = 4.0


class Relief:
    """Heights of a built-in face over its framed picture, in pixels towards the camera from the face's own."""

    def __init__(
        self, face: Rendered, framing: NDArray[np.float32], points: NDArray[np.float32], side: float
    ) -> None:
        """``points``: the mesh's, in the framed picture; ``side``: of the picture that the map is of, in pixels."""
        self._cell = side / face.depth.shape[1]
        self._inverse = cv2.invertAffineTransform(framing)
        self._heights = self._smooth(face.depth, face.millimetre / self._cell)
        self._size = face.millimetre * scale_of(framing)
        self._middle = float(np.median(self._at(points[:, 0], points[:, 1])))

    def over(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """At points of the framed picture, both of one shape."""
        out: NDArray[np.float64] = (self._at(x, y) - self._middle) * self._size
        return out

    def _at(self, x: NDArray[np.generic], y: NDArray[np.generic]) -> NDArray[np.float64]:
        across, down = self._inverse
        px = across[0] * x + across[1] * y + across[2]
        py = down[0] * x + down[1] * y + down[2]
        cells = [np.atleast_2d((v + 0.5) / self._cell - 0.5).astype(np.float32) for v in (px, py)]
        seen = cv2.remap(self._heights, cells[0], cells[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(seen, np.float64).reshape(np.shape(x))

    @staticmethod
    def _smooth(depth: NDArray[np.uint8], millimetre: float) -> NDArray[np.float32]:
        there = (depth > 0).astype(np.uint8)
        _, nearest = cv2.distanceTransformWithLabels(
            1 - there, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        known = np.zeros(int(nearest.max()) + 1, np.float32)
        known[nearest[there > 0]] = depth[there > 0]
        heights = cv2.medianBlur(known[nearest].astype(np.uint8), 5).astype(np.float32)
        reach = 2 * round(_HIDES_MM * millimetre) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        around = cv2.dilate(heights, disc)
        heights = np.where(around - heights > _STEP_MM, around, heights).astype(np.float32)
        return np.asarray(cv2.GaussianBlur(heights, (0, 0), _SOFT_MM * millimetre), np.float32)
