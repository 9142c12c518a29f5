"""Lip-sync of a whole call, as a phone received it: ``python -m bench.lipsync.call [--image FACE] [--only
joe] [--fps 25 30]``.

Held-out voices, whose phones are known in time before the call, are played into it. What they said is found in the
received sound by correlation, so the phones are placed on the phone's own time line; pictures are placed there by
the sender reports. Neither the engine's network nor its audio has a say in the target.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from bench.lipsync.engine import first
from bench.lipsync.verdict import HEAD, INJECTED_MS, Measured, verdicts
from inference_server.engines.portrait.features import HOP, RATE
from inference_server.lipsync.lips import LipTrack, track_lips
from inference_server.lipsync.measure import LipSyncReport, compare
from inference_server.lipsync.phones import Phone
from inference_server.lipsync.target import from_phones
from testing import caller
from testing.caller.movie import aligned
from testing.caller.recording import Recording
from testing.training.corpus import VOICES, Clip
from testing.training.dataset import test_set
from tests.support.house import orchestrator
from tests.support.servers import running_server
from visavis import portraits

RECEIVED_RATE = 8000
ALIKE = 0.9
"""Correlation of the received sound with the played one, under which it is not taken for the same."""


@dataclass(frozen=True)
class Heard:
    """Where the clips are in the received sound: ``phones`` on its time line, and the ``spans`` in seconds of the
    clips that came through whole; ``alike``: the least correlation of one of those with its sound."""

    phones: list[Phone]
    spans: list[tuple[float, float]]
    alike: float


@dataclass(frozen=True)
class Received:
    """``lips`` while clips were heard; ``lost`` audio packets and ``late`` pictures as the server counts them."""

    lips: LipTrack
    heard: Heard
    lost: int
    late: int


def found(heard: NDArray[np.int16], played: NDArray[np.int16]) -> tuple[float, float]:
    """Second of ``heard`` (8 kHz) at which ``played`` (16 kHz) begins, and the correlation there.

    Raises ``ValueError`` when it is not in there.
    """
    needle = soxr.resample(played.astype(np.float32), RATE, RECEIVED_RATE).astype(np.float64)
    hay = heard.astype(np.float64)
    if len(hay) < len(needle):
        raise ValueError("less was received than was played")
    size = 1 << (len(hay) + len(needle)).bit_length()
    product = np.fft.irfft(np.fft.rfft(hay, size) * np.fft.rfft(needle, size).conj(), size)
    product = product[: len(hay) - len(needle) + 1]
    total = np.concatenate(([0.0], np.cumsum(hay**2)))
    power = total[len(needle) :] - total[: -len(needle)]
    likeness = product / np.sqrt(np.maximum(power, 1.0) * (needle @ needle))
    at = int(likeness.argmax())
    if likeness[at] < ALIKE:
        raise ValueError(f"what was played is not in what was received (correlation {likeness[at]:.2f})")
    return at / RECEIVED_RATE, float(likeness[at])


async def called(clips: Sequence[Clip], fps: int, engine: str, portrait: bytes) -> tuple[Recording, int]:
    """Play the clips into a call; what the phone received, and how many pictures were late."""
    pcm = np.concatenate([clip.pcm for clip in clips])
    async with (
        running_server(engine=engine) as server,
        orchestrator([server.address], portrait=portrait, fps=fps) as house,
        caller.Phone(house.uri) as phone,
    ):
        call = await house.call_id()
        await asyncio.sleep(2.0)
        turn = await house.play(call, [(0.0, pcm)], rate=RATE)
        await house.turn(call, turn, within_s=len(pcm) / RATE + 60)
        await asyncio.sleep(1.0)
        late = int((await house.call(call))["media"]["frames_late"])
        recording = phone.recording
    return recording, late


def placed(sound: NDArray[np.int16], clips: Sequence[Clip]) -> Heard:
    """The clips, one after the other, in the sound (8 kHz) that a phone received; without those that lost packets.

    Raises ``ValueError`` when that are more than half.
    """
    phones, spans = list[Phone](), list[tuple[float, float]]()
    after, least = 0.0, 1.0
    for clip in clips:
        try:
            start, alike = found(sound[round(after * RECEIVED_RATE) :], clip.pcm)
        except ValueError:
            continue
        at, seconds = after + start, len(clip.pcm) / RATE
        phones += [Phone(p.symbol, p.start + at, p.end + at) for p in clip.phones]
        spans.append((at, at + seconds))
        after = at + seconds - 0.1
        least = min(least, alike)
    if 2 * len(spans) < len(clips):
        raise ValueError(
            f"{len(spans)} of {len(clips)} sentences were received whole: is the machine overloaded?"
        )
    return Heard(phones, spans, least)


def received(recording: Recording, clips: Sequence[Clip], late: int) -> Received:
    """Read the lips off a recording and find the clips in its sound. Raises ``ValueError``."""
    heard = placed(recording.samples(), clips)
    frames = recording.frames()
    shown = [
        (at, frame.image)
        for at, frame in zip(aligned(recording, frames), frames, strict=True)
        if any(start <= at < end for start, end in heard.spans)
    ]
    return Received(track_lips(shown), heard, recording.audio.lost, late)


def judged(got: Received, late_s: float = 0.0) -> LipSyncReport:
    """Figures of what was received, with the pictures ``late_s`` later than they were."""
    target = from_phones(got.heard.phones, round(got.heard.spans[-1][1] * RATE) // HOP)
    return compare(replace(got.lips, times=got.lips.times + late_s), target)


def main(arguments: Sequence[str] | None = None) -> None:
    """One call and one line per voice and frame rate, then every requirement and whether it is met."""
    parser = argparse.ArgumentParser(prog="python -m bench.lipsync.call", description=__doc__)
    parser.add_argument(
        "--only", nargs="*", default=["Andrea", "joe", "librivox"], help="parts of voices' names"
    )
    parser.add_argument("--fps", type=int, nargs="*", default=[25, 30])
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--engine", default="portrait")
    parser.add_argument(
        "--image", type=Path, default=portraits.DEFAULT, help="whose lips, the default avatar's"
    )
    args = parser.parse_args(arguments)
    rows: list[Measured] = []
    print(f"{HEAD}  sound  heard  lost  late", flush=True)
    for voice in (v for v in VOICES if v.test and any(part in v.name for part in args.only)):
        clips = first(test_set(voice), args.seconds)
        for fps in args.fps:
            recording, late = asyncio.run(called(clips, fps, args.engine, args.image.read_bytes()))
            try:
                got = received(recording, clips, late)
            except ValueError as error:
                print(f"{voice.name:24} {fps:3} not judged: {error}", flush=True)
                continue
            report = judged(got)
            found_ms = judged(got, INJECTED_MS / 1000).lag_ms - report.lag_ms
            rows.append(Measured(voice.name, voice.kind, fps, report, found_ms))
            whole = f"{len(got.heard.spans)}/{len(clips)}"
            print(
                f"{rows[-1].line()} {got.heard.alike:6.2f} {whole:>6} {got.lost:5} {got.late:5}", flush=True
            )
    for verdict in verdicts(rows, lag_ms=40.0):
        print(verdict.line())


if __name__ == "__main__":
    main()
