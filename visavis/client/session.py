"""The protocol of one session: what is said to whichever server it has, and what is made of the answers. Sans-IO.

``now`` is seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction

from visavis.client.messages import (
    Event,
    Interrupt,
    Interrupted,
    Request,
    ServerMessage,
    TurnFinished,
    TurnRejected,
)
from visavis.client.model import Opened
from visavis.client.turn import HISTORY_S, ResumableTurn
from visavis.frames import SAMPLE_RATE, Frame

FINISH_S = 2.0
"""A turn is reported finished this long after its last sample was heard, whatever the server says."""

_INTERRUPT_S = 1.0
_LOOK_S = 0.1


class SessionProtocol:
    """The client's end of one session: its turns, across all the servers that serve it one after the other."""

    def __init__(self, fps: Fraction) -> None:
        self.epoch = 0
        self.rejected = False  # this server has no slot for the turn
        self.dropped_samples = 0
        self.opened: Opened | None = None  # by the server of the moment
        self._fps = fps
        self._turn: ResumableTurn | None = None
        self._earlier: deque[ResumableTurn] = (
            deque()
        )  # to be told to the end before the turn, or to be reported
        self._interrupt: int | None = None
        self._interrupted: tuple[int, float] | None = None  # epoch not yet confirmed, deadline
        self._waiting_since: float | None = None  # of :attr:`_waited`, moved on by every look
        self._waited = 0.0

    # -- from the caller --

    @property
    def turn(self) -> ResumableTurn | None:
        """The turn begun last, until it is finished or interrupted."""
        return self._turn

    @property
    def busy(self) -> bool:
        """A turn still needs its server."""
        return self._turn is not None and self._turn.resumable

    @property
    def unfinished(self) -> bool:
        """Frames of the turn are still to come, be it those that close the mouth after its audio."""
        return self._turn is not None and not (self._turn.complete or self._turn.finished)

    def start_turn(self, turn_id: int, epoch: int) -> None:
        """A turn begins. Raises ``ValueError`` on an epoch that is over or an id that was just used."""
        if epoch < self.epoch:
            raise ValueError(f"epoch {epoch} is over, the conversation is at {self.epoch}")
        if self._turn is not None and self._turn.turn_id == turn_id:
            raise ValueError(f"turn {turn_id} has been started")
        self.epoch = epoch
        if self._turn is not None:
            self._turn.ended = True
            if self.rejected:
                self._turn.mute()
            self._earlier.append(self._turn)
            self._forget_earlier()
        history = max(HISTORY_S, -(-self.opened.history_ms // 1000) if self.opened else 0)
        self._turn = ResumableTurn(turn_id, epoch, self._fps, history)
        self.rejected = False
        self._waiting_since = None

    def push_audio(self, pcm: bytes | memoryview, now: float) -> None:
        """Audio of the turn, s16le; without effect where none is open."""
        turn = self._turn
        if turn is None or turn.ended:
            return
        if turn.first_audio_at is None:
            turn.first_audio_at = now
        self.dropped_samples += turn.push(pcm)

    def end_turn(self) -> None:
        """No more audio comes in the turn."""
        if self._turn is not None:
            self._turn.ended = True

    def anchor(self, sample: int, loop_index: int) -> None:
        """The body frame that is on screen when ``sample`` of the turn is heard."""
        if self._turn is not None:
            self._turn.set_anchor(sample, loop_index)

    def playhead(self, sample: int, playing: bool, now: float) -> bool:
        """What is heard now, about once a frame; returns whether there is something to send."""
        turn = self._turn
        if turn is None:
            return False
        news = turn.set_head(sample, playing)
        if turn.ended and playing:
            turn.finish_at = now + (turn.end - sample) / SAMPLE_RATE + FINISH_S
        for earlier in self._earlier:
            if earlier.finish_at is None:  # never heard
                earlier.finish_at = now + FINISH_S
        return news

    def interrupt(self, epoch: int, now: float) -> list[Event]:
        """Everything older than ``epoch`` is dead."""
        if epoch <= self.epoch and self._turn is None:
            return []
        self.epoch = max(epoch, self.epoch)
        self._turn = None
        self._earlier.clear()
        self._waiting_since = None
        self.rejected = False
        if self.opened is None:
            return [Interrupted(self.epoch)]
        self._interrupt = self.epoch
        self._interrupted = (self.epoch, now + _INTERRUPT_S)
        return []

    # -- the server of the moment --

    def attach(self, opened: Opened) -> int | None:
        """A server is there; returns the turn that resumes on it."""
        self.opened = opened
        self.rejected = False
        self._waiting_since = None
        for earlier in self._earlier:  # begun while nobody was there
            earlier.mute()
        turn = self._turn
        if turn is None:
            return None
        if not turn.resumable:
            turn.mute()
            return None
        known = turn.first_audio_at is not None
        turn.restart()
        return turn.turn_id if known else None

    def detach(self) -> list[Event]:
        """The server is gone; returns reports that it would have made."""
        self.opened = None
        self._interrupt = None
        events: list[Event] = [TurnFinished(t.turn_id, t.frames, 0) for t in self._earlier if not t.finished]
        self._earlier.clear()
        if self._interrupted is not None:
            events.append(Interrupted(self._interrupted[0]))
            self._interrupted = None
        turn = self._turn
        if turn is not None and not turn.resumable and not turn.finished:
            events.append(self._finish(turn))
        return events

    def next_request(self) -> Request | None:
        """What to send next, ``None`` when there is nothing."""
        if self.opened is None:
            return None
        if self._interrupt is not None:
            epoch, self._interrupt = self._interrupt, None
            return Interrupt(epoch)
        for turn in self._earlier:
            request = turn.next_request()
            if request is not None:
                return request
        self._forget_earlier()
        return None if self._turn is None or self.rejected else self._turn.next_request()

    def on_message(self, message: ServerMessage) -> list[Event]:
        """What the caller is to hear of a server's message."""
        match message:
            case Frame():
                return self._on_frame(message)
            case TurnRejected(turn_id):
                if self._turn is not None and self._turn.turn_id == turn_id:
                    self.rejected = True  # the stream tells the caller once nobody else takes the turn
                return []
            case TurnFinished(turn_id, _, late):
                for turn in (*self._earlier, self._turn):
                    if turn is not None and turn.turn_id == turn_id:
                        turn.mute()
                        events: list[Event] = [] if turn.finished else [self._finish(turn, late)]
                        self._forget_earlier()
                        return events
                return []
            case Interrupted(epoch):
                if self._interrupted is None or epoch < self._interrupted[0]:
                    return []
                self._interrupted = None
                return [message]
            case _:
                return [message]

    def _on_frame(self, frame: Frame) -> list[Event]:
        if frame.epoch < self.epoch:
            return []
        for turn in (self._turn, *self._earlier):
            if turn is not None and turn.turn_id == frame.turn_id and turn.epoch == frame.epoch:
                break
        else:
            return []
        turn.on_frame(frame)
        self._waiting_since = None
        return [frame]

    # -- time --

    def check(self, now: float) -> list[Event]:
        """Reports whose time has come without the server; call at :attr:`deadline` at the latest."""
        events: list[Event] = []
        if self._interrupted is not None and now >= self._interrupted[1]:
            events.append(Interrupted(self._interrupted[0]))
            self._interrupted = None
        events += [
            self._finish(t) for t in self._unreported() if t.finish_at is not None and now >= t.finish_at
        ]
        self._forget_earlier()
        return events

    @property
    def deadline(self) -> float | None:
        """When :meth:`check` is wanted at the latest."""
        times = [t.finish_at for t in self._unreported() if t.finish_at is not None]
        if self._interrupted is not None:
            times.append(self._interrupted[1])
        return min(times, default=None)

    def stalled(self, now: float, limit_s: float) -> bool:
        """Frames have been due for ``limit_s`` and none came; look once a frame.

        A longer while between two looks is a pause of our own machine: frames may lie unread, so it counts little.
        """
        turn, opened = self._turn, self.opened
        if turn is None or opened is None or self.rejected or not turn.due(opened):
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waited = 0.0
        else:
            self._waited += min(now - self._waiting_since, _LOOK_S)
        self._waiting_since = now
        return self._waited >= limit_s

    def _unreported(self) -> list[ResumableTurn]:
        return [t for t in (*self._earlier, self._turn) if t is not None and not t.finished]

    def _finish(self, turn: ResumableTurn, late: int = 0) -> TurnFinished:
        turn.finished = True
        return TurnFinished(turn.turn_id, turn.frames, late)

    def _forget_earlier(self) -> None:
        """Let go of those that were reported and of which nobody is to be told any more."""
        if any(t.finished for t in self._earlier):
            kept = (t for t in self._earlier if not t.finished or (self.opened is not None and not t.told))
            self._earlier = deque(kept)
