"""A call's turns of speech: queued, streamed to its media worker one after the other, followed to their end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.calls.events import EventKind
from orchestrator.speech.base import PCM, Foresight, SpeechError, VoiceByLanguage
from orchestrator.speech.heard_text import HeardText
from orchestrator.speech.spoken import spoken, whole
from orchestrator.worker.messages import (
    CallMessage,
    EndTurn,
    GiveWay,
    InterruptTurns,
    StartTurn,
    TurnAudio,
    TurnReport,
)
from visavis.audio import Resampler
from visavis.service.logs import Log

log = Log(__name__)

MAX_QUEUED_TURNS = 32
ENDED_TURNS_KEPT = 100
"""Turns that are over and still shown, the latest ones."""
AHEAD_S = 20.0
"""Seconds of sound that may wait in the media worker."""
_SLICE_MS = 200


class TooManyTurns(Exception):
    """More turns wait than a caller will ever hear."""


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
    wait_ms: float = 0.0
    in_ms: float = 0.0
    """From when it is known until it is heard; ``wait_ms`` counts from its first sound."""
    words: HeardText = field(default_factory=HeardText, repr=False)

    @property
    def text(self) -> str:
        """The words that the caller has been sent; while it is spoken, by the clock."""
        if self.state == "speaking":
            return self.words.heard((time.monotonic() - self.started_at) * 1000)
        return self.words.heard(self.heard_ms)


class Turns:
    """``send`` is the way to the call's media worker, ``publish`` takes what listeners are told.

    ``sample_rate`` is that of the call's codec.
    """

    def __init__(
        self,
        call_id: str,
        send: Callable[[CallMessage], None],
        voices: VoiceByLanguage,
        publish: Callable[[EventKind, dict[str, Any]], None],
    ) -> None:
        self.sample_rate = 8000
        self.on_turn: Callable[[TurnRecord], None] = lambda turn: None
        """Is told when a turn has started, and when it is over."""
        self._call_id = call_id
        self._send = send
        self._voices = voices
        self._publish = publish
        self._ids = itertools.count(1)
        self._turns: dict[int, TurnRecord] = {}  # queued or spoken
        self._ended: deque[TurnRecord] = deque(maxlen=ENDED_TURNS_KEPT)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._speaking = asyncio.Lock()

    @property
    def shown(self) -> list[TurnRecord]:
        """The last turns that are over, at most ``ENDED_TURNS_KEPT``, and every other one, the oldest first."""
        return sorted((*self._ended, *self._turns.values()), key=lambda turn: turn.turn_id)

    def say(
        self, text: str | AsyncIterator[str], language: str, *, replace: bool, meanwhile: str = ""
    ) -> TurnRecord:
        """Speak ``text`` after what is queued, or instead of it; one that comes in pieces, sentence by sentence as
        they are whole. ``meanwhile``: see :func:`orchestrator.speech.spoken.spoken`. Raises :class:`SpeechError`,
        :class:`TooManyTurns`."""
        if isinstance(text, str):
            if not text.strip():
                raise SpeechError("the text is empty: send what should be spoken")
            text = whole(text)
        voice, words = self._voices.voice(language), HeardText()
        sound = spoken(voice, text, language, words, meanwhile)
        return self._begin("say", sound, lambda: voice.sample_rate, replace, words)

    def foresee(self, sentence: str, language: str) -> None:
        """This may be said soon. Raises :class:`SpeechError` where no voice speaks the language."""
        voice = self._voices.voice(language)
        if isinstance(voice, Foresight):
            voice.ahead(sentence, language)

    def play(self, sound: AsyncIterator[PCM], rate: int, *, replace: bool) -> TurnRecord:
        """Speak recorded sound of ``rate`` samples per second. Raises :class:`TooManyTurns`."""
        return self._begin("play", sound, lambda: rate, replace)

    def interrupt(self) -> None:
        """Silence and a still mouth now; every queued turn is dropped."""
        self._send(InterruptTurns(self._call_id))
        for task in list(self._tasks.values()):
            task.cancel()
        for turn in list(self._turns.values()):
            if turn.state == "queued":
                self._over(turn, "interrupted", 0.0)

    def give_way(self, how: Literal["none", "duck", "hold"]) -> None:
        """See :class:`orchestrator.worker.messages.GiveWay`."""
        self._send(GiveWay(self._call_id, how))

    def report(self, report: TurnReport) -> None:
        """A turn started, finished or was interrupted in the media worker."""
        turn = self._turns.get(report.turn_id)
        if turn is None or turn.done.is_set():
            return
        if report.event == "started":
            turn.state, turn.started_at = "speaking", time.monotonic()
            turn.wait_ms, turn.in_ms = report.wait_ms, report.in_ms
            turn.started.set()
            self.on_turn(turn)
            self._publish("turn_started", {"turn_id": turn.turn_id, "wait_ms": round(report.wait_ms, 1)})
        elif report.event == "finished":
            self._over(turn, "failed" if turn.reason else "finished", report.heard_ms)
        elif report.event == "interrupted":
            self._over(turn, "interrupted", report.heard_ms)

    def close(self) -> None:
        """The call is over."""
        for task in self._tasks.values():
            task.cancel()
        for turn in list(self._turns.values()):
            self._over(turn, "interrupted", turn.heard_ms)

    # -- inside --

    def _begin(
        self,
        kind: Literal["say", "play"],
        sound: AsyncIterator[PCM],
        rate: Callable[[], int],
        replace: bool,
        words: HeardText | None = None,
    ) -> TurnRecord:
        if replace:
            self.interrupt()
        if len(self._turns) >= MAX_QUEUED_TURNS:
            raise TooManyTurns(f"{MAX_QUEUED_TURNS} turns wait already: interrupt or wait for one to finish")
        turn = TurnRecord(next(self._ids), kind, words=words or HeardText())
        self._turns[turn.turn_id] = turn
        task = asyncio.create_task(self._speak(turn, sound, rate))
        self._tasks[turn.turn_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(turn.turn_id, None))
        return turn

    async def _speak(self, turn: TurnRecord, sound: AsyncIterator[PCM], rate: Callable[[], int]) -> None:
        async with self._speaking:
            self._send(StartTurn(self._call_id, turn.turn_id))
            try:
                await self._stream(turn, sound, rate)
            except SpeechError as error:
                self._failed(turn, str(error))
            except Exception:
                log.exception("speech_broken", call=self._call_id)
                self._failed(turn, "the voice failed: the log of the orchestrator tells how")

    async def _stream(self, turn: TurnRecord, sound: AsyncIterator[PCM], rate: Callable[[], int]) -> None:
        """Send the sound in both rates; the turn is ended even when the sound breaks off.

        ``rate`` tells the sound's sample rate once its first chunk is there. So that a long text does not pile up,
        about ``AHEAD_S`` seconds wait in the media worker.
        """
        sent = 0
        for_face: Resampler | None = None
        for_phone: Resampler | None = None
        try:
            async for chunk in sound:
                source = rate()
                if for_face is None or for_phone is None:
                    try:
                        for_face, for_phone = Resampler(source), Resampler(source, self.sample_rate)
                    except ValueError as error:
                        raise SpeechError(str(error)) from None
                step = source * _SLICE_MS // 1000
                for at in range(0, len(chunk), step):
                    piece = chunk[at : at + step]
                    self._feed(turn, for_face.push(piece), for_phone.push(piece))
                    sent += len(piece)
                    await asyncio.sleep(0)  # resampling a whole sentence takes tens of milliseconds
                    if sent / source > AHEAD_S:
                        await self._heard(turn, sent / source - AHEAD_S)
            if for_face is not None and for_phone is not None:
                self._feed(turn, for_face.flush(), for_phone.flush())
        finally:
            self._send(EndTurn(self._call_id, turn.turn_id))

    def _feed(self, turn: TurnRecord, pcm_16k: PCM, pcm: PCM) -> None:
        face, voice = pcm_16k.astype("<i2").tobytes(), pcm.astype("<i2").tobytes()
        self._send(TurnAudio(self._call_id, turn.turn_id, len(face), face + voice))

    async def _heard(self, turn: TurnRecord, seconds: float) -> None:
        """Until so many seconds of the turn have been played."""
        await turn.started.wait()
        await asyncio.sleep(max(0.0, turn.started_at + seconds - time.monotonic()))

    def _failed(self, turn: TurnRecord, reason: str) -> None:
        log.warning("speech_failed", call=self._call_id, reason=reason)
        turn.reason = reason
        if not turn.started.is_set():
            self._over(turn, "failed", 0.0)

    def _over(
        self, turn: TurnRecord, state: Literal["finished", "interrupted", "failed"], heard_ms: float
    ) -> None:
        if self._turns.pop(turn.turn_id, None) is None:
            return
        self._ended.append(turn)
        turn.state, turn.heard_ms = state, heard_ms
        turn.done.set()
        kind: EventKind = "turn_finished" if state == "finished" else "turn_interrupted"
        why = {"reason": turn.reason} if turn.reason else {}
        self.on_turn(turn)
        self._publish(kind, {"turn_id": turn.turn_id, "heard_ms": round(heard_ms, 1), "state": state, **why})
