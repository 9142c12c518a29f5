"""How well a mouth follows a target: correlation, lag, closures, pauses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.portrait.features import HOP
from inference_server.lipsync.clip import Sound, read_pictures, read_sound
from inference_server.lipsync.lips import LipTrack, Signal, track_lips
from inference_server.lipsync.target import (
    Kind,
    Target,
    from_energy,
    from_network,
    from_phones,
    from_text,
    read_phones,
)

RANGE_MS = 300
STEP_MS = 5
SHUT = 0.35
"""Lips are shut while their gap is under this share of the way from its 5th to its 95th percentile. The same
line says whether a bilabial closed and whether a pause was open: Face Mesh reads lips at rest a little wider
than lips pressed together, which are the 5th percentile."""
MOVING = 0.015
"""Lips whose gap varies less (5th to 95th percentile) do not speak: nothing can be said of closures."""


@dataclass(frozen=True)
class LipSyncReport:
    """``r0``: correlation as it is; ``lag_ms``: where it is best (positive: the mouth is late) and ``r_lag``
    the correlation there; ``misaligned``: with the target moved by 1.5 s. ``bilabials``: share of lip closures
    seen in some picture of theirs; ``pause_open``: share of pause pictures without shut lips; ``pause_gap``: their
    mean gap over the closed mouth. ``None``: the target does not tell, or the clip has none."""

    target: Kind
    pictures: int
    lost: int
    fps: float
    r0: float
    lag_ms: float
    r_lag: float
    misaligned: float
    width_r: float | None
    bilabials: float | None
    bilabial_count: int
    pause_open: float | None
    pause_gap: float | None
    closed_gap: float
    open_gap: float

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))


def correlation(a: Signal, b: Signal) -> float:
    """Pearson's r; 0 when one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-12 else 0.0


def sampled(curve: Signal, starts: Signal, slot: float) -> Signal:
    """Mean of a 100 Hz curve over ``slot`` seconds from each start; its ends go on."""
    padded = np.concatenate(([curve[0]], curve, [curve[-1]]))
    total = np.concatenate(([0.0], np.cumsum(padded)))
    grid = np.arange(len(total)) / 100 - 0.01
    area = np.interp(starts + slot, grid, total) - np.interp(starts, grid, total)
    return np.asarray(area / (slot * 100))


def scan(shown: Signal, curve: Signal, starts: Signal, slot: float) -> tuple[float, float]:
    """(lag in ms, r there): where the shown signal fits the curve best within ±300 ms."""
    lags = np.arange(-RANGE_MS, RANGE_MS + 1, STEP_MS)
    rs = np.array([correlation(shown, sampled(curve, starts - lag / 1000, slot)) for lag in lags])
    best = int(rs.argmax())
    if 0 < best < len(rs) - 1:
        left, mid, right = rs[best - 1 : best + 2]
        bend = left - 2 * mid + right
        if bend < 0:
            return float(lags[best] + STEP_MS * 0.5 * (left - right) / bend), float(mid)
    return float(lags[best]), float(rs[best])


def compare(lips: LipTrack, target: Target, sound_start_s: float = 0.0) -> LipSyncReport:
    """Measure lips against a target whose first hop is at ``sound_start_s``. Only pictures shown while there
    is sound count. Raises ``ValueError`` when those are under half a second."""
    slot = lips.slot
    starts = lips.times - sound_start_s
    inside = (starts > -slot) & (starts < len(target.opening) / 100)
    if inside.sum() * slot < 0.5:
        raise ValueError("less than half a second of pictures goes with sound")
    starts, gap, width = starts[inside], lips.gap[inside], lips.width[inside]
    truth = sampled(target.opening, starts, slot)
    lag, r_lag = scan(gap, target.opening, starts, slot)
    far = sampled(np.roll(target.opening, 150), starts, slot)
    closed, opened = (float(v) for v in np.percentile(gap, [5, 95]))
    threshold = closed + max(0.01, SHUT * (opened - closed))
    hits, count = _closures(target, starts, slot, gap < threshold)
    pause = sampled(target.pause.astype(np.float64), starts, slot) > 0.99
    shaped = sampled(target.shaped.astype(np.float64), starts, slot) > 0.5
    width_r = None
    if target.width is not None and shaped.sum() > 10:
        width_r = correlation(width[shaped], sampled(target.width, starts, slot)[shaped])
    return LipSyncReport(
        target=target.kind,
        pictures=int(inside.sum()),
        lost=lips.lost,
        fps=1 / slot,
        r0=correlation(gap, truth),
        lag_ms=lag,
        r_lag=r_lag,
        misaligned=correlation(gap, far),
        width_r=width_r,
        bilabials=hits / count if count and opened - closed > MOVING else None,
        bilabial_count=count,
        pause_open=float((gap[pause] >= threshold).mean()) if pause.any() else None,
        pause_gap=float(gap[pause].mean() - closed) if pause.any() else None,
        closed_gap=closed,
        open_gap=opened,
    )


def _closures(target: Target, starts: Signal, slot: float, shut: NDArray[np.bool_]) -> tuple[int, int]:
    """Closures with a shut picture in their time, and closures that have a picture at all."""
    hits = count = 0
    for first, last in target.bilabials or ():
        during = (starts + slot > first / 100) & (starts < last / 100)
        if during.any():
            count += 1
            hits += bool(shut[during].any())
    return hits, count


def target_for(
    sound: Sound, *, phones: Path | None = None, text: str | None = None, kind: Kind | None = None
) -> Target:
    """The target of a sound: phones when given, else the text, else the network (or ``kind``)."""
    if phones is not None:
        return from_phones(read_phones(phones), len(sound.pcm) // HOP)
    if text is not None:
        return from_text(sound.pcm, text)
    return from_energy(sound.pcm) if kind == "energy" else from_network(sound.pcm)


def measure(
    clip: Path | str,
    *,
    audio: Path | str | None = None,
    phones: Path | None = None,
    text: str | None = None,
    kind: Kind | None = None,
    offset_ms: float = 0.0,
) -> tuple[LipSyncReport, LipTrack, Target, float]:
    """Measure a clip (or its pictures against the sound of another file).

    ``offset_ms`` moves the pictures later, to try the metric. Returns the report, the lips, the target and the
    time of the sound's start. Raises ``ValueError`` where something needed is not in the clip.
    """
    sound = read_sound(Path(audio or clip))
    target = target_for(sound, phones=phones, text=text, kind=kind)
    lips = track_lips((at + offset_ms / 1000, rgb) for at, rgb in read_pictures(Path(clip)))
    return compare(lips, target, sound.start_s), lips, target, sound.start_s
