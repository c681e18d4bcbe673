"""One session against one store: load, commit, end. No Flask, no HTTP.

A commit's outcome is a value: what is to happen to the cookie, under which key, until when. The rules, in short:

* No write without a load of the same key, and none upserts: what ended stays ended.
* A write that lost against another is merged with it: this request's changes are applied to the newest record.
* A sign-in (a renewal, another owner) is never dropped; any other write to a session that is gone is.
* Where no cookie can be sent the key stays: a sign-in is refused, a sign-out done under it, a new session dropped.
* The cookie is set only if the last call to the store found its key alive, and deleted only for what is known dead.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import random
import time
import typing as t
from datetime import timedelta

from blinker import NamedSignal

from . import owners, signals
from .errors import (
    SessionConflict,
    SessionCorrupt,
    SessionError,
    SessionGone,
    SessionTooLarge,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from .key import Claim, SessionKey, Token
from .policy import Policy, is_persistent
from .record import TOMBSTONE_TIME, Record, largest_keys, new_revision
from .sessions import Session
from .stores.base import OwnerIndex, ServerSideStore, SessionStore

logger = logging.getLogger("flask_sessionstore")

_FIRST_PAUSE = 0.001  # seconds between two attempts against other writers: what a write takes, and then more
_DOUBLINGS = 4
_GIVE_WAY = 0.004  # seconds that a write stands back for one that has had many losses
_MANY_LOSSES = 3
# Handles of sessions over which a write of this process has had many losses. Where threads share one lock of the
# interpreter, the one that holds it wins again and again: so who has lost nothing yet gives way.
_unlucky: set[str] = set()
_NO_COOKIE = "no cookie"  # why writes were dropped


class Cookie(enum.Enum):
    """What is to happen to the browser's cookie."""

    KEEP = "keep"
    SET = "set"
    DELETE = "delete"


class Outcome(t.NamedTuple):
    """What a commit came to."""

    cookie: Cookie = Cookie.KEEP
    #: With SET: the key to send, and the record that was found alive under it.
    key: SessionKey | None = None
    record: Record | None = None


KEEP = Outcome()
DELETE = Outcome(Cookie.DELETE)


class Presented(t.Protocol):
    """What the browser presented."""

    def claims(self) -> list[Claim]:
        """Tokens as they read, unverified."""

    def tokens(self) -> list[Token]:
        """Tokens whose signature holds, under different keys."""

    def seed(self) -> t.Mapping[str, object] | None:
        """Data to start a new session with."""

    def client(self) -> str | None:
        """Which browser it is, and where."""

    def no_cookie(self) -> str | None:
        """Why no cookie can be sent; None as long as one can."""


