"""The lifecycle of a request over HTTP: what the store is asked, and what becomes of the cookie, over every store."""

from __future__ import annotations

import importlib.util
import logging
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from clocks import Clock
from flask import Flask, Response, copy_current_request_context, flash, get_flashed_messages, stream_with_context
from flask.sessions import SecureCookieSessionInterface
from flask.signals import request_finished
from flask.wrappers import Request
from http_support import (
    DELETED,
    KEPT,
    SET,
    Action,
    Browser,
    cookie_of,
    fate,
    make_app,
    set_cookies,
    started,
    warnings_in,
    watch,
)
from views import clear, count, force, make_permanent, nothing, purge, read, remove_all, renew, save, sign_in, write

from flask_sessionstore import (
    SessionConflict,
    SessionError,
    SessionGone,
    SessionInsertError,
    SessionKey,
    SessionManager,
    SessionStatus,
    SessionStore,
    SessionTooLarge,
    session,
)
from flask_sessionstore.signals import session_write_dropped
from flask_sessionstore.stores import OwnerIndex, ServerSideStore, StoreFull
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore

DAY = 86_400.0
#: Longer than a tombstone stands.
LATER = 61.0


@pytest.fixture
def app(store: SessionStore, clock: Clock) -> Flask:
    """An application on every store in turn."""
    store.clock = clock
    return make_app(store)


@pytest.fixture
def server_app(server_store: ServerSideStore, clock: Clock) -> Flask:
    """An application on every server-side store in turn."""
    server_store.clock = clock
    return make_app(server_store)


@pytest.fixture
def memory_app(clock: Clock) -> Flask:
    """An application on the memory store, for what no store can change."""
    return make_app(_memory(clock))


def _memory(clock: Clock) -> MemoryStore:
    store = MemoryStore()
    store.clock = clock
    return store


def _store_of(app: Flask) -> SessionStore:
    return t.cast("t.Any", app.session_interface).store  # type: ignore[no-any-return]


def _both(*actions: Action) -> Action:
    """One after the other in one view; the last one's result is the response."""

    def act() -> object:
        return [action() for action in actions][-1]

    return act


# -- the table -----------------------------------------------------------------------------------------------------


def write_within() -> None:
    session["cart"].append("tea")


def write_equal() -> None:
    session["a"] = 1


def sign_out() -> None:
    del session["_user_id"]


def sign_in_another() -> None:
    session["_user_id"] = "bob"


def log_in() -> None:
    session["user"] = {"sub": "ann"}


def log_in_another() -> None:
    session["user"] = {"sub": "bob"}


def refresh() -> None:
    session["user"] = {**session["user"], "token": "fresh"}


def log_out() -> None:
    del session["user"]


class Row(t.NamedTuple):
    """One row of the table: an earlier request, a wait, and the request that is looked at."""

    before: dict[str, t.Any]
    view: Action
    calls: list[str]
    cookie: str
    #: What the next request finds.
    after: dict[str, t.Any]
    permanent: bool = False
    #: Seconds between the two.
    wait: float = 0
    #: With the cookie store, whose token is another after every extension.
    cookie_store: str | None = None


A, TWO = {"a": 1}, {"a": 2}
CART: dict[str, t.Any] = {"cart": ["mug"]}
ANN = {"_user_id": "ann"}
USER: dict[str, t.Any] = {"user": {"sub": "ann"}}
REFRESHED: dict[str, t.Any] = {"user": {"sub": "ann", "token": "fresh"}}

