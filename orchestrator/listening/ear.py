"""One call's ear: out of a caller's sound, and what the caller was sent meanwhile, speech that begins and pauses.

Sans-IO. WebRTC's echo canceller (AEC3) answers whether somebody speaks; the words are taken from the sound behind a
linear canceller. When speech pauses the ear hands out the utterance so far for recognition: whoever holds the
conversation decides whether it is at its end, and takes it, or lets it grow.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pywebrtc_audio import EchoCanceller

from orchestrator.listening.activity import FRAME, SpeechProbability
from orchestrator.listening.linear import BLOCK, LinearCanceller

RATE = 16_000
FRAME_MS = FRAME * 1000 // RATE
ONSET_FRAMES = 3
"""Speech for so long is the beginning of it: 96 ms."""
LAPSE_FRAMES = 4
"""And quiet for so long after a first frame of speech, before the beginning: it was none."""
_UNSURE_FRAMES = 10
"""And 320 ms, while the echo canceller has not yet heard ``_LEARNING_BLOCKS`` of what it is to cancel."""
_LEARNING_BLOCKS = 50
_ECHO_BLOCKS = 25
_GONE_BLOCKS = 50
_AUDIBLE = 1e-6
_NEAR_BLOCKS = 250
_KNOWN_BLOCKS = 100
_LATE_BLOCKS = 15
_HARDLY_HEARD = 1e-5
_MUCH_LOUDER = 100.0
"""Power: where the caller's side is as quiet for four fifths of the last five seconds of our own voice, and so much
louder now, that is no echo."""
PAUSE_FRAMES = 4
"""Quiet for so long is a pause, in which the utterance is recognised: 128 ms."""
LULL_FRAMES = 3
"""And 96 ms over our voice, which waits meanwhile, may be one: a word or two are recognised at once then."""
_WORD_FRAMES = 28
"""Of an utterance that is no longer than a word or two, with what comes before its beginning."""
_CUT_IN_FRAMES = 45
"""Of an utterance over our voice, which yields meanwhile: whoever speaks so is no echo of it."""
_GOES_ON_FRAMES = 40
"""Quiet for no longer than 1.3 s before it: an utterance goes on with the one before."""
_SPEECH, _STILL_SPEECH = 0.5, 0.35
_BEFORE_FRAMES = 12
"""Of the sound before the beginning, that belongs to it: its first consonant."""
_AUDIBLE_BEFORE = 0.002
"""Of the beginning's own power: what is quieter just before it is no part of it where an echo may be. A soft first
word is not much louder than that."""
_LONGEST_FRAMES = 25 * RATE // FRAME

Sound = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Onset:
    """Somebody may begin to speak over our voice, for 32 ms by now; ``lapsed``: it was nothing."""

    lapsed: bool


@dataclass(frozen=True, slots=True)
class Began:
    """Somebody speaks, for 96 ms by now; ``again``: after a pause of the same utterance."""

    again: bool


@dataclass(frozen=True, slots=True)
class Pausing:
    """Speech has paused: ``number`` names the pause, ``sound`` is the utterance so far, ``quiet_ms`` the pause's
    length; ``goes_on``: it began so soon after another one that it may be the same sentence."""

    number: int
    sound: Sound
    quiet_ms: int
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Lull:
    """A word or two over our voice may be over: ``sound`` and ``goes_on`` of the pause that may come. Speech that
    goes on instead is told, too."""

    sound: Sound
    goes_on: bool


EarEvent = Onset | Began | Lull | Pausing


class Ear:
    """``hear`` takes 20 ms at a time."""

    def __init__(self) -> None:
        self._echo = EchoCanceller(sample_rate=RATE)
        self._linear = LinearCanceller()
        self._probability = SpeechProbability()
        self._subtracted = SpeechProbability()
        self._near: deque[float] = deque(maxlen=_NEAR_BLOCKS)
        self._clean: Sound = np.zeros(0, np.float32)
        self._words: Sound = np.zeros(0, np.float32)
        self._before: deque[Sound] = deque(maxlen=_BEFORE_FRAMES)
        self._powers: deque[float] = deque(maxlen=_BEFORE_FRAMES)
        self._grown: list[Sound] = []
        self._utterance: deque[Sound] = deque(maxlen=_LONGEST_FRAMES)
        self._speaks = False
        self._loud = 0
        self._still = 0
        self._told = False  # of an onset
        self._quiet = 0
        self._over_voice = False
        self._lulled = False
        self._pauses = 0
        self._taken = False
        self._goes_on = False
        self._learnt = 0
        self._since = _ECHO_BLOCKS

    def hear(self, near: Sound, reference: Sound) -> list[EarEvent]:
        """``(320,)`` samples each at 16 kHz, full scale 1.0: the caller's sound, and what was sent at that time."""
        sounding = float(reference @ reference) > _AUDIBLE * BLOCK
        self._learnt += sounding
        self._since = 0 if sounding else self._since + 1
        if self._since < _LATE_BLOCKS and not (self._speaks and len(self._utterance) <= _CUT_IN_FRAMES):
            self._near.append(float(near @ near) / BLOCK)
        unsure = self._learnt < _LEARNING_BLOCKS and self._echoes
        ends = [np.clip(each * 32768, -32768, 32767).astype(np.int16) for each in (near, reference)]
        clean: Sound = (self._echo.process(*ends) / 32768).astype(np.float32)
        # Without an echo the canceller only makes a voice less like one.
        self._clean = np.concatenate((self._clean, clean if self._since < _GONE_BLOCKS else near))
        self._words = np.concatenate((self._words, self._linear.process(near, reference)))
        events: list[EarEvent] = []
        while len(self._clean) >= FRAME:
            clean, self._clean = self._clean[:FRAME], self._clean[FRAME:]
            words, self._words = self._words[:FRAME], self._words[FRAME:]
            self._powers.append(float(clean @ clean))
            probability = self._probability(clean)
            sure = False
            if self._echoes:
                subtracted = self._subtracted(words)
                sure = len(self._near) >= _KNOWN_BLOCKS and self._no_echo()
                probability = max(probability, subtracted * sure)
            events += self._judge(probability, words, _UNSURE_FRAMES if unsure else ONSET_FRAMES, sure)
        return events

    def _no_echo(self) -> bool:
        """Whether what is heard now is no echo for sure: our own voice has hardly been heard for a while.

        AEC3 holds down whoever speaks over our voice, most of all where there is no echo, as with a handset.
        """
        powers = sorted(self._near)
        usual = powers[4 * len(powers) // 5]
        loud = max(self._near[-1], self._near[-2]) > max(_MUCH_LOUDER * usual, _HARDLY_HEARD)
        return usual < _HARDLY_HEARD and loud

    @property
    def _echoes(self) -> bool:
        """Whether there may be an echo now."""
        return self._since < _ECHO_BLOCKS

    def grown(self) -> Sound:
        """What the utterance has grown by since this was asked last, ``(n,)``."""
        grown, self._grown = self._grown, []
        return np.concatenate(grown) if grown else np.zeros(0, np.float32)

    def take(self, number: int) -> bool:
        """The utterance up to the pause of this number is over: what comes is another one. Whether it was so."""
        if number != self._pauses or not self._quiet:
            return False
        quiet = list(self._utterance)[-self._quiet :]
        self._utterance.clear()
        self._before.extend(quiet)
        self._speaks, self._taken = False, True
        return True

    def _beginning(self) -> list[Sound]:
        """What belongs to an utterance of the sound before it is sure.

        Where our own voice may be heard no more than the caller's: what a canceller leaves of it is still words.
        """
        before, powers = list(self._before), list(self._powers)[-len(self._before) :]
        least = max(powers) * _AUDIBLE_BEFORE
        first = next(at for at, power in enumerate(powers) if power >= least)
        return before[max(0, first - 1) :] if self._echoes else before

    def _onset(self, needed: int) -> list[EarEvent]:
        """What may become the beginning of speech over our voice, or has not."""
        if self._told and self._still < LAPSE_FRAMES:
            return []
        if not self._told and not (self._loud and self._echoes and needed == ONSET_FRAMES):
            return []
        self._told = not self._told
        return [Onset(lapsed=not self._told)]

    def _judge(self, probability: float, words: Sound, onset: int, sure: bool) -> list[EarEvent]:
        goes_on = (self._speaks and not self._quiet) or (sure and self._loud > 0)
        loud = probability > (_STILL_SPEECH if goes_on else _SPEECH)
        self._loud, self._still = (self._loud + 1, 0) if loud else (0, self._still + 1)
        if not self._speaks:
            self._before.append(words)
            self._quiet = self._quiet + 1
            if self._loud < onset:
                return self._onset(onset)
            self._goes_on = self._taken and self._quiet <= _GOES_ON_FRAMES
            self._speaks, self._told, self._quiet = True, False, 0
            self._over_voice, self._lulled = self._echoes, False
            beginning = self._beginning()
            self._utterance.extend(beginning)
            self._grown.extend(beginning)
            self._before.clear()
            return [Began(again=False)]
        self._utterance.append(words)
        self._grown.append(words)
        if not loud:
            self._quiet += 1
            short = self._over_voice and len(self._utterance) <= _WORD_FRAMES
            if self._quiet == LULL_FRAMES and short:
                self._lulled = True
                return [Lull(np.concatenate(self._utterance), self._goes_on)]
            if self._quiet != PAUSE_FRAMES:
                return []
            self._pauses += 1
            sound = np.concatenate(self._utterance)
            return [Pausing(self._pauses, sound, self._quiet * FRAME_MS, self._goes_on)]
        if self._quiet < PAUSE_FRAMES:
            lull, self._lulled, self._quiet = self._lulled, False, 0
            return [Began(again=True)] if lull else []
        if self._loud < ONSET_FRAMES - 1:
            self._quiet += 1
            return []
        self._quiet, self._lulled = 0, False
        return [Began(again=True)]


def blocks(sound: Sound) -> list[Sound]:
    """The sound in pieces that ``hear`` takes; what does not fill one is left out."""
    return [sound[at : at + BLOCK] for at in range(0, len(sound) - BLOCK + 1, BLOCK)]
