"""Keys on their way out (RFC 4733)."""

from __future__ import annotations

import struct

import pytest

from orchestrator.rtp.dtmf import MOST_DIGITS, DtmfReceiver, DtmfSender, TelephoneEvent
from orchestrator.rtp.packet import Header


def sent(sender: DtmfSender, steps: int, rate: int = 8000) -> list[TelephoneEvent | None]:
    return [sender.next(step, rate) for step in range(100, 100 + steps)]


def test_a_key_is_one_event_that_grows_and_ends_thrice() -> None:
    sender = DtmfSender()
    sender.press("5", 100)
    packets = sent(sender, 12)
    events = [packet for packet in packets if packet is not None]
    assert packets[: len(events)] == events and not sender.busy
    fields = [struct.unpack("!BBH", event.payload) for event in events]
    assert [duration for *_, duration in fields] == [160, 320, 480, 640, 800, 800, 800]
    assert [flags >> 7 for _, flags, _ in fields] == [0, 0, 0, 0, 1, 1, 1]
    assert {number for number, *_ in fields} == {5}
    assert [event.marker for event in events] == [True] + [False] * 6
    assert {event.start for event in events} == {100}


def test_the_voice_comes_between_two_keys_and_a_receiver_hears_both() -> None:
    sender, receiver = DtmfSender(), DtmfReceiver()
    sender.press("1#a", 60)
    packets = sent(sender, 60)
    heard = [
        receiver.push(Header(101, event.marker, at, event.start * 160, 5, 12, 16), event.payload, at * 0.02)
        for at, event in enumerate(packets)
        if event
    ]
    assert "".join(digit.digit for digit in heard if digit) == "1#A"
    starts = sorted({event.start for event in packets if event})
    assert all(packets[start - 101] is None for start in starts[1:])
    assert [event.marker for event in packets if event].count(True) == 3


def test_durations_count_in_the_events_own_clock() -> None:
    sender = DtmfSender()
    sender.press("0", 40)
    assert [struct.unpack("!BBH", e.payload)[2] for e in sent(sender, 4, 48_000) if e] == [
        960,
        1920,
        1920,
        1920,
    ]


@pytest.mark.parametrize(
    ("digits", "milliseconds", "says"),
    [("", 100, "no keys"), ("12x", 100, "12x"), ("1", 20, "40 to 1000"), ("1", 5000, "40 to 1000")],
)
def test_what_cannot_be_pressed(digits: str, milliseconds: int, says: str) -> None:
    sender = DtmfSender()
    with pytest.raises(ValueError, match=says):
        sender.press(digits, milliseconds)
    assert not sender.busy


def test_the_queue_is_bounded() -> None:
    sender = DtmfSender()
    sender.press("1" * MOST_DIGITS)
    with pytest.raises(ValueError, match="later"):
        sender.press("1")
