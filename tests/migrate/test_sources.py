"""What becomes of the place that old sessions come from, where it is not as it should be."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from engines import look
from http_support import Browser, warnings_in
from lifecycle_views import memory_store
from old_sessions import FlaskSessionFiles, make_app

from flask_sessionstore import SessionCorrupt, StoreUnavailable, session
from flask_sessionstore.migrate import contents, from_flask_session
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


def test_an_sqlite_file_that_is_away_is_a_503_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="file of the old sessions does not exist"):
        look(from_flask_session(f"sqlite:///{tmp_path}/old.db"), "A" * 43)
    assert list(tmp_path.iterdir()) == []


def test_who_was_imported_is_served_though_the_old_session_cannot_be_removed(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FlaskSessionFiles(tmp_path / "old", clock, remove=True)
    old = files.begin(cart=["tea"])

    def refuse(*args: object) -> t.NoReturn:
        raise StoreUnavailable("a disk that is read-only")

    monkeypatch.setattr(files.importer, "remove", refuse)
    assert Browser(make_app(memory_store(clock), files.importer), old).data == {"cart": ["tea"]}
    (warning,) = warnings_in(caplog)
    assert "could not be removed" in warning


def test_the_sessions_in_memcached_cannot_be_imported_at_once() -> None:
    app = make_app(MemoryStore(), from_flask_session("memcached://127.0.0.1:1"))
    result = app.test_cli_runner().invoke(args=["sessions", "import"])
    assert result.exit_code == 1
    assert "Memcached cannot list its items" in result.output


def test_of_several_old_sessions_the_one_that_is_still_there_is_imported(clock: Clock, tmp_path: Path) -> None:
    one, other = (FlaskSessionFiles(tmp_path / name, clock, cookie=name) for name in ("one", "other"))
    app = make_app(memory_store(clock), one.importer, other.importer)
    client = app.test_client()
    client.set_cookie("one", "A" * 43)
    client.set_cookie("other", other.begin(cart=["tea"]))
    app.add_url_rule("/cart", view_func=lambda: dict(session))
    assert client.get("/cart").json == {"cart": ["tea"]}


def test_an_old_session_that_is_too_large_to_be_read_is_not_said_to_be_newer() -> None:
    with pytest.raises(SessionCorrupt, match="more than") as caught:
        contents.read(bytes(contents.MAX_SIZE + 1))
    assert caught.value.newer is False
