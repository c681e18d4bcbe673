"""Two versions of an application that answer in turn: an old one and a new one, or the same with other settings."""

from __future__ import annotations

import itertools
import typing as t
from pathlib import Path

import pytest
from flask import Flask, Response, jsonify, request
from http_support import make_app, set_cookies
from old_sessions import LOGIN, SECRET_KEY, manager
from old_sessions import make_app as make_importing_app

from flask_sessionstore import SessionManager, session
from flask_sessionstore.migrate import from_flask, from_store
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore

LATER = itertools.count()
View = t.Callable[[], t.Any]


class Visitor:
    """A browser, whose requests may meet any version."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def sends(self, app: Flask, view: View) -> t.Any:
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = app.test_client(use_cookies=False).get(
            "/", headers={"Cookie": header} if header else {}, environ_overrides={"tests.action": view}
        )
        for cookie in set_cookies(response):
            if cookie.deletes:
                self.cookies.pop(cookie.name, None)
            else:
                self.cookies[cookie.name] = cookie.value
        return response.json if response.is_json else response.text

    def data(self, app: Flask) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.sends(app, show))


def show() -> Response:
    return jsonify(dict(session))


def log_in() -> None:
    session.update(LOGIN)


def log_in_again() -> None:
    """Later, so that Flask's cookie says another thing."""
    session.update(LOGIN, again=next(LATER))


def log_out() -> None:
    session.pop("_user_id", None)


def clear() -> None:
    session.clear()


# -- an old version, and a new one ---------------------------------------------------------------------------------


@pytest.fixture
def old() -> Flask:
    """On Flask's own sessions."""
    app = Flask("old")
    app.config.update(SECRET_KEY=SECRET_KEY, SESSION_COOKIE_NAME="session")

    @app.get("/")
    def act() -> t.Any:
        answer = request.environ["tests.action"]()
        return answer if isinstance(answer, Response) else ""

    return app


@pytest.fixture(params=[True, False], ids=["two names", "one name"])
def two_names(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def new(two_names: bool) -> Flask:
    name = "shop" if two_names else "session"
    return make_importing_app(MemoryStore(), from_flask(cookie="session"), SESSION_COOKIE_NAME=name)


def test_who_meets_the_new_version_goes_on_and_under_two_names_on_both(old: Flask, new: Flask, two_names: bool) -> None:
    visitor = Visitor()
    visitor.sends(old, log_in)
    for _ in range(3):
        assert visitor.data(new) == LOGIN
        assert visitor.data(old) == (LOGIN if two_names else {})


def test_what_the_old_version_writes_after_the_import_stays_with_it(old: Flask, new: Flask, two_names: bool) -> None:
    visitor = Visitor()
    visitor.sends(old, log_in)
    assert visitor.data(new) == LOGIN
    visitor.sends(old, lambda: session.update(cart=["cup"]))
    if two_names:
        assert visitor.data(new) == LOGIN
        assert visitor.data(old) == {**LOGIN, "cart": ["cup"]}
    else:  # the old version has put its own cookie in the place of ours
        assert visitor.data(new) == {"cart": ["cup"]}


@pytest.mark.parametrize("view", [log_out, clear])
def test_a_log_out_on_the_new_version_is_one_on_both(old: Flask, new: Flask, view: View) -> None:
    visitor = Visitor()
    visitor.sends(old, log_in)
    copied = dict(visitor.cookies)
    assert visitor.data(new) == LOGIN
    visitor.sends(new, view)
    for app in (old, new):
        assert "_user_id" not in visitor.data(app)
    thief = Visitor()
    thief.cookies = copied
    assert thief.data(new) == {}


def test_a_log_out_on_the_old_version_is_one_on_both_only_under_one_name(
    old: Flask, new: Flask, two_names: bool
) -> None:
    visitor = Visitor()
    visitor.sends(old, log_in)
    assert visitor.data(new) == LOGIN
    visitor.sends(old, clear)
    assert visitor.data(old) == {}
    assert visitor.data(new) == (LOGIN if two_names else {})


def test_who_has_to_log_in_again_can_on_either_version(old: Flask, new: Flask, two_names: bool) -> None:
    """Nobody is out for good."""
    for first, second in itertools.permutations((old, new)):
        visitor = Visitor()
        visitor.sends(old, log_in_again)
        visitor.data(new)
        visitor.sends(new, clear)
        for app in (first, second):
            visitor.sends(app, log_in_again)
            assert visitor.data(app)["_user_id"] == "7"


def test_a_step_back_finds_the_old_sessions_under_two_names(old: Flask, new: Flask, two_names: bool) -> None:
    visitor = Visitor()
    visitor.sends(old, log_in)
    visitor.data(new)
    assert visitor.data(old) == (LOGIN if two_names else {})


# -- the same version, with other settings -------------------------------------------------------------------------


@pytest.fixture
def version(tmp_path: Path) -> t.Callable[..., Flask]:
    """A process of the application: each has a store of its own, on one folder."""

    def start(*importers: t.Any, prefix: str = "session:", **settings: t.Any) -> Flask:
        store = FileSystemStore(tmp_path / "sessions", prefix=prefix)
        app = make_app(store) if not importers else make_importing_app(store, *importers)
        app.extensions.clear()
        app.config.update({"SECRET_KEY": SECRET_KEY, **settings})
        SessionManager(app, import_session=importers)
        return app

    return start


def test_a_change_of_the_secret_in_three_steps(version: t.Callable[..., Flask]) -> None:
    """First all know the new one; then it signs; then, when everybody was here, the old one goes."""
    steps = [
        version(SECRET_KEY="old"),
        version(SECRET_KEY="old", SECRET_KEY_FALLBACKS=["new"]),
        version(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]),
        version(SECRET_KEY="new"),
    ]
    visitor = Visitor()
    visitor.sends(steps[0], log_in)
    for before, after in itertools.pairwise(steps):
        for app in (before, after, before, after, after):
            assert visitor.data(app) == LOGIN
            visitor.sends(app, lambda: session.update(cart=["mug"]))