TABLE = {
    "untouched": Row(A, nothing, [], KEPT, A),
    "untouched, long after": Row(A, nothing, [], KEPT, A, wait=DAY),
    "untouched, permanent, not due": Row(A, nothing, [], KEPT, A, permanent=True, wait=59),
    "untouched, permanent, due": Row(A, nothing, ["update_ttl"], SET, A, permanent=True, wait=60),
    "untouched, nothing there": Row({}, nothing, [], KEPT, {}),
    "read": Row(A, read, ["load"], KEPT, A),
    "read twice": Row(A, _both(read, read), ["load"], KEPT, A),
    "read, due": Row(A, read, ["load", "update_ttl"], KEPT, A, wait=60, cookie_store=SET),
    "read, permanent, not due": Row(A, read, ["load"], KEPT, A, permanent=True, wait=59),
    "read, permanent, due": Row(A, read, ["load", "update_ttl"], SET, A, permanent=True, wait=60),
    "read, nothing there": Row({}, read, [], KEPT, {}),
    "new, left empty": Row({}, _both(write, remove_all), [], KEPT, {}),
    "new, cleared": Row({}, clear, [], KEPT, {}),
    "new, purged": Row({}, purge, [], KEPT, {}),
    "new, renewed": Row({}, renew, [], KEPT, {}),
    "new, forced": Row({}, force, [], KEPT, {}),
    "new, permanent alone": Row({}, make_permanent, [], KEPT, {}),
    "new, with data": Row({}, write, ["save"], SET, TWO),
    "new, signed in": Row({}, sign_in, ["save"], SET, ANN),
    "changed": Row(A, write, ["load", "update(replaces)"], SET, TWO),
    "changed within": Row(CART, write_within, ["load", "update(replaces)"], SET, {"cart": ["mug", "tea"]}),
    "changed, then read": Row(A, _both(write, read), ["load", "update(replaces)"], SET, TWO),
    "made permanent": Row(A, make_permanent, ["load", "update(replaces)"], SET, A),
    "made permanent again": Row(A, make_permanent, [], KEPT, A, permanent=True),
    "equal value": Row(A, write_equal, ["load", "update_ttl"], SET, A),
    "changed and changed back": Row(A, _both(write, write_equal), ["load", "update_ttl"], SET, A),
    "forced": Row(A, force, ["load", "update_ttl"], SET, A),
    "emptied": Row(A, remove_all, ["load", "delete(replaces, emptied)"], DELETED, {}),
    "emptied, with an owner": Row(ANN, remove_all, ["load", "delete(replaces)"], DELETED, {}),
    "emptied, with a login key": Row(USER, remove_all, ["load", "delete(replaces)"], DELETED, {}),
    "emptied and written": Row(A, _both(remove_all, write), ["load", "update(replaces)"], SET, TWO),
    "cleared": Row(A, clear, ["load", "delete(replaces)"], DELETED, {}),
    "cleared, with an owner": Row(ANN, clear, ["load", "delete(replaces)"], DELETED, {}),
    "cleared and written": Row({**A, "b": 1}, _both(clear, write), ["load", "renew(replaces)"], SET, TWO),
    "cleared and signed in": Row(A, _both(clear, sign_in), ["load", "renew(replaces)"], SET, ANN),
    "renewed": Row(A, renew, ["load", "renew(replaces)"], SET, A),
    "renewed and written": Row(A, _both(renew, write), ["load", "renew(replaces)"], SET, TWO),
    "written and renewed": Row(A, _both(write, renew), ["load", "renew(replaces)"], SET, TWO),
    "signed in": Row(A, sign_in, ["load", "renew(replaces)"], SET, {**A, **ANN}),
    "signed in by a login key": Row(A, log_in, ["load", "renew(replaces)"], SET, {**A, **USER}),
    "another user by a login key": Row(
        USER, log_in_another, ["load", "renew(replaces)"], SET, {"user": {"sub": "bob"}}
    ),
    "a login key as it was": Row(USER, log_in, ["load", "update_ttl"], SET, USER),
    "a login key with a fresh token": Row(USER, refresh, ["load", "update(replaces)"], SET, REFRESHED),
    "a login key removed": Row({**A, **USER}, log_out, ["load", "update(replaces)"], SET, A),
    "signed out": Row({**A, **ANN}, sign_out, ["load", "delete(replaces)", "save"], SET, A),
    "signed out, nothing left": Row(ANN, sign_out, ["load", "delete(replaces)"], DELETED, {}),
    "signed out and renewed": Row({**A, **ANN}, _both(sign_out, renew), ["load", "delete(replaces)", "save"], SET, A),
    "cleared and written, with an owner": Row(ANN, _both(clear, write), ["load", "delete(replaces)", "save"], SET, TWO),
    "cleared and written, with a login key": Row(
        USER, _both(clear, write), ["load", "delete(replaces)", "save"], SET, TWO
    ),
    "cleared and signed in again": Row(ANN, _both(clear, sign_in), ["load", "renew(replaces)"], SET, ANN),
    "purged": Row(A, purge, ["delete"], DELETED, {}),
    "read and purged": Row(A, _both(read, purge), ["load", "delete"], DELETED, {}),
    "written and purged": Row(A, _both(write, purge), ["load", "delete"], DELETED, {}),
    "purged and written": Row(A, _both(purge, write), ["delete"], DELETED, {}),
    "expired": Row(A, read, ["load"], KEPT, {}, wait=31 * DAY),
    "expired, cleared": Row(A, clear, ["load"], KEPT, {}, wait=31 * DAY),
    "expired, untouched": Row(A, nothing, [], KEPT, {}, wait=31 * DAY),
    "expired, written": Row({"b": 1}, write, ["load", "save"], SET, TWO, wait=31 * DAY),
    "expired, purged": Row(A, purge, ["delete"], DELETED, {}, wait=31 * DAY),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_request_costs_what_the_table_says(name: str, app: Flask, clock: Clock) -> None:
    row, browser = TABLE[name], Browser(app)
    browser.does(lambda: session.update(row.before) if row.before else None)
    if row.permanent:
        browser.does(make_permanent)
    clock.advance(row.wait)
    calls = watch(_store_of(app))
    response = browser.does(row.view)
    assert response.status_code == 200
    expected = row.cookie_store if row.cookie_store and isinstance(_store_of(app), CookieStore) else row.cookie
    assert (calls, fate(response)) == (row.calls, expected)
    assert browser.data == row.after


#: In these the session goes on under another key, or under none.
_ENDS = [n for n, row in TABLE.items() if row.before and set(row.calls[-1:]) & {"delete", "renew(replaces)"}]
_ENDS += ["signed out", "cleared and written, with an owner", "emptied", "emptied, with an owner", "cleared"]


@pytest.mark.parametrize("name", _ENDS)
def test_after_an_end_or_a_renewal_the_old_key_is_dead(name: str, server_app: Flask, clock: Clock) -> None:
    row = TABLE[name]
    browser = started(server_app, **row.before)
    thief = browser.twin()
    browser.does(row.view)
    assert thief.data == {}
    clock.advance(LATER)
    assert thief.data == {}
    assert browser.key is None or browser.key != thief.key


def test_an_untouched_request_leaves_no_trace_in_the_response(app: Flask) -> None:
    browser = started(app, a=1)
    response = browser.does()
    assert not {"Set-Cookie", "Vary", "Cache-Control"} & set(response.headers.keys())


def test_a_read_makes_the_response_vary_and_sends_no_cookie(app: Flask) -> None:
    response = started(app, a=1).does(read)
    assert response.headers["Vary"] == "Cookie"
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("view", [read, clear, remove_all, renew])
def test_a_cookie_is_deleted_only_by_the_response_that_ended_its_session(
    view: Action, server_app: Flask, clock: Clock
) -> None:
    """The browser may hold another cookie by now; and what has expired, browsers drop by themselves."""
    browser = started(server_app, a=1)
    clock.advance(31 * DAY)
    assert [fate(browser.does(view)) for _ in range(2)] == [KEPT, KEPT]


def test_a_key_that_the_server_does_not_know_is_never_adopted(server_app: Flask, clock: Clock) -> None:
    stranger = started(make_app(_memory(clock)), a=1)
    browser = Browser(server_app, *stranger.cookies)
    calls = watch(_store_of(server_app))
    assert fate(browser.twin().does(read)) == KEPT
    assert calls == ["load"]
    assert fate(browser.does(write)) == SET
    assert calls == ["load", "load", "save"]
    assert browser.key != stranger.key
    assert browser.data == TWO


@pytest.mark.parametrize(("view", "expected"), [(nothing, KEPT), (read, KEPT), (purge, KEPT), (write, SET)])
def test_a_forged_cookie_costs_no_store_call_and_is_replaced_at_the_next_write(
    view: Action, expected: str, app: Flask
) -> None:
    browser = Browser(app, (started(app, a=1).cookie or "")[:-1] + "!")
    calls = watch(_store_of(app))
    assert fate(browser.does(view)) == expected
    assert calls == (["save"] if expected == SET else [])


def test_the_status_of_the_response_is_not_consulted(app: Flask) -> None:
    browser = Browser(app)
    response = browser.does(_both(write, lambda: None))
    assert response.status_code == 200

    def fail() -> t.Any:
        session["b"] = 3
        return "no", 500

    assert fate(browser.does(fail)) == SET
    assert browser.data == {"a": 2, "b": 3}


@pytest.mark.parametrize(
    ("view", "status"),
    [
        (nothing, SessionStatus.UNCHANGED),
        (read, SessionStatus.UNCHANGED),
        (write, SessionStatus.CHANGED),
        (write_within, SessionStatus.CHANGED),
        (renew, SessionStatus.RENEWED),
        (sign_in, SessionStatus.RENEWED),
        (_both(clear, write), SessionStatus.RENEWED),
        (_both(renew, purge), SessionStatus.PURGED),
    ],
)
def test_the_status_says_what_the_end_of_the_request_will_do(
    view: Action, status: SessionStatus, memory_app: Flask
) -> None:
    browser = started(memory_app, a=1, cart=[])
    assert browser.asks(lambda: (view(), session.status)[1]) is status


def test_purge_is_final_and_warns_once_of_writes(memory_app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    browser = started(memory_app, a=1)
    browser.does(_both(purge, write, write, renew, lambda: flash("bye")))
    assert browser.data == {}
    (warning,) = warnings_in(caplog)
    assert "session.clear()" in warning


# -- extension -----------------------------------------------------------------------------------------------------


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
    browser = started(make_app(_memory(clock), SESSION_PERMANENT=True, **config), a=1)
    clock.advance(wait)
    assert fate(browser.does(view)) == expected


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
    calls = watch(_store_of(server_app))
    assert fate(other.does(read)) == KEPT
    assert calls == ["load"]


def test_an_older_cookie_replayed_can_only_extend(server_app: Flask, clock: Clock) -> None:
    browser = started(server_app, a=1)
    browser.does(make_permanent)
    old = browser.twin()
    clock.advance(60)
    browser.does()
    calls = watch(_store_of(server_app))
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


# -- lifetimes -----------------------------------------------------------------------------------------------------


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
    app = make_app(_memory(clock), SESSION_ABSOLUTE_LIFETIME=3600)
    browser = started(app, a=1, **({} if change is sign_in else ANN))
    clock.advance(3000)
    browser.does(change)
    clock.advance(3000)
    assert browser.data["a"] == 1
    assert browser.asks(lambda: session.created_at) == datetime.fromtimestamp(clock.now - 3000, UTC)


def test_the_absolute_lifetime_binds_sessions_made_before_it_was_set(clock: Clock) -> None:
    store = _memory(clock)
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
    if not isinstance(_store_of(app), CookieStore):
        assert thief.data == {}
    assert browser.data == {}


def test_a_request_before_each_view_may_make_the_session_permanent_for_nothing(app: Flask) -> None:
    app.before_request(make_permanent)
    browser = started(app, a=1)
    calls = watch(_store_of(app))
    assert fate(browser.does()) == KEPT
    assert calls == []


# -- signing in and out --------------------------------------------------------------------------------------------


def test_a_planted_session_key_is_worth_nothing_after_the_log_in(server_app: Flask) -> None:
    attacker = started(server_app, planted=1)
    victim = Browser(server_app, *attacker.cookies)
    victim.does(sign_in)
    assert victim.data == {"planted": 1, "_user_id": "ann"}
    assert victim.key != attacker.key
    assert attacker.data == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"_user_id": "ann"}),
        ({"_user_id": "ann"}, {}),
        ({"_user_id": "ann"}, {"_user_id": "bob"}),
        ({"_user_id": "1"}, {"_user_id": "one"}),
    ],
    ids=["in", "out", "another user", "another name"],
)
def test_the_session_key_changes_with_the_owner(
    before: dict[str, str], after: dict[str, str], server_app: Flask
) -> None:
    browser = started(server_app, a=1, **before)
    old = browser.twin()
    browser.does(_both(lambda: session.pop("_user_id", None), lambda: session.update(after)))
    assert browser.key != old.key
    assert browser.data == {"a": 1, **after}
    assert old.data == {}


