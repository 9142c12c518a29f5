"""The head as hair needs it: its skin, its eyes, and an ellipsoid around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.portrait.blender import BVHTree, Vector, bpy

Point = NDArray[np.float64]
"""``(3,)``: metres, or a direction; x to the person's left, the face towards -y, z up from the eyes."""
Hit = tuple[Point, Point]
"""A point of the skin and the direction away from it there."""


@dataclass(frozen=True)
class Eye:
    """An eyeball, in metres."""

    centre: Point
    radius: float

    @property
    def sign(self) -> float:
        """Which side of the face it is on: 1 or -1."""
        return float(np.copysign(1, self.centre[0]))


class Head:
    """The evaluated skin, for rooting and combing hair. ``unit``: the size of this head, about 1."""

    def __init__(self, skin: Any, eyes: Sequence[Eye]) -> None:
        self._tree = BVHTree.FromObject(skin, bpy.context.evaluated_depsgraph_get())
        self.eyes = eyes
        self.unit = float(abs(eyes[0].centre[0] - eyes[1].centre[0]) / 0.062)
        depth = (eyes[0].centre[1] + eyes[1].centre[1]) / 2
        self.middle = np.array([0, depth + 0.075 * self.unit, 0.045 * self.unit])

    def nearest(self, p: Point) -> Hit:
        """The skin that is nearest."""
        where, normal, _, _ = self._tree.find_nearest(Vector(p))
        return np.array(where), np.array(normal)

    def front(self, x: float, z: float) -> Hit | None:
        """The skin that is seen from the front at (x, z)."""
        return self._cast(Vector((x, -1, z)), Vector((0, 1, 0)))

    def from_outside(self, direction: Point) -> Hit | None:
        """The skin that is seen from this direction, looking at the middle of the head."""
        return self._cast(Vector(self.middle + direction * 0.3), Vector(-direction))

    def _cast(self, start: Any, direction: Any) -> Hit | None:
        where, normal, _, _ = self._tree.ray_cast(start, direction)
        return None if where is None else (np.array(where), np.array(normal))


class Shell:
    """An ellipsoid through the hair's roots ``(n, 3)``: the head without its ears."""

    def __init__(self, roots: NDArray[np.float64]) -> None:
        system = np.concatenate([roots**2, roots], 1)
        a = np.linalg.lstsq(system, np.ones(len(roots)), rcond=None)[0]
        self._centre = -a[3:] / (2 * a[:3])
        k = 1 + float((a[:3] * self._centre**2).sum())
        self._radii = np.sqrt(k / a[:3])

    def at(self, direction: Point) -> Point:
        """The point in this direction from its centre."""
        point: Point = self._centre + direction / np.linalg.norm(direction / self._radii)
        return point

    def outward(self, p: Point) -> Point:
        """The direction away from it."""
        return unit_vector((p - self._centre) / self._radii**2)

    def height(self, p: Point) -> float:
        """Metres above it."""
        r = float(np.linalg.norm((p - self._centre) / self._radii))
        return (r - 1) * float(np.linalg.norm((p - self._centre) / max(r, 1e-6)))


def unit_vector(v: Point) -> Point:
    """The same direction, of length 1."""
    unit: Point = v / np.linalg.norm(v)
    return unit
