"""Whose turn it is, by a clock of our own."""

from __future__ import annotations

import random

import pytest

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
    Yield,
)
from orchestrator.conversation.machine import (
    FILL_S,
    GIVE_UP_S,
    HOLD_S,
    INTERRUPT_S,
    NEVER,
    ONSET_S,
    TurnMachine,
)
from orchestrator.conversation.words import closed, dictates, is_backchannel, is_echo, quiet_needed


class Talk:
    """A caller and a voice by hand; ``acts`` with the time of each."""

    def __init__(self) -> None:
        self.machine = TurnMachine()
        self.now = 0.0
        self.acts: list[tuple[float, Act]] = []
        self.pauses = 0

    def do(self, acts: list[Act]) -> None:
        self.acts += [(round(self.now, 3), act) for act in acts]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.machine.deadline) <= end:
            self.now = max(due, self.now)
            self.do(self.machine.tick(self.now))
        self.now = end

    def begin(self, again: bool = False) -> None:
        self.run(0.032)
        self.do(self.machine.onset(False, self.now))
        self.run(0.064)
        self.do(self.machine.began(again, self.now))

    def pause(self, text: str | None, recognised_s: float = 0.06, quiet_s: float = 0.16) -> None:
        """So long after the last word; its words come a little later."""
        self.run(quiet_s)
        self.pauses += 1
        self.do(self.machine.paused(self.pauses, quiet_s, self.now))
        self.run(recognised_s)
        if text is not None:
            self.do(self.machine.words(self.pauses, text, self.now))

    def say(self, text: str, seconds: float = 1.0) -> float:
        """A whole utterance; returns when its last word was over."""
        self.begin()
        self.run(seconds - 0.096)
        over = self.now
        self.pause(text)
        return over

    def of(self, *kinds: type[Act]) -> list[Act]:
        return [act for _, act in self.acts if isinstance(act, kinds)]

    def when(self, kind: type[Act]) -> float:
        return next(at for at, act in self.acts if isinstance(act, kind))

    def speaking(self, text: str = "We are open from nine to six, Monday to Friday.") -> None:
        """The voice answers."""
        self.say("When are you open?")
        self.run(0.5)
        self.machine.wrote(1, self.now)
        self.machine.saying = text
        self.run(0.1)
        self.machine.voice_began(1)
        assert self.machine.state == "speaking"
        self.acts.clear()


@pytest.mark.parametrize(
    ("text", "asked", "quiet"),
    [
        ("When are you open?", "", 0.25),
        ("I would like to book a table for", "", 0.7),
        ("I would like to book a table for.", "", 0.7),
        ("My number is 0 7 9 1.", "", 1.2),
        ("Five five five.", "", 1.2),
        ("Anna.", "Which name shall I write down?", 1.2),
        ("Yes, please.", "Shall I book it?", 0.25),
    ],
)
def test_a_turn_ends_after_as_much_quiet_as_its_words_need(text: str, asked: str, quiet: float) -> None:
    talk = Talk()
    talk.machine.saying = asked
    over = talk.say(text)
    talk.run(2.0)
    assert talk.when(Answer) == pytest.approx(over + quiet, abs=0.01)
    assert talk.of(Partial, Ask, Take, Answer) == [Partial(text), Ask(1, text), Take(1), Answer(1, text)]
    assert talk.machine.state == "thinking"


def test_the_reply_is_begun_before_the_turn_has_ended_and_dropped_where_it_goes_on() -> None:
    talk = Talk()
    talk.say("I would like to book")
    assert talk.of(Ask) == [Ask(1, "I would like to book")]
    talk.begin(again=True)
    assert talk.of(Drop) == [Drop(1)]
    talk.run(0.5)
    talk.pause("I would like to book a table.")
    talk.run(1.0)
    assert talk.of(Answer) == [Answer(2, "I would like to book a table.")]


def test_a_caller_who_goes_on_before_anything_was_heard_gets_one_answer_to_all() -> None:
    talk = Talk()
    talk.say("I have a question.")
    talk.run(0.3)
    assert talk.machine.state == "thinking"
    talk.say("When are you open?")
    talk.run(1.0)
    assert talk.of(Drop) == [Drop(1, unsay=True)]
    assert talk.of(Answer) == [
        Answer(1, "I have a question."),
        Answer(2, "I have a question. When are you open?"),
    ]


def test_speech_over_the_voice_ducks_it_then_holds_it_then_ends_it() -> None:
    talk = Talk()
    talk.speaking()
    began = talk.now
    talk.say("No, wait, I meant Sunday.", 1.0)
    talk.run(1.0)
    assert talk.when(Yield) == pytest.approx(began + 0.032)
    assert talk.of(Yield, CutShort, Ask, Answer) == [
        Yield("duck"),
        Yield("hold"),
        CutShort(),
        Ask(2, "No, wait, I meant Sunday."),
        Answer(2, "No, wait, I meant Sunday."),
    ]
    held = next(at for at, act in talk.acts if act == Yield("hold"))
    assert held - began <= 0.27


