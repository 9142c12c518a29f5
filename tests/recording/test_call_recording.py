"""A call's recording from what a media worker hands over, without a process: decoded back."""

from __future__ import annotations

import io

import numpy as np
import pytest

from orchestrator.recording.call_recording import STEP, CallRecording
from orchestrator.recording.messages import PartState, RecordedSound
from orchestrator.recording.movie import MARK
from orchestrator.rtp.h264 import split_annex_b
from tests.recording.support import Pcm, onset, pictures, played, shown, sound


class Kept(io.BytesIO):
    """A file whose content outlives it."""

    data = b""

    def close(self) -> None:
        self.data = self.getvalue()
        super().close()


class Desk:
    """A recording of one call, and what came of it."""

    def __init__(self, picture: bool = True, number: int = 1) -> None:
        self.files: dict[int, Kept] = {}
        self.states: list[PartState] = []
        self.call = CallRecording("c1", number, picture, self._open, self.states.append)

    def _open(self, number: int) -> Kept:
        return self.files.setdefault(number, Kept())


def tone(samples: int, hertz: float, rate: int = 16_000) -> Pcm:
    return (9000 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.int16)


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_both_voices_and_the_picture_are_there_in_their_time(rate: int) -> None:
    """The caller speaks from 1 s on, we from 2 s on, as the picture flashes; what is kept is what was sent."""
    desk, sent = Desk(), pictures(100)
    caller = np.concatenate((np.zeros(16_000, np.int16), tone(48_000, 500)))
    ours = np.concatenate((np.zeros(2 * rate, np.int16), tone(2 * rate, 1000, rate)))
    for piece in range(200):
        if piece % 2 == 0:
            desk.call.show(shown(piece // 2, sent[piece // 2]))
        near, far = (
            caller[piece * STEP : (piece + 1) * STEP],
            ours[piece * rate // 50 : (piece + 1) * rate // 50],
        )
        desk.call.hear(sound(100 + piece - 100, near, far, rate))
    desk.call.close()
    (file,) = desk.files.values()
    seen = played(file.data)
    assert seen.units == [split_annex_b(picture) for picture, _ in sent]
    assert seen.times == pytest.approx([number / 25 for number in range(100)], abs=0.001)
    flash = seen.times[max(range(40, 60), key=seen.brightness.__getitem__)]
    assert flash == pytest.approx(2.0, abs=0.001)
    assert set(seen.starts.values()) == {0.0}
    assert onset(seen.tracks["caller"], 500) == pytest.approx(1.0, abs=0.012)
    assert onset(seen.tracks["avatar"], 1000) == pytest.approx(flash, abs=0.012)
    assert onset(seen.tracks["both"], 500) == pytest.approx(1.0, abs=0.012)
    assert onset(seen.tracks["both"], 1000) == pytest.approx(2.0, abs=0.012)
    assert np.abs(seen.tracks["caller"][20_000:]).max() == pytest.approx(9000, rel=0.1)
    assert seen.comment == MARK
    state = desk.states[-1]
    assert (state.over, state.seconds, state.width, state.size) == (True, 4.0, 128, len(file.data))


def test_what_was_flushed_is_readable_when_the_process_is_killed() -> None:
    desk, sent = Desk(), pictures(100)
    for piece in range(200):
        if piece % 2 == 0:
            desk.call.show(shown(piece // 2, sent[piece // 2]))
        desk.call.hear(sound(piece, tone(STEP, 500), tone(STEP, 1000)))
    desk.call.flush()
    left = played(desk.files[1].getvalue())
    assert len(left.units) >= 50 and left.units == [split_annex_b(p) for p, _ in sent[: len(left.units)]]
    assert min(len(track) for track in left.tracks.values()) >= 2 * 16_000
    desk.call.close()


def test_another_size_is_another_part_with_nothing_lost_between() -> None:
    desk = Desk(number=4)
    small, large = pictures(30), pictures(30, 192)
    for piece in range(120):
        number = piece // 2
        if piece % 2 == 0:
            desk.call.show(shown(number, small[number] if number < 30 else large[number - 30]))
        desk.call.hear(sound(piece, tone(STEP, 500), tone(STEP, 1000)))
    desk.call.close()
    assert [(state.number, state.over, state.width) for state in desk.states] == [
        (4, False, 128), (4, True, 128), (5, False, 192), (5, True, 192),
    ]  # fmt: skip
    first, second = (played(desk.files[number].data) for number in (4, 5))
    assert len(first.units) == len(second.units) == 30 and second.times[0] == 0.0
    assert desk.states[2].piece == 60
    assert len(first.tracks["caller"]) == pytest.approx(1.2 * 16_000, abs=1024)


def test_pictures_that_come_late_are_in_the_new_part_from_its_beginning() -> None:
    """Live pictures leave some milliseconds after the sound of their moment."""
    desk, small, large = Desk(), pictures(10), pictures(10, 192)
    for piece in range(46):
        if piece < 40:
            desk.call.hear(sound(piece, tone(STEP, 500), tone(STEP, 1000)))
        late = piece - 6
        if late >= 0 and late % 2 == 0:
            desk.call.show(shown(late // 2, small[late // 2] if late < 20 else large[late // 2 - 10]))
    desk.call.close()
    assert [len(played(desk.files[number].data).units) for number in (1, 2)] == [10, 10]
    assert desk.states[2].piece == 20


@pytest.mark.parametrize("paused", [False, True])
def test_what_is_left_out_is_silence_and_no_shift(paused: bool) -> None:
    """Pieces 50 to 99 never come, as from a congested worker, or are empty, as in a pause."""
    desk = Desk(picture=False)
    for piece in range(150):
        if not 50 <= piece < 100:
            desk.call.hear(
                sound(piece, tone(STEP, 500) if piece >= 100 else np.zeros(STEP, np.int16), tone(STEP, 1000))
            )
        elif paused:
            desk.call.hear(RecordedSound("c1", piece, 0, 8000))
    desk.call.close()
    seen = played(desk.files[1].data)
    assert onset(seen.tracks["caller"], 500) == pytest.approx(2.0, abs=0.012)
    assert np.abs(seen.tracks["avatar"][18_000:30_000]).max() < 200
    assert desk.states[-1].seconds == 3.0


def test_the_first_picture_stands_from_the_beginning() -> None:
    desk, sent = Desk(), pictures(20)
    for piece in range(40):
        if piece >= 10 and piece % 2 == 0:
            desk.call.show(shown(piece // 2, sent[piece // 2 - 5]))
        desk.call.hear(sound(piece, tone(STEP, 500), tone(STEP, 1000)))
    desk.call.close()
    assert played(desk.files[1].data).times[:3] == pytest.approx([0.0, 0.24, 0.28], abs=0.001)


def test_a_voice_call_has_a_recording_without_a_picture() -> None:
    desk = Desk(picture=False)
    desk.call.hear(sound(7, tone(STEP, 500), tone(STEP, 1000)))
    desk.call.close()
    assert [(state.number, state.over, state.width) for state in desk.states] == [(1, False, 0), (1, True, 0)]
    assert desk.states[0].piece == 7 and played(desk.files[1].data).units == []


def test_a_picture_that_never_comes_is_waited_for_a_second() -> None:
    desk = Desk()
    for piece in range(60):
        desk.call.hear(sound(piece, tone(STEP, 500), tone(STEP, 1000)))
    assert len(desk.states) == 1
    for number, picture in enumerate(pictures(5), 30):
        desk.call.show(shown(number, picture))  # switched on later: a part with a picture
    desk.call.close()
    assert [state.width for state in desk.states if state.over] == [0, 128]
    assert desk.states[1].seconds == pytest.approx(1.2)


def test_nothing_to_record_leaves_nothing() -> None:
    desk = Desk()
    desk.call.close()
    assert desk.files == {} and desk.states == []
