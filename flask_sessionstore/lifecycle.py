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

import logging
import threading
import time
import typing as t
from datetime import timedelta

import msgspec
from blinker import NamedSignal

from . import contests, owners, signals, signins
from .changes import State
from .draft import Draft
from .errors import Barred, SessionCorrupt, SessionError, SessionGone, StoreError, StoreUnavailable
from .finding import Finder, Found
from .key import SessionKey, handle_of, short
from .policy import Policy, is_persistent
from .record import Kind, Record, to_ms
from .stores.base import ServerSideStore, SessionStore
from .verdicts import Fate, Verdict, did_by, ends_successor, kind_of_move, on_lost, on_met
from .visitor import DELETE, KEEP, Outcome, Send, Visitor
from .writing import Writer

logger = logging.getLogger("flask_sessionstore")

_NO_COOKIE = "no cookie"  # why writes were dropped


class Lifecycle:
    """One request's session, from the token to the outcome.

    :param store: where sessions are kept.
    :param policy: the settings in force.
    :param visitor: whom the request is from.
    """

    # How every lifecycle begins. What stands here, and not in the constructor, costs a request nothing.

    #: Why writes were dropped; None if none were.
    dropped: str | None = None
    #: The latest decision about the cookie.
    outcome: Outcome = KEEP
    #: Whether somebody was signed out in this request, and something was left that goes on.
    signed_out = False

    _key: SessionKey | None = None
    # Why there is no record though the browser presented a key, and what the store said of it.
    _fate: Fate | None = None
    _met: SessionGone | None = None
    _failure: Exception | None = None
    _committed = False
    _extended = False
    # Whether the session was found by what the browser holds of one of another kind: it lacks our cookie.
    _came_as_old = False
    # Whether all that this commit does is to renew a session whose key was derived.
    _only_renews = False
    # Whether this commit was asked for by save(), whose caller is told what cannot be done.
    _demanded = False
    # Whether this commit has filed the session under an owner that it did not belong to.
    _signed_in = False
    # What is sent though the commit fails: it was proven before.
    _all_the_same: Outcome | None = None
    # What the browser holds of a session of another kind, which has to go when this one ends; whether that is known.
    _seed: t.Mapping[str, object] | None = None
    _asked = False

    def __init__(self, store: SessionStore, policy: Policy, visitor: Visitor) -> None:
        self.store = store
        self.policy = policy
        self.visitor = visitor
        #: What this request has of its session, and what it did to it.
        self.draft = Draft(policy, visitor.has_body)
        #: Held by whoever looks at the draft.
        self.lock = threading.RLock()
        self._born = store.now()
        # What has happened and is not announced yet.
        self._news: list[tuple[NamedSignal, dict[str, t.Any]]] = []

    # -- what a session asks ---------------------------------------------------------------------------------------

    def load(self) -> None:
        """Start the draft from what was presented. A failure is remembered: the store is asked once."""
        self.draft.accessed = True
        if self._failure is not None:
            raise self._failure
        try:
            record = self._find()
            self.draft.start(record, self._new_seed() if record is None else None)
        finally:
            self._tell()

    def known_permanent(self) -> bool | None:
        """``permanent`` as the token has it, or the data to start a new session with; None without either."""
        tokens = self.visitor.tokens()
        if len(tokens) == 1:
            return tokens[0].permanent
        if not tokens and self.visitor.old():
            self.load()  # it is in no token
            return self.draft.permanent
        seed = None if tokens else self._new_seed()
        return bool(seed["_permanent"]) if seed and "_permanent" in seed else None

    def _new_seed(self) -> t.Mapping[str, object] | None:
        """Data to start a new session with, if the browser presented no token of this package. Asked for once."""
        if self._key is not None or self._fate is not None:
            return None
        try:
            if not self._asked:
                self._seed = self.visitor.seed()
        except Exception as error:
            self.fail(error)
            raise
        self._asked = True
        return self._seed

    def handle(self) -> str | None:
        """The handle under which the session is stored; None until it is, and for a store that keeps none."""
        return None if self.draft.base is None else handle_of(self._key)

    def save(self) -> None:
        """Commit now. An earlier failure does not keep it from trying, nor this one the end of the request.

        But a store that is down is not asked again then.
        """
        self._failure = None
        self._demanded = True
        try:
            self.commit()
        except StoreUnavailable:
            raise
        except Exception:
            self._failure = None
            raise
        finally:
            self._demanded = False

    def reload(self) -> None:
        """Read again, under the key as it is now, and start the draft anew."""
        self._failure = None
        try:
            if self._key is not None:
                record = self._look_again(self._key)
            else:  # and what is known to be gone is not looked for again
                record = self._find() if self._fate is None else None
            self.draft.restart(record)
        finally:
            self._tell()

    # -- what is asked of a session from elsewhere -----------------------------------------------------------------

    @property
    def absence(self) -> Kind | None:
        """How the session went that was looked for; None if nothing is known of it."""
        return None if self._met is None else self._met.kind

    def unsaved(self) -> tuple[bool, bool]:
        """Whether something was changed since the last commit, and whether the session was ended for good."""
        with self.lock:
            return self.draft.is_unsaved(), self.draft.purged

    def leave(self, *, by_itself: bool) -> None:
        """The session of this request was ended by its handle: go on as a new one.

        :param by_itself: whether this request has ended it; if not, another may have set another cookie.
        """
        with self.lock:
            self._key = self._met = None
            self._fate = Fate.LEFT if by_itself else Fate.REVOKED
            self.outcome, self._committed = KEEP, False
            self.draft.start_over()

    # -- loading ---------------------------------------------------------------------------------------------------

    def _find(self) -> Record | None:
        return self._adopt(self._finder.find)

    def _look_again(self, key: SessionKey) -> Record | None:
        record = self._adopt(lambda: self._finder.look(key))
        if record is None:
            self.outcome = KEEP  # whatever was to be sent: it is dead
        return record

    def _adopt(self, find: t.Callable[[], Found]) -> Record | None:
        try:
            found = find()
        except StoreUnavailable as error:
            self.fail(error)
            raise
        self._key, self._fate, self._met = found.key, found.fate, found.gone
        self._came_as_old |= found.by_credential
        return found.record

    @property
    def _finder(self) -> Finder:
        return Finder(self.store, self.policy, self.visitor, self._note, self._born)

    # -- committing ------------------------------------------------------------------------------------------------

    def commit(self) -> Outcome:
        """Store what the session changed, and decide about the cookie.

        Called again, it stores nothing twice and decides the same; after a failure it leaves the store alone.

        :raises StoreError: if the store cannot do it; :attr:`outcome` holds what must be sent all the same.
        :raises SessionInsertError: if a kept value was changed into one that cannot be kept.
        :raises SessionTooLarge: if the state is over the limit.
        """
        with self.lock:
            if self._failure is not None and not self._purge_is_due():
                return self.outcome
            try:
                self.outcome = self._commit()
                if self._signed_in:
                    self.outcome = self._keep_to_limit(self.outcome)
                if self.signed_out or self.outcome is DELETE:
                    self._end_old()
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
        if self.outcome is not DELETE:
            self.outcome = KEEP
        if isinstance(error, StoreUnavailable):
            logger.error("%s", error, exc_info=error.__cause__)
            self._news.append((signals.store_failed, {"error": error}))
            self._tell()

    def _commit(self) -> Outcome:
        draft = self.draft
        if draft.purged:
            return self._purge()
        if draft.loaded:
            draft.notice()
        dirty = draft.dirty
        if self._committed and not dirty and self.outcome is not KEEP:
            return self.outcome
        if not draft.loaded:
            if not dirty:
                return self._extend_unseen()
            self.load()  # metadata alone was assigned
        if draft.base is None:
            return self._commit_new()
        if self._is_open_to_others(draft.base) and (dirty or self.visitor.may_extend()):
            self._only_renews, draft.changes.renewed = not dirty, True
        if dirty or self._only_renews:
            return self._commit_changes(draft.base)
        return self._extend_seen(draft.base)

    def _is_open_to_others(self, base: Record) -> bool:
        """Whether it is sealed under a key that whoever reads the old store can derive, and can be renewed now."""
        sealed = base.derived and getattr(self.store, "seal", False)
        return sealed and not self._came_as_old and self.visitor.no_cookie() is None

    # -- nothing changed -------------------------------------------------------------------------------------------

    def _extend_unseen(self) -> Outcome:
        """A request that did not touch its session costs nothing, unless a permanent one is due, or its cookie is."""
        if self._extended:
            return KEEP
        is_due = self.policy.refresh and self._claims_to_be_due()
        if not (is_due or self.visitor.reads_former()):
            return KEEP
        tokens = self.visitor.tokens()
        if len(tokens) != 1 or not (is_due or self._is_former(tokens[0].key)):
            return KEEP
        return self._extend(tokens[0].key, None)

    def _claims_to_be_due(self) -> bool:
        """Whether the cookie says that its session is permanent, and due. It is not verified."""
        claims = self.visitor.claims()
        if len(claims) != 1 or not claims[0].lifetime:
            return False
        return self._is_due(claims[0].issued * 1000, claims[0].lifetime * 1000)

    def _extend_seen(self, base: Record) -> Outcome:
        if self._extended:
            return KEEP
        key, idle = self._known_key(), self.policy.idle(base)
        if self._came_as_old:  # the browser lacks our cookie, and an extension proves that the session is there
            return self._extend(key, idle) if self._may_extend() else KEEP
        is_due = self.policy.refresh and self._is_due(base.extended_ms, to_ms(idle))
        return self._extend(key, idle) if is_due or self._is_former(key) else KEEP

    def _is_due(self, extended_ms: int, lifetime_ms: int) -> bool:
        if self._now_ms() - extended_ms < self.policy.interval_ms(lifetime_ms):
            return False
        return self._may_extend()

    def _is_former(self, key: SessionKey) -> bool:
        """Whether the cookie with this key was made under a former secret, and the response can replace it."""
        if self._demanded or not self.visitor.reads_former():
            return False
        is_former = any(token.former and token.key is key for token in self.visitor.tokens())
        return is_former and self.visitor.may_extend()

    def _may_extend(self) -> bool:
        return self._demanded or self.visitor.may_extend()

    def _extend(self, key: SessionKey, ttl: timedelta | None) -> Outcome:
        """A mere extension, tried once: where it fails, the response is served without it."""
        self._extended = True
        try:
            sent, record = self._writer.extend(key, ttl)
        except StoreError as error:
            if not isinstance(error, SessionGone):
                logger.warning("session %s was not extended: %s", short(key), error)
            return KEEP
        base = self.draft.base
        if base is not None:  # with its later end; not what another has written meanwhile, which was not read
            self.draft.base = msgspec.structs.replace(
                base, extended_ms=record.extended_ms, expires_ms=record.expires_ms
            )
        # A browser-session cookie has no end that would move; but a cookie that is the session itself is another now.
        tells_something = is_persistent(record) or sent is not key or self._came_as_old or self._is_former(key)
        return Send(sent, record) if tells_something else KEEP

    # -- the end of a session ---------------------------------------------------------------------------------------

    def _end_old(self) -> None:
        """An end is one against what the browser holds of other kinds of sessions, too: nothing of it is imported."""
        self._all_the_same = self.outcome  # should it fail: the session has ended
        self._finder.remember_old()
        self._all_the_same = None

    def _purge_is_due(self) -> bool:
        """A purge is tried once, even where the store failed before: a log-out must not be half done unnoticed."""
        return self.draft.purged and self.outcome is not DELETE

    def _purge(self) -> Outcome:
        if self.outcome is DELETE:
            return self.outcome
        key = self._key or self._only_key()
        if key is None:
            gone = self._fate in (Fate.LEFT, Fate.AMBIGUOUS)
            return DELETE if gone or self._seed is not None or self._new_seed() is not None else KEEP
        if not handle_of(key):
            self._need_cookie()  # the session is in the cookie, and nowhere else
        self.outcome = DELETE  # even when the store fails
        self.store.delete(key)
        if self._fate in (None, Fate.RENEWED, Fate.CORRUPT):  # else it was seen to be gone
            self._announce(signals.session_ended, key, how="purged")
        self._forget()
        return DELETE

    def _only_key(self) -> SessionKey | None:
        """The key presented, for a session that was not loaded; where there are several, the one that is alive."""
        if self._fate is None:
            tokens, old = self.visitor.tokens(), self.visitor.old()
            if len(tokens) == 1 and not old:
                return tokens[0].key
            self._find()  # what could be imported yet is, so that the end holds
        return self._key

    def _forget(self) -> None:
        self._key = self._fate = self._met = None

    def _ended(self, how: str) -> Outcome:
        self._announce(signals.session_ended, self._key, how=how)
        return self._forgotten()

    def _forgotten(self) -> Outcome:
        self._forget()
        self.draft.settle(None)
        return DELETE

    # -- a session that is not there --------------------------------------------------------------------------------

    def _commit_new(self) -> Outcome:
        """There was no record: none presented, or not any more."""
        fate, draft = self._fate, self.draft
        if draft.state and draft.moves:
            self._need_cookie()
        if fate is None and draft.state:
            return self._save(draft.state, None)
        did = did_by(draft, fate, self._met, self._born, has_body=self.visitor.has_body())
        if ends_successor(fate, did) or (fate is Fate.CORRUPT and did.clears):
            # What this browser was signed in to goes on under the successor, or where the record can be read.
            self._end_met("cleared")
        verdict = on_met(fate, did)
        if verdict is Verdict.NOTHING and fate is None:
            return DELETE if self._seed is not None else KEEP
        return self._obey(verdict, None)

    def _commit_gone(self, base: Record, gone: SessionGone) -> Outcome:
        """The session this request had loaded went meanwhile."""
        self._fate, self._met = Fate.of(gone), gone
        if self._only_renews:
            return self._gone()
        if isinstance(gone, Barred):  # all sessions of the owner were ended while this one was made
            return self._drop()
        did = did_by(self.draft, self._fate, gone, self._born, has_body=self.visitor.has_body())
        if ends_successor(self._fate, did):
            self._end_met("cleared" if did.clears else "signed out")
        return self._obey(on_lost(self._fate, did), base)

    def _obey(self, verdict: Verdict, base: Record | None) -> Outcome:
        changes = self.draft.changes
        match verdict:
            case Verdict.NOTHING:
                return self._gone()
            case Verdict.FORGET:
                return self._forgotten()
            case Verdict.DROP:
                return self._drop()
            case Verdict.SAVE:
                return self._save(self.draft.state, None)
            case Verdict.SAVE_OWN:
                return self._save(changes.own(), None)
            case Verdict.SAVE_CARRIED:
                return self._save(changes.apply({} if base is None else base.state), base)
            case Verdict.SAVE_BESIDE:
                return self._save_beside(t.cast("Record", base))

    def _save(self, state: State, base: Record | None) -> Outcome:
        """Store ``state`` under a new key. ``base`` lends what this request did not assign itself, or is None."""
        writer = self._writer
        record = writer.record(state, base, fresh=True) if state else None
        if record is None or self._lacks_cookie():
            return self._gone()
        try:
            key = writer.save(record)
        except SessionGone as gone:
            self._fate = Fate.of(gone)
            return self._drop()
        self._announce(signals.session_created, key)
        self._signed_in = record.owner is not None
        return self._stored(key, record)

    def _save_beside(self, base: Record) -> Outcome:
        """Two requests of a browser renewed at once: two sessions of the same user, if none has ended meanwhile."""
        store, old, writer = t.cast("ServerSideStore", self.store), self._known_key().handle, self._writer
        record = writer.record(self.draft.changes.apply(base.state), base, fresh=True)
        if record is None or not self._goes_on_as(base, store.renewed_to(old)):
            return self._drop()
        try:
            key = writer.save(record)
        except SessionGone as gone:
            self._fate = Fate.of(gone)
            return self._drop()
        if not self._goes_on_as(base, store.renewed_to(old)):  # ended while this one was made, which ends too
            store.end_found(key.handle, kind="ended")
            return self._drop()
        self._announce(signals.session_renewed, key, previous=old, reason="renewed")
        self._signed_in = record.owner is not None
        return self._stored(key, record)

    def _goes_on_as(self, base: Record, newest: Record | None) -> bool:
        """Whether it is alive, and nobody was signed out there under the same key."""
        if newest is None:
            return False
        if newest.sealed:  # whose it is can be read, but not who else is signed in
            is_owned = base.owner is not None or not self.draft.was_somebody
            return is_owned and newest.owner == base.owner
        return signins.is_signed_in_still(self.policy, self.draft.before, newest.state)

    def _drop(self) -> Outcome:
        reason = "unknown" if self._fate in (None, Fate.LATE) else t.cast("Fate", self._fate).value
        self.dropped = reason
        logger.warning("session %s: writes were dropped, the session is gone (%s)", short(self._key), reason)
        self._announce(signals.session_write_dropped, self._key, reason=reason)
        return self._gone()

    def _gone(self) -> Outcome:
        # A key that had loaded and is unknown now is dead; but another response may have set another cookie already.
        self.draft.settle(None)
        return KEEP

    def _end_met(self, how: str) -> None:
        """End what the session that was met goes on as, or what cannot be read."""
        if isinstance(self.store, ServerSideStore):
            ended = self.store.end_found(self._known_key().handle, kind="ended")
            if ended is not None:
                self._news.append((signals.session_ended, {"handle": ended, "how": how}))

    # -- changes to a known session ---------------------------------------------------------------------------------

    def _commit_changes(self, base: Record) -> Outcome:
        draft, key, moves = self.draft, self._known_key(), self.draft.moves
        in_cookie, cleared = handle_of(key) is None, draft.changes.cleared
        if (moves and draft.state) or (in_cookie and (cleared or draft.changes_owner)):
            self._need_cookie()
        if in_cookie and draft.changes and self._lacks_cookie():
            draft.settle(base)
            return KEEP
        try:
            if cleared and not draft.state:
                contests.end(self.store, key, base)
                return self._ended("cleared")
            if draft.signs_out and self.visitor.no_cookie() is None:
                return self._sign_out(key, base)
            return self._move(key, base) if moves else self._merge(key, base)
        except SessionGone as gone:
            return self._commit_gone(base, gone)
        except SessionCorrupt as error:
            self._announce(signals.session_corrupt, key, newer=bool(error.newer))
            return self._commit_gone(base, SessionGone())

    def _sign_out(self, old: SessionKey, base: Record) -> Outcome:
        """End the session, and keep what is left of it under a new key, without an owner."""
        newest, writer = contests.end(self.store, old, base), self._writer
        state = self.draft.changes.apply(newest.state)
        try:
            record = writer.record(state, newest, fresh=True) if state else None
            if record is None:
                return self._ended("signed out")
            key = writer.save(record)
        except Exception:  # what is left cannot be kept; but the log-out has happened
            self._announce(signals.session_ended, old, how="signed out")
            self._key, self._fate, self._all_the_same = None, Fate.LEFT, DELETE
            self.draft.base = None
            raise
        self._announce(signals.session_renewed, key, previous=handle_of(old), reason="signed out")
        self.signed_out = True
        return self._stored(key, record)

    def _move(self, old: SessionKey, base: Record) -> Outcome:
        """Sign in, renew, or start over with something: whoever else writes to the session."""
        moved = contests.move(self._writer, old, base, kind_of_move(self.draft), kept=self._prove)
        self._all_the_same = None
        if isinstance(moved, contests.Ended):
            return self._ended(moved.how)
        signs_in = self.draft.signs_in
        self._signed_in = signs_in and moved.record.owner is not None
        reason = "signed in" if signs_in else "cleared" if self.draft.changes.cleared else "renewed"
        self._announce(signals.session_renewed, moved.key, previous=handle_of(old), reason=reason)
        if moved.losses:
            self._announce(signals.session_merged, old, attempts=moved.losses + 1)
        return self._stored(moved.key, moved.record)

    def _prove(self, key: SessionKey, record: Record) -> None:
        """The old key is dead, and the session goes on under this one, whatever becomes of the rest of the commit."""
        self._all_the_same = Send(key, record)

    def _merge(self, key: SessionKey, base: Record) -> Outcome:
        """Write under the same key, merged with what other requests wrote first."""
        merged = contests.merge(self._writer, key, base, self.wait)
        if isinstance(merged, contests.Ended):
            outcome = self._ended(merged.how)
        else:
            outcome = self._stored(merged.key, merged.record)
        if merged.losses:
            self._announce(signals.session_merged, key, attempts=merged.losses + 1)
        return outcome

    def wait(self, seconds: float) -> None:
        """Stand back for others who write the same session; to be overridden where waiting makes no sense."""
        time.sleep(seconds)

    # -- signing in -------------------------------------------------------------------------------------------------

    def _keep_to_limit(self, outcome: Outcome) -> Outcome:
        """End what an owner has too many of, now that there is one more."""
        self._signed_in = False
        most = self.policy.max_per_owner
        if most is None or not isinstance(outcome, Send):
            return outcome
        key, record = outcome.key, outcome.record
        try:
            record = owners.keep_to(self.store, most, key, record, self.policy.idle(record), self._displaced)
        except SessionGone as gone:
            self._fate = Fate.of(gone)
            return self._drop()
        except StoreUnavailable as error:  # who has signed in is signed in, and the next one will count again
            logger.warning("the sessions of an owner could not be counted: %s", error)
            return outcome
        return self._stored(key, record)

    def _displaced(self, handle: str) -> None:
        self._news.append((signals.session_ended, {"handle": handle, "how": "displaced"}))

    # -- shared -----------------------------------------------------------------------------------------------------

    @property
    def _writer(self) -> Writer:
        return Writer(self.store, self.policy, self.draft, self.visitor.client)

    def _stored(self, key: SessionKey, record: Record) -> Outcome:
        self._key, self._fate, self._met = key, None, None
        self.draft.settle(record)
        return Send(key, record)

    def _need_cookie(self) -> None:
        reason = self.visitor.no_cookie()
        if reason is not None:
            raise SessionError(f"{reason}: the session cannot be kept under a key that the browser lacks")

    def _lacks_cookie(self) -> bool:
        """Whether what was written is dropped, since it needs a cookie and none can be sent; warns once.

        :raises SessionError: if it was to be saved now.
        """
        reason = self.visitor.no_cookie()
        if reason is None:
            return False
        if self._demanded:
            self._need_cookie()
        if self.dropped != _NO_COOKIE:
            self.dropped = _NO_COOKIE
            logger.warning("session %s: writes that need a new cookie were dropped: %s", short(self._key), reason)
            self._announce(signals.session_write_dropped, self._key, reason=_NO_COOKIE)
        return True

    def _known_key(self) -> SessionKey:
        assert self._key is not None
        return self._key

    def _announce(self, signal: NamedSignal, key: SessionKey | None, **arguments: t.Any) -> None:
        self._note(signal, handle_of(key), **arguments)

    def _note(self, signal: NamedSignal, handle: str | None, **arguments: t.Any) -> None:
        if signal.receivers:
            self._news.append((signal, {"handle": handle, **arguments}))

    def _tell(self) -> None:
        """Send what has happened, now that all is settled: a receiver may look at the session, and save it even."""
        if not self._news:
            return
        news, self._news = self._news, []
        for signal, arguments in news:
            self.visitor.announce(signal, **arguments)

    def _now_ms(self) -> int:
        return int(self.store.now() * 1000)
