"""CachingStore: the contract, what the cache may serve and what not, and every order of requests on two of them."""

from __future__ import annotations

import functools
import itertools
import logging
import random
import sys
import threading
import typing as t
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import greenlet  # type: ignore[import-untyped]
import interleaving
import pytest
import servers
from clocks import Clock
from flask import session
from http_support import DELETED, SET, Browser, fate, make_app, started, warnings_in
from interleaving import WIRE_FAULTS, Fault, Operation, Run, Step, WatchedStore, every_run, groups
from invariants import ALWAYS, INVARIANTS, Complaints, check, nothing_failed
from kinds import KINDS, LOG_OUT, PAUSE, RENEW, STARTS, Kind, Request
from servers import StartServer
from views import sign_in

from flask_sessionstore import ConfigurationError, Record, SessionConflict, SessionGone, SessionKey, StoreUnavailable
from flask_sessionstore.layout import FORMAT, pack, pack_tombstone, unpack
from flask_sessionstore.record import TOMBSTONE_TIME, Tombstone, new_revision
from flask_sessionstore.stores import OwnerIndex, Scans, ServerSideStore, StoreFull, Sweeps, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.testing import FaultyStore, StoreContract, later
from flask_sessionstore.visitor import Send

DAY = timedelta(days=1)
MAX_AGE = 2.0
#: As long as a cache that failed is left alone.
REST = 10.0


# -- the contract --------------------------------------------------------------------------------------------------


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


# -- a store with a cache, and another process with a cache of its own ---------------------------------------------


def entries(store: ServerSideStore) -> dict[str, bytes]:
    """What a memory store holds, expired or not."""
    return t.cast("MemoryStore", store)._entries


class Process(CachingStore):
    """One process's store. Both tiers can be made to fail."""

    cache: FaultyStore
    store: FaultyStore

    def __init__(self, truth: FaultyStore, max_bytes: int = 1_000_000) -> None:
        self.memory = MemoryStore(max_bytes=max_bytes)
        self.memory.clock = truth.now
        super().__init__(FaultyStore(self.memory), truth)

    def reads(self) -> int:
        """How often the truth was read."""
        return self.store.calls.count("read")


@pytest.fixture
def truth(clock: Clock) -> FaultyStore:
    memory = MemoryStore()
    memory.clock = clock
    return FaultyStore(memory)


@pytest.fixture
def here(truth: FaultyStore) -> Process:
    return Process(truth)


@pytest.fixture
def there(truth: FaultyStore) -> Process:
    return Process(truth)


def seen(record: Record | None) -> bytes:
    """What the token of a browser says that was sent this record's cookie."""
    assert record is not None
    return record.revision[:4]


def begin(*stores: ServerSideStore, ttl: timedelta = DAY, **state: bytes) -> tuple[SessionKey, Record]:
    """A session that all these have in their caches."""
    key = stores[0].save(Record(state=state or {"a": b"1"}), ttl)
    record = [store.load(key) for store in stores][-1]
    assert record is not None
    return key, record


def write(store: ServerSideStore, key: SessionKey, record: Record, **state: bytes) -> Record:
    """What a request comes to that had loaded ``record``."""
    new = later(record, state)
    store.update(key, new, DAY, replaces=record.revision)
    return new


def load(store: ServerSideStore, key: SessionKey, record: Record) -> dict[str, bytes] | str | None:
    """What a browser gets that has seen ``record``: the state, or how the session went."""
    try:
        found = store.load(key, seen=seen(record))
    except SessionGone as gone:
        return gone.kind
    return None if found is None else found.state


# -- what is served from the cache ---------------------------------------------------------------------------------


def test_a_hit_asks_the_store_nothing(here: Process) -> None:
    key, record = begin(here)
    here.store.calls.clear()
    assert here.load(key, seen=seen(record)) == here.store.load(key)
    assert here.store.calls == ["read"]  # our own


def test_a_miss_fills_the_cache(here: Process, there: Process) -> None:
    key, record = begin(here)
    assert load(there, key, record) == {"a": b"1"}
    reads = there.reads()
    assert load(there, key, record) == {"a": b"1"}
    assert there.reads() == reads


def test_what_was_saved_written_or_extended_is_a_hit(here: Process, clock: Clock) -> None:
    key = here.save(Record(state={"a": b"1"}, revisions=(first := new_revision(),)), DAY)
    reads = here.reads()
    record = here.load(key, seen=first[:4])
    assert record is not None
    record = write(here, key, record, a=b"2")
    assert load(here, key, record) == {"a": b"2"}
    assert here.reads() == reads
    clock.advance(1)
    _, extended = here.update_ttl(key, 2 * DAY)
    reads = here.reads()
    assert here.load(key, seen=seen(record)) == extended
    assert here.reads() == reads


