"""What only some stores can do: small base classes. :meth:`SessionStore.ability` tells whether a store has an ability.

A store that passes all calls on to another store has that store's abilities.
"""

from __future__ import annotations

import hashlib
import typing as t
from abc import ABC, abstractmethod

from ..errors import SessionCorrupt
from ..layout import unpack
from ..record import TOMBSTONE_TIME, Tombstone, to_ms

# A shorter list is not worth reading for what has left it.
_PRUNED_FROM = 16


class Entry(t.NamedTuple):
    """A session in a list of sessions."""

    handle: str
    """The name under which it is stored."""
    data: bytes | None
    """The bytes under that handle; None if there are none. In an owner's list it may be only the first 1,215 bytes: a
    record's head, without its state.
    """
    filed_ms: int = 0
    """When it was filed, in milliseconds since 1970 by the clock of this process; 0 if the store does not file sessions
    separately from their records.
    """


class Sweeps(ABC):
    """The ability to find and remove expired records. Stores whose engine removes them by itself lack it."""

    @abstractmethod
    def delete_expired(self, limit: int | None = None) -> int:
        """Remove expired records, at most ``limit``, and return how many. Safe while applications run."""

    def sweep(self, limit: int) -> bool:
        """Remove some of the records that expired more than a minute ago, at most ``limit``. A request calls this after
        it made a new session, if SESSION_SWEEP_INTERVAL has passed. So it must not take long.

        To be overridden if nothing else removes expired records; by default this does nothing.

        :return: whether there is probably more to remove, so that the next new session calls this again.
        """
        return False


class HasSchema(ABC):
    """The ability to make the table or the indexes that the store needs in its engine."""

    @abstractmethod
    def create_schema(self) -> None:
        """Make what is missing. May be called at any time, by many processes at once.

        :raises StoreUnavailable: if the engine cannot be reached, or refuses.
        """


class Scans(ABC):
    """The ability to go through all sessions."""

    @abstractmethod
    def scan(self) -> t.Iterator[Entry]:
        """Every record with this store's prefix, also tombstones, in any order.

        Does not hold a lock meanwhile: records that are made or removed during the scan may be missing, and others may
        appear twice.
        """

    def missing(self) -> str | None:
        """What the sessions are kept in, if it does not exist: "the folder /srv/old does not exist". Without it,
        :meth:`scan` finds no sessions. None: it exists, or the engine needs none. Makes nothing.

        :raises StoreUnavailable: if the engine cannot be asked.
        """
        return None


class Counts(ABC):
    """The ability to tell how many sessions live, at so little cost that it can be asked every few seconds. Stores that
    would have to read all records for it lack it.
    """

    @abstractmethod
    def count(self) -> int:
        """How many sessions live now. What has expired does not count, nor do the tombstones of ended and renewed
        sessions. The marks that imports leave may count.

        :raises StoreUnavailable:
        """


class OwnerIndex(ABC):
    """The ability to list the sessions of an owner.

    A session is filed before its record is made. Its entry is removed only after its record was seen to be gone, or to
    belong to another owner. Entries have no expiry of their own, since a session's expiry moves and an entry's would
    not. A session is filed again when it is extended, so that a lost entry comes back. An engine that finds records by
    their owner (by an indexed column) does not file anything: it only implements :meth:`entries`.

    A list's name differs from all handles, and from the lists of other prefixes: see :func:`list_name`. Foreign entries
    in a list, and foreign data in its place, are left alone.
    """

    def file(self, owner: str, handle: str) -> None:  # noqa: B027  - may do nothing
        """Add ``handle`` to the sessions of ``owner``. Filing it again renews the time of its entry."""

    def unfile(self, owner: str, *handles: str) -> None:  # noqa: B027
        """Remove ``handles`` from the sessions of ``owner``. A handle that is not among them is not an error."""

    @abstractmethod
    def entries(self, owner: str) -> list[Entry]:
        """All entries of ``owner``, each with the bytes that are under its handle now, expired or not.

        :raises StoreUnavailable: also if there is foreign data in place of the list.
        """

    def prune(self, limit: int | None = None) -> int:
        """Remove entries for which :func:`has_left` is true, of all owners, at most ``limit``; return how many."""
        return 0


def list_name(owner: str) -> str:
    """The name of an owner's list, after the prefix and ``owners:``: 32 hexadecimal digits.

    It is a hash, so the owner may be any text, and can be learnt from the name only by guessing.
    """
    return hashlib.sha256(owner.encode()).hexdigest()[:32]


def has_doubled(length: int) -> bool:
    """Whether an owner's list is to be pruned, now that it has grown to this length. So lists stay short, though nobody
    cleans up, and filing costs hardly more.
    """
    return length >= _PRUNED_FROM and length & (length - 1) == 0


def has_left(entry: Entry, name: str, now: float, *, expires: bool = True) -> bool:
    """Whether the session of an entry is gone at ``now``, or belongs to another owner.

    A missing record may still be on its way, since it is filed first: so an entry without a record counts as a session
    for as long as a tombstone stands.

    :param name: the list's name, as :func:`list_name` gives it.
    :param expires: False: the engine removes expired records by its own clock, so a record that it still has is there.
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
    # A process that extends the session may have a clock that is behind, or may have asked before the session expired.
    return expires and found.expires_ms + to_ms(TOMBSTONE_TIME) <= now_ms
