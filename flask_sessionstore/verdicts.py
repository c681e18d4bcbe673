"""What becomes of what a request did to a session that is not there (any more): the rules, without store or clock.

``on_met`` is for a session of which the request found no record when it first looked, ``on_lost`` for one that it had
loaded, and that went before it could be written to. The table that users read is in docs/concepts.rst.
"""

from __future__ import annotations

import enum
import typing as t

from . import signins
from .draft import Draft
from .errors import SessionGone
from .record import Kind, owner_mark

# Seconds: a request that began sooner after its session went was under way when it went.
_UNDER_WAY = 10


class Fate(enum.Enum):
    """Why there is no record though the browser presented a key. The first six are kinds of tombstones."""

    #: Purged, cleared, or its owner signed out.
    ENDED = "ended"
    #: Its last key was removed.
    EMPTIED = "emptied"
    #: It goes on under another key, with the owner that it had, or still without one.
    RENEWED = "renewed"
    #: It goes on under another key, by a sign-in over a session of nobody.
    SIGNED_IN = "signed in"
    #: Another owner took its place.
    REPLACED = "replaced"
    #: Somebody ended it by its handle.
    REVOKED = "revoked"
    #: The store knows nothing of it: it has expired, or went more than a minute ago.
    UNKNOWN = "unknown"
    #: As unknown; but the request is so old that a tombstone may have come and gone meanwhile.
    LATE = "late"
    #: What stands there cannot be read.
    CORRUPT = "corrupt"
    #: The browser sent the cookies of several living sessions. They were ended.
    AMBIGUOUS = "ambiguous"
    #: This very request has ended it, by its handle.
    LEFT = "left"

    @classmethod
    def of(cls, gone: SessionGone) -> Fate:
        """What a store says of a session that is gone."""
        return cls.UNKNOWN if gone.kind is None or gone.kind == "imported" else cls(gone.kind)


#: The fates after which the browser's session goes on, or somebody else's does.
_GOES_ON = frozenset({Fate.RENEWED, Fate.SIGNED_IN, Fate.REPLACED})


class Verdict(enum.Enum):
    """What is to be done."""

    #: Nothing: store and cookie stay as they are.
    NOTHING = "nothing"
    #: Delete the cookie.
    FORGET = "forget"
    #: Say that what was written is dropped.
    DROP = "drop"
    #: Keep what the session holds now under a new key.
    SAVE = "save"
    #: Keep what this request wrote by itself under a new key.
    SAVE_OWN = "save own"
    #: Keep what it had loaded, with what it wrote, under a new key.
    SAVE_CARRIED = "save carried"
    #: The same, if the session goes on by renewals alone and is alive before and after.
    SAVE_BESIDE = "save beside"


class Did(t.NamedTuple):
    """What a request did."""

    #: Whether anything is left to be kept.
    keeps: bool = False
    #: Whether anything that it wrote would be lost if nothing were kept.
    wrote: bool = False
    signs_in: bool = False
    #: Whether it asked for a new key without signing anybody in.
    renews: bool = False
    clears: bool = False
    #: Whether the session's owner was removed, by clearing it or otherwise, or the last login key.
    signs_out: bool = False
    #: Whether somebody was signed in in the session that it had loaded, and whether it was an owner.
    was_somebody: bool = False
    was_owned: bool = False
    #: Of what it met: it is one that was under way when the session went, so it signs nobody in.
    straggles: bool = False
    #: Of what it met: it is so much later than a renewal that the reply to that must have been lost.
    is_overdue: bool = False

    @property
    def ends(self) -> bool:
        """Whether it meant to end the session."""
        return self.clears or self.signs_out


def did_by(draft: Draft, fate: Fate | None, gone: SessionGone | None, born: float, *, has_body: bool) -> Did:
    """What a request did.

    :param gone: what the store said of the session that is not there (any more).
    :param born: when the request began, in seconds since 1970.
    """
    left_at = None if gone is None else gone.left_at
    under_way = left_at is not None and born < left_at.timestamp() + _UNDER_WAY
    # Of a session that was revoked, or ended since there were several, the same user's form is a real log-in.
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
    """Whether the session that is gone belonged to this owner, or went on with it."""
    return owner is not None and gone is not None and owner_mark(owner) in (gone.marks or ())


def on_met(fate: Fate | None, did: Did) -> Verdict:
    """There was no record at the first look.

    :param fate: None: no key was presented.
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
    """The session had been loaded, and went before it could be written to."""
    # What is emptied was nobody's: who was signed in there before was signed out.
    if fate is Fate.EMPTIED and not did.was_somebody:
        return Verdict.SAVE_OWN
    if did.signs_in:
        # The same browser signed in twice, or its session of nobody was renewed by another of its requests: what is in
        # it (the cart) is this browser's own, and comes along.
        carried = fate in (Fate.RENEWED, Fate.SIGNED_IN) and not did.was_owned
        return Verdict.SAVE_CARRIED if carried else Verdict.SAVE_OWN
    if did.renews and not did.ends and fate is Fate.RENEWED:
        return Verdict.SAVE_BESIDE
    return Verdict.DROP if did.wrote else Verdict.NOTHING


def ends_successor(fate: Fate | None, did: Did) -> bool:
    """Whether the end that was meant for the session that is gone is one for what it goes on as.

    Not for what somebody signed in to: whoever planted the old key could end it.
    """
    return did.ends and fate is Fate.RENEWED


def kind_of_move(draft: Draft) -> Kind:
    """Which kind of tombstone is left under the old key of a session that goes on under a new one."""
    before, after = draft.owner_before, draft.owner
    if before is not None and after != before:
        return "replaced"
    return "signed in" if before is None and draft.signs_in else "renewed"
