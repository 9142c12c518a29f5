"""Settings of the avatar: its inference servers, its picture and its video."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from orchestrator.config.kinds import CommaList, Nameserver, OptionalPath
from visavis.client.credentials import ServerCredentials
from visavis.service.security import fleet_file
from visavis.service.settings import ServiceSettings


class AvatarSettings(ServiceSettings):
    """The avatar's inference servers, its picture and its video."""

    avatar_servers: CommaList = Field(
        ["127.0.0.1:50051"],
        description="inference servers, host:port, dns:///name:port or kubernetes:///service.namespace:port, comma "
        "separated",
    )
    avatar_tokens: OptionalPath = Field(
        None,
        description="token file of the inference servers, whose first token is sent; empty: "
        "~/.local/share/visavis/tokens/fleet, made by whichever service starts first",
    )
    avatar_tls_ca: str = Field(
        "", description="PEM file with the CAs of inference servers, or system: they are spoken to over TLS"
    )
    avatar_tls_name: str = Field(
        "", description="name in their certificates, where dns:/// finds them by another"
    )
    avatar_tls_certificate: str = Field(
        "", description="PEM file with our certificate, where they ask for one"
    )
    avatar_tls_key: str = Field("", description="PEM file with its private key")
    avatar_nameserver: Nameserver = Field(
        "",
        description="DNS server (ip or ip:port) that is asked for dns:/// names; empty: the system's resolver",
    )
    avatar_image: Path | None = Field(
        None, description="the default avatar: a picture, or a built-in one's name (empty: lumi)"
    )
    avatar_fit: Literal["crop", "contain"] = Field("crop", description="crop around the head, or letterbox")
    size: str = Field("512x512", description="video size WIDTHxHEIGHT, both even")
    fps: int = Field(25, ge=5, le=60, description="video frames per second")
    picture_mark: str = Field(
        "",
        description="one to four letters A to Z in the upper left corner of every picture that callers see, as AI; "
        "empty: none",
    )
    video_bitrate: int = Field(1_000_000, ge=64_000, description="most bits per second of video")

    @property
    def avatar_credentials(self) -> ServerCredentials:
        """What inference servers are shown, and how they are known."""
        return ServerCredentials(
            token_file=str(self.avatar_tokens or fleet_file()),
            tls_ca=self.avatar_tls_ca,
            tls_name=self.avatar_tls_name,
            tls_certificate=self.avatar_tls_certificate,
            tls_key=self.avatar_tls_key,
        )

    @property
    def video_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, _, height = self.size.lower().partition("x")
        return int(width), int(height)

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.fps)

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: str) -> str:
        width, _, height = value.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise ValueError("write it as WIDTHxHEIGHT, like 512x512")
        w, h = int(width), int(height)
        if w % 2 or h % 2:
            raise ValueError(f"H.264 4:2:0 video has no odd side: use {w & ~1}x{h & ~1}")
        if not (128 <= w <= 1920 and 128 <= h <= 1920):
            raise ValueError("it must lie within 128x128 and 1920x1920")
        return value

    @field_validator("picture_mark")
    @classmethod
    def _check_mark(cls, value: str) -> str:
        if value and not re.fullmatch("[A-Za-z]{1,4}", value):
            raise ValueError("write one to four letters A to Z, like AI, or nothing for no mark")
        return value.upper()

    @field_validator("avatar_image", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _check_credentials(self) -> AvatarSettings:
        self.avatar_credentials.check()
        return self
