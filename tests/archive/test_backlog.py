"""What waits to be written is bounded, and what is lost is counted."""

from __future__ import annotations

from orchestrator.archive.backlog import Backlog
from orchestrator.archive.entries import KeptEntry, KeptRecord
from tests.archive.support import record, said


def test_the_oldest_is_lost_beyond_the_bound() -> None:
    backlog = Backlog(3)
    for number in range(5):
        backlog.put(KeptRecord(record(f"c{number}")))
    assert ([entry.call_id for entry in backlog], backlog.lost) == (["c2", "c3", "c4"], 2)


def test_entries_wait_until_they_are_written() -> None:
    backlog = Backlog()
    for number in range(4):
        backlog.put(KeptEntry("c1", said(number)))
    batch = backlog.first(2)
    backlog.put(KeptEntry("c1", said(4)))
    assert len(backlog) == 5
    backlog.done(batch)
    assert (len(backlog), backlog.lost) == (3, 0)
    backlog.done(backlog.first(1), lost=True)
    assert (len(backlog), backlog.lost) == (2, 1)


def test_what_is_written_and_lost_meanwhile_is_gone_once() -> None:
    backlog = Backlog(2)
    backlog.put(KeptRecord(record("c1")))
    batch = backlog.first(9)
    for call_id in ("c2", "c3"):
        backlog.put(KeptRecord(record(call_id)))
    assert backlog.lost == 1
    backlog.done(batch)
    assert [entry.call_id for entry in backlog] == ["c2", "c3"]


def test_a_call_is_forgotten() -> None:
    backlog = Backlog()
    backlog.put(KeptEntry("c1", said(1)))
    backlog.put(KeptRecord(record("c2")))
    backlog.forget("c1")
    assert [entry.call_id for entry in backlog] == ["c2"]
