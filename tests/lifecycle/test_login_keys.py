"""Keys that log-ins write: owners that are named within a value, and applications that write such keys in odd ways."""

from __future__ import annotations

import json
import typing as t
from functools import partial
from uuid import UUID

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient
from http_support import KEPT, Browser, fate, make_app, started
from hypothesis import example, given
from hypothesis import strategies as st
from views import assign, clear

from flask_sessionstore import SessionInsertError, SessionManager, SessionStatus, SessionStore, session
from flask_sessionstore.manager import EXTENSION
from flask_sessionstore.policy import LOGIN_KEYS
from flask_sessionstore.signals import session_ended, session_renewed, session_write_dropped
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore

flask_wtf = pytest.importorskip("flask_wtf")

each = pytest.mark.parametrize

ANN = {"sub": "ann", "iss": "https://id.shop.example", "name": "Ann"}
BOB = {**ANN, "sub": "bob", "name": "Bob"}
NAMELESS = {"name": "Ann", "city": "Paris"}
FORM = "a=form"


def sessions_of(app: Flask) -> SessionManager:
    return t.cast("SessionManager", app.extensions[EXTENSION])


class Heard:
    """What was said of sessions meanwhile: why they were renewed, how they ended, why writes were dropped."""

    def __init__(self) -> None:
        self.renewed: list[str] = []
        self.ended: list[str] = []
        self.dropped: list[str] = []

    def __enter__(self) -> t.Self:
        session_renewed.connect(self._renewed)
        session_ended.connect(self._ended)
        session_write_dropped.connect(self._dropped)
        return self

    def __exit__(self, *_: object) -> None:
        session_renewed.disconnect(self._renewed)
        session_ended.disconnect(self._ended)
        session_write_dropped.disconnect(self._dropped)

    def _renewed(self, sender: object, *, reason: str, **_: object) -> None:
        self.renewed.append(reason)

    def _ended(self, sender: object, *, how: str, **_: object) -> None:
        self.ended.append(how)

    def _dropped(self, sender: object, *, reason: str, **_: object) -> None:
        self.dropped.append(reason)


def renewals(browser: Browser, action: t.Callable[[], object], body: str = "") -> list[str]:
    """Why the request renewed its session; empty: it did not, and the browser has the key that it had."""
    before = browser.key
    with Heard() as heard:
        browser.does(action, body=body)
    assert heard.ended == heard.dropped == []
    assert (browser.key != before) is bool(heard.renewed)
    return heard.renewed


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


# -- applications that write login keys in odd ways ------------------------------------------------------------------


def test_true_at_every_request_renews_in_those_with_a_body(server_store: ServerSideStore) -> None:
    browser = Browser(make_app(server_store))
    browser.does(assign(logged_in=True))
    for _ in range(3):
        assert renewals(browser, assign(logged_in=True)) == []
    assert renewals(browser, assign(logged_in=True), body=FORM) == ["renewed"]
    assert browser.data == {"logged_in": True}


def test_true_that_is_taken_out_and_set_again_is_a_log_in() -> None:
    """A log-in view that first takes out whoever was there; an OAuth callback has no body."""
    browser = started(make_app(MemoryStore()), logged_in=True)

    def log_in() -> None:
        session.pop("logged_in", None)
        session["logged_in"] = True

    assert renewals(browser, log_in) == ["renewed"]
    assert renewals(browser, log_in, body=FORM) == ["renewed"]


def test_a_mapping_without_an_id_at_every_request_renews_only_if_it_changes(server_store: ServerSideStore) -> None:
    browser = Browser(make_app(server_store))
    browser.does(assign(user=NAMELESS, cart=["mug"]))
    for _ in range(3):
        assert renewals(browser, assign(user=dict(NAMELESS))) == []
    for number in range(3):
        assert renewals(browser, assign(user={**NAMELESS, "seen": number})) == ["renewed"]
        assert browser.data == {"user": {**NAMELESS, "seen": number}, "cart": ["mug"]}


def beside(browser: Browser, first: t.Callable[[], object], second: t.Callable[[], object]) -> tuple[Browser, Heard]:
    """Two requests of a browser: ``first`` runs from beginning to end while ``second`` is under way.

    The result is the browser as it is if the response to ``first`` came last.
    """
    other = browser.twin()

    def under_way() -> None:
        session.get("user")
        other.does(first)
        second()

    with Heard() as heard:
        browser.does(under_way)
    return other, heard


def edit(**data: object) -> t.Callable[[], None]:
    """As a form that edits the profile does."""
    return lambda: session.update(user={**session["user"], **data})


