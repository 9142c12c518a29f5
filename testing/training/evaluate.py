"""Judge the network on voices it never heard: ``python -m testing.training.evaluate``.

Everything is measured on what :class:`VisemeTrack` answers per video frame, against the curves of the
phones. r0: correlation of the opening in speech and pauses; lag: where the correlation peaks (positive: the
mouth is late); width: correlation where the truth is a vowel or a rounded sound; bilabials: lip closures in
some frame of which ``close`` passes 0.5; false: frames outside every closure (and its neighbours) with ``close``
over 0.5; pauses: frames of pauses, 80 ms from speech on either side, whose mouth is open by more than 0.06.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.portrait.features import HOP, RATE
from inference_server.engines.portrait.visemes import MouthParams, VisemeTrack, load_network
from inference_server.lipsync.measure import correlation, sampled, scan
from inference_server.lipsync.phones import GROUPS, Curves, curves
from testing.training.corpus import VOICES, Clip
from testing.training.dataset import LEAD_S, test_set
from visavis.frames import frame_start

OPEN_IN_PAUSE = 0.06
CLOSED = 0.5
Signal = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Figures of one voice; see the module's docstring."""

    r0: float
    lag_ms: float
    width: float
    bilabials: float
    false_close: float
    fv: float
    pause_open: float
    misaligned: float
    seconds: float


def frames_of(clip: Clip, fps: Fraction) -> list[MouthParams]:
    """The mouth of each frame of a clip."""
    track = VisemeTrack(network=load_network(_WEIGHTS))
    track.append(clip.pcm)
    track.end()
    return [track.params(k, fps) for k in range(track.ready(fps))]


_WEIGHTS = ""


def noisy(clip: Clip, below_db: float) -> Clip:
    """The clip in a room: pink noise so far under its level, that begins and ends with the recording."""
    lead = round(LEAD_S * RATE)
    voice = clip.pcm[lead : len(clip.pcm) - lead].astype(np.float64)
    spectrum = np.fft.rfft(np.random.default_rng(len(voice)).standard_normal(len(voice)))
    noise = np.fft.irfft(spectrum * (np.arange(len(spectrum)) + 20.0) ** -0.5, len(voice))
    noise *= 10 ** (-below_db / 20) * np.sqrt(np.mean(voice**2) / np.mean(noise**2))
    pcm = clip.pcm.copy()
    pcm[lead : lead + len(voice)] = np.clip(voice + noise, -32768, 32767).astype(np.int16)
    return Clip(pcm, clip.phones)


def louder(clip: Clip, gain_db: float) -> Clip:
    """The clip at another level."""
    pcm = np.clip(np.round(clip.pcm * 10 ** (gain_db / 20)), -32768, 32767)
    return Clip(pcm.astype(np.int16), clip.phones)


