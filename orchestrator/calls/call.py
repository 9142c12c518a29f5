"""One call from its first word of signalling to its record: what is known of it, what it says, how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any, Literal, Protocol

from orchestrator.calls.events import CallEvent, EventBus, EventKind
from orchestrator.calls.gateway import Agreement, CallEnd, Signalling
from orchestrator.calls.portraits import Portrait
from orchestrator.calls.token_bucket import TokenBucket
from orchestrator.calls.turns import TurnRecord, Turns
from orchestrator.media.session import SessionStats
from orchestrator.rtp.codecs import CLOCK_RATES, SAMPLE_RATES
from orchestrator.speech.base import PCM, VoiceByLanguage
from orchestrator.worker.messages import (
    AvatarState,
    CallFailed,
    CallFigures,
    CallMessage,
    ConfigureCall,
    Digit,
    DigitsRefused,
    FaceState,
    LipsFigures,
    MediaLost,
    MediaSecured,
    Message,
    RequestKeyframe,
    SendDigits,
    ShowAvatar,
    ShowState,
    StartCall,
    TurnReport,
)
from visavis.service.logs import Log

log = Log(__name__)

KEYS_PER_SECOND = 20.0
SECURED_S = 5.0
"""How long the first word waits for a browser's handshake."""
BYE_S = 0.4
"""How long a browser that has closed its transport may take to say so by signalling, too."""


_MEDIA_LOST = {"left": "browser left", "lost": "browser lost", "failed": "media failed"}


class CallGone(Exception):
    """The call has ended."""


class Attendant(Protocol):
    """Who holds a conversation with a caller."""

    def on_turn(self, turn: TurnRecord) -> None:
        """A turn has started, or is over."""

    def on_key(self, digit: str) -> None:
        """The caller pressed a key."""

    def on_end(self) -> None:
        """The call is over."""


class Witness(Protocol):
    """Who follows a call without taking part."""

    def leaves_out(self, since: float) -> bool:
        """Whether anything since then (seconds since the epoch) is not to be kept."""

    def on_key(self, digit: str) -> None:
        """The caller pressed a key."""

    def on_end(self) -> None:
        """The call is over."""


