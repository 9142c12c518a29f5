"""The sync metric: an injected shift is found, controls stay low, clips are read by their time stamps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bench.lipsync.verdict import Measured, verdicts
from inference_server.lipsync.clip import read_pictures, read_sound
from inference_server.lipsync.lips import LipTrack
from inference_server.lipsync.measure import LipSyncReport, compare, sampled
from inference_server.lipsync.phones import Phone
from inference_server.lipsync.picture import draw
from inference_server.lipsync.target import Target, from_energy, from_phones, read_phones

WORDS = "pə.mɑbɪ.wuta.fivə.mɛsi.bɔlo.ʃipə.kævɑ."


def speech(seed: int = 4, words: int = 30) -> list[Phone]:
    rng = np.random.default_rng(seed)
    at, phones = 0.3, [Phone("", 0.0, 0.3)]
    for word in rng.choice(WORDS.strip(".").split("."), words):
        for symbol in word:
            length = float(rng.uniform(0.06, 0.16))
            phones.append(Phone(symbol, at, at + length))
            at += length
        if rng.random() < 0.25:
            phones.append(Phone("", at, at + 0.5))
            at += 0.5
    return [*phones, Phone("", at, at + 0.4)]


def lips_for(
    target: Target, fps: float, late_s: float = 0.0, noise: float = 0.01, start_s: float = 0.0
) -> LipTrack:
    """Lips that do what the target asks, with noise, later by ``late_s``, on a clock begun at ``start_s``."""
    slot = 1 / fps
    starts = np.arange(0, len(target.opening) / 100 - slot, slot)
    assert target.width is not None
    rng = np.random.default_rng(1)
    gap = 0.02 + 0.12 * sampled(target.opening, starts - late_s, slot)
    width = 0.6 + 0.05 * sampled(target.width, starts - late_s, slot)
    return LipTrack(starts + start_s, gap + noise * rng.standard_normal(len(gap)), width, 0)


@pytest.fixture(scope="module")
def target() -> Target:
    phones = speech()
    return from_phones(phones, int(phones[-1].end * 100))


@pytest.mark.parametrize("fps", [25.0, 30.0, 24.0])
def test_a_mouth_in_time_is_in_time(target: Target, fps: float) -> None:
    report = compare(lips_for(target, fps), target)
    assert report.r0 > 0.9
    assert abs(report.lag_ms) < 6
    assert abs(report.misaligned) < 0.35
    assert report.width_r is not None and report.width_r > 0.9
    assert report.bilabials is not None and report.bilabials > 0.8
    assert report.pause_open == 0.0


@pytest.mark.parametrize("shift_ms", [-120, -80, 40, 80, 160])
def test_an_injected_shift_is_found(target: Target, shift_ms: int) -> None:
    report = compare(lips_for(target, 25.0, shift_ms / 1000), target)
    assert abs(report.lag_ms - shift_ms) < 10
    assert report.r_lag > report.r0


def test_a_mouth_that_does_something_else_fails(target: Target) -> None:
    phones = speech(seed=99)
    other = from_phones(phones, int(phones[-1].end * 100))
    n = min(len(other.opening), len(target.opening))
    lips = lips_for(replace(other, opening=other.opening[:n]), 25.0)
    report = compare(lips, target)
    assert report.r0 < 0.35


def test_open_lips_in_pauses_and_open_bilabials_are_counted(target: Target) -> None:
    lips = lips_for(target, 25.0, noise=0.0)
    never_shut = compare(replace(lips, gap=np.maximum(lips.gap, 0.09)), target)
    assert never_shut.r0 < 1
    chatter = lips.gap.copy()
    pause = sampled(target.pause.astype(float), lips.times, 0.04) > 0.99
    assert pause.any()
    chatter[pause] = 0.1
    assert compare(replace(lips, gap=chatter), target).pause_open == 1.0
    parted = lips.gap.copy()
    for first, last in target.bilabials or ():
        parted[(lips.times + 0.04 > first / 100) & (lips.times < last / 100)] = 0.1
    left = compare(replace(lips, gap=parted), target).bilabials
    assert left is not None and left < 0.1
    assert compare(replace(lips, gap=0.02 + 0.1 * parted), target).bilabials is None


def test_the_clips_clocks_count(target: Target) -> None:
    lips = lips_for(target, 30.0, start_s=2.5)
    assert abs(compare(lips, target, 2.5).lag_ms) < 6
    assert abs(compare(lips, target, 2.42).lag_ms - 80) < 10


def test_too_little_is_an_error(target: Target) -> None:
    lips = lips_for(target, 25.0)
    with pytest.raises(ValueError, match="half a second"):
        compare(replace(lips, times=lips.times + 1000), target)


def test_the_picture_shows_both_curves(target: Target) -> None:
    lips = lips_for(target, 25.0)
    report = compare(lips, target)
    image = draw(report, lips, target, 0.0)
    assert image.dtype == np.uint8 and image.shape[2] == 3
    red = (image[..., 2].astype(int) - image[..., 0] > 100).sum()
    blue = (image[..., 0].astype(int) - image[..., 2] > 100).sum()
    assert red > 500 and blue > 500
    assert json.loads(report.to_json())["target"] == "phones"
    assert isinstance(report, LipSyncReport)


def test_phone_files(tmp_path: Path) -> None:
    lines = tmp_path / "a.txt"
    lines.write_text("0.0 0.2 sil\n0.2 0.31 M\n0.31 0.5 ɑ\n0.5 0.7\n")
    assert [p.symbol for p in read_phones(lines)] == ["", "m", "ɑ", ""]
    table = tmp_path / "a.json"
    table.write_text('[["", 0, 0.2], ["p", 0.2, 0.3]]')
    assert read_phones(table)[1] == Phone("p", 0.2, 0.3)
    lines.write_text("once upon a time\n")
    with pytest.raises(ValueError, match="start, end and symbol"):
        read_phones(lines)


def test_energy_target_knows_pauses() -> None:
    t = np.arange(32_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 125 * k * t) for k in range(2, 25))
    pcm = (1000 * buzz * (t > 0.5) * (t < 1.5)).astype(np.int16)
    target = from_energy(pcm)
    assert target.opening[60:140].mean() > 5 * target.opening[:40].mean() + 0.1
    assert target.pause[:30].all() and not target.pause[60:140].any()
    assert target.width is None and target.bilabials is None


def write_clip(path: Path, rgb: list[NDArray[np.uint8]], pcm: NDArray[np.int16], video_late_s: float) -> None:
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = rgb[0].shape[1], rgb[0].shape[0], "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=16_000)
        sound.layout = "mono"
        for i, picture in enumerate(rgb):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i + round(video_late_s * 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        block.sample_rate, block.pts = 16_000, 0
        out.mux(sound.encode(block))
        out.mux(sound.encode(None))


def test_clips_are_read_by_their_time_stamps(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    pictures = [np.full((64, 64, 3), 20 * i, np.uint8) for i in range(10)]
    write_clip(path, pictures, np.arange(8000, dtype=np.int16), 0.2)
    times = [t for t, _ in read_pictures(path)]
    sound = read_sound(path)
    np.testing.assert_allclose(np.array(times) - sound.start_s, 0.2 + np.arange(10) / 25, atol=0.002)
    assert np.array_equal(sound.pcm[:8000], np.arange(8000))


def test_a_clip_without_sound_or_picture_is_told(tmp_path: Path) -> None:
    picture = tmp_path / "still.png"
    cv2.imwrite(str(picture), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="no sound"):
        read_sound(picture)


def measured(voice: str, kind: str, target: Target, late_s: float, noise: float = 0.01) -> Measured:
    report = compare(lips_for(target, 25.0, late_s, noise), target)
    late = compare(lips_for(target, 25.0, late_s + 0.08, noise), target)
    return Measured(voice, kind, 25, report, late.lag_ms - report.lag_ms)


def test_requirements_are_judged_by_the_voice_that_is_worst(target: Target) -> None:
    good = [measured("a", "synthetic", target, 0.0), measured("b", "recorded", target, 0.005)]
    assert all(v.met for v in verdicts(good)) and len(verdicts(good)) == 8
    late = [*good, measured("slow", "natural", target, 0.03)]
    (missed,) = [v for v in verdicts(late) if not v.met]
    assert missed.text.startswith("lag within 20 ms") and "slow" in missed.decisive
    assert all(v.met for v in verdicts(late, lag_ms=40.0))
    wild = verdicts([*good, measured("wild", "recorded", target, 0.0, noise=0.2)])
    assert {v.met for v in wild} == {True, False}
    assert "NOT MET" in "".join(v.line() for v in wild)
