"""One file of a recording: MP4 that is whole as far as it goes at any moment, the picture as it was sent.

It is written in fragments of a second, which a crash leaves readable, and becomes an ordinary MP4 when it is closed
(FFmpeg's ``hybrid_fragmented``). Three tracks of sound, AAC at 16 kHz: both voices, which players choose by
themselves, the caller's and ours.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
TRACKS = ("both", "caller", "avatar")
VIDEO_CLOCK = Fraction(1, 90_000)
MARK = "The face is synthetic (Visavis)."
"""In the metadata of every file with a picture."""
_FRAME = 1024
_BITS = 32_000
_PRIMING = 1
"""Packets that an AAC encoder makes before the first sample; without them what follows needs no edit list."""
_OPTIONS = {
    "movflags": "hybrid_fragmented+default_base_moof",
    "frag_duration": "1000000",
    "max_interleave_delta": "500000",
    "flush_packets": "1",
}

Sound = NDArray[np.int16]


class Movie:
    """Into ``file``, which may be read, written and sought; it is not closed. ``first`` is a key frame in Annex B
    with its parameter sets, ``None`` for sound alone. Raises ``av.FFmpegError`` and ``OSError``, as its methods do.

    ``seconds`` is how much sound there is, ``size`` the picture's width and height.
    """

    def __init__(self, file: BinaryIO | io.RawIOBase, first: bytes | None) -> None:
        self.size = (0, 0)
        self._samples = self._encoded = 0
        self._last_ticks = -1
        self._container: Any = av.open(file, "w", format="mp4", options=_OPTIONS)
        self._video: Any = None
        if first is not None:
            self._container.metadata["comment"] = MARK
            with av.open(io.BytesIO(first), format="h264", options={"probesize": "1000000"}) as probe:
                (source,) = probe.streams.video
                self.size = source.codec_context.width, source.codec_context.height
                self._video = self._container.add_stream_from_template(source)
                self._video.time_base = VIDEO_CLOCK
        self._audio = [self._track(name) for name in TRACKS]
        self._pending: list[Sound] = [np.zeros(0, np.int16) for _ in TRACKS]
        self._primed = [0] * len(TRACKS)

    @property
    def seconds(self) -> float:
        """Of sound."""
        return self._samples / RATE

    def hear(self, caller: Sound, avatar: Sound) -> None:
        """The next stretch of both voices, equally long."""
        both = np.clip(caller.astype(np.int32) + avatar, -32768, 32767).astype(np.int16)
        self._samples += len(caller)
        for index, pcm in enumerate((both, caller, avatar)):
            self._pending[index] = np.concatenate((self._pending[index], pcm))
        while len(self._pending[0]) >= _FRAME:
            self._encode()

    def show(self, picture: bytes, ticks: int, key: bool) -> None:
        """An access unit in Annex B, ``ticks`` of 90 kHz after the first sample; one out of order is left out.

        The first one stands from the beginning on: tracks that begin late need an edit list, which not every player
        minds.
        """
        if self._video is None or ticks <= self._last_ticks:
            return
        if self._last_ticks < 0:
            ticks = 0
        self._last_ticks = ticks
        packet = av.Packet(picture)
        packet.pts = packet.dts = ticks
        packet.time_base = VIDEO_CLOCK
        packet.stream = self._video
        packet.is_keyframe = key
        self._container.mux(packet)

    def close(self) -> None:
        """Make it an ordinary file."""
        rest = -len(self._pending[0]) % _FRAME
        for index, pcm in enumerate(self._pending):
            self._pending[index] = np.concatenate((pcm, np.zeros(rest, np.int16)))
        while len(self._pending[0]):
            self._encode()
        for index, track in enumerate(self._audio):
            self._mux(index, track.encode(None))
        self._container.close()

    def _track(self, name: str) -> Any:
        track = self._container.add_stream("aac", rate=RATE, layout="mono")
        track.codec_context.bit_rate = _BITS
        track.codec_context.format = "fltp"
        track.metadata["handler_name"] = name
        return track

    def _encode(self) -> None:
        at, self._encoded = self._encoded, self._encoded + _FRAME
        for index, track in enumerate(self._audio):
            pcm, self._pending[index] = self._pending[index][:_FRAME], self._pending[index][_FRAME:]
            frame = av.AudioFrame.from_ndarray(
                pcm[None].astype(np.float32) / np.float32(32768), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            self._mux(index, track.encode(frame))

    def _mux(self, index: int, packets: Sequence[Any]) -> None:
        for packet in packets:
            if self._primed[index] < _PRIMING:
                self._primed[index] += 1
                continue
            self._container.mux(packet)
