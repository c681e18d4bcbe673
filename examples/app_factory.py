"""One extension object, a factory, and two applications: a site, and its back office under ``/office``.

Each application has its own cookie, store and settings, although both use the same ``SessionManager``.

To try it: flask --app examples/app_factory:create_site run
"""

import secrets
from collections.abc import Mapping
from typing import Any

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_sessionstore import SessionManager, session

sessions = SessionManager()  # belongs to no application, so any module may import it


def create_app(name: str, config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_hex(), SESSION_STORE="memory:", SESSION_COOKIE_NAME=name)
    app.config.update(config or {})
    sessions.init_app(app)

    @app.get("/")
    def index() -> str:
        session.update_or("visits", 1, lambda n: n + 1)
        return f"Visit {session['visits']} to the {name}\n"

    return app


def create_site() -> Flask:
    site = create_app("site")
    office = create_app("office", {"SESSION_COOKIE_PATH": "/office", "PERMANENT_SESSION_LIFETIME": 15 * 60})
    site.wsgi_app = DispatcherMiddleware(site.wsgi_app, {"/office": office.wsgi_app})  # type: ignore[method-assign]
    return site
