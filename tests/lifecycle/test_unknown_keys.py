"""A cookie is deleted only by the response that ended its session: the browser may hold another one by now."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask
from http_support import DELETED, KEPT, SET, Browser, fate, make_app, started, watch

from flask_sessionstore import session
from flask_sessionstore.stores import ServerSideStore

if t.TYPE_CHECKING:
    from flask_sessionstore.testing import Clock

FORM = "name=ann"


@pytest.fixture
def app(server_store: ServerSideStore, clock: Clock) -> Flask:
    server_store.clock = clock
    return make_app(server_store)


def sign_in(name: str = "ann") -> None:
    session["_user_id"] = name


def read() -> object:
    return session.get("cart")


def write() -> None:
    session["late"] = True


def begin(browser: Browser) -> t.Callable[..., t.Any]:
    """A request of this browser, with the cookie that it has now, whose view runs when the result is called."""
    return browser.twin().does


@pytest.mark.parametrize("view", [read, write])
@pytest.mark.parametrize("seconds", [1, 9, 11, 59, 61, 3600])
def test_a_slow_upload_that_began_before_the_log_in_takes_no_new_cookie_away(
    app: Flask, clock: Clock, seconds: float, view: t.Callable[[], object]
) -> None:
    """waitress, and nginx in front of another server, call the application when the whole body has come."""
    browser = started(app, cart=["mug"])
    upload = browser.twin()
    browser.does(sign_in)
    clock.advance(seconds)
    response = upload.does(view, body=FORM)
    assert fate(response) != DELETED
    assert browser.asks(lambda: session["_user_id"]) == "ann"


@pytest.mark.parametrize("ahead", [-30, 30])
def test_clocks_that_are_half_a_minute_apart_take_no_new_cookie_away(
    server_store: ServerSideStore, clock: Clock, ahead: float
) -> None:
    here, there = make_app(server_store), make_app(server_store)
    server_store.clock = clock
    browser = started(here, cart=["mug"])
    old = browser.twin()
    clock.advance(ahead)
    browser.app = there
    browser.does(sign_in)
    clock.advance(-ahead)
    old.app = here
    assert fate(old.does(read)) == KEPT
    browser.app = here
    assert browser.asks(lambda: session["_user_id"]) == "ann"


def test_another_application_with_the_same_secret_takes_no_cookie_away(server_store: ServerSideStore) -> None:
    """On one host, with another store: each meets the cookie of the other as a key that it does not know."""
    from flask_sessionstore.stores.memory import MemoryStore

    browser = started(make_app(server_store), cart=["mug"])
    other = Browser(make_app(MemoryStore()), *browser.cookies)
    assert fate(other.does(read)) == KEPT
    assert fate(other.does(lambda: session.pop("cart", None))) == KEPT


def test_a_session_that_has_expired_is_left_to_the_browser(app: Flask, clock: Clock) -> None:
    browser = started(app, cart=["mug"])
    clock.advance(32 * 86400)
    assert fate(browser.does(read)) == KEPT
    assert fate(browser.does(write)) == SET


def test_a_page_whose_log_in_reply_was_lost_works_again_after_ten_seconds(app: Flask, clock: Clock) -> None:
    browser = started(app, cart=["mug"])
    browser.twin().does(sign_in)  # the browser never got the reply
    assert fate(browser.does(write)) == KEPT  # a request that was under way when the other was served
    clock.advance(11)
    assert fate(browser.does(write)) == SET
    assert browser.data == {"late": True}


def test_a_log_in_whose_reply_was_lost_can_be_repeated_at_once(app: Flask) -> None:
    browser = started(app, cart=["mug"])
    browser.twin().does(lambda: sign_in("ann"), body=FORM)
    assert fate(browser.does(lambda: sign_in("bob"), body=FORM)) == SET
    assert browser.asks(lambda: session["_user_id"]) == "bob"


@pytest.mark.parametrize("after", [1, 9])
def test_a_straggler_of_the_user_before_takes_no_new_cookie_away(app: Flask, clock: Clock, after: float) -> None:
    """A switch of users, or an impersonation: what the first user's pages still ask changes nothing."""
    browser = started(app)
    browser.does(lambda: sign_in("ann"))
    poll = browser.twin()
    browser.does(lambda: sign_in("bob"))
    clock.advance(after)
    assert fate(poll.does(lambda: sign_in("ann"))) == KEPT  # as a remember cookie does
    assert fate(poll.does(write)) == KEPT
    assert browser.asks(lambda: session["_user_id"]) == "bob"


def test_a_guest_s_number_given_to_a_straggler_takes_no_new_cookie_away(app: Flask) -> None:
    browser = started(app, uid="guest-1")
    poll = browser.twin()
    browser.does(lambda: session.update(uid="ann"), body=FORM)
    assert fate(poll.does(lambda: session.setdefault("uid", "guest-2"))) == KEPT
    assert browser.data["uid"] == "ann"


def test_a_log_out_is_not_undone_by_an_edit_of_the_profile_under_way(app: Flask) -> None:
    browser = started(app)
    browser.does(lambda: session.update(user={"sub": "1", "name": "Ann"}))
    calls = watch(t.cast("t.Any", app.session_interface).store)

    def edit() -> None:
        user = session["user"]
        browser.does(lambda: session.pop("user"))
        session["user"] = {**user, "token": "new"}

    assert fate(browser.twin().does(edit)) == KEPT
    assert calls
    assert browser.data == {}
