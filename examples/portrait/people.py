"""Who can be rendered: shape, colours, hair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Colour = tuple[float, float, float]
"""Linear RGB, 0 to 1."""


@dataclass(frozen=True)
class Person:
    """One face. ``targets``: weights of MakeHuman's shape targets."""

    targets: Mapping[str, float]
    skin: Colour
    lips: Colour
    iris: Colour
    redness: float
    """Of cheeks, nose and chin."""
    hair: Literal["locks", "bob", "curls", "short"]
    """``locks`` are solid, for a face that is meant to look drawn: a bob; the others are strands."""
    hair_colour: Colour
    shirt: Colour
    back: tuple[Colour, Colour]
    """Of the background: at the edge, and in the glow behind the head."""
    brows: float = 1.0
    """How thick they are; thick ones are straighter."""
    beard: bool = False
    iris_radius: float = 0.54
    """Radians from the middle of the pupil to the rim of the iris."""

    @property
    def drawn(self) -> bool:
        """Whether the face is meant to look drawn."""
        return self.hair == "locks"


def scaled(colour: Colour, red: float, green: float | None = None, blue: float | None = None) -> Colour:
    """The colour times a factor, or one for each channel."""
    return (
        colour[0] * red,
        colour[1] * (red if green is None else green),
        colour[2] * (red if blue is None else blue),
    )


_SMILE = {
    "faceunits/mouthSmileLeft": 0.5,
    "faceunits/mouthSmileRight": 0.44,
    "faceunits/eyeSquintLeft": 0.15,
    "faceunits/eyeSquintRight": 0.15,
}
_EARS = {
    f"ears/{side}-ear-{what}": weight
    for side in "lr"
    for what, weight in (("lobe-decr", 0.6), ("shape-round", 0.6), ("scale-decr", 0.5), ("wing-decr", 0.5))
}

