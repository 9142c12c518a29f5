"""Words into a browser's microphone become captions on its page, and the assistant's answer too."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from tests.console.test_call import CALL, LIVE, READY, console
from tests.support.chromium import FAKE_DEVICES, chromium
from tests.support.house import orchestrator
from tests.support.servers import inference_server
from tests.support.speech import speech

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium")]
RATE = 48_000
BEFORE_S, AFTER_S = 9.0, 60.0
"""Of silence: the assistant greets first."""


def microphone(path: Path, text: str) -> Path:
    """A file that Chromium takes for the microphone."""
    silence = [np.zeros(round(seconds * RATE), np.int16) for seconds in (BEFORE_S, AFTER_S)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.concatenate([silence[0], speech(text, RATE), silence[1]]).astype("<i2").tobytes())
    return path


async def test_what_is_said_into_the_microphone_is_read_on_the_page(tmp_path: Path) -> None:
    file = microphone(tmp_path / "question.wav", "When are you open?")
    captions = "[...document.querySelectorAll('.captions li')].map(one => one.textContent)"
    async with (
        inference_server() as server,
        orchestrator([server], assistant="scripted") as house,
        chromium(
            console(house), *FAKE_DEVICES, f"--use-file-for-fake-audio-capture={file}%noloop", ready=READY
        ) as tab,
    ):
        await tab.run(f"{CALL}, true")
        await tab.until(LIVE)
        await tab.until(f"{captions}.some(one => /^Caller.*open/i.test(one))", 40)
        asked = await tab.run(f"{captions}.findIndex(one => /^Caller.*open/i.test(one))")
        await tab.until(f"{captions}.slice({asked + 1}).some(one => one.startsWith('Face'))", 20)
