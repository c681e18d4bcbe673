"""SQLAlchemyStore with servers that take no writes any more, and strict ones."""

from __future__ import annotations

import contextlib
import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from overlapping import in_threads
from sql_servers import MariaDB, PostgreSQL
from sql_stores import connect_at_once, counted_connections, make_engine, open_store

from flask_sessionstore import Record, SessionConflict, StoreUnavailable
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import later

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def own_postgresql() -> t.Iterator[PostgreSQL]:
    """One whose settings may be changed."""
    with PostgreSQL(default_transaction_isolation="serializable") as server:
        yield server


@pytest.fixture(scope="module")
def own_mariadb() -> t.Iterator[MariaDB]:
    """One whose settings may be changed."""
    with MariaDB() as server:
        yield server


READ_ONLY = {
    "postgresql": (
        "ALTER ROLE sessions SET default_transaction_read_only = on",
        "ALTER ROLE sessions RESET default_transaction_read_only",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    ),
    "mariadb": ("SET GLOBAL tx_read_only = 1", "SET GLOBAL tx_read_only = 0", "SELECT 1"),
}


@pytest.mark.parametrize("kind", ["URL", "Engine"])
@pytest.mark.parametrize("name", READ_ONLY)
def test_a_server_that_takes_no_writes_any_more_is_left(request: pytest.FixtureRequest, name: str, kind: str) -> None:
    """The connections that are there lead to what was the primary; new ones lead to what is."""
    url, prefix = request.getfixturevalue(f"own_{name}").url, f"{uuid4()}:"
    turn_off, turn_on, _ = READ_ONLY[name]
    store = open_store(url, prefix) if kind == "URL" else SQLAlchemyStore(make_engine(url), prefix=prefix)
    store.create_schema()
    key = store.save(Record(state={"a": b"1"}), DAY)
    admin = make_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()
    admin.exec_driver_sql(turn_off)
    store.engine.dispose()
    try:
        connect_at_once(store, 3)
        with pytest.raises(StoreUnavailable):
            store.update_ttl(key)  # there is no other yet
    finally:
        admin.exec_driver_sql(turn_on)
    store.engine.dispose()
    assert store.update_ttl(key)
    admin.close()
    store.engine.dispose()


@pytest.mark.parametrize("kind", ["URL", "Engine"])
@pytest.mark.parametrize("name", READ_ONLY)
def test_a_write_after_a_failover_is_served_at_once(request: pytest.FixtureRequest, name: str, kind: str) -> None:
    url, prefix = request.getfixturevalue(f"own_{name}").url, f"{uuid4()}:"
    turn_off, turn_on, allow = READ_ONLY[name]
    store = open_store(url, prefix) if kind == "URL" else SQLAlchemyStore(make_engine(url), prefix=prefix)
    store.create_schema()
    key = store.save(Record(state={"a": b"1"}), DAY)
    admin = make_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()
    admin.exec_driver_sql(turn_off)
    store.engine.dispose()
    connect_at_once(store, 3)  # none of them takes writes
    admin.exec_driver_sql(allow)
    admin.exec_driver_sql(turn_on)
    with counted_connections(store) as made:
        for _ in range(3):
            store.update_ttl(key)
    assert made == [1]
    admin.close()
    store.engine.dispose()


def test_a_strict_isolation_makes_nobody_fail(own_postgresql: PostgreSQL) -> None:
    """Where each transaction is serializable, most of those that meet are undone, and tried again."""
    store = open_store(own_postgresql.url, f"{uuid4()}:")
    store.create_schema()
    key = store.save(Record(state={"n": b"0"}), DAY)
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "serializable"

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
