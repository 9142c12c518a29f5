"""The database of records as a file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.archive.database import Database, DatabaseAway, sqlite_url
from orchestrator.archive.entries import KeptEntry, KeptRecord
from tests.archive.database_cases import DatabaseCases, Open
from tests.archive.support import record, said


class TestSqlite(DatabaseCases):
    @pytest.fixture
    def open_database(self, tmp_path: Path) -> Open:
        return lambda: Database(sqlite_url(tmp_path / "data" / "records.db"))


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "records.db"
    Database(sqlite_url(file)).prepare()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_of_an_erased_call_is_left_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    database = Database(sqlite_url(file))
    database.prepare()
    database.write([KeptEntry("c1", said(1, "the number is secret")), KeptRecord(record("c1"))])
    database.erase(["c1"])
    assert not any(b"secret" in each.read_bytes() for each in tmp_path.iterdir())


def test_with_a_key_no_word_that_was_said_is_in_the_file(tmp_path: Path) -> None:
    def written(folder: Path, key: bytes | None) -> bytes:
        database = Database(sqlite_url(folder / "records.db"), key)
        database.prepare()
        database.write([KeptEntry("c1", said(1, "my diagnosis is a secret")), KeptRecord(record("c1"))])
        assert [each.text for each in database.transcript("c1")] == ["my diagnosis is a secret"]
        return b"".join(each.read_bytes() for each in folder.iterdir())

    assert b"diagnosis" in written(tmp_path / "plain", None)
    assert b"diagnosis" not in written(tmp_path / "sealed", b"k" * 32)


def test_a_file_that_is_no_database_and_a_folder_that_cannot_be_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(DatabaseAway, match="file is not a database"):
        Database(sqlite_url(tmp_path / "text")).prepare()
    with pytest.raises(DatabaseAway, match=r"Not a directory|File exists"):
        Database(sqlite_url(tmp_path / "text" / "records.db")).prepare()


def test_a_server_that_is_not_there_is_a_sentence_without_its_password() -> None:
    database = Database("postgres://anna:secret@127.0.0.1:1/visavis")
    with pytest.raises(DatabaseAway) as raised:
        database.prepare()
    assert "secret" not in str(raised.value) and "127.0.0.1" in str(raised.value)
    database.close()
