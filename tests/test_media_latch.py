"""A phone behind a NAT that moves: voice and picture follow it."""

from __future__ import annotations

import asyncio

from orchestrator.media.host import MediaHost
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import MediaSession
from orchestrator.media.sources import LoopFace
from orchestrator.rtp import packet
from tests.support.media import Phone, card_body, until

pytest_plugins = ["tests.support.media_fixtures"]


async def send(phone: Phone, session: MediaSession, stop: asyncio.Event) -> None:
    """Voice and picture of the same two sources, from wherever the phone is."""
    assert session.video_port
    number = 0
    while not stop.is_set():
        for sock, port, kind in ((phone.audio, session.audio_port, 0), (phone.video, session.video_port, 96)):
            data = packet.build(packet.RtpPacket(kind, number & 0xFFFF, number * 160, 40 + kind, bytes(160)))
            sock.sendto(data, ("127.0.0.1", port))
        number += 1
        await asyncio.sleep(0.02)


async def test_the_picture_follows_the_voice_to_a_new_address(host: MediaHost) -> None:
    signalled, first, second = Phone(), Phone(), Phone()
    session = host.session(face=LoopFace(card_body(5)))
    session.update(
        AudioParameters("PCMU", 0, signalled.address("audio")),
        VideoParameters(96, signalled.address("video"), 192, 128, feedback=frozenset({"nack pli"})),
    )
    session.start()
    for phone in (first, second):
        stop = asyncio.Event()
        sending = asyncio.create_task(send(phone, session, stop))
        phone.drain("audio")
        await until(lambda phone=phone: phone.drain("audio"))
        await until(lambda phone=phone: phone.drain("video"))
        stop.set()
        await sending
    signalled.drain("video")
    await asyncio.sleep(0.2)
    assert not signalled.drain("video")
    session.stop()
    for phone in (signalled, first, second):
        phone.close()
