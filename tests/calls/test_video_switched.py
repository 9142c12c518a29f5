"""A voice call gets its face when a camera is switched on, and loses it again, whoever does that and however."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from orchestrator.sip.message.message import Request, Response
from tests.support import fuzz
from tests.support.control import Control
from tests.support.sip_fake import (
    AUDIO,
    VIDEO,
    established,
    only,
    only_request,
    reply_to,
    request,
    sdp,
    settle,
)
from tests.support.sip_mutate import mutate

OFF = "m=video 0 RTP/AVP 96\n"
PICTURE = "m=video 6002 RTP/AVP 97\na=rtpmap:97 H264/90000\na=fmtp:97 packetization-mode=1\n"
"""What a phone answers to an offer of ours."""
NO_VOICE = sdp(VIDEO, version=9)
UNUSABLE = {
    "no voice": NO_VOICE,
    "unknown codec": sdp("m=audio 6000 RTP/AVP 4\na=rtpmap:4 G723/8000\n", VIDEO, version=9),
    "voice at a broadcast address": sdp(AUDIO, VIDEO, version=9, address="255.255.255.255"),
    "SRTP": sdp(AUDIO.replace("RTP/AVP", "RTP/SAVP"), VIDEO, version=9),
    "no session description": "v=1\n",
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Control]:
    house = Control(tmp_path)
    house.start()
    yield house
    await house.close()


class Phone:
    """The peer of one call, whose camera can be switched."""

    def __init__(self, house: Control) -> None:
        self.house = house
        self.tag = ""
        self.seq = 1

    async def call(self, *media: str) -> str:
        """Begin a call; its id."""
        self.tag = await established(self.house.wire, body=sdp(*media))
        (call,) = self.house.calls
        return call.call_id

    async def offer(self, *media: str, method: str = "INVITE", body: str = "") -> Response:
        """The answer to a new offer, acknowledged."""
        self.seq += 1
        text = body or (sdp(*media, version=self.seq) if media else "")
        again = request(method, branch=f"z9hG4bK{self.seq}", seq=self.seq, to_tag=self.tag, body=text)
        async with asyncio.timeout(10):
            (answer,) = [m for m in await self.house.wire.put(again) if isinstance(m, Response)]
        if method == "INVITE" and not (answer.status < 300 and not text):
            await self.ack()
        return answer

    async def ack(self, body: str = "") -> None:
        """Acknowledge the last INVITE, with an answer where it had no offer."""
        ack = request("ACK", branch=f"z9hG4bKa{self.seq}", seq=self.seq, to_tag=self.tag, body=body)
        await self.house.wire.put(ack)

    async def asked(self) -> Request:
        """The next INVITE of the far end's."""
        async with asyncio.timeout(10):
            while not self.house.wire.sent:
                await asyncio.sleep(0)
        return only_request(self.house.wire.take(), "INVITE")

    async def hang_up(self) -> None:
        self.seq += 1
        await self.house.wire.put(request("BYE", branch="z9hG4bKb", seq=self.seq, to_tag=self.tag))


def video_port(message: Request | Response) -> int:
    """Of the description that a message carries."""
    match = re.search(rb"\r\nm=video (\d+) ", message.body)
    assert match, message.body
    return int(match[1])


def lines(message: Request | Response) -> list[str]:
    """Of its description, without the origin."""
    return [line for line in message.body.decode().splitlines() if not line.startswith("o=")]


async def switched(house: Control, call_id: str, shown: bool) -> asyncio.Task[httpx.Response]:
    """Our own end switches."""
    task = asyncio.create_task(house.api.put(f"/v1/calls/{call_id}/video", json={"shown": shown}))
    await settle()
    return task


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_a_camera_that_is_switched_on_and_off(house: Control, method: str) -> None:
    phone = Phone(house)
    call_id = await phone.call(AUDIO)
    assert house.media.video == {} and house.media.agreed[-1].video is None
    on = await phone.offer(AUDIO, VIDEO, method=method)
    assert video_port(on) == house.media.video[call_id]
    agreed = house.media.agreed[-1].video
    assert agreed is not None and agreed.remote == ("127.0.0.9", 6002)
    off = await phone.offer(AUDIO, OFF, method=method)
    assert video_port(off) == 0
    assert house.media.video == {} and house.media.agreed[-1].video is None
    again = await phone.offer(AUDIO, VIDEO, method=method)
    assert video_port(again) == house.media.video[call_id] != video_port(on)
    await phone.hang_up()
    assert house.media.video == {}


