"""Hair of strands: curls that stand off the head, a bob, or combed back from a high forehead."""

from __future__ import annotations

from typing import Any

import numpy as np

from examples.portrait.bob import bob
from examples.portrait.head import Head, Hit, Point, unit_vector
from examples.portrait.people import Person
from examples.portrait.strands import Curves, curled, grow, strands, thicken

_TRIES = 14000
_STRANDS = 500
"""Of a lock."""


def grow_hair(head: Head, person: Person, material: Any, rng: np.random.Generator) -> list[Hit]:
    """All of it, shorter towards the ears; returns where it grows."""
    unit = head.unit

    def anyhow(p: Point, root: Point) -> Point:
        return rng.normal(0, 1, 3)

    def back(p: Point, root: Point) -> Point:
        over = np.clip(root[2] / (0.07 * unit), 0, 1)  # the sides go down, the top goes back
        aside = float(np.clip((root[0] - 0.01 * unit) / (0.05 * unit), -1, 1))
        return np.array([0.5 * aside, 0.75, 0.1 * over - 0.6 * (1 - over)]) + rng.normal(0, 0.3, 3)

    def taper(root: Point) -> float:
        return float(np.clip((root[2] / unit + 0.005) / 0.06, 0.2, 1))

    if person.hair == "curls":
        roots, long = _roots(head, rng, high=0.004), 0.013 if person.beard else 0.019
        guides = grow(head, roots, anyhow, long * unit, lambda t: 0.65 * long * t, taper, rng)
        curves = curled(thicken(guides, 9, 0.0012, rng), 0.0014, rng)
        strands("hair", curves, 0.00010, 0.00006, material)
    elif person.hair == "bob":
        roots = _roots(head, rng, high=0.004)
        curves = curled(_strands_of(bob(head, rng), rng), 0.0006, rng)
        strands("hair", curves, 0.00008, 0.00005, material)
    else:
        roots = _roots(head, rng, high=0.010)
        guides = grow(head, roots, back, 0.034 * unit, lambda t: 0.001 + 0.005 * np.sin(2 * t), taper, rng)
        curves = curled(thicken(guides[::2], 22, 0.0009, rng), 0.0004, rng)
        strands("hair", curves, 0.00007, 0.00003, material)
    return roots


def _strands_of(locks: list[Curves], rng: np.random.Generator) -> Curves:
    """Each lock as strands, all over its thickness."""
    spread = rng.normal(0, 0.55, (len(locks), _STRANDS, 1, 3))
    ways = np.array(locks)[:, None]
    every = ways[..., :3] + spread * ways[..., 3:]
    return np.asarray(every.reshape(-1, *every.shape[2:]))


def _roots(head: Head, rng: np.random.Generator, high: float = 0.0) -> list[Hit]:
    """Places above the hairline, which may be ``high`` by some metres, and not around the ears."""
    roots, unit = [], head.unit
    for _ in range(_TRIES):
        direction = unit_vector(rng.normal(0, 1, 3))
        if direction[2] < -0.35:
            continue
        hit = head.from_outside(direction)
        if hit is None:
            continue
        where = hit[0]
        forward = head.middle[1] - where[1]  # towards the face
        side = abs(where[0])
        hairline = (0.060 + high) * unit - 0.55 * max(side - 0.028 * unit, 0) + rng.normal(0, 0.0018)
        forehead = forward > 0.030 * unit and where[2] < hairline
        ear = forward > -0.012 * unit and where[2] < 0.012 * unit  # in front of it and over it
        if not forehead and not ear and where[2] >= -0.075 * unit:
            roots.append(hit)
    return roots
