"""The figures of a face that speaks, each beside its goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.motion.pitch import contour
from bench.motion.watch import Watched
from inference_server.lipsync.phones import GROUPS, Curves

FAST, FASTEST = 150.0, 225.0  # mm/s
SHUT, PARTED = 1.0, 2.5  # mm between the lips
_MOVED = 0.8  # mm from rest: lips begin to move
_LABIAL_S = 0.12  # a closure so near to a labial is that labial's
_REPEAT_S = 2.0  # autocorrelation beyond this
_BLINK = 0.6  # of the open eye's contrast
_GAZE = 1.0  # degrees from one picture to the next
_RAISE = 0.5  # mm of the brows
_ACCENT = 1.0  # standard deviations of the pitch
_WITH_ACCENT_S = 0.3
_STRESS = "\u02c8\u02cc"  # marks before a stressed vowel

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """``met``: ``None`` where there was nothing to measure."""

    name: str
    value: str
    goal: str
    met: bool | None

    def line(self) -> str:
        """For a person."""
        mark = {True: "met    ", False: "NOT MET", None: "-      "}[self.met]
        return f"{mark} {self.name:52} {self.value:>26}   goal {self.goal}"


def speeds(seen: Watched) -> Figure:
    """Steps of the lips between two pictures, as shares over two speeds."""
    speed = np.abs(np.diff(seen.gap)) / np.diff(seen.times)
    fast, fastest = (float((speed > limit).mean()) for limit in (FAST, FASTEST))
    return Figure(
        "lip steps over 150 / 225 mm/s",
        f"{fast:.1%} / {fastest:.2%}",
        "<= 1.5 % / 0",
        fast <= 0.015 and not fastest,
    )


def false_closures(seen: Watched, truth: Curves) -> Figure:
    """Lips shut for one picture between parted ones, without a labial near."""
    labial = np.isin(truth.group, [GROUPS.index("bilabial"), GROUPS.index("labiodental")])
    found = 0
    for k in range(1, len(seen.gap) - 1):
        if seen.gap[k] < SHUT and min(seen.gap[k - 1], seen.gap[k + 1]) > PARTED:
            first = max(0, round((seen.times[k] - _LABIAL_S) * 100))
            last = round((seen.times[k] + seen.slot + _LABIAL_S) * 100)
            found += not labial[first:last].any()
    minutes = (seen.times[-1] - seen.times[0]) / 60
    return Figure("shut for one picture without a labial", f"{found} in {minutes:.1f} min", "0", not found)


def anticipation(seen: Watched, truth: Curves) -> Figure:
    """How long before a sentence's voice its lips part (median), where it does not begin with shut lips."""
    speech = truth.group != GROUPS.index("sil")
    shut = np.isin(truth.group, [GROUPS.index("bilabial"), GROUPS.index("labiodental")])
    starts = np.flatnonzero(speech[1:] & ~speech[:-1]) + 1
    found = []
    for start in starts:
        if start < 30 or speech[start - 30 : start].any() or shut[start : start + 8].any():
            continue
        at = start / 100
        before = (seen.times > at - 0.5) & (seen.times < at - 0.3)
        near = np.flatnonzero((seen.times > at - 0.3) & (seen.times < at + 0.3))
        if not before.any() or not len(near):
            continue
        rest = float(np.median(seen.gap[before]))
        moved = near[np.abs(seen.gap[near] - rest) > _MOVED]
        if len(moved):
            found.append((at - seen.times[moved[0]]) * 1000)
    if not found:
        return Figure("lips move before the voice", "-", "80 to 160 ms", None)
    middle = float(np.median(found))
    return Figure(
        "lips move before the voice",
        f"{middle:.0f} ms ({len(found)})",
        "80 to 160 ms",
        80 <= round(middle) <= 160,
    )


