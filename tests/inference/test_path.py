"""Which body frames a turn is spoken on: with the melody of the voice, through cuts only, and as it was told."""

from __future__ import annotations

import itertools
from fractions import Fraction
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.portrait import motion
from inference_server.engines.base import BodyLoop
from inference_server.streams.admission import SpeakingSlots
from inference_server.streams.path import BodyPath, BodySegments, segments_of
from inference_server.streams.prosody import Prosody
from inference_server.streams.session import Session, SessionParameters
from visavis.frames import frame_at, frame_start

FPS = Fraction(25)


class Body:
    """What a path needs of a body."""

    def __init__(
        self,
        jumps: tuple[tuple[int, int], ...],
        landmarks: NDArray[np.float32],
        segments: tuple[tuple[int, str], ...],
    ) -> None:
        self.jumps, self.landmarks, self.segments = jumps, landmarks, segments

    def __len__(self) -> int:
        return len(self.landmarks)


def body(jumps: tuple[tuple[int, int], ...] | None = None) -> BodyLoop:
    """A body that moves as portraits do."""
    poses = motion.poses(FPS, 1)
    marks = np.zeros((len(poses.moves), 468, 2), np.float32)
    marks[:, 1, 1] = 100 + 40 * poses.moves[:, 4]
    return cast(BodyLoop, Body(poses.jumps if jumps is None else jumps, marks, poses.segments))


def segments() -> BodySegments:
    found = segments_of(body())
    assert found is not None
    return found


def melody(seconds: float, seed: int = 3) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """A buzz whose pitch wanders, and its semitones at each sample."""
    rng = np.random.default_rng(seed)
    knots = rng.uniform(-4, 4, int(seconds / 0.5) + 2)
    t = np.arange(int(16_000 * seconds)) / 16_000
    semitones = np.interp(t, np.arange(len(knots)) * 0.5, knots)
    phase = 2 * np.pi * np.cumsum(130 * 2 ** (semitones / 12)) / 16_000
    sound = sum(np.sin(k * phase) / k for k in range(1, 8))
    return (3000 * sound).astype(np.int16), semitones


def walk(path: BodyPath, pcm: NDArray[np.int16], ahead: int, frames: int) -> list[int]:
    path.begin(0, 0)
    indices, given = [], 0
    for k in range(frames):
        known = min(len(pcm), frame_start(k, FPS) + ahead)
        path.prosody.append(pcm[given:known])
        given = known
        indices.append(path.loop_index(k))
    return indices


def conversation(found: BodySegments, window: int = 6400) -> Session:
    """One that speaks; its engine and its client hear nothing."""
    return Session(
        SessionParameters("s", "a", FPS, found.loop_length, 3, window, 10**6, 10**6, segments=found),
        SpeakingSlots(1),
        new_track=itertools.count(1).__next__,
        command=lambda _: None,
        say=lambda _: None,
    )


@pytest.mark.parametrize("size", [320, 777, 16_000])
def test_pitch_is_known_as_it_comes(size: int) -> None:
    pcm, semitones = melody(6.0)
    prosody = Prosody(0)
    for at in range(0, len(pcm), size):
        prosody.append(pcm[at : at + size])
    inside = np.arange(8000, 88_000, 640)
    heights = prosody.heights(inside)
    assert np.corrcoef(heights, semitones[inside])[0, 1] > 0.95
    assert abs(prosody.known - len(pcm)) < 1000


def test_silence_and_noise_have_no_pitch() -> None:
    prosody = Prosody(0)
    prosody.append(np.zeros(16_000, np.int16))
    prosody.append(np.random.default_rng(1).integers(-3000, 3000, 16_000).astype(np.int16))
    assert np.isnan(prosody.heights(np.arange(0, 32_000, 640))).mean() > 0.9


def test_a_turn_that_begins_later_has_its_pitch_at_its_own_samples() -> None:
    pcm, _ = melody(4.0)
    whole, later = Prosody(0), Prosody(32_000)
    whole.append(pcm)
    later.append(pcm[32_000:])
    at = np.arange(36_000, 60_000, 640)
    assert np.corrcoef(whole.heights(at), later.heights(at))[0, 1] > 0.99


def test_the_chin_follows_a_voice_that_is_ahead() -> None:
    pcm, semitones = melody(60.0)
    found = segments()
    indices = walk(BodyPath(found, FPS, Prosody(0), 1), pcm, 32_000, 1450)
    tone = semitones[[frame_start(k, FPS) + 320 for k in range(1450)]]
    assert np.corrcoef(found.chin[indices], tone)[0, 1] > 0.4


def test_a_path_goes_on_waits_at_a_cut_or_takes_a_jump() -> None:
    pcm, _ = melody(60.0)
    found = segments()
    indices = walk(BodyPath(found, FPS, Prosody(0), 2), pcm, 6400, 1400)
    jumps = set(body().jumps)
    for before, after in pairwise(indices):
        on = after == (before + 1) % found.loop_length
        assert on or (before, after) in jumps or (before == after and after in found.starts)
    starts = [after for before, after in pairwise(indices) if after in found.starts and after != before]
    assert len(set(starts)) == len(found.starts)


