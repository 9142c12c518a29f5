"""What the face of a LiveKit agent does while nothing is said: the real session hears and is slow to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.llm import LLM
from livekit.agents.voice.io import AudioInput
from numpy.typing import NDArray

from tests.support.fake_server import HEIGHT, SEGMENTS, WIDTH, fake_server, of_segments
from tests.support.house import tone
from tests.support.vowels import vowels
from tests.with_livekit.room import RATE, Room
from visavis.livekit import VisavisAvatarSession

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("livekit_runtime")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class Microphone(AudioInput):
    """In real time, silence between what is said."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._said = np.zeros(0, np.int16)
        self._due = 0.0

    def say(self, sound: NDArray[np.int16]) -> None:
        self._said = sound

    async def __anext__(self) -> rtc.AudioFrame:
        clock = asyncio.get_running_loop()
        self._due = max(self._due, clock.time() - 0.1) + 0.02
        await asyncio.sleep(self._due - clock.time())
        piece, self._said = self._said[: RATE // 50], self._said[RATE // 50 :]
        return rtc.AudioFrame(np.pad(piece, (0, RATE // 50 - len(piece))).tobytes(), RATE, 1, RATE // 50)


class Unused(LLM):
    """The agent answers itself."""

    def chat(self, **options: Any) -> Any:
        raise NotImplementedError


class SlowAgent(Agent):
    """Thinks for two seconds and a half, then says a tone."""

    def __init__(self) -> None:
        super().__init__(instructions="Be kind.", llm=Unused())

    async def llm_node(self, *_: Any) -> AsyncIterator[str]:
        await asyncio.sleep(2.5)
        yield "Hello."

    async def tts_node(self, text: AsyncIterator[str], _: Any) -> AsyncIterator[rtc.AudioFrame]:
        async for _word in text:
            yield rtc.AudioFrame(tone(1, rate=RATE).tobytes(), RATE, 1, RATE)


async def test_it_listens_nods_at_a_pause_and_thinks_until_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = asyncio.get_running_loop()
    entered: list[tuple[float, str]] = []
    states: list[tuple[float, str]] = []

    def capture(_: rtc.VideoSource, frame: rtc.VideoFrame, **options: Any) -> None:
        kind = SEGMENTS.get(frame.data[0] - 16)
        if kind is not None:
            entered.append((clock.time(), kind))

    monkeypatch.setattr(rtc.VideoSource, "capture_frame", capture)
    microphone, room = Microphone(), Room()
    async with fake_server(of_segments()) as server, asyncio.timeout(60):
        avatar = VisavisAvatarSession(server.address, b"image of anna", width=WIDTH, height=HEIGHT)
        session: AgentSession[None] = AgentSession(turn_handling={"turn_detection": "manual"})
        session.on("user_state_changed", lambda e: states.append((clock.time(), f"user {e.new_state}")))
        session.on("agent_state_changed", lambda e: states.append((clock.time(), f"agent {e.new_state}")))
        session.input.audio = microphone
        await avatar.start(session, room=room)
        try:
            await session.start(SlowAgent())
            await asyncio.sleep(1)
            microphone.say(vowels(3, RATE))
            await asyncio.sleep(5)
            reply = session.generate_reply(user_input="Well?")
            await reply.wait_for_playout()
            await asyncio.sleep(1)
        finally:
            await session.aclose()
            await avatar.aclose()

    def between(first: str, last: str) -> list[str]:
        """What the body went into in a state, once pictures that were on their way have come."""
        start = next(at for at, state in states if state == first)
        end = next(at for at, state in states if state == last and at > start)
        return [kind for at, kind in entered if start + 0.2 < at < end]

    listening = between("user speaking", "user listening")
    assert len(listening) >= 3 and set(listening) <= {"breath", "tilt", "lift"}
    paused, thinks = (
        next(at for at, s in states if s == each) for each in ("user listening", "agent thinking")
    )
    (nod,) = [at for at, kind in entered if kind == "nod" and at < thinks]
    assert paused < nod < paused + 1.1
    thinking = between("agent thinking", "agent speaking")[
        :-1
    ]  # the last may be of the turn, which has begun
    assert len(thinking) >= 3 and set(thinking) == {"away", "tilt"}
    assert states[-1][1] == "agent listening"
