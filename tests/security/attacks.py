"""What the attacks share: applications to attack, log-ins and log-outs, cookies that were planted, hostile texts."""

from __future__ import annotations

import typing as t

import flask_login
from flask import Flask, Request, Response
from http_support import _ACTION, Action, Browser, make_app, started
from views import clear, purge
from werkzeug.test import TestResponse

from flask_sessionstore import SessionStore, session
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

#: The ways in which a token may be protected: values of SESSION_COOKIE_CONTENT_SECURITY.
PROTECTIONS = ["signed", "private"]


class User(flask_login.UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


def target(store: SessionStore, clock: Clock | None = None, **config: t.Any) -> Flask:
    """An application to attack, with Flask-Login in its default settings."""
    if clock is not None:
        store.clock = clock
    app = make_app(store, **config)
    flask_login.LoginManager(app).user_loader(User)
    return app


def send(app: Flask, header: str, action: Action = lambda: None) -> TestResponse:
    """The response to a Cookie header that no browser would send."""
    environ = {"HTTP_COOKIE": header, _ACTION: action}
    return app.test_client(use_cookies=False).get("/", environ_overrides=environ, buffered=True)


def peek(app: Flask, header: str) -> dict[str, t.Any]:
    """What the session holds for this Cookie header, which is to set and delete no cookie.

    Without the rest of Flask: a tenth of the time.
    """
    interface, response = app.session_interface, Response()
    request = Request({"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "HTTP_COOKIE": header})
    found = t.cast("t.Any", interface.open_session(app, request))
    data = dict(found)
    interface.save_session(app, found, response)
    assert "Set-Cookie" not in response.headers
    return data


def steps(*actions: Action) -> Action:
    """A view that does one after the other."""

    def act() -> None:
        for action in actions:
            action()

    return act


def read_all() -> None:
    dict(session)


def reload() -> None:
    session.reload()


# -- signing in and out --------------------------------------------------------------------------------------------

#: Who is signed in, by any of the log-ins below.
IDENTITY = ("user_id", "_user_id", "admin", "username", "user", "logged_in")


def identity(browser: Browser) -> dict[str, t.Any]:
    """Who the application takes this browser for; empty: nobody."""
    return {key: value for key, value in browser.data.items() if key in IDENTITY}


def by_login_key() -> None:
    """As in Flask's quickstart."""
    session["username"] = "ann"


def by_mapping() -> None:
    """As Authlib's and Auth0's examples do."""
    session["user"] = {"sub": "ann", "name": "Ann"}


def by_flag() -> None:
    session["logged_in"] = True


def tutorial() -> None:
    """As in Flask's tutorial."""
    session.clear()
    session["user_id"] = 7


def by_owner() -> None:
    session["_user_id"] = "ann"


def by_flask_login() -> None:
    flask_login.login_user(User("ann"))


def by_renewal() -> None:
    """Where rights rise and the user stays the same."""
    session.renew()
    session["admin"] = True


LOG_INS: list[Action] = [
    tutorial,
    by_owner,
    by_flask_login,
    by_renewal,
    by_login_key,
    by_mapping,
    by_flag,
]


def out_by_removal() -> None:
    session.pop("_user_id")


def out_by_flask_login() -> None:
    flask_login.logout_user()


def out_by_emptying() -> None:
    for key in list(session):
        del session[key]


def out_with_a_farewell() -> None:
    session.clear()
    session["message"] = "Good bye."


LOG_OUTS: list[Action] = [
    clear,
    out_by_removal,
    purge,
    out_by_flask_login,
    out_by_emptying,
    out_with_a_farewell,
]

# -- cookies that somebody else put into the browser ---------------------------------------------------------------


class Plant(t.NamedTuple):
    """A cookie that an attacker knows, and the handle of its session key where it was made."""

    cookie: str
    handle: str | None


Planting = t.Callable[[Flask, Clock], Plant]


def _of(browser: Browser) -> Plant:
    assert browser.cookie is not None
    return Plant(browser.cookie, browser.asks(lambda: session.handle))


def alive(app: Flask, clock: Clock) -> Plant:
    """The attacker's own session, not signed in."""
    return _of(started(app, cart=["bait"]))


def ended(app: Flask, clock: Clock) -> Plant:
    """A session that the attacker has just ended."""
    attacker = started(app, cart=["bait"])
    plant = _of(attacker)
    attacker.does(clear)
    return plant


def forgotten(app: Flask, clock: Clock) -> Plant:
    """A session that the attacker ended some time ago."""
    plant = ended(app, clock)
    clock.advance(61)
    return plant


def expired(app: Flask, clock: Clock) -> Plant:
    """A session that nobody used for too long."""
    plant = alive(app, clock)
    clock.advance(app.permanent_session_lifetime.total_seconds() + 1)
    return plant


def foreign(app: Flask, clock: Clock) -> Plant:
    """A session of another application that has the same secret."""
    return _of(started(make_app(MemoryStore(), SECRET_KEY=app.secret_key), cart=["bait"]))


def forged(app: Flask, clock: Clock) -> Plant:
    """What the attacker makes with the same software and another secret."""
    return _of(started(make_app(MemoryStore(), SECRET_KEY="a guess"), cart=["bait"]))


#: Keys that the application under attack does not know, or not any more.
UNKNOWN: list[Planting] = [ended, forgotten, expired, foreign, forged]
PLANTS: list[Planting] = [alive, *UNKNOWN]

# -- texts ---------------------------------------------------------------------------------------------------------

#: What has hurt others: for file systems, SQL, Redis, HTTP headers, templates, C, loggers, decoders.
HOSTILE_TEXTS = [
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "file:///etc/passwd",
    "%00",
    "a\x00b",
    "%0d%0aSet-Cookie:%20session=planted",
    "a\r\nSet-Cookie: session=planted",
    "a\nX: y",
    "' OR '1'='1",
    "'; DROP TABLE sessions; --",
    '"><script>alert(1)</script>',
    "*",
    "session:*",
    "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
    "FLUSHALL\r\n",
    "get a\r\nflush_all\r\n",
    '{"$gt": ""}',
    "{{7*7}}",
    "${jndi:ldap://localhost/a}",
    "%s%s%n",
    "%(asctime)s",
    "$(touch planted)",
    "gASVCgAAAAAAAACMBWhlbGxvlC4=",
    "!!python/object/apply:os.system ['true']",
    "\xc3\xbc\xff",
    "A" * 43,
    "A" * 42 + "B",
    "A" * 100_000,
    "." * 1000,
    "=" * 1000,
    '"' * 1000,
    "None",
    "[]",
    "-1",
    "",
]
