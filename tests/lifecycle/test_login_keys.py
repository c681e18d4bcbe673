"""Keys that log-ins write: what counts as another value, and owners that are named within a value."""

from __future__ import annotations

import typing as t
from uuid import UUID

import pytest
from flask import Flask
from http_support import make_app, sessions_of, started
from login_keys import Heard, each, renewals
from views import assign, clear

from flask_sessionstore import SessionInsertError, SessionStatus, SessionStore, session
from flask_sessionstore.policy import LOGIN_KEYS
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore

ANN = {"sub": "ann", "iss": "https://id.shop.example", "name": "Ann"}
BOB = {**ANN, "sub": "bob", "name": "Bob"}
NAMELESS = {"name": "Ann", "city": "Paris"}


# -- what counts as another value ------------------------------------------------------------------------------------


SIGNED_IN, RENEWED, NOTHING = ["signed in"], ["renewed"], list[str]()


#: What was there, what is written (None: the key is removed), and what a request without a body comes to.
VALUES: list[tuple[object, object, list[str]]] = [
    (None, "ann", SIGNED_IN),
    ("", "ann", SIGNED_IN),
    (False, "ann", SIGNED_IN),
    ("ann", "ann", NOTHING),
    ("ann", "bob", SIGNED_IN),
    (7, "7", NOTHING),
    (7, 8, SIGNED_IN),
    (UUID(int=7), str(UUID(int=7)), NOTHING),
    (None, 0, SIGNED_IN),  # a user's number like any other
    ("ann", "", NOTHING),
    ("ann", None, NOTHING),
    ("ann", False, NOTHING),
    (None, False, NOTHING),
    (None, "", NOTHING),
    (None, {}, NOTHING),
    (None, True, SIGNED_IN),
    (False, True, SIGNED_IN),
    (True, True, NOTHING),
    (None, ANN, SIGNED_IN),
    (ANN, {**ANN, "name": "Anna", "token": "x"}, NOTHING),
    (ANN, BOB, SIGNED_IN),
    (ANN, {**ANN, "iss": "https://id.other.example"}, SIGNED_IN),
    ({"oid": "1", "tid": "a"}, {"oid": "1", "tid": "b"}, SIGNED_IN),
    ({"sub": "s", "id": 1}, {"sub": "s", "id": 2}, NOTHING),  # the first of them names
    ({"id": 1}, {"id": "1", "seen": 5}, NOTHING),
    ({"email": "ann@shop.example"}, {"email": "bob@shop.example"}, SIGNED_IN),
    (True, ANN, SIGNED_IN),
    ("ann", ANN, SIGNED_IN),  # a mapping is no text, whatever it names
    (None, NAMELESS, SIGNED_IN),
    (NAMELESS, NAMELESS, NOTHING),
    (NAMELESS, {**NAMELESS, "city": "Rome"}, RENEWED),
    ({"iss": "x", "name": "Ann"}, {"iss": "x", "name": "Bob"}, RENEWED),  # who issued it does not say whom it names
    ({"iss": "x", "name": "Ann"}, {"iss": "y", "name": "Ann"}, SIGNED_IN),
    (["ann", "admin"], ["bob"], RENEWED),
    ("ann", True, RENEWED),
    (ANN, ["ann"], RENEWED),
    (1.5, 2.5, RENEWED),
]


@each(("before", "after", "reasons"), VALUES)
@each("key", ["user", "_logged_in_user"])
def test_what_counts_as_another_value(key: str, before: object, after: object, reasons: list[str]) -> None:
    browser = started(
        make_app(MemoryStore()), cart=["mug"], csrf_token="old", **({} if before is None else {key: before})
    )
    browser.does(assign(csrf_token="old"))
    assert (
        renewals(browser, lambda: session.pop(key, None) if after is None else session.update({key: after})) == reasons
    )
    assert browser.data.get(key) == after
    assert browser.data["cart"] == ["mug"]
    assert ("csrf_token" in browser.data) is (reasons != SIGNED_IN)


def test_a_sign_in_within_a_value_is_one_too() -> None:
    browser = started(make_app(MemoryStore()), user={"guest": 1}, csrf_token="old")
    browser.does(assign(csrf_token="old"))

    def sign_in() -> SessionStatus:
        session["user"]["id"] = 7
        session["cart"] = []
        return session.status

    assert renewals(browser, sign_in) == ["signed in"]
    assert browser.data == {"user": {"guest": 1, "id": 7}, "cart": []}


def test_the_status_tells_of_a_sign_in_within_a_value() -> None:
    browser = started(make_app(MemoryStore()), user={"guest": 1})

    def sign_in() -> SessionStatus:
        session["user"]["id"] = 7
        return session.status

    assert browser.asks(sign_in) is SessionStatus.RENEWED


def test_who_is_taken_out_and_put_back_in_has_not_signed_in() -> None:
    browser = started(make_app(MemoryStore()), user=ANN)
    browser.does(assign(csrf_token="kept"))
    assert renewals(browser, lambda: session.update(user={**session.pop("user"), "seen": 1})) == []
    assert browser.data == {"user": {**ANN, "seen": 1}, "csrf_token": "kept"}


