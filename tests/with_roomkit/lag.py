"""How far the lips that a phone receives are behind the voice that it plays."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bench.caller import Recording
from inference_server.engines.card import read_card

PACKET_S = 0.02


@dataclass(frozen=True)
class Lips:
    """One picture with a mouth: when it arrived, and how much later than its sound is heard (s)."""

    frame: int
    arrived: float
    lag: float


def heard_at(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Arrival-ordered (RTP timestamp, when a receiver with no delay of its own plays it)."""
    packets = recording.audio.ordered()
    until, times = 0.0, []
    for packet in packets:
        until = max(packet.arrived, until)
        times.append(until)
        until += PACKET_S
    return np.array([p.timestamp for p in packets]), np.array(times)


def onsets(recording: Recording, silence_s: float = 1.0, level: int = 500) -> list[float]:
    """When each turn's first sound is heard: what follows a pause of ``silence_s``."""
    stamps, times = heard_at(recording)
    first = stamps[0]
    samples = recording.samples()
    loud = np.flatnonzero(np.abs(samples.astype(int)) > level)
    if not len(loud):
        return []
    starts = [loud[0], *loud[1:][np.diff(loud) > silence_s * 8000]]
    out = []
    for start in starts:
        i = int(np.searchsorted(stamps - first, start, side="right")) - 1
        out.append(float(times[i] + (start - (stamps[i] - first)) / 8000))
    return out


def lips(recording: Recording, fps: int, onset: float, until: float = float("inf")) -> list[Lips]:
    """The mouths of the turn that is heard from ``onset`` on."""
    out: list[Lips] = []
    for picture in recording.frames():
        if not onset - 0.5 <= picture.arrived < until:
            continue
        card = read_card(picture.image)
        if card is None or card.mouth is None:
            continue
        said = onset + float(card.mouth.frame / Fraction(fps))
        out.append(Lips(card.mouth.frame, picture.arrived, picture.arrived - said))
    return out
