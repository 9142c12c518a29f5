"""LiveKit's ``VideoGenerator`` over an avatar session (livekit-agents 1.8, ``livekit.agents.voice.avatar``)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType

import numpy as np
from livekit import rtc
from livekit.agents import AgentSession, AgentStateChangedEvent, UserStateChangedEvent
from livekit.agents.voice.avatar import AudioSegmentEnd, VideoGenerator

from visavis.client.model import AvatarSource
from visavis.client.pool import ServerPool
from visavis.session import AvatarSession, FaceState, SessionEvent, SpeechFinished


class VisavisVideoGenerator(VideoGenerator):
    """One agent's face, for LiveKit's ``AvatarRunner``; for ``async with``, which waits until it can be shown.

    ``servers``: addresses, or a :class:`~visavis.ServerPool` that several agents share. ``sample_rate``: that of
    ``AvatarOptions.audio_sample_rate``; what is pushed may have any. Raises as :class:`~visavis.AvatarSession`.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | ServerPool,
        source: AvatarSource,
        *,
        sample_rate: int = 24_000,
        session_id: str = "",
    ) -> None:
        self.source = source
        self.sample_rate = sample_rate
        self._servers = servers
        self._session_id = session_id
        self._kept = contextlib.AsyncExitStack()
        self._face: AvatarSession | None = None
        self._cuts = 0
        self._ended = 0  # turns whose last sound went out and that LiveKit was not told of yet

    async def __aenter__(self) -> VisavisVideoGenerator:
        async with contextlib.AsyncExitStack() as opening:
            pool = self._servers
            if not isinstance(pool, ServerPool):
                pool = await opening.enter_async_context(ServerPool(pool))
            face = pool.session(self.source, session_id=self._session_id, on_event=self._on_event)
            self._face = await opening.enter_async_context(face)
            self._kept = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """The end of ``async with``."""
        await self._kept.aclose()

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Speech of the agent, or the end of what it had to say."""
        if isinstance(frame, AudioSegmentEnd):
            self._opened.end_turn()
            return
        samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
        mono = samples[:, 0] if frame.num_channels == 1 else samples.mean(axis=1).astype(np.int16)
        self._opened.feed(mono, frame.sample_rate)

    def clear_buffer(self) -> None:
        """The agent was interrupted: silence and a mouth at rest from the next picture on."""
        self._cuts += 1
        self._opened.interrupt()

    def show_state(self, state: FaceState | None) -> None:
        """See :meth:`visavis.AvatarSession.show_state`; :meth:`follow` calls it."""
        self._opened.show_state(state)

    def user_speaks(self, speaks: bool) -> None:
        """See :meth:`visavis.AvatarSession.user_speaks`; :meth:`follow` calls it."""
        self._opened.user_speaks(speaks)

    def follow(self, session: AgentSession) -> Callable[[], None]:
        """Have the face listen, nod and think as the states of the agent and its user say; returns what ends it."""

        def show(_: AgentStateChangedEvent | None = None) -> None:
            state = session.agent_state
            self.show_state("idle" if state == "initializing" else state)

        def listen(event: UserStateChangedEvent) -> None:
            self.user_speaks(event.new_state == "speaking")

        def end() -> None:
            session.off("agent_state_changed", show)
            session.off("user_state_changed", listen)

        show()
        session.on("agent_state_changed", show)
        session.on("user_state_changed", listen)
        return end

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        async with contextlib.aclosing(self._opened.play(self.sample_rate)) as playing:
            async for picture, sound in playing:
                size = (picture.width, picture.height)
                cuts = self._cuts
                yield rtc.VideoFrame(*size, rtc.VideoBufferType.I420, picture.pixels.tobytes())
                if sound is not None and cuts == self._cuts:
                    yield rtc.AudioFrame(sound.tobytes(), self.sample_rate, 1, len(sound))
                while self._ended:
                    self._ended -= 1
                    yield AudioSegmentEnd()

    @property
    def _opened(self) -> AvatarSession:
        if self._face is None:
            raise RuntimeError("the video generator is not open: use it in `async with`")
        return self._face

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, SpeechFinished) and not event.interrupted:
            self._ended += 1
