"""Stores in databases, for the tests of SQLAlchemyStore: how they are opened, and what they do."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import threading
import typing as t
from datetime import timedelta

import pytest
import sqlalchemy as sa
from every_store import sql_store
from overlapping import in_threads
from sql_servers import DatabaseServer

from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import StoreContract

DAY = timedelta(days=1)
UNKNOWN = "0" * 64
pass_time = StoreContract().pass_time


def url_of(name: str, request: pytest.FixtureRequest) -> str:
    """The URL of a shared database, where the table is."""
    store: SQLAlchemyStore = request.getfixturevalue("shared_sql_store")(name)
    if name == "sqlite":
        return str(store.engine.url.set(query={}))
    server: DatabaseServer = request.getfixturevalue("shared_database")(name)
    return server.url


def make_engine(url: str, **options: t.Any) -> sa.Engine:
    return sa.create_engine(with_driver(url), **options)


def with_driver(url: str) -> str:
    scheme, _, rest = url.partition(":")
    drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    return f"{drivers.get(scheme, scheme)}:{rest}"


def open_store(url: str, prefix: str, **options: t.Any) -> SQLAlchemyStore:
    return SQLAlchemyStore.from_url(url, prefix=prefix, **options)


class SQLContract(StoreContract):
    """The contract on a database that has a URL."""

    @pytest.fixture
    def store(self, database: str, url: str, request: pytest.FixtureRequest) -> ServerSideStore:
        store = sql_store(database, request)
        self.open = functools.partial(open_store, url, prefix=store.prefix)
        return store

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        store = t.cast("SQLAlchemyStore", store)
        row = store.table.c
        with store.engine.connect() as connection:
            found = connection.execute(
                sa.select(row.data).where(row.handle == handle, row.prefix == store.prefix)
            ).scalar()
        return None if found is None else bytes(found)

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        store = t.cast("SQLAlchemyStore", store)
        with store.engine.begin() as connection:
            connection.execute(sa.update(store.table).where(store.table.c.handle == handle).values(data=data))

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return self.open


@contextlib.contextmanager
def statements(store: SQLAlchemyStore) -> t.Iterator[list[str]]:
    """The statements that SQLAlchemy sends; those of requests only if the application has passed an Engine."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(store.engine, "before_cursor_execute", note)


def count_statements(store: SQLAlchemyStore, call: t.Callable[[], object]) -> int:
    """How many statements a call sends, as the driver or the server counts them. The store has one connection."""
    driver = t.cast("t.Any", store)._connections.lend(lambda connection: connection.connection.dbapi_connection)
    ways = {"sqlite": _by_sqlite, "postgresql": _by_libpq, "mysql": _by_mariadb}
    return ways[store.engine.dialect.name](driver, call)


def _by_sqlite(driver: t.Any, call: t.Callable[[], object]) -> int:
    sent: list[str] = []
    driver.set_trace_callback(sent.append)
    call()
    driver.set_trace_callback(None)
    return len(sent)


def _by_libpq(driver: t.Any, call: t.Callable[[], object]) -> int:
    with tempfile.TemporaryFile("w+") as file:
        driver.pgconn.trace(file.fileno())
        call()
        driver.pgconn.untrace()
        file.seek(0)
        return file.read().count("ReadyForQuery")  # ends each reply


def _by_mariadb(driver: t.Any, call: t.Callable[[], object]) -> int:
    def questions() -> int:
        with driver.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])

    before = questions()
    call()
    return questions() - before - 1


def connect_at_once(store: SQLAlchemyStore, number: int) -> None:
    """Let the store open so many connections at once."""
    start = threading.Barrier(number)
    in_threads(number, lambda: t.cast("t.Any", store)._connections.lend(lambda connection: start.wait()))


@contextlib.contextmanager
def counted_connections(store: SQLAlchemyStore) -> t.Iterator[list[int]]:
    """A list that grows by one with each new connection."""
    made: list[int] = []

    def note(*_args: object) -> None:
        made.append(1)

    sa.event.listen(store.engine, "connect", note)
    yield made
    sa.event.remove(store.engine, "connect", note)


def operations(store: SQLAlchemyStore) -> dict[str, t.Callable[[], object]]:
    data = b"\1\0" + bytes(100)
    return {
        "read": lambda: store.read(UNKNOWN),
        "add": lambda: store.add(UNKNOWN, data, DAY),
        "swap": lambda: store.swap(UNKNOWN, data, DAY, replaces=bytes(8)),
        "drop": lambda: store.drop(UNKNOWN),
        "delete_expired": lambda: store.delete_expired(10),
        "count": store.count,
    }
