"""Teeth and tongue: crowns with gaps and rounded corners, painted on the base mesh's two smooth bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from examples.portrait.blender import bpy
from examples.portrait.materials import plain
from examples.portrait.nodes import Nodes

_IVORY = (0.90, 0.80, 0.64)
_GAP = (0.42, 0.25, 0.17)
_GUM = (0.58, 0.22, 0.20)
_MIDDLE = 0.7082  # of the face, in the base mesh's UV; so are the numbers below
_LIGHT = "light"


@dataclass(frozen=True)
class _Row:
    gaps: tuple[float, ...]  # from the middle backwards
    edge: float  # v where the teeth end, in the middle
    gum: float  # v where they begin
    bend: float  # how the row is bent in v
    light: float  # that finds its way in

    @property
    def waist(self) -> float:
        return (self.edge + self.gum) / 2


_ROWS = {
    "upper-teeth": _Row((0.0, 0.0036, 0.0068, 0.0107, 0.0145, 0.0181, 0.0226), 0.8897, 0.8978, 13.0, 0.26),
    "lower-teeth": _Row((0.0, 0.0023, 0.0051, 0.0089, 0.0127, 0.0165, 0.0220), 0.9056, 0.8978, -12.0, 0.15),
}
"""Widths as of human teeth: incisors, a canine, premolars, molars."""


def tongue(drawn: bool) -> Any:
    """Moist, and a little light that comes through the cheeks."""
    glow = {"Emission_Color": (0.60, 0.13, 0.11), "Emission_Strength": 0.05 if drawn else 0.014}
    return _unlit(plain("tongue", (0.56, 0.16, 0.14), 0.35, **glow))


def teeth(name: str, drawn: bool) -> Any:
    """Ivory crowns of ``upper-teeth`` or ``lower-teeth`` with their gums."""
    row, n = _ROWS[name], Nodes(name)
    u, v, _ = n.new("SeparateXYZ", n.new("TexCoord").outputs["UV"]).outputs
    fan = n.add(n.multiply(n.subtract(v, row.waist), 20.0 if row.bend > 0 else -20.0), 1.0)
    along = n.divide(n.math("ABSOLUTE", n.subtract(u, _MIDDLE)), fan)
    straight = n.add(v, n.multiply(n.multiply(along, along), row.bend))
    height = n.divide(n.subtract(straight, row.edge), row.gum - row.edge)
    away = n.math("ABSOLUTE", n.subtract(along, row.gaps[0]))
    for gap in row.gaps[1:]:
        away = n.math("MINIMUM", away, n.math("ABSOLUTE", n.subtract(along, gap)))
    near = n.smoothstep(away, 0.0, 0.0011, To_Min=1.0, To_Max=0.0)
    gap = n.smoothstep(away, 0.0, 0.0005, To_Min=1.0, To_Max=0.0)
    gums = n.smoothstep(n.add(height, n.multiply(near, 0.10)), 0.78, 0.84)
    colour = n.mix(n.multiply(gap, 0.65), _IVORY, _GAP)
    colour = n.mix(gums, colour, _GUM)
    behind = n.smoothstep(along, 0.004, 0.020, To_Min=1.0, To_Max=0.12)  # cheeks shade the molars
    front = n.smoothstep(height, -0.10, 0.05)
    crown = n.smoothstep(height, 0.25, 0.95, To_Min=1.0, To_Max=0.45)  # and the lips what they cover
    lit = n.multiply(n.multiply(behind, crown), n.multiply(front, n.new("Value", name=_LIGHT).outputs[0]))
    corner = n.multiply(near, 0.13)
    return _unlit(
        n.finish(
            "BsdfPrincipled",
            Base_Color=colour,
            Roughness=0.22,
            Subsurface_Weight=0.15,
            Subsurface_Scale=0.001,
            Normal=n.new("Bump", Strength=0.7, Distance=0.0010, Height=n.subtract(1.0, near)).outputs[0],
            Emission_Color=colour,
            Emission_Strength=n.multiply(lit, row.light * (1.0 if drawn else 0.45)),
            Alpha=n.math("GREATER_THAN", n.math("ABSOLUTE", n.subtract(height, -0.02)), corner),
        )
    )


def shine(lifted: float) -> None:
    """Let as much light at the teeth as a lip does that is ``lifted`` 0..1."""
    for name in _ROWS:
        bpy.data.materials[name].node_tree.nodes[_LIGHT].outputs[0].default_value = min(1.0, max(0.2, lifted))


def _unlit(material: Any) -> Any:
    """What glows so faintly need not be looked for as a lamp."""
    material.cycles.emission_sampling = "NONE"
    return material
