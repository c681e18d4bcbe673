"""Moving in: imports a session of another kind into this store, once and never again. No Flask.

The new session's key is derived from the old credential, so every request that presents the credential derives the same
handle. A mark under a second derived name says that the session was imported. The record is written first, then the
mark; then the request is answered. So:

* A request that finds a mark but no session does not import: the session was here, and has gone.
* A request that finds a session without a mark finishes the import that another request has begun.
* The mark is looked for *before* the session. So if an import and an end happen in between, the tombstone is found.

To end all sessions of an owner, a mark for the owner is left first, and then the owner's sessions are listed. An import
looks for the owner's mark after it has written its record. So either the import sees the mark, or the list has the
session.
"""

from __future__ import annotations

import logging
import typing as t
from datetime import timedelta

import msgspec
from blinker import NamedSignal

from . import owners, signals
from .derived import owner_mark
from .errors import SessionConflict, SessionCorrupt, SessionError, SessionGone, SessionTooLarge, StoreUnavailable
from .policy import Policy
from .record import TOMBSTONE_TIME, Record
from .signins import owner_in
from .stores.base import ServerSideStore
from .visitor import Old, OldSession
from .writing import size_of

logger = logging.getLogger("flask_sessionstore")

# How long a mark stands if its credential never expires.
_FOR_EVER = timedelta(days=3650)


class Tell(t.Protocol):
    """A function that sends signals."""

    def __call__(self, signal: NamedSignal, handle: str | None, **arguments: t.Any) -> None:
        """Send ``signal`` about the session under ``handle``."""


