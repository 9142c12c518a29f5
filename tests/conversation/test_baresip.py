"""baresip calls and asks: its recording holds the answer."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from orchestrator.listening.recogniser import Recogniser
from tests.peers.baresip import baresip
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server
from tests.support.speech import speech
from tests.support.waiting import until
from visavis.audio import Resampler

RATE = 48_000


def question(path: Path) -> Path:
    """A WAV: five seconds of silence, in which the greeting is heard, a question, and silence."""
    said = speech("When are you open?", RATE)
    whole = np.concatenate((np.zeros(5 * RATE, np.int16), said, np.zeros(60 * RATE, np.int16)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.repeat(whole, 2).astype("<i2").tobytes())
    return path


def words_in(path: Path) -> str:
    """What is said in a recording."""
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")[::channels]
    sound = Resampler(rate).push(pcm).astype(np.float32) / 32768
    recognise = Recogniser()
    step = 8 * 16_000
    return " ".join(recognise(sound[at : at + step]) for at in range(0, len(sound), step)).lower()


async def hears(house: House) -> bool:
    status = (await house.api.get("/v1/status")).json()
    return all(each["state"] == "ready" for each in status["processes"])


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.peer("baresip", "ffmpeg")
@pytest.mark.parametrize("codec", ["PCMU/8000/1", "opus/48000/2"])
async def test_a_question_that_baresip_plays_is_answered_in_its_recording(tmp_path: Path, codec: str) -> None:
    sound = question(tmp_path / "question.wav")
    async with (
        inference_server() as server,
        orchestrator([server], assistant="scripted", greeting="Hello.") as house,
        house.events() as heard,
    ):
        async with asyncio.timeout(60):
            while not await hears(house):
                await asyncio.sleep(0.1)
        async with baresip(tmp_path / "phone", codec, sound=sound) as phone:
            await phone.command("dial", house.uri)
            await phone.wait("CALL_ESTABLISHED")
            call = await house.call_id()
            await until(lambda: any(each["event"] == "latency" for each in heard))
            await until(lambda: sum(each["event"] == "reply" and each["whole"] for each in heard) == 2)
            await house.api.delete(f"/v1/calls/{call}")
            await phone.wait("CALL_CLOSED")
            recording = phone.heard
    asked = [each["text"] for each in heard if each["event"] == "transcript" and each["final"]]
    assert len(asked) == 1 and "open" in asked[0].lower()
    words = words_in(recording)
    assert "hello" in words and "we are open from" in words and "friday" in words
