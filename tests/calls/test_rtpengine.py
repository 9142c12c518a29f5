"""Kamailio with rtpengine in the media path: voice and picture through the relay, held, resumed and moved."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from testing.caller import Phone
from testing.caller.media import has_parameter_sets
from tests.peers.rtpengine import rtpengine
from tests.peers.sip_proxy import kamailio
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server
from tests.support.watched import RATE, loud, watch

pytestmark = [pytest.mark.peer("kamailio", "rtpengine"), pytest.mark.process, pytest.mark.slow]
RELAY = "127.0.0.9"


async def heard_and_seen(house: House, call: str, phone: Phone) -> set[int]:
    """A turn is heard whole and its mouths are seen; returns the numbers of the avatars."""
    for stream in (phone.recording.audio, phone.recording.video):
        stream.packets.clear()
        stream.reports.clear()
    await phone.request_keyframe("pli")
    turn = await house.play(call, [(0.5, tone(2.0))])
    assert (await house.turn(call, turn))["heard_ms"] == pytest.approx(2000, abs=1)
    await asyncio.sleep(0.5)
    assert len(loud(phone.recording)) == pytest.approx(2.0 * RATE, rel=0.15)
    packets = phone.recording.video.packets
    del packets[: next(at for at, packet in enumerate(packets) if has_parameter_sets(packet.payload))]
    seen = watch(phone.recording)
    assert len([s for s in seen if s.card.mouth is not None]) > 35
    return {s.card.number for s in seen}


async def test_a_call_through_a_relay(tmp_path: Path) -> None:
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        rtpengine(tmp_path, RELAY) as control,
        kamailio(tmp_path, house.sip_port, relay=control) as proxy,
        Phone(f"sip:anna@127.0.0.1:{proxy}") as phone,
    ):
        call = await house.call_id()
        assert phone._media is not None
        assert {host for host, _ in phone._media._remote.values()} == {RELAY}
        await house.idle_cached(call)
        numbers = await heard_and_seen(house, call, phone)

        await phone.renegotiate("sendonly")
        await asyncio.sleep(0.5)
        held = phone.recording.audio.received, phone.recording.video.received
        await asyncio.sleep(0.7)
        assert (phone.recording.audio.received, phone.recording.video.received) == held
        await phone.renegotiate("sendrecv")
        numbers |= await heard_and_seen(house, call, phone)

        before = phone._media.audio_port
        await phone.move()  # the phone's ports
        assert phone._media.audio_port != before
        numbers |= await heard_and_seen(house, call, phone)

        ports = dict(phone._media._remote)
        await phone.renegotiate("sendrecv", ("X-Other-Relay: yes",))  # the relay's, on both sides
        assert {kind: phone._media._remote[kind] == at for kind, at in ports.items()} == {
            "audio": False, "video": False,
        }  # fmt: skip
        numbers |= await heard_and_seen(house, call, phone)
        assert len(numbers) == 1
        media = (await house.call(call))["media"]
        assert media["audio"]["strays"] < 50 and media["audio"]["peer_lost"] is not None
