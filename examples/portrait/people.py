"""Who can be rendered: shape, colours, hair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Colour = tuple[float, float, float]
"""Linear RGB, 0 to 1."""


@dataclass(frozen=True)
class Person:
    """One face. ``targets``: weights of MakeHuman's shape targets; ``turn``: degrees away from the camera."""

    targets: Mapping[str, float]
    skin: Colour
    lips: Colour
    iris: Colour
    melanin: float
    """Of the hair: 0 white, 1 black."""
    redness: float
    """Of cheeks, nose and chin."""
    shirt: Colour
    back: tuple[Colour, Colour]
    """Of the background: at the edge, and in the glow behind the head."""
    long_hair: bool = False
    beard: bool = False
    glasses: bool = False
    turn: float = 0.0


def scaled(colour: Colour, red: float, green: float | None = None, blue: float | None = None) -> Colour:
    """The colour times a factor, or one for each channel."""
    return (
        colour[0] * red,
        colour[1] * (red if green is None else green),
        colour[2] * (red if blue is None else blue),
    )


PEOPLE = {
    "iris": Person(
        targets={
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
        skin=(0.70, 0.415, 0.295),
        lips=(0.52, 0.155, 0.145),
        iris=(0.20, 0.26, 0.16),
        melanin=0.66,
        redness=0.30,
        shirt=(0.030, 0.095, 0.125),
        back=((0.045, 0.12, 0.18), (0.36, 0.48, 0.52)),
        long_hair=True,
    ),
    "omar": Person(
        targets={
            "macrodetails/african-male-young": 1.0,
            "macrodetails/universal-male-young-averagemuscle-averageweight": 1.0,
            "head/head-square": 0.3,
        },
        skin=(0.20, 0.095, 0.055),
        lips=(0.22, 0.085, 0.07),
        iris=(0.07, 0.035, 0.02),
        melanin=1.0,
        redness=0.10,
        shirt=(0.5, 0.48, 0.44),
        back=((0.30, 0.33, 0.38), (0.20, 0.22, 0.25)),
        beard=True,
    ),
    "mei": Person(
        targets={
            "macrodetails/asian-female-young": 1.0,
            "macrodetails/universal-female-young-averagemuscle-averageweight": 1.0,
        },
        skin=(0.72, 0.50, 0.38),
        lips=(0.55, 0.22, 0.2),
        iris=(0.08, 0.04, 0.02),
        melanin=0.95,
        redness=0.2,
        shirt=(0.45, 0.10, 0.10),
        back=((0.55, 0.58, 0.60), (0.70, 0.72, 0.74)),
        long_hair=True,
        turn=18,
    ),
    "karl": Person(
        targets={
            "macrodetails/caucasian-male-old": 0.75,
            "macrodetails/caucasian-male-young": 0.25,
            "macrodetails/universal-male-old-averagemuscle-averageweight": 1.0,
        },
        skin=(0.70, 0.45, 0.36),
        lips=(0.52, 0.25, 0.22),
        iris=(0.10, 0.18, 0.30),
        melanin=0.25,
        redness=0.45,
        shirt=(0.10, 0.11, 0.16),
        back=((0.25, 0.22, 0.20), (0.12, 0.11, 0.10)),
        glasses=True,
    ),
}