class Lifecycle:
    """One request's session, from the token to the outcome.

    :param store: where sessions are kept.
    :param policy: the settings in force.
    :param presented: what the browser presented.
    """

    #: Why writes were dropped; None if none were.
    dropped: str | None = None
    #: The latest decision about the cookie.
    outcome = KEEP

    _key: SessionKey | None = None
    _base: Record | None = None
    # Why there is no record though the browser presented a key: "ended", "emptied", "renewed", "unknown" (deleted
    # once), "corrupt", "late" (too old to tell an end from a key never known), "ambiguous" (two alive).
    _absence: str | None = None
    _failure: Exception | None = None
    _chosen = False
    _committed = False
    _extended = False
    # Whether this commit was asked for by save(), whose caller is told what cannot be done.
    _demanded = False
    # Whether this commit has filed the session under an owner that it did not belong to.
    _signed_in = False
    # What the browser holds of a session of another kind, which has to go when this one ends; whether that is known.
    _seed: t.Mapping[str, object] | None = None
    _asked = False

    def __init__(self, store: SessionStore, policy: Policy, presented: Presented) -> None:
        self.store = store
        self.policy = policy
        self.rules = policy.rules
        self.presented = presented
        self._born = store.now()
        # What has happened and is not announced yet.
        self._news: list[tuple[NamedSignal, dict[str, t.Any]]] = []

    # -- what a session asks ---------------------------------------------------------------------------------------

    def load(self) -> Record | None:
        """The record this request starts from. A failure is remembered: the store is asked once."""
        if self._failure is not None:
            raise self._failure
        try:
            if not self._chosen:
                self._choose(self.presented.tokens())
            self._chosen = True  # and what is announced now may ask again
        except StoreUnavailable as error:
            self.fail(error)
            raise
        finally:
            self._tell()
        return self._base

    def seed(self) -> t.Mapping[str, object] | None:
        """Data to start a new session with, where no token of ours was presented. Asked for once."""
        if self._key is not None or self._absence is not None:
            return None
        try:
            if not self._asked:
                self._seed = self.presented.seed()
        except Exception as error:
            self.fail(error)
            raise
        self._asked = True
        return self._seed

    def known_permanent(self) -> bool | None:
        """``permanent`` as the token has it, or the data to start a new session with; None without either."""
        tokens = self.presented.tokens()
        if len(tokens) == 1:
            return tokens[0].permanent
        seed = None if tokens else self.seed()
        return bool(seed["_permanent"]) if seed and "_permanent" in seed else None

    def handle(self) -> str | None:
        """The handle under which the session is stored; None for a store that keeps none."""
        return _handle(self._key)

    @property
    def absence(self) -> str | None:
        """How the session went that was looked for; None if nothing is known of it."""
        return self._absence if self._absence in ("ended", "emptied", "renewed") else None

    def save(self, session: Session) -> None:
        """Commit now. An earlier failure does not keep it from trying, nor this one the end of the request.

        But a store that is down is not asked again then.
        """
        self._failure = None
        self._demanded = True
        try:
            self.commit(session)
        except StoreUnavailable:
            raise
        except Exception:
            self._failure = None
            raise
        finally:
            self._demanded = False

    def reload(self) -> Record | None:
        """Read again, under the key as it is now."""
        self._failure = None
        if self._key is None:
            self._chosen = self._absence is not None  # then what was presented is known to be gone
            return self.load()
        try:
            self._base, self._absence = self._look(self._key, None)
        except StoreUnavailable as error:
            self.fail(error)
            raise
        finally:
            self._tell()
        if self._base is None:
            self.outcome = KEEP  # whatever was to be sent: it is dead
        return self._base

    def leave(self, session: Session, absence: str) -> None:
        """The session of this request was ended by its handle: go on as a new one.

        :param absence: "unknown" if this request has ended it: left empty, the cookie goes; "ended" if another has.
        """
        with session._lock:
            self._key, self._base, self._absence = None, None, absence
            self.outcome, self._committed = KEEP, False
            session._start_over()

    # -- loading ---------------------------------------------------------------------------------------------------

    def _choose(self, tokens: list[Token]) -> None:
        """Of the tokens presented the one whose session is alive; two alive are none."""
        found = [(token.key, *self._look(token.key, token.seen)) for token in tokens]
        alive = [candidate for candidate in found if candidate[1] is not None]
        if len(alive) > 1:
            self._absence = "ambiguous"
            logger.warning("the browser sent cookies of two living sessions: neither is used")
        elif alive:
            self._key, self._base, self._absence = alive[0]
        elif found:
            # A session that is known to have gone says more than a key that is not known at all.
            self._key, self._base, self._absence = min(found, key=lambda c: c[2] in ("unknown", "late"))

    def _look(self, key: SessionKey, seen: bytes | None) -> tuple[Record | None, str | None]:
        """The record under ``key``, or why there is none."""
        now_ms = self._now_ms()
        try:
            record = self.store.load(key, seen=seen)
        except SessionGone as gone:
            return None, gone.kind or "unknown"
        except SessionCorrupt as error:
            logger.warning("session %s: %s; a new one replaces it at the next write", _short(key), error)
            self._announce(signals.session_corrupt, key, newer=bool(error.newer))
            return None, "corrupt"
        if record is not None and not 0 < self.policy.end_ms(record.deadline, record.created_ms) <= now_ms:
            return record, None
        return None, "late" if self.store.now() - self._born > TOMBSTONE_TIME.total_seconds() else "unknown"

    # -- committing ------------------------------------------------------------------------------------------------

    def commit(self, session: Session, *, may_extend: t.Callable[[], bool] = lambda: True) -> Outcome:
        """Store what the session changed, and decide about the cookie.

        Called again, it stores nothing twice and decides the same; after a failure it leaves the store alone.

        :param may_extend: asked whether a mere extension may be sent with this response, when one is due.
        :raises StoreError: if the store cannot do it; :attr:`outcome` holds what must be sent all the same.
        :raises SessionInsertError: if a kept value was changed into one that cannot be kept.
        :raises SessionTooLarge: if the state is over the limit.
        """
        with session._lock:
            if self._failure is not None and not self._purge_is_due(session):
                return self.outcome
            try:
                self.outcome = self._commit(session, may_extend)
                if self._signed_in:
                    self.outcome = self._keep_to_limit(session, self.outcome)
                self._committed = True
            except Exception as error:
                saved = self.outcome
                self.fail(error)
                if not isinstance(error, StoreError):
                    self.outcome = saved  # what save() stored is alive, and the browser may have no other key to it
                raise
            finally:
                self._tell()
            return self.outcome

    def fail(self, error: Exception) -> None:
        """Remember a failure: nothing more is stored for this request, and no cookie set."""
        if self._failure is error:
            return
        self._failure = error
        if self.outcome.cookie is not Cookie.DELETE:
            self.outcome = KEEP
        if isinstance(error, StoreUnavailable):
            logger.error("%s", error, exc_info=error.__cause__)
            self._news.append((signals.store_failed, {"error": error}))
            self._tell()

    def _commit(self, session: Session, may_extend: t.Callable[[], bool]) -> Outcome:
        if session._purged:
            return self._purge()
        session._notice_all()
        dirty = session._forced or bool(session._changes)
        if self._committed and not dirty and self.outcome is not KEEP:
            return self.outcome
        if not session._loaded:
            if not dirty:
                return self._extend_unseen(may_extend)
            session._touch()  # metadata alone was assigned
        if dirty and self._asks_for_key(session):
            self._need_cookie()
        if self._base is None:
            return self._commit_new(session)
        if dirty:
            return self._commit_changes(session, self._base)
        outcome = self._extend_seen(self._base, may_extend)
        session._record = self._base  # with its later end
        return outcome

    # -- nothing changed -------------------------------------------------------------------------------------------

    def _extend_unseen(self, may_extend: t.Callable[[], bool]) -> Outcome:
        """A request that did not touch its session costs nothing, unless a permanent one is due."""
        if not self.policy.refresh or self._extended:
            return KEEP
        claims = self.presented.claims()
        if len(claims) != 1 or not claims[0].lifetime:
            return KEEP
        if not self._due(claims[0].issued, timedelta(seconds=claims[0].lifetime)) or not may_extend():
            return KEEP
        tokens = self.presented.tokens()
        return self._extend(tokens[0].key, None) if tokens else KEEP

    def _extend_seen(self, base: Record, may_extend: t.Callable[[], bool]) -> Outcome:
        if not self.policy.refresh or self._extended or not self._due(base.extended_ms / 1000, self.policy.idle(base)):
            return KEEP
        return self._extend(self._known_key(), self.policy.idle(base)) if may_extend() else KEEP

    def _due(self, extended: float, lifetime: timedelta) -> bool:
        return self.store.now() - extended >= self.policy.interval(lifetime)

    def _extend(self, key: SessionKey, ttl: timedelta | None) -> Outcome:
        """A mere extension, tried once: where it fails, the response is served without it."""
        self._extended = True
        try:
            sent, record = self.store.update_ttl(key, ttl)
        except StoreError as error:
            if not isinstance(error, SessionGone):
                logger.warning("session %s was not extended: %s", _short(key), error)
            return KEEP
        if self._base is not None:
            self._base = record
        # A browser-session cookie has no end that would move; but a cookie that is the session itself is another now.
        return Outcome(Cookie.SET, sent, record) if is_persistent(record) or sent is not key else KEEP

    # -- the end of a session ---------------------------------------------------------------------------------------

    def _purge_is_due(self, session: Session) -> bool:
        """A purge is tried once, even where the store failed before: a log-out must not be half done unnoticed."""
        return session._purged and self.outcome.cookie is not Cookie.DELETE

    def _purge(self) -> Outcome:
        if self.outcome.cookie is Cookie.DELETE:
            return self.outcome
        key = self._key or self._only_key()
        if key is None:
            gone = self._absence == "unknown"  # revoked in this very request
            return DELETE if gone or self._seed is not None or self.seed() is not None else KEEP
        if not _handle(key):
            self._need_cookie()  # the session is in the cookie, and nowhere else
        self.outcome = DELETE  # even when the store fails
        self.store.delete(key)
        if self._absence in (None, "renewed", "corrupt"):  # else it was seen to be gone
            self._announce(signals.session_ended, key, how="purged")
        self._forget()
        return DELETE

    def _only_key(self) -> SessionKey | None:
        """The key presented, for a session that was not loaded; where there are several, the one that is alive."""
        if self._base is None and self._absence is None:
            tokens = self.presented.tokens()
            if len(tokens) == 1:
                return tokens[0].key
            self._choose(tokens)
        return self._key

    def _forget(self) -> None:
        self._key = self._base = self._absence = None

    # -- a new session ----------------------------------------------------------------------------------------------

    def _commit_new(self, session: Session) -> Outcome:
        """There was no record: none presented, or not any more."""
        changes, absence = session._changes, self._absence
        signs_in = self._signs_in(session)
        if absence in ("renewed", "corrupt") and changes.cleared:
            # What this browser was signed in to goes on under the successor, or where the record can be read.
            self._end_met("cleared")
            if absence == "corrupt" and not session._state:
                self._forget()
                session._settle(None)
                return DELETE
        if absence == "ambiguous" or (absence in ("renewed", "late") and not signs_in):
            return self._drop(session, absence) if session._state else self._gone(session, absence)
        if session._state:
            return self._save(session, session._state, None)
        return DELETE if absence == "unknown" or self._seed is not None else KEEP

    def _save(self, session: Session, state: dict[str, bytes], base: Record | None) -> Outcome:
        """Store ``state`` under a new key. ``base`` lends what this request did not assign itself, or is None."""
        record = self._record(session, state, base, fresh=True) if state else None
        if record is None:
            return self._gone(session, self._absence)
        if self._lacks_cookie():
            self._base = None
            session._settle(None)
            return KEEP
        try:
            key = self.store.save(record, self.policy.idle(record))
        except SessionGone as gone:
            return self._drop(session, gone.kind or "revoked")
        self._announce(signals.session_created, key)
        self._signed_in = record.owner is not None
        return self._stored(session, key, record)

    # -- changes to a known session ---------------------------------------------------------------------------------

    def _commit_changes(self, session: Session, base: Record) -> Outcome:
        """Write, and where another request wrote first, apply the changes to its record and write again."""
        key, newest, state = self._known_key(), base, session._state
        if not _handle(key) and session._changes and self._lacks_cookie():
            session._settle(base)
            return KEEP
        attempts: list[bytes] = []
        contest = _Contest(self.policy.conflict_timeout, key.handle)
        if key.handle in _unlucky:
            self.wait(_GIVE_WAY)
        outcome: Outcome | None = None
        try:
            while outcome is None:
                try:
                    outcome = self._attempt(session, newest, state, attempts)
                except SessionConflict as conflict:
                    if conflict.record is not None and set(attempts) & set(conflict.record.revisions):
                        outcome = self._stored(session, key, conflict.record)  # it had arrived, its reply was lost
                    else:
                        newest = self._newest(session, key, conflict, contest)
                        state = session._changes.apply(newest.state)
        except SessionGone as gone:
            return self._commit_gone(session, base, gone.kind)
        except SessionCorrupt as error:
            self._announce(signals.session_corrupt, key, newer=bool(error.newer))
            return self._commit_gone(session, base, None)
        finally:
            contest.leave()
        if contest.losses:
            self._announce(signals.session_merged, key, attempts=contest.losses + 1)
        return outcome

    def _newest(self, session: Session, key: SessionKey, conflict: SessionConflict, contest: _Contest) -> Record:
        """What to apply the changes to after a loss.

        :raises SessionConflict: if the time is up.
        :raises SessionGone: if there is nothing to apply them to.
        """
        pause, newest = contest.lose(), conflict.record
        if newest is None or pause is None:
            raise conflict
        if pause:
            self.wait(pause)
            # What was read before the wait is stale: who has lost once would go on losing with it.
            newest = self.store.load(key)
        if newest is None:
            raise SessionGone("the session has expired")
        if session._owner_in(newest.state) != session._loaded_owner and not session._changes.cleared:
            # What one user did is not written into the session of the next, or of nobody.
            raise SessionGone("its owner was signed out under the same key", kind="ended")
        return newest

    def wait(self, seconds: float) -> None:
        """Stand back for others who write the same session; to be overridden where waiting makes no sense."""
        time.sleep(seconds)

    def _attempt(self, session: Session, newest: Record, state: dict[str, bytes], attempts: list[bytes]) -> Outcome:
        """One try: which of the store's verbs these changes come to, against ``newest``."""
        key = self._known_key()
        record = self._record(session, state, newest) if state else None
        if record is None:
            how = _how_ended(session, state, newest)
            self.store.delete(key, replaces=newest.revision, emptied=how == "emptied")
            self._announce(signals.session_ended, key, how=how)
            self._forget()
            session._settle(None)
            return DELETE
        attempts.append(record.revision)
        ttl = self.policy.idle(record)
        if self._renews(session, newest, record):
            key = self._renew(session, key, record, ttl, newest)
        elif _differs(record, newest):
            key = self._update(key, record, ttl, newest)
        else:
            attempts.pop()
            key, record = self.store.update_ttl(key, self.policy.idle(newest))
        return self._stored(session, key, record)

    def _renews(self, session: Session, newest: Record, record: Record) -> bool:
        changes = session._changes
        # (The owner may differ though nobody changed it: SESSION_OWNER_KEY may be new.)
        moved = record.owner != newest.owner and self.presented.no_cookie() is None
        return changes.renewed or changes.cleared or moved

    def _update(self, key: SessionKey, record: Record, ttl: timedelta, newest: Record) -> SessionKey:
        """Write under the same key. It has another owner only where no cookie can be sent, else it would be renewed."""
        if record.owner == newest.owner or not isinstance(self.store, OwnerIndex):
            return self.store.update(key, record, ttl, replaces=newest.revision)
        if record.owner is not None:
            self.store.file(record.owner, key.handle)
        key = self.store.update(key, record, ttl, replaces=newest.revision)
        if newest.owner is not None:
            with contextlib.suppress(StoreUnavailable):  # what is left of it in the list is pruned later
                self.store.unfile(newest.owner, key.handle)
        return key

    def _renew(self, session: Session, key: SessionKey, record: Record, ttl: timedelta, newest: Record) -> SessionKey:
        changed = record.owner != newest.owner
        ended = changed and newest.owner is not None
        try:
            new = self.store.renew(key, record, ttl, replaces=newest.revision, ended=ended)
        except StoreFull:
            if ended:  # an end never waits for room: the log-out is done, only what was to be kept beside it is not
                self.store.delete(key, replaces=newest.revision)
                self._announce(signals.session_ended, key, how="signed out")
                self.outcome = DELETE
            raise
        self._signed_in = changed and record.owner is not None
        reason = "signed in" if self._signed_in else "signed out" if changed else _why_renewed(session)
        self._announce(signals.session_renewed, new, previous=_handle(key), reason=reason)
        return new

    def _commit_gone(self, session: Session, base: Record, kind: str | None) -> Outcome:
        """The session this request had loaded went meanwhile."""
        changes = session._changes
        own = changes.own()
        if kind == "revoked":  # all sessions of the owner were ended while this one was made: it is not made again
            return self._drop(session, kind)
        if kind == "emptied":
            self._absence = kind
            return self._save(session, own, None)
        signed_out = changes.cleared or (session._owner_changed() and session._owner is None)
        signs_in = self._signs_in(session)
        if signed_out and kind == "renewed":
            ended = self._end_met("cleared" if changes.cleared else "signed out")
            # Cleared and signed in as before: so did the other request, by another click on the same button.
            signs_in = signs_in or (ended and session._owner is not None)
        if not signs_in:
            lost = changes and (session._state or not changes.cleared)  # who only ends it loses nothing
            return self._drop(session, kind or "unknown") if lost else self._gone(session, kind)
        if kind == "renewed" and base.owner is None:
            # The same browser signed in twice, or its anonymous session was renewed by another of its requests: what is
            # in it (the cart) is this browser's own, and comes along.
            return self._save(session, changes.apply(base.state), base)
        return self._save(session, own, None)

    def _signs_in(self, session: Session) -> bool:
        """Whether this request renewed, or gave the session another owner."""
        return session._changes.renewed or (session._owner_changed() and session._owner is not None)

    def _drop(self, session: Session, reason: str) -> Outcome:
        reason = "unknown" if reason == "late" else reason
        self.dropped = reason
        logger.warning("session %s: writes were dropped, the session is gone (%s)", _short(self._key), reason)
        self._announce(signals.session_write_dropped, self._key, reason=reason)
        return self._gone(session, reason)

    def _gone(self, session: Session, reason: str | None) -> Outcome:
        # A key that had loaded and is unknown now is dead; but another response may have set another cookie already.
        self._base, self._absence = None, "late" if reason in (None, "unknown") else reason
        session._settle(None)
        return KEEP

    def _end_met(self, how: str) -> bool:
        """End what the session that was met goes on as, or what cannot be read; False if there was nothing to end."""
        if not isinstance(self.store, ServerSideStore):
            return False
        ended = self.store.end_found(self._known_key().handle)
        if ended is not None:
            self._news.append((signals.session_ended, {"handle": ended, "how": how}))
        return ended is not None

    # -- signing in -------------------------------------------------------------------------------------------------

    def _keep_to_limit(self, session: Session, outcome: Outcome) -> Outcome:
        """End what an owner has too many of, now that there is one more."""
        self._signed_in = False
        most, key, record = self.policy.max_per_owner, outcome.key, outcome.record
        if most is None or key is None or record is None:
            return outcome
        try:
            record = owners.keep_to(self.store, most, key, record, self.policy.idle(record), self._displaced)
        except SessionGone as gone:
            return self._drop(session, gone.kind or "unknown")
        except StoreUnavailable as error:  # who has signed in is signed in, and the next one will count again
            logger.warning("the sessions of an owner could not be counted: %s", error)
            return outcome
        return self._stored(session, key, record)

    def _displaced(self, handle: str) -> None:
        self._news.append((signals.session_ended, {"handle": handle, "how": "displaced"}))

    # -- shared -----------------------------------------------------------------------------------------------------

    def _record(
        self, session: Session, state: dict[str, bytes], base: Record | None, *, fresh: bool = False
    ) -> Record | None:
        """The record to write: ``state``, with the metadata of ``base`` where this request assigned none.

        None if its end has come already.

        :param fresh: it starts a life of its own, and is no later revision of ``base``.
        """
        self._check_size(state)
        changes, now_ms = session._changes, self._now_ms()
        kept = None if base is None or changes.cleared else base
        owner = session._owner_in(state)
        same_owner = base is not None and owner == base.owner
        permanent, lifetime, deadline = self._metadata(changes.metadata, kept, owner)
        created_ms, client = (
            (kept.created_ms, kept.client) if kept is not None and same_owner else (now_ms, self._client())
        )
        end_ms = self.policy.end_ms(deadline, created_ms)
        if 0 < end_ms <= now_ms:
            return None
        record = Record(
            state=state,
            revisions=(new_revision(), *(() if fresh or base is None else base.revisions[:3])),
            owner=owner,
            permanent=permanent,
            lifetime=lifetime,
            deadline=deadline,
            client=client,
            created_ms=created_ms,
            end_ms=end_ms,
        )
        return record.written(now_ms, self.policy.idle(record))

    def _client(self) -> str | None:
        return self.presented.client() if self.policy.record_client else None

    def _metadata(
        self, assigned: t.Mapping[str, t.Any], kept: Record | None, owner: str | None
    ) -> tuple[t.Any, t.Any, t.Any]:
        """``permanent``, ``lifetime`` and ``deadline``: as assigned, as they were, or as in a new session."""
        if kept is None:
            before: tuple[t.Any, t.Any, t.Any] = (self.rules.permanent, None, None)
        elif kept.owner not in (None, owner):
            before = (kept.permanent, None, None)  # how long one user is remembered says nothing about the next
        else:
            before = (kept.permanent, kept.lifetime, kept.deadline)
        if not assigned:
            return before
        permanent, lifetime, deadline = before
        return (
            assigned.get("permanent", permanent),
            assigned.get("lifetime", lifetime),
            assigned.get("deadline", deadline),
        )

    def _check_size(self, state: dict[str, bytes]) -> None:
        size = sum(map(len, state.values())) + len("".join(state).encode())
        if size > self.policy.max_size:
            largest = largest_keys(state)
            raise SessionTooLarge(
                f"the session is {size} bytes, over SESSION_MAX_SIZE ({self.policy.max_size}); its largest keys are"
                f" {', '.join(map(repr, largest))}",
                size=size,
                limit=self.policy.max_size,
                largest=largest,
            )

    def _stored(self, session: Session, key: SessionKey, record: Record) -> Outcome:
        self._key, self._base, self._absence = key, record, None
        session._settle(record)
        return Outcome(Cookie.SET, key, record)

    def _asks_for_key(self, session: Session) -> bool:
        """Whether what this request did needs another key, or a cookie to end what only the cookie holds."""
        changes = session._changes
        if not _handle(self._key) and self._base is not None and (changes.cleared or session._owner_changed()):
            return True
        return bool(session._state) and (changes.renewed or changes.cleared or session._signs_in())

    def _need_cookie(self) -> None:
        reason = self.presented.no_cookie()
        if reason is not None:
            raise SessionError(f"{reason}: the session cannot be kept under a key that the browser lacks")

    def _lacks_cookie(self) -> bool:
        """Whether what was written is dropped, since it needs a cookie and none can be sent; warns once.

        :raises SessionError: if it was to be saved now.
        """
        reason = self.presented.no_cookie()
        if reason is None:
            return False
        if self._demanded:
            self._need_cookie()
        if self.dropped != _NO_COOKIE:
            self.dropped = _NO_COOKIE
            logger.warning("session %s: writes that need a new cookie were dropped: %s", _short(self._key), reason)
            self._announce(signals.session_write_dropped, self._key, reason=_NO_COOKIE)
        return True

    def _known_key(self) -> SessionKey:
        assert self._key is not None
        return self._key

    def _announce(self, signal: NamedSignal, key: SessionKey | None, **arguments: t.Any) -> None:
        self._news.append((signal, {"handle": _handle(key), **arguments}))

    def _tell(self) -> None:
        """Send what has happened, now that all is settled: a receiver may look at the session, and save it even."""
        if not self._news:
            return
        news, self._news = self._news, []
        for signal, arguments in news:
            signals.announce(signal, self.policy.sender(), **arguments)

    def _now_ms(self) -> int:
        return int(self.store.now() * 1000)


