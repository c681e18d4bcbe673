"""SQLAlchemyStore: the contract on real databases, and how many statements an operation is."""

from __future__ import annotations

import functools
import os
import threading
import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from overlapping import in_threads
from sql_servers import DatabaseServer
from sql_stores import UNKNOWN, SQLContract, count_statements, open_store, pass_time, statements

from flask_sessionstore import Record
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import StoreContract

DAY = timedelta(days=1)
StartDatabase = t.Callable[[str], DatabaseServer]


# -- the contract ----------------------------------------------------------------------------------------------------


class TestFromURL(SQLContract):
    """On every kind of database."""


class TestOnAGivenEngine(SQLContract):
    """On SQLite alone, for this is between SQLAlchemy and us."""

    @pytest.fixture
    def database(self) -> str:
        return "sqlite"

    @pytest.fixture
    def store(self, url: str, engine: sa.Engine) -> ServerSideStore:
        return SQLAlchemyStore(engine, prefix=f"{uuid4()}:")

    reopen = StoreContract.reopen  # what another process sees is no matter of the Engine


class TestInMemory(StoreContract):
    @pytest.fixture
    def store(self) -> ServerSideStore:
        store = SQLAlchemyStore.from_url("sqlite://")
        store.create_schema()
        return store

    poke = TestFromURL.poke


# -- one statement each ----------------------------------------------------------------------------------------------


def test_every_operation_is_as_many_statements_as_promised(store: SQLAlchemyStore) -> None:
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = t.cast("Record", store.load(key))

    count = functools.partial(count_statements, store)
    assert count(lambda: store.save(record, DAY)) == 1
    assert count(lambda: store.load(key)) == 1
    assert count(lambda: store.update(key, record, DAY, replaces=record.revision)) == 1
    assert count(lambda: store.update_ttl(key)) == 2
    assert count(lambda: store.drop(UNKNOWN)) == 1
    assert count(lambda: store.renew(key, record, DAY, replaces=record.revision)) == 2
    key = store.save(Record(state={"a": b"1"}), DAY)
    assert count(lambda: store.delete(key)) == 2


def test_sessions_are_counted_in_one_statement_each_under_its_prefix(store: SQLAlchemyStore, url: str) -> None:
    other = open_store(url, f"{store.prefix}b:")
    for kept in (store, other, other):
        kept.save(Record(state={"a": b"1"}), DAY)
    assert (store.count(), other.count()) == (1, 2)
    assert count_statements(store, store.count) == 1
    other.engine.dispose()


@pytest.mark.parametrize("kind", ["URL", "Engine"])
def test_the_events_of_an_engine_see_every_statement_and_those_of_a_url_none_of_requests(
    store: SQLAlchemyStore, engine: sa.Engine, kind: str
) -> None:
    store = store if kind == "URL" else SQLAlchemyStore(engine, prefix=store.prefix)
    with statements(store) as sent:
        key = store.save(Record(state={"a": b"1"}), DAY)
        record = t.cast("Record", store.load(key))
        store.update(key, record, DAY, replaces=record.revision)
        store.delete(key)
        store.drop(key.handle)
    assert len(sent) == {"URL": 0, "Engine": 6}[kind]


def test_mariadb_is_asked_once_an_operation(shared_database: StartDatabase) -> None:
    """Counted by the server itself: no BEGIN, COMMIT or ROLLBACK, no isolation level set, no ping."""
    if "skip_autocommit_rollback" not in (sa.create_engine.__doc__ or ""):
        pytest.skip("SQLAlchemy before 2.0.43 sends a ROLLBACK of nothing after each")
    store = open_store(shared_database("mariadb").url, "questions:")
    store.create_schema()
    key = store.save(Record(state={"a": b"1"}), DAY)

    with store.engine.connect() as connection:

        def asked() -> int:
            return int(connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Questions'").one()[1])

        before = asked()
        for _ in range(10):
            store.load(key)
        assert asked() - before == 10 + 1
    store.engine.dispose()


def test_an_exchange_for_the_very_same_is_done_all_the_same(store: SQLAlchemyStore) -> None:
    """MySQL would count no row that did not change."""
    key = store.save(Record(state={"a": b"1"}), DAY)
    now = store.now()
    store.clock = lambda: now
    data = t.cast("bytes", store.read(key.handle))
    revision = t.cast("Record", store.load(key)).revision
    assert store.swap(key.handle, data, DAY, replaces=revision)
    assert store.swap(key.handle, data, DAY, replaces=revision)


@pytest.mark.parametrize("expired", [False, True], ids=["free", "expired"])
def test_one_of_many_gets_a_name(store: SQLAlchemyStore, expired: bool) -> None:
    key = store.save(Record(state={"a": b"1"}), timedelta(seconds=5))
    data = t.cast("bytes", store.read(key.handle))
    name = key.handle if expired else UNKNOWN
    pass_time(store, 6)
    start, got = threading.Barrier(8), []

    def add() -> None:
        start.wait()
        got.append(store.add(name, data, DAY))

    in_threads(8, add)
    assert sorted(got) == [False] * 7 + [True]


def test_names_compare_byte_by_byte(store: SQLAlchemyStore) -> None:
    other = SQLAlchemyStore(store.engine, prefix=store.prefix.upper() + "É")
    key = store.save(Record(state={"a": b"1"}), DAY)
    assert other.load(key) is None
    assert store.read(key.handle.upper()) is None
    data = t.cast("bytes", store.read(key.handle))
    assert other.add(key.handle, data, DAY)
    other.drop(key.handle)
    assert store.load(key) is not None


def test_a_child_process_leaves_the_parents_connections_alone(store: SQLAlchemyStore) -> None:
    key = store.save(Record(state={"n": b"1"}), DAY)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if store.load(key) is not None and store.update_ttl(key) else 1)
        except BaseException:  # noqa: BLE001  - nothing of pytest may run in the child
            os._exit(2)
    assert store.load(key) is not None
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.load(key) is not None
