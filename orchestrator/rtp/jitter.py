"""Inbound audio: reorder, conceal, and hand on an even 16 kHz stream."""

from __future__ import annotations

import math
from itertools import pairwise

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
_WATCH = 50
"""Packets of which the shortest wait counts: a second of them; twice as many after each time that they were too
few."""
_LONGEST_WATCH = 1600
_LOUDEST_NOISE = 40
"""Comfort noise is at least so many dB below overload, whatever the peer says."""


class JitterBuffer:
    """``push`` packets as they come, ``pop`` 20 ms every 20 ms; ``delay`` packets are in hand at first.

    The delay follows the jitter. A packet that is not there in time is concealed by the last one, halved each time;
    where it comes after all the delay has grown by that, and where it does not, that stands for it. After
    ``_CONCEALED`` of them the peer has paused. Where every packet has waited of late the delay is too long: so much
    is left out, where it is quieter than most. Where more than ``delay`` + ``_SLACK`` packets wait, the oldest are
    skipped. Comfort noise (RFC 3389) goes on until the next packet of speech.
    """

    def __init__(self, codec: AudioCodec, delay: int = 3) -> None:
        self.lost = 0
        self.late = 0
        self.skipped = 0
        self.behind = 0
        """Samples at 16 kHz for which the voice waits, besides the way to the next step."""
        self._codec = codec
        self._delay = delay
        self._reserve = delay - 1  # packets in hand besides the next one
        self._packets: dict[int, tuple[bytes | float, int]] = {}  # with the step in which each came
        self._steps = 0
        self._ssrc: int | None = None
        self._ticks = CLOCK_RATES[codec.name] // 50
        self._size = codec.sample_rate // 50
        self._cursor: int | None = None
        self._started = False
        self._last: NDArray[np.int16] = np.zeros(0, np.int16)
        self._resampler = Resampler(codec.sample_rate, HEARING_RATE)
        # As much silence in hand hides the resampler's own delay.
        settling = 0 if codec.sample_rate == HEARING_RATE else math.ceil(self._resampler.delay * HEARING_RATE)
        self._out: NDArray[np.int16] = np.zeros(settling, np.int16)
        self._missing = 0
        self._concealed = 0  # ticks, for a packet that may come yet
        self._highest = 0
        self._noise = 0.0
        self._pausing = False
        self._random = np.random.default_rng(3389)
        self._watch = _WATCH
        self._watched = 0
        self._least = self._most = 0
        self._surplus = 0
        self._power = 0.0

    @property
    def waiting(self) -> int:
        """Packets in hand."""
        return len(self._packets)

    @property
    def nominal_ms(self) -> int:
        """How long a packet waits that comes in time, at most."""
        return (self._reserve + 1) * _STEP_MS

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
        self._packets[timestamp] = content, self._steps
        if len(self._packets) > self._delay + _SLACK:
            for old in self._in_order()[: -self._delay]:
                del self._packets[old]
                self.skipped += 1
            self._forget()
            self._begin()

    def pop(self) -> NDArray[np.int16] | None:
        """The next 20 ms, shape ``(320,)`` at 16 kHz; ``None`` before the stream has begun."""
        if not self._started:
            if len(self._packets) < self._delay:
                self._steps += 1
                return None
            self._started = True
        while len(self._out) < STEP:
            self._out = np.concatenate((self._out, self._resampler.push(self._next())))
        step, self._out = self._out[:STEP], self._out[STEP:]
        self._steps += 1
        return step

    def _in_order(self) -> list[int]:
        return sorted(self._packets, key=lambda timestamp: _distance(timestamp, self._highest))

    def _begin(self) -> None:
        """Go on at the first packet in hand."""
        in_hand = self._in_order()
        self._cursor = in_hand[0]
        self._missing = self._concealed = self._surplus = self.behind = 0
        self._fall_behind(_distance(in_hand[-1], self._cursor))
        self._look_anew()

    def _forget(self) -> None:
        """Leave out what lies before a pause: a peer with DTX sends single packets in it."""
        order = self._in_order()
        pauses = [
            at
            for at, (old, new) in enumerate(pairwise(order), 1)
            if _distance(new, old) > (_CONCEALED + 1) * self._ticks
        ]
        for old in order[: max(pauses, default=0)]:
            del self._packets[old]
            self.skipped += 1

    def _next(self) -> NDArray[np.int16]:
        if self._cursor is None:
            self._forget()
            if len(self._packets) <= self._reserve:
                return self._background()
            self._begin()
        assert self._cursor is not None
        if self._concealed and self._packets:
            self._settle(self._cursor)
        content, came = self._packets.pop(self._cursor, (None, 0))
        if isinstance(content, float):
            self._noise, self._pausing = content, True
        if isinstance(content, float) or (content is None and self._pausing):
            self._cursor = (self._cursor + self._ticks) & 0xFFFFFFFF
            return self._background()
        pcm = self._codec.decode(content) if content is not None else self._last[:0]
        if len(pcm):
            self._missing, self._last, self._pausing, self._noise = 0, pcm, False, 0.0
            self._cursor = (self._cursor + self._ticks_of(pcm)) & 0xFFFFFFFF
            return self._next() if self._is_too_much(pcm, self._steps - came) else pcm
        self._missing += 1
        if self._missing > _CONCEALED or not len(self._last):
            # A pause: time stands still until the peer speaks again, at whatever timestamp.
            self._cursor = None
            return self._background()
        concealment = (self._last[-self._size :] * _FADE**self._missing).astype(np.int16)
        self._concealed += self._ticks_of(concealment)
        return concealment

    def _settle(self, cursor: int) -> None:
        """What was concealed stands for what is not there, or came too late, and then all comes so much later."""
        gap = max(0, _distance(self._in_order()[0], cursor))
        self.lost += gap > 0
        stands = min(gap, self._concealed)
        self._cursor = (cursor + stands) & 0xFFFFFFFF
        if later := self._concealed - stands:
            if self._watched >= _WATCH:
                self._bound()
            self._fall_behind(later)
            self._reserve = min(self._reserve + max(1, later // self._ticks), self._delay)
            self._surplus = 0
            self._watch = min(2 * self._watch, _LONGEST_WATCH)
            self._look_anew()
        self._concealed = 0

    def _is_too_much(self, pcm: NDArray[np.int16], waited: int) -> bool:
        """Whether this packet, which has ``waited`` for so many steps, is left out, since all have lately."""
        sound = pcm.astype(np.float32)
        power = float(sound @ sound) / len(sound)
        ticks = self._ticks_of(pcm)
        if ticks <= self._surplus and self._packets and power <= self._power:
            self._surplus -= ticks
            self._reserve = max(0, self._reserve - 1)
            self.behind = max(0, self.behind - ticks * STEP // self._ticks)
            return True
        self._power += (power - self._power) / _WATCH
        self._least, self._most = min(self._least, waited), max(self._most, waited)
        self._watched += 1
        if self._watched >= self._watch:
            self._bound()
            self._surplus = self._least * self._ticks
            self._look_anew()
        return False

    def _fall_behind(self, ticks: int) -> None:
        self.behind = min(self.behind + ticks * STEP // self._ticks, self.maximum_ms * HEARING_RATE // 1000)

    def _bound(self) -> None:
        """The voice is no further behind than any packet has waited: a peer's slower clock has made up for it."""
        self.behind = min(self.behind, self._most * STEP)

    def _look_anew(self) -> None:
        self._watched, self._least, self._most = 0, self._delay + _SLACK, 0

    def _ticks_of(self, pcm: NDArray[np.int16]) -> int:
        return len(pcm) * CLOCK_RATES[self._codec.name] // self._codec.sample_rate

    def _background(self) -> NDArray[np.int16]:
        """Silence, or the noise that the peer told of."""
        if not self._noise:
            return np.zeros(self._size, np.int16)
        return self._random.normal(0.0, self._noise, self._size).astype(np.int16)


def _distance(newer: int, older: int) -> int:
    return ((newer - older + 0x80000000) & 0xFFFFFFFF) - 0x80000000
