"""A process with the Flask-Session of its environment: run by ``test_beside_flask_session.py``.

::

    python flask_session_server.py SETTINGS

SETTINGS is an object of JSON; SESSION_REDIS is a URL in it.
"""

# The libraries of its time have no types.
# mypy: ignore-errors
from __future__ import annotations

import json
import sys
import warnings

import redis
import served
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    app = served.make_app(json.loads(sys.argv[1]))
    if app.config["SESSION_TYPE"] == "redis":
        app.config["SESSION_REDIS"] = redis.Redis.from_url(app.config["SESSION_REDIS"])
    elif app.config["SESSION_TYPE"] == "sqlalchemy":
        app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(app)
    with app.app_context():
        Session(app)
        if app.config["SESSION_TYPE"] == "sqlalchemy":
            app.config["SESSION_SQLALCHEMY"].create_all()
    served.serve(app)
