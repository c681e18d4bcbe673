"""MemcachedStore: the contract on a real Memcached, and what it promises beyond it."""

from __future__ import annotations

import contextlib
import functools
import time
import typing as t
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from every_store import alive
from memcached_server import MemcachedServer
from memcached_stores import Watched
from pymemcache import Client, HashClient, PooledClient
from pymemcache.exceptions import MemcacheServerError

from flask_sessionstore import ConfigurationError, Record, SessionGone, SessionKey, SessionTooLarge, StoreUnavailable
from flask_sessionstore.layout import pack
from flask_sessionstore.stores import ServerSideStore, StoreFull, from_url
from flask_sessionstore.stores.memcached import MemcachedStore
from flask_sessionstore.testing import StoreContract, later

DAY = timedelta(days=1)
StartServer = t.Callable[..., MemcachedServer]


def fill(store: ServerSideStore) -> None:
    for _ in range(1000):
        store.save(Record(state={"a": bytes(100_000)}), DAY)


# -- the contract ----------------------------------------------------------------------------------------------------


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


# -- settings --------------------------------------------------------------------------------------------------------


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


# -- expiry ----------------------------------------------------------------------------------------------------------


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


# -- round trips, races ----------------------------------------------------------------------------------------------


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


# -- size, room ------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("end", [2**31 - 1, 2**31, 2**31 + 1])
def test_what_ends_about_when_memcacheds_times_end_is_kept(
    end: int, shared_memcached: MemcachedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = t.cast("MemcachedStore", from_url(shared_memcached.url, prefix=f"{uuid4()}:"))
    monkeypatch.setattr(time, "time", lambda: end - 60 * 86400.0 - 1)  # a second is added
    key = store.save(Record(state={"a": b"\x01"}), timedelta(days=60))
    assert store.load(key) is not None


def test_what_is_no_client_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="needs pymemcache's") as caught:
        MemcachedStore(t.cast("t.Any", object()))
    assert caught.value.key == "SESSION_STORE"
