"""SQLAlchemyStore's connections: across forks and greenlets, through a pooler, to a server that takes no writes."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import socket
import subprocess
import sys
import threading
import time
import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
import test_sqlalchemy
from sql_servers import DATABASES, MariaDB, PgBouncer, PostgreSQL
from test_sqlalchemy import counted_connections, in_threads, make_engine, open_store, pass_time, url_of

from flask_sessionstore import Record, SessionConflict, SessionKey, StoreUnavailable
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.stores.sqlalchemy import engine as engine_module
from flask_sessionstore.testing import later

DAY = timedelta(days=1)

StartDatabase = t.Callable[[str], t.Any]


def run(script: str, *arguments: str) -> t.Any:
    """What a script of its own process prints, as JSON."""
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(params=DATABASES)
def server_url(request: pytest.FixtureRequest) -> str:
    """The URL of every shared server's database in turn, where the table is."""
    return url_of(request.param, request)


# -- forks ---------------------------------------------------------------------------------------------------------

# As uWSGI does it: the store was used, and the fork calls nothing of Python's. Both go on at the same time; then the
# child ends as a process does, with all that is done for objects in the end, and the parent goes on.
_FORK = """
import ctypes, gc, json, os, sys
from datetime import timedelta
import sqlalchemy as sa
from flask_sessionstore import Record
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

url, kind, prefix = sys.argv[1:]
if kind == "URL":
    store = SQLAlchemyStore.from_url(url, prefix=prefix)
else:
    store = SQLAlchemyStore(sa.create_engine(store_url(url), pool_size=1), prefix=prefix)
keys = {name: store.save(Record(state={"who": name.encode()}), timedelta(days=1)) for name in ("parent", "child")}
made = []
sa.event.listen(store.engine, "connect", lambda *_args: made.append(1))

read, write = os.pipe()
pid = ctypes.PyDLL(None).fork()
name = "parent" if pid else "child"
wrong = 0
for _ in range(100):
    try:
        wrong += store.load(keys[name]).state["who"] != name.encode()
    except Exception:
        wrong += 1
if pid == 0:
    os.write(write, json.dumps([wrong, len(made)]).encode())
    del store
    gc.collect()
    sys.exit()
os.waitpid(pid, 0)
wrong += store.load(keys[name]).state["who"] != b"parent"
print(json.dumps({"parent": [wrong, len(made)], "child": json.loads(os.read(read, 100))}))
""".replace("store_url(url)", 'url.replace("postgresql:", "postgresql+psycopg:").replace("mysql:", "mysql+pymysql:")')


@pytest.mark.parametrize("kind", ["URL", "Engine"])
def test_a_fork_in_c_shares_no_connection(server_url: str, kind: str) -> None:
    """A child connects for itself, and its parent's connection lives on after the child's end."""
    assert run(_FORK, server_url, kind, f"{uuid4()}:") == {"parent": [0, 0], "child": [0, 1]}


# -- greenlets -----------------------------------------------------------------------------------------------------

_GREENLETS = """
import collections, json, sys
library, when, url, prefix = sys.argv[1:]

def patch():
    if library == "gevent":
        from gevent import monkey
        monkey.patch_all()
    else:
        import eventlet
        eventlet.monkey_patch()

if when == "early":
    patch()
from datetime import timedelta
from flask_sessionstore import Record
from flask_sessionstore.stores.sqlalchemy import store as module
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

module.POOL_TIMEOUT = 60  # this machine may have much else to do
store = SQLAlchemyStore.from_url(url, prefix=prefix, max_connections=5)
names = [str(number) for number in range(20)]
keys = {name: store.save(Record(state={"who": name.encode()}), timedelta(days=1)) for name in names}
if when == "late":
    patch()
told = collections.Counter()

def visit(name):
    for _ in range(5):
        try:
            found = store.load(keys[name]).state["who"].decode()
            told["right" if found == name else "another's"] += 1
            store.update_ttl(keys[name])
        except Exception as error:
            told[type(error).__name__] += 1

if library == "gevent":
    import gevent
    gevent.joinall([gevent.spawn(visit, name) for name in names])
else:
    import eventlet
    threads = [eventlet.spawn(visit, name) for name in names]
    [thread.wait() for thread in threads]
print(json.dumps(told))
"""


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("library", ["gevent", pytest.param("eventlet", marks=pytest.mark.long)])
def test_greenlets_are_served_their_own_sessions(server_url: str, library: str, when: str) -> None:
    """Whether the standard library is patched before the application is made, or after the store was used."""
    need(library)
    assert run(_GREENLETS, library, when, server_url, f"{uuid4()}:") == {"right": 100}


