"""Replay: a cookie that was copied is worth nothing once its session ended, where the server can know that."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
from attacks import LOG_OUTS, PROTECTIONS, by_owner, identity, steps, target
from http_support import SET, Action, Browser, fate, started
from views import renew

from flask_sessionstore import session
from flask_sessionstore.stores import ServerSideStore, from_url
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.testing import Clock

each = pytest.mark.parametrize


def test_after_a_log_out_the_old_cookie_is_worth_nothing(server_store: ServerSideStore, clock: Clock) -> None:
    app = target(server_store, clock)
    for log_out in LOG_OUTS:
        user = started(app, _user_id="ann", letters=["private"])
        thief = user.twin()
        assert thief.data == {"_user_id": "ann", "letters": ["private"]}
        user.does(log_out)
        for seconds in (0, 60):
            clock.advance(seconds)
            assert thief.twin().data == {}
        thief.does(lambda: session.update(note="mine"))
        assert thief.data == {"note": "mine"}
        assert not identity(user)


def test_a_thief_whose_request_is_under_way_brings_nothing_back(server_store: ServerSideStore, clock: Clock) -> None:
    app = target(server_store, clock)
    for log_out in LOG_OUTS:
        user = started(app, _user_id="ann", letters=["private"])
        thief, latecomer = user.twin(), user.twin()

        def load_before_and_write_after(log_out: Action = log_out, user: Browser = user) -> None:
            session["letters"].append("more")
            user.does(log_out)
            session["note"] = "mine"

        thief.does(load_before_and_write_after)
        assert "letters" not in thief.data
        assert latecomer.data == {}
        assert not identity(user)


def test_a_renewed_session_s_old_cookie_reads_nothing_and_writes_nothing(
    server_store: ServerSideStore, clock: Clock
) -> None:
    user = started(target(server_store, clock), _user_id="ann", cart=[])
    thief = user.twin()
    user.does(renew)
    for seconds in (0, 60):
        clock.advance(seconds)
        assert thief.twin().data == {}
        thief.twin().does(lambda: session.update(cart=["planted"]))
    assert user.data == {"_user_id": "ann", "cart": []}


def test_an_older_cookie_of_a_living_session_is_the_session_as_it_is_now(
    server_store: ServerSideStore, clock: Clock
) -> None:
    """What was in the cookie's time is nowhere to be had: the cookie names the session, it does not hold it."""
    user = started(target(server_store, clock), balance=100)
    old = user.twin()
    user.does(lambda: session.update(balance=0))
    assert old.data == {"balance": 0}


# -- the cookie store ----------------------------------------------------------------------------------------------


@each("protection", PROTECTIONS)
def test_the_cookie_store_cannot_take_back_what_it_gave_and_says_so(protection: str, clock: Clock) -> None:
    app = target(CookieStore(), clock, SESSION_COOKIE_CONTENT_SECURITY=protection)
    for log_out in LOG_OUTS:
        user = started(app, _user_id="ann")
        thief = user.twin()
        user.does(log_out)
        assert not identity(user)
        assert thief.data["_user_id"] == "ann"
    promise = " ".join(t.cast(str, CookieStore.__doc__).split())
    assert "sessions cannot be revoked" in promise
    assert "a copy of an old cookie stays valid until it expires" in promise


ENDS: dict[str, tuple[Action, dict[str, t.Any]]] = {
    "browser session": (lambda: None, {"PERMANENT_SESSION_LIFETIME": 3600}),
    "permanent": (lambda: setattr(session, "permanent", True), {"PERMANENT_SESSION_LIFETIME": 3600}),
    "lifetime of its own": (lambda: setattr(session, "lifetime", timedelta(hours=1)), {}),
    "short browser session": (lambda: None, {"SESSION_BROWSER_LIFETIME": 3600}),
    "absolute": (lambda: setattr(session, "permanent", True), {"SESSION_ABSOLUTE_LIFETIME": 3600}),
}


@each("protection", PROTECTIONS)
@each("url", ["memory:", "cookie:"])
@each(("set_up", "config"), ENDS.values(), ids=list(ENDS))
def test_a_token_is_believed_until_its_end_and_never_after(
    set_up: Action, config: dict[str, t.Any], url: str, protection: str, clock: Clock
) -> None:
    """Whatever the browser thinks of it: Max-Age is a request to the browser, and a thief is none."""
    app = target(from_url(url), clock, SESSION_COOKIE_CONTENT_SECURITY=protection, **config)
    user = Browser(app)
    user.does(steps(lambda: session.update(_user_id="ann"), set_up))
    thief = user.twin()
    clock.advance(60)
    assert identity(thief.twin())
    clock.advance(3601)
    for _ in range(2):
        assert fate(thief.twin().does()) != SET
        assert thief.twin().data == {}
    written = thief.twin()
    written.does(lambda: session.update(note=1))
    assert written.data == {"note": 1}


@each("protection", PROTECTIONS)
def test_an_extension_does_not_prolong_the_tokens_before_it(protection: str, clock: Clock) -> None:
    app = target(CookieStore(), clock, PERMANENT_SESSION_LIFETIME=3600, SESSION_COOKIE_CONTENT_SECURITY=protection)
    user = Browser(app)
    user.does(steps(by_owner, lambda: setattr(session, "permanent", True)))
    old = user.twin()
    for _ in range(3):
        clock.advance(1800)
        user.does(lambda: session.get("_user_id"))
    assert identity(user)
    assert not identity(old)


def test_what_is_under_the_deadline_of_a_token_cannot_be_moved(clock: Clock) -> None:
    app = target(CookieStore(), clock, SESSION_ABSOLUTE_LIFETIME=3600)
    user = started(app, _user_id="ann")
    for _ in range(3):
        clock.advance(1199)
        user.does(lambda: session.update(n=session.get("n", 0) + 1))
    assert identity(user)
    clock.advance(3)
    assert not identity(user)
