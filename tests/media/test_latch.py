"""Whom a session's streams go to: a phone behind a NAT that moves, an address nobody was heard at, strangers."""

from __future__ import annotations

import asyncio
import socket
import struct

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import MediaSession
from orchestrator.rtp import h264, packet
from orchestrator.rtp.consent import SignallingPeer
from orchestrator.worker.host import MediaHost
from testing.loop_face import LoopFace
from tests.support.media import Phone, access_units, card_body
from tests.support.waiting import until

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


def from_elsewhere() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.9", 0))
    return sock


def voice(sock: socket.socket, session: MediaSession, count: int, ssrc: int = 40) -> None:
    for number in range(count):
        data = packet.build(packet.RtpPacket(0, number, number * 160, ssrc, bytes(160)))
        sock.sendto(data, ("127.0.0.1", session.audio_port))


async def test_an_unproven_address_gets_half_a_second_of_voice_and_no_picture(
    host: MediaHost, phone: Phone
) -> None:
    peer = SignallingPeer(("127.0.0.8",))
    session = host.session(face=LoopFace(card_body(5)))
    session.update(
        AudioParameters("PCMU", 0, phone.address("audio"), phone.address("audio_rtcp"), peer=peer),
        VideoParameters(96, phone.address("video"), 192, 128, feedback=frozenset({"nack pli"}), peer=peer),
    )
    session.start()
    await until(lambda: session.audio.socket.withheld > 10 and session.video.socket.withheld > 10)
    assert 15 <= len(phone.drain("audio")) <= 25
    assert not phone.drain("video")
    voice(phone.audio, session, 1)
    received: list[packet.RtpPacket] = []
    await until(lambda: received.extend(phone.packets("video")) or len(received) > 40)
    units = access_units(received)
    assert any(h264.is_idr(nals) for _, nals in units[:3])
    assert len(phone.drain("audio")) > 5
    session.stop()


async def test_what_strangers_send_moves_nothing_and_is_not_obeyed(host: MediaHost, phone: Phone) -> None:
    """Neither voice nor RTCP, also where that comes to the port of the picture (RFC 5761)."""
    session = host.session(face=LoopFace(card_body(5)))
    session.update(
        AudioParameters("PCMU", 0, phone.address("audio"), rtcp_mux=True),
        VideoParameters(
            96, phone.address("video"), 192, 128, feedback=frozenset({"nack pli"}), rtcp_mux=True
        ),
    )
    session.start()
    assert session.video is not None and session.video_port is not None
    asked = session.video.keyframes.count
    loss = struct.pack("!BBHIBBHII", 0x80, 201, 1, 7, 0x81, 206, 2, 7, session.video.reports.ssrc)
    with from_elsewhere() as stranger:
        voice(stranger, session, 20)
        stranger.sendto(loss, ("127.0.0.1", session.video_port))
        await until(lambda: session.audio.socket.strays == 20 and session.video.socket.strays == 1)
    assert session.audio.socket.remote == phone.address("audio")
    assert session.video.keyframes.count == asked
    assert session.stats(0.0).audio.stray_source == "127.0.0.9"
    phone.video.sendto(loss, ("127.0.0.1", session.video_port))
    await until(lambda: session.video.keyframes.count == asked + 1)
    session.stop()


async def test_what_was_queued_before_the_phone_was_known_is_not_its_voice(
    host: MediaHost, phone: Phone
) -> None:
    session = host.session()
    session.update(AudioParameters("PCMU", 0, phone.address("audio")), None)
    session.start()
    with from_elsewhere() as stranger:
        for sock, count, ssrc in ((stranger, 3, 99), (phone.audio, 1, 40), (stranger, 20, 99)):
            voice(sock, session, count, ssrc)  # nothing is read meanwhile: the loop is held up
        await until(lambda: session.audio.socket.strays == 23)
    assert session.audio.reception.received_packets == 1
    session.stop()