def test_a_session_renewed_by_hand_too_is_renewed_once(store: SessionStore) -> None:
    browser = started(make_app(store), cart=["mug"])

    def log_in() -> None:
        session.renew()
        session["user_id"] = 7

    with Heard() as heard:
        browser.does(log_in)
    assert heard.renewed == ["signed in"] if isinstance(store, ServerSideStore) else heard.renewed
    assert browser.data == {"cart": ["mug"], "user_id": 7}


def test_without_login_keys_only_the_owner_s_counts() -> None:
    app = make_app(MemoryStore(), SESSION_LOGIN_KEYS=())
    browser = started(app, cart=["mug"])
    assert renewals(browser, assign(user_id=7, user=ANN, logged_in=True)) == []
    assert renewals(browser, assign(_user_id="ann")) == ["signed in"]


def test_another_login_key_is_one_more_name() -> None:
    app = make_app(MemoryStore(), SESSION_LOGIN_KEYS=(*LOGIN_KEYS, "member"))
    browser = started(app, cart=["mug"])
    assert renewals(browser, assign(member=7)) == ["signed in"]
    assert renewals(browser, assign(user=7)) == ["signed in"]


# -- an owner within a value -----------------------------------------------------------------------------------------


BY_SUB = {"SESSION_OWNER_KEY": "user.sub"}


def owners_of(app: Flask, owner: str) -> int:
    with app.app_context():
        return len(sessions_of(app).find(owner))


def test_a_session_is_filed_under_an_owner_within_a_value(index: ServerSideStore) -> None:
    app = make_app(index, **BY_SUB)
    ann, again, bob = started(app, user=ANN), started(app, user=ANN), started(app, user=BOB)
    assert (owners_of(app, "ann"), owners_of(app, "bob")) == (2, 1)
    again.does(assign(user=BOB))
    assert (owners_of(app, "ann"), owners_of(app, "bob")) == (1, 2)
    again.does(lambda: session.pop("user"))
    assert owners_of(app, "bob") == 1
    with app.app_context():
        assert sessions_of(app).revoke_all("ann") == 1
    assert ann.data == {}
    assert bob.data == {"user": BOB}


def test_the_owner_may_change_within_the_value(index: ServerSideStore) -> None:
    app = make_app(index, **BY_SUB)
    browser = started(app, user=dict(ANN))
    thief = browser.twin()
    browser.does(lambda: session["user"].update(BOB))
    assert (owners_of(app, "ann"), owners_of(app, "bob")) == (0, 1)
    browser.does(lambda: session["user"].pop("sub"))
    assert owners_of(app, "bob") == 0
    assert browser.data["user"]["name"] == "Bob"
    assert thief.data == {}


def test_owners_within_a_value_are_limited(index: ServerSideStore) -> None:
    app = make_app(index, SESSION_MAX_PER_OWNER=2, **BY_SUB)
    browsers = []
    for number in range(3):
        index.clock = lambda number=number: 1_800_000_000 + 60 * number
        browsers.append(started(app, user=ANN))
    assert [bool(browser.data) for browser in browsers] == [False, True, True]


def test_a_page_of_devices_works_with_an_owner_within_a_value(index: ServerSideStore) -> None:
    app = make_app(index, **BY_SUB)
    sessions = sessions_of(app)
    here, there, stranger = started(app, user=ANN), started(app, user=ANN), started(app, user=BOB)

    def devices() -> dict[bool, str]:
        return {one.current: one.handle for one in sessions.find(session["user"]["sub"])}

    def end(handle: str) -> bool:
        return sessions.revoke(handle, owner=session["user"]["sub"])

    other = here.asks(devices)[False]
    assert stranger.asks(lambda: end(other)) is False
    assert there.data == {"user": ANN}
    assert here.asks(lambda: end(other)) is True
    assert there.data == {}
    assert here.asks(lambda: sessions.revoke_all("ann", keep_current=True)) == 0
    assert here.data == {"user": ANN}


def test_a_key_with_a_dot_is_first_looked_for_as_it_is(index: ServerSideStore) -> None:
    app = make_app(index, **BY_SUB)
    browser = started(app, **{"user.sub": "carl", "user": ANN})
    assert (owners_of(app, "carl"), owners_of(app, "ann")) == (1, 0)
    browser.does(lambda: session.pop("user.sub"))
    assert (owners_of(app, "carl"), owners_of(app, "ann")) == (0, 1)


def test_a_path_may_be_longer(index: ServerSideStore) -> None:
    app = make_app(index, SESSION_OWNER_KEY="account.profile.id")
    browser = started(app, account={"profile": {"id": 7}}, cart=["mug"])
    assert owners_of(app, "7") == 1
    browser.does(lambda: session["account"]["profile"].update(id=8))
    assert (owners_of(app, "7"), owners_of(app, "8")) == (0, 1)


