"""The database of records as a server: a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from orchestrator.archive.database import Database
from tests.archive.database_cases import DatabaseCases, Open
from tests.peers.postgresql import PostgreSQL, postgresql

pytestmark = [pytest.mark.process, pytest.mark.peer("postgres")]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running:
        yield running


class TestPostgresql(DatabaseCases):
    @pytest.fixture
    def open_database(self, server: PostgreSQL) -> Iterator[Open]:
        engine = sa.create_engine(server.url.replace("postgresql", "postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        engine.dispose()
        opened = list[Database]()

        def once_more() -> Database:
            opened.append(Database(server.url))
            return opened[-1]

        yield once_more
        for each in opened:
            each.close()
