"""The metric on pictures: the portrait engine's own frames, through a file and back."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bench.lipsync.engine import Rgb, prepare, render
from inference_server.engines.portrait import PortraitEngine
from inference_server.lipsync import compare, measure
from inference_server.lipsync.lips import LipTrack, track_lips
from inference_server.lipsync.target import Target, from_phones
from testing.training import espeak
from testing.training.corpus import Clip, to_16k
from testing.training.dataset import padded
from tests.support.portraits import IRIS

PORTRAIT = IRIS
FPS = Fraction(25)
TEXT = "Maybe a big apple pie would be a far better buy. People move about the park with five happy puppies."

Shown = list[tuple[float, Rgb]]


@pytest.fixture(scope="module")
def clip() -> Clip:
    pcm, rate, phones = espeak.speak(TEXT, "en-us+Andrea", 150)
    return padded(Clip(to_16k(pcm, rate), phones))


@pytest.fixture(scope="module")
def shown(clip: Clip) -> Shown:
    engine = PortraitEngine({})
    handle, body = prepare(engine, PORTRAIT, FPS, size=384)
    return list(render(engine, handle, body, clip.pcm, FPS))


@pytest.fixture(scope="module")
def lips(shown: Shown) -> LipTrack:
    return track_lips(iter(shown))


@pytest.fixture(scope="module")
def target(clip: Clip) -> Target:
    return from_phones(clip.phones, len(clip.pcm) // 160)


def test_the_engines_frames_follow_the_phones(lips: LipTrack, target: Target) -> None:
    report = compare(lips, target)
    assert report.lost == 0
    assert report.r0 > 0.6
    assert abs(report.lag_ms) <= 40
    assert report.misaligned < 0.35


def test_an_injected_shift_is_found_on_frames(lips: LipTrack, target: Target) -> None:
    plain = compare(lips, target)
    late = compare(replace(lips, times=lips.times + 0.08), target)
    assert abs(late.lag_ms - plain.lag_ms - 80) <= 20


def test_a_recording_is_measured(
    shown: Shown, clip: Clip, lips: LipTrack, target: Target, tmp_path: Path
) -> None:
    path = tmp_path / "call.mkv"
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25, options={"qscale": "2"})
        video.width, video.height, video.pix_fmt = shown[0][1].shape[1], shown[0][1].shape[0], "yuv420p"
        video.bit_rate = 4_000_000
        sound = out.add_stream("pcm_s16le", rate=16_000)
        sound.layout = "mono"
        for i, (_, rgb) in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = i
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(clip.pcm[None]), format="s16", layout="mono")
        block.sample_rate, block.pts = 16_000, 0
        out.mux(sound.encode(block))
        out.mux(sound.encode(None))
    phones = tmp_path / "call.txt"
    phones.write_text("".join(f"{p.start} {p.end} {p.symbol}\n" for p in clip.phones))
    report, *_ = measure(path, phones=phones)
    assert report.target == "phones"
    assert abs(report.lag_ms - compare(lips, target).lag_ms) < 15
    assert report.r0 > 0.5
    heard, *_ = measure(path)
    assert heard.target == "network"
    assert abs(heard.lag_ms) <= 40
