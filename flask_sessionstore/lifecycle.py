"""One session against one store: load, commit, end. No Flask, no HTTP.

A commit's outcome is a value: what is to happen to the cookie, under which key, until when. The rules, in short:

* No write without a load of the same key, and none upserts: what ended stays ended.
* A write that lost against another is merged with it: this request's changes are applied to the newest record.
* A sign-in is never dropped; any other write to a session that is gone is. What exactly: :mod:`.verdicts`.
* An end never waits and is never refused, whoever else writes; nor is what goes on under a new key.
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

import msgspec
from blinker import NamedSignal

from . import owners, signals, signins
from .errors import (
    Barred,
    SessionConflict,
    SessionCorrupt,
    SessionError,
    SessionGone,
    SessionTooLarge,
    StoreError,
    StoreUnavailable,
)
from .key import Claim, SessionKey, Token
from .policy import Policy, is_persistent
from .record import TOMBSTONE_TIME, Record, largest_keys, new_revision, owner_mark, to_ms
from .sessions import Session
from .stores.base import ANY, OwnerIndex, ServerSideStore, SessionStore
from .verdicts import Did, Fate, Verdict, ends_successor, on_lost, on_met

logger = logging.getLogger("flask_sessionstore")

# Milliseconds after which a write files its session anew, as a mere extension does.
_FILED_FOR = 60_000
_FIRST_PAUSE = 0.001  # seconds between two attempts against other writers: what a write takes, and then more
_DOUBLINGS = 4
_GIVE_WAY = 0.004  # seconds that a write stands back for one that has had many losses
_MANY_LOSSES = 3
# Handles of sessions over which a write of this process has had many losses. Where threads share one lock of the
# interpreter, the one that holds it wins again and again: so who has lost nothing yet gives way.
_unlucky: set[str] = set()
_NO_COOKIE = "no cookie"  # why writes were dropped
# After so many losses in a row an end takes whatever record is there.
_MAX_LOSSES = 100
# After so many what goes on under a new key is kept under it first, and the old one replaced in a step of its own.
_LOSSES_BEFORE_SAVING = 10
# A request that began sooner than this after its session went was under way when it went.
_UNDER_WAY = timedelta(seconds=10)


class Cookie(enum.Enum):
    """What is to happen to the browser's cookie."""

    KEEP = "keep"
    SET = "set"
    DELETE = "delete"


