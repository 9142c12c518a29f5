"""How lips get from sound to sound: no faster than lips move, and a little before the voice.

Sounds say where lips ought to be in each frame. Between two frames they can go only so far: an opening next to a
closure is smaller than the sound asks for, and lips begin to close or to part some frames before they have to
(lips part about 100 ms before a vowel is heard). A closure is never given up. Corners of the mouth ease over the
frames beside.
"""

from __future__ import annotations

import math
from fractions import Fraction

from inference_server.avatars.portrait.lips import GROWTH, WIDE_MM
from inference_server.engines.portrait.atlas import parted
from inference_server.engines.portrait.visemes import REST, MouthParams, VisemeTrack

AHEAD_S = 0.0834
"""How far past a frame's slot is looked, at most: two frames at 24 to 35 fps."""
SPEED = 125.0
"""Millimetres a second between the lips, however far apart they are; 150 at 30 fps, which sees no further ahead."""
EARLY = 0.5
"""How much of a sound to come is seen before it while another one is heard; out of rest it is all."""
BEHIND_S = WIDE_MM / SPEED + 1 / 24
"""How far before a frame its mouth depends on others, at 24 fps and more."""
LIPS_PART = 0.1
"""Opening of lips that do not rest, whatever the sound but one of closed lips."""
OUT_OF_REST = 0.15
"""The same where they have rested: 2.5 mm are seen to be open."""
NARROW = 0.25
"""Opening of what is heard for one frame between lips that are further apart, and is no closure."""
MEET_S = 0.05
"""Lips that meet are together for so long and longer: more than a frame at 25 fps."""
SOONER = 0.1
"""Openings that are so much wider than those before a closure end it at once: it began before its frame."""
_MEET = 0.05  # the share of an opening that is left where lips meet
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
        self._step = max(SPEED / WIDE_MM / float(fps), 1 / (self._ahead + 1))
        self._behind = math.ceil(1 / self._step - 1e-9)
        self._brief = float(1 / fps) < MEET_S
        self._heard: dict[int, MouthParams] = {}

    def ready(self) -> int:
        """Frames from the turn's frame 0 that :meth:`params` can answer."""
        ready = self._voice.ready(self._fps)
        return ready if self._voice.ended else max(0, ready - self._ahead)

    def params(self, k: int) -> MouthParams:
        """The mouth of frame ``k``. Raises ``IndexError`` when it is not ready."""
        if not 0 <= k < self.ready():
            raise IndexError(f"frame {k} is not ready: {self.ready()} are")
        now, last = self._at(k), k + self._ahead
        after = [self._at(j) for j in range(k + 1, last + 1)]
        if now.silent and all(mouth.silent for mouth in after):
            return REST
        reach = range(k - self._behind, last + 1)
        gap = min(self._target(j, last) ** GROWTH + abs(j - k) * self._step for j in reach)
        opening = gap ** (1 / GROWTH)
        width = self._eased_width(k)
        if now.silent:
            width = max((self._weight(d) * m.width for d, m in enumerate(after, 1)), key=abs)
        bite = self._bite(k, last)
        left = parted(now.close, bite)
        return MouthParams(opening / left if left > 0.01 else 0.0, width, now.close, bite, False)

    def _weight(self, frames: int) -> float:
        return math.cos(math.pi / 2 * frames / (self._ahead + 1))

    def _eased_width(self, k: int) -> float:
        """The width of a frame, with half as much of each frame beside that is not silent."""
        beside = [self._at(k - 1)] + ([self._at(k + 1)] if self._ahead else [])
        heard = [mouth.width for mouth in beside if not mouth.silent]
        return (self._at(k).width + 0.5 * sum(heard)) / (1 + 0.5 * len(heard))

    def _target(self, k: int, last: int) -> float:
        """How far the lips ought to be parted in a frame, by frames up to ``last``. Lips that have met for one
        stay near for another; lips that are narrow for one do not look shut."""
        last = min(last, k + self._ahead)
        now, wanted = self._at(k), self._wanted(k, last)
        if now.silent or self._meet(k):
            return wanted
        if self._brief and self._meet(k - 1) and not self._meet(k - 2):
            sooner = now.open > self._at(k - 2).open + SOONER
            return wanted if sooner else min(wanted, LIPS_PART)
        if k < last and wanted < NARROW and parted(now.close, self._bite(k, last)) == 1:
            return max(wanted, min(self._wanted(k - 1, last), self._wanted(k + 1, last), NARROW))
        return wanted

    def _wanted(self, k: int, last: int) -> float:
        """How far the sounds of a frame, and of those that come in view, part the lips."""
        now = self._at(k)
        opening, free = now.open, 1.0
        share, least = (1.0, OUT_OF_REST) if now.silent else (EARLY, LIPS_PART)
        for d in range(1, min(self._ahead, last - k) + 1):
            mouth = self._at(k + d)
            free = min(free, parted(mouth.close, mouth.fv))
            opening = max(opening, share * self._weight(d) * free * mouth.open)
            if not mouth.silent:
                opening = max(opening, least * free)
        return opening * parted(now.close, self._bite(k, last))

    def _meet(self, k: int) -> bool:
        """Whether the lips press together in a frame."""
        mouth = self._at(k)
        return parted(mouth.close, mouth.fv) < _MEET

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

    def _bite(self, k: int, last: int) -> float:
        """How far the lip gets to the teeth: no further than in a frame beside (a lone one is most often a th), as
        far as those up to ``last`` tell."""
        beside = max(self._at(k - 1).fv, self._at(k + 1).fv if k < last else 1.0)
        bite = min(self._at(k).fv, beside)
        return bite if bite >= SURE_BITE else 0.0
