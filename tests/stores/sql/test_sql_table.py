"""SQLAlchemyStore's table: made, found, listed, swept, and written to by hand."""

from __future__ import annotations

import threading
import typing as t
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from flask import session
from http_support import make_app
from overlapping import in_threads
from sql_servers import DATABASES, DatabaseServer
from sql_stores import open_store, operations, pass_time, statements, url_of

from flask_sessionstore import ConfigurationError, Record, SessionCorrupt, SessionGone, SessionKey, SessionTooLarge
from flask_sessionstore.stores import TableMissing
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.stores.sqlalchemy import store as module
from flask_sessionstore.testing import later

DAY = timedelta(days=1)
StartDatabase = t.Callable[[str], DatabaseServer]


# -- the table -------------------------------------------------------------------------------------------------------


def test_sqlite_makes_its_table_and_nobody_else_reads_its_files(tmp_path: Path) -> None:
    """When it is first missed, by whatever comes first: and once more, if somebody removes it."""
    path = tmp_path / "sessions.db"
    for name in operations(open_store("sqlite://", "session:")):
        store = open_store(f"sqlite:///{path}", "session:")
        operations(store)[name]()
        assert indexes(store) == 2
        assert {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == dict.fromkeys(
            ("sessions.db", "sessions.db-wal", "sessions.db-shm", "sessions.db-spare"), 0o600
        )
        store.table.drop(store.engine)
        store.engine.dispose()


def test_a_sqlite_file_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.touch()
    path.chmod(0o640)
    store = open_store(f"sqlite:///{path}", "session:")
    assert store.load(store.save(Record(state={"a": b"1"}), DAY)) is not None
    assert path.stat().st_mode & 0o777 == 0o640
    store.engine.dispose()


@pytest.fixture
def tableless(url: str) -> t.Iterator[SQLAlchemyStore]:
    """A store whose table was not created yet."""
    store = SQLAlchemyStore.from_url(url, table=f"t{uuid4().hex[:8]}")
    yield store
    store.engine.dispose()


@pytest.mark.parametrize("database", DATABASES)
def test_a_missing_table_is_named_with_the_remedy(tableless: SQLAlchemyStore) -> None:
    for call in operations(tableless).values():
        with pytest.raises(TableMissing, match="flask sessions create-schema") as caught:
            call()
        assert tableless.table.name in str(caught.value)
        assert isinstance(caught.value, ConfigurationError)
    tableless.create_schema()
    for call in operations(tableless).values():
        call()


@pytest.mark.parametrize("database", DATABASES)
def test_a_missing_table_is_an_error_of_the_operators(
    tableless: SQLAlchemyStore, caplog: pytest.LogCaptureFixture
) -> None:
    """No 503, which would say that it may pass."""
    app = make_app(tableless, TESTING=False)
    action = {"tests.action": lambda: session.setdefault("n", "1")}
    assert app.test_client().get("/", environ_overrides=action).status_code == 500
    assert "flask sessions create-schema" in caplog.text


def test_the_table_may_be_created_again_and_by_many_at_once(url: str) -> None:
    name, start = f"t{uuid4().hex[:8]}", threading.Barrier(6)
    stores = [SQLAlchemyStore.from_url(url, table=name) for _ in range(6)]
    waiting = iter(stores)

    def create() -> None:
        store = next(waiting)
        start.wait()
        store.create_schema()

    in_threads(6, create)
    key = stores[0].save(Record(state={"a": b"1"}), DAY)
    stores[1].create_schema()
    assert stores[2].load(key) is not None
    assert indexes(stores[0]) == 2
    for store in stores:
        store.engine.dispose()


def indexes(store: SQLAlchemyStore) -> int:
    return len(sa.inspect(store.engine).get_indexes(store.table.name))


def test_a_missing_index_is_made(tableless: SQLAlchemyStore) -> None:
    tableless.create_schema()
    for index in tableless.table.indexes:
        index.drop(tableless.engine)
        assert indexes(tableless) == 1
        tableless.create_schema()
        assert indexes(tableless) == 2


def test_migrations_find_the_table_as_it_should_be(tableless: SQLAlchemyStore) -> None:
    autogenerate = pytest.importorskip("alembic.autogenerate")
    migration = pytest.importorskip("alembic.runtime.migration")

    def differences() -> list[t.Any]:
        ours = {"include_name": lambda name, kind, parents: kind != "table" or name == tableless.table.name}
        with tableless.engine.connect() as connection:
            context = migration.MigrationContext.configure(connection, opts={"compare_type": True, **ours})
            return list(autogenerate.compare_metadata(context, tableless.metadata))

    assert [difference[0] for difference in differences()] == ["add_table", "add_index", "add_index"]
    tableless.create_schema()
    assert differences() == []


def test_a_table_in_a_schema_of_its_own(shared_database: StartDatabase) -> None:
    url = shared_database("postgresql").url
    store = SQLAlchemyStore.from_url(url, schema="web")
    with pytest.raises(TableMissing, match="web"):
        store.load(SessionKey.generate())
    with store.engine.connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA web")
    store.create_schema()
    store.create_schema()
    assert store.load(store.save(Record(state={"a": b"1"}), DAY)) is not None
    store.engine.dispose()


# -- owners and scans ------------------------------------------------------------------------------------------------


def test_an_owner_stands_beside_a_live_record_alone(store: SQLAlchemyStore) -> None:
    row = store.table.c

    def owners() -> list[str | None]:
        with store.engine.connect() as connection:
            return list(connection.execute(sa.select(row.owner).where(row.prefix == store.prefix)).scalars())

    key = store.save(Record(state={"a": b"1"}, owner="Łukasz"), DAY)
    assert owners() == ["Łukasz"]
    store.update_ttl(key)
    assert owners() == ["Łukasz"]
    record = t.cast("Record", store.load(key))
    store.update(key, later(record, {"a": b"2"}), DAY, replaces=record.revision)
    assert owners() == ["Łukasz"]
    store.delete(key)
    assert owners() == [None]
    store.drop(key.handle)
    store.save(Record(state={"a": b"1"}), DAY)
    assert owners() == [None]


def test_owners_that_are_alike_to_a_database_are_not_the_same(store: SQLAlchemyStore) -> None:
    """MySQL ignores blanks at the end, and PostgreSQL takes no NUL."""
    owners = ["ann", "ann ", "Ann", "änn", "a\0n", "a n", "👩"]
    keys = {owner: store.save(Record(state={"a": b"1"}, owner=owner), DAY) for owner in owners}
    for owner, key in keys.items():
        assert [entry.handle for entry in store.entries(owner)] == [key.handle]


def test_a_scan_goes_page_by_page_and_holds_nothing_meanwhile(
    store: SQLAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 4)
    handles = sorted(store.save(Record(state={"a": b"1"}), DAY).handle for _ in range(12))
    other = SQLAlchemyStore(store.engine, prefix="another:")
    other.save(Record(state={"a": b"1"}), DAY)
    found = []
    with statements(store) as sent:
        for entry in store.scan():
            found.append(entry.handle)
            store.drop(handles[10])  # in the middle of its page, and of a later one
    assert found == [handle for handle in handles if handle != handles[10]]
    assert sum(statement.startswith("SELECT") for statement in sent) == 3


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_the_sessions_of_an_owner_are_found_by_the_index(name: str, request: pytest.FixtureRequest) -> None:
    """Asked of the planner, with many sessions of others there."""
    table = f"t{uuid4().hex[:8]}"
    store = open_store(url_of(name, request), "session:", table=table)
    store.create_schema()
    row = {"prefix": "session:", "revision": bytes(8), "expires_at": 2**42, "data": bytes(100)}
    rows = [{**row, "handle": f"{n:064x}", "owner": str(n % 700) if n % 3 else None} for n in range(3000)]
    with store.engine.connect() as connection:
        connection.execute(sa.insert(store.table), rows)
        connection.exec_driver_sql(f"ANALYZE {table}")
        with statements(store) as sent:
            store.entries("7")
        (statement,) = sent
        explain = "EXPLAIN" if name == "postgresql" else "EXPLAIN QUERY PLAN"
        values = {"space": "session:", "whose": "7"}
        plan = "\n".join(map(str, connection.exec_driver_sql(f"{explain} {statement}", values)))
    assert f"ix_{table}_owner" in plan, plan
    assert "Seq Scan" not in plan
    store.engine.dispose()


# -- the broom -------------------------------------------------------------------------------------------------------


def test_a_sweep_goes_in_small_steps(store: SQLAlchemyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 4)
    for _ in range(10):
        store.save(Record(state={"a": b"1"}), timedelta(seconds=5))
    pass_time(store, 6)
    with statements(store) as sent:
        assert store.delete_expired(2) == 2
        assert len(sent) == 2
        assert store.delete_expired() == 8
    assert sum("DELETE" in statement for statement in sent) == 1 + 2


def test_the_longest_expired_go_first(store: SQLAlchemyStore) -> None:
    keys = [store.save(Record(state={"a": b"1"}), timedelta(seconds=n)) for n in (30, 10, 20)]
    pass_time(store, 40)
    store.delete_expired(2)
    pass_time(store, -40)
    assert [store.load(key) is not None for key in keys] == [True, False, False]


def test_many_sweep_at_once_beside_writers(store: SQLAlchemyStore, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each expired row is removed once, no live one, and nobody fails."""
    monkeypatch.setattr(module, "_BATCH", 20)
    for _ in range(200):
        store.save(Record(state={"a": b"1"}), timedelta(seconds=5))
    live = [store.save(Record(state={"n": b"0"}), DAY) for _ in range(3)]
    removed, start = [], threading.Barrier(6)
    roles = iter([*live, None, None, None])

    def work() -> None:
        key = next(roles)
        mine = open_store(url, store.prefix)
        pass_time(mine, 6)
        start.wait()
        if key is None:
            removed.append(mine.delete_expired())
        else:
            for _ in range(30):
                mine.update_ttl(key)
                mine.save(Record(state={"a": b"1"}), DAY)
        mine.engine.dispose()

    in_threads(6, work)
    pass_time(store, 6)
    assert sum(removed) + store.delete_expired() == 200
    assert all(store.load(key) is not None for key in live)


def test_a_row_that_came_to_life_meanwhile_is_not_swept(store: SQLAlchemyStore, url: str) -> None:
    """Between the look and the removal another takes the expired name."""
    key = store.save(Record(state={"a": b"1"}), timedelta(seconds=5))
    data = t.cast("bytes", store.read(key.handle))
    other = open_store(url, store.prefix)
    for each in (store, other):
        pass_time(each, 6)

    def revive(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE"):
            assert other.add(key.handle, data, DAY)

    sa.event.listen(store.engine, "before_cursor_execute", revive)
    assert store.delete_expired() == 0
    assert store.read(key.handle) == data
    other.engine.dispose()


# -- rows that somebody has written by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("planted", ["'text'", "''", "5", "1.5", "x''", "x'01'", "zeroblob(200)"])
def test_what_is_no_bytes_is_damage_and_can_be_listed_and_ended(planted: str, tmp_path: Path) -> None:
    """SQLite takes anything into any column: it is a warning and a new session, not a 500."""
    store = SQLAlchemyStore.from_url(f"sqlite:///{tmp_path}/sessions.db")
    store.create_schema()
    key = store.save(Record(state={"a": b"\x01"}, owner="ann"), DAY)
    sound = store.save(Record(state={"a": b"\x01"}, owner="ann"), DAY)
    with store.engine.begin() as connection:
        change = f"UPDATE {store.table.name} SET data = {planted} WHERE handle = :handle"
        connection.execute(sa.text(change), {"handle": key.handle})
    with pytest.raises(SessionCorrupt):
        store.load(key)
    assert {entry.handle for entry in store.scan()} == {key.handle, sound.handle}
    assert {entry.handle for entry in store.entries("ann")} == {key.handle, sound.handle}
    store.delete(key)
    with pytest.raises(SessionGone):
        store.load(key)
    store.engine.dispose()


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_record_larger_than_the_column_is_refused_before_it_is_sent(scheme: str) -> None:
    """Without strict mode the server would store its first 16 MiB. (Nothing listens at this address.)"""
    store = SQLAlchemyStore.from_url(f"{scheme}://127.0.0.1:9/none")
    key = SessionKey.generate()
    record = Record(state={"a": bytes(2**24)}, revisions=(b"revision",))
    writes: list[t.Callable[[], object]] = [
        lambda: store.save(record, DAY),
        lambda: store.update(key, record, DAY, replaces=b"revision"),
        lambda: store.renew(key, record, DAY, replaces=b"revision"),
    ]
    for write in writes:
        with pytest.raises(SessionTooLarge) as caught:
            write()
        assert caught.value.limit == 2**24 - 1
    store.engine.dispose()
