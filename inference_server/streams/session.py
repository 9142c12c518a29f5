"""One stream: its turns, epochs, playhead and window. Sans-IO and of no transport.

Requests come in as method calls with ``now`` (monotonic seconds); what has to be said leaves through ``say``,
what the engine has to know through ``command``. Frames to draw are asked for with :meth:`Session.turns_due`
and come back through :meth:`Session.rendered`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from inference_server.engine.messages import Append, CloseTrack, EndTrack, Message, OpenTrack
from inference_server.errors import RequestError, invalid
from inference_server.streams.ahead import AheadBudget
from inference_server.streams.pace import Pace
from inference_server.streams.path import BodySegments
from inference_server.streams.responses import (
    FrameReady,
    GoAway,
    Interrupted,
    Response,
    TurnAccepted,
    TurnFinished,
    TurnRejected,
)
from inference_server.streams.turn import FIRST_FRAMES, FrameJob, TurnFrames
from visavis.frames import SAMPLE_RATE, Rect, frame_start

STALE_S = 1.0  # a rendered turn whose client says no more is finished after this


class Slots(Protocol):
    """Speaking slots: ``SpeakingSlots``, or those of a stream's devices."""

    @property
    def total(self) -> int:
        """How many there are."""

    def take(self, fps: Fraction) -> bool:
        """Take what a turn at ``fps`` needs, if it is there."""

    def give(self, fps: Fraction) -> None:
        """Give it back."""


@dataclass(frozen=True, slots=True)
class SessionParameters:
    """What a stream agreed on at Open."""

    session_id: str
    avatar_id: str
    fps: Fraction
    loop_length: int
    closing_frames: int
    window: int  # samples
    audio_bytes: int
    turn_samples: int
    client: str = ""
    segments: BodySegments | None = None  # of the body, where the client follows a path through it


