"""Word error rate of real speech over PCMU, through echo canceller, voice activity, end of turn and recogniser.

``python -m bench.conversation.words FOLDER``, of WAVs (16 kHz) with a text beside each, ``SPEAKER/NAME.wav`` and
``NAME.txt``, as ``bench.conversation.corpus`` lays them.

*Whole*: nobody else speaks. *Barge-in*: the caller begins over our voice, whose echo comes back after 120 ms at
-8 dB; the voice is ducked and held as a conversation does it, 40 ms after the ear has heard that the caller may
begin. Words of its first second are those that lie there at the utterance's own pace. Small numbers count as words,
short forms as long ones, and a compound may be written apart.
"""

from __future__ import annotations

import argparse
import time
import wave
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.conversation.hearing import ECHO_DB, over_telephone, story
from bench.conversation.sound import in_room
from orchestrator.conversation.machine import HOLD_S
from orchestrator.conversation.words import quiet_needed
from orchestrator.listening.context import Context
from orchestrator.listening.ear import RATE, Began, Ear, Lull, Onset, Pausing, blocks
from orchestrator.listening.linear import BLOCK
from orchestrator.listening.recogniser import Recogniser

BLOCK_S = BLOCK / RATE
DELAY_MS = 120
ALONE_S = 4.0
"""So long our voice speaks before the caller cuts in."""
REACTION_S = 0.04
_DUCKED = 0.25
_FADE_S = 0.04
_QUIET_S = 1.5
_NUMBERS = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_SHORT = {
    "mr": "mister",
    "i'm": "i am",
    "that's": "that is",
    "it's": "it is",
    "you're": "you are",
    "can't": "cannot",
}

Sound = NDArray[np.float32]


def plain(text: str) -> list[str]:
    """Words as they are compared: small letters, no marks, small numbers as words, short forms as long ones."""
    letters = "".join(
        each if each.isalnum() or each == "'" else " " for each in text.lower().replace("’", "'")
    )
    words = " ".join(_SHORT.get(each, each) for each in letters.split()).split()
    return [_NUMBERS[int(each)] if each.isdigit() and int(each) <= 20 else each for each in words]


def joined(wanted: Sequence[str], got: Sequence[str]) -> list[str]:
    """``got``, with the compounds written as they are ``wanted``."""
    whole, apart = set(wanted), {"".join(two): two for two in pairwise(wanted)}
    out: list[str] = []
    for word in got:
        if out and out[-1] + word in whole:
            out[-1] += word
        else:
            out += apart[word] if word in apart and word not in whole else [word]
    return out


def wrong(wanted: Sequence[str], got: Sequence[str]) -> list[int]:
    """Of each word, how many errors (Levenshtein): it is wrong or missing, and words before it are too many.

    One more than ``wanted`` is long: words too many at the end.
    """
    costs = np.zeros((len(wanted) + 1, len(got) + 1), int)
    costs[:, 0], costs[0, :] = range(len(wanted) + 1), range(len(got) + 1)
    for i, word in enumerate(wanted, 1):
        for j, other in enumerate(got, 1):
            costs[i, j] = min(costs[i - 1, j] + 1, costs[i, j - 1] + 1, costs[i - 1, j - 1] + (word != other))
    found, i, j = [0] * (len(wanted) + 1), len(wanted), len(got)
    while i or j:
        if i and j and costs[i, j] == costs[i - 1, j - 1] + (wanted[i - 1] != got[j - 1]):
            i, j = i - 1, j - 1
            found[i] += wanted[i] != got[j]
        elif i and costs[i, j] == costs[i - 1, j] + 1:
            i -= 1
            found[i] += 1
        else:
            j -= 1
            found[i] += 1
    return found


class Listener:
    """One ear and the words of each utterance that it cuts out, as a conversation takes them."""

    def __init__(self, recognise: Recogniser) -> None:
        self.began: list[float] = []
        self.onsets: list[float] = []
        self.texts: list[str] = []
        self.cpu = 0.0
        self._recognise = recognise
        self._context = Context()

    def hear(self, near: Sound, far: Sound) -> None:
        """All of it."""
        ear, pause, text, due = Ear(), 0, "", float("inf")
        for number, (block, reference) in enumerate(zip(blocks(near), blocks(far), strict=True), 1):
            for event in ear.hear(block, reference):
                if isinstance(event, Onset):
                    self.onsets += [] if event.lapsed else [number * BLOCK_S]
                    continue
                if isinstance(event, Lull):
                    continue
                due = float("inf")
                if isinstance(event, Began):
                    self.began.append(number * BLOCK_S)
                else:
                    pause, text = event.number, self._words(event)
                    due = number * BLOCK_S - event.quiet_ms / 1000 + quiet_needed(text, "")
            if number * BLOCK_S >= due:
                due = float("inf")
                self.texts.append(text)
                ear.take(pause)
                self._context.take()

    def _words(self, pausing: Pausing) -> str:
        began = time.process_time()
        found = self._recognise.understand(pausing.sound, self._context.before(pausing.goes_on))
        self._context.heard(found)
        self.cpu += time.process_time() - began
        return found.text


