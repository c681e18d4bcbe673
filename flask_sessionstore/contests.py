"""Writing a session while other requests write it too.

A write that comes second loses: the store refuses it with a conflict, which brings the newest record. There are three
kinds of writes, and each handles a loss in its own way:

* A write under the same key *merges*: it applies the changes to the newest record, and tries again after a pause, until
  the time is up.
* An *end* takes the newest revision at once, and after many losses any revision. It never waits.
* A *move* to a new key does not wait either. After some losses it first stores the session under the new key, which
  no other request knows yet.
"""

from __future__ import annotations

import random
import time
import typing as t

import msgspec

from . import signins
from .changes import State
from .draft import Draft
from .errors import SessionConflict, SessionCorrupt, SessionGone, StoreUnavailable
from .key import SessionKey
from .record import Kind, Record
from .stores.base import ANY, SessionStore
from .writing import Writer, differs

_FIRST_PAUSE = 0.001  # seconds between two attempts: as long as a write takes; later pauses are longer
_DOUBLINGS = 4
_GIVE_WAY = 0.004  # seconds that a new write waits for a write that has lost many times
_MANY_LOSSES = 3
# Handles of sessions that a write of this process has lost many times. Threads share the interpreter's lock, and the
# thread that holds it may win again and again. So a write that has not lost yet waits first.
_unlucky: set[str] = set()
# After so many losses in a row an end replaces whatever record is there.
_MAX_LOSSES = 100
# After so many losses a move stores the session under its new key first, and then replaces the old record separately.
_LOSSES_BEFORE_SAVING = 10


class Written(msgspec.Struct, frozen=True):
    """The session is alive."""

    key: SessionKey
    #: The record that is under the key now.
    record: Record
    #: How many times another request had written first.
    losses: int


class Ended(msgspec.Struct, frozen=True):
    """The session has ended: it had no data left, or its fixed end has passed. ``how`` is as in ``session_ended``."""

    how: str
    losses: int


# -- ends ----------------------------------------------------------------------------------------------------------


def end(store: SessionStore, key: SessionKey, newest: Record) -> Record:
    """End the session, though others may write to it, and return the newest record of it that was read.

    :raises SessionGone: if another request was faster: the session has ended already, or goes on under another key.
    """
    for losses in range(2 * _MAX_LOSSES):
        replaces = ANY if losses >= _MAX_LOSSES else newest.revision
        try:
            store.delete(key, replaces=replaces, owner=newest.owner)
            return newest
        except SessionConflict as conflict:
            newest = _record_of(conflict)
    raise StoreUnavailable("the session changes faster than it can be ended; try again")


def _end_for_want_of_a_record(writer: Writer, key: SessionKey, newest: Record, state: State) -> str:
    """End this revision of a session that has no data left, or whose fixed end has passed. Return how it ended.

    :raises SessionConflict, SessionGone: as :meth:`SessionStore.delete` does.
    """
    how = _how_it_ends(writer.draft, state)
    writer.store.delete(key, replaces=newest.revision, emptied=how == "emptied", owner=newest.owner)
    return how


def _how_it_ends(draft: Draft, state: State) -> str:
    if draft.changes.cleared:
        return "cleared"
    if state:
        return "expired"
    return "signed out" if draft.was_somebody else "emptied"


# -- what goes on under a new key ----------------------------------------------------------------------------------


def move(
    writer: Writer, key: SessionKey, newest: Record, kind: Kind, *, kept: t.Callable[[SessionKey, Record], object]
) -> Written | Ended:
    """Sign in, renew, or clear and write: the session goes on under a new key.

    :param kept: called with the new key and its record once the old key is dead, if the record is written again after
        that.
    :raises SessionGone: if there is nothing to move.
    :raises SessionConflict: if it has lost far too often.
    """
    draft, state = writer.draft, writer.draft.state
    for losses in range(_LOSSES_BEFORE_SAVING):
        record = writer.record(state, newest) if state else None
        try:
            if record is None:
                return Ended(_end_for_want_of_a_record(writer, key, newest, state), losses)
            return Written(writer.renew(key, record, newest, kind), record, losses)
        except SessionConflict as conflict:
            newest = _mergeable(writer, _record_of(conflict))
            state = draft.changes.apply(newest.state)
    return _move_at_any_rate(writer, key, newest, kind, kept)


def _move_at_any_rate(
    writer: Writer, key: SessionKey, newest: Record, kind: Kind, kept: t.Callable[[SessionKey, Record], object]
) -> Written | Ended:
    """Store the session under the new key, which nobody knows yet; then replace the old record; then store what others
    wrote meanwhile under the new key too.
    """
    draft, state = writer.draft, writer.draft.changes.apply(newest.state)
    saved = writer.record(state, newest) if state else None
    if saved is None:
        end(writer.store, key, newest)
        return Ended(_how_it_ends(draft, state), _LOSSES_BEFORE_SAVING)
    new = writer.save(saved)
    try:
        newest = _replace(writer, key, newest, saved, new, kind)
    except (SessionConflict, SessionGone, SessionCorrupt):
        writer.store.delete(new)
        raise
    kept(new, saved)
    state = draft.changes.apply(newest.state)
    record = writer.record(state, saved) if state else None
    if record is None:
        writer.store.delete(new)
        return Ended(_how_it_ends(draft, state), _LOSSES_BEFORE_SAVING)
    try:
        writer.store.update(new, record, writer.policy.idle(record), replaces=saved.revision)
    except SessionConflict as conflict:
        record = _record_of(conflict)
    return Written(new, record, _LOSSES_BEFORE_SAVING)


