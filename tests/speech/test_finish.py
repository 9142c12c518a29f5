"""Every voice comes trimmed and at one level."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.speech.estimated import nearest_cuts
from orchestrator.speech.finish import LEVEL_DBFS, PEAK_DBFS, active_level, finished, powers
from orchestrator.speech.heard_text import HeardText

RATE = 24_000


def speech(seconds: float, amplitude: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables of 200 ms, with a few sharp peaks."""
    noise = np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    noise *= 0.25 + 0.75 * np.abs(np.sin(np.arange(len(noise)) / RATE * np.pi * 2.5))
    noise[:: RATE // 7] *= 5
    return np.clip(noise * amplitude * 32767, -32768, 32767).astype(np.int16)


def silence(milliseconds: int) -> np.ndarray:
    return np.zeros(RATE * milliseconds // 1000, np.int16)


@pytest.mark.parametrize("amplitude", [0.003, 0.05, 0.6])
def test_a_sentence_is_trimmed_and_levelled(amplitude: float) -> None:
    voice = speech(2.0, amplitude)
    out = finished(np.concatenate((silence(300), voice, silence(500))), RATE)
    assert 1000 * (len(out) - len(voice)) / RATE <= 75
    (loud,) = np.nonzero(np.abs(out) > 600)
    assert 10 <= 1000 * loud[0] / RATE <= 30
    assert 10 * np.log10(active_level(powers(out, RATE))) == pytest.approx(LEVEL_DBFS, abs=1.0)
    assert 20 * np.log10(np.abs(out).max() / 32767) <= PEAK_DBFS + 0.01


@pytest.mark.parametrize("left", [0, 15, 500])
def test_after_a_sentence_it_is_silent_for_as_long_whatever_the_voice_left(left: int) -> None:
    out = finished(np.concatenate((speech(2.0, 0.05)[: RATE * 19 // 10], silence(left))), RATE)
    (loud,) = np.nonzero(np.abs(out) > 300)
    assert 35 <= 1000 * (len(out) - loud[-1]) / RATE <= 50
    assert np.abs(out[loud[-1] + RATE // 200 :]).max() < 300


def test_silence_stays_out() -> None:
    assert len(finished(silence(400), RATE)) == 0
    assert len(finished(np.zeros(0, np.int16), RATE)) == 0


def test_words_are_heard_in_their_order_up_to_the_time() -> None:
    heard = HeardText()
    heard.begin("One two three.")
    heard.extend(speech(1.2, 0.1), RATE)
    heard.end()
    heard.extend(silence(300), RATE)
    heard.begin("Four five.")
    heard.extend(speech(0.9, 0.1), RATE)
    heard.end()
    assert heard.milliseconds == pytest.approx(2400)
    assert heard.heard(0) == ""
    assert heard.heard(450) == "One"
    assert heard.heard(1400) == "One two three."
    assert heard.heard(1750) == "One two three. Four"
    assert heard.heard(2400) == heard.text == "One two three. Four five."


def test_words_take_as_long_as_their_syllables_and_letters() -> None:
    heard = HeardText()
    heard.begin("Straight idea radio.")
    heard.extend(speech(1.0, 0.1), RATE)
    heard.end()
    assert (
        heard.heard(550) == "Straight idea"
    )  # its middle is at 59 % of the letters, at 50 % with the syllables


@pytest.mark.parametrize(
    ("clauses", "seconds"),
    [
        (["Straightforwardly,", "I do."], [0.4, 1.2]),
        (["No, no,", "I said no,", "and that, which I said, is all."], [0.5, 0.6, 1.7]),
        (["One moment", "please."], [0.3, 1.3]),
        (["Yes!"], [0.8]),
    ],
)
def test_pauses_lie_where_the_text_has_marks(clauses: list[str], seconds: list[float]) -> None:
    heard, text = HeardText(), " ".join(clauses)
    heard.begin(text)
    ends = list[float]()
    for length in seconds:
        heard.extend(speech(length, 0.1), RATE)
        ends.append(heard.milliseconds)
        heard.extend(silence(300), RATE)
    heard.end()
    found = [heard.heard(end + 150) for end in ends]
    if "," in text:
        assert found == [" ".join(clauses[:number]) for number in range(1, len(clauses) + 1)]
    assert found[-1] == text


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=7).map(lambda steps: list(accumulate(steps, initial=0))),
    st.data(),
)
def test_a_line_is_cut_where_the_lengths_fit_best(places: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(places) - 1))
    lengths = data.draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))

    def cost(cuts: Sequence[int]) -> int:
        ways = [places[end] - places[begin] for begin, end in pairwise(cuts)]
        return sum(abs(way - length) for way, length in zip(ways, lengths, strict=True))

    last = len(places) - 1
    every = [(0, *between, last) for between in combinations(range(1, last), count - 1)]
    assert tuple(nearest_cuts(places, lengths)) == min(every, key=lambda cuts: (cost(cuts), cuts))


def test_of_a_sentence_without_a_sound_nothing_is_heard() -> None:
    heard = HeardText()
    heard.begin("Hush, hush.")
    heard.extend(silence(500), RATE)
    heard.end()
    assert heard.heard(10_000) == ""


def test_of_a_sentence_whose_end_is_not_there_only_what_was_sent_counts() -> None:
    heard = HeardText()
    heard.begin("This is a rather long sentence of which only the beginning has come so far.")
    heard.extend(speech(0.8, 0.1), RATE)
    assert heard.heard(10_000).split() == ["This", "is", "a", "rather"]
