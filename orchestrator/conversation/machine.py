"""Whose turn it is in a call: listening, thinking, speaking, held.

Sans-IO: it is told what was heard, written and spoken, each time with ``now`` (monotonic seconds), and returns what
is to be done. ``deadline`` says when to call ``tick``. No state waits for somebody else without a deadline.

A caller who may begin to speak over the voice ducks it at once. Where it was speech and goes on the voice is held,
and words decide: those that only show that somebody listens, and our own in an echo, let it go on where it stopped;
others end it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.conversation.acts import (
    Act,
    Answer,
    Ask,
    CutShort,
    Drop,
    Fill,
    GiveUp,
    Partial,
    State,
    Take,
    Unheard,
    Way,
    Yield,
)
from orchestrator.conversation.words import is_backchannel, is_echo, quiet_needed

ONSET_S = 0.5
"""How long what may be speech is waited for to be some."""
HOLD_S = 0.18
"""From the onset of speech, as it is told, to a held voice."""
INTERRUPT_S = 1.2
"""Speech over the voice that lasts longer is no listening noise."""
WORDS_S = 1.5
"""How long words may take to be recognised before the conversation goes on without them."""
FILL_S = 2.5
GIVE_UP_S = 8.0
"""After the end of the caller's turn: a sentence meanwhile, so that one is heard within 3 s, and another answer."""
KEYS_S = 2.0
"""After the last key the keys are at their end."""
ASIDE_S = 2.0
"""Words while the voice ends a question are its answer, where it ends so soon after them."""
NEVER = float("inf")


