"""Four lamps, the room's own light, and a background that glows behind the head."""

from __future__ import annotations

import math

from examples.portrait.blender import Vector, bpy
from examples.portrait.mesh import placed
from examples.portrait.nodes import Nodes
from examples.portrait.people import Colour, scaled

_Place = tuple[float, float, float]


def light(back: tuple[Colour, Colour], drawn: bool = False) -> None:
    """``back``: colours of the background at its edge and in its middle; ``drawn``: all of it softer."""
    face = (0.0, -0.05, -0.03)
    if drawn:
        _lamp("key", (-0.6, -1.0, 0.95), face, 0.9, 28.0, (1.0, 0.965, 0.92))
        _lamp("fill", (1.0, -1.2, 0.1), face, 1.4, 8.0, (0.93, 0.96, 1.0))
        _lamp("rim", (0.7, 0.7, 0.6), (0, 0, 0.05), 0.5, 14.0, (1.0, 0.95, 0.9))
        _lamp("hair", (-0.6, 0.5, 0.8), (0, 0, 0.08), 0.5, 6.0, (0.95, 0.97, 1.0))
    else:
        _lamp("key", (-0.65, -1.1, 0.60), face, 0.85, 21.0, (1.0, 0.96, 0.91))
        _lamp("fill", (1.1, -1.1, 0.0), face, 1.3, 5.0, (0.90, 0.95, 1.0))
        _lamp("rim", (0.75, 0.75, 0.65), (0, 0, 0.05), 0.5, 9.0, (1.0, 0.95, 0.9))
        _lamp("hair", (-0.5, 0.6, 0.8), (0, 0, 0.08), 0.6, 4.0, (0.95, 0.97, 1.0))
    _room(0.3 if drawn else 0.2)
    _background(*back)


def _lamp(name: str, at: _Place, target: _Place, size: float, power: float, colour: Colour) -> None:
    """A square lamp, ``size`` in metres, ``power`` in watts."""
    data = bpy.data.lights.new(name, "AREA")
    data.energy, data.size, data.color = power, size, colour
    lamp = placed(name, data)
    lamp.location = at
    lamp.rotation_euler = (Vector(target) - Vector(at)).to_track_quat("-Z", "Y").to_euler()


def _room(strength: float = 0.13) -> None:
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    inputs = world.node_tree.nodes["Background"].inputs
    inputs[0].default_value, inputs[1].default_value = (0.5, 0.55, 0.6, 1), strength
    bpy.context.scene.world = world


def _background(edge: Colour, middle: Colour) -> None:
    n = Nodes("back")
    x, y, _ = n.new("SeparateXYZ", n.new("TexCoord").outputs["Generated"]).outputs
    dx, dy = n.subtract(x, 0.56), n.subtract(y, 0.50)
    r = n.math("SQRT", n.add(n.multiply(dx, dx), n.multiply(dy, dy)))
    glow = n.smoothstep(r, 0.0, 0.30, To_Min=1.0, To_Max=0.0)
    colour = n.mix(glow, scaled(edge, 0.42), scaled(middle, 0.9))
    bpy.ops.mesh.primitive_plane_add(size=4, location=(0, 1.6, 0), rotation=(math.pi / 2, 0, 0))
    bpy.context.object.data.materials.append(n.finish("Emission", Strength=0.40, Color=colour))
    bpy.context.object.visible_diffuse = False
