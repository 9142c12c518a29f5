"""What the memory holds of a text that was cut, against what was heard of it, by another ear than our clock.

``python -m bench.conversation.memory [--cuts 100]``

The built-in voice speaks whole texts; each is cut at random moments. How far it had come is the last of its words
that Moonshine recognises in the sound up to there, and goes on to recognise in what it hears of the next 0.4 s: it
makes up words for one that is cut, and takes them back. How many are remembered is what ``HeardText`` says.

Where the two differ by more than a word, the rest of the sound is recognised, too: words that are whole in there
had not come, though they were guessed before ("up early" goes on with "in the morning").
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from difflib import SequenceMatcher

import numpy as np

from bench.conversation.words import wrong
from orchestrator.conversation.words import words_of
from orchestrator.listening.recogniser import Recogniser
from orchestrator.speech.finish import FinishedVoice
from orchestrator.speech.heard_text import HeardText
from orchestrator.speech.hibari import HibariVoice
from orchestrator.speech.spoken import spoken, whole
from visavis.audio import Resampler

TEXTS = (
    "We are open from Monday to Friday, and on Saturdays we close at noon.",
    "Of course I can book that table for you right away. Which name shall I write down for the reservation?",
    "Your parcel left our house this morning. It will arrive within three working days at your door.",
    "The bus stops in front of the building. Take the stairs to the first floor and ring the bell there.",
    "I have written down that your heating does not work. Somebody will come and look at it tomorrow.",
    "There are two trains every hour. The first one leaves from platform nine, the other one does not stop here.",
    "Please keep your papers at hand when you come to us. The doctor wants to see them before she begins.",
    "They get up early in the morning and look at the sky before they do anything else.",
    "Thank you for waiting. Your appointment is on Tuesday the fourth of March at half past nine in the morning.",
    "I answer a few questions, about our opening hours and where we are, and I can take your name and number.",
    "My colleague knows more about these contracts than I do. Shall I connect you with her after this?",
)
RATE = 16_000
_TAIL_S = 0.15
_STEP_S = 0.05
_FIRM_STEPS = 8


async def sound_of(text: str) -> tuple[np.ndarray, HeardText, list[str]]:
    """At 16 kHz, and where its words lie."""
    voice, heard = FinishedVoice(HibariVoice()), HeardText()
    pcm = np.concatenate([chunk async for chunk in spoken(voice, whole(text), "en", heard)])
    return Resampler(voice.sample_rate).push(pcm).astype(np.float32) / 32768, heard, text.split()


def words_in(text: str) -> list[str]:
    """As they are compared: "half-past" is two words."""
    return words_of(text.replace("-", " "))


def gone(words: list[str], rest: str) -> int:
    """How many of the words were over where the rest of the sound begins, in which this was recognised."""
    got = words_in(rest)
    errors = [sum(wrong(words_in(" ".join(words[at:])), got)) for at in range(len(words) + 1)]
    return max(at for at, count in enumerate(errors) if count == min(errors))


def reached(words: list[str], recognised: str) -> int:
    """How many of the words had come, up to the last one that was recognised in its place."""
    said, got = words_in(" ".join(words)), words_in(recognised)
    blocks = SequenceMatcher(None, said, got, autojunk=False).get_matching_blocks()
    return max((block.a + block.size for block in blocks if block.size), default=0)


def firm(sound: np.ndarray, words: list[str], recognise: Recogniser) -> list[int]:
    """How many words had come for good, at each step of the sound."""
    quiet, size = np.zeros(int(_TAIL_S * RATE), np.float32), int(_STEP_S * RATE)
    cuts = range(0, len(sound) + size, size)
    got = [reached(words, recognise(np.concatenate((sound[:cut], quiet)))) for cut in cuts]
    return [min(got[at : at + _FIRM_STEPS]) for at in range(len(got))]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=100)
    cuts = parser.parse_args().cuts
    rng, recognise = random.Random(1), Recogniser()
    spoken_texts = [asyncio.run(sound_of(text)) for text in TEXTS]
    came = [firm(sound, words, recognise) for sound, _, words in spoken_texts]
    off, guessed = Counter[int](), 0
    for number in range(cuts):
        sound, heard, words = spoken_texts[number % len(TEXTS)]
        cut = rng.uniform(0.1, 0.95) * len(sound) / RATE
        got = came[number % len(TEXTS)][round(cut / _STEP_S)]
        remembered = len(heard.heard(cut * 1000).split())
        off[remembered - got] += 1
        if remembered < got - 1:
            guessed += remembered >= gone(words, recognise(sound[round(cut * RATE) :])) - 1
    near = sum(count for words, count in off.items() if abs(words) <= 1)
    print(f"remembered within a word of what was recognised: {near} of {cuts}")
    print(f"and where it was not, the recogniser had guessed ahead: {guessed}")
    print(f"words too many: {dict(sorted(off.items()))}")


if __name__ == "__main__":
    main()
