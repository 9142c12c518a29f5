"""Call control: SIP events in, media workers told, calls made and ended."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from orchestrator.avatars import AvatarCatalog, Portrait
from orchestrator.call import Call, CallInfo
from orchestrator.config import Settings
from orchestrator.events import CallEvent, EventBus
from orchestrator.media.messages import (
    CallFailed,
    CallFigures,
    CallOpened,
    Command,
    ConfigureCall,
    Digit,
    Message,
    Notice,
    RequestKeyframe,
    StartCall,
)
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.pool import NoRoom, WorkerPool
from orchestrator.media.session import SessionStats
from orchestrator.rtp.codecs import SAMPLE_RATES
from orchestrator.rtp.srtp import SrtpKeys
from orchestrator.sip.call import Call as SipCall
from orchestrator.sip.events import BaseHandler, EndCause
from orchestrator.sip.incoming import IncomingCall
from orchestrator.sip.media import (
    AudioCapabilities,
    AudioMedia,
    Crypto,
    MediaCapabilities,
    NegotiatedMedia,
    NotAcceptable,
    VideoCapabilities,
    VideoMedia,
)
from orchestrator.sip.outgoing import OutgoingCall
from orchestrator.sip.sdp import SessionDescription
from orchestrator.sip.stack import SipStack
from orchestrator.speech.base import PCM, VoiceByLanguage

log = logging.getLogger(__name__)

CODECS = ("PCMU", "PCMA", "G722", "opus")
FEEDBACK = frozenset({"nack", "nack pli", "ccm fir", "ccm tmmbr", "goog-remb"})
ENDED_KEPT = 100
RETRY_AFTER = (("Retry-After", "10"),)


class DialRefused(ValueError):
    """A call of ours that cannot be placed; the message is one sentence."""


class WorkerMedia:
    """A call's media as :class:`orchestrator.call.CallMedia`, by messages to its worker."""

    def __init__(self, pool: WorkerPool, call_id: str) -> None:
        self._pool = pool
        self._call_id = call_id
        self.sample_rate = 8000

    def start_turn(self, turn_id: int) -> None:
        """A turn that speaks after those before it."""
        self._send("turn_start", {"turn_id": turn_id})

    def feed(self, turn_id: int, pcm_16k: PCM, pcm: PCM) -> None:
        """The same stretch of sound at both rates."""
        face, voice = pcm_16k.astype("<i2").tobytes(), pcm.astype("<i2").tobytes()
        self._send("turn_audio", {"turn_id": turn_id, "split": len(face)}, face + voice)

    def end_turn(self, turn_id: int) -> None:
        """No more sound comes for this turn."""
        self._send("turn_end", {"turn_id": turn_id})

    def interrupt(self) -> None:
        """Silence and a still mouth."""
        self._send("interrupt", {})

    def _send(self, name: str, data: dict[str, Any], payload: bytes = b"") -> None:
        self._pool.send(Command(self._call_id, name, data, payload))


