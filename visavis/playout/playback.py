"""The playback of a voice that somebody else plays, by reports of what was sent and how long that still sounds.

RoomKit's voice backends report so with ``on_audio_played``; :func:`follow_playback` listens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class Playback:
    """The playback position in seconds of the voice; silence that fills pauses is not counted. Thread-safe.

    ``ends_told``: who feeds the voice says where each reply ends; else one that falls silent has ended.
    """

    def __init__(self, *, ends_told: bool = False) -> None:
        self.ends_told = ends_told
        self._lock = threading.Lock()
        self._sent = 0.0
        self._boundary = 0.0
        self._ended_at: float | None = None
        self._until = 0.0  # when the last sample sent is heard

    def report(self, seconds: float, buffer_s: float, now: float) -> None:
        """``seconds`` more were sent; all that was sent is heard ``buffer_s`` from ``now``."""
        if seconds > 0:
            with self._lock:
                self._sent += seconds
                self._ended_at = None
                self._until = now + buffer_s

    def end(self, now: float) -> None:
        """The response is over, or was cut: nothing of what was sent is still to be heard."""
        with self._lock:
            self._boundary = self._sent
            self._ended_at = now
            self._until = min(self._until, now)

    @property
    def boundary(self) -> float:
        """Seconds that had been heard when the last response ended."""
        return self._boundary

    @property
    def ended_at(self) -> float | None:
        """When the last response ended, ``None`` while one is on."""
        return self._ended_at

    def heard(self, now: float) -> float:
        """Seconds that have been heard."""
        with self._lock:
            return max(self._sent - max(0.0, self._until - now), 0.0)

    def silent(self, now: float) -> bool:
        """Nothing sounds now."""
        return now >= self._until


def follow_playback(backend: Any, session: Any, playback: Playback) -> Callable[[], None] | None:
    """Report to ``playback`` what a RoomKit voice backend plays into a session.

    Returns what ends it; ``None`` where the backend does not tell what it plays.
    """
    session_id = session.id

    def played(of: Any, frame: Any) -> None:
        if of.id != session_id:
            return
        now, tell = time.monotonic(), frame.metadata
        samples = tell.get("played_bytes", len(frame.data)) / (2 * max(1, frame.channels))
        playback.report(samples / frame.sample_rate, tell.get("playback_buffer_ms", 0.0) / 1000, now)
        if tell.get("playback_ended"):
            playback.end(now)

    subscribe = getattr(backend, "on_audio_played", None)
    unsubscribe = subscribe(played) if subscribe is not None else None
    if unsubscribe is not None:
        return lambda: unsubscribe() and None
    return (lambda: None) if getattr(backend, "supports_playback_callback", False) else None
