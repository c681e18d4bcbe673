"""What only some stores can do: small base classes, asked for with ``isinstance``, never faked.

A store that passes everything on to another has that one's abilities: see :func:`lend`.
"""

from __future__ import annotations

import functools
import typing as t
from abc import ABC, abstractmethod

from ..errors import SessionCorrupt
from ..record import TOMBSTONE_TIME, Tombstone, to_ms, unpack


class Entry(t.NamedTuple):
    """A session as a list of them has it."""

    handle: str
    #: The bytes under that handle; None if there are none.
    data: bytes | None
    #: When it was filed, in milliseconds since 1970; 0 where filing is no step of its own.
    filed_ms: int = 0


class Sweeps(ABC):
    """The ability to find and remove expired records. Engines that do so by themselves lack it."""

    @abstractmethod
    def delete_expired(self, limit: int | None = None) -> int:
        """Remove expired records, ``limit`` at most, and return how many. Safe beside running applications."""


class Scans(ABC):
    """The ability to go through all sessions."""

    @abstractmethod
    def scan(self) -> t.Iterator[Entry]:
        """Every record with this store's prefix, tombstones too, in no order.

        Holds no lock in between: what comes or goes meanwhile may be missing, and what stays may come twice.
        """


class OwnerIndex(ABC):
    """The ability to say which sessions an owner has.

    A session is filed before its record is made, and its entry leaves only when the record was seen to be gone or
    another owner's, never by a clock of its own: sessions slide, entries do not. An engine that finds its records by
    their owner (an indexed column) has nothing to file: it writes :meth:`entries` alone.
    """

    def file(self, owner: str, handle: str) -> None:  # noqa: B027  - for most, there is nothing to do
        """Enter ``handle`` among the sessions of ``owner``; once more is no error."""

    def unfile(self, owner: str, handle: str) -> None:  # noqa: B027
        """Take ``handle`` from among the sessions of ``owner``; not there is no error."""

    @abstractmethod
    def entries(self, owner: str) -> list[Entry]:
        """All that is filed under ``owner``, each with what is under its handle now, expired or not."""

    def prune(self, limit: int | None = None) -> int:
        """Remove entries of all owners, ``limit`` at most, that :func:`has_left`, and return how many."""
        return 0


def has_left(entry: Entry, owner: str, now: float) -> bool:
    """Whether what was filed under ``owner`` is seen to be gone at ``now``, or another owner's.

    A record that is not there yet may be on its way: an entry is believed for as long as a tombstone stands.
    """
    now_ms = int(now * 1000)
    if entry.data is None:
        return entry.filed_ms + to_ms(TOMBSTONE_TIME) <= now_ms
    try:
        found = unpack(entry.data, entry.handle)
    except SessionCorrupt:
        return False
    # Who extends it may have a clock that is behind, or have asked before its end.
    return isinstance(found, Tombstone) or found.expires_ms + to_ms(TOMBSTONE_TIME) <= now_ms or found.owner != owner


# -- stores that pass everything on --------------------------------------------------------------------------------


class _Passing:
    """Part of a store that passes everything on to ``self.store``."""

    store: t.Any


class _PassingSweeps(_Passing, Sweeps):
    def delete_expired(self, limit: int | None = None) -> int:
        return t.cast("int", self.store.delete_expired(limit))


class _PassingScans(_Passing, Scans):
    def scan(self) -> t.Iterator[Entry]:
        return t.cast("t.Iterator[Entry]", self.store.scan())


class _PassingOwnerIndex(_Passing, OwnerIndex):
    def file(self, owner: str, handle: str) -> None:
        self.store.file(owner, handle)

    def unfile(self, owner: str, handle: str) -> None:
        self.store.unfile(owner, handle)

    def entries(self, owner: str) -> list[Entry]:
        return t.cast("list[Entry]", self.store.entries(owner))

    def prune(self, limit: int | None = None) -> int:
        return t.cast("int", self.store.prune(limit))


_PASSING: dict[type, type] = {Sweeps: _PassingSweeps, Scans: _PassingScans, OwnerIndex: _PassingOwnerIndex}


def lend(outer: t.Any, inner: object) -> None:
    """Give ``outer``, which passes everything on to ``inner`` (its ``store``), the abilities of ``inner``."""
    parts: t.Any = tuple(part for ability, part in _PASSING.items() if isinstance(inner, ability))
    cls: t.Any = type(outer)
    outer.__class__ = _with(cls, parts)


@functools.cache
def _with(cls: t.Any, parts: t.Any) -> t.Any:
    # A class's own methods come first: it may do more than pass on.
    return type(cls.__name__, (cls, *parts), {"__module__": cls.__module__, "__doc__": cls.__doc__}) if parts else cls
