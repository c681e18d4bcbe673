"""SQLAlchemyStore on SQLite: files that are shared, locked or full."""

from __future__ import annotations

import contextlib
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sql_stores import UNKNOWN, make_engine, open_store, pass_time

from flask_sessionstore import Record, SessionGone, SessionKey, StoreUnavailable
from flask_sessionstore.stores import StoreFull
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

DAY = timedelta(days=1)


def test_sqlite_is_set_up_for_many(tmp_path: Path) -> None:
    store = SQLAlchemyStore.from_url(f"sqlite:///{tmp_path}/sessions.db")
    with store.engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "wal_autocheckpoint")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 2000, "wal_autocheckpoint": 4000}
    store.engine.dispose()


def test_lookups_use_the_indexes(tmp_path: Path) -> None:
    """Asked of SQLite: all but two go by the key, nothing goes through all, and nothing is sorted."""
    store = open_store(f"sqlite:///{tmp_path}/sessions.db", "session:")
    store.create_schema()
    store.save(Record(state={"a": b"1"}), timedelta(seconds=5))
    pass_time(store, 6)
    sent: list[str] = []
    driver = t.cast("t.Any", store)._connections.lend(lambda connection: connection.connection.dbapi_connection)
    driver.set_trace_callback(sent.append)  # with their values
    store.read(UNKNOWN)
    store.swap(UNKNOWN, bytes(100), DAY, replaces=bytes(8))
    assert len(list(store.scan())) == 1
    assert store.delete_expired(10) == 1
    store.entries("ann")
    others = {
        "ORDER BY flask_sessions.expires_at": "ix_flask_sessions_expires_at",
        "owner = ": "ix_flask_sessions_owner",
    }
    with store.engine.connect() as connection:
        for statement in sent:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
            found = (index for part, index in others.items() if part in statement.partition("WHERE")[2])
            index = next(found, "sqlite_autoindex_flask_sessions_1")
            assert all(f"USING INDEX {index}" in str(row) for row in plan), (statement, plan)
    store.engine.dispose()


def test_to_count_sessions_only_those_that_end_within_a_minute_are_read(tmp_path: Path) -> None:
    """The data may be large; the rest is counted in the index."""
    store = open_store(f"sqlite:///{tmp_path}/sessions.db", "session:")
    driver = t.cast("t.Any", store)._connections.lend(lambda connection: connection.connection.dbapi_connection)
    sent: list[str] = []
    store.create_schema()
    driver.set_trace_callback(sent.append)  # with its values
    assert store.count() == 0
    with store.engine.connect() as connection:
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sent[-1]}")]
    index = "INDEX ix_flask_sessions_expires_at (prefix=? AND expires_at>?"
    assert [line for line in plan if line.startswith("SEARCH")] == [
        f"SEARCH flask_sessions USING COVERING {index})",
        f"SEARCH flask_sessions USING {index} AND expires_at<?)",
    ]
    store.engine.dispose()


def test_a_locked_sqlite_file_is_named_and_still_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    store = SQLAlchemyStore.from_url(f"{url}?timeout=0.05")
    store.create_schema()
    key = store.save(Record(state={"a": b"1"}), DAY)
    engine = make_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.update_ttl(key)
        assert store.load(key) is not None
        connection.rollback()
    store.update_ttl(key)
    for each in (engine, store.engine):
        each.dispose()


def test_a_full_sqlite_file_still_lets_sessions_end(tmp_path: Path) -> None:
    store = SQLAlchemyStore.from_url(f"sqlite:///{tmp_path}/sessions.db")
    store.create_schema()

    def limit(connection: t.Any, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 30")

    store.engine.dispose()
    sa.event.listen(store.engine, "connect", limit)
    key = store.save(Record(state={"a": bytes(10_000)}), DAY)

    def fill() -> None:
        for _ in range(100):
            store.save(Record(state={"a": bytes(3000)}), DAY)

    with pytest.raises(StoreFull):
        fill()
    store.delete(key)
    with contextlib.suppress(SessionGone):  # its tombstone, if there was room
        assert store.load(key) is None
    store.engine.dispose()


@pytest.mark.parametrize("what", ["no folder", "no database"])
def test_a_file_that_is_no_database_is_unavailability(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file" / "sessions.db" if what == "no folder" else tmp_path / "file"
    (tmp_path / "file").write_text("a text" * 1000)
    store = SQLAlchemyStore.from_url(f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable) as caught:
        store.load(SessionKey.generate())
    assert str(path) not in str(caught.value)
    store.engine.dispose()
