"""Agreed media: what signalling settled for the streams of one call, whichever signalling it was.

Directions and "remote" are seen from this side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

Address = tuple[str, int]
Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
"""Our own direction (RFC 3264): ``recvonly`` and ``inactive`` send no RTP."""


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What was agreed; ``local_key`` protects what we send. Each is master key and salt.

    Where a key has a master key identifier (RFC 3711 section 3.1), its packets carry that; empty: none.
    """

    suite: str
    local_key: bytes = field(repr=False)
    remote_key: bytes = field(repr=False)
    local_mki: bytes = field(default=b"", repr=False)
    remote_mki: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class AudioMedia:
    """An agreed audio stream. ``codec`` is the registered name; ``remote_rtcp`` ``None`` means port + 1 (or muxed).

    ``voip_metrics``: the peer wants the report blocks of RFC 3611 section 4.7. ``packet_ms``: how much voice
    each packet of ours holds, 20, 10 or 5. ``offered`` are the formats of our own offer (payload type, name, clock
    rate), empty where the peer offered: it may answer with numbers of its own and send with either (RFC 3264
    section 5.1).
    """

    codec: str
    payload_type: int
    remote: Address
    remote_rtcp: Address | None = None
    telephone_event: int | None = None
    direction: Direction = "sendrecv"
    rtcp_mux: bool = False
    keys: SrtpKeys | None = None
    telephone_event_rate: int = 8000
    comfort_noise: int | None = None
    voip_metrics: bool = False
    packet_ms: int = 20
    offered: tuple[tuple[int, str, int], ...] = ()

    @property
    def sends(self) -> bool:
        return self.direction in ("sendrecv", "sendonly")


@dataclass(frozen=True, slots=True)
class VideoMedia:
    """An agreed H.264 stream. ``width``, ``height``, ``fps`` and ``bitrate`` are what the phone can take of ours.

    ``feedback`` holds what the peer can send: "nack pli", "ccm fir", "nack"...
    """

    payload_type: int
    remote: Address
    width: int
    height: int
    fps: Fraction = Fraction(25)
    bitrate: int = 1_500_000
    packetization_mode: int = 1
    profile_level_id: str = "42e01e"
    feedback: frozenset[str] = frozenset()
    remote_rtcp: Address | None = None
    direction: Direction = "sendrecv"
    rtcp_mux: bool = False
    keys: SrtpKeys | None = None
    rtx_payload_type: int | None = None

    @property
    def sends(self) -> bool:
        return self.direction in ("sendrecv", "sendonly")
