"""Events on disk that must outlive an outage of their listener, or of us."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from orchestrator.calls.event import CallEvent
from visavis.service.logs import Log

log = Log(__name__)

MOST_BYTES = 64_000


class Spool:
    """One file for each event in a folder of this process's own, below ``folder``.

    What processes that are gone have left there is taken over by the next that starts; a lock tells which live.
    Nothing raises: where the disk refuses, the log says so once and events wait in memory only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / secrets.token_hex(8)
        self._lock: int | None = None
        self._closed = False
        self._written: set[str] = set()
        self._complained = False

    def load(self) -> list[CallEvent]:
        """Open the spool: what was left undelivered, the oldest first."""
        events: list[CallEvent] = []
        if self._lock is not None:
            return events
        try:
            self._own.mkdir(parents=True, mode=0o700)
            self._lock = _lock(self._own)
            for other in self._folder.iterdir():
                if other != self._own and other.is_dir():
                    events += self._take_over(other)
        except OSError as error:
            self._complain(error)
        if self._closed:  # meanwhile, in another thread
            self.close()
        return sorted(events, key=lambda event: event.time)

    def write(self, events: Iterable[CallEvent]) -> None:
        """Keep these, if they are not kept already."""
        for event in events:
            if event.id in self._written or self._lock is None:
                continue
            try:
                part = self._own / f"{event.id}.part"
                part.write_text(json.dumps(asdict(event)))
                part.rename(self._path(event.id))
            except OSError as error:
                self._complain(error)
                return
            self._written.add(event.id)

    def remove(self, event_id: str) -> None:
        """This one was delivered, or is given up."""
        if event_id in self._written:
            self._written.discard(event_id)
            with contextlib.suppress(OSError):
                self._path(event_id).unlink(missing_ok=True)

    def close(self) -> None:
        """Leave what is there to the next process."""
        self._closed = True
        if self._lock is None:
            return
        if not self._written:
            with contextlib.suppress(OSError):
                (self._own / "lock").unlink()
                self._own.rmdir()
        os.close(self._lock)
        self._lock = None

    def _path(self, event_id: str) -> Path:
        return self._own / f"{event_id}.json"

    def _take_over(self, other: Path) -> list[CallEvent]:
        lock = _lock(other)
        if lock is None:
            return []
        events = []
        try:
            for path in other.glob("msg_*.json"):
                event = _read(path)
                if event is not None:
                    path.rename(self._path(event.id))
                    self._written.add(event.id)
                    events.append(event)
            for path in other.iterdir():
                path.unlink()
            other.rmdir()
        finally:
            os.close(lock)
        return events

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.warning(
                "webhook_spool_unusable", folder=str(self._folder), reason=error.strerror or str(error)
            )


def _lock(folder: Path) -> int | None:
    """A folder's lock, held until it is closed; None where somebody else holds it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _read(path: Path) -> CallEvent | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        fields = json.loads(path.read_text())
        event = CallEvent(
            fields["kind"], str(fields["call_id"]), dict(fields["data"]), float(fields["time"]), path.stem
        )
    except (OSError, ValueError, KeyError, TypeError):
        log.warning("webhook_spool_damaged", file=path.name)
        return None
    return event if event.lasting else None
