"""A phone that switches its camera on in mid-call: the picture within a second, away again, often."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from testing.caller import Phone
from testing.card import CardReading, read_card
from tests.peers.linphone import Linphone, linphone
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server
from tests.support.waiting import until
from tests.support.watched import assert_body_never_jumps, watch

pytestmark = pytest.mark.process

WITHIN_S = 1.0
GREETING = "Good morning to you."


async def on(phone: Phone) -> float:
    """Switch the camera on; how long the first whole picture took from the offer on."""
    began = time.monotonic()
    assert await phone.switch_camera(True)
    return await first_picture(phone, began)


async def first_picture(phone: Phone, began: float) -> float:
    async with asyncio.timeout(20):
        while not (units := phone.recording.access_units()):
            await asyncio.sleep(0.01)
    return units[0][2] - began


async def media_processes(house: House) -> list[int]:
    return [worker["pid"] for worker in (await house.status())["workers"]]


def held(pid: int) -> tuple[int, int]:
    """Descriptors, and KiB of resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), int(rss.split()[1])


@pytest.mark.slow
async def test_the_face_of_the_greeting_comes_within_a_second_and_speaks() -> None:
    async with inference_server() as server, orchestrator([server], greeting=GREETING) as house:
        async with Phone(
            house.uri
        ) as phone:  # whose loop is coded from now on, as after the first call of a day
            await house.idle_cached(await house.call_id())
            whose = watch(phone.recording)[-1].card.number
        async with Phone(house.uri, video=False) as phone:
            call = await house.call_id()
            assert (await house.turn(call, 1))["state"] == "finished"
            assert phone.recording.video.packets == []
            took = [await on(phone)]
            turn = await house.play(call, [(0.0, tone(1.5))])
            await house.turn(call, turn)
            await asyncio.sleep(0.5)
            seen = watch(phone.recording)
            assert_body_never_jumps(seen, 125, 25)
            assert {s.card.number for s in seen} == {whose}
            assert len([s for s in seen if s.card.mouth is not None]) > 0.7 * 1.5 * 25
            assert not await phone.switch_camera(False)
            await asyncio.sleep(0.2)
            at_rest = phone.recording.video.received
            await asyncio.sleep(0.3)
            assert phone.recording.video.received == at_rest
            # In the middle of a turn the lips move at once.
            turn = await house.play(call, [(0.0, tone(3.0))])
            await asyncio.sleep(1.0)
            took.append(await on(phone))
            assert (await house.turn(call, turn))["heard_ms"] == pytest.approx(3000, abs=1)
            mouths = [s for s in watch(phone.recording) if s.card.mouth is not None]
            assert len(mouths) > 25
        assert phone.recording.audio.lost == 0
        while min(took) >= WITHIN_S and len(took) < 4:  # other work on this machine
            async with Phone(house.uri, video=False) as phone:
                took.append(await on(phone))
        assert min(took) < WITHIN_S, took


@pytest.mark.slow
async def test_a_hundred_times_on_and_off() -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        async with Phone(house.uri) as phone:
            await house.idle_cached(await house.call_id())
        async with Phone(house.uri, video=False) as phone:
            await house.call_id()
            pids = [house.process.pid, *await media_processes(house)]

            async def often(times: int) -> None:
                for number in range(times):
                    if number % 20 == 0:
                        await on(phone)
                    else:
                        assert await phone.switch_camera(True)
                    assert not await phone.switch_camera(False)

            await often(50)
            for _ in range(4):  # memory that is taken once is no leak: a leak is in every fifty
                await asyncio.sleep(1.0)  # the last one is closed after its answer
                before = {pid: held(pid) for pid in pids}
                await often(50)
                await until(lambda start=before: all(held(pid)[0] == start[pid][0] for pid in pids))
                grown = {pid: held(pid)[1] - before[pid][1] for pid in pids}
                if max(grown.values()) < 1_500:
                    break
            assert np.abs(phone.recording.samples()).max() < 500 and phone.recording.audio.lost == 0
        assert max(grown.values()) < 1_500, grown
        assert not [line for line in house.log if line.get("level") in ("error", "critical")]


@pytest.mark.slow
@pytest.mark.peer("linphonec", "xvfb-run")
@pytest.mark.parametrize("who", ["it", "we"])
async def test_a_voice_call_of_linphone_gets_its_face(tmp_path: Path, who: str) -> None:
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        linphone(tmp_path, camera=False) as phone,
    ):
        await phone.say(f"call {house.uri}")
        call = await house.call_id()
        assert (await house.call(call))["video"] is None
        await house.play(call, [(0.0, tone(20.0))])
        if who == "it":
            await phone.say("camera on")
        else:
            offered = await house.api.put(f"/v1/calls/{call}/video", json={"shown": True})
            assert offered.status_code == 204, offered.text
        await until(lambda: b"for call 1 (video)" in phone.log.read_bytes())
        await asyncio.sleep(1.0)
        card = await shown(phone)
        assert card.mouth is not None and card.mouth.loop_index == card.loop_index
        if who == "we":
            taken = await house.api.put(f"/v1/calls/{call}/video", json={"shown": False})
            assert taken.status_code == 204, taken.text
        await phone.say("terminate")


async def shown(phone: Linphone) -> CardReading:
    """The card that the phone shows, once it shows one."""
    async with asyncio.timeout(30):
        while True:
            image = cv2.imread(str(await phone.snapshot()))
            card = None if image is None else read_card(image[:, :, ::-1])
            if card is not None and card.mouth is not None:
                return card
            await asyncio.sleep(0.3)
