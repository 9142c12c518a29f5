"""The audio of one turn: which frames can be drawn, what each of them hears, and when the mouth is at rest.

A frame is conditioned on ten of Whisper's 50 features a second, two before its own 40 ms, its own and two
after: features [2f - 4, 2f + 6) at 25 frames a second. They come from the encoder run over the last 5 s only.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.musetalk.mel import BANDS, BLOCK, HOP, SEED, LogMel
from visavis.frames import frame_at, frame_start

FEATURES = 50  # a second
BEFORE, WINDOW = 4, 10  # features of a frame's window: before its own first, and all
HISTORY = 250  # features before a frame that its encoder run covers
POSITIONS = 1500
NEVER = 1 << 30
_LEAST = 13  # hops from a frame's first feature on that its window reaches into (conv kernels included)
_TAIL = 7  # further hops, of what is left of the last 10 ms and then silence: less strange than an edge
_HOLD, _FADE, _AHEAD = 100, 12, 8  # hops: mouth kept after speech, its fade, its opening before speech
_STEP = 10  # hops by which the context after a frame grows where more audio is there


@dataclass(frozen=True)
class Plan:
    """Constant shape of one encoder run. ``right``: hops of context beyond the least possible that a frame waits
    for; ``further``: more of them, which are used where their audio is there already."""

    right: int = 0
    further: int = 0

    @property
    def hops(self) -> int:
        """Hops of mel in one run."""
        return 2 * HISTORY + _LEAST + self.right + self.further + _TAIL

    @property
    def features(self) -> int:
        """Features that come out of it."""
        return (self.hops + 1) // 2

    @property
    def window(self) -> slice:
        """The frame's own ten among them."""
        return slice(HISTORY - BEFORE, HISTORY - BEFORE + WINDOW)

    @property
    def after(self) -> int:
        """Samples beyond the end of a frame (at 25 frames a second) before it can be drawn."""
        return HOP * (_LEAST + 1 + self.right) - 640


@dataclass(frozen=True, slots=True)
class AudioWindow:
    """What one frame hears. ``mel``: ``(hops, 80)`` float32. ``first``: how many of the run's features lie
    before the turn and are masked. ``position``: Whisper's position of feature ``first``. ``valid``: the
    first and last feature of the run, exclusive, that are inside the audio; others count as zero. ``missing``: how
    many of the run's features lie beyond what is heard and are masked."""

    mel: NDArray[np.float32]
    first: int
    position: int
    valid: tuple[int, int]
    missing: int = 0


