"""The playout: which picture is due at this video tick, of one body and the mouths of the current turn.

Sans-IO: no clock, no queue, no pixels are copied. The media worker and the providers share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from visavis.frames import Frame
from visavis.playout.loop import ChooseJump, LoopPosition
from visavis.playout.mouth import Mouth
from visavis.playout.picture import Picture, PlayoutStats, TurnAnchor
from visavis.playout.timeline import Timeline

__all__ = ["ChooseJump", "Picture", "Playout", "PlayoutStats", "TurnAnchor"]


class Playout:
    """The playout of one conversation: holds the frames of its turn by position, knows where the body is.

    ``loop_length`` body frames play at ``fps``. ``hold_s`` is how long a missing frame is bridged by the last
    picture, ``fade_frames`` how long the mouth takes to fade away after that, and to come back.
    ``choose_jump`` may leave the loop at its ``jumps`` (from, to), only while no turn is begun; with
    ``follows_path`` frames of a turn may, too, or stay where jumps lead to. Samples are those of a turn, 16 kHz
    mono. Raises ``ValueError`` where the loop has no frame.
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
        follows_path: bool = False,
    ) -> None:
        self.loop_length = loop_length
        self.fps = fps
        self.stats = PlayoutStats()
        self._loop = LoopPosition(loop_length, jumps, choose_jump, loop_index)
        self._jumps = frozenset((int(a), int(b)) for a, b in jumps) if follows_path else frozenset()
        self._mouth = Mouth(fps, hold_s, fade_frames, self.stats)
        self._turn: Timeline | None = None
        self._next: Timeline | None = None  # begun, and not heard yet
        self._plain = True  # the last picture was a body frame and nothing else

    # -- where the body is --

    @property
    def loop_index(self) -> int:
        """The body frame of the next tick."""
        return self._loop.index

    def index_in(self, ticks: int) -> int:
        """The body frame ``ticks`` ticks after the next one, if no jump is taken until then."""
        return self._loop.index_in(ticks)

    def skip(self, ticks: int) -> None:
        """Ticks that the clock missed: the body moves on all the same."""
        self._loop.skip(ticks)

    # -- turns --

    @property
    def turn_id(self) -> int | None:
        """The turn begun last, until its closing frames are over or it is interrupted."""
        turn = self._newest
        return turn.turn_id if turn else None

    @property
    def idle(self) -> bool:
        """No turn is begun: every picture is a body frame, and the last one was."""
        return self._newest is None and self._plain

    @property
    def buffered(self) -> int:
        """Frames that wait for their tick."""
        return sum(len(t.frames) for t in (self._turn, self._next) if t)

    @property
    def anchor(self) -> TurnAnchor | None:
        """The anchor set last. It moves by itself when a tick finds the body elsewhere than foreseen."""
        turn = self._newest
        return turn.anchor if turn else None

    def ready(self, sample: int) -> bool:
        """The frame that covers ``sample`` of the turn is here, or none is waited for."""
        turn = self._newest
        return turn is None or turn.has(sample)

    def begin_turn(self, turn_id: int, epoch: int, ticks_ahead: int) -> TurnAnchor:
        """A turn whose sample 0 is heard ``ticks_ahead`` ticks after the next one; returns its first anchor.

        From the next ``tick`` with a sample on, samples belong to this turn. Closing frames of the turn
        before go on until then.
        """
        index = self._foreseen(ticks_ahead)
        self._next = Timeline(turn_id, epoch, index, self.loop_length, self.fps, self.stats, self._jumps)
        return self._next.anchor

    def resume(self, sample: int, ticks_ahead: int) -> TurnAnchor | None:
        """Anchor the rest of the turn anew: ``sample`` is heard in ``ticks_ahead`` ticks, later than foreseen.

        Returns what to tell the server, ``None`` where no turn is under way.
        """
        turn = self._newest
        return turn.set_anchor(sample, self._foreseen(ticks_ahead)) if turn else None

    def _foreseen(self, ticks_ahead: int) -> int:
        """The body frame then, where closing frames may lead elsewhere until then."""
        closing = self._turn.index_in(ticks_ahead) if self._turn else None
        return self.index_in(ticks_ahead) if closing is None else closing

    def end_turn(self, samples: int) -> None:
        """The turn's audio ends after ``samples``; ``tick(None)`` then goes on through the closing frames."""
        turn = self._newest
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
        self._mouth.shut()

    def unseen(self) -> None:
        """Nobody saw the last picture: the next one has nothing to hold or to fade from."""
        self._mouth.shut()
        self._plain = True

    def on_frame(self, frame: Frame) -> bool:
        """Take a frame of the stream; False where it has no place and was counted and dropped."""
        for turn in (self._turn, self._next):
            if turn and frame.turn_id == turn.turn_id and frame.epoch == turn.epoch:
                return turn.put(frame)
        self.stats.stale += 1
        return False

    @property
    def _newest(self) -> Timeline | None:
        return self._next or self._turn

    # -- the tick --

    def tick(self, sample: int | None = None) -> Picture:
        """The picture of this tick; the body moves on by one.

        ``sample`` is the sample of the turn that is heard at this tick, ``None`` while no audio plays.
        """
        picture = self._tick(None if sample is not None and sample < 0 else sample)
        self._plain = picture.frame is None and picture.fade is None and not picture.hold
        return picture

    def _tick(self, sample: int | None) -> Picture:
        if sample is not None and self._next is not None:
            self._turn, self._next = self._next, None
        turn = self._turn
        planned = turn.planned(sample) if turn else None
        if planned is not None:
            self._loop.follow(planned)
        index = self._loop.index
        k = self._due(turn, sample, index) if turn else None
        self._loop.advance(may_jump=turn is None and self._next is None)
        if turn is None or k is None:
            return self._mouth.rest(index, between_turns=self._turn is None)
        frame = turn.take(k)
        if frame is None:
            return self._absent(turn, k, index)
        if frame.last:
            self._turn = None
        return self._mouth.show(frame, index)

    def _due(self, turn: Timeline, sample: int | None, index: int) -> int | None:
        """The frame due now; ``None`` in an underrun, and after closing frames that have no place any more."""
        if sample is not None:
            return turn.heard(sample, index)
        if turn.end is None:
            return None
        k = turn.closing(index)
        if k is None:
            self._turn = None
        return k

    def _absent(self, turn: Timeline, k: int, index: int) -> Picture:
        picture = self._mouth.miss(index)
        if not turn.is_over(k):
            self.stats.late += 1
        elif not turn.frames and self._mouth.given_up:
            self._turn = None  # the closing frames never came
        return picture
