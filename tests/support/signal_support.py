"""For the tests of signals: listeners, and what they received."""

from __future__ import annotations

import re
import typing as t
from datetime import timedelta

from blinker import NamedSignal
from flask import Flask
from http_support import Action, Browser, started
from views import read

from flask_sessionstore import SessionKey, StoreUnavailable, session, signals
from flask_sessionstore.stores import ServerSideStore

SIGNALS = {value.name: value for value in vars(signals).values() if isinstance(value, NamedSignal)}
CREATED, RENEWED, ENDED = "session-created", "session-renewed", "session-ended"
MERGED, DROPPED, CORRUPT, FAILED = "session-merged", "session-write-dropped", "session-corrupt", "store-failed"
RECOVERED = "store-recovered"


DAY = timedelta(days=1)
KEY = "_user_id"
ANN = {KEY: "ann"}
#: A text that is in every session of these tests, and must not be in any signal.
SECRET = {"secret": "tell nobody"}
Event = tuple[str, dict[str, t.Any]]


class Heard:
    """The signals that an application has sent, in order. Each is checked."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.events: list[Event] = []
        self.then: t.Callable[[str, dict[str, t.Any]], object] = lambda name, arguments: None
        self._receivers = {name: self._receiver(name) for name in SIGNALS}
        for name, receiver in self._receivers.items():
            SIGNALS[name].connect(receiver)

    def _receiver(self, name: str) -> t.Callable[..., None]:
        def receive(sender: object, **arguments: t.Any) -> None:
            assert sender is self.app
            self.events.append((name, arguments))
            self.then(name, arguments)

        return receive

    def stop(self) -> None:
        for name, receiver in self._receivers.items():
            SIGNALS[name].disconnect(receiver)

    def now(self) -> list[Event]:
        """The signals since the last call."""
        events, self.events = self.events, []
        for name, arguments in events:
            _check(name, dict(arguments))
        return events

    def during(self, browser: Browser, action: Action) -> list[Event]:
        """The signals of one request."""
        self.now()
        browser.does(action)
        return self.now()


#: The arguments of each signal, and all values that they may have.
HANDLE = r"[0-9a-f]{64}|None"
ARGUMENTS = {
    CREATED: {"handle": HANDLE},
    RENEWED: {"handle": HANDLE, "previous": HANDLE, "reason": "signed in|signed out|cleared|renewed"},
    ENDED: {"handle": HANDLE, "how": "purged|cleared|emptied|signed out|expired|revoked|displaced|ambiguous"},
    MERGED: {"handle": HANDLE, "attempts": r"\d+"},
    DROPPED: {"handle": HANDLE, "reason": "ended|emptied|renewed|signed in|replaced|revoked|unknown"},
    CORRUPT: {"handle": HANDLE, "newer": "True|False"},
    RECOVERED: {},
}


def _check(name: str, arguments: dict[str, t.Any]) -> None:
    if name == FAILED:
        error = arguments.pop("error")
        assert isinstance(error, StoreUnavailable)
        assert not arguments
        assert SECRET["secret"] not in f"{error!r} {error} {vars(error)}"
        assert not re.search(r"[\w-]{43}", f"{error!r} {vars(error)}")
        return
    assert arguments.keys() == ARGUMENTS[name].keys()
    for argument, pattern in ARGUMENTS[name].items():
        assert re.fullmatch(pattern, str(arguments[argument])), arguments


Listen = t.Callable[[Flask], Heard]


def begun(app: Flask, **data: object) -> Browser:
    return started(app, **SECRET, **data)


def handle_of(browser: Browser) -> str | None:
    """The handle of the session; None with the cookie store."""
    return t.cast("str | None", browser.asks(lambda: session.handle))


def both(*actions: Action) -> Action:
    return lambda: [action() for action in actions][-1]


def write() -> None:
    session["a"] = "written"


def sign_in() -> None:
    session[KEY] = "ann"


def empty() -> None:
    for key in list(session):
        del session[key]


def damage(store: ServerSideStore, browser: Browser, data: bytes = b"no session") -> str:
    """Replace the browser's record by other bytes."""
    handle = SessionKey(str(browser.key)).handle
    store.drop(handle)
    assert store.add(handle, data, DAY)
    return handle


def meanwhile(browser: Browser, *others: Action, own: Action) -> Action:
    """A view that loads the session, lets requests of other windows happen, and then continues."""
    windows = [(browser.twin(), other) for other in others]

    def view() -> None:
        read()
        for window, other in windows:
            window.does(other)
        own()

    return view
