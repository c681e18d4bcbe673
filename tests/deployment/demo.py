"""The application that every server here serves: a cart, a counter, signing in and out, a page of devices.

What its sessions hold is told by their own visitors, so whoever asks can see whether an answer is somebody else's.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing as t
from datetime import timedelta

from flask import Flask, Response, current_app, jsonify

from flask_sessionstore import SessionManager, UnsupportedByStore, session
from flask_sessionstore.stores import SessionStore
from flask_sessionstore.stores.watched import StoreCall

#: The variable of the environment with what :func:`make_app` takes, as JSON.
SETTINGS = "DEMO"

#: The folder of the metrics of all processes; if it is in the environment, the demo has metrics.
METRICS = "PROMETHEUS_MULTIPROC_DIR"


def metrics() -> list[t.Callable[[StoreCall], object]]:
    if METRICS not in os.environ:
        return []
    from flask_sessionstore.contrib.prometheus import SessionMetrics

    return [SessionMetrics()]


sessions = SessionManager(on_store_call=metrics())


def make_app(*, store: str | list[str] | dict[str, str], folder: str, prefix: str, warm: bool, max_age: float) -> Flask:
    """The application.

    :param store: a URL, a pair of them, or ``{"engine": url}``, ``{"client": url}``, for an object of its own,
        or ``{"dynamodb": endpoint_url}``.
    :param folder: where files are kept.
    :param max_age: how long a cache in front serves what it has, in seconds.
    :param warm: use the store at once, as an application does that makes its tables or asks for its own sessions.
    """
    app = Flask(__name__, instance_path=folder)
    options = {"max_age": timedelta(seconds=max_age)} if isinstance(store, list) else {}
    app.config.update(SECRET_KEY="of the demo", SESSION_OWNER_KEY="user", SESSION_KEY_PREFIX=prefix)
    app.config.update(SESSION_STORE_OPTIONS=options, SESSION_CONFLICT_TIMEOUT=10)
    sessions.init_app(app, store=brought(store, prefix) if isinstance(store, dict) else t.cast("t.Any", store))
    add_views(app)
    if METRICS in os.environ:
        app.get("/metrics")(show_metrics)
    if warm:
        warm_up(app)
    return app


def brought(store: dict[str, str], prefix: str) -> SessionStore:
    """A store over an Engine or a client of the application's own, or DynamoDB at an endpoint."""
    if "dynamodb" in store:
        from flask_sessionstore.stores.dynamodb import DynamoDBStore

        return DynamoDBStore.from_url("dynamodb://eu-central-1/sessions", endpoint_url=store["dynamodb"], prefix=prefix)
    if "engine" in store:
        import sqlalchemy

        from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore

        return SQLAlchemyStore(sqlalchemy.create_engine(store["engine"]), prefix=prefix)
    import redis

    from flask_sessionstore.stores.redis import RedisStore

    return RedisStore(redis.Redis.from_url(store["client"]), prefix=prefix)


def warm_up(app: Flask) -> None:
    """Leave no connection, lock or pool unmade."""
    app.test_cli_runner().invoke(args=["sessions", "create-schema"])  # says so where a store has none
    with app.app_context(), contextlib.suppress(UnsupportedByStore):
        sessions.find("nobody")
    visitor = app.test_client()
    for path in ("/put/tag/warm", "/login/warm", "/count", "/logout"):
        assert visitor.post(path, data="x").status_code == 200


def add_views(app: Flask) -> None:
    app.get("/health")(health)
    app.get("/show")(show)
    app.get("/devices")(devices)
    app.post("/put/<name>/<value>")(put)
    app.post("/count")(count)
    app.post("/login/<user>")(login)
    app.post("/logout")(logout)
    app.post("/end/<handle>")(end)


def health() -> Response:
    """Needs no session."""
    return jsonify(fine=True)


def show() -> Response:
    return jsonify(data=dict(session), handle=session.handle)


def put(name: str, value: str) -> Response:
    session[name] = value
    return jsonify(done=True)


def count() -> Response:
    """Others may come between its reading and its writing."""
    session.get("count")
    time.sleep(0)
    session.update_or("count", 1, lambda number: number + 1)
    return jsonify(done=True)


def show_metrics() -> Response:
    """As prometheus_client wants it of several processes, with what the store has beside it."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    from flask_sessionstore.contrib.prometheus import LivingSessions

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(LivingSessions(current_app._get_current_object()))  # type: ignore[attr-defined]
    return Response(generate_latest(registry), mimetype="text/plain", headers={"X-Process": str(os.getpid())})


def login(user: str) -> Response:
    session["user"] = user
    return jsonify(done=True)


def logout() -> Response:
    session.clear()
    return jsonify(done=True)


def devices() -> Response:
    user = session.get("user")
    return jsonify([] if user is None else [one.handle for one in sessions.find(user)])


def end(handle: str) -> Response:
    return jsonify(done=sessions.revoke(handle, owner=session.get("user")))


if SETTINGS in os.environ:
    app = make_app(**json.loads(os.environ[SETTINGS]))
