"""What the database of records has to do, whichever it is: for classes that bring ``open_database``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from orchestrator.archive import database as database_module
from orchestrator.archive.database import Database, DatabaseAway, Unwritable
from orchestrator.archive.entries import KeptEntry, KeptRecord, Page
from orchestrator.archive.sealed_text import SealedTexts, Unreadable
from orchestrator.archive.tables import metadata, transcript_entries
from tests.archive.support import record, recorded, said

Open = Callable[[], Database]


class DatabaseCases:
    """``open_database`` opens an empty database, or the same one again."""

    @pytest.fixture
    def database(self, open_database: Open) -> Database:
        made = open_database()
        made.prepare()
        return made

    def test_records_and_transcripts_outlive_who_wrote_them(
        self, database: Database, open_database: Open
    ) -> None:
        one = replace(record("c1"), caller="sip:\u00e4\u4f60@b")
        database.write([KeptRecord(one), KeptEntry("c1", said(2, "And \u00fc?")), KeptEntry("c1", said(1))])
        again = open_database()
        again.prepare()
        assert again.record("c1") == one and again.record("c2") is None
        assert again.transcript("c1") == [said(1), said(2, "And \u00fc?")]

    def test_what_is_written_twice_is_there_once(self, database: Database) -> None:
        for cause in ("api", "bye by us"):
            database.write([KeptRecord(record("c1", cause=cause)), KeptEntry("c1", said(1, cause))])
        assert [each.cause for each in database.page(Page(9))] == ["bye by us"]
        assert [each.text for each in database.transcript("c1")] == ["bye by us"]

    def test_with_a_key_what_was_said_is_nowhere_in_plain_and_read_as_before(
        self, database: Database, open_database: Open
    ) -> None:
        database.write([KeptEntry("c1", said(1, "Before the key."))])
        sealing = open_database()
        sealing._texts = SealedTexts(b"k" * 32)
        sealing.write([KeptEntry("c1", said(2, "And \u00fc?")), KeptEntry("c2", said(1, "Mine."))])
        assert [each.text for each in sealing.transcript("c1")] == ["Before the key.", "And \u00fc?"]
        with database._engine.connect() as connection:
            stored = connection.scalars(sa.select(transcript_entries.c.text)).all()
        assert "Before the key." in stored and not any("?" in text or "Mine" in text for text in stored)
        with pytest.raises(
            Unreadable, match="call 'c2' is encrypted, and VISAVIS_RECORDING_KEY_FILE names no"
        ):
            database.transcript("c2")
        assert database.erase(["c2"]) == 1 and database.transcript("c2") == []
        assert database.due(1e12, 9, 9) == ["c1"]

    def test_folders_in_which_nothing_has_begun_for_long_are_abandoned(self, database: Database) -> None:
        places = {
            "folder gone": [1.0, 5.0],
            "folder used": [2.0, 50.0],
            "folder own": [3.0],
            "s3://calls": [4.0],
        }
        for place, times in places.items():
            database.write([recorded(f"{place[-4:]}{at:.0f}", at, "whole", place) for at in times])
        database.write([recorded("gone6", 6.0, "recording", "folder gone")])
        assert database.abandoned({"folder own"}, 5.5) == []
        gone = database.abandoned({"folder own"}, 10.0)
        assert sorted(part.call_id for part in gone) == ["gone1", "gone5", "gone6"]
        assert {part.place for part in database.abandoned(set(), 10.0)} == {"folder gone", "folder own"}

    def test_pages_go_back_in_time(self, database: Database) -> None:
        calls = [record(f"c{number}", 100.0 + number // 3) for number in range(10)]  # three end at once
        database.write([KeptRecord(call) for call in calls])
        seen = list[str]()
        after: tuple[float, str] | None = None
        while page := database.page(Page(4, after=after)):
            seen += [call.call_id for call in page]
            after = page[-1].ended_at, page[-1].call_id
        assert seen == [f"c{number}" for number in reversed(range(10))]
        within = database.page(Page(9, since=101.0, until=102.0))
        assert [call.call_id for call in within] == ["c5", "c4", "c3"]

    def test_erased_is_erased(self, database: Database) -> None:
        database.write([KeptRecord(record("c1")), KeptEntry("c1", said(1)), KeptRecord(record("c2"))])
        assert database.erase(["c1", "nobody"]) == 1
        assert database.record("c1") is None and database.transcript("c1") == []
        assert database.record("c2") is not None
        assert database.erase(["c1"]) == 0

    def test_the_oldest_are_due_by_age_by_number_and_where_refused(self, database: Database) -> None:
        database.write([KeptRecord(record(f"c{number}", float(number))) for number in range(6)])
        database.write([KeptRecord(record(f"r{number}", 10.0 + number), refused=True) for number in range(4)])
        assert database.due(None, 10, 4) == []
        assert database.due(2.0, 10, 4) == ["c0", "c1"]
        assert database.due(None, 7, 4) == ["c0", "c1", "c2"]
        assert database.due(None, 10, 1) == ["r0", "r1", "r2"]

    @pytest.mark.parametrize("text", ["\0", "\ud800", "\x9b\u202e"])
    def test_whatever_callers_say_is_written(self, database: Database, text: str) -> None:
        call = replace(record("c1"), caller=f"sip:{text}@b", reason=text)
        database.write([KeptRecord(call), KeptEntry("c1", said(1, f"<{text}>"))])
        assert database.record("c1") == call
        assert len(database.transcript("c1")) == 1

    def test_what_is_no_json_is_told_apart_from_an_outage(self, database: Database) -> None:
        with pytest.raises(Unwritable):
            database.write([KeptRecord(replace(record("c1"), media={"jitter": float("nan")}))])
        with pytest.raises(Unwritable):
            database.write([KeptEntry("c1", replace(said(1), keys=2**80))])

    def test_two_that_start_at_once_make_one_set_of_tables(self, open_database: Open) -> None:
        failures = list[DatabaseAway]()

        def prepare(each: Database) -> None:
            for _ in range(5):
                try:
                    each.prepare()
                    return
                except DatabaseAway as error:
                    failures.append(error)
            raise AssertionError(failures)

        both = [open_database() for _ in range(2)]
        threads = [threading.Thread(target=prepare, args=(each,)) for each in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        both[0].write([KeptRecord(record("c1"))])
        assert both[1].record("c1") == record("c1")

    def test_the_newest_migration_makes_the_tables_that_the_code_knows(self, database: Database) -> None:
        with database._engine.connect() as connection:
            found = sa.inspect(connection)
            assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
            for name, table in metadata.tables.items():
                columns = {each["name"]: each for each in found.get_columns(name)}
                assert set(columns) == {column.name for column in table.c}
                assert {name for name, each in columns.items() if each["nullable"]} == {
                    column.name for column in table.c if column.nullable
                }
                assert found.get_pk_constraint(name)["constrained_columns"] == list(
                    table.primary_key.columns.keys()
                )
                assert {str(each["name"]) for each in found.get_indexes(name)} == {
                    str(each.name) for each in table.indexes
                }

    def test_tables_of_a_newer_version_are_used_as_they_are(
        self, database: Database, open_database: Open
    ) -> None:
        with database._engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        older = open_database()
        older.prepare()
        older.write([KeptRecord(record("c1"))])
        assert older.record("c1") == record("c1")

    def test_recordings_are_listed_closed_due_and_erased(self, database: Database) -> None:
        whole = [recorded(f"c{number}", 100.0 + number // 2, "whole") for number in range(5)]
        database.write(
            [*whole, recorded("c9", 200.0, "recording"), recorded("c8", 1.0, "whole", "elsewhere")]
        )
        seen, after = list[str](), None
        while page := database.recordings(2, after=after):
            seen += [part.recording_id for part in page]
            after = page[-1].began_at, page[-1].call_id, page[-1].number
        assert seen == ["c9-1", "c4-1", "c3-1", "c2-1", "c1-1", "c0-1", "c8-1"]
        assert database.recordings(9, "c3") == [whole[3]]
        assert database.unfinished("here") == [recorded("c9", 200.0, "recording")]
        assert database.recordings_due("here", None, 500) == []
        assert {part.call_id for part in database.recordings_due("here", 101.0, 500)} == {"c0", "c1"}
        due = database.recordings_due("here", None, 200)
        assert len(due) == 3 and {part.call_id for part in due[-1:]} < {"c2", "c3"}
        database.erase_recordings(whole[:3])
        assert database.recordings(9, "c0") == [] and database.recordings(9, "c3") != []
        assert database.erase(["c3"]) == 1 and database.recordings(9, "c3") == []

    def test_a_record_whose_recording_lies_elsewhere_is_not_due_here(self, database: Database) -> None:
        database.write([KeptRecord(record("c1", 1.0)), KeptRecord(record("c2", 2.0))])
        database.write([recorded("c1", 1.0, "whole", "elsewhere"), recorded("c2", 2.0, "whole")])
        assert database.due(9.0, 10, 10, "here") == ["c2"]

    def test_what_was_said_in_a_call_that_left_no_record_is_due_by_its_age(self, database: Database) -> None:
        """Its orchestrator was killed; a call that goes on has no record either."""
        day = 86_400.0
        database.write([KeptEntry("c1", said(1, began_at=2.5)), KeptEntry("c1", said(2, began_at=3.5))])
        database.write([KeptEntry("c2", said(1, began_at=1.5 * day)), KeptEntry("c3", said(1, began_at=2.5))])
        database.write([recorded("c3", 2.5, "whole", "elsewhere"), KeptRecord(record("c4", 2 * day))])
        database.write([KeptEntry("c4", said(1, began_at=2.5))])
        assert database.due(2 * day, 10, 10, "here") == ["c1"]
        assert database.due(None, 10, 10, "here") == []
        assert database.erase(["c1"])
        assert database.due(2 * day, 10, 10, "here") == []

    def test_many_whose_recordings_lie_elsewhere_keep_no_other_from_being_due(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As of an orchestrator that is no more, whose folder was its own."""
        monkeypatch.setattr(database_module, "_BATCH", 3)
        database.write([KeptRecord(record(f"c{number}", float(number))) for number in range(8)])
        database.write([recorded(f"c{number}", float(number), "whole", "elsewhere") for number in range(6)])
        assert database.due(7.0, 10, 10, "here") == ["c6"]
        assert database.due(None, 1, 10, "here") == ["c6"]

    def test_the_newest_are_kept_however_many_lie_elsewhere(self, database: Database) -> None:
        """Who cannot erase what another one recorded erases nothing newer in its place."""
        database.write([KeptRecord(record(f"c{number}", float(number))) for number in range(4)])
        database.write([recorded(f"c{number}", float(number), "whole", "elsewhere") for number in range(2)])
        assert database.due(None, 2, 10, "here") == []
        assert database.due(None, 1, 10, "here") == ["c2"]
