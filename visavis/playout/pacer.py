"""The pacer of the pictures to a voice that plays elsewhere: by the audio that was fed, or by its playback.

Sans-IO: the provider calls :meth:`Pacer.tick` once per frame and shows the picture it gets.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visavis.frames import SAMPLE_RATE, Frame, frame_at, frame_start
from visavis.playout.offset import AVOffset
from visavis.playout.picture import Picture, TurnAnchor
from visavis.playout.playback import Playback
from visavis.playout.playout import Playout

_NEAR_END = SAMPLE_RATE * 3 // 10  # audio left when a voice that fell silent is taken to have ended
_ENOUGH = SAMPLE_RATE // 2  # audio ahead that an engine can be expected to do with
_QUIET_S = 0.25
_LEAD_TICKS = 8  # a waiting turn is started this long before the one before has been heard
_PATIENCE_S = 0.5  # audio that is not played this long after its response ended was cut
_UNHEARD_S = 5.0  # audio whose playing has not begun this long after it was fed is dropped
_DRIFT = 0.6  # of a frame: pictures that are further from the voice than this are put right


class TurnWriter(Protocol):
    """What turns are written to; :class:`visavis.AvatarStream` is one. Audio: int16, 16 kHz mono; nothing waits."""

    def start_turn(self, turn_id: int, epoch: int) -> None: ...
    def push_audio(self, pcm: NDArray[np.int16]) -> None: ...
    def end_turn(self) -> None: ...
    def anchor(self, sample: int, loop_index: int) -> None: ...
    def playhead(self, sample: int, playing: bool = True) -> None: ...
    def interrupt(self, epoch: int) -> None: ...


@dataclass(slots=True)
class PacedTurn:
    """A turn that is heard now or soon, counted in samples of 16 kHz mono and in video ticks."""

    fps: Fraction
    start: int
    """The tick at which sample ``base`` is heard."""
    base: int = 0
    fed: int = 0
    ended: bool = False
    last_fed_at: float = 0.0
    closed: bool = False
    """The playout knows where it ends."""
    dry: bool = False
    """A tick found no audio."""
    origin: int = 0
    """Samples of the voice before this turn, where its playing is followed."""
    begun: bool = False
    """Its first sample was heard, where its playing is followed."""

    def at(self, tick: int) -> int:
        """The sample that is heard at this tick."""
        return self.base + frame_start(tick - self.start, self.fps)


@dataclass(slots=True)
class WaitingTurn:
    """Audio of a turn that cannot start while another one plays."""

    chunks: list[NDArray[np.int16]] = field(default_factory=list)
    ended: bool = False
    last_fed_at: float = 0.0


class Pacer:
    """The turns of one voice, paced. ``delay_s`` is how long after it is fed the audio is heard.

    Where frames cannot be had in time for that (audio fed in real time leaves no room for an engine's
    look-ahead), pictures fall behind the voice by what is missing, and no more.
    """

    def __init__(
        self, playout: Playout, sink: TurnWriter, *, delay_s: float = 0.0, playback: Playback | None = None
    ) -> None:
        self.playout = playout
        self.playback = playback  # where given, turns are heard when it says so
        self.epoch = 0
        self.ticks = 0
        self.heard: tuple[int, int] | None = None  # at the last tick: a turn and its sample
        self._sink = sink
        self._fps = playout.fps
        self._offset = AVOffset(playout, delay_s)
        self._turn_id = 0
        self._turn: PacedTurn | None = None
        self._waiting: deque[WaitingTurn] = deque()
        self._anchor_told: TurnAnchor | None = None
        self._spoken: int | None = None  # samples of the voice in all turns so far; None: some were cut

    @property
    def idle(self) -> bool:
        """Nothing is to be said and the mouth is at rest."""
        return self._turn is None and not self._waiting and self.playout.idle

    @property
    def offset_s(self) -> float:
        """How far pictures are behind the feeding of their audio, in seconds."""
        return float(self._offset.ticks / self._fps)

    @property
    def ahead_s(self) -> float:
        """Seconds of audio that were fed and not shown yet."""
        waiting = sum(len(pcm) for w in self._waiting for pcm in w.chunks)
        turn = self._turn
        if turn is not None and not turn.closed:
            at = turn.at(max(self.ticks, turn.start))
            waiting += max(0, turn.fed - (at if turn.begun or self.playback is None else 0))
        return waiting / SAMPLE_RATE

    def use(self, playout: Playout, sink: TurnWriter) -> None:
        """Take another avatar of the same frame rate. Raises ``RuntimeError`` while something is said."""
        if not self.idle:
            raise RuntimeError("an avatar is changed between turns")
        self.playout, self._sink = playout, sink
        self._offset.use(playout)
        self._anchor_told = None

    def feed(self, pcm: NDArray[np.int16], now: float) -> None:
        """Audio, 16 kHz mono."""
        if not len(pcm):
            return
        turn = self._turn
        if turn is not None and not turn.ended:
            self._push(turn, pcm, now)
            return
        if not self._waiting or self._waiting[-1].ended:
            self._waiting.append(WaitingTurn())
        self._waiting[-1].chunks.append(pcm)
        self._waiting[-1].last_fed_at = now
        if turn is None or turn.closed:
            self._start_waiting(0)

    def end(self) -> None:
        """The voice has said what it had to say."""
        if self._waiting:
            self._waiting[-1].ended = True
        elif self._turn is not None:
            self._end(self._turn)

    def interrupt(self) -> None:
        """Silence now, and the body from the next picture on."""
        if self._turn is None and not self._waiting:
            return
        self.epoch += 1
        self._turn = self._spoken = None
        self._waiting.clear()
        self.playout.interrupt()
        self._sink.interrupt(self.epoch)

    def on_frame(self, frame: Frame) -> None:
        """A frame of the stream."""
        self.playout.on_frame(frame)
        if frame.turn_id == self._turn_id:
            self._offset.on_frame(frame)

    def tick(self, now: float) -> Picture:
        """The picture of this tick, one per ``1 / fps`` seconds; ``now`` is when it is due."""
        sample = self._heard(now)
        picture = self.playout.tick(sample)
        self.ticks += 1
        turn = self._turn
        self.heard = None if sample is None else (self._turn_id, sample)
        if turn is None:
            return picture
        if sample is not None:
            self._tell_anchor(self.playout.anchor)  # it has moved where the body was elsewhere than foreseen
            self._sink.playhead(sample)
            self._keep_up(turn, sample)
        elif self.ticks <= turn.start:
            self._sink.playhead(-frame_start(turn.start - self.ticks + 1, self._fps))
        elif turn.closed and self.playout.turn_id != self._turn_id:
            self._turn, self._spoken = None, turn.origin + turn.fed
        return picture

    # -- inside --

    def _heard(self, now: float) -> int | None:
        turn = self._turn
        if turn is None:
            return None
        if self.playback is not None and not self._follow(turn, self.playback, now):
            return None
        if self.ticks < turn.start:
            return None
        sample = turn.at(self.ticks)
        self._end_if_silent(turn, turn.fed - sample, now)
        left = frame_at(max(0, turn.fed - sample + frame_start(1, self._fps) - 1), self._fps)
        if turn.ended and (not left or (self._waiting and left <= _LEAD_TICKS)):
            if not turn.closed:
                turn.closed = True
                self.playout.end_turn(turn.fed)
            self._sink.playhead(sample)
            if self._waiting:
                self._start_waiting(left)
            return None
        turn.dry = not left
        return None if turn.dry else sample

    def _follow(self, turn: PacedTurn, playback: Playback, now: float) -> bool:
        """Put the turn where its voice is; False while it is not heard."""
        frame = frame_start(1, self._fps)
        at = round(playback.heard(now) * SAMPLE_RATE) - turn.origin
        left = turn.fed - at
        if not turn.begun and at <= 0:
            turn.start = max(turn.start, self.ticks + 1)
            if now - max(playback.ended_at or 0.0, turn.last_fed_at) > _UNHEARD_S:
                self.interrupt()
            return False
        self._end_if_silent(turn, left, now)
        over = playback.ended_at is not None and now >= playback.ended_at
        if turn.closed or (turn.ended and left <= (4 * frame if over else 0)):
            return True  # what is left goes on by itself
        if playback.silent(now) or left <= 0:
            turn.dry = True
            if over and now - max(playback.ended_at or 0.0, turn.last_fed_at) > _PATIENCE_S:
                self.interrupt()
            return False
        at -= frame_start(self._offset.ticks, self._fps)
        if at < 0:
            return False
        if self.ticks < turn.start or turn.dry or abs(at - turn.at(self.ticks)) > _DRIFT * frame:
            turn.dry = False
            self._anchor(turn, frame_start(frame_at(at + frame // 2, self._fps), self._fps), 0)
        turn.begun = True
        return True

    def _start_waiting(self, ticks_ahead: int) -> None:
        """Start the turn that waits, so that it is heard in ``ticks_ahead`` ticks or as soon as it can be."""
        ahead = max(ticks_ahead, self._offset.ticks)
        waiting = self._waiting.popleft()
        self._turn_id += 1
        self._offset.begin_turn()
        before, turn = self._turn, PacedTurn(self._fps, self.ticks + ahead)
        self._turn = turn
        if self.playback is not None:
            turn.origin = self._origin(before, self.playback)
        self._sink.start_turn(self._turn_id, self.epoch)
        self._tell_anchor(self.playout.begin_turn(self._turn_id, self.epoch, ahead))
        self._sink.playhead(-frame_start(ahead, self._fps))
        for pcm in waiting.chunks:
            self._push(turn, pcm, waiting.last_fed_at)
        if waiting.ended:
            self._end(turn)

    def _origin(self, before: PacedTurn | None, playback: Playback) -> int:
        """Samples of the voice before the next turn."""
        boundary = round(playback.boundary * SAMPLE_RATE)
        if before is not None:
            self._spoken = before.origin + before.fed
        elif self._spoken is None or playback.ended_at or boundary > self._spoken - SAMPLE_RATE // 4:
            return boundary
        return self._spoken

    def _push(self, turn: PacedTurn, pcm: NDArray[np.int16], now: float) -> None:
        if turn.dry and self.playback is None:
            turn.dry = False
            self._anchor(turn, turn.fed, 0)
        turn.fed += len(pcm)
        turn.last_fed_at = now
        self._sink.push_audio(pcm)

    def _end_if_silent(self, turn: PacedTurn, left: int, now: float) -> None:
        if self.playback is not None and self.playback.ends_told:
            return
        if not turn.ended and left < _NEAR_END and now - turn.last_fed_at > _QUIET_S:
            self._end(turn)

    def _end(self, turn: PacedTurn) -> None:
        if not turn.ended:
            turn.ended = True
            self._sink.end_turn()

    def _anchor(self, turn: PacedTurn, sample: int, ticks_ahead: int) -> None:
        turn.base, turn.start = sample, self.ticks + ticks_ahead
        self._tell_anchor(self.playout.resume(sample, ticks_ahead))
        self._offset.anchored()

    def _tell_anchor(self, anchor: TurnAnchor | None) -> None:
        if anchor is not None and anchor != self._anchor_told:
            self._anchor_told = anchor
            self._sink.anchor(anchor.sample, anchor.loop_index)

    def _keep_up(self, turn: PacedTurn, sample: int) -> None:
        """Fall behind once where every frame comes too late."""
        # Where the audio is there, the server catches up with the voice.
        ahead = self.playback is not None and (turn.ended or turn.fed - sample > _ENOUGH)
        behind = self._offset.observe(sample, may_grow=not ahead)
        if behind:
            back = max(0, sample + frame_start(1, self._fps) - frame_start(behind, self._fps))
            self._anchor(turn, back, 0)
