"""How long a session lives: what extends it, and when it is over, over every store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from http_support import DELETED, KEPT, SET, Action, Browser, cookie_of, fate, make_app, started, watch
from lifecycle_views import TWO, A, memory_store, sign_out, store_of
from views import make_permanent, nothing, purge, read, renew, sign_in, write

from flask_sessionstore import SessionStore, session
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.testing import Clock

DAY = 86_400.0
ANN = {"_user_id": "ann"}


# -- extension -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "wait", "expected"),
    [
        ({"SESSION_REFRESH_INTERVAL": 300}, 299, KEPT),
        ({"SESSION_REFRESH_INTERVAL": 300}, 300, SET),
        ({"SESSION_REFRESH_INTERVAL": timedelta(minutes=5)}, 299, KEPT),
        ({"SESSION_REFRESH_INTERVAL": 0}, 0, SET),
        ({"PERMANENT_SESSION_LIFETIME": 100}, 9, KEPT),
        ({"PERMANENT_SESSION_LIFETIME": 100}, 10, SET),
        ({"SESSION_REFRESH_EACH_REQUEST": False}, DAY, KEPT),
    ],
)
@pytest.mark.parametrize("view", [nothing, read])
def test_a_permanent_session_is_extended_when_due(
    view: Action, config: dict[str, object], wait: float, expected: str, clock: Clock
) -> None:
    browser = started(make_app(memory_store(clock), SESSION_PERMANENT=True, **config), a=1)
    clock.advance(wait)
    assert fate(browser.does(view)) == expected


def test_the_lifetime_may_be_changed_while_the_application_runs(clock: Clock) -> None:
    """As Flask's own session allows it: ``app.permanent_session_lifetime`` is read in every request."""
    app = make_app(memory_store(clock), SESSION_PERMANENT=True)
    browser = Browser(app)
    for hours in (2, 1):
        app.permanent_session_lifetime = timedelta(hours=hours)
        assert cookie_of(browser.does(write)).attributes["max-age"] == str(hours * 3600)
        browser.does(purge)
    browser.does(write)
    clock.advance(3600)
    assert browser.data == {}


def test_an_extension_moves_the_end_and_not_the_data(app: Flask, clock: Clock) -> None:
    browser = started(app, a=1)
    browser.does(make_permanent)
    for _ in range(3):
        clock.advance(20 * DAY)
        assert fate(browser.does()) == SET
    assert browser.data == A


def test_without_activity_a_session_expires(app: Flask, clock: Clock) -> None:
    browser = started(app, a=1)
    clock.advance(31 * DAY - 1)
    assert browser.twin().data == A
    clock.advance(31 * DAY)
    assert browser.data == {}


def test_a_loaded_session_goes_by_its_record_not_by_the_cookie(server_app: Flask, clock: Clock) -> None:
    browser = started(server_app, a=1)
    browser.does(make_permanent)
    other = browser.twin()
    clock.advance(60)
    assert fate(browser.does()) == SET
    calls = watch(store_of(server_app))
    assert fate(other.does(read)) == KEPT
    assert calls == ["load"]


def test_an_older_cookie_replayed_can_only_extend(server_app: Flask, clock: Clock) -> None:
    browser = started(server_app, a=1)
    browser.does(make_permanent)
    old = browser.twin()
    clock.advance(60)
    browser.does()
    calls = watch(store_of(server_app))
    assert fate(old.does()) == SET
    assert calls == ["update_ttl"]
    assert old.data == A


def test_a_write_extends_whatever_the_interval(server_app: Flask, clock: Clock) -> None:
    browser = started(server_app, a=1)
    clock.advance(1)
    browser.does(write)
    assert browser.asks(lambda: session.expires_at) == datetime.fromtimestamp(clock.now, UTC) + timedelta(days=31)


def test_an_extension_that_finds_the_session_gone_sends_no_cookie(server_app: Flask, clock: Clock) -> None:
    browser = started(server_app, a=1)
    browser.does(make_permanent)
    other = browser.twin()
    browser.does(purge)
    clock.advance(60)
    assert fate(other.does()) == KEPT


def test_flask_s_own_settings_may_be_changed_late(memory_app: Flask, clock: Clock) -> None:
    browser = started(memory_app, a=1)
    browser.does(make_permanent)
    memory_app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    clock.advance(60)
    assert fate(browser.does()) == KEPT
    memory_app.config.update(SESSION_REFRESH_EACH_REQUEST=True, PERMANENT_SESSION_LIFETIME=timedelta(hours=1))
    assert cookie_of(browser.does(read)).attributes["max-age"] == "3600"


# -- lifetimes -------------------------------------------------------------------------------------------------------