def teeth(seen: Watched, truth: Curves, symbols: Sequence[tuple[str, float, float]]) -> Figure:
    """How often teeth fill a good part of the open mouth, by vowel; people who say /u/ or /o/ show a dark hole.

    American voices say most of their /ɔ/ open and not rounded, so that it is told by itself.
    """
    shares = {}
    for name, vowels in (("u", "uʉʊw"), ("o", "o"), ("ɔ", "ɔ"), ("i", "iɪ"), ("a", "aɑæ")):
        inside = np.zeros(len(seen.times), bool)
        for symbol, start, end in symbols:
            plain = symbol.lstrip(_STRESS)
            if plain and plain[0] in vowels:
                quarter = (end - start) / 4
                inside |= (seen.times >= start + quarter) & (seen.times < end)
        inside &= seen.gap > SHUT
        shares[name] = float(seen.teeth[inside].mean()) if inside.any() else 0.0
    text = " ".join(f"{name} {share:.2f}" for name, share in shares.items())
    return Figure(
        "teeth, share of the open mouth", text, "u, o <= .05", max(shares["u"], shares["o"]) <= 0.05
    )


def head(seen: Watched) -> list[Figure]:
    """How far the head moves, and how quickly."""
    std = seen.head.std(0)
    goals = ((2.0, 0.5), (1.5, 0.5), (1.0, 0.5))
    met = all(abs(s - goal) <= tolerance for s, (goal, tolerance) in zip(std, goals, strict=True))
    spectrum = (
        np.abs(np.fft.rfft((seen.head - seen.head.mean(0)) * np.hanning(len(seen.head))[:, None], axis=0))
        ** 2
    )
    at = np.fft.rfftfreq(len(seen.head), seen.slot)
    quick = float(spectrum[at > 3].sum() / max(spectrum.sum(), 1e-12))
    return [
        Figure(
            "head std yaw / pitch / roll, degrees",
            " / ".join(f"{s:.2f}" for s in std),
            "2.0 / 1.5 / 1.0 +- .5",
            met,
        ),
        Figure(
            "of it yaw / pitch by parallax",
            " / ".join(f"{s:.2f}" for s in seen.parallax.std(0)),
            "(told only)",
            None,
        ),
        Figure("head's power over 3 Hz", f"{quick:.1%}", "< 5 %", quick < 0.05),
    ]


def with_pitch(seen: Watched, track: Signal) -> Figure:
    """Correlation of the voice's pitch with the chin's height, where it is highest within 200 ms."""
    best, at = -1.0, 0
    tone = contour(track, seen.times, seen.slot)
    for lag in range(-5, 6):
        moved = np.roll(seen.head[:, 1], -lag)
        both = ~np.isnan(tone)
        both[: abs(lag)] = both[len(both) - abs(lag) :] = False
        if both.sum() > 20:
            r = float(np.corrcoef(tone[both], moved[both])[0, 1]) if moved[both].std() > 1e-6 else 0.0
            if r > best:
                best, at = r, lag
    return Figure(
        "r(F0, head pitch)", f"{best:+.2f} at {at * seen.slot * 1000:+.0f} ms", ">= .4", best >= 0.4
    )


def repetition(seen: Watched) -> Figure:
    """The highest autocorrelation of the nose's track beyond two seconds."""
    nose = seen.nose - seen.nose.mean(0)
    size = 2 * len(nose)
    power = (np.abs(np.fft.rfft(nose, size, axis=0)) ** 2).sum(1)
    total = np.fft.irfft(power)[: len(nose)]
    counts = len(nose) - np.arange(len(nose))
    own = total / counts / max(total[0] / len(nose), 1e-12)
    first, last = round(_REPEAT_S / seen.slot), min(round(60 / seen.slot), int(0.6 * len(nose)))
    if last <= first:
        return Figure("autocorrelation of the nose beyond 2 s", "-", "< .5", None)
    at = first + int(own[first:last].argmax())
    value = f"{own[at]:.2f} at {at * seen.slot:.1f} s"
    return Figure("autocorrelation of the nose beyond 2 s", value, "< .5", bool(own[at] < 0.5))


