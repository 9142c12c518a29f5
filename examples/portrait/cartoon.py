"""A face that is meant to be drawn: large eyes with catch lights, soft skin, hair of solid locks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from examples.portrait import materials
from examples.portrait.bob import bob
from examples.portrait.face_hair import lid_edge
from examples.portrait.head import Eye, Head
from examples.portrait.nodes import Nodes
from examples.portrait.people import Colour, Person, scaled
from examples.portrait.sculpt import melted, tubes


def draw(head: Head, person: Person, rng: np.random.Generator) -> None:
    """Hair, brows and the line of the lashes."""
    hair = _locks(person.hair_colour)
    solid = melted(tubes("hair", bob(head, rng), hair), 0.0016, 3)
    solid.data.materials.clear()
    solid.data.materials.append(hair)
    dark = materials.plain("brow", scaled(person.hair_colour, 0.55), 0.7)
    tubes("brows", [_brow(head, eye) for eye in head.eyes], dark)
    ink = materials.plain("lash", (0.012, 0.007, 0.006), 0.6)
    tubes("lashes", [path for eye in head.eyes if (path := _lash(head, eye)) is not None], ink)


def _locks(colour: Colour) -> Any:
    """Matte, a little lighter towards the tips."""
    n = Nodes("locks")
    z = n.new("SeparateXYZ", n.new("TexCoord").outputs["Object"]).outputs[2]
    down = n.smoothstep(z, 0.08, -0.12)
    return n.finish(
        "BsdfPrincipled",
        Base_Color=n.mix(down, colour, scaled(colour, 1.5, 1.4, 1.3)),
        Roughness=0.5,
        Specular_IOR_Level=0.3,
    )


def _brow(head: Head, eye: Eye) -> Any:
    points = []
    for u in np.linspace(0, 1, 9):
        x = abs(eye.centre[0]) + (-0.0165 + 0.038 * u) * head.unit
        z = eye.centre[2] + (0.0235 + 0.0055 * math.sin(math.pi * u**1.1) - 0.0035 * u**2) * head.unit
        hit = head.front(eye.sign * x, z)
        if hit is None:
            continue
        thick = 0.0027 * min(1, 0.55 + 2.4 * u) * (1 - 0.72 * u**2.4)
        points.append([*(hit[0] + hit[1] * 0.0002), thick * head.unit])
    return np.array(points)


def _lash(head: Head, eye: Eye) -> Any:
    """A dark line on the upper lid's edge that ends in a small wing."""
    edge = []
    for s in np.linspace(-1.0, 1.0, 33):
        p = lid_edge(head, eye, eye.centre[0] + s * eye.radius * 0.98, True)
        if p is not None and abs(p[2] - eye.centre[2]) < 0.9 * eye.radius:
            edge.append((s * eye.sign, p))
    if len(edge) < 6:
        return None
    edge.sort(key=lambda each: each[0])
    out = []
    for k, (_, p) in enumerate(edge):
        u = k / (len(edge) - 1)
        out.append([p[0], p[1] - 0.0004, p[2], (0.0004 + 0.0010 * u) * head.unit])
    x, y, z, _ = out[-1]
    out.append([x + eye.sign * 0.0022, y + 0.0005, z + 0.0012, 0.0004])
    return np.array(out)
