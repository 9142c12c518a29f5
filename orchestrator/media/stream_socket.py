"""What a stream sends and hears through: sockets of its own, or its share of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.rtp.agreed import Address
from orchestrator.rtp.packet import Header

OnRtp = Callable[[Header, bytearray, float], None]
OnRtcp = Callable[[bytes, float], None]


class StreamSocket(Protocol):
    """One stream's way to its peer. Nothing that a peer sends raises out of it."""

    send_errors: int
    deliver: Callable[[bytes | bytearray], int]
    """Send RTP; raises ``OSError`` where the kernel does not take it. 0: it went nowhere."""

    @property
    def malformed(self) -> int: ...

    @property
    def strays(self) -> int:
        """What came from those whom the stream does not belong to."""

    @property
    def stray_source(self) -> str:
        """Where the last of them came from."""

    @property
    def withheld(self) -> int:
        """What was not sent, since its address has not shown that it wants it."""

    @property
    def rejected(self) -> int:
        """What SRTP did not let through."""

    @property
    def port(self) -> int: ...

    @property
    def remote(self) -> Address | None:
        """Where RTP goes now."""

    @property
    def signalled(self) -> Address | None:
        """Where signalling said that RTP goes."""

    def agree(self, media: AudioParameters | VideoParameters, now: float) -> None:
        """Take what was negotiated. Raises ``ValueError``."""

    def acknowledged(self, now: float) -> None:
        """The exchange of offer and answer is over."""

    def send_rtcp(self, packet: bytes) -> None:
        """Send RTCP; what the kernel does not take is counted."""

    def heard_ago(self, now: float) -> float:
        """Seconds since the peer's RTP was last seen; infinite if never."""

    def anything_ago(self, now: float) -> float:
        """Seconds since anything of the peer's was last seen; infinite if never."""

    def watch(self, now: float) -> None:
        """Called about once a second."""

    def reopen(self) -> None:
        """Hear everybody again: the peer may have moved."""

    def close(self) -> None:
        """Let go of the sockets and of who reads; harmless when called again."""


OpenSocket = Callable[[OnRtp | None, OnRtcp, Callable[[], None]], StreamSocket]
"""Makes one for a stream: who takes its RTP (None: nobody) and its RTCP, and who is told when the way opens."""
