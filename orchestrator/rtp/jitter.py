"""Inbound audio: reorder, conceal, and hand on an even 16 kHz stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.rtp.codecs import CLOCK_RATES, AudioCodec
from visavis.audio import Resampler

HEARING_RATE = 16_000
STEP = HEARING_RATE // 50
_STEP_MS = 20
_SLACK = 10
_CONCEALED = 5
_JUMP_STEPS = 500
_FADE = 0.5
_LOUDEST_NOISE = 40
"""Comfort noise is at least so many dB below overload, whatever the peer says."""


class JitterBuffer:
    """``push`` packets as they come, ``pop`` 20 ms every 20 ms; ``delay`` packets are kept in hand.

    A lost packet is concealed by the last one, halved each time; after ``_CONCEALED`` of them the peer has
    paused. Where more than ``delay`` + ``_SLACK`` packets wait, the oldest are skipped. Comfort noise
    (RFC 3389) goes on until the next packet of speech.
    """

    def __init__(self, codec: AudioCodec, delay: int = 3) -> None:
        self.lost = 0
        self.late = 0
        self.skipped = 0
        self._codec = codec
        self._delay = delay
        self._packets: dict[int, bytes | float] = {}
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
        self._noise = 0.0
        self._pausing = False
        self._random = np.random.default_rng(3389)

    @property
    def waiting(self) -> int:
        """Packets in hand."""
        return len(self._packets)

    @property
    def nominal_ms(self) -> int:
        """How long a packet waits that comes in time."""
        return self._delay * _STEP_MS

    @property
    def maximum_ms(self) -> int:
        """How long a packet may wait that comes early."""
        return (self._delay + _SLACK) * _STEP_MS

    @property
    def held_ms(self) -> int:
        """What waits now, as packets and as sound."""
        return self.waiting * _STEP_MS + len(self._out) * 1000 // HEARING_RATE

    def push_noise(self, ssrc: int, timestamp: int, payload: bytes) -> None:
        """Take one packet of comfort noise: only its level, the first byte in -dBov, is used."""
        level = payload[0] & 0x7F if payload else 0x7F
        self._take(ssrc, timestamp, 32768 * 10 ** (-max(level, _LOUDEST_NOISE) / 20))

    def push(self, ssrc: int, timestamp: int, payload: bytes) -> None:
        """Take one packet of the negotiated codec, in any order."""
        self._take(ssrc, timestamp, payload)

    def _take(self, ssrc: int, timestamp: int, content: bytes | float) -> None:
        ahead = _distance(timestamp, self._highest)
        if ssrc != self._ssrc or abs(ahead) > _JUMP_STEPS * self._ticks:
            self._ssrc, self._cursor, self._highest = ssrc, None, timestamp
            self._packets.clear()
        elif ahead > 0:
            self._highest = timestamp
        if self._cursor is not None and _distance(timestamp, self._cursor) < 0:
            if not self._pausing:
                self.late += 1
                return
            self._cursor = None  # its clock stood still while it paused
        self._packets[timestamp] = content
        if len(self._packets) > self._delay + _SLACK:
            for old in self._in_order()[: -self._delay]:
                del self._packets[old]
                self.skipped += 1
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
                return self._background()
            self._cursor = self._in_order()[0]
            self._missing = 0
        content = self._packets.pop(self._cursor, None)
        if isinstance(content, float):
            self._noise, self._pausing = content, True
        if isinstance(content, float) or (content is None and self._pausing):
            self._cursor = (self._cursor + self._ticks) & 0xFFFFFFFF
            return self._background()
        pcm = self._codec.decode(content) if content is not None else self._last[:0]
        if len(pcm):
            self._missing, self._last, self._pausing, self._noise = 0, pcm, False, 0.0
            step = len(pcm) * CLOCK_RATES[self._codec.name] // self._codec.sample_rate
            self._cursor = (self._cursor + step) & 0xFFFFFFFF
            return pcm
        self._missing += 1
        if self._missing > _CONCEALED or not len(self._last):
            # A pause: time stands still until the peer speaks again, at whatever timestamp.
            self._cursor = None
            return self._background()
        self.lost += 1
        self._cursor = (self._cursor + self._ticks) & 0xFFFFFFFF
        return (self._last[-self._size :] * _FADE**self._missing).astype(np.int16)

    def _background(self) -> NDArray[np.int16]:
        """Silence, or the noise that the peer told of."""
        if not self._noise:
            return np.zeros(self._size, np.int16)
        return self._random.normal(0.0, self._noise, self._size).astype(np.int16)


def _distance(newer: int, older: int) -> int:
    return ((newer - older + 0x80000000) & 0xFFFFFFFF) - 0x80000000
