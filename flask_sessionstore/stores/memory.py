"""MemoryStore: sessions in the memory of this process. For tests, for development, and as a cache before a store."""

from __future__ import annotations

import threading
import typing as t
from collections import OrderedDict
from datetime import timedelta

from ..errors import ConfigurationError, SessionTooLarge
from ..layout import is_over, is_tombstone, may_replace, owner_in
from .base import Counts, Entry, OwnerIndex, Scans, ServerSideStore, Sweeps, has_expired
from .pool import PerProcess

# Bytes of memory that an entry takes besides its data: the handle, the dictionary's slot, the objects' headers.
_OVERHEAD = 300


class MemoryStore(ServerSideStore, Sweeps, Scans, Counts, OwnerIndex):
    """Sessions in memory. When they take too much, the least recently used are dropped first.

    Only for one process: other processes do not see the sessions, and they are lost when the process ends.

    :param max_bytes: how much memory they may take, in bytes.
    """

    forgets = True

    def __init__(self, *, max_bytes: int = 64 * 1024 * 1024, prefix: str = "session:") -> None:
        super().__init__(prefix=prefix)
        if max_bytes <= 0:
            raise ConfigurationError("MemoryStore: max_bytes must be above 0", key="max_bytes")
        self.max_bytes = max_bytes
        """How much memory the sessions may take."""
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._owned: dict[str, dict[str, None]] = {}  # the handles of each owner, in order
        self._locks = PerProcess(threading.Lock)  # after a fork, the parent's lock may be held by a thread left behind

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``memory:``"""
        if url.rstrip("/") != "memory:":
            raise ConfigurationError('SESSION_STORE: the memory store\'s URL is just "memory:"', key="SESSION_STORE")
        return cls(**options)

    def read(self, handle: str) -> bytes | None:
        with self._lock:
            data = self._current(handle)
            if data is not None:
                self._entries.move_to_end(handle)
            return data

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        with self._lock:
            if self._current(handle) is not None:
                return False
            self._put(handle, data)
            return True

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        with self._lock:
            current = self._current(handle)
            if current is None or not may_replace(current, replaces):
                return False
            self._put(handle, data)
            return True

    def drop(self, handle: str) -> None:
        with self._lock:
            self._discard(handle)

    def delete_expired(self, limit: int | None = None) -> int:
        with self._lock:
            now = self.now()
            expired = [handle for handle, data in self._entries.items() if has_expired(data, now)][:limit]
            for handle in expired:
                self._discard(handle)
            return len(expired)

    def scan(self) -> t.Iterator[Entry]:
        with self._lock:
            entries = list(self._entries.items())
        return (Entry(handle, data) for handle, data in entries)

    def count(self) -> int:
        with self._lock:
            found = list(self._entries.values())
        now_ms = self._now_ms()
        return sum(not (is_over(data, now_ms) or is_tombstone(data)) for data in found)

    def entries(self, owner: str) -> list[Entry]:
        with self._lock:
            return [Entry(handle, self._entries[handle]) for handle in self._owned.get(owner, ())]

    def risks(self) -> list[str]:
        risk = (
            "MemoryStore keeps sessions in one process, so other workers do not see them, and a restart loses them: use"
            " files, Redis or an SQL database."
        )
        return [risk]

    @property
    def _lock(self) -> threading.Lock:
        return self._locks.get()

    def _current(self, handle: str) -> bytes | None:
        data = self._entries.get(handle)
        return None if data is None or is_over(data, self._now_ms()) else data

    def _put(self, handle: str, data: bytes) -> None:
        size = len(data) + _OVERHEAD
        if size > self.max_bytes:
            raise SessionTooLarge("the session is larger than the whole MemoryStore", size=size, limit=self.max_bytes)
        self._discard(handle)
        self._entries[handle] = data
        self._bytes += size
        owner = owner_in(data)
        if owner is not None:
            self._owned.setdefault(owner, {})[handle] = None
        while self._bytes > self.max_bytes:
            self._discard(next(iter(self._entries)))

    def _discard(self, handle: str) -> None:
        data = self._entries.pop(handle, None)
        if data is None:
            return
        self._bytes -= len(data) + _OVERHEAD
        owner = owner_in(data)
        if owner is not None:
            handles = self._owned[owner]
            del handles[handle]
            if not handles:
                del self._owned[owner]
