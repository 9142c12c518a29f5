"""One call: its signalling, its media, its avatar and what it says; owns their lifetime."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from orchestrator.calls.events import CallEvent, EventBus, EventKind
from orchestrator.calls.token_bucket import TokenBucket
from orchestrator.calls.turns import TurnSink, speak
from orchestrator.sip.message.text import PeerText
from orchestrator.speech.base import PCM, SpeechError, VoiceByLanguage
from visavis.service.logs import Log

log = Log(__name__)

MAX_QUEUED_TURNS = 32
ENDED_TURNS_KEPT = 100
"""Turns that are over and still shown, the latest ones."""
KEYS_PER_SECOND = 20.0


class CallGone(Exception):
    """The call has ended."""


class TooManyTurns(Exception):
    """More turns wait than a caller will ever hear."""


class Signalling(Protocol):
    """The control end of a call's signalling."""

    def hang_up(self, cause: str) -> None: ...
    async def press(self, digits: str, milliseconds: int) -> None: ...
    async def transfer(self, to: str) -> int: ...


class CallMedia(TurnSink, Protocol):
    """The control end of a call's media in its worker."""

    def interrupt(self) -> None: ...


@dataclass
class TurnRecord:
    """One turn as the API shows it; times are seconds since the epoch, ``heard_ms`` what the caller was sent.

    ``reason`` says in one sentence why a turn ``failed``.
    """

    turn_id: int
    kind: Literal["say", "play"]
    state: Literal["queued", "speaking", "finished", "interrupted", "failed"] = "queued"
    heard_ms: float = 0.0
    reason: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    started: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    started_at: float = 0.0


@dataclass(frozen=True)
class CallInfo:
    """What is known of a call when it is answered; ``caller`` is the other end in either direction."""

    call_id: str
    direction: str
    caller: PeerText
    dialled: PeerText
    avatar: str
    source: str
    audio: str
    video: str | None
    account: str = ""


