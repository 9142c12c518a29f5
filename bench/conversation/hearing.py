"""What the ear makes of sound, without a call or a clock: echoes of a speakerphone, and words of real speech.

``python -m bench.conversation.hearing echo [--seconds 150]``
``python -m bench.conversation.hearing words FOLDER``: of WAVs (16 kHz) and a file ``...transcription`` with lines
like ``<s> these are words </s> (name)``, as in the source package of pocketsphinx.
"""

from __future__ import annotations

import argparse
import re
import time
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.listening.ear import Began, Ear, blocks
from orchestrator.listening.linear import BLOCK
from orchestrator.listening.recogniser import Recogniser
from orchestrator.rtp.codecs import make_codec
from tests.listening.support import echo, speech
from visavis.audio import Resampler

DELAYS_MS = (60, 120, 200, 300)
ECHO_DB = -8.0
EVERY_S = 12.0
"""A caller cuts in so often."""
TEXTS = (
    "I will now tell you a long story about the sea and the people who live beside it.",
    "They get up early in the morning and look at the sky before they do anything else.",
    "When the wind comes from the west they stay at home and mend their nets.",
    "When it comes from the east they go out in small boats and come back in the evening.",
    "We are open from nine to six, Monday to Friday, and on Saturdays we close at noon.",
    "You find us in the town hall, on the first floor, and the bus stops in front of the door.",
)
CUT_IN = "No, wait, I want something else."


def over_telephone(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound as PCMU at 8 kHz brings it."""
    down, up = Resampler(16_000, 8000), Resampler(8000)
    pcm = np.clip(sound * 32767, -32768, 32767).astype(np.int16)
    narrow = np.concatenate((down.push(pcm), down.flush()))
    codec = make_codec("PCMU")
    coded = [codec.decode(codec.encode(narrow[at : at + 160])) for at in range(0, len(narrow) - 159, 160)]
    wide = np.concatenate((up.push(np.concatenate(coded)), up.flush()))
    return wide.astype(np.float32) / np.float32(32768)


def story(seconds: float) -> NDArray[np.float32]:
    """Our own voice for so long."""
    pause = np.zeros(4800, np.float32)
    pieces: list[NDArray[np.float32]] = []
    while sum(map(len, pieces)) < seconds * 16_000:
        pieces += [speech(TEXTS[len(pieces) // 2 % len(TEXTS)]), pause]
    return np.concatenate(pieces)[: int(seconds * 16_000) // BLOCK * BLOCK]


def began(near: NDArray[np.float32], far: NDArray[np.float32]) -> list[float]:
    """Seconds at which the ear heard somebody begin to speak."""
    ear, found = Ear(), list[float]()
    for number, (block, reference) in enumerate(zip(blocks(near), blocks(far), strict=True)):
        for event in ear.hear(block, reference):
            if isinstance(event, Began) and not event.again:
                found.append((number + 1) * 0.02)
            elif not isinstance(event, Began):
                ear.take(event.number)
    return found


def measure_echo(seconds: float) -> None:
    """Echo alone, then a caller over it."""
    far = over_telephone(story(seconds))
    far = far[: len(far) // BLOCK * BLOCK]
    caller = speech(CUT_IN)
    for delay_ms in DELAYS_MS:
        cpu = time.process_time()
        alone = over_telephone(echo(far, delay_ms, ECHO_DB))
        alone = np.pad(alone, (0, len(far) - len(alone)))[: len(far)]
        false = began(alone, far)
        cpu = time.process_time() - cpu
        both, starts = alone.copy(), list[float]()
        for at in np.arange(EVERY_S, seconds - 4, EVERY_S):
            start = int(at * 16_000)
            both[start : start + len(caller)] += caller
            starts.append(start / 16_000)
        heard = began(both, far)
        late = [min((t - start for t in heard if 0 <= t - start < 1.5), default=-1.0) for start in starts]
        hits = [1000 * each for each in late if each >= 0]
        print(
            f"echo after {delay_ms:3d} ms at {ECHO_DB:.0f} dB, {seconds:.0f} s: heard as speech {len(false)} times;"
            f" {len(hits)} of {len(starts)} callers heard, median {np.median(hits) if hits else 0:.0f} ms after"
            f" they began; {1e3 * cpu / seconds:.1f} ms of CPU a second",
            flush=True,
        )


def errors(wanted: Sequence[str], got: Sequence[str]) -> int:
    """Words that are wrong, missing or too many (Levenshtein)."""
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return row[-1]


def plain(text: str) -> list[str]:
    """Words as they are compared."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("-", " "))


def measure_words(folder: Path) -> None:
    """Word error rate as recorded, and over PCMU."""
    said: dict[str, list[str]] = {}
    for file in folder.rglob("*transcription"):
        for line in file.read_text().splitlines():
            if match := re.fullmatch(r"(.*?)\((\S+)\)\s*", line):
                said[match[2]] = plain(re.sub(r"</?s>|<sil>|\+\+\w+\+\+", "", match[1]))
    recognise, wrong, words, count, cpu = Recogniser(), [0, 0], 0, 0, 0.0
    for path in sorted(folder.rglob("*.wav")):
        if path.stem not in said:
            continue
        with wave.open(str(path)) as file:
            if file.getframerate() != 16_000 or file.getsampwidth() != 2:
                continue
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
            sound /= np.float32(32768)
        began_at = time.process_time()
        for way, heard in enumerate((sound, over_telephone(sound))):
            wrong[way] += errors(said[path.stem], plain(recognise(heard)))
        cpu += (time.process_time() - began_at) / 2
        words, count = words + len(said[path.stem]), count + 1
    if not count:
        raise SystemExit(f"there are no recordings with transcripts in {folder}")
    rates = [100 * each / words for each in wrong]
    print(
        f"{count} utterances, {words} words: WER {rates[0]:.1f} %, over PCMU {rates[1]:.1f} %, "
        f"{1000 * cpu / count:.0f} ms of CPU each"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("echo").add_argument("--seconds", type=float, default=150.0)
    what.add_parser("words").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.what == "echo":
        measure_echo(options.seconds)
    else:
        measure_words(options.folder)


if __name__ == "__main__":
    main()
