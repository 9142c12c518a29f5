"""What follows when a face moves: lashes and beard go with the skin, and lids slide over the eyeballs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.portrait.blender import KDTree, Vector, bpy
from examples.portrait.head import Eye
from examples.portrait.mesh import METRE, Mesh

Points = NDArray[np.float64]
_DROOP = 1.7  # of a lash's height: so far it turns down on a lid that is shut
_SHUT = 0.009  # metres that an upper lid comes down
_THICK = 1.07  # of an eyeball's radius: the outside of a lid


class Followers:
    """Hair and tubes that go where the skin at their roots goes."""

    def __init__(self, skin: Any, things: Sequence[Any]) -> None:
        self._skin = skin
        self._rest = _surface(skin)
        tree = KDTree(len(self._rest))
        for index, point in enumerate(self._rest):
            tree.insert(Vector(point), index)
        tree.balance()
        self._things = []
        for thing in things:
            points = _points(thing)
            roots = points[:, 0] if thing.type == "CURVES" else points
            self._things.append((thing, points, np.array([tree.find(Vector(p))[1] for p in roots])))

    def follow(self) -> None:
        """Go to where the skin is now."""
        moved = _surface(self._skin) - self._rest
        for thing, points, roots in self._things:
            step = moved[roots]
            if thing.type != "CURVES":
                _put(thing, points + step)
                continue
            away = points - points[:, :1]
            if thing.name == "lashes":
                away[:, :, 2] *= 1 - _DROOP * np.clip(-step[:, None, 2] / _SHUT, 0, 1)
            _put(thing, points[:, :1] + step[:, None] + away)


def kept_outside(vertices: Points, mesh: Mesh, eyes: Sequence[Eye]) -> Points:
    """The vertices (decimetres), those that blinking moves no deeper than on the eyeball: lids are round."""
    lids = sum(np.linalg.norm(mesh.unit("eyeBlink" + side), axis=1) for side in ("Left", "Right"))
    away = np.linalg.norm(mesh.posed({}) - vertices, axis=1)
    moving = np.flatnonzero((lids > 0.02) & (away > 0.005))
    out = vertices.copy()
    for eye in eyes:
        x, y, z = eye.centre / METRE
        offset = out[moving] - [x, z, -y]
        height = np.linalg.norm(offset, axis=1)
        inside = (height < _THICK * eye.radius / METRE) & (height > 0.8 * eye.radius / METRE)
        out[moving[inside]] += offset[inside] * (_THICK * eye.radius / METRE / height[inside, None] - 1)
    return out


def _surface(skin: Any) -> Points:
    """The skin's vertices ``(n, 3)`` as they are rendered, metres."""
    graph = bpy.context.evaluated_depsgraph_get()
    shown = skin.evaluated_get(graph)
    mesh = shown.to_mesh()
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    shown.to_mesh_clear()
    return flat.reshape(-1, 3).astype(np.float64)


def _points(thing: Any) -> Points:
    """``(n, k, 3)`` of n strands, ``(m, 3)`` of tubes."""
    if thing.type == "CURVES":
        flat = np.empty(len(thing.data.points) * 3, np.float32)
        thing.data.position_data.foreach_get("vector", flat)
        return flat.reshape(len(thing.data.curves), -1, 3).astype(np.float64)
    return np.array([tuple(p.co)[:3] for spline in thing.data.splines for p in spline.points])


def _put(thing: Any, points: Points) -> None:
    if thing.type == "CURVES":
        thing.data.position_data.foreach_set("vector", points.astype(np.float32).ravel())
        thing.data.update_tag()
        return
    every = (point for spline in thing.data.splines for point in spline.points)
    for point, place in zip(every, points, strict=True):
        point.co = (*place, 1)
    thing.data.update_tag()
