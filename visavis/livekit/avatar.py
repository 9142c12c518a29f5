"""LiveKit's ``AvatarSession``: an agent's voice goes through a face on its way to the room."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from fractions import Fraction

from livekit import rtc
from livekit.agents import AgentSession
from livekit.agents.voice.avatar import AvatarOptions, AvatarRunner, AvatarSession, QueueAudioOutput

from visavis.client.model import AvatarSource
from visavis.client.pool import ServerPool
from visavis.livekit.generator import VisavisVideoGenerator


class VisavisAvatarSession(AvatarSession[None]):
    """The face of one agent, drawn by avatar servers and published by the agent's own participant.

    ``image``: bytes of an image file, or an :class:`~visavis.AvatarSource`. :meth:`start` it before the
    ``AgentSession``. The other settings are those of :class:`VisavisVideoGenerator`.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | ServerPool,
        image: bytes | AvatarSource,
        *,
        width: int = 512,
        height: int = 512,
        fps: int = 25,
        sample_rate: int = 24_000,
    ) -> None:
        super().__init__()
        self._servers = servers
        self._source = (
            image if isinstance(image, AvatarSource) else AvatarSource(image, width, height, Fraction(fps))
        )
        self._sample_rate = sample_rate
        self._kept = contextlib.AsyncExitStack()

    @property
    def avatar_identity(self) -> str:
        """The agent's own participant."""
        return self._room.local_participant.identity if self._room is not None else ""

    @property
    def provider(self) -> str:
        """For LiveKit's metrics."""
        return "visavis"

    async def start(self, agent_session: AgentSession, room: rtc.Room) -> None:
        """Prepare the face and put it between voice and room. Raises as :class:`~visavis.AvatarSession` does."""
        source, rate = self._source, self._sample_rate
        async with contextlib.AsyncExitStack() as opening:
            generator = VisavisVideoGenerator(self._servers, source, sample_rate=rate, session_id=room.name)
            await opening.enter_async_context(generator)
            output = QueueAudioOutput(sample_rate=rate, wait_playback_start=True)
            runner = AvatarRunner(
                room,
                audio_recv=output,
                video_gen=generator,
                options=AvatarOptions(
                    video_width=source.width,
                    video_height=source.height,
                    video_fps=float(source.fps),
                    audio_sample_rate=rate,
                    audio_channels=1,
                ),
            )
            await runner.start()
            opening.push_async_callback(runner.aclose)
            opening.callback(generator.follow(agent_session))
            await super().start(agent_session, room)
            self._kept = opening.pop_all()
        agent_session.output.audio = output

    async def aclose(self) -> None:
        """End the face; the agent's voice goes with it."""
        await self._kept.aclose()
        await super().aclose()
