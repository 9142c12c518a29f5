"""Settings of media: ports, ICE, SRTP, what is offered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from orchestrator.config.kinds import CommaList, NetworksOrNone
from orchestrator.config.sip import Srtp
from visavis.service.secret import Secret
from visavis.service.settings import ServiceSettings


class MediaSettings(ServiceSettings):
    """Ports, ICE, SRTP, what is offered."""

    rtp_port_min: int = Field(30000, ge=1024, le=65534, description="first UDP port for RTP and RTCP")
    rtp_port_max: int = Field(31999, ge=1025, le=65535, description="last UDP port for RTP and RTCP")
    web_udp_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="one UDP port for the media of all browsers, with one more for each further worker; 0: each "
        "call has its own",
    )
    web_ice_servers: CommaList = Field(
        [],
        description="STUN and TURN servers that browsers are told (stun:host, turn:host:3478?transport=udp)",
    )
    web_turn_secret: Secret = Field(
        Secret(),
        description="makes credentials for those TURN servers (coturn's static-auth-secret)",
        repr=False,
    )
    srtp: Srtp = Field(
        "off", description="SRTP with keys in SDP; the keys are secret only where SIP runs over TLS"
    )
    media_from: NetworksOrNone = Field(
        [],
        description="networks that phones may send media from which signalling names otherwise, as behind NAT "
        "and a proxy; empty: private ones, for signalling out of one; none: no network",
    )
    rtp_timeout_s: float = Field(
        60.0, ge=0, description="ends a call that has sent neither RTP nor RTCP for so long; 0: never"
    )
    video_refresh: Literal["keyframes", "intra"] = Field(
        "keyframes",
        description="for phones that cannot ask for a key frame: one every second, or intra blocks in waves",
    )
    comfort_noise: bool = Field(False, description="offers comfort noise (RFC 3389), for phones that pause")
    av_trim_ms: int = Field(
        0,
        ge=-200,
        le=200,
        description="shows the picture this much later, for phones that play one of them late",
    )
    media_workers: int = Field(1, ge=1, le=64, description="media worker processes; a call lives in one")

    @field_validator("web_ice_servers")
    @classmethod
    def _check_ice_servers(cls, value: list[str]) -> list[str]:
        for url in value:
            if not url.startswith(("stun:", "stuns:", "turn:", "turns:")):
                raise ValueError(
                    f"'{url}' is no STUN or TURN server: write it as stun:host or turn:host:3478"
                )
        return value

    @model_validator(mode="after")
    def _check_ports(self) -> MediaSettings:
        if any(url.startswith("turn") for url in self.web_ice_servers) and not self.web_turn_secret:
            raise ValueError("web_ice_servers names a TURN server, which needs web_turn_secret")
        if self.rtp_port_max - self.rtp_port_min < 3:
            raise ValueError("rtp_port_max must be at least rtp_port_min + 3: one call takes four ports")
        return self
