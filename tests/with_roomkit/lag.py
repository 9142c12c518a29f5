"""How far the lips that a phone receives are behind the voice that it plays."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from testing.caller import Recording
from testing.card import read_card

PACKET_S = 0.02
LOUD = 500
PAUSE_S = 1.0


@dataclass(frozen=True)
class Lips:
    """One picture with a mouth: when it arrived, and how much later than its sound is heard (s)."""

    frame: int
    arrived: float
    lag: float


@dataclass(frozen=True)
class Voice:
    """One turn's sound as a receiver without a delay of its own plays it."""

    times: NDArray[np.float64]
    """When each packet of it is heard; a voice that stalls is heard later from there on."""
    skipped: float
    """Seconds of the first packet before the sound."""

    @property
    def onset(self) -> float:
        """When it begins."""
        return float(self.times[0]) + self.skipped

    def heard(self, seconds: float) -> float:
        """When this second of the turn is heard."""
        packet, rest = divmod(seconds + self.skipped, PACKET_S)
        last = len(self.times) - 1
        beyond = max(0.0, packet - last)
        return float(self.times[min(int(packet), last)] + beyond * PACKET_S + rest)


def heard_when(recording: Recording) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When each packet's first sample is heard, and which second of the received voice that is."""
    packets = recording.audio.ordered()
    until, times = 0.0, []
    for packet in packets:
        until = max(packet.arrived, until) + PACKET_S
        times.append(until - PACKET_S)
    stamps = np.array([packet.timestamp for packet in packets], np.float64)
    return np.array(times), (stamps - stamps[:1]) / 8000


def voices(recording: Recording) -> list[Voice]:
    """The turns: what lies between pauses of ``PAUSE_S``. Packets of silence are no part of any."""
    samples, packets = recording.samples(), recording.audio.ordered()
    turns: list[list[tuple[float, int]]] = []
    for packet, heard, second in zip(packets, *heard_when(recording), strict=True):
        at = round(second * 8000)
        loud = np.flatnonzero(np.abs(samples[at : at + len(packet.payload)].astype(int)) > LOUD)
        if len(loud):
            if not turns or heard - turns[-1][-1][0] > PAUSE_S:
                turns.append([])
            turns[-1].append((float(heard), int(loud[0])))
    return [Voice(np.array([heard for heard, _ in turn]), turn[0][1] / 8000) for turn in turns]


def onsets(recording: Recording) -> list[float]:
    """When each turn's first sound is heard."""
    return [voice.onset for voice in voices(recording)]


def lips(recording: Recording, fps: int, turn: int = 0) -> list[Lips]:
    """The mouths of a turn."""
    spoken = voices(recording)
    voice = spoken[turn]
    until = spoken[turn + 1].onset - 0.5 if turn + 1 < len(spoken) else float("inf")
    out: list[Lips] = []
    for picture in recording.frames():
        if not voice.onset - 0.5 <= picture.arrived < until:
            continue
        card = read_card(picture.image)
        if card is None or card.mouth is None:
            continue
        said = voice.heard(float(card.mouth.frame / Fraction(fps)))
        out.append(Lips(card.mouth.frame, picture.arrived, picture.arrived - said))
    return out
