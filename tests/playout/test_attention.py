"""What a silent face waits for, as it is told: no I/O, a clock by hand."""

from __future__ import annotations

import pytest

from visavis.playout.attention import LISTEN_S, Attention, FaceState
from visavis.playout.idle import IdleState


class Talk:
    """A user, and a face that is told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.attention = Attention(lambda: self.now)

    def look(self, seconds: float) -> list[IdleState]:
        """The states meanwhile, each once."""
        seen = list[IdleState]()
        for _ in range(round(seconds * 20)):
            self.now += 0.05
            if (state := self.attention.state()) not in seen[-1:]:
                seen.append(state)
        return seen

    def user(self, seconds: float) -> list[IdleState]:
        """Speaks for so long."""
        self.attention.voice(True)
        seen = self.look(seconds)
        self.attention.voice(False)
        return seen


def test_who_is_spoken_to_listens_nods_once_and_thinks() -> None:
    talk = Talk()
    assert talk.look(5) == ["idle"]
    assert talk.user(3) == ["listening"]
    assert talk.look(8) == ["paused", "listening", "thinking", "idle"]
    assert talk.user(0.5) == ["listening"]
    assert "paused" not in talk.look(3)


def test_a_nod_that_would_come_late_is_left_out() -> None:
    talk = Talk()
    talk.user(3)
    talk.now += 1.5
    assert talk.look(1) == ["thinking"]


@pytest.mark.parametrize(
    ("told", "silent", "spoken_to"),
    [
        ("idle", "idle", "idle"),
        ("thinking", "thinking", "thinking"),
        ("listening", "idle", "listening"),
        ("speaking", "idle", "listening"),
    ],
)
def test_who_knows_better_is_believed(told: FaceState, silent: IdleState, spoken_to: IdleState) -> None:
    talk = Talk()
    talk.user(0.5)
    talk.look(LISTEN_S + 1)
    talk.attention.tell(told)
    assert talk.look(1) == [silent]
    assert talk.user(2) == [spoken_to]
    assert talk.look(LISTEN_S + 1)[-1] == silent
    talk.attention.tell("")
    assert talk.look(0.5) == ["thinking"]


def test_who_is_told_to_listen_and_hears_of_no_voice_listens() -> None:
    talk = Talk()
    talk.attention.tell("listening")
    assert talk.look(10) == ["listening"]
    talk.attention.voice(False)  # somebody hears voices, and there was none
    assert talk.look(1) == ["idle"]


def test_who_speaks_thinks_no_more() -> None:
    talk = Talk()
    talk.attention.tell("thinking")
    talk.attention.answer()
    assert talk.look(1) == ["idle"]
    talk.attention.tell("listening")
    talk.attention.answer()
    assert talk.look(1) == ["listening"]
