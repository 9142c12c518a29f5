"""Solid shapes drawn as tubes along curves: locks of hair, brows, the line of the lashes, a collar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.portrait.blender import bpy
from examples.portrait.mesh import placed

Path = NDArray[np.float64]
"""``(k, 4)``: x, y, z and the radius there, in metres."""


def tubes(name: str, paths: Sequence[Path], material: Any, closed: bool = False) -> Any:
    """An object of round tubes."""
    data = bpy.data.curves.new(name, "CURVE")
    data.dimensions = "3D"
    data.bevel_depth, data.bevel_resolution, data.use_fill_caps = 1.0, 4, True
    data.resolution_u = 6
    for path in paths:
        spline = data.splines.new("NURBS")
        spline.points.add(len(path) - 1)
        spline.points.foreach_set("co", np.c_[path[:, :3], np.ones(len(path))].ravel().astype(np.float32))
        spline.points.foreach_set("radius", path[:, 3].astype(np.float32))
        spline.order_u, spline.use_endpoint_u, spline.use_cyclic_u = 4, not closed, closed
    data.materials.append(material)
    return placed(name, data)


def melted(thing: Any, voxel: float, smooth: int) -> Any:
    """Tubes that run into each other become one surface; ``voxel`` in metres, ``smooth`` passes."""
    graph = bpy.context.evaluated_depsgraph_get()
    mesh = bpy.data.meshes.new_from_object(thing.evaluated_get(graph))
    name = thing.name
    bpy.data.objects.remove(thing)
    solid = placed(name, mesh)
    remesh = solid.modifiers.new("melt", "REMESH")
    remesh.mode, remesh.voxel_size, remesh.use_smooth_shade = "VOXEL", voxel, True
    relax = solid.modifiers.new("relax", "SMOOTH")
    relax.factor, relax.iterations = 0.5, smooth
    return solid