@pytest.mark.parametrize(
    "text", ["Mhm.", "Yeah.", "Uh-huh.", "Okay, great.", "Right.", "", "from nine to six Monday"]
)
def test_listening_noises_coughs_and_our_own_words_let_the_voice_go_on(text: str) -> None:
    talk = Talk()
    talk.speaking()
    talk.say(text, 0.4)
    talk.run(3.0)
    assert talk.of(Yield, CutShort, Ask, Answer, Drop) == [Yield("duck"), Yield("hold"), Yield("none")]
    assert talk.machine.state == "speaking"
    talk.machine.voice_over(talk.now)
    assert talk.machine.state == "listening"


def test_a_listening_noise_gives_the_voice_back_before_its_pause_is_long_enough_and_more_takes_it_again() -> (
    None
):
    talk = Talk()
    talk.speaking()
    talk.acts.clear()
    talk.begin()
    talk.run(0.3)
    talk.do(talk.machine.early_words("Mhm."))
    assert talk.of(Yield) == [Yield("duck"), Yield("hold"), Yield("none")]
    talk.run(0.05)
    talk.do(talk.machine.began(True, talk.now))
    talk.run(0.3)
    assert talk.of(Yield)[3:] == [Yield("duck"), Yield("hold")] and not talk.of(CutShort)
    talk.pause("Mhm, but no.")
    assert talk.of(CutShort)


def test_early_words_that_are_no_noise_wait_for_the_pause_and_for_more() -> None:
    talk = Talk()
    talk.speaking()
    talk.acts.clear()
    talk.begin()
    talk.run(0.3)
    talk.do(talk.machine.early_words("No."))
    talk.do(talk.machine.began(True, talk.now))
    assert talk.of(Yield, CutShort) == [Yield("duck"), Yield("hold")]
    talk.run(INTERRUPT_S - 0.3 - 0.064 + 0.01)  # counted from the first word
    assert talk.of(CutShort)
    talk.pause("No, thank you.")
    assert talk.of(CutShort)


def test_what_may_be_speech_ducks_the_voice_at_once_and_holds_it_counted_from_there() -> None:
    talk = Talk()
    talk.speaking()
    began = talk.now
    talk.begin()
    talk.run(1.0)
    assert talk.when(Yield) == pytest.approx(began + 0.032)
    held = next(at for at, act in talk.acts if act == Yield("hold"))
    assert held == pytest.approx(began + 0.032 + HOLD_S)


def test_what_was_no_speech_gives_the_voice_back_at_once() -> None:
    talk = Talk()
    talk.do(talk.machine.onset(False, talk.now))
    assert not talk.acts, "nobody speaks"
    talk.speaking()
    talk.do(talk.machine.onset(False, talk.now))
    talk.run(0.05)
    talk.do(talk.machine.onset(True, talk.now))
    assert talk.of(Yield) == [Yield("duck"), Yield("none")]
    talk.do(talk.machine.onset(False, talk.now))
    began = talk.now
    talk.run(5.0)  # the ear says no more
    assert talk.acts[-1] == (pytest.approx(began + ONSET_S), Yield("none"))
    assert talk.machine.state == "speaking"


def test_what_is_said_after_a_voice_that_was_ducked_at_its_end_is_as_loud_as_any() -> None:
    talk = Talk()
    talk.speaking()
    talk.begin()
    talk.do(talk.machine.voice_over(talk.now))
    assert talk.of(Yield) == [Yield("duck"), Yield("none")]


def test_a_short_noise_only_ducks_the_voice() -> None:
    talk = Talk()
    talk.speaking()
    talk.begin()
    talk.pause("", quiet_s=0.096)
    talk.run(1.0)
    assert talk.of(Yield) == [Yield("duck"), Yield("none")]


def test_who_speaks_on_over_the_voice_is_let_speak_before_words_are_known() -> None:
    talk = Talk()
    talk.speaking()
    talk.begin()
    talk.run(1.3)
    assert talk.of(CutShort) == [CutShort()]
    assert talk.machine.state == "listening"


def test_a_yes_at_the_end_of_a_question_is_its_answer() -> None:
    talk = Talk()
    talk.speaking("Shall I book it for you?")
    talk.say("Yes.", 0.4)
    talk.run(0.3)
    talk.do(talk.machine.voice_over(talk.now))
    talk.run(1.0)
    assert talk.of(Answer) == [Answer(2, "Yes.")]


