"""What each speech sound does to the lips, and the 100 Hz mouth curves of a row of timed sounds.

A sound is named in IPA. The table gives targets for jaw/lip opening and lip width together with how
strongly the sound insists on them (a /k/ takes the shape of its neighbours, a /w/ does not): the dominance
model of Cohen and Massaro (1993), here as a normalised convolution with a Gaussian.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

HOP_S = 0.010
OPEN_SIGMA_S = 0.024
WIDTH_SIGMA_S = 0.036
CLOSE_SIGMA_S = 0.007

Group = Literal["sil", "vowel", "bilabial", "labiodental", "rounded", "sibilant", "other"]
GROUPS: tuple[Group, ...] = ("sil", "vowel", "bilabial", "labiodental", "rounded", "sibilant", "other")


class Phone(NamedTuple):
    """One sound in time: IPA symbol ("" is a pause), start and end in seconds."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Shape:
    """Targets of one sound; ``*_force`` is the weight against its neighbours."""

    open: float
    width: float
    open_force: float
    width_force: float
    group: Group


def _vowel(opening: float, width: float, force: float = 1.0) -> Shape:
    return Shape(opening, width, force, force, "vowel")


SILENCE = Shape(0.0, 0.0, 1.0, 0.15, "sil")
_UNKNOWN = Shape(0.25, 0.0, 0.3, 0.1, "other")
_SHAPES: dict[str, Shape] = {
    "": SILENCE,
    **{s: _vowel(1.0, 0.1) for s in "aɑɐ"},
    **{s: _vowel(0.9, 0.35) for s in "æ"},
    **{s: _vowel(0.75, -0.25) for s in "ɒ"},
    **{s: _vowel(0.75, 0.05) for s in "ʌ"},
    **{s: _vowel(0.62, 0.4) for s in "ɛ"},
    **{s: _vowel(0.5, 0.55) for s in "e"},
    **{s: _vowel(0.32, 0.5) for s in "ɪ"},
    **{s: _vowel(0.26, 0.85) for s in "i"},
    **{s: _vowel(0.28, 0.3) for s in "ɨɯ"},
    **{s: _vowel(0.42, 0.05, 0.7) for s in "əɘɚᵻ"},
    **{s: _vowel(0.48, -0.05) for s in "ɜɝɵ"},
    **{s: _vowel(0.65, -0.5) for s in "ɔ"},
    **{s: _vowel(0.48, -0.75) for s in "oɤ"},
    **{s: _vowel(0.3, -0.65) for s in "ʊ"},
    **{s: _vowel(0.22, -0.9) for s in "uʉ"},
    **{s: _vowel(0.24, -0.75) for s in "yʏ"},
    **{s: _vowel(0.42, -0.6) for s in "øœɞ"},
    **{s: Shape(0.0, 0.0, 2.0, 0.1, "bilabial") for s in "pbmɓ"},
    **{s: Shape(0.1, 0.1, 1.4, 0.25, "labiodental") for s in "fvɱʋ"},
    **{s: Shape(0.15, 0.0, 0.8, 0.3, "labiodental") for s in "ɸβ"},
    **{s: Shape(0.16, -0.9, 1.0, 1.0, "rounded") for s in "wʍɥ"},
    **{s: Shape(0.22, -0.55, 0.6, 0.7, "sibilant") for s in "ʃʒʂʐɕʑ"},
    **{s: Shape(0.16, 0.25, 0.7, 0.3, "sibilant") for s in "sz"},
    **{s: Shape(0.22, -0.3, 0.4, 0.4, "other") for s in "ɹɻ"},
    **{s: Shape(0.25, 0.15, 0.35, 0.12, "other") for s in "tdnlɾrɫʈɖɳɭ"},
    **{s: Shape(0.25, 0.2, 0.45, 0.15, "other") for s in "θð"},
    **{s: Shape(0.28, 0.4, 0.4, 0.4, "other") for s in "jɲʎʝçc"},
    **{s: Shape(0.32, 0.0, 0.25, 0.08, "other") for s in "kɡgŋxɣqχʁʀɰħʕ"},
    **{s: Shape(0.4, 0.0, 0.15, 0.05, "other") for s in "hɦʔ"},
}
_SKIP = set("ːˑˈˌ'‿͡-_|0123456789ʲʰⁿ.!?,;:^*~")

