"""The sound → mouth track: the same bits for any chunking, frames on time, closed mouths in silence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.engines.base import ModelMissing
from inference_server.engines.portrait.features import FeatureStream, features
from inference_server.engines.portrait.visemes import REST, MouthParams, VisemeTrack, load_network
from visavis.frames import frame_start

FPS = Fraction(25)
Pcm = NDArray[np.int16]


def noise_speech(seconds: float, seed: int = 1) -> Pcm:
    """Bursts of coloured noise and tones with pauses: nothing like speech, all of the code's paths."""
    rng = np.random.default_rng(seed)
    n = int(seconds * 16_000)
    t = np.arange(n) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
    envelope = np.clip(np.sin(2 * np.pi * 2.3 * t) + np.sin(2 * np.pi * 0.4 * t), 0, 1)
    return ((buzz + rng.standard_normal(n)) * envelope * 4000).astype(np.int16)


def mouths(track: VisemeTrack, fps: Fraction = FPS) -> list[MouthParams]:
    return [track.params(k, fps) for k in range(track.ready(fps))]


def run(pcm: Pcm, sizes: list[int], origin: int = 0, fps: Fraction = FPS) -> list[MouthParams]:
    track = VisemeTrack(origin)
    at = i = 0
    while at < len(pcm):
        n = sizes[i % len(sizes)]
        track.append(pcm[at : at + n])
        at, i = at + n, i + 1
    track.end()
    return mouths(track, fps)


@pytest.mark.parametrize("sizes", [[16], [160], [317, 1, 5000], [640], [160_000], [333]])
def test_any_chunking_gives_the_same_bits(sizes: list[int]) -> None:
    pcm = noise_speech(4.3)
    for fps in (FPS, Fraction(30), Fraction(30000, 1001)):
        assert run(pcm, sizes, fps=fps) == run(pcm, [len(pcm)], fps=fps)


def test_every_frame_of_the_audio_is_ready_after_the_end() -> None:
    for samples in (1, 639, 640, 641, 16_000, 16_161):
        track = VisemeTrack()
        track.append(noise_speech(2.0)[:samples])
        track.end()
        assert track.ready(FPS) == -(-samples // 640)
        mouths(track)


@pytest.mark.parametrize(("fps", "wait_ms"), [(25, 72), (30, 72), (24, 84)])
def test_a_frame_is_ready_soon_after_its_slot(fps: int, wait_ms: int) -> None:
    pcm, rate = noise_speech(3.0), Fraction(fps)
    track = VisemeTrack()
    for at in range(0, len(pcm), 16):
        track.append(pcm[at : at + 16])
        ready = track.ready(rate)
        assert frame_start(ready + 1, rate) + wait_ms * 16 > at
        if ready:
            track.params(ready - 1, rate)
    with pytest.raises(IndexError):
        track.params(track.ready(rate), rate)


def test_frames_once_ready_do_not_change() -> None:
    pcm = noise_speech(3.0)
    whole = run(pcm, [len(pcm)])
    track = VisemeTrack()
    for at in range(0, len(pcm), 1000):
        track.append(pcm[at : at + 1000])
        assert mouths(track) == whole[: track.ready(FPS)]


def test_silence_is_silent() -> None:
    quiet = np.random.default_rng(3).integers(-6, 7, 32_000).astype(np.int16)
    for pcm in (np.zeros(32_000, np.int16), quiet):
        assert run(pcm, [3200]) == [REST] * 50


def test_a_turn_that_begins_later_gives_the_frames_of_the_whole_turn() -> None:
    pcm = noise_speech(6.0)
    pcm[:16_123] = 0
    whole = run(pcm, [len(pcm)])
    later = run(pcm[16_123:], [777], origin=16_123)
    assert len(later) == len(whole)
    assert later == whole


def test_history_is_enough() -> None:
    pcm = noise_speech(9.0)
    whole = run(pcm, [len(pcm)])
    net = load_network()
    start = 5 * 16_000
    first = start + (net.memory + 4) * 160
    tail = run(pcm[start:], [640], origin=start)
    k = -(-first // 640)
    assert tail[k:] == whole[k:]


def test_values_stay_in_their_ranges() -> None:
    for m in run(noise_speech(5.0), [640]):
        assert 0 <= m.open <= 1 and -1 <= m.width <= 1 and 0 <= m.close <= 1 and 0 <= m.fv <= 1


def test_audio_after_the_end_is_refused() -> None:
    track = VisemeTrack()
    track.end()
    assert track.ready(FPS) == 0
    with pytest.raises(ValueError, match="after the end"):
        track.append(np.zeros(10, np.int16))


def test_a_damaged_weights_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"not weights")
    with pytest.raises(ModelMissing, match=r"broken\.npz"):
        load_network(str(path))


def test_streamed_features_equal_those_of_the_whole_clip() -> None:
    pcm = noise_speech(2.0)
    stream = FeatureStream(0, -4)
    stream.append(pcm)
    stream.pad(2000)
    blocks = []
    while (block := stream.next_block()) is not None:
        blocks.append(block)
    got = np.concatenate(blocks)[4:204]
    np.testing.assert_allclose(got, features(pcm)[:200], atol=2e-5)
