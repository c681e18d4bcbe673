"""A store with a cache, and another process with a cache of its own."""

from __future__ import annotations

import typing as t
from datetime import timedelta

from flask_sessionstore import Record, SessionGone, SessionKey
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore, later

DAY = timedelta(days=1)


def entries(store: ServerSideStore) -> dict[str, bytes]:
    """What a memory store holds, expired or not."""
    return t.cast("MemoryStore", store)._entries


class Process(CachingStore):
    """The two tiers of one process. A test may let both fail."""

    cache: FaultyStore
    store: FaultyStore

    def __init__(self, truth: FaultyStore, max_bytes: int = 1_000_000) -> None:
        self.memory = MemoryStore(max_bytes=max_bytes)
        self.memory.clock = truth.now
        super().__init__(FaultyStore(self.memory), truth)

    def reads(self) -> int:
        """How often the store behind the cache was read."""
        return self.store.calls.count("read")


def seen(record: Record | None) -> bytes:
    """The revision that a browser has seen if it got this record's cookie."""
    assert record is not None
    return record.revision[:4]


def begin(*stores: ServerSideStore, ttl: timedelta = DAY, **state: bytes) -> tuple[SessionKey, Record]:
    """Begin a session, and let all these processes read it into their caches."""
    key = stores[0].save(Record(state=state or {"a": b"1"}), ttl)
    record = [store.load(key) for store in stores][-1]
    assert record is not None
    return key, record


def write(store: ServerSideStore, key: SessionKey, record: Record, **state: bytes) -> Record:
    """Write as a request that has loaded ``record``; return the result."""
    new = later(record, state)
    store.update(key, new, DAY, replaces=record.revision)
    return new


def load(store: ServerSideStore, key: SessionKey, record: Record) -> dict[str, bytes] | str | None:
    """Load as a browser that has seen ``record``; return the state, or how the session went."""
    try:
        found = store.load(key, seen=seen(record))
    except SessionGone as gone:
        return gone.kind
    return None if found is None else found.state
