"""A peer that answered our offer sends with its own numbers or with ours (RFC 3264 section 5.1)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.media.audio.stream import formats
from orchestrator.media.parameters import AudioParameters
from orchestrator.media.sources import SilentVoice
from orchestrator.rtp import packet
from orchestrator.rtp.codecs import make_codec
from orchestrator.rtp.dtmf import event_payloads
from orchestrator.worker.host import MediaHost
from tests.support.media import Phone
from tests.support.waiting import until

pytest_plugins = ["tests.support.media_fixtures"]

OFFERED = (
    (111, "opus", 48_000),
    (9, "G722", 8000),
    (0, "PCMU", 8000),
    (8, "PCMA", 8000),
    (13, "CN", 8000),
    (101, "telephone-event", 8000),
    (110, "telephone-event", 48_000),
)
REMOTE = ("127.0.0.1", 4000)


class Ear:
    """What a caller says."""

    listens = True

    def __init__(self) -> None:
        self.digits: list[tuple[str, int]] = []
        self.sound: list[np.ndarray] = []

    def heard(self, pcm: np.ndarray, sent: np.ndarray, rate: int) -> None:
        self.sound.append(pcm)

    def digit(self, digit: str, milliseconds: int) -> None:
        self.digits.append((digit, milliseconds))


def of(codec: str, number: int, event: int | None, rate: int = 8000, **more: object) -> AudioParameters:
    return AudioParameters(
        codec,
        number,
        REMOTE,
        telephone_event=event,
        telephone_event_rate=rate,
        **{"offered": OFFERED, **more},
    )  # type: ignore[arg-type]


def test_both_numbers_of_keys_and_of_opus() -> None:
    found = formats(of("opus", 96, 97, 48_000))
    assert {number: found[number] for number in (96, 111)} == dict.fromkeys((96, 111), ("voice", 48_000))
    assert (found[97], found[110], found[101]) == (("event", 48_000), ("event", 48_000), ("event", 8000))
    assert not {0, 8, 9, 13} & found.keys()


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_static_codecs_that_an_answer_numbers_anew(codec: str) -> None:
    static = {"PCMU": 0, "PCMA": 8}[codec]
    found = formats(of(codec, 120, None, comfort_noise=98))
    assert found[120] == found[static] == ("voice", 8000)
    assert found[98] == found[13] == ("noise", 8000)


def test_where_numbers_clash_the_answer_counts() -> None:
    assert formats(of("opus", 101, 111, 48_000)) == {
        101: ("voice", 48_000),
        111: ("event", 48_000),
        110: ("event", 48_000),
    }


def test_without_an_offer_of_ours_there_are_the_peers_numbers_only() -> None:
    assert formats(of("PCMU", 0, 96, offered=())) == {
        0: ("voice", 8000),
        96: ("event", 8000),
        13: ("noise", 8000),
    }


@pytest.mark.parametrize(("number", "rate"), [(96, 8000), (101, 8000), (110, 48_000)])
async def test_keys_are_heard_by_either_number(host: MediaHost, phone: Phone, number: int, rate: int) -> None:
    ear = Ear()
    session = host.session(SilentVoice(), None, ear)
    agreed = of("PCMU", 0, 96)
    session.update(replace(agreed, remote=phone.address("audio")), None)
    session.start()
    for sequence, (marker, payload) in enumerate(event_payloads("5", rate // 10, rate // 50)):
        data = packet.build(packet.RtpPacket(number, sequence, 160, 5, payload, marker))
        phone.audio.sendto(data, ("127.0.0.1", session.audio_port))
    await until(lambda: ear.digits)
    await asyncio.sleep(0.05)
    session.stop()
    assert ear.digits == [("5", 20)]


@pytest.mark.parametrize("number", [96, 111])
async def test_opus_is_heard_by_either_number(host: MediaHost, phone: Phone, number: int) -> None:
    ear, codec = Ear(), make_codec("opus")
    session = host.session(SilentVoice(), None, ear)
    agreed = of("opus", 96, None)
    session.update(replace(agreed, remote=phone.address("audio")), None)
    session.start()
    samples = codec.sample_rate // 50
    for sequence in range(25):
        t = (np.arange(samples) + sequence * samples) / codec.sample_rate
        payload = codec.encode((9000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16))
        data = packet.build(packet.RtpPacket(number, sequence, sequence * 960, 5, payload))
        phone.audio.sendto(data, ("127.0.0.1", session.audio_port))
        await asyncio.sleep(0.02)
    await until(lambda: any(np.abs(pcm.astype(int)).max(initial=0) > 5000 for pcm in ear.sound))
    session.stop()
