"""CachingStore: the contract, and how a pair is set up."""

from __future__ import annotations

import functools
import typing as t
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import servers
from http_support import make_app
from tiers import begin, entries, load, write

from flask_sessionstore import ConfigurationError, Record, SessionKey, StoreUnavailable
from flask_sessionstore.stores import Counts, OwnerIndex, Scans, ServerSideStore, Sweeps
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.testing import Clock, FaultyStore, StoreContract

# -- the contract ----------------------------------------------------------------------------------------------------


class TestCachingStore(StoreContract):
    """Looked at in the truth."""

    @pytest.fixture
    def store(self) -> ServerSideStore:
        return CachingStore(MemoryStore(), MemoryStore())

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        return entries(t.cast("CachingStore", store).store).get(handle)

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        entries(t.cast("CachingStore", store).store)[handle] = data


class TestCachingStoreLookedAtInTheCache(TestCachingStore):
    """What must not be in a store must not be in its cache; what is left there is left in both."""

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        return entries(t.cast("CachingStore", store).cache).get(handle)


class Trusting(CachingStore):
    """Serves from the cache whatever is fresh, as to a browser that has seen just that."""

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        entry = self.cache.read(key.handle)
        return super().load(key, seen=seen if entry is None else entry[2:6])


class TestCachingStoreThatServesFromTheCache(TestCachingStore):
    """One process by itself notices no difference."""

    @pytest.fixture
    def store(self) -> ServerSideStore:
        return Trusting(MemoryStore(), MemoryStore())

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        for tier in (t.cast("CachingStore", store).store, t.cast("CachingStore", store).cache):
            entries(tier)[handle] = data


def redis_before_files(url: str, prefix: str, folder: Path) -> ServerSideStore:
    return CachingStore(RedisStore.from_url(url, prefix=prefix), FileSystemStore(folder))


class TestRedisBeforeFiles(StoreContract):
    @pytest.fixture
    def store(self, valkey: servers.RedisServer, tmp_path: Path) -> ServerSideStore:
        self.open = functools.partial(redis_before_files, valkey.url, f"{uuid4()}:", tmp_path / "sessions")
        return self.open()

    def path(self, store: ServerSideStore, handle: str) -> Path:
        files = t.cast("FileSystemStore", t.cast("CachingStore", store).store)
        return files.path / handle[:2] / f"session%3A{handle}"

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        path = self.path(store, handle)
        return path.read_bytes() if path.exists() else None

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        self.path(store, handle).write_bytes(data)

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return self.open


class TestMemoryBeforeRedis(TestRedisBeforeFiles):
    """Every process with a cache of its own."""

    @pytest.fixture
    def store(self, valkey: servers.RedisServer) -> ServerSideStore:
        self.open = functools.partial(memory_before_redis, valkey.url, f"{uuid4()}:")
        return self.open()

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        return t.cast("bytes | None", self.client(store).execute_command("GET", store.prefix + handle))

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        self.client(store).execute_command("SET", store.prefix + handle, data)

    def client(self, store: ServerSideStore) -> t.Any:
        return t.cast("RedisStore", t.cast("CachingStore", store).store).client


def memory_before_redis(url: str, prefix: str) -> ServerSideStore:
    return CachingStore(MemoryStore(), RedisStore.from_url(url, prefix=prefix))


# -- set-up ----------------------------------------------------------------------------------------------------------


class Bare(ServerSideStore):
    """A store that can do nothing but what each must."""

    read = MemoryStore.read
    add = swap = drop = None  # type: ignore[assignment]


def test_it_sweeps_if_its_store_does(clock: Clock) -> None:
    swept = CachingStore(MemoryStore(), MemoryStore())
    sweeps = swept.ability(Sweeps)
    assert sweeps is not None
    assert [CachingStore(MemoryStore(), Bare()).ability(kind) for kind in (Sweeps, Scans, OwnerIndex)] == [None] * 3
    swept.clock = clock
    key, _ = begin(swept, ttl=timedelta(seconds=5))
    clock.advance(6)
    assert sweeps.delete_expired() == 1
    assert entries(swept.cache) == entries(swept.store) == {}
    assert key.handle not in entries(swept.cache)


def test_it_counts_what_its_store_has(clock: Clock) -> None:
    pair = CachingStore(MemoryStore(), MemoryStore())
    counts = pair.ability(Counts)
    assert counts is not None
    assert CachingStore(MemoryStore(), Bare()).ability(Counts) is None
    pair.clock = clock
    begin(pair)
    clock.advance(minutes=1)  # the cache has nothing any more
    assert counts.count() == 1


def test_a_sweep_does_without_its_cache() -> None:
    class Broken(MemoryStore):
        def delete_expired(self, limit: int | None = None) -> int:
            raise StoreUnavailable("down")

    swept = CachingStore(Broken(), MemoryStore())
    sweeps = swept.ability(Sweeps)
    assert sweeps is not None
    assert sweeps.delete_expired() == 0


def test_both_tiers_have_one_clock(clock: Clock) -> None:
    store = CachingStore(MemoryStore(), MemoryStore())
    store.clock = clock
    clock.advance(1)
    assert store.now() == store.cache.now() == store.store.now() == clock.now
    assert store.clock is clock


@pytest.mark.parametrize("max_age", [timedelta(0), timedelta(seconds=-1), timedelta(seconds=10.001)])
def test_an_age_that_cannot_work_is_refused(max_age: timedelta) -> None:
    with pytest.raises(ConfigurationError, match="max_age"):
        CachingStore(MemoryStore(), MemoryStore(), max_age=max_age)


def test_another_age_can_be_chosen(clock: Clock, truth: FaultyStore) -> None:
    here, there = (CachingStore(MemoryStore(), truth, max_age=timedelta(seconds=10)) for _ in range(2))
    key, record = begin(here, there)
    write(here, key, record, a=b"2")
    clock.advance(9.999)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.001)
    assert load(there, key, record) == {"a": b"2"}


def test_what_is_no_pair_is_refused() -> None:
    one = MemoryStore()
    for cache, store in ((one, one), (CookieStore(), one), (one, CookieStore()), (one, "memory:")):
        with pytest.raises(ConfigurationError, match="pair"):
            CachingStore(t.cast("MemoryStore", cache), t.cast("MemoryStore", store))


@pytest.mark.parametrize("store", ["memory:", MemoryStore()], ids=["URL", "store"])
def test_among_the_options_of_a_pair_the_longest_time_in_the_cache_is_the_caches(store: object) -> None:
    app = make_app(("memory:", store), SESSION_STORE_OPTIONS={"max_age": timedelta(seconds=5)})
    pair = t.cast("CachingStore", t.cast("t.Any", app.session_interface).store)
    assert pair.max_age == timedelta(seconds=5)
