"""Where the lips and the jaw go for a sound, in millimetres of the speaker's face.

Coordinates: origin midway between the corners of the mouth, x along the line of the corners, y down. Lip
points come in eleven columns from corner to corner (the corners are columns 0 and 10).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.region import millimetre

Points = NDArray[np.float64]

UPPER_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LOWER_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
STILL = (2, 98, 327, 97, 326, 129, 358, 203, 423, 36, 266, 205, 425, 50, 280, 187, 411, 147, 376, 123, 352)
CHEEK = (57, 287, 212, 432, 216, 436, 207, 427, 214, 434, 186, 410, 192, 416, 138, 367)
CHIN = (18, 83, 313, 182, 406, 200, 201, 421, 194, 418, 204, 424, 208, 428, 199, 171, 396, 175, 211, 431)
JAW = (132, 361, 93, 323, 152, 148, 377, 176, 400, 149, 378, 150, 379, 136, 365, 172, 397, 58, 288)


WIDE_MM, GROWTH = 15.0, 0.95
"""Lips that are ``open`` 0..1 stand ``WIDE_MM * open**GROWTH`` millimetres apart, where they are not rounded."""


def gap_mm(opening: float) -> float:
    """How far lips that are ``open`` 0..1 stand apart."""
    gap: float = WIDE_MM * opening**GROWTH
    return gap


@dataclass(frozen=True)
class Pose:
    """``open`` 0..1, ``width`` -1 round to 1 spread, ``press`` 0..1 lips pressed together, ``fv`` 0..1."""

    open: float = 0.0
    width: float = 0.0
    press: float = 0.0
    fv: float = 0.0


@dataclass(frozen=True)
class LipContours:
    """Eleven points each of the outer and inner contours, in millimetres, and how far the jaw is down."""

    upper_outer: Points
    upper_inner: Points
    lower_inner: Points
    lower_outer: Points
    jaw: float


class MouthAxes:
    """The mouth's own coordinates on one picture."""

    def __init__(self, points: NDArray[np.float32]) -> None:
        self.mm = millimetre(points)
        left, right = points[61, :2].astype(np.float64), points[291, :2].astype(np.float64)
        self.origin = (left + right) / 2
        # the line between the eyes is steadier than a crooked smile
        eyes = points[263, :2].astype(np.float64) - points[33, :2]
        axis = eyes / np.linalg.norm(eyes)
        self._basis = np.stack([axis, [-axis[1], axis[0]]])

    def to_mm(self, pixels: Points) -> Points:
        """``(n, 2)`` pixels to millimetres."""
        out: Points = (pixels - self.origin) @ self._basis.T / self.mm
        return out

    def to_pixels(self, mm: Points) -> Points:
        """``(n, 2)`` millimetres to pixels."""
        out: Points = mm * self.mm @ self._basis + self.origin
        return out


