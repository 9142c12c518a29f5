"""What is kept of calls that have ended, in a database that may be away: no call waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from orchestrator.archive.backlog import Backlog
from orchestrator.archive.database import ANSWER_S, DAY_S, Database, DatabaseAway, Unwritable
from orchestrator.archive.entries import (
    Entry,
    KeptEntry,
    KeptRecord,
    NotErased,
    Page,
    RecordingPart,
    newest_first,
)
from orchestrator.calls.records import CallRecord
from orchestrator.conversation.transcript import TranscriptEntry
from visavis.service.logs import Log
from visavis.service.supervisor import BackOff, Supervisor

log = Log(__name__)
T = TypeVar("T")

_AGAIN_S = (0.5, 15.0, 60.0)
_BATCH = 500
_RETENTION_S = 600.0
_LAST_WRITE_S = 3.0
REFUSED_SHARE = 10


@dataclass(frozen=True)
class Retention:
    """Records and transcripts are erased after ``days`` (0: never), and beyond the newest ``most``; those of
    refused calls beyond a tenth of that."""

    days: float = 0.0
    most: int = 100_000


@dataclass(frozen=True)
class ArchiveStatus:
    """``waiting``: entries to be written; ``lost``: such as never will be. ``reason``: why it is away."""

    state: Literal["starting", "ready", "away"]
    reason: str
    waiting: int
    lost: int


class Archive:
    """Writes behind: what is put is read at once, and is in the database as soon as that takes it."""

    def __init__(self, database: Database, retention: Retention | None = None) -> None:
        self._database = database
        self._retention = retention or Retention()
        self._backlog = Backlog()
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._threads = ThreadPoolExecutor(3, "archive")
        self._state: Literal["starting", "ready", "away"] = "starting"
        self._reason = ""
        self._opened = asyncio.Event()
        self.place = ""
        """Where recordings lie, which go with their records."""
        self.before_erasing: Callable[[Sequence[str]], Awaitable[None]] = _nothing

    @property
    def status(self) -> ArchiveStatus:
        """How it goes."""
        return ArchiveStatus(self._state, self._reason, len(self._backlog), self._backlog.lost)

    def start(self, supervisor: Supervisor) -> None:
        """Begin to write."""
        supervisor.keep("archive", self._write)
        supervisor.keep("retention", self._retain)

    async def close(self) -> None:
        """Write what waits, if that is soon done."""
        if self._backlog and self._state != "away":
            with contextlib.suppress(TimeoutError, DatabaseAway):
                async with asyncio.timeout(_LAST_WRITE_S):
                    await self._write_all()
        if self._backlog:
            log.error("records_lost", entries=len(self._backlog), reason=self._reason)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._database.close()

    # -- what is kept --

    def keep_record(self, record: CallRecord, refused: bool = False) -> None:
        """A call has ended, or was refused."""
        self._put(KeptRecord(record, refused))

    def keep_entry(self, call_id: str, entry: TranscriptEntry) -> None:
        """Somebody has said something in a call."""
        self._put(KeptEntry(call_id, entry))

    def keep_recording(self, part: RecordingPart) -> None:
        """A part of a recording has begun, or is over."""
        self._put(part)

    # -- what is asked; each raises DatabaseAway --

    async def page(self, page: Page) -> list[CallRecord]:
        """Records, the newest first."""
        waiting = list(self._backlog)  # before the database is asked: it may be written meanwhile
        kept = {record.call_id: record for record in await self._ask(lambda: self._database.page(page))}
        for entry in waiting:
            if isinstance(entry, KeptRecord) and page.takes(entry.record):
                kept[entry.call_id] = entry.record
        return newest_first(list(kept.values()))[: page.limit]

    async def record(self, call_id: str) -> CallRecord | None:
        """The record of this call."""
        for entry in self._backlog:
            if isinstance(entry, KeptRecord) and entry.call_id == call_id:
                return entry.record
        return await self._ask(lambda: self._database.record(call_id))

    async def transcript(self, call_id: str) -> list[TranscriptEntry]:
        """What was said in this call, the oldest first. Raises :class:`Unreadable` as well."""
        waiting = list(self._backlog)
        entries = {each.number: each for each in await self._ask(lambda: self._database.transcript(call_id))}
        for entry in waiting:
            if isinstance(entry, KeptEntry) and entry.call_id == call_id:
                entries[entry.entry.number] = entry.entry
        return [entries[number] for number in sorted(entries)]

    async def recordings(
        self, limit: int, call_id: str | None = None, after: tuple[float, str, int] | None = None
    ) -> list[RecordingPart]:
        """Parts of recordings, of all calls or of one, the newest first."""
        waiting = list(self._backlog)
        found = await self._ask(lambda: self._database.recordings(limit, call_id, after))
        parts = {part.recording_id: part for part in found}
        for part in waiting:
            if not isinstance(part, RecordingPart) or call_id not in (None, part.call_id):
                continue
            if after is None or _order(part) < after:
                parts[part.recording_id] = part
        return sorted(parts.values(), key=_order, reverse=True)[:limit]

    async def recordings_due(self, place: str, days: float, most_bytes: int) -> list[RecordingPart]:
        """See :meth:`Database.recordings_due`; ``days`` 0: never by age."""
        before = time.time() - days * DAY_S if days else None
        return await self._ask(lambda: self._database.recordings_due(place, before, most_bytes))

    async def unfinished(self, place: str) -> list[RecordingPart]:
        """Parts in a place that were being written when it was left."""
        return await self._ask(lambda: self._database.unfinished(place))

    async def abandoned(self, own: Collection[str], days: float) -> list[RecordingPart]:
        """See :meth:`Database.abandoned`: nothing has begun there for so many days."""
        before = time.time() - days * DAY_S
        return await self._ask(lambda: self._database.abandoned(own, before))

    async def erase_recordings(self, parts: Sequence[RecordingPart]) -> None:
        """Leave nothing of these parts, whose files are gone."""
        async with self._writing:
            await self._ask(lambda: self._database.erase_recordings(parts))
            gone = {part.recording_id for part in parts}
            waiting = [each for each in self._backlog if isinstance(each, RecordingPart)]
            self._backlog.done([each for each in waiting if each.recording_id in gone])

    async def erase(self, call_ids: Sequence[str]) -> int:
        """Everything of these calls; how many had anything. Raises what ``before_erasing`` raises."""
        await self.before_erasing(call_ids)
        async with self._writing:  # nothing of them is on its way now
            erased = await self._ask(lambda: self._database.erase(call_ids))
            waiting = {entry.call_id for entry in self._backlog}.intersection(call_ids)
            for call_id in waiting:
                self._backlog.forget(call_id)
            return max(erased, len(waiting))

    # -- inside --

    def _put(self, entry: Entry) -> None:
        self._backlog.put(entry)
        self._news.set()

    async def _ask(self, work: Callable[[], T]) -> T:
        if not self._opened.is_set():
            if self._state != "away":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ANSWER_S):
                        await self._opened.wait()
            if not self._opened.is_set():
                raise DatabaseAway(self._reason or "the database is not open yet: try again in a moment")
        return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _write(self) -> None:
        back_off = BackOff(*_AGAIN_S)
        while True:
            began = time.monotonic()
            try:
                if not self._opened.is_set():
                    await self._in_thread(self._database.prepare)
                    self._opened.set()
                while True:
                    await self._write_all()
                    self._is("ready")
                    self._news.clear()
                    await self._news.wait()
            except DatabaseAway as error:
                self._is("away", str(error))
            await asyncio.sleep(back_off.pause(time.monotonic() - began))

    async def _write_all(self) -> None:
        while self._backlog:
            async with self._writing:  # what is erased meanwhile is in no batch
                batch = self._backlog.first(_BATCH)
                try:
                    await self._in_thread(lambda batch=batch: self._database.write(batch))  # type: ignore[misc]
                    self._backlog.done(batch)
                except Unwritable:
                    await self._write_singly(batch)

    async def _write_singly(self, batch: list[Entry]) -> None:
        for entry in batch:
            try:
                await self._in_thread(lambda entry=entry: self._database.write([entry]))  # type: ignore[misc]
                self._backlog.done([entry])
            except Unwritable as error:
                self._backlog.done([entry], lost=True)
                log.error("not_kept", call=entry.call_id, reason=str(error))

    async def _retain(self) -> None:
        while True:
            try:
                while due := await self._ask(self._due):
                    await self.erase(due)
                    log.info("records_erased", calls=len(due))
            except DatabaseAway:
                pass
            except NotErased as error:
                log.warning("records_not_erased", reason=str(error))
            await asyncio.sleep(_RETENTION_S)

    def _due(self) -> list[str]:
        days, most = self._retention.days, self._retention.most
        before = time.time() - days * DAY_S if days else None
        return self._database.due(before, most, max(1, most // REFUSED_SHARE), self.place)

    def _is(self, state: Literal["ready", "away"], reason: str = "") -> None:
        if state != self._state:
            if state == "away":
                log.error("database_away", reason=reason, waiting=len(self._backlog))
            elif self._state == "away":
                log.info("database_back")
        self._state, self._reason = state, reason


def _order(part: RecordingPart) -> tuple[float, str, int]:
    return part.began_at, part.call_id, part.number


async def _nothing(call_ids: Sequence[str]) -> None:
    """Nothing more is kept of calls."""
