"""Eyebrows, lashes and beards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from examples.portrait.head import Eye, Head, Point, unit_vector
from examples.portrait.materials import plain
from examples.portrait.strands import Curves, strands


def grow_brows(head: Head, thickness: float, material: Any, rng: np.random.Generator) -> None:
    """Eyebrows, ``thickness`` 1 or more."""
    hairs = [
        _brow_hair(head, eye, thickness, rng) for eye in head.eyes for _ in range(round(380 * thickness))
    ]
    strands("brows", [hair for hair in hairs if hair is not None], 0.000055, 0.00001, material)


def _brow_hair(head: Head, eye: Eye, thickness: float, rng: np.random.Generator) -> Curves | None:
    """One hair, from above the inner corner (u = 0) outwards (1), by the eye's own place."""
    u = rng.uniform(0, 1)
    w = rng.normal(0, 0.33)
    arch = (
        0.0195 + 0.0050 / thickness * math.sin(math.pi * min(u * 1.02, 1) ** 1.25) - 0.0035 / thickness * u**3
    )
    thick = 0.0042 * thickness * (1 - u**2.2) * min(1, 0.45 + 2.2 * u) + 0.0008
    x = abs(eye.centre[0]) - 0.0150 * head.unit + 0.0385 * u * head.unit
    hit = head.front(eye.sign * x, eye.centre[2] + (arch + thick * w) * head.unit)
    if hit is None:
        return None
    lean = np.array([eye.sign * (0.35 + 0.9 * u), -0.12, 0.95 * (1 - u) ** 1.5 - 0.35 * u])
    if w > 0.25:
        lean[2] -= 0.5
    length = 0.0075 * rng.uniform(0.7, 1.15) * (0.7 + 0.3 * math.sin(math.pi * u))
    t = np.linspace(0, 1, 5)[:, None]
    return np.asarray(hit[0] + hit[1] * (0.0012 * np.sin(t * 2.6)) + unit_vector(lean) * length * t)


def grow_lashes(head: Head, rng: np.random.Generator) -> None:
    """Lashes along the edges of the lids, found where the skin ends in front of the eyeball."""
    lashes = [
        lash for eye in head.eyes for upper in (True, False) for lash in _row_of_lashes(head, eye, upper, rng)
    ]
    if lashes:
        strands("lashes", lashes, 0.00009, 0.00002, plain("lash", (0.012, 0.008, 0.006), 0.5))


def _row_of_lashes(head: Head, eye: Eye, upper: bool, rng: np.random.Generator) -> Iterator[Curves]:
    for s in np.linspace(-0.98, 0.98, 150 if upper else 80):
        edge = lid_edge(head, eye, eye.centre[0] + s * eye.radius * 1.02, upper)
        if edge is None or abs(edge[2] - eye.centre[2]) > 0.75 * eye.radius or (not upper and abs(s) > 0.8):
            continue
        fan = np.array([0.55 * s + 0.12 * eye.sign, -0.95, 0.30 if upper else -0.42])
        fan += rng.normal(0, 0.12, 3)
        length = (0.0060 if upper else 0.0022) * (0.75 + 0.35 * (eye.sign * s)) * rng.uniform(0.75, 1.1)
        t = np.linspace(0, 1, 6)[:, None]
        curl = np.array([0, 0, 0.55 * length if upper else -0.15 * length])
        yield edge + np.array([0, 0.0003, 0]) + unit_vector(fan) * length * t + curl * t**2.2


def lid_edge(head: Head, eye: Eye, x: float, upper: bool) -> Point | None:
    """Scans from above or below for where the skin gives way to the eyeball."""
    last = None
    for dz in np.linspace(eye.radius * (1.1 if upper else -1.1), 0, 46):
        hit = head.front(x, eye.centre[2] + dz)
        if hit is None or hit[0][1] > eye.centre[1] - 0.55 * eye.radius:
            return last
        last = hit[0]
    return None


_BEARD = (
    (0, 0.018, 0.030, 0.036, 0.044, 0.055, 0.064),
    (-0.088, -0.090, -0.082, -0.062, -0.064, -0.045, -0.005),
)
"""The upper edge of a beard: its height over its distance from the middle, metres."""


def grow_beard(head: Head, material: Any, rng: np.random.Generator) -> None:
    """A short beard on jaw, cheeks and upper lip, thinner at its edges."""
    unit, curves = head.unit, []
    for _ in range(40000):
        x, z = rng.uniform(-0.07, 0.07) * unit, rng.uniform(-0.14, -0.005) * unit
        if rng.uniform() > _beard(abs(x) / unit, z / unit):
            continue
        hit = head.front(x, z)
        deepest = 0.07 if z > -0.112 * unit else 0.02  # behind the chin is the neck
        if hit is None or hit[0][1] > head.eyes[0].centre[1] + deepest:
            continue
        lean = unit_vector(hit[1] * 0.5 + np.array([0.2 * np.sign(x), 0, -1.0]) + rng.normal(0, 0.25, 3))
        t = np.linspace(0, 1, 4)[:, None]
        curves.append(hit[0] + lean * 0.0042 * rng.uniform(0.5, 1.2) * t)
    strands("beard", curves, 0.00006, 0.00002, material)


def _beard(aside: float, z: float) -> float:
    """How likely a hair is, 0 to 1; ``aside`` and ``z`` of a head of unit 1."""
    cheek = float(np.clip((np.interp(aside, *_BEARD) - z) / 0.010, 0, 1))
    lip = float(np.clip(min(z + 0.0675, -0.056 - z) / 0.003, 0, 1)) if aside < 0.036 else 0.0
    return max(cheek, lip * min(1.0, 0.35 + aside / 0.009))
