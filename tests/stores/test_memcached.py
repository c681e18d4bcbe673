"""MemcachedStore: the contract on a real Memcached, and what it promises beyond it."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import gc
import socket
import threading
import time
import typing as t
import weakref
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from forks import FORKS, Fork, in_a_child
from http_support import KEPT, Browser, fate, make_app, started
from memcached_server import MemcachedServer
from pymemcache import Client, HashClient, PooledClient
from pymemcache.exceptions import MemcacheServerError
from views import add_one

from flask_sessionstore import (
    ConfigurationError,
    Record,
    SessionConflict,
    SessionCorrupt,
    SessionGone,
    SessionKey,
    SessionTooLarge,
    StoreUnavailable,
    session,
)
from flask_sessionstore.layout import pack
from flask_sessionstore.stores import ServerSideStore, StoreFull
from flask_sessionstore.stores.memcached import MemcachedStore
from flask_sessionstore.testing import StoreContract, later

DAY = timedelta(days=1)
StartServer = t.Callable[..., MemcachedServer]


@pytest.fixture(scope="session")
def memcached(shared_memcached: MemcachedServer) -> MemcachedServer:
    """A running server, shared: take a prefix of your own."""
    return shared_memcached


@pytest.fixture
def start() -> Iterator[StartServer]:
    """Start servers for this test alone: ``start("-I", "1k")``."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(MemcachedServer(*options))


@pytest.fixture
def client(memcached: MemcachedServer) -> Iterator[Client]:
    """To look past the store."""
    with contextlib.closing(Client(("127.0.0.1", memcached.port), default_noreply=False)) as client:
        yield client


def alive(store: ServerSideStore, key: SessionKey) -> Record:
    record = store.load(key)
    assert record is not None
    return record


def fill(store: ServerSideStore) -> None:
    for _ in range(1000):
        store.save(Record(state={"a": bytes(100_000)}), DAY)


# -- the contract --------------------------------------------------------------------------------------------------


class TestMemcachedStore(StoreContract):
    @pytest.fixture
    def store(self, memcached: MemcachedServer, client: Client) -> ServerSideStore:
        self.client = client
        self.open = functools.partial(MemcachedStore.from_url, memcached.url, prefix=f"{uuid4()}:")
        return self.open()

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        return t.cast("bytes | None", self.client.get(store.prefix + handle))

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        self.client.set(store.prefix + handle, data)

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return self.open


class TestMemcachedStoreOnAGivenClient(TestMemcachedStore):
    """With any client of pymemcache, as its defaults are."""

    @pytest.fixture(
        params=[Client, PooledClient, lambda server: HashClient([server])], ids=["Client", "PooledClient", "HashClient"]
    )
    def store(self, memcached: MemcachedServer, client: Client, request: pytest.FixtureRequest) -> ServerSideStore:
        self.client = client
        prefix = f"{uuid4()}:"
        self.open = functools.partial(MemcachedStore.from_url, memcached.url, prefix=prefix)
        return MemcachedStore(request.param(("127.0.0.1", memcached.port)), prefix=prefix)


class TestMemcachedStoreOverTwoServers(TestMemcachedStore):
    """Each session has its place: where a ``HashClient`` looks for it too."""

    @pytest.fixture
    def store(self, memcached: MemcachedServer, start: StartServer) -> ServerSideStore:
        ports = [memcached.port, start().port]
        self.client = HashClient([("127.0.0.1", port) for port in ports], default_noreply=False)
        url = "memcached://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        self.open = functools.partial(MemcachedStore.from_url, url, prefix=f"{uuid4()}:")
        return self.open()

    @pytest.fixture(autouse=True)
    def _close(self, store: ServerSideStore) -> Iterator[None]:
        yield
        self.client.close()


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "memcached://",
        "memcached:///0",
        "memcached://:11211",
        "memcached://one,,two",
        "memcached://host:port",
        "memcached://host:99999",
        "memcached://user:secret@host",
        "memcached://host/path",
        "memcached://host?nonsense=1",
        "memcached://host?timeout=secret",
        "memcached://host?timeout=0",
        "memcached://host?timeout",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memcached://host:11211") as caught:
        MemcachedStore.from_url(url)
    assert caught.value.key == "SESSION_STORE"
    assert "secret" not in f"{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize("client", [object(), "memcached://host", None, HashClient([])])
