"""Hair as curves: guides that grow on the head, strands around them, and their object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.portrait.blender import bpy
from examples.portrait.head import Head, Hit, Point
from examples.portrait.mesh import placed

Curves = NDArray[np.float64]
"""``(n, k, 3)``: n strands of k points, in metres."""
Combing = Callable[[Point, Point], Point]
"""Where a strand at a point wants to go, given its root."""


def strands(name: str, curves: Sequence[Curves] | Curves, root: float, tip: float, material: Any) -> None:
    """An object of these curves; radii at root and tip in metres."""
    curves = np.asarray(curves)
    count, points = curves.shape[:2]
    data = bpy.data.hair_curves.new(name)
    data.add_curves([points] * count)
    data.position_data.foreach_set("vector", np.ascontiguousarray(curves.reshape(-1), np.float32))
    radius = np.tile(np.linspace(root, tip, points), count).astype(np.float32)
    data.points.foreach_set("radius", radius)
    data.materials.append(material)
    placed(name, data)


def grow(
    head: Head,
    roots: Sequence[Hit],
    combing: Combing,
    length: float,
    lift: Callable[[float], float],
    taper: Callable[[Point], float],
    rng: np.random.Generator,
) -> Curves:
    """Short guides: from each root along ``combing``, ``lift(t)`` above the skin (t from 0 to 1).

    Both are ``taper(root)`` times as long.
    """
    steps = 8
    out = np.zeros((len(roots), steps + 1, 3))
    for k, (root, normal) in enumerate(roots):
        p = root - normal * 0.001
        out[k, 0] = p
        direction = normal * 0.4
        shorter = taper(root)
        own = length * shorter * rng.uniform(0.85, 1.1)
        height = shorter * rng.uniform(0.6, 1.4)
        for i in range(steps):
            direction = 0.55 * direction + 0.45 * combing(p, root)
            direction /= np.linalg.norm(direction) + 1e-9
            p = p + direction * own / steps
            p = _above(head, p, lift((i + 1) / steps) * height, 0.8)
            out[k, i + 1] = p
    return out


def _above(head: Head, p: Point, want: float, part: float) -> Point:
    """The point, moved ``part`` of the way up to ``want`` metres above the skin."""
    where, outward = head.nearest(p)
    above = float((p - where) @ outward)
    return p + outward * (want - above) * part if above < want else p


def thicken(guides: Curves, copies: int, spread: float, rng: np.random.Generator) -> Curves:
    """Every guide becomes ``copies`` strands around it, ``spread`` metres."""
    n, k, _ = guides.shape
    offset = rng.normal(0, 1, (n * copies, 1, 3)) * spread
    t = np.linspace(0, 1, k)[None, :, None]
    thick: Curves = np.repeat(guides, copies, 0) + offset * (1 - 0.35 * t)
    return thick


def curled(curves: Curves, radius: float, rng: np.random.Generator) -> Curves:
    """Every strand winds ``radius`` metres around its own way."""
    n, k, _ = curves.shape
    t = np.linspace(0, 1, k)[None, :, None]
    turns = rng.uniform(5, 11, (n, 1, 3))
    start = rng.uniform(0, 2 * np.pi, (n, 1, 3))
    wound: Curves = curves + radius * np.minimum(1, 3 * t) * (np.sin(t * turns + start) - np.sin(start))
    return wound
