"""One call while it lasts: its signalling, its ports, and the way to its media worker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from fractions import Fraction

from orchestrator.calls.call import Call, CallInfo
from orchestrator.calls.portraits import Portrait
from orchestrator.media.parameters import VideoParameters
from orchestrator.sip.call.events import EndCause
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.call.outgoing import OutgoingCall
from orchestrator.sip.sdp.capabilities import AudioMedia, NotAcceptable
from orchestrator.sip.stack import dialled_uri
from orchestrator.speech.base import PCM
from orchestrator.worker.messages import (
    CallOpened,
    EndTurn,
    InterruptTurns,
    SendDigits,
    StartTurn,
    TurnAudio,
)
from orchestrator.worker.pool import WorkerPool


class WorkerMedia:
    """A call's media as :class:`orchestrator.calls.call.CallMedia`, by messages to its worker."""

    def __init__(self, pool: WorkerPool, call_id: str) -> None:
        self._pool = pool
        self._call_id = call_id
        self.sample_rate = 8000

    def start_turn(self, turn_id: int) -> None:
        """A turn that speaks after those before it."""
        self._pool.send(StartTurn(self._call_id, turn_id))

    def feed(self, turn_id: int, pcm_16k: PCM, pcm: PCM) -> None:
        """The same stretch of sound at both rates."""
        face, voice = pcm_16k.astype("<i2").tobytes(), pcm.astype("<i2").tobytes()
        self._pool.send(TurnAudio(self._call_id, turn_id, len(face), face + voice))

    def end_turn(self, turn_id: int) -> None:
        """No more sound comes for this turn."""
        self._pool.send(EndTurn(self._call_id, turn_id))

    def interrupt(self) -> None:
        """Silence and a still mouth."""
        self._pool.send(InterruptTurns(self._call_id))

    def press(self, digits: str, milliseconds: int) -> None:
        """Send keys in RTP."""
        self._pool.send(SendDigits(self._call_id, digits, milliseconds))


@dataclass(frozen=True)
class DialOrder:
    """A call to place: ``text`` is spoken when it is answered; ``account`` "" is the first there is."""

    to: str
    avatar: str
    text: str
    language: str
    video: bool = True
    account: str = ""


@dataclass
class Line:
    """``call`` is there once it is answered; ``cause`` says why we ended it; ``text`` is spoken first.

    ``fps`` is settled by the first agreement: the body is prepared for it. ``described`` is the last agreement, as
    it is known before the call is acknowledged. ``strays`` were told of so far.
    """

    sip: IncomingCall | OutgoingCall
    ports: CallOpened
    portrait: Portrait
    media: WorkerMedia
    call: Call | None = None
    cause: str = ""
    text: str = ""
    language: str = ""
    fps: Fraction | None = None
    described: CallInfo | None = None
    strays: int = 0
    started_at: float = field(default_factory=time.time)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def describe(self, audio: AudioMedia, video: VideoParameters | None) -> CallInfo:
        """What is known of the call when it is answered."""
        return CallInfo(
            call_id=self.sip.id,
            direction=self.sip.direction,
            caller=self.sip.remote_uri,
            dialled=self.sip.user,
            avatar=self.portrait.name,
            source=self.sip.source[0],
            audio=f"{audio.codec}/{audio.clock_rate}",
            video=f"H264 {video.width}x{video.height}@{float(video.fps):g}" if video else None,
            account=self.sip.account,
        )

    def hang_up(self, cause: str) -> None:
        """End the call; the first cause stays."""
        self.cause = self.cause or cause
        self.sip.hangup(cause)

    async def press(self, digits: str, milliseconds: int) -> None:
        """Send keys: in RTP where that was agreed (RFC 4733), else by INFO. Raises NotAcceptable."""
        agreed = self.sip.media.audio if self.sip.media else None
        if agreed is not None and agreed.telephone_event is not None:
            self.media.press(digits, milliseconds)
        else:
            await self.sip.press(digits, milliseconds)

    async def transfer(self, to: str) -> int:
        """Ask the phone to call somebody else instead; the status it reports. Raises NotAcceptable."""
        host = self.sip.account.rpartition("@")[2].partition(";")[0]
        try:
            target = dialled_uri(to, host)
        except ValueError as error:
            raise NotAcceptable(str(error)) from None
        return await self.sip.transfer(str(target))

    def ended_as(self, cause: EndCause) -> str:
        """Our own reason where we had one, else what SIP says."""
        return self.cause or (f"bye by {cause.by}" if cause.kind == "hangup" else cause.kind)
