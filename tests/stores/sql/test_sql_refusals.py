"""SQLAlchemyStore: what cannot work is refused, with the remedy."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
import traceback
import typing as t
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sql_servers import DATABASES, PASSWORD, DatabaseServer
from sql_stores import make_engine, open_store, operations
from waits import IN_TIME

from flask_sessionstore import ConfigurationError, Record, SessionKey, StoreUnavailable
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

DAY = timedelta(days=1)
StartDatabase = t.Callable[[str], DatabaseServer]


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("sqlite:wrong-secret.db", "three before a relative path, four before an absolute path"),
        ("sqlite://wrong-secret.db", "three before a relative path, four before an absolute path"),
        ("postgresql+asyncpg://ann:wrong-secret@localhost/shop", r'write "postgresql\+psycopg://" instead'),
        ("sqlite+aiosqlite:///wrong-secret.db", 'write "sqlite://" instead'),
        ("postgresql+psycopg_async://ann:wrong-secret@localhost/shop", "synchronous"),
        ("nonsense://ann:wrong-secret@localhost/shop", "nonsense"),
        ("postgresql://ann:wrong-secret@localhost:wrong-secret/shop", "percent-encode"),
        ("mysql://ann:wrong-secret@localhost/shop?nonsense=1", "nonsense"),
        ("mysql+mysqldb://localhost/shop", "pip install mysqlclient"),
        ("postgresql+nonsense://localhost/shop", "nonsense"),
        ("not a URL, wrong-secret", "percent-encode"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_the_remedy(url: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        SQLAlchemyStore.from_url(url)
    assert "wrong-secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("scheme", ["postgres", "postgres+psycopg", "postgresql"])
def test_postgresql_has_the_names_that_hosters_write(scheme: str) -> None:
    store = SQLAlchemyStore.from_url(f"{scheme}://ann:secret@localhost/shop")
    assert store.engine.url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize("engine", ["sqlite:///file", None, sa.MetaData()], ids=["a URL", "nothing", "else"])
def test_what_is_no_engine_is_refused(engine: t.Any) -> None:
    with pytest.raises(ConfigurationError, match="takes a synchronous Engine"):
        SQLAlchemyStore(engine)


@pytest.mark.parametrize("pool", [None, sa.StaticPool])
def test_an_engine_of_one_connection_is_refused(pool: type[sa.Pool] | None) -> None:
    engine = sa.create_engine("sqlite://", poolclass=pool)
    with pytest.raises(ConfigurationError, match='"memory:"'):
        SQLAlchemyStore(engine)


@pytest.mark.parametrize("name", DATABASES)
def test_what_is_no_database_is_unavailable(name: str) -> None:
    """Something else answers on that port: in words of its own, and hardly at all."""
    answers = (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\x00\x00\x00\x0a5.5\x00", b"\x01\x00\x00\x00", b"")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for text in itertools.cycle(answers):  # whatever fails at once is tried again
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.sendall(text)

        threading.Thread(target=answer, daemon=True).start()
        store = SQLAlchemyStore.from_url(f"{name}://ann:wrong-secret@127.0.0.1:{listener.getsockname()[1]}/shop")
        for _ in answers:
            with pytest.raises(StoreUnavailable) as caught:
                store.load(SessionKey.generate())
            assert "wrong-secret" not in "".join(traceback.format_exception(caught.value))


def test_a_driver_that_lacks_its_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("no pq wrapper available")

    monkeypatch.setattr("sqlalchemy.dialects.postgresql.psycopg.PGDialect_psycopg.import_dbapi", broken)
    with pytest.raises(ConfigurationError, match=r"\(no pq wrapper available\): pip install .* 'psycopg\[binary\]'"):
        SQLAlchemyStore.from_url("postgresql://localhost/shop")


def test_a_table_whose_indexes_would_have_too_long_names_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="48"):
        SQLAlchemyStore.from_url("sqlite://", table="x" * 49)


def test_the_longest_table_name_works_with_its_indexes(shared_database: StartDatabase) -> None:
    for name in DATABASES:
        store = SQLAlchemyStore.from_url(shared_database(name).url, table="x" * 48)
        store.create_schema()
        assert len(sa.inspect(store.engine).get_indexes("x" * 48)) >= 2
        store.table.drop(store.engine)
        store.engine.dispose()


def test_a_schema_that_could_not_be_finished_is_an_error(tmp_path: Path) -> None:
    store = SQLAlchemyStore.from_url(f"sqlite:///{tmp_path}/sessions.db?timeout=0.05")
    store.create_schema()
    for index in store.table.indexes:
        index.drop(store.engine)
    other = make_engine(f"sqlite:///{tmp_path}/sessions.db")
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.create_schema()
    store.create_schema()
    assert len(sa.inspect(store.engine).get_indexes(store.table.name)) == 2
    other.dispose()
    store.engine.dispose()


def test_an_overlong_prefix_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="64"):
        SQLAlchemyStore.from_url("sqlite://", prefix="x" * 65)


@pytest.mark.parametrize("wrong", ["password", "database", "host"])
@pytest.mark.parametrize("name", DATABASES)
def test_who_is_not_let_in_is_told_so_and_shows_no_password(
    shared_database: StartDatabase, name: str, wrong: str
) -> None:
    url = (
        shared_database(name).url.replace(PASSWORD, "wrong-secret")
        if wrong == "password"
        else shared_database(name).url
    )
    url = f"{url}_other" if wrong == "database" else url
    url = url.replace("127.0.0.1", "nowhere.invalid") if wrong == "host" else url
    store = SQLAlchemyStore.from_url(url)
    with pytest.raises(StoreUnavailable, match="session database") as caught:
        store.load(SessionKey.generate())
    shown = "".join(traceback.format_exception(caught.value)) + repr(store)
    assert "wrong-secret" not in shown
    assert PASSWORD not in shown
    assert isinstance(caught.value.__cause__, sa.exc.DBAPIError)


@pytest.fixture
def narrow_table(engine: sa.Engine) -> str:
    """The name of a table that lacks most columns."""
    name = f"t{uuid4().hex[:8]}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {name} (handle CHAR(64))")
    return name


@pytest.mark.parametrize("kind", ["URL", "Engine"])
def test_no_error_shows_what_is_in_a_session(engine: sa.Engine, url: str, narrow_table: str, kind: str) -> None:
    """An Engine's own errors would quote the parameters."""
    if kind == "URL":
        store = SQLAlchemyStore.from_url(url, table=narrow_table)
    else:
        store = SQLAlchemyStore(engine, table=narrow_table)
    record = Record(state={"a": bytes(range(65, 90))})
    with pytest.raises(StoreUnavailable) as caught:
        store.save(record, DAY)
    assert "ABCDE" not in "".join(traceback.format_exception(caught.value))
    store.engine.dispose()


