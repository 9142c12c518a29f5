"""One turn of speech on its way to a call: sound in, resampled twice, paced, out to the media worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from orchestrator.speech.base import PCM, SpeechError
from visavis.audio import Resampler

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
    for_face: Resampler | None = None
    for_phone: Resampler | None = None
    try:
        async for chunk in sound:
            source = rate()
            if for_face is None or for_phone is None:
                try:
                    for_face, for_phone = Resampler(source), Resampler(source, sink.sample_rate)
                except ValueError as error:
                    raise SpeechError(str(error)) from None
            step = source * _SLICE_MS // 1000
            for at in range(0, len(chunk), step):
                piece = chunk[at : at + step]
                sink.feed(turn_id, for_face.push(piece), for_phone.push(piece))
                sent += len(piece)
                if sent / source > AHEAD_S:
                    await heard(sent / source - AHEAD_S)
        if for_face is not None and for_phone is not None:
            sink.feed(turn_id, for_face.flush(), for_phone.flush())
    finally:
        sink.end_turn(turn_id)
    return sent / rate() if sent else 0.0
