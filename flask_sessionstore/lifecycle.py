"""The life of one request's session in one store: load, commit, end. No Flask, no HTTP.

A commit returns its outcome as a value: what to do with the cookie, and the key and record for a new cookie. The rules,
in short:

* Changes are stored only after a load of the same key, and a write never creates a record that is missing: an ended
  session stays ended.
* A write that lost against another is merged with it: this request's changes are applied to the newest record.
* If the session went after the request had loaded it, a sign-in is stored anyway, and other writes are dropped.
  :mod:`.verdicts` has the exact rules.
* An end never waits, and never fails because others write. A move to a new key never waits either.
* If a cookie cannot be sent, the session keeps its key: a sign-in is refused, a sign-out is stored under the same key,
  and a new session is dropped.
* The cookie is set only if the last call to the store found its key alive. It is deleted only if its session has ended
  or cannot be used, or after a purge, even if the store failed.
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
from .finding import Finder
from .key import SessionKey, handle_of, short
from .policy import Policy, is_persistent
from .record import Kind, Record, to_ms
from .stores.base import ServerSideStore, SessionStore
from .stores.contact import urgently
from .verdicts import Fate, Verdict, did_by, ends_successor, kind_of_move, on_lost, on_met
from .visitor import DELETE, KEEP, Outcome, Send, Visitor
from .writing import Writer

logger = logging.getLogger("flask_sessionstore")

_NO_COOKIE = "no cookie"  # a reason for dropped writes


class Lifecycle:
    """One request's session, from the token to the outcome.

    :param store: keeps the sessions.
    :param policy: the settings in force.
    :param visitor: the sender of the request.
    """

    __slots__ = (
        "__weakref__",
        "_began",
        "_committed",
        "_extended",
        "_failure",
        "_fate",
        "_gone_error",
        "_has_asked_for_seed",
        "_is_saving",
        "_key",
        "_lacks_our_cookie",
        "_only_renews",
        "_outcome_if_it_fails",
        "_seed",
        "_signed_in",
        "_unsent",
        "draft",
        "dropped",
        "lock",
        "made_session",
        "outcome",
        "policy",
        "signed_out",
        "store",
        "visitor",
    )

    #: This request's working copy of the session.
    draft: Draft
    #: To be held while the draft is read or changed.
    lock: threading.RLock
    #: Why writes were dropped; None if all were stored.
    dropped: str | None
    #: The latest decision about the cookie.
    outcome: Outcome
    #: Whether this request made a new session.
    made_session: bool
    #: Whether this request signed somebody out, and the rest of the session goes on under a new key.
    signed_out: bool

    _key: SessionKey | None
    # Why the session has no record though the browser presented its key, and the store's exception that says so.
    _fate: Fate | None
    _gone_error: SessionGone | None
    _failure: Exception | None
    _committed: bool
    _extended: bool
    # Whether the session was found by the credential of a session of another kind: the browser lacks our cookie.
    _lacks_our_cookie: bool
    # Whether this commit only renews the session, because its key was derived from such a credential.
    _only_renews: bool
    # Whether save() asked for this commit. Its caller gets an exception where the end of a request only warns.
    _is_saving: bool
    # Whether this commit has filed the session under an owner to whom it did not belong before.
    _signed_in: bool
    # The outcome if the commit fails after this point: the store has confirmed it already.
    _outcome_if_it_fails: Outcome | None
    # The data that another session interface kept for this browser; None: no such data. The browser's cookie with that
    # data has to go when this session ends.
    _seed: t.Mapping[str, object] | None
    # Whether the visitor was asked for that data.
    _has_asked_for_seed: bool
    # Signals that are not sent yet.
    _unsent: list[tuple[NamedSignal, dict[str, t.Any]]]

    def __init__(self, store: SessionStore, policy: Policy, visitor: Visitor) -> None:
        self.store = store
        self.policy = policy
        self.visitor = visitor
        self.draft = Draft(policy, visitor.has_body)
        self.lock = threading.RLock()
        self.outcome = KEEP
        self.dropped = None
        self.made_session = self.signed_out = False
        self._began = store.now()
        self._key = self._fate = self._gone_error = self._failure = self._outcome_if_it_fails = self._seed = None
        self._committed = self._extended = self._lacks_our_cookie = self._only_renews = self._is_saving = False
        self._signed_in = self._has_asked_for_seed = False
        self._unsent = []

    # -- what a session calls --------------------------------------------------------------------------------------

    def load(self) -> None:
        """Start the draft from the session that the browser presented.

        A failure is remembered and raised again, so that the store is asked only once.
        """
        self.draft.accessed = True
        if self._failure is not None:
            raise self._failure
        try:
            record = self._find()
            self.draft.start(record, self._new_seed() if record is None else None)
        finally:
            self._send_signals()

    def known_permanent(self) -> bool | None:
        """``permanent`` as the token has it, or as the data for a new session has it; None if there is neither."""
        tokens = self.visitor.tokens()
        if len(tokens) == 1:
            return tokens[0].permanent
        if not tokens and self.visitor.old():
            self.load()  # the credential of a session of another kind does not say it
            return self.draft.permanent
        seed = None if tokens else self._new_seed()
        return bool(seed["_permanent"]) if seed and "_permanent" in seed else None

    def _new_seed(self) -> t.Mapping[str, object] | None:
        """The data with which a new session starts, if the browser did not present a session. Asked for only once."""
        if self._key is not None or self._fate is not None:
            return None
        try:
            if not self._has_asked_for_seed:
                self._seed = self.visitor.seed()
        except Exception as error:
            self.fail(error)
            raise
        self._has_asked_for_seed = True
        return self._seed

    def handle(self) -> str | None:
        """The handle under which the session is stored; None if it is not stored yet, or the store has no handles."""
        return None if self.draft.base is None else handle_of(self._key)

    def is_store_troubled(self) -> bool:
        """Whether the store's engine failed when it was last asked."""
        contact = self.store.contact
        return contact is not None and contact.is_troubled

    def save(self) -> None:
        """Commit now, even after an earlier failure.

        If this commit fails, the end of the request commits again, except after StoreUnavailable: a store that is down
        is not asked again.
        """
        self._failure = None
        self._is_saving = True
        try:
            self.commit()
        except StoreUnavailable:
            raise
        except Exception:
            self._failure = None
            raise
        finally:
            self._is_saving = False

    def reload(self) -> None:
        """Load the session again, under its present key, and start the draft anew."""
        self._failure = None
        try:
            if self._key is not None:
                record = self._look_again(self._key)
            else:  # a fate without a key: the session is known to be gone, and is not looked for again
                record = self._find() if self._fate is None else None
            self.draft.restart(record)
        finally:
            self._send_signals()

    # -- what the manager and the interface call -------------------------------------------------------------------

    @property
    def absence(self) -> Kind | None:
        """How the session went; None if it is there, or the store has no trace of it."""
        return None if self._gone_error is None else self._gone_error.kind

    def unsaved(self) -> tuple[bool, bool]:
        """Whether something was changed since the last commit, and whether the session was purged."""
        with self.lock:
            return self.draft.is_unsaved(), self.draft.purged

    def leave(self, *, by_itself: bool) -> None:
        """Go on as a new session: this request's session was ended by its handle.

        :param by_itself: whether this request has ended it. If another request has, that request may have set another
            cookie, so the cookie is not deleted.
        """
        with self.lock:
            self._key = self._gone_error = None
            self._fate = Fate.LEFT if by_itself else Fate.REVOKED
            self.outcome, self._committed = KEEP, False
            self.draft.start_over()

    # -- loading ---------------------------------------------------------------------------------------------------

    def _find(self) -> Record | None:
        if not (self.visitor.tokens() or self.visitor.old()):
            return None  # a new visitor
        return self._adopt(None)

    def _look_again(self, key: SessionKey) -> Record | None:
        record = self._adopt(key)
        if record is None:
            self.outcome = KEEP  # the key of a cookie that was to be sent is dead
        return record

    def _adopt(self, key: SessionKey | None) -> Record | None:
        """Look under ``key``, or without it for everything that the browser presented; go on with what is found."""
        finder = self._finder()
        try:
            found = finder.find() if key is None else finder.look(key)
        except StoreUnavailable as error:
            self.fail(error)
            raise
        self._key, self._fate, self._gone_error = found.key, found.fate, found.gone
        self._lacks_our_cookie |= found.by_credential
        return found.record

    def _finder(self) -> Finder:
        return Finder(self.store, self.policy, self.visitor, self._queue_signal, self._began)

    # -- committing ------------------------------------------------------------------------------------------------

    def commit(self) -> Outcome:
        """Store what the request changed, and decide about the cookie.

        A second call stores nothing twice and decides the same. After a failure it does not ask the store again, except
        for a purge that is still to be tried.

        :raises StoreError: if the store cannot do it; :attr:`outcome` holds what must be sent nevertheless.
        :raises SessionInsertError: if a value was changed in place, and now cannot be kept.
        :raises SessionTooLarge: if the state is over the limit.
        """
        with self.lock:
            if self._failure is not None and not self._purge_is_due():
                return self.outcome
            try:
                self._only_renews, self._outcome_if_it_fails = False, None  # of an earlier commit
                self.outcome = self._commit()
                if self._signed_in:
                    self.outcome = self._keep_to_limit(self.outcome)
                if self.signed_out or self.outcome is DELETE:
                    with urgently():
                        self._end_old()
                self._committed = True
            except Exception as error:
                saved = self.outcome
                self.fail(error)
                if not isinstance(error, StoreError):
                    self.outcome = saved  # what save() stored is alive, and perhaps the browser has no other key to it
                if self._outcome_if_it_fails is not None:
                    self.outcome = self._outcome_if_it_fails
                raise
            finally:
                self._send_signals()
            return self.outcome

    def fail(self, error: Exception) -> None:
        """Remember a failure: this request stores nothing more, and sets no cookie. A decision to delete it stands."""
        if self._failure is error:
            return
        self._failure = error
        if self.outcome is not DELETE:
            self.outcome = KEEP
        if isinstance(error, StoreUnavailable):
            self.visitor.report(error)
            self._unsent.append((signals.store_failed, {"error": error}))
            self._send_signals()

    def _commit(self) -> Outcome:
        draft = self.draft
        if draft.purged:
            with urgently():
                return self._purge()
        if draft.loaded:
            draft.notice()
        dirty = draft.dirty
        if self._committed and not dirty and self.outcome is not KEEP:
            return self.outcome
        if not draft.loaded:
            if not dirty:
                return self._extend_unseen()
            self.load()  # only metadata was assigned, which does not load
        if draft.base is None:
            if not (draft.moves and self.is_store_troubled()):
                return self._commit_new()
            with urgently():  # a sign-in or an end: a pause does not refuse it
                return self._commit_new()
        if self._has_derivable_seal(draft.base) and (dirty or self._may_extend()):
            self._only_renews, draft.changes.renewed = not dirty, True
        if dirty or self._only_renews:
            return self._commit_changes(draft.base)
        return self._extend_seen(draft.base)

    def _has_derivable_seal(self, base: Record) -> bool:
        """Whether somebody who reads the old store can derive the key that seals the session, and it can be renewed.

        It can be renewed if the browser has our cookie already, and another cookie can be sent.
        """
        sealed = base.derived and getattr(self.store, "seal", False)
        return sealed and not self._lacks_our_cookie and self.visitor.no_cookie() is None

    # -- nothing changed -------------------------------------------------------------------------------------------

    def _extend_unseen(self) -> Outcome:
        """Extend a session that the request did not touch, if it is due or its cookie was made under a former secret.

        Otherwise an untouched session costs nothing. Only permanent sessions are ever due here.
        """
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
        """Whether the cookie says that its session is permanent and due. The cookie is not verified for that."""
        claims = self.visitor.claims()
        return len(claims) == 1 and self._is_due(claims[0].issued * 1000, claims[0].lifetime * 1000)

    def _extend_seen(self, base: Record) -> Outcome:
        if self._extended:
            return KEEP
        key, idle = self._known_key(), self.policy.idle(base)
        if self._lacks_our_cookie:  # it has to be sent, and an extension proves that the session is alive
            return self._extend(key, idle) if self._may_extend() else KEEP
        is_due = self.policy.refresh and self._is_due(base.extended_ms, to_ms(idle))
        return self._extend(key, idle) if is_due or self._is_former(key) else KEEP

    def _is_due(self, extended_ms: int, lifetime_ms: int) -> bool:
        return self._now_ms() - extended_ms >= self.policy.interval_ms(lifetime_ms) and self._may_extend()

    def _is_former(self, key: SessionKey) -> bool:
        """Whether the cookie with this key was made under a former secret, and the response can replace it."""
        if self._is_saving or not self.visitor.reads_former():
            return False
        is_former = any(token.former and token.key is key for token in self.visitor.tokens())
        return is_former and self.visitor.may_extend()

    def _may_extend(self) -> bool:
        return self._is_saving or self.visitor.may_extend()

    def _extend(self, key: SessionKey, ttl: timedelta | None) -> Outcome:
        """Extend the session and do nothing else. Tried once; if it fails, the response is sent without it."""
        self._extended = True
        try:
            sent, record = self._writer.extend(key, ttl)
        except StoreError as error:
            if self._is_saving and isinstance(error, StoreUnavailable):
                raise
            if isinstance(error, StoreUnavailable) and error.lost:
                self.visitor.report(error)
            elif not isinstance(error, SessionGone):
                logger.warning("session %s was not extended: %s", short(key), error)
            return KEEP
        base = self.draft.base
        if base is not None:  # take only the later times: a newer record of another request was not loaded here
            self.draft.base = msgspec.structs.replace(
                base, extended_ms=record.extended_ms, expires_ms=record.expires_ms
            )
        # A browser-session cookie has no expiry to move. But if the cookie is the session itself, its text has changed.
        tells_something = is_persistent(record) or sent is not key or self._lacks_our_cookie or self._is_former(key)
        return Send(sent, record) if tells_something else KEEP

    # -- the end of a session ---------------------------------------------------------------------------------------

    def _end_old(self) -> None:
        """Mark the sessions of other kinds that the browser presented: the end holds for them too, so that they are not
        imported.
        """
        self._outcome_if_it_fails = self.outcome  # even if marking them fails, the session has ended
        self._finder().remember_old()
        self._outcome_if_it_fails = None

    def _purge_is_due(self) -> bool:
        """Whether a purge is still to be tried. It is tried even if the store failed before, but only once.

        Otherwise a log-out could stay half done without anybody noticing.
        """
        return self.draft.purged and self.outcome is not DELETE

    def _purge(self) -> Outcome:
        if self.outcome is DELETE:
            return self.outcome
        try:
            key = self._key or self._only_key()
        except StoreUnavailable:
            self.outcome = DELETE  # even if the store cannot say which session is alive
            raise
        if key is None:
            gone = self._fate in (Fate.LEFT, Fate.AMBIGUOUS)
            return DELETE if gone or self._seed is not None or self._new_seed() is not None else KEEP
        if not handle_of(key):
            self._need_cookie()  # the session is only in the cookie
        self.outcome = DELETE  # even if the store fails
        self.store.delete(key)
        if self._fate in (None, Fate.RENEWED, Fate.CORRUPT):  # any other fate: it was gone before
            self._announce(signals.session_ended, key, how="purged")
        self._forget()
        return DELETE

    def _only_key(self) -> SessionKey | None:
        """The presented key, for a session that was not loaded; if there are several keys, the one that is alive."""
        if self._fate is None:
            tokens, old = self.visitor.tokens(), self.visitor.old()
            if len(tokens) == 1 and not old:
                return tokens[0].key
            self._find()  # a session that can still be imported is imported, so that it ends for good
        return self._key

    def _forget(self) -> None:
        self._key = self._fate = self._gone_error = None

    def _ended(self, how: str) -> Outcome:
        self._announce(signals.session_ended, self._key, how=how)
        return self._delete_cookie()

    def _delete_cookie(self) -> Outcome:
        self._forget()
        self.draft.settle(None)
        return DELETE

    # -- a session that does not exist -------------------------------------------------------------------------------

    def _commit_new(self) -> Outcome:
        """Commit without a loaded record: the browser did not present a session, or the session is gone."""
        fate, draft = self._fate, self.draft
        if draft.state and draft.moves:
            self._need_cookie()
        if fate is None and draft.state:
            return self._save(draft.state, None)
        did = did_by(draft, fate, self._gone_error, self._began, has_body=self.visitor.has_body())
        if ends_successor(fate, did) or (fate is Fate.CORRUPT and did.clears):
            # The session in which this browser was signed in goes on under its successor, or in a process that can
            # read the record.
            self._end_by_handle("cleared")
        verdict = on_met(fate, did)
        if verdict is Verdict.NOTHING and fate is None:
            return DELETE if self._seed is not None else KEEP
        return self._obey(verdict, None)

    def _commit_gone(self, base: Record, gone: SessionGone) -> Outcome:
        """Commit after the session that this request had loaded has gone."""
        self._fate, self._gone_error = Fate.of(gone), gone
        if self._only_renews:
            return self._keep_cookie()
        if isinstance(gone, Barred):  # all sessions of the owner were ended while this session was being made
            return self._drop()
        did = did_by(self.draft, self._fate, gone, self._began, has_body=self.visitor.has_body())
        if ends_successor(self._fate, did):
            self._end_by_handle("cleared" if did.clears else "signed out")
        return self._obey(on_lost(self._fate, did), base)

    def _obey(self, verdict: Verdict, base: Record | None) -> Outcome:
        changes = self.draft.changes
        match verdict:
            case Verdict.NOTHING:
                return self._keep_cookie()
            case Verdict.FORGET:
                return self._delete_cookie()
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
        """Store ``state`` under a new key.

        :param base: the record whose metadata it keeps, where this request did not assign any; None for a new session.
        """
        writer = self._writer
        record = writer.record(state, base, fresh=True) if state else None
        if record is None or self._lacks_cookie():
            return self._keep_cookie()
        try:
            key = writer.save(record)
        except SessionGone as gone:
            self._fate = Fate.of(gone)
            return self._drop()
        self.made_session = True
        self._announce(signals.session_created, key)
        self._signed_in = record.owner is not None
        return self._stored(key, record)

    def _save_beside(self, base: Record) -> Outcome:
        """Two requests of a browser renewed its session at once: store this request's session beside the other one.

        The same user then has two sessions. The new one stays only if the other is alive before and after the write.
        """
        store, old, writer = t.cast("ServerSideStore", self.store), self._known_key().handle, self._writer
        record = writer.record(self.draft.changes.apply(base.state), base, fresh=True)
        if record is None or not self._goes_on_as(base, store.renewed_to(old)):
            return self._drop()
        try:
            key = writer.save(record)
        except SessionGone as gone:
            self._fate = Fate.of(gone)
            return self._drop()
        if not self._goes_on_as(base, store.renewed_to(old)):  # it ended meanwhile, so this session ends too
            store.end_found(key.handle, kind="ended")
            return self._drop()
        self._announce(signals.session_renewed, key, previous=old, reason="renewed")
        self._signed_in = record.owner is not None
        return self._stored(key, record)

    def _goes_on_as(self, base: Record, newest: Record | None) -> bool:
        """Whether ``newest`` is alive, and nobody was signed out there since this request loaded the session."""
        if newest is None:
            return False
        if newest.sealed:  # the owner can be read, but the login keys cannot
            is_owned = base.owner is not None or not self.draft.was_somebody
            return is_owned and newest.owner == base.owner
        return signins.is_signed_in_still(self.policy, self.draft.before, newest.state)

    def _drop(self) -> Outcome:
        reason = "unknown" if self._fate in (None, Fate.LATE) else t.cast("Fate", self._fate).value
        self.dropped = reason
        logger.warning("session %s: writes were dropped, the session is gone (%s)", short(self._key), reason)
        self._announce(signals.session_write_dropped, self._key, reason=reason)
        return self._keep_cookie()

    def _keep_cookie(self) -> Outcome:
        # The cookie stays, even if its key is dead: another response may have set another cookie already.
        self.draft.settle(None)
        return KEEP

    def _end_by_handle(self, how: str) -> None:
        """End the successor of a session that was renewed, or the record that cannot be read."""
        if isinstance(self.store, ServerSideStore):
            # It does not end a session that somebody signed in to: see ends_successor.
            ended = self.store.end_found(self._known_key().handle, kind="ended", follows=("renewed",))
            if ended is not None:
                self._unsent.append((signals.session_ended, {"handle": ended, "how": how}))

    # -- changes to a known session ---------------------------------------------------------------------------------

    def _commit_changes(self, base: Record) -> Outcome:
        draft, key, moves = self.draft, self._known_key(), self.draft.moves
        in_cookie, cleared = handle_of(key) is None, draft.changes.cleared
        if (moves and (draft.state or draft.changes.renewed)) or (in_cookie and (cleared or draft.changes_owner)):
            self._need_cookie()
        if in_cookie and draft.changes and self._lacks_cookie():
            draft.settle(base)
            return KEEP
        try:
            if not (moves or draft.signs_out):
                return self._merge(key, base)
            with urgently():
                return self._end_or_move(key, base)
        except SessionGone as gone:
            self._outcome_if_it_fails = None
            return self._commit_gone(base, gone)
        except SessionCorrupt as error:
            self._outcome_if_it_fails = None
            self._announce(signals.session_corrupt, key, newer=bool(error.newer))
            return self._commit_gone(base, SessionGone())

    def _end_or_move(self, key: SessionKey, base: Record) -> Outcome:
        """End the session, or go on under another key, which a pause does not refuse."""
        draft = self.draft
        if draft.changes.cleared and not draft.state:
            contests.end(self.store, key, base)
            return self._ended("cleared")
        if draft.signs_out and self.visitor.no_cookie() is None:
            return self._sign_out(key, base)
        return self._move(key, base) if draft.moves else self._merge(key, base)

    def _sign_out(self, old: SessionKey, base: Record) -> Outcome:
        """End the session, and store what is left of it under a new key, without an owner."""
        newest, writer = contests.end(self.store, old, base), self._writer
        try:
            state = self.draft.changes.apply(newest.state)
            record = writer.record(state, newest, fresh=True) if state else None
            if record is None:
                return self._ended("signed out")
            key = writer.save(record)
        except Exception:  # the rest cannot be computed (an updater may raise) or stored, but the log-out has happened
            self._announce(signals.session_ended, old, how="signed out")
            self._key, self._fate, self._outcome_if_it_fails = None, Fate.LEFT, DELETE
            self.draft.base = None
            raise
        self._announce(signals.session_renewed, key, previous=handle_of(old), reason="signed out")
        self.signed_out = True
        return self._stored(key, record)

    def _move(self, old: SessionKey, base: Record) -> Outcome:
        """Sign in, renew, or clear and write, though others may write to the session too."""
        moved = contests.move(self._writer, old, base, kind_of_move(self.draft), kept=self._note_moved)
        self._outcome_if_it_fails = None
        if isinstance(moved, contests.Ended):
            return self._ended(moved.how)
        signs_in = self.draft.signs_in
        self._signed_in = signs_in and moved.record.owner is not None
        reason = "signed in" if signs_in else "cleared" if self.draft.changes.cleared else "renewed"
        self._announce(signals.session_renewed, moved.key, previous=handle_of(old), reason=reason)
        if moved.losses:
            self._announce(signals.session_merged, old, attempts=moved.losses + 1)
        return self._stored(moved.key, moved.record)

    def _note_moved(self, key: SessionKey, record: Record) -> None:
        """Note that the old key is dead and the session goes on under ``key``, even if the rest of the commit fails."""
        self._outcome_if_it_fails = Send(key, record)

    def _merge(self, key: SessionKey, base: Record) -> Outcome:
        """Write under the same key, and merge with the writes of other requests that were faster."""
        merged = contests.merge(self._writer, key, base, self.wait)
        if isinstance(merged, contests.Ended):
            outcome = self._ended(merged.how)
        else:
            outcome = self._stored(merged.key, merged.record)
        if merged.losses:
            self._announce(signals.session_merged, key, attempts=merged.losses + 1)
        return outcome

    def wait(self, seconds: float) -> None:
        """Wait, so that others who write the same session can go first. Override it where waiting makes no sense."""
        time.sleep(seconds)

    # -- signing in -------------------------------------------------------------------------------------------------

    def _keep_to_limit(self, outcome: Outcome) -> Outcome:
        """After a sign-in: end those sessions of the owner that are more than the limit allows."""
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
        except StoreUnavailable as error:  # the sign-in stands, and the next sign-in counts again
            logger.warning("the sessions of an owner could not be counted: %s", error)
            return outcome
        return self._stored(key, record)

    def _displaced(self, handle: str) -> None:
        self._unsent.append((signals.session_ended, {"handle": handle, "how": "displaced"}))

    # -- shared -----------------------------------------------------------------------------------------------------

    @property
    def _writer(self) -> Writer:
        return Writer(self.store, self.policy, self.draft, self.visitor.client)

    def _stored(self, key: SessionKey, record: Record) -> Outcome:
        self._key, self._fate, self._gone_error = key, None, None
        self.draft.settle(record)
        return Send(key, record)

    def _need_cookie(self) -> None:
        """Refuse a change that needs a new cookie, if it cannot be sent. An update under the same handle does not.

        :raises SessionError: if a cookie cannot be sent.
        """
        reason = self.visitor.no_cookie()
        if reason is not None:
            raise SessionError(f"{reason}, but this change of the session needs a new cookie")

    def _lacks_cookie(self) -> bool:
        """Whether the writes are dropped because they need a cookie, and it cannot be sent. Warns once.

        :raises SessionError: if ``save()`` asked for this commit.
        """
        reason = self.visitor.no_cookie()
        if reason is None:
            return False
        if self._is_saving:
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
        self._queue_signal(signal, handle_of(key), **arguments)

    def _queue_signal(self, signal: NamedSignal, handle: str | None, **arguments: t.Any) -> None:
        if signal.receivers:
            self._unsent.append((signal, {"handle": handle, **arguments}))

    def _send_signals(self) -> None:
        """Send the signals, now that everything is decided: a receiver may read the session, and even save it."""
        if not self._unsent:
            return
        unsent, self._unsent = self._unsent, []
        for signal, arguments in unsent:
            self.visitor.announce(signal, **arguments)

    def _now_ms(self) -> int:
        return int(self.store.now() * 1000)
