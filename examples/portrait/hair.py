"""The hair of the head: short, or long, parted and tucked behind the ears."""

from __future__ import annotations

from typing import Any

import numpy as np

from examples.portrait.head import Head, Hit, Point, Shell, unit_vector
from examples.portrait.people import Person
from examples.portrait.strands import Curves, drape, grow, strands, thicken

_TRIES = 12000
_CURLY = 0.9  # short hair of more melanin is short and curls


def grow_hair(head: Head, person: Person, material: Any, rng: np.random.Generator) -> None:
    """All of it."""
    roots = _roots(head, rng)
    if person.long_hair:
        curves = thicken(_long(head, roots, rng), 14, 0.0016, rng, frizz=0.0008)
        strands("hair", curves, 0.00005, 0.00003, material)
    else:
        curves = thicken(_short(head, roots, person, rng), 8, 0.0016, rng, frizz=0.0012)
        strands("hair", curves, 0.00006, 0.00002, material)


def _roots(head: Head, rng: np.random.Generator) -> list[Hit]:
    """Places above the hairline and not around the ears."""
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
        hairline = 0.060 * unit - 0.35 * max(side - 0.035 * unit, 0) + rng.normal(0, 0.0018)
        forehead = forward > 0.030 * unit and where[2] < hairline
        ear = forward > -0.012 * unit and where[2] < 0.012 * unit  # in front of it and over it
        if not forehead and not ear and where[2] >= -0.075 * unit:
            roots.append(hit)
    return roots


def _parting(head: Head) -> float:
    return 0.020 * head.unit


def _short(head: Head, roots: list[Hit], person: Person, rng: np.random.Generator) -> Curves:
    curly = person.melanin >= _CURLY
    part = _parting(head)

    def combing(p: Point, root: Point) -> Point:
        if curly:
            return rng.normal(0, 1, 3)
        return np.array([0.25 * np.sign(root[0] - part), 0.75, 0.10])

    def lift(t: float) -> float:
        return 0.004 * t if curly else 0.001 + 0.010 * t

    return grow(head, roots, combing, (0.010 if curly else 0.035) * head.unit, lift, rng)


def _long(head: Head, roots: list[Hit], rng: np.random.Generator) -> Curves:
    unit, middle = head.unit, head.middle
    shell = Shell(np.array([where for where, _ in roots]))
    part = _parting(head)
    sides = {tuple(root): 1.0 if root[0] > part + rng.normal(0, 0.0060) else -1.0 for root, _ in roots}

    def combing(p: Point, root: Point) -> Point:
        sign = sides[tuple(root)]
        behind = np.array([sign * 0.060, middle[1] + 0.055 * unit, -0.035 * unit])  # behind the ear
        if (p[1] > behind[1] - 0.014 and p[2] < 0.0) or p[2] < -0.03 * unit:
            return np.array([sign * np.clip((0.060 - abs(p[0])) * 9, -0.7, 0.3), -0.06, -1.0])  # falls
        outward = shell.outward(p)
        aside = np.array([sign, 0.25, -0.05])
        over = np.clip((p[2] - 0.070 * unit) / (0.03 * unit), 0, 1)
        pull = behind - p
        pull /= np.linalg.norm(pull) + 1e-9
        way = pull * (1 - 0.7 * over) + aside * 0.9 * over
        way -= outward * float(way @ outward)
        return np.asarray(way / (np.linalg.norm(way) + 1e-9))

    return _tucked(head, drape(head, shell, roots, combing, 0.325 * unit, rng), rng)


def _tucked(head: Head, guides: Curves, rng: np.random.Generator) -> Curves:
    """Below the ears the hair hangs behind them, close to the neck."""
    unit = head.unit
    x, y, z = (guides[:, :, axis] for axis in range(3))
    low = np.clip((-0.004 - z) / 0.045, 0, 1)
    room = 0.078 * unit - 0.018 * unit * low - rng.uniform(0, 0.016, (len(guides), 1))
    tucked = np.sign(x) * np.minimum(np.abs(x), room)
    guides[:, :, 0] = x + (tucked - x) * np.minimum(low * 3, 1)
    guides[:, :, 1] = y + (np.maximum(y, head.middle[1] + 0.022 * unit) - y) * np.minimum(low * 3, 1)
    for _ in range(4):
        guides[:, 1:-1] = 0.25 * guides[:, :-2] + 0.5 * guides[:, 1:-1] + 0.25 * guides[:, 2:]
    return guides
