"""The real Flask-Session and this package answer one browser in turn, each in its process: -m writers

What holds is in the table of docs/moving.rst.
"""

from __future__ import annotations

import json
import typing as t
import uuid
from pathlib import Path

import pytest
from processes import Browser, deploy, started
from servers import RedisServer
from writers import HERE, VERSIONS, python_of

pytestmark = pytest.mark.writers

ADA, BOB = {"_user_id": "7"}, {"_user_id": "8"}
#: These take any text in their cookie for the id of a session, and begin one under it.
ADOPTING = ("0.4.1", "0.5.0", "0.6.0")


class Old(t.NamedTuple):
    """A process with Flask-Session."""

    version: str
    port: int
    #: How an importer is told of it.
    origin: dict[str, t.Any]


def _settings(engine: str, folder: Path, url: str) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """Flask-Session's, and the importer's."""
    if engine == "redis":
        prefix = f"{uuid.uuid4()}:"
        return {"SESSION_TYPE": "redis", "SESSION_REDIS": url, "SESSION_KEY_PREFIX": prefix}, {
            "source": url,
            "prefix": prefix,
        }
    if engine == "files":
        return {"SESSION_TYPE": "filesystem", "SESSION_FILE_DIR": str(folder)}, {"source": str(folder)}
    database = f"sqlite:///{folder}/old.db"
    return {"SESSION_TYPE": "sqlalchemy", "SQLALCHEMY_DATABASE_URI": database}, {"source": database}


@pytest.fixture(
    scope="module", params=[(version, engine) for version in VERSIONS for engine in ("redis", "files", "sqlite")]
)
def old(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, valkey: RedisServer
) -> t.Iterator[Old]:
    version, engine = request.param
    settings, origin = _settings(engine, tmp_path_factory.mktemp("old"), valkey.url)
    text = json.dumps({"SECRET_KEY": "change me", **settings})
    with started(HERE / "flask_session_server.py", text, python=python_of(version)) as port:
        yield Old(version, port, origin)


@pytest.fixture(scope="module")
def port() -> t.Iterator[int]:
    with started(HERE / "rolling_server.py") as port:
        yield port


@pytest.fixture(params=["two names", "one name"])
def two_names(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "two names")


@pytest.fixture
def new(port: int, old: Old, two_names: bool, tmp_path: Path) -> int:
    """The process with this package, which imports the other's sessions."""
    name = "shop" if two_names else "session"
    settings = {"SECRET_KEY": "change me", "SESSION_STORE": f"file://{tmp_path}", "SESSION_COOKIE_NAME": name}
    deploy(port, settings, {**old.origin, "cookie": "session"})
    return port


def data(browser: Browser, port: int, action: str = "read") -> dict[str, t.Any]:
    shown = t.cast("dict[str, t.Any]", browser.asks(port, f"/{action}"))
    shown.pop("_permanent", None)  # which Flask-Session keeps among the data
    return shown


def visitor(old: Old) -> Browser:
    """Somebody who has logged in on the old version."""
    browser = Browser()
    browser.asks(old.port, "/log-in", ADA)
    return browser


def test_who_meets_the_new_version_goes_on_and_under_two_names_on_both(old: Old, new: int, two_names: bool) -> None:
    browser = visitor(old)
    for _ in range(3):
        assert data(browser, new) == ADA
        assert data(browser, old.port) == (ADA if two_names else {})


def test_what_the_old_version_writes_after_the_import(old: Old, new: int, two_names: bool) -> None:
    browser = visitor(old)
    assert data(browser, new, "count") == {**ADA, "n": 1}
    for _ in range(2):
        data(browser, old.port, "count")
    if two_names:
        assert (data(browser, old.port), data(browser, new)) == ({**ADA, "n": 2}, {**ADA, "n": 1})
    elif old.version in ADOPTING:  # it has a session of its own under our cookie
        assert (data(browser, old.port), data(browser, new)) == ({"n": 2}, {**ADA, "n": 1})
    else:  # its cookie has taken the place of ours
        assert (data(browser, new), data(browser, old.port)) == ({"n": 2}, {})


def test_a_log_out_on_the_new_version_is_one_on_both(old: Old, new: int) -> None:
    browser = visitor(old)
    copied = browser.twin()
    assert data(browser, new) == ADA
    browser.asks(new, "/log-out", {})
    assert [data(browser, port) for port in (new, old.port, new)] == [{}] * 3
    assert [data(copied, port) for port in (new, old.port, new)] == [{}, ADA, {}], "the old version still takes it"


def test_a_log_out_on_the_old_version_is_one_on_both_only_under_one_name(old: Old, new: int, two_names: bool) -> None:
    browser = visitor(old)
    assert data(browser, new) == ADA
    ours = browser.twin()
    browser.asks(old.port, "/log-out", {})
    assert data(browser, old.port) == {}
    assert data(browser, new) == (ADA if two_names else {})
    assert data(ours, new) == ADA


def test_who_has_to_log_in_again_can_on_either_version(old: Old, new: int) -> None:
    """Nobody is out for good."""
    for port in (old.port, new):
        browser = visitor(old)
        data(browser, new)
        browser.asks(new, "/log-out", {})
        browser.asks(port, "/log-in", BOB)
        assert data(browser, port) == BOB
        assert data(browser, new) == BOB