class MouthWarp:
    """The mouth of one picture and what it looks like in any pose."""

    def __init__(self, points: NDArray[np.float32]) -> None:
        self.frame = MouthAxes(points)
        flat = points[:, :2].astype(np.float64)

        def at(indices: tuple[int, ...]) -> Points:
            return self.frame.to_mm(flat[list(indices)])

        self.seen = LipContours(at(UPPER_OUTER), at(UPPER_INNER), at(LOWER_INNER), at(LOWER_OUTER), 0.0)
        self.still, self.cheek, self.chin, self.jaw = at(STILL), at(CHEEK), at(CHIN), at(JAW)
        gap = (self.seen.lower_inner - self.seen.upper_inner)[:, 1]
        self.gap = float(gap[3:8].max())
        self.line = (self.seen.upper_inner + self.seen.lower_inner) / 2
        self.half_width = float(self.line[10, 0] - self.line[0, 0]) / 2
        self.centre = float(self.line[10, 0] + self.line[0, 0]) / 2
        corners = float(self.line[0, 1] + self.line[10, 1]) / 2
        self.smile = float(np.clip(self.line[5, 1] - corners - 1.0, 0, 8))  # mm the corners are drawn up
        self.broad = float(np.clip((self.half_width - 26.0) / 5.0, 0, 1))

    def closed(self) -> LipContours:
        """The lips brought together, from however far the picture shows them open."""
        seen = self.seen
        gap = np.maximum((seen.lower_inner - seen.upper_inner)[:, 1], 0)
        line = seen.upper_inner.copy()
        line[:, 1] += 0.5 * gap
        wide = max(0.0, 1 - 26.0 / self.half_width)
        stretch = np.array([1 - 0.35 * wide, 1.0])
        u = np.abs(self.line[:, 0] - self.centre) / self.half_width
        sag = 0.35 * self.smile * u**1.5 * min(1.0, self.gap / 4)
        centre = np.array([self.centre, 0.0])

        def placed(points: Points, rise: float) -> Points:
            out: Points = (points - centre) * stretch + centre
            out[:, 1] += rise * gap + sag
            return out

        upper, lower = placed(seen.upper_outer, 0.30), placed(seen.lower_outer, -0.36)
        line = (line - centre) * stretch + centre
        line[:, 1] += sag
        return LipContours(upper, line, line.copy(), lower, -0.30 * self.gap)

    def lips(self, pose: Pose) -> LipContours:
        """The contours in a pose."""
        rounding, spread = max(-pose.width, 0.0), max(pose.width, 0.0)
        gap = gap_mm(pose.open) * (1 - 0.1 * rounding) + 1.2 * rounding * (1 - pose.press)
        jaw = 0.80 * gap * (1 - 0.25 * rounding)
        active = min(1.0, pose.open / 0.25 + rounding + 0.5 * pose.press + pose.fv)
        pull = 0.37 - 0.12 * self.broad  # a smile's deep folds would buckle
        stretch = 1 + 0.22 * spread * (1 + 0.2 * pose.open) - pull * rounding - 0.03 * pose.open
        # a wide smile gives way to speech
        stretch *= 1 - min(0.16, max(0.0, 0.7 * (1 - 28 / self.half_width))) * active * (1 - 0.6 * spread)
        u = np.clip((self.line[:, 0] - self.centre) / self.half_width, -1, 1)
        bow = 1 - u**2
        line = self.line.copy()
        line[:, 0] = self.centre + (line[:, 0] - self.centre) * stretch
        line[:, 1] += (0.8 * self.smile * active + 0.34 * jaw) * np.abs(u) ** 1.5
        # rounded lips part in the middle only, and the more evenly
        inside = np.clip(1 - (u / (1 - 0.42 * rounding)) ** 2, 0, 1)
        profile = inside ** (0.80 - 0.30 * rounding)
        up, low = line.copy(), line.copy()
        # spread lips bare the upper teeth, and who smiles broadly does in all speech
        bared = 0.17 + 0.11 * self.broad * (1 - rounding) + 0.16 * spread
        up[:, 1] -= bared * gap * profile + 3.7 * pose.fv * bow**1.4 + 0.4 * rounding * bow
        low[:, 1] += (1 - bared) * gap * profile + 0.3 * pose.fv * bow + 0.1 * rounding * bow
        thick = 1 + 0.26 * rounding - 0.30 * pose.press - 0.05 * spread
        sides = np.array([stretch, 1.0])
        upper = (self.seen.upper_outer - self.seen.upper_inner) * sides
        lower = (self.seen.lower_outer - self.seen.lower_inner) * sides
        upper[:, 1] *= thick * (1 - 0.25 * pose.fv)
        lower[:, 1] *= thick * (1 - 0.45 * pose.fv)
        upper_outer, lower_outer = up + upper, low + lower
        shift = 0.25 * pose.press * bow  # pressed lips meet a little inwards
        upper_outer[:, 1] += shift
        lower_outer[:, 1] -= shift
        return LipContours(upper_outer, up, low, lower_outer, jaw - 0.8 * pose.fv)

    def knots(self, lips: LipContours) -> tuple[Points, Points, Points, Points]:
        """Control points in millimetres: upper target, upper source, lower target, lower source."""
        seen = self.seen
        shut = self.gap < 1.5  # the mesh sees a little gap between lips that touch
        inset = np.array([0.0, 0.5 if shut else 0.7])  # keeps the dark line and the teeth off the lips
        upper_seen = (self.line if shut else seen.upper_inner) - inset
        lower_seen = (self.line if shut else seen.lower_inner) + inset
        cheek = self.cheek + self._pulled(self.cheek, lips)
        chin = self.chin + self._dropped(self.chin, lips.jaw) + 0.5 * self._pulled(self.chin, lips, jaw=0.0)
        chin += self._pushed(self.chin, lips)
        jawline = self.jaw + self._dropped(self.jaw, lips.jaw)
        # all but the lips is common to both, so that beyond the corners the two warps agree
        around = np.concatenate([cheek, chin, jawline, self.still])
        around_seen = np.concatenate([self.cheek, self.chin, self.jaw, self.still])
        return (
            np.concatenate([lips.upper_outer, lips.upper_inner[1:10], around]),
            np.concatenate([seen.upper_outer, upper_seen[1:10], around_seen]),
            np.concatenate([lips.lower_outer, lips.lower_inner[1:10], around]),
            np.concatenate([seen.lower_outer, lower_seen[1:10], around_seen]),
        )

    def _dropped(self, points: Points, jaw: float) -> Points:
        weight = np.clip(1 - (np.abs(points[:, 0] - self.centre) / 62.0) ** 2, 0, 1)
        weight *= np.clip((points[:, 1] + 4) / 16.0, 0, 1)
        out: Points = np.outer(jaw * weight, [0.0, 1.0])
        return out

    def _pushed(self, points: Points, lips: LipContours) -> Points:
        """Skin just below the lower lip gives way to it, where it comes down further than the jaw."""
        edge = self.seen.lower_outer[5]
        push = max(0.0, float(lips.lower_outer[5, 1] - edge[1]) - lips.jaw)
        near = np.exp(-(((points - edge) / [11.0, 8.0]) ** 2).sum(1))
        out: Points = np.outer(push * near, [0.0, 1.0])
        return out

    def _pulled(self, points: Points, lips: LipContours, jaw: float | None = None) -> Points:
        """Skin beside the mouth follows the nearer corner by its distance, and the jaw by its height."""
        out = self._dropped(points, lips.jaw if jaw is None else jaw) * 0.72
        for column in (0, 10):
            corner = self.seen.upper_outer[column]
            moved = lips.upper_outer[column] - corner
            # on a turned head the far cheek is short, and its outline must not follow
            edge = self.jaw[JAW.index(132 if column == 0 else 361), 0]
            reach = float(np.clip(0.55 * abs(corner[0] - edge), 6.0, 19.0))
            distance = np.linalg.norm((points - corner) / [1.0, 1.4], axis=1)
            side = (points[:, 0] < self.centre) == (column == 0)
            near = 0.85 * np.exp(-((distance / reach) ** 2)) * side
            out += near[:, None] * (moved - [0, 0.3 * lips.jaw])
        return out