@pytest.mark.parametrize("ahead", [1280, 32_000])
@pytest.mark.parametrize("turn_s", [6, 30])
def test_who_speaks_looks_away_now_and_then_however_much_of_the_voice_is_known(
    ahead: int, turn_s: int
) -> None:
    pcm, _ = melody(turn_s + 2.0)
    found = segments()
    assert [kind for start, kind in body().segments if start in found.looks] == ["away", "glance", "away"]
    looks = 0
    for seed in range(120 // turn_s):
        path = BodyPath(found, FPS, Prosody(0), seed)
        indices = walk(path, pcm, ahead, turn_s * 25)
        looks += sum(b in found.looks and b != a for a, b in pairwise(indices))
    assert 2.5 * 2 <= looks <= 7.5 * 2  # there and back: 5 to 15 shifts of the gaze a minute


def test_the_turns_of_a_stream_know_what_was_shown_in_those_before() -> None:
    """Two segments in an order that was seen already, over a minute of turns of five seconds."""
    found = segments()
    again = 0
    for call in range(4):
        session = conversation(found)
        order, at = list[int](), 0
        for number in range(1, 13):
            pcm, _ = melody(5.0, 50 * call + number)
            session.turn_start(number, number, 0, 0.0)
            session.anchor(number, number, 0, at, 0.0)
            session.audio(number, number, 0, pcm.tobytes(), 0.0)
            session.track_ready(number, 125, False, 0.0)
            (turn,) = session.turns_due()
            indices = [turn.loop_index(k) for k in range(125)]
            order += [b for a, b in pairwise([at, *indices]) if b in found.starts and b != a]
            at = indices[-1]
        pairs = list(pairwise(order))
        again += len(pairs) - len(set(pairs))
    assert again < 40  # of some 170; each turn for itself: 59


def test_what_was_chosen_but_never_shown_is_not_remembered() -> None:
    """A turn is drawn ahead, and interrupted; a body that is elsewhere is led anew."""
    found, said = segments(), melody(10.0)[0].tobytes()
    session = conversation(found, len(said))
    session.turn_start(1, 1, 0, 0.0)
    session.anchor(1, 1, 0, 0, 0.0)
    session.audio(1, 1, 0, said, 0.0)
    turn = session._turns[1]
    told = [turn.loop_index(k) for k in range(250)]
    known = list(session._played)
    session.anchor(1, 1, 16_000 * 8, found.starts[0], 0.0)  # frame 200
    before = [found.at(index) for index in told[:200]]
    shown = [start for k, start in enumerate(before) if k == 0 or start != before[k - 1]]
    there = [found.starts[0]] if shown[-1] != found.starts[0] else []
    assert session._played == [*shown, *there] and len(known) > len(shown)
    assert turn.loop_index(249) < found.loop_length
    session.playhead(1, 1, 16_000 * 4, True, 0.0)
    session.interrupt(2, 0.0)
    assert session._played == [s for k, s in enumerate(before[:101]) if k == 0 or s != before[k - 1]]


def test_nobody_is_led_to_the_end_of_time() -> None:
    """A client may name any sample, of an anchor and of its sound: the way there is not chosen cut by cut."""
    found = segments()
    for sample in (10**8, 2**62):
        for origin in (0, sample):
            session = conversation(found)
            session.turn_start(1, 1, 0, 0.0)
            session.anchor(1, 1, 0, found.starts[0], 0.0)
            session.audio(1, 1, origin, bytes(6400), 0.0)
            turn = session._turns[1]
            frame = frame_at(sample, FPS)
            assert turn.loop_index(frame) == (found.starts[0] + frame) % found.loop_length
            assert turn._path is not None and len(turn._path._path) < 2000
            session.anchor(1, 1, sample, 5, 0.0)
            assert [turn.loop_index(frame + k) for k in range(3)] == [5, 6, 7]


def test_eyes_move_within_a_picture() -> None:
    for fps in (24, 25, 30, 50):
        poses = motion.poses(Fraction(fps), 1)
        steps = np.abs(np.diff(poses.gaze[:, 0]))
        assert ((steps > 0.5) == (steps > 1.5)).all() and (steps > 1.5).sum() == 6


def test_what_was_told_is_kept_and_an_anchor_elsewhere_begins_anew() -> None:
    pcm, _ = melody(20.0)
    path = BodyPath(segments(), FPS, Prosody(0), 3)
    told = walk(path, pcm, 16_000, 300)
    path.prosody.append(pcm[-16_000:])
    assert [path.loop_index(k) for k in range(300)] == told
    assert path.agrees(120, told[120]) and not path.agrees(120, told[120] + 1)
    path.begin(120, 7)
    assert path.loop_index(120) == 7 and path.loop_index(121) == 8


def test_bodies_without_segments_have_no_path() -> None:
    assert segments_of(body(())) is None
    assert segments_of(body(((3, 90), (90, 3)))) is None


def test_what_is_told_of_a_place_where_the_body_is_not_cut_leads_nowhere() -> None:
    whole = body()
    stray = cast(BodyLoop, Body(whole.jumps, whole.landmarks, ((1, "away"), (len(whole) + 3, "glance"))))
    found = segments_of(stray)
    assert found is not None
    path = BodyPath(found, FPS, Prosody(0), seed=1)
    pcm, _ = melody(1.0)
    indices = walk(path, pcm, 8000, 1500)
    assert all(b == (a + 1) % len(whole) or a == b or (a, b) in whole.jumps for a, b in pairwise(indices))
