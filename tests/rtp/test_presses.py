"""Which packets of telephone events are one press (RFC 4733), however phones number them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.support.hypothesis_profile  # noqa: F401
from orchestrator.rtp.dtmf import DIGITS, DtmfReceiver, event_payloads
from orchestrator.rtp.packet import Header

STEP, SECONDS = 160, 0.02


@dataclass(frozen=True)
class Sent:
    """One packet on its way: when it comes, in seconds, and what it says."""

    at: float
    ssrc: int
    sequence: int
    timestamp: int
    marker: bool
    payload: bytes

    @property
    def is_end(self) -> bool:
        return bool(self.payload[1] & 0x80)


class Keypad:
    """The model of a phone: a press is packets of a growing duration and its end thrice, 20 ms apart."""

    def __init__(self, ssrc: int = 7, sequence: int = 100, timestamp: int = 50_000) -> None:
        self.ssrc, self.sequence, self.timestamp = ssrc, sequence, timestamp
        self.at = 10.0

    def press(self, digit: str, steps: int = 5, pause: int = 6, clock: str = "still") -> list[Sent]:
        """``clock``: still, growing, new at the end, growing at the end, shared (it stands between presses)."""
        out = []
        began = self.timestamp
        for index, (marker, payload) in enumerate(event_payloads(digit, steps * STEP, STEP)):
            ended = bool(payload[1] & 0x80)
            stamp = began
            if clock == "growing" or (clock == "growing at the end" and ended):
                stamp += index * STEP
            elif clock == "new at the end" and ended:
                stamp += steps * STEP
            out.append(Sent(self.at, self.ssrc, self.sequence & 0xFFFF, stamp & 0xFFFFFFFF, marker, payload))
            self.wait(1)
        self.wait(pause)
        if clock == "shared":
            self.timestamp = began
        return out

    def wait(self, steps: int) -> None:
        """So many packets of voice, or of silence that is numbered all the same."""
        self.at += steps * SECONDS
        self.timestamp += steps * STEP
        self.sequence += 1


def heard(packets: Iterable[Sent], receiver: DtmfReceiver | None = None) -> str:
    receiver = receiver or DtmfReceiver()
    presses = [
        receiver.push(
            Header(101, p.marker, p.sequence, p.timestamp, p.ssrc, 12, 12 + len(p.payload)), p.payload, p.at
        )
        for p in packets
    ]
    return "".join(press.digit for press in presses if press)


def test_a_new_source_with_lower_timestamps_after_a_transfer() -> None:
    first, second = Keypad(timestamp=1_000_000_000), Keypad(ssrc=8, timestamp=100)
    second.at = 20.0
    assert heard(first.press("1") + second.press("2") + second.press("3")) == "123"


def test_a_clock_that_is_started_anew() -> None:
    keypad = Keypad(timestamp=1_000_000_000)
    packets = keypad.press("1")
    keypad.timestamp, keypad.sequence = 160, 4
    assert heard(packets + keypad.press("1", pause=40) + keypad.press("2")) == "112"


def test_a_clock_that_is_started_anew_between_presses_of_one_key() -> None:
    keypad = Keypad(timestamp=1_000_000_000)
    packets = keypad.press("5")
    keypad.timestamp = 0
    assert heard(packets + keypad.press("5")) == "55"


def test_presses_that_share_one_timestamp() -> None:
    keypad = Keypad()
    assert heard([p for digit in "1223" for p in keypad.press(digit, clock="shared")]) == "1223"


def test_presses_that_share_one_timestamp_without_a_marker() -> None:
    keypad = Keypad()
    packets = [replace(p, marker=False) for digit in "55" for p in keypad.press(digit, clock="shared")]
    assert heard(packets) == "55"


def test_presses_of_a_single_packet_that_share_one_timestamp() -> None:
    keypad = Keypad()
    packets = [keypad.press("5", steps=1, pause=9, clock="shared")[0] for _ in range(3)]
    assert heard(packets) == "555"


@pytest.mark.parametrize("clock", ["growing", "new at the end", "growing at the end"])
def test_timestamps_that_move_within_a_press(clock: str) -> None:
    keypad = Keypad()
    assert heard([p for digit in "551" for p in keypad.press(digit, clock=clock)]) == "551"


def test_durations_that_stand_while_timestamps_grow() -> None:
    keypad = Keypad()
    packets = [
        replace(p, payload=p.payload[:2] + struct.pack("!H", STEP))
        for p in keypad.press("5", clock="growing") + keypad.press("6", clock="growing")
    ]
    assert heard(packets) == "56"


def test_a_start_that_is_sent_three_times_with_its_marker() -> None:
    packets = Keypad().press("9")
    thrice = [replace(packets[0], sequence=97 + n, at=9.94 + n * SECONDS) for n in range(3)]
    assert heard(thrice + packets[1:]) == "9"


def test_a_start_that_the_network_brings_twice() -> None:
    packets = Keypad().press("9")
    assert heard([packets[0], packets[0], *packets[1:], packets[-1], packets[0]]) == "9"


def test_a_phone_put_on_hold_in_the_middle_of_a_press() -> None:
    keypad = Keypad()
    packets = keypad.press("5", clock="shared")[:3]
    keypad.wait(500)
    assert heard(packets + keypad.press("5", clock="shared")) == "55"


def test_a_source_that_comes_back_on_resume_at_the_timestamp_it_left() -> None:
    keypad = Keypad()
    packets = keypad.press("4", clock="shared")
    keypad.at += 30.0
    assert heard(packets + [replace(p, marker=False) for p in keypad.press("4")]) == "44"


def test_a_key_held_for_longer_than_its_duration_can_say() -> None:
    """Section 2.5.1.3: it goes on as another segment, with another timestamp and without a marker."""
    keypad = Keypad()
    first = keypad.press("0", steps=0xFFFF // STEP, pause=0)[:-3]
    keypad.timestamp = 50_000 + 0xFFFF
    keypad.at = first[-1].at + SECONDS
    second = [replace(p, marker=False) for p in keypad.press("0", steps=50)]
    assert heard(first + second) == "0"


def test_the_end_of_the_press_before_is_lost() -> None:
    keypad = Keypad()
    assert heard(keypad.press("7")[:-3] + keypad.press("7") + keypad.press("7")[1:]) == "777"


def test_the_old_source_ends_its_press_after_the_new_one_has_begun() -> None:
    old, new = Keypad().press("1"), Keypad(ssrc=8).press("2")
    assert heard([*old[:4], *new[:2], *old[4:], *new[2:]]) == "12"


def test_sources_are_remembered_to_a_bound() -> None:
    receiver = DtmfReceiver()
    packets = [Keypad(ssrc=ssrc).press("1")[0] for ssrc in range(1000)]
    assert len(heard(packets, receiver)) == 1000
    assert len(receiver._sources) == 4


def test_the_sequence_and_the_clock_wrap() -> None:
    keypad = Keypad(sequence=0xFFFD, timestamp=0xFFFFFFFF - 200)
    assert heard([p for digit in "5588" for p in keypad.press(digit)]) == "5588"


presses = st.lists(
    st.tuples(st.sampled_from(DIGITS), st.integers(2, 30), st.integers(6, 60)), min_size=1, max_size=8
)
clocks = st.sampled_from(["still", "growing", "new at the end", "growing at the end", "shared"])


@given(presses, clocks, st.data())
def test_every_press_is_heard_once(keys: list[tuple[str, int, int]], clock: str, data: st.DataObject) -> None:
    """Phones of any numbering, sources and clocks that change between presses, packets twice and out of order."""
    keypad = Keypad(
        sequence=data.draw(st.integers(0, 0xFFFF)), timestamp=data.draw(st.integers(0, 2**32 - 1))
    )
    packets: list[Sent] = []
    for digit, steps, pause in keys:
        change = data.draw(st.sampled_from(["none", "none", "source", "clock", "silence"]))
        if change == "source":
            keypad.ssrc += 1
        if change in ("source", "clock"):
            keypad.timestamp = data.draw(st.integers(0, 2**32 - 1))
        if change == "silence":
            keypad.wait(1500)
        pressed = keypad.press(digit, steps, pause, clock)
        for index in data.draw(st.lists(st.integers(0, len(pressed) - 1), max_size=4)):
            pressed.insert(index + 1, pressed[index])
        for index in data.draw(st.lists(st.integers(0, len(pressed) - 2), max_size=2)):
            pressed[index : index + 2] = reversed(pressed[index : index + 2])
        packets += pressed
    assert heard(packets) == "".join(digit for digit, *_ in keys)


@given(presses, st.data())
def test_every_press_is_heard_of_which_anything_is_left(
    keys: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """Packets of a phone that numbers as the RFC says are lost."""
    keypad = Keypad()
    packets: list[Sent] = []
    for digit, steps, pause in keys:
        pressed = keypad.press(digit, steps, pause)
        kept = data.draw(st.sets(st.integers(0, len(pressed) - 1), min_size=1))
        packets += [pressed[index] for index in sorted(kept)]
    assert heard(packets) == "".join(digit for digit, *_ in keys)


def test_the_model_is_a_phone() -> None:
    packets = Keypad().press("5") + Keypad().press("5")
    assert [p.is_end for p in packets[:7]] == [False] * 4 + [True] * 3
    assert all(b.sequence - a.sequence == 1 for a, b in itertools.pairwise(packets[:7]))
