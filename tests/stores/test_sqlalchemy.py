"""SQLAlchemyStore: the contract on real databases, and what is its own: transactions, the table, sweeps, failures."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
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
from every_store import sql_store
from flask import Flask, session
from http_support import make_app
from sql_servers import DATABASES, PASSWORD, DatabaseServer

from flask_sessionstore import (
    ConfigurationError,
    Record,
    SessionConflict,
    SessionCorrupt,
    SessionGone,
    SessionKey,
    SessionManager,
    SessionTooLarge,
    StoreUnavailable,
)
from flask_sessionstore.stores import ServerSideStore, StoreFull, TableMissing, pool
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.stores.sqlalchemy import store as module
from flask_sessionstore.testing import StoreContract, later

DAY = timedelta(days=1)
UNKNOWN = "0" * 64
pass_time = StoreContract().pass_time

StartDatabase = t.Callable[[str], DatabaseServer]


@pytest.fixture(params=DATABASES, scope="module")
def frail_server(request: pytest.FixtureRequest) -> t.Iterator[DatabaseServer]:
    """A server to be paused or killed."""
    with DATABASES[request.param]() as server:
        yield server


@pytest.fixture
def own_server(frail_server: DatabaseServer) -> DatabaseServer:
    """That server, running, whatever another test has left."""
    frail_server.resume()
    if not frail_server.running:
        frail_server.start()
    return frail_server


@pytest.fixture(params=["sqlite", *DATABASES])
def database(request: pytest.FixtureRequest) -> str:
    """Every kind of database in turn."""
    return t.cast("str", request.param)


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest) -> str:
    return url_of(database, request)


def url_of(name: str, request: pytest.FixtureRequest) -> str:
    """The URL of a shared database, where the table is."""
    store: SQLAlchemyStore = request.getfixturevalue("shared_sql_store")(name)
    if name == "sqlite":
        return str(store.engine.url.set(query={}))
    server: DatabaseServer = request.getfixturevalue("shared_database")(name)
    return server.url


@pytest.fixture
def engine(url: str) -> t.Iterator[sa.Engine]:
    """An application's own, with SQLAlchemy's defaults."""
    engine = make_engine(url)
    yield engine
    engine.dispose()


def make_engine(url: str, **options: t.Any) -> sa.Engine:
    return sa.create_engine(with_driver(url), **options)


def with_driver(url: str) -> str:
    scheme, _, rest = url.partition(":")
    drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    return f"{drivers.get(scheme, scheme)}:{rest}"


def open_store(url: str, prefix: str, **options: t.Any) -> SQLAlchemyStore:
    return SQLAlchemyStore.from_url(url, prefix=prefix, **options)


@pytest.fixture
def store(url: str) -> t.Iterator[SQLAlchemyStore]:
    store = open_store(url, prefix=f"{uuid4()}:")
    yield store
    store.engine.dispose()


# -- the contract --------------------------------------------------------------------------------------------------


class TestFromURL(StoreContract):
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


class TestOnAGivenEngine(TestFromURL):
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


# -- one statement each --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def statements(store: SQLAlchemyStore) -> t.Iterator[list[str]]:
    """What is sent meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(store.engine, "before_cursor_execute", note)


def test_every_operation_is_as_many_statements_as_promised(store: SQLAlchemyStore) -> None:
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = t.cast("Record", store.load(key))

    def count(call: t.Callable[[], object]) -> int:
        with statements(store) as sent:
            call()
        return len(sent)

    assert count(lambda: store.save(record, DAY)) == 1
    assert count(lambda: store.load(key)) == 1
    assert count(lambda: store.update(key, record, DAY, replaces=record.revision)) == 1
    assert count(lambda: store.update_ttl(key)) == 2
    assert count(lambda: store.drop(UNKNOWN)) == 1
    assert count(lambda: store.renew(key, record, DAY, replaces=record.revision)) == 2
    key = store.save(Record(state={"a": b"1"}), DAY)
    assert count(lambda: store.delete(key)) == 2


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


