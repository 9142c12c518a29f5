"""Inbound audio: reorder, conceal, and hand on an even 16 kHz stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.rtp.codecs import CLOCK_RATES, AudioCodec
from visavis.audio import Resampler

HEARING_RATE = 16_000
STEP = HEARING_RATE // 50
_SLACK = 10
_CONCEALED = 5
_JUMP_STEPS = 500
_FADE = 0.5


class JitterBuffer:
    """``push`` packets as they come, ``pop`` 20 ms every 20 ms; ``delay`` packets are kept in hand.

    A lost packet is concealed by the last one, halved each time; after ``_CONCEALED`` of them the peer has
    paused. Where more than ``delay`` + ``_SLACK`` packets wait, the oldest are skipped.
    """

    def __init__(self, codec: AudioCodec, delay: int = 3) -> None:
        self.lost = 0
        self.late = 0
        self._codec = codec
        self._delay = delay
        self._packets: dict[int, bytes] = {}
        self._ssrc: int | None = None
        self._ticks = CLOCK_RATES[codec.name] // 50
        self._size = codec.sample_rate // 50
        self._cursor: int | None = None
        self._started = False
        self._last: NDArray[np.int16] = np.zeros(0, np.int16)
        # One step of silence in hand hides the resampler's own delay.
        self._out: NDArray[np.int16] = np.zeros(STEP, np.int16)
        self._missing = 0
        self._highest = 0
        self._resampler = Resampler(codec.sample_rate, HEARING_RATE)

    @property
    def waiting(self) -> int:
        """Packets in hand."""
        return len(self._packets)

    def push(self, ssrc: int, sequence: int, timestamp: int, payload: bytes) -> None:
        """Take one packet of the negotiated codec, in any order."""
        ahead = _distance(timestamp, self._highest)
        if ssrc != self._ssrc or abs(ahead) > _JUMP_STEPS * self._ticks:
            self._ssrc, self._cursor, self._highest = ssrc, None, timestamp
            self._packets.clear()
        elif ahead > 0:
            self._highest = timestamp
        if self._cursor is not None and _distance(timestamp, self._cursor) < 0:
            self.late += 1
            return
        self._packets[timestamp] = payload
        if len(self._packets) > self._delay + _SLACK:
            for old in self._in_order()[: -self._delay]:
                del self._packets[old]
            self._cursor = self._in_order()[0]

    def pop(self) -> NDArray[np.int16] | None:
        """The next 20 ms, shape ``(320,)`` at 16 kHz; ``None`` before the stream has begun."""
        if not self._started:
            if len(self._packets) < self._delay:
                return None
            self._started = True
        while len(self._out) < STEP + STEP // 2:
            self._out = np.concatenate((self._out, self._resampler.push(self._next())))
        step, self._out = self._out[:STEP], self._out[STEP:]
        return step

    def _in_order(self) -> list[int]:
        return sorted(self._packets, key=lambda timestamp: _distance(timestamp, self._highest))

    def _next(self) -> NDArray[np.int16]:
        if self._cursor is None:
            if len(self._packets) < self._delay:
                return np.zeros(self._size, np.int16)
            self._cursor = self._in_order()[0]
            self._missing = 0
        payload = self._packets.pop(self._cursor, None)
        pcm = self._codec.decode(payload) if payload is not None else self._last[:0]
        if len(pcm):
            self._missing, self._last = 0, pcm
            step = len(pcm) * CLOCK_RATES[self._codec.name] // self._codec.sample_rate
            self._cursor = (self._cursor + step) & 0xFFFFFFFF
            return pcm
        self._missing += 1
        if self._missing > _CONCEALED or not len(self._last):
            # A pause: time stands still until the peer speaks again, at whatever timestamp.
            self._cursor = None
            return np.zeros(self._size, np.int16)
        self.lost += 1
        self._cursor = (self._cursor + self._ticks) & 0xFFFFFFFF
        concealed: NDArray[np.int16] = (self._last[-self._size :] * _FADE**self._missing).astype(np.int16)
        return concealed


def _distance(newer: int, older: int) -> int:
    return ((newer - older + 0x80000000) & 0xFFFFFFFF) - 0x80000000
