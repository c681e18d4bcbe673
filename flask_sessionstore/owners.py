"""The sessions of an owner: finding them, ending them, and limiting their number. For stores with an index of owners.

Two things make this more than a query. First, a session is filed in its owner's list before its record is written, so
an entry without a record may be a session that is just being made: if all sessions are ended, its handle is barred; if
they are only listed, the entry is ignored. Second, two sign-ins at once must not end each other because of the limit:
see :func:`keep_to`.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
from datetime import timedelta
from itertools import islice

import msgspec

from .errors import SessionConflict, SessionCorrupt, SessionGone, StoreUnavailable, UnsupportedByStore
from .key import SessionKey
from .layout import unpack
from .record import Record, Tombstone, new_revision
from .stores.base import Entry, OwnerIndex, ServerSideStore, SessionStore, has_left, list_name

# The list is read again until nothing new appears. More rounds than this mean that a program keeps signing in.
_MAX_ROUNDS = 100
# How often a session is written again to become the youngest; a millisecond between two writes is enough for that.
_MAX_TRIES = 20
# Seconds during which other sessions are still ended after one could not be ended: the failure may concern only one.
_PATIENCE = 2
# So many sessions are ended at once: that takes few round trips, and no round trip blocks others for long.
_BATCH = 500


class Owned(t.NamedTuple):
    """A store, and its index of owners."""

    store: ServerSideStore
    lists: OwnerIndex


def indexed(store: SessionStore) -> Owned:
    """``store`` with its index of owners.

    :raises UnsupportedByStore: if it has no such index.
    """
    lists = store.ability(OwnerIndex)
    if lists is None:
        raise UnsupportedByStore(
            f"{store.name} cannot list the sessions of an owner: use a store in files, Redis, MongoDB,"
            " DynamoDB or an SQL database"
        )
    return Owned(t.cast("ServerSideStore", store), lists)


def find(store: SessionStore, owner: str) -> dict[str, Record]:
    """The living sessions of ``owner`` by handle, most recently extended first.

    :raises UnsupportedByStore, StoreUnavailable:
    """
    at = indexed(store)
    now_ms = int(at.store.now() * 1000)
    found = {
        entry.handle: record
        for entry in at.lists.entries(owner)
        if isinstance(record := _opened(entry), Record) and record.owner == owner and record.expires_ms > now_ms
    }
    return dict(sorted(found.items(), key=_stamp, reverse=True))


def end_all(
    store: SessionStore, owner: str, *, keep: str | None = None, ended: t.Callable[[str], object] = lambda handle: None
) -> int:
    """End the sessions of ``owner``, also those being made just now, and return how many ended.

    The most recently extended session is ended first: a thief is probably using it now, so it has ended even if this
    call is interrupted.

    :param keep: the handle of a session that goes on.
    :param ended: called with the handle of each session that ended.
    :raises UnsupportedByStore, StoreUnavailable:
    """
    at = indexed(store)
    count = 0
    seen = {keep}
    for _ in range(_MAX_ROUNDS):
        fresh = [entry for entry in at.lists.entries(owner) if entry.handle not in seen]
        if keep is not None and fresh:
            seen |= _goes_on_as(at, keep, fresh)
        fresh = [entry for entry in fresh if entry.handle not in seen]
        if not fresh:
            return count
        seen |= {entry.handle for entry in fresh}
        for handle in _end_each(at, fresh, owner):
            count += 1
            ended(handle)
    raise StoreUnavailable("sessions of this owner are made faster than they can be ended; try again")


def keep_to(
    store: SessionStore, most: int, key: SessionKey, record: Record, ttl: timedelta, ended: t.Callable[[str], object]
) -> Record:
    """After a sign-in: end those sessions of its owner that were extended least recently, until ``most`` are left.

    Of two sign-ins at once, at least one sees both sessions. Each ends only sessions that are older than its own. If it
    has to end a younger session, its own session is first written again. That makes it the youngest, or fails if the
    other sign-in was faster. An end names the revision that was seen, so the two cannot end each other.

    :param key: the key of the session that has just signed in, which is never ended here.
    :param record: the record that was written under it.
    :param ended: called with the handle of each session that was ended.
    :return: the record that is under ``key`` now.
    :raises SessionGone: if another sign-in was faster, and has ended this one.
    :raises StoreUnavailable:
    """
    at, owner = indexed(store), t.cast("str", record.owner)
    tries = _MAX_TRIES
    for _ in range(_MAX_ROUNDS):
        found = _not_renewed(find(at.store, owner))
        if key.handle not in found:
            raise SessionGone("another sign-in has ended this session", kind="ended")
        if found[key.handle].revision != record.revision:
            record = _loaded(at, key)
        excess = [item for item in found.items() if item[0] != key.handle][most - 1 :]
        if not excess:
            break
        if tries and _stamp(excess[0]) > _stamp((key.handle, found[key.handle])):
            tries -= 1  # limited: if another machine's clock is ahead, writing again may never make it the youngest
            record = _write_anew(at, key, record, ttl)
            continue
        for batch in _batches(dict(reversed(excess))):
            done = at.store.end_each({handle: other.revision for handle, other in batch.items()}, owner)
            _unfile(at, done, owner)
            for handle in done:
                ended(handle)
    return record


def _opened(entry: Entry) -> Record | Tombstone | None:
    """The record or tombstone under the handle of an entry; None if there is nothing, or it cannot be read."""
    try:
        return None if entry.data is None else unpack(entry.data, entry.handle, head=True)
    except SessionCorrupt:
        return None


def _stamp(item: tuple[str, Record]) -> tuple[int, str]:
    """The age by which sessions are ordered, the same in every process."""
    handle, record = item
    return record.extended_ms, handle


def _goes_on_as(at: Owned, handle: str, entries: t.Iterable[Entry]) -> set[str]:
    """The handles under which a session goes on, if it was renewed. A half-done renewal has left no tombstone yet.

    To be called after the list was read: a successor is filed before the renewal that makes it a successor.
    """
    current = _opened(Entry(handle, at.store.read(handle)))
    if not isinstance(current, Record):
        return set(at.store.successors(handle))
    found = ((entry.handle, _opened(entry)) for entry in entries)
    return {name for name, record in found if isinstance(record, Record) and current.revision in record.revisions}


def _not_renewed(found: dict[str, Record]) -> dict[str, Record]:
    """``found`` without the sessions whose renewal is half done: they would count twice."""
    replaced = {revision for record in found.values() for revision in record.revisions[1:]}
    return {handle: record for handle, record in found.items() if record.revision not in replaced}


def _loaded(at: Owned, key: SessionKey) -> Record:
    record = at.store.load(key)
    if record is None:
        raise SessionGone("the session has expired")
    return record


def _end_each(at: Owned, entries: t.Sequence[Entry], owner: str) -> t.Iterator[str]:
    """End all sessions of these entries, even if one of them fails, and yield the handles of those that ended."""
    living, others = _sorted_out(at, entries, owner)
    filed = {entry.handle: entry for entry in entries}
    trials, ended = _Trials(at, owner), list[str]()
    yield from trials.end(others)
    for batch in _batches(living):
        if trials.are_over:
            break
        done = dict.fromkeys(at.store.end_each({handle: record.revision for handle, record in batch.items()}, owner))
        ended += done
        yield from done
        # Those that were written meanwhile, or could not be ended together with others.
        yield from trials.end([filed[handle] for handle in batch if handle not in done])
    _unfile(at, ended, owner)
    if trials.failure is not None:
        raise trials.failure


def _sorted_out(at: Owned, entries: t.Iterable[Entry], owner: str) -> tuple[dict[str, Record], list[Entry]]:
    """The living sessions of ``owner``, most recently extended first; and other entries that may have to be ended or
    barred.
    """
    now, name = at.store.now(), list_name(owner)
    living, others = dict[str, Record](), list[Entry]()
    for entry in entries:
        found = _opened(entry)
        if isinstance(found, Record) and found.owner == owner:
            if found.expires_ms > int(now * 1000):
                living[entry.handle] = found
        elif found is None and not (entry.data is None and has_left(entry, name, now)):
            others.append(entry)
    return dict(sorted(living.items(), key=_stamp, reverse=True)), others


def _batches(records: dict[str, Record]) -> t.Iterator[dict[str, Record]]:
    items = iter(records.items())
    while batch := dict(islice(items, _BATCH)):
        yield batch


def _unfile(at: Owned, ended: t.Sequence[str], owner: str) -> None:
    if ended:
        with contextlib.suppress(StoreUnavailable):  # the sessions have ended; their entries are pruned later
            at.lists.unfile(owner, *ended)


class _Trials:
    """Ends the sessions of entries one by one, and goes on for a while after one could not be ended."""

    def __init__(self, at: Owned, owner: str) -> None:
        self._at, self._owner = at, owner
        self._began = time.monotonic()
        self.failure: StoreUnavailable | None = None
        self.are_over = False

    def end(self, entries: t.Iterable[Entry]) -> t.Iterator[str]:
        """End them, and yield the handles of those that ended."""
        for entry in entries:
            if self.are_over:
                return
            try:
                handle = _end_filed(self._at, entry, self._owner)
            except StoreUnavailable as error:
                self.failure = self.failure or error
                self.are_over = time.monotonic() - self._began > _PATIENCE
            else:
                if handle is not None:
                    yield handle


def _end_filed(at: Owned, entry: Entry, owner: str) -> str | None:
    """End the session of an entry, or bar its handle if the session is just being made; None if nothing ended."""
    found = _opened(entry)
    if entry.data is None and at.store.bar(entry.handle):
        return None
    # If the record cannot be read, its owner is not compared: the list says whose it is.
    return at.store.end_found(entry.handle, owner=None if found is None and entry.data is not None else owner)


def _write_anew(at: Owned, key: SessionKey, record: Record, ttl: timedelta) -> Record:
    revisions = (new_revision(), *record.revisions)[:4]
    again = msgspec.structs.replace(record, revisions=revisions).anew(int(at.store.now() * 1000), ttl)
    try:
        at.store.update(key, again, ttl, replaces=record.revision)
    except SessionConflict:
        return record  # another request has written it, which also makes it younger
    return again
