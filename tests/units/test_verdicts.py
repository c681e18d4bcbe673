"""What becomes of what a request did to a session that is not there: the table, without store or clock."""

from __future__ import annotations

import itertools
import typing as t
from datetime import UTC, datetime

import pytest

from flask_sessionstore import Record, SessionGone, codec
from flask_sessionstore.draft import Draft
from flask_sessionstore.policy import Policy
from flask_sessionstore.record import Kind, owner_mark
from flask_sessionstore.verdicts import Did, Fate, Verdict, did_by, ends_successor, kind_of_move, on_lost, on_met

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


# -- what a request did ------------------------------------------------------------------------------------------------

OWNER, USER, LEFT_AT = "_user_id", "user", datetime(2026, 1, 1, tzinfo=UTC)
Data = t.Mapping[str, object]


def drafted(before: Data, *acts: t.Callable[[Draft], object]) -> Draft:
    """A draft that started from this data, and what was done to it."""
    draft = Draft(Policy())
    draft.start(Record(state={key: codec.encode(value, key) for key, value in before.items()}) if before else None)
    for act in acts:
        act(draft)
    return draft


def put(key: str, value: object) -> t.Callable[[Draft], None]:
    return lambda draft: draft.write(key, value)


def take(key: str) -> t.Callable[[Draft], None]:
    return lambda draft: draft.remove(key)


def renew(draft: Draft) -> None:
    draft.changes.renewed = True


ANN, CART = {OWNER: "ann"}, {"cart": ["tea"]}

DONE: list[tuple[str, Draft, Did]] = [
    ("nothing", drafted({}), READ),
    ("written", drafted({}, put("cart", 1)), WROTE),
    ("an equal value written", drafted(CART, put("cart", ["tea"])), Did(keeps=True)),
    ("the last key removed", drafted(CART, take("cart")), Did(wrote=True)),
    ("an owner set", drafted({}, put(OWNER, "ann")), SIGNED_IN),
    ("a login key set", drafted({}, put(USER, "ann")), SIGNED_IN),
    ("renewed", drafted(CART, renew), RENEWED),
    ("renewed by its owner", drafted(ANN, renew), RENEWED._replace(was_somebody=True, was_owned=True)),
    ("a value that names nobody changed", drafted({USER: [1]}, put(USER, [2])), RENEWED._replace(was_somebody=True)),
    ("nobody's session cleared", drafted(CART, Draft.clear), CLEARED),
    ("nobody's session cleared, and written", drafted(CART, Draft.clear, put("cart", 1)), CLEARED_AND_WROTE),
    ("cleared by its owner", drafted(ANN, Draft.clear), CLEARED_AND_OUT._replace(was_somebody=True)),
    (
        "the owner removed",
        drafted({**ANN, **CART}, take(OWNER)),
        SIGNED_OUT._replace(was_somebody=True),
    ),
    (
        "the login key removed",
        drafted({USER: "ann", **CART}, take(USER)),
        SIGNED_OUT._replace(was_somebody=True, was_owned=False),
    ),
]


@pytest.mark.parametrize(("draft", "did"), [row[1:] for row in DONE], ids=[row[0] for row in DONE])
def test_done(draft: Draft, did: Did) -> None:
    assert did_by(draft, None, None, 0, has_body=False) == did


def gone(kind: Kind | None, before: str | None = None, after: str | None = None) -> SessionGone:
    """A session that went at a time that is known, if its kind is."""
    marks = (owner_mark(before), owner_mark(after))
    return SessionGone(kind=kind, left_at=None if kind is None else LEFT_AT, marks=marks)


#: What is gone, who signs in, whether in a form; and whether that straggles if the request began within ten seconds.
STRAGGLERS: list[tuple[str, SessionGone, str, bool, bool]] = [
    ("without a body", gone("ended"), "ann", False, True),
    ("without a body, once more", gone("revoked", "ann"), "ann", False, True),
    ("the form of whoever was there", gone("ended", "ann"), "ann", True, True),
    ("the form of whoever it went on with", gone("signed in", None, "ann"), "ann", True, True),
    ("the form of somebody else", gone("replaced", "bob", "eve"), "ann", True, False),
    ("the form of whoever was revoked", gone("revoked", "ann"), "ann", True, False),
    ("nobody knows when it went", gone(None), "ann", False, False),
]


@pytest.mark.parametrize(
    ("met", "owner", "body", "straggles"), [row[1:] for row in STRAGGLERS], ids=[row[0] for row in STRAGGLERS]
)
def test_who_straggles(met: SessionGone, owner: str, body: bool, straggles: bool) -> None:
    draft, left_at = drafted({}, put(OWNER, owner)), LEFT_AT.timestamp()
    for after, under_way in ((-60, True), (0, True), (9.9, True), (10, False), (30, False)):
        did = did_by(draft, Fate.of(met), met, left_at + after, has_body=body)
        assert did.straggles is (straggles and under_way)
        assert did.is_overdue is (met.left_at is not None and not under_way and not body)


@pytest.mark.parametrize("kind", [*t.get_args(Kind), None])
def test_each_way_in_which_a_session_can_go_is_a_fate(kind: Kind | None) -> None:
    known = None if kind == "imported" else kind  # by a mark, which is no session's
    assert Fate.of(SessionGone(kind=kind)).value == (known or "unknown")


MOVES: list[tuple[str, Draft, Kind]] = [
    ("renewed", drafted(CART, renew), "renewed"),
    ("renewed by its owner", drafted(ANN, renew), "renewed"),
    ("an owner came", drafted(CART, put(OWNER, "ann")), "signed in"),
    ("somebody came who is no owner", drafted(CART, put(USER, "ann")), "signed in"),
    ("another owner came", drafted(ANN, put(OWNER, "bob")), "replaced"),
    ("the owner went", drafted({**ANN, **CART}, take(OWNER)), "replaced"),
    ("started over", drafted(CART, Draft.clear, put("cart", 1)), "renewed"),
]


@pytest.mark.parametrize(("draft", "kind"), [row[1:] for row in MOVES], ids=[row[0] for row in MOVES])
def test_moved(draft: Draft, kind: Kind) -> None:
    assert kind_of_move(draft) == kind
