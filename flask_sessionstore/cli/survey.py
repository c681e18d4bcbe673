"""Reads what is in a store, for the commands: one session, or all, one at a time, since there may be a million."""

from __future__ import annotations

import typing as t

from ..codec import decode
from ..errors import SessionCorrupt, SessionGone, UnsupportedByStore
from ..layout import unpack
from ..record import Record, SessionInfo, Tombstone, to_datetime
from ..stores.base import OwnerIndex, Scans, ServerSideStore, SessionStore, Sweeps
from .rendering import DAMAGED, Facts

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


def _scan(store: SessionStore) -> t.Iterator[Found]:
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


def sessions_of_everybody(store: SessionStore) -> t.Iterator[Facts]:
    """What may be shown of each living session, and the handle of each damaged session."""
    now_ms = _now_ms(store)
    for handle, _, record in _scan(store):
        if record is None:
            yield {**dict.fromkeys(_LISTED), "handle": handle, "damaged": True}
        elif record.expires_ms > now_ms:
            yield listed(SessionInfo.of(handle, record))


def listed(info: SessionInfo) -> Facts:
    """What a list shows of a session."""
    return {**{name: getattr(info, name) for name in _LISTED}, "damaged": False}


def find(store: ServerSideStore, handle: str) -> tuple[Facts, Record]:
    """All that may be shown of one session, except its values; and its record.

    :raises SessionGone: if there is no such session; the message says what is known of it.
    """
    data = store.read(handle)
    found = None if data is None else unpack(data, handle)
    if data is None or found is None or found.expires_ms <= _now_ms(store):
        raise SessionGone("there is no session under this handle")
    if isinstance(found, Tombstone):
        further = f", and goes on as {found.successor}" if found.successor else ""
        raise SessionGone(f"this session was {found.kind}{further}", kind=found.kind)
    return _facts_of(handle, data, found), found


def _facts_of(handle: str, data: bytes, record: Record) -> Facts:
    info = SessionInfo.of(handle, record)
    return {
        **{name: getattr(info, name) for name in _LISTED},
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


def end_all(store: SessionStore, end: t.Callable[[str], bool]) -> int:
    """End all sessions, also those that are renewed meanwhile, and return how many ended.

    :param end: ends the session under a handle; returns False if there is none.
    """
    began_ms, ended = _now_ms(store), 0
    for found in _scan(store):
        ended += end(found.handle)
    while late := sum(end(found.handle) for found in _scan(store) if _is_older(found, began_ms)):
        ended += late
    return ended


def _is_older(found: Found, than_ms: int) -> bool:
    """Whether a session was made before a time and lives. A renewed session keeps the time when it was made, and the
    first scan may have missed it under its new handle.
    """
    return found.record is not None and found.record.created_ms < than_ms < found.record.expires_ms


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


def totals(store: SessionStore) -> Facts:
    """How many sessions there are, their size, the age of the oldest, and when the next one expires."""
    now_ms = _now_ms(store)
    sessions = size = expired = damaged = 0
    oldest = expiring = None
    for _, length, record in _scan(store):
        if record is None:
            damaged += 1
        elif record.expires_ms <= now_ms:
            expired += 1
        else:
            sessions += 1
            size += length
            oldest = min(oldest or record.created_ms, record.created_ms)
            expiring = min(expiring or record.expires_ms, record.expires_ms)
    return {
        "sessions": sessions,
        "bytes": size,
        "oldest": None if oldest is None else to_datetime(oldest),
        "expiring_next": None if expiring is None else to_datetime(expiring),
        "expired": expired,
        "damaged": damaged,
    }


def _now_ms(store: SessionStore) -> int:
    return int(store.now() * 1000)
