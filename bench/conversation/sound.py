"""When a phone heard what: packets by their arrival, and the sound in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testing.caller.recording import Recording

LOUD = 400
"""Amplitude of something audible: -38 dBFS."""
_PACKET_S = 0.02
_ROOM_S = 0.08
_DECODER_S = 0.2
"""Opus is right so long after a decoder's first packet."""
_DUCKED = 0.5
_SILENT_PACKETS = 4


def in_room(sound: NDArray[np.float32], delay_ms: int, decibels: float) -> NDArray[np.float32]:
    """What a speakerphone in a room of 80 ms sends back of a sound at 16 kHz; ``decibels``: all of it, against the
    sound."""
    size = int(_ROOM_S * 16_000)
    room = np.random.default_rng(8).standard_normal(size) * np.exp(-np.arange(size) / (size / 6)) * 0.3
    room[0] += 1.0
    room *= 10 ** (decibels / 20) / np.linalg.norm(room)
    delayed = np.pad(sound, (delay_ms * 16, 0))[: len(sound)]
    return np.convolve(delayed, room)[: len(sound)].astype(np.float32)


def last_word(pcm: NDArray[np.int16], rate: int) -> float:
    """Seconds from the beginning of an utterance to the end of its last word."""
    return float(np.flatnonzero(np.abs(pcm) > LOUD)[-1]) / rate


def packets(recording: Recording, since: float) -> list[tuple[float, NDArray[np.int16]]]:
    """Arrival and sound of each packet from then on, in the order of the sender."""
    decode = recording.decoder()
    ahead = since - _DECODER_S
    found = [
        (each.arrived, decode(each.payload)) for each in recording.audio.ordered() if each.arrived >= ahead
    ]
    return [(arrived, pcm) for arrived, pcm in found if arrived >= since]


def first_sound(recording: Recording, since: float) -> float:
    """When something audible came first."""
    for arrived, pcm in packets(recording, since):
        if np.abs(pcm).max() > LOUD:
            return arrived
    raise LookupError("nothing was heard")


@dataclass
class Heard:
    """What came from a moment on."""

    recording: Recording
    since: float

    def samples(self) -> NDArray[np.int16]:
        """All of it so far."""
        return np.concatenate([pcm for _, pcm in packets(self.recording, self.since)])

    def longest_silence(self, since: float) -> float:
        """Seconds, from then on; pauses of the text between its sentences are as long as they are."""
        longest = run = 0
        for _, pcm in packets(self.recording, since):
            run = run + 1 if np.abs(pcm).max() <= LOUD // 4 else 0
            longest = max(longest, run)
        return longest * _PACKET_S


def quieter(heard: Heard, reference: NDArray[np.int16], since: float) -> float:
    """When the voice was at half the amplitude of the same words before."""
    size = int(_PACKET_S * heard.recording.rate)
    for number, (arrived, pcm) in enumerate(packets(heard.recording, heard.since)):
        usual = reference[number * size : (number + 1) * size].astype(float)
        if arrived < since or np.sqrt(np.mean(usual**2)) < LOUD:
            continue
        if np.sqrt(np.mean(pcm.astype(float) ** 2)) < _DUCKED * np.sqrt(np.mean(usual**2)):
            return arrived
    return float("inf")


def silent(heard: Heard, since: float) -> float:
    """When the first of several silent packets came."""
    run, began = 0, float("inf")
    for arrived, pcm in packets(heard.recording, since):
        if np.abs(pcm).max() > LOUD // 8:
            run = 0
            continue
        run, began = run + 1, began if run else arrived
        if run >= _SILENT_PACKETS:
            return began
    return float("inf")
