"""Moving in beside an old version, from another store of ours, and under a seal; and the mistakes that are named."""

from __future__ import annotations

import pickle
import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask, Response, stream_with_context
from http_support import KEPT, SET, Action, Browser, fate, set_cookies, started
from lifecycle_views import both
from old_sessions import (
    LOGIN,
    FlaskCookies,
    FlaskSessionFiles,
    Origin,
    handle_of,
    make_app,
    manager,
    read_cart,
    say_farewell,
    show,
    sign_out,
)
from views import clear, purge, renew, save

from flask_sessionstore import ConfigurationError, session
from flask_sessionstore.cli.checks import findings_of
from flask_sessionstore.current import interface_in_use
from flask_sessionstore.migrate import from_flask, from_flask_session, from_store
from flask_sessionstore.signals import session_write_dropped
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore

# -- side by side --------------------------------------------------------------------------------------------------


def test_under_two_names_ours_is_written_and_a_log_out_deletes_both(
    memory: MemoryStore, files: FlaskSessionFiles
) -> None:
    app = make_app(memory, from_flask_session(files.folder, cookie="old"), SESSION_COOKIE_NAME="new")
    client = app.test_client()
    old = files.begin(**LOGIN)
    client.set_cookie("old", old)

    def send(view: Action) -> t.Any:
        return client.get("/", environ_overrides={"tests.action": view})

    response = send(show)
    assert response.json == LOGIN
    assert [cookie.name for cookie in set_cookies(response)] == ["new"]
    files.keep(old, pickle.dumps({"_user_id": "8"}))
    assert send(show).json == LOGIN
    response = send(clear)
    assert {cookie.name: cookie.deletes for cookie in set_cookies(response)} == {"new": True, "old": True}
    client.set_cookie("old", old)
    assert send(show).json == {}


@pytest.mark.parametrize("view", [say_farewell, sign_out], ids=lambda view: str(view.__name__))
def test_a_log_out_that_leaves_something_deletes_the_old_cookie_too(
    memory: MemoryStore, files: FlaskSessionFiles, view: Action
) -> None:
    """Else an old version that answers beside would go on with who was signed in."""
    app = make_app(memory, from_flask_session(files.folder, cookie="old"), SESSION_COOKIE_NAME="new")
    client = app.test_client()
    client.set_cookie("old", files.begin(**LOGIN))
    client.get("/", environ_overrides={"tests.action": show})
    response = client.get("/", environ_overrides={"tests.action": view})
    assert {cookie.name: cookie.deletes for cookie in set_cookies(response)} == {"new": False, "old": True}


@pytest.mark.parametrize("view", [clear, purge, sign_out], ids=lambda view: str(view.__name__))
def test_a_log_out_holds_against_what_an_old_version_has_sent_meanwhile(memory: MemoryStore, view: Action) -> None:
    """Each cookie of Flask's is another credential, and this one was never imported."""
    cookies = FlaskCookies(cookie="old")
    app = make_app(memory, cookies.importer, SESSION_COOKIE_NAME="new")
    client = app.test_client()
    client.set_cookie("old", cookies.begin(**LOGIN))
    client.get("/", environ_overrides={"tests.action": show})
    newer = cookies.begin(**LOGIN)
    client.set_cookie("old", newer)
    client.get("/", environ_overrides={"tests.action": view})
    thief = app.test_client()
    thief.set_cookie("old", newer)
    assert thief.get("/", environ_overrides={"tests.action": show}).json == {}


def test_a_log_out_whose_old_cookie_cannot_be_marked_has_happened_and_says_that_something_failed(
    memory: MemoryStore,
) -> None:
    cookies, store = FlaskCookies(cookie="old"), FaultyStore(memory)
    app = make_app(store, cookies.importer, SESSION_COOKIE_NAME="new", TESTING=False)
    client = app.test_client()
    client.set_cookie("old", cookies.begin(**LOGIN))
    client.get("/", environ_overrides={"tests.action": show})
    client.set_cookie("old", cookies.begin(**LOGIN))
    store.fail("add")
    response = client.get("/", environ_overrides={"tests.action": clear})
    assert response.status_code == 503
    assert {cookie.name: cookie.deletes for cookie in set_cookies(response)} == {"new": True, "old": True}