def test_who_has_seen_nothing_yet_asks_the_store(here: Process) -> None:
    key, _ = begin(here)
    reads = here.reads()
    assert here.load(key) is not None
    assert here.reads() == reads + 1


def test_everybody_reads_their_own_writes_on_every_process(here: Process, there: Process) -> None:
    key, record = begin(here, there)
    record = write(here, key, record, a=b"2")
    assert load(there, key, record) == {"a": b"2"}
    record = write(there, key, record, a=b"3")
    assert load(here, key, record) == {"a": b"3"}


def test_a_browser_that_has_seen_less_is_served_what_is_newer(here: Process) -> None:
    """Up to three writes newer, for a record remembers so many; who has seen still less asks the store."""
    key, record = begin(here)
    seen_long_ago = record
    for n, asked in enumerate([0, 0, 0, 1]):
        record = write(here, key, record, a=b"%d" % n)
        reads = here.reads()
        assert load(here, key, seen_long_ago) == {"a": b"%d" % n}
        assert here.reads() - reads == asked


def test_what_others_wrote_is_seen_within_max_age(here: Process, there: Process, clock: Clock) -> None:
    key, record = begin(here, there)
    write(here, key, record, a=b"2")
    clock.advance(MAX_AGE - 0.001)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.001)
    assert load(there, key, record) == {"a": b"2"}


def test_an_age_counts_from_before_the_read(here: Process, there: Process, clock: Clock) -> None:
    key, record = begin(here)

    def write_slowly() -> None:
        write(here, key, record, a=b"2")
        clock.advance(1.5)

    after(there.store, "read", write_slowly)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.4)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.1)
    assert load(there, key, record) == {"a": b"2"}


def test_a_clock_that_was_set_back_makes_nothing_last_longer(here: Process, there: Process, clock: Clock) -> None:
    key, record = begin(here, there)
    write(here, key, record, a=b"2")
    clock.advance(-3600)
    assert load(there, key, record) == {"a": b"2"}


def test_absence_is_never_cached(here: Process) -> None:
    key, record = SessionKey.generate(), Record(state={"a": b"1"}).written(int(here.now() * 1000), DAY)
    assert load(here, key, record) is None
    assert here.store.add(key.handle, pack(record, key.handle), DAY)
    assert load(here, key, record) == {"a": b"1"}


def test_what_expires_in_the_cache_was_perhaps_extended_elsewhere(here: Process, there: Process, clock: Clock) -> None:
    key, record = begin(here, there, ttl=timedelta(seconds=1))
    here.update_ttl(key, DAY)
    clock.advance(1.5)
    assert load(there, key, record) == {"a": b"1"}


def test_an_end_that_no_activity_moves_is_kept_in_the_cache(here: Process, clock: Clock) -> None:
    key = here.save(Record(state={"a": b"1"}, end_ms=int(here.now() * 1000) + 1000), DAY)
    record = here.load(key)
    assert record is not None
    clock.advance(1)
    assert load(here, key, record) is None


# -- what must not get into the cache ------------------------------------------------------------------------------


def after(store: ServerSideStore, primitive: str, then: t.Callable[[], object]) -> None:
    """Let something happen once, after the store has answered and before the answer arrives."""
    original = getattr(store, primitive)

    def slow(*args: t.Any, **kwargs: t.Any) -> t.Any:
        setattr(store, primitive, original)
        answer = original(*args, **kwargs)
        then()
        return answer

    setattr(store, primitive, slow)


@pytest.mark.parametrize("writes", range(1, 7))
def test_a_slow_reader_puts_nothing_old_over_what_is_newer(here: Process, clock: Clock, writes: int) -> None:
    key, record = begin(here)
    records = [record]

    def write_meanwhile() -> None:
        for n in range(writes):
            clock.advance(0.01)
            records.append(write(here, key, records[-1], a=b"new %d" % n))

    after(here.store, "read", write_meanwhile)
    found = here.load(key)
    assert found is not None
    assert found.state == {"a": b"1"}
    reads = here.reads()
    assert load(here, key, records[-1]) == records[-1].state
    assert here.reads() == reads


def test_a_slow_writer_puts_nothing_old_over_what_is_newer(here: Process) -> None:
    key, record = begin(here)
    newest: list[Record] = []
    first = later(record, {"a": b"2"})
    after(here.store, "swap", lambda: newest.append(write(here, key, first, a=b"3")))
    here.update(key, first, DAY, replaces=record.revision)
    assert load(here, key, record) == {"a": b"3"}


@pytest.mark.parametrize("primitive", ["read", "swap"])
def test_whoever_is_slow_brings_no_ended_session_back(here: Process, primitive: str) -> None:
    """Neither who had read it before it ended, nor who had written to it."""
    key, record = begin(here)
    after(here.store, primitive, lambda: here.delete(key))
    if primitive == "read":
        assert here.load(key) is not None
    else:
        write(here, key, record, a=b"2")
    assert load(here, key, record) == "ended"


