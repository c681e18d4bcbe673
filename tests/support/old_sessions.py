"""Old sessions, and the browsers that have them: what the tests of moving in share."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import secrets
import typing as t
from pathlib import Path

from flask import Flask, Response, jsonify
from flask.sessions import SecureCookieSessionInterface
from http_support import Browser
from itsdangerous import TimestampSigner

from flask_sessionstore import SessionManager, session
from flask_sessionstore.migrate import Importer, from_flask, from_flask_session

SECRET_KEY = "change me"
MONTH = 31 * 24 * 3600
LOGIN: dict[str, t.Any] = {"_user_id": "7", "cart": ["mug"]}


class Origin(t.Protocol):
    """A place with old sessions."""

    @property
    def importer(self) -> Importer:
        """The importer that reads them."""

    def begin(self, **data: t.Any) -> str:
        """Begin an old session with ``data``, and return the value of its cookie."""


class _Signer(TimestampSigner):
    """Signs each cookie with a time of its own, as for different browsers. The times are far apart."""

    earlier = itertools.count()

    def get_timestamp(self) -> int:
        return super().get_timestamp() - 1000 * next(self.earlier)


class FlaskCookies:
    """In Flask's own cookie."""

    def __init__(self, **options: t.Any) -> None:
        self.importer = from_flask(**options)

    def begin(self, **data: t.Any) -> str:
        app = Flask(__name__)
        app.config["SECRET_KEY"] = SECRET_KEY
        serializer = SecureCookieSessionInterface().get_signing_serializer(app)
        assert serializer is not None
        serializer.signer = _Signer
        return str(serializer.dumps(data))


class FlaskSessionFiles:
    """In files, as every version of Flask-Session writes them."""

    def __init__(self, folder: Path, clock: t.Callable[[], float], **options: t.Any) -> None:
        self.folder, self._clock = folder, clock
        folder.mkdir(exist_ok=True)
        self.importer = from_flask_session(folder, **options)

    def begin(self, **data: t.Any) -> str:
        sid = secrets.token_urlsafe(32)
        self.keep(sid, pickle.dumps(data))
        return sid

    def keep(self, sid: str, data: bytes, seconds: int = MONTH) -> None:
        """Write these bytes as the session."""
        self.path(sid).write_bytes((int(self._clock()) + seconds).to_bytes(4, "little") + data)

    def path(self, sid: str) -> Path:
        return self.folder / hashlib.md5(f"session:{sid}".encode()).hexdigest()


def make_app(store: object, *importers: t.Any, **config: t.Any) -> Flask:
    """As in http_support, with importers."""
    import http_support

    app = http_support.make_app(store, SECRET_KEY=SECRET_KEY, **config)
    app.extensions.clear()
    SessionManager(app, import_session=importers)
    return app


def manager(app: Flask) -> SessionManager:
    return t.cast("SessionManager", app.extensions["sessionstore"])


def handle_of(browser: Browser) -> str:
    handle = browser.asks(lambda: session.handle)
    assert isinstance(handle, str)
    return handle


# -- views ----------------------------------------------------------------------------------------------------------


def read_cart() -> t.Any:
    return session.get("cart")


def show() -> Response:
    return jsonify(dict(session))


def say_farewell() -> None:
    session.clear()
    session["message"] = "farewell"


def sign_out() -> None:
    session.pop("_user_id")