def test_what_is_no_client_is_refused(client: t.Any) -> None:
    with pytest.raises(ConfigurationError, match="MemcachedStore needs"):
        MemcachedStore(client)


@pytest.mark.parametrize("prefix", ["shop sessions:", "läden:", "x" * 187, "line\n"])
def test_a_prefix_that_memcached_does_not_allow_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MemcachedStore.from_url("memcached://127.0.0.1", prefix=prefix)
    assert caught.value.key == "SESSION_KEY_PREFIX"


def test_repr_shows_no_server(memcached: MemcachedServer) -> None:
    assert "127.0.0.1" not in repr(MemcachedStore.from_url(memcached.url))


def test_a_given_client_is_neither_used_nor_changed(memcached: MemcachedServer) -> None:
    client = Client(("127.0.0.1", memcached.port), ignore_exc=True)
    store = MemcachedStore(client, prefix=f"{uuid4()}:")
    store.save(Record(state={"a": b"1"}), DAY)
    assert (client.sock, client.ignore_exc, client.default_noreply, client.timeout) == (None, True, True, None)


def test_a_given_clients_serializer_gets_nothing_to_read(memcached: MemcachedServer, client: Client) -> None:
    """Whoever can write to Memcached could have it run what they like."""

    class Serde:
        def serialize(self, key: str, value: bytes) -> tuple[bytes, int]:
            raise AssertionError

        def deserialize(self, key: str, value: bytes, flags: int) -> object:
            raise AssertionError

    given = Client(("127.0.0.1", memcached.port), serde=Serde())
    store = MemcachedStore(given, prefix=f"{uuid4()}:")
    key = store.save(Record(state={"a": b"1"}), DAY)
    assert alive(store, key).state == {"a": b"1"}
    client.set(store.prefix + key.handle, b"pickled", flags=1)
    assert store.read(key.handle) == b"pickled"


def test_a_given_clients_prefix_stands_before_ours(memcached: MemcachedServer, client: Client) -> None:
    given = Client(("127.0.0.1", memcached.port), key_prefix=b"shop:")
    key = MemcachedStore(given).save(Record(state={"a": b"1"}), DAY)
    assert client.get(f"shop:session:{key.handle}") is not None


# -- expiry --------------------------------------------------------------------------------------------------------


def left(client: Client, store: ServerSideStore, key: SessionKey) -> int:
    """Seconds until Memcached removes a session; -1: never."""
    answer = client.raw_command(f"mg {store.prefix}{key.handle} t")
    return int(answer.split(b"t")[1])


@pytest.mark.parametrize(
    "ttl",
    [timedelta(milliseconds=1), timedelta(seconds=100), timedelta(days=30), timedelta(days=31), timedelta(days=400)],
    ids=str,
)
def test_memcacheds_expiry_is_what_is_left(ttl: timedelta, memcached: MemcachedServer, client: Client) -> None:
    """Asked of the server itself: never before the record's own, and hardly later."""
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    key = store.save(Record(state={"a": b"1"}), timedelta(days=2))
    store.update_ttl(key, ttl)
    seconds = left(client, store, key)
    assert ttl.total_seconds() - 1 <= seconds <= ttl.total_seconds() + 3


def test_a_lifetime_beyond_memcacheds_last_second_is_kept_without_one(
    memcached: MemcachedServer, client: Client
) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    key = store.save(Record(state={"a": b"1"}), timedelta(days=365 * 100))
    assert left(client, store, key) == -1
    assert alive(store, key).state == {"a": b"1"}


def test_the_longest_of_all_times_to_live_is_one(memcached: MemcachedServer, client: Client) -> None:
    """As damaged bytes may say of themselves."""
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    key = SessionKey.generate()
    assert store.add(key.handle, b"damaged", timedelta.max)
    assert left(client, store, key) == -1


