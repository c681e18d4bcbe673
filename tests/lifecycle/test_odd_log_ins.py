"""Applications that write their log-in's keys in odd ways, or beside other extensions."""

from __future__ import annotations

import json
import typing as t
from functools import partial

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient
from http_support import KEPT, Browser, fate, make_app, started
from hypothesis import example, given
from hypothesis import strategies as st
from login_keys import Heard, each, renewals
from views import assign

from flask_sessionstore import SessionManager, SessionStore, session
from flask_sessionstore.policy import LOGIN_KEYS
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore

flask_wtf = pytest.importorskip("flask_wtf")
ANN = {"sub": "ann", "iss": "https://id.shop.example", "name": "Ann"}
NAMELESS = {"name": "Ann", "city": "Paris"}
FORM = "a=form"
BY_SUB = {"SESSION_OWNER_KEY": "user.sub"}


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
def test_a_value_that_says_nobody_is_kept_like_any_other(any_store: SessionStore, key: str, value: object) -> None:
    browser = started(make_app(any_store), **{key: value})
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