def in_threads(number: int, call: t.Callable[[], object]) -> None:
    """Run it in so many threads, to the end; none may fail."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  - a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


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


# -- connections ---------------------------------------------------------------------------------------------------


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


@contextlib.contextmanager
def counted_connections(store: SQLAlchemyStore) -> t.Iterator[list[int]]:
    """One for each that is made meanwhile."""
    made: list[int] = []

    def note(*_args: object) -> None:
        made.append(1)

    sa.event.listen(store.engine, "connect", note)
    yield made
    sa.event.remove(store.engine, "connect", note)


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

    sa.event.listen(store.engine, "after_cursor_execute", cut)
    with counted_connections(store) as made:
        with pytest.raises(Cut):
            store.load(key)
        sa.event.remove(store.engine, "after_cursor_execute", cut)
        assert store.load(key) is not None
    assert made == [1]


def at_once(store: SQLAlchemyStore, number: int, call: t.Callable[[], object]) -> None:
    """In so many threads, each with a connection of its own."""
    start = threading.Barrier(number)

    def wait(*_args: object) -> None:
        start.wait()

    sa.event.listen(store.engine, "before_cursor_execute", wait)
    in_threads(number, call)
    sa.event.remove(store.engine, "before_cursor_execute", wait)


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


# -- beside the application's own transactions ---------------------------------------------------------------------


class Shop(t.NamedTuple):
    """An application with a table and sessions in one database."""

    app: Flask
    store: SQLAlchemyStore
    db: t.Any
    thing: t.Any

    def stored(self) -> int:
        """How many things others see."""
        engine = make_engine(str(self.app.config["SQLALCHEMY_DATABASE_URI"]))
        with engine.connect() as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(self.thing.__table__)).scalar_one()
        engine.dispose()
        return count


@pytest.fixture
def shop(url: str) -> t.Iterator[Shop]:
    flask_sqlalchemy = pytest.importorskip("flask_sqlalchemy")
    db = flask_sqlalchemy.SQLAlchemy()

    class Thing(db.Model):  # type: ignore[name-defined, misc]
        __tablename__ = f"things_{uuid4().hex[:8]}"
        id = db.Column(db.Integer, primary_key=True)

    app = Flask("shop")
    app.config.update(SECRET_KEY="a secret", TESTING=True, SQLALCHEMY_DATABASE_URI=with_driver(url))
    db.init_app(app)
    SessionManager(app, store=lambda app: SQLAlchemyStore(db.engine, prefix=f"{uuid4()}:"))
    store = t.cast("SQLAlchemyStore", t.cast("t.Any", app.session_interface).store)
    with app.app_context():
        db.create_all()
        store.create_schema()
    yield Shop(app, store, db, Thing)
    store.engine.dispose()


def test_what_the_view_did_not_commit_stays_uncommitted(shop: Shop) -> None:
    """A session is read, saved and changed while the view's transaction is open, and neither knows of the other."""

    @shop.app.get("/")
    def index() -> str:
        shop.db.session.add(shop.thing())
        if shop.db.engine.name != "sqlite":  # of which one connection writes at a time
            shop.db.session.flush()
        session["n"] = session.get("n", 0) + 1
        session.save()  # type: ignore[attr-defined]
        assert shop.stored() == 0
        return str(session["n"])

    browser = shop.app.test_client()
    assert [browser.get("/").text for _ in range(3)] == ["1", "2", "3"]
    assert shop.stored() == 0


def test_a_rollback_of_the_view_keeps_the_session_and_a_commit_is_its_own(shop: Shop) -> None:
    @shop.app.get("/<what>")
    def index(what: str) -> str:
        session["n"] = session.get("n", 0) + 1
        session.save()  # type: ignore[attr-defined]
        shop.db.session.add(shop.thing())
        getattr(shop.db.session, what)()
        return str(session["n"])

    browser = shop.app.test_client()
    assert [browser.get(path).text for path in ("/rollback", "/commit", "/rollback")] == ["1", "2", "3"]
    assert shop.stored() == 1


def test_the_applications_connections_come_back_as_they_were(store: SQLAlchemyStore, engine: sa.Engine) -> None:
    """Those that this store has borrowed still have transactions."""
    given = SQLAlchemyStore(engine, prefix=store.prefix)
    key = given.save(Record(state={"a": b"1"}), DAY)
    with engine.connect() as connection:
        connection.execute(sa.delete(given.table).where(given.table.c.handle == key.handle))
        connection.rollback()
    assert given.load(key) is not None


def test_several_applications_share_a_database(url: str) -> None:
    """By their prefixes in one table, or by tables of their own."""
    name = f"t{uuid4().hex[:8]}"
    options: list[dict[str, t.Any]] = [{"prefix": "one:"}, {"prefix": "two:"}, {"prefix": "one:", "table": name}]
    stores = [SQLAlchemyStore.from_url(url, **option) for option in options]
    keys = []
    for store in stores:
        store.create_schema()
        keys.append(store.save(Record(state={"a": b"1"}), timedelta(seconds=5)))
    assert [[s.load(key) is not None for key in keys] for s in stores] == [
        [True, False, False], [False, True, False], [False, False, True],
    ]  # fmt: skip
    pass_time(stores[1], 6)
    assert stores[1].delete_expired() == 1
    assert [s.load(key) is not None for s, key in zip(stores, keys, strict=True)] == [True, False, True]
    for store in stores:
        store.engine.dispose()


