"""A pytest plugin that gives every Flask application of a test suite a SessionManager: ``pytest -p every_flask``.

It is for suites that know nothing of this package: Flask's own, those of extensions, an application's. Whatever passes
there with Flask's own sessions has to pass with ours. Two things are set: the store, from the URL in the variable
``EVERY_FLASK_STORE``, and ``SESSION_REFRESH_INTERVAL = 0``, so that every request extends, as in Flask. An application
that brings a session interface of its own keeps it.

``test_foreign_suites.py``, beside this file, runs the suites of Flask, Flask-Login and Flask-WTF with it.
"""

from __future__ import annotations

import functools
import os
import typing as t

from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from flask_sessionstore import SessionManager

STORE = "EVERY_FLASK_STORE"


def pytest_configure() -> None:
    store = os.environ[STORE]  # now: some tests empty the environment
    flask_s = Flask.__init__

    @functools.wraps(flask_s)
    def init(self: Flask, *args: t.Any, **kwargs: t.Any) -> None:
        flask_s(self, *args, **kwargs)
        if type(self.session_interface) is SecureCookieSessionInterface:
            self.config["SESSION_REFRESH_INTERVAL"] = 0
            SessionManager(self, store=store)

    Flask.__init__ = init  # type: ignore[method-assign]