def test_what_was_cached_is_dropped_before_a_conflict_is_raised(here: Process, there: Process) -> None:
    key, record = begin(here, there)
    write(here, key, record, a=b"2")
    with pytest.raises(SessionConflict):
        write(there, key, record, a=b"3")
    assert load(there, key, record) == {"a": b"2"}


def test_what_was_cached_is_dropped_when_nobody_knows_what_was_written(here: Process) -> None:
    key, record = begin(here)
    here.store.lose_reply("swap")
    with pytest.raises(StoreUnavailable):
        write(here, key, record, a=b"2")
    assert load(here, key, record) == {"a": b"2"}


def test_what_was_cached_is_dropped_when_the_store_has_nothing(here: Process) -> None:
    key, record = begin(here)
    here.store.drop(key.handle)
    with pytest.raises(SessionGone):
        here.update_ttl(key)
    assert load(here, key, record) is None


def test_the_mark_of_an_end_stays_whatever_a_late_writer_meets(here: Process) -> None:
    """A conflict, a failure: both drop what is cached, for it may be old; but a mark never is."""
    key, record = begin(here)
    here.delete(key)
    with pytest.raises(SessionGone):
        write(here, key, record, a=b"2")
    here.store.fail("swap")
    with pytest.raises(StoreUnavailable):
        write(here, key, record, a=b"3")
    reads = here.reads()
    assert load(here, key, record) == "ended"
    assert here.reads() == reads


# -- the end -------------------------------------------------------------------------------------------------------

ENDS: dict[str, t.Callable[[ServerSideStore, SessionKey, Record], object]] = {
    "ended": lambda store, key, record: store.delete(key),
    "emptied": lambda store, key, record: store.delete(key, replaces=record.revision, emptied=True),
    "renewed": lambda store, key, record: store.renew(key, later(record, {"a": b"2"}), DAY, replaces=record.revision),
}
ends = pytest.mark.parametrize("kind", ENDS)


@ends
def test_an_end_leaves_its_mark_in_both_tiers(here: Process, kind: str) -> None:
    key, record = begin(here)
    ENDS[kind](here, key, record)
    assert here.memory.read(key.handle) == here.store.read(key.handle)
    reads = here.reads()
    assert load(here, key, record) == kind
    assert here.reads() == reads


@ends
def test_elsewhere_an_ended_session_is_served_for_max_age_at_most(
    here: Process, there: Process, clock: Clock, kind: str
) -> None:
    """The browser that ended it has no such cookie any more; this is one that was copied before."""
    key, record = begin(here, there)
    clock.advance(1)
    ENDS[kind](here, key, record)
    clock.advance(MAX_AGE - 1 - 0.001)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.001)
    assert load(there, key, record) == kind
    clock.advance(TOMBSTONE_TIME.total_seconds())
    assert load(here, key, record) is load(there, key, record) is None


@ends
def test_nothing_is_written_to_what_ended_elsewhere(here: Process, there: Process, kind: str) -> None:
    key, record = begin(here, there)
    ENDS[kind](here, key, record)
    for attempt in (lambda: write(there, key, record, a=b"3"), lambda: there.update_ttl(key)):
        with pytest.raises(SessionGone) as caught:
            attempt()
        assert caught.value.kind == kind
    assert load(there, key, record) == kind


def test_an_end_by_handle_marks_the_cache(here: Process) -> None:
    key, record = begin(here)
    assert here.end(key.handle)
    assert load(here, key, record) == "revoked"


def test_ending_a_renewed_session_ends_its_successor_in_the_cache(here: Process, there: Process) -> None:
    key, record = begin(here, there)
    new = there.renew(key, later(record, {"a": b"2"}), DAY, replaces=record.revision)
    renewed = here.load(new)
    assert renewed is not None
    here.delete(key)
    assert load(here, new, renewed) == "ended"


