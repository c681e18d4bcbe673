"""The base classes of stores: SessionStore has six verbs; ServerSideStore implements them with four primitives.

The rules for all stores:

* A session that never existed, has expired, or was forgotten is the same to the caller: None.
* Only ``save`` and ``renew`` make a record under a name that has none, and only under a new key, or under the key that
  an import derives.
* The record's own expiry counts, and is checked at every read. An engine's expiry only cleans up.
* A store is thread-safe and fork-safe, keeps no data of a request, connects at its first use, and reads from primaries.
* A connection is used by one exchange at a time and by one process (see :mod:`.pool`). It is closed if an exchange was
  cut short.
* The engine's exceptions are translated in one place, into :exc:`StoreUnavailable` or :exc:`StoreFull`.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
from abc import ABC, abstractmethod
from datetime import timedelta

from ..errors import Barred, SessionConflict, SessionCorrupt, SessionError, SessionGone, StoreFull, StoreUnavailable
from ..key import SessionKey
from ..layout import is_over, is_sealed, is_tombstone, move_times, pack, pack_tombstone, revision_of, unpack
from ..record import (
    IMPORTED,
    LONGEST_TOMBSTONE_TIME,
    RENEWALS,
    TOMBSTONE_TIME,
    Kind,
    Record,
    SessionInfo,
    Tombstone,
    new_revision,
    owner_mark,
    to_datetime,
    to_ms,
)
from ..sealing import seal, unseal
from .abilities import Counts, Entry, HasSchema, OwnerIndex, Scans, Sweeps, has_left, list_name
from .contact import Contact
from .engines import MAX_LOSSES, too_busy

__all__ = [
    "Counts",
    "Entry",
    "HasSchema",
    "OwnerIndex",
    "Scans",
    "ServerSideStore",
    "SessionStore",
    "Sweeps",
    "has_expired",
    "has_left",
    "list_name",
]

_Ability = t.TypeVar("_Ability")

# Within the minute for which tombstones stand, a browser does not renew its session more often than this.
_MAX_SUCCESSORS = 8
#: For ``replaces`` of :meth:`SessionStore.delete` only: any revision, but not a tombstone, and no successor. (There,
#: None ends the successors too. In ``swap`` and ``renew``, None means what ANY means here.)
ANY = b""


class SessionStore(ABC):
    """A store as a lifecycle uses it: six verbs on records."""

    key_class: t.ClassVar[type[SessionKey]] = SessionKey
    """The class that parses the session key in a cookie."""

    needs_seen: bool = False
    """Whether ``load`` uses the revision that a browser has ``seen``. If it does, every change sends the cookie."""

    contact: Contact | None = None
    """Whether the engine answers; None for a store that waits for nobody."""

    clock: t.Callable[[], float] | None = None
    """A clock for tests, which returns seconds since 1970; None: the system's clock."""

    @property
    def name(self) -> str:
        """The class's name, for people."""
        return type(self).__name__

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """A store from its URL.

        :param options: the constructor's keywords.
        :raises ConfigurationError: if the URL cannot work.
        """
        raise NotImplementedError(f"{cls.__name__} cannot be made from a URL")

    def now(self) -> float:
        """The present time, in seconds since 1970."""
        return time.time() if self.clock is None else self.clock()

    def ability(self, kind: t.Callable[..., _Ability]) -> _Ability | None:
        """The object with an ability that only some stores have, for this store's sessions; None if it lacks it.

        A store that passes all calls on to another store overrides this.

        :param kind: ``Sweeps``, ``Scans``, ``Counts``, ``OwnerIndex`` or ``HasSchema``.
        """
        # Not type[...]: mypy refuses an abstract class for it.
        return self if isinstance(self, t.cast("type[_Ability]", kind)) else None

    @abstractmethod
    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        """The record under ``key``; None if it does not exist, or has expired.

        :param seen: the first four bytes of the newest revision that this browser has seen, for stores with a cache. It
            may be an older revision unless the store sets :attr:`needs_seen`.
        :raises SessionGone: if there is a tombstone under the key; ``kind`` is its kind.
        :raises SessionCorrupt: if the bytes under the key are not a record.
        """

    @abstractmethod
    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        """Store a new record, under a new key. It expires after ``ttl`` if nothing extends it.

        :param key: store it under this key, which must not have a record or tombstone yet.
        :raises SessionConflict: if there is a record under ``key``; ``record`` is that record.
        :raises SessionGone: if there is a tombstone under ``key``; without ``key``, with the kind "revoked", if all
            sessions of the owner were ended at this moment.
        """

    @abstractmethod
    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        """Replace the record whose revision is ``replaces`` by ``record``.

        :raises SessionConflict: if the record there has another revision; ``record`` is that record.
        :raises SessionGone: if the key does not have a record any more.
        """

    @abstractmethod
    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        """Extend a record: it expires ``ttl`` from now; None: the lifetime it was written with. Its revision stays.

        :raises SessionGone: if the key does not have a record.
        """

    @abstractmethod
    def delete(
        self, key: SessionKey, *, replaces: bytes | None = None, emptied: bool = False, owner: str | None = None
    ) -> None:
        """End a session, and leave a tombstone.

        Without ``replaces``, any revision ends. If the session was renewed, its successors end too, except after a
        sign-in. A missing session is not an error.

        :param replaces: end exactly this revision, or ``ANY``; successors do not end.
        :param emptied: whether the session ends because its last key was removed.
        :param owner: the owner of that revision, for the tombstone.
        :raises SessionConflict, SessionGone: with ``replaces``, as :meth:`update` does.
        """

    @abstractmethod
    def renew(
        self,
        key: SessionKey,
        record: Record,
        ttl: timedelta,
        *,
        replaces: bytes | None,
        kind: Kind = "renewed",
        to: SessionKey | None = None,
        owner: str | None = None,
    ) -> SessionKey:
        """Store ``record`` under a new key, and replace revision ``replaces`` under ``key`` by a tombstone.

        :param replaces: None replaces any record, but not a tombstone.
        :param kind: the kind of the tombstone: "renewed"; "signed in", if somebody signed in to a session without
            owner; "replaced", if another owner took the place of the owner before.
        :param to: the record is stored under this key already, so only the old record is replaced.
        :param owner: the owner of the old session, for the tombstone.
        :raises SessionConflict, SessionGone: as :meth:`update` does; then nothing was stored.
        """

    def probe(self) -> None:  # noqa: B027  - a store without an engine has nothing to try
        """Try whether the store can keep sessions now; return if it can. (``sessions.ping()`` and ``flask sessions
        check`` call this.)

        :raises SessionError: the error that says why it cannot; :exc:`StoreUnavailable` if it may be able to later.
        """

    def risks(self) -> list[str]:
        """The risks of this store's setup, for ``flask sessions check``: a sentence for each, with what to do about it.

        The limits of a kind of store are not risks. The method changes nothing, but it may ask the engine.

        :raises StoreUnavailable:
        """
        return []


