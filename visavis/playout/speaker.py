"""The speaker of a conversation: what is heard when, and which turn sample is on screen at each tick.

Sans-IO. A call reads 20 ms of sound per packet, an avatar session the sound of a picture, and asks for one picture
per video tick; both are numbered from the same moment, so that packet ``p`` starts ``p * 20 ms`` and tick ``n`` is
due ``n / fps`` after it. A turn starts on a video tick a little ahead and then plays, whatever has arrived from the
avatar. When its audio runs dry before its end, the rest is anchored anew at a later tick, on the body frame due
there, with the audio shifted by less than a frame so that frames keep their place.
"""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction
from typing import Literal

import numpy as np

from visavis.client.start_delay import AS_SPOKEN_S, StartDelay
from visavis.frames import SAMPLE_RATE, frame_at, frame_start
from visavis.playout.pacer import TurnWriter
from visavis.playout.playout import Picture, Playout, TurnAnchor
from visavis.playout.turn import PCM, OnTurn, QueuedTurn, TurnEvent

PACKET_MS = 20
CLOSING_TICKS = 12
"""Ticks after the last sample by which a turn is over even if its closing frames never came."""

DUCKED = 0.25
"""Amplitude while somebody else speaks: -12 dB."""
DUCK_MS = 40

UNSEEN_TICKS = 3
"""Ticks without a picture after which the body moves on unseen, so that turns end in a voice call too."""

HELD_MS = 300
"""A turn whose sound is so far behind is on hold. A clock that catches up is less late (``CATCH_UP_SECONDS``)."""


