"""What each version of Flask-Session keeps: recorded, and written anew by the real ones.

The records are made by ``write_flask_session.py``, in an environment for each version. To make them anew::

    SESSIONSTORE_RECORD=1 python3 dev.py test -n0 -m writers tests/migrate
"""

from __future__ import annotations

import base64
import functools
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

#: Versions of Flask-Session, and what they go with. MD5 named cachelib's files before 0.16.
VERSIONS = {
    "0.4.1": ["flask==2.2.5", "werkzeug==2.3.8", "cachelib==0.13.0"],
    "0.5.0": ["flask==2.3.3", "werkzeug==2.3.8", "cachelib==0.13.0"],
    "0.6.0": ["flask==3.1.3", "werkzeug==3.1.9", "cachelib==0.13.0"],
    "0.7.0": ["flask==3.1.3", "werkzeug==3.1.9", "cachelib==0.17.0"],
    "0.8.0": ["flask==3.1.3", "werkzeug==3.1.9", "cachelib==0.17.0"],
}
DRIVERS = [
    "boto3",
    "mypy-boto3-dynamodb",
    "flask-sqlalchemy",
    "msgspec",
    "psycopg[binary]",
    "pymemcache",
    "pymongo",
    "redis",
]
SECRET_KEY = "change me"
PREFIX = "session:"

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
#: Below the environment that runs this, so that they go when that goes.
FOLDER = Path(sys.prefix) / "writers"


class Kept(t.NamedTuple):
    """What lay under one name."""

    name: str
    data: bytes
    #: In how many seconds it ended; None: its engine did not say.
    seconds: int | None


class Case(t.NamedTuple):
    """One session that a version has written."""

    version: str
    engine: str
    settings: dict[str, t.Any]
    cookie: str
    kept: list[Kept]

    @property
    def name(self) -> str:
        words = [f"{name.lower()}-{value}" for name, value in self.settings.items() if name != "path"]
        return "-".join([self.version, self.engine, self.settings["path"].strip("/"), *words])

    @property
    def options(self) -> dict[str, t.Any]:
        """How this package is told of the settings that it has to know."""
        return {
            "signed": self.settings.get("SESSION_USE_SIGNER", False),
            "id_length": self.settings.get("SESSION_ID_LENGTH", 32),
        }


@functools.cache
def recorded(version: str) -> list[Case]:
    """What was recorded of a version."""
    return parse(version, (RECORDED / f"{version}.json").read_text())


def all_recorded(*engines: str) -> list[Case]:
    """What was recorded of all versions in these engines."""
    return [case for version in VERSIONS for case in recorded(version) if case.engine in engines]


def parse(version: str, text: str) -> list[Case]:
    """What ``write_flask_session.py`` has printed."""
    return [
        Case(
            version,
            one["engine"],
            one["settings"],
            one["cookie"],
            [Kept(kept["name"], base64.b64decode(kept["data"]), kept["seconds"]) for kept in one["kept"]],
        )
        for one in json.loads(text)
    ]


@functools.cache
def python_of(version: str) -> Path:
    """The interpreter of an environment with a version of Flask-Session, which is made now."""
    environment = FOLDER / version
    subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = [f"flask-session=={version}", *VERSIONS[version], *DRIVERS]
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True)
    return python


def write(version: str, redis_url: str, memcached_port: int, postgresql_url: str, dynamodb_url: str) -> str:
    """Have a version write its sessions."""
    python = str(python_of(version))
    script = [python, str(HERE / "write_flask_session.py"), redis_url, str(memcached_port), postgresql_url]
    script.append(dynamodb_url)
    # Far from UTC, so that an end in local time would be seen to be one.
    far = {**os.environ, "TZ": "Asia/Tokyo"}
    written = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True, env=far)
    return written.stdout