@dataclasses.dataclass
class _Line:
    """One call while it lasts: its signalling, its ports, and, once answered, the call."""

    sip: IncomingCall | OutgoingCall
    ports: CallOpened
    portrait: Portrait
    media: WorkerMedia
    call: Call | None = None
    cause: str = ""
    text: str = ""  # what is said first
    language: str = ""
    fps: Fraction | None = None  # settled by the first agreement: the body is prepared for it
    over: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class Switchboard(BaseHandler):
    """Implements :class:`orchestrator.sip.events.SipHandler` and takes what media workers report."""

    def __init__(
        self,
        settings: Settings,
        pool: WorkerPool,
        catalog: AvatarCatalog,
        voices: VoiceByLanguage,
        bus: EventBus,
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._catalog = catalog
        self._voices = voices
        self._bus = bus
        self._on_notice = on_notice
        self._lines: dict[str, _Line] = {}
        self._ended: list[Call] = []
        self.refused = 0

    # -- what the API asks --

    @property
    def calls(self) -> Sequence[Call]:
        """The last ended ones, then those under way."""
        return self._ended + [line.call for line in self._lines.values() if line.call is not None]

    def call(self, call_id: str) -> Call | None:
        """The call with this id."""
        return next((call for call in self.calls if call.call_id == call_id), None)

    @property
    def active(self) -> int:
        """Calls under way."""
        return len(self._lines)

    # -- SIP --

    async def on_invite(self, call: IncomingCall) -> None:
        """Answer with the avatar that was dialled."""
        portrait = self._catalog.for_user(call.user)
        try:
            if len(self._lines) >= self._settings.max_calls:
                raise NoRoom(f"{self._settings.max_calls} calls are under way already")
            ports = await self._pool.open_call(call.id, video=_offers_video(call.offer))
        except NoRoom as error:
            self.refused += 1
            log.warning("call refused", extra={"call": call.id, "reason": str(error)})
            call.reject(503, headers=RETRY_AFTER)
            return
        media_end = WorkerMedia(self._pool, call.id)
        greeting, language = self._settings.greeting, self._settings.language
        line = self._lines[call.id] = _Line(
            call, ports, portrait, media_end, text=greeting, language=language
        )
        if call.state == "ended":  # cancelled meanwhile
            await self.on_ended(call, EndCause("cancelled", "peer"))
            return
        try:
            media = call.answer(self._capabilities(line))
        except NotAcceptable:
            self._lines.pop(call.id).over.set()
            await self._pool.close_call(call.id)
            raise
        if media is not None:
            self._begin(line, media)

    async def dial(self, sip: SipStack, to: str, avatar: str, text: str, language: str, video: bool) -> str:
        """Call ``to`` and speak ``text`` when it is answered; returns the call's id at once.

        Raises :class:`DialRefused`; what becomes of the call is told by events.
        """
        portrait = self._catalog.get(avatar)
        if portrait is None:
            raise DialRefused(f"there is no avatar '{avatar}': GET /v1/avatars lists them")
        call_id = secrets.token_hex(6)
        try:
            if len(self._lines) >= self._settings.max_calls:
                raise NoRoom(f"{self._settings.max_calls} calls are under way already: try again later")
            ports = await self._pool.open_call(call_id, video=video)
        except NoRoom as error:
            raise DialRefused(str(error)) from None
        host = self._settings.advertised_address or local_host(self._settings.sip_host, to)
        try:
            call = sip.dial(to, self._offer(ports, host), call_id=call_id)
        except ValueError as error:
            await self._pool.close_call(call_id)
            raise DialRefused(str(error)) from None
        media_end = WorkerMedia(self._pool, call_id)
        self._lines[call_id] = _Line(call, ports, portrait, media_end, text=text, language=language)
        return call_id

    async def on_progress(self, call: SipCall, status: int) -> None:
        """A call of ours rings."""
        self._bus.publish(CallEvent("ringing", call.id, {"status": status}))

    async def on_media(self, call: SipCall, media: NegotiatedMedia) -> None:
        """Agreed late or anew."""
        if line := self._lines.get(call.id):
            self._begin(line, media)

    async def on_reoffer(self, call: SipCall, offer: SessionDescription) -> MediaCapabilities:
        """What we can do now: the same, with video where it is offered."""
        line = self._lines[call.id]
        return self._capabilities(line)

    async def on_keyframe_request(self, call: SipCall) -> None:
        """INFO with picture_fast_update."""
        self._pool.send(RequestKeyframe(call.id))

    async def on_dtmf(self, call: SipCall, digit: str, duration: int) -> None:
        """A key by INFO."""
        if (line := self._lines.get(call.id)) and line.call is not None:
            line.call.on_dtmf(digit)

    async def on_ended(self, call: SipCall, cause: EndCause) -> None:
        """Give everything back."""
        line = self._lines.pop(call.id, None)
        if line is None:
            return
        if line.call is not None:
            line.call.on_end(line.cause or (cause.kind if cause.kind != "hangup" else f"bye by {cause.by}"))
            self._ended = [*self._ended, line.call][-ENDED_KEPT:]
        else:
            text = cause.text or cause.kind
            data = {"cause": line.cause or cause.kind, "status": cause.status, "reason": text, "seconds": 0.0}
            self._bus.publish(CallEvent("ended", call.id, data))
            log.info("ended", extra={"call": call.id, **data})
        stats = await self._pool.close_call(call.id)
        if line.call is not None and stats is not None:
            line.call.stats |= _figures(stats)
        line.over.set()

    # -- media workers --

    def on_message(self, message: Message) -> None:
        """What calls and workers report."""
        line = self._lines.get(getattr(message, "call_id", ""))
        call = line.call if line else None
        match message:
            case CallFailed(_, reason):
                if line is not None:
                    log.error("call failed", extra={"call": line.sip.id, "reason": reason})
                    line.cause = reason
                    line.sip.hangup(reason)
            case Digit(_, digit, _) if call is not None:
                call.on_dtmf(digit)
            case CallFigures(_, stats) if call is not None:
                call.stats |= _figures(stats)
                self._judge_silence(line, stats)
            case Notice(_, "turn", data) if call is not None:
                call.on_turn(data["kind"], data["turn_id"], data["heard_ms"], data["wait_ms"])
            case Notice(_, "avatar", data) if call is not None:
                call.on_avatar(data["state"], data["reason"])
            case Notice(_, "lips", data) if call is not None:
                call.stats |= data
            case Notice():
                self._on_notice(message)

    # -- inside --

    def _judge_silence(self, line: _Line | None, stats: SessionStats) -> None:
        limit = self._settings.rtp_timeout_s
        if line is not None and not line.cause and 0 < limit <= stats.silent_for:
            line.cause = "rtp timeout"
            line.sip.hangup(line.cause)

    def _capabilities(self, line: _Line) -> MediaCapabilities:
        return self._offer(line.ports, line.sip.capabilities.address if line.call else line.sip.local_host)

    def _offer(self, ports: CallOpened, host: str) -> MediaCapabilities:
        settings = self._settings
        width, height = settings.video_size
        video = None
        if ports.video_port is not None:
            video = VideoCapabilities(
                ports.video_port,
                width,
                height,
                float(settings.frame_rate),
                settings.video_bitrate,
                feedback=FEEDBACK,
            )
        audio = AudioCapabilities(ports.audio_port, CODECS)
        return MediaCapabilities(host, audio, video, srtp=settings.srtp)

    def _begin(self, line: _Line, media: NegotiatedMedia) -> None:
        if media.audio is None:
            line.cause = "no audio was agreed"
            line.sip.hangup(line.cause)
            return
        call_id = line.sip.id
        line.media.sample_rate = SAMPLE_RATES[media.audio.codec]
        if line.fps is None:
            line.fps = self._settings.frame_rate
            if media.video is not None:
                line.fps = min(line.fps, Fraction(media.video.fps).limit_denominator(1001))
        video = _video(media.video, line.fps) if media.video else None
        self._pool.send(ConfigureCall(call_id, _audio(media.audio), video))
        if line.call is not None:
            return
        options = {
            "portrait": str(line.portrait.path),
            "fps": str(line.fps),
            "trim_ms": self._settings.av_trim_ms,
        }
        self._pool.send(StartCall(call_id, options))
        info = CallInfo(
            call_id=call_id,
            direction=line.sip.direction,
            caller=line.sip.remote_uri,
            dialled=line.sip.user,
            avatar=line.portrait.name,
            source=line.sip.source[0],
            audio=f"{media.audio.codec}/{media.audio.clock_rate}",
            video=f"H264 {video.width}x{video.height}@{float(video.fps):g}" if video else None,
        )

        async def hang_up(cause: str) -> None:
            line.cause = cause
            line.sip.hangup(cause)

        line.call = Call(info, line.media, self._voices, self._bus, hang_up)
        if line.text.strip():
            line.call.say(line.text, line.language)

    async def emptied(self) -> None:
        """Returns when no call is under way."""
        while self._lines:
            await next(iter(self._lines.values())).over.wait()

    async def close(self) -> None:
        """Hang up every call and wait until each has ended."""
        lines = list(self._lines.values())
        for line in lines:
            line.cause = "shutdown"
            line.sip.hangup("shutdown")
        for line in lines:
            await line.over.wait()


def local_host(bound: str, to: str) -> str:
    """Our address towards ``to``: the one we listen on, or, where that is any, the one the system routes by."""
    if bound not in ("0.0.0.0", "::", ""):
        return bound
    match = re.search(r"(?:@|sips?:)(\[[^\]]+\]|[^@:;>]+)(?::\d+)?(?:;|>|$)", to)
    target = (match[1] if match else "192.0.2.1").strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _offers_video(offer: SessionDescription | None) -> bool:
    return offer is None or any(media.kind == "video" and media.port for media in offer.media)


def _direction(sends: bool, receives: bool) -> Any:
    return {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly"}.get(
        (sends, receives), "inactive"
    )


def _keys(crypto: Crypto | None) -> SrtpKeys | None:
    return SrtpKeys(crypto.suite, crypto.local_key, crypto.remote_key) if crypto else None


def _audio(media: AudioMedia) -> AudioParameters:
    return AudioParameters(
        codec=media.codec,
        payload_type=media.payload_type,
        remote=media.remote,
        remote_rtcp=media.remote_rtcp,
        telephone_event=media.telephone_event,
        direction=_direction(media.sends, media.receives),
        rtcp_mux=media.rtcp_mux,
        keys=_keys(media.crypto),
    )


def _video(media: VideoMedia, fps: Fraction) -> VideoParameters:
    return VideoParameters(
        payload_type=media.payload_type,
        remote=media.remote,
        width=media.width,
        height=media.height,
        fps=fps,
        bitrate=media.bitrate,
        packetization_mode=media.packetization_mode,
        profile_level_id=media.profile_level_id,
        feedback=media.feedback,
        remote_rtcp=media.remote_rtcp,
        direction=_direction(media.sends, media.receives),
        rtcp_mux=media.rtcp_mux,
        keys=_keys(media.crypto),
    )


def _figures(stats: SessionStats) -> dict[str, Any]:
    figures = dataclasses.asdict(stats)
    return {name: round(v, 3) if isinstance(v, float) else v for name, v in figures.items()}