@pytest.mark.parametrize(("before", "value"), [("ann", "ann"), ("1", 1), (None, None)])
def test_setting_the_owner_it_has_changes_no_key(before: object, value: object, server_app: Flask) -> None:
    browser = started(server_app, a=1, _user_id=before, csrf_token="kept")
    key = browser.key

    def set_owner() -> None:
        session["_user_id"] = value

    browser.does(set_owner)
    assert browser.key == key
    assert browser.data == {"a": 1, "csrf_token": "kept", "_user_id": value}


def test_what_must_not_survive_a_log_in_is_dropped_at_that_line(clock: Clock) -> None:
    app = make_app(_memory(clock), SESSION_LOGIN_DROPS=("csrf_token", "draft"))
    browser = started(app, csrf_token="old", draft="old", cart=["mug"])

    def log_in() -> None:
        session["_user_id"] = 7
        assert "csrf_token" not in session
        session["csrf_token"] = "new"

    browser.does(log_in)
    assert browser.data == {"cart": ["mug"], "_user_id": 7, "csrf_token": "new"}


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({"SESSION_OWNER_KEY": "account"}, True),
        ({"SESSION_OWNER_KEY": None}, False),
        ({"SESSION_OWNER_KEY": None, "SESSION_LOGIN_KEYS": ("account",)}, True),
        ({"SESSION_OWNER_KEY": "account", "SESSION_LOGIN_KEYS": ()}, True),
    ],
)
def test_owners_and_log_ins_may_have_other_names_or_none(
    config: dict[str, object], changes: bool, clock: Clock
) -> None:
    browser = started(make_app(_memory(clock), **config), a=1)
    key = browser.key
    browser.does(lambda: session.update(account=1, _user_id=1))
    assert (browser.key != key) is changes


@pytest.mark.parametrize(
    ("before", "view", "kind"),
    [
        (A, purge, "ended"),
        (A, clear, "ended"),
        (ANN, clear, "ended"),
        (A, remove_all, "emptied"),
        (ANN, remove_all, "ended"),
        (USER, remove_all, "ended"),
        (A, renew, "renewed"),
        (ANN, renew, "renewed"),
        (A, _both(clear, write), "renewed"),
        (A, sign_in, "signed in"),
        (A, log_in, "signed in"),
        (USER, log_in_another, "signed in"),
        (ANN, sign_in_another, "replaced"),
        (ANN, _both(clear, sign_in_another), "replaced"),
        (ANN, _both(clear, sign_in), "renewed"),
        ({**ANN, **A}, sign_out, "ended"),
        (ANN, _both(clear, write), "ended"),
    ],
)
def test_what_is_left_of_a_session_says_how_it_went_and_when(
    before: dict[str, t.Any], view: Action, kind: str, server_app: Flask, clock: Clock
) -> None:
    browser = started(server_app, **before)
    old = SessionKey(browser.key or "")
    clock.advance(5)
    browser.does(view)
    with pytest.raises(SessionGone) as caught:
        _store_of(server_app).load(old)
    gone = caught.value
    assert (gone.kind, gone.left_at) == (kind, datetime.fromtimestamp(clock.now, UTC))
    follows = kind in ("renewed", "signed in")
    assert gone.successor == (SessionKey(browser.key or "").handle if follows else None)


@pytest.mark.parametrize("owner", [1.5, True, ["ann"], "x" * 256, b"ann"])
def test_what_cannot_name_an_owner_is_refused_at_the_line(owner: object, memory_app: Flask) -> None:
    browser = started(memory_app, a=1)

    def log_in() -> None:
        with pytest.raises(SessionInsertError):
            session["_user_id"] = owner

    browser.does(log_in)
    assert browser.data == A


@pytest.mark.parametrize("fault", ["full", "down"])
@pytest.mark.parametrize("out", [sign_out, _both(clear, write)])
def test_a_log_out_has_happened_though_what_is_left_finds_no_room(out: Action, fault: str, clock: Clock) -> None:
    store = FaultyStore(_memory(clock))
    app = make_app(store, TESTING=False)
    browser = started(app, **A, **ANN)
    thief, add = browser.twin(), store.add

    def full(*args: t.Any, **kwargs: t.Any) -> bool:
        raise StoreFull("no room")

    def view() -> None:
        out()
        if fault == "full":
            t.cast("t.Any", store).add = full
        else:
            store.fail("add")

    response = browser.does(view)
    t.cast("t.Any", store).add = add
    assert (response.status_code, fate(response)) == (503, DELETED)
    assert (browser.cookies, thief.data) == ([], {})


def test_a_log_out_whose_rest_is_too_large_can_be_saved_smaller(clock: Clock) -> None:
    browser = started(make_app(_memory(clock), SESSION_MAX_SIZE=100), **A, **ANN)
    thief = browser.twin()

    def view() -> None:
        sign_out()
        session["large"] = "x" * 200
        with pytest.raises(SessionTooLarge):
            session.save()
        del session["large"]

    assert fate(browser.does(view)) == SET
    assert (browser.data, thief.data) == (A, {})


def test_clear_before_a_log_in_keeps_nothing_and_the_farewell_is_flashed(server_app: Flask) -> None:
    browser = started(server_app, _user_id="ann", secret="s")
    old = browser.twin()
    browser.does(_both(clear, lambda: flash("Bye.")))
    assert browser.key != old.key
    assert browser.asks(get_flashed_messages) == ["Bye."]
    assert browser.data == {}
    assert old.data == {}


# -- tombstones: a request that comes after the end ------------------------------------------------------------------


def _ended(browser: Browser, view: Action) -> Browser:
    """Another window of ``browser``, whose session another request has just ended or renewed by ``view``."""
    other = browser.twin()
    browser.does(view)
    return other


@pytest.mark.parametrize(("before", "view"), [(A, purge), (A, clear), (ANN, sign_out), (A, remove_all)])
@pytest.mark.parametrize("own", [read, write, _both(clear, write), renew])
def test_a_request_that_meets_an_end_starts_anew(
    own: Action, before: dict[str, t.Any], view: Action, server_app: Flask
) -> None:
    other = _ended(started(server_app, **before, secret="s"), _both(view, remove_all))
    calls, writes = watch(_store_of(server_app)), own not in (read, renew)
    assert fate(other.does(own)) == (SET if writes else KEPT)
    assert calls == (["load", "save"] if writes else ["load"])
    assert "secret" not in other.data


def test_a_request_that_meets_a_renewal_leaves_the_cookie_and_drops_its_writes(
    server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1)
    other = _ended(browser, renew)
    calls = watch(_store_of(server_app))
    assert fate(other.does(read)) == KEPT
    assert calls == ["load"]
    assert warnings_in(caplog) == []
    with _dropped(server_app) as dropped:
        assert fate(other.does(write)) == KEPT
    assert calls == ["load", "load"]
    assert [reason for _, reason in dropped] == ["renewed"]
    assert "dropped" in warnings_in(caplog)[0]
    assert browser.data == A


