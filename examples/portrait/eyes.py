"""The eyes' material, by the angle from where they look."""

from __future__ import annotations

from typing import Any

from examples.portrait.blender import Vector
from examples.portrait.nodes import Nodes
from examples.portrait.people import Colour, Person, scaled

_CATCH = (((-0.20, -0.95, 0.11), 0.10),)
_DRAWN_CATCH = (((-0.26, -0.93, 0.22), 0.13), ((0.14, -0.98, -0.06), 0.05))
"""Reflected lamps: where on the ball, and their radius in radians."""


def eye(person: Person, centre: Any, aim: Any) -> Any:
    """An eyeball around ``centre`` (metres) that looks along the unit vector ``aim``."""
    n = Nodes("eye")
    offset = n.new(
        "VectorMath", n.new("NewGeometry").outputs["Position"], Vector(centre), operation="SUBTRACT"
    )
    unit = n.new("VectorMath", offset.outputs[0], operation="NORMALIZE").outputs[0]
    along = n.new("VectorMath", unit, aim, operation="DOT_PRODUCT").outputs["Value"]
    r = n.divide(n.math("ARCCOSINE", along), person.iris_radius)  # 1 at the rim of the iris
    iris = (
        _drawn_iris(n, person.iris, r, unit)
        if person.drawn
        else _iris(n, person.iris, r, _fibres(n, unit, along, aim))
    )
    colour = n.mix(n.smoothstep(r, 0.95, 1.07), iris, _white(n, unit, r))
    shine = 0.0
    for place, radius in _DRAWN_CATCH if person.drawn else _CATCH:
        towards = n.new("VectorMath", unit, Vector(place).normalized(), operation="DOT_PRODUCT")
        away = n.math("ARCCOSINE", towards.outputs["Value"])
        shine = n.add(
            shine,
            n.smoothstep(away, radius * (0.85 if person.drawn else 0.3), radius, To_Min=1.0, To_Max=0.0),
        )
    return n.finish(
        "BsdfPrincipled",
        Base_Color=colour,
        Roughness=0.6 if person.drawn else 0.28,
        Coat_Weight=0.0 if person.drawn else 1.0,
        Coat_Roughness=0.02,
        Coat_IOR=1.376,
        Subsurface_Weight=0.15,
        Subsurface_Scale=0.002,
        Emission_Color=n.mix(shine, colour, (1.0, 1.0, 1.0)),
        Emission_Strength=n.add(n.multiply(shine, 1.4), 0.12 if person.drawn else 0.03),
    )


def _fibres(n: Nodes, unit: Any, along: Any, aim: Any) -> Any:
    """Noise that depends on the direction around the pupil alone."""
    project = n.new("VectorMath", aim, operation="SCALE", Scale=along).outputs[0]
    side = n.new("VectorMath", unit, project, operation="SUBTRACT").outputs[0]
    around = n.new("VectorMath", side, operation="NORMALIZE").outputs[0]
    return n.new("TexNoise", around, Scale=26.0, Detail=6.0, Roughness=0.75).outputs[0]


def _iris(n: Nodes, colour: Colour, r: Any, fibres: Any) -> Any:
    iris = n.mix(n.math("POWER", fibres, 1.4), scaled(colour, 0.30), scaled(colour, 2.6))
    warm = n.bell(n.math("POWER", n.divide(n.subtract(r, 0.42), 0.16), 2.0))
    iris = n.mix(n.multiply(warm, 0.5), iris, (0.30, 0.17, 0.05))
    rim = n.smoothstep(r, 0.78, 1.0)
    iris = n.mix(n.multiply(rim, 0.8), iris, (0.015, 0.015, 0.015))
    return n.mix(n.smoothstep(r, 0.38, 0.44), (0.002, 0.002, 0.002), iris)  # the pupil


def _drawn_iris(n: Nodes, colour: Colour, r: Any, unit: Any) -> Any:
    """Lighter below, where light that falls in from above comes out again; a dark rim, a large pupil."""
    height = n.new("SeparateXYZ", unit).outputs[2]
    iris = n.mix(n.smoothstep(height, 0.30, -0.45), scaled(colour, 0.45), scaled(colour, 3.2))
    iris = n.mix(n.smoothstep(r, 0.80, 0.94), iris, scaled(colour, 0.12))
    return n.mix(n.smoothstep(r, 0.44, 0.50), (0.002, 0.002, 0.002), iris)


def _white(n: Nodes, unit: Any, r: Any) -> Any:
    veins = n.new("TexNoise", unit, Scale=14.0, Detail=8.0, Roughness=0.7).outputs[0]
    red = n.multiply(n.smoothstep(r, 1.2, 2.6), n.multiply(veins, 0.9))
    return n.mix(red, (0.80, 0.78, 0.76), (0.66, 0.40, 0.36))
