"""The sessions of an owner: found, ended, and kept to a number. Over any store that has an index of owners.

Two things make this more than a query. A session is filed before its record is made, so what has no record may be on
its way: when all are ended it is barred, and left alone when they are only listed. And two sign-ins at once must not
end each other to keep to the number: see :func:`keep_to`.
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

# Reading again until nothing new appears: who signs in faster than this is no human being.
_MAX_ROUNDS = 100
# To be the youngest takes a millisecond.
_MAX_TRIES = 20
# Seconds to go on ending sessions after one could not be ended: it may be that one alone.
_PATIENCE = 2
# So many are ended at once: few round trips, and none that others wait for long.
_BATCH = 500


class Owned(t.NamedTuple):
    """A store, and what can say whose its sessions are."""

    store: ServerSideStore
    lists: OwnerIndex


def indexed(store: SessionStore) -> Owned:
    """``store`` with its index of owners.

    :raises UnsupportedByStore: if it has none.
    """
    lists = store.ability(OwnerIndex)
    if lists is None:
        raise UnsupportedByStore(
            f"{type(store).__name__} cannot tell whose its sessions are: take a store in files, Redis, MongoDB,"
            " DynamoDB or an SQL database"
        )
    return Owned(t.cast("ServerSideStore", store), lists)


def find(store: SessionStore, owner: str) -> dict[str, Record]:
    """The living sessions of ``owner`` by handle, the one last extended first.

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
    """End the sessions of ``owner``, those that are just being made included, and return how many ended.

    The one last extended goes first: what is cut off in the middle has ended a thief's, who is there now.

    :param keep: the handle of one that goes on.
    :param ended: told the handle of each that ended.
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

    Of two that sign in at once, at least one sees both. Each ends only what is older than itself; finding something
    younger to end, it is first written anew, which makes it the youngest, or fails, if the other was faster. As an end
    names the revision that was seen, no two end each other.

    :param key: of the session that has just signed in, which is never ended here.
    :param record: what was kept under it.
    :param ended: told the handle of each session that was ended.
    :return: what is kept under ``key`` now.
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
            tries -= 1  # where another machine's clock is ahead, to be written anew may never help
            record = _write_anew(at, key, record, ttl)
            continue
        for batch in _batches(dict(reversed(excess))):
            done = at.store.end_each({handle: other.revision for handle, other in batch.items()}, owner)
            _unfile(at, done, owner)
            for handle in done:
                ended(handle)
    return record


def _opened(entry: Entry) -> Record | Tombstone | None:
    """What is under the handle of an entry; None if it is nothing, or unreadable."""
    try:
        return None if entry.data is None else unpack(entry.data, entry.handle, head=True)
    except SessionCorrupt:
        return None


def _stamp(item: tuple[str, Record]) -> tuple[int, str]:
    """By what sessions are older and younger, in one order for everybody."""
    handle, record = item
    return record.extended_ms, handle


def _goes_on_as(at: Owned, handle: str, entries: t.Iterable[Entry]) -> set[str]:
    """Under which names a session goes on that was renewed. One whose renewal is half done has no tombstone yet.

    To be asked after the list was read: a successor is filed before it is one.
    """
    current = _opened(Entry(handle, at.store.read(handle)))
    if not isinstance(current, Record):
        return set(at.store.successors(handle))
    found = ((entry.handle, _opened(entry)) for entry in entries)
    return {name for name, record in found if isinstance(record, Record) and current.revision in record.revisions}


def _not_renewed(found: dict[str, Record]) -> dict[str, Record]:
    """Without those whose renewal is half done, which would count twice."""
    replaced = {revision for record in found.values() for revision in record.revisions[1:]}
    return {handle: record for handle, record in found.items() if record.revision not in replaced}


def _loaded(at: Owned, key: SessionKey) -> Record:
    record = at.store.load(key)
    if record is None:
        raise SessionGone("the session has expired")
    return record


def _end_each(at: Owned, entries: t.Sequence[Entry], owner: str) -> t.Iterator[str]:
    """End all that are filed, one that fails or not, and yield the handles of those that ended."""
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
        # What was written meanwhile, or cannot be ended at once.
        yield from trials.end([filed[handle] for handle in batch if handle not in done])
    _unfile(at, ended, owner)
    if trials.failure is not None:
        raise trials.failure


def _sorted_out(at: Owned, entries: t.Iterable[Entry], owner: str) -> tuple[dict[str, Record], list[Entry]]:
    """The living sessions of ``owner``, the one last extended first; and what else there may be to end, or to bar."""
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
        with contextlib.suppress(StoreUnavailable):  # they have ended; what is left in the list is pruned later
            at.lists.unfile(owner, *ended)


class _Trials:
    """Ends what is filed one by one, and goes on for a while after one could not be ended."""

    def __init__(self, at: Owned, owner: str) -> None:
        self._at, self._owner = at, owner
        self._began = time.monotonic()
        self.failure: StoreUnavailable | None = None
        self.are_over = False

    def end(self, entries: t.Iterable[Entry]) -> t.Iterator[str]:
        """Yield the handles of those that ended."""
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
    """End what is filed, or bar it if it is still to come; None if there was nothing to end."""
    found = _opened(entry)
    if entry.data is None and at.store.bar(entry.handle):
        return None
    # Where nobody can read whose it is, it is whose it was filed as.
    return at.store.end_found(entry.handle, owner=None if found is None and entry.data is not None else owner)


def _write_anew(at: Owned, key: SessionKey, record: Record, ttl: timedelta) -> Record:
    revisions = (new_revision(), *record.revisions)[:4]
    again = msgspec.structs.replace(record, revisions=revisions).written(int(at.store.now() * 1000), ttl)
    try:
        at.store.update(key, again, ttl, replaces=record.revision)
    except SessionConflict:
        return record  # somebody else has written it, which is as good
    return again
