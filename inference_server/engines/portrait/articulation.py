"""How lips get from sound to sound: no faster than lips move, and a little before the voice.

Sounds say where lips ought to be in each frame. Between two frames they can go only so far: an opening next to a
closure is smaller than the sound asks for, and lips begin to close or to part some frames before they have to
(lips part about 100 ms before a vowel is heard). A closure is never given up.
"""

from __future__ import annotations

import math
from fractions import Fraction

from inference_server.engines.portrait.atlas import parted
from inference_server.engines.portrait.visemes import REST, MouthParams, VisemeTrack

AHEAD_S = 0.0834
"""How far past a frame's slot is looked, at most: two frames at 24 to 35 fps."""
SPEED = 8.5
"""Openings a second: 128 mm/s where 15 mm is wide open."""
EARLY = 0.5
"""How much of a sound to come is seen before it while another one is heard; out of rest it is all."""
BEHIND_S = 1 / SPEED + 1 / 24
"""How far before a frame its mouth depends on others, at 24 fps and more."""
LIPS_PART = 0.1
"""Opening of lips that do not rest, whatever the sound but one of closed lips."""
SURE_BITE = 0.6
"""How sure of the lip under the teeth the network is at least; of a tongue there it is less so."""
_KEPT = 64  # frames whose sounds are remembered


def frames_ahead(fps: Fraction) -> int:
    """Frames past its own that shape a frame's mouth."""
    return int(AHEAD_S * fps)


class Articulation:
    """The mouth of one turn as lips can do it; like the track that it follows a pure function of the audio."""

    def __init__(self, voice: VisemeTrack, fps: Fraction, gain: float = 1.0) -> None:
        self._voice, self._fps, self._gain = voice, fps, gain
        self._ahead = frames_ahead(fps)
        step = max(SPEED / float(fps), 1 / (self._ahead + 1))
        self._step = step
        self._behind = math.ceil(1 / step)
        self._heard: dict[int, MouthParams] = {}

    def ready(self) -> int:
        """Frames from the turn's frame 0 that :meth:`params` can answer."""
        ready = self._voice.ready(self._fps)
        return ready if self._voice.ended else max(0, ready - self._ahead)

    def params(self, k: int) -> MouthParams:
        """The mouth of frame ``k``. Raises ``IndexError`` when it is not ready."""
        if not 0 <= k < self.ready():
            raise IndexError(f"frame {k} is not ready: {self.ready()} are")
        now = self._at(k)
        after = [self._at(k + d) for d in range(1, self._ahead + 1)]
        if now.silent and all(mouth.silent for mouth in after):
            return REST
        opening = self._target(k)
        for d in range(1, self._behind + 1):
            opening = min(opening, self._target(k - d) + d * self._step)
        for d in range(1, self._ahead + 1):
            opening = min(opening, self._target(k + d) + d * self._step)
        width = now.width
        if now.silent:
            width = max((self._weight(d) * m.width for d, m in enumerate(after, 1)), key=abs)
        bite = self._bite(k)
        left = parted(now.close, bite)
        return MouthParams(opening / left if left > 0.01 else 0.0, width, now.close, bite, False)

    def _weight(self, frames: int) -> float:
        return math.cos(math.pi / 2 * frames / (self._ahead + 1))

    def _target(self, k: int) -> float:
        """How far the lips ought to be parted in a frame, with what comes in view."""
        now = self._at(k)
        opening, free = now.open, 1.0
        share = 1.0 if now.silent else EARLY
        for d in range(1, self._ahead + 1):
            mouth = self._at(k + d)
            free = min(free, parted(mouth.close, mouth.fv))
            opening = max(opening, share * self._weight(d) * free * mouth.open)
            if not mouth.silent:
                opening = max(opening, LIPS_PART * free)
        return opening * parted(now.close, self._bite(k))

    def _at(self, k: int) -> MouthParams:
        """What the sound says of a frame; rest before the turn, and where nothing is known yet."""
        if k < 0:
            return REST
        known = self._heard.get(k)
        if known is None:
            if k >= self._voice.ready(self._fps):
                return REST
            mouth = self._voice.params(k, self._fps)
            if len(self._heard) > _KEPT:
                self._heard.clear()
            known = self._heard[k] = mouth._replace(open=min(1.0, mouth.open * self._gain))
        return known

    def _bite(self, k: int) -> float:
        """How far the lip gets to the teeth: no further than in a frame beside (a lone one is most often a th)."""
        beside = max(self._at(k - 1).fv, self._at(k + 1).fv if self._ahead else 1.0)
        bite = min(self._at(k).fv, beside)
        return bite if bite >= SURE_BITE else 0.0
