"""The picture: a long lens, and Cycles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.portrait.blender import Vector, bpy
from examples.portrait.mesh import placed

_DISTANCE = 1.30  # metres

Part = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


def photograph(out: Path, size: int, samples: int, turn: float, drawn: bool = False) -> None:
    """A PNG of ``size`` x ``size`` pixels, from ``turn`` degrees beside the face; the same every time."""
    set_up(size, samples, turn, drawn)
    take(out)


def set_up(size: int, samples: int, turn: float, drawn: bool = False) -> None:
    """A camera, and how pictures are made."""
    scene = bpy.context.scene
    scene.camera = _camera(math.radians(turn), drawn)
    bpy.context.view_layer.update()
    scene.render.engine = "CYCLES"
    scene.render.use_persistent_data = True
    scene.cycles.samples = samples
    scene.cycles.use_denoising = True
    scene.cycles.max_bounces = 8
    scene.cycles.transparent_max_bounces = 4
    scene.render.threads_mode = "FIXED"
    scene.render.threads = 1
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    if drawn:
        scene.view_settings.view_transform, scene.view_settings.exposure = "Standard", 0.25
    else:
        scene.view_settings.view_transform, scene.view_settings.exposure = "AgX", 0.6
        scene.view_settings.look = "AgX - High Contrast"
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"


def take(out: Path, part: Part | None = None) -> None:
    """The picture, or a part of it, as a PNG."""
    scene = bpy.context.scene
    size = scene.render.resolution_x
    scene.render.use_border = scene.render.use_crop_to_border = part is not None
    if part is not None:
        left, top, width, height = part
        edge = 0.25  # of a pixel: Blender rounds down
        scene.render.border_min_x = (left + edge) / size
        scene.render.border_max_x = (left + width + edge) / size
        scene.render.border_min_y = (size - top - height + edge) / size
        scene.render.border_max_y = (size - top + edge) / size
    scene.render.filepath = str(out)
    bpy.ops.render.render(write_still=True)


def seen(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where points ``(n, 3)`` in metres are seen: x and y in pixels, and metres before the camera."""
    scene = bpy.context.scene
    turned = np.array(scene.camera.matrix_world.inverted())
    local = points @ turned[:3, :3].T + turned[:3, 3]
    away = -local[:, 2]
    size = scene.render.resolution_x
    reach = scene.camera.data.lens / scene.camera.data.sensor_width * size
    across = local[:, :2] / away[:, None] * reach * [1, -1]
    return np.column_stack((across + size / 2, away))


def _camera(angle: float, drawn: bool) -> Any:
    data = bpy.data.cameras.new("camera")
    data.lens = 140 if drawn else 122
    data.dof.use_dof = True
    data.dof.focus_distance = _DISTANCE - 0.09
    data.dof.aperture_fstop = 14
    camera = placed("camera", data)
    aim = Vector((0, -0.03, -0.02 if drawn else -0.035))
    camera.location = aim + Vector((_DISTANCE * math.sin(angle), -_DISTANCE * math.cos(angle), 0.02))
    camera.rotation_euler = (aim - camera.location).to_track_quat("-Z", "Y").to_euler()
    return camera
