"""Which picture is due at this video tick: one body, one loop index, and the mouths of the current turn.

Sans-IO: no clock, no queue, no pixels are copied. The media worker and the providers share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from visavis.frames import SAMPLE_RATE, Frame, frame_at

ChooseJump = Callable[[int, tuple[int, ...]], int | None]
"""Called while idle at a loop index where jumps start, with their targets; ``None``: play on."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What to show at one tick.

    ``loop_index``: where the body is. ``hold``: the last picture again, whole. Otherwise the picture is body
    frame ``loop_index``, with ``frame`` pasted over it where there is one. ``fade``, in (0, 1), is a weight:
    without a frame, of the last picture that was no such fade, against the body frame; with a frame, of the
    plain body frame against the pasted one (the mouth comes back softly).
    """

    loop_index: int
    frame: Frame | None = None
    hold: bool = False
    fade: float | None = None


@dataclass(frozen=True, slots=True)
class TurnAnchor:
    """The loop index that is on screen when ``sample`` of the turn is heard; tell the server."""

    turn_id: int
    epoch: int
    sample: int
    loop_index: int


@dataclass(slots=True)
class PlayoutStats:
    """Counters over the playout's life, in ticks; ``freeze_s`` is time spent on held pictures."""

    shown: int = 0  # frames of a turn on screen at their own tick
    late: int = 0  # ticks of a turn whose frame was not there
    held: int = 0
    starved: int = 0  # times the mouth was faded away because nothing came
    dropped: int = 0  # frames that came after their tick
    misplaced: int = 0  # frames for another loop index than the body's at that tick
    stale: int = 0  # frames of another turn or an older epoch
    freeze_s: float = 0.0


@dataclass(slots=True)
class _Turn:
    turn_id: int
    epoch: int
    anchors: list[tuple[int, int, int]]  # (frame, sample, loop index), ascending
    frames: dict[int, Frame]
    now: int = -1  # frame due at the last tick of the turn
    started: bool = False
    end: int | None = None  # samples, once known


