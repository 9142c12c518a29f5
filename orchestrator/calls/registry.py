"""Call control: SIP events in, media workers told, calls made and ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.calls.call import Call, CallInfo
from orchestrator.calls.events import CallEvent, EventBus
from orchestrator.calls.line import DialOrder, Line, WorkerMedia
from orchestrator.calls.listeners import Listener, Listening
from orchestrator.calls.portraits import AvatarCatalog
from orchestrator.calls.records import RecordBook, figures_of, make_record, refused_record
from orchestrator.config import Settings
from orchestrator.gateways.sip_media import (
    audio_parameters,
    capabilities,
    frame_rate,
    offers_video,
    signalling_peer,
    trim_ms,
    video_parameters,
)
from orchestrator.media.session import SessionStats
from orchestrator.rtp.codecs import SAMPLE_RATES
from orchestrator.sip.call.call import Call as SipCall
from orchestrator.sip.call.events import BaseHandler, EndCause, RefusedCall
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.sdp.capabilities import MediaCapabilities, NegotiatedMedia
from orchestrator.sip.sdp.description import SessionDescription
from orchestrator.sip.stack import SipStack
from orchestrator.speech.base import VoiceByLanguage
from orchestrator.worker.messages import (
    CallFailed,
    CallFigures,
    ConfigureCall,
    Digit,
    DigitsRefused,
    Heard,
    Message,
    Notice,
    RequestKeyframe,
    StartCall,
)
from orchestrator.worker.pool import NoRoom, WorkerPool
from visavis.service.logs import Log

log = Log(__name__)

ENDED_KEPT = 100
RETRY_AFTER = 10


class DialRefused(ValueError):
    """A call of ours that cannot be placed; the message is one sentence."""


class Switchboard(BaseHandler):
    """Implements :class:`orchestrator.sip.call.events.SipHandler` and takes what media workers report."""

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
        self._lines: dict[str, Line] = {}
        self._ended: list[Call] = []
        self.records = RecordBook(settings.records_kept)
        self.refused = 0
        self._listening = Listening(pool.send)

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

    def trace(self, call_id: str) -> str | None:
        """The SIP messages of a call as text: "" where none were kept, None where there is no such call."""
        if line := self._lines.get(call_id):
            trace = line.sip.trace
        elif self.records.find(call_id):
            trace = self.records.trace(call_id)
        else:
            return None
        return trace.text() if trace else ""

    def start_trace(self, call_id: str) -> bool:
        """Keep the SIP messages of a call from now on; whether it is under way."""
        if line := self._lines.get(call_id):
            line.sip.start_trace()
        return line is not None

    def listen(self, call_id: str) -> Listener:
        """The caller's voice of a call under way, from now on."""
        return self._listening.listen(call_id)

    # -- SIP --

    async def on_invite(self, call: IncomingCall) -> None:
        """Answer with the avatar that was dialled."""
        portrait = self._catalog.for_user(call.user)
        try:
            if len(self._lines) >= self._settings.max_calls:
                raise NoRoom(f"{self._settings.max_calls} calls are under way already")
            ports = await self._pool.open_call(call.id, video=offers_video(call.offer))
        except NoRoom as error:
            call.turn_away(error.told, RETRY_AFTER)
            await self.on_refused(
                RefusedCall(
                    id=call.id,
                    sip_call_id=PeerText(call.sip_call_id),
                    caller=call.remote_uri,
                    user=call.user,
                    source=call.source[0],
                    account=call.account,
                    cause="no_room",
                    text=str(error),
                )
            )
            return
        media_end = WorkerMedia(self._pool, call.id)
        greeting, language = self._settings.greeting, self._settings.language
        line = self._lines[call.id] = Line(call, ports, portrait, media_end, text=greeting, language=language)
        if call.state == "ended":  # cancelled meanwhile
            await self.on_ended(call, call.cause or EndCause("cancelled", "peer"))
            return
        media = call.answer(self._capabilities(line))
        if media is not None:
            self._begin(line, media)

    async def on_refused(self, call: RefusedCall) -> None:
        """There is no room, or none any more."""
        self.refused += 1
        self.records.refuse(refused_record(call, self._catalog.for_user(call.user).name, time.time()))

    async def dial(self, sip: SipStack, order: DialOrder) -> str:
        """Call somebody; returns the call's id at once.

        Raises :class:`DialRefused`, or ``SpeechError`` where no voice speaks the language; what becomes of the
        call is told by events.
        """
        if order.text.strip():
            self._voices.check(order.language)
        portrait = self._catalog.get(order.avatar)
        if portrait is None:
            raise DialRefused(f"there is no avatar '{order.avatar}': GET /v1/avatars lists them")
        call_id = secrets.token_hex(6)
        try:
            if len(self._lines) >= self._settings.max_calls:
                raise NoRoom(f"{self._settings.max_calls} calls are under way already: try again later")
            ports = await self._pool.open_call(call_id, video=order.video)
        except NoRoom as error:
            raise DialRefused(str(error)) from None
        accounts = self._settings.sip_accounts
        account = order.account or (accounts[0].uri if accounts else "")
        offer = capabilities(self._settings, ports, self._settings.advertised_address, account)
        try:
            call = sip.dial(order.to, offer, account=account, call_id=call_id)
        except ValueError as error:
            await self._pool.close_call(call_id)
            raise DialRefused(str(error)) from None
        media_end = WorkerMedia(self._pool, call_id)
        line = Line(call, ports, portrait, media_end, text=order.text, language=order.language)
        self._lines[call_id] = line
        return call_id

    async def on_progress(self, call: SipCall, status: int) -> None:
        """A call of ours rings."""
        self._bus.publish(CallEvent("ringing", call.id, {"status": status}))

    async def on_media(self, call: SipCall, media: NegotiatedMedia) -> None:
        """Agreed late or anew."""
        if line := self._lines.get(call.id):
            self._begin(line, media)

    async def on_established(self, call: SipCall) -> None:
        """Acknowledged: whoever called is there, and is spoken to from now on."""
        line = self._lines.get(call.id)
        if line is not None and line.call is None and line.described is not None:
            self._speak(line, line.described)

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
        self._listening.ended(call.id)
        ended_at = time.time()
        if line.call is not None:
            line.call.on_end(line.ended_as(cause))
            self._ended = [*self._ended, line.call][-ENDED_KEPT:]
        else:
            text = cause.text or cause.kind
            data = {"cause": line.cause or cause.kind, "status": cause.status, "reason": text, "seconds": 0.0}
            self._bus.publish(CallEvent("ended", call.id, data))
            log.info("ended", call=call.id, **data)
        stats = await self._pool.close_call(call.id)
        figures = figures_of(stats) if stats is not None else {}
        if line.call is not None:
            figures = line.call.stats = line.call.stats | figures
        self.records.add(make_record(line, cause, ended_at, figures), line.sip.trace)
        line.over.set()

    # -- media workers --

    def on_message(self, message: Message) -> None:
        """What calls and workers report."""
        line = self._lines.get(getattr(message, "call_id", ""))
        call = line.call if line else None
        match message:
            case CallFailed(_, reason):
                if line is not None:
                    log.error("call_failed", call=line.sip.id, reason=reason)
                    line.hang_up(reason)
            case Heard():
                self._listening.heard(message)
            case Digit(_, digit, _) if call is not None:
                call.on_dtmf(digit)
            case DigitsRefused(call_id, reason):
                log.warning("keys_refused", call=call_id, reason=reason)
            case CallFigures(_, stats) if call is not None:
                call.stats |= figures_of(stats)
                self._judge_silence(line, stats)
                self._tell_strays(line, stats)
            case Notice(_, "turn", data) if call is not None:
                call.on_turn(data["kind"], data["turn_id"], data["heard_ms"], data["wait_ms"])
            case Notice(_, "avatar", data) if call is not None:
                call.on_avatar(data["state"], data["reason"])
            case Notice(_, "lips", data) if call is not None:
                call.stats |= data
            case Notice():
                self._on_notice(message)

    # -- inside --

    def _judge_silence(self, line: Line | None, stats: SessionStats) -> None:
        limit = self._settings.rtp_timeout_s
        if line is not None and not line.cause and 0 < limit <= stats.silent_for:
            line.hang_up("rtp timeout")

    def _tell_strays(self, line: Line | None, stats: SessionStats) -> None:
        """A line of the log for a call that strangers send to, as often as figures come."""
        streams = [stream for stream in (stats.audio, stats.video) if stream is not None]
        strays = sum(stream.strays for stream in streams)
        if line is not None and strays > line.strays:
            source = next(stream.stray_source for stream in streams if stream.stray_source)
            log.warning("media_strays", call=line.sip.id, packets=strays - line.strays, source=source)
            line.strays = strays

    def _capabilities(self, line: Line) -> MediaCapabilities:
        host = line.sip.capabilities.address if line.call else line.sip.local_host
        return capabilities(self._settings, line.ports, host, line.sip.account)

    def _begin(self, line: Line, media: NegotiatedMedia) -> None:
        if media.audio is None:
            line.hang_up("no audio was agreed")
            return
        call_id = line.sip.id
        line.media.sample_rate = SAMPLE_RATES[media.audio.codec]
        if line.fps is None:
            line.fps = frame_rate(self._settings, media.video)
        refresh = self._settings.video_refresh
        peer = signalling_peer(self._settings, line.sip.signalling_hosts, media)
        video = video_parameters(media.video, line.fps, refresh, peer) if media.video else None
        self._pool.send(ConfigureCall(call_id, audio_parameters(media.audio, peer), video))
        line.described = line.describe(media.audio, video)

    def _speak(self, line: Line, described: CallInfo) -> None:
        if not line.portrait.path.is_file():  # erased while it rang
            line.portrait = self._catalog.for_user(line.portrait.name)
            described = replace(described, avatar=line.portrait.name)
        options = {
            "portrait": str(line.portrait.path),
            "fps": str(line.fps),
            "trim_ms": trim_ms(self._settings, line.sip.account),
        }
        self._pool.send(StartCall(line.sip.id, options))
        line.call = Call(described, line.media, self._voices, self._bus, line)
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
            line.hang_up("shutdown")
        for line in lines:
            await line.over.wait()