def test_edits_at_once_of_a_mapping_without_an_id_sign_nobody_out(server_store: ServerSideStore) -> None:
    """Nobody can tell whether they are of one person: two sessions keep them, and the browser has the later."""
    browser = started(make_app(server_store), user=NAMELESS, cart=["mug"])
    thief = browser.twin()
    other, heard = beside(browser, edit(city="Rome"), edit(name="Anna"))
    assert heard.dropped == []
    assert browser.data == {"user": {"name": "Anna", "city": "Paris"}, "cart": ["mug"]}
    assert other.data == {"user": {"name": "Ann", "city": "Rome"}, "cart": ["mug"]}
    assert thief.data == {}


def test_edits_at_once_within_a_mapping_without_an_id_sign_nobody_out(server_store: ServerSideStore) -> None:
    browser = started(make_app(server_store), user=NAMELESS, cart=["mug"])
    other, heard = beside(
        browser, lambda: session["user"].update(city="Rome"), lambda: session["user"].update(name="Anna")
    )
    assert heard.dropped == []
    assert browser.data == {"user": {"name": "Anna", "city": "Paris"}, "cart": ["mug"]}
    assert other.data == {"user": {"name": "Ann", "city": "Rome"}, "cart": ["mug"]}


@each("config", [{}, BY_SUB])
def test_edits_at_once_of_a_mapping_with_an_id_merge(server_store: ServerSideStore, config: dict[str, object]) -> None:
    browser = started(make_app(server_store, **config), user=ANN, cart=["mug"])
    key = browser.key

    def edit_and_buy() -> None:
        edit(name="Anna")()
        session["cart"] = ["mug", "cup"]

    other, heard = beside(browser, lambda: session.update(user={**ANN, "city": "Rome"}, seen=1), edit_and_buy)
    assert heard.renewed == heard.dropped == heard.ended == []
    assert browser.key == other.key == key
    assert browser.data == {"user": {**ANN, "name": "Anna"}, "cart": ["mug", "cup"], "seen": 1}


def test_a_refreshed_token_is_no_sign_in(store: SessionStore) -> None:
    browser = started(make_app(store), user={**ANN, "access_token": "one"})
    browser.does(assign(csrf_token="kept"))
    with Heard() as heard:
        browser.does(edit(access_token="two"))
        browser.does(lambda: session["user"].update(access_token="three"))
    assert heard.renewed == []
    assert browser.data == {"user": {**ANN, "access_token": "three"}, "csrf_token": "kept"}


def test_a_log_out_is_not_undone_by_a_token_that_is_refreshed_at_once(server_store: ServerSideStore) -> None:
    browser = started(make_app(server_store), user=ANN, cart=["mug"])
    other, heard = beside(
        browser, lambda: session.pop("user"), lambda: session.update(user={**ANN, "access_token": "2"})
    )
    assert heard.dropped == ["ended"]
    assert browser.data == other.data == {"cart": ["mug"]}


@each("value", [None, "", 0, False, [], {}, 0.0])
@each("key", LOGIN_KEYS)
def test_a_value_that_says_nobody_is_kept_like_any_other(store: SessionStore, key: str, value: object) -> None:
    browser = started(make_app(store), **{key: value})
    found = browser.data[key]
    assert (found, type(found)) == (value, type(value))


@each("value", [None, "", False])
def test_a_value_that_says_nobody_keeps_the_key(value: object) -> None:
    browser = started(make_app(MemoryStore()), cart=["mug"])
    for key in LOGIN_KEYS:
        assert renewals(browser, assign(**{key: value})) == []


def test_a_login_key_that_is_removed_renews_nothing(store: SessionStore) -> None:
    browser = started(make_app(store), cart=["mug"], user=ANN)
    key = browser.key
    with Heard() as heard:
        browser.does(lambda: session.pop("user"))
    assert heard.renewed == heard.ended == []
    assert browser.data == {"cart": ["mug"]}
    assert browser.key == key or not isinstance(store, ServerSideStore)


def test_a_log_in_after_such_a_log_out_renews() -> None:
    browser = started(make_app(MemoryStore()), cart=["mug"], user=ANN)
    browser.does(lambda: session.pop("user"))
    assert renewals(browser, assign(user=ANN)) == ["signed in"]


def test_a_long_text_under_a_login_key_is_kept(store: SessionStore) -> None:
    """As applications have it that keep a user as JSON."""
    text = json.dumps({"sub": "ann", "note": "x" * 2000})
    browser = started(make_app(store), cart=["mug"])
    browser.does(assign(user=text))
    assert browser.data == {"cart": ["mug"], "user": text}


def test_a_guest_s_number_is_one_session_from_the_second_request_on(server_store: ServerSideStore) -> None:
    browser = Browser(make_app(server_store))
    number = lambda: session.setdefault("uid", "a guest's number")  # noqa: E731
    browser.does(number)
    for _ in range(2):
        assert fate(browser.does(number)) == KEPT


