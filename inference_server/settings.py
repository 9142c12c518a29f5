"""Settings of the inference server: ``VISAVIS_INFERENCE_*`` variables, one TOML file, or the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from visavis.service.listening import Tls
from visavis.service.security import fleet_file
from visavis.service.settings import ServiceSettings, SettingsSource

MIB = 1 << 20
SOURCE = SettingsSource(
    "inference_server",
    "Visavis inference server: speech in, mouth pictures out.",
    prefix="VISAVIS_INFERENCE_",
    table="inference",
)


class Settings(ServiceSettings):
    """Every setting of ``python -m inference_server``."""

    host: str = Field("127.0.0.1", description="address that gRPC listens on")
    port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 takes a free one and logs it")
    http_host: str = Field("127.0.0.1", description="address that HTTP listens on")
    http_port: int = Field(8500, ge=0, le=65535, description="HTTP port; 0 takes a free one and logs it")
    http: bool = Field(True, description="whether HTTP listens at all")
    http_connections: int = Field(
        1024, ge=8, description="HTTP connections and sockets open at once; more are refused"
    )
    http_origins: str = Field(
        "", description="web origins whose pages may use HTTP with a token, separated by commas; * for all"
    )
    http_hosts: str = Field(
        "", description="public names of the HTTP face, separated by commas: probes answer to no others"
    )
    tokens: Path | None = Field(
        None,
        description="file with the tokens of clients, made at the first start; empty: "
        "~/.local/share/visavis/tokens/fleet",
    )
    insecure: bool = Field(
        False, description="also serves clients that bring no token; only for the time of a rollout"
    )
    tls_certificate: str = Field("", description="PEM file with certificate and chain, for TLS on both faces")
    tls_key: str = Field("", description="PEM file with its private key")
    tls_client_ca: str = Field(
        "", description="PEM file with the CAs of clients: with it each needs a certificate, and no token"
    )
    stock_fps: int = Field(30, ge=1, le=60, description="frame rate of RoomKit's own WebSocketAvatarProvider")

    engine: str = Field(
        "portrait", description="lip-sync engine, by its name in the entry points visavis.engines"
    )
    engine_settings: dict[str, str] = Field(
        default_factory=dict,
        description="the engine's own settings, as a JSON object or name=value,name=value",
    )
    engine_timeout_s: float = Field(
        20.0, gt=0, description="an engine process silent for this long is killed and started again"
    )
    slots: int = Field(
        0,
        ge=0,
        description="streams that may speak at once at 25 frames a second on each device; 0 asks the engine's "
        "measured cost",
    )
    slot_load: float = Field(
        0.75, gt=0, le=1, description="share of the engine's throughput that slots may use"
    )
    batch_ms: float = Field(
        15.0, gt=0, description="no batch is planned to take longer while the first frame of a turn waits"
    )
    longest_batch_ms: float = Field(40.0, gt=0, description="no batch is planned to take longer at any time")

    cache_dir: Path = Field(
        Path("~/.cache/visavis/inference"), description="folder of body loops and prepared avatars"
    )
    cache_disk_mib: int = Field(10_240, ge=64, description="size of that folder; the least recently used go")
    avatar_memory_mib: int = Field(2_048, ge=1, description="prepared avatars kept in the engine's memory")
    prepare_timeout_s: float = Field(120.0, gt=0, description="a preparation that takes longer is given up")
    prepare_workers: int = Field(1, ge=1, le=64, description="body loops made at the same time")

    window_ms: int = Field(400, ge=40, le=5000, description="how far past the playhead frames are rendered")
    max_sessions: int = Field(256, ge=1, description="streams open at once")
    max_width: int = Field(1920, ge=64, le=7680, description="widest picture")
    max_height: int = Field(1080, ge=64, le=7680, description="highest picture")
    image_bytes: int = Field(20 * MIB, ge=1024, description="largest image upload")
    image_pixels: int = Field(40_000_000, ge=4096, description="largest image, width times height")
    video_bytes: int = Field(40 * MIB, ge=1024, description="largest video upload")
    video_s: float = Field(10.0, ge=0.2, le=60, description="longest video that is made an avatar")
    bundle_bytes: int = Field(1024 * MIB, ge=MIB, description="largest avatar bundle that is imported")
    message_bytes: int = Field(
        2 * MIB,
        ge=64 << 10,
        description="largest gRPC message; raise it while clients of before send larger pictures whole",
    )
    audio_bytes: int = Field(640_000, ge=640, description="largest Audio message (640000 is 20 s)")
    speech_bytes: int = Field(32 * MIB, ge=1024, description="largest WAV file that is made a clip")
    turn_ms: int = Field(600_000, ge=1000, description="longest turn")
    idle_ms: int = Field(
        3_600_000, ge=1000, description="a stream that sends nothing for this long is closed"
    )
    drain_s: float = Field(30.0, ge=0, description="time that turns get to finish after SIGTERM")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")

    @field_validator("engine_settings", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        """``name=value,name=value`` beside JSON; numbers and booleans become text."""
        if isinstance(value, str):
            if value.lstrip().startswith("{"):
                value = json.loads(value)
            else:
                parts = [part for part in value.split(",") if part.strip()]
                if any("=" not in part for part in parts):
                    raise ValueError("write it as a JSON object or as name=value,name=value")
                value = dict(part.strip().split("=", 1) for part in parts)
        if isinstance(value, dict):
            return {str(k): str(v).lower() if isinstance(v, bool) else str(v) for k, v in value.items()}
        return value

    @field_validator("tokens", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return value or None

    @field_validator("cache_dir", "tokens")
    @classmethod
    def _home(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None

    @model_validator(mode="after")
    def _files(self) -> Settings:
        self.tls.check()
        return self

    @property
    def token_file(self) -> Path:
        """Where the tokens of clients lie."""
        return self.tokens or fleet_file()

    @property
    def tls(self) -> Tls:
        """TLS files of both faces."""
        return Tls(self.tls_certificate, self.tls_key, self.tls_client_ca)


def load(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from command line, environment and TOML file. Raises :class:`SettingsError`."""
    return SOURCE.load(Settings, argv, environ)
