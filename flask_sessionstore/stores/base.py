"""What every store obeys: SessionStore, its six verbs; ServerSideStore, which writes them once over four primitives.

The law, for all stores:

* Absent, expired and forgotten are the same: None.
* No verb ever makes a record under a name that has none, but ``save`` and ``renew`` under a key they just made up.
* The record's own end is the authority, checked at every read; an engine's expiry is only the broom.
* A store is thread-safe and fork-safe, keeps nothing of a request, connects at first use and reads from primaries.
* A connection belongs to one exchange and to one process (see :mod:`.pool`); what was cut short is closed.
* The engine's exceptions are translated in one place, into :exc:`StoreUnavailable` or :exc:`StoreFull`.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
from abc import ABC, abstractmethod
from datetime import timedelta

from ..errors import Barred, SessionConflict, SessionCorrupt, SessionGone, StoreFull, StoreUnavailable
from ..key import SessionKey
from ..layout import expires_ms_of, is_sealed, is_tombstone, move_times, pack, pack_tombstone, revision_of, unpack
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
from .abilities import Entry, HasSchema, OwnerIndex, Scans, Sweeps, has_left, list_name

__all__ = [
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

# A chain of renewals longer than this within the minute that tombstones stand is no browser's.
_MAX_SUCCESSORS = 8
# Losing this often in a row against other writers means something else is wrong.
_MAX_LOSSES = 100
#: For ``replaces`` of :meth:`SessionStore.delete`: any revision, but no tombstone.
ANY = b""


class SessionStore(ABC):
    """What a lifecycle talks to: six verbs on records."""

    #: What a cookie's text is parsed as.
    key_class: t.ClassVar[type[SessionKey]] = SessionKey

    #: A clock of a test's own, which gives seconds since 1970; None: the system's.
    clock: t.Callable[[], float] | None = None

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """A store from its URL.

        :param options: the constructor's keywords.
        :raises ConfigurationError: if the URL cannot work.
        """
        raise NotImplementedError(f"{cls.__name__} cannot be made from a URL")

    def now(self) -> float:
        """The present, in seconds since 1970."""
        return time.time() if self.clock is None else self.clock()

    def ability(self, kind: t.Callable[..., _Ability]) -> _Ability | None:
        """Something that does what only some stores can, for the sessions of this store; None if it cannot.

        :param kind: ``Sweeps``, ``Scans``, ``OwnerIndex`` or ``HasSchema``. A store that passes everything on overrides
            this.
        """
        # Not type[...], of which mypy takes no abstract class.
        return self if isinstance(self, t.cast("type[_Ability]", kind)) else None

    @abstractmethod
    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        """The record under ``key``; None if there is none, or it has expired.

        :param seen: four bytes of the newest revision this browser has seen, for stores that cache.
        :raises SessionGone: if a tombstone stands there; ``kind`` says which.
        :raises SessionCorrupt: if the bytes there are no record.
        """

    @abstractmethod
    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        """Keep a new record, under a new key, to be idle for ``ttl`` at most.

        :param key: keep it under this one, where nothing stands yet.
        :raises SessionConflict: with ``key``, if a record stands there; ``record`` is that one.
        :raises SessionGone: kind "revoked", if its owner's sessions were all ended at this moment; with ``key``, if a
            tombstone stands there.
        """

    @abstractmethod
    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        """Put ``record`` in the place of the one whose revision is ``replaces``.

        :raises SessionConflict: if another revision stands there; ``record`` is that one.
        :raises SessionGone: if none does.
        """

    @abstractmethod
    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        """Extend a record by ``ttl`` from now; None: by the lifetime it was written with. Its revision stays.

        :raises SessionGone: if there is none.
        """

    @abstractmethod
    def delete(
        self, key: SessionKey, *, replaces: bytes | None = None, emptied: bool = False, owner: str | None = None
    ) -> None:
        """End a session, and leave a tombstone.

        Without ``replaces`` whatever is there ends, the successors of a renewed session too (but not what somebody
        signed in to), and nothing there is no error.

        :param replaces: end exactly this revision, or ``ANY``; follows no successor.
        :param emptied: it went because its last key was removed.
        :param owner: whom that revision belonged to, for the tombstone.
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
        """Keep ``record`` under a new key, in the place of revision ``replaces`` under ``key``, which dies.

        :param replaces: None replaces any record, but no tombstone.
        :param kind: of the tombstone that is left: "renewed"; "signed in", if somebody signed in to a session of
            nobody; "replaced", if another owner took the place of the one before.
        :param to: the record is kept under this key already: only the old one is replaced.
        :param owner: whom the old session belonged to, for the tombstone.
        :raises SessionConflict, SessionGone: as :meth:`update` does; then nothing was stored.
        """

    def risks(self) -> list[str]:
        """What is risky about this store as it is set up: a sentence for each, with what to do about it.

        For ``flask sessions check``. What a kind of store can never do is no risk. Changes nothing, but may ask the
        engine.

        :raises StoreUnavailable:
        """
        return []


