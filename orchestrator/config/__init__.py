"""Settings of the orchestrator: ``VISAVIS_*`` variables, one TOML file, or the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from orchestrator.config.api import ApiSettings
from orchestrator.config.avatar import AvatarSettings
from orchestrator.config.calls import CallSettings
from orchestrator.config.conversation import ConversationSettings
from orchestrator.config.media import MediaSettings
from orchestrator.config.records import RecordSettings
from orchestrator.config.sip import AccountSettings, SipSettings
from visavis.service.settings import SettingsError, SettingsSource

__all__ = ["SOURCE", "AccountSettings", "Settings", "load_settings"]

SOURCE = SettingsSource(
    "orchestrator",
    "Visavis orchestrator: answers SIP calls with a talking face.",
    prefix="VISAVIS_",
    table="orchestrator",
    other_prefix="VISAVIS_INFERENCE_",
)


class Settings(
    RecordSettings,
    ConversationSettings,
    AvatarSettings,
    ApiSettings,
    MediaSettings,
    CallSettings,
    SipSettings,
):
    """Every setting has a default that works on one machine."""

    data_dir: Path = Field(
        Path("~/.local/share/visavis"), description="uploaded avatars, events that wait for the webhook"
    )
    cache_dir: Path = Field(Path("~/.cache/visavis"), description="body loops and encoded idle video")
    cache_bytes: int = Field(2_000_000_000, ge=10_000_000, description="most bytes of cached body loops")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_numbers: Literal["whole", "shortened"] = Field(
        "whole", description="numbers of callers in logs; shortened: their last three digits"
    )

    @property
    def database_url(self) -> str:
        """Of the database of records."""
        return self.database.reveal() or f"sqlite:///{self.data_dir / 'records.db'}"

    @property
    def api_token_file(self) -> Path:
        """Where the API's tokens lie."""
        return self.api_tokens or self.data_dir / "tokens" / "api"

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()


def load_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Settings from the command line, the environment and the file; a wrong value ends the process.

    Exit status 2 and one sentence on standard error name what is wrong.
    """
    try:
        return SOURCE.load(Settings, sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
