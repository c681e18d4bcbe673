"""Moves all sessions at once, while the application runs: those of an importer, or those of another store of ours.

Each session is imported by the same rules as in a request. A session that was imported before, or has gone since, stays
as it is. So the move may be interrupted at any time, and started again.
"""

from __future__ import annotations

import typing as t
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import islice

from blinker import NamedSignal
from flask import Flask

from ..derived import Credential, owner_mark
from ..errors import SessionCorrupt, SessionGone, UnsupportedByStore
from ..key import SessionKey
from ..layout import unpack
from ..moving_in import Doorkeeper
from ..policy import Policy
from ..record import IMPORTED, Record, Tombstone
from ..stores.base import Entry, OwnerIndex, Scans, ServerSideStore
from ..visitor import Old
from .importing import Listing
from .other_store import credential_of

#: What became of each session. Besides these, an imported session is counted under the format it was kept in.
KNOWN, UNREADABLE, LEFT_OUT = "here already", "unreadable", "not let in"
COPIED, TOMBSTONES, MARKS, EXPIRED = "copied", "tombstones", "marks", "expired"

# So many sessions are moved at once, since engines answer many requests together; and so many wait for their turn.
_WORKERS = 8
_WINDOW = 256

# So many are looked for at once where sessions come from an importer: most are not here yet, and one answer says so.
_BATCH = 16

T = t.TypeVar("T")


def in_parallel(work: t.Callable[[list[T]], list[str]], items: t.Iterable[T], *, size: int = 1) -> t.Iterator[str]:
    """The results of ``work`` for all items, in order. Only few items are held at a time.

    :param size: how many items ``work`` takes at once.
    """
    pending: deque[Future[list[str]]] = deque()
    items = iter(items)
    with ThreadPoolExecutor(_WORKERS) as threads:
        while batch := list(islice(items, size)):
            pending.append(threads.submit(work, batch))
            if len(pending) * size >= _WINDOW:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


# -- an importer's -------------------------------------------------------------------------------------------------


class _Listed:
    """An old session that was found while going through all of them."""

    def __init__(self, importer: Listing, credential: Credential, find: t.Callable[[], Old | None]) -> None:
        self._importer, self._credential, self._find = importer, credential, find
        self._found: Old | None = None
        self.key, self.mark, self.is_derived = credential.key, credential.mark, credential.is_derived
        #: The names that something stands under if it is known here. The mark is looked for before the session.
        self.names = (self.mark, self.key.handle)

    def find(self, now: float) -> Old | None:
        if self._found is None:
            self._found = self._find()
        return self._found

    def remove(self) -> None:
        if self._importer.removes:
            self._importer.remove(self._credential)


def import_all(
    app: Flask, importer: Listing, store: ServerSideStore, policy: Policy, *, dry_run: bool = False
) -> t.Iterator[str]:
    """Import every session that the importer lists, and yield what became of each.

    :param dry_run: import nothing, only yield what would become of each.
    :raises UnsupportedByStore: if the old engine cannot list its sessions.
    :raises StoreUnavailable:
    """

    def work(batch: list[tuple[Credential, t.Callable[[], Old | None]]]) -> list[str]:
        doorkeeper = Doorkeeper(store, policy, lambda: None, _say_nothing)  # before anything is looked for
        olds = [_Listed(importer, *listed) for listed in batch]
        taken = store.taken([name for old in olds for name in old.names])
        return [_import(old, store, doorkeeper, is_new=taken.isdisjoint(old.names), dry_run=dry_run) for old in olds]

    return in_parallel(work, importer.listed(app, store.now()), size=_BATCH)


def _import(old: _Listed, store: ServerSideStore, doorkeeper: Doorkeeper, *, is_new: bool, dry_run: bool) -> str:
    if not is_new and doorkeeper.knows(old):
        return KNOWN
    try:
        record, found = None if is_new else store.load(old.key), old.find(store.now())
        if record is not None or found is None:
            return KNOWN if record is not None else EXPIRED
        if dry_run or doorkeeper.let_in(old, record) is not None:
            return found.kept_as
    except SessionCorrupt:
        return UNREADABLE
    except SessionGone:
        pass
    return LEFT_OUT


def _say_nothing(signal: NamedSignal, handle: str | None, **arguments: t.Any) -> None:
    """Send no signal, since no request has made these sessions."""


# -- another store's -----------------------------------------------------------------------------------------------


def copy_all(source: ServerSideStore, target: ServerSideStore, *, dry_run: bool = False) -> t.Iterator[str]:
    """Copy every session with its handle, its times and its owner, and tombstones and marks, unchanged.

    A mark is left for each session, so that ``from_store`` does not import it again.

    :raises UnsupportedByStore: if ``source`` cannot list its sessions.
    :raises StoreUnavailable:
    """
    scans = source.ability(Scans)
    if scans is None:
        raise UnsupportedByStore(f"{type(source).__name__} cannot list all sessions")
    return in_parallel(_Copy(source, target, dry_run=dry_run), scans.scan())


class _Copy:
    def __init__(self, source: ServerSideStore, target: ServerSideStore, *, dry_run: bool) -> None:
        self._target, self._dry_run = target, dry_run
        self._now = source.now

    def __call__(self, entries: list[Entry]) -> list[str]:
        return [self._copy(entry) for entry in entries]

    def _copy(self, entry: Entry) -> str:
        try:
            found = None if entry.data is None else unpack(entry.data, entry.handle)
        except SessionCorrupt:
            return UNREADABLE
        if entry.data is None or found is None or found.expires_ms <= int(self._now() * 1000):
            return EXPIRED
        if isinstance(found, Tombstone):
            return self._tombstone(entry.handle, entry.data, found)
        return self._record(entry.handle, entry.data, found)

    def _remaining(self, found: Record | Tombstone) -> timedelta:
        return timedelta(milliseconds=max(found.expires_ms - int(self._now() * 1000), 1))

    def _tombstone(self, handle: str, data: bytes, found: Tombstone) -> str:
        is_mark = found.kind == IMPORTED
        if not self._dry_run:
            if is_mark:
                self._target.mark(handle, found.successor or handle, self._remaining(found))
            else:
                self._target.add(handle, data, self._remaining(found))
        return MARKS if is_mark else TOMBSTONES

    def _record(self, handle: str, data: bytes, record: Record) -> str:
        target, mark = self._target, credential_of(SessionKey.of(handle)).mark
        if target.marked(mark) is not None:
            return KNOWN
        if self._dry_run:
            return LEFT_OUT if self._is_barred(record) else COPIED if target.read(handle) is None else KNOWN
        index = target.ability(OwnerIndex)
        if record.owner is not None and index is not None:
            index.file(record.owner, handle)
        added = target.add(handle, data, self._remaining(record))
        if self._is_barred(record):
            target.end_found(handle)
            return LEFT_OUT
        target.mark(mark, handle, self._remaining(record))
        return COPIED if added else KNOWN

    def _is_barred(self, record: Record) -> bool:
        """Whether all sessions of the owner were ended, so that none is let in."""
        return record.owner is not None and self._target.marked(owner_mark(record.owner)) is not None
