"""What a media worker opens its calls with: its avatars for all of them, a call avatar for each."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np

from orchestrator.avatar.attention import CallerAttention
from orchestrator.avatar.avatars import ReadyAvatar, WorkerAvatars
from orchestrator.avatar.call_avatar import CallAvatar
from orchestrator.avatar.source import PortraitFile
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.sources import Face, Hearing, Voice
from orchestrator.media.video.idle_loop import idle_key
from orchestrator.nameserver import resolver_of
from orchestrator.rtp.codecs import SAMPLE_RATES
from orchestrator.worker.messages import (
    AvatarSettings,
    AvatarState,
    EndTurn,
    GiveWay,
    InterruptTurns,
    LipsFigures,
    PrepareState,
    Progress,
    ShowAvatar,
    ShowState,
    StartCall,
    StartTurn,
    ToFactory,
    ToOwner,
    TurnAudio,
    TurnReport,
)
from orchestrator.worker.owner import CallContext, WorkerContext
from visavis.errors import InvalidRequest
from visavis.playout.turn import TurnEvent
from visavis.service.logs import Log

log = Log(__name__)

CODING_POLL_S = 0.05


class CallAvatarFactory:
    """The :class:`orchestrator.worker.owner.CallFactory` of calls with avatars."""

    def __init__(self) -> None:
        self._avatars: WorkerAvatars
        self._worker: WorkerContext
        self._settings: AvatarSettings
        self._coding: dict[PortraitFile, asyncio.Task[None]] = {}

    async def start(self, worker: WorkerContext) -> None:
        """Raises ``ValueError`` where the worker was set up without avatars."""
        if worker.settings is None:
            raise ValueError("this worker's set-up says nothing of avatars")
        self._worker, self._settings = worker, worker.settings
        self._avatars = WorkerAvatars(
            self._settings.servers,
            Path(self._settings.cache),
            self._settings.cache_bytes,
            self._on_state,
            resolver_of(self._settings.nameserver),
            self._settings.credentials,
        )
        await self._avatars.start()

    def open(self, call: CallContext, start: StartCall) -> CallAvatarOwner:
        """The avatar of a call that starts."""
        return CallAvatarOwner(call, self._avatars, self._portrait, start)

    def take(self, message: ToFactory) -> None:
        """An avatar was prepared: fetch its body and code its loop."""
        portrait = self._portrait(message.portrait, self._settings.fps)
        avatar = self._avatars.prepared(portrait, message.avatar)
        if portrait not in self._coding:
            work = self._worker.host.supervisor.watch("avatar", self._make_ready(portrait, avatar))
            self._coding[portrait] = work

    async def _make_ready(self, portrait: PortraitFile, avatar: asyncio.Task[ReadyAvatar]) -> None:
        """Code the avatar's loop before somebody calls it, so that the first call finds it cached."""
        try:
            ready = await asyncio.shield(avatar)
            await self._code_idle(ready)
        except InvalidRequest:
            return  # it was told
        finally:
            del self._coding[portrait]
        self._on_state(portrait, ready.source.digest, "ready", "")

    async def _code_idle(self, ready: ReadyAvatar) -> None:
        """As most phones will want it."""
        idle = self._worker.host.idle
        usual = VideoParameters(
            payload_type=96,
            remote=("", 0),
            width=ready.avatar.width,
            height=ready.avatar.height,
            fps=ready.avatar.fps,
            bitrate=self._settings.bitrate,
            feedback=frozenset({"nack pli"}),
            mark=self._settings.mark,
        )
        idle.get(ready.body, idle_key(ready.body, usual))
        while not idle.ready:  # noqa: ASYNC110 - another thread codes, at starts only
            await asyncio.sleep(CODING_POLL_S)

    async def close(self) -> None:
        """Let go of the servers."""
        for task in self._coding.values():
            task.cancel()
        await self._avatars.close()

    def _portrait(self, path: str, fps: Fraction) -> PortraitFile:
        settings = self._settings
        return PortraitFile.now(Path(path), settings.width, settings.height, fps, settings.fit)

    def _on_state(self, portrait: PortraitFile, digest: str, state: str, reason: str) -> None:
        if state == "ready" and portrait in self._coding:
            state, reason = "coding", "the avatar's idle loop is being coded"
        self._worker.send(PrepareState(os.getpid(), digest, cast(Progress, state), reason))


class CallAvatarOwner:
    """The :class:`orchestrator.worker.owner.CallOwner` of a :class:`CallAvatar`."""

    def __init__(
        self,
        call: CallContext,
        avatars: WorkerAvatars,
        portrait: Callable[[str, Fraction], PortraitFile],
        start: StartCall,
    ) -> None:
        self._call, self._portrait = call, portrait
        self._rate = SAMPLE_RATES[call.audio.codec]
        self._attention = CallerAttention(time.monotonic)
        self._attention.listens = call.video is not None
        self._avatar = CallAvatar(
            avatars,
            portrait(start.portrait, start.fps),
            session_id=call.call_id,
            rate=self._rate,
            on_turn=self._on_turn,
            on_avatar=self._on_avatar,
            trim_ms=start.trim_ms,
            state=self._attention.state,
        )

    @property
    def voice(self) -> Voice:
        """The avatar speaks."""
        return self._avatar

    @property
    def face(self) -> Face | None:
        """And it is seen."""
        return self._avatar

    @property
    def hearing(self) -> Hearing | None:
        """A face that is seen listens."""
        return self._attention

    def take(self, message: ToOwner) -> None:
        """See :class:`visavis.playout.speaker.Speaker`."""
        speaker = self._avatar.speaker
        match message:
            case StartTurn(_, turn_id):
                speaker.start_turn(turn_id)
            case TurnAudio(_, turn_id, split, sound):
                speaker.feed(
                    turn_id, np.frombuffer(sound[:split], "<i2"), np.frombuffer(sound[split:], "<i2")
                )
            case EndTurn(_, turn_id):
                speaker.end_turn(turn_id)
            case InterruptTurns():
                speaker.interrupt()
            case GiveWay(_, how):
                speaker.give_way(how)
            case ShowAvatar(_, path, fps):
                self._avatar.show(self._portrait(path, fps))
            case ShowState(_, state):
                self._attention.tell(state)

    def configured(self, audio: AudioParameters, video: VideoParameters | None) -> None:
        """A codec of another rate ends what is being said; the next turn comes at the new rate."""
        self._attention.listens = video is not None
        rate = SAMPLE_RATES[audio.codec]
        if rate != self._rate:
            self._rate = rate
            self._avatar.speaker.set_rate(rate)

    @property
    def patience(self) -> float:
        """As long as a turn may wait for its lips."""
        return self._avatar.start_delay_s if self._avatar.speaker.expects_lips else 0.0

    def started(self) -> None:
        """A browser's first turn was made ready during its handshake."""
        self._avatar.speaker.hurry()

    async def close(self) -> None:
        """The call has ended."""
        await self._avatar.close()
        del self._avatar  # whose speaker holds on to us

    def _on_turn(self, event: TurnEvent) -> None:
        call = self._call
        times = event.heard_ms, event.wait_ms, event.in_ms
        call.send(TurnReport(call.call_id, event.kind, event.turn_id, *times))
        if event.kind in ("finished", "interrupted"):
            call.send(LipsFigures(call.call_id, self._avatar.figures()))

    def _on_avatar(self, state: str, reason: str) -> None:
        self._call.send(AvatarState(self._call.call_id, state, reason))


def make() -> CallAvatarFactory:
    """Named in the media workers' set-up."""
    return CallAvatarFactory()
