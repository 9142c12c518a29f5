"""What the phone received as files: an MP4 aligned by RTCP, a contact sheet with the waveform, a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from testing.caller.recording import Recording, VideoFrame

Image = NDArray[np.uint8]
_HEADERS = 28  # of UDP and IPv4


@dataclass(frozen=True)
class Report:
    """A call in figures, all from the receiving end."""

    seconds: float
    audio_packets: int
    audio_lost: int
    video_packets: int
    video_lost: int
    frames: int
    frames_expected: int
    late_frames: int
    longest_gap_ms: float
    skew_median_ms: float
    skew_worst_ms: float
    first_picture_ms: float
    kilobits: float
    """A second, both streams, with the headers of UDP and IPv4."""

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        return [
            f"call            {self.seconds:.1f} s",
            f"audio packets   {self.audio_packets} received, {self.audio_lost} lost",
            f"video packets   {self.video_packets} received, {self.video_lost} lost",
            f"video frames    {self.frames} of {self.frames_expected}, {self.late_frames} more than a frame late,"
            f" longest gap {self.longest_gap_ms:.0f} ms",
            f"on the wire     {self.kilobits:.0f} kbit/s, headers included",
            f"first picture   {self.first_picture_ms:.0f} ms after the answer",
            f"A/V offset      median {self.skew_median_ms:+.1f} ms, worst {self.skew_worst_ms:+.1f} ms"
            " (positive: picture later than voice)",
        ]


def report(recording: Recording, frames: Sequence[VideoFrame], fps: float) -> Report:
    """Measure a recording; a frame is late when it comes more than a frame later than the voice."""
    voice = recording.audio.packets
    skew = [ms for _, ms in recording.skew_ms()]
    arrivals = np.array([frame.arrived for frame in frames])
    stamps = [frame.timestamp for frame in frames]
    streams = (recording.audio, recording.video)
    octets = sum(stream.octets + _HEADERS * len(stream.packets) for stream in streams)
    seconds = voice[-1].arrived - voice[0].arrived + 0.02 if voice else 0.0
    expected = round((stamps[-1] - stamps[0]) / 90_000 * fps) + 1 if stamps else 0
    return Report(
        seconds=seconds,
        audio_packets=len(voice),
        audio_lost=recording.audio.lost,
        video_packets=len(recording.video.packets),
        video_lost=recording.video.lost,
        frames=len(frames),
        frames_expected=expected,
        late_frames=sum(ms > 1000 / fps for ms in skew),
        longest_gap_ms=float(np.diff(arrivals).max() * 1000) if len(arrivals) > 1 else 0.0,
        skew_median_ms=float(np.median(skew)) if skew else 0.0,
        skew_worst_ms=max(skew, key=abs, default=0.0),
        first_picture_ms=(arrivals[0] - recording.answered) * 1000 if len(arrivals) else 0.0,
        kilobits=octets * 8 / 1000 / seconds if seconds else 0.0,
    )


def aligned(recording: Recording, frames: Sequence[VideoFrame]) -> list[float]:
    """Seconds on the voice's time line at which each picture is due, by the sender reports (RFC 3550 6.4.1)."""
    voice = recording.audio.ordered()
    if not (recording.audio.reports and recording.video.reports and voice):
        start = frames[0].timestamp if frames else 0
        return [(frame.timestamp - start) / 90_000 for frame in frames]
    zero = recording.audio.sender_time(voice[0].timestamp)
    return [recording.video.sender_time(frame.timestamp) - zero for frame in frames]


def write_movie(recording: Recording, frames: Sequence[VideoFrame], path: Path) -> None:
    """An MP4 with each picture at the time the sender meant it to be seen with the voice.

    The voice is on the left, what was said to it on the right.
    """
    times = aligned(recording, frames)
    height, width = frames[0].image.shape[:2]
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream(
            "libx264", rate=Fraction(1000, 1), options={"crf": "16", "preset": "veryfast"}
        )
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        audio: Any = file.add_stream("aac", rate=recording.rate, layout="stereo")
        last = -1
        for frame, time in zip(frames, times, strict=True):
            stamp = max(round(time * 1000), last + 1)
            if stamp < 0:
                continue
            picture: Any = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            picture.pts, picture.time_base, last = stamp, Fraction(1, 1000), stamp
            file.mux(video.encode(picture))
        file.mux(video.encode(None))
        voices = np.stack((recording.samples(), recording.said_meanwhile()))
        for at in range(0, voices.shape[1], 1024):
            piece = np.ascontiguousarray(voices[:, at : at + 1024].T).reshape(1, -1)
            sound: Any = av.AudioFrame.from_ndarray(piece, format="s16", layout="stereo")
            sound.sample_rate, sound.pts, sound.time_base = recording.rate, at, Fraction(1, recording.rate)
            file.mux(audio.encode(sound))
        file.mux(audio.encode(None))


def contact_sheet(recording: Recording, frames: Sequence[VideoFrame], path: Path, columns: int = 6) -> None:
    """Twelve pictures around the speech over the waveforms of what was received and, below, of what was sent."""
    times = np.array(aligned(recording, frames))
    samples = recording.samples().astype(np.float32) / 32768
    said = recording.said_meanwhile().astype(np.float32) / 32768
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    rate = recording.rate
    start, end = (loud[0] / rate, loud[-1] / rate) if len(loud) else (0.0, len(samples) / rate)
    moments = np.linspace(max(0.0, start - 0.3), end + 0.2, 2 * columns)
    cell, margin, strip = 240, 6, 150
    scale = cell / frames[0].image.shape[1]
    tall = round(frames[0].image.shape[0] * scale)
    sheet = np.full(
        (2 * (tall + margin) + strip + margin, columns * (cell + margin) + margin, 3), 24, np.uint8
    )
    for n, moment in enumerate(moments):
        image = frames[int(np.abs(times - moment).argmin())].image
        small = cv2.resize(image, (cell, tall), interpolation=cv2.INTER_AREA)
        y, x = margin + n // columns * (tall + margin), margin + n % columns * (cell + margin)
        sheet[y : y + tall, x : x + cell] = small
        label = f"{moment:.2f} s"
        cv2.putText(
            sheet, label, (x + 6, y + tall - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA
        )
        cv2.putText(
            sheet,
            label,
            (x + 6, y + tall - 8),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.45,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
    strips = [samples, said] if said.any() else [samples]
    for n, voice in enumerate(strips):
        part = strip // len(strips)
        area = sheet[len(sheet) - strip + n * part :][:part, margin:-margin]
        _waveform(area, voice, rate, moments)
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())


def _waveform(area: Image, samples: NDArray[np.floating[Any]], rate: int, moments: NDArray[Any]) -> None:
    height, width = area.shape[:2]
    first, last = float(moments[0]), float(moments[-1])
    edges = np.linspace(first, last, width + 1) * rate
    peak = max(0.05, float(np.abs(samples).max(initial=0.0)))
    for x in range(width):
        part = samples[max(0, int(edges[x])) : max(0, int(edges[x + 1])) + 1]
        size = int(np.abs(part).max(initial=0.0) / peak * (height // 2 - 4))
        area[height // 2 - size : height // 2 + size + 1, x] = (122, 196, 255)
    for moment in moments:
        x = min(width - 1, int((moment - first) / (last - first) * width))
        area[:, x] = np.maximum(area[:, x], 90)
