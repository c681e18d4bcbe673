"""What only some stores can do: small base classes. :meth:`SessionStore.ability` says which a store has.

A store that passes everything on to another store has that store's abilities.
"""

from __future__ import annotations

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


class HasSchema(ABC):
    """The ability to make the table or the indexes that it needs in its engine."""

    @abstractmethod
    def create_schema(self) -> None:
        """Make what is missing. May be called at any time, by many at once.

        :raises StoreUnavailable: if the engine cannot be reached, or refuses.
        """


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
        """Enter ``handle`` among the sessions of ``owner``; filing it again renews the time of its entry."""

    def unfile(self, owner: str, *handles: str) -> None:  # noqa: B027
        """Take ``handles`` from among the sessions of ``owner``; a handle that is not there is not an error."""

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
