"""A person in front of the camera: head and shoulders, what they wear, and the light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.portrait import materials
from examples.portrait.blender import KDTree, Vector, bpy
from examples.portrait.cartoon import draw
from examples.portrait.eyes import eye as eye_material
from examples.portrait.face_hair import grow_beard, grow_brows, grow_lashes
from examples.portrait.followers import Followers, kept_outside
from examples.portrait.hair import grow_hair
from examples.portrait.head import Eye, Head, Point
from examples.portrait.light import light
from examples.portrait.mesh import Mesh, cut
from examples.portrait.people import Person, scaled
from examples.portrait.sculpt import tubes
from examples.portrait.skin import skin as skin_material
from examples.portrait.teeth import shine, tongue
from examples.portrait.teeth import teeth as teeth_material

_LOWER_TEETH = 0.001
"""Metres above where the base mesh has them."""


@dataclass(frozen=True)
class Figure:
    """What can move: the mesh, and hair that goes with the skin."""

    mesh: Mesh
    head: Head
    hair: Followers

    def show(self, units: Mapping[str, float]) -> None:
        """The face with these face units on top of its own look."""
        self.mesh.show(kept_outside(self.mesh.posed(units), self.mesh, self.head.eyes))
        lower = bpy.data.objects["lower-teeth"]
        lower.location.z = _LOWER_TEETH - 0.008 * units.get("mouthFunnel", 0.0)  # such lips hide them
        shine(units.get("mouthUpperUpLeft", 0.0) / 0.4)
        self.hair.follow()


def build(folder: Path, person: Person, rng: np.random.Generator) -> Figure:
    """An empty scene, then everything. ``folder``: of the base mesh."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    mesh = Mesh(folder, person.targets)
    for side in "lr" if person.drawn else "":
        mesh.swell(f"helper-{side}-eye", 0.21, 0.026)
    skin = mesh.object("skin", lambda group, centre: group == "body" and centre[1] > -4.5)
    skin.data.materials.append(skin_material(folder, person))
    shirt = mesh.object(
        "shirt", lambda group, centre: group == "body" and -7.0 < centre[1] < -0.6, 3, alive=False
    )
    neckline = cut(shirt, (0, -0.055, -0.168), (0, -0.42, 1.0), 0.004)
    cloth = materials.cloth(person.shirt)
    shirt.data.materials.append(cloth)
    _collar(neckline, cloth)
    eyes = [_eye(mesh, side, person) for side in "lr"]
    _mouth(mesh, person.drawn)
    head = Head(skin, eyes)
    if person.drawn:
        draw(head, person, rng)
    else:
        _groom(head, person, skin, rng)
    light(person.back, person.drawn)
    return Figure(
        mesh,
        head,
        Followers(skin, [bpy.data.objects[name] for name in ("lashes", "beard") if name in bpy.data.objects]),
    )


def _part(mesh: Mesh, name: str, level: int) -> Any:
    return mesh.object(name, lambda group, _: group == f"helper-{name}", level)


def _collar(neckline: NDArray[np.float64], cloth: Any) -> None:
    """A round hem that lies on the neck."""
    ring = neckline[:: max(1, len(neckline) // 40)]
    wide = np.abs(ring - ring.mean(0)).mean(0)
    for _ in range(8):
        ring = (np.roll(ring, 1, 0) + 2 * ring + np.roll(ring, -1, 0)) / 4
    ring = ring.mean(0) + (ring - ring.mean(0)) * wide / np.abs(ring - ring.mean(0)).mean(0)
    tubes("collar", [np.c_[ring, np.full(len(ring), 0.0085)]], cloth, closed=True)


def _eye(mesh: Mesh, side: str, person: Person) -> Eye:
    ball = _part(mesh, f"{side}-eye", 2)
    points = np.array([tuple(v.co) for v in ball.data.vertices])
    eye = Eye((points.max(0) + points.min(0)) / 2, float(np.ptp(points[:, 0]) / 2))
    aim = Vector((-eye.centre[0] * 0.6, -1.0, 0.0)).normalized()
    ball.data.materials.append(eye_material(person, eye.centre, aim))
    return eye


def _mouth(mesh: Mesh, drawn: bool) -> None:
    for name in ("upper-teeth", "lower-teeth"):
        teeth = _part(mesh, name, 2)
        teeth.data.materials.append(teeth_material(name, drawn))
        if name == "upper-teeth":  # lips hide them otherwise
            teeth.location.z = -0.002
        else:
            teeth.location = (0.0, 0.002, _LOWER_TEETH)
    _part(mesh, "tongue", 1).data.materials.append(tongue(drawn))


def _groom(head: Head, person: Person, skin: Any, rng: np.random.Generator) -> None:
    hair = materials.hair(person.hair_colour)
    grow_brows(head, person.brows, materials.hair(scaled(person.hair_colour, 0.5)), rng)
    grow_lashes(head, rng)
    _darken(skin, [where for where, _ in grow_hair(head, person, hair, rng)])
    if person.beard:
        grow_beard(head, hair, rng)


def _darken(skin: Any, roots: list[Point]) -> None:
    """The attribute ``scalp`` is 1 where hair grows, so that no bare skin shines through."""
    tree = KDTree(len(roots))
    for index, root in enumerate(roots):
        tree.insert(Vector(root), index)
    tree.balance()
    layer = skin.data.attributes.new("scalp", "FLOAT", "POINT")
    for index, vertex in enumerate(skin.data.vertices):
        layer.data[index].value = float(np.clip(1.6 - tree.find(vertex.co)[2] / 0.006, 0, 1))