def test_two_first_requests_of_a_guest_at_once_are_two_sessions(server_store: ServerSideStore) -> None:
    """Over a session that is there, of which both have loaded that it has no number."""
    browser = started(make_app(server_store), cart=["mug"])
    other, heard = beside(browser, assign(uid="one"), assign(uid="two"))
    assert (browser.data, other.data) == ({"cart": ["mug"], "uid": "two"}, {"cart": ["mug"], "uid": "one"})
    assert heard.renewed == ["signed in"]


def test_a_guest_s_number_that_is_no_login_key_merges(server_store: ServerSideStore) -> None:
    app = make_app(server_store, SESSION_LOGIN_KEYS=tuple(key for key in LOGIN_KEYS if key != "uid"))
    browser = started(app, cart=["mug"])
    other, heard = beside(browser, assign(uid="one"), assign(uid="two"))
    assert browser.data == other.data == {"cart": ["mug"], "uid": "two"}
    assert heard.renewed == []


def test_a_log_in_clicked_twice_whose_second_request_loads_later_starts_without_the_cart(
    server_store: ServerSideStore,
) -> None:
    browser = started(make_app(server_store), cart=["mug"])
    second = browser.twin()
    browser.does(assign(user_id=7), body=FORM)
    second.does(assign(user_id=7), body=FORM)
    assert browser.data == {"cart": ["mug"], "user_id": 7}
    assert second.data == {"user_id": 7}


# -- beside the forms of Flask-WTF -----------------------------------------------------------------------------------


class Form(flask_wtf.FlaskForm):  # type: ignore[misc, name-defined]  # Flask-WTF has no types
    """A form with nothing but its token."""


def forms(store: SessionStore, before_request: t.Callable[[], None]) -> FlaskClient:
    """A browser of an application whose every POST needs a token, and that does this before each request."""
    app = Flask("forms")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True)
    SessionManager(app)
    flask_wtf.CSRFProtect(app)
    app.before_request(before_request)
    app.add_url_rule("/", "form", lambda: Form().csrf_token.current_token)
    app.add_url_rule("/order", "order", lambda: "ordered", methods=["POST"])
    return app.test_client()


ODD: dict[str, t.Callable[[], None]] = {
    "list": assign(user=["ann", "admin"]),
    "list that changes": lambda: session.update(user=["ann", session.get("n", 0)], n=session.get("n", 0) + 1),
    "true": assign(logged_in=True),
    "nameless": assign(user=NAMELESS),
    "nameless that changes": lambda: session.update(user={"seen": session.get("n", 0)}, n=session.get("n", 0) + 1),
    "with an id": lambda: session.update(user={**ANN, "seen": session.get("n", 0)}, n=session.get("n", 0) + 1),
    "taken out and put in": lambda: session.update(user={**ANN, **session.pop("user", {})}),
    "text": assign(username="ann"),
}


@each("odd", ODD)
def test_tokens_stay_valid_whatever_is_written_at_every_request(store: SessionStore, odd: str) -> None:
    client = forms(store, ODD[odd])
    first = client.get("/").text
    client.get("/")
    for _ in range(3):
        assert client.post("/order", data={"csrf_token": first}).text == "ordered"
    later = client.get("/").text
    for token in (first, later):
        assert client.post("/order", data={"csrf_token": token}).text == "ordered"


# -- as with Flask's own session -------------------------------------------------------------------------------------

TEXTS = st.text(max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS
KEYS = st.sampled_from(["sub", "id", "iss", "tid", "email", "username", "name", "oid"]) | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
#: What one request writes: values by key, or None to remove it.
REQUESTS = st.lists(st.dictionaries(st.sampled_from(LOGIN_KEYS), st.tuples(JSON) | st.none(), max_size=3), max_size=4)


@given(requests=REQUESTS, body=st.sampled_from(["", FORM]))
@example(requests=[{"user": (json.dumps({"note": "x" * 2000}),)}], body="")
@example(requests=[{"uid": ("",)}, {"uid": ({"id": ""},)}, {"uid": (True,)}, {"uid": None}], body=FORM)
@example(requests=[{"user": ({"sub": "a\0b"},)}], body="")
def test_whatever_is_written_is_read_back_as_with_flask_s_own_session(
    requests: list[dict[str, tuple[object] | None]], body: str
) -> None:
    ours, own = Browser(make_app(MemoryStore())), Browser(make_app(MemoryStore()))
    own.app.session_interface = SecureCookieSessionInterface()
    for written in requests:
        for browser in (ours, own):
            assert browser.does(partial(write, written), body=body).status_code == 200
        assert as_text(ours.data) == as_text(own.data)


def write(changes: dict[str, tuple[object] | None]) -> None:
    for key, value in changes.items():
        if value is None:
            session.pop(key, None)
        else:
            session[key] = value[0]


def as_text(data: dict[str, t.Any]) -> str:
    """With the types that JSON has, and whatever the order of keys."""
    return json.dumps(data, sort_keys=True)