def test_a_tombstone_of_ours_wins_over_an_old_session(memory: MemoryStore, files: FlaskSessionFiles) -> None:
    app = make_app(memory, from_flask_session(files.folder, cookie="old"), SESSION_COOKIE_NAME="new")
    browser = Browser(app, name="new")
    browser.does(lambda: session.update(_user_id="9"))
    cookie = browser.cookie
    browser.does(clear)
    answer = app.test_client(use_cookies=False).get(
        "/",
        headers={"Cookie": f"new={cookie}; old={files.begin(**LOGIN)}"},
        environ_overrides={"tests.action": show},
    )
    assert answer.json == {}


def test_importers_are_tried_in_their_order_and_a_function_last(memory: MemoryStore, files: FlaskSessionFiles) -> None:
    cookies = FlaskCookies()
    app = make_app(memory, cookies.importer, files.importer, lambda app, request: {"from": "function"})
    assert Browser(app, cookies.begin(a=1)).asks(lambda: session["a"]) == 1
    assert Browser(app, files.begin(a=2)).data == {"a": 2}
    assert Browser(app, "junk").data == {"from": "function"}


def test_what_was_written_just_now_expires_at_the_fixed_end_that_it_gets_here(memory: MemoryStore) -> None:
    other, clock = MemoryStore(), Clock()
    clock.set(memory)
    clock.set(other)
    browser = started(make_app(other), **LOGIN)
    clock.advance(0.5)
    here = Browser(make_app(memory, from_store(other), SESSION_ABSOLUTE_LIFETIME=60), *browser.cookies)
    ends = here.asks(lambda: (session.created_at, session.expires_at))
    assert ends[1] - ends[0] == timedelta(seconds=60)


# -- a change of our own store -------------------------------------------------------------------------------------


@pytest.fixture
def moved(target: ServerSideStore, clock: Clock, tmp_path: Path) -> tuple[Flask, Flask]:
    """An application on files, and the same one on another store."""
    before = FileSystemStore(tmp_path / "before")
    before.clock = clock
    return make_app(before), make_app(target, from_store(before))


def test_a_change_of_the_store_logs_nobody_out(moved: tuple[Flask, Flask]) -> None:
    before, after = moved
    browser = Browser(before)
    deadline = datetime(2100, 1, 1, tzinfo=UTC)

    def begin() -> None:
        session.update(LOGIN)
        session.permanent, session.deadline = True, deadline

    browser.does(begin)
    handle, key, made = handle_of(browser), browser.key, browser.asks(lambda: session.created_at)
    browser.app = after
    assert browser.data == LOGIN
    facts = browser.asks(lambda: (session.handle, session.permanent, session.deadline, session.created_at))
    assert facts == (handle, True, deadline, made)
    assert browser.key == key
    with after.app_context():
        assert [info.handle for info in manager(after).find("7")] == [handle]


@pytest.mark.parametrize("view", [clear, purge, renew, sign_out], ids=lambda view: str(view.__name__))
def test_what_went_in_the_new_store_does_not_come_back_from_the_old_one(
    moved: tuple[Flask, Flask], clock: Clock, view: Action
) -> None:
    before, after = moved
    browser = Browser(before)
    browser.does(lambda: session.update(LOGIN))
    thief = browser.twin()
    browser.app = thief.app = after
    browser.does(view)
    for _ in range(2):
        assert thief.data == {}
        clock.advance(61)


# -- sealed --------------------------------------------------------------------------------------------------------


def test_a_sealed_session_is_renewed_by_the_first_request_with_our_cookie(memory: MemoryStore, origin: Origin) -> None:
    """Whoever reads the old store can derive the key of what was imported from it."""
    app = make_app(memory, origin.importer, SESSION_SEAL=True)
    browser = Browser(app, origin.begin(**LOGIN))
    assert browser.data == LOGIN
    imported = browser.key
    response = browser.does(show)
    assert (response.json, fate(response)) == (LOGIN, SET)
    assert browser.key != imported
    kept = browser.key
    assert browser.data == LOGIN
    assert browser.key == kept