def _replace(writer: Writer, key: SessionKey, newest: Record, saved: Record, new: SessionKey, kind: Kind) -> Record:
    """Replace the newest revision by a tombstone, and return that revision.

    A sign-in, or a new start, may replace a revision that it has not read. A mere renewal must not: somebody may have
    been signed out in that revision, and would be signed in again under the new key.

    :raises SessionConflict: if it has lost too often.
    """
    may_take_any, lost = writer.draft.changes.cleared or writer.draft.signs_in, SessionConflict()
    for losses in range(2 * _MAX_LOSSES):
        any_revision = may_take_any and losses >= _MAX_LOSSES
        try:
            writer.renew(key, saved, newest, kind, to=new, any_revision=any_revision)
            return newest
        except SessionConflict as conflict:
            lost, newest = conflict, _mergeable(writer, _record_of(conflict))
    raise lost


def _mergeable(writer: Writer, newest: Record) -> Record:
    """``newest``, if the same user (or nobody) is signed in there as in the session that this request loaded.

    :raises SessionGone: if somebody else or nobody is signed in there. (A sign-out keeps the session key if it cannot
        send a cookie, or if it only removes a login key.)
    """
    draft = writer.draft
    if not draft.changes.cleared and not signins.is_same(draft.policy, draft.before, newest.state):
        raise SessionGone("the user was signed out under the same session key", kind="ended")
    return newest


# -- what stays under its key --------------------------------------------------------------------------------------


def merge(writer: Writer, key: SessionKey, newest: Record, wait: t.Callable[[float], object]) -> Written | Ended:
    """Write; if another request wrote first, apply the changes to its record and write again.

    :param wait: waits for a number of seconds, so that others can go first.
    :raises SessionConflict: if the time is up.
    :raises SessionGone: if there is nothing to apply the changes to.
    """
    draft, contest = writer.draft, _Contest(writer, key, wait)
    state = draft.state
    try:
        while True:
            try:
                return contest.attempt(newest, state)
            except SessionConflict as conflict:
                arrived = contest.arrived(conflict)
                if arrived is not None:
                    return arrived
                newest = contest.lose(conflict)
                state = draft.changes.apply(newest.state)
    finally:
        contest.leave()


class _Contest:
    """One write against other writers: what it has tried, how often it has lost, and how long it has waited."""

    __slots__ = ("_attempts", "_began", "_key", "_losses", "_wait", "_waited", "_writer")

    def __init__(self, writer: Writer, key: SessionKey, wait: t.Callable[[float], object]) -> None:
        self._writer, self._key, self._wait = writer, key, wait
        self._attempts: list[bytes] = []
        self._losses = 0
        self._began = self._waited = 0.0
        if _unlucky and key.handle in _unlucky:
            wait(_GIVE_WAY)

    def attempt(self, newest: Record, state: State) -> Written | Ended:
        """Try once: delete, update or extend ``newest``, as the changes require."""
        writer, key = self._writer, self._key
        record = writer.record(state, newest) if state else None
        if record is None:
            return Ended(_end_for_want_of_a_record(writer, key, newest, state), self._losses)
        if differs(record, newest, writer.draft.changes):
            self._attempts.append(record.revision)
            return Written(writer.update(key, record, newest), record, self._losses)
        return Written(*writer.extend(key, writer.policy.idle(newest)), self._losses)

    def arrived(self, conflict: SessionConflict) -> Written | None:
        """The result of an earlier attempt that reached the store although its reply was lost; None if none did."""
        record = conflict.record
        if record is None or not set(self._attempts) & set(record.revisions):
            return None
        return Written(self._key, record, self._losses)

    def lose(self, conflict: SessionConflict) -> Record:
        """Count a loss, and return the record to which the changes are applied next.

        :raises SessionConflict: if the time is up.
        :raises SessionGone: if there is no such record.
        """
        pause, newest = self._pause(), conflict.record
        if newest is None or pause is None:
            raise conflict
        if pause:
            self._wait(pause)
            # The record from before the wait is stale by now, and writing against it would lose again.
            newest = self._writer.store.load(self._key)
        if newest is None:
            raise SessionGone("the session has expired")
        return _mergeable(self._writer, newest)

    def _pause(self) -> float | None:
        """The seconds to wait before the next attempt: 0 after the first loss; None if the time is up."""
        self._losses += 1
        if self._losses == 1:
            self._began = time.monotonic()
            return 0.0
        # The waited time is also counted separately, since a test may have stopped the clock.
        waited = max(time.monotonic() - self._began, self._waited)
        if waited >= self._writer.policy.conflict_timeout.total_seconds():
            return None
        if self._losses > _MANY_LOSSES:
            _unlucky.add(self._key.handle)
        pause = random.uniform(0.5, 1) * _FIRST_PAUSE * (1 << min(self._losses - 2, _DOUBLINGS))
        self._waited += pause
        return pause

    def leave(self) -> None:
        """End the contest, won or lost."""
        if self._losses > _MANY_LOSSES:
            _unlucky.discard(self._key.handle)


def _record_of(conflict: SessionConflict) -> Record:
    """The record that another request wrote.

    :raises SessionConflict: if the conflict does not bring it.
    """
    if conflict.record is None:
        raise conflict
    return conflict.record
