"""A cookie of a former secret is replaced by the next response that may carry one, over every store."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask, Response
from http_support import DELETED, KEPT, SET, Action, Browser, cookie_of, fate, make_app, started, warnings_in, watch
from lifecycle_views import A, both, memory_store, store_of
from views import force, make_permanent, nothing, purge, read, remove_all, save, write

from flask_sessionstore import SessionStore, session
from flask_sessionstore.encryption import PRIVATE
from flask_sessionstore.signing import SIGNED
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore

PROTECTIONS = {"signed": SIGNED, "private": PRIVATE}
DAY = 86_400.0


@pytest.fixture(params=PROTECTIONS)
def kind(request: pytest.FixtureRequest) -> str:
    return t.cast("str", request.param)


@pytest.fixture
def app(any_store: SessionStore, kind: str, clock: Clock) -> Flask:
    """An application before its secret changes, of which no store knows, but for the cookie."""
    return make(any_store, kind, clock)


def make(store: SessionStore, kind: str, clock: Clock, **config: object) -> Flask:
    store.clock = clock
    return make_app(store, SECRET_KEY="old", SESSION_COOKIE_CONTENT_SECURITY=kind, **config)


def change_secret(app: Flask) -> None:
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"])


def verifies(app: Flask, cookie: str | None, secret: str) -> bool:
    """Whether ``cookie`` was made under this secret."""
    protection = PROTECTIONS[app.config["SESSION_COOKIE_CONTENT_SECURITY"]]
    return protection.tokens((secret,), "session", "/").loads(str(cookie), store_of(app).key_class) is not None


def permanent(app: Flask) -> Browser:
    browser = started(app, **A)
    browser.does(make_permanent)
    return browser


def public() -> Response:
    response = Response("for everybody")
    response.cache_control.public = True
    return response


ANSWERS: dict[str, tuple[Action, list[str], str]] = {
    "untouched": (nothing, ["update_ttl"], SET),
    "read": (read, ["load", "update_ttl"], SET),
    "saved, unchanged": (both(read, save), ["load", "update_ttl"], SET),
    "forced": (force, ["load", "update_ttl"], SET),
    "changed": (write, ["load", "update(replaces)"], SET),
    "emptied": (remove_all, ["load", "delete(replaces, emptied)"], DELETED),
    "purged": (purge, ["delete"], DELETED),
    "public, untouched": (public, [], KEPT),
    "public, read": (both(read, public), ["load"], KEPT),
}


@pytest.mark.parametrize("is_permanent", [False, True], ids=["browser session", "permanent"])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_response_that_may_carry_a_cookie_replaces_it(name: str, app: Flask, is_permanent: bool) -> None:
    view, expected, outcome = ANSWERS[name]
    browser = permanent(app) if is_permanent else started(app, **A)
    change_secret(app)
    calls = watch(store_of(app))
    response = browser.does(view)
    assert (calls, fate(response)) == (expected, outcome)
    if outcome == SET:
        assert verifies(app, browser.cookie, "new")
        assert ("max-age" in cookie_of(response).attributes) is is_permanent
    elif outcome == KEPT:
        assert verifies(app, browser.cookie, "old")


def test_it_is_replaced_once(app: Flask) -> None:
    browser = started(app, **A)
    change_secret(app)
    browser.does()
    calls = watch(store_of(app))
    assert fate(browser.does()) == KEPT
    assert calls == []
    assert fate(browser.does(read)) == KEPT
    assert calls == ["load"]
    app.config["SECRET_KEY_FALLBACKS"] = []
    assert browser.data == A


def test_it_is_replaced_also_where_requests_do_not_extend(store: SessionStore, kind: str, clock: Clock) -> None:
    app = make(store, kind, clock, SESSION_REFRESH_EACH_REQUEST=False)
    browser = started(app, **A)
    change_secret(app)
    for view in (nothing, read):
        assert fate(browser.twin().does(view)) == SET


def test_a_dead_cookie_of_a_former_secret_beside_the_living_one_changes_nothing(server_app: Flask) -> None:
    dead = started(server_app, **A)
    dead.twin().does(purge)
    server_app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["a secret"])
    browser = started(server_app, **A)
    browser.cookies.insert(0, str(dead.cookie))
    assert fate(browser.does(read)) == KEPT


@pytest.mark.parametrize("view", [nothing, read])
def test_the_session_is_the_same_under_the_same_key(server_app: Flask, view: Action) -> None:
    browser = started(server_app, **A)
    before = browser.asks(lambda: session.handle)
    server_app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["a secret"])
    assert fate(browser.does(view)) == SET
    assert browser.asks(lambda: (session.handle, dict(session))) == (before, A)


@pytest.mark.parametrize("view", [nothing, read])
def test_no_cookie_is_sent_for_a_session_that_is_not_known_to_be_alive(app: Flask, clock: Clock, view: Action) -> None:
    browser = started(app, **A)
    change_secret(app)
    clock.advance(32 * DAY)
    assert fate(browser.does(view)) == KEPT
    assert verifies(app, browser.cookie, "old")


@pytest.mark.parametrize("view", [nothing, read])
def test_no_cookie_is_sent_for_a_session_that_was_ended(server_app: Flask, view: Action) -> None:
    browser = started(server_app, **A)
    twin = browser.twin()
    browser.does(purge)
    server_app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["a secret"])
    assert fate(twin.does(view)) == KEPT


@pytest.mark.parametrize("view", [nothing, read])
def test_no_cookie_is_sent_for_what_was_ended_while_the_request_ran(server_app: Flask, view: Action) -> None:
    browser = started(server_app, **A)
    server_app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["a secret"])
    assert fate(browser.does(both(view, lambda: browser.twin().does(purge), nothing))) == KEPT


# -- what no store can change ------------------------------------------------------------------------------------------


@pytest.fixture(params=[CookieStore, MemoryStore])
def either_app(request: pytest.FixtureRequest, kind: str, clock: Clock) -> Flask:
    """One store of each kind."""
    return make(request.param(), kind, clock)


def test_a_cookie_of_no_secret_of_ours_costs_nothing_and_stays(either_app: Flask) -> None:
    browser = started(either_app, **A)
    either_app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older"])
    calls = watch(store_of(either_app))
    assert [fate(browser.does(view)) for view in (nothing, read)] == [KEPT, KEPT]
    assert calls == []


def test_the_current_secret_among_the_former_ones_is_the_current_one(either_app: Flask) -> None:
    browser = started(either_app, **A)
    either_app.config.update(SECRET_KEY="old", SECRET_KEY_FALLBACKS=["old", "older"])
    assert [fate(browser.does(view)) for view in (nothing, read)] == [KEPT, KEPT]


def test_an_event_that_can_send_no_cookie_replaces_none(either_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = started(either_app, **A)
    change_secret(either_app)
    monkeypatch.setattr(either_app.session_interface, "can_send", lambda request, response: False)
    calls = watch(store_of(either_app))
    for view in (nothing, read, both(read, save)):
        assert fate(browser.does(view)) == KEPT
    assert calls == ["load", "load"]


def test_of_two_cookies_with_one_key_that_of_the_current_secret_counts(kind: str, clock: Clock) -> None:
    app = make(memory_store(clock), kind, clock)
    browser = started(app, **A)
    former = str(browser.cookie)
    change_secret(app)
    browser.does()
    for cookies in ([former, str(browser.cookie)], [str(browser.cookie), former]):
        assert [fate(Browser(app, *cookies).does(view)) for view in (nothing, read)] == [KEPT, KEPT]


def test_a_dead_cookie_beside_it_keeps_it_from_being_replaced_only_while_nobody_looks(kind: str, clock: Clock) -> None:
    app = make(memory_store(clock), kind, clock)
    dead, alive = started(app, b=1), started(app, **A)
    dead.twin().does(purge)
    change_secret(app)
    browser = Browser(app, *dead.cookies, *alive.cookies)
    assert fate(browser.does()) == KEPT
    assert fate(browser.does(read)) == SET
    assert verifies(app, browser.cookie, "new")


def test_a_store_that_is_down_costs_a_warning_and_the_cookie_stays(
    kind: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = FaultyStore(memory_store(clock))
    app = make(store, kind, clock)
    browser = started(app, **A)
    change_secret(app)
    store.fail(times=None)
    response = browser.does()
    assert (response.status_code, fate(response)) == (200, KEPT)
    (warning,) = warnings_in(caplog)
    assert "was not extended" in warning
    store.heal()
    assert fate(browser.does()) == SET


def test_jobs_that_open_a_session_by_its_handle_have_no_cookie_to_replace(kind: str, clock: Clock) -> None:
    app = make(memory_store(clock), kind, clock)
    browser = started(app, **A)
    handle = browser.asks(lambda: session.handle)
    change_secret(app)
    calls = watch(t.cast("ServerSideStore", store_of(app)))
    with app.app_context(), app.extensions["sessionstore"].open(handle) as opened:
        assert dict(opened) == A
    assert calls == ["load"]
