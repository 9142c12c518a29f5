"""Media go to nobody who has not shown that he wants them, and to nobody instead of the phone."""

from __future__ import annotations

import asyncio
import socket

import pytest

from bench.media_attack import (
    HALF_A_SECOND,
    REPORT_OCTETS,
    THIRD,
    acknowledged,
    answered_ports,
    drain,
    rtp,
    udp,
    unacknowledged,
)
from testing.caller import CallFailed, Phone
from testing.caller.phone import offer
from testing.caller.signalling import Dialog
from testing.ports import free_port
from tests.support.house import House, orchestrator

pytestmark = [pytest.mark.process, pytest.mark.slow]

GREETING = "Good morning."


class Hesitant(Dialog):
    """Keeps its ACK for a while."""

    held: str = ""

    def _send(self, message: str) -> None:
        if message.startswith("ACK "):
            self.held = message
        else:
            super()._send(message)

    def acknowledge(self) -> None:
        """Send it."""
        super()._send(self.held)


async def test_nothing_before_the_ack_and_half_a_second_to_who_never_asked() -> None:
    async with orchestrator([f"127.0.0.1:{free_port()}"], wait=False, greeting=GREETING) as house:
        await house.answering()
        assert await unacknowledged(house, 2.0) == 0
        assert (await house.api.get("/v1/calls")).json() == []
        assert 160 < await acknowledged(house, 3.0) <= HALF_A_SECOND + REPORT_OCTETS
        await greeting_begins_after_a_late_ack(house)
        await what_is_no_address_of_a_machine_is_refused(house)
        await strangers_take_nothing_from_a_phone_that_sends_nothing(house)


async def greeting_begins_after_a_late_ack(house: House) -> None:
    with udp("127.0.0.1") as audio:
        async with Hesitant(house.uri) as dialog:
            await dialog.invite(offer("127.0.0.1", audio.getsockname()[1], None))
            await asyncio.sleep(1.0)
            assert not drain(audio)
            dialog.acknowledge()
            call = await house.call_id()
            greeted = await spoken(house, call, 0, audio)
            answer = await house.api.post(f"/v1/calls/{call}/say", json={"text": GREETING})
            assert answer.status_code < 300
            # none of its head is lost: it sounds as long as when it is said again
            assert greeted == pytest.approx(await spoken(house, call, 1, audio), abs=2)


async def spoken(house: House, call: str, turn: int, audio: socket.socket) -> int:
    """Packets from the first sound of a turn to its last."""
    async with asyncio.timeout(20):
        while True:
            turns = (await house.call(call))["turns"]
            if len(turns) > turn and turns[turn]["state"] == "finished":
                break
            await asyncio.sleep(0.1)
    loud = [number for number, packet in enumerate(drain(audio)) if len(set(packet[12:])) > 1]
    return loud[-1] - loud[0]


async def what_is_no_address_of_a_machine_is_refused(house: House) -> None:
    for host in ("255.255.255.255", "169.254.169.254"):
        async with Dialog(house.uri) as dialog:
            with pytest.raises(CallFailed, match="488"):
                await dialog.invite(offer(host, 4000, 4002))


async def strangers_take_nothing_from_a_phone_that_sends_nothing(house: House) -> None:
    """Its picture is what it sends nothing for; its voice stops."""
    phone = Phone(house.uri)
    ports = answered_ports(phone)
    with udp(THIRD) as stranger:
        async with phone:
            phone.mute()
            for seconds in (0.5, 2.5):
                await asyncio.sleep(seconds)
                for number in range(20):
                    for remote in ports.values():
                        stranger.sendto(rtp(0, number, 99), remote)
                    await asyncio.sleep(0.01)
                voice, picture = len(phone.recording.audio.packets), len(phone.recording.video.packets)
                await asyncio.sleep(1.0)
                assert not drain(stranger)
                assert len(phone.recording.audio.packets) > voice + 25
                assert len(phone.recording.video.packets) > picture
            await asyncio.sleep(3.0)  # figures are told every few seconds
            stats = (await house.call(await house.call_id()))["media"]
            assert stats["audio"]["strays"] + stats["video"]["strays"] >= 20
            text = (await house.api.get("/metrics")).text
            total = next(line for line in text.splitlines() if line.startswith("visavis_media_strays_total"))
            assert float(total.split()[1]) >= 20
        assert any(line["event"] == "media_strays" for line in house.log)
