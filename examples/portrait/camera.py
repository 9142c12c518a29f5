"""The picture: a long lens, and Cycles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from examples.portrait.blender import Vector, bpy
from examples.portrait.mesh import placed

_DISTANCE = 1.30  # metres


def photograph(out: Path, size: int, samples: int, turn: float, drawn: bool = False) -> None:
    """A PNG of ``size`` x ``size`` pixels, from ``turn`` degrees beside the face; the same every time."""
    scene = bpy.context.scene
    scene.camera = _camera(math.radians(turn), drawn)
    scene.render.engine = "CYCLES"
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
    scene.render.filepath = str(out)
    bpy.ops.render.render(write_still=True)


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
