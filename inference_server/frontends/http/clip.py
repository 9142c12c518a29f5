"""A talking face as a file while it is drawn: fragmented MP4 (ISO/IEC 14496-12) with H.264 and AAC."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from inference_server.errors import invalid
from visavis.frames import I420
from visavis.wav import WavError, WavReader

_MOVFLAGS = "frag_keyframe+empty_moov+default_base_moof"
_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Of AAC that players take; another one is resampled to the next higher."""


def read_wav(data: bytes) -> tuple[NDArray[np.int16], int]:
    """The sound of a WAV file as ``(n,)`` int16 mono, and its sample rate. Raises ``invalid_argument``."""
    reader = WavReader()
    try:
        pcm = reader.feed(data)
        reader.end()
    except WavError as error:
        raise invalid(f"The body is no WAV file that can be read ({error}).") from None
    if not len(pcm):
        raise invalid("The WAV file has no sound: send one that has.")
    rate = next((known for known in _RATES if known >= reader.sample_rate), _RATES[-1])
    return (pcm if rate == reader.sample_rate else _resampled(pcm, reader.sample_rate, rate)), rate


def _resampled(pcm: NDArray[np.int16], rate: int, to: int) -> NDArray[np.int16]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=to)
    out: list[Any] = []
    for at in range(0, len(pcm), rate):
        frame = av.AudioFrame.from_ndarray(pcm[at : at + rate].reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = rate
        out += resampler.resample(frame)
    out += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in out]).astype(np.int16)


class Clip:
    """Takes pictures and their sound, gives the bytes of the file so far. Blocking, milliseconds a picture."""

    def __init__(self, width: int, height: int, fps: Fraction, rate: int) -> None:
        self._out = _Pipe()
        self._size = (width, height)
        self._fps, self._rate = fps, rate
        options = {"movflags": _MOVFLAGS}
        self._file: Any = av.open(self._out, "w", format="mp4", options=options)
        self._video: Any = self._file.add_stream(
            "libx264", rate=fps, options={"preset": "veryfast", "threads": "1"}
        )
        self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
        self._video.gop_size = max(1, round(fps))  # a fragment a second
        self._video.codec_context.max_b_frames = 0
        self._audio: Any = self._file.add_stream("aac", rate=rate, layout="mono")
        self._pictures = 0
        self._samples = 0

    def add(self, picture: I420, sound: NDArray[np.int16]) -> bytes:
        """The next picture, and the sound that goes with it."""
        width, height = self._size
        frame = av.VideoFrame.from_ndarray(picture.reshape(height * 3 // 2, width), format="yuv420p")
        frame.pts, frame.time_base = self._pictures, 1 / self._fps
        self._pictures += 1
        self._file.mux(self._video.encode(frame))
        if len(sound):
            heard = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="mono")
            heard.rate, heard.pts, heard.time_base = self._rate, self._samples, Fraction(1, self._rate)
            self._samples += len(sound)
            self._file.mux(self._audio.encode(heard))
        return self._out.take()

    def end(self) -> bytes:
        """What is left."""
        for stream in (self._video, self._audio):
            self._file.mux(stream.encode(None))
        self._file.close()
        return self._out.take()


class _Pipe(io.RawIOBase):
    """What a muxer that never seeks writes into."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data
