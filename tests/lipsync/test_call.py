"""Finding what was said in what a phone received."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from bench.lipsync.call import Received, found, judged, placed
from inference_server.lipsync.lips import LipTrack
from inference_server.lipsync.measure import sampled
from inference_server.lipsync.phones import Phone
from inference_server.lipsync.target import from_phones
from testing.training.corpus import Clip

Pcm = NDArray[np.int16]


def babble(seconds: float, seed: int) -> Pcm:
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.standard_normal(int(16_000 * seconds)))
    noise -= np.convolve(noise, np.ones(400) / 400, "same")
    loud = np.interp(
        np.arange(len(noise)), np.arange(0, len(noise), 1600), rng.random(-(-len(noise) // 1600))
    )
    return np.asarray(noise * loud * 300, np.int16)


def test_the_clip_is_found_to_the_millisecond() -> None:
    played = babble(3.0, 1)
    heard = np.zeros(8 * 8000, np.int16)
    narrow = soxr.resample(played, 16_000, 8000)
    heard[20_011 : 20_011 + len(narrow)] = (narrow >> 3) << 3
    at, alike = found(heard, played)
    assert at == pytest.approx(20_011 / 8000, abs=0.001)
    assert alike > 0.98


def test_another_sound_is_not_taken_for_it() -> None:
    heard = soxr.resample(babble(8.0, 2), 16_000, 8000)
    with pytest.raises(ValueError, match="not in what was received"):
        found(heard, babble(3.0, 1))
    with pytest.raises(ValueError, match="less was received"):
        found(heard[:8000], babble(3.0, 1))


def test_phones_are_placed_where_each_clip_was_heard() -> None:
    edges = np.cumsum(np.random.default_rng(3).uniform(0.06, 0.2, 40))
    phones = [
        Phone("mɑpiba"[i % 6], float(a), float(b)) for i, (a, b) in enumerate(itertools.pairwise(edges))
    ]
    clips = [Clip(babble(float(edges[-1]) + 0.1, seed), phones) for seed in (1, 2)]
    sound = np.zeros(120_000, np.int16)
    begins = (20_000, 20_000 + len(clips[0].pcm) // 2 + 1200)  # a gap of 150 ms between them
    for begin, clip in zip(begins, clips, strict=True):
        narrow = soxr.resample(clip.pcm, 16_000, 8000)
        sound[begin : begin + len(narrow)] = narrow
    heard = placed(sound, clips)
    assert heard.alike > 0.95
    assert heard.phones[0].start == pytest.approx(2.5 + phones[0].start, abs=0.001)
    assert heard.phones[len(phones)].start == pytest.approx(begins[1] / 8000 + phones[0].start, abs=0.001)

    target = from_phones(heard.phones, 1500)
    starts = np.arange(2.5, 13.0, 0.04)
    gap = 0.1 * sampled(target.opening, starts, 0.04)
    got = Received(LipTrack(starts + 0.03, gap, gap, 0), heard, 0, 0)
    assert judged(got).lag_ms == pytest.approx(30, abs=6)
    assert judged(got, 0.08).lag_ms == pytest.approx(110, abs=6)

    sound[begins[1] + 8000 : begins[1] + 20_000] = 0  # packets lost: that sentence cannot be judged
    assert placed(sound, clips).spans == heard.spans[:1]
    with pytest.raises(ValueError, match="0 of 2 sentences"):
        placed(np.zeros_like(sound), clips)