def score(clips: Sequence[Clip], fps: Fraction) -> Scores:
    """Scores of all clips together."""
    slot = float(1 / fps)
    shown: list[list[MouthParams]] = [frames_of(c, fps) for c in clips]
    truths: list[Curves] = [curves(c.phones, len(c.pcm) // HOP) for c in clips]
    hit = total = false = outside = fv_hit = fv_total = opened = paused = 0
    for mouths, truth in zip(shown, truths, strict=True):
        close = np.array([m.close for m in mouths])
        near = np.zeros(len(truth.mouth) + 8, bool)
        for a, b in truth.bilabials:
            first, last = _frames(a, b, fps)
            total += 1
            hit += bool((close[first:last] > CLOSED).any())
            near[max(0, a - 6) : b + 6] = True
        speech = truth.group != GROUPS.index("sil")
        wide = np.convolve(speech, np.ones(17), "same") > 0
        labiodental = truth.group == GROUPS.index("labiodental")
        for k, mouth in enumerate(mouths):
            a, b = frame_start(k, fps) // HOP, -(-frame_start(k + 1, fps) // HOP)
            if not near[a:b].any() and speech[a:b].all():
                outside += 1
                false += mouth.close > CLOSED
            if b <= len(wide) and not wide[a:b].any():
                paused += 1
                opened += (not mouth.silent) and mouth.open * (1 - mouth.close) > OPEN_IN_PAUSE
        edges = np.flatnonzero(np.diff(np.concatenate(([0], labiodental.astype(int), [0]))))
        fv = np.array([m.fv for m in mouths])
        for a, b in edges.reshape(-1, 2):
            first, last = _frames(int(a), int(b), fps)
            fv_total += 1
            fv_hit += bool((fv[first:last] > CLOSED).any())
    opening = np.concatenate([[m.open * (1 - m.close) for m in ms] for ms in shown])
    width = np.concatenate([[m.width for m in ms] for ms in shown])
    starts = [np.array([frame_start(k, fps) / 16000 for k in range(len(ms))]) for ms in shown]
    gap, at = 1.0, 0.0
    wide_truth, joined, times = list[Signal](), list[Signal](), list[Signal]()
    shaped = list[NDArray[np.bool_]]()
    for t, truth in zip(starts, truths, strict=True):
        joined.append(np.concatenate((truth.mouth[:, 0], np.zeros(100))))
        times.append(t + at)
        at += len(truth.mouth) / 100 + gap
        wide_truth.append(sampled(truth.mouth[:, 1].astype(float), t, slot))
        lips = np.isin(truth.group, [GROUPS.index("vowel"), GROUPS.index("rounded")]).astype(float)
        shaped.append(sampled(lips, t, slot) > 0.5)
    truth_100, when = np.concatenate(joined).astype(float), np.concatenate(times)
    mask = np.concatenate(shaped)
    r0 = correlation(opening, sampled(truth_100, when, slot))
    misaligned = correlation(opening, sampled(truth_100, when - 1.5, slot))
    return Scores(
        r0,
        scan(opening, truth_100, when, slot)[0],
        correlation(width[mask], np.concatenate(wide_truth)[mask]),
        hit / max(1, total),
        false / max(1, outside),
        fv_hit / max(1, fv_total),
        opened / max(1, paused),
        misaligned,
        len(opening) * slot,
    )


def _frames(first_hop: int, last_hop: int, fps: Fraction) -> tuple[int, int]:
    """Frames whose slot overlaps the hops."""
    per_hop = float(fps) / 100
    return int(first_hop * per_hop), max(int(first_hop * per_hop) + 1, int(np.ceil(last_hop * per_hop)))


def main() -> None:
    """Print one line per test voice and frame rate."""
    global _WEIGHTS
    parser = argparse.ArgumentParser(description="Judge the viseme network on held-out voices.")
    parser.add_argument("--only", default="", help="voices whose name contains this")
    parser.add_argument("--weights", type=Path, help="a weights file other than the packaged one")
    parser.add_argument("--noise", type=float, help="add room noise so many dB under the speech")
    parser.add_argument("--gain", type=float, default=0.0, help="make the sound so many dB louder")
    parser.add_argument("--fps", type=int, nargs="*", default=[25, 30])
    args = parser.parse_args()
    _WEIGHTS = str(args.weights or "")
    print(f"{'voice':28} {'kind':10} fps    r0   lag ms  width  bilab  false    f/v  pause  1.5 s     s")
    for voice in VOICES:
        if not voice.test or args.only not in voice.name:
            continue
        clips = test_set(voice)
        if args.noise is not None:
            clips = [noisy(clip, args.noise) for clip in clips]
        clips = [louder(clip, args.gain) for clip in clips]
        for fps in args.fps:
            r0, lag, width, hits, false, fv, pause, off, seconds = astuple(score(clips, Fraction(fps)))
            print(
                f"{voice.name:28} {voice.kind:10} {fps:3} {r0:6.3f} {lag:+7.1f} {width:6.3f} {hits:6.1%}"
                f" {false:6.1%} {fv:6.1%} {pause:6.2%} {off:+6.2f} {seconds:6.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
