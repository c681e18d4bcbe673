"""Applications as they run in production, for the tests of what fails."""

from __future__ import annotations

import logging
import typing as t

from flask import Flask
from http_support import make_app
from servers import RedisServer
from werkzeug.test import TestResponse

from flask_sessionstore.stores import ServerSideStore, from_url

#: An application as it runs in production: exceptions become pages.
LIVE: dict[str, object] = {"TESTING": False, "PROPAGATE_EXCEPTIONS": False}


def live_app(store: object, **config: object) -> Flask:
    """An application as in production, that does not fill the terminal with its tracebacks."""
    app = make_app(store, **{**LIVE, **config})
    app.logger.propagate = False
    app.logger.addHandler(logging.NullHandler())
    return app


def is_unavailable(response: TestResponse) -> bool:
    """Whether a response is the 503 that is sent when the store is unavailable."""
    return response.status_code == 503 and response.headers.get("Retry-After") == "5"


def store_on(server: RedisServer, **options: str) -> ServerSideStore:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return t.cast("ServerSideStore", from_url(f"{server.url}?{query}"))
