"""Materials that one shader makes: cloth, hair, and whatever has one colour."""

from __future__ import annotations

from typing import Any

from examples.portrait.nodes import Nodes, Value
from examples.portrait.people import Colour


def plain(name: str, colour: Colour, roughness: float = 0.5, **more: Value) -> Any:
    """One colour."""
    return Nodes(name).finish("BsdfPrincipled", Base_Color=colour, Roughness=roughness, **more)


def cloth(colour: Colour) -> Any:
    """A fine weave."""
    n = Nodes("cloth")
    place = n.new("TexCoord").outputs["Object"]
    weave = n.new("TexNoise", place, Scale=900.0, Detail=2.0).outputs[0]
    bump = n.new("Bump", Strength=0.5, Distance=0.0008, Height=weave).outputs[0]
    return n.finish("BsdfPrincipled", Base_Color=colour, Roughness=0.9, Sheen_Weight=0.35, Normal=bump)


def hair(colour: Colour) -> Any:
    """Matte hair, every strand of a slightly other colour."""
    return Nodes("hair").finish(
        "BsdfHairPrincipled",
        parametrization="COLOR",
        Color=colour,
        Roughness=0.45,
        Radial_Roughness=0.6,
        Random_Roughness=0.2,
    )