def need(library: str) -> None:
    """Not by an import: eventlet warns of every fork of this process from then on."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


_FIRST = """
import sys, json
from flask_sessionstore import SessionKey, StoreUnavailable
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

store = SQLAlchemyStore.from_url(sys.argv[1])
failed = []

import sqlalchemy as sa
@sa.event.listens_for(store.engine, "connect", insert=True)
def refuse(*_args):
    if not failed:
        failed.append(1)
        raise store.engine.dialect.loaded_dbapi.OperationalError("not yet")

try:
    store.load(SessionKey.generate())  # SQLAlchemy has a lock for the first connection from now on
except StoreUnavailable:
    from gevent import monkey
    monkey.patch_all()
import gevent
jobs = [gevent.spawn(store.load, SessionKey.generate()) for _ in range(20)]
gevent.joinall(jobs)
print(json.dumps([job.successful() for job in jobs]))
"""


def test_greenlets_do_not_wait_for_a_lock_from_before(server_url: str) -> None:
    """What was tried in vain before the library was patched, many try at once afterwards."""
    need("gevent")
    assert run(_FIRST, server_url) == [True] * 20


_BURST = """
from gevent import monkey; monkey.patch_all()
import json, sys
from datetime import timedelta
import gevent, sqlalchemy as sa
from flask_sessionstore import Record
from flask_sessionstore.stores import pool
from flask_sessionstore.stores.sqlalchemy import store as module
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

url, prefix = sys.argv[1:]
module.POOL_TIMEOUT = 60  # this machine may have much else to do
store = SQLAlchemyStore.from_url(f"{url}?application_name={prefix}", prefix=prefix, max_connections=20)
keys = [store.save(Record(state={"who": str(number).encode()}), timedelta(days=1)) for number in range(300)]
right = []

def visit(number):
    right.append(store.load(keys[number]).state["who"] == str(number).encode())

gevent.joinall([gevent.spawn(visit, number) for number in range(300)])
counting = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)

def connections():
    with counting.connect() as connection:
        text = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name"
        return connection.execute(sa.text(text), {"name": prefix}).scalar()

most = connections()

class Later:
    sleep = staticmethod(pool.time.sleep)
    monotonic = staticmethod(lambda now=pool.time.monotonic: now() + 61)

pool.time = Later
store.load(keys[0])
for _ in range(500):
    if connections() <= 8:
        break
    gevent.sleep(0.01)  # the server ends them as it comes to it
