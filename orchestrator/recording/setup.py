"""Recordings as the settings have them."""

from __future__ import annotations

from orchestrator.archive.archive import Archive
from orchestrator.config import Settings
from orchestrator.recording.recordings import Recordings, RecordingSettings, Taps
from orchestrator.recording.store import Bucket, Store


def recordings_of(settings: Settings, taps: Taps, archive: Archive) -> Recordings:
    """What begins, keeps and finds recordings."""
    bucket = None
    if settings.recordings_s3:
        bucket = Bucket(
            settings.recordings_s3.rstrip("/"),
            settings.recordings_s3_endpoint,
            settings.recordings_s3_region,
            settings.recordings_s3_key_id,
            settings.recordings_s3_secret,
        )
    folder = settings.recordings_dir or settings.data_dir / "recordings"
    store = Store(folder, bucket, settings.recording_key_file)
    how = RecordingSettings(
        settings.recording == "every",
        settings.recording_announcement,
        settings.recording_tone,
        settings.recording_pause_key,
        settings.recordings_days,
        settings.recordings_bytes,
    )
    return Recordings(taps, archive, store, how)
