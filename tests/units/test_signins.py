"""Who is signed in, by what a session holds: what comes to a sign-in, and what is the same person."""

from __future__ import annotations

import typing as t
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_sessionstore import SessionInsertError
from flask_sessionstore.codec import encode
from flask_sessionstore.policy import LOGIN_KEYS, Policy
from flask_sessionstore.signins import Step, compare, is_affirmed, is_same, is_somebody, owner_in, owner_set_in, step

ABSENT: t.Any = object()
NOTHING, RENEWS, SIGNS_IN = Step

DEFAULT = Policy()
#: With an owner in a place of its own, by a name that no mapping is known to be named by.
DOTTED = Policy(owner_key="user.login")
NOBODY = Policy(owner_key=None)


def encoded(value: object) -> bytes | None:
    return None if value is ABSENT else encode(value, "")


def state_of(data: t.Mapping[str, object]) -> dict[str, bytes]:
    return {key: encode(value, key) for key, value in data.items()}


# -- one login key ---------------------------------------------------------------------------------------------------

COMPARED: dict[str, tuple[object, object, Step]] = {
    "nothing": (ABSENT, ABSENT, NOTHING),
    "a name comes": (ABSENT, "ann", SIGNS_IN),
    "a name comes for None": (None, "ann", SIGNS_IN),
    "a name comes for False": (False, "ann", SIGNS_IN),
    "a name comes for an empty one": ("", "ann", SIGNS_IN),
    "a name goes": ("ann", ABSENT, NOTHING),
    "a name becomes None": ("ann", None, NOTHING),
    "a name becomes False": ("ann", False, NOTHING),
    "a name becomes empty": ("ann", "", NOTHING),
    "the same name": ("ann", "ann", NOTHING),
    "another name": ("ann", "bob", SIGNS_IN),
    "the same number as text": (7, "7", NOTHING),
    "another number": (7, 8, SIGNS_IN),
    "number 0 comes": (ABSENT, 0, SIGNS_IN),
    "a UUID and its text": (uuid.UUID(int=7), str(uuid.UUID(int=7)), NOTHING),
    "a long text": ("{}" * 1000, "{}" * 1000 + " ", SIGNS_IN),
    "a mapping comes": (ABSENT, {"sub": "ann"}, SIGNS_IN),
    "a mapping comes for an empty one": ({}, {"sub": "ann"}, SIGNS_IN),
    "a mapping goes": ({"sub": "ann"}, {}, NOTHING),
    "a fresh token": ({"sub": "ann", "token": 1}, {"sub": "ann", "token": 2}, NOTHING),
    "another sub": ({"sub": "ann"}, {"sub": "bob"}, SIGNS_IN),
    "another e-mail beside the same sub": ({"sub": "a", "email": "x"}, {"sub": "a", "email": "y"}, NOTHING),
    "another e-mail": ({"email": "x"}, {"email": "y"}, SIGNS_IN),
    "the first that is text counts": ({"sub": None, "id": 1}, {"sub": ["x"], "id": 2}, SIGNS_IN),
    "another issuer": ({"sub": "a", "iss": "x"}, {"sub": "a", "iss": "y"}, SIGNS_IN),
    "another tenant": ({"sub": "a", "tid": "x"}, {"sub": "a", "tid": "y"}, SIGNS_IN),
    "another tenant, nobody named": ({"tid": "x"}, {"tid": "y"}, SIGNS_IN),
    "a name becomes a mapping": ("ann", {"sub": "ann"}, SIGNS_IN),
    "a mapping becomes a name": ({"sub": "ann"}, "ann", SIGNS_IN),
    "True comes": (ABSENT, True, SIGNS_IN),
    "True comes for False": (False, True, SIGNS_IN),
    "True again": (True, True, NOTHING),
    "True becomes False": (True, False, NOTHING),
    "True and 1": (True, 1, SIGNS_IN),
    "a profile of nobody comes": (ABSENT, {"name": "Ann"}, SIGNS_IN),
    "a profile of nobody changes": ({"name": "Ann"}, {"name": "Anne"}, RENEWS),
    "a list changes": ([1], [2], RENEWS),
    "a list comes": ([], [1], SIGNS_IN),
    "a name becomes a list": ("ann", ["ann"], RENEWS),
}


@pytest.mark.parametrize("case", COMPARED)
def test_what_the_change_of_a_login_key_comes_to(case: str) -> None:
    before, after, expected = COMPARED[case]
    assert compare(encoded(before), encoded(after)) is expected


