"""What becomes of what a request did to a session that is not there: the table, without store or clock."""

from __future__ import annotations

import itertools
import typing as t

import pytest

from flask_sessionstore.verdicts import Did, Fate, Verdict, ends_successor, on_lost, on_met

NOTHING, FORGET, DROP, SAVE, SAVE_OWN, SAVE_CARRIED, SAVE_BESIDE = Verdict

READ = Did()
WROTE = Did(keeps=True, wrote=True)
SIGNED_IN = Did(keeps=True, wrote=True, signs_in=True)
CLEARED = Did(clears=True)
CLEARED_AND_WROTE = Did(keeps=True, wrote=True, clears=True)
SIGNED_OUT = Did(keeps=True, wrote=True, signs_out=True, was_owned=True)
CLEARED_AND_OUT = Did(clears=True, signs_out=True, was_owned=True)
RENEWED = Did(keeps=True, wrote=True, renews=True)


def straggling(did: Did) -> Did:
    return did._replace(straggles=True)


def overdue(did: Did) -> Did:
    return did._replace(is_overdue=True)


OVER = (Fate.ENDED, Fate.EMPTIED, Fate.REVOKED)
GOES_ON = (Fate.RENEWED, Fate.SIGNED_IN, Fate.REPLACED)

MET: list[tuple[str, t.Collection[Fate | None], Did, Verdict]] = [
    ("nothing was presented", [None], READ, NOTHING),
    ("nothing was presented, written", [None], WROTE, SAVE),
    ("nothing was presented, signed in", [None], SIGNED_IN, SAVE),
    ("nothing was presented, cleared", [None], CLEARED, NOTHING),
    ("unknown, read", [Fate.UNKNOWN], READ, NOTHING),
    ("unknown, cleared", [Fate.UNKNOWN], CLEARED, NOTHING),
    ("unknown, written", [Fate.UNKNOWN], WROTE, SAVE),
    ("unknown, signed in", [Fate.UNKNOWN], SIGNED_IN, SAVE),
    ("over, read", OVER, READ, NOTHING),
    ("over, cleared", OVER, CLEARED, NOTHING),
    ("over, written", OVER, WROTE, SAVE),
    ("over, written by a straggler", OVER, straggling(WROTE), SAVE),
    ("over, signed in", OVER, SIGNED_IN, SAVE),
    ("over, signed in by a straggler", OVER, straggling(SIGNED_IN), DROP),
    ("goes on, read", GOES_ON, READ, NOTHING),
    ("goes on, cleared", GOES_ON, CLEARED, NOTHING),
    ("goes on, written", GOES_ON, WROTE, DROP),
    ("goes on, renewed", GOES_ON, RENEWED, DROP),
    ("goes on, cleared and written", GOES_ON, CLEARED_AND_WROTE, DROP),
    ("goes on, signed in", GOES_ON, SIGNED_IN, SAVE),
    ("goes on, signed in by a straggler", GOES_ON, straggling(SIGNED_IN), DROP),
    ("goes on, overdue, read", GOES_ON, overdue(READ), NOTHING),
    ("goes on, overdue, written", GOES_ON, overdue(WROTE), SAVE),
    ("goes on, overdue, signed in", GOES_ON, overdue(SIGNED_IN), SAVE),
    ("goes on, overdue, cleared", GOES_ON, overdue(CLEARED), NOTHING),
    ("late, read", [Fate.LATE], READ, NOTHING),
    ("late, cleared", [Fate.LATE], CLEARED, NOTHING),
    ("late, written", [Fate.LATE], WROTE, DROP),
    ("late, signed in", [Fate.LATE], SIGNED_IN, SAVE),
    ("corrupt or ambiguous, read", [Fate.CORRUPT, Fate.AMBIGUOUS], READ, NOTHING),
    ("corrupt or ambiguous, written", [Fate.CORRUPT, Fate.AMBIGUOUS], WROTE, SAVE),
    ("corrupt or ambiguous, signed in", [Fate.CORRUPT, Fate.AMBIGUOUS], SIGNED_IN, SAVE),
    ("corrupt or ambiguous, cleared", [Fate.CORRUPT, Fate.AMBIGUOUS], CLEARED, FORGET),
    ("corrupt or ambiguous, cleared and written", [Fate.CORRUPT, Fate.AMBIGUOUS], CLEARED_AND_WROTE, SAVE),
    ("ended by itself, left empty", [Fate.LEFT], READ, FORGET),
    ("ended by itself, cleared", [Fate.LEFT], CLEARED, FORGET),
    ("ended by itself, written", [Fate.LEFT], WROTE, SAVE),
    ("ended by itself, signed in", [Fate.LEFT], SIGNED_IN, SAVE),
]


@pytest.mark.parametrize(("fates", "did", "verdict"), [row[1:] for row in MET], ids=[row[0] for row in MET])
def test_met(fates: t.Collection[Fate | None], did: Did, verdict: Verdict) -> None:
    assert {on_met(fate, did) for fate in fates} == {verdict}


# What can be found at a commit: no look is late then, and no cookies are chosen.
GONE = (Fate.ENDED, Fate.REPLACED, Fate.REVOKED, Fate.UNKNOWN)
ALL_BUT_EMPTIED = (*GONE, Fate.RENEWED, Fate.SIGNED_IN)

