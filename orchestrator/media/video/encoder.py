"""H.264 through PyAV's libx264: the same settings for the cached loop and for a call's own encoder."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from orchestrator.media.parameters import Encoding
from orchestrator.media.video.mark import corner_mark
from orchestrator.rtp import h264
from visavis.frames import I420, i420_planes

VBV_SECONDS = 0.25
_CLOCK = 90_000
_RECOVERY_POINT = 6


class EncoderFailed(RuntimeError):
    """libx264 could not be opened or gave no picture."""


def x264_options(encoding: Encoding) -> dict[str, str]:
    """Options of libx264: capped CRF, one thread, joinable streams, BT.601 limited range."""
    params = [
        "stitchable=1",  # constant parameter sets whatever the rate control does
        "threads=1",
        "sliced-threads=0",
        f"keyint={encoding.wave or 'infinite'}",
        "scenecut=0",
        "no-deblock=0",
        "colorprim=smpte170m",
        "transfer=smpte170m",
        "colormatrix=smpte170m",
        "range=tv",
    ]
    if encoding.wave:
        params.append("intra-refresh=1")
    if encoding.small_slices:
        params.append(f"slice-max-size={h264.MAX_PAYLOAD}")
    return {
        "preset": encoding.preset,
        "tune": "zerolatency",
        "profile": "baseline",
        "level": f"{encoding.level // 10}.{encoding.level % 10}",
        "forced-idr": "1",
        "crf": "23",
        "maxrate": str(encoding.bitrate),
        "bufsize": str(int(encoding.bitrate * VBV_SECONDS)),
        "g": "1000000",
        "x264-params": ":".join(params),
    }


class H264Encoder:
    """One stream. Write the picture into ``picture`` (planes of the encoder's own frame), then ``encode``."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        width, height = encoding.width, encoding.height
        context: VideoCodecContext = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, _CLOCK), encoding.fps
        context.thread_count = 1
        context.options = x264_options(encoding)
        try:
            context.open()
        except av.FFmpegError as error:
            raise EncoderFailed(f"libx264 does not take {width}x{height}: {error}") from error
        self._context = context
        # One frame for the encoder's life: PyAV's frames are slow to make and carry reference cycles.
        self._frame = av.VideoFrame(width, height, "yuv420p")
        self.planes: tuple[I420, ...] = tuple(
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[
                :, : plane.width
            ]
            for plane in self._frame.planes
        )
        self._mark = corner_mark(encoding.mark, self.planes)
        self._count = 0

    def write(self, picture: I420) -> None:
        """Copy a packed I420 picture into the encoder's frame, and the mark over it."""
        for target, source in zip(
            self.planes, i420_planes(picture, self.encoding.width, self.encoding.height), strict=True
        ):
            target[:] = source
        for target, mark in self._mark:
            target[:] = mark

    def encode(self, idr: bool) -> list[bytes]:
        """NAL units of the picture now in ``planes``; with ``idr`` a new start with its parameter sets."""
        self._frame.pts = int(self._count * _CLOCK / self.encoding.fps)
        self._frame.pict_type = PictureType.I if idr else PictureType.NONE
        self._count += 1
        try:
            packets = self._context.encode(self._frame)
        except av.FFmpegError as error:
            raise EncoderFailed(f"libx264 gave up: {error}") from error
        units = h264.split_annex_b(b"".join(bytes(packet) for packet in packets))
        units = [unit for unit in units if _is_sent(unit)]
        if not units:
            raise EncoderFailed("libx264 gave no picture")
        return units


def _is_sent(unit: bytes) -> bool:
    """Not delimiters, nor SEI but the recovery point, where a decoder may start (ITU-T H.264 D.2.8)."""
    kind = h264.nal_type(unit)
    return kind != h264.DELIMITER and (kind != h264.SEI or unit[1] == _RECOVERY_POINT)


def parameter_sets(units: list[bytes]) -> tuple[bytes, ...]:
    """SPS and PPS of an access unit, in order."""
    return tuple(unit for unit in units if h264.nal_type(unit) in (h264.SPS, h264.PPS))