@pytest.mark.parametrize("operation", ["read", "add", "swap", "drop"])
def test_the_causes_of_errors_are_the_same_with_a_url_and_an_engine(
    engine: sa.Engine, url: str, narrow_table: str, operation: str
) -> None:
    """SQLAlchemy's exceptions, around those of the driver."""
    stores = (SQLAlchemyStore.from_url(url, table=narrow_table), SQLAlchemyStore(engine, table=narrow_table))

    def cause(store: SQLAlchemyStore) -> t.Any:
        with pytest.raises(StoreUnavailable, match="refused") as caught:
            operations(store)[operation]()
        return caught.value.__cause__

    one, other = map(cause, stores)
    assert type(one) is type(other)
    assert type(one.orig) is type(other.orig)
    assert one.__cause__ is one.orig
    assert narrow_table in one.statement
    assert not one.connection_invalidated
    stores[0].engine.dispose()


def test_an_exhausted_pool_is_named(url: str) -> None:
    engine = make_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    store = SQLAlchemyStore(engine)
    store.create_schema()
    with engine.connect(), pytest.raises(StoreUnavailable, match="pool_size"):
        store.load(SessionKey.generate())
    assert store.load(SessionKey.generate()) is None
    engine.dispose()


@pytest.mark.long
def test_a_row_that_others_keep_locked_is_given_up_in_time(shared_database: StartDatabase) -> None:
    for name in DATABASES:
        store = open_store(shared_database(name).url, f"{uuid4()}:")
        store.create_schema()
        key = store.save(Record(state={"a": b"1"}), DAY)
        engine = make_engine(shared_database(name).url)
        with engine.begin() as connection:
            connection.execute(sa.select(store.table).where(store.table.c.handle == key.handle).with_for_update())
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.update_ttl(key)
            assert time.monotonic() - started < IN_TIME
            assert store.load(key) is not None
            if name == "postgresql":  # nothing goes on waiting there
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                assert connection.execute(sa.text(waiting)).scalar() == 0
        assert store.update_ttl(key)
        engine.dispose()
        store.engine.dispose()
