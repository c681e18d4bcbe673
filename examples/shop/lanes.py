"""Two lanes: the same small application twice, once with Flask's own session and once with this project's.

Its page sends two requests at once to both lanes, so that everybody can see what becomes of the session.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Flask, session
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_sessionstore import SessionManager

#: Seconds that a request takes which thinks before it writes.
THOUGHT = 0.5

lane = Blueprint("lane", __name__)


@lane.post("/log-in")
def log_in() -> dict[str, Any]:
    session.clear()
    session["user_id"] = "ada"
    return seen()


@lane.post("/put/<article>")
def put(article: str) -> dict[str, Any]:
    number = session.get(article, 0)
    time.sleep(THOUGHT)  # asks the warehouse, say
    session[article] = number + 1
    return seen()


@lane.post("/log-out")
def log_out() -> dict[str, Any]:
    session.clear()
    return seen()


@lane.get("/")
def seen() -> dict[str, Any]:
    return {"user": session.get("user_id"), "articles": sorted(key for key in session if key != "user_id")}


def make_lane(path: str, **settings: Any) -> Flask:
    """One lane, below ``path``, with a cookie of its own. Without another line it has Flask's own session."""
    app = Flask(__name__)
    app.config.update(SESSION_COOKIE_PATH=path, SESSION_COOKIE_SAMESITE="Lax", **settings)
    app.register_blueprint(lane)
    return app


def add_lanes(shop: Flask) -> None:
    """Mount both lanes below the shop; the second keeps its sessions where the shop does."""
    secret, store = shop.config["SECRET_KEY"], shop.config.get("SESSION_STORE")
    theirs = make_lane("/with-flask", SECRET_KEY=secret)
    ours = make_lane("/with-this", SECRET_KEY=secret, SESSION_STORE=store)
    SessionManager(ours)  # the only difference
    with_lanes = DispatcherMiddleware(shop.wsgi_app, {"/with-flask": theirs, "/with-this": ours})
    shop.wsgi_app = with_lanes  # type: ignore[method-assign]
