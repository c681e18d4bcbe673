"""The test suites of Flask, Flask-Login and Flask-WTF, over our sessions: python3 dev.py foreign

Each suite runs as its source distribution has it: with Flask's own sessions first, then with ours in every application,
over each kind of store (``every_flask.py``). What fails with both says nothing about ours. Nothing of these suites is
kept here: pip fetches them, into an environment of their own below the one that runs this.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from every_flask import STORE
from servers import RedisServer

pytestmark = pytest.mark.foreign

#: The suites, and what each needs beside pytest.
SUITES = {
    "flask==3.1.3": ["asgiref", "greenlet", "python-dotenv"],
    "flask-login==0.6.3": ["asgiref", "semantic-version"],
    "flask-wtf==1.3.0": ["email-validator", "flask-babel", "flask-reuploaded"],
}
PYTEST = "pytest<9"  # Flask 3.1.3's suite imports what pytest 9.1 calls by another name
OPTIONS = [
    "-pno:cacheprovider",
    "-Wignore:datetime.datetime.utcnow:DeprecationWarning",  # of Flask-Login 0.6.3, since Python 3.12
]

#: What fails with ours all the same, and why; should it pass one day, this is wrong.
DIFFERENCES = {
    ("flask==3.1.3", "cookie"): {
        "tests.test_basic.test_session_cookie_setting": "reading a browser session moves the end of its idle lifetime,"
        " which is in the cookie with this store: so the cookie is sent again",
    },
}

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Below the environment that runs this, so that it goes when that goes.
FOLDER = Path(sys.prefix) / "foreign"
PYTHON = FOLDER / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"

#: By the names of the tests: what each failed with, why it was skipped, or None.
Outcomes = dict[str, str | None]


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    """Fetch the suites and make their environment, unless that was done to its end before."""
    wheel = os.environ.get("SESSIONSTORE_WHEEL")  # what CI tests; it may change while its version does not
    contents = Path(wheel).read_bytes() if wheel else b""
    wanted = repr((SUITES, PYTEST, hashlib.sha256(contents).digest())) + (ROOT / "pyproject.toml").read_text()
    stamp = FOLDER / "prepared"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER / "venv"], check=True)
    needed = {requirement for suite, others in SUITES.items() for requirement in (suite, *others)}
    ours = [f"{wheel}[redis]"] if wheel else ["--editable", f"{ROOT}[redis]"]
    pip("install", *ours, PYTEST, *sorted(needed))
    for suite in SUITES:
        fetch(suite)
    stamp.write_text(wanted)


def fetch(suite: str) -> None:
    """Unpack the source distribution of ``suite``."""
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--no-deps", "--no-binary", suite.partition("==")[0], "--dest", folder, suite)
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as files:
            files.extractall(FOLDER / suite, filter="data")


def pip(*arguments: str) -> None:
    subprocess.run([PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def run(suite: str, store: str | None) -> Outcomes:
    """Run a suite over the store of this URL; over none with Flask's own sessions."""
    (project,) = (FOLDER / suite).iterdir()
    ours = [] if store is None else ["-pevery_flask"]
    variables = {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1", STORE: store or ""}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [PYTHON, "-m", "pytest", *OPTIONS, *ours, f"--junit-xml={report}", "tests"],
            cwd=project,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr  # else it was not run to its end
        return dict(map(outcome, ET.parse(report).iter("testcase")))


def outcome(case: ET.Element) -> tuple[str, str | None]:
    trouble = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
    name = f"{case.get('classname')}.{case.get('name')}"
    return name, None if trouble is None else f"{trouble.tag}: {trouble.text}"


@functools.cache
def with_flask_s_own(suite: str) -> Outcomes:
    return run(suite, None)


def passed(outcomes: Outcomes) -> set[str]:
    return {name for name, trouble in outcomes.items() if trouble is None}


@pytest.mark.parametrize("store", ["memory", "file", "redis", "cookie"])
@pytest.mark.parametrize("suite", SUITES)
def test_what_passes_with_flask_s_own_sessions_passes_with_ours(
    suite: str, store: str, valkey: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = {"memory": "memory:", "file": tmp_path.as_uri(), "redis": valkey.url, "cookie": "cookie:"}
    flask_s, ours = with_flask_s_own(suite), run(suite, urls[store])
    expected = DIFFERENCES.get((suite, store), {})
    with capsys.disabled():
        print(f"\n{suite}: {len(passed(flask_s))} of {len(flask_s)} passed; with the {store} store {len(passed(ours))}")
        for name, reason in expected.items():
            print(f"  {name} fails, as it should: {reason}")
    differing = passed(flask_s) - passed(ours)
    assert differing == expected.keys(), "\n".join(f"{name}: {ours.get(name, 'not run')}" for name in differing)
