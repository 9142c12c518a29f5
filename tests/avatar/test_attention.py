"""What a silent face does, by the caller's voice and by what the conversation says: no I/O, a clock by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.avatar import attention
from orchestrator.avatar.attention import CallerAttention
from orchestrator.worker.messages import FaceState
from visavis.playout.attention import LISTEN_S
from visavis.playout.idle import IdleState

QUIET = np.zeros(160, np.int16)
RNG = np.random.default_rng(1)


def noise(level: float) -> NDArray[np.int16]:
    """20 ms at 16 kHz."""
    return RNG.normal(0, level, 320).astype(np.int16)


class Room:
    """A caller, and a face that hears."""

    def __init__(self) -> None:
        self.now = 100.0
        self.attention = CallerAttention(lambda: self.now)

    def hear(self, seconds: float, level: float, sent: NDArray[np.int16] = QUIET) -> list[IdleState]:
        """The states meanwhile, each once."""
        seen = list[IdleState]()
        for _ in range(round(seconds * 50)):
            self.now += 0.02
            self.attention.heard(noise(level), sent, 8000)
            if (state := self.attention.state()) not in seen[-1:]:
                seen.append(state)
        return seen


@pytest.fixture
def room() -> Room:
    made = Room()
    assert made.hear(1.0, 30) == ["idle"]
    return made


@pytest.mark.parametrize("background", [0, 30, 300])
def test_who_is_spoken_to_listens_nods_once_and_thinks(background: float) -> None:
    room = Room()
    room.hear(1.0, background)
    assert room.hear(2.0, 4000) == ["idle", "listening"]
    assert room.hear(8.0, background) == ["listening", "paused", "listening", "thinking", "idle"]


def test_a_word_is_no_speech_to_nod_to(room: Room) -> None:
    room.hear(0.4, 4000)
    assert "paused" not in room.hear(2.0, 30)


def test_a_nod_that_would_come_late_is_left_out(room: Room) -> None:
    room.hear(2.0, 4000)
    for _ in range(80):
        room.now += 0.02
        room.attention.heard(noise(30), QUIET, 8000)
    assert room.attention.state() == "thinking"


def test_steady_noise_is_no_voice(room: Room) -> None:
    room.hear(20.0, 1500)
    assert room.hear(10.0, 1500) == ["idle"]


def test_an_echo_of_what_is_said_is_no_caller(room: Room) -> None:
    sent = np.full(160, 3000, np.int16)
    assert room.hear(3.0, 2000, sent) == ["idle"]
    assert room.hear(attention._ECHO_S - 0.1, 2000) == ["idle"]


def test_a_caller_who_sends_nothing_any_more_is_not_listened_to(room: Room) -> None:
    room.hear(2.0, 4000)
    room.now += 10
    room.hear(0.1, 30)
    room.attention.state()
    assert room.attention.state() == "idle"


@pytest.mark.parametrize(
    ("told", "silent", "spoken_to"),
    [
        ("idle", "idle", "idle"),
        ("thinking", "thinking", "thinking"),
        ("listening", "idle", "listening"),
        ("speaking", "idle", "listening"),
    ],
)
def test_a_conversation_knows_better(
    room: Room, told: FaceState, silent: IdleState, spoken_to: IdleState
) -> None:
    room.attention.tell(told)
    assert room.hear(1.0, 30) == [silent]
    assert room.hear(1.0, 4000)[-1] == spoken_to
    room.hear(LISTEN_S + 1, 30)
    assert room.attention.state() == silent
    room.attention.tell("")
    assert room.attention.state() == "thinking"


def test_a_moment_of_digital_silence_makes_no_voice_of_the_noise_after_it(room: Room) -> None:
    room.hear(0.1, 0)  # as of packets that did not come
    room.hear(20.0, 400)
    assert room.hear(1.0, 400) == ["idle"]
    assert room.hear(2.0, 8000) == ["idle", "listening"]
    assert "paused" in room.hear(2.0, 400)


def test_a_phone_that_sends_nothing_in_silence_is_no_caller_who_speaks_on(room: Room) -> None:
    room.hear(2.0, 4000)
    seen = list[IdleState]()
    for _ in range(80):
        room.now += 0.1
        if (state := room.attention.state()) not in seen[-1:]:
            seen.append(state)
    assert seen == ["listening", "paused", "listening", "thinking", "idle"]
