"""A LiveKit agent with a face: ``python examples/livekit_avatar.py dev``, beside a LiveKit and an inference server.

``VISAVIS_SERVERS`` names the inference servers, ``SPEECH`` a WAV that it says; give ``AgentSession`` your ``stt``,
``llm`` and ``tts`` and it converses.
"""

import os
import wave
from collections.abc import AsyncIterator

from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext, WorkerOptions, cli

from visavis import portraits
from visavis.livekit import VisavisAvatarSession


async def speech(path: str) -> AsyncIterator[rtc.AudioFrame]:
    """A 16-bit mono WAV, in pieces of 100 ms."""
    with wave.open(path) as file:
        rate = file.getframerate()
        while data := file.readframes(rate // 10):
            yield rtc.AudioFrame(data, rate, 1, len(data) // 2)


async def entrypoint(ctx: JobContext) -> None:
    """One conversation."""
    servers = os.environ.get("VISAVIS_SERVERS", "127.0.0.1:50051")
    avatar = VisavisAvatarSession(servers, portraits.DEFAULT.read_bytes())
    session: AgentSession[None] = AgentSession()
    await avatar.start(session, room=ctx.room)
    await session.start(Agent(instructions="Be kind."), room=ctx.room)
    await session.say("Hello.", audio=speech(os.environ.get("SPEECH", "speech.wav")))


if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