def test_a_name_that_has_expired_by_our_clock_alone_is_taken(memcached: MemcachedServer) -> None:
    """Memcached's clock counts in seconds, and may go otherwise."""
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    now = int(store.now() * 1000)
    name = SessionKey.generate().handle
    old, new = (pack(Record(state={"a": value}).written(now, timedelta(seconds=5)), name) for value in (b"1", b"2"))
    assert store.add(name, old, DAY)
    StoreContract().pass_time(store, 6)
    assert store.add(name, new, DAY)
    assert store.read(name) == new
    StoreContract().pass_time(store, -6)
    assert not store.add(name, old, DAY)


# -- round trips, races --------------------------------------------------------------------------------------------


class Watched(Client):  # type: ignore[misc]  # pymemcache has no types
    """A client that notes what is sent, and lets a test do something before it is."""

    sent: t.ClassVar[list[str]] = []
    before: t.ClassVar[dict[str, t.Callable[[], object]]] = {}
    #: Whether it is done every time, or once.
    again: t.ClassVar[bool] = False

    def _note(self, command: str) -> None:
        self.sent.append(command)
        if command in self.before:
            (self.before.__getitem__ if self.again else self.before.pop)(command)()

    def gets(self, *args: t.Any, **options: t.Any) -> t.Any:
        self._note("gets")
        return super().gets(*args, **options)

    def add(self, *args: t.Any, **options: t.Any) -> t.Any:
        self._note("add")
        return super().add(*args, **options)

    def cas(self, *args: t.Any, **options: t.Any) -> t.Any:
        self._note("cas")
        return super().cas(*args, **options)

    def delete(self, *args: t.Any, **options: t.Any) -> t.Any:
        self._note("delete")
        return super().delete(*args, **options)


@pytest.fixture
def watched(memcached: MemcachedServer) -> MemcachedStore:
    Watched.sent.clear()
    Watched.before.clear()
    Watched.again = False
    return MemcachedStore(Watched(("127.0.0.1", memcached.port)), prefix=f"{uuid4()}:")


def test_every_operation_is_as_many_round_trips_as_promised(watched: MemcachedStore) -> None:
    def trips(call: t.Callable[[], t.Any]) -> list[str]:
        Watched.sent.clear()
        call()
        return list(Watched.sent)

    key = watched.save(Record(state={"a": b"1"}), DAY)
    record = alive(watched, key)
    assert trips(lambda: watched.save(record, DAY)) == ["add"]
    assert trips(lambda: watched.load(key)) == ["gets"]
    assert trips(lambda: watched.update(key, record, DAY, replaces=record.revision)) == ["cas"]
    assert trips(lambda: watched.update(key, record, DAY, replaces=record.revision)) == ["gets", "cas"]
    assert trips(lambda: watched.update_ttl(key)) == ["gets", "cas"]
    assert trips(lambda: watched.renew(key, record, DAY, replaces=record.revision)) == ["add", "gets", "cas"]
    assert trips(lambda: watched.delete(SessionKey.generate())) == ["gets"]
    key = watched.save(record, DAY)
    assert trips(lambda: watched.delete(key)) == ["gets", "cas"]


def test_a_write_between_our_reading_and_our_writing_is_seen(watched: MemcachedStore, client: Client) -> None:
    key = watched.save(Record(state={"a": b"1"}), DAY)
    record = alive(watched, key)
    name = watched.prefix + key.handle
    extended = pack(record.extended(record.extended_ms + 1), key.handle)
    # The same revision with other times: no conflict, but looked at again.
    Watched.before["cas"] = lambda: client.set(name, extended)
    Watched.sent.clear()
    watched.update(key, later(record, {"a": b"2"}), DAY, replaces=record.revision)
    assert Watched.sent == ["cas", "gets", "cas"]
    assert alive(watched, key).state == {"a": b"2"}
    # It went.
    record = alive(watched, key)
    Watched.before["cas"] = lambda: client.delete(name)
    with pytest.raises(SessionGone):
        watched.update(key, later(record, {"a": b"3"}), DAY, replaces=record.revision)
    assert client.get(name) is None