def test_a_store_without_room_ends_a_session_in_both_tiers(here: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    key, record = begin(here)

    def full(*args: object, **kwargs: object) -> bool:
        raise StoreFull("no room")

    monkeypatch.setattr(here.store, "swap", full)
    here.delete(key)
    assert load(here, key, record) is None


# -- a cache that fails --------------------------------------------------------------------------------------------

FAULTS: dict[str, t.Callable[[FaultyStore, str | None], object]] = {
    "fails": lambda cache, primitive: cache.fail(primitive, times=None),
    "loses replies": lambda cache, primitive: cache.lose_reply(primitive, times=None),
}
primitives = pytest.mark.parametrize("primitive", [None, "read", "add", "swap", "drop"])


@primitives
@pytest.mark.parametrize("fault", FAULTS)
def test_a_cache_that_fails_is_as_none(
    here: Process, there: Process, clock: Clock, fault: str, primitive: str | None
) -> None:
    """No request fails, and no browser is shown older data than it has seen, here or there, then or later."""
    key, record = begin(here, there)
    FAULTS[fault](here.cache, primitive)
    for n in range(3):
        record = write(here, key, record, a=b"here %d" % n)
        assert load(here, key, record) == load(there, key, record) == record.state
        record = write(there, key, record, a=b"there %d" % n)
        assert load(here, key, record) == load(there, key, record) == record.state
        clock.advance(REST * n / 2)
    here.update_ttl(key)
    new = here.renew(key, later(record, {"a": b"renewed"}), DAY, replaces=record.revision)
    renewed = here.load(new)
    assert renewed is not None
    assert renewed.state == {"a": b"renewed"}
    here.delete(new)
    for old, gone in ((key, record), (new, renewed)):
        assert load(here, old, gone) in ("renewed", "ended")
    here.cache.heal()
    assert load(here, new, renewed) == "ended"
    clock.advance(TOMBSTONE_TIME.total_seconds())
    assert load(here, key, record) is load(here, new, renewed) is None


def test_a_cache_that_hangs_is_given_up_with_its_own_time_out(here: Process) -> None:
    key, record = begin(here)
    here.cache.hang("read")
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(load(here, key, record)))
    thread.start()
    assert here.cache.hanging.wait(30)
    here.cache.heal()
    thread.join(30)
    assert found == [{"a": b"1"}]