def feature_of(frame: int, fps: Fraction) -> int:
    """The first of Whisper's features in the frame's own time: floor(50 f / fps)."""
    return int(FEATURES * frame * fps.denominator // fps.numerator)


class Speech:
    """Grows by :meth:`append`. A frame's :meth:`opening` depends on nothing but the PCM, its :class:`AudioWindow`
    also on how much of it after the frame was there. ``expected``: what earlier turns' :attr:`level` was."""

    def __init__(
        self,
        plan: Plan,
        fps: Fraction,
        origin: int = 0,
        silence_dbfs: float = -45.0,
        expected: float = SEED,
    ) -> None:
        self.plan = plan
        self.fps = fps
        self.origin = origin
        self._mel = LogMel(origin, expected)
        self._silence = 10.0 ** (silence_dbfs / 10)
        self._ended = False

    @property
    def samples(self) -> int:
        """End of the audio in the turn's samples."""
        return self._mel.samples

    @property
    def level(self) -> float:
        """The loudest band of any hop so far, in decades."""
        return self._mel.level

    def expect(self, level: float) -> None:
        """What earlier turns' :attr:`level` was."""
        self._mel.expected = max(level, SEED)

    @property
    def frames(self) -> int:
        """Frames that the audio reaches into."""
        return frame_at(self.samples - 1, self.fps) + 1 if self.samples > self.origin else 0

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio."""
        if not self._ended:
            self._mel.append(np.asarray(pcm, np.int16))

    def end(self) -> None:
        """No more audio comes."""
        self._ended = True

    def ready(self) -> int:
        """Frames that can be drawn now, from the turn's frame 0."""
        if self._ended:
            return self.frames
        # The largest f with _reach(f) <= known hops, by inverting feature_of.
        feature = (self._mel.end - _LEAST - self.plan.right) // 2
        if feature < 0:
            return 0
        count = int((feature + 1) * self.fps.numerator // (FEATURES * self.fps.denominator)) + 2
        while count > 0 and not self._there(count - 1):
            count -= 1
        return count

    def _reach(self, frame: int) -> int:
        """The first hop that the frame does not depend on."""
        spoken = frame_start(frame + 1, self.fps) // HOP  # beyond the window below 8 frames a second only
        return max(2 * feature_of(frame, self.fps) + _LEAST + self.plan.right, spoken)

    def _there(self, frame: int) -> bool:
        reach = self._reach(frame)
        return self._mel.end >= reach and (self._ended or self.samples >= HOP * (reach + 1))

    def _known(self, frame: int) -> bool:
        if self._ended and self._mel.end < self._reach(frame):
            self._mel.pad_to(self._reach(frame))
        return self._there(frame)

    def hear(self, frame: int) -> AudioWindow:
        """Raises ``ValueError`` for a frame whose audio is not there yet or not kept any more."""
        if not self._known(frame):
            raise ValueError(f"the audio of frame {frame} is not there yet")
        own = feature_of(frame, self.fps)
        start = own - HISTORY  # the run's first feature, in the turn
        beginning = max(0, (self.origin + HOP * 2 - 1) // (HOP * 2))
        first = min(max(beginning - start, 0), HISTORY)
        if 2 * (start + first) < self._mel.first:
            raise ValueError(f"the audio of frame {frame} is not kept any more")
        stop = 2 * own + _LEAST + self.plan.right
        further = self._further(stop)
        mel = np.zeros((self.plan.hops, BANDS), np.float32)
        known = self._mel.window(2 * start, stop + further, _TAIL)
        mel[2 * first : len(known)] = known[2 * first :]
        position = min(start + first, POSITIONS - (self.plan.features - first))
        total = self.samples // (2 * HOP) if self._ended else NEVER
        valid = (first, max(min(total - start, NEVER), 0))
        return AudioWindow(mel, first, position, valid, (self.plan.further - further) // 2)

    def _further(self, stop: int) -> int:
        """Hops after ``stop`` that are there, or are the silence after the end."""
        if self._ended:
            self._mel.pad_to(stop + self.plan.further)
        there = min(
            self._mel.end - stop,
            self.plan.further,
            (self.samples // HOP - 1 - stop) if not self._ended else NEVER,
        )
        return max(0, there) // _STEP * _STEP

    def opening(self, frame: int) -> float:
        """1 while the frame is heard speaking, 0 at rest, between the two for three frames after speech and
        two before it. Speech that pauses for less than a second does not come to rest: the mouth that is drawn is a
        little softer than the body's, which shows where the two change at every comma."""
        self._known(frame)
        start, stop = (frame_start(f, self.fps) // HOP for f in (frame, frame + 1))
        stop = max(stop, start + 1)
        if self._voiced(start, stop).any():
            return 1.0
        after = before = 0.0
        past = np.flatnonzero(self._voiced(start - _HOLD - _FADE, start)[::-1])
        if len(past):
            after = min(1.0, 1.0 - (int(past[0]) + 1 - _HOLD) / _FADE)
        ahead = np.flatnonzero(self._voiced(stop, max(min(stop + _AHEAD, self._reach(frame)), stop)))
        if len(ahead):
            before = 1.0 - (int(ahead[0]) + BLOCK) / (_AHEAD + BLOCK)
        return max(after, before, 0.0)

    def _voiced(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Exactly ``stop - start`` flags; unknown hops are silent."""
        out = np.zeros(stop - start, bool)
        low = max(start, self._mel.first)
        known = self._mel.loud(low, stop) > self._silence
        out[low - start : low - start + len(known)] = known
        return out

    def forget_before(self, frame: int) -> None:
        """Frames more than 5 s before this one are not drawn again."""
        self._mel.forget(2 * (feature_of(frame, self.fps) - 2 * HISTORY))
