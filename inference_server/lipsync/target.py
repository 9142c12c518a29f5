"""What the mouth should do, at 100 Hz: from phones, from a text, or from the sound alone.

Four kinds, and every report says which one it used:

- ``phones``: curves of timed phones from a file. The only independent truth.
- ``text``: the same after forced alignment of an English text by PocketSphinx.
- ``network``: what the portrait engine's own network hears. Fair for any other engine and for what a call did
  to timing; for the portrait engine itself it says nothing about the network.
- ``energy``: level of the vowels' band. Knows nothing of articulation, so r is lower, but owes nothing to us.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.portrait.features import HOP, features
from inference_server.engines.portrait.visemes import VisemeTrack
from inference_server.lipsync.clip import Pcm
from inference_server.lipsync.phones import GROUPS, Phone, arpabet, curves

Kind = Literal["phones", "text", "network", "energy"]
Signal = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """Curves at 100 Hz from the first sample of the sound. ``width`` is ``None`` where the kind knows none,
    ``shaped`` marks hops whose width means something, ``pause`` those well inside a pause."""

    kind: Kind
    opening: Signal
    width: Signal | None
    shaped: NDArray[np.bool_]
    pause: NDArray[np.bool_]
    bilabials: tuple[tuple[int, int], ...] | None


def _pauses(speech: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Hops 120 ms or more from any speech."""
    return np.asarray(np.convolve(speech, np.ones(25), "same") < 0.5)


def from_phones(phones: Sequence[Phone], hops: int, kind: Kind = "phones") -> Target:
    """The curves of timed phones."""
    truth = curves(phones, hops)
    lips = np.isin(truth.group, [GROUPS.index("vowel"), GROUPS.index("rounded")])
    mouth = truth.mouth.astype(np.float64)
    speech = truth.group != GROUPS.index("sil")
    return Target(kind, mouth[:, 0], mouth[:, 1], lips, _pauses(speech), tuple(truth.bilabials))


def read_phones(path: Path) -> list[Phone]:
    """Phones of a file. JSON: ``[[symbol, start_s, end_s], ...]``; else lines ``start end symbol``. Symbols
    are IPA or upper-case ARPAbet; "" or "sil" is a pause. Raises ``ValueError`` for anything else."""
    text = path.read_text("utf-8")
    try:
        if path.suffix == ".json":
            rows = [(str(s), float(a), float(b)) for s, a, b in json.loads(text)]
        else:
            fields = [line.split() for line in text.splitlines() if line.strip()]
            rows = [(f[2] if len(f) > 2 else "", float(f[0]), float(f[1])) for f in fields]
    except (ValueError, TypeError, IndexError) as e:
        raise ValueError(f"{path}: expected lines of start, end and symbol ({e})") from e
    pause = {"sil", "SIL", "pau", "_", "#"}
    return [
        Phone("" if s in pause else arpabet(s) if s.isascii() and s.isupper() else s, a, b)
        for s, a, b in rows
    ]


def from_text(pcm: Pcm, text: str) -> Target:
    """Forced alignment. Raises ``ValueError`` when the text does not fit or PocketSphinx is not installed."""
    try:
        from inference_server.lipsync.align import align

        phones = align(pcm, text)
    except ImportError as e:
        raise ValueError("a text needs forced alignment: pip install pocketsphinx") from e
    if phones is None:
        raise ValueError("the text cannot be aligned with the sound: is it English, and what is said?")
    return from_phones(phones, len(pcm) // HOP, "text")


def from_network(pcm: Pcm) -> Target:
    """What the portrait engine's network hears."""
    track = VisemeTrack()
    track.append(pcm)
    track.end()
    fps = Fraction(100)
    mouths = [track.params(k, fps) for k in range(track.ready(fps))]
    opening = np.array([m.open * (1.0 - m.close) for m in mouths])
    close = np.array([m.close > 0.5 for m in mouths])
    edges = np.flatnonzero(np.diff(np.concatenate(([0], close.astype(int), [0])))).reshape(-1, 2)
    speech = np.array([not m.silent for m in mouths])
    runs = tuple((int(a), int(b)) for a, b in edges)
    return Target(
        "network", opening, np.array([m.width for m in mouths]), opening > 0.15, _pauses(speech), runs
    )


def from_energy(pcm: Pcm) -> Target:
    """Level of the bands from about 300 to 3000 Hz, smoothed over 50 ms."""
    bands = features(pcm)[: max(1, len(pcm) // HOP)].astype(np.float64)
    level = np.maximum(bands[:, 4:19].mean(1) - 0.25, 0.0)
    smooth = np.convolve(level, np.hanning(7) / np.hanning(7).sum(), "same")
    speech = bands.max(1) > 0.4
    quiet = np.zeros(len(smooth), bool)
    return Target("energy", smooth, None, quiet, _pauses(speech), None)
