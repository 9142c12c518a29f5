"""What offer and answer settled for one call, as the media path needs it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from orchestrator.rtp.agreed import AudioMedia, VideoMedia
from orchestrator.rtp.consent import SignallingPeer
from orchestrator.rtp.h264_levels import lowest_level

Refresh = Literal["keyframes", "intra"]
"""Every second a key frame, or a wave of intra blocks over the picture with a key frame now and then."""
_WAVES_PER_KEYFRAME = 5


@dataclass(frozen=True, slots=True)
class AudioParameters(AudioMedia):
    """One audio stream. ``peer`` decides whom media may go to; without one the signalled address is its own."""

    peer: SignallingPeer | None = None


@dataclass(frozen=True, slots=True)
class VideoParameters(VideoMedia):
    """One H.264 stream. ``refresh`` is for a phone that cannot ask for a key frame; ``peer`` as for the voice.

    ``fps`` is the body's; one in ``every`` of its pictures is sent, to a phone that takes fewer. ``mark``: letters
    in the corner of each.
    """

    refresh: Refresh = "keyframes"
    peer: SignallingPeer | None = None
    every: int = 1
    mark: str = ""

    def __post_init__(self) -> None:
        if self.width % 2 or self.height % 2 or self.width < 16 or self.height < 16:
            raise ValueError(
                f"a picture of {self.width}x{self.height} cannot be sent: both sizes must be even"
            )

    @property
    def asks_for_keyframes(self) -> bool:
        """Whether the peer said that it can ask for an IDR."""
        return bool(self.feedback & {"nack pli", "ccm fir"})

    @property
    def wants_retransmission(self) -> bool:
        """Whether generic NACK was agreed."""
        return "nack" in self.feedback

    @property
    def intra_refresh(self) -> bool:
        """Whether waves of intra blocks mend the picture."""
        return self.refresh == "intra" and not self.asks_for_keyframes

    @property
    def key_interval(self) -> int:
        """Pictures from one key frame that nobody asked for to the next; 0: there are none."""
        if self.asks_for_keyframes:
            return 0
        return round(self.fps / self.every) * (_WAVES_PER_KEYFRAME if self.intra_refresh else 1)

    @property
    def encoding(self) -> Encoding:
        """What the encoder must be told."""
        fps = self.fps / self.every
        return Encoding(
            self.width,
            self.height,
            fps,
            bitrate_tier(self.bitrate),
            lowest_level(self.width, self.height, fps, self.bitrate),
            0 if self.packetization_mode else 1,
            wave=round(fps) if self.intra_refresh else 0,
            mark=self.mark,
        )


@dataclass(frozen=True, slots=True)
class Encoding:
    """Everything that decides the coded form of a picture; equal for encoders that may be joined.

    ``level`` is ten times the H.264 level, ``small_slices`` 1 where each slice must fit one packet. ``wave`` is
    the number of pictures over which intra blocks sweep once over the picture, 0 where they do not; ``mark``:
    letters in its corner.
    """

    width: int
    height: int
    fps: Fraction
    bitrate: int
    level: int
    small_slices: int = 0
    preset: str = "superfast"
    wave: int = 0
    mark: str = ""


_TIERS = (64, 96, 128, 192, 256, 384, 512, 768, 1000, 1500, 2000, 3000, 4000, 6000, 8000)


def bitrate_tier(bits_per_second: int) -> int:
    """The largest tier not above the rate, so that calls share cached loops."""
    fitting = [tier * 1000 for tier in _TIERS if tier * 1000 <= bits_per_second]
    return fitting[-1] if fitting else _TIERS[0] * 1000
