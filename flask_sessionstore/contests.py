"""Writing a session that others write at the same time.

Three sorts of writes, and how each deals with a loss, which is a conflict that brings the newest record:

* What stays under its key is *merged*: the changes are applied to the newest record, and it is tried again, after a
  pause, until the time is up.
* An *end* takes the newest revision at once, and never waits; nor is it refused, whoever else writes.
* What *moves* to a new key does not wait either; after some losses it is kept under the new key first, which nobody
  knows yet.
"""

from __future__ import annotations

import random
import time
import typing as t

import msgspec

from . import signins
from .changes import State
from .errors import SessionConflict, SessionCorrupt, SessionGone, StoreUnavailable
from .key import SessionKey
from .record import Kind, Record
from .stores.base import ANY, SessionStore
from .writing import Writer, differs

_FIRST_PAUSE = 0.001  # seconds between two attempts against other writers: what a write takes, and then more
_DOUBLINGS = 4
_GIVE_WAY = 0.004  # seconds that a write stands back for one that has had many losses
_MANY_LOSSES = 3
# Handles of sessions over which a write of this process has had many losses. Where threads share one lock of the
# interpreter, the one that holds it wins again and again: so who has lost nothing yet gives way.
_unlucky: set[str] = set()
# After so many losses in a row an end takes whatever record is there.
_MAX_LOSSES = 100
# After so many what goes on under a new key is kept under it first, and the old one replaced in a step of its own.
_LOSSES_BEFORE_SAVING = 10


class Written(msgspec.Struct, frozen=True):
    """The session is alive."""

    key: SessionKey
    #: What is kept under the key now.
    record: Record
    #: How often another had written first.
    losses: int


class Ended(msgspec.Struct, frozen=True):
    """Nothing was left to be kept, and so it has ended."""

    how: str
    losses: int


# -- ends ----------------------------------------------------------------------------------------------------------


def end(store: SessionStore, key: SessionKey, newest: Record) -> Record:
    """End the session, whoever else writes to it, and return the revision that was ended.

    :raises SessionGone: if another was faster, and it has ended, or goes on elsewhere.
    """
    for losses in range(2 * _MAX_LOSSES):
        replaces = ANY if losses >= _MAX_LOSSES else newest.revision
        try:
            store.delete(key, replaces=replaces, owner=newest.owner)
            return newest
        except SessionConflict as conflict:
            newest = _record_of(conflict)
    raise StoreUnavailable("the session changes faster than it can be ended; try again")


# -- what goes on under a new key ----------------------------------------------------------------------------------


def move(
    writer: Writer, key: SessionKey, newest: Record, kind: Kind, *, kept: t.Callable[[SessionKey, Record], object]
) -> Written | Ended:
    """Sign in, renew, or start over with something.

    :param kept: told what is there under the new key once the old one is dead, if more is to be written there.
    :raises SessionGone: if there is nothing to move.
    :raises SessionConflict: if it was lost far too often.
    """
    draft, state = writer.draft, writer.draft.state
    for losses in range(_LOSSES_BEFORE_SAVING):
        record = writer.record(state, newest)
        if record is None:
            end(writer.store, key, newest)
            return Ended("cleared" if draft.changes.cleared else "expired", losses)
        try:
            return Written(writer.renew(key, record, newest, kind), record, losses)
        except SessionConflict as conflict:
            newest = _mergeable(writer, _record_of(conflict))
            state = draft.changes.apply(newest.state)
    return _move_at_any_rate(writer, key, newest, kind, kept)


def _move_at_any_rate(
    writer: Writer, key: SessionKey, newest: Record, kind: Kind, kept: t.Callable[[SessionKey, Record], object]
) -> Written:
    """Keep it under the new key, which nobody knows yet; then replace the old one; then bring the new one up."""
    changes = writer.draft.changes
    saved = t.cast("Record", writer.record(changes.apply(newest.state), newest))
    new = writer.save(saved)
    try:
        newest = _replace(writer, key, newest, saved, new, kind)
    except (SessionConflict, SessionGone, SessionCorrupt):
        writer.store.delete(new)
        raise
    kept(new, saved)
    record = t.cast("Record", writer.record(changes.apply(newest.state), saved))
    try:
        writer.store.update(new, record, writer.policy.idle(record), replaces=saved.revision)
    except SessionConflict as conflict:
        record = _record_of(conflict)
    return Written(new, record, _LOSSES_BEFORE_SAVING)


