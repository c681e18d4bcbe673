"""The application of ``bench.outage``. It imports nothing of this folder, since gunicorn may import another package."""

from __future__ import annotations

import os

from flask import Flask

#: The variable with the store's URL.
STORE = "BENCH_OUTAGE_STORE"


def make_app() -> Flask:
    from flask_sessionstore import SessionManager, session

    app = Flask(__name__)
    app.config.update(SECRET_KEY="of the bench", SESSION_STORE=os.environ[STORE])
    SessionManager(app)
    app.add_url_rule("/health", "health", lambda: "fine")

    @app.get("/count")
    def count() -> str:
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    return app
