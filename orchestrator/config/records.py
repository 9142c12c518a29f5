"""Settings of records and recordings: where they are kept, how long, what is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from orchestrator.config.kinds import OptionalPath
from orchestrator.recording.sealed import read_key
from visavis.service.secret import Secret, SecretUrl
from visavis.service.settings import ServiceSettings


class RecordSettings(ServiceSettings):
    """Where records and recordings are kept, how long, what is recorded."""

    database: SecretUrl = Field(
        SecretUrl(),
        description="where records and transcripts are kept: postgresql://user:password@host/name, or "
        "sqlite:////path/of/a/file; empty: records.db in data_dir",
        repr=False,
    )
    records_kept: int = Field(
        100_000, ge=1, description="ended calls whose records and transcripts are kept; the oldest go first"
    )
    records_days: float = Field(90.0, ge=0, description="days after which these are erased; 0: never")
    recording: Literal["off", "every"] = Field(
        "off", description="whether every call is recorded; off: those that the API asks for"
    )
    recording_announcement: str = Field(
        "", description="said as a recording begins, in the call's language; empty: nothing"
    )
    recording_tone: bool = Field(False, description="a tone is heard as a recording begins and resumes")
    recording_pause_key: Literal[
        "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#", "A", "B", "C", "D"
    ] = Field("", description="key of callers that pauses and resumes a recording; empty: none")
    recording_key_file: OptionalPath = Field(
        None,
        description="file whose content, at least 32 bytes, encrypts recordings and transcripts; "
        "empty: they are not",
    )
    recordings_dir: OptionalPath = Field(
        None, description="folder of recordings; empty: recordings in data_dir"
    )
    recordings_days: float = Field(30.0, ge=0, description="days after which recordings are erased; 0: never")
    recordings_bytes: int = Field(
        20_000_000_000, ge=0, description="most bytes of recordings; the oldest are erased first"
    )
    recordings_s3: str = Field(
        "", description="S3-compatible store that recordings are moved to (s3://bucket/prefix); empty: none"
    )
    recordings_s3_endpoint: str = Field(
        "", description="its address (https://minio.example.com:9000); empty: Amazon's"
    )
    recordings_s3_region: str = Field("", description="its region; empty: us-east-1")
    recordings_s3_key_id: str = Field(
        "", description="access key; empty: as Amazon's tools find it (environment, instance)"
    )
    recordings_s3_secret: Secret = Field(Secret(), description="secret of that access key", repr=False)

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: SecretUrl) -> SecretUrl:
        if value and urlsplit(value.reveal()).scheme not in ("postgresql", "postgres", "sqlite"):
            raise ValueError("write it as postgresql://user:password@host/name or sqlite:////path/of/a/file")
        return value

    @field_validator("recording_key_file")
    @classmethod
    def _check_key_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                read_key(value)
            except OSError as error:
                raise ValueError(f"the key file cannot be read: {error.strerror}") from None
        return value

    @field_validator("recordings_s3")
    @classmethod
    def _check_bucket(cls, value: str) -> str:
        if value and not (value.startswith("s3://") and urlsplit(value).netloc):
            raise ValueError("write it as s3://bucket/prefix")
        return value