def test_what_changes_all_the_time_is_given_up(watched: MemcachedStore, client: Client) -> None:
    key = watched.save(Record(state={"a": b"1"}), DAY)
    data = watched.read(key.handle)
    new = pack(later(alive(watched, key), {"a": b"2"}).written(int(watched.now() * 1000), DAY), key.handle)
    Watched.before["cas"] = lambda: client.set(watched.prefix + key.handle, data)
    Watched.again = True
    with pytest.raises(StoreUnavailable, match="changes faster"):
        watched.swap(key.handle, new, DAY, replaces=None)
    assert watched.read(key.handle) == data


def test_our_own_write_whose_reply_was_lost_is_recognised(watched: MemcachedStore, client: Client) -> None:
    """Sent again, the second finds the first."""
    key = watched.save(Record(state={"a": b"1"}), DAY)
    record = alive(watched, key)
    new = pack(later(record, {"a": b"2"}).written(int(watched.now() * 1000), DAY), key.handle)
    Watched.before["cas"] = lambda: client.set(watched.prefix + key.handle, new)
    assert watched.swap(key.handle, new, DAY, replaces=record.revision)


def test_a_read_is_not_remembered_for_another_name(watched: MemcachedStore) -> None:
    one, two = (watched.save(Record(state={"a": b"1"}), DAY) for _ in range(2))
    records = [alive(watched, key) for key in (one, two)]
    watched.update(one, later(records[0], {"a": b"2"}), DAY, replaces=records[0].revision)
    assert [alive(watched, key).state["a"] for key in (one, two)] == [b"2", b"1"]


# -- size, room ----------------------------------------------------------------------------------------------------


def test_what_is_larger_than_an_item_is_an_error_and_what_was_there_stays(memcached: MemcachedServer) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    key = store.save(Record(state={"a": bytes(900_000)}), DAY)
    record = alive(store, key)
    large = {"a": bytes(2**20)}
    writes: list[t.Callable[[], object]] = [
        lambda: store.save(Record(state=large), DAY),
        lambda: store.update(key, later(record, large), DAY, replaces=record.revision),
        lambda: store.renew(key, later(record, large), DAY, replaces=record.revision),
    ]
    for write in writes:
        with pytest.raises(SessionTooLarge) as caught:
            write()
        assert caught.value.size is not None
        assert caught.value.size > 2**20
        assert isinstance(caught.value.__cause__, MemcacheServerError)
    assert alive(store, key) == record


def test_every_size_up_to_the_limit_is_kept_or_refused(memcached: MemcachedServer) -> None:
    """The limit counts Memcached's own bytes too, and the name."""
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    sizes, refused = range(2**20 - 1000, 2**20 + 100, 50), []
    for size in sizes:
        try:
            key = store.save(Record(state={"a": bytes(size)}), DAY)
        except SessionTooLarge:
            refused.append(size)
        else:
            assert alive(store, key).state == {"a": bytes(size)}
    assert refused
    assert refused == [size for size in sizes if size >= refused[0]]
    assert refused[0] > sizes[0]


def test_a_full_server_refuses_writes_by_name_and_still_lets_sessions_end(start: StartServer) -> None:
    store = MemcachedStore.from_url(start("-M", "-m", "2").url)
    keys = [store.save(Record(state={"a": b"1"}), DAY) for _ in range(3)]
    with pytest.raises(StoreFull, match="memory"):
        fill(store)
    large = {"a": bytes(100_000)}
    record = alive(store, keys[0])
    with pytest.raises(StoreFull):
        store.update(keys[0], later(record, large), DAY, replaces=record.revision)
    assert alive(store, keys[0]) == record
    store.delete(keys[0])
    store.delete(keys[1], replaces=alive(store, keys[1]).revision)
    assert store.end(keys[2].handle)
    for key in keys:
        with contextlib.suppress(SessionGone):
            assert store.load(key) is None


