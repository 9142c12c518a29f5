"""A session that speaks SRTP, seen by a phone that uses libsrtp directly."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from pylibsrtp import Error, Policy, Session

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.rtp import packet, rtcp
from orchestrator.rtp.agreed import SrtpKeys
from orchestrator.worker.host import MediaHost
from orchestrator.worker.messages import ConfigureCall, codec
from testing.loop_face import LoopFace
from tests.support.media import Phone, access_units, card_body
from tests.support.media import decode as decode_pictures
from tests.support.waiting import until

pytest_plugins = ["tests.support.media_fixtures"]

SUITE = "AES_CM_128_HMAC_SHA1_80"
AUDIO = SrtpKeys(SUITE, bytes(range(30)), bytes(range(30, 60)))
VIDEO = SrtpKeys(SUITE, bytes(range(60, 90)), bytes(range(90, 120)))


def reader(keys: SrtpKeys) -> Session:
    return Session(Policy(keys.local_key, Policy.SSRC_ANY_INBOUND))


def writer(keys: SrtpKeys) -> Session:
    return Session(Policy(keys.remote_key, Policy.SSRC_ANY_OUTBOUND))


@pytest.mark.parametrize("mux", [False, True])
async def test_everything_that_goes_out_is_protected(host: MediaHost, phone: Phone, mux: bool) -> None:
    session = host.session(face=LoopFace(card_body(1)))
    audio = AudioParameters(
        "PCMU", 0, phone.address("audio"), phone.address("audio_rtcp"), rtcp_mux=mux, keys=AUDIO
    )
    video = VideoParameters(
        96,
        phone.address("video"),
        192,
        128,
        feedback=frozenset({"nack pli"}),
        remote_rtcp=phone.address("video_rtcp"),
        rtcp_mux=mux,
        keys=VIDEO,
    )
    session.update(audio, video)
    session.start()
    assert session.video
    counters = session.video.counters
    await until(lambda: counters.cached > 10)
    session.update(audio, replace(video, bitrate=1_000_000))
    await until(lambda: counters.cached > 20)
    session.stop()
    for name, keys, stream in (("audio", AUDIO, session.audio), ("video", VIDEO, session.video)):
        session_of_phone = reader(keys)
        datagrams = phone.drain(name)
        muxed = [data for data in datagrams if 192 <= data[1] <= 223]
        sent = [packet.parse(session_of_phone.unprotect(data)) for data in datagrams if data not in muxed]
        assert {p.ssrc for p in sent} == {stream.reports.ssrc}
        assert len(sent) == stream.reports.packets
        if name == "video":
            units = access_units(sent)
            assert len(decode_pictures([nals for _, nals in units])) == len(units)
        else:
            assert {p.payload for p in sent} == {b"\xff" * 160}
        reports = [session_of_phone.unprotect_rtcp(data) for data in muxed or phone.drain(f"{name}_rtcp")]
        assert bool(muxed) == mux
        assert isinstance(rtcp.parse(reports[0])[0], rtcp.SenderReport)
        assert isinstance(rtcp.parse(reports[-1])[-1], rtcp.Goodbye)


async def test_only_what_the_peer_protected_is_heard(host: MediaHost, phone: Phone) -> None:
    class Ear:
        listens = True
        heard_samples = 0

        def heard(self, pcm: object, sent: object, rate: int) -> None:
            self.heard_samples += 1

        def digit(self, digit: str, milliseconds: int) -> None:
            raise AssertionError

    ear = Ear()
    session = host.session(hearing=ear, face=LoopFace(card_body(1)))
    session.update(
        AudioParameters("PCMU", 0, phone.address("audio"), keys=AUDIO),
        VideoParameters(96, phone.address("video"), 192, 128, keys=VIDEO),
    )
    session.start()
    assert session.video and session.video_port
    speaks, asks = writer(AUDIO), writer(VIDEO)
    for number in range(20):
        plain = packet.build(packet.RtpPacket(0, number, number * 160, 5, b"\x10" * 160))
        # A stranger at another port neither is heard nor takes the call over; a copy counts once.
        phone.audio_rtcp.sendto(plain, ("127.0.0.1", session.audio_port))
        secret = speaks.protect(plain)
        for _ in range(2):
            phone.audio.sendto(secret, ("127.0.0.1", session.audio_port))
        await asyncio.sleep(0.01)
    await until(lambda: ear.heard_samples > 10 and session.audio.reception.received_packets >= 20)
    assert session.audio.socket.remote == phone.address("audio")
    assert session.audio.reception.received_packets == 20
    pli = rtcp.build(rtcp.ReceiverReport(7), rtcp.PictureLoss(7, session.video.reports.ssrc))
    sock, keyframes = session.video.socket, session.video.keyframes
    phone.video_rtcp.sendto(pli, ("127.0.0.1", session.video_port + 1))
    await until(lambda: sock.rejected == 1)
    assert keyframes.count == 0
    phone.video_rtcp.sendto(asks.protect_rtcp(pli), ("127.0.0.1", session.video_port + 1))
    await until(lambda: keyframes.count == 1)
    stats = session.stats(time.monotonic())
    assert stats.audio.rejected >= 20
    session.stop()


async def test_new_keys_in_a_reinvite_hold_at_once(host: MediaHost, phone: Phone) -> None:
    session = host.session(with_video=False)
    audio = AudioParameters("PCMU", 0, phone.address("audio"), keys=AUDIO)
    session.update(audio, None)
    session.start()
    await until(lambda: session.audio.reports.packets > 3)
    phone.drain("audio")
    session.update(replace(audio, keys=VIDEO), None)
    now = session.audio.reports.packets
    await until(lambda: session.audio.reports.packets > now + 3)
    session.stop()
    datagrams = phone.drain("audio")
    reads = reader(VIDEO)
    assert all(reads.unprotect(data) for data in datagrams)
    with pytest.raises(Error):
        reader(AUDIO).unprotect(datagrams[0])


def test_keys_reach_the_worker() -> None:
    message = ConfigureCall("c", AudioParameters("PCMU", 0, ("10.0.0.1", 4000), keys=AUDIO), None)
    assert next(codec.decoder().feed(codec.encode(message))) == message