def repeated(path: Sequence[int], fps: float) -> Figure:
    """The longest stretch of body frames that comes again, in the same order, within a minute."""
    shown = np.asarray(path)
    best = 0
    for lag in range(max(2, round(_REPEAT_S * fps)), min(round(60 * fps), len(shown))):
        same = np.flatnonzero(np.diff(np.concatenate(([0], (shown[lag:] == shown[:-lag]).astype(int), [0]))))
        if len(same):
            best = max(best, int((same[1::2] - same[::2]).max()))
    return Figure(
        "longest stretch of the body seen again in 60 s", f"{best / fps:.2f} s", "<= 3 s", best / fps <= 3
    )


def blinks(seen: Watched) -> list[Figure]:
    """How often and how irregularly the eyes shut, and how dark the lids are."""
    shut = seen.lids < _BLINK
    starts = np.flatnonzero(shut[1:] & ~shut[:-1]) + 1
    minutes = (seen.times[-1] - seen.times[0]) / 60
    rate = len(starts) / minutes
    apart = np.diff(seen.times[starts])
    spread = float(apart.std() / apart.mean()) if len(apart) > 2 else 0.0
    shuttest = [k + int(seen.lids[k : k + 6].argmin()) for k in starts]
    darkest = min((float(seen.lid_luma[k]) for k in shuttest), default=1.0)
    return [
        Figure(
            "blinks a minute, CV",
            f"{rate:.0f}, {spread:.2f}",
            "12 to 20, >= .6",
            12 <= rate <= 20 and spread >= 0.6,
        ),
        Figure(
            "darkest closed lid, of the cheek",
            f"{darkest:.2f}" if len(starts) else "-",
            ">= .6",
            darkest >= 0.6 if len(starts) else None,
        ),
    ]


def gaze(seen: Watched) -> Figure:
    """Shifts of the eyes in the head from one picture to the next; slower ones keep them on whom they look at."""
    x, y = np.nan_to_num(seen.gaze, nan=np.nan).T
    step = np.full(len(x), 0.0)
    step[1:] = np.hypot(np.diff(x), np.diff(y))
    over = np.nan_to_num(step) > _GAZE
    starts = np.flatnonzero(over[1:] & ~over[:-1])
    kept = [s for i, s in enumerate(starts) if not i or s - starts[i - 1] > 5]
    rate = len(kept) / ((seen.times[-1] - seen.times[0]) / 60)
    widest = float(np.nanpercentile(np.abs(seen.gaze), 99)) if not np.isnan(seen.gaze).all() else 0.0
    return Figure(
        "gaze shifts a minute, widest",
        f"{rate:.0f}, {widest:.1f} deg",
        "5 to 15, <= 3",
        5 <= rate <= 15 and round(widest, 1) <= 3,
    )


def brows(seen: Watched, track: Signal | None) -> Figure:
    """Raised brows a minute, and the share of the voice's accents (peaks of its pitch) that come with one."""
    rest = np.array([np.median(seen.brows[max(0, k - 75) : k + 75]) for k in range(len(seen.brows))])
    raised = seen.brows - rest > _RAISE
    starts = np.flatnonzero(raised[1:] & ~raised[:-1])
    rate = len(starts) / ((seen.times[-1] - seen.times[0]) / 60)
    if track is None:
        return Figure("brow raises a minute", f"{rate:.0f}", "> 0", bool(len(starts)))
    tone = contour(track, seen.times, seen.slot)
    z = (tone - np.nanmean(tone)) / max(float(np.nanstd(tone)), 1e-6)
    high = np.nan_to_num(z, nan=-9) > _ACCENT
    accents = np.flatnonzero(high[1:] & ~high[:-1]) + 1
    reach = round(_WITH_ACCENT_S / seen.slot)
    hit = sum(bool(raised[max(0, k - reach) : k + reach + 1].any()) for k in accents)
    share = hit / max(1, len(accents))
    return Figure(
        "brow raises a minute, share of accents",
        f"{rate:.0f}, {share:.0%} of {len(accents)}",
        ">= 30 %",
        share >= 0.3,
    )
