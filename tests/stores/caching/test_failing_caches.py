"""A cache that fails, hangs, is full or damaged fails nothing."""

from __future__ import annotations

import threading
import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import servers
from http_support import warnings_in
from servers import StartServer
from tiers import Process, begin, entries, load, write

from flask_sessionstore import Record, StoreUnavailable
from flask_sessionstore.layout import FORMAT
from flask_sessionstore.record import TOMBSTONE_TIME
from flask_sessionstore.stores import StoreFull
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.testing import Clock, FaultyStore, later

DAY = timedelta(days=1)
MAX_AGE = 2.0
#: As long as a cache that failed is left alone.
REST = 10.0


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


def test_a_cache_that_failed_is_asked_again_by_one_call_only(here: Process, clock: Clock) -> None:
    """It may hang: the others go on without it."""
    key, record = begin(here)
    here.cache.fail()
    assert load(here, key, record) == {"a": b"1"}
    clock.advance(REST)
    here.cache.hang("read")
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(load(here, key, record)))
    thread.start()
    assert here.cache.hanging.wait(30)
    asked = len(here.cache.calls)
    for _ in range(3):
        assert load(here, key, record) == {"a": b"1"}
    assert len(here.cache.calls) == asked
    here.cache.heal()
    thread.join(30)
    assert found == [{"a": b"1"}]


def test_a_cache_that_answers_again_is_used_by_everybody_again(here: Process, clock: Clock) -> None:
    key, record = begin(here)
    here.cache.fail()
    assert load(here, key, record) == {"a": b"1"}
    clock.advance(REST)
    assert load(here, key, record) == {"a": b"1"}
    reads = here.reads()
    assert load(here, key, record) == {"a": b"1"}
    assert here.reads() == reads


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
