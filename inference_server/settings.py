"""Settings of the inference server: environment, one TOML file, or the command line."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "VISAVIS_INFERENCE_"
MIB = 1 << 20


class SettingsError(Exception):
    """A setting that cannot be used; the message is one sentence that names it."""


class Settings(BaseSettings):
    """Every setting of ``python -m inference_server``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", validate_default=True)

    host: str = Field("0.0.0.0", description="address that gRPC listens on")
    port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 takes a free one and logs it")
    http_host: str = Field("0.0.0.0", description="address that HTTP listens on")
    http_port: int = Field(8500, ge=0, le=65535, description="HTTP port; 0 takes a free one and logs it")
    http: bool = Field(True, description="whether HTTP listens at all")
    http_connections: int = Field(
        1024, ge=8, description="HTTP connections and sockets open at once; more are refused"
    )
    http_origins: str = Field(
        "", description="web origins whose pages may use HTTP, separated by commas; * for all"
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
        0, ge=0, description="streams that may speak at once; 0 asks the engine's measured cost"
    )
    slot_load: float = Field(
        0.75, gt=0, le=1, description="share of the engine's throughput that slots may use"
    )
    batch_ms: float = Field(15.0, gt=0, description="no batch is planned to take longer")

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
    bundle_bytes: int = Field(1024 * MIB, ge=MIB, description="largest avatar bundle that is imported")
    audio_bytes: int = Field(640_000, ge=640, description="largest Audio message (640000 is 20 s)")
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

    @field_validator("cache_dir")
    @classmethod
    def _home(cls, value: Path) -> Path:
        return value.expanduser()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Everything is merged by :func:`load`, so that all sources parse alike."""
        return (init_settings,)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference_server",
        description="Visavis inference server: speech in, mouth pictures out.",
        epilog=f"Each setting may also come from the environment ({PREFIX}PORT=50052) or from the [inference] "
        "table of a TOML file (--config or VISAVIS_CONFIG). The command line wins, then the environment.",
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file (VISAVIS_CONFIG)")
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        parser.add_argument(
            "--" + name.replace("_", "-"),
            dest=name,
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=f"{field.description} ({PREFIX}{name.upper()}; default {default})".replace("%", "%%"),
        )
    return parser


def load(argv: Sequence[str], environ: dict[str, str] | None = None) -> Settings:
    """Settings from command line, environment and TOML file. Raises :class:`SettingsError`."""
    env = dict(os.environ) if environ is None else environ
    options = vars(_parser().parse_args(argv))
    values: dict[str, Any] = {}
    config = options.pop("config") or env.get("VISAVIS_CONFIG")
    if config:
        values.update(_from_toml(Path(config)))
    names = {PREFIX + name.upper(): name for name in Settings.model_fields}
    for variable in env:
        if variable.startswith(PREFIX) and variable not in names:
            raise SettingsError(
                f"{variable} is not a setting: python -m inference_server --help lists them all."
            )
    values.update({name: env[variable] for variable, name in names.items() if variable in env})
    values.update(options)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_sentence(error, values)) from None


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text()).get("inference", {})
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from None
    unknown = sorted(set(table) - set(Settings.model_fields))
    if unknown:
        raise SettingsError(f"{path}: [inference] {unknown[0]} is not a setting: --help lists them all.")
    return dict(table)


def _sentence(error: ValidationError, values: dict[str, Any]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "?"
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    reason = reason[0].lower() + reason[1:]
    return f"Setting {name} ({PREFIX}{name.upper()}) cannot be {values.get(name)!r}: {reason}."
