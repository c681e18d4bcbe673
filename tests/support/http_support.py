"""For the tests over HTTP: browsers, and an application that gets its view with each request."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import typing as t

import pytest
from flask import Flask, Response, request, session
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from flask_sessionstore import SessionManager, SessionStore
from flask_sessionstore.manager import EXTENSION
from flask_sessionstore.migrate.flask_session import Session as FlaskSession
from flask_sessionstore.stores import ServerSideStore

#: Whether applications are set up by the replacement of Flask-Session.
ONE_IMPORT = bool(os.environ.get("SESSIONSTORE_TEST_ONE_IMPORT"))

KEPT, SET, DELETED = "kept", "set", "deleted"

#: The body of a view. A str, a tuple or a Response that it returns is the response; otherwise that is empty.
Action = t.Callable[[], object]

_ACTION = "tests.action"
_VERBS = ("load", "save", "update", "update_ttl", "delete", "renew")


def make_app(store: object, **config: object) -> Flask:
    """An application on ``store``. Each request brings the action that is its view."""
    app = Flask("http_support", static_folder=None)  # a rule less: these take half of the time that it takes
    logger = logging.getLogger(app.name)  # it belongs to the process, and another test may have silenced it
    logger.disabled, logger.propagate = False, True
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True)
    app.config.update(config)
    app.add_url_rule("/", view_func=_act, methods=["GET", "POST"])
    app.add_url_rule("/<path:path>", view_func=_act, methods=["GET", "POST"])
    _set_up(app)
    return app


def _set_up(app: Flask) -> None:
    """Set up by SessionManager, or, if the environment says so, by the replacement of Flask-Session's ``Session``."""
    if ONE_IMPORT and isinstance(app.config["SESSION_STORE"], ServerSideStore):
        app.config.setdefault("SESSION_PERMANENT", False)
        app.config.update(SESSION_TYPE="filesystem", SESSION_FILE_DIR=f"{app.instance_path}/none")
        FlaskSession(app)
    else:
        SessionManager(app)


def sessions_of(app: Flask) -> SessionManager:
    """The application's SessionManager."""
    return t.cast("SessionManager", app.extensions[EXTENSION])


def _act(path: str = "") -> t.Any:
    answer = request.environ[_ACTION]()
    return answer if isinstance(answer, (str, tuple, Response)) else ""


class SetCookie(t.NamedTuple):
    """One Set-Cookie header."""

    name: str
    value: str
    #: The attributes, by their names in lower case. An attribute without a value has "".
    attributes: dict[str, str]

    @property
    def deletes(self) -> bool:
        return not self.value and self.attributes.get("max-age") == "0"


def set_cookies(response: TestResponse) -> list[SetCookie]:
    """The Set-Cookie headers of a response."""
    return [_parse(header) for header in response.headers.getlist("Set-Cookie")]


def _parse(header: str) -> SetCookie:
    pairs = [part.strip().partition("=") for part in header.split(";")]
    name, _, value = pairs[0]
    return SetCookie(name, value.strip('"'), {key.lower(): text for key, _, text in pairs[1:]})


def redirects(response: TestResponse) -> bool:
    """Whether a response sends the browser to another page: by 302, or since Flask 3.2 by 303."""
    return response.status_code in (302, 303)


def cookie_of(response: TestResponse) -> SetCookie:
    """The one cookie that a response sets or deletes."""
    (cookie,) = set_cookies(response)
    return cookie


def fate(response: TestResponse) -> str:
    """What a response does to the browser's cookie."""
    cookies = set_cookies(response)
    if not cookies:
        return KEPT
    return DELETED if cookies[0].deletes else SET


class Browser:
    """A browser with cookies, which a test may read, copy and forge.

    :param cookies: the values of the session cookie. Usually there is one; a browser may also have several.
    """

    def __init__(self, app: Flask, *cookies: str, name: str = "session") -> None:
        self.app, self.name, self.cookies = app, name, list(cookies)

    @property
    def cookie(self) -> str | None:
        """The session cookie's value."""
        return self.cookies[0] if self.cookies else None

    def twin(self) -> Browser:
        """A second window, or a thief: it starts with the same cookies, and gets none of the later ones."""
        return Browser(self.app, *self.cookies, name=self.name)

    def does(self, action: Action = lambda: None, path: str = "/", *, body: str = "") -> TestResponse:
        """Send one request whose view is ``action``; with a body, as a form has one."""
        headers = [("Cookie", "; ".join(f"{self.name}={value}" for value in self.cookies))] if self.cookies else []
        client = self.app.test_client(use_cookies=False)
        send = client.post if body else client.get
        response = send(path, headers=headers, data=body, environ_overrides={_ACTION: action}, buffered=True)
        for cookie in set_cookies(response):
            if cookie.name == self.name:
                self.cookies = [] if cookie.deletes else [cookie.value]
        return response

    def asks(self, question: t.Callable[[], t.Any]) -> t.Any:
        """Call ``question`` within a request, and return its result."""
        answers: list[t.Any] = []
        self.does(lambda: answers.append(question()))
        return answers[0]

    @property
    def data(self) -> dict[str, t.Any]:
        """What is in the session."""
        return t.cast("dict[str, t.Any]", self.asks(lambda: dict(session)))

    @property
    def key(self) -> str | None:
        """The session key in the cookie."""
        return None if self.cookie is None else self.cookie.rsplit(".", 2)[0]


def started(app: Flask, **data: object) -> Browser:
    """A browser with a session that holds ``data``."""
    browser = Browser(app)
    browser.does(lambda: session.update(data))
    return browser


def watch(store: SessionStore) -> list[str]:
    """The verbs that are called on ``store`` from now on: "load", "delete(replaces, emptied)" ..."""
    calls: list[str] = []
    within = threading.local()  # a verb that calls other verbs counts once

    def noting(verb: str, method: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def call(*args: object, **kwargs: object) -> t.Any:
            if getattr(within, "verb", False):
                return method(*args, **kwargs)
            options = [name for name in ("replaces", "emptied") if kwargs.get(name)]
            calls.append(f"{verb}({', '.join(options)})" if options else verb)
            within.verb = True
            try:
                return method(*args, **kwargs)
            finally:
                within.verb = False

        return call

    for verb in _VERBS:
        setattr(store, verb, noting(verb, getattr(store, verb)))
    if isinstance(store, ServerSideStore):  # a delete that also returns what it found
        setattr(store, "end_found", noting("delete", store.end_found))  # noqa: B010  - as those above
    return calls


def warnings_in(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """The messages of this package's logger at exactly ``level``."""
    return [r.getMessage() for r in caplog.records if r.name == "flask_sessionstore" and r.levelno == level]


@contextlib.contextmanager
def serving(app: Flask) -> t.Iterator[tuple[str, int]]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield ("127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
