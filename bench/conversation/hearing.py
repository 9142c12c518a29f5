"""What the ear makes of a speakerphone's echo, without a call or a clock.

``python -m bench.conversation.hearing [--seconds 150]``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.conversation.sound import in_room
from orchestrator.listening.ear import Began, Ear, Onset, Pausing, blocks
from orchestrator.listening.linear import BLOCK
from orchestrator.rtp.codecs import make_codec
from tests.listening.support import speech
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


def began(near: NDArray[np.float32], far: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Seconds at which the ear heard somebody begin to speak, and at which our voice is ducked."""
    ear, found, ducked = Ear(), list[float](), list[float]()
    for number, (block, reference) in enumerate(zip(blocks(near), blocks(far), strict=True), 1):
        for event in ear.hear(block, reference):
            match event:
                case Onset(lapsed=False):
                    ducked.append(number * 0.02)
                case Began(again=False):
                    found.append(number * 0.02)
                case Pausing():
                    ear.take(event.number)
    return found, ducked


def after(starts: Sequence[float], heard: Sequence[float]) -> list[float]:
    """Milliseconds from each of these to what was heard then; of what was not heard nothing."""
    late = (min((t - start for t in heard if 0 <= t - start < 1.5), default=None) for start in starts)
    return [1000 * each for each in late if each is not None]


def measure_echo(seconds: float) -> None:
    """Echo alone, then a caller over it."""
    far = over_telephone(story(seconds))
    far = far[: len(far) // BLOCK * BLOCK]
    caller = speech(CUT_IN)
    for delay_ms in DELAYS_MS:
        cpu = time.process_time()
        alone = over_telephone(in_room(far, delay_ms, ECHO_DB))
        alone = np.pad(alone, (0, len(far) - len(alone)))[: len(far)]
        false, dips = began(alone, far)
        cpu = time.process_time() - cpu
        both, starts = alone.copy(), list[float]()
        for at in np.arange(EVERY_S, seconds - 4, EVERY_S):
            start = int(at * 16_000)
            both[start : start + len(caller)] += caller
            starts.append(start / 16_000)
        hits, first = (after(starts, each) for each in began(both, far))
        print(
            f"echo after {delay_ms:3d} ms at {ECHO_DB:.0f} dB, {seconds:.0f} s: heard as speech {len(false)} times,"
            f" ducked {len(dips)} times; {len(hits)} of {len(starts)} callers heard, median"
            f" {np.median(hits) if hits else 0:.0f} ms after they began, ducked after"
            f" {np.median(first) if first else 0:.0f}; {1e3 * cpu / seconds:.1f} ms of CPU a second",
            flush=True,
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0)
    measure_echo(parser.parse_args().seconds)


if __name__ == "__main__":
    main()