def test_an_answer_that_does_not_come_is_filled_and_given_up() -> None:
    talk = Talk()
    talk.say("When are you open?")
    talk.run(0.1)
    answered = talk.when(Answer)
    talk.run(FILL_S)
    assert talk.when(Fill) == pytest.approx(answered + FILL_S)
    talk.machine.voice_began()
    talk.run(1.0)
    talk.do(talk.machine.voice_over(talk.now))
    assert talk.machine.state == "thinking"
    talk.run(GIVE_UP_S)
    assert talk.when(GiveUp) == pytest.approx(answered + GIVE_UP_S)
    assert talk.machine.deadline == NEVER


def test_a_voice_that_does_not_begin_is_given_up() -> None:
    talk = Talk()
    talk.say("When are you open?")
    talk.run(0.1)
    talk.machine.wrote(1, talk.now)
    talk.run(FILL_S + 0.01)
    assert talk.of(Fill, GiveUp) == [GiveUp(1)]


def test_words_that_do_not_come_hold_up_nobody() -> None:
    talk = Talk()
    talk.speaking()
    talk.begin()
    talk.run(0.3)
    talk.pause(None)
    talk.run(2.0)
    assert talk.of(Yield)[-1] == Yield("none")
    talk = Talk()
    talk.begin()
    talk.pause(None)
    talk.run(2.0)
    assert talk.machine.deadline == NEVER
    talk.say("Hello there.")
    talk.run(1.0)
    assert talk.of(Answer) == [Answer(1, "Hello there.")]


def test_a_dead_ear_gives_the_voice_back_and_keeps_what_was_said() -> None:
    talk = Talk()
    talk.speaking()
    talk.begin()
    talk.run(0.2)
    talk.do(talk.machine.deaf(talk.now))
    assert talk.of(Yield) == [Yield("duck"), Yield("hold"), Yield("none")]
    talk = Talk()
    talk.say("I would like to book a table for")
    talk.do(talk.machine.deaf(talk.now))
    talk.run(1.0)
    assert talk.of(Answer) == [Answer(1, "I would like to book a table for")]


def test_keys_are_one_answer_two_seconds_after_the_last() -> None:
    talk = Talk()
    talk.speaking()
    for digit in "042":
        talk.do(talk.machine.key(digit, talk.now))
        talk.run(0.5)
    assert talk.of(CutShort) == [CutShort()]
    talk.run(2.0)
    assert talk.of(Answer) == [Answer(2, "042", keys=True)]
    talk.do(talk.machine.key("7", talk.now))
    talk.do(talk.machine.key("#", talk.now))
    assert talk.of(Answer)[-1] == Answer(3, "7", keys=True)


def test_while_it_is_held_nothing_is_answered() -> None:
    talk = Talk()
    talk.do(talk.machine.hold(True, talk.now))
    talk.say("When are you open?")
    talk.run(5.0)
    assert talk.of(Answer, Ask) == [] and talk.of(Take) == [Take(1)]
    talk.do(talk.machine.hold(False, talk.now))
    talk.say("When are you open?")
    talk.run(1.0)
    assert len(talk.of(Answer)) == 1


@pytest.mark.parametrize("seed", range(30))
def test_no_state_is_for_ever(seed: int) -> None:
    """Whatever is told in whatever order: once nobody speaks any more it ends up listening, with nothing due."""
    rng, talk = random.Random(seed), Talk()
    machine = talk.machine
    for _ in range(200):
        what = rng.randrange(10)
        match what:
            case 0:
                talk.do(machine.began(rng.random() < 0.3, talk.now))
            case 1:
                talk.pauses += 1
                talk.do(machine.paused(talk.pauses, 0.16, talk.now))
            case 2:
                text = rng.choice(["", "Mhm.", "Yes", "Tell me more.", "5 5 5"])
                talk.do(machine.words(talk.pauses, text, talk.now))
            case 3:
                talk.do(machine.wrote(rng.randrange(20), talk.now, words=rng.random() < 0.8))
            case 4:
                talk.do(machine.voice_began(rng.randrange(20)))
            case 5:
                talk.do(machine.voice_over(talk.now, whole=rng.random() < 0.5))
            case 6:
                talk.do(machine.key(rng.choice("12#"), talk.now))
            case 7:
                talk.do(machine.deaf(talk.now))
            case 8:
                talk.do(machine.onset(rng.random() < 0.3, talk.now))
        talk.run(rng.random())
    talk.pauses += 1
    talk.do(machine.paused(talk.pauses, 0.16, talk.now))
    for _ in range(20):
        talk.run(GIVE_UP_S)
        while machine._voices:
            talk.do(machine.voice_over(talk.now))
    assert machine.state == "listening" and machine.deadline == NEVER


def test_words() -> None:
    assert closed("I am here.") and not closed("I am here") and not closed("This is the.")
    assert dictates("0 7 9") and dictates("My code is A B C D E F.") and not dictates("I have a dog.")
    assert is_backchannel("Mm-hmm.") and is_backchannel("") and not is_backchannel("No.")
    assert is_echo("from nine to six", "We are open from nine to six.") and not is_echo("nine", "nine")
    assert quiet_needed("", "") == 0.7
