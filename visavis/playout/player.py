"""The player of one face: speech of any rate in, a picture a tick and the sound that goes with it out. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.audio import Resampler, WholeSamples
from visavis.client.start_delay import StartDelay
from visavis.frames import I420, SAMPLE_RATE, Frame
from visavis.playout.compositor import Body, Compositor
from visavis.playout.pacer import TurnWriter
from visavis.playout.playout import Playout
from visavis.playout.speaker import Speaker
from visavis.playout.turn import PCM, TurnEvent
from visavis.rgb import to_rgb


@dataclass(frozen=True, slots=True, eq=False)
class FacePicture:
    """One picture of an avatar session. ``pixels``: I420, ``(height * 3 // 2, width)`` uint8, the reader's own.

    ``timestamp``: seconds since the first picture. ``turn_id``: the turn whose sound goes with it, ``None`` in
    silence; ``position``: the second of that turn at which the sound begins.
    """

    pixels: I420
    width: int
    height: int
    timestamp: float
    turn_id: int | None = None
    position: float = 0.0

    def rgb(self) -> NDArray[np.uint8]:
        """The same as RGB24, ``(height, width, 3)``."""
        return to_rgb(self.pixels, self.width, self.height)


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The first sound of a turn goes out with this picture."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class SpeechFinished:
    """A turn is over. ``position``: the seconds of it that went out; ``interrupted``: it was cut there."""

    turn_id: int
    position: float
    interrupted: bool


SpeechEvent = SpeechStarted | SpeechFinished


class Player:
    """The turns of one voice and the face that says them.

    ``avatar`` takes what the face has to know, ``playout`` gets the frames that come back (:meth:`on_frame`),
    ``body`` is what idle shows. One :meth:`tick` a picture; before :meth:`use_rate` speech only waits.
    """

    def __init__(
        self,
        body: Body,
        playout: Playout,
        avatar: TurnWriter,
        start_delay: StartDelay,
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        self.ticks = 0
        self.rate = 0
        self._body = body
        self._playout = playout
        self._emit = emit
        self._compositor = Compositor()
        self._speaker = Speaker(
            rate=SAMPLE_RATE,
            fps=playout.fps,
            avatar=avatar,
            playout=playout,
            start_delay=start_delay,
            emit=self._on_turn,
            holds=False,
        )
        self._early: list[tuple[PCM, int] | None] = []  # until the rate is known; None: the end of a turn
        self._turn_id = 0
        self._open = False  # a turn is being fed
        self._whole = WholeSamples()
        self._to_face: Resampler | None = None
        self._to_voice: Resampler | None = None
        self._started = 0  # turns that were told
        self._finished = 0

    def use(self, body: Body, playout: Playout, avatar: TurnWriter, start_delay: StartDelay) -> None:
        """Another avatar, from the next picture on. Raises ``RuntimeError`` while something is said."""
        self._speaker.use(avatar, playout, start_delay)
        self._body, self._playout, self._compositor = body, playout, Compositor()

    # -- speech --

    def use_rate(self, rate: int) -> None:
        """The sample rate of the sound that goes out. Another one than before cuts what is said.

        Raises ``ValueError`` on a rate outside of 4 to 192 kHz.
        """
        Resampler(SAMPLE_RATE, rate)
        if rate == self.rate:
            return
        if self.rate:
            self.interrupt()
        self.rate = rate
        self._speaker.set_rate(rate)
        early, self._early = self._early, []
        for fed in early:
            if fed is None:
                self.end_turn()
            else:
                self.feed(*fed)

    def feed(self, pcm: PCM | bytes | bytearray | memoryview, rate: int) -> None:
        """Speech, mono int16 or s16le bytes of any length; the first of it begins a turn.

        Raises ``ValueError`` on a rate outside of 4 to 192 kHz.
        """
        samples = pcm if isinstance(pcm, np.ndarray) else self._whole.push(pcm)
        if not len(samples):
            return
        if not self.rate:
            self._early.append((samples, rate))
            return
        if not self._open:
            self._open = True
            self._turn_id += 1
            self._speaker.start_turn(self._turn_id)
        if self._to_face is None or self._to_voice is None or self._to_face.rate != rate:
            self._flush()
            self._to_face, self._to_voice = Resampler(rate), Resampler(rate, self.rate)
        self._speaker.feed(self._turn_id, self._to_face.push(samples), self._to_voice.push(samples))

    def end_turn(self) -> None:
        """The voice has said what it had to say; without effect where nothing was fed."""
        self._whole.reset()
        if not self.rate:
            self._early.append(None)
        elif self._open:
            self._open = False
            self._flush()
            self._speaker.end_turn(self._turn_id)
            self._tell_heard_out()

    def interrupt(self) -> float:
        """Silence, and a mouth at rest, from the next picture on: every turn that was fed is dropped.

        Returns the seconds of the turn that was heard until now, 0 where none was.
        """
        position = self._speaker.heard / self.rate if self.rate and self._speaker.turn_id is not None else 0.0
        self._whole.reset()
        self._early.clear()
        self._open = False
        self._to_face = self._to_voice = None
        self._speaker.interrupt()
        return position

    @property
    def speaking(self) -> bool:
        """Speech was fed that has not been heard to its end."""
        return bool(self._early) or self._speaker.speaking

    # -- pictures --

    def on_frame(self, frame: Frame) -> None:
        """A frame of the stream."""
        self._playout.on_frame(frame)

    def tick(self) -> tuple[FacePicture, PCM | None]:
        """The picture that is due and the sound from it to the next, ``(n,)`` int16; ``None`` in silence.

        A tick has ``rate / fps`` samples; fewer where a turn ends in it.
        """
        if not self.rate:
            raise RuntimeError("the sample rate of the sound is not known: call use_rate before")
        index, self.ticks = self.ticks, self.ticks + 1
        picture = self._speaker.tick(index)
        turn_id, heard = self._speaker.turn_id, self._speaker.heard
        start = self._sample_at(index)
        sound = self._speaker.sound(start, self._sample_at(index + 1) - start)
        if sound is not None and not len(sound):
            sound = None
        if sound is None:
            turn_id, heard = None, 0
        elif turn_id is not None and turn_id != self._started:
            self._started = turn_id
            self._emit(SpeechStarted(turn_id))
        self._tell_heard_out()
        width, height = self._body.width, self._body.height
        return FacePicture(
            self._compositor.compose(picture, self._body).copy(),
            width,
            height,
            float(index / self._playout.fps),
            turn_id,
            heard / self.rate,
        ), sound

    # -- inside --

    def _sample_at(self, tick: int) -> int:
        return int(tick * self.rate // self._playout.fps)

    def _flush(self) -> None:
        if self._to_face is not None and self._to_voice is not None:
            self._speaker.feed(self._turn_id, self._to_face.flush(), self._to_voice.flush())
            self._to_face = self._to_voice = None

    def _tell_heard_out(self) -> None:
        """The sound of a turn is over; its mouth closes yet."""
        turn_id = self._speaker.closing
        if turn_id is not None:
            self._finish(turn_id, self._speaker.heard, interrupted=False)

    def _on_turn(self, event: TurnEvent) -> None:
        if event.kind in ("finished", "interrupted"):
            heard = round(event.heard_ms * self.rate / 1000)
            self._finish(event.turn_id, heard, interrupted=event.kind == "interrupted")

    def _finish(self, turn_id: int, heard: int, interrupted: bool) -> None:
        if turn_id > self._finished:
            self._finished = turn_id
            self._emit(SpeechFinished(turn_id, heard / self.rate, interrupted))
