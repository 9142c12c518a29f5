"""Clips → augmented features and targets for training, clean ones for evaluation."""

from __future__ import annotations

import hashlib
import inspect
import multiprocessing
import sys
import zlib
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from inference_server.engines.portrait import features as sound
from inference_server.engines.portrait.features import HOP, RATE, Features, features
from inference_server.lipsync import phones
from inference_server.lipsync.phones import Curves, Phone, curves
from testing.training import corpus, texts
from testing.training.corpus import CACHE, VOICES, Clip, Voice, load

LEAD_S = 0.35
"""Silence before and after each clip."""


@dataclass(frozen=True)
class Example:
    """A clip at 100 Hz. ``weight``: how much its voice counts in the loss."""

    features: Features
    curves: Curves
    weight: float


def padded(clip: Clip) -> Clip:
    """The clip between two short silences."""
    lead = round(LEAD_S * RATE / HOP) * HOP
    silence = np.zeros(lead, np.int16)
    moved = [Phone(s, a + LEAD_S, b + LEAD_S) for s, a, b in clip.phones]
    return Clip(np.concatenate((silence, clip.pcm, silence)), moved)


def _equalise(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A random smooth frequency response of ±8 dB, sometimes that of a telephone."""
    points = np.array([0.0, 150, 400, 900, 1800, 3200, 5000, 8000])
    gains = rng.uniform(-8, 8, len(points)) * rng.uniform(0.2, 1.0)
    if rng.random() < 0.12:
        gains[[0, 6, 7]] = -30.0
    spectrum = np.fft.rfft(x)
    grid = np.linspace(0, RATE / 2, len(spectrum))
    gain = 10 ** (np.interp(grid, points, gains) / 20)
    return np.asarray(np.fft.irfft(spectrum * gain, len(x)), np.float32)


def _noise(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """White to brownish noise of unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    slope = rng.uniform(0.0, 1.2)
    spectrum *= (np.arange(len(spectrum)) + 20.0) ** -slope
    noise = np.fft.irfft(spectrum, n)
    return np.asarray(noise / (np.sqrt(np.mean(noise**2)) + 1e-9), np.float32)


def _room(n: int, lead: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise 22 to 50 dB under the speech that begins and ends somewhere in the silences around it: before a turn
    there is no sound at all, and then there is a room."""
    noise = _noise(n, rng)
    noise[: int(rng.uniform(0.0, 0.9) * lead)] = 0.0
    noise[n - int(rng.uniform(0.0, 0.9) * lead) :] = 0.0
    return noise * np.float32(10 ** (-rng.uniform(22, 50) / 20))


def _breath(n: int, lead: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A burst of noise in the silence before or after the speech, which has to leave the mouth closed."""
    out = np.zeros(n, np.float32)
    length = int(rng.uniform(0.3, 0.8) * lead)
    first = int(rng.uniform(0.0, lead * 0.9 - length)) + (n - lead if rng.random() < 0.5 else 0)
    burst = _noise(length, rng)[: n - first] * np.hanning(length)[: n - first]
    out[first : first + len(burst)] = burst * 10 ** (-rng.uniform(12, 34) / 20)
    return out


def augment(clip: Clip, rng: np.random.Generator) -> Clip:
    """Change speed with formants (0.82 to 1.28), tone, level; add noise or a little room."""
    factor = float(rng.uniform(0.82, 1.28))
    x = soxr.resample(clip.pcm.astype(np.float32), RATE * factor, RATE, "MQ")
    phones = [Phone(s, a / factor, b / factor) for s, a, b in clip.phones]
    if rng.random() < 0.8:
        x = _equalise(x, rng)
    rms = np.sqrt(np.mean(x**2)) + 1.0
    if rng.random() < 0.25:
        delay = int(rng.uniform(0.012, 0.05) * RATE)
        x[delay:] += rng.uniform(0.05, 0.25) * x[:-delay]
    if rng.random() < 0.7:
        x = x + _room(len(x), round(LEAD_S * RATE / factor), rng) * rms
    if rng.random() < 0.5:
        x = x + _breath(len(x), round(LEAD_S * RATE / factor), rng) * rms
    x *= 10 ** (rng.uniform(-32, -14) / 20) * 32768 / rms
    return Clip(np.clip(x, -32768, 32767).astype(np.int16), phones)


def example(clip: Clip, weight: float = 1.0) -> Example:
    """Features and curves of the same length."""
    hops = len(clip.pcm) // HOP
    return Example(features(clip.pcm, 0, hops)[:hops], curves(clip.phones, hops), weight)


@dataclass(frozen=True)
class Arrays:
    """All of the training speech end to end, at 100 Hz: ``features`` ``(hops, 26)`` and ``mouth`` ``(hops, 4)``
    float16, ``group`` int8, ``weight`` float16."""

    features: NDArray[np.float16]
    mouth: NDArray[np.float16]
    group: NDArray[np.int8]
    weight: NDArray[np.float16]


def _examples(voice: Voice, copies: int, seed: int) -> list[Example]:
    rng = np.random.default_rng([seed, zlib.crc32(voice.name.encode())])
    weight = 2.0 if voice.kind == "natural" else 1.0
    wholes = [padded(clip) for clip in load(voice)]
    return [example(augment(w, rng) if i else w, weight) for w in wholes for i in range(copies)]


def _recipe() -> str:
    """Digest of the sources that shape the training speech."""
    sources = (sound, phones, corpus, sys.modules[__name__], texts)
    return hashlib.sha256("".join(map(inspect.getsource, sources)).encode()).hexdigest()[:10]


def training_set(copies: int, seed: int) -> Arrays:
    """Every training clip ``copies`` times, all but the first augmented; natural voices count double. Kept in
    the cache until a source that shapes it changes."""
    file = CACHE / f"training-{copies}-{seed}-{_recipe()}.npz"
    if not file.exists():
        voices = [v for v in VOICES if not v.test]
        # a process per voice: what eSpeak NG said before changes what it says
        with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
            made = pool.starmap(_examples, [(v, copies, seed) for v in voices], chunksize=1)
        examples = [e for per_voice in made for e in per_voice]
        for old in CACHE.glob("training-*.npz"):
            old.unlink()
        np.savez(
            file,
            features=np.concatenate([e.features for e in examples]).astype(np.float16),
            mouth=np.concatenate([e.curves.mouth for e in examples]).astype(np.float16),
            group=np.concatenate([e.curves.group for e in examples]),
            weight=np.concatenate([np.full(len(e.features), e.weight, np.float16) for e in examples]),
        )
    with np.load(file) as data:
        return Arrays(*(data[k] for k in ("features", "mouth", "group", "weight")))


def test_set(voice: Voice) -> list[Clip]:
    """A test voice's clips between silences."""
    return [padded(clip) for clip in load(voice)]