@dataclass(slots=True)
class _Heard:
    """The caller's utterance: ``text`` as of the last pause, ``carried`` what was said before it."""

    speaks: bool = False
    onset_at: float = NEVER
    began_at: float = NEVER
    pause: int = 0
    quiet_at: float = NEVER
    words_by: float = NEVER
    text: str | None = None
    carried: str = ""
    keys: str = ""
    keys_by: float = NEVER
    asides: list[tuple[float, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Reply:
    number: int
    text: str
    keys: bool = False
    answered: bool = False
    written: bool = False
    spoken: bool = False
    since: float = NEVER
    filled: bool = False

    @property
    def due_at(self) -> float:
        """When patience with it is at its end."""
        if not self.answered or self.spoken:
            return NEVER
        return self.since + (GIVE_UP_S if self.filled and not self.written else FILL_S)


class TurnMachine:
    """Of one call; ``words_s``: how long words may take to be recognised."""

    def __init__(self, words_s: float = WORDS_S) -> None:
        self._words_s = words_s
        self.state: State = "listening"
        self.saying = ""
        """What is being said to the caller, or was said last: whoever speaks keeps it."""
        self._heard = _Heard()
        self._reply: _Reply | None = None
        self._replies = 0
        self._voices = 0
        self.way: Way = "none"
        """How the voice gives way now."""

    @property
    def deadline(self) -> float:
        """When ``tick`` is due."""
        heard, reply = self._heard, self._reply
        times = [heard.words_by, heard.keys_by, heard.onset_at + ONSET_S, self._ends_at()]
        if heard.speaks and self.way != "none":
            times.append(heard.began_at + (HOLD_S if self.way == "duck" else INTERRUPT_S))
        if reply is not None and self.state != "held":
            times.append(reply.due_at)
        return min(times)

    # -- what the ear tells --

    def onset(self, lapsed: bool, now: float) -> list[Act]:
        """Somebody may begin to speak; ``lapsed``: it was nothing."""
        heard = self._heard
        if lapsed:
            waited, heard.onset_at = heard.onset_at != NEVER, NEVER
            return self._give_way("none") if waited else []
        if self.state == "held" or not self._voices or self.way != "none":
            return []
        heard.onset_at = now
        return self._give_way("duck")

    def began(self, again: bool, now: float) -> list[Act]:
        """Somebody speaks; ``again``: in the same utterance as before."""
        heard = self._heard
        if not (again and heard.speaks and self.way != "none"):
            heard.began_at = min(now, heard.onset_at)  # else it is the same speech over a voice that waits
        heard.speaks = True
        heard.onset_at = heard.quiet_at = heard.words_by = NEVER
        heard.text = None
        if self.state == "held":
            return []
        if self._voices:
            return self._give_way("duck") if self.way == "none" else []
        return self._unanswer(again)

    def early_words(self, text: str) -> list[Act]:
        """What may be all that was said over the voice: it goes on at once where that is nothing to stop for."""
        if self._heard.speaks and self._voices and (is_backchannel(text) or is_echo(text, self.saying)):
            return self._give_way("none")
        return []

    def paused(self, pause: int, quiet_s: float, now: float) -> list[Act]:
        """Speech has paused, for so long by now; its words are on their way."""
        heard = self._heard
        heard.speaks, heard.pause, heard.text = False, pause, None
        heard.quiet_at, heard.words_by = now - quiet_s, now + self._words_s
        return []

    def words(self, pause: int, text: str, now: float, *, failed: bool = False) -> list[Act]:
        """What was said up to a pause; ``failed``: nobody knows."""
        heard = self._heard
        if pause != heard.pause or heard.speaks or heard.words_by == NEVER:
            return []
        heard.words_by = NEVER
        if self.state == "held":
            return [Take(pause)]
        if failed:
            return self._not_recognised()
        if self._voices:
            return self._over_the_voice(text, now)
        return self._said(text, now)

    def deaf(self, now: float) -> list[Act]:
        """The ear is gone, and what it had heard with it."""
        heard = self._heard
        text, lost = heard.text, heard.speaks or heard.words_by != NEVER
        heard.speaks, heard.words_by = False, NEVER
        if lost and self.state != "held":
            return self._not_recognised()
        acts = self._give_way("none")
        return acts + (self.tick(now) if text else [])

    def key(self, digit: str, now: float) -> list[Act]:
        """The caller pressed a key: whoever presses keys is not talked to. # ends them."""
        if self.state == "held":
            return []
        heard = self._heard
        acts: list[Act] = [*self._unanswer(True)] if not heard.keys else []
        if self._voices and not heard.keys:
            acts.append(CutShort())
        if digit == "#" and heard.keys:
            heard.keys_by = now
        else:
            heard.keys, heard.keys_by = heard.keys + digit, now + KEYS_S
        return acts + self.tick(now)

    # -- what is written and spoken --

    def wrote(self, reply: int, now: float, *, words: bool = True) -> list[Act]:
        """The assistant has begun with an answer that is spoken from now on, or has none in ``words``."""
        current = self._reply
        if current is not None and current.number == reply and current.answered:
            current.written, current.since, current.spoken = True, now, not words
            if not words and not self._voices and self.state == "thinking":
                self.state = "listening"
        return []

    def voice_began(self, reply: int = 0) -> list[Act]:
        """Something is heard by the caller from now on: this reply, or something else."""
        self._voices += 1
        if self._reply is not None and self._reply.number == reply:
            self._reply.spoken = True
        if self.state != "held":
            self.state = "speaking"
        return []

    def voice_over(self, now: float, *, whole: bool = True) -> list[Act]:
        """It is over: ``whole``, or interrupted."""
        self._voices = max(0, self._voices - 1)
        if self._voices:
            return []
        heard, reply = self._heard, self._reply
        acts = self._give_way("none")  # what is said next is as loud as ever
        if self.state == "held":
            return acts
        self.state = "thinking" if reply is not None and reply.answered and not reply.spoken else "listening"
        asides = [text for at, text in heard.asides if now - at < ASIDE_S]
        heard.asides.clear()
        if (
            whole
            and asides
            and self.saying.rstrip().endswith("?")
            and heard.text is None
            and not heard.speaks
        ):
            heard.quiet_at, heard.pause = now, 0
            return acts + self._said(asides[-1], now)
        return acts

    # -- from outside --

    def hold(self, held: bool, now: float) -> list[Act]:
        """Say and answer nothing of one's own: somebody else has the call for a while."""
        if held == (self.state == "held"):
            return []
        if not held:
            self.state = "speaking" if self._voices else "listening"
            return []
        acts = self._unanswer(False)
        self.state = "held"
        self._heard = _Heard(speaks=self._heard.speaks, pause=self._heard.pause)
        return acts + self._give_way("none")

    def tick(self, now: float) -> list[Act]:
        """Time has passed."""
        heard, acts = self._heard, list[Act]()
        if now >= heard.keys_by:
            keys, heard.keys, heard.keys_by = heard.keys, "", NEVER
            acts += self._answer(keys, now, keys=True)
        if now >= heard.onset_at + ONSET_S:
            acts += self.onset(True, now)
        if now >= heard.words_by:
            heard.words_by = NEVER  # the recogniser has not answered
            acts += self._not_recognised()
        if heard.speaks and self.way == "duck" and now >= heard.began_at + HOLD_S:
            acts += self._give_way("hold")
        if heard.speaks and self.way == "hold" and now >= heard.began_at + INTERRUPT_S:
            acts += self._interrupt()
        if now >= self._ends_at():
            text, heard.text = f"{heard.carried} {heard.text or ''}".strip(), None
            heard.carried, heard.quiet_at = "", NEVER
            acts += [Take(heard.pause), *self._answer(text, now)]
        return acts + self._hurry(now)

    # -- inside --

    def _ends_at(self) -> float:
        heard = self._heard
        if heard.text is None or heard.speaks or self.state == "held" or heard.quiet_at == NEVER:
            return NEVER
        whole = f"{heard.carried} {heard.text}".strip()
        return heard.quiet_at + quiet_needed(whole, self.saying)

    def _said(self, text: str, now: float) -> list[Act]:
        heard = self._heard
        whole = f"{heard.carried} {text}".strip()
        if not whole:
            heard.quiet_at = NEVER
            return [Take(heard.pause)]
        heard.text = text
        self._replies += 1
        self._reply = _Reply(self._replies, whole)
        self.state = "listening"
        return [Partial(whole), Ask(self._replies, whole), *self.tick(now)]

    def _not_recognised(self) -> list[Act]:
        """Over the voice it may have been anything, and the voice goes on; else the caller waits for an answer."""
        self._heard.quiet_at = NEVER
        if self._voices:
            return [Take(self._heard.pause), *self._give_way("none")]
        return [Take(self._heard.pause), Unheard()]

    def _answer(self, text: str, now: float, *, keys: bool = False) -> list[Act]:
        reply, acts = self._reply, list[Act]()
        if reply is None or reply.text != text or reply.answered:
            self._replies += 1
            reply = self._reply = _Reply(self._replies, text, keys)
            acts.append(Ask(reply.number, text))
        reply.answered, reply.since = True, now
        self.state = "thinking"
        return [*acts, Answer(reply.number, text, keys)]

    def _unanswer(self, again: bool) -> list[Act]:
        """The caller goes on before anything of a reply was heard."""
        reply, self._reply = self._reply, None
        if reply is None or self.state == "speaking" or reply.spoken:
            return []
        self.state = "listening"
        if reply.keys:  # no words that more can be said to
            return [Drop(reply.number)]
        if reply.answered and not again:
            self._heard.carried = reply.text
        return [Drop(reply.number, unsay=reply.answered)]

    def _over_the_voice(self, text: str, now: float) -> list[Act]:
        heard = self._heard
        if self.way == "none" and not text.strip():
            return [Take(heard.pause)]
        if is_backchannel(text) or is_echo(text, self.saying):
            if text.strip() and not is_echo(text, self.saying):
                heard.asides = [*heard.asides[-1:], (now, text)]
            heard.quiet_at = NEVER
            return [Take(heard.pause), *self._give_way("none")]
        return [*self._interrupt(), *self._said(text, now)]

    def _interrupt(self) -> list[Act]:
        reply, self._reply = self._reply, None
        self.way, self._voices = "none", 0
        self.state = "listening"
        acts: list[Act] = [CutShort()]
        return [*acts, Drop(reply.number)] if reply is not None else acts

    def _give_way(self, how: Way) -> list[Act]:
        if how == self.way:
            return []
        self.way = how
        return [Yield(how)]

    def _hurry(self, now: float) -> list[Act]:
        reply = self._reply
        if reply is None or self.state == "held" or now < reply.due_at:
            return []
        if not reply.filled and not reply.written:
            reply.filled = True
            return [Fill(reply.number)]
        self._reply = None
        self.state = "speaking" if self._voices else "listening"
        return [GiveUp(reply.number)]