_ARPABET = {
    "aa": "ɑ",
    "ae": "æ",
    "ah": "ʌ",
    "ao": "ɔ",
    "aw": "aʊ",
    "ax": "ə",
    "axr": "ɚ",
    "ay": "aɪ",
    "b": "b",
    "ch": "tʃ",
    "d": "d",
    "dh": "ð",
    "dx": "ɾ",
    "eh": "ɛ",
    "el": "əl",
    "em": "m",
    "en": "n",
    "er": "ɜ",
    "ey": "eɪ",
    "f": "f",
    "g": "ɡ",
    "hh": "h",
    "hv": "h",
    "ih": "ɪ",
    "ix": "ɪ",
    "iy": "i",
    "jh": "dʒ",
    "k": "k",
    "l": "l",
    "m": "m",
    "n": "n",
    "nx": "n",
    "ng": "ŋ",
    "ow": "oʊ",
    "oy": "ɔɪ",
    "p": "p",
    "r": "ɹ",
    "s": "s",
    "sh": "ʃ",
    "t": "t",
    "th": "θ",
    "uh": "ʊ",
    "uw": "u",
    "ux": "u",
    "v": "v",
    "w": "w",
    "y": "j",
    "z": "z",
    "zh": "ʒ",
    "pau": "",
    "sil": "",
    "h#": "",
    "brth": "",
    "ssil": "",
}


def arpabet(name: str) -> str:
    """IPA of an ARPAbet phone, stress digits ignored; pauses and noises give ""."""
    return _ARPABET.get(name.strip("0123456789").lower(), "")


def shapes_of(symbol: str) -> list[Shape]:
    """The shapes a symbol goes through in equal parts: two for a diphthong, an affricate or the closure and
    the breath of a /p/."""
    plain = unicodedata.normalize("NFD", symbol).replace("p", "pph")
    found = [_SHAPES.get(c, _UNKNOWN) for c in plain if c not in _SKIP and not unicodedata.combining(c)]
    return found or [SILENCE if not symbol else _UNKNOWN]


def _smooth(x: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    radius = max(1, round(3.5 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.concatenate((np.full(radius, x[0]), x, np.full(radius, x[-1])))
    return np.convolve(padded, kernel, "valid")


@dataclass(frozen=True)
class Curves:
    """Mouth curves at 100 Hz. ``mouth``: ``(hops, 4)`` float32: open, width, close, fv. ``group``: index into
    :data:`GROUPS` per hop. ``bilabials``: first and last+1 hop of each lip closure."""

    mouth: NDArray[np.float32]
    group: NDArray[np.int8]
    bilabials: list[tuple[int, int]]


def curves(phones: Sequence[Phone], hops: int) -> Curves:
    """The mouth of a row of timed sounds; hop h stands for the time (h + 0.5) * 10 ms."""
    fine = 5  # rasterised at 2 ms, then averaged
    n = hops * fine
    raster = np.tile(
        np.array([0.0, 1.0, 0.0, 0.15, 0.0, 0.0, 0.0]), (n, 1)
    )  # o*f, f, w*f, f, close, fv, group
    bilabials: list[tuple[int, int]] = []
    for phone in phones:
        parts = shapes_of(phone.symbol)
        edges = np.linspace(phone.start, phone.end, len(parts) + 1)
        for shape, a, b in zip(parts, edges[:-1], edges[1:], strict=True):
            i, j = (round(float(t) / HOP_S * fine) for t in (a, b))
            i, j = max(0, i), min(n, j)
            if i >= j:
                continue
            of, wf = shape.open_force, shape.width_force
            raster[i:j, :4] = (shape.open * of, of, shape.width * wf, wf)
            raster[i:j, 4:6] = 0.0
            raster[i:j, 6] = GROUPS.index(shape.group)
            if shape.group == "bilabial":
                raster[i:j, 4] = 1.0
                bilabials.append((i // fine, max(i // fine + 1, j // fine)))
            elif shape.group == "labiodental":
                raster[i:j, 5] = 1.0
    step = HOP_S / fine
    opening = _smooth(raster[:, 0], OPEN_SIGMA_S / step) / _smooth(raster[:, 1], OPEN_SIGMA_S / step)
    width = _smooth(raster[:, 2], WIDTH_SIGMA_S / step) / _smooth(raster[:, 3], WIDTH_SIGMA_S / step)
    close = _smooth(raster[:, 4], CLOSE_SIGMA_S / step)
    fv = _smooth(raster[:, 5], CLOSE_SIGMA_S / step)
    mouth = np.stack((opening * (1.0 - close), width, close, fv), 1).reshape(hops, fine, 4).mean(1)
    group = raster[:, 6].reshape(hops, fine)[:, fine // 2]
    return Curves(mouth.astype(np.float32), group.astype(np.int8), bilabials)
