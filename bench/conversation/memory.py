"""What the memory holds of a text that was cut, against what was heard of it, by other ears than our clock.

``python -m bench.conversation.memory [--cuts 100] [--seeds 3]`` (needs ``pocketsphinx``, of the extra ``train``)

The built-in voice speaks whole texts; each is cut at random moments. How many words are remembered is what
``HeardText`` says. How far the sound had come two ears tell, which know nothing of the voice:

*Aligned*: PocketSphinx says when each word of the text begins and ends in the whole sound. Words had come of which
half was over. That this ear would hear a clock that is wrong is shown with one that is 200 ms early, and late.

*Recognised*: the last word that Moonshine recognises in the sound up to there, and goes on to recognise in what it
hears of the next 0.4 s: it makes up words for one that is cut ("up early" goes on with "in the morning"), and takes
most of them back.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from difflib import SequenceMatcher

import numpy as np

from bench.conversation.words import plain
from inference_server.lipsync.align import align_words
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
CLOCKS_MS = {"aligned, a clock 200 ms late": -200, "aligned, a clock 200 ms early": 200}
RATE = 16_000
_TAIL_S = 0.15
_STEP_S = 0.05
_FIRM_STEPS = 8


async def sound_of(text: str) -> tuple[np.ndarray, HeardText, list[str]]:
    """At 16 kHz, and where its words lie."""
    voice, heard = FinishedVoice(HibariVoice()), HeardText()
    pcm = np.concatenate([chunk async for chunk in spoken(voice, whole(text), "en", heard)])
    return Resampler(voice.sample_rate).push(pcm).astype(np.float32) / 32768, heard, text.split()


def reached(words: list[str], recognised: str) -> int:
    """How many of the words had come, up to the last one that was recognised in its place."""
    said, got = plain(" ".join(words)), plain(recognised)
    blocks = SequenceMatcher(None, said, got, autojunk=False).get_matching_blocks()
    return max((block.a + block.size for block in blocks if block.size), default=0)


def firm(sound: np.ndarray, words: list[str], recognise: Recogniser) -> list[int]:
    """How many words had come for good, at each step of the sound."""
    quiet, size = np.zeros(int(_TAIL_S * RATE), np.float32), int(_STEP_S * RATE)
    cuts = range(0, len(sound) + size, size)
    got = [reached(words, recognise(np.concatenate((sound[:cut], quiet)))) for cut in cuts]
    return [min(got[at : at + _FIRM_STEPS]) for at in range(len(got))]


def halves(sound: np.ndarray, text: str) -> list[float]:
    """When half of each word is over in the sound, in seconds."""
    spans = align_words(np.rint(sound * 32767).astype(np.int16), text)
    if spans is None or len(spans) != len(text.split()):
        raise SystemExit(f"PocketSphinx cannot align '{text}'")
    return [(begin + end) / 2 for begin, end in spans]


def close(off: Counter[int]) -> str:
    """Of so many words too many: how many times it was one at most, and none."""
    cuts, near = off.total(), sum(count for words, count in off.items() if abs(words) <= 1)
    return f"within a word {near} of {cuts}, the same {off[0]}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    recognise = Recogniser()
    spoken_texts = [asyncio.run(sound_of(text)) for text in TEXTS]
    aligned = [halves(sound, text) for (sound, *_), text in zip(spoken_texts, TEXTS, strict=True)]
    came = [firm(sound, words, recognise) for sound, _, words in spoken_texts]
    for seed in range(1, options.seeds + 1):
        rng = random.Random(seed)
        by = {name: Counter[int]() for name in ("aligned", "recognised", *CLOCKS_MS)}
        for number in range(options.cuts):
            text = number % len(TEXTS)
            sound, heard, _ = spoken_texts[text]
            cut = rng.uniform(0.1, 0.95) * len(sound) / RATE
            over = sum(half < cut for half in aligned[text])
            remembered = len(heard.heard(cut * 1000).split())
            by["aligned"][remembered - over] += 1
            by["recognised"][remembered - came[text][round(cut / _STEP_S)]] += 1
            for name, ahead_ms in CLOCKS_MS.items():
                by[name][len(heard.heard(cut * 1000 + ahead_ms).split()) - over] += 1
        print(f"seed {seed}")
        for name, off in by.items():
            print(f"  {name:<28} {close(off)}; words too many: {dict(sorted(off.items()))}")


if __name__ == "__main__":
    main()