class ServerSideStore(SessionStore):
    """A store whose engine has four atomic operations on one name.

    A subclass implements :meth:`read`, :meth:`add`, :meth:`swap` and :meth:`drop`. They get handles and bytes, never a
    session key, a value, or Flask. If the engine can do a whole verb in one call, the subclass overrides that verb.

    :param prefix: put before every handle, to share an engine with others.
    """

    seal: bool | t.Literal["required"] = False
    """Whether records are sealed (see ``sealing``): False, True, or "required" (other records are then refused).
    SESSION_SEAL sets it.
    """

    forgets: bool = False
    """Whether the store may lose records before they expire: when it is full, or when its process ends."""

    def __init__(self, *, prefix: str = "session:") -> None:
        self.prefix = prefix
        """What is put before every handle in the engine."""

    # -- the four primitives ---------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, handle: str) -> bytes | None:
        """The bytes under ``handle``; None if there are none. They may have expired: the caller checks that."""

    @abstractmethod
    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        """Store ``data`` under a name that is free, or whose bytes have expired; False if the name is taken."""

    @abstractmethod
    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        """Replace the bytes whose revision is ``replaces`` by ``data``, in one step.

        None replaces any bytes, even if they are not a record, but not a tombstone: an ended session stays ended. False
        if there are no bytes, they have expired, or their revision differs:
        :func:`~flask_sessionstore.stores.may_replace` decides that.

        :raises StoreFull: if there is no room; the old bytes stay.
        """

    def exchange(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes, known: bytes | None) -> bool:
        """As :meth:`swap`. To be overridden where the engine compares whole bytes faster than revisions.

        :param known: the bytes that the caller has read or written there last, if any. By now there may be other bytes,
            or the same record with other times.
        """
        return self.swap(handle, data, ttl, replaces=replaces)

    @abstractmethod
    def drop(self, handle: str) -> None:
        """Remove the bytes under ``handle``; a missing name is not an error. Must work in a full engine too."""

    def taken(self, names: t.Sequence[str]) -> set[str]:
        """Those of ``names`` under which there are bytes, looked for in this order. (Expired ones may count.)

        To be overridden where one request to the engine can ask for many names.
        """
        return {name for name in names if self.read(name) is not None}

    def probe(self) -> None:
        """Add, read, swap and drop one record under a name that nobody has.

        If that fails on the way, the record expires by itself within a minute.
        """
        handle, first = SessionKey.generate().handle, Record().written(self._now_ms(), TOMBSTONE_TIME)
        second = Record(revisions=(new_revision(), first.revision)).written(self._now_ms(), TOMBSTONE_TIME)
        data = pack(first, handle)
        kept = self.add(handle, data, TOMBSTONE_TIME) and self.read(handle) == data
        kept = kept and self.swap(handle, pack(second, handle), TOMBSTONE_TIME, replaces=first.revision)
        self.drop(handle)
        if not kept:
            raise StoreUnavailable(f"{type(self).__name__} does not keep what it is given")

    def risks(self) -> list[str]:
        return self.exposures()

    def exposures(self) -> list[str]:
        """Those of :meth:`risks` that also matter for a cache: others who can see the records."""
        return []

    # -- the six verbs ---------------------------------------------------------------------------------------------

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        found = self._find(key)
        if isinstance(found, Tombstone):
            raise gone(found)
        return found

    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        record = record.written(self._now_ms(), ttl)
        if key is None:
            return self._add(record)
        if not self._add_filed(key.handle, self._pack(key, record), record, is_known=True):
            found = self._find(key)
            if not (isinstance(found, Record) and found.revision == record.revision):
                raise self._refusal(found)
        return key

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        record = record.written(self._now_ms(), ttl)
        data = self._pack(key, record)
        if not self.exchange(key.handle, data, record.remaining, replaces=replaces, known=key.known):
            raise self._refusal(self._find(key))
        key.known = data
        return key

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        handle = key.handle
        for _ in range(MAX_LOSSES):
            data = self.read(handle)
            found = self._open(data, handle, key)
            if data is None or not isinstance(found, Record):
                raise gone(found)
            record = found.extended(self._now_ms(), ttl)
            data = move_times(data, record.extended_ms, record.expires_ms)
            if self.swap(handle, data, record.remaining, replaces=record.revision):
                return key, record
        raise too_busy()

    def delete(
        self, key: SessionKey, *, replaces: bytes | None = None, emptied: bool = False, owner: str | None = None
    ) -> None:
        kind: Kind = "emptied" if emptied else "ended"
        if replaces is None:
            self._end(key.handle, kind=kind, follows=("renewed",))
            return
        tombstone = self._tombstone(kind, owner)
        if not self._bury(key.handle, tombstone, replaces or None):
            self._confirm_tombstone(key, tombstone)

    def renew(
        self,
        key: SessionKey,
        record: Record,
        ttl: timedelta,
        *,
        replaces: bytes | None,
        kind: Kind = "renewed",
        to: SessionKey | None = None,
        owner: str | None = None,
    ) -> SessionKey:
        # The new record first, then the old one: a crash in between leaves two sessions, and does not lose the session.
        # If the second step fails without an answer, the new record stays, since the step may have succeeded.
        new = self._add(record.written(self._now_ms(), ttl)) if to is None else to
        tombstone = self._tombstone(kind, owner, new.handle if kind in RENEWALS else None, record.owner)
        if not self._bury(key.handle, tombstone, replaces):
            try:
                self._confirm_tombstone(key, tombstone)
            except (SessionConflict, SessionGone, SessionCorrupt):
                if to is None:
                    self.drop(new.handle)
                raise
        return new

    # -- by handle -------------------------------------------------------------------------------------------------

    def end(self, handle: str, *, owner: str | None = None) -> bool:
        """End the session under ``handle``, and its successors if it was renewed.

        :param owner: end it only if it belongs to this owner.
        :return: whether a session ended.
        """
        return self.end_found(handle, owner=owner) is not None

    def end_found(
        self,
        handle: str,
        *,
        owner: str | None = None,
        kind: Kind = "revoked",
        follows: t.Collection[str] = RENEWALS,
    ) -> str | None:
        """As :meth:`end`, but returns the handle of the session that ended: a successor's, if the session was renewed.

        :param kind: the kind of the tombstone that is left.
        :param follows: the kinds of tombstones whose successors end too.
        """
        ended = self._end(handle, kind=kind, owner=owner, follows=follows)
        if ended is None:
            return None
        handle, record = ended
        index = self.ability(OwnerIndex)
        if index is not None and record.owner is not None:
            with contextlib.suppress(StoreUnavailable):  # the session has ended; its entry in the list is pruned later
                index.unfile(record.owner, handle)
        return handle

    def end_each(self, revisions: t.Mapping[str, bytes], owner: str) -> list[str]:
        """End exactly these revisions, by handle, of sessions of ``owner``, in this order.

        A store whose engine can end many sessions at once overrides this. It is never called with more than 500.

        :return: the handles of the sessions that ended. The others were written or ended meanwhile, or could not be
            ended now: the caller has to look at them again.
        """
        ended = []
        with contextlib.suppress(StoreUnavailable):  # the caller looks again, and then gets the error
            for handle, revision in revisions.items():
                if self.end_exactly(handle, revision, owner):
                    ended.append(handle)
        return ended

    def end_exactly(self, handle: str, revision: bytes, owner: str) -> bool:
        """End exactly this revision, which may be sealed; False if the session was written or ended meanwhile."""
        return self._bury(handle, self._tombstone("revoked", owner), revision)

    def successors(self, handle: str) -> t.Iterator[str]:
        """The handles under which a renewed session went on, one after the other."""
        for _ in range(_MAX_SUCCESSORS):
            found = self._peek(handle)
            if not isinstance(found, Tombstone) or found.successor is None:
                return
            handle = found.successor
            yield handle

    def renewed_to(self, handle: str) -> Record | None:
        """The newest record of a session that was renewed, perhaps several times, but not by a sign-in.

        Without its state if it is sealed. None if the session does not go on in this way.
        """
        for _ in range(_MAX_SUCCESSORS + 1):
            found = self._peek(handle)
            if isinstance(found, Record):
                return found
            if found is None or found.kind != "renewed" or found.successor is None:
                return None
            handle = found.successor
        return None

    def _peek(self, handle: str) -> Record | Tombstone | None:
        """The record or tombstone under a handle; None also if the bytes cannot be read."""
        try:
            return self._open(self.read(handle), handle)
        except SessionCorrupt:
            return None

    def info(self, handle: str) -> SessionInfo | None:
        """The session under ``handle`` as it may be shown to people; None if it does not exist.

        :raises SessionCorrupt: if the bytes there are not a record.
        """
        found = self._open(self.read(handle), handle)
        if not isinstance(found, Record):
            return None
        return SessionInfo.of(handle, found)

    def bar(self, handle: str) -> bool:
        """Leave a tombstone under a name that is free: a session that is about to be saved there is then refused.

        :return: False if the name is taken.
        """
        return self.add(handle, pack_tombstone(self._tombstone("revoked"), handle), TOMBSTONE_TIME)

    # -- marks -----------------------------------------------------------------------------------------------------

    def mark(self, name: str, handle: str, ttl: timedelta) -> bool:
        """Leave a mark: the credential from which ``name`` was derived is known here as ``handle``, and must not be
        imported again.

        An existing mark keeps its handle, and stands for at least ``ttl`` from now.

        :param name: has the form of a handle, but is derived in such a way that it cannot be the handle of a session.
        :return: whether the mark is new.
        """
        now_ms = self._now_ms()
        mark = Tombstone(
            kind=IMPORTED,
            revision=new_revision(),
            left_ms=now_ms,
            expires_ms=now_ms + to_ms(ttl),
            successor=handle,
        )
        for _ in range(MAX_LOSSES):
            if self.add(name, pack_tombstone(mark, name), ttl):
                return True
            found = self._mark(name)
            if found is None:
                continue  # it expired in between
            longer = move_times(pack_tombstone(found, name), found.left_ms, mark.expires_ms)
            if found.expires_ms >= mark.expires_ms or self.swap(name, longer, ttl, replaces=found.revision):
                # With our revision it is our own mark: the reply was lost, and the client sent it again.
                return found.revision == mark.revision
        raise too_busy()

    def marked(self, name: str) -> str | None:
        """The handle in the mark under ``name``; None if there is no mark.

        :raises SessionCorrupt: if the bytes there are not a mark.
        """
        found = self._mark(name)
        return None if found is None else found.successor

    def _mark(self, name: str) -> Tombstone | None:
        found = self._open(self.read(name), name)
        if found is not None and not (isinstance(found, Tombstone) and found.kind == IMPORTED):
            raise SessionCorrupt("the store holds other bytes where a mark belongs", newer=False)
        return found

    # -- bytes, tombstones, ends -----------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return int(self.now() * 1000)

    def _pack(self, key: SessionKey, record: Record) -> bytes:
        """The bytes to be stored under ``key``. Records are sealed here, and unsealed in :meth:`_open`."""
        return seal(record, key) if self.seal else pack(record, key.handle)

    def _open(self, data: bytes | None, handle: str, key: SessionKey | None = None) -> Record | Tombstone | None:
        """The record or tombstone that the bytes hold; None if they have expired. A sealed state is unsealed with
        ``key``; without it, it is left out.
        """
        if data is None:
            return None
        now_ms = self._now_ms()
        try:
            found = self._unseal(data, key) if self.seal and key is not None else unpack(data, handle)
        except SessionError:
            if is_over(data, now_ms):  # as in the engines, even if the bytes are damaged
                return None
            raise
        if found.expires_ms <= now_ms:
            return None
        if isinstance(found, Record):
            if found.sealed and key is not None:  # sealing was switched off since
                found = t.cast("Record", unseal(data, key))
            # Somebody with access to the store can change when a sealed record expires, but not its fixed end.
            return None if 0 < found.end_ms <= now_ms else found
        if found.kind != IMPORTED and found.expires_ms > now_ms + to_ms(LONGEST_TOMBSTONE_TIME):
            raise SessionCorrupt("the store holds a tombstone that would stand for too long", newer=False)
        return found

    def _unseal(self, data: bytes, key: SessionKey) -> Record | Tombstone:
        if self.seal == "required" and not (is_sealed(data) or is_tombstone(data)):
            raise SessionCorrupt("the store holds an unsealed session, but SESSION_SEAL requires sealed sessions")
        return unseal(data, key)

    def _find(self, key: SessionKey) -> Record | Tombstone | None:
        key.known = self.read(key.handle)
        return self._open(key.known, key.handle, key)

    def _add(self, record: Record) -> SessionKey:
        """Store a record, which has its times already, under a new key."""
        for _ in range(MAX_LOSSES):
            key = SessionKey.generate()
            if self._add_filed(key.handle, self._pack(key, record), record):
                return key
            taken = self._find(key)
            if isinstance(taken, Record) and taken.revision == record.revision:
                return key  # our own write: its reply was lost, and the client sent it again
            if isinstance(taken, Tombstone) and taken.kind == "revoked":
                raise Barred
        raise too_busy()

    def _add_filed(self, handle: str, data: bytes, record: Record, *, is_known: bool = False) -> bool:
        """Store the bytes of a record. Before that, file it under its owner, if the store has an index of owners.

        An entry without a record is believed for TOMBSTONE_TIME. If all sessions of the owner are ended meanwhile, a
        tombstone is left under the handle. It refuses the record, and stands for the same time. So if storing it took

        * more than half of that time, the entry may have been removed as that of a session that never came, and the
          record is filed again;
        * all of that time, the tombstone may have expired before the record was stored, so the record is removed.

        :param is_known: whether others may know the name, so that the record there may be theirs and is not removed.
            Then the caller has to watch the time.
        """
        index = None if record.owner is None else self.ability(OwnerIndex)
        if record.owner is None or index is None:
            return self.add(handle, data, record.remaining)
        filed = self.now()
        index.file(record.owner, handle)
        added = self.add(handle, data, record.remaining)
        took = self.now() - filed
        if took >= TOMBSTONE_TIME.total_seconds() and not is_known:
            self.drop(handle)
            raise StoreUnavailable("the session store took too long to store a new session; try again")
        if took > TOMBSTONE_TIME.total_seconds() / 2:
            index.file(record.owner, handle)
        return added

    def _tombstone(
        self, kind: Kind, before: str | None = None, successor: str | None = None, after: str | None = None
    ) -> Tombstone:
        """A tombstone to be left now.

        :param before: the owner of the session that went.
        :param after: the owner with whom it goes on.
        """
        now_ms = self._now_ms()
        return Tombstone(
            kind=kind,
            revision=new_revision(),
            left_ms=now_ms,
            expires_ms=now_ms + to_ms(TOMBSTONE_TIME),
            successor=successor,
            before=owner_mark(before),
            after=owner_mark(after),
        )

    def _bury(self, handle: str, tombstone: Tombstone, replaces: bytes | None) -> bool:
        """Replace a record by a tombstone. In a full store the record is removed, since an end never waits for room."""
        try:
            return self.swap(handle, pack_tombstone(tombstone, handle), TOMBSTONE_TIME, replaces=replaces)
        except StoreFull:
            found, revision = self._endable(handle)
            if not isinstance(found, Record) or replaces not in (None, revision):
                return False  # the engine refused before it compared
            self.drop(handle)
            return True

    def _confirm_tombstone(self, key: SessionKey, tombstone: Tombstone) -> None:
        """After a tombstone was refused: return if exactly that tombstone is there, since only the reply was lost.

        :raises SessionConflict, SessionGone: otherwise.
        """
        found = self._find(key)
        if not (isinstance(found, Tombstone) and found.revision == tombstone.revision):
            raise self._refusal(found)

    def _refusal(self, found: Record | Tombstone | None) -> SessionConflict | SessionGone:
        if isinstance(found, Record):
            return SessionConflict("another request wrote this session", record=found)
        return gone(found)

    def _end(
        self, handle: str, *, kind: Kind, owner: str | None = None, follows: t.Collection[str] = RENEWALS
    ) -> tuple[str, Record] | None:
        """End the session under ``handle``, or its successor. After a loss read again, so that no successor is missed.

        :param follows: the kinds of tombstones whose successors end too.
        :return: the handle and the record that ended; None if there was no record.
        """
        for _ in range(_MAX_SUCCESSORS + 1):
            found = self._end_here(handle, kind, owner)
            if isinstance(found, Record):
                return handle, found
            if found is None or found.kind not in follows or found.successor is None:
                break
            handle = found.successor
        return None

    def _end_here(self, handle: str, kind: Kind, owner: str | None) -> Record | Tombstone | None:
        """End the record under ``handle`` and return it; without a record, return the tombstone there, or None."""
        for losses in range(2 * MAX_LOSSES):
            found, replaces = self._endable(handle)
            if not isinstance(found, Record):
                return found
            if owner is not None and found.owner != owner:
                return None
            # Another writer may be faster than this loop, but cannot prevent the end: after many losses any revision
            # ends. A tombstone is never replaced, since its successor would be missed.
            any_revision = losses >= MAX_LOSSES
            if self._bury(handle, self._tombstone(kind, found.owner), None if any_revision else replaces):
                return found
        raise too_busy()

    def _endable(self, handle: str) -> tuple[Record | Tombstone | None, bytes | None]:
        """The record or tombstone under ``handle``, and the revision to replace.

        For bytes that cannot be read: an empty record, so that they can be ended too.
        """
        data = None
        try:
            data = self.read(handle)
            found = self._open(data, handle)
        except SessionCorrupt:
            # Bytes that look like a tombstone are replaced by their revision, since ``None`` does not replace them.
            return Record(), revision_of(data) if data and is_tombstone(data) else None
        return found, found.revision if found else None


def gone(found: Record | Tombstone | None) -> SessionGone:
    """The exception that says how a session went, if its tombstone was found."""
    if not isinstance(found, Tombstone):
        return SessionGone("the session does not exist under this key any more")
    return SessionGone(
        f"the session went ({found.kind})",
        kind=found.kind,
        left_at=to_datetime(found.left_ms),
        successor=found.successor,
        marks=(found.before, found.after),
    )


def has_expired(data: bytes, now: float) -> bool:
    """Whether packed bytes have expired at ``now`` (seconds since 1970): for engines that do not store their expiry."""
    return is_over(data, int(now * 1000))
