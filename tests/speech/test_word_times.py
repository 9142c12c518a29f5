"""When the embedded voices speak which word: they tell it themselves, so what was heard of a text is exact."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from orchestrator.speech.base import TextToSpeech
from orchestrator.speech.espeak import EspeakVoice, word_middles
from orchestrator.speech.finish import FinishedVoice, active_level, powers
from orchestrator.speech.heard_text import HeardText
from orchestrator.speech.hibari import HibariVoice
from orchestrator.speech.hibari_timed import middle, shares, sounding, with_output
from orchestrator.speech.spoken import spoken, whole

_STEP_MS = 10
_PAUSE_MS = 120


async def before_pauses(voice: TextToSpeech, language: str, text: str) -> list[str]:
    """The last word that was heard by the middle of each pause in the sound of a sentence."""
    heard = HeardText()
    pcm = np.concatenate([each async for each in spoken(FinishedVoice(voice), whole(text), language, heard)])
    assert heard.heard(len(pcm) * 1000 / voice.sample_rate) == text
    power = powers(pcm, voice.sample_rate, _STEP_MS)
    (loud,) = np.nonzero(power > active_level(power) * 10**-2.5)
    gaps = np.flatnonzero(np.diff(loud) * _STEP_MS >= _PAUSE_MS)
    return [heard.heard(_STEP_MS * (loud[at] + loud[at + 1]) / 2).split()[-1] for at in gaps]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Straightforwardly; I do, if I may, at 9:30 a.m.; Dr. Smith.", ["Straightforwardly;", "a.m.;"]),
        ("It is 1999; we are 3; that costs $5.50; goodbye.", ["1999;", "3;", "$5.50;"]),
        ("Strengths; a radio; through 1,250; so be it.", ["Strengths;", "radio;", "1,250;"]),
    ],
)
async def test_the_english_voice_tells_its_words(text: str, words: list[str]) -> None:
    assert await before_pauses(HibariVoice(), "en", text) == words


@pytest.mark.parametrize("text", ["Goodbye.", "Available.", "Thursday.", "Afternoon.", "Nobody."])
async def test_a_word_of_the_english_voice_is_half_over_in_the_middle_of_its_sound(text: str) -> None:
    voice = FinishedVoice(HibariVoice())
    (stretch,) = [each async for each in voice.timed(text, "en")]
    power = powers(stretch.pcm, voice.sample_rate, _STEP_MS)
    (loud,) = np.nonzero(power > active_level(power) * 10**-2.5)
    assert abs(stretch.middles_ms[0] - _STEP_MS * (loud[0] + loud[-1] + 1) / 2) <= 25


def test_symbols_sound_a_little_before_their_places_and_a_pause_is_none_of_them() -> None:
    lengths_ms = np.array([300.0, 50, 275, 100, 50, 75, 300, 25])
    assert sounding(["a", "b", ",", " ", "c", "."], lengths_ms, 1000.0) == [
        (1275, 1325),
        (1325, 1400),  # the rest of it is a pause
        (1700, 1825),  # with the space before it
    ]


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (0, 2, 100),
        (0, 1, 50),
        (0, 0.5, 25),
        (0.5, 2.5, 275),
        (2, 3, 500),
        (2, 2, 300),
        (0, 0, 0),
        (3, 3, 600),
    ],
)
def test_a_word_is_half_over_halfway_between_its_symbols(begin: float, end: float, expected: float) -> None:
    assert middle([(0, 100), (100, 200), (400, 600)], begin, end) == expected


@pytest.mark.process
def test_the_voice_of_other_languages_tells_its_words() -> None:
    # Its library must not be started twice in a process, and other tests start it, too.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(words_of_others).result()
    assert found == [
        ["Übergrößen,", "ja,", "24.", "1999,", "so,", "da;"],
        ["Привет,", "1999,", "я,", "здравствуйте;"],
    ]


def words_of_others() -> list[list[str]]:
    texts = {
        "de": "Übergrößen, ja, am 24. Dezember 1999, z.B. so, wären da; tschüß.",
        "ru": "Привет, 1999, это я, здравствуйте; да.",
    }
    return [asyncio.run(before_pauses(EspeakVoice(), *each)) for each in texts.items()]


async def test_what_is_split_and_what_is_not_spoken_has_its_time() -> None:
    text = 'She said "Stop." – and then ... again (twice!). “No”, he said.'
    heard = HeardText()
    async for _ in spoken(FinishedVoice(HibariVoice()), whole(text), "en", heard):
        pass
    came = [heard.heard(at_ms) for at_ms in range(0, int(heard.milliseconds), 10)]
    assert came[-1] == text and all(text.startswith(each) for each in came)
    middles = [next(at for at, each in enumerate(came) if len(each.split()) > n) for n in range(12)]
    assert middles == sorted(middles) and len(set(middles)) >= 10


def test_words_that_are_read_otherwise_share_what_they_sound() -> None:
    spoken_as = [("at", 2), ("nine", 3), ("thirty", 5), ("A.M.,", 3), ("Doctor", 6), ("Who.", 2)]
    assert shares(["at", "9:30", "a.m.,", "Dr.", "Who."], spoken_as) == [2, 8, 3, 6, 2]
    by_letters = shares(["12:30", "4"], [("half", 4), ("past", 4), ("twelve", 5), ("four", 3)])
    assert by_letters == pytest.approx([16 * 19 / 26, 16 * 7 / 26])
    assert shares(["–", "yes"], [("yes", 3)]) == [0, 3]
    assert shares(["yes", "no"], [("oh", 1), ("yes", 3), ("and", 3), ("no", 2)]) == [7, 2]


def test_a_word_between_others_lies_between_them() -> None:
    text = "Ja, so ist es. Gut."
    begins = [(0, 50.0), (4, 400.0), (11, 900.0), (15, 2000.0)]
    assert word_middles(text, begins, [300.0, 1300.0, 2400.0]) == (175.0, 650.0, 875.0, 1100.0, 2200.0)
    assert word_middles(text, [], []) == ()


def test_an_output_is_one_more_message_behind_the_model() -> None:
    assert with_output(b"model", "/x") == b"model" + b"\x3a\x06" + b"\x62\x04" + b"\x0a\x02/x"
