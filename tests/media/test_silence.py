"""How long a call has been silent: what ends a call whose phone is gone."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from orchestrator.media.parameters import AudioParameters
from orchestrator.media.session import MediaSession
from orchestrator.rtp import packet, rtcp
from orchestrator.worker.host import MediaHost
from tests.support.media import Phone
from tests.support.waiting import until

pytest_plugins = ["tests.support.media_fixtures"]


def started(host: MediaHost, audio: AudioParameters) -> MediaSession:
    session = host.session(with_video=False)
    session.update(audio, None)
    session.start()
    return session


async def test_silence_counts_from_the_start_and_ends_with_rtp_or_rtcp(host: MediaHost, phone: Phone) -> None:
    session = started(host, AudioParameters("PCMU", 0, phone.address("audio"), phone.address("audio_rtcp")))
    now = time.monotonic() + 100
    assert 99 < session.silent_for(now) < 102
    speech = packet.build(packet.RtpPacket(0, 1, 160, 5, b"\xff" * 160))
    phone.audio.sendto(speech, ("127.0.0.1", session.audio_port))
    await until(lambda: session.audio.socket.heard_ago(now) < 101)
    heard = session.silent_for(now)
    report = rtcp.build(rtcp.ReceiverReport(5))
    await until(lambda: time.monotonic() > now - 99.5)
    phone.audio_rtcp.sendto(report, ("127.0.0.1", session.audio_port + 1))
    await until(lambda: session.silent_for(now) < heard)
    assert session.stats(now).silent_for == session.silent_for(now)
    session.stop()


async def test_a_call_on_hold_is_not_silent(host: MediaHost, phone: Phone) -> None:
    audio = AudioParameters("PCMU", 0, phone.address("audio"))
    session = started(host, audio)
    session.update(replace(audio, direction="recvonly"), None)
    assert session.silent_for(time.monotonic() + 1000) == 0.0
    session.update(audio, None)
    assert 99 < session.silent_for(time.monotonic() + 100) < 101
    session.stop()


async def test_another_address_gets_time_to_speak(host: MediaHost, phone: Phone) -> None:
    audio = AudioParameters("PCMU", 0, phone.address("audio"))
    session = started(host, audio)
    session._awaited -= 500
    session._t0 -= 500
    assert session.silent_for(time.monotonic()) > 400
    session.update(audio, None)
    assert session.silent_for(time.monotonic()) > 400
    session.update(replace(audio, remote=phone.address("video")), None)
    assert session.silent_for(time.monotonic()) < 1
    session.stop()


@pytest.mark.parametrize("data", [b"\x80\x00", b"\x81\xc9\x00\x30" + bytes(12)])
async def test_nonsense_is_no_sign_of_life(host: MediaHost, phone: Phone, data: bytes) -> None:
    session = started(host, AudioParameters("PCMU", 0, phone.address("audio"), phone.address("audio_rtcp")))
    phone.audio_rtcp.sendto(data, ("127.0.0.1", session.audio_port + 1))
    await until(lambda: session.audio.socket.malformed == 1)
    assert session.silent_for(time.monotonic() + 100) > 99
    session.stop()