@pytest.mark.parametrize("begun", [(AUDIO,), (AUDIO, OFF)], ids=["voice", "refused video"])
async def test_an_offer_that_is_asked_for_has_a_picture(house: Control, begun: tuple[str, ...]) -> None:
    phone = Phone(house)
    call_id = await phone.call(*begun)
    ours = await phone.offer()
    assert video_port(ours) == house.media.video[call_id]
    await phone.ack(sdp(AUDIO, PICTURE, version=7))
    assert house.media.agreed[-1].video is not None
    ours = await phone.offer()
    assert video_port(ours) == house.media.video[call_id]
    await phone.ack(sdp(AUDIO, OFF, version=8))
    assert house.media.agreed[-1].video is None and house.media.video == {}


async def test_our_end_switches_it_on_and_off(house: Control) -> None:
    phone = Phone(house)
    call_id = await phone.call(AUDIO)
    switching = await switched(house, call_id, True)
    offer = await phone.asked()
    assert video_port(offer) == house.media.video[call_id]
    await house.wire.put(reply_to(offer, 200, body=sdp(AUDIO, PICTURE, version=2)))
    assert (await switching).status_code == 204
    assert house.media.agreed[-1].video is not None
    assert (await (await switched(house, call_id, True))).status_code == 204  # it is on: nobody is asked
    assert house.wire.take() == []

    switching = await switched(house, call_id, False)
    offer = await phone.asked()
    assert video_port(offer) == 0
    await house.wire.put(reply_to(offer, 200, body=sdp(AUDIO, OFF, version=3)))
    assert (await switching).status_code == 204
    assert house.media.agreed[-1].video is None and house.media.video == {}
    kept_off = await phone.offer(AUDIO, VIDEO)  # what was switched off here stays off
    assert video_port(kept_off) == 0 and house.media.video == {}


@pytest.mark.parametrize("status", [488, 415, 603, 500])
async def test_a_phone_that_refuses_our_offer_keeps_its_voice_call(house: Control, status: int) -> None:
    phone = Phone(house)
    call_id = await phone.call(AUDIO)
    agreed = list(house.media.agreed)
    switching = await switched(house, call_id, True)
    await house.wire.put(reply_to(await phone.asked(), status))
    answer = await switching
    assert (answer.status_code, f"answered {status}" in answer.json()["detail"]) == (409, True)
    assert house.media.agreed == agreed and house.media.video == {}
    assert video_port(await phone.offer(AUDIO, VIDEO)) == house.media.video[call_id]