def test_a_browser_session_has_a_lifetime_of_its_own(store: SessionStore, clock: Clock) -> None:
    store.clock = clock
    app = make_app(store, SESSION_BROWSER_LIFETIME=3600)
    browser, permanent = started(app, a=1), started(app, a=1)
    permanent.does(make_permanent)
    clock.advance(3601)
    assert browser.data == {}
    assert permanent.data == A


def test_the_absolute_lifetime_ends_what_is_in_use(store: SessionStore, clock: Clock) -> None:
    store.clock = clock
    browser = started(make_app(store, SESSION_ABSOLUTE_LIFETIME=3 * 3600), a=1)
    for view in (make_permanent, write, renew):
        clock.advance(3599)
        browser.does(view)
    assert browser.twin().data == TWO
    clock.advance(3)
    assert browser.data == {}


@pytest.mark.parametrize("change", [sign_in, sign_out])
def test_the_absolute_lifetime_counts_from_the_last_sign_in_or_out(change: Action, clock: Clock) -> None:
    app = make_app(memory_store(clock), SESSION_ABSOLUTE_LIFETIME=3600)
    browser = started(app, a=1, **({} if change is sign_in else ANN))
    clock.advance(3000)
    browser.does(change)
    clock.advance(3000)
    assert browser.data["a"] == 1
    assert browser.asks(lambda: session.created_at) == datetime.fromtimestamp(clock.now - 3000, UTC)


def test_the_absolute_lifetime_binds_sessions_made_before_it_was_set(clock: Clock) -> None:
    store = memory_store(clock)
    browser = started(make_app(store), a=1)
    clock.advance(3601)
    assert Browser(make_app(store, SESSION_ABSOLUTE_LIFETIME=3600), *browser.cookies).data == {}


def test_a_lifetime_of_its_own_makes_the_cookie_persistent(store: SessionStore, clock: Clock) -> None:
    store.clock = clock
    browser = Browser(make_app(store))

    def remember_me() -> None:
        session["a"] = 1
        session.lifetime = timedelta(days=90)

    assert cookie_of(browser.does(remember_me)).attributes["max-age"] == str(90 * 86400)
    clock.advance(89 * DAY)
    assert cookie_of(browser.does(read)).attributes["max-age"] == str(90 * 86400)
    assert browser.asks(lambda: session.lifetime) == timedelta(days=90)
    clock.advance(91 * DAY)
    assert browser.data == {}


def test_a_deadline_is_moved_by_no_activity(store: SessionStore, clock: Clock) -> None:
    store.clock = clock
    browser = started(make_app(store, SESSION_PERMANENT=True), a=1)
    end = datetime.fromtimestamp(clock.now, UTC) + timedelta(hours=2)

    def set_deadline() -> None:
        session.deadline = end

    assert cookie_of(browser.does(set_deadline)).attributes["max-age"] == "7200"
    clock.advance(3600)
    assert cookie_of(browser.does()).attributes["max-age"] == "3600"
    assert cookie_of(browser.does(write)).attributes["max-age"] == "3600"
    assert browser.asks(lambda: (session.deadline, session.expires_at)) == (end, end)
    clock.advance(3601)
    assert browser.data == {}


@pytest.mark.parametrize("known", [True, False])
def test_a_deadline_that_has_passed_ends_the_session(known: bool, app: Flask, clock: Clock) -> None:
    browser = started(app, a=1) if known else Browser(app)
    thief = browser.twin()

    def set_deadline() -> None:
        session["b"] = 1
        session.deadline = datetime.fromtimestamp(clock.now, UTC) - timedelta(seconds=1)

    assert fate(browser.does(set_deadline)) == (DELETED if known else KEPT)
    if not isinstance(store_of(app), CookieStore):
        assert thief.data == {}
    assert browser.data == {}


def test_a_request_before_each_view_may_make_the_session_permanent_for_nothing(app: Flask) -> None:
    app.before_request(make_permanent)
    browser = started(app, a=1)
    calls = watch(store_of(app))
    assert fate(browser.does()) == KEPT
    assert calls == []


@pytest.mark.parametrize("what", ["lifetime", "deadline"])
def test_of_a_permanent_session_a_lifetime_or_a_deadline_can_be_changed_alone(
    what: str, app: Flask, clock: Clock
) -> None:
    browser = started(app, a=1)
    browser.does(make_permanent)
    value = timedelta(hours=1) if what == "lifetime" else datetime.fromtimestamp(clock.now, UTC) + timedelta(hours=1)
    assert cookie_of(browser.does(lambda: setattr(session, what, value))).attributes["max-age"] == "3600"
    assert browser.asks(lambda: getattr(session, what)) == value
    clock.advance(3601)
    assert browser.data == {}
