"""Reads what is in a store, for the commands: one session, or all, one at a time, since there may be a million."""

from __future__ import annotations

import typing as t

from ..codec import decode
from ..errors import SessionCorrupt, SessionGone, UnsupportedByStore
from ..layout import unpack
from ..record import IMPORTED, Record, SessionInfo, Tombstone, to_datetime
from ..stores.base import OwnerIndex, Scans, ServerSideStore, SessionStore, Sweeps
from .as_json import Facts
from .rendering import DAMAGED

_LISTED = ("handle", "owner", "created_at", "extended_at", "expires_at", "client")


class Found(t.NamedTuple):
    """A session, found while going through all sessions."""

    handle: str
    size: int
    #: None if the record cannot be read.
    record: Record | None


def scanning(store: SessionStore) -> Scans:
    """The store's ability to go through all sessions.

    :raises UnsupportedByStore: if the store lacks it.
    """
    scans = store.ability(Scans)
    if scans is None:
        raise UnsupportedByStore(f"{type(store).__name__} cannot list all sessions")
    return scans


def scan(store: SessionStore) -> t.Iterator[Found]:
    """All sessions, also expired ones, but not tombstones."""
    for handle, data, _ in scanning(store).scan():
        if data is None:
            continue
        try:
            record = unpack(data, handle)
        except SessionCorrupt:
            yield Found(handle, len(data), None)
        else:
            if isinstance(record, Record):
                yield Found(handle, len(data), record)


def living(store: SessionStore) -> t.Iterator[Found]:
    """All living sessions, and damaged records."""
    now_ms = now_ms_of(store)
    return (found for found in scan(store) if found.record is None or found.record.expires_ms > now_ms)


def handles_like(store: SessionStore, digits: str) -> set[str]:
    """The handles that begin with these digits: of living and damaged sessions; if there are none, of ended ones."""
    alive, ended, now_ms = set[str](), set[str](), now_ms_of(store)
    for handle, data, _ in scanning(store).scan():
        if data is None or not handle.startswith(digits):
            continue
        try:
            found = unpack(data, handle, head=True)
        except SessionCorrupt:
            alive.add(handle)
            continue
        if found.expires_ms > now_ms and not (isinstance(found, Tombstone) and found.kind == IMPORTED):
            (alive if isinstance(found, Record) else ended).add(handle)
    return alive or ended


def listed(info: SessionInfo, size: int) -> Facts:
    """What a list shows of a session."""
    return {**_infos(info), "bytes": size, "damaged": False}


def damaged(handle: str, size: int) -> Facts:
    """What a list shows of a record that cannot be read."""
    return {**dict.fromkeys(_LISTED), "handle": handle, "bytes": size, "damaged": True}


def _infos(info: SessionInfo) -> Facts:
    return {name: getattr(info, name) for name in _LISTED}


def find(store: ServerSideStore, handle: str) -> tuple[Facts, Record]:
    """All that may be shown of one session, except its values; and its record.

    :raises SessionGone: if there is no such session; the message says what is known of it.
    """
    data = store.read(handle)
    found = None if data is None else unpack(data, handle)
    if data is None or found is None or found.expires_ms <= now_ms_of(store):
        raise SessionGone("there is no session under this handle")
    if isinstance(found, Tombstone):
        further = f", and goes on as {found.successor}" if found.successor else ""
        raise SessionGone(f"this session was {found.kind}{further}", kind=found.kind)
    return _facts_of(handle, data, found), found


def _facts_of(handle: str, data: bytes, record: Record) -> Facts:
    info = SessionInfo.of(handle, record)
    return {
        **_infos(info),
        "permanent": record.permanent,
        "lifetime": record.lifetime,
        "deadline": record.deadline,
        "bytes": len(data),
        "sealed": record.sealed,
        "keys": None if record.sealed else sorted(record.state),
    }


def values_of(record: Record) -> Facts:
    """The values by their keys; :data:`DAMAGED` in place of a value that cannot be decoded.

    :raises UnsupportedByStore: if the record is sealed.
    """
    if record.sealed:
        raise UnsupportedByStore("this session is sealed: only requests from its own browser can read it")
    return {key: _value_of(data) for key, data in sorted(record.state.items())}


def _value_of(data: bytes) -> t.Any:
    try:
        return decode(data)
    except SessionCorrupt:
        return DAMAGED


def removals(store: SessionStore, batch: int) -> t.Iterator[int]:
    """Remove what can be removed, batch by batch, and yield how many sessions each batch removed; if the engine removes
    sessions itself, how many entries of lists.

    :raises UnsupportedByStore: if this store never has anything to remove.
    """
    sweeps, index = store.ability(Sweeps), store.ability(OwnerIndex)
    if sweeps is None and index is None:
        raise UnsupportedByStore(f"{type(store).__name__} removes expired sessions by itself")
    if sweeps is not None:
        yield from _until_fewer(sweeps.delete_expired, batch)
    if index is not None:
        for pruned in _until_fewer(index.prune, batch):
            yield pruned if sweeps is None else 0


def _until_fewer(remove: t.Callable[[int], int], batch: int) -> t.Iterator[int]:
    removed = batch
    while removed >= batch:
        removed = remove(batch)
        yield removed


class Totals:
    """How many sessions there are and of whom, their size, the age of the oldest, and when the next one expires."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._sessions = self._anonymous = self._bytes = self._expired = self._damaged = 0
        self._owners: set[int] = set()  # their hashes: the names of a million owners would take much more memory
        self._oldest: int | None = None
        self._next: int | None = None

    def add(self, found: Found) -> None:
        """Count a session."""
        record = found.record
        if record is None:
            self._damaged += 1
        elif record.expires_ms <= self._now_ms:
            self._expired += 1
        else:
            self._add_living(record, found.size)

    def _add_living(self, record: Record, size: int) -> None:
        self._sessions += 1
        self._bytes += size
        if record.owner is None:
            self._anonymous += 1
        else:
            self._owners.add(hash(record.owner))
        self._oldest = min(self._oldest or record.created_ms, record.created_ms)
        self._next = min(self._next or record.expires_ms, record.expires_ms)

    def facts(self) -> Facts:
        """The totals by name."""
        return {
            "sessions": self._sessions,
            "anonymous": self._anonymous,
            "owners": len(self._owners),
            "bytes": self._bytes,
            "oldest": None if self._oldest is None else to_datetime(self._oldest),
            "expiring_next": None if self._next is None else to_datetime(self._next),
            "expired": self._expired,
            "damaged": self._damaged,
        }


def now_ms_of(store: SessionStore) -> int:
    """The present time by the store's clock, in milliseconds since 1970."""
    return int(store.now() * 1000)