async def test_a_phone_without_a_camera_answers_with_its_voice(house: Control) -> None:
    phone = Phone(house)
    call_id = await phone.call(AUDIO)
    switching = await switched(house, call_id, True)
    await house.wire.put(reply_to(await phone.asked(), 200, body=sdp(AUDIO, OFF, version=2)))
    answer = await switching
    assert (answer.status_code, answer.json()["detail"]) == (409, "the phone takes no picture")
    assert house.media.video == {} and house.media.agreed[-1].video is None


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("begun", [(AUDIO,), (AUDIO, VIDEO)], ids=["voice", "picture"])
@pytest.mark.parametrize("body", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_a_new_offer_that_fails_leaves_everything_as_it_was(
    house: Control, body: str, begun: tuple[str, ...], method: str
) -> None:
    phone = Phone(house)
    await phone.call(*begun)
    (call,) = house.wire.agent.calls.values()
    before = call.session.local_text, call.media, call.capabilities, dict(house.media.video)
    agreed = list(house.media.agreed)
    assert (await phone.offer(method=method, body=body)).status in (400, 488)
    assert (call.session.local_text, call.media, call.capabilities, house.media.video) == before
    assert house.media.agreed == agreed
    assert (await phone.offer(*begun, method=method)).body.decode() == before[0]


async def test_an_answer_in_the_ack_that_fails_leaves_everything_as_it_was(house: Control) -> None:
    phone = Phone(house)
    await phone.call(AUDIO)
    agreed = list(house.media.agreed)
    before = (await phone.offer(AUDIO)).body.partition(b"s=")[2]
    agreed = list(house.media.agreed)
    await phone.offer()
    assert house.media.video
    await phone.ack(NO_VOICE)
    assert (house.media.video, house.media.agreed) == ({}, agreed)
    assert (await phone.offer(AUDIO)).body.partition(b"s=")[2] == before


async def test_a_phone_that_takes_fewer_pictures_than_the_body_has(house: Control) -> None:
    """The body's rate is settled by then; a call that begins with a picture takes the phone's."""
    phone = Phone(house)
    await phone.call(AUDIO)
    await phone.offer(AUDIO, VIDEO + "a=framerate:10\n")
    video = house.media.agreed[-1].video
    assert video is not None and (video.fps, video.every) == (25, 3)
    await phone.offer(AUDIO, VIDEO)
    video = house.media.agreed[-1].video
    assert video is not None and (video.fps, video.every) == (25, 1)


async def test_without_a_port_the_voice_goes_on(house: Control) -> None:
    phone = Phone(house)
    call_id = await phone.call(AUDIO)
    house.media.exhausted = True
    assert video_port(await phone.offer(AUDIO, VIDEO)) == 0
    house.media.exhausted = False
    assert video_port(await phone.offer(AUDIO, VIDEO)) == house.media.video[call_id]


async def test_a_call_that_ends_while_ports_are_opened(house: Control) -> None:
    phone = Phone(house)
    await phone.call(AUDIO)
    opened, go = house.media.open_video, asyncio.Event()

    async def slowly(call_id: str) -> int | None:
        await go.wait()
        return await opened(call_id) if call_id in house.registry._under_way else None

    house.media.open_video = slowly  # type: ignore[method-assign]
    camera = asyncio.create_task(phone.offer(AUDIO, VIDEO))
    await settle()
    await house.wire.put(request("BYE", branch="z9hG4bKb", seq=phone.seq + 1, to_tag=phone.tag))
    await house.wire.pass_time(1.5)
    go.set()
    camera.cancel()
    await asyncio.gather(camera, return_exceptions=True)
    await settle()
    assert house.media.video == {} and house.registry.active == 0


async def test_both_ends_switch_at_once(house: Control) -> None:
    """Ours meets theirs (491), theirs is answered while ours waits: then ours is off the table."""
    phone = Phone(house)
    call_id = await phone.call(AUDIO)
    switching = await switched(house, call_id, True)
    offer = await phone.asked()
    assert (await phone.offer(AUDIO, VIDEO)).status == 491
    await house.wire.put(reply_to(offer, 491))
    theirs = await phone.offer(AUDIO, VIDEO)
    assert video_port(theirs) == house.media.video[call_id]
    await house.wire.pass_time(2.1)
    assert (await switching).status_code == 409
    assert house.wire.take() == []
    (call,) = house.wire.agent.calls.values()
    assert not call.offer_open and house.media.agreed[-1].video is not None
    assert video_port(await phone.offer(AUDIO, VIDEO)) == video_port(theirs)


async def test_a_call_of_ours_without_a_picture_stays_one_until_it_is_shown(house: Control) -> None:
    phone = Phone(house)
    call_id = await phone.call(AUDIO)
    assert (await (await switched(house, call_id, False))).status_code == 204
    assert house.wire.take() == []  # there is none: nobody is asked
    assert video_port(await phone.offer(AUDIO, VIDEO)) == 0
    switching = await switched(house, call_id, True)
    await house.wire.put(reply_to(await phone.asked(), 200, body=sdp(AUDIO, PICTURE, version=9)))
    assert (await switching).status_code == 204
    assert house.media.agreed[-1].video is not None


async def test_a_hundred_times_on_and_off(house: Control) -> None:
    phone = Phone(house)
    call_id = await phone.call(AUDIO)
    told: list[int] = []

    def seen(message: Request | Response) -> None:
        """Whatever a description says is what is open."""
        assert video_port(message) == house.media.video.get(call_id, 0)
        told.append(video_port(message))

    async def ours(shown: bool) -> None:
        switching = await switched(house, call_id, shown)
        offer = await phone.asked()
        answer = reply_to(offer, 200, body=sdp(AUDIO, PICTURE if shown else OFF, version=len(told)))
        await house.wire.put(answer)
        assert (await switching).status_code == 204
        assert video_port(offer) == house.media.video.get(call_id, 0)
        told.append(video_port(offer))

    for number in range(100):
        match number % 4:
            case 0 | 1 as way:
                method = ("INVITE", "UPDATE")[way]
                seen(await phone.offer(AUDIO, VIDEO, method=method))
                seen(await phone.offer(AUDIO, OFF, method=method))
            case 2:
                seen(await phone.offer())
                await phone.ack(sdp(AUDIO, PICTURE, version=number))
                seen(await phone.offer(AUDIO, OFF))
            case 3:
                await ours(True)
                await ours(False)
                await ours(True)
                seen(await phone.offer(AUDIO, OFF))
        assert house.media.video == {}
    assert len({port for port in told if port}) == 125  # never a port that was given back
    await phone.hang_up()
    await house.wire.run_out()
    assert house.media.video == {} and house.wire.clock.pending == 0
    assert len(house.wire.agent.transactions) == 0


async def test_what_was_agreed_is_bytes_of_the_same_length_each_time(house: Control) -> None:
    """Neither formats nor attributes pile up in descriptions."""
    phone = Phone(house)
    await phone.call(AUDIO)
    answers = []
    for _ in range(5):
        answers.append((await phone.offer(AUDIO, VIDEO), await phone.offer(AUDIO, OFF)))
    strip = [tuple(re.sub(r"m=video \d+", "m=video", "\n".join(lines(a))) for a in pair) for pair in answers]
    assert len(set(strip)) == 1
    assert [only([a], 200).status for pair in answers for a in pair] == [200] * 10


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_a_new_offer_says_the_call_goes_on(house: Control, seed: int) -> None:
    """Mutated offers are answered, taken or refused; what is told and what is open agree, and nothing escapes."""
    escapes = fuzz.Escapes()
    logging.getLogger("orchestrator").addHandler(escapes)
    phone, rng = Phone(house), random.Random(seed)
    call_id = await phone.call(AUDIO)
    offers = [
        sdp(AUDIO),
        sdp(AUDIO, VIDEO),
        sdp(AUDIO, OFF),
        sdp(AUDIO, VIDEO + "a=inactive\n"),
        sdp(VIDEO, AUDIO),
    ]
    try:
        for number in range(200):
            body = mutate(rng.choice(offers).encode(), rng.choice(offers).encode(), rng).decode("latin-1")
            answer = await phone.offer(method=rng.choice(("INVITE", "UPDATE")), body=body or " ")
            assert answer.status in (200, 400, 488), answer
            if answer.status == 200:
                ports = [int(port) for port in re.findall(rb"\r\nm=video (\d+) ", answer.body)]
                assert [port for port in ports if port] == list(house.media.video.values())
            if number % 20 == 0:
                assert video_port(await phone.offer(AUDIO, VIDEO)) == house.media.video[call_id]
        assert video_port(await phone.offer(AUDIO, OFF)) == 0 and house.media.video == {}
    finally:
        logging.getLogger("orchestrator").removeHandler(escapes)
    assert escapes.records == []