def test_a_value_that_cannot_be_decoded_names_nobody_and_breaks_nothing() -> None:
    assert compare(b"\xc1", encode("ann", "")) is SIGNS_IN
    assert compare(encode("ann", ""), b"\xc1") is RENEWS
    assert compare(b"\xc1", b"\xc1") is NOTHING


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(True, True, True), (ABSENT, True, False), (False, True, False), ("ann", "ann", False), (1, 1, False)],
)
def test_only_true_over_true_affirms(before: object, after: object, expected: bool) -> None:
    assert is_affirmed(encoded(before), encode(after, "")) is expected


VALUES = st.one_of(
    st.just(ABSENT),
    st.none(),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from(["", "0", "1", "ann", "bob"]),
    st.uuids(),
    st.lists(st.integers(0, 1), max_size=1),
    st.dictionaries(
        st.sampled_from(["sub", "id", "login", "iss", "email", "name"]), st.sampled_from([None, "", 1, "1", "x"])
    ),
)
STATES = st.dictionaries(
    st.sampled_from(["user", "user.login", "_user_id", "logged_in", "cart"]), VALUES.filter(lambda v: v is not ABSENT)
).map(state_of)
RULES = st.sampled_from([DEFAULT, DOTTED, NOBODY, Policy(login_keys=())])


@given(VALUES)
def test_no_change_comes_to_nothing(value: object) -> None:
    assert compare(encoded(value), encoded(value)) is NOTHING


@given(VALUES, VALUES)
def test_between_two_people_a_change_is_one_both_ways(one: object, other: object) -> None:
    """Only where both are there: who goes signs nobody in."""
    there, back = compare(encoded(one), encoded(other)), compare(encoded(other), encoded(one))
    nobody = [compare(None, encoded(value)) is NOTHING for value in (one, other)]
    if nobody == [False, False]:
        assert (there is NOTHING) is (back is NOTHING)
    if nobody[1]:
        assert there is NOTHING


# -- all of them -----------------------------------------------------------------------------------------------------

STEPS: dict[str, tuple[Policy, dict[str, object], dict[str, object], Step]] = {
    "other keys": (DEFAULT, {"cart": 1}, {"cart": 2}, NOTHING),
    "an owner comes": (DEFAULT, {}, {"_user_id": 1}, SIGNS_IN),
    "an owner goes": (DEFAULT, {"_user_id": 1}, {}, NOTHING),
    "an owner goes, a name stays": (DEFAULT, {"_user_id": 1, "user": "a"}, {"user": "a"}, NOTHING),
    "another owner": (DEFAULT, {"_user_id": 1}, {"_user_id": 2}, SIGNS_IN),
    "the same owner as text": (DEFAULT, {"_user_id": 1}, {"_user_id": "1"}, NOTHING),
    "a name comes beside an owner": (DEFAULT, {"_user_id": 1}, {"_user_id": 1, "username": "ann"}, SIGNS_IN),
    "the greater of two counts": (DEFAULT, {"user": [1], "uid": 1}, {"user": [2], "uid": 2}, SIGNS_IN),
    "a profile of nobody": (DEFAULT, {"user": {"login": "a"}}, {"user": {"login": "b"}}, RENEWS),
    "an owner within": (DOTTED, {"user": {"login": "a"}}, {"user": {"login": "b"}}, SIGNS_IN),
    "the same owner within": (DOTTED, {"user": {"login": "a", "n": 1}}, {"user": {"login": "a", "n": 2}}, NOTHING),
    "the same owner of another issuer": (
        DOTTED,
        {"user": {"login": "a", "iss": "x"}},
        {"user": {"login": "a", "iss": "y"}},
        SIGNS_IN,
    ),
    "an owner within goes": (DOTTED, {"user": {"login": "a"}}, {"user": {}}, NOTHING),
    "no owner where one is looked for": (Policy(owner_key="account.id"), {}, {"account": {"name": "x"}}, SIGNS_IN),
    "no owners": (NOBODY, {}, {"_user_id": 1}, NOTHING),
    "no owners, but names": (NOBODY, {}, {"user_id": 1}, SIGNS_IN),
    "no names": (Policy(login_keys=()), {}, {"user_id": 1}, NOTHING),
    "no names, but an owner": (Policy(login_keys=()), {}, {"_user_id": 1}, SIGNS_IN),
}


@pytest.mark.parametrize("case", STEPS)
def test_what_the_change_of_a_session_comes_to(case: str) -> None:
    policy, before, after, expected = STEPS[case]
    assert step(policy, state_of(before), state_of(after)) is expected


