"""One request without a server: Flask's side of a session, fed with a header and a store."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

from flask import Flask
from flask.wrappers import Request, Response

from flask_sessionstore import Session, SessionKey, SessionManager
from flask_sessionstore.signing import SIGNED
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.tokens import Token

#: When all this happens.
NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
#: The session key that the browser holds.
KEY = SessionKey("A" * 43)
SECRET = "a secret"

_TOKEN = Token(key=KEY, issued=NOW - 3600, lifetime=86400, permanent=True, seen=b"seen", mark=7)
#: A header with a token that is good.
HEADER = "session=" + SIGNED.tokens((SECRET,), "session", "/").dumps(_TOKEN)


def store_with(data: bytes | None = None, seal: t.Any = False) -> MemoryStore:
    """A store that holds these bytes under the browser's key."""
    store = MemoryStore()
    store.clock, store.seal = lambda: NOW, seal
    if data is not None:
        store._put(KEY.handle, data)  # as it may stand there: planted or damaged, even expired
    return store


def application(**config: object) -> Flask:
    """An application with sessions, whose store is exchanged for every input."""
    app = Flask("fuzz")
    app.config.update(SECRET_KEY=SECRET, SESSION_STORE=store_with(), TESTING=True, **config)
    SessionManager(app)
    return app


APP = application()
INTERFACE: t.Any = APP.session_interface


def request_with(header: str) -> Request:
    """A request with this Cookie header."""
    return Request({"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "HTTP_COOKIE": header})


def respond(header: str, view: t.Callable[[Session], object], store: MemoryStore) -> Response:
    """The response to a request with this Cookie header whose view is ``view``."""
    INTERFACE.store = store
    session, response = INTERFACE.open_session(APP, request_with(header)), Response()
    view(session)
    INTERFACE.save_session(APP, session, response)
    return response
