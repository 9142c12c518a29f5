"""A call of ten hours in simulated time: what the control process holds of it does not grow. No sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from orchestrator.calls.call import Call
from orchestrator.media.session import SessionStats, StreamStats
from orchestrator.sip.message.message import Request
from orchestrator.speech.base import PCM
from orchestrator.worker.messages import (
    AvatarState,
    CallFigures,
    Digit,
    DigitsRefused,
    LipsFigures,
    LipsStats,
    TurnReport,
)
from tests.support.control import Control
from tests.support.held import held
from tests.support.sip_fake import AUDIO, PEER, VIDEO, established, reply_to, request, sdp, settle

ROUND_S = 120.0
WARM, ROUNDS = 30, 300
"""Until everything that is bounded is full, and of the whole call: eight turns each, seven offers, two keys."""
OFF = "m=video 0 RTP/AVP 96\n"
HELD = (AUDIO + "a=sendonly\n", VIDEO + "a=sendonly\n")
FAST_UPDATE = "<media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive>"


class Clock:
    """Everybody's time."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock.monotonic)  # the event loop's as well
    return clock


@pytest.fixture
async def house(tmp_path: Path, clock: Clock) -> AsyncIterator[Control]:
    house = Control(tmp_path, max_call_s=0)
    house.start()
    yield house
    await house.close()


async def _sound() -> AsyncIterator[PCM]:
    yield np.ones(4000, np.int16)
    yield np.ones(4001, np.int16)


class LongCall:
    """One call, everything that may happen in it again and again, whatever comes of it."""

    def __init__(self, house: Control, clock: Clock, tag: str) -> None:
        self.house, self.clock, self.tag = house, clock, tag
        self.seq = 1
        self.call: Call = house.registry.under_way(house.calls[0].call_id)  # type: ignore[assignment]

    async def put(
        self, method: str, body: str = "", headers: str = "", kind: str = "application/sdp"
    ) -> None:
        """A request of the phone's; whatever it is asked meanwhile it answers."""
        self.seq += 1
        text = request(
            method, branch=f"z9hG4bK{self.seq}", seq=self.seq, to_tag=self.tag, body=body, headers=headers,
            content_type=kind,
        )  # fmt: skip
        got = await self.house.wire.put(text)
        if method == "INVITE":
            answer = "" if body else sdp(*HELD, version=self.seq)
            await self.house.wire.put(
                request("ACK", branch=f"z9hG4bKa{self.seq}", seq=self.seq, to_tag=self.tag, body=answer)
            )
        await self.answer([message for message in got if isinstance(message, Request)])

    async def answer(self, asked: list[Request]) -> None:
        for each in asked:
            if each.method != "ACK":
                status = {"INVITE": 488, "REFER": 603}.get(each.method, 200)
                got = await self.house.wire.put(reply_to(each, status))
                await self.answer([message for message in got if isinstance(message, Request)])

    async def offers(self, number: int) -> None:
        for media in ((AUDIO, VIDEO), HELD, (AUDIO, VIDEO), (AUDIO, OFF)):
            await self.put("UPDATE" if number % 2 else "INVITE", sdp(*media, version=self.seq))
        await self.put("INVITE")
        await self.put("INVITE", sdp("m=audio 6000 RTP/AVP 4\n", version=self.seq))  # 488
        await self.put("INVITE", sdp(AUDIO, version=self.seq, address=f"127.0.1.{number % 250 + 1}"))

    async def requests(self, number: int) -> None:
        await self.put("INFO", f"Signal={number % 10}\nDuration=100\n", kind="application/dtmf-relay")
        await self.put("INFO", FAST_UPDATE, kind="application/media_control+xml")
        await self.put("OPTIONS")
        await self.put("NOTIFY", headers="Event: talk")
        await self.put("REFER", headers=f"Refer-To: <sip:somebody{number}@{PEER[0]}>")

    async def turns(self, number: int) -> None:
        for each in range(8):
            turn = self.call.play(_sound(), 8000, replace=each % 4 == 2)
            await settle()
            for event in ("started", "stalled", "resumed", ("finished", "interrupted")[each % 2]):
                self.call.take(TurnReport(self.call.call_id, event, turn.turn_id, 20.0, 5.0))  # type: ignore[arg-type]
            if each % 4 == 3:
                self.call.interrupt()
        assert self.call.turns[-1].state in ("finished", "interrupted")

    def worker(self, number: int) -> None:
        """What its media worker reports."""
        call_id = self.call.call_id
        stream = StreamStats(sent_packets=number * 3000, strays=number, stray_source=f"10.0.0.{number % 250}")
        self.call.take(CallFigures(call_id, SessionStats(number * ROUND_S, stream, 0, 0, 0.0, stream)))
        self.call.take(LipsFigures(call_id, LipsStats(number)))
        for state in ("lost", "connected", "rejected", "failed"):
            self.call.take(AvatarState(call_id, state, f"reason {number}"))
        for digit in "0123456789*#" * 4 if number % 50 == 0 else "12":
            self.call.take(Digit(call_id, digit, 100))
        self.call.take(DigitsRefused(call_id, f"reason {number}"))

    async def asked(self, number: int) -> None:
        """What the API asks."""
        await self.call.press("12", 100)
        for work in (self.call.show(number % 2 == 0), self.call.transfer(f"sip:b{number}@127.0.0.9")):
            task = asyncio.ensure_future(work)
            await settle()
            await self.answer([m for m in self.house.wire.take() if isinstance(m, Request)])
            await asyncio.gather(task, return_exceptions=True)
            assert task.done()
        assert self.house.registry.start_trace(self.call.call_id)

    async def round(self, number: int) -> None:
        await self.offers(number)
        await self.requests(number)
        await self.turns(number)
        self.worker(number)
        await self.asked(number)
        self.clock.now += ROUND_S
        await self.answer([m for m in await self.house.wire.pass_time(ROUND_S) if isinstance(m, Request)])
        assert self.call.ended_at is None, self.call.cause


@pytest.mark.slow
async def test_ten_hours_of_a_call_leave_no_more_than_one(house: Control, clock: Clock) -> None:
    headers = "Supported: timer\nSession-Expires: 1800;refresher=uac"
    tag = await established(house.wire, body=sdp(AUDIO, VIDEO), headers=headers)
    long = LongCall(house, clock, tag)
    sizes = []
    async with house.bus.listen("nobody reads it"), house.bus.listen("of this call", long.call.call_id):
        for number in range(ROUNDS + 1):
            await long.round(number)
            if number in (WARM, ROUNDS):
                for paper in (house.posted, house.requests, house.media.agreed, house.wire.asked):
                    paper.clear()
                sizes.append(held(house, asyncio.all_tasks()))
    before, after = sizes
    assert after.octets - before.octets < 20_000, before.grown_by(after)
    assert after.objects.total() - before.objects.total() < 200, before.grown_by(after)
