"""CachingStore: a fast store in front of a lasting store.

The store decides: every write goes there first, and its reply counts. The cache only saves reads. A load that the cache
answers gives the same as a load up to ``max_age`` ago, for a browser that has not seen anything newer.

A record in the cache has other times in its bytes: it was extended when its reading began (*before* the store was
asked), and expires ``max_age`` later. So every engine can treat it like any record, and removes it in time. The real
times of the record are appended at the end. A tombstone has the same bytes in both tiers. It is final: it is served
until it expires, and nothing replaces it, so a slow reader cannot put back a record from before the end.
"""

from __future__ import annotations

import logging
import typing as t
from datetime import timedelta

from ..errors import ConfigurationError, SessionCorrupt, SessionError, SessionTooLarge, StoreFull
from ..key import SessionKey
from ..layout import REVISION, TIMES, expires_ms_of, is_tombstone, move_times, revision_of
from ..record import TOMBSTONE_TIME, Record, Tombstone, to_ms
from .base import ServerSideStore, Sweeps, gone, has_expired
from .contact import Contact

logger = logging.getLogger("flask_sessionstore")

R = t.TypeVar("R")
_Ability = t.TypeVar("_Ability")

# A cache that failed is not asked again for this time. ``max_age`` is at most this, so when the cache is asked again,
# all entries from before the failure have expired, and with them those that missed a write.
_RETRY_AFTER = timedelta(seconds=10)
_NEVER = float("-inf")
_TIMES_SIZE = TIMES.stop - TIMES.start
_REVISIONS = range(REVISION.start, TIMES.start, REVISION.stop - REVISION.start)
# After losing this often in a row against other writers of an entry, the entry is dropped.
_MAX_LOSSES = 3