LOST: list[tuple[str, t.Collection[Fate], Did, Verdict]] = [
    ("emptied, written", [Fate.EMPTIED], WROTE, SAVE_OWN),
    ("emptied, signed in", [Fate.EMPTIED], SIGNED_IN, SAVE_OWN),
    ("emptied, renewed", [Fate.EMPTIED], RENEWED, SAVE_OWN),
    ("gone, nothing written", ALL_BUT_EMPTIED, READ, NOTHING),
    ("gone, written", ALL_BUT_EMPTIED, WROTE, DROP),
    ("gone, cleared", ALL_BUT_EMPTIED, CLEARED, NOTHING),
    ("gone, cleared and written", ALL_BUT_EMPTIED, CLEARED_AND_WROTE, DROP),
    ("gone, signed out", ALL_BUT_EMPTIED, SIGNED_OUT, DROP),
    ("gone, cleared by its owner", ALL_BUT_EMPTIED, CLEARED_AND_OUT, NOTHING),
    ("gone, signed in", GONE, SIGNED_IN, SAVE_OWN),
    ("gone, signed in over an owner", ALL_BUT_EMPTIED, SIGNED_IN._replace(was_owned=True), SAVE_OWN),
    ("renewed, signed in over nobody", [Fate.RENEWED, Fate.SIGNED_IN], SIGNED_IN, SAVE_CARRIED),
    ("renewed twice", [Fate.RENEWED], RENEWED, SAVE_BESIDE),
    ("renewed twice by its owner", [Fate.RENEWED], RENEWED._replace(was_owned=True), SAVE_BESIDE),
    ("renewed, renewed and cleared", [Fate.RENEWED], RENEWED._replace(clears=True), DROP),
    ("renewed, renewed and signed out", [Fate.RENEWED], RENEWED._replace(signs_out=True), DROP),
    ("renewed, renewed and signed in", [Fate.RENEWED], RENEWED._replace(signs_in=True), SAVE_CARRIED),
    ("signed in, renewed", [Fate.SIGNED_IN], RENEWED, DROP),
    ("gone, renewed", GONE, RENEWED, DROP),
]


@pytest.mark.parametrize(("fates", "did", "verdict"), [row[1:] for row in LOST], ids=[row[0] for row in LOST])
def test_lost(fates: t.Collection[Fate], did: Did, verdict: Verdict) -> None:
    assert {on_lost(fate, did) for fate in fates} == {verdict}


@pytest.mark.parametrize("fate", [None, *Fate])
@pytest.mark.parametrize("did", [CLEARED, SIGNED_OUT, CLEARED_AND_OUT, CLEARED_AND_WROTE])
def test_an_end_reaches_what_the_session_was_renewed_to_and_nothing_that_somebody_signed_in_to(
    did: Did, fate: Fate | None
) -> None:
    assert ends_successor(fate, did) is (fate is Fate.RENEWED)


@pytest.mark.parametrize("did", [READ, WROTE, SIGNED_IN, RENEWED])
def test_nothing_else_ends_a_successor(did: Did) -> None:
    assert not any(ends_successor(fate, did) for fate in (None, *Fate))


# -- what holds for everything that a request can have done ------------------------------------------------------------

EVERYTHING = [
    Did(*flags)
    for flags in itertools.product([False, True], repeat=len(Did._fields))
    if flags[0] or not flags[2]  # who signs in leaves something
]


def test_a_sign_in_is_dropped_only_if_it_straggles() -> None:
    for did in (did for did in EVERYTHING if did.signs_in):
        for fate in (None, *Fate):
            verdict = on_met(fate, did)
            if not did.straggles:
                assert verdict is SAVE, (fate, did)
        for fate in (*ALL_BUT_EMPTIED, Fate.EMPTIED):
            assert on_lost(fate, did) in (SAVE_OWN, SAVE_CARRIED), (fate, did)


def test_nothing_loaded_goes_on_unless_the_session_went_on_in_the_same_hands() -> None:
    for did, fate in itertools.product(EVERYTHING, Fate):
        verdict = on_lost(fate, did)
        if verdict is SAVE_CARRIED:
            assert fate in (Fate.RENEWED, Fate.SIGNED_IN)
            assert did.signs_in
            assert not did.was_owned
        if verdict is SAVE_BESIDE:
            assert fate is Fate.RENEWED
            assert did.renews
            assert not did.ends


def test_a_cookie_goes_only_with_what_this_request_ended_or_asked_to_clear() -> None:
    for did, fate in itertools.product(EVERYTHING, (None, *Fate)):
        if on_met(fate, did) is FORGET:
            assert not did.keeps
            assert fate is Fate.LEFT or (did.clears and fate in (Fate.CORRUPT, Fate.AMBIGUOUS))


def test_what_was_written_is_never_dropped_in_silence() -> None:
    for did in (did for did in EVERYTHING if did.keeps and did.wrote):
        assert all(on_met(fate, did) in (SAVE, DROP) for fate in (None, *Fate))
        assert all(on_lost(fate, did) is not NOTHING for fate in Fate)


def test_what_ended_is_never_gone_on_with_by_a_mere_write() -> None:
    for did in (did for did in EVERYTHING if not did.signs_in):
        assert all(on_lost(fate, did) in (DROP, NOTHING) for fate in GONE)