class _Contest:
    """One write against other writers: how often it has lost, and for how long it stands back before the next try."""

    def __init__(self, timeout: timedelta, handle: str) -> None:
        self.losses = 0
        self._handle = handle
        self._timeout = timeout.total_seconds()
        self._began = self._waited = 0.0

    def lose(self) -> float | None:
        """Note a loss. In seconds, how long to wait: not at all after the first; None if the time is up."""
        self.losses += 1
        if self.losses == 1:
            self._began = time.monotonic()
            return 0.0
        # What was waited counts by itself, for a test may have stopped the clock.
        if max(time.monotonic() - self._began, self._waited) >= self._timeout:
            return None
        if self.losses > _MANY_LOSSES:
            _unlucky.add(self._handle)
        pause = random.uniform(0.5, 1) * _FIRST_PAUSE * (1 << min(self.losses - 2, _DOUBLINGS))
        self._waited += pause
        return pause

    def leave(self) -> None:
        """It is over, won or lost."""
        if self.losses > _MANY_LOSSES:
            _unlucky.discard(self._handle)


def _differs(record: Record, newest: Record) -> bool:
    """Whether there is anything to write."""
    return (
        record.state != newest.state
        or record.permanent is not newest.permanent
        or record.lifetime != newest.lifetime
        or record.deadline != newest.deadline
        or record.owner != newest.owner
    )


def _how_ended(session: Session, state: dict[str, bytes], newest: Record) -> str:
    """How it came that there is nothing to keep of ``newest``."""
    if session._changes.cleared:
        return "cleared"
    if state:
        return "expired"
    return "emptied" if newest.owner is None else "signed out"


def _why_renewed(session: Session) -> str:
    return "cleared" if session._changes.cleared else "renewed"


def _handle(key: SessionKey | None) -> str | None:
    """None also for the key of a store that keeps nothing under handles."""
    return getattr(key, "handle", None)


def _short(key: SessionKey | None) -> str:
    handle = _handle(key)
    return handle[:8] if handle else "without a handle"
