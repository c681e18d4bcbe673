"""Applications as in Flask's documentation."""

from __future__ import annotations

import typing as t

import flask
from flask import Flask
from flask.ctx import AppContext

from flask_sessionstore import SessionManager, session


def an_app(store: object, **config: object) -> Flask:
    """An application with secret and sessions, and no routes yet."""
    app = Flask("contract")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True)
    app.config.update(config)
    SessionManager(app)
    return app


def clear() -> str:
    session.clear()
    return ""


def the_context() -> t.Any:
    """The context of the request. Since Flask 3.2 it is also the application's, and the old proxy is deprecated."""
    one = hasattr(AppContext, "match_request")
    return flask.globals.app_ctx if one else flask.globals.request_ctx


def route(app: Flask, path: str, view: t.Callable[..., t.Any]) -> None:
    app.add_url_rule(path, endpoint=path, view_func=view)
