"""A call that is heard by one service of others and spoken to by another one, until both are gone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.scripted import http_service, script, websocket_service
from tests.support.talk import talking
from tests.support.waiting import until

SAID = ("When are you open?", "Please tell me where you are.")
RATE = 8000
TONE = 660
"""What the service says, whatever it is asked: it sends sound of 16 kHz as if it were of 24."""


def hertz(pcm: np.ndarray) -> float:
    """The strongest frequency of the loudest half second."""
    size = RATE // 2
    best = max(
        (pcm[at : at + size].astype(float) for at in range(0, len(pcm) - size, size // 2)), key=np.linalg.norm
    )
    return float(np.argmax(np.abs(np.fft.rfft(best * np.hanning(size)))) * RATE / size)


@pytest.mark.process
@pytest.mark.slow
async def test_services_hear_and_speak_and_what_is_built_in_takes_their_place() -> None:
    async with (
        websocket_service(script("deepgram"), script("deepgram_429")) as stt,
        http_service(script("openai_tts")) as tts,
        talking(
            SAID,
            greeting="Hello.",
            stt="deepgram",
            stt_url=stt.url,
            stt_key="stt-secret",
            tts="openai",
            tts_url=tts.http,
            tts_key="tts-secret",
        ) as talk,
    ):
        api = talk.house.api
        await talk.of("turn_finished", turn_id=1)
        talk.say(SAID[1])
        said = await talk.of("transcript", final=True)
        assert said["text"] == "When are you open?" and said["words"][0]["text"] == "When"
        answer = await talk.of("reply", whole=True, turn_id=2)
        assert "nine to six" in answer["text"]
        assert hertz(talk.phone.recording.samples()[-2 * RATE :]) == pytest.approx(TONE, abs=4)
        services = {each["part"]: each for each in (await api.get("/v1/status")).json()["services"]}
        assert {part: each["state"] for part, each in services.items()} == {"stt": "works", "tts": "works"}
        assert {"input", "voice"} <= tts.came[-1].keys()

        tts.scripts[:] = [script("openai_tts_500")]
        stt.drop()
        talk.say(SAID[1])
        said = await talk.of("transcript", 2, final=True)
        assert "where" in said["text"].lower() and "words" not in said
        answer = await talk.of("reply", whole=True, turn_id=3)
        assert "town hall" in answer["text"]
        assert abs(hertz(talk.phone.recording.samples()[-2 * RATE :]) - TONE) > 20
        services = {each["part"]: each for each in (await api.get("/v1/status")).json()["services"]}
        assert {part: each["state"] for part, each in services.items()} == {"stt": "rests", "tts": "rests"}
        assert services["tts"]["reason"] == "the voice's service answered 500"
        await until(lambda: bool(talk.house.log))
    lines = str(talk.house.log)
    assert "stt-secret" not in lines and "tts-secret" not in lines and "nine to six" not in lines
