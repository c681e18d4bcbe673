"""Finding a session: the session that is alive, among all those that a browser presented. No Flask.

A browser may present several cookies of this package, and credentials of sessions of another kind. The cookies count
first. A session of another kind is imported only if the store has no trace of any session that the cookies name.
"""

from __future__ import annotations

import logging
import typing as t

import msgspec

from . import signals
from .errors import SessionCorrupt, SessionGone
from .key import SessionKey, short
from .moving_in import Doorkeeper, Tell
from .policy import Policy
from .record import TOMBSTONE_TIME, Record
from .stores.base import ServerSideStore, SessionStore
from .tokens import Token
from .verdicts import Fate
from .visitor import OldSession, Visitor

logger = logging.getLogger("flask_sessionstore")

# The fates without a trace of a session: perhaps it never existed.
_UNTRACED = (None, Fate.UNKNOWN, Fate.LATE)


class Found(msgspec.Struct, frozen=True):
    """A record and its key, or the reason why there is no record."""

    #: The key that was looked for. None if the browser presented no key, or the keys of several living sessions.
    key: SessionKey | None
    record: Record | None
    #: Why there is no record; None if there is a record, or if the browser presented no key.
    fate: Fate | None = None
    #: The exception with which the store reported that the session is gone.
    gone: SessionGone | None = None
    #: Whether the browser presented a credential of another kind, and lacks our cookie.
    by_credential: bool = False

    @property
    def is_traced(self) -> bool:
        """Whether there is a session, or a trace of how it went."""
        return self.record is not None or self.fate not in _UNTRACED


_NOTHING = Found(None, None)


class Finder:
    """Looks for the session of one request.

    :param tell: sends signals about what happens meanwhile.
    :param began: when the request began, in seconds since 1970.
    """

    __slots__ = ("_began", "_policy", "_store", "_tell", "_visitor")

    def __init__(self, store: SessionStore, policy: Policy, visitor: Visitor, tell: Tell, began: float) -> None:
        self._store = store
        self._policy = policy
        self._visitor = visitor
        self._tell = tell
        self._began = began

    def find(self) -> Found:
        """Look for everything that the browser presented.

        :raises StoreUnavailable: if this store, or the store of a session of another kind, cannot be asked.
        """
        tokens = self._visitor.tokens()
        if len(tokens) == 1:
            found = self.look(tokens[0].key, tokens[0].seen)
        else:
            found = self._among(tokens) if tokens else _NOTHING
        if not found.is_traced and (presented := self._visitor.old()):
            found = self._among_old(presented) or found
        return found

    def look(self, key: SessionKey, seen: bytes | None = None) -> Found:
        """Look under one key.

        :param seen: the first four bytes of the revision that the browser has seen. They tell a cache whether its copy
            is new enough for this browser.
        :raises StoreUnavailable: if the store cannot be asked.
        """
        try:
            record = self._store.load(key, seen=seen)
        except SessionGone as gone:
            return Found(key, None, Fate.of(gone), gone)
        except SessionCorrupt as error:
            logger.warning("session %s: %s; a new session replaces it at the next write", short(key), error)
            self._tell(signals.session_corrupt, key.handle, newer=bool(error.newer))
            return Found(key, None, Fate.CORRUPT)
        if record is not None and not self._has_ended(record):
            return Found(key, record)
        is_late = self._store.now() - self._began > TOMBSTONE_TIME.total_seconds()
        return Found(key, None, Fate.LATE if is_late else Fate.UNKNOWN)

    def _has_ended(self, record: Record) -> bool:
        """Whether its fixed end has passed, by the present configuration."""
        end_ms = self._policy.end_ms(record.deadline, record.created_ms)
        return 0 < end_ms <= int(self._store.now() * 1000)

    def remember_old(self) -> None:
        """Leave marks for all old sessions whose credentials were presented, so that they are not imported from now on.

        :raises StoreUnavailable: if the store cannot be asked.
        """
        for old in self._visitor.old():
            self._doorkeeper().remember(old)

    def _among(self, tokens: list[Token]) -> Found:
        """The one session of several tokens that is alive. If more than one is alive, all of them are ended.

        Otherwise the browser would go on sending all of their cookies, and neither a log-out nor a log-in would hold.
        """
        # Without ``seen``: the store itself must say which sessions are alive, since a cache may not know.
        found = [self.look(token.key) for token in tokens]
        alive = [each for each in found if each.record is not None]
        if len(alive) > 1:
            return self._end_all(alive)
        # If all are gone: a trace of how a session went says more than an unknown key.
        return alive[0] if alive else min(found, key=lambda each: not each.is_traced)

    def _end_all(self, alive: list[Found]) -> Found:
        logger.warning("the browser sent the cookies of %s living sessions: they end, and none is used", len(alive))
        for key in (found.key for found in alive if found.key is not None):
            if isinstance(self._store, ServerSideStore):  # otherwise the session is only in the cookie
                ended = self._store.end_found(key.handle, kind="revoked")
                if ended is not None:
                    self._tell(signals.session_ended, ended, how="ambiguous")
        return Found(None, None, Fate.AMBIGUOUS)

    def _among_old(self, presented: t.Sequence[OldSession]) -> Found | None:
        """The first old session of which this store has a trace, or that can be imported."""
        return next((found for old in presented if (found := self._find_old(old)) is not None), None)

    def _find_old(self, old: OldSession) -> Found | None:
        doorkeeper = self._doorkeeper()
        is_known = doorkeeper.knows(old)
        found = self.look(old.key)
        try:
            if is_known or found.fate not in _UNTRACED:
                doorkeeper.remember(old)
            else:
                found = Found(old.key, doorkeeper.let_in(old, found.record), found.fate)
        except SessionGone as gone:
            return Found(old.key, None, Fate.of(gone), gone)
        if found.record is not None:
            return Found(old.key, found.record, by_credential=True)
        return found if is_known or found.is_traced else None

    def _doorkeeper(self) -> Doorkeeper:
        return Doorkeeper(t.cast("ServerSideStore", self._store), self._policy, self._visitor.client, self._tell)
