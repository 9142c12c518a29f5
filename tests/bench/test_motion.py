"""The figures of ``bench.motion`` on made-up faces and a made-up voice."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from bench.lipsync.engine import prepare
from bench.motion import figures
from bench.motion.__main__ import asked
from bench.motion.pitch import pitch
from bench.motion.speech import spoken
from bench.motion.watch import Watched, watch
from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait import motion
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.base import BodyLoop
from inference_server.engines.portrait import PortraitEngine
from inference_server.lipsync.phones import Phone, curves
from visavis.portraits import CAST
from visavis.rgb import to_rgb

N = 1500


def still() -> Watched:
    flat = np.zeros(N)
    return Watched(
        times=np.arange(N) / 25,
        gap=flat + 4.0,
        width=flat + 50,
        head=np.zeros((N, 3)),
        parallax=np.zeros((N, 2)),
        nose=np.zeros((N, 2)),
        lids=flat + 1,
        lid_luma=flat + 0.7,
        gaze=np.zeros((N, 2)),
        brows=flat.copy(),
        teeth=flat.copy(),
        lost=0,
    )


def test_steps_of_the_lips_are_judged_by_their_speed() -> None:
    calm, quick = np.full(N, 4.0), np.full(N, 4.0)
    calm[100:] += 5.9  # 147 mm/s at 25 pictures a second
    quick[100:] += 9.2
    assert figures.speeds(replace(still(), gap=calm)).met
    assert not figures.speeds(replace(still(), gap=quick)).met


def test_a_closure_of_one_picture_counts_where_no_labial_is_near() -> None:
    gap = np.full(N, 5.0)
    gap[500] = 0.0
    seen = replace(still(), gap=gap)
    vowel, labial = [Phone("a", 0, 60)], [Phone("a", 0, 20), Phone("m", 20, 20.08), Phone("a", 20.08, 60)]
    assert not figures.false_closures(seen, curves(vowel, 6000)).met
    assert figures.false_closures(seen, curves(labial, 6000)).met


def test_lips_that_part_before_the_voice_anticipate_it() -> None:
    phones = [p for s in range(0, 60, 3) for p in (Phone("", s, s + 1.2), Phone("a", s + 1.2, s + 3))]
    truth = curves(phones, 6000)
    t = still().times % 3
    for ahead, met in ((0.0, False), (0.12, True)):
        gap = np.where(t < 1.2 - ahead - 1e-6, 0.0, 6.0)
        assert figures.anticipation(replace(still(), gap=gap), truth).met is met


def test_a_movement_that_comes_again_is_a_repetition() -> None:
    rng = np.random.default_rng(1)
    smooth = np.hanning(25) / np.hanning(25).sum()

    def wander(n: int) -> np.ndarray:
        return np.stack([np.convolve(rng.standard_normal(n + 24), smooth, "valid") for _ in range(2)], 1)

    assert figures.repetition(replace(still(), nose=wander(N))).met
    assert not figures.repetition(replace(still(), nose=np.tile(wander(125), (12, 1)))).met
    assert not figures.repeated(list(range(126)) * 10, 25).met
    assert figures.repeated(rng.integers(0, 126, N).tolist(), 25).met


def test_blinks_are_counted_and_their_lids_judged() -> None:
    lids, luma = np.ones(N), np.full(N, 0.7)
    for second in (2, 5, 6, 14, 17, 18, 29, 31, 35, 36, 47, 50, 52, 59):
        lids[second * 25 : second * 25 + 3] = 0.3
    count, dark = figures.blinks(replace(still(), lids=lids, lid_luma=luma))
    assert count.met and dark.met
    luma[50:53] = 0.3
    assert not figures.blinks(replace(still(), lids=lids, lid_luma=luma))[1].met


def test_eyes_that_look_wide_are_told() -> None:
    gaze = np.zeros((N, 2))
    gaze[100:140, 0] = 2.9
    assert figures.gaze(replace(still(), gaze=gaze)).value.endswith("2.9 deg")
    for widest, met in ((2.9, True), (3.2, False)):
        for start in range(100, 1400, 200):
            gaze[start : start + 40, 0] = widest
        assert figures.gaze(replace(still(), gaze=gaze)).met is met


def test_eyes_that_are_still_in_a_head_that_turns_are_seen_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    made = motion.poses(Fraction(5), 1)
    fixed = replace(made, gaze=np.zeros_like(made.gaze), lids=np.zeros_like(made.lids))
    monkeypatch.setattr(motion, "poses", lambda fps, frame_bytes: fixed)
    picture = load_image(CAST["lumi"].read_bytes())
    *_, body = make_loop(picture, body_id="e", width=512, height=512, fps=Fraction(5), fit="crop")
    assert isinstance(body, BodyLoop)
    seen = watch((k / 5, to_rgb(body.frame(k), 512, 512)) for k in range(len(body)))
    assert np.ptp(seen.head[:, 0]) > 10 and np.ptp(seen.head[:, 1]) > 8
    assert np.nanmax(np.abs(seen.gaze)) < 2.6


def test_a_still_mouth_that_is_moved_about_hardly_seems_to_open() -> None:
    picture = cv2.resize(load_image(CAST["amara"].read_bytes()), (512, 512), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(1)
    moved = [
        cv2.warpAffine(picture, np.array([[1, 0, x], [0, 1, y]]), (512, 512), borderMode=cv2.BORDER_REPLICATE)
        for x, y in rng.uniform(-4, 4, (40, 2))
    ]
    seen = watch((k / 25, np.asarray(rgb, np.uint8)) for k, rgb in enumerate(moved))
    assert seen.gap.std() < 0.5  # mm


def test_the_lips_that_are_asked_for_are_judged_beside_those_that_are_seen() -> None:
    engine = PortraitEngine({})
    handle, _ = prepare(engine, CAST["lumi"], Fraction(25), 256)
    clip = spoken(6)
    told = asked(engine, handle, still(), clip, Fraction(25))
    values = {figure.name: figure for figure in told}
    assert values["r0 against the phones"].met and values["lag of the lips"].met
    assert values["lip steps over 150 / 225 mm/s"].value == "0.0% / 0.00%"


def test_the_pitch_of_a_buzz_is_found_and_a_chin_that_follows_it() -> None:
    t = np.arange(16_000 * 60) / 16_000
    glide = 140 * 2 ** (np.sin(2 * np.pi * 0.4 * t) * 0.3)
    phase = 2 * np.pi * np.cumsum(glide) / 16_000
    pcm = (3000 * sum(np.sin(k * phase) / k for k in range(1, 9))).astype(np.int16)
    track = pitch(pcm)
    expected = 12 * np.log2(glide[80::160] / 100)
    assert np.nanmedian(np.abs(track - expected[: len(track)])) < 0.3
    head = np.zeros((N, 3))
    assert not figures.with_pitch(replace(still(), head=head), track).met
    head[:, 1] = np.sin(2 * np.pi * 0.4 * (np.arange(N) + 0.5) / 25)
    assert figures.with_pitch(replace(still(), head=head), track).met
