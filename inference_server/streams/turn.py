"""One turn of one epoch: which frames are due, on which body frame, by when. No clock of its own."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from inference_server.streams.ahead import AHEAD, AheadAudio, AheadBudget
from inference_server.streams.pace import Pace
from inference_server.streams.path import BodyPath, BodySegments
from inference_server.streams.prosody import Prosody
from visavis.audio import WholeSamples
from visavis.frames import SAMPLE_RATE, frame_at, frame_start

QUIET_S = 5.0  # without audio, and nothing left to draw: a speaking slot is not kept for that
FIRST_FRAMES = 2  # of a turn, which go ahead of everything that plays already
MOST_ANCHORS = 64  # kept; older ones belong to frames heard long ago


@dataclass(frozen=True, slots=True)
class FrameJob:
    """A frame to be drawn. Closing frames show the ``source`` frame, the last one of the audio."""

    turn: TurnFrames
    frame: int
    source: int
    loop_index: int
    alpha: float


class TurnFrames:
    """Positions of one turn. ``closing`` frames follow the audio; the last of them is the plain body."""

    def __init__(
        self,
        turn_id: int,
        epoch: int,
        track: int,
        *,
        fps: Fraction,
        closing: int,
        window: int,
        loop_length: int,
        render_from: int,
        now: float,
        pace: Pace | None = None,
        budget: AheadBudget | None = None,
        segments: BodySegments | None = None,
        played: list[int] | None = None,
    ) -> None:
        self.pace = pace
        self._segments = segments
        self._played = played
        self._path: BodyPath | None = None
        self.ahead = AheadAudio(budget)
        self.turn_id = turn_id
        self.epoch = epoch
        self.track = track
        self.fps = fps
        self.closing = max(closing, 1)
        self.window = window
        self.loop_length = loop_length
        self.render_from = render_from
        self.alive = True
        self.origin: int | None = None
        self.received = 0  # the next sample of audio expected
        self.whole = WholeSamples()
        self.ended = False
        self.told_end = False  # the engine has got all audio
        self.flushed = False  # the engine knows the end
        self.ready = 0
        self.cursor = 0  # the next frame to hand out
        self.under_way = 0
        self.late = 0
        self.failed = 0
        self.last_heard = now  # of the client, about this turn
        self.last_audio = now  # that came
        self.last_sent = False
        self.playing = False
        self.began = now  # when its first audio came
        self.due_since: float | None = None
        self._sent: set[int] = set()
        self._anchors: list[tuple[int, int]] = [(0, 0)]  # (frame, loop index), ascending
        self._anchored = False
        self._playhead: int | None = None
        self._playhead_at = now
        self._first = 0

    @property
    def frames_sent(self) -> int:
        """Distinct frames sent so far."""
        return len(self._sent)

    @property
    def audio_frames(self) -> int:
        """Frames that the audio received so far reaches into."""
        if self.origin is None or self.received <= self.origin:
            return self._first
        return max(frame_at(self.received - 1, self.fps) + 1, self._first)

    def begin(self, origin: int, now: float) -> None:
        """The first audio begins at sample ``origin``."""
        self.began = now
        self.origin = self.received = origin
        if self._segments is not None:
            self._path = BodyPath(self._segments, self.fps, Prosody(origin), self.turn_id, self._played)
            if self._anchored:
                self._path.begin(*self._anchors[-1])
        start = max(origin, self.render_from)
        first = frame_at(start, self.fps)
        self._first = self.cursor = first if frame_start(first, self.fps) >= start else first + 1

    def loop_index(self, frame: int) -> int:
        """The body frame under ``frame``."""
        if self._path is not None and self._anchored and frame >= self._anchors[-1][0]:
            return self._path.loop_index(frame)
        place = max(bisect_right(self._anchors, (frame, self.loop_length)) - 1, 0)
        anchor, index = self._anchors[place]
        return (index + frame - anchor) % self.loop_length

    def anchor(self, sample: int, loop_index: int) -> None:
        """``loop_index`` is on screen when ``sample`` is heard; frames from there on are drawn anew if it moved."""
        frame = frame_at(sample, self.fps)
        if self._path is not None and self._path.agrees(frame, loop_index):
            return
        moved = self.loop_index(frame) != loop_index or self._anchors[-1][0] > frame
        if not self._anchored:
            self._anchored = True
            self._anchors = []  # what nobody anchored follows the first anchor, backwards too
            frame_from = self._first
        else:
            frame_from = frame
        self._anchors = [*[a for a in self._anchors if a[0] < frame][-MOST_ANCHORS:], (frame, loop_index)]
        if self._path is not None:
            self._path.begin(frame, loop_index)
        if moved and frame_from <= self.cursor:
            self.cursor = max(frame_from, self._first)
            self.last_sent = False

    def hear(self, pcm: NDArray[np.int16]) -> None:
        """The next samples, as soon as they have come: the body moves with the voice."""
        if self._path is not None:
            self._path.prosody.append(pcm)

    def end(self) -> None:
        """It is over, or was interrupted."""
        self.alive = False
        self.ahead.clear()
        if self._path is not None and self._playhead is not None:
            self._path.forget(frame_at(max(0, self._playhead), self.fps))

    def playhead(self, sample: int, playing: bool, now: float) -> None:
        """``sample`` is heard now (negative: the turn begins in that many samples)."""
        self._playhead = sample
        self._playhead_at = now
        self.playing = playing
        self.last_heard = now

    def entitled(self, now: float) -> bool:
        """Whether its next frame is one that its stream is entitled to."""
        return self.pace is None or self.pace.entitled(now)

    def audio_due(self) -> bytes:
        """Audio that the engine is to hear now."""
        start = max(self.origin or 0, self.render_from, self._playhead or 0)
        return self.ahead.due(start + AHEAD)

    @property
    def heard(self) -> int | None:
        """The last playhead."""
        return self._playhead

    def is_late(self, frame: int) -> bool:
        """Whether all of ``frame`` has been heard already."""
        return self._playhead is not None and frame_start(frame + 1, self.fps) <= self._playhead

    def deadline(self, frame: int, now: float) -> float:
        """When ``frame`` is shown, on the clock of ``now``; as if playing began now where nothing plays."""
        start = frame_start(frame, self.fps)
        if self._playhead is None:
            return now + (start - frame_start(self._first, self.fps)) / SAMPLE_RATE
        return self._playhead_at + (start - self._playhead) / SAMPLE_RATE

    def first_frame(self, frame: int) -> bool:
        """One of the first frames, which go ahead."""
        return frame - self._first < FIRST_FRAMES

    @property
    def _renderable(self) -> int:
        """Frames up to here may be handed out; the last closing frame is the body and is never drawn."""
        if self.ended and self.flushed:
            return self.audio_frames + self.closing - 1 if self.ready else self.cursor
        return min(self.ready, self.audio_frames)

    def peek(self) -> FrameJob | None:
        """The next frame that may be drawn now; counts and passes over those that are late."""
        if not self.alive or self.origin is None:
            return None
        end = self._renderable
        while self.cursor < end and self.is_late(self.cursor):
            self.missed(self.cursor)
            self.cursor += 1
        if self.cursor >= end:
            return None
        start = frame_start(self._first, self.fps)
        reach = max(start, self._playhead if self._playhead is not None else start) + self.window
        if frame_start(self.cursor, self.fps) >= reach:
            return None
        return self.job(self.cursor)

    def job(self, frame: int) -> FrameJob:
        """Frame ``frame`` as it would be drawn now."""
        beyond = frame - self.audio_frames + 1 if self.ended else 0
        alpha = 1.0 if beyond <= 0 else max(0.0, 1.0 - beyond / self.closing)
        source = max(min(frame, self.ready - 1), 0) if self.flushed else frame
        return FrameJob(self, frame, source, self.loop_index(frame), alpha)

    def take(self, job: FrameJob, now: float) -> None:
        """The job goes into a batch."""
        if self.pace is not None:
            self.pace.spend(now)
        self.cursor = job.frame + 1
        self.under_way += 1

    def quiet(self, now: float) -> bool:
        """Nothing has come for a while, and nothing of what came is to be drawn any more."""
        drawn = self.cursor >= self._renderable and not self.under_way and not self.ahead.held
        return not self.ended and drawn and now - self.last_audio >= QUIET_S

    def note_due(self, now: float) -> None:
        """Remember since when a frame waits to be handed out."""
        if self.peek() is None:
            self.due_since = None
        elif self.due_since is None:
            self.due_since = now

    def wanted(self, job: FrameJob) -> bool:
        """Whether a job handed out earlier is still worth drawing or sending."""
        return self.alive and self.loop_index(job.frame) == job.loop_index

    def sent(self, frame: int) -> None:
        """The frame goes to the client."""
        self._sent.add(frame)

    def missed(self, frame: int) -> None:
        """The frame comes too late."""
        if frame not in self._sent:
            self.late += 1

    @property
    def drawn(self) -> bool:
        """Everything but the last frame has been handed out and has come back."""
        if not self.ended or self.under_way:
            return False
        if self.origin is None:
            return True
        return self.flushed and self.cursor >= self._renderable

    @property
    def last_frame(self) -> int:
        """The number of the turn's last frame."""
        return self.audio_frames + self.closing - 1

    @property
    def heard_out(self) -> bool:
        """The playhead has reached the last frame of the audio: nothing can be anchored anew any more."""
        return self._playhead is None or self._playhead >= frame_start(self.audio_frames - 1, self.fps)