def test_an_evicted_session_is_nothing(start: StartServer) -> None:
    """Memcached's way of making room: the docs say so."""
    store = MemcachedStore.from_url(start("-m", "2").url)
    key = store.save(Record(state={"a": bytes(100_000)}), DAY)
    record = alive(store, key)
    fill(store)
    assert store.load(key) is None
    with pytest.raises(SessionGone):
        store.update(key, record, DAY, replaces=record.revision)


# -- failures ------------------------------------------------------------------------------------------------------

OPERATIONS: dict[str, t.Callable[[ServerSideStore, SessionKey, Record], object]] = {
    "load": lambda store, key, record: store.load(key),
    "save": lambda store, key, record: store.save(record, DAY),
    "update": lambda store, key, record: store.update(key, later(record, {}), DAY, replaces=record.revision),
    "update_ttl": lambda store, key, record: store.update_ttl(key),
    "delete": lambda store, key, record: store.delete(key),
    "renew": lambda store, key, record: store.renew(key, record, DAY, replaces=record.revision),
    "drop": lambda store, key, record: store.drop(key.handle),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("servers", [1, 2])
def test_a_server_that_was_killed_is_unavailable_until_it_is_back(
    servers: int, operation: str, start: StartServer
) -> None:
    running = [start() for _ in range(servers)]
    url = "memcached://" + ",".join(f"127.0.0.1:{server.port}" for server in running)
    store = MemcachedStore.from_url(url)
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = alive(store, key)
    for server in running:
        server.kill()
    for _ in range(5):  # it is never taken for "there is no session", however often it is asked
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
            OPERATIONS[operation](store, key, record)
        assert isinstance(caught.value.__cause__, OSError)
        assert "127.0.0.1" not in str(caught.value)
    for server in running:
        server.start()
    assert store.load(key) is None
    assert alive(store, store.save(record, DAY)).state == {"a": b"1"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_does_not_answer_is_given_up_in_time(operation: str, start: StartServer) -> None:
    server = start()
    store = MemcachedStore.from_url(f"{server.url}?timeout=0.5")
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = alive(store, key)
    server.pause()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="in time"):
        OPERATIONS[operation](store, key, record)
    assert time.monotonic() - began < 2
    server.resume()
    assert alive(store, store.save(record, DAY)).state == {"a": b"1"}
    with contextlib.suppress(SessionGone):
        found = store.load(key)  # what was under way may have arrived, but whole
        assert found is None or found.state in ({"a": b"1"}, {})


def test_a_reply_is_never_taken_for_anothers(start: StartServer) -> None:
    server = start()
    store = MemcachedStore.from_url(f"{server.url}?timeout=0.5")
    one, two = (store.save(Record(state={"a": value}), DAY) for value in (b"one", b"two"))
    server.pause()
    with pytest.raises(StoreUnavailable):
        store.load(one)
    server.resume()
    assert alive(store, two).state == {"a": b"two"}


def test_an_interrupted_read_leaves_no_reply_behind(memcached: MemcachedServer) -> None:
    """pymemcache itself keeps a connection on which an exception like KeyboardInterrupt left a reply."""
    interrupt = threading.Event()

    class Interrupted(Client):  # type: ignore[misc]  # pymemcache has no types
        def _extract_value(self, *args: t.Any) -> t.Any:
            if interrupt.is_set():
                interrupt.clear()
                raise KeyboardInterrupt
            return super()._extract_value(*args)

    store = MemcachedStore(Interrupted(("127.0.0.1", memcached.port)), prefix=f"{uuid4()}:")
    one, two = (store.save(Record(state={"a": value}), DAY) for value in (b"one", b"two"))
    interrupt.set()
    with pytest.raises(KeyboardInterrupt):
        store.load(one)
    assert alive(store, two).state == {"a": b"two"}


def test_a_restarted_server_costs_no_request(start: StartServer) -> None:
    server = start()
    store = MemcachedStore.from_url(server.url)
    store.save(Record(state={"a": b"1"}), DAY)
    server.kill()
    server.start()
    assert store.load(store.save(Record(state={"a": b"1"}), DAY)) is not None


def test_a_session_does_not_move_to_another_server_and_back(start: StartServer) -> None:
    """Else what was ended while its server was away would be alive again afterwards."""
    servers = [start(), start()]
    hosts = [("127.0.0.1", server.port) for server in servers]
    store = MemcachedStore(HashClient(hosts, retry_attempts=0, timeout=0.5, ignore_exc=True))
    keys = [store.save(Record(state={"a": b"1"}), DAY) for _ in range(20)]
    servers[0].pause()
    there, away = [], []
    for key in keys:
        try:
            store.delete(key)
            there.append(key)
        except StoreUnavailable:
            away.append(key)
    assert there
    assert away
    servers[0].resume()
    for key in there:
        with pytest.raises(SessionGone):
            store.load(key)
    assert [alive(store, key).state for key in away] == [{"a": b"1"}] * len(away)


def test_what_is_no_memcached_is_unavailable() -> None:
    """Something else answers on that port. It is asked twice, for a reply may have been another command's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for text in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"VALUE\r\n", b"VALUE other 0 1 1\r\nx\r\nEND\r\n"):
                for _ in range(2):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1000)
                        connection.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        store = MemcachedStore.from_url(f"memcached://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="Memcached refused a command"):
                store.load(SessionKey.generate())
        with pytest.raises(SessionCorrupt):  # an item of another name is damage, wherever it comes from
            store.load(SessionKey.generate())
        thread.join()


# -- connections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_process_has_connections_of_its_own(fork: Fork, memcached: MemcachedServer) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    keys = [store.save(Record(state={"n": value}), DAY) for value in (b"parent", b"child")]

    def read(number: int) -> None:
        answers = collections.Counter(alive(store, keys[number]).state["n"] for _ in range(200))
        assert answers == {(b"parent", b"child")[number]: 200}, answers

    read(0)
    assert in_a_child(lambda: read(1), fork, meanwhile=lambda: read(0)) == "done"
    read(0)


def test_a_child_process_may_write_what_its_parent_has_read(memcached: MemcachedServer) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    key = store.save(Record(state={"n": b"1"}), DAY)
    record = alive(store, key)
    newer = later(record, {"n": b"2"})
    assert in_a_child(lambda: store.update(key, newer, DAY, replaces=record.revision)) == "done"
    assert alive(store, key).state == {"n": b"2"}


def test_threads_share_as_many_connections_as_there_may_be(memcached: MemcachedServer, client: Client) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:", max_connections=3)
    key = store.save(Record(state={"n": b"1"}), DAY)
    before = int(client.stats()[b"total_connections"])
    threads = [threading.Thread(target=alive, args=(store, key)) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int(client.stats()[b"total_connections"]) - before <= 2


def test_who_finds_no_connection_free_waits_as_long_as_for_an_answer(watched: MemcachedStore) -> None:
    asking, released = threading.Event(), threading.Event()
    client = Watched(watched._servers.of("").template.server, timeout=0.3)
    store = MemcachedStore(client, prefix=watched.prefix, max_connections=1)
    key = store.save(Record(state={"n": b"1"}), DAY)

    def wait() -> None:
        asking.set()
        released.wait(30)

    Watched.before["gets"] = wait
    thread = threading.Thread(target=alive, args=(store, key))
    thread.start()
    asking.wait(30)
    with pytest.raises(StoreUnavailable, match="see max_connections"):
        store.load(key)
    released.set()
    thread.join()
    assert alive(store, key).state == {"n": b"1"}


def test_no_connection_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_connections") as caught:
        MemcachedStore.from_url("memcached://127.0.0.1", max_connections=0)
    assert caught.value.key == "SESSION_STORE_OPTIONS"


@pytest.mark.parametrize(("disturb", "says"), [("kill", "cannot be reached"), ("pause", "in time")])
def test_what_cannot_connect_or_is_not_answered_is_not_tried_again(
    disturb: str, says: str, start: StartServer, watched: MemcachedStore
) -> None:
    server = start()
    store = MemcachedStore(Watched(("127.0.0.1", server.port), timeout=0.3))
    getattr(server, disturb)()
    Watched.sent.clear()
    with pytest.raises(StoreUnavailable, match=says):
        store.load(SessionKey.generate())
    assert Watched.sent == ["gets"]


def test_a_record_of_another_is_asked_for_once_more_and_then_returned(watched: MemcachedStore, client: Client) -> None:
    one, two = (watched.save(Record(state={"a": value}), DAY) for value in (b"one", b"two"))
    names = [watched.prefix + key.handle for key in (one, two)]
    other, own = client.get(names[1]), client.get(names[0])
    client.set(names[0], other)
    Watched.sent.clear()
    assert watched.read(one.handle) == other
    assert Watched.sent == ["gets", "gets"]
    # And if it was a reply that had lost its way, the right one is.
    Watched.before["gets"] = lambda: Watched.before.update(gets=lambda: client.set(names[0], own))
    assert watched.read(one.handle) == own


# -- what was read last --------------------------------------------------------------------------------------------


def test_a_mark_of_another_store_counts_for_nothing(start: StartServer) -> None:
    """Each server counts by itself, so that two may have the same marks for different things."""
    stores = [MemcachedStore.from_url(start().url) for _ in range(2)]
    name = SessionKey.generate().handle
    records = [pack(Record(state={"a": b"1"}).written(int(time.time() * 1000), DAY), name) for _ in range(3)]
    for store, record in zip(stores, records, strict=False):
        assert store.add(name, record, DAY)
    assert stores[0].read(name) == records[0]
    assert not stores[1].swap(name, records[2], DAY, replaces=records[0][2:10])
    assert stores[1].read(name) == records[1]


def test_a_mark_that_is_old_costs_a_round_trip_and_nothing_else(watched: MemcachedStore) -> None:
    key = watched.save(Record(state={"a": b"1"}), DAY)
    record = alive(watched, key)
    inherited = contextvars.copy_context()  # as a task, or a child process, does
    newer = later(record, {"a": b"2"})
    watched.update(key, newer, DAY, replaces=record.revision)
    Watched.sent.clear()
    with pytest.raises(SessionConflict):
        inherited.run(watched.update, key, later(record, {"a": b"3"}), DAY, replaces=record.revision)
    assert Watched.sent == ["cas", "gets", "gets"]  # the last for what stands there
    assert alive(watched, key).state == {"a": b"2"}


def test_what_was_read_last_keeps_no_store_alive(memcached: MemcachedServer) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    alive(store, store.save(Record(state={"a": b"1"}), DAY))
    gone = weakref.ref(store)
    gc.disable()
    try:
        del store
        assert gone() is None
    finally:
        gc.enable()


# -- with Flask ----------------------------------------------------------------------------------------------------


def test_requests_over_an_outage(start: StartServer) -> None:
    """No cookie is lost, nothing half-written is seen, and no restart is needed."""
    server = start()
    app = make_app(MemcachedStore.from_url(f"{server.url}?timeout=0.5"), TESTING=False, PROPAGATE_EXCEPTIONS=False)
    app.logger.disabled = True
    browser = started(app, n=1)
    key = browser.key
    server.pause()
    response = browser.does(add_one)
    assert (response.status_code, response.headers["Retry-After"], fate(response)) == (503, "5", KEPT)
    server.resume()
    browser.does(add_one)
    assert browser.key == key
    assert browser.data == {"n": 2}
    server.kill()
    assert browser.does(add_one).status_code == 503
    assert browser.key == key
    server.start()  # it comes back empty: a new session for everybody
    assert Browser(app).does(add_one).status_code == 200
    assert browser.does(add_one).status_code == 200
    assert browser.data == {"n": 1}


def test_a_session_beyond_the_limit_is_an_error_in_the_view(memcached: MemcachedServer) -> None:
    app = make_app(MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:"), SESSION_MAX_SIZE=2**30)
    browser = started(app, n=1)
    with pytest.raises(SessionTooLarge):
        browser.does(lambda: session.update(large="x" * 2**20))
    assert browser.data == {"n": 1}
