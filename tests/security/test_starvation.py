"""Whoever holds a copy of the cookie, and writes as fast as they can, keeps the visitor neither signed in nor out."""

from __future__ import annotations

import itertools
import threading
import typing as t
from datetime import timedelta

import flask_login
import msgspec
import pytest
from flask import Flask
from http_support import Browser, make_app, started
from views import clear, purge

from flask_sessionstore import StoreUnavailable, session
from flask_sessionstore.layout import pack, unpack
from flask_sessionstore.record import Record, new_revision
from flask_sessionstore.stores import ServerSideStore, StoreFull
from flask_sessionstore.stores.memory import MemoryStore

if t.TYPE_CHECKING:
    from flask_sessionstore.testing import Clock

WRITERS = 16


class Busy(MemoryStore):
    """A store in which somebody else writes to a session just before every write to it."""

    def __init__(self) -> None:
        super().__init__()
        self.pursued: str | None = None
        #: How often the session is still written to by somebody else.
        self.writes = 10**6

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        found = None if handle != self.pursued else self.read(handle)
        record = None if found is None else unpack(found, handle)
        if isinstance(record, Record) and self.writes:
            self.writes -= 1
            revisions = (new_revision(), *record.revisions)[:4]
            super().swap(handle, pack(msgspec.structs.replace(record, revisions=revisions), handle), ttl, replaces=None)
        return super().swap(handle, data, ttl, replaces=replaces)


def application(store: ServerSideStore) -> Flask:
    """One with Flask-Login."""
    app = make_app(store)
    flask_login.LoginManager(app).user_loader(User)
    return app


class User(flask_login.UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


def sign_in() -> None:
    flask_login.login_user(User("ann"))


def revoke(app: Flask) -> t.Callable[[], object]:
    return lambda: app.extensions["sessionstore"].revoke(session.handle)


#: Every way out.
WAYS_OUT: dict[str, t.Callable[[Flask], t.Callable[[], object]]] = {
    "Flask-Login": lambda app: flask_login.logout_user,
    "clear": lambda app: clear,
    "purge": lambda app: purge,
    "revoke": revoke,
}


def who(browser: Browser) -> object:
    return browser.asks(lambda: session.get("_user_id"))


@pytest.mark.parametrize("writes", [9, 10, 11, 99, 100, 101, 10**6])
@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_log_out_holds_however_often_others_write_meanwhile(way: str, writes: int) -> None:
    store = Busy()
    app = application(store)
    browser = started(app, cart=["mug"])
    browser.does(sign_in)
    thief, store.pursued, store.writes = browser.twin(), browser.asks(lambda: session.handle), writes
    assert browser.does(WAYS_OUT[way](app)).status_code == 200
    assert (who(browser), who(thief)) == (None, None)
    assert thief.data == {}


#: To renew is given up in the end: it must not take a revision that it has not read, in which somebody was signed out.
_MOVES = [
    (writes, also)
    for also in ("sign in", "renew", "clear and sign in")
    for writes in (9, 10, 11, 99, 100, 101, 10**6)
    if (writes, also) != (10**6, "renew")
]


@pytest.mark.parametrize(("writes", "also"), _MOVES)
def test_a_sign_in_holds_however_often_others_write_meanwhile(writes: int, also: str) -> None:
    store = Busy()
    browser = started(application(store), cart=["mug"])
    thief, store.pursued, store.writes = browser.twin(), browser.asks(lambda: session.handle), writes

    def view() -> None:
        if also == "renew":
            session.renew()
            session["right"] = True
        else:
            if also == "clear and sign in":
                session.clear()
            sign_in()

    assert browser.does(view).status_code == 200
    assert (browser.data.get("right") if also == "renew" else who(browser)) == (True if also == "renew" else "ann")
    assert ("cart" in browser.data) == (also != "clear and sign in")
    assert thief.data == {}


def test_what_others_wrote_meanwhile_comes_along(clock: Clock) -> None:
    """After the losses at which the session is kept under its new key first: no write is lost that was acknowledged."""
    store = Busy()
    app = application(store)
    browser = started(app, n=0)
    other, handle = browser.twin(), browser.asks(lambda: session.handle)
    counted = itertools.count()

    class Counting(Busy):
        pass

    swap = store.swap

    def count_first(name: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        if name == handle and next(counted) < 12:
            store.swap = swap  # type: ignore[method-assign]
            other.does(lambda: session.update_or("n", 1, lambda n: n + 1))
            store.swap = count_first  # type: ignore[assignment,method-assign]
        return swap(name, data, ttl, replaces=replaces)

    store.swap = count_first  # type: ignore[assignment,method-assign]
    assert browser.does(sign_in).status_code == 200
    assert browser.data["n"] == 12
    assert who(browser) == "ann"


def test_a_store_that_is_full_or_away_in_the_middle_loses_nothing() -> None:
    """Kept under the new key first, the old one replaced: if the last step is refused, the browser gets the new key."""
    for refusal in (StoreFull("no room"), StoreUnavailable("away")):
        store = Busy()
        app = application(store)
        app.config["PROPAGATE_EXCEPTIONS"] = False
        browser = started(app, cart=["mug"])
        handle = browser.asks(lambda: session.handle)
        thief, store.pursued, store.writes = browser.twin(), handle, 11
        swap = store.swap

        def refuse(
            name: str,
            data: bytes,
            ttl: timedelta,
            *,
            replaces: bytes | None,
            swap: t.Any = swap,
            why: Exception = refusal,
        ) -> bool:
            if name != handle:  # noqa: B023  - called within this round alone
                raise why
            return t.cast("bool", swap(name, data, ttl, replaces=replaces))

        store.swap = refuse  # type: ignore[assignment,method-assign]
        assert browser.does(sign_in).status_code == 503
        store.swap = swap  # type: ignore[method-assign]
        assert who(browser) == "ann"
        assert browser.data["cart"] == ["mug"]
        assert thief.data == {}


#: The others take the same way through the stores, and are tried where there is time.
_WAYS = ["Flask-Login", "sign in", *(pytest.param(way, marks=pytest.mark.long) for way in list(WAYS_OUT)[1:])]


@pytest.mark.parametrize("way", _WAYS)
def test_sixteen_threads_with_the_stolen_cookie_keep_nobody(way: str, server_store: ServerSideStore) -> None:
    app = application(server_store)
    browser = started(app, n=0)
    if way != "sign in":
        browser.does(sign_in)
    thief, stop, ready = browser.twin(), threading.Event(), threading.Barrier(WRITERS + 1)

    def write() -> None:
        ready.wait()
        mine = thief.twin()
        while not stop.is_set():
            mine.cookies = list(thief.cookies)
            mine.does(lambda: session.update_or("n", 1, lambda n: n + 1))

    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    ready.wait()
    try:
        response = browser.does(sign_in if way == "sign in" else WAYS_OUT[way](app))
        stolen = Browser(app, *thief.cookies)
        assert response.status_code == 200
        assert who(stolen) is None
        assert who(browser) == ("ann" if way == "sign in" else None)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
