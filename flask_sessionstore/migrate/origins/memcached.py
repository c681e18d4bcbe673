"""Reads sessions from Memcached: items. Memcached does not tell when an item expires, and cannot list its items."""

from __future__ import annotations

import typing as t

from ...errors import UnsupportedByStore
from ...stores.memcached import MemcachedStore
from . import Found


class _Origin:
    def __init__(self, store: MemcachedStore) -> None:
        self._store = store

    def read(self, name: str, now: float) -> Found | None:
        data = self._store.read(name)
        return None if data is None else Found(data, None, tells_end=False)

    def remove(self, name: str) -> None:
        self._store.drop(name)

    def scan(self, prefix: str, now: float) -> t.Iterator[tuple[str, Found]]:
        raise UnsupportedByStore("Memcached cannot list its items: each session is imported when its visitor comes")

    def missing(self) -> None:
        return None


def origin(source: t.Any) -> _Origin:
    """The origin in the servers of a URL, or of any client of pymemcache."""
    is_url = isinstance(source, str)
    return _Origin(MemcachedStore.from_url(source, prefix="") if is_url else MemcachedStore(source, prefix=""))
