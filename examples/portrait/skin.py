"""The skin's material: tone, blood, freckles, lids, lips, pores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from examples.portrait.blender import bpy
from examples.portrait.nodes import Nodes
from examples.portrait.people import Person, scaled


def skin(folder: Path, person: Person) -> Any:
    """``folder``: of the base mesh, whose masks tell where lids, lips and the mouth's inside are."""
    n = _Skin(folder, person)
    lips = n.mask("lips")
    tone = n.painted(n.freckled(n.blushed(n.tone())), lips)
    scalp = n.new("Attribute", attribute_name="scalp").outputs["Fac"]
    tone = n.mix(n.multiply(scalp, 0.9), tone, scaled(person.hair_colour, 0.8))
    roughness = n.add(n.multiply(n.noise(90), 0.20), 0.36)
    material = n.finish(
        "BsdfPrincipled",
        Base_Color=tone,
        Roughness=n.subtract(roughness, n.multiply(lips, 0.12)),
        Normal=n.bumps(),
        Subsurface_Weight=1.0,
        Subsurface_Radius=(1.0, 0.36, 0.18),
        Subsurface_Scale=0.0045,
        Specular_IOR_Level=0.42,
        Sheen_Weight=0.06,
        Sheen_Roughness=0.4,
        Emission_Color=(0.48, 0.10, 0.08),  # light that comes through the cheeks
        Emission_Strength=n.multiply(n.mask("inside-mouth"), 0.02 if person.drawn else 0.010),
    )
    material.cycles.emission_sampling = "NONE"
    return material


class _Skin(Nodes):
    def __init__(self, folder: Path, person: Person) -> None:
        super().__init__("skin")
        self._folder, self._person, self._base = folder, person, person.skin
        coordinates = self.new("TexCoord")
        self._uv = coordinates.outputs["UV"]
        self._position = self.new("Attribute", attribute_name="rest").outputs[
            "Vector"
        ]  # pores go with the skin
        self._x, _, self._z = self.new("SeparateXYZ", self._position).outputs

    def mask(self, name: str) -> Any:
        """1 where the skin is what the mask names."""
        image = self.new("TexImage", self._uv)
        image.image = bpy.data.images.load(str(self._folder / "textures" / f"mpfb_{name}.jpg"))
        image.image.colorspace_settings.name = "Non-Color"
        return image.outputs["Color"]

    def noise(self, scale: float, detail: float = 4.0) -> Any:
        """0 to 1, irregular."""
        return self.new("TexNoise", self._position, Scale=scale, Detail=detail, Roughness=0.6).outputs[0]

    def _blob(self, cx: float, cz: float, rx: float, rz: float) -> Any:
        """1 at a place of the face and its mirror image, less around it; metres."""
        dx = self.divide(self.subtract(self.math("ABSOLUTE", self._x), cx), rx)
        dz = self.divide(self.subtract(self._z, cz), rz)
        return self.bell(self.add(self.multiply(dx, dx), self.multiply(dz, dz)))

    def tone(self) -> Any:
        """The skin's own colour, a little uneven."""
        patches = self.multiply(self.subtract(self.noise(38), 0.35), 1.3)
        return self.mix(patches, scaled(self._base, 1.05), scaled(self._base, 0.97, 0.86, 0.82))

    def blushed(self, tone: Any) -> Any:
        """Cheeks, nose and chin carry more blood."""
        cheeks = self.multiply(self._blob(0.040, -0.038, 0.020, 0.016), 0.9)
        nose = self.multiply(self._blob(0.0, -0.040, 0.013, 0.013), 0.6)
        blush = self.multiply(self.add(cheeks, nose), self.add(self.noise(60), 0.4))
        return self.mix(
            self.multiply(blush, self._person.redness), tone, scaled(self._base, 0.95, 0.55, 0.52)
        )

    def freckled(self, tone: Any) -> Any:
        """Freckles on the cheeks."""
        cheeks = self.multiply(self._blob(0.03, -0.03, 0.03, 0.018), 0.28)
        freckles = self.multiply(self.math("GREATER_THAN", self.noise(420, 2.0), 0.70), cheeks)
        return self.mix(freckles, tone, scaled(self._base, 0.6))

    def painted(self, tone: Any, lips: Any) -> Any:
        """Lids, lips and the inside of the mouth."""
        lids = self.multiply(self.mask("eyelids"), 0.30)
        tone = self.mix(lids, tone, scaled(self._base, 0.80, 0.62, 0.60))
        colour = self._person.lips
        lip = self.mix(self.multiply(self.noise(200, 3.0), 0.5), colour, scaled(colour, 0.75))
        tone = self.mix(self.multiply(lips, 0.80), tone, lip)
        return self.mix(self.mask("inside-mouth"), tone, (0.30, 0.06, 0.05))

    def bumps(self) -> Any:
        """Pores and fine lines."""
        pores = self.multiply(self.noise(900, 3.0), 0.5)
        lines = self.new("TexVoronoi", self._position, Scale=700.0).outputs[0]
        height = self.add(pores, self.multiply(lines, 0.6))
        return self.new("Bump", Strength=0.26, Distance=0.0006, Height=height).outputs[0]