@each("value", [None, "ann", ["ann"], True, {}, {"sub": None}, {"sub": {}, "id": 7}, {"id": 7}])
def test_a_path_that_leads_nowhere_names_nobody(value: object) -> None:
    app = make_app(MemoryStore(), **BY_SUB)
    if isinstance(value, dict) and value.get("sub") == {}:
        with pytest.raises(SessionInsertError, match="owner"):
            started(app, user=value)
        return
    browser = started(app, cart=["mug"], user=value)
    assert browser.data == {"cart": ["mug"], "user": value}
    assert owners_in(app) == {None}


def owners_in(app: Flask) -> set[str | None]:
    """Whose the sessions in a store are."""
    store = t.cast("MemoryStore", app.session_interface.store)  # type: ignore[attr-defined]
    infos = [store.info(handle) for handle, *_ in store.scan()]
    return {info.owner for info in infos if info is not None}


def test_the_first_part_of_a_path_is_a_login_key_even_where_the_path_leads_nowhere() -> None:
    app = make_app(MemoryStore(), SESSION_OWNER_KEY="account.id")
    browser = started(app, cart=["mug"])
    assert renewals(browser, assign(account={"name": "Ann"})) == ["signed in"]
    assert renewals(browser, assign(account={"name": "Anna"})) == ["renewed"]


def test_where_the_owner_is_known_a_nameless_mapping_may_change(server_store: ServerSideStore) -> None:
    """The path says who it is, though no other part of the mapping does."""
    app = make_app(server_store, SESSION_OWNER_KEY="user.login")
    browser = started(app, user={"login": "ann", "city": "Paris"})
    assert renewals(browser, assign(user={"login": "ann", "city": "Rome"})) == []

    def under_way() -> None:
        session["cart"] = ["mug"]
        assert renewals(browser.twin(), assign(user={"login": "ann", "city": "Oslo"})) == []

    assert renewals(browser, under_way) == []
    assert browser.data == {"user": {"login": "ann", "city": "Oslo"}, "cart": ["mug"]}


def test_the_same_name_from_another_issuer_signs_in_though_the_owner_stays() -> None:
    browser = started(make_app(MemoryStore(), **BY_SUB), user=ANN)
    assert renewals(browser, assign(user={**ANN, "iss": "https://id.other.example"})) == ["signed in"]


# -- a rolling change of SESSION_OWNER_KEY ---------------------------------------------------------------------------


CHANGES = [("_user_id", "user.sub"), ("user.sub", "_user_id"), ("user_id", "user.sub"), (None, "user.sub")]


@each(("old", "new"), CHANGES)
def test_a_rolling_change_of_the_owner_s_key_costs_nobody_anything(
    index: ServerSideStore, old: str | None, new: str | None
) -> None:
    apps = [make_app(index, SESSION_OWNER_KEY=name) for name in (old, new)]
    browser = started(apps[0], user=ANN, _user_id="ann", user_id="ann")
    key = browser.key
    with Heard() as heard:
        for number in range(6):
            browser.app = apps[number % 2]
            browser.does(assign(**{f"n{number}": number}))
            assert browser.data["user"] == ANN
            assert browser.key == key
    assert heard.renewed == heard.ended == heard.dropped == []
    assert [browser.data[f"n{number}"] for number in range(6)] == [*range(6)]


@each(("old", "new"), CHANGES)
def test_after_the_change_a_session_is_found_from_its_next_write_on(
    index: ServerSideStore, old: str | None, new: str | None
) -> None:
    before, after = (make_app(index, SESSION_OWNER_KEY=name) for name in (old, new))
    owners = {"user": {"sub": "by sub"}, "_user_id": "by flask-login", "user_id": "by number"}
    name = {"user.sub": "by sub", "_user_id": "by flask-login", "user_id": "by number"}
    browser = started(before, **owners)
    assert old is None or owners_of(before, name[old]) == 1
    browser.app = after
    assert browser.data == owners
    assert owners_of(after, name[str(new)]) == 0
    browser.does(assign(cart=["mug"]))
    assert owners_of(after, name[str(new)]) == 1
    assert old is None or owners_of(after, name[old]) == 0
    with after.app_context():
        assert sessions_of(after).revoke_all(name[str(new)]) == 1
    assert browser.data == {}


def test_writes_at_once_under_the_old_and_the_new_setting_merge(index: ServerSideStore) -> None:
    old, new = make_app(index), make_app(index, **BY_SUB)
    browser = started(old, user=ANN)
    other = browser.twin()

    def under_way() -> None:
        session["a"] = 1
        other.app = new
        other.does(assign(b=2))

    with Heard() as heard:
        browser.does(under_way)
    assert heard.dropped == heard.renewed == heard.ended == []
    assert browser.data == {"user": ANN, "a": 1, "b": 2}
    browser.app = new
    browser.does(assign(c=3))
    assert owners_of(new, "ann") == 1


def test_a_log_out_under_the_old_setting_holds_under_the_new_one(index: ServerSideStore) -> None:
    old, new = make_app(index), make_app(index, **BY_SUB)
    browser = started(old, user=ANN)
    browser.app = new
    browser.does(assign(a=1))
    browser.app = old
    thief = browser.twin()
    browser.does(clear)
    thief.app = new
    assert thief.data == {}
    assert owners_of(new, "ann") == 0