def test_the_first_request_with_our_cookie_may_save_what_it_only_read(memory: MemoryStore, origin: Origin) -> None:
    app = make_app(memory, origin.importer, SESSION_SEAL=True)
    browser = Browser(app, origin.begin(**LOGIN))
    assert browser.data == LOGIN
    imported = browser.key
    assert fate(browser.does(both(read_cart, save, lambda: ""))) == SET
    assert browser.key != imported
    assert browser.data == LOGIN


def test_what_is_written_after_a_mere_renewal_is_not_dropped_in_silence(memory: MemoryStore, origin: Origin) -> None:
    app = make_app(memory, origin.importer, SESSION_SEAL=True)
    browser = Browser(app, origin.begin(**LOGIN))
    assert browser.data == LOGIN
    dropped: list[str] = []

    def body() -> t.Iterator[str]:
        handle = session.handle
        assert handle is not None
        assert memory.end(handle)
        session["note"] = 1
        session.save()
        yield ""

    def view() -> Response:
        dict(session)
        return Response(stream_with_context(body()))

    def note(sender: object, *, reason: str, **_: object) -> None:
        dropped.append(reason)

    with session_write_dropped.connected_to(note, app):
        assert fate(browser.does(view)) == SET
    assert dropped == ["revoked"]


def test_of_two_requests_that_renew_a_sealed_session_none_loses_what_it_wrote(
    memory: MemoryStore, origin: Origin
) -> None:
    app = make_app(memory, origin.importer, SESSION_SEAL=True)
    browser = Browser(app, origin.begin(**LOGIN))
    assert browser.data == LOGIN
    writer = browser.twin()

    def view() -> None:
        session["note"] = "kept"
        assert browser.data == LOGIN

    assert fate(writer.does(view)) == SET
    assert writer.data == {**LOGIN, "note": "kept"}
    assert browser.data == LOGIN


def test_of_two_that_only_read_it_the_second_leaves_the_cookie_alone(memory: MemoryStore, origin: Origin) -> None:
    app = make_app(memory, origin.importer, SESSION_SEAL=True)
    browser = Browser(app, origin.begin(**LOGIN))
    assert browser.data == LOGIN
    other = browser.twin()
    response = other.does(lambda: (read_cart(), browser.data)[0] and "")
    assert fate(response) == KEPT
    assert browser.data == LOGIN


# -- mistakes ------------------------------------------------------------------------------------------------------


def test_what_keeps_nothing_on_the_server_cannot_be_moved_to() -> None:
    with pytest.raises(ConfigurationError, match="server's side"):
        make_app(CookieStore(), from_flask())


def test_what_is_no_importer_is_an_error_at_start(memory: MemoryStore) -> None:
    with pytest.raises(ConfigurationError, match="importer"):
        make_app(memory, from_flask(), "redis://")


@pytest.mark.parametrize("forgets", [True, False])
def test_the_check_names_stores_that_forget_what_was_imported(tmp_path: Path, forgets: bool) -> None:
    app = make_app(MemoryStore() if forgets else FileSystemStore(tmp_path), from_flask())
    with app.test_request_context():
        findings = [finding for finding in findings_of(app, interface_in_use()) if "imported" in finding.text]
    assert len(findings) == forgets


def test_a_lifetime_that_an_old_session_has_outlived_lets_it_not_in(
    memory: MemoryStore, clock: Clock, tmp_path: Path
) -> None:
    before = MemoryStore()
    before.clock = clock
    browser = Browser(make_app(before))
    browser.does(lambda: session.update(LOGIN))
    clock.advance(3601)
    browser.app = make_app(memory, from_store(before), SESSION_ABSOLUTE_LIFETIME=timedelta(hours=1))
    assert browser.data == {}
