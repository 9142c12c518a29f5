"""Bodies on disk and pictures drawn from them, and audio on its way in."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.bt601 import exact_rgb
from visavis.audio import Resampler
from visavis.client.body_cache import Body, BodyCache
from visavis.client.model import Avatar
from visavis.errors import BodyCorrupt
from visavis.frames import Frame, Rect, crop_i420
from visavis.playout.compositor import Compositor
from visavis.playout.playout import Picture
from visavis.rgb import rgb_numpy, to_rgb

W, H, N = 16, 12, 5
SIZE = 4096 + N * W * H * 3 // 2


def pixels(seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.integers(16, 236, W * H * 3 // 2, np.uint8).tobytes() for _ in range(N)]


def avatar(seed: int = 0) -> Avatar:
    digest = hashlib.sha256(b"".join(pixels(seed))).digest()
    return Avatar(f"avatar{seed}", "body", digest, W, H, Fraction(25), N, ((1, 3),))


def fill(cache: BodyCache, seed: int = 0) -> None:
    with cache.writer(avatar(seed)) as writer:
        for frame in pixels(seed):
            writer.write(frame)
        writer.commit()


def test_a_body_is_kept_between_caches_and_read_only(tmp_path: Path) -> None:
    assert BodyCache(tmp_path).get(avatar()) is None
    fill(BodyCache(tmp_path))
    body = BodyCache(tmp_path).get(avatar())
    assert body is not None and len(body) == N and body.jumps == ((1, 3),)
    assert [body.frame(i).tobytes() for i in range(N)] == pixels()
    assert body.frame(N + 2).tobytes() == pixels()[2]
    with pytest.raises(ValueError, match="read-only"):
        body.frames[0, 0, 0] = 1


def test_equal_frames_are_kept_once(tmp_path: Path) -> None:
    shown = [pixels()[k] for k in (0, 1, 2, 1, 0)]
    told = replace(avatar(), body_sha256=hashlib.sha256(b"".join(shown)).digest(), segments=((0, "nod"),))
    cache = BodyCache(tmp_path)
    with cache.writer(told) as writer:
        for frame in shown:
            writer.write(frame)
        writer.commit()
    (path,) = tmp_path.glob("*.body")
    assert path.stat().st_size == 4096 + 3 * W * H * 3 // 2 + 4 * N
    body = BodyCache(tmp_path).get(told)
    assert body is not None and len(body) == N and body.segments == ((0, "nod"),)
    assert [body.frame(i).tobytes() for i in range(N)] == shown
    assert body.frames.shape == (N, H * 3 // 2, W) and np.asarray(body.frames).tobytes() == b"".join(shown)
    damaged = bytearray(path.read_bytes())
    damaged[-4:] = b"\xff" * 4
    path.write_bytes(damaged)
    assert BodyCache(tmp_path).get(told) is None and not path.exists()


@pytest.mark.parametrize("told", [False, True])
def test_a_picture_that_comes_again_may_be_told_by_an_earlier_frame(tmp_path: Path, told: bool) -> None:
    """The file is the same as of a server that sends it again."""
    shown = (0, 1, 2, 1, 0)
    frames = [pixels()[k] for k in shown]
    made = replace(avatar(), body_sha256=hashlib.sha256(b"".join(frames)).digest())
    cache = BodyCache(tmp_path)
    with cache.writer(made) as writer:
        for index, picture in enumerate(shown):
            if told and picture != index:
                writer.repeat(picture)
            else:
                writer.write(frames[index])
        writer.commit()
    body = cache.get(made)
    assert body is not None and [body.frame(i).tobytes() for i in range(N)] == frames
    (path,) = tmp_path.glob("*.body")
    assert path.stat().st_size == 4096 + 3 * W * H * 3 // 2 + 4 * N


@pytest.mark.parametrize("index", [-1, 1, 2, 1 << 31])
def test_a_picture_that_has_not_come_cannot_come_again(tmp_path: Path, index: int) -> None:
    with BodyCache(tmp_path).writer(avatar()) as writer:
        writer.write(pixels()[0])
        with pytest.raises(BodyCorrupt, match=f"repeats frame {index}, which has not come"):
            writer.repeat(index)
        for _ in range(N - 1):
            writer.repeat(0)
        with pytest.raises(BodyCorrupt, match="expected 5 frames"):
            writer.repeat(0)
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_is_not_what_its_digest_says_is_not_kept(tmp_path: Path) -> None:
    cache = BodyCache(tmp_path)
    with cache.writer(avatar()) as writer:
        for frame in pixels(1):
            writer.write(frame)
        with pytest.raises(BodyCorrupt, match="fetch the body again"):
            writer.commit()
    with cache.writer(avatar()) as writer, pytest.raises(BodyCorrupt, match="has 3 bytes"):
        writer.write(b"123")
    with cache.writer(avatar()) as writer:
        for frame in pixels()[:-1]:
            writer.write(frame)
        with pytest.raises(BodyCorrupt):
            writer.commit()
    with cache.writer(avatar()) as writer:
        for frame in pixels():
            writer.write(frame)
        with pytest.raises(BodyCorrupt):
            writer.write(pixels()[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "header", "empty"])
def test_a_damaged_file_is_thrown_away(tmp_path: Path, damage: str) -> None:
    fill(BodyCache(tmp_path))
    path = next(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    elif damage == "cut":
        del data[-1]
    elif damage == "header":
        data[:4096] = b"[1]".ljust(4096)
    else:
        data.clear()
    path.write_bytes(data)
    assert BodyCache(tmp_path).get(avatar()) is None
    assert list(tmp_path.iterdir()) == []


def test_the_least_recently_used_body_goes_and_stays_readable_where_it_is_mapped(tmp_path: Path) -> None:
    cache = BodyCache(tmp_path, max_bytes=2 * SIZE)
    fill(cache, 0)
    fill(cache, 1)
    for i, path in enumerate(sorted(tmp_path.iterdir(), key=lambda p: p.stat().st_mtime_ns)):
        os.utime(path, (1000 + i, 1000 + i))
    first = cache.get(avatar(0))  # used: now the younger of the two
    second = BodyCache(tmp_path).get(avatar(1))
    os.utime(next(p for p in tmp_path.iterdir() if avatar(1).body_sha256.hex() in p.name), (1000, 1000))
    fill(cache, 2)
    assert first is not None and cache.get(avatar(0)) is not None and cache.get(avatar(2)) is not None
    assert cache.get(avatar(1)) is None
    assert second is not None and second.frame(4).tobytes() == pixels(1)[4]


def test_what_a_crashed_writer_left_is_swept(tmp_path: Path) -> None:
    cache = BodyCache(tmp_path)
    orphan, fresh = tmp_path / ".new-a.body", tmp_path / ".new-b.body"
    for path in (orphan, fresh):
        path.write_bytes(b"half")
    os.utime(orphan, (1000, 1000))
    fill(cache)
    assert not orphan.exists() and fresh.exists()


def test_bodies_of_one_digest_and_another_shape_do_not_meet(tmp_path: Path) -> None:
    fill(BodyCache(tmp_path))
    assert BodyCache(tmp_path).get(replace(avatar(), width=H, height=W)) is None
    assert BodyCache(tmp_path).get(avatar()) is not None


RECT = Rect(4, 2, 8, 6)


@pytest.fixture
def body() -> Body:
    frames = np.stack([np.frombuffer(p, np.uint8).reshape(H * 3 // 2, W) for p in pixels()])
    return Body(W, H, Fraction(25), frames, avatar().body_sha256)


def test_a_picture_is_the_body_with_the_mouth_pasted_over_it(body: Body) -> None:
    compositor = Compositor()
    assert compositor.compose(Picture(2), body).tobytes() == pixels()[2]
    patch = bytes([99]) * RECT.i420_size
    drawn = compositor.compose(Picture(3, Frame(1, 1, 0, 3, "mouth", RECT, patch)), body)
    assert crop_i420(drawn, W, H, RECT) == patch
    shown = drawn.copy()
    outside = drawn != body.frame(3)
    assert outside.sum() <= RECT.i420_size
    assert np.array_equal(compositor.compose(Picture(4, hold=True), body), shown)


def test_fades_are_weighed_against_the_picture_before_them(body: Body) -> None:
    compositor = Compositor()
    held = compositor.compose(
        Picture(0, Frame(1, 1, 0, 0, "mouth", RECT, bytes([99]) * RECT.i420_size)), body
    ).astype(float)
    for index, weight in ((1, 0.75), (2, 0.5), (3, 0.25)):
        mixed = compositor.compose(Picture(index, fade=weight), body).astype(float)
        assert np.abs(mixed - (held * weight + body.frame(index) * (1 - weight))).max() <= 0.51
    patch = bytes([200]) * RECT.i420_size
    back = compositor.compose(Picture(4, Frame(1, 1, 0, 4, "mouth", RECT, patch), fade=0.25), body)
    under = np.frombuffer(crop_i420(body.frame(4), W, H, RECT), np.uint8).astype(float)
    got = np.frombuffer(crop_i420(back, W, H, RECT), np.uint8).astype(float)
    assert np.abs(got - (0.25 * under + 150)).max() <= 0.51


def test_rgb_is_bt601_with_and_without_opencv() -> None:
    picture = np.random.default_rng(3).integers(16, 236, (48, 32), np.uint8)
    exact = exact_rgb(picture, 32, 32).astype(int)
    assert np.abs(rgb_numpy(picture, 32, 32) - exact).max() <= 1
    assert np.abs(to_rgb(picture, 32, 32) - exact).max() <= 2
    extremes = np.zeros((48, 32), np.uint8)
    exact = exact_rgb(extremes, 32, 32).astype(int)
    assert np.abs(rgb_numpy(extremes, 32, 32) - exact).max() <= 1


RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000]


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_comes_through_any_rate(rate: int) -> None:
    tone = np.rint(10000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.int16)
    resampler = Resampler(rate)
    out = np.concatenate((resampler.push(tone), resampler.flush()))
    assert len(out) == 16000
    ideal = 10000 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    error = (out - ideal)[400:-400]
    assert 10 * np.log10(np.mean(ideal**2) / np.mean(error**2)) > 75


@pytest.mark.parametrize("rate", [r for r in RATES if r > 20000])
def test_what_does_not_fit_is_filtered_out(rate: int) -> None:
    tone = np.rint(20000 * np.sin(2 * np.pi * 9500 * np.arange(rate) / rate)).astype(np.int16)
    resampler = Resampler(rate)
    out = np.concatenate((resampler.push(tone), resampler.flush()))
    assert np.abs(out[400:-400]).max() <= 4


@settings(max_examples=50, deadline=None)
@given(rate=st.sampled_from(RATES), cuts=st.lists(st.integers(0, 900), max_size=30), seed=st.integers(0, 9))
def test_how_the_input_is_cut_does_not_matter(rate: int, cuts: list[int], seed: int) -> None:
    pcm = np.random.default_rng(seed).integers(-30000, 30000, 4000, np.int16)
    whole, cut = Resampler(rate), Resampler(rate)
    pieces, at = [], 0
    for length in [*cuts, len(pcm)]:
        pieces.append(cut.push(pcm[at : at + length]))
        at += length
    expected = np.concatenate((whole.push(pcm), whole.flush()))
    assert (np.concatenate((*pieces, cut.flush())) == expected).all()
    again = np.concatenate((cut.push(pcm), cut.flush()))  # a flush is a fresh start
    assert (again == expected).all()


def test_a_turns_resampler_works_out_no_filters_that_another_had(monkeypatch: pytest.MonkeyPatch) -> None:
    Resampler(22_050)
    monkeypatch.setattr(np, "i0", None)  # the window's Bessel function costs most
    Resampler(22_050)


def test_rates_that_make_no_sense_are_refused() -> None:
    for rate in (0, 3999, 192_001, 15_999):
        with pytest.raises(ValueError, match=f"a sample rate of {rate} Hz"):
            Resampler(rate)