class Call:
    """An answered call. Turns are spoken one after the other by one task."""

    def __init__(
        self,
        info: CallInfo,
        media: CallMedia,
        voices: VoiceByLanguage,
        bus: EventBus,
        signalling: Signalling,
    ) -> None:
        self.info = info
        self.answered_at = time.time()
        self.ended_at: float | None = None
        self.cause = ""
        self.stats: dict[str, Any] = {}
        self._media = media
        self._voices = voices
        self._bus = bus
        self._signalling = signalling
        self._ids = itertools.count(1)
        self._turns: dict[int, TurnRecord] = {}  # queued or spoken
        self._ended_turns: deque[TurnRecord] = deque(maxlen=ENDED_TURNS_KEPT)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._speaking = asyncio.Lock()
        self._keys = TokenBucket(KEYS_PER_SECOND, KEYS_PER_SECOND, time.monotonic())
        self._keys_dropped = 0
        shown = {
            name: getattr(info, name)
            for name in ("direction", "caller", "dialled", "avatar", "audio", "video")
        }
        self._publish("answered", **shown)

    @property
    def call_id(self) -> str:
        """Names the call in the API, events and logs."""
        return self.info.call_id

    @property
    def turns(self) -> list[TurnRecord]:
        """The last turns that are over, at most ``ENDED_TURNS_KEPT``, and every other one, the oldest first."""
        return sorted((*self._ended_turns, *self._turns.values()), key=lambda turn: turn.turn_id)

    # -- what the API does --

    def say(self, text: str, language: str, *, replace: bool = False) -> TurnRecord:
        """Speak ``text`` after what is already queued, or instead of it.

        Raises :class:`SpeechError`, :class:`CallGone` or :class:`TooManyTurns`.
        """
        if not text.strip():
            raise SpeechError("the text is empty: send what should be spoken")
        voice = self._voices.voice(language)
        return self._begin("say", voice.stream(text, language), lambda: voice.sample_rate, replace)

    def play(self, sound: AsyncIterator[PCM], rate: int, *, replace: bool = False) -> TurnRecord:
        """Speak recorded sound of ``rate`` samples per second. Raises as :meth:`say`."""
        return self._begin("play", sound, lambda: rate, replace)

    def interrupt(self) -> None:
        """Silence and a still mouth now; every queued turn is dropped."""
        self._media.interrupt()
        for task in list(self._tasks.values()):
            task.cancel()
        for turn in list(self._turns.values()):
            if turn.state == "queued":
                self._turn_over(turn, "interrupted", 0.0)

    def hang_up(self, cause: str = "api") -> None:
        """End the call."""
        self._signalling.hang_up(cause)

    async def press(self, digits: str, milliseconds: int) -> None:
        """Send keys (0 to 9, *, #, A to D), each held so long. Raises NotAcceptable, :class:`CallGone`."""
        self._check_alive()
        await self._signalling.press(digits, milliseconds)

    async def transfer(self, to: str) -> int:
        """Send the caller to somebody else and hang up when they answered; the SIP status they answered with.

        Raises NotAcceptable where the phone refuses, :class:`CallGone`.
        """
        self._check_alive()
        status = await self._signalling.transfer(to)
        if status < 300:
            self.hang_up("transferred")
        return status

    # -- what its media and signalling report --

    def on_turn(self, kind: str, turn_id: int, heard_ms: float, wait_ms: float) -> None:
        """A turn started, finished or was interrupted in the media worker."""
        turn = self._turns.get(turn_id)
        if turn is None or turn.done.is_set():
            return
        if kind == "started":
            turn.state, turn.started_at = "speaking", time.monotonic()
            turn.started.set()
            self._publish("turn_started", turn_id=turn_id, wait_ms=round(wait_ms, 1))
        elif kind == "finished":
            self._turn_over(turn, "failed" if turn.reason else "finished", heard_ms)
        elif kind == "interrupted":
            self._turn_over(turn, "interrupted", heard_ms)

    def on_dtmf(self, digit: str) -> None:
        """The caller pressed a key. Those that come faster than 20 a second are only counted, in ``dropped``."""
        if not self._keys.take(time.monotonic()):
            self._keys_dropped += 1
            return
        self._publish("dtmf", digit=digit, **self._dropped())

    def on_avatar(self, state: str, reason: str) -> None:
        """The avatar stream was connected, lost or refused: lips or none, the voice goes on."""
        self._publish("avatar", state=state, reason=reason)

    def on_end(self, cause: str) -> None:
        """The call is over, whoever ended it."""
        if self.ended_at is not None:
            return
        self.ended_at, self.cause = time.time(), cause
        for task in self._tasks.values():
            task.cancel()
        for turn in list(self._turns.values()):
            self._turn_over(turn, "interrupted", turn.heard_ms)
        self._publish(
            "ended", cause=cause, seconds=round(self.ended_at - self.answered_at, 3), **self._dropped()
        )

    # -- inside --

    def _dropped(self) -> dict[str, int]:
        dropped, self._keys_dropped = self._keys_dropped, 0
        return {"dropped": dropped} if dropped else {}

    def _check_alive(self) -> None:
        if self.ended_at is not None:
            raise CallGone(f"call {self.call_id} has ended")

    def _begin(
        self, kind: Literal["say", "play"], sound: AsyncIterator[PCM], rate: Callable[[], int], replace: bool
    ) -> TurnRecord:
        self._check_alive()
        if replace:
            self.interrupt()
        if len(self._turns) >= MAX_QUEUED_TURNS:
            raise TooManyTurns(f"{MAX_QUEUED_TURNS} turns wait already: interrupt or wait for one to finish")
        turn = TurnRecord(next(self._ids), kind)
        self._turns[turn.turn_id] = turn
        task = asyncio.create_task(self._speak(turn, sound, rate))
        self._tasks[turn.turn_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(turn.turn_id, None))
        return turn

    async def _speak(self, turn: TurnRecord, sound: AsyncIterator[PCM], rate: Callable[[], int]) -> None:
        async def heard(seconds: float) -> None:
            await turn.started.wait()
            await asyncio.sleep(max(0.0, turn.started_at + seconds - time.monotonic()))

        async with self._speaking:
            try:
                await speak(self._media, turn.turn_id, sound, rate, heard)
            except SpeechError as error:
                self._speech_failed(turn, str(error))
            except Exception:
                log.exception("speech_broken", call=self.call_id)
                self._speech_failed(turn, "the voice failed: the log of the orchestrator tells how")

    def _speech_failed(self, turn: TurnRecord, reason: str) -> None:
        log.warning("speech_failed", call=self.call_id, reason=reason)
        turn.reason = reason
        if not turn.started.is_set():
            self._turn_over(turn, "failed", 0.0)

    def _turn_over(
        self, turn: TurnRecord, state: Literal["finished", "interrupted", "failed"], heard_ms: float
    ) -> None:
        if self._turns.pop(turn.turn_id, None) is None:
            return
        self._ended_turns.append(turn)
        turn.state, turn.heard_ms = state, heard_ms
        turn.done.set()
        kind: EventKind = "turn_finished" if state == "finished" else "turn_interrupted"
        why = {"reason": turn.reason} if turn.reason else {}
        self._publish(kind, turn_id=turn.turn_id, heard_ms=round(heard_ms, 1), state=state, **why)

    def _publish(self, kind: EventKind, **data: Any) -> None:
        self._bus.publish(CallEvent(kind, self.call_id, data))
        log.info(kind, call=self.call_id, **data)
