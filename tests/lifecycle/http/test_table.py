"""What a request does, and what the store is asked and the cookie becomes for it: the table, over every store."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask, flash
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, started, warnings_in, watch
from lifecycle_views import (
    NEED_EVERY_COOKIE,
    TWO,
    A,
    both,
    log_in,
    log_in_another,
    memory_store,
    refresh,
    sign_out,
    store_of,
    write_within,
)
from views import clear, force, make_permanent, nothing, purge, read, remove_all, renew, sign_in, write

from flask_sessionstore import SessionStatus, SessionStore, session
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.testing import Clock

DAY = 86_400.0
#: Longer than a tombstone stands.
LATER = 61.0


def write_equal() -> None:
    session["a"] = 1


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
    #: What the cookie becomes with stores for which it is another one.
    others: t.Mapping[type[SessionStore], str] = {}


CART: dict[str, t.Any] = {"cart": ["mug"]}
ANN = {"_user_id": "ann"}
USER: dict[str, t.Any] = {"user": {"sub": "ann"}}
REFRESHED: dict[str, t.Any] = {"user": {"sub": "ann", "token": "fresh"}}


OF_CHANGE: dict[type[SessionStore], str] = dict.fromkeys(NEED_EVERY_COOKIE, SET)


TABLE = {
    "untouched": Row(A, nothing, [], KEPT, A),
    "untouched, long after": Row(A, nothing, [], KEPT, A, wait=DAY),
    "untouched, permanent, not due": Row(A, nothing, [], KEPT, A, permanent=True, wait=59),
    "untouched, permanent, due": Row(A, nothing, ["update_ttl"], SET, A, permanent=True, wait=60),
    "untouched, nothing there": Row({}, nothing, [], KEPT, {}),
    "read": Row(A, read, ["load"], KEPT, A),
    "read twice": Row(A, both(read, read), ["load"], KEPT, A),
    "read, due": Row(A, read, ["load", "update_ttl"], KEPT, A, wait=60, others={CookieStore: SET}),
    "read, permanent, not due": Row(A, read, ["load"], KEPT, A, permanent=True, wait=59),
    "read, permanent, due": Row(A, read, ["load", "update_ttl"], SET, A, permanent=True, wait=60),
    "read, nothing there": Row({}, read, [], KEPT, {}),
    "new, left empty": Row({}, both(write, remove_all), [], KEPT, {}),
    "new, cleared": Row({}, clear, [], KEPT, {}),
    "new, purged": Row({}, purge, [], KEPT, {}),
    "new, renewed": Row({}, renew, [], KEPT, {}),
    "new, forced": Row({}, force, [], KEPT, {}),
    "new, permanent alone": Row({}, make_permanent, [], KEPT, {}),
    "new, with data": Row({}, write, ["save"], SET, TWO),
    "new, signed in": Row({}, sign_in, ["save"], SET, ANN),
    "changed": Row(A, write, ["load", "update(replaces)"], KEPT, TWO, others=OF_CHANGE),
    "changed within": Row(
        CART, write_within, ["load", "update(replaces)"], KEPT, {"cart": ["mug", "tea"]}, others=OF_CHANGE
    ),
    "changed, then read": Row(A, both(write, read), ["load", "update(replaces)"], KEPT, TWO, others=OF_CHANGE),
    "changed, permanent": Row(A, write, ["load", "update(replaces)"], SET, TWO, permanent=True),
    "equal value, permanent": Row(A, write_equal, ["load", "update_ttl"], SET, A, permanent=True),
    "made permanent": Row(A, make_permanent, ["load", "update(replaces)"], SET, A),
    "made permanent again": Row(A, make_permanent, [], KEPT, A, permanent=True),
    "equal value": Row(A, write_equal, ["load", "update_ttl"], KEPT, A, others=OF_CHANGE),
    "changed and changed back": Row(A, both(write, write_equal), ["load", "update_ttl"], KEPT, A, others=OF_CHANGE),
    "forced": Row(A, force, ["load", "update_ttl"], KEPT, A, others=OF_CHANGE),
    "emptied": Row(A, remove_all, ["load", "delete(replaces, emptied)"], DELETED, {}),
    "emptied, with an owner": Row(ANN, remove_all, ["load", "delete(replaces)"], DELETED, {}),
    "emptied, with a login key": Row(USER, remove_all, ["load", "delete(replaces)"], DELETED, {}),
    "emptied and written": Row(A, both(remove_all, write), ["load", "update(replaces)"], KEPT, TWO, others=OF_CHANGE),
    "cleared": Row(A, clear, ["load", "delete(replaces)"], DELETED, {}),
    "cleared, with an owner": Row(ANN, clear, ["load", "delete(replaces)"], DELETED, {}),
    "cleared and written": Row({**A, "b": 1}, both(clear, write), ["load", "renew(replaces)"], SET, TWO),
    "cleared and signed in": Row(A, both(clear, sign_in), ["load", "renew(replaces)"], SET, ANN),
    "renewed": Row(A, renew, ["load", "renew(replaces)"], SET, A),
    "renewed and written": Row(A, both(renew, write), ["load", "renew(replaces)"], SET, TWO),
    "written and renewed": Row(A, both(write, renew), ["load", "renew(replaces)"], SET, TWO),
    "signed in": Row(A, sign_in, ["load", "renew(replaces)"], SET, {**A, **ANN}),
    "signed in by a login key": Row(A, log_in, ["load", "renew(replaces)"], SET, {**A, **USER}),
    "another user by a login key": Row(
        USER, log_in_another, ["load", "renew(replaces)"], SET, {"user": {"sub": "bob"}}
    ),
    "a login key as it was": Row(USER, log_in, ["load", "update_ttl"], KEPT, USER, others=OF_CHANGE),
    "a login key with a fresh token": Row(
        USER, refresh, ["load", "update(replaces)"], KEPT, REFRESHED, others=OF_CHANGE
    ),
    "a login key removed": Row({**A, **USER}, log_out, ["load", "update(replaces)"], KEPT, A, others=OF_CHANGE),
    "signed out": Row({**A, **ANN}, sign_out, ["load", "delete(replaces)", "save"], SET, A),
    "signed out, nothing left": Row(ANN, sign_out, ["load", "delete(replaces)"], DELETED, {}),
    "signed out and renewed": Row({**A, **ANN}, both(sign_out, renew), ["load", "delete(replaces)", "save"], SET, A),
    "cleared and written, with an owner": Row(ANN, both(clear, write), ["load", "delete(replaces)", "save"], SET, TWO),
    "cleared and written, with a login key": Row(
        USER, both(clear, write), ["load", "delete(replaces)", "save"], SET, TWO
    ),
    "cleared and signed in again": Row(ANN, both(clear, sign_in), ["load", "renew(replaces)"], SET, ANN),
    "purged": Row(A, purge, ["delete"], DELETED, {}),
    "read and purged": Row(A, both(read, purge), ["load", "delete"], DELETED, {}),
    "written and purged": Row(A, both(write, purge), ["load", "delete"], DELETED, {}),
    "purged and written": Row(A, both(purge, write), ["delete"], DELETED, {}),
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
    calls = watch(store_of(app))
    response = browser.does(row.view)
    assert response.status_code == 200
    assert (calls, fate(response)) == (row.calls, row.others.get(type(store_of(app)), row.cookie))
    assert browser.data == row.after


#: In these the session goes on under another key, or under none.
_ENDS = [
    *(n for n, row in TABLE.items() if row.before and set(row.calls[-1:]) & {"delete", "renew(replaces)"}),
    *("signed out", "cleared and written, with an owner", "emptied", "emptied, with an owner", "cleared"),
]


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
    stranger = started(make_app(memory_store(clock)), a=1)
    browser = Browser(server_app, *stranger.cookies)
    calls = watch(store_of(server_app))
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
    calls = watch(store_of(app))
    assert fate(browser.does(view)) == expected
    assert calls == (["save"] if expected == SET else [])


def test_the_status_of_the_response_is_not_consulted(app: Flask) -> None:
    def fail() -> t.Any:
        session["b"] = session.get("b", 0) + 1
        return "no", 500

    browser = Browser(app)
    assert fate(browser.does(fail)) == SET
    browser.does(both(write, fail))
    assert browser.data == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("view", "status"),
    [
        (nothing, SessionStatus.UNCHANGED),
        (read, SessionStatus.UNCHANGED),
        (write, SessionStatus.CHANGED),
        (write_within, SessionStatus.CHANGED),
        (renew, SessionStatus.RENEWED),
        (sign_in, SessionStatus.RENEWED),
        (both(clear, write), SessionStatus.RENEWED),
        (both(renew, purge), SessionStatus.PURGED),
    ],
)
def test_the_status_says_what_the_end_of_the_request_will_do(
    view: Action, status: SessionStatus, memory_app: Flask
) -> None:
    browser = started(memory_app, a=1, cart=[])
    assert browser.asks(lambda: (view(), session.status)[1]) is status


def test_purge_is_final_and_warns_once_of_writes(memory_app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    browser = started(memory_app, a=1)
    browser.does(both(purge, write, write, renew, lambda: flash("bye")))
    assert browser.data == {}
    (warning,) = warnings_in(caplog)
    assert "session.clear()" in warning