class CachingStore(ServerSideStore):
    """Sessions in a store, and copies of recently read or written sessions in a cache.

    A cached record is served only to a browser that has not seen a newer record, so everybody reads their own writes.
    Writes of other browsers to the same session may be missing for ``max_age``, and a session that ended elsewhere may
    be served for as long. Absence is never cached. If the cache fails, is slow or full, requests do not fail.

    This store has the abilities of ``store`` (sweeping, listing the sessions of an owner).

    :param cache: the store that is asked first; it may lose anything at any time. Its clock becomes that of ``store``.
    :param store: the store that keeps the sessions.
    :param max_age: how long a cached record is served, as a timedelta or in seconds, counted from before it was read.
        At most ten seconds.
    :raises ConfigurationError: if the two cannot be paired, or ``max_age`` is out of range.
    """

    needs_seen = True

    def __init__(
        self, cache: ServerSideStore, store: ServerSideStore, *, max_age: timedelta | float = timedelta(seconds=2)
    ) -> None:
        pair: tuple[object, ...] = (cache, store)
        if cache is store or not all(isinstance(one, ServerSideStore) for one in pair):
            raise ConfigurationError(
                "SESSION_STORE: a pair must be a cache and a store: two different objects, both on the server's side",
                key="SESSION_STORE",
            )
        if isinstance(max_age, (int, float)):
            max_age = timedelta(seconds=max_age)
        if not timedelta(0) < max_age <= _RETRY_AFTER:
            raise ConfigurationError("CachingStore: max_age must be above 0 and at most 10 seconds", key="max_age")
        super().__init__(prefix=store.prefix)
        self.forgets = store.forgets
        self.cache = cache
        """The store that is asked first."""
        self.store = store
        """The store that keeps the sessions."""
        self.max_age = max_age
        """How long a cached record is served."""
        self._failed_at = _NEVER
        cache.clock = store.now

    @property
    def contact(self) -> Contact | None:  # type: ignore[override]  # a plain attribute in SessionStore
        """The contact to the store's engine: what the cache's engine does concerns nobody else."""
        return self.store.contact

    @property
    def clock(self) -> t.Callable[[], float] | None:
        """The store's clock, for both."""
        return self.store.clock

    @clock.setter
    def clock(self, clock: t.Callable[[], float] | None) -> None:
        self.store.clock = clock

    # -- the four primitives: the store's, with the cache kept up to date ------------------------------------------

    def read(self, handle: str) -> bytes | None:
        began_ms = self._now_ms()
        data = self.store.read(handle)
        expires_ms = None if data is None else expires_ms_of(data)
        if data is None or expires_ms is None or expires_ms <= began_ms:
            self._ask_cache(self._forget, handle)
        else:
            self._ask_cache(self._keep, handle, data, began_ms)
        return data

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        began_ms = self._now_ms()
        added = self.store.add(handle, data, ttl)
        if added:
            self._ask_cache(self._keep, handle, data, began_ms)
        return added

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self._replace(handle, data, lambda: self.store.swap(handle, data, ttl, replaces=replaces))

    def exchange(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes, known: bytes | None) -> bool:
        return self._replace(
            handle, data, lambda: self.store.exchange(handle, data, ttl, replaces=replaces, known=known)
        )

    def _replace(self, handle: str, data: bytes, replace: t.Callable[[], bool]) -> bool:
        began_ms = self._now_ms()
        replaced = False
        try:
            replaced = replace()
        finally:
            if replaced:
                self._ask_cache(self._keep, handle, data, began_ms)
            else:  # another request has written, or the result is unknown: the cached record may be old
                self._ask_cache(self._forget, handle)
        return replaced

    def drop(self, handle: str) -> None:
        try:
            self.store.drop(handle)
        finally:
            self._ask_cache(self._forget, handle)

    def end_each(self, revisions: t.Mapping[str, bytes], owner: str) -> list[str]:
        try:
            return self.store.end_each(revisions, owner)
        finally:
            for handle in revisions:
                self._ask_cache(self._forget, handle)

    def ability(self, kind: t.Callable[..., _Ability]) -> _Ability | None:
        """The store's abilities. Sweeping also sweeps the cache."""
        found = self.store.ability(kind)
        return t.cast("_Ability", _BothSweep(self, found)) if isinstance(found, Sweeps) and kind is Sweeps else found

    def sweep_cache(self, limit: int | None) -> None:
        """Remove expired records from the cache, if it can sweep."""
        sweeps = self.cache.ability(Sweeps)
        if sweeps is not None:
            self._ask_cache(sweeps.delete_expired, limit)

    def probe(self) -> None:
        """Try the store, and then the cache, whose failure is only logged: see :meth:`risks`."""
        self.store.probe()
        self._ask_cache(self.cache.probe)

    def risks(self) -> list[str]:
        return [*self.store.risks(), *self._cache_risks()]

    def _cache_risks(self) -> list[str]:
        try:
            self.cache.probe()
            return self.cache.exposures()
        except SessionError as error:
            return [f"The cache cannot be used, so every request asks the store: {error}."]

    # -- the cache -------------------------------------------------------------------------------------------------

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        found = self._ask_cache(self._cached, key, seen) if seen else None
        if found is None:
            found = self._find(key)
        if isinstance(found, Tombstone):
            raise gone(found)
        return found

    def _ask_cache(self, call: t.Callable[..., R], *args: t.Any) -> R | None:
        """Call something on the cache, if it works. After a failure the cache is not asked for a while.

        Then one call asks it again, and the others go on without the cache until it has answered: if it hangs, it costs
        only this one call a time-out.
        """
        failed_at = self._failed_at
        if failed_at > _NEVER:
            if 0 <= self.now() - failed_at < _RETRY_AFTER.total_seconds():
                return None
            self._failed_at = self.now()
        try:
            found = call(*args)
            if failed_at > _NEVER:
                self._failed_at = _NEVER
            return found
        except Exception as error:  # any error of a cache may be ignored, since the store decides
            self._failed_at = self.now()
            expected = isinstance(error, SessionError)
            what, cause = (error, error.__cause__) if expected else (type(error).__name__, error)
            is_new = failed_at == _NEVER
            logger.warning("the session cache is not used for a while: %s", what, exc_info=cause if is_new else None)
            return None

    def _cached(self, key: SessionKey, seen: bytes) -> Record | Tombstone | None:
        """The cached record or tombstone, unless the browser, whose revision begins with ``seen``, has seen newer."""
        found = self._read_entry(self.cache.read(key.handle), key.handle, key)
        if isinstance(found, Record) and not any(revision.startswith(seen) for revision in found.revisions):
            return None
        return found

    def _keep(self, handle: str, data: bytes, began_ms: int) -> None:
        """Put into the cache what was in the store at some time after ``began_ms``, unless the cache has newer data."""
        entry, ttl = data, TOMBSTONE_TIME
        if not is_tombstone(data):
            entry, ttl = move_times(data, began_ms, began_ms + to_ms(self.max_age)) + data[TIMES], self.max_age
        try:
            for _ in range(_MAX_LOSSES):
                current = self.cache.read(handle)
                if self._stays(handle, current, entry) or self._put(handle, current, entry, ttl):
                    return
        except SessionTooLarge:
            logger.debug("a session of %s bytes is too large for the cache", len(data))
        except StoreFull:
            self.cache.drop(handle)  # this also works in a full cache
            raise
        self.cache.drop(handle)

    def _put(self, handle: str, current: bytes | None, entry: bytes, ttl: timedelta) -> bool:
        """Replace ``current`` by ``entry``; False if something else is there by now."""
        if current is None or has_expired(current, self.now()):
            return self.cache.add(handle, entry, ttl)
        return self.cache.swap(handle, entry, ttl, replaces=revision_of(current) or None)

    def _stays(self, handle: str, current: bytes | None, entry: bytes) -> bool:
        """Whether ``current`` is at least as new as ``entry``, and so stays."""
        found = self._read_entry(current, handle)
        if current is None or found is None or isinstance(found, Tombstone):
            return found is not None
        if is_tombstone(entry):
            return False
        theirs, ours = _revisions(current), _revisions(entry)
        if theirs[0] in ours[1:] or ours[0] in theirs[1:]:
            return ours[0] in theirs
        return _times(current) >= _times(entry)

    def _forget(self, handle: str) -> None:
        """Drop a cached record; a tombstone stays."""
        entry = self.cache.read(handle)
        if entry is not None and not isinstance(self._read_entry(entry, handle), Tombstone):
            self.cache.drop(handle)

    def _read_entry(self, entry: bytes | None, handle: str, key: SessionKey | None = None) -> Record | Tombstone | None:
        """The record or tombstone in the cache's bytes; None if they are too old, from the future (a clock was set), or
        damaged.
        """
        if entry is None:
            return None
        try:
            if is_tombstone(entry):
                return self._open(entry, handle)
            now_ms = self._now_ms()
            began_ms = int.from_bytes(entry[TIMES][:8], "big")
            if not began_ms <= now_ms < began_ms + to_ms(self.max_age):
                return None
            data = entry[: TIMES.start] + entry[-_TIMES_SIZE:] + entry[TIMES.stop : -_TIMES_SIZE]
            if key is not None:
                key.known = data  # as they are in the store
            return self._open(data, handle, key)
        except SessionCorrupt:
            return None


class _BothSweep(Sweeps):
    """Sweeps the cache and the store; returns how many records were removed from the store."""

    def __init__(self, tiers: CachingStore, store: Sweeps) -> None:
        self._tiers, self._store = tiers, store

    def delete_expired(self, limit: int | None = None) -> int:
        self._tiers.sweep_cache(limit)
        return self._store.delete_expired(limit)

    def sweep(self, limit: int) -> bool:
        return self._store.sweep(limit)  # a cache removes what it has no room for


def _revisions(data: bytes) -> list[bytes]:
    """The last four revisions of a packed record, newest first."""
    return [data[start : start + 8] for start in _REVISIONS]


def _times(entry: bytes) -> bytes:
    """The times of a cached record, in bytes that compare like times: its own (extended, expires), then the cache's."""
    return entry[-_TIMES_SIZE:] + entry[TIMES]
