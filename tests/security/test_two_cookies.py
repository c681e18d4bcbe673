"""Several living cookies of one name: whoever planted the others, every way out and every way in works at once.

A host beside ours plants a cookie for the whole domain, or for one path: the browser sends it together with the
visitor's own, and no server can tell them apart. So whatever lives among them is ended at the first touch.
"""

from __future__ import annotations

import typing as t

import flask_login
import flask_wtf
import pytest
from attacks import User, by_flask_login, identity, read_all, target
from flask import Flask, current_app
from http_support import _ACTION, KEPT, Action, Browser, fate, make_app, set_cookies, started, warnings_in
from views import clear, purge, renew, sign_in, write
from werkzeug.test import TestResponse

from flask_sessionstore import SessionManager, SessionStore, session
from flask_sessionstore.stores import OwnerIndex, ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


@pytest.fixture
def app(server_store: ServerSideStore, clock: Clock) -> Flask:
    return target(server_store, clock)


class Visitor:
    """A browser with a cookie of its own, and some that others have planted, which no response of ours can delete."""

    def __init__(self, app: Flask, own: str | None, *planted: str) -> None:
        self.app, self.own, self.planted = app, own, planted
        self._client = app.test_client(use_cookies=False)

    @property
    def header(self) -> str:
        return "; ".join(f"session={value}" for value in (*self.planted, self.own) if value)

    def does(self, action: Action, *, header: str | None = None, **form: str) -> TestResponse:
        """One request; with a form, a POST. Another header: of a request that was sent before the last answer came."""
        send = self._client.post if form else self._client.get
        headers = {"Cookie": self.header if header is None else header}
        response = send("/", data=form or None, headers=headers, environ_overrides={_ACTION: action}, buffered=True)
        for cookie in set_cookies(response):
            self.own = None if cookie.deletes else cookie.value
        return response

    def who(self) -> str | None:
        found: list[str | None] = []
        self.does(lambda: found.append(session.get("_user_id")))
        return found[0]


def attacked(app: Flask, planted: int = 1, **data: object) -> tuple[Visitor, Browser, list[Browser]]:
    """A visitor, a thief with a copy of the visitor's own cookie, and the attackers whose cookies were planted."""
    own = started(app, **data)
    attackers = [started(app, _user_id=f"mallory{n}") for n in range(planted)]
    return Visitor(app, own.cookie, *(str(browser.cookie) for browser in attackers)), own.twin(), attackers


def revoke() -> None:
    manager().revoke(session.handle or "")


def revoke_all() -> None:
    manager().revoke_all("ann")


def manager() -> SessionManager:
    return t.cast("SessionManager", current_app.extensions["sessionstore"])


WAYS_OUT: list[Action] = [
    clear,
    purge,
    flask_login.logout_user,
    lambda: session.pop("_user_id", None),
    revoke,
    revoke_all,
]
NAMES = ["clear", "purge", "logout_user", "pop", "revoke", "revoke_all"]


@pytest.mark.parametrize("planted", [1, 8])
@pytest.mark.parametrize("way_out", WAYS_OUT, ids=NAMES)
def test_every_way_out_is_one_at_once(app: Flask, way_out: Action, planted: int, server_store: SessionStore) -> None:
    if way_out is revoke_all and server_store.ability(OwnerIndex) is None:
        pytest.skip("this store cannot tell whose its sessions are")
    visitor, thief, attackers = attacked(app, planted, _user_id="ann")
    assert visitor.does(way_out).status_code == 200
    assert visitor.who() is None
    assert not identity(thief)
    assert not any(identity(attacker) for attacker in attackers)


@pytest.mark.parametrize("planted", [1, 8])
def test_a_log_in_is_one_at_once(app: Flask, planted: int) -> None:
    visitor, _, attackers = attacked(app, planted, cart=["mug"])
    assert visitor.does(by_flask_login, name="ann").status_code == 200
    assert visitor.who() == "ann"
    assert not any(identity(attacker) for attacker in attackers)
    visitor.does(clear)
    assert visitor.who() is None


