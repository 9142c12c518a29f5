"""A streaming resampler of any sample rate to 16 kHz, in chunks of any length, with numpy alone.

A windowed-sinc polyphase filter (J. O. Smith and P. Gossett, "A flexible sampling-rate conversion method", ICASSP
1984) with a Kaiser window. What comes out does not depend on how the input was cut.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from visavis.frames import SAMPLE_RATE

_ZEROS = 16  # zero crossings of the sinc to each side
_BETA = 8.0  # Kaiser window: about 80 dB of stop band
_ROLLOFF = 0.94
_MOST_PHASES = 1000


@lru_cache(maxsize=8)
def _filters(reach: int, phases: int, cutoff: float) -> NDArray[np.float32]:
    """``(phases, 2 * reach)``: row p weighs the inputs around an output p/up after one of them."""
    at = np.arange(-reach + 1, reach + 1)[None, :] - np.arange(phases)[:, None] / phases
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (at / reach) ** 2, 0, 1))) / np.i0(_BETA)
    taps = cutoff * np.sinc(cutoff * at) * window
    even: NDArray[np.float32] = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    even.setflags(write=False)
    return even


class WholeSamples:
    """Cuts a stream of s16le bytes at samples: speech over HTTP comes in pieces of any length, odd ones too.

    ``push`` returns the samples that are whole, ``(n,)`` little-endian int16; the byte that is left over waits for
    the next piece, or is dropped by ``reset`` where the speech ends or is cut.
    """

    def __init__(self) -> None:
        self._rest = b""

    def push(self, pcm: bytes | bytearray | memoryview) -> NDArray[np.int16]:
        """The next piece, of any length."""
        data = self._rest + bytes(pcm) if self._rest else bytes(pcm)
        end = len(data) & ~1
        self._rest = data[end:]
        return np.frombuffer(data[:end], "<i2")

    def reset(self) -> None:
        """The next byte is the first of a sample."""
        self._rest = b""


class Resampler:
    """Streaming mono resampler from ``rate`` to ``to`` Hz; ``(n,)`` int16 in and out.

    ``push`` returns what is settled; the last ``delay`` seconds come with ``flush``. Raises ``ValueError`` on rates
    outside of 4 to 192 kHz, and on a ratio that takes more than a thousand phases.
    """

    def __init__(self, rate: int, to: int = SAMPLE_RATE) -> None:
        if not 4000 <= rate <= 192_000 or not 4000 <= to <= 192_000:
            raise ValueError(f"a sample rate of {rate} Hz is outside 4000 to 192000 Hz")
        ratio = Fraction(to, rate)
        self.rate = rate
        self._up, self._down = ratio.numerator, ratio.denominator
        if self._up > _MOST_PHASES:
            raise ValueError(f"a sample rate of {rate} Hz has no simple ratio to {to} Hz")
        self._reach = int(np.ceil(_ZEROS / (min(1.0, to / rate) * _ROLLOFF)))  # input samples to each side
        self._taps = _filters(self._reach, self._up, min(1.0, to / rate) * _ROLLOFF)
        self.delay = self._reach / rate
        self.reset()

    def reset(self) -> None:
        """Forget what was pushed: the next sample is the first of a new signal."""
        self._held = np.zeros(self._reach - 1, np.float32)
        self._next = 0  # of the next output, in 1/up input samples from the first held input's own time
        self._owed = 0  # outputs that the input so far stands for, less those given

    def push(self, pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        """More input; returns the output that it settles."""
        if self._up == self._down:
            return np.array(pcm, np.int16)
        self._owed += len(pcm) * self._up
        return self._run(pcm.astype(np.float32))

    def flush(self) -> NDArray[np.int16]:
        """The end of the signal: the rest of the output, and a fresh start."""
        if self._up == self._down:
            return np.zeros(0, np.int16)
        owed = -(-self._owed // self._down)
        out = self._run(np.zeros(2 * self._reach, np.float32))[:owed]
        self.reset()
        return out

    def _run(self, samples: NDArray[np.float32]) -> NDArray[np.int16]:
        held = np.concatenate((self._held, samples))
        # Output k lies at (next + k * down) / up inputs after held[reach - 1]; it needs `reach` inputs beyond.
        room = (len(held) - 2 * self._reach + 1) * self._up - self._next
        count = max(0, -(-room // self._down))
        if not count:
            self._held = held
            return np.zeros(0, np.int16)
        at = self._next + np.arange(count, dtype=np.int64) * self._down
        first, phase = at // self._up, at % self._up
        windows = np.lib.stride_tricks.sliding_window_view(held, 2 * self._reach)[first]
        out = np.einsum("ij,ij->i", windows, self._taps[phase])
        self._next += count * self._down
        used = min(self._next // self._up, len(held))
        self._held = held[used:].copy()
        self._next -= used * self._up
        self._owed -= count * self._down
        settled: NDArray[np.int16] = np.clip(np.rint(out), -32768, 32767).astype(np.int16)
        return settled