def test_a_clear_that_meets_a_renewal_ends_the_successor(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = _ended(browser, renew)
    calls = watch(_store_of(server_app))
    assert fate(other.does(clear)) == KEPT
    assert calls == ["load", "delete"]
    assert browser.data == {}


def test_a_purge_that_meets_a_renewal_ends_the_successor(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    assert fate(_ended(browser, renew).does(purge)) == DELETED
    assert browser.data == {}


#: What leaves each kind of tombstone of a session of ann's, or of nobody's.
_GOING: dict[str, tuple[dict[str, t.Any], Action]] = {
    "ended": ({**A, **ANN}, purge),
    "emptied": (A, remove_all),
    "renewed": ({**A, **ANN}, renew),
    "signed in": (A, sign_in),
    "replaced": ({**A, **ANN}, sign_in_another),
}
_UPLOAD = "with a body"


def _going(app: Flask, kind: str) -> tuple[Browser, Browser]:
    """A browser whose session has just gone, and another window of it that has not heard of it."""
    before, view = _GOING[kind]
    browser = started(app, **before)
    return browser, _ended(browser, view)


def _sign_in_as(owner: str) -> Action:
    return lambda: session.update(_user_id=owner)


@pytest.mark.parametrize("kind", _GOING)
@pytest.mark.parametrize("body", ["", _UPLOAD])
def test_a_straggler_signs_nobody_in(
    body: str, kind: str, server_app: Flask, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A poll that was under way at the log-out, whose remember cookie would log the user in again."""
    browser, other = _going(server_app, kind)
    owner = "bob" if kind == "replaced" else "ann"  # whom the session had, or went on with
    if kind == "emptied" and body:
        pytest.skip("nobody was signed in")
    clock.advance(9.9)
    calls = watch(_store_of(server_app))
    with _dropped(server_app) as dropped:
        assert fate(other.does(_sign_in_as(owner), body=body)) == KEPT
    assert calls == ["load"]
    assert [reason for _, reason in dropped] == [kind]
    assert len(warnings_in(caplog)) == 1
    assert other.cookies != browser.cookies or browser.data == other.data


@pytest.mark.parametrize("kind", _GOING)
@pytest.mark.parametrize(("owner", "body", "wait"), [("eve", _UPLOAD, 0), ("ann", "", 10), ("ann", _UPLOAD, 10)])
def test_a_log_in_that_meets_what_has_gone_gets_a_session_of_its_own(
    owner: str, body: str, wait: float, kind: str, server_app: Flask, clock: Clock
) -> None:
    browser, other = _going(server_app, kind)
    before = browser.data
    clock.advance(wait)
    calls = watch(_store_of(server_app))
    assert fate(other.does(_sign_in_as(owner), body=body)) == SET
    assert calls == ["load", "save"]
    assert other.data == {"_user_id": owner}
    assert browser.data == before


def test_a_log_in_that_names_no_owner_is_no_straggler_with_a_body(server_app: Flask) -> None:
    for body, expected in (("", KEPT), (_UPLOAD, SET)):
        other = _ended(started(server_app, a=1), purge)
        assert fate(other.does(log_in, body=body)) == expected


@pytest.mark.parametrize("kind", ["renewed", "signed in", "replaced"])
@pytest.mark.parametrize(
    ("body", "wait", "expected"), [("", 9.9, KEPT), ("", 10, SET), (_UPLOAD, 9.9, KEPT), (_UPLOAD, 59, KEPT)]
)
def test_a_page_whose_renewal_was_never_answered_works_again_after_ten_seconds(
    body: str, wait: float, expected: str, kind: str, server_app: Flask, clock: Clock
) -> None:
    """A request with a body may be an upload that began before: it takes no new cookie away."""
    browser, other = _going(server_app, kind)
    before = browser.data
    clock.advance(wait)
    assert fate(other.does(write, body=body)) == expected
    assert other.data == (TWO if expected == SET else {})
    assert browser.data == before


@pytest.mark.parametrize(("kind", "lives"), [("renewed", False), ("signed in", True), ("replaced", True)])
@pytest.mark.parametrize("wait", [0, 10])
def test_an_end_follows_a_renewal_but_ends_nothing_that_somebody_signed_in_to(
    wait: float, kind: str, lives: bool, server_app: Flask, clock: Clock
) -> None:
    """Whoever planted the key could end it."""
    for own, cookie in ((clear, KEPT), (purge, DELETED)):
        browser, other = _going(server_app, kind)
        clock.advance(wait)
        assert fate(other.does(own)) == cookie
        assert (browser.data != {}) is lives


@pytest.mark.parametrize("body", ["", _UPLOAD])
def test_what_was_under_way_when_everything_ended_takes_no_new_cookie_away(
    body: str, server_app: Flask, clock: Clock
) -> None:
    """A slow upload that began before the log-in, clocks apart, another application on the host."""
    _, other = _going(server_app, "signed in")
    for wait in (0, 30, 31, 600):
        clock.advance(wait)
        assert fate(other.twin().does(read, body=body)) == KEPT


def test_a_tombstone_is_forgotten_after_a_minute(server_app: Flask, clock: Clock) -> None:
    _, other = _going(server_app, "renewed")
    calls = watch(_store_of(server_app))
    clock.advance(LATER)
    assert fate(other.does(write)) == SET
    assert calls == ["load", "save"]


# -- tombstones: a request that had loaded ---------------------------------------------------------------------------


class _dropped:  # noqa: N801  - reads as a verb at its uses
    """The handles and reasons that the signal reports meanwhile."""

    def __init__(self, app: Flask) -> None:
        self.app, self.reports = app, t.cast("list[tuple[str, str]]", [])

    def __enter__(self) -> list[tuple[str, str]]:
        session_write_dropped.connect(self._note, self.app)
        return self.reports

    def __exit__(self, *exc_info: object) -> None:
        session_write_dropped.disconnect(self._note, self.app)

    def _note(self, sender: Flask, handle: str, reason: str) -> None:
        self.reports.append((handle, reason))


def _meanwhile(browser: Browser, other: Action, own: Action) -> tuple[str, list[str]]:
    """A request of ``browser`` loads; another comes and goes; the first goes on with ``own``.

    The result: what became of the cookie of ``browser``, and what the store was asked for ``own``.
    """
    twin, calls = browser.twin(), t.cast("list[list[str]]", [])

    def view() -> None:
        dict(session)
        twin.does(other)
        calls.append(watch(_store_of(browser.app)))
        own()

    response = browser.does(view)
    return fate(response), list(calls[0])


def write_other() -> None:
    session["b"] = 2


@pytest.mark.parametrize(
    ("own", "kept"),
    [(write_other, {"b": 2}), (count, {"n": 1}), (_both(write, write_other), {"a": 2, "b": 2}), (write_within, {})],
)
def test_what_was_emptied_meanwhile_goes_on_with_what_the_request_wrote(
    own: Action, kept: dict[str, t.Any], server_app: Flask
) -> None:
    browser = started(server_app, a=1, cart=[])
    cookie, calls = _meanwhile(browser, remove_all, own)
    assert browser.data == kept
    assert cookie == (SET if kept else KEPT)
    assert calls[-1:] == (["save"] if kept else ["update(replaces)"])


def _expire(app: Flask) -> Action:
    """The record goes without a tombstone, as if evicted."""

    def drop() -> None:
        handle = session.handle
        assert handle is not None
        t.cast("ServerSideStore", _store_of(app)).drop(handle)

    return drop


@pytest.mark.parametrize("end", ["ended", "renewed", "unknown"])
@pytest.mark.parametrize(
    ("own", "verb"),
    [(write_other, "update(replaces)"), (write_within, "update(replaces)"), (force, "update_ttl")],
    ids=["write", "write within", "force"],
)
def test_what_ended_meanwhile_takes_no_writes(
    own: Action, verb: str, end: str, server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1, cart=[])
    handle = browser.asks(lambda: session.handle)
    other = {"ended": purge, "renewed": renew, "unknown": _expire(server_app)}[end]
    with _dropped(server_app) as dropped:
        cookie, calls = _meanwhile(browser, other, own)
    assert (cookie, calls) == (KEPT, [verb])
    assert dropped == ([] if own is force else [(handle, end)])
    assert [handle[:8] in warning for warning in warnings_in(caplog)] == [True] * len(dropped)
    assert browser.data == {}


@pytest.mark.parametrize("end", ["ended", "unknown"])
@pytest.mark.parametrize("own", [sign_in, _both(renew, lambda: session.update(_user_id="ann"))])
def test_a_sign_in_outlives_the_end_but_nothing_loaded_does(own: Action, end: str, server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = purge if end == "ended" else _expire(server_app)
    cookie, calls = _meanwhile(browser, other, own)
    assert (cookie, calls[-1]) == (SET, "save")
    assert browser.data == ANN


def test_two_log_ins_at_once_keep_the_cart_in_both(server_app: Flask) -> None:
    browser = started(server_app, cart=["mug"])
    twin = browser.twin()
    cookie, calls = _meanwhile(browser, sign_in, _both(sign_in, write))
    assert (cookie, calls[-1]) == (SET, "save")
    assert browser.data == {**CART, **ANN, **TWO}
    assert twin.data == {}


def test_of_an_owner_s_renewed_session_nothing_loaded_comes_along(server_app: Flask) -> None:
    browser = started(server_app, secret="s", _user_id="bob")
    cookie, _ = _meanwhile(browser, renew, sign_in)
    assert cookie == SET
    assert browser.data == ANN


@pytest.mark.parametrize("own", [clear, sign_out, _both(clear, write)], ids=["clear", "sign out", "clear and write"])
def test_a_log_out_ends_the_successor_of_what_was_renewed_meanwhile(own: Action, server_app: Flask) -> None:
    browser = started(server_app, a=1, _user_id="ann")
    renewed = browser.twin()

    def view() -> None:
        dict(session)
        renewed.does(renew)
        own()

    assert fate(browser.does(view)) == KEPT
    assert renewed.data == {}
    assert browser.data == {}


def test_a_log_out_that_comes_too_late_does_not_end_a_session_that_another_user_began(server_app: Flask) -> None:
    browser = started(server_app, _user_id="ann")
    bob = browser.twin()

    def view() -> None:
        dict(session)
        bob.does(lambda: session.update(_user_id="bob"))
        clear()

    browser.does(view)
    assert bob.data == {"_user_id": "bob"}


def confirm() -> None:
    """A password was confirmed: rights rise."""
    session.renew()
    session["confirmed"] = True


@pytest.mark.parametrize("before", [{**A, **ANN}, {**A, **USER}, A])
def test_two_clicks_on_confirm_your_password_are_two_sessions_of_the_same_user(
    before: dict[str, t.Any], server_app: Flask
) -> None:
    browser = started(server_app, **before)
    first = browser.twin()

    def view() -> None:
        dict(session)
        first.does(confirm)
        confirm()

    assert fate(browser.does(view)) == SET
    assert browser.data == first.data == {**before, "confirmed": True}
    assert browser.key != first.key


@pytest.mark.parametrize(
    "last", [purge, clear, remove_all, sign_out, sign_in_another, _both(clear, write), _both(renew, purge)]
)
def test_a_right_is_written_to_nobody_s_session_once_the_renewed_one_has_ended(
    last: Action, server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, **A, **ANN)
    first = browser.twin()

    def view() -> None:
        dict(session)
        first.does(renew)
        first.does(last)
        confirm()

    with _dropped(server_app) as dropped:
        assert fate(browser.does(view)) == KEPT
    assert [reason for _, reason in dropped] == ["renewed"]
    assert browser.data == {}
    assert "confirmed" not in first.data


@pytest.mark.parametrize("first", [sign_in, log_in])
def test_renew_does_not_go_on_beside_what_somebody_signed_in_to(first: Action, server_app: Flask) -> None:
    """The thief who planted the key would be signed in, too."""
    browser = started(server_app, a=1)
    twin = browser.twin()
    cookie, calls = _meanwhile(twin, lambda: browser.does(first), confirm)
    assert (cookie, calls) == (KEPT, ["renew(replaces)"])
    assert twin.data == {}
    assert "confirmed" not in browser.data


def test_what_renew_made_ends_if_the_other_session_ends_meanwhile(server_app: Flask) -> None:
    browser, store = started(server_app, **A, **ANN), t.cast("t.Any", _store_of(server_app))
    first, save, made = browser.twin(), store.save, t.cast("list[SessionKey]", [])

    def save_while_the_other_signs_out(*args: t.Any, **kwargs: t.Any) -> SessionKey:
        store.save = save
        made.append(save(*args, **kwargs))
        first.does(clear)
        return made[0]

    def view() -> None:
        dict(session)
        first.does(renew)
        store.save = save_while_the_other_signs_out
        confirm()

    assert fate(browser.does(view)) == KEPT
    assert (browser.data, first.data) == ({}, {})
    assert store.info(made[0].handle) is None


def test_a_session_beside_counts_for_the_limit(server_store: ServerSideStore, clock: Clock) -> None:
    if server_store.ability(OwnerIndex) is None:
        pytest.skip("this store knows no owners")
    server_store.clock = clock
    browser = started(make_app(server_store, SESSION_MAX_PER_OWNER=1), **ANN)
    first = browser.twin()

    def view() -> None:
        dict(session)
        first.does(confirm)
        clock.advance(1)
        confirm()

    assert fate(browser.does(view)) == SET
    assert browser.data == {**ANN, "confirmed": True}
    assert first.data == {}


@pytest.mark.parametrize("before", [{**A, **USER}, {**A, "user": {"name": "Ann"}}, {**A, "logged_in": True}])
def test_a_log_out_without_a_cookie_is_not_undone_by_what_is_in_flight(
    before: dict[str, t.Any], server_app: Flask
) -> None:
    """``session.pop("user")`` beside a profile edit, a token refresh, or any other write."""
    key = next(key for key in before if key != "a")

    def edit() -> None:
        value = session[key]
        session[key] = {**value, "token": 1} if isinstance(value, dict) else value
        session["b"] = 2

    for own in (edit, write_other, renew):
        browser = started(server_app, **before)
        with _dropped(server_app) as dropped:
            cookie, _ = _meanwhile(browser, lambda: session.pop(key), own)
        assert cookie == KEPT
        assert [reason for _, reason in dropped] == ["ended"]
        assert browser.data == A


def test_parallel_edits_of_who_is_signed_in_merge(server_app: Flask) -> None:
    """The same person, by the id: a token refresh beside another key."""
    browser = started(server_app, **USER)
    cookie, _ = _meanwhile(browser, refresh, write_other)
    assert cookie == SET
    assert browser.data == {**REFRESHED, "b": 2}


@pytest.mark.parametrize("own", [purge, clear, remove_all])
def test_an_end_of_what_was_written_meanwhile_leaves_nothing(own: Action, server_app: Flask) -> None:
    browser = started(server_app, a=1)
    twin = browser.twin()
    cookie, _ = _meanwhile(browser, write, own)
    assert cookie == DELETED
    assert twin.data == {}


def test_a_removal_of_all_that_it_saw_spares_what_another_wrote(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    cookie, _ = _meanwhile(browser, write_other, remove_all)
    assert cookie == SET
    assert browser.data == {"b": 2}


def test_a_clear_removes_what_another_wrote(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    cookie, _ = _meanwhile(browser, write_other, _both(clear, count))
    assert cookie == SET
    assert browser.data == {"n": 1}


# -- late requests -------------------------------------------------------------------------------------------------


def _late(browser: Browser, clock: Clock, own: Action) -> str:
    """A request that first touches the session when every tombstone of its time is forgotten."""

    def view() -> None:
        clock.advance(LATER)
        own()

    return fate(browser.does(view))


@pytest.mark.parametrize(("own", "expected"), [(read, KEPT), (write, KEPT), (clear, KEPT), (sign_in, SET)])
def test_a_late_request_leaves_store_and_cookie_alone_unless_it_signs_in(
    own: Action, expected: str, server_app: Flask, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    other = _ended(started(server_app, a=1), purge)
    calls = watch(_store_of(server_app))
    with _dropped(server_app) as dropped:
        assert _late(other, clock, own) == expected
    assert calls == (["load", "save"] if expected == SET else ["load"])
    assert len(dropped) == len(warnings_in(caplog)) == (1 if own is write else 0)


def test_a_late_request_to_a_living_session_is_like_any_other(app: Flask, clock: Clock) -> None:
    browser = started(app, a=1)
    assert _late(browser, clock, write) == SET
    assert browser.data == TWO


# -- writes that meet ------------------------------------------------------------------------------------------------


class Race(t.NamedTuple):
    before: dict[str, t.Any]
    #: Loads first, commits last.
    last: Action
    #: In between.
    first: Action
    after: dict[str, t.Any]


def _within(value: str) -> Action:
    return lambda: session["cart"].append(value)


def _setting(**data: object) -> Action:
    return lambda: session.update(data)


def _removing(key: str) -> Action:
    return lambda: session.pop(key)


RACES = {
    "two keys": Race(A, _setting(b=2), _setting(c=3), {"a": 1, "b": 2, "c": 3}),
    "the same key": Race(A, _setting(a=2), _setting(a=3), TWO),
    "a counter": Race({"n": 5}, count, count, {"n": 7}),
    "a counter that begins": Race(A, count, count, {"a": 1, "n": 2}),
    "counted twice": Race({"n": 5}, _both(count, count), count, {"n": 8}),
    "a counter that was reset": Race({"n": 5}, count, _setting(n=0), {"n": 1}),
    "a counter that was removed": Race({"n": 5, "a": 1}, count, _removing("n"), {"a": 1, "n": 1}),
    "nested in two keys": Race({**CART, "a": 1}, _within("tea"), write, {"cart": ["mug", "tea"], "a": 2}),
    "nested in one key": Race(CART, _within("tea"), _within("jam"), {"cart": ["mug", "tea"]}),
    "a removal goes over a nested change": Race({**CART, **A}, _within("tea"), _removing("cart"), A),
    "whichever comes first": Race({**CART, **A}, _removing("cart"), _within("tea"), A),
    "a set goes over a removal": Race({**A, "b": 1}, write, _removing("a"), {"b": 1, "a": 2}),
    "a removal of one, a set of another": Race({**A, "b": 1}, _removing("b"), write, TWO),
    "both remove": Race({**A, "b": 1}, _removing("b"), _removing("b"), A),
    "data and metadata": Race(A, make_permanent, write, TWO),
}


@pytest.mark.parametrize("name", RACES)
def test_concurrent_writes_merge(name: str, server_app: Flask) -> None:
    race = RACES[name]
    browser = started(server_app, **race.before)
    cookie, _ = _meanwhile(browser, race.first, race.last)
    assert cookie == SET
    assert browser.data == race.after


def test_metadata_merges_field_by_field(server_app: Flask, clock: Clock) -> None:
    browser = started(server_app, a=1)
    end = datetime.fromtimestamp(clock.now, UTC) + timedelta(days=1)

    def set_deadline() -> None:
        session.deadline = end

    _meanwhile(browser, set_deadline, make_permanent)
    assert browser.asks(lambda: (session.permanent, session.deadline)) == (True, end)


def test_a_renewal_carries_what_another_wrote_meanwhile(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    cookie, calls = _meanwhile(browser, write_other, sign_in)
    assert (cookie, calls) == (SET, ["renew(replaces)", "renew(replaces)"])
    assert browser.data == {"a": 1, "b": 2, "_user_id": "ann"}


def test_an_updater_that_no_longer_fits_is_an_error_and_keeps_what_is_stored(server_app: Flask) -> None:
    browser = started(server_app, n=1)
    with pytest.raises(TypeError):
        _meanwhile(browser, _setting(n="text"), count)
    assert browser.data == {"n": "text"}


def test_a_request_that_loses_for_too_long_says_so(clock: Clock) -> None:
    store = _memory(clock)
    browser = started(make_app(store, SESSION_CONFLICT_TIMEOUT=0.001), a=1)
    swap, rival = store.swap, browser.twin()

    def swap_after_another(handle: str, *args: t.Any, **kwargs: t.Any) -> bool:
        t.cast("t.Any", store).swap = swap
        rival.does(lambda: session.update(rival=session.get("rival", 0) + 1))
        t.cast("t.Any", store).swap = swap_after_another
        return swap(handle, *args, **kwargs)

    t.cast("t.Any", store).swap = swap_after_another
    with pytest.raises(SessionConflict):
        browser.does(write)
    t.cast("t.Any", store).swap = swap
    data = rival.data
    assert data.pop("rival") >= 1
    assert data == A


@pytest.mark.parametrize("threads", [4])
def test_threads_at_once_lose_no_write(threads: int, server_app: Flask) -> None:
    browser, rounds = started(server_app, n=0), 10
    windows = [browser.twin() for _ in range(threads)]
    start = threading.Barrier(threads)

    def click(number: int) -> None:
        start.wait()
        for turn in range(rounds):
            windows[number].does(_both(count, _setting(**{f"{number}": turn})))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(click, range(threads)))
    assert browser.data == {"n": threads * rounds, **{f"{n}": rounds - 1 for n in range(threads)}}


def test_threads_at_once_cannot_revive_what_was_purged(server_app: Flask) -> None:
    browser, threads = started(server_app, n=0), 4
    windows = [browser.twin() for _ in range(threads)]
    start = threading.Barrier(threads + 1)

    def click(window: Browser) -> None:
        start.wait()
        for _ in range(5):
            window.does(lambda: session.update(n=session.get("n", "new")))

    with ThreadPoolExecutor(threads + 1) as pool:
        clicks = [pool.submit(click, window) for window in windows]
        thief = browser.twin()
        pool.submit(lambda: (start.wait(), browser.does(purge))).result()
        for done in clicks:
            done.result()
    assert thief.data == {}


def test_threads_that_log_in_at_once_are_all_signed_in(server_app: Flask) -> None:
    browser, threads = started(server_app, cart=["mug"]), 4
    windows = [browser.twin() for _ in range(threads)]
    start = threading.Barrier(threads)

    def log_in(window: Browser) -> dict[str, t.Any]:
        window.does(_both(read, start.wait, sign_in))
        return window.data

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(log_in, windows))
    assert found == [{**CART, **ANN}] * threads
    assert len({window.key for window in windows}) == threads
    assert browser.data == {}


# -- several cookies of one name -------------------------------------------------------------------------------------


@pytest.mark.parametrize("forged_first", [True, False])
def test_of_several_cookies_the_one_alive_is_used(forged_first: bool, server_app: Flask, clock: Clock) -> None:
    alive, dead = started(server_app, a=1), started(make_app(_memory(clock)), b=1)
    cookies = [*dead.cookies, *alive.cookies]
    browser = Browser(server_app, "forged", *(cookies if forged_first else reversed(cookies)))
    assert fate(browser.does(read)) == KEPT
    assert browser.data == A
    assert fate(browser.does(write)) == SET
    assert alive.data == TWO


_WAYS = {
    "read": (read, KEPT, {}),
    "write": (write, SET, TWO),
    "log in": (sign_in, SET, ANN),
    "log in by a login key": (log_in, SET, USER),
    "log out if logged in": (lambda: session.pop("_user_id", None), KEPT, {}),
    "clear": (clear, DELETED, {}),
    "clear and write": (_both(clear, write), SET, TWO),
    "purge": (purge, DELETED, {}),
    "renew": (renew, KEPT, {}),
}


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("many", [2, 9])
def test_living_cookies_are_all_ended_and_every_way_out_and_in_holds(
    many: int, way: str, server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    view, cookie, left = _WAYS[way]
    living = [started(server_app, number=number, **ANN) for number in range(many)]
    browser = Browser(server_app, *(cookie for one in living for cookie in one.cookies))
    assert fate(browser.does(view)) == cookie
    assert any(f"{many} living sessions" in warning for warning in warnings_in(caplog))
    assert [one.data for one in living] == [{}] * many
    assert browser.data == left


def test_living_cookies_that_hold_their_sessions_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(CookieStore())
    one, two = started(app, a=1), started(app, b=1)
    for view, cookie in ((read, KEPT), (write, SET), (sign_in, SET), (purge, DELETED), (clear, DELETED)):
        browser = Browser(app, *one.cookies, *two.cookies)
        assert fate(browser.does(view)) == cookie
        assert "a" not in browser.data or browser.data == TWO


@pytest.mark.parametrize("order", [1, -1])
def test_both_halves_of_a_page_that_meet_two_cookies_are_served(order: int, server_app: Flask) -> None:
    one, two = started(server_app, a=1), started(server_app, b=1)
    halves = [Browser(server_app, *one.cookies, *two.cookies) for _ in range(2)]
    first, second = halves[::order]
    assert fate(first.does(write)) == SET
    assert fate(second.does(read)) == KEPT  # or the cookie that the first half has set would go
    assert (first.data, one.data, two.data) == (TWO, {}, {})


@pytest.mark.parametrize("many", [2, 9])
def test_dead_cookies_beside_the_visitor_s_own_hide_nothing(many: int, server_app: Flask, clock: Clock) -> None:
    alive = started(server_app, a=1)
    dead = [cookie for _ in range(many) for cookie in started(make_app(_memory(clock)), a=1).cookies]
    assert fate(Browser(server_app, *dead).does(read)) == KEPT
    browser = Browser(server_app, *dead, *alive.cookies)
    assert browser.data == A
    assert fate(browser.does(purge)) == DELETED
    assert alive.data == {}


def test_a_cookie_that_came_twice_counts_once(server_app: Flask) -> None:
    alive = started(server_app, a=1)
    calls = watch(_store_of(server_app))
    assert Browser(server_app, *alive.cookies * 5).data == A
    assert calls == ["load"]


def test_a_purge_with_several_cookies_ends_the_one_alive(server_app: Flask, clock: Clock) -> None:
    alive, dead = started(server_app, a=1), started(make_app(_memory(clock)), b=1)
    assert fate(Browser(server_app, *dead.cookies, *alive.cookies).does(purge)) == DELETED
    assert alive.data == {}


# -- save, reload, streams -------------------------------------------------------------------------------------------


def test_save_writes_at_once_and_the_end_of_the_request_writes_nothing_twice(app: Flask) -> None:
    browser = started(app, a=1)
    calls = watch(_store_of(app))

    def view() -> None:
        write()
        session.save()
        assert calls == ["load", "update(replaces)"]
        assert session.status is SessionStatus.UNCHANGED

    assert fate(browser.does(view)) == SET
    assert calls == ["load", "update(replaces)"]
    assert browser.data == TWO


def test_what_comes_after_save_is_a_further_write(server_app: Flask) -> None:
    browser = Browser(server_app)
    calls = watch(_store_of(server_app))
    assert fate(browser.does(_both(write, save, write_other))) == SET
    assert calls == ["save", "update(replaces)"]
    assert browser.data == {"a": 2, "b": 2}


def test_a_new_session_is_known_once_saved(server_app: Flask) -> None:
    browser = Browser(server_app)

    def view() -> None:
        write()
        assert (session.new, session.handle, session.created_at, session.expires_at) == (True, None, None, None)
        session.save()
        assert session.handle is not None
        assert not session.new

    assert fate(browser.does(view)) == SET
    assert browser.data == TWO


def test_purge_after_save_ends_what_was_saved(app: Flask) -> None:
    browser = Browser(app)
    kept: list[str | None] = []
    browser.does(_both(write, save, lambda: kept.append(session.handle), purge))
    assert browser.cookies == []
    store = _store_of(app)
    if isinstance(store, ServerSideStore):
        assert store.info(kept[0] or "") is None


def test_reload_reads_what_another_request_wrote_and_drops_what_was_not_saved(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = browser.twin()

    def view() -> None:
        session["mine"] = 1
        other.does(write)
        assert session["a"] == 1
        session.reload()
        assert dict(session) == TWO

    assert fate(browser.does(view)) == KEPT
    assert browser.data == TWO


def test_no_cookie_is_sent_for_a_session_that_reload_found_dead(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = browser.twin()

    def view() -> None:
        write()
        session.save()
        other.does(purge)
        session.reload()
        assert dict(session) == {}

    assert fate(browser.does(view)) != SET


def test_what_save_has_stored_is_not_lost_to_a_failure_at_the_end(server_app: Flask) -> None:
    """The browser gets the key that the sign-in was saved under, though the response is a 500."""
    server_app.testing = False
    browser = started(server_app, cart=[1])

    def view() -> None:
        sign_in()
        session.save()
        session["cart"].append(object())

    response = browser.does(view)
    assert (response.status_code, fate(response)) == (500, SET)
    assert browser.data["cart"] == [1]
    assert "_user_id" in browser.data


def test_a_second_response_may_start_a_session(memory_app: Flask) -> None:
    """Flask saves again where something fails after the first time."""

    def fail(sender: Flask, **_: object) -> None:
        raise RuntimeError("after the session was saved")

    memory_app.testing = False
    memory_app.register_error_handler(500, lambda error: (str(session.update(farewell=1)), 500))
    browser = Browser(memory_app)
    with request_finished.connected_to(fail, memory_app):
        response = browser.does(lambda: None)
    assert (response.status_code, fate(response)) == (500, SET)
    assert browser.data == {"farewell": 1}


def test_an_import_that_fails_is_tried_again(clock: Clock) -> None:
    answers: list[t.Any] = [RuntimeError("the old store is down"), {"cart": [1]}]

    def import_session(app: Flask, request: object) -> dict[str, object]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return t.cast("dict[str, object]", answer)

    app = make_app(_memory(clock))
    app.extensions.clear()
    app.config.update(SESSION_TYPE=None, SESSION_FILE_DIR=None)
    SessionManager(app, import_session=import_session)
    browser = Browser(app)

    def view() -> None:
        with pytest.raises(RuntimeError):
            session.get("cart")
        with pytest.raises(RuntimeError):
            session["flash"] = 1

    assert fate(browser.does(view)) == KEPT
    assert browser.asks(lambda: session.get("cart")) == [1]


def test_how_long_one_user_is_remembered_says_nothing_about_the_next(server_app: Flask) -> None:
    browser = started(server_app, a=1)

    def sign_in_for_long() -> None:
        session["_user_id"] = "ann"
        session.lifetime = timedelta(days=365)

    browser.does(sign_in_for_long)
    assert browser.asks(lambda: session.lifetime.days if session.lifetime else None) == 365
    browser.does(lambda: session.pop("_user_id"))
    assert browser.asks(lambda: session.lifetime) is None


def test_a_stream_without_changes_of_a_session_warns_of_nothing(
    memory_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """What a view assigned that makes no session is no change that somebody forgot to save."""

    def view() -> t.Iterator[str]:
        session.permanent = True
        session.clear()
        session.modified = True
        return iter(["streamed"])

    Browser(memory_app).does(view)
    assert warnings_in(caplog) == []


def test_a_value_that_save_refused_can_be_mended(memory_app: Flask) -> None:
    browser = started(memory_app, cart=[1])

    def view() -> None:
        session["cart"].append(object())
        with pytest.raises(SessionInsertError):
            session.save()
        session["cart"] = [1, 2]

    browser.does(view)
    assert browser.data == {"cart": [1, 2]}


def _streaming(*steps: Action) -> Action:
    """A view whose response is streamed, with the session at hand."""

    def generate() -> t.Iterator[str]:
        for step in steps:
            step()
            yield "."

    return lambda: Response(stream_with_context(generate()))


def test_a_stream_may_read_and_save_what_the_browser_has_a_cookie_for(
    server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1)
    stream = _streaming(lambda: session["a"], _setting(a=2), save)
    response = browser.does(stream)
    assert response.text == "..."
    assert browser.data == TWO
    assert warnings_in(caplog) == []


def test_a_stream_sees_the_session_that_the_view_left(app: Flask) -> None:
    browser = Browser(app)
    found: list[object] = []
    browser.does(_both(write, _streaming(lambda: found.append(session["a"]))))
    assert found == [2]
    assert browser.data == TWO


@pytest.mark.parametrize("own", [write, sign_in, _both(clear, write), renew])
def test_a_stream_cannot_save_under_a_key_that_the_browser_lacks(own: Action, server_app: Flask) -> None:
    browser = started(server_app, a=1) if own is not write else Browser(server_app)
    before = browser.data

    def save_in_vain() -> None:
        with pytest.raises(SessionError, match="response has begun"):
            session.save()

    calls = watch(_store_of(server_app))
    browser.does(_streaming(own, save_in_vain))
    assert not {"save", "renew(replaces)"} & set(calls)
    assert browser.data == before


@pytest.mark.parametrize(
    "own",
    [
        write,
        write_within,
        purge,
        remove_all,
    ],
)
def test_what_a_stream_changed_and_nobody_saved_is_one_warning(
    own: Action, server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1, cart=[])
    browser.does(_streaming(own))
    (warning,) = warnings_in(caplog)
    assert "session.save()" in warning
    assert browser.data == {"a": 1, "cart": []}


def test_a_stream_signs_out_and_the_browser_keeps_its_key(server_app: Flask) -> None:
    browser = started(server_app, _user_id="ann", cart=[1])
    key = browser.key
    browser.does(_streaming(lambda: session.pop("_user_id"), save))
    assert (browser.data, browser.key) == ({"cart": [1]}, key)


def test_a_stream_may_end_the_session(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    browser.does(_streaming(clear, save))
    assert browser.data == {}


# -- Flask calls twice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "expected", "calls"),
    [
        (read, KEPT, ["load"]),
        (write, SET, ["load", "update(replaces)"]),
        (force, SET, ["load", "update_ttl"]),
        (renew, SET, ["load", "renew(replaces)"]),
        (clear, DELETED, ["load", "delete(replaces)"]),
        (purge, DELETED, ["delete"]),
    ],
)
def test_a_second_response_repeats_the_cookie_and_stores_nothing_twice(
    view: Action, expected: str, calls: list[str], app: Flask
) -> None:
    # Flask makes a second response when something fails after the first was finished.
    app.config.update(TESTING=False)
    browser = started(app, a=1)
    watched = watch(_store_of(app))

    def fail(sender: Flask, response: Response) -> None:
        raise RuntimeError("a receiver of request_finished failed")

    with request_finished.connected_to(fail, app):
        app.logger.disabled = True
        response = browser.does(view)
    assert response.status_code == 500
    assert fate(response) == expected
    assert watched == calls
    assert len(response.headers.getlist("Vary")) == 1


def test_an_error_handler_s_writes_are_a_further_write(server_app: Flask) -> None:
    def fail() -> None:
        write()
        raise RuntimeError("the view failed")

    def apologise(error: RuntimeError) -> str:
        session["b"] = 2
        return "sorry"

    server_app.register_error_handler(RuntimeError, apologise)
    browser = started(server_app, a=1)
    assert fate(browser.does(fail)) == SET
    assert browser.data == {"a": 2, "b": 2}


# -- with the rest of Flask ------------------------------------------------------------------------------------------


def _flasks_own(app: Flask, request: Request) -> t.Mapping[str, object] | None:
    old = SecureCookieSessionInterface().open_session(app, request)
    return dict(old) if old else None


def test_sessions_of_another_kind_can_be_taken_over(clock: Clock) -> None:
    before = Flask("before")
    before.secret_key = "a secret"
    serializer = SecureCookieSessionInterface().get_signing_serializer(before)
    assert serializer is not None
    data = {"_permanent": True, "a": 1, "_user_id": "ann"}
    app, store = Flask("after"), _memory(clock)
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True)
    SessionManager(app, import_session=_flasks_own)
    app.add_url_rule("/", "index", view_func=lambda: dict(session))
    app.add_url_rule("/permanent", "permanent", view_func=lambda: str(session.permanent))
    app.add_url_rule("/untouched", "untouched", view_func=lambda: "")
    client = app.test_client()
    client.set_cookie("session", str(serializer.dumps(data)))
    assert "Set-Cookie" not in client.get("/untouched").headers
    response = client.get("/")
    assert response.json == {"a": 1, "_user_id": "ann"}
    assert cookie_of(response).attributes["max-age"] == str(31 * 86400)
    calls = watch(store)
    assert client.get("/").json == {"a": 1, "_user_id": "ann"}
    assert client.get("/permanent").text == "True"
    assert set(calls) == {"load"}


def _importing(data: t.Mapping[str, object], clock: Clock) -> Flask:
    app = Flask("taking over")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=_memory(clock), TESTING=True)
    SessionManager(app, import_session=lambda app, request: data)
    return app


@pytest.mark.parametrize("kept", [True, False])
def test_permanent_is_right_in_the_request_that_imports_before_and_after_the_first_touch(
    kept: bool, clock: Clock
) -> None:
    app = _importing({"_permanent": kept, "a": 1}, clock)
    with app.test_request_context():
        assert session.permanent is kept
        assert session["a"] == 1
        assert session.permanent is kept
        assert "_permanent" not in session


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_permanent_can_be_set_in_the_request_that_imports(wanted: bool, kept: bool, clock: Clock) -> None:
    app = _importing({"_permanent": kept, "a": 1}, clock)

    @app.before_request
    def before() -> None:
        session.permanent = wanted

    app.add_url_rule("/", "index", view_func=lambda: f"{session['a']} {session.permanent}")
    client = app.test_client()
    response = client.get("/")
    assert response.text == f"1 {wanted}"
    assert ("max-age" in cookie_of(response).attributes) is wanted
    assert client.get("/").text == f"1 {wanted}"


def test_what_an_import_brings_that_cannot_be_kept_is_left_out_by_path_and_the_rest_is_stored(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"cart": [{"price": object()}], "a": 1, 7: "tops3cret", "_user_id": "ann", "late": [1]}
    app = _importing(t.cast("t.Any", data), clock)
    app.add_url_rule("/", "index", view_func=lambda: dict(session))
    client = app.test_client()
    for _ in range(2):
        assert client.get("/").json == {"a": 1, "_user_id": "ann", "late": [1]}
    assert [record.getMessage() for record in caplog.records] == [
        "what was imported at cart[0].price cannot be kept, and is left out",
        "what was imported under a key that is not text cannot be kept, and is left out",
    ]


def test_import_session_is_asked_only_where_there_is_no_session_of_ours(clock: Clock) -> None:
    asked: list[Request] = []

    def end() -> str:
        purge()
        return ""

    app = Flask("taking over")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=_memory(clock), TESTING=True)
    SessionManager(app, import_session=lambda app, request: asked.append(request))
    app.add_url_rule("/", "index", view_func=lambda: str(session.setdefault("a", 1)))
    app.add_url_rule("/purge", "purge", view_func=end)
    client = app.test_client()
    client.get("/")
    assert len(asked) == 1
    client.get("/")
    old = client.get_cookie("session")
    client.get("/purge")
    assert old is not None
    client.set_cookie("session", old.value)
    client.get("/")
    assert len(asked) == 1


def test_a_test_client_s_session_transaction_works(app: Flask) -> None:
    client = app.test_client()
    with client.session_transaction() as opened:
        opened["a"] = 1
        opened["cart"] = []
    with client.session_transaction() as opened:
        opened["cart"].append("mug")
    with client.session_transaction() as opened:
        assert dict(opened) == {"a": 1, "cart": ["mug"]}
        opened.clear()
    with client.session_transaction() as opened:
        assert dict(opened) == {}
    assert client.get_cookie("session") is None


def test_a_copied_context_shares_the_session(app: Flask) -> None:
    browser = started(app, a=1)

    def view() -> None:
        @copy_current_request_context
        def work(key: str) -> object:
            session.update_or("n", 1, lambda n: n + 1)
            session[key] = session["a"]
            return session

        dict(session)
        # Flask copies a context once for each function: one for each thread.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(work, "b").result() == session
        assert session["b"] == 1

    browser.does(view)
    assert browser.data == {"a": 1, "b": 1, "n": 1}


def test_threads_of_one_request_lose_nothing(memory_app: Flask) -> None:
    browser = Browser(memory_app)

    def view() -> None:
        def work() -> None:
            for _ in range(50):
                count()

        copies = [copy_current_request_context(work) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(copy) for copy in copies]:
                done.result()

    browser.does(view)
    assert browser.data == {"n": 200}


@pytest.mark.skipif(importlib.util.find_spec("asgiref") is None, reason="asgiref, for async views, is not installed")
def test_async_views_work(app: Flask) -> None:
    async def view() -> str:
        count()
        return str(session["n"])

    app.add_url_rule("/async", view_func=view)
    client = app.test_client()
    assert [client.get("/async").text for _ in range(3)] == ["1", "2", "3"]


def test_flashed_messages_are_shown_once(app: Flask) -> None:
    browser = Browser(app)
    browser.does(_both(lambda: flash("one"), lambda: flash("two")))
    assert browser.asks(get_flashed_messages) == ["one", "two"]
    assert browser.asks(get_flashed_messages) == []


def test_the_primitives_are_one_for_each_step(clock: Clock) -> None:
    # FaultyStore counts what a store of four primitives is asked: the price of the table in an engine's terms.
    store = FaultyStore(_memory(clock))
    app = make_app(store)
    browser = Browser(app)
    prices: list[tuple[Action, list[str]]] = [
        (nothing, []),
        (write, ["add"]),
        (nothing, []),
        (read, ["read"]),
        (write_other, ["read", "swap"]),
        (renew, ["read", "add", "swap"]),
        (clear, ["read", "swap"]),
    ]
    for view, price in prices:
        store.calls.clear()
        browser.does(view)
        assert store.calls == price


def test_two_applications_may_share_a_store(server_store: ServerSideStore, clock: Clock) -> None:
    server_store.clock = clock
    browser = started(make_app(server_store), a=1)
    assert Browser(make_app(server_store), *browser.cookies).data == A
    assert Browser(make_app(server_store, SECRET_KEY="another"), *browser.cookies).data == {}


def test_a_cookie_signed_for_another_name_is_worth_nothing(server_store: ServerSideStore) -> None:
    browser = started(make_app(server_store), a=1)
    elsewhere = make_app(server_store, SESSION_COOKIE_NAME="other")
    assert Browser(elsewhere, *browser.cookies, name="other").data == {}


def test_an_ordinary_run_logs_no_warning(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    browser = started(app, a=1)
    for view in (read, write, sign_in, renew, sign_out, clear, write, purge, nothing):
        browser.does(view)
    assert set_cookies(browser.does(read)) == []
    assert warnings_in(caplog) == []
