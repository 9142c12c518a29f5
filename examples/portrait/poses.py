"""What a face can do, in ARKit's face units: the mouths of the portrait engine's atlas, and lids that shut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from examples.portrait.mesh import METRE, Mesh

LIDS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""How far shut the lids are, of those that are rendered."""
_WIDE_OPEN = 15.0  # millimetres between the lips of a mouth that is open 1


class Mouth(NamedTuple):
    """As a pose of the atlas: ``open`` 0..1, ``width`` -1 round to 1 spread, ``press`` and ``fv`` 0..1."""

    open: float
    width: float
    press: float = 0.0
    fv: float = 0.0


OPENS = (0.0, 0.08, 0.17, 0.27, 0.38, 0.5, 0.63, 0.8, 1.0)
WIDTHS = (-1.0, -0.66, -0.33, 0.0, 0.5, 1.0)
MOUTHS = (
    *(Mouth(opening, width) for opening in OPENS for width in WIDTHS),
    *(Mouth(0.0, width, press=1.0) for width in (-1.0, 0.0, 1.0)),
    *(Mouth(0.0, width, fv=1.0) for width in (-1.0, 0.0, 1.0)),
)
"""The poses of the atlas (``inference_server/engines/portrait/atlas.py``)."""


class Units:
    """Weights of face units for one person, on top of the look that the person has at rest."""

    def __init__(self, mesh: Mesh, rest: Mapping[str, float]) -> None:
        self._mesh = mesh
        self._rest = {name.removeprefix("faceunits/"): w for name, w in rest.items() if "faceunits/" in name}
        self._lips = _touching_lips(mesh)
        self._lids = {side: _meeting_lids(mesh, side) for side in ("Left", "Right")}
        self._gap = self._parted({})

    def mouth(self, mouth: Mouth, millimetre: float = 1.0) -> dict[str, float]:
        """The units of a mouth; ``millimetre``: how large one is on this face, in metres / 1000."""
        opening, width, press, fv = mouth
        rounded, spread = max(-width, 0.0), max(width, 0.0)
        active = min(1.0, opening / 0.25 + rounded + 0.5 * press + fv)
        calm = active * (0.35 + 0.55 * rounded - 0.25 * spread)  # of the smile
        bare = min(1.0, 3 * opening) * spread
        units = _both(
            {
                "mouthSmile": 0.12 * spread,
                "mouthStretch": 0.40 * spread,
                "mouthDimple": 0.20 * spread,
                "mouthUpperUp": (0.35 * opening + 0.25 * min(1.0, 3 * opening)) * (1 - rounded)
                + 0.30 * bare
                + 0.95 * fv,
                "mouthLowerDown": 0.30 * min(1.0, 2 * opening) * (1 - rounded) + 0.16 * bare,
                "mouthPress": 0.12 * press,
            }
        )
        for side in ("Left", "Right"):
            units["mouthSmile" + side] -= calm * self._rest.get("mouthSmile" + side, 0.0)
        units |= {
            "mouthPucker": rounded * (0.85 - 0.45 * opening),
            "mouthFunnel": rounded * (0.15 + 0.55 * min(1.0, 1.5 * opening)),
            "mouthRollUpper": 0.22 * press,
            "mouthRollLower": 0.22 * press + 0.50 * fv,
        }
        if press:  # the lips meet, and more
            return units
        gap = (
            _WIDE_OPEN * opening**0.95 * (1 + 0.9 * rounded**2)  # protruding lips hide some of it
            + 3.0 * rounded
            + 2.6 * fv
            + 0.5 * min(1.0, opening / 0.08)
        )
        want = self._gap + gap * millimetre / 1000
        missing = want - self._parted(units)
        unit = "jawOpen" if missing > 0 else "mouthClose"
        by = self._parted({**units, unit: 1.0}) - self._parted(units)
        units[unit] = float(np.clip(missing / by, 0, 1)) if abs(by) > 1e-5 else 0.0
        return units

    def lids(self, shut: float) -> dict[str, float]:
        """The units of lids ``shut`` 0..1: at 1 they meet."""
        units = {}
        for side, (upper, lower) in self._lids.items():
            for name in ("eyeSquint", "eyeWide"):
                units[name + side] = -shut * self._rest.get(name + side, 0.0)
            there = {name: w / shut for name, w in units.items() if name.endswith(side)}
            start = self._mesh.posed(there)
            step = self._mesh.posed({"eyeBlink" + side: 1.0}) - self._mesh.posed({})
            closing = (step[lower] - step[upper])[:, 1]
            needed = np.median((start[upper] - start[lower])[:, 1] / closing)
            units["eyeBlink" + side] = shut * float(np.clip(needed, 0.8, 1.4))
        return units

    def middle_of_lips(self) -> NDArray[np.float64]:
        """Where the lips meet, metres."""
        x, y, z = self._mesh.posed({})[list(self._lips)].mean(0) * METRE
        return np.array([x, -z, y])

    def _parted(self, units: Mapping[str, float]) -> float:
        """Metres between the lips in the middle."""
        upper, lower = self._mesh.posed(units)[list(self._lips)]
        return float(upper[1] - lower[1]) * METRE


def _both(units: Mapping[str, float]) -> dict[str, float]:
    return {name + side: weight for name, weight in units.items() for side in ("Left", "Right")}


def _touching_lips(mesh: Mesh) -> tuple[int, int]:
    """The vertices of upper and lower lip that meet in the middle of the mouth's line."""
    v = mesh.posed({})
    rows: list[NDArray[Any]] = []
    for name in ("mouthRollUpper", "mouthRollLower"):
        moved = np.linalg.norm(mesh.unit(name), axis=1)
        rows.append(np.flatnonzero((moved > 0.2 * moved.max()) & (np.abs(v[:, 0]) < 0.02)))
    away = np.linalg.norm(v[rows[0]][:, None] - v[rows[1]][None], axis=2)
    near = np.argwhere(away < 1.3 * away.min() + 0.01)
    front = max(near, key=lambda pair: v[rows[0][pair[0]], 2] + v[rows[1][pair[1]], 2])
    return int(rows[0][front[0]]), int(rows[1][front[1]])


def _meeting_lids(mesh: Mesh, side: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Vertices of the upper lid's edge, and those of the lower one that they come down to on the base mesh."""
    base, step = mesh.base, mesh.unit("eyeBlink" + side)
    down = -step[:, 1]
    upper = np.flatnonzero(down > 0.5 * down.max())
    lower = np.flatnonzero((np.abs(step).sum(1) > 0) & (down < 0.25 * down.max()))
    shut = base + step
    away = np.linalg.norm(shut[upper][:, None] - shut[lower][None], axis=2)
    nearest = away.argmin(1)
    meet = away.min(1) < 0.03
    return upper[meet], lower[nearest[meet]]
