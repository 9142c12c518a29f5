"""One turn of speech on its way to a call: sound in, resampled twice, paced, out to the media worker."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import numpy as np
import soxr

from orchestrator.speech.base import PCM, SpeechError
from visavis.frames import SAMPLE_RATE

AHEAD_S = 20.0
"""Seconds of sound that may wait in the media worker."""

_SLICE_MS = 200


class TurnSink(Protocol):
    """Where a turn goes: a call's media."""

    @property
    def sample_rate(self) -> int:
        """The codec's rate."""
        ...

    def start_turn(self, turn_id: int) -> None: ...
    def feed(self, turn_id: int, pcm_16k: PCM, pcm: PCM) -> None: ...
    def end_turn(self, turn_id: int) -> None: ...


async def speak(
    sink: TurnSink,
    turn_id: int,
    sound: AsyncIterator[PCM],
    rate: Callable[[], int],
    heard: Callable[[float], Awaitable[None]],
) -> float:
    """Stream a turn into ``sink``; returns its length in seconds.

    ``rate`` tells the sound's sample rate once its first chunk is there. ``heard`` waits
    until so many seconds of the turn have been played, so that a long text does not pile up: about ``AHEAD_S``
    seconds wait in the media worker.
    The turn is ended even when the sound breaks off; its error is raised afterwards.
    """
    sink.start_turn(turn_id)
    sent = 0
    for_face: soxr.ResampleStream | None = None
    for_phone: soxr.ResampleStream | None = None
    try:
        async for chunk in sound:
            source = rate()
            if for_face is None or for_phone is None:
                for_face = soxr.ResampleStream(source, SAMPLE_RATE, 1, dtype="int16")
                for_phone = soxr.ResampleStream(source, sink.sample_rate, 1, dtype="int16")
            step = source * _SLICE_MS // 1000
            for at in range(0, len(chunk), step):
                piece = chunk[at : at + step]
                sink.feed(turn_id, for_face.resample_chunk(piece), for_phone.resample_chunk(piece))
                sent += len(piece)
                if sent / source > AHEAD_S:
                    await heard(sent / source - AHEAD_S)
        if for_face is not None and for_phone is not None:
            nothing = np.zeros(0, np.int16)
            sink.feed(
                turn_id,
                for_face.resample_chunk(nothing, last=True),
                for_phone.resample_chunk(nothing, last=True),
            )
    finally:
        sink.end_turn(turn_id)
    return sent / rate() if sent else 0.0


def read_wav(data: bytes) -> tuple[PCM, int]:
    """Mono int16 samples and the sample rate of a PCM WAV file (8 or 16 bit, any channels).

    Raises :class:`SpeechError` with one sentence when the bytes are not such a file.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError, ValueError) as error:
        raise SpeechError(f"this is not a PCM WAV file ({error}): send 16-bit PCM in a WAV") from None
    if width not in (1, 2) or not 4000 <= rate <= 192_000 or not channels:
        raise SpeechError(
            f"WAV of {8 * width} bits at {rate} Hz is not supported: send 16-bit PCM, 8 to 48 kHz"
        )
    if width == 2:
        samples = np.frombuffer(raw[: len(raw) // 2 * 2], "<i2")
    else:
        samples = ((np.frombuffer(raw, np.uint8).astype(np.int16) - 128) * 256).astype(np.int16)
    whole = samples[: len(samples) // channels * channels].reshape(-1, channels)
    mono: PCM = whole.mean(axis=1).astype(np.int16) if channels > 1 else whole[:, 0].copy()
    return mono, rate
