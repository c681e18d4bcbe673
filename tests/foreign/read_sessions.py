"""A pytest plugin for Flask-Security's suite, with any kind of session: ``pytest -p read_sessions``.

Some of its tests look into the session by decoding Flask's cookie. With this plugin they ask the application instead,
so they say what they have to say of every kind of session.
"""

from __future__ import annotations

import functools
import importlib
import typing as t

from flask import Flask, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

#: All applications, the newest last.
_made: list[Flask] = []


def pytest_configure() -> None:
    others = Flask.__init__

    @functools.wraps(others)
    def init(self: Flask, *args: t.Any, **kwargs: t.Any) -> None:
        others(self, *args, **kwargs)
        _made.append(self)

    Flask.__init__ = init  # type: ignore[method-assign]


def pytest_collection() -> None:
    """Before the tests import them by their names."""
    used = importlib.import_module("tests.test_utils")
    used.get_session, used.get_existing_session = after, now_of  # type: ignore[attr-defined]


def after(response: TestResponse) -> dict[str, t.Any]:
    """The session that a response has sent, or that its request had."""
    sent = [header for header in response.headers.getlist("Set-Cookie") if header.startswith("session=")]
    text = sent[-1].partition("=")[2].partition(";")[0] if sent else response.request.cookies.get("session", "")
    return _read(_made[-1], text)


def now_of(client: FlaskClient) -> dict[str, t.Any]:
    """The session that a browser has."""
    cookie = client.get_cookie("session")
    return {} if cookie is None else _read(client.application, cookie.value)


def _read(app: Flask, text: str) -> dict[str, t.Any]:
    with app.test_request_context(headers={"Cookie": f"session={text}"}):
        return dict(session)
