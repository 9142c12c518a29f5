"""The caller's side of a call in a worker process: heard on request, and pressed keys on their way to it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from orchestrator.calls.listeners import Listener, Listening
from orchestrator.media.parameters import AudioParameters
from orchestrator.rtp import packet
from orchestrator.rtp.codecs import make_codec
from orchestrator.rtp.dtmf import DtmfReceiver
from orchestrator.rtp.jitter import STEP
from orchestrator.worker.host import HostSettings
from orchestrator.worker.inbound import CHUNK_STEPS, InboundAudio
from orchestrator.worker.messages import (
    ConfigureCall,
    DigitsRefused,
    Heard,
    Listen,
    Message,
    SendDigits,
    Setup,
    StartCall,
)
from orchestrator.worker.pool import PoolSettings, WorkerPool
from tests.support.media import Phone
from tests.support.waiting import until

HERTZ = 440


@pytest.fixture
async def worker(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[WorkerPool, list[Message], Listening]]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    said: list[Message] = []

    def take(message: Message) -> None:
        said.append(message)
        if isinstance(message, Heard):
            listening.heard(message)

    pool = WorkerPool(PoolSettings(Setup(HostSettings())), take)
    listening = Listening(pool.send)
    await pool.start()
    yield pool, said, listening
    await pool.close()


async def opened(pool: WorkerPool, phone: Phone, telephone_event: int | None = 101) -> int:
    ports = await pool.open_call("a", video=False)
    audio = AudioParameters("PCMU", 0, phone.address("audio"), telephone_event=telephone_event)
    pool.send(ConfigureCall("a", audio, None))
    pool.send(StartCall("a"))
    return ports.audio_port


async def speak(phone: Phone, port: int, lost: float) -> None:
    """A tone in real time, with so much of it lost."""
    codec, rng = make_codec("PCMU"), random.Random(1)
    t = np.arange(160) / 8000
    for number in itertools.count():
        sound = (9000 * np.sin(2 * np.pi * HERTZ * (t + number * 0.02))).astype(np.int16)
        data = packet.build(packet.RtpPacket(0, number & 0xFFFF, number * 160, 5, codec.encode(sound)))
        if number < 10 or rng.random() >= lost:
            phone.audio.sendto(data, ("127.0.0.1", port))
        await asyncio.sleep(0.02)


def purity(sound: np.ndarray, rate: int) -> float:
    """Share of the energy that lies within 20 Hz of the tone."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / rate)
    return float(spectrum[np.abs(hertz - HERTZ) < 20].sum() / spectrum.sum())


@pytest.mark.process
async def test_the_tone_is_heard_through_the_worker_at_five_percent_loss(worker) -> None:
    pool, said, listening = worker
    phone = Phone()
    port = await opened(pool, phone)
    speaking = asyncio.create_task(speak(phone, port, 0.05))
    await until(lambda: phone.drain("audio"))
    assert not any(isinstance(message, Heard) for message in said)
    heard: list = []
    async with asyncio.timeout(30), listening.listen("a") as listener:
        async for voice in listener:
            heard.append(voice)
            if len(heard) * CHUNK_STEPS * STEP >= 2.5 * 16_000:
                break
    speaking.cancel()
    assert [v.position for v in heard] == [n * CHUNK_STEPS * STEP for n in range(len(heard))]
    sound = np.concatenate([voice.pcm for voice in heard])[8000:]
    assert purity(sound.astype(float), 16_000) > 0.9
    await pool.close_call("a")
    said.clear()
    await asyncio.sleep(0.2)
    assert not any(isinstance(message, Heard) for message in said)
    phone.close()


@pytest.mark.process
async def test_keys_leave_the_worker_as_events_in_the_voices_place(worker) -> None:
    pool, said, _ = worker
    phone = Phone()
    await opened(pool, phone)
    await until(lambda: phone.drain("audio"))
    pool.send(SendDigits("a", "4#", 80))
    packets: list[packet.RtpPacket] = []
    await until(
        lambda: packets.extend(phone.packets("audio")) or sum(p.payload_type == 101 for p in packets) >= 12
    )
    await until(lambda: packets.extend(phone.packets("audio")) or packets[-1].payload_type == 0)
    receiver = DtmfReceiver()
    events = [p for p in packets if p.payload_type == 101]
    digits = [
        receiver.push(packet.parse_header(packet.build(p)), p.payload, p.sequence * 0.02) for p in events
    ]
    assert "".join(digit.digit for digit in digits if digit) == "4#"
    assert [b.sequence - a.sequence for a, b in itertools.pairwise(packets)].count(1) == len(packets) - 1
    assert [p.timestamp for p in events] == sorted(p.timestamp for p in events)
    assert len({p.timestamp for p in events}) == 2 and {p.ssrc for p in events} == {packets[0].ssrc}
    after = next(p for a, p in itertools.pairwise(packets) if a.payload_type == 101 and p.payload_type == 0)
    assert after.marker and (after.timestamp - events[0].timestamp) % 160 == 0
    assert not any(isinstance(message, DigitsRefused) for message in said)
    phone.close()


@pytest.mark.process
async def test_keys_that_the_phone_does_not_take_are_refused_and_the_call_goes_on(worker) -> None:
    pool, said, _ = worker
    phone = Phone()
    await opened(pool, phone, telephone_event=None)
    pool.send(SendDigits("a", "1"))
    await until(lambda: any(isinstance(message, DigitsRefused) for message in said))
    (refused,) = [message for message in said if isinstance(message, DigitsRefused)]
    assert "telephone-event" in refused.reason
    phone.drain("audio")
    await until(lambda: phone.drain("audio"))
    phone.close()


def test_while_the_way_is_congested_the_voice_is_left_out_and_the_gap_shows() -> None:
    sent: list[Message] = []
    congested = False
    ear = InboundAudio("a", lambda: None, sent.append, lambda: congested)
    assert not ear.listens
    ear.wanted = True
    for number in range(6):
        congested = 2 <= number < 4
        ear.heard(np.full(STEP, number, np.int16), np.full(160, 7 + number, np.int16), 8000)
    heard = [m for m in sent if isinstance(m, Heard)]
    assert [m.position for m in heard] == [0, STEP, 4 * STEP, 5 * STEP]
    for m in heard:
        number = m.position // STEP
        assert m.payload == bytes([number, 0]) * STEP + bytes([7 + number, 0]) * 160
        assert (m.reference, m.rate) == (320, 8000)


async def test_a_slow_listener_loses_the_oldest_and_ends_with_the_call() -> None:
    sent: list[Message] = []
    listening = Listening(sent.append)
    slow, other = listening.listen("a"), listening.listen("a")
    for number in range(60):
        listening.heard(Heard("a", number * 640, bytes(1280)))
    assert (slow.dropped, other.dropped) == (10, 10)
    async with other:
        pass
    assert sent == [Listen("a", True), Listen("a", True)]
    listening.ended("a")
    assert [voice.position for voice in [v async for v in slow]] == [n * 640 for n in range(10, 60)]
    async with slow:
        pass
    assert isinstance(slow, Listener) and len(sent) == 2
