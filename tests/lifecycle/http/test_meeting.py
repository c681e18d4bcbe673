"""Writes of one session that meet, and several cookies in one request."""

from __future__ import annotations

import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, started, warnings_in, watch
from lifecycle_views import TWO, A, both, fate_of_change, log_in, meanwhile, memory_store, store_of, write_other
from views import assign, clear, count, make_permanent, purge, read, renew, sign_in, write

from flask_sessionstore import SessionConflict, session
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.testing import Clock

CART: dict[str, t.Any] = {"cart": ["mug"]}
ANN = {"_user_id": "ann"}
USER: dict[str, t.Any] = {"user": {"sub": "ann"}}


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


def _removing(key: str) -> Action:
    return lambda: session.pop(key)


RACES = {
    "two keys": Race(A, assign(b=2), assign(c=3), {"a": 1, "b": 2, "c": 3}),
    "the same key": Race(A, assign(a=2), assign(a=3), TWO),
    "a counter": Race({"n": 5}, count, count, {"n": 7}),
    "a counter that begins": Race(A, count, count, {"a": 1, "n": 2}),
    "counted twice": Race({"n": 5}, both(count, count), count, {"n": 8}),
    "a counter that was reset": Race({"n": 5}, count, assign(n=0), {"n": 1}),
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
    cookie, _ = meanwhile(browser, race.first, race.last)
    assert browser.data == race.after
    is_permanent = browser.asks(lambda: session.permanent)
    assert cookie == (SET if is_permanent else fate_of_change(store_of(server_app)))


def test_metadata_merges_field_by_field(server_app: Flask, clock: Clock) -> None:
    browser = started(server_app, a=1)
    end = datetime.fromtimestamp(clock.now, UTC) + timedelta(days=1)

    def set_deadline() -> None:
        session.deadline = end

    meanwhile(browser, set_deadline, make_permanent)
    assert browser.asks(lambda: (session.permanent, session.deadline)) == (True, end)


def test_a_renewal_carries_what_another_wrote_meanwhile(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    cookie, calls = meanwhile(browser, write_other, sign_in)
    assert (cookie, calls) == (SET, ["renew(replaces)", "renew(replaces)"])
    assert browser.data == {"a": 1, "b": 2, "_user_id": "ann"}


def test_an_updater_that_no_longer_fits_is_an_error_and_keeps_what_is_stored(server_app: Flask) -> None:
    browser = started(server_app, n=1)
    with pytest.raises(TypeError):
        meanwhile(browser, assign(n="text"), count)
    assert browser.data == {"n": "text"}


def test_a_request_that_loses_for_too_long_says_so(clock: Clock) -> None:
    store = memory_store(clock)
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
            windows[number].does(both(count, assign(**{f"{number}": turn})))

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
        window.does(both(read, start.wait, sign_in))
        return window.data

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(log_in, windows))
    assert found == [{**CART, **ANN}] * threads
    assert len({window.key for window in windows}) == threads
    assert browser.data == {}


# -- several cookies of one name -------------------------------------------------------------------------------------


@pytest.mark.parametrize("forged_first", [True, False])
def test_of_several_cookies_the_one_alive_is_used(forged_first: bool, server_app: Flask, clock: Clock) -> None:
    alive, dead = started(server_app, a=1), started(make_app(memory_store(clock)), b=1)
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
    "clear and write": (both(clear, write), SET, TWO),
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
    dead = [cookie for _ in range(many) for cookie in started(make_app(memory_store(clock)), a=1).cookies]
    assert fate(Browser(server_app, *dead).does(read)) == KEPT
    browser = Browser(server_app, *dead, *alive.cookies)
    assert browser.data == A
    assert fate(browser.does(purge)) == DELETED
    assert alive.data == {}


def test_a_cookie_that_came_twice_counts_once(server_app: Flask) -> None:
    alive = started(server_app, a=1)
    calls = watch(store_of(server_app))
    assert Browser(server_app, *alive.cookies * 5).data == A
    assert calls == ["load"]


def test_a_purge_with_several_cookies_ends_the_one_alive(server_app: Flask, clock: Clock) -> None:
    alive, dead = started(server_app, a=1), started(make_app(memory_store(clock)), b=1)
    assert fate(Browser(server_app, *dead.cookies, *alive.cookies).does(purge)) == DELETED
    assert alive.data == {}