class Session:
    """See the module's docstring."""

    def __init__(
        self,
        parameters: SessionParameters,
        slots: Slots,
        *,
        new_track: Callable[[], int],
        command: Callable[[Message], None],
        say: Callable[[Response], None],
        first_frame: Callable[[float], None] = lambda seconds: None,
        budget: AheadBudget | None = None,
        share: Callable[[], str] = lambda: "",
    ) -> None:
        self.parameters = parameters
        self.epoch = 0
        self.frames = 0
        self.late = 0
        self._level: float | None = None  # of the voice, as the engine has told it last
        self._played: list[int] = []  # segments of the body, by all turns
        self._slots = slots
        self.holds_slot = False
        self._share = share
        self._new_track = new_track
        self._command = command
        self._say = say
        self._first_frame = first_frame
        self._turns: dict[int, TurnFrames] = {}  # alive, in order of their start
        self._past: deque[int] = deque(maxlen=1024)  # finished, refused or interrupted
        self._refusal: str | None = None
        self._budget = budget
        self._pace: Pace | None = None

    # --- requests -------------------------------------------------------------------------------------

    def turn_start(self, turn_id: int, epoch: int, render_from: int, now: float) -> None:
        """A new turn; answers TurnAccepted or TurnRejected."""
        if turn_id in self._turns or turn_id in self._past:
            raise invalid(f"TurnStart: turn {turn_id} was started before: number every turn anew.")
        if epoch < self.epoch:
            self._past.append(turn_id)  # crossed the client's own Interrupt
            return
        if epoch > self.epoch:
            self._raise_epoch(epoch)
        for turn in self._turns.values():
            if not turn.ended:
                raise invalid(
                    f"TurnStart: turn {turn.turn_id} has not ended: send EndOfTurn or Interrupt before the next."
                )
        if reason := self._refusal or self._take_slot():
            self._past.append(turn_id)
            self._say(TurnRejected(turn_id, reason))
            return
        p = self.parameters
        if self._pace is None:
            window = int(p.window * p.fps / SAMPLE_RATE)
            self._pace = Pace(p.fps, 2 * window + 2 * FIRST_FRAMES, now)
        self._turns[turn_id] = TurnFrames(
            turn_id,
            epoch,
            self._new_track(),
            fps=p.fps,
            closing=p.closing_frames,
            window=p.window,
            loop_length=p.loop_length,
            render_from=render_from,
            now=now,
            pace=self._pace,
            budget=self._budget,
            segments=p.segments,
            played=self._played,
        )
        self._say(TurnAccepted(turn_id))

    def audio(self, turn_id: int, epoch: int, first_sample: int, pcm: bytes, now: float) -> None:
        """s16le mono 16 kHz, contiguous with what came before.

        A message may end in the middle of a sample: the byte waits for the next message, whose ``first_sample`` is
        that sample's number, or is dropped with the turn's end.
        """
        limit = self.parameters.audio_bytes
        if len(pcm) > limit:
            raise invalid(
                f"Audio: {len(pcm)} bytes is more than the {limit} bytes of one message: send shorter ones."
            )
        turn = self._turn("Audio", turn_id, epoch)
        if turn is None or not pcm:
            return
        if turn.ended:
            raise invalid(f"Audio: turn {turn_id} has ended: nothing may follow its end.")
        turn.last_audio = now
        if reason := self._take_slot():  # it was given back while nothing came
            self._say(TurnRejected(turn_id, reason))
            self._end(turn)
            return
        if turn.origin is None:
            turn.begin(first_sample, now)
            self._command(
                OpenTrack(
                    turn.track,
                    self.parameters.avatar_id,
                    turn.fps.as_integer_ratio(),
                    first_sample,
                    self.parameters.client,
                    self._level,
                )
            )
        elif first_sample != turn.received:
            raise invalid(
                f"Audio: turn {turn_id} goes on at sample {turn.received}, not {first_sample}: "
                "messages must be in order and without gaps (send silence for a gap)."
            )
        samples = turn.whole.push(pcm)
        length = turn.received - (turn.origin or 0) + len(samples)
        if length > self.parameters.turn_samples:
            raise invalid(
                f"Audio: turn {turn_id} is longer than the {self.parameters.turn_samples // SAMPLE_RATE} s "
                "of one turn: end it and start another."
            )
        if len(samples):
            turn.ahead.push(turn.received, samples.tobytes())
            turn.hear(samples)
        turn.received += len(samples)
        turn.last_heard = now
        self._hand_on(turn)

    def end_of_turn(self, turn_id: int, epoch: int, now: float) -> None:
        """No more audio of this turn comes."""
        turn = self._turn("EndOfTurn", turn_id, epoch)
        if turn is None or turn.ended:
            return
        turn.ended = True
        turn.last_heard = now
        self._hand_on(turn)
        self._settle(turn, now)

    def anchor(self, turn_id: int, epoch: int, sample: int, loop_index: int, now: float) -> None:
        """The body frame on screen when ``sample`` is heard."""
        turn = self._turn("Anchor", turn_id, epoch)
        if turn is None:
            return
        if loop_index >= self.parameters.loop_length:
            raise invalid(
                f"Anchor: loop_index {loop_index} is outside the loop of {self.parameters.loop_length} body frames."
            )
        turn.last_heard = now
        turn.anchor(sample, loop_index)
        self._settle(turn, now)

    def playhead(self, turn_id: int, epoch: int, sample: int, playing: bool, now: float) -> None:
        """What is heard now: window, deadline and licence to drop."""
        turn = self._turn("Playhead", turn_id, epoch)
        if turn is None:
            return
        turn.playhead(sample, playing, now)
        self._hand_on(turn)
        self._settle(turn, now)

    def interrupt(self, epoch: int, now: float) -> None:
        """Everything older than ``epoch`` is dead."""
        if epoch < self.epoch:
            return
        self._raise_epoch(epoch, answer=True)

    # --- the engine's side ----------------------------------------------------------------------------

    def track_ready(
        self, track: int, frames: int, flushed: bool, now: float, level: float | None = None
    ) -> None:
        """The engine can draw so many frames of the turn."""
        self._level = self._level if level is None else level
        for turn in list(self._turns.values()):
            if turn.track == track:
                turn.ready = max(turn.ready, frames)
                turn.flushed = turn.flushed or flushed
                self._settle(turn, now)

    def turns_due(self) -> Iterator[TurnFrames]:
        """Turns that have a frame to draw now."""
        for turn in self._turns.values():
            if turn.peek() is not None:
                yield turn

    def rendered(self, job: FrameJob, kind: str, rect: Rect | None, pixels: bytes | None, now: float) -> None:
        """A job came back: ``mouth``, ``body``, or anything else for a frame that was not drawn."""
        turn = job.turn
        turn.under_way -= 1
        if not turn.alive:
            return
        if kind == "failed":
            turn.failed += 1
        elif kind in ("mouth", "body") and turn.wanted(job):
            if turn.is_late(job.frame):
                turn.missed(job.frame)
            else:
                if not turn.frames_sent:
                    self._first_frame(now - turn.began)
                self._frame(turn, job, "mouth" if kind == "mouth" else "body", rect, pixels)
        self._settle(turn, now)

    # --- the server's side ----------------------------------------------------------------------------

    def refuse_turns(self, reason: str) -> None:
        """New turns are rejected with this reason (the server drains)."""
        self._refusal = reason

    def go_away(self, reason: str, deadline_ms: int) -> None:
        """Tell the client that the stream will end."""
        self._say(GoAway(reason, deadline_ms))

    @property
    def speaking(self) -> bool:
        """A turn is alive."""
        return bool(self._turns)

    @property
    def waits_for_client(self) -> bool:
        """A turn is alive that only the client can end."""
        return any(not turn.ended for turn in self._turns.values())

    @property
    def late_so_far(self) -> int:
        """Late frames of all turns."""
        return self.late + sum(turn.late for turn in self._turns.values())

    def expire(self, now: float) -> None:
        """Finish rendered turns whose client says nothing; give a slot back that nothing is said with."""
        for turn in list(self._turns.values()):
            self._settle(turn, now)
        if self.holds_slot and all(turn.quiet(now) for turn in self._turns.values()):
            self._give_slot()

    def close(self) -> None:
        """The stream is gone: everything it holds is given back."""
        for turn in list(self._turns.values()):
            self._end(turn)

    # --------------------------------------------------------------------------------------------------

    def _turn(self, what: str, turn_id: int, epoch: int) -> TurnFrames | None:
        """The turn a message names; ``None`` where the message is merely stale."""
        turn = self._turns.get(turn_id)
        if turn is not None and turn.epoch == epoch:
            return turn
        if epoch < self.epoch or (turn is None and turn_id in self._past):
            return None
        if turn is not None:
            raise invalid(f"{what}: turn {turn_id} belongs to epoch {turn.epoch}, not {epoch}.")
        raise RequestError("invalid_argument", f"{what}: turn {turn_id} was never started: start it before.")

    def _raise_epoch(self, epoch: int, answer: bool = False) -> None:
        self.epoch = epoch
        dead = [t for t in self._turns.values() if t.epoch < epoch]
        for turn in dead:
            self._end(turn)
        if dead or answer:
            self._say(Interrupted(epoch))

    def _frame(
        self,
        turn: TurnFrames,
        job: FrameJob,
        kind: str,
        rect: Rect | None,
        pixels: bytes | None,
        last: bool = False,
    ) -> None:
        turn.sent(job.frame)
        self.frames += 1
        self._say(
            FrameReady(
                turn.turn_id,
                turn.epoch,
                job.frame,
                frame_start(job.frame, turn.fps),
                job.loop_index,
                "mouth" if kind == "mouth" else "body",
                rect,
                pixels,
                last,
            )
        )

    def _hand_on(self, turn: TurnFrames) -> None:
        """Give the engine the audio that it is to hear by now, and the end after the last of it."""
        if due := turn.audio_due():
            self._command(Append(turn.track, due))
        if turn.ended and turn.origin is not None and not turn.ahead.held and not turn.told_end:
            turn.told_end = True
            self._command(EndTrack(turn.track))

    def _settle(self, turn: TurnFrames, now: float) -> None:
        """Send the last frame once everything before it is out; finish once it has been heard."""
        if turn.alive:
            turn.note_due(now)  # counts what has become late, too
        if not turn.alive or not turn.drawn:
            return
        if turn.origin is not None and not turn.last_sent:
            turn.last_sent = True
            self._frame(turn, turn.job(turn.last_frame), "body", None, None, last=True)
        if turn.heard_out or now - turn.last_heard >= STALE_S:
            self.late += turn.late
            self._say(TurnFinished(turn.turn_id, turn.frames_sent, turn.late))
            self._end(turn)

    def _end(self, turn: TurnFrames) -> None:
        turn.end()
        del self._turns[turn.turn_id]
        self._past.append(turn.turn_id)
        if turn.origin is not None:
            self._command(CloseTrack(turn.track))
        if self.holds_slot and not self._turns:
            self._give_slot()

    def _take_slot(self) -> str:
        """Take a slot unless we hold one; a sentence where there is none for us."""
        reason = ""
        if not self.holds_slot:
            reason = self._share()
            if not reason and not self._slots.take(self.parameters.fps):
                reason = f"all {self._slots.total} speaking slots are taken: try another server"
            self.holds_slot = not reason
        return reason

    def _give_slot(self) -> None:
        self.holds_slot = False
        self._slots.give(self.parameters.fps)
