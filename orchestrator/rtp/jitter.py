"""Inbound audio: reorder, conceal, and hand on an even 16 kHz stream."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from orchestrator.rtp.codecs import CLOCK_RATES, AudioCodec

HEARING_RATE = 16_000
STEP = HEARING_RATE // 50
_MOST_QUEUED = 25
_FADE = 0.5


class JitterBuffer:
    """``push`` packets as they come, ``pop`` 20 ms every 20 ms; ``delay`` packets are kept in hand.

    A lost packet is concealed by the last one, halved each time (after five it is silence). Where the
    buffer grows past ``delay`` by more than ten packets, the oldest are skipped.
    """

    def __init__(self, codec: AudioCodec, delay: int = 3) -> None:
        self.lost = 0
        self.late = 0
        self._codec = codec
        self._delay = delay
        self._packets: dict[int, bytes] = {}
        self._ssrc: int | None = None
        self._ticks = CLOCK_RATES[codec.name] // 50
        self._cursor: int | None = None
        self._last: NDArray[np.int16] = np.zeros(0, np.int16)
        self._out: NDArray[np.int16] = np.zeros(0, np.int16)
        self._missing = 0
        self._highest = 0
        self._resampler = (
            soxr.ResampleStream(codec.sample_rate, HEARING_RATE, 1, dtype="int16", quality="MQ")
            if codec.sample_rate != HEARING_RATE
            else None
        )

    def push(self, ssrc: int, sequence: int, timestamp: int, payload: bytes) -> None:
        """Take one packet of the negotiated codec, in any order."""
        if ssrc != self._ssrc:
            self._ssrc, self._cursor = ssrc, None
            self._packets.clear()
        if not self._packets and self._cursor is None:
            self._highest = timestamp
        ahead = _distance(timestamp, self._highest)
        if abs(ahead) > 50 * 10 * self._ticks:
            self._cursor = None
            self._packets.clear()
            self._highest = timestamp
        elif ahead > 0:
            self._highest = timestamp
        if self._cursor is not None and _distance(timestamp, self._cursor) < 0:
            self.late += 1
            return
        if len(self._packets) < _MOST_QUEUED:
            self._packets[timestamp] = payload

    def pop(self) -> NDArray[np.int16] | None:
        """The next 20 ms, shape ``(320,)`` at 16 kHz; ``None`` before the stream has begun."""
        if self._cursor is None:
            if len(self._packets) < self._delay:
                return None
            self._cursor = min(self._packets, key=lambda t: _distance(t, self._highest))
        while len(self._out) < STEP:
            self._out = np.concatenate((self._out, self._resampled(self._next())))
        step, self._out = self._out[:STEP], self._out[STEP:]
        return step

    def _next(self) -> NDArray[np.int16]:
        assert self._cursor is not None
        if len(self._packets) > self._delay + 10:
            self._cursor = min(self._packets, key=lambda t: _distance(t, self._highest))
        payload = self._packets.pop(self._cursor, None)
        if payload is not None:
            pcm = self._codec.decode(payload)
            if len(pcm):
                self._missing = 0
                self._last = pcm
                clock = CLOCK_RATES[self._codec.name]
                self._cursor = (self._cursor + len(pcm) * clock // self._codec.sample_rate) & 0xFFFFFFFF
                return pcm
        self.lost += 1
        self._missing += 1
        if not self._packets:
            # The peer paused: time stands still until it speaks again, at whatever timestamp.
            if self._missing > 5:
                self._cursor = None
                self._missing = 0
                return np.zeros(self._codec.sample_rate // 50, np.int16)
        elif self._missing > 5:
            self._cursor = min(self._packets, key=lambda t: _distance(t, self._highest))
            return np.zeros(self._codec.sample_rate // 50, np.int16)
        self._cursor = (self._cursor + self._ticks) & 0xFFFFFFFF
        size = self._codec.sample_rate // 50
        if len(self._last) < size:
            return np.zeros(size, np.int16)
        concealed: NDArray[np.int16] = (self._last[-size:] * _FADE**self._missing).astype(np.int16)
        return concealed

    def _resampled(self, pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        if self._resampler is None:
            return pcm
        out: NDArray[np.int16] = self._resampler.resample_chunk(pcm).reshape(-1)
        return out


def _distance(newer: int, older: int) -> int:
    return ((newer - older + 0x80000000) & 0xFFFFFFFF) - 0x80000000
