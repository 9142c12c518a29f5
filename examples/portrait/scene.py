"""A person in front of the camera: head and shoulders, what they wear, and the light."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from examples.portrait import materials
from examples.portrait.blender import Vector, bpy
from examples.portrait.eyes import eye as eye_material
from examples.portrait.face_hair import grow_brows, grow_lashes, grow_stubble
from examples.portrait.hair import grow_hair
from examples.portrait.head import Eye, Head
from examples.portrait.light import light
from examples.portrait.mesh import Mesh, cut
from examples.portrait.people import Person
from examples.portrait.skin import skin as skin_material


def build(folder: Path, person: Person, rng: np.random.Generator) -> None:
    """An empty scene, then everything. ``folder``: of the base mesh."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    mesh = Mesh(folder, person.targets)
    skin = mesh.object("skin", lambda group, centre: group == "body" and centre[1] > -4.5)
    skin.data.materials.append(skin_material(folder, person))
    shirt = mesh.object("shirt", lambda group, centre: group == "body" and -7.0 < centre[1] < -0.6, level=3)
    cut(shirt, (0, -0.055, -0.172), (0, -0.42, 1.0), 0.004)
    shirt.data.materials.append(materials.cloth(person.shirt))
    eyes = [_eye(mesh, side, person) for side in "lr"]
    _mouth(mesh)
    _groom(Head(skin, eyes), person, rng)
    if person.glasses:
        _spectacles(eyes)
    light(person.back)


def _part(mesh: Mesh, name: str, level: int) -> Any:
    return mesh.object(name, lambda group, _: group == f"helper-{name}", level)


def _eye(mesh: Mesh, side: str, person: Person) -> Eye:
    ball = _part(mesh, f"{side}-eye", 2)
    points = np.array([tuple(v.co) for v in ball.data.vertices])
    eye = Eye((points.max(0) + points.min(0)) / 2, float(np.ptp(points[:, 0]) / 2))
    aim = Vector((-eye.centre[0] * 0.6, -1.0, 0.0)).normalized()
    ball.data.materials.append(eye_material(person, eye.centre, aim))
    return eye


def _mouth(mesh: Mesh) -> None:
    for name in ("upper-teeth", "lower-teeth"):
        ivory = materials.plain(name, (0.80, 0.74, 0.64), 0.2, Subsurface_Weight=0.4, Subsurface_Scale=0.002)
        _part(mesh, name, 1).data.materials.append(ivory)
    tongue = _part(mesh, "tongue", 1)
    tongue.data.materials.append(materials.plain("tongue", (0.5, 0.16, 0.14), 0.35))


def _groom(head: Head, person: Person, rng: np.random.Generator) -> None:
    dark = materials.hair(min(1.0, person.melanin + 0.25), 0.2, 0.4)
    main = materials.hair(person.melanin)
    grow_brows(head, 330 if person.glasses else 420, dark, rng)
    grow_lashes(head, rng)
    grow_hair(head, person, main, rng)
    if person.beard:
        grow_stubble(head, dark, rng)


def _spectacles(eyes: list[Eye]) -> None:
    metal = materials.plain("frame", (0.02, 0.02, 0.02), 0.25)
    for eye in eyes:
        x, y, z = eye.centre
        bpy.ops.mesh.primitive_torus_add(
            location=(x, y - eye.radius - 0.014, z - 0.002),
            rotation=(math.pi / 2, 0, 0),
            major_radius=0.0235,
            minor_radius=0.0011,
            major_segments=96,
        )
        bpy.context.object.data.materials.append(metal)
    x, y, z = eyes[0].centre
    bpy.ops.mesh.primitive_cylinder_add(
        location=(0, y - eyes[0].radius - 0.015, z + 0.004),
        rotation=(0, math.pi / 2, 0),
        radius=0.0011,
        depth=abs(x) * 2 - 0.046,
    )
    bpy.context.object.data.materials.append(metal)
