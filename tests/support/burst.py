"""A process under gevent with many visitors at once. test_burst.py runs it, and sends it one command a line.

Its argument is the application's configuration, in JSON.
"""

from gevent import monkey

monkey.patch_all()

import collections  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402

import gevent  # noqa: E402
from flask import Flask, session  # noqa: E402
from flask.testing import FlaskClient  # noqa: E402

from flask_sessionstore import SessionManager  # noqa: E402
from flask_sessionstore.stores import pool  # noqa: E402

app = Flask(__name__)
app.config.update(SECRET_KEY="a secret", **json.loads(sys.argv[1]))
app.logger.disabled = True
SessionManager(app)


@app.get("/<name>")
def visit(name: str) -> str:
    """Answer whose session this is. A session without an owner first becomes that of the named visitor."""
    return str(session.setdefault("name", name))


def visitor(number: int) -> str:
    """Visit once, and return what happened."""
    browser: FlaskClient = app.test_client()
    answers = [browser.get(f"/{number}") for _ in range(2)]
    served = [answer.status_code for answer in answers] == [200, 200]
    return "served" if served and [answer.text for answer in answers] == [str(number)] * 2 else str(answers)


def burst(size: int) -> dict[str, int]:
    """Let this many visitors come at once, and count what happened to them."""
    return collections.Counter(
        greenlet.value for greenlet in gevent.joinall([gevent.spawn(visitor, n) for n in range(size)])
    )


def pass_time(seconds: float) -> str:
    """Move the pool's clock."""
    later = types.SimpleNamespace(monotonic=lambda: time.monotonic() + seconds, sleep=time.sleep)
    vars(pool)["time"] = later
    return visitor(-1)


for line in sys.stdin:
    what, number = line.split()
    answer = burst(int(number)) if what == "burst" else pass_time(int(number))
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
