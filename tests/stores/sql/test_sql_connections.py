"""SQLAlchemyStore's connections: replies that got mixed up, and waits that are cut short."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from overlapping import in_threads
from sql_stores import connect_at_once, counted_connections, make_engine, open_store, pass_time, url_of
from waits import IN_TIME

from flask_sessionstore import Record, SessionKey, StoreUnavailable
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.stores.sqlalchemy import engine as engine_module

DAY = timedelta(days=1)
StartDatabase = t.Callable[[str], t.Any]


# -- replies that got mixed up ---------------------------------------------------------------------------------------


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


def load(store: SQLAlchemyStore, key: SessionKey) -> object:
    record = store.load(key)
    return None if record is None else record.state["who"]


def look_for(store: SQLAlchemyStore, key: SessionKey) -> object:
    return store.taken([key.handle])


Place = tuple[Swapping, SQLAlchemyStore]


@pytest.fixture(params=[("postgresql", "URL"), ("mariadb", "URL"), ("postgresql", "Engine")], ids="-".join)
def place(request: pytest.FixtureRequest) -> t.Iterator[Place]:
    """A proxy, and a store that connects through it."""
    name, kind = request.param
    server_url = url_of(name, request)
    port = sa.make_url(server_url).port
    assert port is not None
    with Swapping(port) as proxy:
        url, prefix = server_url.replace(f":{port}/", f":{proxy.port}/"), f"{uuid4()}:"
        store = open_store(url, prefix) if kind == "URL" else SQLAlchemyStore(make_engine(url), prefix=prefix)
        yield proxy, store
        store.engine.dispose()


def replies_to(place: Place, *calls: t.Callable[[], object]) -> list[object]:
    """What two calls return whose replies are swapped: each is sent once more, over a new connection."""
    proxy, store = place
    replies, left = {}, list(enumerate(calls))

    def call_one() -> None:
        number, call = left.pop()
        replies[number] = call()

    connect_at_once(store, 2)
    proxy.swap()
    with counted_connections(store) as made:
        in_threads(2, call_one)
    assert len(made) == 2
    return [replies[0], replies[1]]


@pytest.mark.parametrize("ask", [load, look_for])
def test_a_reply_to_another_is_seen_by_nobody(
    place: Place, ask: t.Callable[[SQLAlchemyStore, SessionKey], object]
) -> None:
    _, store = place
    ann, bob = (store.save(Record(state={"who": name}), DAY) for name in (b"ann", b"bob"))
    expected = [ask(store, ann), ask(store, bob)]
    assert replies_to(place, lambda: ask(store, ann), lambda: ask(store, bob)) == expected


def test_a_read_and_a_write_that_are_given_each_other_s_reply_are_sent_again(place: Place) -> None:
    _, store = place
    kept, dropped = (store.save(Record(state={"who": b"ann"}), DAY) for _ in range(2))
    assert replies_to(place, lambda: load(store, kept), lambda: store.drop(dropped.handle)) == [b"ann", None]
    assert load(store, dropped) is None


# -- waiting ---------------------------------------------------------------------------------------------------------


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
        assert time.monotonic() - started < IN_TIME
        store.load(key)
    assert made == []
    calls[operation]()
    engine.dispose()
    store.engine.dispose()


@pytest.mark.long
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
        assert time.monotonic() - started < IN_TIME
        while looking.execute(waiting, {"name": table}).scalar():  # a server is told, and does it as it comes to it
            assert time.monotonic() - started < 30
    assert store.load(SessionKey.generate()) is None
    engine.dispose()
    store.engine.dispose()


@pytest.mark.long
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
