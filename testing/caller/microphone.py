"""What the phone's user says, and what a speakerphone adds to it: the echo of what it plays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from testing.caller.recording import G711

PCM = NDArray[np.int16]
_MS = 20


class Microphone:
    """20 ms after 20 ms of ``codec``: what was given to ``speak``, silence else.

    ``began`` and ``ended`` are the monotonic times at which the first and last packet of each utterance left.
    """

    def __init__(self, codec: str, rate: int) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []
        self._codec, self._size = codec, rate * _MS // 1000
        self._words: deque[PCM] = deque()
        self._said: list[PCM] = []
        self._speaking = False
        self._encode: Callable[[PCM], bytes] = _opus(rate) if codec == "opus" else _g711(codec)
        self._echo: Echo | None = None

    @property
    def busy(self) -> bool:
        """Something is still to be said."""
        return bool(self._words)

    @property
    def said(self) -> PCM:
        """Everything since the first packet."""
        return np.concatenate(self._said) if self._said else np.zeros(0, np.int16)

    def speak(self, pcm: PCM) -> None:
        """Say this after what is being said: ``(n,)`` at the recording's rate."""
        padded = np.pad(pcm, (0, -len(pcm) % self._size))
        self._words.extend(padded.reshape(-1, self._size))

    def use_speakerphone(self, delay_ms: int, decibels: float) -> None:
        """From now on what is played comes back so much later and quieter (G.711 only)."""
        self._echo = Echo(self._codec, delay_ms, decibels)

    def played(self, payload: bytes) -> None:
        """A packet of the far end's is played."""
        if self._echo is not None:
            self._echo.play(payload)

    def next(self, now: float) -> bytes | None:
        """The payload of the packet that leaves now; None for silence."""
        words = self._words.popleft() if self._words else None
        if words is not None and not self._speaking:
            self.began.append(now)
        if words is not None and not self._words:
            self.ended.append(now)
        self._speaking = words is not None
        sound: PCM = words if words is not None else np.zeros(self._size, np.int16)
        if self._echo is not None:
            sound = np.clip(sound + self._echo.next(self._size), -32768, 32767).astype(np.int16)
        self._said.append(sound)
        return self._encode(sound) if words is not None or self._echo is not None else None


class Echo:
    """A loudspeaker, a room of 80 ms and a microphone."""

    def __init__(self, codec: str, delay_ms: int, decibels: float, rate: int = 8000) -> None:
        size = rate * 80 // 1000
        tail = np.random.default_rng(8).standard_normal(size) * np.exp(-np.arange(size) / (size / 6)) * 0.3
        tail[0] += 1.0
        self._room = tail / np.linalg.norm(tail) * 10 ** (decibels / 20)
        self._table = G711[codec]
        self._line: deque[PCM] = deque([np.zeros(rate * _MS // 1000, np.int16)] * (delay_ms // _MS))
        self._past: NDArray[np.float64] = np.zeros(size - 1)

    def play(self, payload: bytes) -> None:
        """20 ms of the far end."""
        self._line.append(self._table[np.frombuffer(payload, np.uint8)])

    def next(self, size: int) -> NDArray[np.float64]:
        """What the microphone gets of it now."""
        played = self._line.popleft() if self._line else np.zeros(size, np.int16)
        whole: NDArray[np.float64] = np.concatenate((self._past, played.astype(np.float64)))
        self._past = whole[-len(self._past) :]
        echo: NDArray[np.float64] = np.convolve(whole, self._room, "valid")
        return echo


def _g711(codec: str) -> Callable[[PCM], bytes]:
    table = G711[codec].astype(np.int32)
    order = np.argsort(table, kind="stable")
    edges = (table[order][1:] + table[order][:-1]) / 2
    codes = order.astype(np.uint8)
    return lambda pcm: codes[np.searchsorted(edges, pcm)].tobytes()


def _opus(rate: int) -> Callable[[PCM], bytes]:
    """An encoder of one stream (RFC 6716)."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", "s16"
    encoder.time_base = Fraction(1, rate)

    def encode(pcm: PCM) -> bytes:
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = rate
        return b"".join(bytes(packet) for packet in encoder.encode(frame))

    return encode
