"""What ``flask_sessionstore.testing`` is for those who write stores, and those who test applications."""

from __future__ import annotations

import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_sessionstore import SessionManager, session
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

pytest_plugins = ["flask_sessionstore.testing.fixtures"]

BROKEN = """
import pytest
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import StoreContract

class Broken(MemoryStore):
    def add(self, handle, data, ttl):
        super().add(handle, data, ttl)
        return True

class TestBroken(StoreContract):
    @pytest.fixture
    def store(self):
        return Broken()
"""
WITHOUT_PYTEST = """
import sys
sys.modules["pytest"] = None
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore
FaultyStore(MemoryStore()).fail()
Clock().advance(hours=1)
try:
    from flask_sessionstore.testing import StoreContract
except ImportError as error:
    print(error)
"""


def run(*words: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=folder, timeout=120
    )
    return done.stdout + done.stderr


@pytest.mark.server
def test_a_contract_that_fails_shows_what_it_compared(tmp_path: Path) -> None:
    (tmp_path / "test_broken.py").write_text(BROKEN)
    said = run("-m", "pytest", "-p", "no:cacheprovider", "-k", "free_name", folder=tmp_path)
    assert "assert not True" in said
    assert "where True = add(" in said


def test_a_store_that_fails_needs_no_pytest(tmp_path: Path) -> None:
    assert "pytest" in run("-c", WITHOUT_PYTEST, folder=tmp_path)


def test_there_is_nothing_else_in_it() -> None:
    import flask_sessionstore.testing as module

    with pytest.raises(AttributeError, match="FaultierStore"):
        module.FaultierStore  # noqa: B018


def test_a_clock_moves_when_it_is_told_to() -> None:
    clock, store = Clock(1000), MemoryStore()
    clock.set(store)
    clock.advance(5, minutes=1)
    assert store.now() == 1065


# -- fixtures --------------------------------------------------------------------------------------------------------

Make = t.Callable[[Flask], FlaskClient]
SignIn = t.Callable[..., FlaskClient]


def make_app(**settings: t.Any) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="k", SESSION_STORE="redis://unreachable.invalid", **settings)
    SessionManager(app)
    app.add_url_rule("/", "show", lambda: dict(session))
    return app


@pytest.mark.parametrize(
    ("key", "kept"), [("_user_id", {"_user_id": "ada"}), ("user.sub", {"user": {"sub": "ada"}}), ("id", {"id": "ada"})]
)
def test_somebody_is_signed_in_in_one_line(
    session_client: Make, signed_in: SignIn, key: str, kept: dict[str, t.Any]
) -> None:
    client = signed_in(session_client(make_app(SESSION_OWNER_KEY=key)), "ada", cart=["mug"])
    assert client.get("/").json == {**kept, "cart": ["mug"]}
    found = client.application.session_interface.store.entries("ada")  # type: ignore[attr-defined]
    assert len(found) == 1


def test_the_clients_of_one_application_share_its_sessions_and_time(
    session_client: Make, signed_in: SignIn, session_clock: Clock
) -> None:
    app = make_app(SESSION_BROWSER_LIFETIME=60)
    one, other = signed_in(session_client(app), "ada"), session_client(app)
    assert other.get("/").json == {}
    other.set_cookie("session", one.get_cookie("session").value)  # type: ignore[union-attr]
    assert other.get("/").json == {"_user_id": "ada"}
    session_clock.advance(minutes=2)
    assert one.get("/").json == {}


def test_afterwards_an_application_has_its_own_store_again() -> None:
    from flask_sessionstore.testing.fixtures import _in_memory

    app = make_app()
    before = app.session_interface.store  # type: ignore[attr-defined]
    with _in_memory(app, Clock()):
        assert app.session_interface.store is not before  # type: ignore[attr-defined]
    assert app.session_interface.store is before  # type: ignore[attr-defined]


def test_who_is_signed_in_needs_a_key_for_owners(session_client: Make, signed_in: SignIn) -> None:
    with pytest.raises(AssertionError, match="SESSION_OWNER_KEY"):
        signed_in(session_client(make_app(SESSION_OWNER_KEY=None)), "ada")


def test_an_order_needs_a_log_in_that_is_not_too_old(
    session_client: Make, signed_in: SignIn, session_clock: Clock
) -> None:
    """As docs/testing.rst has it, for permanent sessions."""
    client = signed_in(session_client(make_app(SESSION_PERMANENT=True)), "ada", orders=["mug"])
    assert client.get("/").json == {"_user_id": "ada", "orders": ["mug"]}
    session_clock.advance(days=32)
    assert client.get("/").json == {}