class Playout:
    """Holds the frames of the current turn by position and knows where the body is.

    ``loop_length`` body frames play at ``fps``. ``hold_s`` is how long a missing frame is bridged by the last
    picture, ``fade_frames`` how long the mouth takes to fade away after that, and to come back.
    ``choose_jump`` may leave the loop at its ``jumps`` (from, to), only while no turn is begun.
    """

    def __init__(
        self,
        loop_length: int,
        fps: Fraction,
        *,
        jumps: Sequence[tuple[int, int]] = (),
        choose_jump: ChooseJump | None = None,
        loop_index: int = 0,
        hold_s: float = 0.2,
        fade_frames: int = 3,
    ) -> None:
        if loop_length < 1:
            raise ValueError("a loop has at least one body frame")
        self.loop_length = loop_length
        self.fps = fps
        self.stats = PlayoutStats()
        self._most = max(8, round(4 * fps))  # frames kept; a server's window is a tenth of that
        self._frame = SAMPLE_RATE * fps.denominator  # one frame, in 1/numerator samples
        self._round = self._frame // 2
        self._half = int(SAMPLE_RATE / fps / 2)
        self._hold_ticks = max(1, round(hold_s * fps))
        self._steps = fade_frames + 1  # at level 0 the mouth is whole, at this level it is gone
        self._choose = choose_jump
        self._jumps: dict[int, tuple[int, ...]] = {}
        for start, target in jumps:
            self._jumps[start] = (*self._jumps.get(start, ()), target)
        self._index = loop_index % loop_length
        self._turn: _Turn | None = None
        self._next: _Turn | None = None
        self._level = 0
        self._missing = 0
        self._mouth_shown = False  # the last picture had a mouth that a body frame would make jump
        self._plain = True  # the last picture was a body frame and nothing else

    # -- where the body is --

    @property
    def loop_index(self) -> int:
        """The body frame of the next tick."""
        return self._index

    def index_in(self, ticks: int) -> int:
        """The body frame ``ticks`` ticks after the next one, if no jump is taken until then."""
        return (self._index + ticks) % self.loop_length

    def skip(self, ticks: int) -> None:
        """Ticks that the clock missed: the body moves on all the same."""
        self._index = (self._index + ticks) % self.loop_length

    # -- turns --

    @property
    def turn_id(self) -> int | None:
        """The turn begun last, until its closing frames are over or it is interrupted."""
        turn = self._next or self._turn
        return turn.turn_id if turn else None

    @property
    def idle(self) -> bool:
        """No turn is begun: every picture is a body frame, and the last one was."""
        return self._turn is None and self._next is None and self._plain

    @property
    def buffered(self) -> int:
        """Frames that wait for their tick."""
        return sum(len(t.frames) for t in (self._turn, self._next) if t)

    def ready(self, sample: int) -> bool:
        """The frame that covers ``sample`` of the turn is here, or none is waited for."""
        turn = self._next or self._turn
        return turn is None or frame_at(sample, self.fps) in turn.frames

    def begin_turn(self, turn_id: int, epoch: int, ticks_ahead: int) -> TurnAnchor:
        """A turn whose sample 0 is heard ``ticks_ahead`` ticks after the next one; returns its first anchor.

        From the next ``tick`` with a sample on, samples belong to this turn. Closing frames of the turn
        before go on until then.
        """
        anchor = TurnAnchor(turn_id, epoch, 0, self.index_in(ticks_ahead))
        self._next = _Turn(turn_id, epoch, [(0, 0, anchor.loop_index)], {})
        return anchor

    def resume(self, sample: int, ticks_ahead: int) -> TurnAnchor | None:
        """Anchor the rest of the turn anew: after an underrun, ``sample`` is heard in ``ticks_ahead`` ticks.

        Returns what to tell the server, ``None`` where no turn is under way.
        """
        turn = self._next or self._turn
        return self._anchor(turn, sample, self.index_in(ticks_ahead)) if turn else None

    def end_turn(self, samples: int) -> None:
        """The turn's audio ends after ``samples``; ``tick(None)`` then goes on through the closing frames."""
        turn = self._next or self._turn
        if turn is None:
            return
        turn.end = samples
        if not samples and not turn.started:
            self._next = None

    def interrupt(self) -> None:
        """Drop the turn and its frames at once: from the next tick on there is the body and nothing else.

        A blended picture in between would leave the mouth open for up to two more frames.
        """
        self._turn = self._next = None
        self._level, self._mouth_shown = 0, False

    def on_frame(self, frame: Frame) -> bool:
        """Take a frame of the stream; False where it has no place and was counted and dropped."""
        for turn in (self._turn, self._next):
            if turn and frame.turn_id == turn.turn_id and frame.epoch == turn.epoch:
                break
        else:
            self.stats.stale += 1
            return False
        k = frame_at(frame.sample, self.fps)
        if k <= turn.now:
            self.stats.dropped += 1
            return False
        if frame.loop_index != self._expected(turn, k) or len(turn.frames) >= self._most:
            self.stats.misplaced += 1
            return False
        turn.frames[k] = frame
        return True

    # -- the tick --

    def tick(self, sample: int | None = None) -> Picture:
        """The picture of this tick; the body moves on by one.

        ``sample`` is the sample of the turn that is heard at this tick, ``None`` while no audio plays.
        """
        picture = self._tick(sample)
        self._plain = picture.frame is None and picture.fade is None and not picture.hold
        return picture

    def _tick(self, sample: int | None) -> Picture:
        index = self._index
        if sample is not None and sample < 0:
            sample = None
        if sample is not None and self._next is not None:
            self._turn, self._next = self._next, None
        turn = self._turn
        k = self._due_frame(turn, sample, index) if turn else None
        self._advance(playing=turn is not None or self._next is not None)
        if turn is None or k is None:
            return self._rest(index)
        frame = self._take(turn, k)
        if frame is None:
            return self._absent(turn, k, index)
        if frame.last:
            self._turn = None
        return self._present(frame, index)

    def _advance(self, playing: bool) -> None:
        index, self._index = self._index, (self._index + 1) % self.loop_length
        if playing or self._choose is None or index not in self._jumps:
            return
        if (target := self._choose(index, self._jumps[index])) in self._jumps[index] and target is not None:
            self._index = target

    def _due_frame(self, turn: _Turn, sample: int | None, index: int) -> int | None:
        """The frame due now, re-anchored where the body is not at the loop index that was foreseen."""
        if sample is None:
            if turn.end is None:
                return None  # an underrun
            if self._expected(turn, turn.now + 1) != index:
                self._turn = None  # the body has moved on: these closing frames have no place any more
                return None
            turn.now += 1
            return turn.now
        anchor = self._applying(turn, sample)
        moved = (sample - anchor[1]) * self.fps.numerator + self._round  # to the nearest frame
        k = anchor[0] + moved // self._frame
        if self._expected(turn, k) != index:
            self._anchor(turn, sample, index)
            k = frame_at(sample, self.fps)
        turn.started = True
        turn.now = k
        return k

    def _take(self, turn: _Turn, k: int) -> Frame | None:
        frame = turn.frames.pop(k, None)
        for old in [j for j in turn.frames if j < k]:
            del turn.frames[old]
            self.stats.dropped += 1
        while len(turn.anchors) > 1 and turn.anchors[1][0] <= k:
            del turn.anchors[0]
        return frame

    # -- anchors --

    @property
    def anchor(self) -> TurnAnchor | None:
        """The anchor set last. It moves by itself when a tick finds the body elsewhere than foreseen."""
        turn = self._next or self._turn
        if turn is None:
            return None
        _, sample, index = turn.anchors[-1]
        return TurnAnchor(turn.turn_id, turn.epoch, sample, index)

    def _anchor(self, turn: _Turn, sample: int, loop_index: int) -> TurnAnchor:
        k = frame_at(sample, self.fps)
        turn.anchors = [a for a in turn.anchors if a[0] < k]
        turn.anchors.append((k, sample, loop_index))
        turn.now = min(turn.now, k - 1)  # a frame cut in two by an underrun is due twice
        for j in [j for j, f in turn.frames.items() if f.loop_index != self._expected(turn, j)]:
            del turn.frames[j]
            self.stats.misplaced += 1
        return TurnAnchor(turn.turn_id, turn.epoch, sample, loop_index)

    def _applying(self, turn: _Turn, sample: int) -> tuple[int, int, int]:
        return next((a for a in reversed(turn.anchors) if a[1] <= sample + self._half), turn.anchors[0])

    def _expected(self, turn: _Turn, k: int) -> int:
        anchor = next((a for a in reversed(turn.anchors) if a[0] <= k), turn.anchors[0])
        return (anchor[2] + k - anchor[0]) % self.loop_length

    # -- pictures --

    def _present(self, frame: Frame, index: int) -> Picture:
        self.stats.shown += 1
        self._missing = 0
        shows = frame if frame.pixels is not None else None
        if frame.kind == "body":
            if 0 < self._level < self._steps and self._mouth_shown:
                return self._fade_out(index)
            self._level, self._mouth_shown = 0, False
            return Picture(index, shows)
        self._level = max(0, self._level - 1)
        self._mouth_shown = True
        return Picture(index, shows, fade=self._level / self._steps or None)

    def _absent(self, turn: _Turn, k: int, index: int) -> Picture:
        """The due frame is not there: hold, after a while let the mouth fade into the moving body."""
        self._missing += 1
        over = turn.end is not None and k > frame_at(max(0, turn.end - 1), self.fps)
        if over:
            if not turn.frames and self._missing >= self._hold_ticks:
                self._turn = None  # the closing frames never came
        else:
            self.stats.late += 1
        if not self._mouth_shown:
            if self._missing > self._hold_ticks:
                self._level = self._steps
            return Picture(index)
        if self._missing <= self._hold_ticks and self._level == 0:
            self.stats.held += 1
            self.stats.freeze_s = float(self.stats.held / self.fps)
            return Picture(index, hold=True)
        if self._level == 0:
            self.stats.starved += 1
        return self._fade_out(index)

    def _rest(self, index: int) -> Picture:
        """Nothing to wait for: the body, after a soft end of whatever mouth is still open."""
        self._missing = 0
        if self._mouth_shown:
            return self._fade_out(index)
        if self._turn is None:
            self._level = 0
        return Picture(index)

    def _fade_out(self, index: int) -> Picture:
        self._level += 1
        if self._level >= self._steps:
            self._level, self._mouth_shown = self._steps, False
            return Picture(index)
        return Picture(index, fade=1 - self._level / self._steps)