def test_a_change_of_the_prefix_is_one_of_the_store(version: t.Callable[..., Flask], tmp_path: Path) -> None:
    before = version()
    after = version(from_store(FileSystemStore(tmp_path / "sessions")), prefix="shop:")
    visitor = Visitor()
    visitor.sends(before, log_in)
    for app in (before, after, before, after):
        assert visitor.data(app) == LOGIN
    visitor.sends(after, clear)
    assert visitor.data(after) == {}


def test_a_change_of_the_owners_key_files_each_session_at_its_next_write(version: t.Callable[..., Flask]) -> None:
    before, after = version(), version(SESSION_OWNER_KEY="member", SESSION_LOGIN_KEYS=["_user_id"])
    visitor = Visitor()
    visitor.sends(before, lambda: session.update(_user_id="7", member="m7"))
    expected = {"_user_id": "7", "member": "m7"}
    for app in (after, before, after):
        assert visitor.data(app) == expected
    visitor.sends(after, lambda: session.update(note=1))
    with after.app_context():
        assert len(manager(after).find("m7")) == 1
    assert visitor.data(before) == {**expected, "note": 1}


def test_a_change_of_the_seal_in_two_steps(version: t.Callable[..., Flask]) -> None:
    """First records are sealed as they are written; required only when all have been."""
    steps = [version(), version(SESSION_SEAL=True), version(SESSION_SEAL="required")]
    visitor = Visitor()
    visitor.sends(steps[0], log_in)
    for app in (steps[0], steps[1], steps[0], steps[1]):
        assert visitor.data(app) == LOGIN
    visitor.sends(steps[1], lambda: session.update(note=1))
    for app in (steps[1], steps[2]):
        assert visitor.data(app) == {**LOGIN, "note": 1}


def test_a_change_of_the_path_is_one_of_the_cookie_and_everybody_logs_in_again(
    version: t.Callable[..., Flask],
) -> None:
    visitor = Visitor()
    visitor.sends(version(), log_in)
    after = version(SESSION_COOKIE_PATH="/shop")
    assert visitor.data(after) == {}
    visitor.sends(after, log_in)
    assert visitor.data(after) == LOGIN


def test_a_change_of_the_domain_leaves_the_session(version: t.Callable[..., Flask]) -> None:
    visitor = Visitor()
    visitor.sends(version(), log_in)
    after = version(SESSION_COOKIE_DOMAIN="localhost")
    assert visitor.data(after) == LOGIN
