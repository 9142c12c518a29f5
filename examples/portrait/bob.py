"""The shape of a bob: the ways of its locks, for solid hair and for strands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.portrait.head import Head, Point, Shell, unit_vector

_FIRST = (math.radians(46), math.radians(62))  # where the face is free: the person's right, left
_BACK = math.radians(178)
_LAYERS = (26, 22)  # locks of a side


def bob(head: Head, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Parted at the person's left, swept over the forehead, down to the jaw; ``(k, 4)``: place and radius."""
    shell = Shell(np.array(list(_skull(head))))
    return [
        _lock(head, shell, side, float(azimuth + rng.normal(0, 0.03)), layer, rng)
        for layer, count in enumerate(_LAYERS)
        for side, first in zip((-1.0, 1.0), _FIRST, strict=True)
        for azimuth in np.linspace(first, _BACK, count)
    ]


def _skull(head: Head) -> Iterator[Point]:
    """The head without face and ears."""
    for z in np.linspace(-0.45, 1.0, 20):
        for a in np.linspace(0, 2 * math.pi, 36, endpoint=False):
            r = math.sqrt(max(0.0, 1 - z * z))
            way = np.array([r * math.sin(a), r * math.cos(a), z])  # y > 0: the back
            if (way[1] < -0.25 and z < 0.3) or (abs(way[1]) <= 0.45 and z < 0.25):
                continue
            if (hit := head.from_outside(way)) is not None:
                yield hit[0]


def _lock(head: Head, shell: Shell, side: float, azimuth: float, layer: int, rng: np.random.Generator) -> Any:
    """One lock: from the parting over the head to this azimuth (0: the face), then down to the jaw."""
    unit = head.unit
    s = max(0.0, (azimuth - _FIRST[1]) / (_BACK - _FIRST[1]))
    first = unit_vector(np.array([0.22, -1 + 1.15 * s, 1.05 + 0.35 * math.sin(math.pi * s)]))
    last = unit_vector(np.array([side * math.sin(azimuth), -math.cos(azimuth), -0.28]))
    way = []
    for t in np.linspace(0, 1, 9):
        p = shell.at(unit_vector((1 - t) * first + t * last))
        lift = 0.55 + 1.15 * math.sin(math.pi * min(1, 0.15 + 0.85 * t) * 0.62)
        p = p + shell.outward(p) * (0.004 + 0.005 * layer) * unit * lift * (1 - 0.35 * t)
        way.append([*p, (0.0068 + 0.0022 * math.sin(math.pi * t)) * unit])
    length = (0.105 + 0.004 * rng.uniform(-1, 1) - 0.012 * (1 - s)) * unit
    x, y, z, _ = way[-1]
    for t in np.linspace(0, 1, 7)[1:]:
        inward = 1 - 0.20 * t**2
        back = head.middle[1]
        radius = 0.0085 * (1 - 0.45 * t**3) * unit
        way.append([x * inward, (y - back) * inward + back, z - length * t, radius])
    lock = np.array(way)
    for _ in range(5):
        lock[5:-1] = (lock[4:-2] + 2 * lock[5:-1] + lock[6:]) / 4  # no kink where it leaves the head
    return lock
