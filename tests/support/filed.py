"""Requests in every order over a store whose index is apart from its records, as in files and Redis."""

from __future__ import annotations

import functools

from interleaving import Faults, Operation, Run, WatchedStore
from kinds import ANN

from flask_sessionstore import owners
from flask_sessionstore.record import Record
from flask_sessionstore.stores import Entry, has_left, list_name


def listing(verb: str, owner: str, handle: str = "") -> Operation:
    """An operation on an owner's list. The order of two such operations matters."""
    return Operation(verb, f"{owner}/", bytes.fromhex(handle))


class FiledStore(WatchedStore):
    """A store whose owners' lists are apart from its records. Its clock moves with every operation."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(faults)
        self.lists: dict[str, dict[str, int]] = {}

    def file(self, owner: str, handle: str) -> None:
        self._do(
            listing("file", owner, handle),
            lambda: self.lists.setdefault(owner, {}).update({handle: int(self.time * 1000)}),
            lambda _: None,
        )

    def unfile(self, owner: str, *handles: str) -> None:
        for handle in handles:
            self._do(
                listing("unfile", owner, handle),
                functools.partial(self._unfile, owner, handle),
                lambda _: None,
            )

    def _unfile(self, owner: str, handle: str) -> None:
        self.lists.get(owner, {}).pop(handle, None)

    def entries(self, owner: str) -> list[Entry]:
        filed = self._do(listing("list", owner), lambda: dict(self.lists.get(owner, {})), lambda _: None)
        return [Entry(handle, self.read(handle), filed_ms) for handle, filed_ms in filed.items()]

    def prune(self, limit: int | None = None) -> int:
        left = [
            (owner, entry.handle)
            for owner in list(self.lists)
            for entry in self.entries(owner)
            if has_left(entry, list_name(owner), self.now())
        ]
        for owner, handle in left[:limit]:
            self.unfile(owner, handle)
        return len(left[:limit])


class FiledRun(Run):
    """Requests of one or more browsers, in one order, over a store with an index."""

    store_class = FiledStore
    store: FiledStore

    def _is_settled(self, operation: Operation) -> bool:
        return "/" not in operation.handle and super()._is_settled(operation)

    def _named(self) -> set[str | None]:
        """As in every run, and the handles in the owners' lists, which can be found there."""
        return super()._named() | {handle for owner in self.store.lists.values() for handle in owner}

    def finish(self) -> None:
        """Finish the run without further stops."""
        self.store.turn = None

    @property
    def anns(self) -> dict[str, Record]:
        """The living sessions of ann, also those whose key no browser was told."""
        return {
            entry.handle: record
            for entry in self.store.scan()
            if isinstance(record := owners._opened(entry), Record) and record.owner == ANN
        }
