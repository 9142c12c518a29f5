"""Who watches a call: from a key frame on, and a slow one costs nobody else anything."""

from __future__ import annotations

import asyncio

from orchestrator.calls.viewers import Viewing
from orchestrator.rtp.h264 import depacketize, packetize
from orchestrator.worker.messages import CallMessage, RequestKeyframe, View, Viewed
from orchestrator.worker.outbound_video import OutboundVideo


def picture(number: int, *, key: bool = False) -> Viewed:
    return Viewed("a", 3600 * number, key, bytes((number,)))


async def test_a_viewer_begins_with_a_key_frame_that_is_asked_for() -> None:
    sent: list[CallMessage] = []
    viewing = Viewing(sent.append)
    viewer = viewing.view("a")
    assert sent == [View("a", True), RequestKeyframe("a")]
    for number in range(3):
        viewing.viewed(picture(number))
    viewing.viewed(picture(3, key=True))
    viewing.viewed(picture(4))
    viewing.viewed(Viewed("b", 0, True))
    viewing.ended("a")
    async with viewer:
        assert [one.payload[0] async for one in viewer] == [3, 4]


async def test_a_slow_viewer_goes_on_with_the_next_key_frame() -> None:
    sent: list[CallMessage] = []
    viewing = Viewing(sent.append)
    slow, quick = viewing.view("a"), viewing.view("a")
    seen: list[int] = []

    async def watch() -> None:
        async for one in quick:
            seen.append(one.payload[0])

    task = asyncio.create_task(watch())
    sent.clear()
    for number in range(60):
        viewing.viewed(picture(number, key=number in (0, 50)))
        await asyncio.sleep(0)
    viewing.ended("a")
    await task
    assert seen == list(range(60))
    assert RequestKeyframe("a") in sent
    assert [one.payload[0] async for one in slow] == list(range(50, 60))


async def test_the_worker_is_told_when_nobody_watches_any_more() -> None:
    sent: list[CallMessage] = []
    viewing = Viewing(sent.append)
    async with viewing.view("a"):
        async with viewing.view("a"):
            pass
        assert View("a", False) not in sent
    assert sent[-1] == View("a", False)


def test_what_left_in_packets_is_put_together_again() -> None:
    units = [b"\x67" + bytes(9), b"\x68" + bytes(4), b"\x65" + bytes(range(256)) * 20]
    told: list[Viewed] = []
    outbound = OutboundVideo("a", told.append, lambda: False)  # type: ignore[arg-type]
    payloads = packetize(units)
    assert depacketize(payloads) == units
    for number, payload in enumerate(payloads):
        outbound.take(bytearray(12) + payload, number == len(payloads) - 1, 900)
    (seen,) = told
    assert (seen.timestamp, seen.key) == (900, True)
    assert seen.payload == b"".join(b"\0\0\0\1" + unit for unit in units)


def test_nothing_is_told_while_the_channel_is_congested() -> None:
    told: list[Viewed] = []
    outbound = OutboundVideo("a", told.append, lambda: True)  # type: ignore[arg-type]
    outbound.take(bytearray(12) + b"\x65abc", True, 900)
    assert told == []
