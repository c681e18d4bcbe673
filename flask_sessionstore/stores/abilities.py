"""What only some stores can do: small base classes, asked for with ``isinstance``, never faked.

A store that passes everything on to another has that one's abilities: see :func:`lend`.
"""

from __future__ import annotations

import functools
import hashlib
import typing as t
from abc import ABC, abstractmethod

from ..errors import SessionCorrupt
from ..layout import unpack
from ..record import TOMBSTONE_TIME, Tombstone, to_ms


class Entry(t.NamedTuple):
    """A session as a list of them has it."""

    handle: str
    #: The bytes under that handle; None if there are none. In an owner's list, the first 1,215 at least: a record's
    #: head, without its state.
    data: bytes | None
    #: When it was filed, in milliseconds since 1970 by the clock of this process; 0 where filing is no step of its own.
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
    another owner's, never by a clock of its own: sessions slide, entries do not. It is filed anew when the session is
    extended, so that an entry that was lost comes back. An engine that finds its records by their owner (an indexed
    column) has nothing to file: it writes :meth:`entries` alone.

    Lists have names that no record, and no list of another prefix, can have: see :func:`list_name`. What somebody else
    put into one, or in its place, is left alone.
    """

    def file(self, owner: str, handle: str) -> None:  # noqa: B027  - for most, there is nothing to do
        """Enter ``handle`` among the sessions of ``owner``; once more renews the time of its entry."""

    def unfile(self, owner: str, *handles: str) -> None:  # noqa: B027
        """Take ``handles`` from among the sessions of ``owner``; not there is no error."""

    @abstractmethod
    def entries(self, owner: str) -> list[Entry]:
        """All that is filed under ``owner``, each with what is under its handle now, expired or not.

        :raises StoreUnavailable: also if something else stands in the place of the list.
        """

    def prune(self, limit: int | None = None) -> int:
        """Remove entries of all owners, ``limit`` at most, that :func:`has_left`, and return how many."""
        return 0


def list_name(owner: str) -> str:
    """The name of an owner's list, behind the prefix and ``owners:``: 32 hexadecimal digits.

    It shows the owner to nobody who does not guess it, and takes any text for one.
    """
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


def has_left(entry: Entry, name: str, now: float, *, expires: bool = True) -> bool:
    """Whether what is filed is seen to be gone at ``now``, or another owner's.

    A record that is not there yet may be on its way: an entry is believed for as long as a tombstone stands.

    :param name: of the list, as :func:`list_name` has it.
    :param expires: False: the engine removes what has expired, by a clock of its own. What it still has is there.
    """
    now_ms = int(now * 1000)
    if entry.data is None:
        return entry.filed_ms + to_ms(TOMBSTONE_TIME) <= now_ms
    try:
        found = unpack(entry.data, entry.handle, head=True)
    except SessionCorrupt:
        return False
    if isinstance(found, Tombstone) or found.owner is None or list_name(found.owner) != name:
        return True
    # Who extends it may have a clock that is behind, or have asked before its end.
    return expires and found.expires_ms + to_ms(TOMBSTONE_TIME) <= now_ms


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

    def unfile(self, owner: str, *handles: str) -> None:
        self.store.unfile(owner, *handles)

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
