"""Responses on their way out, and messages between the processes."""

from __future__ import annotations

import pytest

from inference_server.engine import messages as m
from inference_server.engine.frame_ring import FrameRing
from inference_server.streams.outbox import MOST_CONTROL, ResponseQueue
from inference_server.streams.responses import FrameReady, Interrupted, TurnAccepted


def frame(k: int, epoch: int = 0, last: bool = False) -> FrameReady:
    return FrameReady(1, epoch, k, 640 * k, k, "body", last=last)


async def drain(box: ResponseQueue) -> list[object]:
    box.close()
    out = []
    while (said := await box.get()) is not None:
        out.append(said)
    return out


async def test_order_is_kept_and_an_interrupt_takes_old_frames_out() -> None:
    box = ResponseQueue(100)
    for k in range(3):
        box.put(frame(k))
    box.put(TurnAccepted(2))
    box.put(Interrupted(1))
    box.put(frame(0, epoch=1))
    assert await drain(box) == [TurnAccepted(2), Interrupted(1), frame(0, epoch=1)]
    assert box.dropped == 3


async def test_a_slow_reader_loses_the_oldest_frames_but_never_the_last_one() -> None:
    box = ResponseQueue(4)
    box.put(frame(0, last=True))
    for k in range(1, 20):
        box.put(frame(k))
    assert await drain(box) == [frame(0, last=True), frame(17), frame(18), frame(19)]


async def test_frames_that_were_heard_leave() -> None:
    box = ResponseQueue(100)
    for k in range(6):
        box.put(frame(k, last=k == 0))
    box.heard(1, 640 * 3)
    box.heard(7, 640 * 100)
    assert [f.number for f in await drain(box)] == [0, 3, 4, 5]  # type: ignore[attr-defined]


async def test_a_reader_of_nothing_is_noticed() -> None:
    box = ResponseQueue(4)
    for k in range(MOST_CONTROL + 1):
        box.put(TurnAccepted(k))
    assert box.overflowed and len(await drain(box)) == MOST_CONTROL


def test_messages_survive_any_cut() -> None:
    said: list[m.Message] = [
        m.Append(3, b"\x01\x02" * 1000),
        m.Append(4),
        m.Render(7, [(1, 2, 3, 0.5, 4096, 100)]),
        m.Attached("a", (0, 0, 2, 2), [(0, 0, 2, 2)], 5),
        m.Prepare(1, "b", "c", {"x": "y"}),
        m.Failed("load", "", "ModelMissing", "unet.pth is missing"),
    ]
    data = b"".join(m.codec.encode(message) for message in said)
    for step in (1, 7, 4096, len(data)):
        decoder = m.codec.decoder()
        got = [x for at in range(0, len(data), step) for x in decoder.feed(data[at : at + step])]
        assert [m.codec.encode(x) for x in got] == [m.codec.encode(x) for x in said]
    with pytest.raises(ValueError, match="at most"):
        list(m.codec.decoder().feed(b"\xff" * 8))


def test_lanes_of_the_ring() -> None:
    ring = FrameRing.create(1 << 20, 2)
    lanes = [ring.take(), ring.take()]
    assert sorted(lanes) == [0, 1] and ring.take() is None  # type: ignore[type-var]
    first, second = ring.offsets(0, [100, 100, 1 << 19]), ring.offsets(1, [100])
    assert first == [0, 128] and second == [ring.lane_size]
    ring.view(second[0], 100)[:] = b"x" * 100
    assert bytes(ring.view(first[0], 100)) == bytes(100)
    ring.give(1)
    assert ring.take() == 1
    ring.close()