def whole(recognise: Recogniser, sound: Sound) -> Listener:
    """Nobody else speaks."""
    listener = Listener(recognise)
    near = over_telephone(np.concatenate((np.zeros(RATE // 2, np.float32), sound, quiet())))
    listener.hear(near, np.zeros_like(near))
    return listener


def barge_in(recognise: Recogniser, sound: Sound, voice: Sound) -> Listener:
    """The caller begins over our voice, which is ducked and held from when that is heard on."""
    start = int(ALONE_S * RATE)
    caller = np.concatenate((np.zeros(start, np.float32), sound, quiet()))
    far = over_telephone(voice)[: len(caller)]
    far = np.pad(far, (0, len(caller) - len(far)))
    loud = Listener(recognise)
    until = start + 2 * RATE
    loud.hear(over_telephone(caller + in_room(far, DELAY_MS, ECHO_DB))[:until], far[:until])
    heard = min((at for at in (*loud.onsets, *loud.began) if at > ALONE_S), default=float("inf"))
    times = np.arange(len(far)) / RATE - heard - REACTION_S
    gain = np.interp(times, (0, _FADE_S, HOLD_S, HOLD_S + _FADE_S), (1, _DUCKED, _DUCKED, 0)).astype(
        np.float32
    )
    listener = Listener(recognise)
    listener.hear(over_telephone(caller + in_room(far * gain, DELAY_MS, ECHO_DB)), far * gain)
    return listener


def quiet() -> Sound:
    """After an utterance."""
    return np.zeros(int(_QUIET_S * RATE), np.float32)


def recordings(folder: Path) -> Iterator[tuple[str, str, Sound, list[str]]]:
    """Speaker, name, sound and words of each."""
    for path in sorted(folder.rglob("*.wav")):
        with wave.open(str(path)) as file:
            if file.getframerate() != RATE or file.getsampwidth() != 2:
                raise SystemExit(f"{path} is not 16 bits at 16 kHz: convert it first")
            pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        sound = pcm.astype(np.float32)
        sound /= np.float32(32768)
        yield path.parent.name, path.stem, sound, plain(path.with_suffix(".txt").read_text())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--errors", action="store_true", help="print what was understood wrongly")
    options = parser.parse_args()
    recognise, voice = Recogniser(), over_telephone(story(30.0))
    counts: defaultdict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(2, int))
    cut, cpu, utterances = 0, 0.0, list(recordings(options.folder))
    for speaker, name, sound, said in utterances:
        alone, over = whole(recognise, sound), barge_in(recognise, sound, voice)
        cut, cpu = cut + len(alone.texts), cpu + alone.cpu
        first = max(1, round(len(said) * min(1.0, RATE / len(sound))))
        for way, texts in (("whole", alone.texts), ("barge-in", over.texts)):
            errors = wrong(said, joined(said, plain(" ".join(texts))))
            counts[speaker, way] += sum(errors), len(said)
            if way == "barge-in":
                counts[speaker, "first second"] += sum(errors[:first]), first
            if options.errors and sum(errors):
                print(f"{way}, {speaker}/{name}: {' '.join(said)} | {' '.join(texts)}")
    speakers = sorted({each for each, _ in counts})
    print(
        f"{len(utterances)} recordings, {len(speakers)} speakers, {cut} turns of {1000 * cpu / cut:.0f} ms of CPU"
    )
    for way in ("whole", "barge-in", "first second"):
        of = {each: counts[each, way] for each in speakers}
        total = np.sum(list(of.values()), axis=0)
        each = ", ".join(f"{speaker} {100 * errors / words:.1f}" for speaker, (errors, words) in of.items())
        print(f"{way:<12} WER {100 * total[0] / total[1]:.1f} % of {total[1]} words ({each})")


if __name__ == "__main__":
    main()
