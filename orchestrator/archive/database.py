"""The database of records and transcripts: SQLite, or PostgreSQL by a URL. It blocks: call it in threads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from orchestrator.archive.entries import Entry, KeptEntry, KeptRecord, Page, RecordingPart, record_of
from orchestrator.archive.sealed_text import SealedTexts
from orchestrator.archive.tables import recordings, records, transcript_entries
from orchestrator.calls.records import CallRecord
from orchestrator.conversation.transcript import TranscriptEntry
from visavis.service.logs import Log

log = Log(__name__)

ANSWER_S = 5
"""How long the database may take to answer."""
_MIGRATING = 0x56495341
"""PostgreSQL's advisory lock of whoever brings the tables up to date."""
_BATCH = 500
DAY_S = 86_400.0


class DatabaseAway(Exception):
    """The database does not do what it is asked now, and may later: one sentence."""


class Unwritable(Exception):
    """Something that the database will never take: one sentence."""


def sqlite_url(file: Path) -> str:
    """Of a database in a file."""
    return sa.URL.create("sqlite", database=str(file)).render_as_string()


class Database:
    """``url``: ``sqlite:///FILE``, ``postgresql://user:password@host/name``. With ``key`` the texts of transcripts
    are encrypted. Raises :class:`DatabaseAway`."""

    def __init__(self, url: str, key: bytes | None = None) -> None:
        self._texts = SealedTexts(key)
        made = sa.make_url(url.replace("postgres://", "postgresql://", 1))
        self._sqlite = made.get_backend_name() == "sqlite"
        self._file = Path(made.database or "") if self._sqlite else None
        self._engine = self._open_sqlite(made) if self._sqlite else self._open_postgresql(made)

    def prepare(self) -> None:
        """Make the tables, or bring them up to date. Tables of a newer version are used as they are."""
        config = alembic.config.Config()
        config.set_main_option("script_location", "orchestrator.archive:migrations")
        with self._answering():
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.touch(mode=0o600)
            with self._engine.begin() as connection:
                if self._sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
                config.attributes["connection"] = connection
                try:
                    alembic.command.upgrade(config, "head")
                except CommandError as error:
                    log.warning("database_is_newer", reason=str(error))

    def write(self, entries: Sequence[Entry]) -> None:
        """All of these or none; what is there already is replaced. Raises :class:`Unwritable`."""
        try:
            rows_of_records = [_record_row(entry) for entry in entries if isinstance(entry, KeptRecord)]
            rows = [self._entry_row(entry) for entry in entries if isinstance(entry, KeptEntry)]
            parts = {part.recording_id: asdict(part) for part in entries if isinstance(part, RecordingPart)}
        except ValueError as error:
            raise Unwritable(f"it is no JSON: {error}") from None
        with self._answering(), self._engine.begin() as connection:
            values: list[dict[str, Any]]
            for table, values in (
                (records, rows_of_records),
                (transcript_entries, rows),
                (recordings, list(parts.values())),
            ):
                if values:
                    self._upsert(connection, table, values)

    def page(self, page: Page) -> list[CallRecord]:
        """Records, the newest first."""
        ended_at, call_id = records.c.ended_at, records.c.call_id
        query = sa.select(records.c.record).order_by(ended_at.desc(), call_id.desc()).limit(page.limit)
        if page.since is not None:
            query = query.where(ended_at >= page.since)
        if page.until is not None:
            query = query.where(ended_at < page.until)
        if page.after is not None:
            query = query.where(sa.tuple_(ended_at, call_id) < sa.tuple_(*map(sa.literal, page.after)))
        with self._answering(), self._engine.connect() as connection:
            return [record_of(json.loads(text)) for text in connection.scalars(query)]

    def record(self, call_id: str) -> CallRecord | None:
        """One call's."""
        query = sa.select(records.c.record).where(records.c.call_id == call_id)
        with self._answering(), self._engine.connect() as connection:
            text = connection.scalar(query)
        return None if text is None else record_of(json.loads(text))

    def transcript(self, call_id: str) -> list[TranscriptEntry]:
        """One call's, the oldest first. Raises :class:`Unreadable` without the key that it was written with."""
        names = list(TranscriptEntry.__dataclass_fields__)
        query = sa.select(*(transcript_entries.c[name] for name in names))
        query = query.where(transcript_entries.c.call_id == call_id).order_by(transcript_entries.c.number)
        with self._answering(), self._engine.connect() as connection:
            entries = [TranscriptEntry(**row) for row in connection.execute(query).mappings()]
        return [replace(each, text=self._texts.open(each.text, call_id, each.number)) for each in entries]

    def recordings(
        self, limit: int, call_id: str | None = None, after: tuple[float, str, int] | None = None
    ) -> list[RecordingPart]:
        """Parts of recordings, the newest first: older than that which ``after`` names by its beginning and id."""
        order = (recordings.c.began_at, recordings.c.call_id, recordings.c.number)
        query = sa.select(recordings).order_by(*(column.desc() for column in order)).limit(limit)
        if call_id is not None:
            query = query.where(recordings.c.call_id == call_id)
        if after is not None:
            query = query.where(sa.tuple_(*order) < sa.tuple_(*map(sa.literal, after)))
        return self._parts(query)

    def recordings_due(self, place: str, before: float | None, most_bytes: int) -> list[RecordingPart]:
        """Of the parts in a place those that are to be erased: begun before that time, or beyond the newest that
        fit into so many bytes. Some of them, the oldest first."""
        newer = (recordings.c.began_at.desc(), recordings.c.call_id, recordings.c.number)
        here = sa.select(recordings, sa.func.sum(recordings.c.size).over(order_by=newer).label("total"))
        here_too = here.where(recordings.c.place == place, recordings.c.state != "recording").subquery()
        due = here_too.c.total > most_bytes
        if before is not None:
            due = sa.or_(due, here_too.c.began_at < before)
        columns = [here_too.c[column.name] for column in recordings.c]
        return self._parts(sa.select(*columns).where(due).order_by(here_too.c.began_at).limit(_BATCH))

    def unfinished(self, place: str) -> list[RecordingPart]:
        """Parts in a place that were being written when it was left."""
        return self._parts(
            sa.select(recordings).where(recordings.c.place == place, recordings.c.state == "recording")
        )

    def abandoned(self, own: Collection[str], before: float) -> list[RecordingPart]:
        """Parts in folders other than these, in which nothing has begun since that time. Some of them."""
        place = recordings.c.place
        used = sa.select(place).where(recordings.c.began_at >= before)
        query = sa.select(recordings).where(place.like("folder %"), place.not_in(own), place.not_in(used))
        return self._parts(query.limit(_BATCH))

    def erase_recordings(self, parts: Sequence[RecordingPart]) -> None:
        """These parts from the list."""
        with self._answering(), self._engine.begin() as connection:
            for part in parts:
                one = sa.and_(recordings.c.call_id == part.call_id, recordings.c.number == part.number)
                connection.execute(sa.delete(recordings).where(one))

    def erase(self, call_ids: Sequence[str]) -> int:
        """Everything of these calls; how many had anything."""
        found = 0
        with self._answering(), self._engine.begin() as connection:
            for table in (recordings, transcript_entries, records):
                gone = connection.execute(sa.delete(table).where(table.c.call_id.in_(call_ids)))
                found = max(found, gone.rowcount)
        if self._sqlite:
            with self._answering(), self._engine.connect() as connection:
                connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))  # nothing is left in the log
        return found

    def due(self, before: float | None, most: int, most_refused: int, place: str = "") -> list[str]:
        """Calls that are to be erased, some of the oldest: ended before that time (seconds since the epoch), beyond
        the newest so many, and of the refused ones beyond so many; such as began a day before that time and have no
        record; none whose recording lies elsewhere than in ``place``."""
        refused = records.c.refused.is_(True)
        with self._answering(), self._engine.connect() as connection:
            due = self._oldest(connection, place, records.c.ended_at < before) if before is not None else []
            due += self._oldest(connection, place, sa.true(), beyond=most)
            due += self._oldest(connection, place, refused, beyond=most_refused)
            if before is not None:
                due += connection.scalars(_left_behind(before - DAY_S, place))
        return list(dict.fromkeys(due))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _entry_row(self, kept: KeptEntry) -> dict[str, Any]:
        row = kept.entry.as_dict()
        text = self._texts.seal(_text(row["text"]), kept.call_id, kept.entry.number)
        return row | {"call_id": kept.call_id, "text": text}

    def _parts(self, query: sa.Select[Any]) -> list[RecordingPart]:
        with self._answering(), self._engine.connect() as connection:
            return [RecordingPart(**row) for row in connection.execute(query).mappings()]

    def _oldest(
        self, connection: sa.Connection, place: str, which: sa.ColumnElement[bool], beyond: int = 0
    ) -> list[str]:
        newer = records.c.ended_at.desc(), records.c.call_id.desc()
        older = sa.select(records.c.call_id, records.c.ended_at).where(which).order_by(*newer).offset(beyond)
        found = older.subquery()
        elsewhere = (recordings.c.call_id == found.c.call_id) & (recordings.c.place != place)
        oldest = sa.select(found.c.call_id).where(~sa.exists().where(elsewhere)).order_by(found.c.ended_at)
        return list(connection.scalars(oldest.limit(_BATCH)))

    def _upsert(self, connection: sa.Connection, table: sa.Table, values: list[dict[str, Any]]) -> None:
        insert = (sqlite.insert if self._sqlite else postgresql.insert)(table)
        keys = [column.name for column in table.primary_key]
        others = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=others), values)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (DataError, IntegrityError, OverflowError) as error:
            raise Unwritable(_sentence(error)) from error
        except StatementError as error:
            if isinstance(error.orig, ValueError | TypeError | OverflowError):
                raise Unwritable(_sentence(error)) from error
            raise DatabaseAway(f"the database does not do it: {_sentence(error)}") from error
        except (SQLAlchemyError, OSError) as error:
            raise DatabaseAway(f"the database does not do it: {_sentence(error)}") from error

    @staticmethod
    def _open_sqlite(url: sa.URL) -> sa.Engine:
        # One connection for each use: a file takes no time to open, and may be used by any thread.
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": ANSWER_S})

        @sa.event.listens_for(engine, "connect")
        def _connected(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL").close()
            connection.execute("PRAGMA synchronous=NORMAL").close()
            connection.execute("PRAGMA secure_delete=ON").close()  # what is erased is overwritten

        return engine

    @staticmethod
    def _open_postgresql(url: sa.URL) -> sa.Engine:
        return sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=2,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=ANSWER_S,
            connect_args={
                "connect_timeout": ANSWER_S,
                "tcp_user_timeout": ANSWER_S * 1000,
                "application_name": "visavis",
                "options": f"-c statement_timeout={ANSWER_S}s -c lock_timeout={ANSWER_S}s",
            },
        )


def _left_behind(before: float, place: str) -> sa.Select[tuple[str]]:
    """Calls with transcripts that began before that time and have no record: their orchestrator was killed."""
    call_id = transcript_entries.c.call_id
    elsewhere = (recordings.c.call_id == call_id) & (recordings.c.place != place)
    old = (transcript_entries.c.number == 1) & (transcript_entries.c.began_at < before)
    recorded = sa.exists().where(records.c.call_id == call_id)
    return sa.select(call_id).where(old, ~recorded, ~sa.exists().where(elsewhere)).limit(_BATCH)


def _record_row(kept: KeptRecord) -> dict[str, Any]:
    record = kept.record
    row = {name: getattr(record, name) for name in ("call_id", "ended_at", "direction")}
    row |= {name: _text(getattr(record, name)) for name in ("caller", "dialled", "cause")}
    return row | {"refused": kept.refused, "record": json.dumps(asdict(record), allow_nan=False)}


def _text(value: str) -> str:
    """Without what a database does not take: NUL, and half a surrogate pair."""
    return value.replace("\0", "").encode("utf-8", "replace").decode()


def _sentence(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0][:300] if lines else type(cause).__name__