def test_a_cache_that_failed_is_left_alone_for_a_while_and_named_once(
    here: Process, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    key, record = begin(here)
    here.cache.fail(times=None)
    for _ in range(5):
        assert load(here, key, record) == {"a": b"1"}
    asked = len(here.cache.calls)
    clock.advance(REST - 0.001)
    assert load(here, key, record) == {"a": b"1"}
    assert len(here.cache.calls) == asked
    (message,) = warnings_in(caplog)
    assert "cache" in message
    here.cache.heal()
    clock.advance(0.001)
    assert load(here, key, record) == {"a": b"1"}
    reads = here.reads()
    assert load(here, key, record) == {"a": b"1"}
    assert here.reads() == reads
    assert len(warnings_in(caplog)) == 1


def test_a_cache_that_missed_an_end_serves_nothing_of_before(here: Process, clock: Clock) -> None:
    """It is left alone until what was in it is too old."""
    key, record = begin(here)
    here.cache.fail()
    here.delete(key)
    assert load(here, key, record) == "ended"
    clock.advance(REST - 0.001)
    assert load(here, key, record) == "ended"
    clock.advance(0.001)
    assert load(here, key, record) == "ended"
    clock.advance(TOMBSTONE_TIME.total_seconds() - REST)
    assert load(here, key, record) is None


def test_a_session_larger_than_the_cache_is_not_cached(truth: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    here = Process(truth, max_bytes=2000)
    key, record = begin(here)
    new = write(here, key, record, a=bytes(3000))
    assert load(here, key, record) == load(here, key, new) == new.state
    other, record = begin(here)
    reads = here.reads()
    assert load(here, other, record) == {"a": b"1"}
    assert here.reads() == reads  # no reason to leave the cache alone
    assert warnings_in(caplog) == []


def test_a_cache_that_fails_in_a_way_of_its_own_fails_nothing(
    here: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache of somebody else's may let its driver's exceptions through."""

    def broken(*_args: object, **_options: object) -> t.NoReturn:
        raise RuntimeError("what a driver says")

    for primitive in ("read", "add", "swap", "drop"):
        monkeypatch.setattr(here.cache, primitive, broken)
    key, record = begin(here)
    assert load(here, key, write(here, key, record, a=b"2")) == {"a": b"2"}
    here.delete(key)
    assert load(here, key, record) == "ended"
    assert warnings_in(caplog) == ["the session cache is not used for a while: RuntimeError"]


def test_a_full_cache_fails_nothing(here: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    key, record = begin(here)

    def full(*args: object, **kwargs: object) -> bool:
        raise StoreFull("no room")

    for primitive in ("add", "swap"):
        monkeypatch.setattr(here.cache, primitive, full)
    new = write(here, key, record, a=b"2")
    assert here.memory.read(key.handle) is None  # for others, who may share it
    assert load(here, key, record) == load(here, key, new) == {"a": b"2"}
    begin(here)
    here.delete(key)
    assert load(here, key, new) == "ended"


GARBAGE = {
    "empty": b"",
    "one byte": b"\1",
    "a pickle": b"\x80\x04N.",
    "JSON": b'{"a": 1}',
    "a cut tombstone": bytes([FORMAT]) + b"\xff" * 20,
    "ones": bytes([FORMAT, 0]) + b"\xff" * 200,
    "newer": bytes([FORMAT + 1]) + bytes(200),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_damaged_bytes_in_the_cache_are_replaced(here: Process, garbage: bytes) -> None:
    key, record = begin(here)
    for damage in (garbage, entries(here.memory)[key.handle][:-1] + b"\xff", entries(here.memory)[key.handle][:60]):
        entries(here.memory)[key.handle] = damage
        assert load(here, key, record) == {"a": b"1"}
        reads = here.reads()
        assert load(here, key, record) == {"a": b"1"}
        assert here.reads() == reads


def test_a_session_whose_record_is_damaged_can_be_ended(here: Process) -> None:
    key, record = begin(here)
    here.store.store._entries[key.handle] = b"damaged"  # type: ignore[attr-defined]
    here.delete(key)
    assert load(here, key, record) == "ended"


@pytest.mark.parametrize("trouble", ["stopped", "killed", "hangs"])
def test_redis_as_a_cache_may_go_away_and_come_back(start_redis: StartServer, trouble: str, clock: Clock) -> None:
    server = start_redis()
    truth = FaultyStore(MemoryStore())
    here = CachingStore(RedisStore.from_url(f"{server.url}?socket_timeout=0.2"), truth)
    clock.now = truth.now()
    here.clock = truth.store.clock = clock
    key, record = begin(here)
    {"stopped": server.stop, "killed": server.kill, "hangs": server.pause}[trouble]()
    record = write(here, key, record, a=b"2")
    assert load(here, key, record) == {"a": b"2"}
    if trouble == "hangs":
        server.resume()
    else:
        server.start()
    clock.advance(REST)
    for _ in range(2):  # Redis, which does not know this clock, may still hold what was there before
        assert load(here, key, record) == {"a": b"2"}
    truth.calls.clear()
    assert load(here, key, record) == {"a": b"2"}
    assert truth.calls == []


def test_redis_as_a_cache_may_be_full(start_redis: StartServer) -> None:
    server = start_redis(maxmemory="3mb", maxmemory_policy="noeviction")
    cache = RedisStore.from_url(server.url)
    here = CachingStore(cache, MemoryStore())
    key, record = begin(here)

    def fill() -> None:
        for _ in range(1000):
            cache.save(Record(state={"a": bytes(100_000)}), DAY)

    with pytest.raises(StoreFull):
        fill()
    record = write(here, key, record, a=bytes(200_000))
    assert load(here, key, record) == record.state
    here.delete(key)
    assert load(here, key, record) == "ended"


def test_redis_forgets_what_is_too_old_by_itself(valkey: servers.RedisServer) -> None:
    cache = RedisStore.from_url(valkey.url, prefix=f"{uuid4()}:")
    here = CachingStore(cache, MemoryStore())
    key, record = begin(here)

    def left() -> float:
        return float(cache.client.execute_command("PTTL", cache.prefix + key.handle)) / 1000

    assert 0 < left() <= MAX_AGE
    write(here, key, record, a=b"2")
    assert 0 < left() <= MAX_AGE
    here.delete(key)
    assert MAX_AGE < left() <= TOMBSTONE_TIME.total_seconds()


def test_a_store_that_fails_is_not_hidden(here: Process) -> None:
    key, record = begin(here)
    here.store.fail(times=None)
    assert load(here, key, record) == {"a": b"1"}
    with pytest.raises(StoreUnavailable):
        write(here, key, record, a=b"2")
    with pytest.raises(StoreUnavailable):
        load(here, key, record)


# -- set-up --------------------------------------------------------------------------------------------------------


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


# -- every order of requests on two of them ------------------------------------------------------------------------
#
# The search of test_interleavings.py, with every request on a CachingStore over the store that is watched. The session
# is in the caches when the requests come in. All invariants hold as they are: a request that is served from a cache is
# one that had loaded a little earlier. Only that a request sees what was done before it *came in* is lost, which none
# of them asks; what is left of that is stated below.


class Watched(CachingStore):
    """What is served from the cache is logged as what the request read."""

    store: Tiers

    def _cached(self, key: SessionKey, seen: bytes) -> Record | Tombstone | None:
        watched, request = self.store.watched, self.store.watched.turn
        if request is not None and not self.store.finely:
            interleaving._stop(Operation("look up", key.handle))
        found = super()._cached(key, seen)
        if found is not None and request is not None:
            name = key.handle
            data = pack(found, name) if isinstance(found, Record) else pack_tombstone(found, name)
            watched.log.append(Step(request, Operation("read", key.handle), data))
        return found


class WatchedCache(MemoryStore):
    """A cache; a request stops before each primitive on it, too. It can fail."""

    def __init__(self, watched: WatchedStore, number: int, finely: bool) -> None:
        super().__init__()
        self.watched, self.number, self.finely = watched, number, finely
        self.chance: t.Callable[[], bool] = lambda: False

    def read(self, handle: str) -> bytes | None:
        return self._do("read", handle, lambda: super(WatchedCache, self).read(handle))

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self._do("add", handle, lambda: super(WatchedCache, self).add(handle, data, ttl))

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self._do("swap", handle, lambda: super(WatchedCache, self).swap(handle, data, ttl, replaces=replaces))

    def drop(self, handle: str) -> None:
        return self._do("drop", handle, lambda: super(WatchedCache, self).drop(handle))

    def _do(self, verb: str, handle: str, do: t.Callable[[], interleaving.T]) -> interleaving.T:
        if self.watched.turn is None or isinstance(sys.exception(), greenlet.GreenletExit):  # a run that is given up
            return do()
        if self.finely:
            interleaving._stop(Operation(verb, f"{self.number}:{handle}"))
        if self.chance():
            raise StoreUnavailable("down")
        return do()


class Tiers(FaultyStore):
    """The store, as requests see it: each through one of the CachingStores, in turn.

    :param caches: how many there are, each with a cache of its own.
    :param finely: whether requests stop before each primitive on a cache too. Else only before they look into it: what
        they then tell it is one step with what they did to the store.
    """

    def __init__(self, store: ServerSideStore, caches: int = 2, finely: bool = True) -> None:
        super().__init__(store)
        self.watched, self.finely = t.cast("WatchedStore", store), finely
        self.tiers = [Watched(WatchedCache(self.watched, number, finely), self) for number in range(caches)]
        self.begun: Record | None = None

    def of(self, request: Request) -> Watched:
        """The store of a request."""
        return self.tiers[request.number % len(self.tiers)]

    @property
    def current(self) -> Watched:
        request = self.watched.turn
        assert request is not None
        if self.begun is None:
            self._warm(request)
        return self.of(request)

    def _warm(self, request: Request) -> None:
        self.watched.turn = None
        for handle in list(self.watched._entries):
            data = self.watched.peek(handle)
            assert data is not None
            self.begun = t.cast("Record", unpack(data, handle))
            for tier in self.tiers:
                tier.read(handle)
        self.watched.turn = request

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        return self.current.load(key, seen=seen)

    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        save = super().save if self.watched.turn is None else self.current.save
        return save(record, ttl, key=key)

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        return self.current.update(key, record, ttl, replaces=replaces)

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        return self.current.update_ttl(key, ttl)

    def delete(self, key: SessionKey, **options: t.Any) -> None:
        self.current.delete(key, **options)

    def renew(self, key: SessionKey, record: Record, ttl: timedelta, **options: t.Any) -> SessionKey:
        return self.current.renew(key, record, ttl, **options)

    def end_found(self, handle: str, **options: t.Any) -> str | None:
        return self.current.end_found(handle, **options)


class TieredRun(Run):
    """Requests on CachingStores, in one order."""

    _faulty: Tiers

    def _is_settled(self, operation: Operation) -> bool:
        cache, _, handle = operation.handle.rpartition(":")
        if handle != self.handle and handle not in self._named():
            return True
        if len(self.requests) <= len(self._faulty.tiers):  # nobody else uses this cache
            return bool(cache) or super()._is_settled(operation)
        # What tells a cache something, or asks it, is not settled.
        return self._faulty.finely and not cache and super()._is_settled(operation)

    # -- when nobody waits any more

    def finish(self) -> None:
        """From here on nobody stops any more."""
        self.store.turn = None
        for tier in self._faulty.tiers:
            t.cast("WatchedCache", tier.cache).chance = lambda: False

    def found(self, store: ServerSideStore, handle: str, record: Record) -> Record | str | None:
        """What a browser that has seen ``record`` is served by ``store``."""
        try:
            return store.load(SessionKey.of(handle), seen=seen(record))
        except SessionGone as gone:
            return gone.kind


def everybody_reads_their_own_writes(run: Run) -> Complaints:
    """With the cookie that was sent, both processes know what was written for it, or something later."""
    for request in run.acknowledged:
        if request.sent is not None and isinstance(request.outcome, Send):
            record = request.outcome.record
            for number, _, (found, truth) in _asked(run, request.sent, record):
                if found != truth and not (isinstance(found, Record) and record.revision in found.revisions):
                    yield f"cache {number} does not know what {request} wrote, and serves {found}, not {truth}"


def where_it_ended_it_is_over(run: Run) -> Complaints:
    """The process that ended a session, or whose request came upon the end, does not serve it any more."""
    tiers = t.cast("TieredRun", run)._faulty
    for request in run.acknowledged:
        knows = any(
            isinstance(step.what, Tombstone) and step.operation.handle == run.handle for step in run.steps(request)
        )
        if request.ends or (knows and not run._faults):  # what is read may not arrive
            for _, tier, (found, truth) in _asked(run, run.handle, t.cast("Record", tiers.begun)):
                if tier is tiers.of(request) and isinstance(found, Record) and truth != found:
                    yield f"{request} knows that the session is over, and it is served all the same"


def in_time_everybody_knows_everything(run: Run) -> Complaints:
    """Once ``max_age`` has passed, every process serves what the store says."""
    run.store.time += MAX_AGE
    begun = t.cast("Record", t.cast("TieredRun", run)._faulty.begun)
    for handle in {run.handle, *run.makers}:
        for number, _, (found, truth) in _asked(run, handle, begun):
            if found != truth:
                yield f"cache {number} serves {found}, not {truth}"


def _asked(run: Run, handle: str, record: Record) -> t.Iterator[tuple[int, Watched, tuple[object, object]]]:
    """What a browser that has seen ``record`` is served, by each process and by the store."""
    tiered = t.cast("TieredRun", run)
    truth = tiered.found(run.store, handle, record)
    for number, tier in enumerate(tiered._faulty.tiers):
        yield number, tier, (tiered.found(tier, handle, record), truth)


def check_tiers(run: Run, *invariants: t.Callable[[Run], Complaints]) -> None:
    """Check these, and then what holds of the caches."""
    t.cast("TieredRun", run).finish()
    check(
        run,
        *invariants,
        where_it_ended_it_is_over,
        everybody_reads_their_own_writes,
        in_time_everybody_knows_everything,
    )


@pytest.fixture
def tiers(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., None]:
    """Run requests on :class:`Tiers`, made with these arguments."""
    monkeypatch.setattr(logging.getLogger("flask_sessionstore"), "disabled", True)
    monkeypatch.setattr(interleaving, "Run", TieredRun)
    return lambda **options: monkeypatch.setattr(interleaving, "FaultyStore", functools.partial(Tiers, **options))


starts = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
kinds = pytest.mark.parametrize("kind", KINDS, ids=str)


#: What the default run takes; the long one takes all.
SOME = (RENEW, LOG_OUT)


@starts
@pytest.mark.parametrize(
    ("kind", "caches"),
    [
        pytest.param(
            kind, caches, id=f"{kind}-{caches}", marks=() if kind in SOME and caches == 2 else pytest.mark.long
        )
        for kind in KINDS
        for caches in (1, 2)
    ],
)
def test_two_requests(tiers: t.Callable[..., None], start: dict[str, str], kind: Kind, caches: int) -> None:
    """On two processes, and on one, or on two that share a cache."""
    tiers(caches=caches)
    for group in groups(kind, 2):
        for run in every_run(start, group):
            check_tiers(run, nothing_failed, *INVARIANTS)


@pytest.mark.exhaustive
@starts
@kinds
def test_three_requests(tiers: t.Callable[..., None], start: dict[str, str], kind: Kind) -> None:
    """Two on one process, one on another."""
    tiers(caches=2, finely=False)
    for one, other in itertools.combinations_with_replacement(KINDS, 2):
        for run in every_run(start, (one, kind, other)):
            check_tiers(run, nothing_failed, *INVARIANTS)


@pytest.mark.long
@starts
@kinds
@pytest.mark.parametrize("fault", [Fault.COMMAND_LOST, Fault.REPLY_LOST], ids=lambda fault: fault.value)
def test_two_requests_and_one_fault(
    tiers: t.Callable[..., None], start: dict[str, str], kind: Kind, fault: Fault
) -> None:
    """A fault of the store at any one operation of either request."""
    tiers(caches=2)
    for group in groups(kind, 2):
        for request in range(2):
            for operation in itertools.count(1):
                happened = False
                for run in every_run(start, group, {(request, operation): fault}):
                    happened |= run.requests[request].operations + 1 >= operation
                    check_tiers(run, *INVARIANTS)
                if not happened:
                    break


@pytest.mark.long
@starts
@kinds
def test_two_requests_longer_than_tombstones_stand(
    tiers: t.Callable[..., None], start: dict[str, str], kind: Kind
) -> None:
    tiers(caches=2)
    for group in groups(kind, 2):
        for run in every_run(start, (*group, PAUSE)):
            check_tiers(run, nothing_failed, *ALWAYS)


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
def test_many_requests_and_caches_that_fail(tiers: t.Callable[..., None], seed: int) -> None:
    """Three or four requests on two processes, in some order; the caches fail now and then, the store too."""
    chance = random.Random(seed)
    tiers(caches=2)
    for _ in range(300):
        group = chance.choices(KINDS, k=chance.choice((3, 4)))
        places = itertools.product(range(len(group)), range(1, 13))
        faults = {place: chance.choice(WIRE_FAULTS) for place in places if chance.random() < seed % 2 * 0.12}
        run = TieredRun(chance.choice(list(STARTS.values())), group, faults)
        for tier in run._faulty.tiers:
            t.cast("WatchedCache", tier.cache).chance = lambda: chance.random() < 0.2
        while run.waiting:
            run.step(chance.choice(list(run.waiting)))
        check_tiers(run, *(() if faults else (nothing_failed,)), *INVARIANTS)


# -- over HTTP -----------------------------------------------------------------------------------------------------


class Windows:
    """One browser, two processes."""

    def __init__(self, here: Process, there: Process) -> None:
        self.apps = [make_app(here), make_app(there)]
        self.browser = Browser(self.apps[0])

    def here(self) -> Browser:
        """The browser, sent to the one process."""
        return self._sent_to(0)

    def there(self) -> Browser:
        """The browser, sent to the other."""
        return self._sent_to(1)

    def _sent_to(self, number: int) -> Browser:
        self.browser.app = self.apps[number]
        return self.browser


@pytest.fixture
def windows(here: Process, there: Process) -> Windows:
    return Windows(here, there)


def count() -> None:
    session.update_or("hits", 1, lambda hits: hits + 1)  # type: ignore[attr-defined]


def log_out() -> None:
    session.clear()


def test_a_counter_is_exact_on_two_processes(windows: Windows) -> None:
    for n in range(1, 6):
        windows.here().does(count)
        assert windows.there().data == {"hits": 2 * n - 1}
        windows.there().does(count)
        assert windows.here().data == {"hits": 2 * n}


def test_a_page_that_reads_asks_the_store_nothing(windows: Windows, here: Process) -> None:
    windows.here().does(count)
    here.store.calls.clear()
    assert windows.here().data == {"hits": 1}
    assert here.store.calls == []


def test_two_tabs_on_two_processes_lose_nothing(windows: Windows) -> None:
    windows.here().does(count)
    tab = windows.browser.twin()
    tab.app = windows.apps[1]
    assert tab.data == {"hits": 1}  # from now on in that cache
    windows.here().does(count)
    tab.does(count)
    windows.browser.cookies = tab.cookies  # as browsers do
    assert windows.here().data == tab.data == {"hits": 3}


def test_a_sign_in_and_a_log_out_count_at_once_for_the_browser(windows: Windows) -> None:
    windows.here().does(count)
    windows.there().does(sign_in)
    assert windows.here().data == {"hits": 1, "_user_id": "ann"}
    assert fate(windows.there().does(log_out)) == DELETED
    assert windows.here().data == {}


def test_a_copied_cookie_outlives_a_log_out_elsewhere_by_max_age(windows: Windows, clock: Clock) -> None:
    windows.here().does(sign_in)
    thief = windows.browser.twin()
    thief.app = windows.apps[1]
    assert thief.data == {"_user_id": "ann"}
    windows.here().does(log_out)
    clock.advance(MAX_AGE - 0.001)
    assert thief.data == {"_user_id": "ann"}
    clock.advance(0.001)
    assert thief.data == {}
    for app in windows.apps:
        thief.app = app
        assert thief.data == {}


def test_a_copied_cookie_writes_nothing_after_a_log_out_elsewhere(windows: Windows) -> None:
    windows.here().does(sign_in)
    thief = windows.browser.twin()
    thief.app = windows.apps[1]
    assert thief.data == {"_user_id": "ann"}
    windows.here().does(log_out)
    response = thief.does(count)
    assert fate(response) != SET
    assert thief.data == {}


def test_where_the_log_out_was_a_copied_cookie_is_dead_at_once(windows: Windows, here: Process) -> None:
    windows.here().does(sign_in)
    thief = windows.browser.twin()
    windows.here().does(log_out)
    here.store.calls.clear()
    assert thief.data == {}
    assert here.store.calls == []


def test_pages_are_served_whatever_the_cache_does(windows: Windows, here: Process) -> None:
    here.cache.fail(times=None)
    for n in range(1, 4):
        assert windows.here().does(count).status_code == 200
        assert windows.here().data == {"hits": n}
    assert fate(windows.here().does(log_out)) == DELETED


def test_a_session_goes_on_from_the_stores_own_days(clock: Clock, here: Process) -> None:
    """A cache can be put before a store, and taken away, without anybody noticing."""
    browser = started(make_app(here.store.store), hits=1)
    for store in (here, here.store.store):
        browser.app = make_app(store)
        browser.does(count)
    assert browser.data == {"hits": 3}


def test_a_pair_of_urls_works(valkey: servers.RedisServer, shared_database: t.Callable[..., t.Any]) -> None:
    """Valkey before PostgreSQL, as the README has it."""
    url = shared_database("postgresql").url
    t.cast("t.Any", from_url(url)).create_schema()
    app = make_app((valkey.url, url), SESSION_KEY_PREFIX=f"{uuid4()}:")
    browser = started(app, hits=1)
    browser.does(count)
    assert browser.data == {"hits": 2}
    browser.does(log_out)
    assert browser.data == {}