print(json.dumps([right.count(True), most, connections()]))
"""


def test_a_burst_of_greenlets_is_served_and_leaves_few_connections(shared_database: StartDatabase) -> None:
    need("gevent")
    store = open_store(shared_database("postgresql").url, "session:")
    store.create_schema()
    served, most, left = run(_BURST, shared_database("postgresql").url, uuid4().hex)
    assert served == 300
    assert 8 < most <= 20
    assert left <= 8
    store.engine.dispose()


# -- replies that got mixed up -------------------------------------------------------------------------------------


class Swapping:
    """A proxy before a server. Once, when told to, it gives two clients each other's reply."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Condition()
        self._waiting: list[tuple[socket.socket, bytes]] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._listener.close()

    def swap(self) -> None:
        """The next two replies."""
        self._waiting = []

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self._reply, args=(server, client), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), target:
            while data := source.recv(65536):
                target.sendall(data)

    def _reply(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            while data := server.recv(65536):
                for target, reply in self._swapped(client, data):
                    target.sendall(reply)

    def _swapped(self, client: socket.socket, data: bytes) -> list[tuple[socket.socket, bytes]]:
        with self._lock:
            if self._waiting is None:
                return [(client, data)]
            self._waiting.append((client, data))
            if len(self._waiting) < 2:
                return []
            (one, its), (two, other) = self._waiting
            self._waiting = None
            return [(one, other), (two, its)]


@pytest.mark.parametrize(("name", "kind"), [("postgresql", "URL"), ("mariadb", "URL"), ("postgresql", "Engine")])
def test_a_reply_to_another_is_seen_by_nobody(request: pytest.FixtureRequest, name: str, kind: str) -> None:
    """Two ask at once and are given each other's record: both ask once more, over new connections."""
    server_url = url_of(name, request)
    port = sa.make_url(server_url).port
    assert port is not None
    with Swapping(port) as proxy:
        url = server_url.replace(f":{port}/", f":{proxy.port}/")
        prefix = f"{uuid4()}:"
        store = open_store(url, prefix) if kind == "URL" else SQLAlchemyStore(make_engine(url), prefix=prefix)
        names = ["ann", "bob"] * 2
        keys = {name: store.save(Record(state={"who": name.encode()}), DAY) for name in set(names)}
        found, start = {}, threading.Barrier(2)

        def wait(*_args: object) -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                start.wait(timeout=5)

        def load() -> None:
            name = names.pop()
            found[name] = t.cast("Record", store.load(keys[name])).state["who"].decode()

        sa.event.listen(store.engine, "before_cursor_execute", wait)
        in_threads(2, load)  # a connection for each
        proxy.swap()
        with counted_connections(store) as made:
            in_threads(2, load)
        assert found == {"ann": "ann", "bob": "bob"}
        assert len(made) == 2
        store.engine.dispose()


# -- waiting -------------------------------------------------------------------------------------------------------


def test_no_setting_is_left_on_a_connection_of_postgresql(shared_database: StartDatabase) -> None:
    """It may be a pooler's, and go to others next."""
    store = open_store(shared_database("postgresql").url, f"{uuid4()}:")
    store.create_schema()

    def settings(connection: t.Any) -> list[t.Any]:
        return list(connection.execute(sa.text("SELECT name, setting FROM pg_settings ORDER BY name")).all())

    before = t.cast("t.Any", store)._connections.lend(settings)
    key = store.save(Record(state={"a": b"1"}), DAY)
    store.update_ttl(key)
    store.delete(key)
    store.delete_expired()
    assert t.cast("t.Any", store)._connections.lend(settings) == before
    assert dict(before)["lock_timeout"] == "0"
    store.engine.dispose()


@pytest.mark.parametrize("prepared", [False, True])
def test_statements_are_prepared_only_if_asked_for(shared_database: StartDatabase, prepared: bool) -> None:
    store = open_store(shared_database("postgresql").url, f"{uuid4()}:", prepared=prepared)
    store.create_schema()
    key = store.save(Record(state={"a": b"1"}), DAY)
    for _ in range(10):
        store.load(key)

    def count(connection: t.Any) -> int:
        return int(connection.execute(sa.text("SELECT count(*) FROM pg_prepared_statements")).scalar())

    assert (t.cast("t.Any", store)._connections.lend(count) > 0) == prepared
    store.engine.dispose()


@pytest.mark.parametrize("operation", ["add", "swap", "drop", "sweep"])
def test_what_others_lock_is_given_up_by_the_server_and_costs_no_connection(
    shared_database: StartDatabase, operation: str
) -> None:
    """The server says so itself, after a second, on a connection that is as good as before."""
    url = shared_database("postgresql").url
    store = open_store(url, f"{uuid4()}:")
    store.create_schema()
    key = store.save(Record(state={"a": b"1"}), timedelta(seconds=5))
    data = t.cast("bytes", store.read(key.handle))
    if operation in ("add", "sweep"):
        pass_time(store, 6)
    calls: dict[str, t.Callable[[], object]] = {
        "add": lambda: store.add(key.handle, data, DAY),
        "swap": lambda: store.swap(key.handle, data, DAY, replaces=None),
        "drop": lambda: store.drop(key.handle),
        "sweep": store.delete_expired,
    }
    engine = make_engine(url)
    with engine.begin() as others, counted_connections(store) as made:
        others.execute(sa.select(store.table).where(store.table.c.handle == key.handle).with_for_update())
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked"):
            calls[operation]()
        assert time.monotonic() - started < 1.9
        store.load(key)
    assert made == []
    calls[operation]()
    engine.dispose()
    store.engine.dispose()


def test_what_waits_for_the_whole_table_goes_on_waiting_nowhere(
    shared_database: StartDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As during a migration: a reader waits too. It is given up here, and then there."""
    monkeypatch.setattr(engine_module, "_CANCEL_TIMEOUT", 1.5)  # this machine may have much else to do
    url, table = shared_database("postgresql").url, f"t{uuid4().hex[:8]}"
    store = open_store(f"{url}?application_name={table}", "session:", table=table)
    store.create_schema()
    store.load(SessionKey.generate())
    engine = make_engine(url)
    waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND state = 'active'")
    each_for_itself = engine.execution_options(isolation_level="AUTOCOMMIT")  # a transaction sees one and the same
    with engine.begin() as others, each_for_itself.connect() as looking:
        others.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer"):
            store.load(SessionKey.generate())
        assert time.monotonic() - started < 4
        while looking.execute(waiting, {"name": table}).scalar():  # a server is told, and does it as it comes to it
            assert time.monotonic() - started < 30
    assert store.load(SessionKey.generate()) is None
    engine.dispose()
    store.engine.dispose()


def test_what_takes_long_to_make_is_made(shared_database: StartDatabase) -> None:
    """An index of a large table: it is given up here, and not there."""
    url, table = shared_database("postgresql").url, f"t{uuid4().hex[:8]}"
    store = open_store(url, "session:", table=table)
    store.create_schema()
    for index in store.table.indexes:
        index.drop(store.engine)
    engine = make_engine(url)
    with engine.begin() as others:
        others.exec_driver_sql(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="did not answer"):
            store.create_schema()
    deadline = time.monotonic() + 30
    while not sa.inspect(engine).get_indexes(table):
        assert time.monotonic() < deadline
    engine.dispose()
    store.engine.dispose()


# -- PgBouncer -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pgbouncer(shared_database: StartDatabase) -> t.Iterator[PgBouncer]:
    """Before the shared PostgreSQL, with two connections to it."""
    with PgBouncer(shared_database("postgresql"), pool_size=2) as pooler:
        store = open_store(pooler.url, "session:")
        store.create_schema()
        store.engine.dispose()
        yield pooler


class TestThroughPgBouncer(test_sqlalchemy.TestFromURL):
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


# -- servers that take no writes, and strict ones ------------------------------------------------------------------


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
        start = threading.Barrier(3)
        sa.event.listen(store.engine, "before_cursor_execute", wait := lambda *_args: start.wait())
        in_threads(3, lambda: store.load(key))
        sa.event.remove(store.engine, "before_cursor_execute", wait)
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
    start = threading.Barrier(3)
    sa.event.listen(store.engine, "before_cursor_execute", wait := lambda *_args: start.wait())
    in_threads(3, lambda: store.load(key))  # three connections, none of which takes writes
    sa.event.remove(store.engine, "before_cursor_execute", wait)
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
