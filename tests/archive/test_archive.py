"""The archive before a database that comes and goes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.archive import archive as archive_module
from orchestrator.archive.archive import DAY_S, Archive, Retention
from orchestrator.archive.backlog import Backlog
from orchestrator.archive.database import Database, DatabaseAway, sqlite_url
from orchestrator.archive.entries import Entry, Page
from orchestrator.calls.records import CallRecord
from tests.archive.support import record, said
from tests.support.waiting import until
from visavis.service.supervisor import Supervisor


class Outages(Database):
    """One that is ``away`` at times, and answers nobody while it ``hangs``."""

    away = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        self.answers.wait(10)
        if self.away:
            raise DatabaseAway("the database does not do it: it is away")

    def prepare(self) -> None:
        self._ask()
        super().prepare()

    def write(self, entries: Sequence[Entry]) -> None:
        self._ask()
        super().write(entries)

    def page(self, page: Page) -> list[CallRecord]:
        self._ask()
        return super().page(page)

    def erase(self, call_ids: Sequence[str]) -> int:
        self._ask()
        return super().erase(call_ids)


class Place:
    def __init__(self, folder: Path, retention: Retention | None = None) -> None:
        self.file = folder / "records.db"
        self.database = Outages(sqlite_url(self.file))
        self.archive = Archive(self.database, retention)
        self.supervisor = Supervisor()

    def start(self) -> None:
        self.archive.start(self.supervisor)

    async def close(self) -> None:
        await self.supervisor.close()
        await self.archive.close()

    def written(self) -> list[str]:
        """Calls whose records are in the file."""
        return [each.call_id for each in Database(sqlite_url(self.file)).page(Page(100))]


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(archive_module, "_AGAIN_S", (0.01, 0.01, 60.0))
    made = Place(tmp_path)
    yield made
    made.database.away = False
    made.database.answers.set()
    await made.close()


async def test_what_happened_while_the_database_was_away_is_written_when_it_is_back(place: Place) -> None:
    place.database.away = True
    place.start()
    place.archive.keep_record(record("c1", 1.0))
    place.archive.keep_entry("c1", said(1))
    await until(lambda: place.archive.status.state == "away")
    assert place.archive.status.reason == "the database does not do it: it is away"
    with pytest.raises(DatabaseAway, match="it is away"):
        await place.archive.page(Page(9))
    assert await place.archive.record("c1") == record("c1", 1.0)  # which needs no database
    place.database.away = False
    await until(lambda: place.archive.status.waiting == 0)
    assert place.archive.status.state == "ready" and place.written() == ["c1"]
    place.database.away = True  # once more, when it was up already
    place.archive.keep_record(record("c2", 2.0))
    await until(lambda: place.archive.status.state == "away")
    place.database.away = False
    await until(lambda: place.archive.status.waiting == 0)
    assert place.written() == ["c2", "c1"] and place.archive.status.lost == 0


async def test_nobody_waits_for_a_database_that_hangs(place: Place) -> None:
    place.start()
    place.archive.keep_record(record("c1"))
    await until(lambda: place.archive.status.waiting == 0)
    place.database.answers.clear()
    began = time.monotonic()
    for number in range(1000):
        place.archive.keep_entry("c1", said(number))
    assert time.monotonic() - began < 1.0
    asked = place.database.asked
    await until(lambda: place.database.asked > asked)
    await asyncio.wait_for(asyncio.sleep(0), 1)  # the loop turns
    place.database.answers.set()
    await until(lambda: place.archive.status.waiting == 0)
    assert len(await place.archive.transcript("c1")) == 1000


async def test_what_waits_too_long_is_lost_and_counted(place: Place) -> None:
    place.archive._backlog = Backlog(3)
    place.database.away = True
    place.start()
    for number in range(5):
        place.archive.keep_record(record(f"c{number}", float(number)))
    status = place.archive.status
    assert (status.waiting, status.lost) == (3, 2)
    place.database.away = False
    await until(lambda: place.archive.status.waiting == 0)
    assert place.written() == ["c4", "c3", "c2"]


async def test_what_cannot_be_written_costs_no_other(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    broken: Any = {"jitter": float("nan")}
    place.archive.keep_record(record("c1"))
    place.archive.keep_record(CallRecord(**{**vars(record("c2")), "media": broken}))
    place.archive.keep_record(record("c3", 6.0))
    place.start()
    await until(lambda: place.archive.status.waiting == 0)
    assert place.written() == ["c3", "c1"] and place.archive.status.lost == 1
    assert [vars(line)["fields"]["call"] for line in caplog.records if line.message == "not_kept"] == ["c2"]


async def test_what_is_not_written_yet_is_read_all_the_same(place: Place) -> None:
    place.start()
    place.archive.keep_record(record("c1", 1.0))
    await until(lambda: place.archive.status.waiting == 0)
    for number in (2, 3):
        place.archive.keep_record(record(f"c{number}", float(number)))
        place.archive.keep_entry("c1", said(number))
    assert [each.call_id for each in await place.archive.page(Page(2))] == ["c3", "c2"]
    assert [each.call_id for each in await place.archive.page(Page(2, after=(2.0, "c2")))] == ["c1"]
    assert [each.number for each in await place.archive.transcript("c1")] == [2, 3]


async def test_what_is_written_while_it_is_read_is_read(place: Place) -> None:
    """The database has answered without it when it is written, and waits no more when both are put together."""
    place.start()
    await until(lambda: place.archive.status.state == "ready")
    place.database.answers.clear()
    place.archive.keep_record(record("c1"))
    page = place.database.page

    def slow(wanted: Page) -> list[CallRecord]:
        found = Database.page(place.database, wanted)
        place.database.answers.set()
        deadline = time.monotonic() + 5
        while len(place.archive._backlog) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    place.database.page = slow  # type: ignore[method-assign]
    assert [each.call_id for each in await place.archive.page(Page(9))] == ["c1"]
    place.database.page = page  # type: ignore[method-assign]


async def test_what_is_erased_is_not_written_later(place: Place) -> None:
    place.start()
    await until(lambda: place.archive.status.state == "ready")
    place.database.answers.clear()
    place.archive.keep_record(record("c1"))
    await asyncio.sleep(0)
    place.archive.keep_entry("c1", said(1))
    erasing = asyncio.create_task(place.archive.erase(["c1"]))
    await asyncio.sleep(0)
    place.database.answers.set()
    assert await erasing == 1
    await until(lambda: place.archive.status.waiting == 0)
    assert place.written() == [] and await place.archive.transcript("c1") == []


async def test_nothing_is_erased_while_the_database_is_away(place: Place) -> None:
    place.start()
    place.archive.keep_record(record("c1"))
    await until(lambda: place.archive.status.waiting == 0)
    place.database.away = True
    with pytest.raises(DatabaseAway):
        await place.archive.erase(["c1"])
    place.database.away = False
    assert place.written() == ["c1"]


async def test_the_old_and_the_many_are_erased(tmp_path: Path) -> None:
    place = Place(tmp_path, Retention(days=1.0, most=20))
    now = time.time()
    for number in range(30):
        place.archive.keep_record(record(f"new{number}", now + number))
    place.archive.keep_record(record("old", now - 2 * DAY_S))
    place.archive.keep_entry("old", said(1))
    for number in range(5):
        place.archive.keep_record(record(f"refused{number}", now + 100 + number), refused=True)
    await asyncio.to_thread(place.database.prepare)
    await place.archive._write_all()
    place.start()
    await until(lambda: len(place.written()) == 17)
    kept = place.written()
    assert kept[:2] == ["refused4", "refused3"] and kept[2:] == [f"new{n}" for n in range(29, 14, -1)]
    assert await place.archive.transcript("old") == []
    await place.close()


async def test_the_last_records_are_written_at_the_end(place: Place) -> None:
    place.start()
    await until(lambda: place.archive.status.state == "ready")
    await place.supervisor.close()
    place.archive.keep_record(record("c1"))
    await place.archive.close()
    assert place.written() == ["c1"]
