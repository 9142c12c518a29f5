"""Audio in the engine process: heard turn about in slices, whatever the engine makes of it."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest

from inference_server.engine import messages as m
from inference_server.engine.voices import SLICE_BYTES, Voices
from inference_server.engines.base import EngineDead


class Track:
    def __init__(self, number: int, heard: list[tuple[int, int]]) -> None:
        self.number, self.heard = number, heard
        self.samples, self.ended, self.closed = 0, False, False

    def append(self, pcm: np.ndarray) -> None:
        if len(pcm) and pcm[0] == 13:
            raise RuntimeError("stumbled")
        if len(pcm) and pcm[0] == 66:
            raise EngineDead("gone")
        self.heard.append((self.number, len(pcm)))
        self.samples += len(pcm)

    def end(self) -> None:
        self.ended = True

    def ready(self) -> int:
        return self.samples // 640

    def close(self) -> None:
        self.closed = True


class Engine:
    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []
        self.tracks: list[Track] = []

    def track(self, handle: int, fps: Fraction, origin: int) -> Track:
        self.tracks.append(Track(len(self.tracks) + 1, self.heard))
        return self.tracks[-1]


class Stage:
    def __init__(self, turns: int) -> None:
        self.engine, self.said = Engine(), []
        self.voices = Voices(self.engine, {"anna": 0}, self.said.append)
        for number in range(1, turns + 1):
            self.voices.take(m.OpenTrack(number, "anna", (25, 1), 0))

    def listen(self) -> None:
        while self.voices.busy:
            self.voices.listen()


def pcm(samples: int, value: int = 1) -> bytes:
    return np.full(samples, value, "<i2").tobytes()


def test_a_long_turn_lets_the_others_be_heard() -> None:
    stage = Stage(3)
    stage.voices.take(m.Append(1, pcm(16_000 * 30)))
    stage.voices.take(m.Append(2, pcm(640)))
    stage.voices.take(m.Append(3, pcm(640)))
    stage.listen()
    assert stage.engine.heard[1:3] == [(2, 640), (3, 640)]
    assert max(samples for _, samples in stage.engine.heard) * 2 == SLICE_BYTES
    assert stage.engine.tracks[0].samples == 16_000 * 30
    assert {(1, 750), (2, 1), (3, 1)} <= {(said.track, said.frames) for said in stage.said}


def test_the_end_comes_after_all_of_the_audio() -> None:
    stage = Stage(1)
    stage.voices.take(m.Append(1, pcm(20_000)))
    stage.voices.take(m.EndTrack(1))
    assert not stage.engine.tracks[0].ended
    stage.listen()
    assert stage.engine.tracks[0].ended and stage.engine.tracks[0].samples == 20_000
    assert stage.said[-1] == m.Ready(1, 31, True)


def test_a_closed_turn_is_heard_no_more() -> None:
    stage = Stage(1)
    stage.voices.take(m.Append(1, pcm(20_000)))
    stage.voices.take(m.CloseTrack(1))
    stage.listen()
    assert stage.engine.heard == [] and stage.engine.tracks[0].closed
    assert stage.voices.track(1) is None and stage.said == []


def test_an_engine_that_stumbles_loses_that_turn_only() -> None:
    stage = Stage(2)
    stage.voices.take(m.Append(1, pcm(640, 13)))
    stage.voices.take(m.Append(2, pcm(640)))
    stage.listen()
    assert stage.said[0] == m.Failed("track", "1", "RuntimeError", "RuntimeError: stumbled")
    assert stage.said[1:] == [m.Ready(2, 1, False)]
    stage.voices.take(m.OpenTrack(3, "nobody", (25, 1), 0))
    assert stage.said[-1].what == "track" and stage.said[-1].key == "3"


def test_a_dead_engine_is_told_at_once() -> None:
    stage = Stage(1)
    stage.voices.take(m.Append(1, pcm(640, 66)))
    with pytest.raises(EngineDead):
        stage.voices.listen()


def test_clients_take_turns_however_many_turns_one_of_them_has(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stage = Stage(0)

    def slow(track: Track, pcm: np.ndarray) -> None:
        nonlocal now
        now += 0.001  # a slice takes a millisecond
        track.heard.append((track.number, len(pcm)))

    monkeypatch.setattr(Track, "append", slow)
    for number in range(1, 9):
        stage.voices.take(m.OpenTrack(number, "anna", (25, 1), 0, "greedy"))
        stage.voices.take(m.Append(number, pcm(16_000 * 5)))
    stage.voices.take(m.OpenTrack(9, "anna", (25, 1), 0, "modest"))
    stage.voices.take(m.Append(9, pcm(16_000)))
    while (
        stage.engine.tracks[8].number not in {n for n, _ in stage.engine.heard}
        or stage.voices._voices[9].behind
    ):
        stage.voices.listen()
    theirs = sum(number != 9 for number, _ in stage.engine.heard)
    assert sum(number == 9 for number, _ in stage.engine.heard) == 5
    assert theirs <= 8  # about as many as it had itself, rather than eight times as many


def test_clients_that_are_gone_are_forgotten() -> None:
    stage = Stage(0)
    for number in range(3000):
        stage.voices.take(m.OpenTrack(number, "anna", (25, 1), 0, f"client {number}"))
        stage.voices.take(m.CloseTrack(number))
    assert len(stage.voices._clients) <= 1024


class Loud(Track):
    """Knows how loud the voice is."""

    expected = 0.0

    @property
    def level(self) -> float:
        return self.samples / 1000

    def expect(self, level: float) -> None:
        assert not self.samples
        self.expected = level


def test_a_track_that_tells_its_level_is_told_that_of_the_turn_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(0)
    track = Loud(1, stage.engine.heard)
    monkeypatch.setattr(stage.engine, "track", lambda *about: track)
    stage.voices.take(m.OpenTrack(1, "anna", (25, 1), 0, level=1.5))
    stage.voices.take(m.Append(1, pcm(640)))
    stage.listen()
    assert track.expected == 1.5
    assert [said.level for said in stage.said if isinstance(said, m.Ready)] == [0.64]
    plain = Stage(1)
    plain.voices.take(m.Append(1, pcm(640)))
    plain.listen()
    assert [said.level for said in plain.said if isinstance(said, m.Ready)] == [None]