def test_nine_dead_ones_beside_the_visitor_s_own_do_nothing(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    dead = [started(app, _user_id="mallory") for _ in range(9)]
    cookies = [str(browser.cookie) for browser in dead]
    for browser in dead:
        browser.does(clear)
    visitor = Visitor(app, started(app, _user_id="ann").cookie, *cookies)
    thief = Browser(app, str(visitor.own))
    assert visitor.who() == "ann"
    visitor.does(clear)
    assert (visitor.who(), identity(thief)) == (None, {})
    visitor.does(by_flask_login, name="ann")
    assert visitor.who() == "ann"
    assert not any("living" in warning for warning in warnings_in(caplog))


def test_one_warning_says_that_they_were_ended(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    visitor, _, _ = attacked(app, 8, _user_id="ann")
    visitor.does(read_all)
    visitor.does(read_all)
    (warning,) = (warning for warning in warnings_in(caplog) if "living" in warning)
    assert "9 living" in warning


def test_a_request_that_does_not_look_at_its_session_ends_nothing(server_store: ServerSideStore) -> None:
    app = make_app(server_store)  # without Flask-Login, which looks
    visitor, thief, (attacker,) = attacked(app, _user_id="ann")
    visitor.does(lambda: None)
    assert identity(thief) == {"_user_id": "ann"}
    assert identity(attacker) == {"_user_id": "mallory0"}


# -- the two halves of a page --------------------------------------------------------------------------------------


def look() -> None:
    session.get("_user_id")


@pytest.mark.parametrize("is_first", [True, False])
def test_a_log_in_beside_another_request_of_the_page_holds_in_either_order(app: Flask, is_first: bool) -> None:
    """Both were sent with the two living cookies."""
    visitor, _, _ = attacked(app, cart=["mug"])
    header = visitor.header
    if is_first:
        visitor.does(look, header=header)
    visitor.does(by_flask_login, header=header, name="ann")
    if not is_first:
        visitor.does(look, header=header)
    assert visitor.who() == "ann"


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("way_out", WAYS_OUT[:5], ids=NAMES[:5])
def test_a_log_out_beside_another_request_of_the_page_holds_in_either_order(
    app: Flask, way_out: Action, is_first: bool
) -> None:
    visitor, thief, attackers = attacked(app, _user_id="ann")
    header = visitor.header
    for action in (look, way_out) if is_first else (way_out, look):
        assert visitor.does(action, header=header).status_code == 200
    assert visitor.who() is None
    assert not identity(thief)
    assert not any(identity(attacker) for attacker in attackers)


# -- what a way in keeps in the session between two requests -----------------------------------------------------------


class Form(flask_wtf.FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """A form with nothing but its token."""


@pytest.mark.parametrize("planted", [1, 8])
def test_a_form_with_a_token_can_be_sent(app: Flask, planted: int) -> None:
    visitor, _, _ = attacked(app, planted, cart=["mug"])
    tokens: list[str] = []
    answers: list[bool] = []

    def submit() -> None:
        answers.append(Form().validate_on_submit())
        by_flask_login()

    visitor.does(lambda: tokens.append(Form().csrf_token.current_token))
    visitor.does(submit, csrf_token=tokens[0])
    assert (answers, visitor.who()) == ([True], "ann")


@pytest.mark.parametrize("planted", [1, 8])
def test_the_state_of_an_oauth_log_in_comes_back(app: Flask, planted: int) -> None:
    """It is kept at the start, and the provider sends the browser back, with a GET."""
    visitor, _, _ = attacked(app, planted, cart=["mug"])

    def begin() -> None:
        session["_state_google_x"] = {"data": {"nonce": "n"}}

    def come_back() -> None:
        assert session.pop("_state_google_x") == {"data": {"nonce": "n"}}
        flask_login.login_user(User("ann"))

    visitor.does(begin)
    visitor.does(come_back)
    assert visitor.who() == "ann"


@pytest.mark.parametrize(("how", "act"), [(purge, sign_in), (renew, write), (renew, sign_in), (sign_in, write)])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_planted_cookie_that_nobody_knows_does_not_hide_how_the_session_went(
    how: Action, act: Action, first: bool
) -> None:
    """A request that began with the session makes no other one, which would undo the log-out or log the user out."""
    app = make_app(MemoryStore())
    browser = started(app, a=1)
    twin, unknown = browser.twin(), str(started(make_app(MemoryStore()), a=1).cookie)
    browser.cookies.insert(0 if first else 1, unknown)

    def view() -> None:
        twin.does(how)
        act()

    assert fate(browser.does(view)) == KEPT
