"""The rules for what a request did to a session that does not exist (any more), without store or clock.

``on_met`` is for a session whose record was missing when the request first looked for it. ``on_lost`` is for a session
that the request had loaded, and that went before it could be written to. The table for users is in docs/concepts.rst.
"""

from __future__ import annotations

import enum
import typing as t

from . import signins
from .draft import Draft
from .errors import SessionGone
from .record import Kind, owner_mark

# Seconds. A request that began before its session went, or less than this after it, counts as under way at that time.
_UNDER_WAY = 10


class Fate(enum.Enum):
    """Why the session has no record though the browser presented its key. The first six are kinds of tombstones."""

    #: Purged, cleared, or its owner signed out.
    ENDED = "ended"
    #: Its last key was removed.
    EMPTIED = "emptied"
    #: It goes on under another key, with the owner that it had, or still without an owner.
    RENEWED = "renewed"
    #: Somebody signed in to a session without owner, and it goes on under another key.
    SIGNED_IN = "signed in"
    #: Another owner took its place.
    REPLACED = "replaced"
    #: Somebody ended it by its handle.
    REVOKED = "revoked"
    #: The store has no trace of it: it has expired, or went more than a minute ago.
    UNKNOWN = "unknown"
    #: As UNKNOWN, but the request began so long ago that a tombstone may have come and gone meanwhile.
    LATE = "late"
    #: The bytes under its handle cannot be read.
    CORRUPT = "corrupt"
    #: The browser sent the cookies of several living sessions. They were ended.
    AMBIGUOUS = "ambiguous"
    #: This request itself has ended it, by its handle.
    LEFT = "left"

    @classmethod
    def of(cls, gone: SessionGone) -> Fate:
        """The fate that a store reports for a session that is gone."""
        return cls.UNKNOWN if gone.kind is None or gone.kind == "imported" else cls(gone.kind)


#: The fates after which a session goes on under another key: the browser's, or another owner's.
_GOES_ON = frozenset({Fate.RENEWED, Fate.SIGNED_IN, Fate.REPLACED})


class Verdict(enum.Enum):
    """What to do with what the request did."""

    #: Nothing: store and cookie stay as they are.
    NOTHING = "nothing"
    #: Delete the cookie.
    FORGET = "forget"
    #: Drop what was written, and report that.
    DROP = "drop"
    #: Store the session's data as it is now, under a new key.
    SAVE = "save"
    #: Store only what this request wrote itself, under a new key.
    SAVE_OWN = "save own"
    #: Store the loaded data with this request's changes, under a new key.
    SAVE_CARRIED = "save carried"
    #: As SAVE_CARRIED, if the session goes on only by renewals, and is alive both before and after the write.
    SAVE_BESIDE = "save beside"


class Did(t.NamedTuple):
    """What a request did."""

    #: Whether the session has data to be kept.
    keeps: bool = False
    #: Whether the request wrote anything that would be lost without a write to the store.
    wrote: bool = False
    signs_in: bool = False
    #: Whether it renews the session without a sign-in.
    renews: bool = False
    clears: bool = False
    #: Whether it removed the session's owner, by clearing the session or otherwise, or the last login key.
    signs_out: bool = False
    #: Whether somebody was signed in in the session as it was loaded.
    was_somebody: bool = False
    #: Whether the session had an owner as it was loaded.
    was_owned: bool = False
    #: Whether it was under way when the session went, and so cannot sign anybody in. (For ``on_met``.)
    straggles: bool = False
    #: Whether it began so long after a renewal that the browser must have lost the reply to it. (For ``on_met``.)
    is_overdue: bool = False

    @property
    def ends(self) -> bool:
        """Whether it meant to end the session."""
        return self.clears or self.signs_out


def did_by(draft: Draft, fate: Fate | None, gone: SessionGone | None, born: float, *, has_body: bool) -> Did:
    """What a request did.

    :param gone: what the store reported about the session that does not exist (any more).
    :param born: when the request began, in seconds since 1970.
    """
    left_at = None if gone is None else gone.left_at
    under_way = left_at is not None and born < left_at.timestamp() + _UNDER_WAY
    # A form is a real log-in, unless the session belonged to the same user. After "revoked" it is one even then: the
    # session was revoked, or was ended because there were several.
    is_form = has_body and (fate is Fate.REVOKED or not _was_theirs(gone, draft.owner))
    changes = draft.changes
    return Did(
        keeps=bool(draft.state),
        wrote=bool(changes) and bool(draft.state or not changes.cleared),
        signs_in=draft.signs_in,
        renews=changes.renewed or draft.step is signins.Step.RENEWS,
        clears=changes.cleared,
        signs_out=draft.signs_out or (draft.was_somebody and not draft.is_somebody),
        was_somebody=draft.was_somebody,
        was_owned=draft.owner_before is not None,
        straggles=under_way and not is_form,
        is_overdue=left_at is not None and not under_way and not has_body,
    )


def _was_theirs(gone: SessionGone | None, owner: str | None) -> bool:
    """Whether the session that is gone had this owner, or went on with this owner."""
    return owner is not None and gone is not None and owner_mark(owner) in (gone.marks or ())


def on_met(fate: Fate | None, did: Did) -> Verdict:
    """What to do if the record was missing when the request first looked for it.

    :param fate: None: the browser presented no key.
    """
    keep = Verdict.SAVE if did.keeps else Verdict.NOTHING
    drop = Verdict.DROP if did.keeps else Verdict.NOTHING
    if fate in (Fate.CORRUPT, Fate.AMBIGUOUS):
        return Verdict.FORGET if did.clears and not did.keeps else keep
    if fate is Fate.LEFT:
        return keep if did.keeps else Verdict.FORGET
    if fate is Fate.LATE:
        return keep if did.signs_in else drop
    if did.signs_in:
        return drop if did.straggles else keep
    return drop if fate in _GOES_ON and not did.is_overdue else keep


def on_lost(fate: Fate, did: Did) -> Verdict:
    """What to do if the session had been loaded, and went before it could be written to."""
    # An emptied session has no owner. If somebody was signed in before, that user has been signed out.
    if fate is Fate.EMPTIED and not did.was_somebody:
        return Verdict.SAVE_OWN
    if did.signs_in:
        # The same browser signed in twice, or another of its requests renewed its session without owner. The data in it
        # (such as a cart) is this browser's own, so it is carried along.
        carried = fate in (Fate.RENEWED, Fate.SIGNED_IN) and not did.was_owned
        return Verdict.SAVE_CARRIED if carried else Verdict.SAVE_OWN
    if did.renews and not did.ends and fate is Fate.RENEWED:
        return Verdict.SAVE_BESIDE
    return Verdict.DROP if did.wrote else Verdict.NOTHING


def ends_successor(fate: Fate | None, did: Did) -> bool:
    """Whether a request that ends a session which was renewed meanwhile ends its successor too.

    It does not after a sign-in: whoever planted the old key in the browser could end the user's session with it.
    """
    return did.ends and fate is Fate.RENEWED


def kind_of_move(draft: Draft) -> Kind:
    """The kind of tombstone to leave under the old key of a session that goes on under a new key."""
    before, after = draft.owner_before, draft.owner
    if before is not None and after != before:
        return "replaced"
    return "signed in" if before is None and draft.signs_in else "renewed"