PEOPLE = {
    "lumi": Person(
        targets={
            "macrodetails/caucasian-female-young": 0.55,
            "macrodetails/asian-female-young": 0.25,
            "macrodetails/caucasian-female-child": 0.2,
            "macrodetails/universal-female-young-averagemuscle-averageweight": 1.0,
            "head/head-oval": 0.5,
            "chin/chin-width-decr": 0.9,
            "chin/chin-height-decr": 0.3,
            "nose/nose-scale-horiz-decr": 0.8,
            "nose/nose-scale-vert-decr": 0.8,
            "nose/nose-scale-depth-decr": 0.2,
            "nose/nose-point-up": 0.6,
            "nose/nose-hump-decr": 0.6,
            "nose/nose-point-width-decr": 0.4,
            "eyes/l-eye-scale-incr": 1.0,
            "eyes/r-eye-scale-incr": 1.0,
            "eyes/l-eye-bag-decr": 1.5,
            "eyes/r-eye-bag-decr": 1.5,
            "cheek/l-cheek-volume-incr": 0.3,
            "cheek/r-cheek-volume-incr": 0.3,
            "mouth/mouth-scale-horiz-decr": 0.3,
            "mouth/mouth-angles-up": 0.7,
            "mouth/mouth-lowerlip-volume-incr": 0.4,
            "neck/neck-scale-horiz-decr": 0.7,
            "torso/torso-scale-horiz-decr": 1.0,
            "faceunits/eyeSquintLeft": 0.5,
            "faceunits/eyeSquintRight": 0.5,
            "faceunits/mouthSmileLeft": 0.45,
            "faceunits/mouthSmileRight": 0.45,
        },
        skin=(0.85, 0.50, 0.36),
        lips=(0.70, 0.19, 0.17),
        iris=(0.030, 0.13, 0.15),
        redness=0.8,
        shirt=(0.75, 0.20, 0.08),
        back=((0.10, 0.36, 0.40), (0.42, 0.92, 0.88)),
        hair="locks",
        hair_colour=(0.085, 0.020, 0.008),
        iris_radius=0.64,
    ),
    "omar": Person(
        targets={
            "macrodetails/african-male-young": 0.8,
            "macrodetails/caucasian-male-young": 0.2,
            "macrodetails/universal-male-young-averagemuscle-averageweight": 1.0,
            "head/head-square": 0.25,
            "head/head-oval": 0.2,
            "nose/nose-scale-horiz-decr": 0.2,
            "eyes/l-eye-scale-incr": 0.3,
            "eyes/r-eye-scale-incr": 0.3,
            "torso/torso-scale-horiz-decr": 0.5,
            **_EARS,
            **_SMILE,
        },
        skin=(0.21, 0.105, 0.062),
        lips=(0.23, 0.095, 0.08),
        iris=(0.07, 0.035, 0.02),
        redness=0.12,
        hair="curls",
        hair_colour=(0.012, 0.009, 0.008),
        beard=True,
        brows=1.6,
        shirt=(0.10, 0.17, 0.26),
        back=((0.24, 0.22, 0.20), (0.62, 0.56, 0.50)),
    ),
    "amara": Person(
        targets={
            "macrodetails/african-female-young": 0.85,
            "macrodetails/caucasian-female-young": 0.15,
            "macrodetails/universal-female-young-averagemuscle-averageweight": 1.0,
            "head/head-oval": 0.5,
            "chin/chin-width-decr": 0.3,
            "eyes/l-eye-scale-incr": 0.5,
            "eyes/r-eye-scale-incr": 0.5,
            "nose/nose-scale-horiz-decr": 0.2,
            "neck/neck-scale-horiz-decr": 0.2,
            "torso/torso-scale-horiz-decr": 0.4,
            **_EARS,
            **_SMILE,
        },
        skin=(0.30, 0.145, 0.085),
        lips=(0.36, 0.11, 0.10),
        iris=(0.06, 0.030, 0.018),
        redness=0.15,
        hair="curls",
        hair_colour=(0.013, 0.009, 0.008),
        brows=1.2,
        iris_radius=0.60,
        shirt=(0.62, 0.32, 0.05),
        back=((0.10, 0.16, 0.22), (0.35, 0.50, 0.58)),
    ),
    "mei": Person(
        targets={
            "macrodetails/asian-female-young": 0.75,
            "macrodetails/caucasian-female-young": 0.25,
            "macrodetails/universal-female-young-averagemuscle-averageweight": 1.0,
            "head/head-oval": 0.5,
            "chin/chin-width-decr": 0.4,
            "eyes/l-eye-scale-incr": 0.5,
            "eyes/r-eye-scale-incr": 0.5,
            "neck/neck-scale-horiz-decr": 0.2,
            "torso/torso-scale-horiz-decr": 0.5,
            **_SMILE,
        },
        skin=(0.60, 0.37, 0.26),
        lips=(0.52, 0.17, 0.16),
        iris=(0.055, 0.028, 0.016),
        redness=0.25,
        hair="bob",
        hair_colour=(0.016, 0.010, 0.008),
        shirt=(0.30, 0.06, 0.08),
        back=((0.30, 0.31, 0.30), (0.66, 0.68, 0.64)),
    ),
    "henrik": Person(
        targets={
            "macrodetails/caucasian-male-old": 0.55,
            "macrodetails/caucasian-male-young": 0.45,
            "macrodetails/universal-male-old-averagemuscle-averageweight": 1.0,
            "head/head-oval": 0.3,
            "eyes/l-eye-scale-incr": 0.4,
            "eyes/r-eye-scale-incr": 0.4,
            "torso/torso-scale-horiz-decr": 0.3,
            "faceunits/eyeWideLeft": 0.3,
            "faceunits/eyeWideRight": 0.3,
            **_EARS,
            **_SMILE,
        },
        skin=(0.50, 0.285, 0.20),
        lips=(0.40, 0.17, 0.14),
        iris=(0.075, 0.105, 0.125),
        redness=0.45,
        hair="short",
        hair_colour=(0.055, 0.050, 0.045),
        brows=1.7,
        shirt=(0.05, 0.09, 0.08),
        back=((0.20, 0.17, 0.14), (0.55, 0.48, 0.40)),
    ),
    "ruth": Person(
        targets={
            "macrodetails/caucasian-female-old": 0.5,
            "macrodetails/caucasian-female-young": 0.5,
            "macrodetails/universal-female-old-averagemuscle-averageweight": 1.0,
            "head/head-oval": 0.3,
            "eyes/l-eye-scale-incr": 0.5,
            "eyes/r-eye-scale-incr": 0.5,
            "mouth/mouth-upperlip-volume-incr": 0.3,
            "mouth/mouth-lowerlip-volume-incr": 0.3,
            "torso/torso-scale-horiz-decr": 0.5,
            "faceunits/eyeWideLeft": 0.1,
            "faceunits/eyeWideRight": 0.1,
            **_SMILE,
        },
        skin=(0.58, 0.34, 0.25),
        lips=(0.48, 0.16, 0.14),
        iris=(0.08, 0.10, 0.06),
        redness=0.35,
        hair="bob",
        hair_colour=(0.065, 0.060, 0.055),
        brows=1.3,
        shirt=(0.05, 0.12, 0.20),
        back=((0.26, 0.18, 0.15), (0.70, 0.55, 0.46)),
    ),
    "leo": Person(
        targets={
            "macrodetails/caucasian-male-young": 0.6,
            "macrodetails/african-male-young": 0.2,
            "macrodetails/asian-male-young": 0.2,
            "macrodetails/universal-male-young-averagemuscle-averageweight": 1.0,
            "head/head-oval": 0.3,
            "eyes/l-eye-scale-incr": 0.4,
            "eyes/r-eye-scale-incr": 0.4,
            "torso/torso-scale-horiz-decr": 0.4,
            **_EARS,
            **_SMILE,
        },
        skin=(0.48, 0.265, 0.175),
        lips=(0.40, 0.15, 0.13),
        iris=(0.07, 0.045, 0.022),
        redness=0.3,
        hair="short",
        hair_colour=(0.022, 0.012, 0.008),
        brows=1.7,
        shirt=(0.42, 0.42, 0.40),
        back=((0.08, 0.16, 0.15), (0.34, 0.52, 0.48)),
    ),
}