@pytest.mark.parametrize("key", LOGIN_KEYS)
def test_every_login_key_signs_in(key: str) -> None:
    assert step(DEFAULT, {}, state_of({key: "ann"})) is SIGNS_IN
    assert is_somebody(DEFAULT, state_of({key: "ann"}))
    assert not is_same(DEFAULT, {}, state_of({key: "ann"}))


@given(RULES, STATES)
def test_a_state_is_the_same_as_itself(policy: Policy, state: dict[str, bytes]) -> None:
    assert is_same(policy, state, dict(state))
    assert step(policy, state, dict(state)) is NOTHING


@given(RULES, STATES, STATES)
def test_being_the_same_goes_both_ways(policy: Policy, one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert is_same(policy, one, other) is is_same(policy, other, one)


@given(RULES, STATES, STATES)
def test_who_is_the_same_does_not_sign_in_and_who_signs_in_is_somebody(
    policy: Policy, before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    if is_same(policy, before, after):
        assert step(policy, before, after) is NOTHING
        assert is_somebody(policy, before) is is_somebody(policy, after)
    if step(policy, before, after) is not NOTHING:
        assert is_somebody(policy, after)


@pytest.mark.parametrize(
    ("policy", "before", "after", "same"),
    [
        (DEFAULT, {"cart": 1}, {"cart": 2}, True),
        (DEFAULT, {"user": {"sub": "a", "n": 1}}, {"user": {"sub": "a", "n": 2}}, True),
        (DEFAULT, {"user": {"sub": "a"}}, {}, False),
        (DEFAULT, {"user": {"sub": "a"}}, {"user": {"sub": "b"}}, False),
        (DEFAULT, {"user": {"n": 1}}, {"user": {"n": 2}}, False),
        (DEFAULT, {"logged_in": True}, {"logged_in": False}, False),
        (DEFAULT, {"logged_in": False}, {}, True),
        (DEFAULT, {"_user_id": 1}, {"_user_id": "1"}, True),
        (DEFAULT, {"_user_id": 1}, {"_user_id": 2}, False),
        (DOTTED, {"user": {"login": "a", "n": 1}}, {"user": {"login": "a", "n": 2}}, True),
        (DOTTED, {"user": {"login": "a"}}, {"user": {"login": "b"}}, False),
    ],
)
def test_the_same_person(policy: Policy, before: dict[str, object], after: dict[str, object], same: bool) -> None:
    assert is_same(policy, state_of(before), state_of(after)) is same


# -- owners ----------------------------------------------------------------------------------------------------------

PATHS: dict[str, tuple[str | None, dict[str, object], str | None]] = {
    "a key": ("_user_id", {"_user_id": 7}, "7"),
    "a key that is not there": ("_user_id", {"user": "ann"}, None),
    "no owners": (None, {"_user_id": 7}, None),
    "a path": ("user.sub", {"user": {"sub": "ann"}}, "ann"),
    "a long path": ("a.b.c", {"a": {"b": {"c": uuid.UUID(int=7)}}}, str(uuid.UUID(int=7))),
    "a path that ends early": ("a.b.c", {"a": {"b": "ann"}}, None),
    "a path into nothing": ("user.sub", {"user": {}}, None),
    "a path to None": ("user.sub", {"user": {"sub": None}}, None),
    "first looked for as it is": ("user.sub", {"user.sub": "ann", "user": {"sub": "bob"}}, "ann"),
    "as it is, though it is None": ("user.sub", {"user.sub": None, "user": {"sub": "bob"}}, None),
}


@pytest.mark.parametrize("case", PATHS)
def test_whom_a_session_belongs_to(case: str) -> None:
    path, data, owner = PATHS[case]
    assert owner_in(Policy(owner_key=path), state_of(data)) == owner


@pytest.mark.parametrize(
    "value",
    [1.5, True, ["ann"], {"id": 1}, "x" * 256, b"ann", "a\0b", pytest.param(10**5000, id="a large number")],
)
def test_what_names_nobody_is_an_error_where_it_is_set_and_nobody_where_it_is_found(value: object) -> None:
    for policy, data in ((DEFAULT, {"_user_id": value}), (DOTTED, {"user": {"login": value}})):
        state = state_of(data)
        assert owner_in(policy, state) is None
        with pytest.raises(SessionInsertError, match=r"owner must be .*SESSION_OWNER_KEY"):
            owner_set_in(policy, state)