def _replace(writer: Writer, key: SessionKey, newest: Record, saved: Record, new: SessionKey, kind: Kind) -> Record:
    """Leave a tombstone in the place of the newest revision, and return that.

    Of who signs in, or starts over, it may be one that was not read. What is only renewed must not take along who was
    signed out in it.

    :raises SessionConflict: if it was lost too often.
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
    """``newest``, if what one user did is not written into the session of another, or of nobody.

    :raises SessionGone: if somebody was signed in when this request loaded the session, and is not any more. (Where
        no cookie can be sent, and by removing a login key, that is done under the same key.)
    """
    draft = writer.draft
    if not draft.changes.cleared and not signins.is_same(draft.policy, draft.before, newest.state):
        raise SessionGone("who was signed in was signed out under the same key", kind="ended")
    return newest


# -- what stays under its key --------------------------------------------------------------------------------------


def merge(writer: Writer, key: SessionKey, newest: Record, wait: t.Callable[[float], object]) -> Written | Ended:
    """Write, and where another request wrote first, apply the changes to its record and write again.

    :param wait: stands back for some seconds.
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
    """One write against other writers: what it has tried, how often it has lost, and how long it stands back."""

    __slots__ = ("_attempts", "_began", "_key", "_losses", "_wait", "_waited", "_writer")

    def __init__(self, writer: Writer, key: SessionKey, wait: t.Callable[[float], object]) -> None:
        self._writer, self._key, self._wait = writer, key, wait
        self._attempts: list[bytes] = []
        self._losses = 0
        self._began = self._waited = 0.0
        if _unlucky and key.handle in _unlucky:
            wait(_GIVE_WAY)

    def attempt(self, newest: Record, state: State) -> Written | Ended:
        """One try: which of the store's verbs these changes come to, against ``newest``."""
        writer, key = self._writer, self._key
        record = writer.record(state, newest) if state else None
        if record is None:
            how = "expired" if state else "signed out" if writer.draft.was_somebody else "emptied"
            writer.store.delete(key, replaces=newest.revision, emptied=how == "emptied", owner=newest.owner)
            return Ended(how, self._losses)
        if differs(record, newest):
            self._attempts.append(record.revision)
            return Written(writer.update(key, record, newest), record, self._losses)
        return Written(*writer.extend(key, writer.policy.idle(newest)), self._losses)

    def arrived(self, conflict: SessionConflict) -> Written | None:
        """What came of an attempt that had arrived, its reply lost; None if none had."""
        record = conflict.record
        if record is None or not set(self._attempts) & set(record.revisions):
            return None
        return Written(self._key, record, self._losses)

    def lose(self, conflict: SessionConflict) -> Record:
        """Note a loss, and return what to apply the changes to.

        :raises SessionConflict: if the time is up.
        :raises SessionGone: if there is nothing to apply them to.
        """
        pause, newest = self._pause(), conflict.record
        if newest is None or pause is None:
            raise conflict
        if pause:
            self._wait(pause)
            # What was read before the wait is stale: who has lost once would go on losing with it.
            newest = self._writer.store.load(self._key)
        if newest is None:
            raise SessionGone("the session has expired")
        return _mergeable(self._writer, newest)

    def _pause(self) -> float | None:
        """In seconds, how long to wait: not at all after the first loss; None if the time is up."""
        self._losses += 1
        if self._losses == 1:
            self._began = time.monotonic()
            return 0.0
        # What was waited counts by itself, for a test may have stopped the clock.
        waited = max(time.monotonic() - self._began, self._waited)
        if waited >= self._writer.policy.conflict_timeout.total_seconds():
            return None
        if self._losses > _MANY_LOSSES:
            _unlucky.add(self._key.handle)
        pause = random.uniform(0.5, 1) * _FIRST_PAUSE * (1 << min(self._losses - 2, _DOUBLINGS))
        self._waited += pause
        return pause

    def leave(self) -> None:
        """It is over, won or lost."""
        if self._losses > _MANY_LOSSES:
            _unlucky.discard(self._key.handle)


def _record_of(conflict: SessionConflict) -> Record:
    """What another request wrote.

    :raises SessionConflict: if the store does not tell.
    """
    if conflict.record is None:
        raise conflict
    return conflict.record
