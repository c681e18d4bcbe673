"""SQLAlchemyStore through a pooler, PgBouncer."""

from __future__ import annotations

import contextlib
import functools
import threading
import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
from overlapping import in_threads
from sql_servers import PgBouncer
from sql_stores import SQLContract, make_engine, open_store

from flask_sessionstore import Record, SessionConflict
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.testing import later

DAY = timedelta(days=1)
StartDatabase = t.Callable[[str], t.Any]


@pytest.fixture(scope="module")
def pgbouncer(shared_database: StartDatabase) -> t.Iterator[PgBouncer]:
    """Before the shared PostgreSQL, with two connections to it."""
    with PgBouncer(shared_database("postgresql"), pool_size=2) as pooler:
        store = open_store(pooler.url, "session:")
        store.create_schema()
        store.engine.dispose()
        yield pooler


class TestThroughPgBouncer(SQLContract):
    @pytest.fixture
    def database(self) -> str:
        return "pgbouncer"

    @pytest.fixture
    def url(self, pgbouncer: PgBouncer) -> str:
        return pgbouncer.url

    @pytest.fixture
    def store(self, url: str) -> t.Iterator[ServerSideStore]:
        prefix = f"{uuid4()}:"
        store = open_store(url, prefix)
        self.open = functools.partial(open_store, url, prefix=prefix)
        yield store
        store.engine.dispose()


def test_many_count_exactly_through_pgbouncer(pgbouncer: PgBouncer) -> None:
    """More threads than PgBouncer has connections, each with one of its own to it."""
    store = open_store(pgbouncer.url, f"{uuid4()}:")
    key = store.save(Record(state={"n": b"0"}), DAY)

    def count() -> None:
        done = 0
        while done < 10:
            record = t.cast("Record", store.load(key))
            state = {"n": str(int(record.state["n"]) + 1).encode()}
            with contextlib.suppress(SessionConflict):
                store.update(key, later(record, state), DAY, replaces=record.revision)
                done += 1

    in_threads(8, count)
    assert t.cast("Record", store.load(key)).state == {"n": b"80"}
    store.engine.dispose()


def test_the_applications_own_waits_are_not_cut_short_through_pgbouncer(
    pgbouncer: PgBouncer, shared_database: StartDatabase
) -> None:
    """The store uses each of PgBouncer's connections; then a transaction waits for a row for longer than it would."""
    store = open_store(pgbouncer.url, f"{uuid4()}:")
    in_threads(8, lambda: [store.update_ttl(store.save(Record(state={"a": b"1"}), DAY)) for _ in range(5)])
    engine = make_engine(pgbouncer.url, connect_args={"prepare_threshold": None})
    direct = make_engine(shared_database("postgresql").url)
    table = f"t{uuid4().hex[:8]}"
    with direct.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} AS SELECT 1 AS n")
    holding = direct.connect()
    holding.exec_driver_sql(f"UPDATE {table} SET n = 2")
    timer = threading.Timer(1.3, holding.rollback)
    with engine.begin() as connection:
        timer.start()
        connection.exec_driver_sql(f"UPDATE {table} SET n = n + 10")
    timer.join()
    with direct.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT n FROM {table}").scalar() == 11
    holding.close()
    for each in (engine, direct, store.engine):
        each.dispose()