class Outcome(msgspec.Struct, frozen=True):
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

    def has_body(self) -> bool:
        """Whether the request has a body, as one has that was sent by a form."""


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
    # Why there is no record though the browser presented a key, and what the store said of it.
    _fate: Fate | None = None
    _met: SessionGone | None = None
    _failure: Exception | None = None
    _chosen = False
    _committed = False
    _extended = False
    # Whether this commit was asked for by save(), whose caller is told what cannot be done.
    _demanded = False
    # Whether this commit has filed the session under an owner that it did not belong to.
    _signed_in = False
    # What is sent though the commit fails: it was proven before.
    _all_the_same: Outcome | None = None
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
        if self._key is not None or self._fate is not None:
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

    def has_body(self) -> bool:
        """Whether the request has a body."""
        return self.presented.has_body()

    @property
    def absence(self) -> str | None:
        """How the session went that was looked for; None if nothing is known of it."""
        return None if self._met is None else self._met.kind

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
            self._chosen = self._fate is not None  # then what was presented is known to be gone
            return self.load()
        try:
            self._base, self._fate, self._met = self._look(self._key, None)
        except StoreUnavailable as error:
            self.fail(error)
            raise
        finally:
            self._tell()
        if self._base is None:
            self.outcome = KEEP  # whatever was to be sent: it is dead
        return self._base

    def leave(self, session: Session, *, by_itself: bool) -> None:
        """The session of this request was ended by its handle: go on as a new one.

        :param by_itself: whether this request has ended it; if not, another may have set another cookie.
        """
        with session._lock:
            self._key = self._base = self._met = None
            self._fate = Fate.LEFT if by_itself else Fate.REVOKED
            self.outcome, self._committed = KEEP, False
            session._start_over()

    # -- loading ---------------------------------------------------------------------------------------------------

    def _choose(self, tokens: list[Token]) -> None:
        """Of the tokens presented the one whose session is alive. Where several are, all of them are ended.

        The browser would go on sending them all, and no log-out or log-in would hold.
        """
        alone = len(tokens) == 1  # else it counts what is alive, and a cache may not know
        found = [(token.key, *self._look(token.key, token.seen if alone else None)) for token in tokens]
        alive = [candidate for candidate in found if candidate[1] is not None]
        if len(alive) > 1:
            self._fate = Fate.AMBIGUOUS
            logger.warning("the browser sent cookies of %s living sessions: they end, and none is used", len(alive))
            for key, *_ in alive:
                if isinstance(self.store, ServerSideStore):  # else it lives in the cookie alone
                    self.store.end_found(key.handle, kind="revoked")
                    self._announce(signals.session_ended, key, how="ambiguous")
        elif alive:
            self._key, self._base, self._fate, self._met = alive[0]
        elif found:
            # A session that is known to have gone says more than a key that is not known at all.
            nothing = (Fate.UNKNOWN, Fate.LATE)
            self._key, self._base, self._fate, self._met = min(found, key=lambda one: one[2] in nothing)

    def _look(self, key: SessionKey, seen: bytes | None) -> tuple[Record | None, Fate | None, SessionGone | None]:
        """The record under ``key``, or why there is none, and what the store said of it."""
        now_ms = self._now_ms()
        try:
            record = self.store.load(key, seen=seen)
        except SessionGone as gone:
            return None, _fate_of(gone), gone
        except SessionCorrupt as error:
            logger.warning("session %s: %s; a new one replaces it at the next write", _short(key), error)
            self._announce(signals.session_corrupt, key, newer=bool(error.newer))
            return None, Fate.CORRUPT, None
        if record is not None and not 0 < self.policy.end_ms(record.deadline, record.created_ms) <= now_ms:
            return record, None, None
        is_late = self.store.now() - self._born > TOMBSTONE_TIME.total_seconds()
        return None, Fate.LATE if is_late else Fate.UNKNOWN, None

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
                if self._all_the_same is not None:
                    self.outcome = self._all_the_same
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
        if session._loaded:
            session._notice_all()
        dirty = session._forced or bool(session._changes)
        if self._committed and not dirty and self.outcome is not KEEP:
            return self.outcome
        if not session._loaded:
            if not dirty:
                return self._extend_unseen(may_extend)
            session._touch()  # metadata alone was assigned
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
        if not self._due(claims[0].issued * 1000, claims[0].lifetime * 1000) or not may_extend():
            return KEEP
        tokens = self.presented.tokens()
        return self._extend(tokens[0].key, None) if tokens else KEEP

    def _extend_seen(self, base: Record, may_extend: t.Callable[[], bool]) -> Outcome:
        if not self.policy.refresh or self._extended:
            return KEEP
        idle = self.policy.idle(base)
        if not self._due(base.extended_ms, to_ms(idle)) or not may_extend():
            return KEEP
        return self._extend(self._known_key(), idle)

    def _due(self, extended_ms: int, lifetime_ms: int) -> bool:
        return self._now_ms() - extended_ms >= self.policy.interval_ms(lifetime_ms)

    def _extend(self, key: SessionKey, ttl: timedelta | None) -> Outcome:
        """A mere extension, tried once: where it fails, the response is served without it."""
        self._extended = True
        try:
            sent, record = self.store.update_ttl(key, ttl)
        except StoreError as error:
            if not isinstance(error, SessionGone):
                logger.warning("session %s was not extended: %s", _short(key), error)
            return KEEP
        self._file_anew(sent, record)
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
            gone = self._fate in (Fate.LEFT, Fate.AMBIGUOUS)
            return DELETE if gone or self._seed is not None or self.seed() is not None else KEEP
        if not _handle(key):
            self._need_cookie()  # the session is in the cookie, and nowhere else
        self.outcome = DELETE  # even when the store fails
        self.store.delete(key)
        if self._fate in (None, Fate.RENEWED, Fate.CORRUPT):  # else it was seen to be gone
            self._announce(signals.session_ended, key, how="purged")
        self._forget()
        return DELETE

    def _only_key(self) -> SessionKey | None:
        """The key presented, for a session that was not loaded; where there are several, the one that is alive."""
        if self._base is None and self._fate is None:
            tokens = self.presented.tokens()
            if len(tokens) == 1:
                return tokens[0].key
            self._choose(tokens)
        return self._key

    def _forget(self) -> None:
        self._key = self._base = self._fate = self._met = None

    # -- a session that is not there --------------------------------------------------------------------------------

    def _commit_new(self, session: Session) -> Outcome:
        """There was no record: none presented, or not any more."""
        fate = self._fate
        if session._state and self._moves(session):
            self._need_cookie()
        if fate is None and session._state:
            return self._save(session, session._state, None)
        did = self._did(session)
        if ends_successor(fate, did) or (fate is Fate.CORRUPT and did.clears):
            # What this browser was signed in to goes on under the successor, or where the record can be read.
            self._end_met("cleared")
        verdict = on_met(fate, did)
        if verdict is Verdict.NOTHING and fate is None:
            return DELETE if self._seed is not None else KEEP
        return self._obey(verdict, session, None)

    def _commit_gone(self, session: Session, base: Record, gone: SessionGone) -> Outcome:
        """The session this request had loaded went meanwhile."""
        self._fate, self._met = _fate_of(gone), gone
        if isinstance(gone, Barred):  # all sessions of the owner were ended while this one was made
            return self._drop(session)
        did = self._did(session)
        if ends_successor(self._fate, did):
            self._end_met("cleared" if did.clears else "signed out")
        return self._obey(on_lost(self._fate, did), session, base)

    def _did(self, session: Session) -> Did:
        """What this request did."""
        changes, has_body, gone = session._changes, self.presented.has_body(), self._met
        left_at = None if gone is None else gone.left_at
        was_somebody = signins.is_somebody(self.rules, session._before)
        under_way = left_at is not None and self._born < (left_at + _UNDER_WAY).timestamp()
        return Did(
            keeps=bool(session._state),
            wrote=bool(changes) and bool(session._state or not changes.cleared),
            signs_in=session._signs_in(),
            renews=changes.renewed or session._step() is signins.Step.RENEWS,
            clears=changes.cleared,
            signs_out=session._signs_out() or (was_somebody and not signins.is_somebody(self.rules, session._state)),
            was_somebody=was_somebody,
            was_owned=session._loaded_owner is not None,
            # Of a session that was revoked, or ended since there were several, the same user's form is a real log-in.
            straggles=under_way
            and (not has_body or (self._fate is not Fate.REVOKED and self._is_known_to_it(session._owner))),
            is_overdue=left_at is not None and not under_way and not has_body,
        )

    def _is_known_to_it(self, owner: str | None) -> bool:
        """Whether the session that was met belonged to this owner, or went on with it."""
        return owner is not None and self._met is not None and owner_mark(owner) in (self._met.marks or ())

    def _obey(self, verdict: Verdict, session: Session, base: Record | None) -> Outcome:
        match verdict:
            case Verdict.NOTHING:
                return self._gone(session)
            case Verdict.FORGET:
                self._forget()
                session._settle(None)
                return DELETE
            case Verdict.DROP:
                return self._drop(session)
            case Verdict.SAVE:
                return self._save(session, session._state, None)
            case Verdict.SAVE_OWN:
                return self._save(session, session._changes.own(), None)
            case Verdict.SAVE_CARRIED:
                return self._save(session, self._carried(session, base), base)
            case Verdict.SAVE_BESIDE:
                return self._save_beside(session, t.cast("Record", base))

    def _carried(self, session: Session, base: Record | None) -> dict[str, bytes]:
        return session._changes.apply({} if base is None else base.state)

    def _save(self, session: Session, state: dict[str, bytes], base: Record | None) -> Outcome:
        """Store ``state`` under a new key. ``base`` lends what this request did not assign itself, or is None."""
        record = self._record(session, state, base, fresh=True) if state else None
        if record is None:
            return self._gone(session)
        if self._lacks_cookie():
            self._base = None
            session._settle(None)
            return KEEP
        try:
            key = self.store.save(record, self.policy.idle(record))
        except SessionGone as gone:
            self._fate = _fate_of(gone)
            return self._drop(session)
        self._announce(signals.session_created, key)
        self._signed_in = record.owner is not None
        return self._stored(session, key, record)

    def _save_beside(self, session: Session, base: Record) -> Outcome:
        """Two requests of a browser renewed at once: two sessions of the same user, if none has ended meanwhile."""
        store, old = t.cast("ServerSideStore", self.store), self._known_key().handle
        record = self._record(session, self._carried(session, base), base, fresh=True)
        if record is None or not self._goes_on_as(session, base, store.renewed_to(old)):
            return self._drop(session)
        try:
            key = store.save(record, self.policy.idle(record))
        except SessionGone as gone:
            self._fate = _fate_of(gone)
            return self._drop(session)
        if not self._goes_on_as(session, base, store.renewed_to(old)):  # ended while this one was made, which ends too
            store.end_found(key.handle, kind="ended")
            return self._drop(session)
        self._announce(signals.session_renewed, key, previous=old, reason="renewed")
        self._signed_in = record.owner is not None
        return self._stored(session, key, record)

    def _goes_on_as(self, session: Session, base: Record, newest: Record | None) -> bool:
        """Whether it is alive, and nobody was signed out there under the same key."""
        if newest is None:
            return False
        if newest.sealed:  # whose it is can be read, but not who else is signed in
            is_owned = base.owner is not None or not signins.is_somebody(self.rules, session._before)
            return is_owned and newest.owner == base.owner
        return signins.is_signed_in_still(self.rules, session._before, newest.state)

    def _drop(self, session: Session) -> Outcome:
        reason = "unknown" if self._fate in (None, Fate.LATE) else t.cast("Fate", self._fate).value
        self.dropped = reason
        logger.warning("session %s: writes were dropped, the session is gone (%s)", _short(self._key), reason)
        self._announce(signals.session_write_dropped, self._key, reason=reason)
        return self._gone(session)

    def _gone(self, session: Session) -> Outcome:
        # A key that had loaded and is unknown now is dead; but another response may have set another cookie already.
        self._base = None
        session._settle(None)
        return KEEP

    def _end_met(self, how: str) -> None:
        """End what the session that was met goes on as, or what cannot be read."""
        if isinstance(self.store, ServerSideStore):
            ended = self.store.end_found(self._known_key().handle, kind="ended")
            if ended is not None:
                self._news.append((signals.session_ended, {"handle": ended, "how": how}))

    # -- changes to a known session ---------------------------------------------------------------------------------

    def _commit_changes(self, session: Session, base: Record) -> Outcome:
        key, moves = self._known_key(), self._moves(session)
        handle = _handle(key)
        if (moves and session._state) or (handle is None and (session._changes.cleared or session._owner_changed())):
            self._need_cookie()
        if handle is None and session._changes and self._lacks_cookie():
            session._settle(base)
            return KEEP
        try:
            if session._changes.cleared and not session._state:
                self._end_newest(key, base)
                return self._ended(session, "cleared")
            if session._signs_out() and self.presented.no_cookie() is None:
                return self._sign_out(session, base)
            return self._move(session, base) if moves else self._merge(session, base)
        except SessionGone as gone:
            return self._commit_gone(session, base, gone)
        except SessionCorrupt as error:
            self._announce(signals.session_corrupt, key, newer=bool(error.newer))
            return self._commit_gone(session, base, SessionGone())

    # -- ends: they never wait --------------------------------------------------------------------------------------

    def _end_newest(self, key: SessionKey, newest: Record) -> Record:
        """End the session, whoever else writes to it, and return the revision that was ended.

        :raises SessionGone: if another was faster, and it has ended, or goes on elsewhere.
        """
        for losses in range(2 * _MAX_LOSSES):
            replaces = ANY if losses >= _MAX_LOSSES else newest.revision
            try:
                self.store.delete(key, replaces=replaces, owner=newest.owner)
                return newest
            except SessionConflict as conflict:
                newest = _record_of(conflict)
        raise StoreUnavailable("the session changes faster than it can be ended; try again")

    def _ended(self, session: Session, how: str) -> Outcome:
        self._announce(signals.session_ended, self._key, how=how)
        self._forget()
        session._settle(None)
        return DELETE

    def _sign_out(self, session: Session, base: Record) -> Outcome:
        """End the session, and keep what is left of it under a new key, which is nobody's."""
        old = self._known_key()
        newest = self._end_newest(old, base)
        state = session._changes.apply(newest.state)
        try:
            record = self._record(session, state, newest, fresh=True) if state else None
            if record is None:
                return self._ended(session, "signed out")
            key = self.store.save(record, self.policy.idle(record))
        except Exception:  # what is left cannot be kept; but the log-out has happened
            self._announce(signals.session_ended, old, how="signed out")
            self._key, self._base, self._fate, self._all_the_same = None, None, Fate.LEFT, DELETE
            raise
        self._announce(signals.session_renewed, key, previous=_handle(old), reason="signed out")
        return self._stored(session, key, record)

    # -- what goes on under a new key: it does not wait either ------------------------------------------------------

    def _move(self, session: Session, base: Record) -> Outcome:
        """Sign in, renew, or start over with something: whoever else writes to the session."""
        key, newest, kind = self._known_key(), base, self._kind_of_move(session)
        state = session._state
        for losses in range(_LOSSES_BEFORE_SAVING):
            record = self._record(session, state, newest)
            if record is None:
                self._end_newest(key, newest)
                return self._ended(session, "cleared" if session._changes.cleared else "expired")
            try:
                new = self.store.renew(
                    key, record, self.policy.idle(record), replaces=newest.revision, kind=kind, owner=newest.owner
                )
                return self._moved(session, new, record, losses)
            except SessionConflict as conflict:
                newest = self._mergeable(session, _record_of(conflict))
                state = session._changes.apply(newest.state)
        return self._move_at_any_rate(session, newest, kind)

    def _move_at_any_rate(self, session: Session, newest: Record, kind: str) -> Outcome:
        """Keep it under the new key, which nobody knows yet; then replace the old one; then bring the new one up."""
        old = self._known_key()
        saved = t.cast("Record", self._record(session, session._changes.apply(newest.state), newest))
        key = self.store.save(saved, self.policy.idle(saved))
        try:
            newest = self._replace(session, newest, saved, key, kind)
        except (SessionConflict, SessionGone, SessionCorrupt):
            self.store.delete(key)
            raise
        self._all_the_same = Outcome(Cookie.SET, key, saved)
        record = t.cast("Record", self._record(session, session._changes.apply(newest.state), saved))
        try:
            self.store.update(key, record, self.policy.idle(record), replaces=saved.revision)
        except SessionConflict as conflict:
            record = _record_of(conflict)
        finally:
            self._key = old
        self._all_the_same = None
        return self._moved(session, key, record, _LOSSES_BEFORE_SAVING)

    def _replace(self, session: Session, newest: Record, saved: Record, key: SessionKey, kind: str) -> Record:
        """Leave a tombstone in the place of the newest revision, and return that.

        Of who signs in, or starts over, it may be one that was not read. What is only renewed must not take along who
        was signed out in it.

        :raises SessionConflict: if it was lost too often.
        """
        may_take_any, lost = session._changes.cleared or session._signs_in(), SessionConflict()
        for losses in range(2 * _MAX_LOSSES):
            replaces = None if may_take_any and losses >= _MAX_LOSSES else newest.revision
            try:
                self.store.renew(
                    self._known_key(), saved, self.policy.idle(saved),
                    replaces=replaces, kind=kind, to=key, owner=newest.owner,
                )  # fmt: skip
                return newest
            except SessionConflict as conflict:
                lost, newest = conflict, self._mergeable(session, _record_of(conflict))
        raise lost

    def _kind_of_move(self, session: Session) -> str:
        """Which kind of tombstone is left under the old key."""
        before, after = session._loaded_owner, session._owner
        if before is not None and after != before:
            return "replaced"
        return "signed in" if before is None and session._signs_in() else "renewed"

    def _moved(self, session: Session, key: SessionKey, record: Record, losses: int) -> Outcome:
        old, signs_in = _handle(self._known_key()), session._signs_in()
        self._signed_in = signs_in and record.owner is not None
        reason = "signed in" if signs_in else "cleared" if session._changes.cleared else "renewed"
        self._announce(signals.session_renewed, key, previous=old, reason=reason)
        if losses:
            self._news.append((signals.session_merged, {"handle": old, "attempts": losses + 1}))
        return self._stored(session, key, record)

    # -- writes under the same key: they merge ----------------------------------------------------------------------

    def _merge(self, session: Session, base: Record) -> Outcome:
        """Write, and where another request wrote first, apply the changes to its record and write again."""
        key, newest, state = self._known_key(), base, session._state
        attempts: list[bytes] = []
        contest = _Contest(self.policy.conflict_timeout, key)
        if _unlucky and key.handle in _unlucky:
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
        return self._mergeable(session, newest)

    def _mergeable(self, session: Session, newest: Record) -> Record:
        """``newest``, if what one user did is not written into the session of another, or of nobody.

        :raises SessionGone: if somebody was signed in when this request loaded the session, and is not any more. (Where
            no cookie can be sent, and by removing a login key, that is done under the same key.)
        """
        if not session._changes.cleared and not signins.is_same(self.rules, session._before, newest.state):
            raise SessionGone("who was signed in was signed out under the same key", kind="ended")
        return newest

    def wait(self, seconds: float) -> None:
        """Stand back for others who write the same session; to be overridden where waiting makes no sense."""
        time.sleep(seconds)

    def _attempt(self, session: Session, newest: Record, state: dict[str, bytes], attempts: list[bytes]) -> Outcome:
        """One try: which of the store's verbs these changes come to, against ``newest``."""
        key = self._known_key()
        record = self._record(session, state, newest) if state else None
        if record is None:
            was_somebody = signins.is_somebody(self.rules, session._before)
            emptied = not state and not was_somebody
            self.store.delete(key, replaces=newest.revision, emptied=emptied, owner=newest.owner)
            return self._ended(session, "expired" if state else "signed out" if was_somebody else "emptied")
        ttl = self.policy.idle(record)
        if _differs(record, newest):
            attempts.append(record.revision)
            key = self._update(key, record, ttl, newest)
        else:
            key, record = self.store.update_ttl(key, self.policy.idle(newest))
            self._file_anew(key, record)
        return self._stored(session, key, record)

    def _update(self, key: SessionKey, record: Record, ttl: timedelta, newest: Record) -> SessionKey:
        """Write under the same key. It has another owner where SESSION_OWNER_KEY was changed, and where a sign-out can
        send no cookie.
        """
        if record.owner == newest.owner or not isinstance(self.store, OwnerIndex):
            key = self.store.update(key, record, ttl, replaces=newest.revision)
            if record.extended_ms - newest.extended_ms >= _FILED_FOR:
                self._file_anew(key, record)
            return key
        if record.owner is not None:
            self.store.file(record.owner, key.handle)
        key = self.store.update(key, record, ttl, replaces=newest.revision)
        if newest.owner is not None:
            with contextlib.suppress(StoreUnavailable):  # what is left of it in the list is pruned later
                self.store.unfile(newest.owner, key.handle)
        return key

    def _file_anew(self, key: SessionKey, record: Record) -> None:
        """A session was extended: if its entry in the owner's list was lost, it comes back."""
        if record.owner is not None and isinstance(self.store, OwnerIndex):
            with contextlib.suppress(StoreUnavailable):  # the next extension files it
                self.store.file(record.owner, key.handle)

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
            self._fate = _fate_of(gone)
            return self._drop(session)
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
        self._check_size(state, {} if base is None else base.state)
        changes, now_ms = session._changes, self._now_ms()
        kept = None if base is None or changes.cleared else base
        owner = signins.owner_in(self.rules, state)
        before = session._loaded_owner if session._minded else owner
        permanent, lifetime, deadline = self._metadata(changes.metadata, kept, before not in (None, owner))
        if kept is not None and owner == before and not session._signs_in():
            created_ms, client = kept.created_ms, kept.client
        else:
            created_ms, client = now_ms, self._client()
        end_ms = self.policy.end_ms(deadline, created_ms)
        if 0 < end_ms <= now_ms:
            return None
        idle_ms = to_ms(self.policy.idle_of(permanent, lifetime))
        return Record(
            state=state,
            revisions=(new_revision(), *(() if fresh or base is None else base.revisions[:3])),
            owner=owner,
            permanent=permanent,
            lifetime=lifetime,
            deadline=deadline,
            client=client,
            created_ms=created_ms,
            extended_ms=now_ms,
            expires_ms=min(now_ms + idle_ms, end_ms) if end_ms else now_ms + idle_ms,
            idle_ms=idle_ms,
            end_ms=end_ms,
        )

    def _client(self) -> str | None:
        return self.presented.client() if self.policy.record_client else None

    def _metadata(
        self, assigned: t.Mapping[str, t.Any], kept: Record | None, is_anothers: bool
    ) -> tuple[t.Any, t.Any, t.Any]:
        """``permanent``, ``lifetime`` and ``deadline``: as assigned, as they were, or as in a new session.

        :param is_anothers: whether ``kept`` belonged to another owner.
        """
        if kept is None:
            before: tuple[t.Any, t.Any, t.Any] = (self.rules.permanent, None, None)
        elif is_anothers:
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

    def _check_size(self, state: t.Mapping[str, bytes], before: t.Mapping[str, bytes]) -> None:
        """The limit is one of growth: what is over it already may be made smaller, and ended."""
        size = _size_of(state)
        if size > self.policy.max_size and size > _size_of(before):
            largest = largest_keys(state)
            raise SessionTooLarge(
                f"the session is {size} bytes, over SESSION_MAX_SIZE ({self.policy.max_size}); its largest keys are"
                f" {', '.join(map(repr, largest))}",
                size=size,
                limit=self.policy.max_size,
                largest=largest,
            )

    def _stored(self, session: Session, key: SessionKey, record: Record) -> Outcome:
        self._key, self._base, self._fate, self._met = key, record, None, None
        session._settle(record)
        return Outcome(Cookie.SET, key, record)

    def _moves(self, session: Session) -> bool:
        """Whether what this request did goes on under another key."""
        changes = session._changes
        return changes.renewed or changes.cleared or session._step() is not signins.Step.NOTHING

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
        if signal.receivers:
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

    __slots__ = ("_began", "_key", "_timeout", "_waited", "losses")

    def __init__(self, timeout: timedelta, key: SessionKey) -> None:
        self.losses = 0
        self._key, self._timeout = key, timeout
        self._began = self._waited = 0.0

    def lose(self) -> float | None:
        """Note a loss. In seconds, how long to wait: not at all after the first; None if the time is up."""
        self.losses += 1
        if self.losses == 1:
            self._began = time.monotonic()
            return 0.0
        # What was waited counts by itself, for a test may have stopped the clock.
        if max(time.monotonic() - self._began, self._waited) >= self._timeout.total_seconds():
            return None
        if self.losses > _MANY_LOSSES:
            _unlucky.add(self._key.handle)
        pause = random.uniform(0.5, 1) * _FIRST_PAUSE * (1 << min(self.losses - 2, _DOUBLINGS))
        self._waited += pause
        return pause

    def leave(self) -> None:
        """It is over, won or lost."""
        if self.losses > _MANY_LOSSES:
            _unlucky.discard(self._key.handle)


def _differs(record: Record, newest: Record) -> bool:
    """Whether there is anything to write."""
    return (
        record.state != newest.state
        or record.permanent is not newest.permanent
        or record.lifetime != newest.lifetime
        or record.deadline != newest.deadline
        or record.owner != newest.owner
    )


def _size_of(state: t.Mapping[str, bytes]) -> int:
    keys = "".join(state)
    return sum(map(len, state.values())) + (len(keys) if keys.isascii() else len(keys.encode()))


def _fate_of(gone: SessionGone) -> Fate:
    return Fate.UNKNOWN if gone.kind is None else Fate(gone.kind)


def _record_of(conflict: SessionConflict) -> Record:
    """What another request wrote.

    :raises SessionConflict: if the store does not tell.
    """
    if conflict.record is None:
        raise conflict
    return conflict.record


def _handle(key: SessionKey | None) -> str | None:
    """None also for the key of a store that keeps nothing under handles."""
    return getattr(key, "handle", None)


def _short(key: SessionKey | None) -> str:
    handle = _handle(key)
    return handle[:8] if handle else "without a handle"
