"""The picture of a call that has begun as a voice call: it comes, goes, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.rtp import h264, packet
from orchestrator.worker.calls import CallTable
from orchestrator.worker.host import MediaHost
from orchestrator.worker.messages import (
    CallFailed,
    CloseCall,
    CloseVideo,
    ConfigureCall,
    Message,
    OpenCall,
    OpenVideo,
    StartCall,
    VideoOpened,
)
from tests.support.media import CardFactory, Phone, access_units, decode, read_card
from tests.support.waiting import until

pytest_plugins = ["tests.support.media_fixtures"]


class Worker:
    """The calls of a worker, and what it told of them."""

    def __init__(self, host: MediaHost) -> None:
        self.host = host
        self.told: list[Message] = []
        self.calls = CallTable(host, CardFactory(), self.told.append)

    def voice(self, phone: Phone) -> AudioParameters:
        return AudioParameters("PCMU", 0, phone.address("audio"), phone.address("audio_rtcp"))

    def picture(self, phone: Phone, fps: int = 25) -> VideoParameters:
        feedback = frozenset({"nack pli"})
        video = phone.address("video")
        return VideoParameters(96, video, 192, 128, Fraction(fps), 1_500_000, feedback=feedback)

    def voice_call(self, phone: Phone) -> None:
        """Begin call "a"."""
        self.calls.take(OpenCall("a", video=False))
        self.calls.take(ConfigureCall("a", self.voice(phone), None))
        self.calls.take(StartCall("a", "25"))

    def switch(self, phone: Phone, on: bool, fps: int = 25) -> int | None:
        """The port that the picture comes from."""
        port = None
        if on:
            self.calls.take(OpenVideo("a"))
            port = self.port()
        self.calls.take(ConfigureCall("a", self.voice(phone), self.picture(phone, fps) if on else None))
        return port

    def port(self) -> int | None:
        """What was told last."""
        opened = self.told.pop()
        assert isinstance(opened, VideoOpened) and opened.call_id == "a"
        return opened.port


@pytest.fixture
async def worker(host: MediaHost):
    worker = Worker(host)
    yield worker
    await worker.calls.close()


async def test_the_picture_comes_with_a_key_frame_out_of_the_port_that_was_told(
    worker: Worker, phone: Phone
) -> None:
    worker.voice_call(phone)
    await until(lambda: len(phone.drain("audio")) > 0)
    assert worker.host.ports.in_use == 1
    port = worker.switch(phone, True)
    seen: list[bytes] = []
    sources = set()

    def arrive() -> bool:
        while True:
            try:
                data, source = phone.video.recvfrom(4096)
            except BlockingIOError:
                return len(seen) > 60
            seen.append(data)
            sources.add(source[1])

    await until(arrive)
    assert sources == {port}
    units = access_units([packet.parse(data) for data in seen])
    assert h264.is_idr(units[0][1])
    cards = [read_card(picture) for picture in decode([nals for _, nals in units])]
    assert [
        (card - (stamp - units[0][0]) // 3600) % 25 for card, (stamp, _) in zip(cards, units, strict=True)
    ] == [cards[0]] * len(cards)
    worker.switch(phone, False)
    await asyncio.sleep(0.1)
    phone.drain("video")
    heard = len(phone.drain("audio"))
    await until(lambda: len(phone.drain("audio")) > 0)
    assert heard and phone.drain("video") == [] and worker.host.ports.in_use == 1


async def test_what_nothing_was_agreed_for_is_closed_and_a_running_picture_is_not(
    worker: Worker, phone: Phone
) -> None:
    worker.voice_call(phone)
    worker.calls.take(OpenVideo("a"))
    port = worker.port()
    worker.calls.take(OpenVideo("a"))
    assert worker.port() == port and worker.host.ports.in_use == 2
    worker.calls.take(CloseVideo("a"))
    assert worker.host.ports.in_use == 1
    worker.calls.take(CloseVideo("a"))
    worker.switch(phone, True)
    worker.calls.take(CloseVideo("a"))
    await until(lambda: len(phone.drain("video")) > 0)
    worker.calls.take(CloseCall("a"))
    assert worker.host.ports.in_use == 0


async def test_no_port_is_told_and_the_voice_goes_on(
    worker: Worker, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.voice_call(phone)
    monkeypatch.setattr(worker.host.ports, "_ephemeral", False)
    monkeypatch.setattr(worker.host.ports, "_free", {})
    worker.calls.take(OpenVideo("a"))
    assert worker.port() is None
    worker.calls.take(OpenVideo("gone"))
    assert worker.told.pop() == VideoOpened("gone", None)
    phone.drain("audio")
    await until(lambda: len(phone.drain("audio")) > 0)
    assert not [message for message in worker.told if isinstance(message, CallFailed)]


async def test_a_hundred_times_on_and_off(worker: Worker, phone: Phone) -> None:
    """No port, socket, task or memory is left of it."""
    worker.voice_call(phone)

    async def often(times: int) -> None:
        for number in range(times):
            worker.switch(phone, True)
            if number % 10 == 0:
                await until(lambda: len(phone.drain("video")) > 0)
            else:
                await asyncio.sleep(0.005)
            worker.switch(phone, False)
            phone.drain("video")
        await asyncio.sleep(0.1)

    await often(20)  # the loop is coded, the encoders' threads run
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0], held()
        await often(100)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0], held()
    finally:
        tracemalloc.stop()
    assert worker.host.ports.in_use == 1
    assert after[1] == before[1]
    assert after[0] - before[0] < 100_000, (before, after)  # a stream alone holds more than a tenth of that
    assert not [message for message in worker.told if isinstance(message, CallFailed)]


def held() -> tuple[int, int, int]:
    """Descriptors, tasks, and objects of a video stream."""
    kinds = ("VideoStream", "MediaSocket", "LiveEncoder", "Retransmitter", "StreamReports")
    alive = sum(type(each).__name__ in kinds for each in gc.get_objects())
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks()), alive


async def test_a_phone_that_takes_fewer_pictures_than_the_body_has_gets_a_share(
    worker: Worker, phone: Phone
) -> None:
    """The body's rate was settled while there was no picture; the decoder misses none of those left out."""
    worker.voice_call(phone)
    worker.calls.take(OpenVideo("a"))
    worker.port()
    picture = replace(worker.picture(phone), every=3)
    worker.calls.take(ConfigureCall("a", worker.voice(phone), picture))
    seen: list[bytes] = []
    await until(lambda: seen.extend(phone.drain("video")) or len(seen) > 30)
    units = access_units([packet.parse(data) for data in seen])
    assert {(b - a) % 10_800 for (a, _), (b, _) in itertools.pairwise(units)} == {0}
    assert min(b - a for (a, _), (b, _) in itertools.pairwise(units)) == 10_800
    cards = [read_card(shown) for shown in decode([nals for _, nals in units])]
    assert len({(card - stamp // 3600) % 25 for card, (stamp, _) in zip(cards, units, strict=True)}) == 1
    assert picture.encoding.fps == Fraction(25, 3)