# -- the table -----------------------------------------------------------------------------------------------------


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


def operations(store: SQLAlchemyStore) -> dict[str, t.Callable[[], object]]:
    data = b"\1\0" + bytes(100)
    return {
        "read": lambda: store.read(UNKNOWN),
        "add": lambda: store.add(UNKNOWN, data, DAY),
        "swap": lambda: store.swap(UNKNOWN, data, DAY, replaces=bytes(8)),
        "drop": lambda: store.drop(UNKNOWN),
        "delete_expired": lambda: store.delete_expired(10),
    }


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


# -- owners and scans ----------------------------------------------------------------------------------------------


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
        values: t.Any = {"space": "session:", "whose": "7"} if name == "postgresql" else ("session:", "7")
        plan = "\n".join(map(str, connection.exec_driver_sql(f"{explain} {statement}", values)))
    assert f"ix_{table}_owner" in plan, plan
    assert "Seq Scan" not in plan
    store.engine.dispose()


# -- the broom -----------------------------------------------------------------------------------------------------


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


# -- what cannot work ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("postgres://ann:wrong-secret@localhost/shop", r"postgresql\+psycopg://"),
        ("postgres+psycopg://ann:wrong-secret@localhost/shop", r"postgresql\+psycopg://"),
        ("postgresql+psycopg_async://ann:wrong-secret@localhost/shop", "synchronous"),
        ("nonsense://ann:wrong-secret@localhost/shop", "nonsense"),
        ("postgresql://ann:wrong-secret@localhost:wrong-secret/shop", "percent-encode"),
        ("mysql://ann:wrong-secret@localhost/shop?nonsense=1", "nonsense"),
        ("mysql+mysqldb://localhost/shop", "pip install 'mysqlclient'"),
        ("postgresql+nonsense://localhost/shop", "nonsense"),
        ("not a URL, wrong-secret", "percent-encode"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_the_remedy(url: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        SQLAlchemyStore.from_url(url)
    assert "wrong-secret" not in "".join(traceback.format_exception(caught.value))


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
    with pytest.raises(ConfigurationError, match=r"pip install 'psycopg\[binary\]'"):
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


def test_no_error_shows_what_is_in_a_session(engine: sa.Engine) -> None:
    """An Engine's own errors would quote the parameters."""
    table = f"t{uuid4().hex[:8]}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} (handle CHAR(64))")  # and no other column
    store = SQLAlchemyStore(engine, table=table)
    record = Record(state={"a": bytes(range(65, 90))})
    with pytest.raises(StoreUnavailable) as caught:
        store.save(record, DAY)
    assert "ABCDE" not in "".join(traceback.format_exception(caught.value))


def test_an_exhausted_pool_is_named(url: str) -> None:
    engine = make_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    store = SQLAlchemyStore(engine)
    store.create_schema()
    with engine.connect(), pytest.raises(StoreUnavailable, match="pool_size"):
        store.load(SessionKey.generate())
    assert store.load(SessionKey.generate()) is None
    engine.dispose()


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
            assert time.monotonic() - started < 4
            assert store.load(key) is not None
            if name == "postgresql":  # nothing goes on waiting there
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                assert connection.execute(sa.text(waiting)).scalar() == 0
        assert store.update_ttl(key)
        engine.dispose()
        store.engine.dispose()


# -- SQLite --------------------------------------------------------------------------------------------------------


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
    with statements(store) as sent:
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
            parameters = ("x",) * statement.count("?")
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            found = (index for part, index in others.items() if part in statement.partition("WHERE")[2])
            index = next(found, "sqlite_autoindex_flask_sessions_1")
            assert all(f"USING INDEX {index}" in str(row) for row in plan), (statement, plan)
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


@pytest.mark.parametrize("content", [None, "a text"], ids=["no folder", "no database"])
def test_a_file_that_is_no_database_is_unavailability(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "sessions.db" if content else tmp_path / "nowhere" / "sessions.db"
    if content:
        path.write_text(content * 1000)
    store = SQLAlchemyStore.from_url(f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable) as caught:
        store.load(SessionKey.generate())
    assert str(path) not in str(caught.value)
    store.engine.dispose()


# -- servers that fail ---------------------------------------------------------------------------------------------


@pytest.fixture
def own_store(own_server: DatabaseServer) -> t.Iterator[SQLAlchemyStore]:
    store = open_store(own_server.url, prefix=f"{uuid4()}:")
    store.create_schema()
    yield store
    store.engine.dispose()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_is_down_and_back(own_server: DatabaseServer, own_store: SQLAlchemyStore, end: str) -> None:
    """Each operation says so, and the next one works when it can, without a restart of ours."""
    key = own_store.save(Record(state={"a": b"1"}), DAY)
    getattr(own_server, end)()
    for call in operations(own_store).values():
        with pytest.raises(StoreUnavailable):
            call()
    own_server.start()
    assert own_store.load(key) is not None


def test_a_restart_between_requests_is_not_noticed(own_server: DatabaseServer, own_store: SQLAlchemyStore) -> None:
    key = own_store.save(Record(state={"a": b"1"}), DAY)
    for call in operations(own_store).values():
        own_server.stop()
        own_server.start()
        call()
    assert own_store.load(key) is not None


def test_a_restart_is_not_noticed_by_many_either(own_server: DatabaseServer, own_store: SQLAlchemyStore) -> None:
    """Not one of the connections that were kept is any good."""
    key = own_store.save(Record(state={"a": b"1"}), DAY)
    at_once(own_store, 5, lambda: own_store.load(key))
    own_server.stop()
    own_server.start()
    for _ in range(5):
        assert own_store.load(key) is not None
    in_threads(5, lambda: own_store.load(key))


def test_a_server_that_does_not_answer_is_given_up_in_time(
    own_server: DatabaseServer, own_store: SQLAlchemyStore
) -> None:
    """With a connection and without one; and a late reply is never taken for another's."""
    one = own_store.save(Record(state={"a": b"one"}), DAY)
    two = own_store.save(Record(state={"a": b"two"}), DAY)
    with own_server.hanging():
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                own_store.load(one)
            assert time.monotonic() - started < 4
    assert t.cast("Record", own_store.load(two)).state == {"a": b"two"}


def test_whatever_is_asked_of_a_server_that_hangs_is_given_up_in_time(
    own_server: DatabaseServer, own_store: SQLAlchemyStore
) -> None:
    key = own_store.save(Record(state={"a": b"1"}, owner="ann"), DAY)
    record = t.cast("Record", own_store.load(key))
    calls: list[t.Callable[[], object]] = [
        lambda: own_store.load(key),
        lambda: own_store.save(Record(state={"a": b"2"}), DAY),
        lambda: own_store.update(key, later(record, {"a": b"3"}), DAY, replaces=record.revision),
        lambda: own_store.update_ttl(key),
        lambda: own_store.renew(key, later(record, {"a": b"4"}), DAY, replaces=record.revision),
        lambda: own_store.delete(key),
        lambda: own_store.drop(key.handle),
        lambda: own_store.entries("ann"),
        lambda: list(own_store.scan()),
        own_store.delete_expired,
        own_store.create_schema,
    ]
    took: list[float] = []

    def give_up(call: t.Callable[[], object]) -> None:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            call()
        took.append(time.monotonic() - started)

    threads = [threading.Thread(target=give_up, args=(call,)) for call in calls * 2]  # more than the pool's connections
    with own_server.hanging():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(took) == len(threads)
    assert max(took) < 4
    own_store.load(key)


def test_a_server_killed_in_the_middle_loses_nothing_that_it_confirmed(
    own_server: DatabaseServer, own_store: SQLAlchemyStore
) -> None:
    """Several count by compare-and-set while it is killed and comes back: every count confirmed is there."""
    key = own_store.save(Record(state={"n": b"0"}), DAY)
    confirmed: list[int] = []
    news, done = threading.Condition(), threading.Event()

    def count() -> None:
        while not done.is_set():
            with contextlib.suppress(StoreUnavailable, SessionConflict):
                record = t.cast("Record", own_store.load(key))
                number = int(record.state["n"]) + 1
                state = {"n": str(number).encode()}
                own_store.update(key, later(record, state), DAY, replaces=record.revision)
                with news:
                    confirmed.append(number)
                    news.notify()

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            with news:
                enough = len(confirmed) + 20
                assert news.wait_for(lambda: len(confirmed) >= enough, timeout=60)  # noqa: B023  - called at once
            own_server.kill()
            own_server.start()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(set(confirmed)) == len(confirmed)
    assert int(t.cast("Record", own_store.load(key)).state["n"]) >= max(confirmed)


def test_visitors_keep_their_cookies(own_server: DatabaseServer, own_store: SQLAlchemyStore) -> None:
    """Over HTTP: a 503 without a cookie while it is down, and everything as before afterwards."""
    app = make_app(own_store, TESTING=False)
    browser = app.test_client()

    def visit() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    def get() -> t.Any:
        return browser.get("/", environ_overrides={"tests.action": visit})

    assert get().text == "1"
    for end in (own_server.stop, own_server.kill):
        end()
        response = get()
        assert (response.status_code, response.headers.getlist("Set-Cookie")) == (503, [])
        own_server.start()
    assert get().text == "2"


# -- rows that somebody has written by hand ------------------------------------------------------------------------


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
