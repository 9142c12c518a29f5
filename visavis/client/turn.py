"""A turn that can resume on another server: its audio, its anchors, and what of it the server was told."""

from __future__ import annotations

from fractions import Fraction

from visavis.audio import WholeSamples
from visavis.client.messages import Anchor, Audio, EndOfTurn, Playhead, Request, TurnStart
from visavis.client.model import Opened, settled
from visavis.frames import SAMPLE_RATE, Frame, frame_at, frame_start

HISTORY_S = 5
"""Seconds of audio before the playhead that a server gets when the turn resumes there."""

_CHUNK = 6400  # samples in one Audio message at most
_SLACK = 2 * SAMPLE_RATE  # bytes are moved only when this much can go
_LONGEST = 600 * SAMPLE_RATE


class ResumableTurn:
    """Audio is kept from a few seconds before the playhead on, so that the turn can resume elsewhere.

    ``history_s`` is how many; origins are whole seconds, so that a resumed turn meets the same sample grid.
    """

    def __init__(self, turn_id: int, epoch: int, fps: Fraction, history_s: int = HISTORY_S) -> None:
        self.turn_id = turn_id
        self.epoch = epoch
        self.end = 0  # samples pushed
        self.ended = False
        self.finished = False
        self.finish_at: float | None = None  # reported finished then, whatever the server says
        self.head: Playhead | None = None
        self.received = 0  # the first sample that no frame has come for
        self.frames = 0
        self.complete = False  # its last frame is here
        self.first_audio_at: float | None = None
        self._fps = fps
        self._history = history_s * SAMPLE_RATE
        self._pcm = bytearray()
        self._base = 0  # the sample that _pcm begins with
        self._whole = WholeSamples()
        self._anchors: list[Anchor] = []
        self._cursor = 0  # the first sample that the server has not been told
        self._anchors_told = 0
        self._head_told = True
        self._head_at = 0  # the playhead told last
        self._step = frame_start(2, fps)  # told every second frame: half the messages, the same window
        self._muted = False
        self._render_from = 0
        self._start_told = self._end_told = False

    # -- from the caller --

    def push(self, pcm: bytes | memoryview) -> int:
        """Audio that follows; returns samples dropped (a turn is bounded at ten minutes beyond the playhead)."""
        samples = self._whole.push(pcm)
        room = _LONGEST - (self.end - self.position)
        take = min(len(samples), room)
        self._pcm += samples[:take].tobytes()
        self.end += take
        return len(samples) - take

    def set_anchor(self, sample: int, loop_index: int) -> None:
        """From ``sample`` on the body is elsewhere: frames from there on are drawn anew."""
        self._anchors = [a for a in self._anchors if a.audio_sample < sample]
        self._anchors.append(Anchor(self.turn_id, self.epoch, sample, loop_index))
        self.received = min(self.received, sample)
        self.complete = False
        self._anchors_told = min(self._anchors_told, len(self._anchors) - 1)

    def set_head(self, sample: int, playing: bool) -> bool:
        """What is heard now; returns whether the server is to be told."""
        told, self.head = self.head, Playhead(self.turn_id, self.epoch, sample, playing)
        moved = self.head.audio_sample - self._head_at
        near_end = self.ended and sample + self._step >= self.end
        if told is None or told.playing != playing or near_end or not 0 <= moved < self._step:
            self._head_told = False
        excess = max(0, self.position - self._history) // SAMPLE_RATE * SAMPLE_RATE - self._base
        excess = min(excess, self._cursor - self._base)
        if excess >= _SLACK:
            del self._pcm[: excess * 2]
            self._base += excess
            while len(self._anchors) > 1 and self._anchors[1].audio_sample <= self.position:
                del self._anchors[0]
                self._anchors_told = max(0, self._anchors_told - 1)
        return not self._head_told

    @property
    def position(self) -> int:
        """The sample that is heard now, not negative."""
        return max(0, self.head.audio_sample) if self.head else 0

    @property
    def anchored(self) -> bool:
        """The server can know which body frames to draw on."""
        return bool(self._anchors)

    @property
    def resumable(self) -> bool:
        """Frames are still to come."""
        return not (self.complete or self.finished or (self.ended and self.received >= self.end))

    # -- to the server --

    def restart(self) -> None:
        """Tell it all again to a server that knows nothing of it, from where frames are missing."""
        render_from = min(max(self.received, self.position), self.end)
        origin = max(0, render_from - self._history) // SAMPLE_RATE * SAMPLE_RATE if render_from else 0
        self.received = render_from
        self._cursor = max(origin, self._base)
        self._anchors_told = 0
        self._head_told = self.head is None
        self._muted = False
        self._render_from = render_from
        self._start_told = self._end_told = False

    def mute(self) -> None:
        """The server is told nothing more of it: it needs nothing more, or wants nothing."""
        self._muted = True

    @property
    def told(self) -> bool:
        """The server has been told its end, or is not to be told."""
        return self._muted or (self._end_told and self._head_told and self._cursor >= self.end)

    def next_request(self) -> Request | None:
        """What the server is to be told next, ``None`` when it knows everything."""
        if self._muted:
            return None
        if not self._start_told:
            self._start_told = True
            return TurnStart(self.turn_id, self.epoch, self._render_from)
        if self._anchors_told < len(self._anchors):
            self._anchors_told += 1
            return self._anchors[self._anchors_told - 1]
        if not self._head_told:
            self._head_told = True
            self._head_at = self.head.audio_sample if self.head else 0
            return self.head
        if self._cursor < self.end:
            first = self._cursor
            self._cursor = min(first + _CHUNK, self.end)
            pcm = self._pcm[(first - self._base) * 2 : (self._cursor - self._base) * 2]
            return Audio(self.turn_id, self.epoch, first, bytes(pcm))
        if self.ended and not self._end_told:
            self._end_told = True
            return EndOfTurn(self.turn_id, self.epoch)
        return None

    # -- from the server --

    def on_frame(self, frame: Frame) -> None:
        """A frame has come."""
        self.frames += 1
        self.received = max(self.received, frame_start(frame_at(frame.sample, self._fps) + 1, self._fps))
        self.complete = self.complete or frame.last

    def due(self, opened: Opened) -> bool:
        """The server has all it needs for two more frames inside its window, and was told where the body is."""
        if self.head is None or not self.head.playing or not self.anchored or not self.resumable:
            return False
        known = self.end if self.ended else settled(opened, self.end)
        window = opened.window_ms * SAMPLE_RATE // 1000
        slack = frame_start(2, self._fps)
        return min(self.position + window, known) - self.received >= slack
