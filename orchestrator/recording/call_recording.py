"""A call's recording in the recorder: sound and pictures by their time, a part for each size of the picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from orchestrator.recording.messages import PartState, RecordedPicture, RecordedSound
from orchestrator.recording.movie import RATE, Movie
from orchestrator.rtp.h264 import SPS, nal_type, split_annex_b
from visavis.audio import Resampler

STEP = RATE // 50
TICKS = 1800
"""Of 90 kHz in 20 ms."""
_PATIENCE = 50
"""20 ms steps that a first picture is waited for."""
_MOST_GAP = 60 * 50
"""Steps of silence that are written at once."""

Sound = NDArray[np.int16]
Open = Callable[[int], BinaryIO | io.RawIOBase]


@dataclass(slots=True)
class _Part:
    """One file: ``first`` and ``following`` are its first 20 ms step and the next one to be written."""

    number: int
    file: BinaryIO | io.RawIOBase
    movie: Movie
    first: int
    following: int
    parameters: bytes


class CallRecording:
    """``open_part`` makes the file of a part, ``tell`` is told of parts. Raises ``OSError``, ``av.FFmpegError``."""

    def __init__(
        self,
        call_id: str,
        number: int,
        picture: bool,
        open_part: Open,
        tell: Callable[[PartState], None],
    ) -> None:
        self._call_id, self._next_number = call_id, number
        self._open, self._tell = open_part, tell
        self._awaits = _PATIENCE if picture else 0
        self._sounds: list[RecordedSound] = []
        self._part: _Part | None = None
        self._resampler = Resampler(RATE)
        self._rest: Sound = np.zeros(0, np.int16)

    def hear(self, message: RecordedSound) -> None:
        """20 ms of both voices."""
        if self._part is None:
            self._sounds.append(message)
            if len(self._sounds) > self._awaits:
                self._begin(None, self._sounds[0].piece)
            return
        self._write(self._part, message)

    def show(self, message: RecordedPicture) -> None:
        """A picture."""
        part = self._part
        if message.key and (parameters := _parameters(message.payload)) and self._is_other(part, parameters):
            if part is not None:
                self._finish(part)
            following = [part.following] if part is not None else [each.piece for each in self._sounds[:1]]
            part = self._begin(message.payload, min([message.ticks // TICKS, *following]))
        if part is not None:
            part.movie.show(message.payload, message.ticks - part.first * TICKS, message.key)

    def flush(self) -> None:
        """Have what is written on the disk."""
        if self._part is not None:
            self._part.file.flush()

    def close(self) -> None:
        """It is over."""
        if self._part is None and self._sounds:
            self._begin(None, self._sounds[0].piece)
        if self._part is not None:
            self._finish(self._part)
            self._part = None

    def _is_other(self, part: _Part | None, parameters: bytes) -> bool:
        return part is None or part.parameters != parameters

    def _begin(self, first: bytes | None, piece: int) -> _Part:
        file = self._open(self._next_number)
        try:
            movie = Movie(file, first)
        except BaseException:
            file.close()
            raise
        part = _Part(self._next_number, file, movie, piece, piece, _parameters(first) if first else b"")
        self._part = part
        self._next_number += 1
        self._tell(self._state(part, over=False))
        sounds, self._sounds = self._sounds, []
        for message in sounds:
            self._write(part, message)
        return part

    def _finish(self, part: _Part) -> None:
        part.movie.close()
        part.file.flush()
        self._tell(self._state(part, over=True))
        part.file.close()

    def _state(self, part: _Part, *, over: bool) -> PartState:
        size = part.file.seek(0, io.SEEK_END) if over else 0
        width, height = part.movie.size
        return PartState(
            self._call_id, part.number, part.first, round(part.movie.seconds, 3), size, width, height, over
        )

    def _write(self, part: _Part, message: RecordedSound) -> None:
        caller, avatar = self._voices(message)
        while (gap := message.piece - part.following) > 0:
            steps = min(gap, _MOST_GAP)
            silence = np.zeros(steps * STEP, np.int16)
            part.movie.hear(silence, silence)
            part.following += steps
        if gap == 0:
            part.movie.hear(caller, avatar)
            part.following += 1

    def _voices(self, message: RecordedSound) -> tuple[Sound, Sound]:
        if not message.payload:
            return np.zeros(STEP, np.int16), np.zeros(STEP, np.int16)
        split = len(message.payload) - message.reference
        caller = np.frombuffer(message.payload[:split], "<i2").astype(np.int16)
        sent = np.frombuffer(message.payload[split:], "<i2").astype(np.int16)
        if message.rate == RATE:
            return caller, sent
        if self._resampler.rate != message.rate:
            self._resampler, self._rest = Resampler(message.rate), np.zeros(0, np.int16)
        avatar = np.concatenate((self._rest, self._resampler.push(sent)))
        avatar, self._rest = avatar[:STEP], avatar[STEP:]
        return caller, np.pad(avatar, (STEP - len(avatar), 0))


def _parameters(picture: bytes) -> bytes:
    """The sequence parameter set of a key frame, which a change of size changes."""
    return next((unit for unit in split_annex_b(picture) if nal_type(unit) == SPS), b"")
