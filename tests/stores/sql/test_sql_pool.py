"""SQLAlchemyStore's pool: how many connections there are, and what becomes of them."""

from __future__ import annotations

import gc
import time
import typing as t
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from overlapping import in_threads
from sql_servers import DatabaseServer
from sql_stores import counted_connections, make_engine, open_store

from flask_sessionstore import ConfigurationError, Record, SessionKey, StoreUnavailable
from flask_sessionstore.stores import pool
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

DAY = timedelta(days=1)
StartDatabase = t.Callable[[str], DatabaseServer]


def connections(server: DatabaseServer, name: str) -> int:
    """How many a PostgreSQL has under this name of an application."""
    engine = make_engine(server.url)
    with engine.connect() as connection:
        query = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
        found: int = connection.execute(query, {"name": name}).scalar_one()
    engine.dispose()
    return found


def test_threads_that_end_leave_no_connections(shared_database: StartDatabase) -> None:
    """As with servers that have a thread for each request. And a store that goes leaves none either."""
    server, name = shared_database("postgresql"), uuid4().hex

    def use(store: SQLAlchemyStore) -> None:
        store.create_schema()
        key = store.save(Record(state={"a": b"1"}), DAY)
        for _ in range(20):
            in_threads(1, lambda: store.load(key))
        assert connections(server, name) == 1
        in_threads(20, lambda: [store.update_ttl(key) for _ in range(3)])
        assert connections(server, name) <= 20

    use(open_store(f"{server.url}?application_name={name}", f"{uuid4()}:"))
    gc.collect()
    deadline = time.monotonic() + 30
    while connections(server, name):  # they leave when they notice
        assert time.monotonic() < deadline


def test_more_threads_than_connections_are_served(url: str) -> None:
    store = open_store(url, f"{uuid4()}:", max_connections=3)
    key = store.save(Record(state={"a": b"1"}), DAY)
    made = []
    sa.event.listen(store.engine, "connect", lambda *_args: made.append(1))
    in_threads(40, lambda: [store.load(key) for _ in range(5)])
    assert len(made) <= 2
    store.engine.dispose()


def test_who_finds_no_free_connection_is_told_which_setting_says_how_many(
    store: SQLAlchemyStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_store(url, store.prefix, max_connections=1)
    monkeypatch.setattr("flask_sessionstore.stores.pool.time.sleep", lambda seconds: None)
    with pytest.raises(StoreUnavailable, match="max_connections"):
        t.cast("t.Any", one)._connections.lend(lambda connection: one.load(SessionKey.generate()))
    assert one.load(SessionKey.generate()) is None
    one.engine.dispose()


def test_there_is_at_least_one_connection() -> None:
    with pytest.raises(ConfigurationError, match="max_connections"):
        SQLAlchemyStore.from_url("sqlite://", max_connections=0)


def test_what_a_healthy_server_refuses_costs_no_connection(store: SQLAlchemyStore) -> None:
    key = store.save(Record(state={"a": b"1"}), DAY)
    data = t.cast("bytes", store.read(key.handle))
    with counted_connections(store) as made:
        assert not store.add(key.handle, data, DAY)
        assert store.load(key) is not None
    assert made == []


class Cut(BaseException):
    """What ends a greenlet."""


@pytest.mark.parametrize("kind", ["URL", "Engine"])
def test_a_connection_whose_exchange_was_cut_short_is_closed(
    store: SQLAlchemyStore, engine: sa.Engine, kind: str
) -> None:
    store = store if kind == "URL" else SQLAlchemyStore(engine, prefix=store.prefix)
    key = store.save(Record(state={"a": b"1"}), DAY)

    def cut(*_args: object) -> None:
        raise Cut

    with counted_connections(store) as made:
        with pytest.raises(Cut):
            t.cast("t.Any", store)._connections.lend(cut)
        assert store.load(key) is not None
    assert made == [1]


def test_a_connection_is_not_kept_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_STALE_TIME", 0)
    store = open_store(f"sqlite:///{tmp_path}/sessions.db", "session:")
    store.create_schema()
    made = []
    sa.event.listen(store.engine, "connect", lambda *_args: made.append(1))
    for _ in range(3):
        store.load(SessionKey.generate())
    assert len(made) == 3
    store.engine.dispose()
