"""Finding a session: of all that a browser presented, the one session that is alive. No Flask.

A browser may present several cookies of this package, and credentials of sessions of another kind. The cookies count
first. A session of another kind is imported only if nothing is known of any session that the cookies name.
"""

from __future__ import annotations

import logging
import typing as t

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

# The fates that say nothing of a session: there may never have been one.
_UNTRACED = (None, Fate.UNKNOWN, Fate.LATE)


class Found(t.NamedTuple):
    """What was found, and under which key; without a record, why."""

    #: None also if the browser presented no key, or the keys of several living sessions.
    key: SessionKey | None
    record: Record | None
    #: Why there is no record; None if there is one, or if the browser presented no key.
    fate: Fate | None = None
    #: What the store said of a session that is gone.
    gone: SessionGone | None = None
    #: Whether the browser presented a credential of another kind, and lacks our cookie.
    by_credential: bool = False

    @property
    def is_traced(self) -> bool:
        """Whether there is a session, or something that tells how it went."""
        return self.record is not None or self.fate not in _UNTRACED


_NOTHING = Found(None, None)


class Finder:
    """Looks for the session of one request.

    :param tell: is told of what happens on the way.
    :param born: when the request began to look, in seconds since 1970.
    """

    __slots__ = ("_born", "_policy", "_store", "_tell", "_visitor")

    def __init__(self, store: SessionStore, policy: Policy, visitor: Visitor, tell: Tell, born: float) -> None:
        self._store = store
        self._policy = policy
        self._visitor = visitor
        self._tell = tell
        self._born = born

    def find(self) -> Found:
        """Look for all that was presented.

        :raises StoreUnavailable: if this store, or an old one, cannot be asked.
        """
        tokens = self._visitor.tokens()
        if len(tokens) == 1:
            found = self.look(tokens[0].key, tokens[0].seen)
        else:
            found = self._among(tokens) if tokens else _NOTHING
        if found.record is None and not found.is_traced and (presented := self._visitor.old()):
            found = self._among_old(presented) or found
        return found

    def look(self, key: SessionKey, seen: bytes | None = None) -> Found:
        """Look under one key.

        :param seen: the first four bytes of the revision that the browser knows: a cache then need not be up to date.
        :raises StoreUnavailable: if the store cannot be asked.
        """
        now_ms = int(self._store.now() * 1000)
        try:
            record = self._store.load(key, seen=seen)
        except SessionGone as gone:
            return Found(key, None, Fate.of(gone), gone)
        except SessionCorrupt as error:
            logger.warning("session %s: %s; a new one replaces it at the next write", short(key), error)
            self._tell(signals.session_corrupt, key.handle, newer=bool(error.newer))
            return Found(key, None, Fate.CORRUPT)
        if record is not None and not 0 < self._policy.end_ms(record.deadline, record.created_ms) <= now_ms:
            return Found(key, record)
        is_late = self._store.now() - self._born > TOMBSTONE_TIME.total_seconds()
        return Found(key, None, Fate.LATE if is_late else Fate.UNKNOWN)

    def remember_old(self) -> None:
        """Leave marks for all old sessions whose credentials were presented, so that none is imported from now on.

        :raises StoreUnavailable: if the store cannot be asked.
        """
        for old in self._visitor.old():
            self._doorkeeper().remember(old)

    def _among(self, tokens: list[Token]) -> Found:
        """The session of several tokens that is alive. If more than one is alive, all of them are ended.

        The browser would go on sending all of their cookies, and neither a log-out nor a log-in would hold.
        """
        found = [self.look(token.key) for token in tokens]  # it counts which are alive, and a cache may not know
        alive = [one for one in found if one.record is not None]
        if len(alive) > 1:
            return self._end_all(alive)
        # A session that is known to have gone says more than a key that is not known at all.
        return alive[0] if alive else min(found, key=lambda one: not one.is_traced)

    def _end_all(self, alive: list[Found]) -> Found:
        logger.warning("the browser sent cookies of %s living sessions: they end, and none is used", len(alive))
        for key in (found.key for found in alive if found.key is not None):
            if isinstance(self._store, ServerSideStore):  # if not, the session lives in the cookie alone
                self._store.end_found(key.handle, kind="revoked")
                self._tell(signals.session_ended, key.handle, how="ambiguous")
        return Found(None, None, Fate.AMBIGUOUS)

    def _among_old(self, presented: t.Sequence[OldSession]) -> Found | None:
        """The first old session of which anything is known here, or that can be imported."""
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
