"""What the tests of one request's lifecycle share: views, and how they look into a store."""

from __future__ import annotations

import typing as t

from flask import Flask
from http_support import KEPT, SET, Action, Browser, fate, watch

from flask_sessionstore import SessionStore, session
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


def memory_store(clock: Clock) -> MemoryStore:
    store = MemoryStore()
    store.clock = clock
    return store


def store_of(app: Flask) -> SessionStore:
    return t.cast("t.Any", app.session_interface).store  # type: ignore[no-any-return]


#: With these stores every change changes the cookie: it holds the session, or the newest revision that its browser saw.
NEED_EVERY_COOKIE = (CachingStore, CookieStore)


def fate_of_change(store: SessionStore) -> str:
    """What happens to the cookie when a browser session changes and keeps its key."""
    return SET if isinstance(store, NEED_EVERY_COOKIE) else KEPT


def both(*actions: Action) -> Action:
    """A view that does both, one after the other. The result of the second is the response."""

    def act() -> object:
        return [action() for action in actions][-1]

    return act


def write_within() -> None:
    session["cart"].append("tea")


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


A, TWO = {"a": 1}, {"a": 2}


def meanwhile(browser: Browser, other: Action, own: Action) -> tuple[str, list[str]]:
    """A request of ``browser`` loads; another comes and goes; the first goes on with ``own``.

    The result: what became of the cookie of ``browser``, and what the store was asked for ``own``.
    """
    twin, calls = browser.twin(), t.cast("list[list[str]]", [])

    def view() -> None:
        dict(session)
        twin.does(other)
        calls.append(watch(store_of(browser.app)))
        own()

    response = browser.does(view)
    return fate(response), list(calls[0])


def write_other() -> None:
    session["b"] = 2
