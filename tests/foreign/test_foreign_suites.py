"""The test suites of Flask, Flask-Login, Flask-WTF and Flask-Security, over our sessions: python3 dev.py foreign

Each suite runs as its source distribution has it: with Flask's own sessions, and with ours in every application,
over its stores (``every_flask.py``). What fails with both says nothing about ours. Nothing of these suites is
kept here: pip fetches them, into an environment of their own below the one that runs this.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import typing as t
import xml.etree.ElementTree as ET
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from every_flask import STORE
from servers import RedisServer

pytestmark = pytest.mark.foreign


class Suite(t.NamedTuple):
    """Somebody's tests, and how they are run."""

    #: What they need beside pytest.
    needs: list[str]
    tests: list[str] = ["tests"]
    #: A plugin that they run with, over whichever sessions.
    plugin: str | None = None
    stores: list[str] = ["memory", "file", "redis", "cookie"]


SUITES = {
    "flask==3.1.3": Suite(["asgiref", "greenlet", "python-dotenv"]),
    "flask-login==0.6.3": Suite(["asgiref", "semantic-version"]),
    "flask-wtf==1.3.0": Suite(["email-validator", "flask-babel", "flask-reuploaded"]),
    # What is about sessions, with one database, over one store: it takes a minute each time.
    "flask-security==5.9.2": Suite(
        [
            *("argon2-cffi==25.1.0", "babel==2.19.0", "bcrypt==5.0.0", "cbor2==6.3.0", "flask-mail==0.10.0"),
            *("flask-sqlalchemy==3.1.1", "freezegun==1.5.5", "nh3==0.3.8", "phonenumberslite==9.0.42", "qrcode==8.2"),
            *("sqlalchemy==2.0.58", "sqlalchemy-utils==0.43.0", "webauthn==3.0.1", "zxcvbn==4.5.0"),
        ],
        tests=[
            f"tests/test_{name}.py"
            for name in ("basic", "csrf", "two_factor", "recoverable", "webauthn", "unified_signin")
        ],
        plugin="read_sessions",
        stores=["memory"],
    ),
}
PYTEST = "pytest<9"  # Flask 3.1.3's suite imports what pytest 9.1 calls by another name
OPTIONS = [
    "-pno:cacheprovider",
    "-oaddopts=",  # Flask-Security's are for that plugin
    "-Wignore:datetime.datetime.utcnow:DeprecationWarning",  # of Flask-Login 0.6.3, since Python 3.12
]

_OUR_CACHE_CONTROL = "a response that sends our cookie is private, and says so: no cache may keep it for somebody else"
_TOKEN_FROM_BEFORE = (
    "it goes on with the CSRF token from before the sign-in, which drops it; SESSION_LOGIN_DROPS = () would keep it"
)

#: What fails with ours all the same, and why; should it pass one day, this is wrong.
DIFFERENCES = {
    ("flask==3.1.3", "cookie"): {
        "tests.test_basic.test_session_cookie_setting": "reading a browser session moves the end of its idle lifetime,"
        " which is in the cookie with this store: so the cookie is sent again",
    },
    ("flask-security==5.9.2", "memory"): {
        "tests.test_basic.test_cache_control_not_on_app_endpoints": _OUR_CACHE_CONTROL,
        "tests.test_basic.test_no_cache_control": _OUR_CACHE_CONTROL,
        "tests.test_basic.test_override_cache_control": _OUR_CACHE_CONTROL,
        "tests.test_two_factor.test_csrf_2fa_login_cookie": _TOKEN_FROM_BEFORE,
        "tests.test_unified_signin.test_csrf_2fa_us_cookie": _TOKEN_FROM_BEFORE,
        "tests.test_webauthn.test_csrf": _TOKEN_FROM_BEFORE,
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
    needed = {requirement for name, suite in SUITES.items() for requirement in (name, *suite.needs)}
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
    plugins = [SUITES[suite].plugin, None if store is None else "every_flask"]
    options = [*OPTIONS, *(f"-p{plugin}" for plugin in plugins if plugin)]
    variables = {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "", STORE: store or ""}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [str(PYTHON), "-m", "pytest", *options, f"--junit-xml={report}", *SUITES[suite].tests],
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


#: By suite and store, None for Flask's own sessions.
Runs = dict[tuple[str, str | None], Future[Outcomes]]


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Runs]:
    """All that the chosen tests compare, one for each processor at a time."""

    def url(store: str | None) -> str | None:
        folder = tmp_path_factory.mktemp("sessions").as_uri()
        return store and {"memory": "memory:", "file": folder, "redis": valkey.url, "cookie": "cookie:"}[store]

    chosen: list[t.Any] = [item.callspec.params for item in request.session.items if isinstance(item, pytest.Function)]
    wanted = dict.fromkeys((params["suite"], store) for params in chosen for store in (None, params["store"]))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield {(suite, store): threads.submit(run, suite, url(store)) for suite, store in wanted}


def passed(outcomes: Outcomes) -> set[str]:
    return {name for name, trouble in outcomes.items() if trouble is None}


@pytest.mark.parametrize(
    ("suite", "store"), [(name, store) for name, suite in SUITES.items() for store in suite.stores]
)
def test_what_passes_with_flask_s_own_sessions_passes_with_ours(
    suite: str, store: str, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    flask_s, ours = runs[suite, None].result(), runs[suite, store].result()
    expected = DIFFERENCES.get((suite, store), {})
    with capsys.disabled():
        print(f"\n{suite}: {len(passed(flask_s))} of {len(flask_s)} passed; with the {store} store {len(passed(ours))}")
        for name, reason in expected.items():
            print(f"  {name} fails, as it should: {reason}")
    differing = passed(flask_s) - passed(ours)
    assert differing == expected.keys(), "\n".join(f"{name}: {ours.get(name, 'not run')}" for name in differing)
