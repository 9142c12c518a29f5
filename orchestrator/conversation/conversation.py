"""One call's conversation: the turn machine between its ear, its assistant and its voice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from orchestrator.assistants.base import Dialogue, Reply, ToolUse
from orchestrator.calls.call import Call, CallGone
from orchestrator.calls.turns import TooManyTurns, TurnRecord
from orchestrator.conversation.acts import (
    Act,
    Answer,
    Ask,
    CutShort,
    Drop,
    Fill,
    GiveUp,
    Partial,
    Take,
    Unheard,
    Yield,
)
from orchestrator.conversation.limits import ConversationLimits
from orchestrator.conversation.machine import NEVER, TurnMachine
from orchestrator.conversation.memory import Memory
from orchestrator.conversation.moments import Moments
from orchestrator.conversation.reply import PendingReply
from orchestrator.conversation.sentences import LANGUAGE, sentences_in
from orchestrator.conversation.tools import CallTools
from orchestrator.conversation.transcript import Transcript
from orchestrator.conversation.unwritten import written
from orchestrator.listening.ears import Ears, Speech
from orchestrator.listening.messages import EarlyWords, SpeechBegan, SpeechOnset, SpeechPaused, Words
from orchestrator.listening.stt import TimedWord
from orchestrator.speech.base import SpeechError
from visavis.service.breaker import CircuitBreaker
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log(__name__)

NO_LIMITS = ConversationLimits()
_MOST_FAILURES = 2
_TYPED_KEPT = 20
"""Of what a caller has pressed: none of it is written down where it is read back."""
_SETTLE_S = 0.3
"""How long a reply waits for what was cut before it, so that the memory holds it."""


class Conversation:
    """Implements :class:`orchestrator.calls.call.Attendant`. ``close`` lets go of the call, which goes on."""

    def __init__(
        self,
        call: Call,
        ears: Ears,
        dialogue: Dialogue,
        tools: CallTools,
        transcript: Transcript,
        on_close: Callable[[], None],
        on_failing: Callable[[], None] = lambda: None,
        breaker: CircuitBreaker | None = None,
        limits: ConversationLimits = NO_LIMITS,
    ) -> None:
        self.transcript = transcript
        self.memory = Memory()
        self._call, self._ears = call, ears
        self._dialogue, self._tools = dialogue, tools
        self._language = dialogue.language or call.language or LANGUAGE
        self._sentences = sentences_in(call.language or LANGUAGE)
        self._on_close, self._on_failing = on_close, on_failing
        self._breaker, self._limits = breaker, limits
        self._began, self._answers = 0.0, 0
        self._limiting: asyncio.TimerHandle | None = None
        self._ending = False
        self._failures = 0
        self._pause_told = False
        self._not_heard = 0
        self._machine = TurnMachine(ears.words_s)
        self._moments = Moments()
        self._pressed: tuple[float, float] | None = None  # when the first and the last key was
        self._typed: deque[str] = deque(maxlen=_TYPED_KEPT)
        self._timed: tuple[TimedWord, ...] = ()
        self._replies: dict[int, PendingReply] = {}
        self._turns: dict[int, int] = {}  # ours that are not over, and whose reply each speaks
        self._heard_turns: set[int] = set()
        self._current: TurnRecord | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._shown = ""

    @property
    def state(self) -> str:
        """listening, thinking, speaking or held."""
        return self._machine.state

    def start(self, *sentences: tuple[str, str]) -> None:
        """Listen, and say these first: texts with their languages."""
        self._ears.listen(self._call.call_id, self._on_speech, self._call.language or LANGUAGE)
        self._began = self._loop.time()
        if self._limits.minutes:
            self._limiting = self._loop.call_later(60 * self._limits.minutes, self._end_by, "minutes")
        for text, language in sentences:
            if text:
                self._say(text, language)

    def hold(self, held: bool) -> None:
        """Say nothing of one's own for a while, or go on."""
        if held:
            self._pressed = None  # the machine forgets the keys, too
        self._do(self._machine.hold(held, self._loop.time()))

    def deaf(self) -> None:
        """The listening process has died."""
        self._do(self._machine.deaf(self._loop.time()))

    def close(self) -> None:
        """Let go of the call."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._limiting):
            if timer is not None:
                timer.cancel()
        for reply in self._replies.values():
            reply.close()
        self._replies.clear()
        self._ears.leave(self._call.call_id)
        if self._machine.way != "none":
            self._call.give_way("none")  # whoever speaks next in this call is as loud as ever
        self._call.show_state("")
        logged(asyncio.create_task(self._dialogue.close()), "dialogue")
        self._on_close()

    # -- what the call tells --

    def on_turn(self, turn: TurnRecord) -> None:
        """See :class:`orchestrator.calls.call.Attendant`."""
        if self._closed:
            return
        now, number = self._loop.time(), self._turns.get(turn.turn_id, 0)
        if not turn.done.is_set():
            self._current = turn
            if number and self._moments.answered:
                voiced = now + (turn.in_ms - turn.wait_ms) / 1000
                figures = self._moments.steps(voiced, turn.wait_ms)
                self._moments = Moments(began=self._moments.began)
                self._call.tell("latency", {"turn_id": turn.turn_id, **figures}, **figures)
            self._loop.call_later(turn.in_ms / 1000, self._sounds, turn, number)
            return
        self._turns.pop(turn.turn_id, None)
        self._note(turn, number)
        self._machine.saying = turn.words.text
        if turn.turn_id in self._heard_turns:
            self._heard_turns.discard(turn.turn_id)
            self._do(self._machine.voice_over(now, whole=turn.state == "finished"))

    def _sounds(self, turn: TurnRecord, number: int) -> None:
        """The caller hears the beginning of a turn, unless it was dropped before."""
        if not turn.done.is_set():
            self._heard_turns.add(turn.turn_id)
            self._machine.saying = turn.words.text
            self._do(self._machine.voice_began(number))

    def on_key(self, digit: str) -> None:
        """See :class:`orchestrator.calls.call.Attendant`."""
        now = self._loop.time()
        if self._machine.state != "held":
            self._pressed = self._pressed[0] if self._pressed else now, now
        self._do(self._machine.key(digit, now))

    def on_end(self) -> None:
        """See :class:`orchestrator.calls.call.Attendant`."""
        self.close()

    def _on_speech(self, event: Speech) -> None:
        now = self._loop.time()
        if self._current is not None and not self._current.done.is_set():
            self._machine.saying = self._current.words.text
        match event:
            case SpeechOnset(_, lapsed):
                self._do(self._machine.onset(lapsed, now))
            case EarlyWords(_, text):
                self._do(self._machine.early_words(text))
            case SpeechBegan(_, again):
                if not again:
                    self._moments.began = now
                if not again or self._pause_told:
                    self._pause_told = False
                    self._call.tell("speech_started", {})
                self._do(self._machine.began(again, now))
            case SpeechPaused(_, pause, quiet_ms):
                self._moments.quiet = now - quiet_ms / 1000
                self._pause_told = True
                self._call.tell("speech_stopped", {"quiet_ms": quiet_ms})
                self._do(self._machine.paused(pause, quiet_ms / 1000, now))
            case Words(_, pause, text, _, words, failed):
                self._moments.words, self._timed = now, words
                self._not_heard = self._not_heard if failed or not text else 0
                self._do(self._machine.words(pause, text, now, failed=failed))

    # -- what the machine orders --

    def _do(self, acts: list[Act]) -> None:
        if self._closed:
            return
        for act in acts:
            self._act(act)
        state = self._machine.state
        if state != self._shown and not self._closed:
            self._shown = state
            self._call.show_state("idle" if state == "held" else state)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._closed and (due := self._machine.deadline) != NEVER:
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._do(self._machine.tick(self._loop.time()))

    def _act(self, act: Act) -> None:
        match act:
            case Take(pause):
                self._ears.take(self._call.call_id, pause)
            case Yield(how):
                self._call.give_way(how)
            case CutShort():
                self._call.interrupt()
            case Partial(text):
                self._call.tell("transcript", {"speaker": "caller", "text": written(text), "final": False})
            case Ask(number, text):
                self._ask(number, text)
            case Answer(number, text, keys):
                self._answer(number, text, keys)
            case Drop(number, unsay):
                self._drop(number, unsay)
            case Fill(_):
                self._say(self._sentences.filler, self._sentences.language)
            case Unheard():
                self._ask_again()
            case GiveUp(number):
                log.warning("no_answer", call=self._call.call_id)
                self._drop(number, False)
                self._failed("it did not answer in time")

    def _ask(self, number: int, text: str) -> None:
        last = self._current

        async def begin() -> Reply:
            await _settled(last)
            return self._dialogue.reply(self.memory.before(text), text)

        for old in list(self._replies):
            self._drop(old, False)
        self._replies[number] = PendingReply(number, text, begin, self._foresee)

    def _foresee(self, sentence: str) -> None:
        with contextlib.suppress(SpeechError):  # told where it is said
            self._call.foresee(sentence, self._language)

    def _answer(self, number: int, text: str, pressed: bool) -> None:
        reply = self._replies.get(number)
        if reply is None:
            return
        limit = self._limits.reached(self._loop.time() - self._began, self._answers, self._dialogue.tokens)
        if limit:
            self._end_by(limit)
            return
        self._answers += 1
        reply.accept()
        if pressed and self._pressed is not None:
            (began, ended), self._pressed = self._pressed, None
            self._moments = Moments(began, quiet=ended, words=ended)
        self._moments.answered = self._loop.time()
        spoken = self._moments.spoken(self._loop.time(), time.time())
        timed, self._timed = self._timed, ()
        note = partial(self._note_caller, text, pressed, *spoken, timed)
        reply.speaking = logged(asyncio.create_task(self._perform(reply, note)), "reply")

    def _note_caller(
        self, text: str, pressed: bool, began: float, ended: float, timed: tuple[TimedWord, ...]
    ) -> None:
        """The caller's turn is over."""
        self.memory.said(text)
        keys = len(text) if pressed else 0
        if keys:
            self._typed.append(text)
        shown = "" if keys else written(text)
        if not self._call.unkept(began):
            self.transcript.add("caller", shown, began, ended, keys=keys)
        told: dict[str, object] = {"speaker": "caller", "text": shown, "final": True}
        if timed and shown == text:
            told["words"] = [asdict(each) for each in timed]
        self._call.tell("transcript", told, letters=len(text))

    def _drop(self, number: int, unsay: bool) -> None:
        reply = self._replies.pop(number, None)
        if reply is None:
            return
        reply.close()
        if unsay:
            self.memory.unsaid(reply.text)
        waiting = [turn for turn, of in self._turns.items() if of == number and turn not in self._heard_turns]
        if waiting:
            self._call.interrupt()

    async def _perform(self, reply: PendingReply, note: Callable[[], None]) -> None:
        """Speak a reply as it is written, and do what it says; ``note`` first what it answers."""
        await _settled(self._current)
        note()
        piece, spoke = await reply.take(), False
        while piece is not None:
            if isinstance(piece, ToolUse):
                result = await self._tools.use(piece.name, piece.arguments)
                log.info("tool_used", call=self._call.call_id, tool=piece.name)
                if not piece.result.done():
                    piece.result.set_result(result)
                piece = await reply.take()
                continue
            if not piece.strip():
                piece = await reply.take()
                continue
            self._moments.written = self._moments.written or self._loop.time()
            turn = self._say(reply.text_from(piece), self._language, reply.number)
            if turn is None:
                return
            spoke = True
            self._do(self._machine.wrote(reply.number, self._loop.time()))
            await turn.done.wait()
            if turn.state == "failed":
                self._failed()
            if turn.state != "finished":
                return
            piece = reply.after
        if reply.failed:
            log.warning("assistant_failed", call=self._call.call_id, reason=reply.failed)
        if not spoke:
            self._do(self._machine.wrote(reply.number, self._loop.time(), words=False))
            if reply.failed:
                self._failed(reply.failed)
                return
        elif reply.failed and self._breaker is not None:
            self._breaker.fault(reply.failed)
        self._failures = 0
        if self._breaker is not None and not reply.failed:
            self._breaker.good()
        self._replies.pop(reply.number, None)

    def _end_by(self, limit: str) -> None:
        """It has lasted as long as it may: say so, after what is being said, and hang up."""
        if self._ending:
            return
        self._ending = True
        log.info("conversation_limit", call=self._call.call_id, limit=limit)
        self._do(self._machine.hold(True, self._loop.time()))
        said = self._sentences
        turn = self._say(said.limit, said.language)

        async def end() -> None:
            if turn is not None:
                await turn.done.wait()
            self._call.hang_up(f"limit of {limit}")

        logged(asyncio.create_task(end()), "goodbye")

    def _ask_again(self) -> None:
        """The caller was not heard; where that goes on, say once what is left to do."""
        said = self._sentences
        self._not_heard += 1
        if self._not_heard <= _MOST_FAILURES:
            self._say(said.repeat, said.language)
        elif self._not_heard == _MOST_FAILURES + 1:
            self._say(said.keys, said.language)

    def _failed(self, reason: str = "") -> None:
        """There is no answer: apologise, and let somebody else go on where that happens again.

        ``reason`` where it is the assistant's fault.
        """
        if reason and self._breaker is not None:
            self._breaker.fault(reason)
        self._say(self._sentences.sorry, self._sentences.language)
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            self._loop.call_soon(self._on_failing)

    def _say(self, text: object, language: str, number: int = 0) -> TurnRecord | None:
        try:
            meanwhile = sentences_in(language).filler if number else ""
            turn = self._call.say(text, language, meanwhile=meanwhile)  # type: ignore[arg-type]
        except (SpeechError, TooManyTurns, CallGone) as error:
            log.warning("not_said", call=self._call.call_id, reason=str(error))
            return None
        self._turns[turn.turn_id] = number
        return turn

    def _note(self, turn: TurnRecord, number: int) -> None:
        """A turn is over: remember what was heard of it."""
        text, now = turn.text, time.time()
        if turn.kind != "say" or not text:
            return
        self.memory.heard(text)
        text = written(text, self._typed)
        whole, began = turn.state == "finished", now - turn.heard_ms / 1000
        if not self._call.unkept(began):
            self.transcript.add("assistant", text, began, now, whole=whole)
        self._call.tell(
            "reply", {"turn_id": turn.turn_id, "text": text, "whole": whole}, letters=len(text), whole=whole
        )


async def _settled(cut: TurnRecord | None) -> None:
    """Until it is known what was heard of a turn that is over, or was cut just now."""
    if cut is not None and not cut.done.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cut.done.wait(), _SETTLE_S)
