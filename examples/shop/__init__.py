"""A small shop that keeps all data about a visitor in ``flask.session``.

Read this file first (the set-up), then ``views.py`` (what is done with the session).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from flask import Flask

from .extensions import sessions
from .lanes import add_lanes
from .views import bp


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the shop. ``config`` wins over the environment (``FLASK_...``), which wins over the settings here."""
    app = Flask(__name__)
    app.config.update(
        SESSION_OWNER_KEY="user_id",  # when session["user_id"] changes, the session gets a new key by itself
        SESSION_RECORD_CLIENT=True,  # the browser and its address: see devices in views.py
        SESSION_COOKIE_SAMESITE="Lax",  # see refuse_cross_site_posts in views.py
    )
    # Sessions are files in the instance folder; the environment can move them: FLASK_SESSION_STORE=redis://...
    app.config.from_prefixed_env()
    app.config.update(config or {})
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = development_key(Path(app.instance_path, "secret_key"))

    sessions.init_app(app)
    app.register_blueprint(bp)
    add_lanes(app)
    return app


def development_key(path: Path) -> str:
    """The key kept in ``path``, made at the first start. Workers that start together use the same key."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent) as draft:  # readable by this user only
            draft.write(secrets.token_hex())
            draft.flush()
            with suppress(FileExistsError):  # another worker was first: its key is as good
                os.link(draft.name, path)
    return path.read_text()
