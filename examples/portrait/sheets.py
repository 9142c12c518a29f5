"""What a face does, part by part: its mouths, its lids on their way down, and how deep every pixel lies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.portrait.blender import Vector, bpy
from examples.portrait.camera import Part, seen, set_up, take
from examples.portrait.people import Person
from examples.portrait.poses import LIDS, MOUTHS, Units
from examples.portrait.scene import Figure

_MOUTH = (-47.0, -30.0, 47.0, 67.0)
"""Left, top, right and bottom of what speech moves, millimetres from the middle of the lips."""
_EYES = (-52.0, -22.0, 52.0, 18.0)
"""The same of what a blink moves, from between the eyes."""
_FAR = 1.40
"""Metres before the camera that depth is counted from."""
_CELL = 4


def render(figure: Figure, person: Person, out: Path, size: int, samples: int) -> None:
    """PNGs and ``about.json`` in the folder ``out``; what lies there already stays, so that this may be resumed."""
    out.mkdir(parents=True, exist_ok=True)
    set_up(size, samples, 0, person.drawn)
    units = Units(figure.mesh, person.targets)
    mouth, eyes = units.middle_of_lips(), np.array([0.0, figure.head.eyes[0].centre[1], 0.0])
    (_, y, _), (_, low, _) = seen(np.array([mouth, mouth - [0, 0, 0.01]]))
    millimetre = float(low - y) / 10
    parts = {
        "mouth": _part(seen(mouth[None])[0], _MOUTH, millimetre, size),
        "lids": _part(seen(eyes[None])[0], _EYES, millimetre, size),
    }
    about = {"size": size, "millimetre": millimetre, "mouths": [list(m) for m in MOUTHS], "shut": list(LIDS)}
    (out / "about.json").write_text(json.dumps({**about, **parts}))
    if not (out / "depth.npy").exists():
        np.save(out / "depth.npy", _depth(size))
    for name, what in _wanted(units, figure.head.unit):
        place = out / f"{name}.png"
        if not place.exists():
            figure.show(what())
            take(out / "unfinished.png", parts[name.split("-")[0]])
            (out / "unfinished.png").rename(place)
            print(name, flush=True)


def _wanted(units: Units, size: float) -> Iterator[tuple[str, Callable[[], Mapping[str, float]]]]:
    """Names of pictures and their units, what is needed first comes first."""
    yield "mouth-rest", dict
    yield "lids-rest", dict
    for index, shut in sorted(enumerate(LIDS), key=lambda each: -each[1]):
        yield f"lids-{index}", partial(units.lids, shut)
    for index in sorted(range(len(MOUTHS)), key=_urgency):
        yield f"mouth-{index:02d}", partial(units.mouth, MOUTHS[index], size)


def _urgency(index: int) -> tuple[bool, int]:
    row = index // 6
    return (row % 2 == 1 and row < 9, -index)


def _part(middle: NDArray[np.float64], edges: tuple[float, ...], millimetre: float, size: int) -> Part:
    left, top, right, bottom = (
        int(np.clip(round(middle[k % 2] + edge * millimetre), 0, size)) for k, edge in enumerate(edges)
    )
    return left, top, right - left, bottom - top


def _depth(size: int) -> NDArray[np.uint8]:
    """Millimetres before :data:`_FAR` of every fourth pixel, 1 to 255; 0 of the background."""
    scene, side = bpy.context.scene, size // _CELL
    graph = bpy.context.evaluated_depsgraph_get()
    nearest = np.full((side, side), np.inf)
    camera = scene.camera.matrix_world
    reach = scene.camera.data.lens / scene.camera.data.sensor_width
    start = camera.translation
    for row in range(side):
        for column in range(side):
            across, up = (column + 0.5) / side - 0.5, 0.5 - (row + 0.5) / side
            way = camera.to_3x3() @ Vector((across / reach, up / reach, -1.0))
            hit, where, _, _, thing, _ = scene.ray_cast(graph, start, way.normalized())
            if hit and not thing.name.startswith("Plane"):
                nearest[row, column] = -(camera.inverted() @ where).z
    for thing in bpy.data.objects:
        if thing.type == "CURVES":  # hair, which no ray meets
            flat = np.empty(len(thing.data.points) * 3, np.float32)
            thing.data.position_data.foreach_get("vector", flat)
            x, y, away = seen(flat.reshape(-1, 3).astype(np.float64)).T
            columns, rows = (np.clip(v // _CELL, 0, side - 1).astype(int) for v in (x, y))
            np.minimum.at(nearest, (rows, columns), away)
    millimetres = np.clip(np.round((_FAR - nearest) * 1000), 1, 255)
    return np.where(np.isfinite(nearest), millimetres, 0).astype(np.uint8)