class ServerSideStore(SessionStore):
    """A store whose engine supplies four atomic operations on one name.

    A subclass writes :meth:`read`, :meth:`add`, :meth:`swap` and :meth:`drop`. It sees handles and bytes, never a
    session key, a value, or Flask. An engine that can do a whole verb in one call overrides that verb.

    :param prefix: put before every handle, to share an engine with others.
    """

    #: Whether records are sealed (see ``sealing``): False, True, or "required" (and what is not sealed is refused).
    #: SESSION_SEAL sets it.
    seal: bool | t.Literal["required"] = False

    #: Whether it may lose what it keeps before its time, for want of room or when its process ends.
    forgets: bool = False

    def __init__(self, *, prefix: str = "session:") -> None:
        self.prefix = prefix

    # -- the four primitives ---------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, handle: str) -> bytes | None:
        """The bytes under ``handle``; None if there are none. (Expired ones may be returned: they are checked here.)"""

    @abstractmethod
    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        """Keep ``data`` under a name that is free, or whose bytes have expired; False if the name is taken."""

    @abstractmethod
    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        """Put ``data`` in the place of bytes whose revision is ``replaces``, as one step.

        None replaces whatever is there, no record even, but a tombstone: what ended stays ended. False if there are no
        bytes, they have expired, or the stored revision differs; :func:`~flask_sessionstore.stores.may_replace` tells.

        :raises StoreFull: if there is no room; what was there stays.
        """

    @abstractmethod
    def drop(self, handle: str) -> None:
        """Remove what is under ``handle``; a missing name is not an error. Needs no room."""

    def taken(self, names: t.Sequence[str]) -> set[str]:
        """Those of ``names`` under which there are bytes, looked for in this order. (Expired ones may count.)

        To be overridden where one request to the engine can ask for many names.
        """
        return {name for name in names if self.read(name) is not None}

    def risks(self) -> list[str]:
        return self.exposures()

    def exposures(self) -> list[str]:
        """Those of :meth:`risks` that count for a cache, too: who else can see the records."""
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
                raise self._outcome(found)
        return key

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        record = record.written(self._now_ms(), ttl)
        if not self.swap(key.handle, self._pack(key, record), record.remaining, replaces=replaces):
            raise self._outcome(self._find(key))
        return key

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        handle = key.handle
        for _ in range(_MAX_LOSSES):
            data = self.read(handle)
            found = self._open(data, handle, key)
            if data is None or not isinstance(found, Record):
                raise gone(found)
            record = found.extended(self._now_ms(), ttl)
            data = move_times(data, record.extended_ms, record.expires_ms)
            if self.swap(handle, data, record.remaining, replaces=record.revision):
                return key, record
        raise _too_busy()

    def delete(
        self, key: SessionKey, *, replaces: bytes | None = None, emptied: bool = False, owner: str | None = None
    ) -> None:
        kind: Kind = "emptied" if emptied else "ended"
        if replaces is None:
            self._end(key.handle, kind=kind, follows=("renewed",))
            return
        tombstone = self._tombstone(kind, owner)
        if not self._bury(key.handle, tombstone, replaces or None):
            self._confirm(key, tombstone)

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
        # New first, old second: a crash in between leaves two sessions, never none. If the second step fails without an
        # answer the new record stays, for it may have been done.
        new = self._add(record.written(self._now_ms(), ttl)) if to is None else to
        tombstone = self._tombstone(kind, owner, new.handle if kind in RENEWALS else None, record.owner)
        if not self._bury(key.handle, tombstone, replaces):
            try:
                self._confirm(key, tombstone)
            except (SessionConflict, SessionGone):
                if to is None:
                    self.drop(new.handle)
                raise
        return new

    # -- by handle -------------------------------------------------------------------------------------------------

    def end(self, handle: str, *, owner: str | None = None) -> bool:
        """End the session under ``handle``, and its successors if it was renewed.

        :param owner: only if it is this owner's.
        :return: whether there was one to end.
        """
        return self.end_found(handle, owner=owner) is not None

    def end_found(self, handle: str, *, owner: str | None = None, kind: Kind = "revoked") -> str | None:
        """As :meth:`end`; the handle of the session that ended: a successor's, if that under ``handle`` was renewed.

        :param kind: of the tombstone that is left.
        """
        ended = self._end(handle, kind=kind, owner=owner)
        if ended is None:
            return None
        handle, record = ended
        index = self.ability(OwnerIndex)
        if index is not None and record.owner is not None:
            with contextlib.suppress(StoreUnavailable):  # it has ended; what is left of it in the list is pruned later
                index.unfile(record.owner, handle)
        return handle

    def end_each(self, revisions: t.Mapping[str, bytes], owner: str) -> list[str]:
        """End these very revisions, by handle, of sessions of ``owner``, in this order. An engine that can end many at
        once overrides this; it is never asked for more than 500.

        :return: the handles of those that ended. What was written or ended meanwhile, or cannot be ended now, is for
            the caller to look at again.
        """
        ended = []
        with contextlib.suppress(StoreUnavailable):  # who looks again will know
            for handle, revision in revisions.items():
                if self.end_exactly(handle, revision, owner):
                    ended.append(handle)
        return ended

    def end_exactly(self, handle: str, revision: bytes, owner: str) -> bool:
        """End this very revision, which may be sealed; False if it was written, or ended, meanwhile."""
        return self._bury(handle, self._tombstone("revoked", owner), revision)

    def successors(self, handle: str) -> t.Iterator[str]:
        """Under which names a session that was renewed has gone on."""
        for _ in range(_MAX_SUCCESSORS):
            found = self._peek(handle)
            if not isinstance(found, Tombstone) or found.successor is None:
                return
            handle = found.successor
            yield handle

    def renewed_to(self, handle: str) -> Record | None:
        """What a session is now that was renewed, and renewed again, but by no sign-in; without its state if sealed.

        None if it does not.
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
        """What stands under a handle; None also for what cannot be read."""
        try:
            return self._open(self.read(handle), handle)
        except SessionCorrupt:
            return None

    def info(self, handle: str) -> SessionInfo | None:
        """What may be shown of the session under ``handle``; None if there is none.

        :raises SessionCorrupt: if the bytes there are no record.
        """
        found = self._open(self.read(handle), handle)
        if not isinstance(found, Record):
            return None
        return SessionInfo.of(handle, found)

    def bar(self, handle: str) -> bool:
        """Leave a tombstone under a name that is free: a session about to be saved there is refused.

        :return: False if the name is taken.
        """
        return self.add(handle, pack_tombstone(self._tombstone("revoked"), handle), TOMBSTONE_TIME)

    # -- marks -----------------------------------------------------------------------------------------------------

    def mark(self, name: str, handle: str, ttl: timedelta) -> bool:
        """Leave a mark: what ``name`` was derived from is known here as ``handle``, and is never to be imported again.

        One that stands keeps its handle, and stands for ``ttl`` from now at least.

        :param name: as a handle is spelled, and derived so that it is none.
        :return: whether none stood there.
        """
        now_ms = self._now_ms()
        mark = Tombstone(
            kind=IMPORTED,
            revision=new_revision(),
            left_ms=now_ms,
            expires_ms=now_ms + to_ms(ttl),
            successor=handle,
        )
        for _ in range(_MAX_LOSSES):
            if self.add(name, pack_tombstone(mark, name), ttl):
                return True
            found = self._mark(name)
            if found is None:
                continue  # it expired in between
            longer = move_times(pack_tombstone(found, name), found.left_ms, mark.expires_ms)
            if found.expires_ms >= mark.expires_ms or self.swap(name, longer, ttl, replaces=found.revision):
                return found.revision == mark.revision  # our own, if the reply was lost and it was sent again
        raise _too_busy()

    def marked(self, name: str) -> str | None:
        """The handle in the mark under ``name``; None if none stands there.

        :raises SessionCorrupt: if the bytes there are no mark.
        """
        found = self._mark(name)
        return None if found is None else found.successor

    def _mark(self, name: str) -> Tombstone | None:
        found = self._open(self.read(name), name)
        if found is not None and not (isinstance(found, Tombstone) and found.kind == IMPORTED):
            raise SessionCorrupt("the store holds something else where a mark belongs", newer=False)
        return found

    # -- how ------------------------------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return int(self.now() * 1000)

    def _pack(self, key: SessionKey, record: Record) -> bytes:
        """The bytes to be stored under ``key``. Here, and in :meth:`_open`, records are sealed and opened."""
        return seal(record, key) if self.seal else pack(record, key.handle)

    def _open(self, data: bytes | None, handle: str, key: SessionKey | None = None) -> Record | Tombstone | None:
        """What the bytes under ``handle`` say; None if they have expired. A sealed state is opened with ``key``, or
        left out.
        """
        if data is None or has_expired(data, self.now()):  # as engines say it, damaged or not
            return None
        if self.seal == "required" and key is not None and not (is_sealed(data) or is_tombstone(data)):
            raise SessionCorrupt("the store holds a session that is not sealed, as SESSION_SEAL demands")
        found = unseal(data, key) if key is not None and is_sealed(data) else unpack(data, handle)
        if isinstance(found, Tombstone) and found.kind != IMPORTED and self._stands_too_long(found):
            raise SessionCorrupt("the store holds a tombstone that would stand for too long", newer=False)
        # Of a sealed record, that end can be moved in the store; its fixed end cannot.
        over = isinstance(found, Record) and 0 < found.end_ms <= self._now_ms()
        return None if over else found

    def _stands_too_long(self, tombstone: Tombstone) -> bool:
        return tombstone.expires_ms > self._now_ms() + to_ms(LONGEST_TOMBSTONE_TIME)

    def _find(self, key: SessionKey) -> Record | Tombstone | None:
        return self._open(self.read(key.handle), key.handle, key)

    def _add(self, record: Record) -> SessionKey:
        """Keep a stamped record under a new key."""
        for _ in range(_MAX_LOSSES):
            key = SessionKey.generate()
            if self._add_filed(key.handle, self._pack(key, record), record):
                return key
            taken = self._find(key)
            if isinstance(taken, Record) and taken.revision == record.revision:
                return key  # our own write, whose reply was lost and which the client sent again
            if isinstance(taken, Tombstone) and taken.kind == "revoked":
                raise Barred
        raise _too_busy()

    def _add_filed(self, handle: str, data: bytes, record: Record, *, is_known: bool = False) -> bool:
        """Keep the bytes of a record; before that, file it under its owner, where the store has an index of these.

        :param is_known: others may know the name, and what stands there may be theirs; the caller minds the time.
        """
        index = None if record.owner is None else self.ability(OwnerIndex)
        if record.owner is None or index is None:
            return self.add(handle, data, record.remaining)
        filed = self.now()
        index.file(record.owner, handle)
        added = self.add(handle, data, record.remaining)
        took = self.now() - filed
        if took >= TOMBSTONE_TIME.total_seconds() and not is_known:
            self.drop(handle)  # what all sessions of the owner were ended with no longer stands in its way
            raise StoreUnavailable("the session store took too long to keep a new session; try again")
        if took > TOMBSTONE_TIME.total_seconds() / 2:
            index.file(record.owner, handle)  # taking so long, it may have been taken for one that never came
        return added

    def _tombstone(
        self, kind: Kind, before: str | None = None, successor: str | None = None, after: str | None = None
    ) -> Tombstone:
        """A tombstone to be left now.

        :param before: whom the session belonged to.
        :param after: whom it goes on with.
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
        """Leave a tombstone in the place of a record. An end never waits for room."""
        try:
            return self.swap(handle, pack_tombstone(tombstone, handle), TOMBSTONE_TIME, replaces=replaces)
        except StoreFull:
            found, revision = self._endable(handle)
            if not isinstance(found, Record) or replaces not in (None, revision):
                return False  # the engine refused before it compared
            self.drop(handle)
            return True

    def _confirm(self, key: SessionKey, tombstone: Tombstone) -> None:
        """A tombstone was refused: fine if that very one stands there, its reply lost and the command sent again."""
        found = self._find(key)
        if not (isinstance(found, Tombstone) and found.revision == tombstone.revision):
            raise self._outcome(found)

    def _outcome(self, found: Record | Tombstone | None) -> SessionConflict | SessionGone:
        if isinstance(found, Record):
            return SessionConflict("another request wrote this session", record=found)
        return gone(found)

    def _end(
        self, handle: str, *, kind: Kind, owner: str | None = None, follows: t.Collection[str] = RENEWALS
    ) -> tuple[str, Record] | None:
        """End what is under ``handle``, following successors; read again on a loss, so that none is missed.

        :param follows: the kinds of tombstones whose successors end too.
        :return: what was ended, and where; None if there was nothing.
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
        """The record that was ended under ``handle``; or else the tombstone that stands there, or None."""
        for losses in range(2 * _MAX_LOSSES):
            found, replaces = self._endable(handle)
            if not isinstance(found, Record):
                return found
            if owner is not None and found.owner != owner:
                return None
            # Who writes faster than it can be read again does not keep it from ending: then it is any revision that
            # ends, but never a tombstone, whose successor would be missed.
            any_revision = losses >= _MAX_LOSSES
            if self._bury(handle, self._tombstone(kind, found.owner), None if any_revision else replaces):
                return found
        raise _too_busy()

    def _endable(self, handle: str) -> tuple[Record | Tombstone | None, bytes | None]:
        """What stands under ``handle``, and the revision to replace. Bytes that are not a record can be ended, too."""
        data = None
        try:
            data = self.read(handle)
            found = self._open(data, handle)
        except SessionCorrupt:
            # What was meant for a tombstone is replaced by its name: ``None`` spares it.
            return Record(), revision_of(data) if data and is_tombstone(data) else None
        return found, found.revision if found else None


def gone(found: Record | Tombstone | None) -> SessionGone:
    """The exception that says what became of a session, by the tombstone that was found in its place."""
    if not isinstance(found, Tombstone):
        return SessionGone("there is no session under this key any more")
    return SessionGone(
        f"the session went ({found.kind})",
        kind=found.kind,
        left_at=to_datetime(found.left_ms),
        successor=found.successor,
        marks=(found.before, found.after),
    )


def has_expired(data: bytes, now: float) -> bool:
    """Whether packed bytes have expired at ``now`` (seconds since 1970): for engines that keep no end beside them."""
    expires_ms = expires_ms_of(data)
    return expires_ms is not None and expires_ms <= int(now * 1000)


def _too_busy() -> StoreUnavailable:
    return StoreUnavailable("the session store changes faster than it can be written; try again")