class Speaker:
    """The turns of one call, its voice and the pictures that go with it.

    ``rate`` is the codec's sample rate; audio is fed twice, at 16 kHz for the avatar and at ``rate`` for the
    caller. ``trim_ms`` shifts the picture against the voice (positive: the picture later), for phones that play
    one of them late. ``holds``: sound that is not read for a while is held; else the clock missed its ticks.
    """

    def __init__(
        self,
        *,
        rate: int,
        fps: Fraction,
        avatar: TurnWriter,
        playout: Playout,
        start_delay: StartDelay,
        emit: OnTurn,
        trim_ms: int = 0,
        holds: bool = True,
    ) -> None:
        self._rate = rate
        self._held_for = HELD_MS * rate // 1000 if holds else math.inf
        self._fps = fps
        self._num, self._den = fps.numerator, fps.denominator  # a Fraction's own take longer than the sum
        self._avatar = avatar
        self._playout = playout
        self._start_delay = start_delay
        self._emit = emit
        self._packet = rate * PACKET_MS // 1000
        self._trim = round(trim_ms * fps / 1000)
        self._queue: deque[QueuedTurn] = deque()
        self._turn: QueuedTurn | None = None
        self._state: Literal["idle", "waiting", "playing", "stalled", "closing"] = "idle"
        self._epoch = 1
        self._tick = 0  # the tick that comes next
        self._unseen = True  # the playout has shown nothing yet
        self._audio_at = 0  # media sample (codec rate) where the next packet starts
        self._start_tick = 0
        self._start_frame = 0
        self._resume_at = 0  # media sample at which the next turn sample is due
        self._fed_tick = 0
        self._planned_tick = 0  # when the start was planned
        self._untold: Literal["started", "resumed"] | None = None  # planned, and not told yet
        self._closing_until = 0
        self._begun = False  # the playout knows the turn
        self._anchor: TurnAnchor | None = None
        self._on_hold = False
        self._volume = self._loudness = 1.0  # as it is, and as it is to be

    @property
    def epoch(self) -> int:
        """Raised by every interruption."""
        return self._epoch

    @property
    def speaking(self) -> bool:
        """A turn is under way or waits."""
        return self._turn is not None or bool(self._queue)

    @property
    def turn_id(self) -> int | None:
        """The turn whose sound is on or comes next; ``None`` where the last one has been heard to its end."""
        return None if self._turn is None or self._state == "closing" else self._turn.turn_id

    @property
    def closing(self) -> int | None:
        """The turn that has been heard to its end and whose mouth closes yet."""
        return self._turn.turn_id if self._turn is not None and self._state == "closing" else None

    @property
    def heard(self) -> int:
        """Samples of the turn of the moment that have been read, at the codec's rate."""
        return 0 if self._turn is None else self._turn.read

    def use(self, avatar: TurnWriter, playout: Playout, start_delay: StartDelay) -> None:
        """Take another avatar. Raises ``RuntimeError`` while a turn is under way."""
        if self.speaking:
            raise RuntimeError("an avatar is changed between turns")
        self._avatar, self._playout, self._start_delay = avatar, playout, start_delay
        self._anchor, self._unseen = None, True

    def set_rate(self, rate: int) -> None:
        """The codec changed: what is being said is cut, the next turn comes at the new rate."""
        self.interrupt()
        self._rate, self._packet = rate, rate * PACKET_MS // 1000
        self._audio_at = self._media_at(self._tick)

    def start_turn(self, turn_id: int) -> None:
        """A turn that speaks after those before it."""
        self._queue.append(QueuedTurn(turn_id))
        self._next_turn()

    def feed(self, turn_id: int, pcm_16k: PCM, pcm: PCM) -> None:
        """The same stretch of sound at 16 kHz and at the codec's rate."""
        turn = self._find(turn_id)
        if turn is None or turn.ended:
            return
        turn.feed(pcm_16k, pcm)
        if turn is self._turn:
            turn.push(self._avatar)
            self._schedule(turn)

    def end_turn(self, turn_id: int) -> None:
        """No more sound comes for this turn."""
        turn = self._find(turn_id)
        if turn is None or turn.ended:
            return
        turn.ended = True
        if turn is self._turn:
            turn.push(self._avatar)
            self._schedule(turn)

    def interrupt(self) -> None:
        """Silence and a still mouth from the next packet and picture on; every queued turn is dropped."""
        dropped = ([self._turn] if self._turn else []) + list(self._queue)
        self._queue.clear()
        self._turn, self._state, self._untold = None, "idle", None
        self._on_hold, self._volume, self._loudness = False, 1.0, 1.0
        if not dropped:
            return
        self._epoch += 1
        self._avatar.interrupt(self._epoch)
        self._playout.interrupt()
        for turn in dropped:
            self._emit(TurnEvent("interrupted", turn.turn_id, self._heard_ms(turn)))

    @property
    def expects_lips(self) -> bool:
        """Nothing was asked for yet, and the first frame of the turn that comes first is not there."""
        start = frame_start(self._start_frame, self._fps)
        return self._waits_unheard and not self._playout.ready(start)

    @property
    def _waits_unheard(self) -> bool:
        return self._state == "waiting" and self._unseen and not self._audio_at

    def hurry(self) -> None:
        """Nothing was asked for yet, and now is: a turn that waits starts at the next tick.

        It is drawn for a later body frame: the body begins there.
        """
        early = self._start_tick - max(1, 1 - self._trim)
        if self._waits_unheard and early > 0:
            self._resume_at -= self._media_at(self._start_tick) - self._media_at(self._start_tick - early)
            self._start_tick -= early
            self._playout.skip(early)

    def give_way(self, how: Literal["none", "duck", "hold"]) -> None:
        """Speak as usual, more quietly from the next packet on, or, with a still mouth, not at all for a while.

        What was held goes on where it stopped, as after a stall.
        """
        self._on_hold, self._loudness = how == "hold", 1.0 if how == "none" else DUCKED
        turn = self._turn
        if turn is None or self._state == "closing":
            return
        if self._on_hold and self._state in ("waiting", "playing"):
            self._tell_start(turn)
            self._state = "stalled"
            self._emit(TurnEvent("stalled", turn.turn_id, self._heard_ms(turn)))
        elif not self._on_hold and self._state in ("idle", "stalled"):
            self._volume = self._loudness
            self._schedule(turn)

    def read(self, packet_index: int) -> PCM | None:
        """20 ms of sound at the codec's rate for this packet, or ``None`` for silence."""
        sound = self.sound(packet_index * self._packet, self._packet)
        if sound is None or len(sound) == self._packet:
            return sound
        out = np.zeros(self._packet, np.int16)
        out[: len(sound)] = sound
        return out

    def sound(self, start: int, length: int) -> PCM | None:
        """The sound of ``length`` samples from media sample ``start`` on; shorter where it stops in between.

        ``None`` for silence.
        """
        passed = start * self._num // (self._rate * self._den)
        if passed > self._tick + UNSEEN_TICKS:  # nobody asks for pictures: a voice call
            if self._turn is not None:
                self._tell_start(self._turn)  # no lips are waited for
            self.tick(passed)
            self._playout.unseen()
        turn = self._turn
        jumped, self._audio_at = start != self._audio_at, start + length
        if turn is None or self._state not in ("waiting", "playing"):
            return None
        if self._state == "waiting":
            if self._resume_at >= start + length:
                return None
            self._state = "playing"
            self._tell_start(turn)
            jumped = jumped and self._resume_at < start
        if jumped:  # sound was not asked for a while (hold): go on where the listener stopped hearing
            self._resume_at = start
            self._plan(turn, self._next_tick_at(start))
            return self.sound(start, length) if self._resume_at < start + length else None
        lead = max(0, self._resume_at - start)
        sound = turn.take(length - lead)
        self._resume_at = start + length
        if lead + len(sound) < length or (turn.ended and not turn.buffered):
            self._dry(turn)
        return self._loud(np.concatenate((np.zeros(lead, np.int16), sound)) if lead else sound)

    def _loud(self, pcm: PCM) -> PCM:
        """At the volume of now, which changes over ``DUCK_MS``."""
        if self._volume == self._loudness == 1.0:
            return pcm
        step = (1.0 - DUCKED) / (self._rate * DUCK_MS // 1000)
        change = self._loudness - self._volume
        ramp = self._volume + np.clip(step * np.arange(1, len(pcm) + 1), 0, abs(change)) * np.sign(change)
        self._volume = float(ramp[-1])
        out: PCM = np.rint(pcm * ramp).astype(np.int16)
        return out

    def tick(self, index: int) -> Picture:
        """The picture that is due at this video tick."""
        if index < self._tick:  # a picture of a moment that has passed unseen
            return self._playout.tick(None)
        # Ticks the clock missed: the body moves on all the same. Before anything was seen it waits at its first
        # picture instead, which is coded already: a late machine would be later if it had to code others.
        if index > self._tick and (self.speaking or not self._unseen):
            self._playout.skip(index - self._tick)
        self._tick = index
        if self._turn is not None:
            self._decide_start(self._turn)
        self._tick, self._unseen = index + 1, False
        turn = self._turn
        if turn is None:
            return self._playout.tick(None)
        if self._state in ("idle", "stalled") or self._held(index):
            return self._playout.tick(None)
        sample = frame_start(self._start_frame + index - self._start_tick - self._trim, self._fps)
        self._avatar.playhead(sample, True)
        picture = self._playout.tick(sample if index >= self._start_tick + self._trim else None)
        self._tell_anchor(self._playout.anchor)
        if self._state == "closing" and (self._playout.turn_id is None or index >= self._closing_until):
            self._finish()
        return picture

    def _held(self, index: int) -> bool:
        """No sound is sent at this tick, though there is some: its pictures are not due either."""
        unsent = self._media_at(index) - self._audio_at
        return self._state in ("waiting", "playing") and unsent > self._held_for

    def _tell_anchor(self, anchor: TurnAnchor | None) -> None:
        if anchor is not None and anchor != self._anchor:
            self._anchor = anchor
            self._avatar.anchor(anchor.sample, anchor.loop_index)

    def _find(self, turn_id: int) -> QueuedTurn | None:
        if self._turn is not None and self._turn.turn_id == turn_id:
            return self._turn
        return next((turn for turn in self._queue if turn.turn_id == turn_id), None)

    def _next_turn(self) -> None:
        if self._turn is not None or not self._queue:
            return
        turn = self._turn = self._queue.popleft()
        self._state = "idle"
        self._fed_tick = -1
        self._begun = False
        self._avatar.start_turn(turn.turn_id, self._epoch)
        turn.push(self._avatar)
        self._schedule(turn)

    def _schedule(self, turn: QueuedTurn) -> None:
        """Choose the tick at which the audio starts, or goes on, once there is some."""
        if turn.buffered and self._fed_tick < 0:
            self._fed_tick = self._tick
        if self._state not in ("idle", "stalled") or self._on_hold:
            return
        if not turn.buffered:
            if turn.ended:
                self._dry(turn)
            return
        self._untold = "resumed" if self._state == "stalled" else "started"
        self._planned_tick = self._tick
        self._plan(turn, self._tick + max(self._start_delay.ticks, 1 - self._trim))
        if not self._comes_as_spoken(turn):
            self._tell_start(turn)

    def _comes_as_spoken(self, turn: QueuedTurn) -> bool:
        """The sound that has come since the start was planned is hardly more than real time has brought."""
        ahead = turn.buffered / self._rate - (self._tick - self._planned_tick) / self._fps
        return not turn.ended and ahead < AS_SPOKEN_S

    def _decide_start(self, turn: QueuedTurn) -> None:
        """At the last tick before a turn starts: later, where its sound comes as it is spoken, without a frame."""
        last = self._start_tick + min(0, self._trim) - 1
        if self._state != "waiting" or self._untold is None or self._tick < last:
            return
        first = frame_start(self._start_frame, self._fps)
        if self._comes_as_spoken(turn) and not self._playout.ready(first):
            later = self._planned_tick + max(self._start_delay.ticks_as_spoken, 1 - self._trim)
            if later > self._start_tick:
                self._plan(turn, later)
        self._tell_start(turn)

    def _tell_start(self, turn: QueuedTurn) -> None:
        """Once it is certain."""
        if self._untold is not None:
            waits = (self._start_tick - self._fed_tick, max(0, self._start_tick - self._tick))
            wait_ms, in_ms = (float(ticks * 1000 / self._fps) for ticks in waits)
            self._emit(TurnEvent(self._untold, turn.turn_id, self._heard_ms(turn), wait_ms, in_ms))
            self._untold = None

    def _plan(self, turn: QueuedTurn, tick: int) -> None:
        """Anchor: the frame that covers the next turn sample is on screen at ``tick``."""
        sample = turn.read * SAMPLE_RATE // self._rate
        self._start_frame = frame_at(sample, self._fps)
        first = frame_start(self._start_frame, self._fps)
        shift = turn.read - first * self._rate // SAMPLE_RATE
        while True:
            self._resume_at = self._media_at(tick) + shift
            if self._resume_at >= self._audio_at:
                break
            tick += 1
        self._start_tick = tick
        self._state = "waiting"
        ahead = tick + self._trim - self._tick
        if self._begun:
            self._tell_anchor(self._playout.resume(first, ahead))
        else:
            self._begun = True
            self._tell_anchor(self._playout.begin_turn(turn.turn_id, self._epoch, ahead))

    def _dry(self, turn: QueuedTurn) -> None:
        if turn.buffered:
            return
        if turn.ended:
            self._state = "closing"
            self._closing_until = self._tick + CLOSING_TICKS + abs(self._trim)
            self._playout.end_turn(turn.pushed)
        elif self._state != "stalled":
            self._state = "stalled"
            self._emit(TurnEvent("stalled", turn.turn_id, self._heard_ms(turn)))

    def _finish(self) -> None:
        turn, self._turn, self._state = self._turn, None, "idle"
        if turn is not None:
            self._emit(TurnEvent("finished", turn.turn_id, self._heard_ms(turn)))
        self._next_turn()

    def _heard_ms(self, turn: QueuedTurn) -> float:
        return turn.read * 1000 / self._rate

    def _media_at(self, tick: int) -> int:
        return int(tick * self._rate * self._fps.denominator // self._fps.numerator)

    def _next_tick_at(self, media_sample: int) -> int:
        return max(self._tick, math.ceil(Fraction(media_sample, self._rate) * self._fps))
