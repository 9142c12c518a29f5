"""One ear: when speech begins and pauses, and that an echo of ours is none."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.listening.activity import FRAME
from orchestrator.listening.context import Context, Understood, fitting
from orchestrator.listening.ear import (
    LULL_FRAMES,
    PAUSE_FRAMES,
    Began,
    Ear,
    EarEvent,
    Lull,
    Onset,
    Pausing,
    blocks,
)
from orchestrator.listening.linear import BLOCK, LinearCanceller
from orchestrator.listening.recogniser import Recogniser, read_tokens
from tests.listening.support import AGENT, Sound, echo, silence, speech, whole_blocks


def heard(ear: Ear, near: Sound, reference: Sound | None = None) -> list[tuple[int, EarEvent]]:
    """Every event, and the milliseconds at which it came."""
    near = whole_blocks(near)
    reference = np.zeros(len(near), np.float32) if reference is None else np.resize(reference, len(near))
    out: list[tuple[int, EarEvent]] = []
    for index, (block, far) in enumerate(zip(blocks(near), blocks(reference), strict=True)):
        out += [((index + 1) * 20, event) for event in ear.hear(block, far)]
    return out


def test_speech_begins_and_pauses() -> None:
    ear, words = Ear(), speech("I would like to book a table.")
    (at, began), (then, pause) = heard(ear, np.concatenate((silence(1.0), words, silence(0.6))))
    assert began == Began(again=False) and 1000 <= at <= 1300
    assert isinstance(pause, Pausing) and pause.quiet_ms == 128
    ends = 1000 + len(words) / 16
    assert ends + 100 <= then <= ends + 290
    assert len(pause.sound) >= len(words)


def test_an_utterance_grows_until_it_is_taken() -> None:
    ear, words = Ear(), speech("I would like to book a table.")
    first = heard(ear, np.concatenate((silence(1.0), words, silence(0.5))))
    second = heard(ear, np.concatenate((words, silence(0.5))))
    assert [event for _, event in second if isinstance(event, Began)] == [Began(again=True)]
    (_, one), (_, both) = first[-1], second[-1]
    assert isinstance(one, Pausing) and isinstance(both, Pausing)
    assert len(both.sound) > 1.8 * len(one.sound)
    ear.take(both.number)
    third = heard(ear, np.concatenate((silence(0.5), words, silence(0.5))))
    assert third[0][1] == Began(again=False)
    assert isinstance(third[-1][1], Pausing) and len(third[-1][1].sound) < 1.3 * len(one.sound)


@pytest.mark.parametrize(("seconds", "goes_on"), [(0.2, True), (0.6, True), (1.6, False)])
def test_an_utterance_goes_on_with_the_one_that_was_taken_just_before(seconds: float, goes_on: bool) -> None:
    ear, words = Ear(), speech("I would like to book a table.")
    first = heard(ear, np.concatenate((silence(1.0), words, silence(0.5))))[-1][1]
    assert isinstance(first, Pausing) and not first.goes_on
    ear.take(first.number)
    second = [event for _, event in heard(ear, np.concatenate((silence(seconds), words, silence(0.5))))]
    assert second[0] == Began(again=False)
    assert [event.goes_on for event in second if isinstance(event, Pausing)] == [goes_on]


def test_an_utterance_that_goes_on_meanwhile_is_not_taken() -> None:
    ear, words = Ear(), speech("I would like to book a table.")
    (_, pause) = heard(ear, np.concatenate((silence(1.0), words, silence(0.5))))[-1]
    heard(ear, words[: len(words) // 2])
    assert isinstance(pause, Pausing)
    ear.take(pause.number)
    (_, whole) = heard(ear, np.concatenate((words[len(words) // 2 :], silence(0.5))))[-1]
    assert isinstance(whole, Pausing) and len(whole.sound) > 1.8 * len(pause.sound)


def test_silence_and_noise_are_no_speech() -> None:
    noise = np.random.default_rng(1).standard_normal(16_000 * 5).astype(np.float32) * 0.01
    assert heard(Ear(), silence(2.0)) == []
    assert heard(Ear(), noise) == []


@pytest.mark.parametrize("delay_ms", [60, 120, 300])
def test_an_echo_of_what_was_sent_is_nobody(delay_ms: int) -> None:
    agent = speech(AGENT)
    assert heard(Ear(), echo(agent, delay_ms, -8), agent) == []


def test_a_caller_is_heard_over_the_echo() -> None:
    agent, caller = speech(AGENT), speech("Please stop. I would like to talk to somebody.")
    near = echo(agent, 120, -8)
    at = 16_000 * 6
    near[at : at + len(caller)] += caller
    (first, onset), (began, event) = heard(Ear(), near, agent)[:2]
    assert (onset, event) == (Onset(lapsed=False), Began(again=False))
    assert 6000 <= first < began <= 6000 + 330


@pytest.mark.parametrize("over_voice", [False, True])
def test_a_word_over_the_voice_may_be_all_before_the_pause_is_long_enough(over_voice: bool) -> None:
    agent, at, words = speech(AGENT), 16_000 * 6, speech("Yeah.")
    near = np.zeros_like(agent)
    near[at : at + len(words)] = words
    events = [
        each for _, each in heard(Ear(), near, agent if over_voice else None) if not isinstance(each, Onset)
    ]
    assert [type(each) for each in events] == ([Began, Lull, Pausing] if over_voice else [Began, Pausing])
    if over_voice:
        lull, pause = events[1:]
        assert isinstance(lull, Lull) and isinstance(pause, Pausing)
        assert len(pause.sound) - len(lull.sound) == (PAUSE_FRAMES - LULL_FRAMES) * FRAME
        assert np.array_equal(pause.sound[: len(lull.sound)], lull.sound)


def test_who_goes_on_after_a_word_over_the_voice_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = speech(AGENT)[: 16_000 * 6]
    loud = [0.0] * 150 + [1.0] * 10 + [0.0] * (PAUSE_FRAMES - 1) + [1.0] * 10 + [0.0] * 10
    said = iter([*loud, *[0.0] * 100])
    ear = Ear()
    monkeypatch.setattr(ear, "_probability", lambda frame: next(said))
    monkeypatch.setattr(ear, "_subtracted", lambda frame: 0.0)
    events = [each for _, each in heard(ear, np.zeros_like(agent), agent) if not isinstance(each, Onset)]
    assert [type(each) for each in events] == [Began, Lull, Began, Pausing]
    assert events[2] == Began(again=True)


def test_a_click_over_the_voice_is_taken_back_and_without_the_voice_is_none() -> None:
    agent, click = speech(AGENT), speech("No.")[:1600]
    near = np.zeros_like(agent)
    near[16_000 * 6 : 16_000 * 6 + len(click)] = click
    (first, onset), (then, lapsed) = heard(Ear(), near, agent)
    assert (onset, lapsed) == (Onset(lapsed=False), Onset(lapsed=True))
    assert 6000 < first < then <= first + 300
    assert heard(Ear(), near) == []


@pytest.mark.parametrize("seconds", [5.5, 6.5, 7.0, 8.0])
def test_a_caller_with_a_handset_is_heard_over_the_voice_at_once(seconds: float) -> None:
    agent, caller, at = speech(AGENT), speech("No, wait, I want something else."), int(seconds * 16_000)
    near = np.zeros_like(agent)
    near[at : at + len(caller)] = caller[: len(near) - at]
    (first, onset), (began, event) = heard(Ear(), near, agent)[:2]
    assert (onset, event) == (Onset(lapsed=False), Began(again=False))
    assert first <= began - 40 and began - 1000 * seconds <= 260


def test_a_caller_with_a_handset_who_cuts_in_again_and_again_is_heard_each_time() -> None:
    agent, caller, quiet = (
        speech(AGENT)[16_000 * 2 :],
        speech("No, wait, I want something else."),
        16_000 // 2,
    )
    ear = Ear()
    heard(ear, np.zeros(16_000 * 4, np.float32), agent[: 16_000 * 4])
    for _ in range(6):
        near, sent = np.zeros(16_000 + len(caller) + quiet, np.float32), agent[: 16_000 + 4800]
        near[16_000 : 16_000 + len(caller)] = caller
        events = heard(ear, near, np.concatenate((sent, np.zeros(len(near) - len(sent), np.float32))))
        began = [at for at, each in events if each == Began(again=False)]
        assert began and began[0] - 1000 <= 260
        usual = sorted(ear._near)[4 * len(ear._near) // 5]
        assert usual < 1e-6  # what was said over our voice is not taken for its echo
        ear.take(next(each.number for _, each in reversed(events) if isinstance(each, Pausing)))


def test_words_under_double_talk_are_recognised_behind_the_linear_canceller() -> None:
    agent, caller = speech(AGENT), speech("Please stop. I would like to talk to somebody.")
    near = echo(agent, 120, -8)
    at = 16_000 * 6
    near[at : at + len(caller)] += caller
    canceller = LinearCanceller()
    out = np.concatenate([canceller.process(n, r) for n, r in zip(blocks(near), blocks(agent), strict=True)])
    words = Recogniser()(out[at : at + len(caller)])
    assert words.replace(",", ".").lower() == "please stop. i would like to talk to somebody."


def test_the_linear_canceller_learns_an_echo_through_every_pause_of_the_voice() -> None:
    agent = whole_blocks(np.concatenate((speech(AGENT), silence(0.4), speech(AGENT))))
    near, canceller = echo(agent, 120, -8), LinearCanceller()
    out = np.concatenate([canceller.process(n, r) for n, r in zip(blocks(near), blocks(agent), strict=True)])
    rest, end = out[-32_000:], near[-32_000:]
    assert 10 * np.log10((end @ end) / (rest @ rest)) > 20


@pytest.mark.parametrize("soft", [1.0, 0.3])
def test_what_is_recognised_over_the_voice_begins_with_the_caller(soft: float) -> None:
    agent, caller = speech(AGENT), speech("Please stop. I would like to talk to somebody.")
    spoken = np.flatnonzero(np.abs(caller) > 0.02)
    caller = caller[spoken[0] : spoken[-1]].copy()
    caller[:2400] *= soft
    at, reference = 16_000 * 6, whole_blocks(agent)
    reference[at + 8000 :] = 0  # it is held
    near = echo(reference, 120, -18)
    near[at : at + len(caller)] += caller
    pauses = [event for _, event in heard(Ear(), near, reference) if isinstance(event, Pausing)]
    before = len(pauses[-1].sound) - len(caller) - 16 * pauses[-1].quiet_ms
    assert -500 <= before <= 1000, "samples before the caller's first"


def test_the_linear_canceller_leaves_alone_what_has_no_echo() -> None:
    words = whole_blocks(speech("I would like to book a table."))
    canceller, quiet = LinearCanceller(), np.zeros(BLOCK, np.float32)
    out = np.concatenate([canceller.process(block, quiet) for block in blocks(words)])
    assert np.array_equal(out, words)


def test_the_recogniser_reads_speech_and_nothing_in_silence() -> None:
    recognise = Recogniser()
    assert recognise(speech("I would like to book a table.")) == "I would like to book a table."
    assert recognise(np.zeros(0, np.float32)) == ""


def test_words_that_go_on_are_recognised_by_those_before() -> None:
    recognise, sound = Recogniser(), speech("The children were playing in the garden behind the old house.")
    cut = int(0.35 * len(sound))
    first = recognise.understand(sound[:cut])
    assert first.text == "The children were playing."
    assert recognise(sound[cut:]) != "in the garden behind the old house."
    assert recognise.understand(sound[cut:], [first]).text == "in the garden behind the old house."


def test_words_before_that_make_no_sense_are_left_alone() -> None:
    recognise, sound = Recogniser(), speech("I would like to book a table.")
    other = recognise.understand(speech("Seven.")).tokens
    before = Understood(speech("The old house."), 3 * other, "")
    assert recognise.understand(sound, [before]).text == "I would like to book a table."


def test_only_so_much_of_what_was_said_before_is_heard_again() -> None:
    five, context = Understood(silence(5.0), (7,), "words"), Context()
    for _ in range(4):
        context.before(True)
        context.heard(five)
        context.take()
    assert context.before(True) == (five,)
    assert fitting([five, five], 3 * 16_000) == [five] and fitting([five], 4 * 16_000) == []


def test_tokens_have_lengths_of_one_or_two_bytes() -> None:
    assert read_tokens(b"\x00\x02ab" + bytes([128 + 2, 1]) + b"x" * 130) == [b"", b"ab", b"x" * 130]


def test_after_a_short_greeting_a_caller_is_heard_as_soon_as_ever() -> None:
    ear, words = Ear(), speech("Yes.")
    greeting = whole_blocks(np.concatenate((speech("Hello."), silence(1.0))))
    assert heard(ear, silence(len(greeting) / 16_000), greeting) == []
    assert heard(ear, np.concatenate((words, silence(0.5))))[0][1] == Began(again=False)