class Doorkeeper:
    """Imports one old session. A Doorkeeper is made before the store is asked about that session, and used once.

    :param client: names the browser and its address.
    """

    def __init__(self, store: ServerSideStore, policy: Policy, client: t.Callable[[], str | None], tell: Tell) -> None:
        self._store = store
        self._policy = policy
        self._client = client
        self._tell = tell
        self._began = store.now()

    def knows(self, old: OldSession) -> bool:
        """Whether the session was imported, whatever happened to it afterwards."""
        return self._is_marked(old.mark)

    def remember(self, old: OldSession) -> None:
        """Leave its mark, or prolong an existing mark, for as long as the credential may be valid."""
        self._mark(old, self._ask_again(old))

    def let_in(self, old: OldSession, record: Record | None) -> Record | None:
        """Import the session, or finish the import that another request has begun; None if there is nothing to import.

        To be called only if there was no mark before ``record`` was looked for.

        :param record: the record that was found under its key.
        :raises SessionGone: if the session must not be imported, or has ended already.
        :raises StoreUnavailable: if this store, or the old one, cannot be asked.
        """
        found = self._find(old) if record is None else self._ask_again(old)
        if record is None:
            record = None if found is None else self._import(old, found)
        if record is not None:
            record = self._finish(old, record, found)
        return record

    # -- what there is ---------------------------------------------------------------------------------------------

    def _find(self, old: OldSession) -> Old | None:
        try:
            return old.find(self._store.now())
        except SessionCorrupt as error:
            logger.warning("a session of another kind is not imported: %s", error)
            return None

    def _ask_again(self, old: OldSession) -> Old | None:
        """The old session again, only to learn when it ends; None also if it cannot be read."""
        try:
            return old.find(self._store.now())
        except SessionError:
            return None

    def _import(self, old: OldSession, found: Old) -> Record | None:
        record = self._to_be_kept(old, found)
        if record is None:
            return None
        if record.owner is not None and self._is_marked(owner_mark(record.owner)):
            self._mark_owner(record.owner, found)
            raise _ended_all()
        kept = self._save(old, record)
        took = self._store.now() - self._began
        if kept is record and took >= TOMBSTONE_TIME.total_seconds() and self._is_marked(old.mark):
            # This request took so long that another may have imported the session and ended it meanwhile, and that even
            # the tombstone has gone.
            self._store.end_found(old.key.handle, kind="ended")
            raise SessionGone("another request has imported this session, and it has ended since", kind="ended")
        return kept

    def _to_be_kept(self, old: OldSession, found: Old) -> Record | None:
        record, policy, now_ms = found.record, self._policy, int(self._store.now() * 1000)
        created_ms = record.created_ms or now_ms
        end_ms = policy.end_ms(record.deadline, created_ms)
        if not record.state or 0 < end_ms <= now_ms:
            return None
        if size_of(record.state) > policy.max_size:
            _warn_of_size()
            return None
        return msgspec.structs.replace(
            record,
            owner=owner_in(policy, record.state),
            client=record.client or (self._client() if policy.record_client else None),
            created_ms=created_ms,
            end_ms=end_ms,
            derived=record.derived or old.is_derived,
        ).anew(now_ms, policy.idle(record))

    def _save(self, old: OldSession, record: Record) -> Record | None:
        """Store the record under its key; return the record there, which may be another request's."""
        try:
            self._store.save(record, self._policy.idle(record), key=old.key)
        except SessionConflict as conflict:
            return conflict.record
        except SessionTooLarge:
            _warn_of_size()
            return None
        self._tell(signals.session_created, old.key.handle)
        return record

    # -- what makes it final ---------------------------------------------------------------------------------------

    def _finish(self, old: OldSession, record: Record, found: Old | None) -> Record:
        if record.owner is not None and self._is_marked(owner_mark(record.owner)):
            self._mark_owner(record.owner, found)
            self._store.end_found(old.key.handle, kind="revoked")
            raise _ended_all()
        self._mark(old, found)
        record = self._keep_to_limit(old, record)
        self._remove(old)
        return record

    def _keep_to_limit(self, old: OldSession, record: Record) -> Record:
        most, ttl = self._policy.max_per_owner, self._policy.idle(record)
        if most is None or record.owner is None:
            return record
        try:
            return owners.keep_to(self._store, most, old.key, record, ttl, self._displaced)
        except StoreUnavailable as error:  # the import is done; the next sign-in counts again
            logger.warning("the sessions of an owner could not be counted: %s", error)
            return record

    def _displaced(self, handle: str) -> None:
        self._tell(signals.session_ended, handle, how="displaced")

    def _remove(self, old: OldSession) -> None:
        try:
            old.remove()
        except StoreUnavailable as error:
            logger.warning("an old session was imported, but could not be removed from its old store: %s", error)

    # -- marks -----------------------------------------------------------------------------------------------------

    def _is_marked(self, name: str) -> bool:
        try:
            return self._store.marked(name) is not None
        except SessionCorrupt:
            return True  # the bytes there cannot be read; they may have been a mark

    def _mark(self, old: OldSession, found: Old | None) -> None:
        self._store.mark(old.mark, old.key.handle, self._mark_time(found))

    def _mark_owner(self, owner: str, found: Old | None) -> None:
        bar_owner(self._store, owner, max(self._mark_time(found), self._policy.lifetime))

    def _mark_time(self, found: Old | None) -> timedelta:
        """How long the credential may be valid. If that is unknown: as long as for a session written just now."""
        if found is None:
            return self._policy.lifetime
        if found.ends_at is None:
            return _FOR_EVER
        return max(timedelta(seconds=found.ends_at - self._store.now()), timedelta(milliseconds=1))


def bar_owner(store: ServerSideStore, owner: str, ttl: timedelta) -> None:
    """Leave the mark that says that no more sessions of this owner are imported."""
    name = owner_mark(owner)
    store.mark(name, name, ttl)


def _warn_of_size() -> None:
    logger.warning("a session of another kind is not imported: it is larger than SESSION_MAX_SIZE or the store allows")


def _ended_all() -> SessionGone:
    return SessionGone("all sessions of this owner were ended", kind="revoked")
