"""What a media worker opens its calls with: its avatars for all of them, a call avatar for each."""

from __future__ import annotations

import asyncio
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.avatar.avatars import ReadyAvatar, WorkerAvatars
from orchestrator.avatar.call_avatar import CallAvatar
from orchestrator.avatar.prepared import avatar_of
from orchestrator.avatar.source import PortraitFile
from orchestrator.avatar.turn import TurnEvent
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.sources import Face, Hearing, Voice
from orchestrator.media.video.idle_loop import idle_key
from orchestrator.nameserver import resolver_of
from orchestrator.rtp.codecs import SAMPLE_RATES
from orchestrator.worker.owner import CallContext, WorkerContext
from visavis.errors import InvalidRequest
from visavis.service.logs import Log

log = Log(__name__)

CODING_POLL_S = 0.05


class CallAvatarFactory:
    """The :class:`orchestrator.worker.owner.CallFactory` of calls with avatars."""

    def __init__(self) -> None:
        self._avatars: WorkerAvatars
        self._worker: WorkerContext
        self._coding: dict[PortraitFile, asyncio.Task[None]] = {}

    async def start(self, worker: WorkerContext) -> None:
        """Options: ``servers``, ``nameserver``, ``cache``, ``cache_bytes``,
        ``width``, ``height``, ``fps``, ``fit``, ``bitrate``; see config."""
        self._worker = worker
        options = worker.options
        self._avatars = WorkerAvatars(
            options["servers"],
            Path(options["cache"]),
            int(options["cache_bytes"]),
            self._on_state,
            resolver_of(options["nameserver"]),
        )
        await self._avatars.start()

    def open(self, call: CallContext, options: dict[str, Any], payload: bytes) -> CallAvatarOwner:
        """Options of a call: ``portrait`` (path), ``fps``, ``trim_ms``."""
        portrait = self._portrait(options["portrait"], options["fps"])
        return CallAvatarOwner(call, self._avatars, portrait, int(options["trim_ms"]))

    def command(self, name: str, data: dict[str, Any], payload: bytes) -> None:
        """``prepared``: an avatar that the control process had prepared of ``portrait`` (path)."""
        if name == "prepared":
            portrait = self._portrait(data["portrait"], self._worker.options["fps"])
            avatar = self._avatars.prepared(portrait, avatar_of(data["avatar"]))
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
        options, idle = self._worker.options, self._worker.host.idle
        usual = VideoParameters(
            payload_type=96,
            remote=("", 0),
            width=ready.avatar.width,
            height=ready.avatar.height,
            fps=ready.avatar.fps,
            bitrate=int(options["bitrate"]),
            feedback=frozenset({"nack pli"}),
        )
        idle.get(ready.loop, idle_key(ready.loop, usual))
        while not idle.ready:  # noqa: ASYNC110 - another thread codes, at starts only
            await asyncio.sleep(CODING_POLL_S)

    async def close(self) -> None:
        """Let go of the servers."""
        for task in self._coding.values():
            task.cancel()
        await self._avatars.close()

    def _portrait(self, path: str, fps: str) -> PortraitFile:
        options = self._worker.options
        width, height = int(options["width"]), int(options["height"])
        return PortraitFile.now(Path(path), width, height, Fraction(fps), options["fit"])

    def _on_state(self, portrait: PortraitFile, digest: str, state: str, reason: str) -> None:
        if state == "ready" and portrait in self._coding:
            state, reason = "coding", "the avatar's idle loop is being coded"
        data = {"worker": os.getpid(), "avatar": digest, "state": state, "reason": reason}
        self._worker.emit("stage", data, b"")


class CallAvatarOwner:
    """The :class:`orchestrator.worker.owner.CallOwner` of a :class:`CallAvatar`."""

    def __init__(
        self, call: CallContext, avatars: WorkerAvatars, portrait: PortraitFile, trim_ms: int
    ) -> None:
        self._call = call
        self._rate = SAMPLE_RATES[call.audio.codec]
        self._avatar = CallAvatar(
            avatars,
            portrait,
            session_id=call.call_id,
            rate=self._rate,
            on_turn=self._on_turn,
            on_avatar=self._on_avatar,
            trim_ms=trim_ms,
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
        """Nobody listens to the caller yet."""
        return None

    def command(self, name: str, data: dict[str, Any], payload: bytes) -> None:
        """``turn_start``, ``turn_audio`` (payload: ``split`` bytes at 16 kHz, the rest at the codec's rate),
        ``turn_end``, ``interrupt``."""
        speaker = self._avatar.speaker
        match name:
            case "turn_start":
                speaker.start_turn(data["turn_id"])
            case "turn_audio":
                split = int(data["split"])
                pcm_16k, pcm = np.frombuffer(payload[:split], "<i2"), np.frombuffer(payload[split:], "<i2")
                speaker.feed(data["turn_id"], pcm_16k, pcm)
            case "turn_end":
                speaker.end_turn(data["turn_id"])
            case "interrupt":
                speaker.interrupt()

    def configured(self, audio: AudioParameters, video: VideoParameters | None) -> None:
        """A codec of another rate ends what is being said; the next turn comes at the new rate."""
        rate = SAMPLE_RATES[audio.codec]
        if rate != self._rate:
            self._rate = rate
            self._avatar.speaker.set_rate(rate)

    async def close(self) -> None:
        """The call has ended."""
        await self._avatar.close()
        del self._avatar  # whose speaker holds on to us

    def _on_turn(self, event: TurnEvent) -> None:
        data = {
            "kind": event.kind,
            "turn_id": event.turn_id,
            "heard_ms": event.heard_ms,
            "wait_ms": event.wait_ms,
        }
        self._call.emit("turn", data, b"")
        if event.kind in ("finished", "interrupted"):
            self._call.emit("lips", self._avatar.figures(), b"")

    def _on_avatar(self, state: str, reason: str) -> None:
        self._call.emit("avatar", {"state": state, "reason": reason}, b"")


def make() -> CallAvatarFactory:
    """Named in the media workers' set-up."""
    return CallAvatarFactory()
