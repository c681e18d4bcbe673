"""Injection: what a client controls reaches no path, no query, no protocol, no header and no log line as it is."""

from __future__ import annotations

import logging
import typing as t
from pathlib import Path

import pytest
from attacks import HOSTILE_TEXTS, PROTECTIONS, identity, peek, read_all, send, target
from derived_keys import signer
from http_support import KEPT, Browser, fate, started, watch
from views import purge

from flask_sessionstore import SessionGone, SessionKey, SessionManager, SessionStore, session
from flask_sessionstore.stores import OwnerIndex, ServerSideStore, from_url
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore

each = pytest.mark.parametrize


@each("protection", PROTECTIONS)
@each("url", ["memory:", "cookie:"])
def test_a_hostile_cookie_is_no_session_and_reaches_no_store(
    url: str, protection: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = from_url(url)
    app = target(store, SESSION_COOKIE_CONTENT_SECURITY=protection)
    calls = watch(store)
    for text in HOSTILE_TEXTS:
        for header in (text, f"session={text}", f'a=b; session="{text}"; c'):
            assert peek(app, header) == {}
        response = send(app, f"session={text}", lambda: session.get("user"))
        assert (response.status_code, fate(response)) == (200, KEPT)
        assert not response.headers.getlist("X")
    assert calls == []
    assert caplog.records == []


PATHS = ["../../x", "..\\x", "%2e%2e%2f" * 14 + "a", "/" * 43, "\x00" * 43, "*" * 43, "a/b" * 14 + "a", "." * 43]


def test_not_even_the_thief_of_the_secret_gets_a_path_into_a_store() -> None:
    """A name in a store is a SHA-256 in hexadecimal, made of a key that has 43 characters of base64url."""
    store = MemoryStore()
    app = target(store)
    genuine = t.cast("str", started(app, n=1).cookie)
    thief = signer("a secret")
    key, rest, _ = genuine.split(".")
    assert thief.sign(f"{key}.{rest}").decode() == genuine
    calls = watch(store)
    for text in PATHS:
        with pytest.raises(ValueError, match="not a session key"):
            SessionKey(text)
        with pytest.raises(ValueError, match="not a session handle"):
            SessionKey.of(text)
        assert send(app, f"session={thief.sign(f'{text}.{rest}').decode()}", read_all).status_code == 200
    assert calls == []


def test_handles_that_are_none_end_nothing_and_open_nothing(server_store: ServerSideStore) -> None:
    app = target(server_store)
    sessions = t.cast("SessionManager", app.extensions["sessionstore"])
    user = started(app, _user_id="ann")
    handle = user.asks(lambda: session.handle)
    near = [handle.upper(), handle[:-1], handle + "0", f" {handle}", f"{handle}\n", f"{handle}\x00", "٠" * 64]
    with app.app_context():
        for text in [*HOSTILE_TEXTS, *near]:
            assert sessions.revoke(text) is False
            assert sessions.revoke(text, owner="ann") is False
            with pytest.raises(SessionGone), sessions.open(text):
                pass
        assert identity(user)
        assert sessions.revoke(handle, owner="ann") is True
    assert not identity(user)


def test_a_command_is_given_no_hostile_handle(tmp_path: Path) -> None:
    """What is no handle is refused, and what is shown of it would move no terminal."""
    app = target(FileSystemStore(tmp_path / "sessions"))
    user = started(app, _user_id="ann")
    before = sorted(tmp_path.rglob("*"))
    for text in [*HOSTILE_TEXTS, "\x1b[2J", "--all"]:
        for command in ("show", "revoke"):
            result = app.test_cli_runner().invoke(args=["sessions", command, "--", text])
            assert result.exit_code != 0
            assert isinstance(result.exception, SystemExit)
            assert len(text) < 5 or text not in result.output.replace("HANDLE", "")
    assert sorted(tmp_path.rglob("*")) == before
    assert identity(user)


def test_a_hostile_handle_touches_no_file(tmp_path: Path) -> None:
    store = FileSystemStore(tmp_path / "sessions")
    app = target(store)
    user = started(app, n=1)
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    before = sorted(path for path in tmp_path.rglob("*"))
    sessions = t.cast("SessionManager", app.extensions["sessionstore"])
    with app.app_context():
        for text in ("../secret", "../../secret", str(secret), "aa/../../secret", f"{'a' * 64}/../../../secret"):
            assert sessions.revoke(text) is False
            send(app, f"session={text}", purge)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert secret.read_text() == "untouched"
    assert user.data == {"n": 1}


def test_owners_are_compared_and_never_interpreted(server_store: ServerSideStore) -> None:
    if server_store.ability(OwnerIndex) is None:
        pytest.skip("this store lists no owners")
    app = target(server_store)
    sessions = t.cast("SessionManager", app.extensions["sessionstore"])
    owners = [text for text in HOSTILE_TEXTS[::3] if 0 < len(text) <= 255 and "\x00" not in text]
    users = {owner: started(app, _user_id=owner) for owner in owners}
    with app.app_context():
        for owner in owners:
            assert [info.owner for info in sessions.find(owner)] == [owner]
        for owner in ("ann", "%", "_" * 8, "?", "[a-z]*", "session:", "' OR 1=1 --"):
            assert sessions.find(owner) == []
        assert sessions.revoke_all(owners[0]) == 1
    assert [owner for owner in owners if not identity(users[owner])] == owners[:1]


def test_hostile_keys_and_values_come_back_as_they_were(store: SessionStore) -> None:
    data = {f"{n}:{text[:100]}": text[:100] for n, text in enumerate(HOSTILE_TEXTS)}
    response_headers = []
    browser = Browser(target(store))
    response_headers += list(browser.does(lambda: session.update(data)).headers)
    assert browser.data == data
    assert {"X", "planted"}.isdisjoint(name for name, _ in response_headers)


def test_a_log_line_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever may choose names of keys cannot write lines into the log."""
    app = target(MemoryStore(), SESSION_MAX_SIZE=100, TESTING=False)
    with caplog.at_level(logging.DEBUG):
        response = Browser(app).does(lambda: session.update({"a\r\nINFO root: all is well": "x" * 200}))
    assert response.status_code == 500
    lines = [record.getMessage() for record in caplog.records] + [
        str(record.exc_info[1]) for record in caplog.records if record.exc_info
    ]
    assert lines
    assert not any("\n" in line or "\r" in line for line in lines)