class Call:
    """A call in either direction, whichever gateway it came by.

    ``send`` is the way to its media worker. ``text`` is said first, in ``language``. It is ended when nothing
    came for ``rtp_timeout_s`` (0: never).

    ``answered_at`` (seconds since the epoch, as the other times) is None until the caller is spoken to; ``audio``
    and ``video`` are what was agreed by then. ``stats`` are its figures as the API shows them, ``cause`` how it
    ended. ``over`` is set when its media is closed and its record kept.
    """

    def __init__(
        self,
        call_id: str,
        signalling: Signalling,
        portrait: Portrait,
        send: Callable[[CallMessage], None],
        voices: VoiceByLanguage,
        bus: EventBus,
        *,
        text: str = "",
        language: str = "",
        rtp_timeout_s: float = 0.0,
    ) -> None:
        self.call_id = call_id
        self.signalling = signalling
        self.portrait = portrait
        self.audio = ""
        self.video: str | None = None
        self.started_at = time.time()
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.cause = ""
        self.stats: dict[str, Any] = {}
        self.over = asyncio.Event()
        self.on_begin: Callable[[Call], None] = lambda call: None
        """Is told when the caller is about to be spoken to."""
        self.on_answered: Callable[[Call], None] = lambda call: None
        self.witness: Witness | None = None
        self.recorded_parts = 0
        """Parts of its recordings so far."""
        self.unkept_until = 0.0
        """What was said before then (seconds since the epoch) was said in a pause of a recording that is over."""
        self._announced = 0
        self.assistant: str | None = None
        """Who is to talk with the caller once it is answered; None: whoever is configured."""
        self._attendant: Attendant | None = None
        self._send = send
        self._bus = bus
        self._text, self._language = text, language
        self._rtp_timeout_s = rtp_timeout_s
        self._agreed: Agreement | None = None
        self._turns = Turns(call_id, send, voices, self._publish)
        self._hung_up_for = ""
        self._keys = TokenBucket(KEYS_PER_SECOND, KEYS_PER_SECOND, time.monotonic())
        self._keys_dropped = 0
        self._strays = 0  # that the log was told of
        self._secured = False
        self._waiting: asyncio.TimerHandle | None = None

    @property
    def turns(self) -> list[TurnRecord]:
        """See :attr:`orchestrator.calls.turns.Turns.shown`."""
        return self._turns.shown

    @property
    def shows_picture(self) -> bool:
        """Whether it was agreed that the caller sees one."""
        return self._agreed is not None and self._agreed.video is not None

    @property
    def srtp(self) -> bool:
        """Whether the voice is encrypted, as last agreed."""
        agreed = self._agreed
        return agreed is not None and (agreed.audio.keys is not None or agreed.bundle is not None)

    # -- what the API does --

    def say(
        self, text: str | AsyncIterator[str], language: str, *, replace: bool = False, meanwhile: str = ""
    ) -> TurnRecord:
        """Speak ``text``, whole or in pieces as it is written, after what is already queued, or instead of it.

        ``meanwhile``: see :func:`orchestrator.speech.spoken.spoken`. Raises :class:`SpeechError`,
        :class:`CallGone` or :class:`TooManyTurns`.
        """
        self._check_alive()
        return self._turns.say(text, language, replace=replace, meanwhile=meanwhile)

    def announce(self, what: str | AsyncIterator[PCM], rate: int = 0) -> TurnRecord:
        """Say a text, or play a sound of ``rate``, that is no part of what is said. Raises as :meth:`say`."""
        turn = self.say(what, self._language) if isinstance(what, str) else self.play(what, rate)
        self._announced += 1
        return turn

    def unkept(self, since: float) -> bool:
        """Whether what was said since then (seconds since the epoch) is in no recording and no transcript."""
        return since < self.unkept_until or (self.witness is not None and self.witness.leaves_out(since))

    @property
    def spoken(self) -> bool:
        """Whether something was said but for announcements."""
        return len(self.turns) > self._announced

    def foresee(self, sentence: str, language: str) -> None:
        """This may be said soon: a voice that can speaks it already, to nobody. Raises :class:`SpeechError`."""
        self._turns.foresee(sentence, language)

    def play(self, sound: AsyncIterator[PCM], rate: int, *, replace: bool = False) -> TurnRecord:
        """Speak recorded sound of ``rate`` samples per second. Raises as :meth:`say`."""
        self._check_alive()
        return self._turns.play(sound, rate, replace=replace)

    def interrupt(self) -> None:
        """Silence and a still mouth now; every queued turn is dropped."""
        self._turns.interrupt()

    def give_way(self, how: Literal["none", "duck", "hold"]) -> None:
        """See :class:`orchestrator.worker.messages.GiveWay`."""
        self._turns.give_way(how)

    def show_state(self, state: FaceState) -> None:
        """See :class:`orchestrator.worker.messages.ShowState`."""
        self._send(ShowState(self.call_id, state))

    @property
    def language(self) -> str:
        """That of its first words."""
        return self._language

    @property
    def first_words(self) -> str:
        """What is said first; "" for nothing."""
        return self._text.strip()

    @property
    def attendant(self) -> Attendant | None:
        """Who talks with the caller."""
        return self._attendant

    @attendant.setter
    def attendant(self, attendant: Attendant | None) -> None:
        self._attendant = attendant
        self._turns.on_turn = attendant.on_turn if attendant is not None else lambda turn: None

    def tell(self, kind: EventKind, data: dict[str, Any], **logged: Any) -> None:
        """Publish an event whose data are no log's business; ``logged`` are."""
        self._publish(kind, logged, **data)

    def hang_up(self, cause: str = "api") -> None:
        """End the call; the first cause stays."""
        self._hung_up_for = self._hung_up_for or cause
        self.signalling.hang_up(cause)

    async def press(self, digits: str, milliseconds: int) -> None:
        """Send keys (0 to 9, *, #, A to D), each held so long: in RTP where that was agreed (RFC 4733), else by
        signalling. Raises :class:`RequestRefused`, :class:`CallGone`."""
        self._check_alive()
        if self._agreed is not None and self._agreed.audio.telephone_event is not None:
            self._send(SendDigits(self.call_id, digits, milliseconds))
        else:
            await self.signalling.press(digits, milliseconds)

    async def show(self, shown: bool) -> None:
        """Give the caller a picture, in a voice call as well, or take it away.

        Raises :class:`RequestRefused` where the phone takes none, :class:`CallGone`.
        """
        self._check_alive()
        await self.signalling.show(shown)

    def show_avatar(self, portrait: Portrait) -> None:
        """Show another face from now on: between turns, once it is ready. Raises :class:`CallGone`."""
        self._check_alive()
        self.portrait = portrait
        if self._agreed is not None and self.answered_at is not None:
            self._send(ShowAvatar(self.call_id, str(portrait.path), self._agreed.fps))

    async def transfer(self, to: str) -> int:
        """Send the caller to somebody else and hang up when they answered; the status they answered with.

        Raises :class:`RequestRefused` where the phone refuses, :class:`CallGone`.
        """
        self._check_alive()
        status = await self.signalling.transfer(to)
        if status < 300:
            self.hang_up("transferred")
        return status

    # -- what its gateway tells --

    def on_ringing(self, status: int) -> None:
        """A call of ours rings."""
        self._bus.publish(CallEvent("ringing", self.call_id, {"status": status}))

    def on_media(self, agreed: Agreement | None) -> None:
        """Its media were agreed, the first time or anew; None: without a voice, which ends it."""
        self._agreed = agreed
        if agreed is None:
            self.hang_up("no audio was agreed")
            return
        audio, video = agreed.audio, agreed.video
        self._turns.sample_rate = SAMPLE_RATES[audio.codec]
        self._send(ConfigureCall(self.call_id, audio, video, agreed.bundle))
        if self.answered_at is None:
            self.audio = f"{audio.codec}/{CLOCK_RATES[audio.codec]}"
            self.video = f"H264 {video.width}x{video.height}@{float(video.fps):g}" if video else None

    def on_established(self) -> None:
        """The other end is there, and is spoken to from now on. A browser is sent nothing before its handshake is
        over; the first word and its lips are made ready until then."""
        agreed = self._agreed
        if self.answered_at is not None or agreed is None:
            return
        secured = agreed.bundle is None or self._secured
        self._start(sends=secured)
        if not secured:
            self._waiting = asyncio.get_running_loop().call_later(SECURED_S, self._start)
        self.answered_at, signalling = time.time(), self.signalling
        self._publish(
            "answered",
            {
                "direction": signalling.direction,
                "caller": signalling.caller,
                "dialled": signalling.dialled,
                "avatar": self.portrait.name,
                "audio": self.audio,
                "video": self.video,
            },
        )
        self.on_begin(self)
        if self._text.strip():
            self.say(self._text, self._language)
        self.on_answered(self)

    def _start(self, *, sends: bool = True) -> None:
        agreed = self._agreed
        if agreed is not None and self.ended_at is None:
            path = str(self.portrait.path)
            self._send(StartCall(self.call_id, path, agreed.fps, agreed.trim_ms, sends))

    def on_keyframe_request(self) -> None:
        """The other end asks for a key frame by signalling (RFC 5168)."""
        self._send(RequestKeyframe(self.call_id))

    def on_dtmf(self, digit: str) -> None:
        """The caller pressed a key. Those that come faster than 20 a second are only counted, in ``dropped``."""
        if self.answered_at is None:
            return
        if not self._keys.take(time.monotonic()):
            self._keys_dropped += 1
            return
        self._publish("dtmf", self._dropped(), digit=digit)
        for follower in (self._attendant, self.witness):
            if follower is not None:
                follower.on_key(digit)

    def on_end(self, end: CallEnd) -> None:
        """The call is over, whoever ended it."""
        if self.ended_at is not None:
            return
        if self._waiting is not None:
            self._waiting.cancel()
        by_whom = f"bye by {end.by}" if end.kind == "hangup" else end.kind
        self.ended_at, self.cause = time.time(), self._hung_up_for or by_whom
        self._turns.close()
        if self._attendant is not None:
            self._attendant.on_end()
            self.attendant = None
        if self.witness is not None:
            self.witness.on_end()
            self.witness = None
        self.on_answered = self.on_begin = lambda call: None
        if self.answered_at is not None:
            seconds = round(self.ended_at - self.answered_at, 3)
            self._publish("ended", {"cause": self.cause, "seconds": seconds, **self._dropped()})
        else:
            cause, reason = self._hung_up_for or end.kind, end.text or end.kind
            self._publish("ended", {"cause": cause, "status": end.status, "reason": reason, "seconds": 0.0})

    # -- what its media worker reports --

    def take(self, message: Message) -> None:
        """A message of this call's worker."""
        match message:
            case CallFailed(_, reason):
                log.error("call_failed", call=self.call_id, reason=reason)
                self.hang_up(reason)
            case Digit(_, digit, _):
                self.on_dtmf(digit)
            case MediaSecured():
                self._secured = True
                if self._waiting is not None:
                    self._waiting.cancel()
                    self._start()
            case MediaLost(_, how, reason):
                log.info("media_lost", call=self.call_id, reason=reason)
                pause = BYE_S if how == "left" else 0.0
                self._waiting = asyncio.get_running_loop().call_later(pause, self.hang_up, _MEDIA_LOST[how])
            case DigitsRefused(_, reason):
                log.warning("keys_refused", call=self.call_id, reason=reason)
            case CallFigures(_, stats):
                self.stats |= figures_of(stats)
                self._judge_silence(stats)
                self._tell_strays(stats)
            case TurnReport():
                self._turns.report(message)
            case AvatarState(_, state, reason):
                self._publish("avatar", {"state": state, "reason": reason})
            case LipsFigures(_, lips):
                self.stats |= {name: value for name, value in asdict(lips).items() if value is not None}

    # -- inside --

    def _judge_silence(self, stats: SessionStats) -> None:
        if not self._hung_up_for and 0 < self._rtp_timeout_s <= stats.silent_for:
            self.hang_up("rtp timeout")

    def _tell_strays(self, stats: SessionStats) -> None:
        """A line of the log for a call that strangers send to, as often as figures come."""
        streams = [stream for stream in (stats.audio, stats.video) if stream is not None]
        strays = sum(stream.strays for stream in streams)
        if strays > self._strays:
            source = next(stream.stray_source for stream in streams if stream.stray_source)
            log.warning("media_strays", call=self.call_id, packets=strays - self._strays, source=source)
            self._strays = strays

    def _dropped(self) -> dict[str, int]:
        dropped, self._keys_dropped = self._keys_dropped, 0
        return {"dropped": dropped} if dropped else {}

    def _check_alive(self) -> None:
        if self.ended_at is not None:
            raise CallGone(f"call {self.call_id} has ended")

    def _publish(self, kind: EventKind, data: dict[str, Any], **untold: Any) -> None:
        """``untold``: for listeners only. What callers type may be the number of a card, so no log has it."""
        self._bus.publish(CallEvent(kind, self.call_id, {**untold, **data}))
        log.info(kind, call=self.call_id, **data)


def figures_of(stats: SessionStats) -> dict[str, Any]:
    """A call's figures as the API shows them."""
    return {
        name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(stats).items()
    }
