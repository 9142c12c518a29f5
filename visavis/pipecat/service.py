"""Pipecat's video service over an avatar session (pipecat-ai 1.14)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    OutputImageRawFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from visavis.client.model import AvatarSource
from visavis.client.pool import ServerPool
from visavis.errors import VisavisError
from visavis.pipecat.held import HeldFrames
from visavis.playout.turn import PCM
from visavis.session import (
    AvatarSession,
    FacePicture,
    FaceState,
    SessionEvent,
    SpeechFinished,
    SpeechStarted,
)

_END_S = 0.4
"""How long before its last sound a turn is ended, so that sentences that follow on each other are one turn."""


class VisavisVideoService(AIService):
    """The face of one bot: stands between text to speech and ``transport.output()``.

    Takes ``TTSAudioRawFrame``, returns it in real time with an ``OutputImageRawFrame`` for each picture, idle
    included; frames that came behind speech go on when that has been heard. ``servers``: addresses, or a
    :class:`~visavis.ServerPool` that several bots share. ``image``: bytes of an image file, or an
    :class:`~visavis.AvatarSource`. The pipeline waits ``wait_s`` for the face; until there is one the voice
    passes as it comes. While nothing is said the face does what frames tell of the user and the model: it listens,
    nods, thinks. Events: ``on_speech_started()``, and ``on_speech_finished(position, interrupted)`` with
    the seconds that went out.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | ServerPool,
        image: bytes | AvatarSource,
        *,
        width: int = 512,
        height: int = 512,
        fps: int = 25,
        session_id: str = "",
        wait_s: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(settings=ServiceSettings(model=None), **options)
        self._servers = servers
        self._source = (
            image if isinstance(image, AvatarSource) else AvatarSource(image, width, height, Fraction(fps))
        )
        self._session_id = session_id
        self._wait_s = wait_s
        self._rate = 0
        self._face: AvatarSession | None = None
        self._there = asyncio.Event()
        self._news = asyncio.Event()  # after every picture, and when there are no more
        self._held: HeldFrames[Frame] = HeldFrames()
        self._told: list[SessionEvent] = []
        self._open = False  # a turn of the face is being fed
        self._ending = False  # no more of it is to come, unless the next reply follows at once
        self._passing = False  # this reply began without a face
        self._unsaid = False  # a response began of which nothing was said yet
        self._calls: set[str] = set()  # functions that the model waits for
        self._cuts = 0
        self._showing: asyncio.Task[None] | None = None
        self._register_event_handler("on_speech_started")
        self._register_event_handler("on_speech_finished")

    # -- Pipecat's interface --

    async def setup(self, setup: FrameProcessorSetup) -> None:
        await super().setup(setup)
        self._rate = setup.audio_out_sample_rate
        self._showing = self.create_task(self._show())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._there.wait(), self._wait_s)

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._end()

    async def stop(self, frame: EndFrame) -> None:
        await super().stop(frame)
        await self._end()

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self._end()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, EndFrame):
            await self._said()
        await super().process_frame(frame, direction)
        self._attend(frame)
        if isinstance(frame, TTSAudioRawFrame) and self._takes():
            self._feed(frame)
        elif isinstance(frame, InterruptionFrame):
            await self.push_frame(frame, direction)
            await self._interrupt()
        elif isinstance(frame, SystemFrame | EndFrame) or direction == FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        else:
            if isinstance(frame, TTSStoppedFrame):
                self._passing, self._ending = False, self._open
            elif isinstance(frame, TTSStartedFrame):
                self._passing = False
            if not self._held.hold(frame):
                await self.push_frame(frame, direction)

    def show_state(self, state: FaceState | None) -> None:
        """See :meth:`visavis.AvatarSession.show_state`; frames tell it, too."""
        if self._face is not None:
            self._face.show_state(state)

    # -- inside --

    def _attend(self, frame: Frame) -> None:
        """Have the face listen and think while nothing is said."""
        match frame:
            case UserStartedSpeakingFrame() | VADUserStartedSpeakingFrame() if self._face is not None:
                self._face.user_speaks(True)
            case UserStoppedSpeakingFrame() | VADUserStoppedSpeakingFrame() if self._face is not None:
                self._face.user_speaks(False)
            case LLMFullResponseStartFrame():
                self._unsaid = True
                self._think()
            case TTSStartedFrame():
                self._unsaid = False
            case TTSStoppedFrame() if not self._open:  # without a sound
                self._think()
            case LLMFullResponseEndFrame() if self._unsaid:
                self._unsaid = False
                self._think()
            case FunctionCallInProgressFrame() if frame.cancel_on_interruption:
                self._calls.add(frame.tool_call_id)
                self._think()
            case FunctionCallResultFrame() | FunctionCallCancelFrame() if frame.tool_call_id in self._calls:
                self._calls.discard(frame.tool_call_id)
                self._think()
            case InterruptionFrame():
                self._unsaid = False
                self._calls.clear()
                self._think()

    def _think(self) -> None:
        """Until the first sound, or, where it is there, from the end of what is said on."""
        self.show_state("thinking" if self._unsaid or self._calls else None)

    def _takes(self) -> bool:
        self._passing = self._passing or self._face is None
        return not self._passing

    def _feed(self, frame: TTSAudioRawFrame) -> None:
        samples = np.frombuffer(frame.audio, np.int16).reshape(-1, frame.num_channels)
        mono = samples[:, 0] if frame.num_channels == 1 else samples.mean(axis=1).astype(np.int16)
        if self._face is not None and len(mono):
            self._open, self._ending = True, False
            self._face.feed(mono, frame.sample_rate)
            self._held.fed += len(mono) / frame.sample_rate

    async def _interrupt(self) -> None:
        self._cuts += 1
        self._open = self._ending = self._passing = False
        if self._face is not None:
            self._face.interrupt()
        for frame in self._held.cut(lambda frame: not frame.interruptible):
            await self.push_frame(frame)
        await self._tell()

    async def _said(self) -> None:
        """All that was fed has been heard."""
        self._ending = self._open
        while self._held.heard < self._held.fed and self._showing is not None and not self._showing.done():
            self._news.clear()
            await self._news.wait()
        await self._let_go()

    async def _show(self) -> None:
        """Open the face and hand on what it shows, to the end of the pipeline."""
        try:
            async with contextlib.AsyncExitStack() as kept:
                pool = self._servers
                if not isinstance(pool, ServerPool):
                    pool = await kept.enter_async_context(ServerPool(pool))
                face = pool.session(
                    self._source, session_id=self._session_id, on_event=self._told.append, timeout_s=None
                )
                self._face = await kept.enter_async_context(face)
                self._there.set()
                async with contextlib.aclosing(self._face.play(self._rate)) as playing:
                    async for picture, sound in playing:
                        await self._hand_on(picture, sound)
        except (VisavisError, ValueError) as error:
            await self.push_error(
                f"The face cannot be shown: {error}", exception=error, force_treat_as_permanent=True
            )
        finally:
            self._face = None
            self._there.set()
            self._news.set()

    async def _hand_on(self, picture: FacePicture, sound: PCM | None) -> None:
        image = OutputImageRawFrame(
            image=picture.rgb().tobytes(), size=(picture.width, picture.height), format="RGB"
        )
        image.metadata.update(turn_id=picture.turn_id, position=picture.position)
        cuts = self._cuts
        await self.push_frame(image)
        if sound is not None and cuts == self._cuts:
            await self.push_frame(TTSAudioRawFrame(sound.tobytes(), self._rate, 1))
            self._held.heard += len(sound) / self._rate
        if self._ending and self._held.fed - self._held.heard <= _END_S and self._face is not None:
            self._open = self._ending = False
            self._face.end_turn()
        await self._tell()
        await self._let_go()

    async def _tell(self) -> None:
        while self._told:
            event = self._told.pop(0)
            if isinstance(event, SpeechStarted):
                await self._call_event_handler("on_speech_started")
            elif isinstance(event, SpeechFinished):
                if not event.interrupted and not self._open:
                    self._held.heard = self._held.fed
                self._think()
                await self._call_event_handler("on_speech_finished", event.position, event.interrupted)

    async def _let_go(self) -> None:
        for frame in self._held.due():
            await self.push_frame(frame)
        self._news.set()

    async def _end(self) -> None:
        showing, self._showing = self._showing, None
        if showing is not None:
            await self.cancel_task(showing)
