"""flask sessions import, and flask sessions copy."""

from __future__ import annotations

import json
import logging
import sqlite3
import typing as t
import uuid
from datetime import timedelta
from pathlib import Path

import engines
import msgspec
import pytest
import redis
import servers
from dynamodb_servers import DynamoDBServer
from every_store import STORES, stores
from flask import Flask
from http_support import Browser, started
from old_sessions import LOGIN, MONTH, FlaskCookies, FlaskSessionFiles, handle_of, make_app, manager
from views import count

from flask_sessionstore import session
from flask_sessionstore.migrate import bulk, from_flask_session, from_store
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


def run(app: Flask, *args: str, code: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["sessions", *args])
    assert result.exit_code == code, result.output
    return result.output


def clear() -> None:
    session.clear()


def counts(app: Flask, *args: str) -> dict[str, int]:
    return t.cast("dict[str, int]", json.loads(run(app, *args, "--json")))


# -- import --------------------------------------------------------------------------------------------------------


@pytest.fixture
def old(valkey: servers.RedisServer) -> tuple[str, str]:
    """A server with five old sessions under a prefix: one cannot be read, and one has nothing in it."""
    prefix = f"{uuid.uuid4()}:"
    with redis.Redis.from_url(valkey.url) as client:
        for letter in "ABC":
            client.set(f"{prefix}{letter * 43}", msgspec.msgpack.encode({**LOGIN, "_user_id": letter}), ex=MONTH)
        client.set(f"{prefix}{'D' * 43}", msgspec.json.encode(LOGIN), ex=MONTH)
        client.set(f"{prefix}{'E' * 43}", b"junk", ex=MONTH)
        client.set(f"{prefix}no-id", b"junk", ex=MONTH)
    return valkey.url, prefix


def test_all_old_sessions_are_imported_each_once(old: tuple[str, str]) -> None:
    url, prefix = old
    store = MemoryStore()
    app = make_app(store, from_flask_session(url, prefix=prefix))
    first = Browser(app, "A" * 43)
    assert first.data == {**LOGIN, "_user_id": "A"}
    first.does(clear)
    second = Browser(app, "B" * 43)
    second.does(lambda: session.update(cart=["cup"]))
    expected = {"here already": 2, "msgpack": 1, "json": 1, "unreadable": 1}
    assert counts(app, "import", "--dry-run") == expected
    assert len(list(store.scan())) == 4  # a tombstone, a session, and the marks of both
    assert counts(app, "import") == expected
    assert counts(app, "import") == {"here already": 4, "unreadable": 1}
    assert [Browser(app, letter * 43).data.get("_user_id") for letter in "ABCDE"] == [None, "B", "C", "7", None]
    assert second.data["cart"] == ["cup"]
    with app.app_context():
        assert len(manager(app).find("C")) == 1


def test_what_is_imported_in_bulk_goes_on_with_the_old_cookie_and_ends_for_good(
    old: tuple[str, str], clock: Clock
) -> None:
    url, prefix = old
    app = make_app(MemoryStore(), from_flask_session(url, prefix=prefix))
    run(app, "import")
    browser = Browser(app, "C" * 43)
    browser.does(clear)
    assert Browser(app, "C" * 43).data == {}
    assert "here already" in run(app, "import")
    assert Browser(app, "C" * 43).data == {}


def test_an_owner_whose_sessions_were_all_ended_is_left_out(old: tuple[str, str]) -> None:
    url, prefix = old
    app = make_app(MemoryStore(), from_flask_session(url, prefix=prefix))
    with app.app_context():
        manager(app).revoke_all("A")
    assert counts(app, "import")["not let in"] == 1
    assert Browser(app, "A" * 43).data == {}


def test_what_has_ended_or_has_nothing_in_it_is_not_imported(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "old.db")
    database.execute("CREATE TABLE sessions (id INTEGER, session_id TEXT, data BLOB, expiry TIMESTAMP)")
    rows = [
        (1, "session:" + "A" * 43, msgspec.msgpack.encode(LOGIN), "2000-01-01 00:00:00.000000"),
        (2, "session:" + "B" * 43, msgspec.msgpack.encode({}), None),
    ]
    database.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?)", rows)
    database.commit()
    database.close()
    store = MemoryStore()
    app = make_app(store, from_flask_session(f"sqlite:///{tmp_path}/old.db"))
    assert counts(app, "import") == {"expired": 1, "not let in": 1}
    assert bytes_of(store) == {}


def test_each_old_session_that_is_imported_is_removed_where_that_is_wanted(old: tuple[str, str]) -> None:
    url, prefix = old
    app = make_app(MemoryStore(), from_flask_session(url, prefix=prefix, remove=True))
    assert counts(app, "import") == {"msgpack": 3, "json": 1, "unreadable": 1}
    with redis.Redis.from_url(url) as client:
        assert set(client.keys(f"{prefix}*")) == {f"{prefix}{'E' * 43}".encode(), f"{prefix}no-id".encode()}
    assert [Browser(app, letter * 43).data.get("_user_id") for letter in "ABCD"] == ["A", "B", "C", "7"]


def test_sessions_in_dynamodb_are_imported(shared_dynamodb: t.Callable[[str], DynamoDBServer]) -> None:
    resource = engines.dynamodb(shared_dynamodb("moto"))
    table = engines.new_table(resource)
    for letter in "AB":
        item = {"id": f"session:{letter * 43}", "val": msgspec.msgpack.encode(LOGIN), "expiration": 4_000_000_000}
        table.put_item(Item=item)
    app = make_app(MemoryStore(), from_flask_session(resource, table=table.name))
    assert counts(app, "import") == {"msgpack": 2}
    assert counts(app, "import") == {"here already": 2}
    assert Browser(app, "A" * 43).data == LOGIN


def test_what_cannot_be_listed_says_so(tmp_path: Path, clock: Clock) -> None:
    app = make_app(MemoryStore(), FlaskSessionFiles(tmp_path / "old", clock).importer)
    assert "is imported when its visitor comes" in run(app, "import", code=1)
    assert run(make_app(MemoryStore(), FlaskCookies().importer), "import") == "No sessions.\n"
    assert "no importer" in run(make_app(MemoryStore()), "import", code=1)


# -- copy ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=stores("memory", "file", "redis", "sqlite", "postgresql"))
def target(request: pytest.FixtureRequest) -> ServerSideStore:
    return t.cast("ServerSideStore", STORES[request.param](request))


@pytest.fixture
def before(tmp_path: Path) -> FileSystemStore:
    return FileSystemStore(tmp_path / "before")


def moved_to(target: ServerSideStore, before: FileSystemStore) -> Flask:
    app = make_app(target, from_store(before))
    app.config["OLD_STORE"] = before
    return app


def bytes_of(store: t.Any) -> dict[str, bytes]:
    return {handle: data for handle, data, _ in store.scan()}


def test_a_copy_has_the_very_same_sessions_tombstones_and_marks(
    target: ServerSideStore, before: FileSystemStore
) -> None:
    there = make_app(before)
    browsers = [started(there, **LOGIN), started(there, cart=["cup"])]
    ended = started(there, **LOGIN)
    ended.does(clear)
    before.mark("a" * 64, "b" * 64, timedelta(days=1))
    app = moved_to(target, before)
    expected = {"copied": 2, "tombstones": 1, "marks": 1}
    assert counts(app, "copy", "OLD_STORE", "--dry-run") == expected
    assert bytes_of(target) == {}
    assert counts(app, "copy", "OLD_STORE") == expected
    kept = bytes_of(before)
    copied = bytes_of(target)
    assert {handle: copied.get(handle) for handle in kept if handle != "a" * 64} == {
        handle: data for handle, data in kept.items() if handle != "a" * 64
    }
    assert target.marked("a" * 64) == "b" * 64
    for browser in (*browsers, ended):
        browser.app = app
    assert [browser.data for browser in browsers] == [LOGIN, {"cart": ["cup"]}]
    with app.app_context():
        assert [info.handle for info in manager(app).find("7")] == [handle_of(browsers[0])]


def test_what_was_copied_and_went_since_is_not_copied_or_imported_again(before: FileSystemStore, clock: Clock) -> None:
    clock.now = before.now()
    store = MemoryStore()
    store.clock = before.clock = clock
    browser = started(make_app(before), **LOGIN)
    app = moved_to(store, before)
    assert counts(app, "copy", "OLD_STORE") == {"copied": 1}
    thief = browser.twin()
    browser.app = thief.app = app
    browser.does(clear)
    clock.advance(61)
    assert counts(app, "copy", "OLD_STORE") == {"here already": 1}
    assert thief.data == {}


def test_what_the_application_has_imported_meanwhile_stays_as_it_is(before: FileSystemStore) -> None:
    browser = started(make_app(before), **LOGIN)
    browser.app = moved_to(MemoryStore(), before)
    browser.does(lambda: session.update(cart=["cup"]))
    assert counts(browser.app, "import") == {"here already": 1}
    assert browser.data == {**LOGIN, "cart": ["cup"]}


def test_who_was_ended_everywhere_in_the_new_store_is_not_copied(before: FileSystemStore) -> None:
    browser = started(make_app(before), **LOGIN)
    browser.app = moved_to(MemoryStore(), before)
    with browser.app.app_context():
        manager(browser.app).revoke_all(LOGIN["_user_id"])
    for options in (["--dry-run"], []):
        assert counts(browser.app, "copy", "OLD_STORE", *options) == {"not let in": 1}
    assert browser.data == {}


def test_a_copy_that_was_cut_off_is_finished_by_the_next(before: FileSystemStore) -> None:
    from flask_sessionstore.testing import FaultyStore

    browser = started(make_app(before), **LOGIN)
    store = FaultyStore(MemoryStore())
    app = moved_to(store, before)
    store.lose_reply("add")
    run(app, "copy", "OLD_STORE", code=1)
    assert counts(app, "copy", "OLD_STORE") == {"here already": 1}
    browser.app = app
    assert browser.data == LOGIN
    browser.does(clear)
    assert browser.data == {}


def test_a_copy_started_again_brings_what_began_since_and_nothing_that_changed_or_ended(
    before: FileSystemStore,
) -> None:
    """So it is for after the switch: what happens before it in the old store is not brought over."""
    there, target = make_app(before), MemoryStore()
    changed, ended = started(there, **LOGIN), started(there, **LOGIN)
    app = make_app(target)
    app.config["OLD_STORE"] = before
    assert counts(app, "copy", "OLD_STORE") == {"copied": 2}
    begun, copy_of_ended = started(there, cart=["cup"]), ended.twin()
    changed.does(lambda: session.update(cart=["cup"]))
    ended.does(clear)
    assert counts(app, "copy", "OLD_STORE") == {"copied": 1, "here already": 1, "tombstones": 1}
    for browser in (changed, copy_of_ended, begun):
        browser.app = app
    assert [browser.data for browser in (changed, copy_of_ended, begun)] == [LOGIN, LOGIN, {"cart": ["cup"]}]


def test_a_copy_in_the_midst_of_requests_loses_no_write_and_undoes_no_log_out(
    target: ServerSideStore, before: FileSystemStore
) -> None:
    there, app = make_app(before), moved_to(target, before)
    visitors, leaving = ([started(there, n=1) for _ in range(20)] for _ in range(2))
    for browser in (*visitors, *leaving):
        browser.app = app
    thieves = [browser.twin() for browser in leaving]
    for visitor, leaver in zip(visitors[::2], leaving[::2], strict=True):  # half of them come before it begins
        assert visitor.data == {"n": 1}
        leaver.does(clear)
    copied = bulk.copy_all(before, target)
    for visitor, leaver in zip(visitors, leaving, strict=True):
        visitor.does(count)
        next(copied)
        leaver.does(clear)
        visitor.does(count)
    assert len(list(copied)) == 20
    assert [browser.data for browser in visitors] == [{"n": 3}] * 20
    assert [browser.data for browser in thieves] == [{}] * 20


def test_what_cannot_be_read_or_has_ended_is_not_copied(before: FileSystemStore, clock: Clock) -> None:
    clock.now = before.now()
    before.clock = clock
    started(make_app(before), **LOGIN)
    clock.advance(2 * MONTH)
    before.add("a" * 64, b"junk", timedelta(days=1))
    target = MemoryStore()
    assert counts(moved_to(target, before), "copy", "OLD_STORE") == {"expired": 1, "unreadable": 1}
    assert bytes_of(target) == {}


def test_a_copy_of_more_than_is_held_at_a_time_leaves_nothing_behind() -> None:
    source, target = MemoryStore(), MemoryStore()
    handles = [f"{number:064x}" for number in range(300)]
    for handle in handles:
        source.mark(handle, "b" * 64, timedelta(days=1))
    assert list(bulk.copy_all(source, target)) == [bulk.MARKS] * 300
    assert {target.marked(handle) for handle in handles} == {"b" * 64}


def test_a_store_that_is_typed_has_the_prefix_of_the_application(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    for prefix, visitors in {"shop:": 2, "blog:": 1}.items():
        app = make_app(url, SESSION_KEY_PREFIX=prefix)
        for _ in range(visitors):
            started(app, **LOGIN)
    here = make_app(MemoryStore(), SESSION_KEY_PREFIX="shop:")
    assert counts(here, "copy", url) == {"copied": 2}


def test_between_urls_and_without_a_store_of_its_own(tmp_path: Path) -> None:
    there = make_app(f"file://{tmp_path}/one")
    started(there, **LOGIN)
    assert counts(there, "copy", f"file://{tmp_path}/one", f"file://{tmp_path}/two") == {"copied": 1}
    assert counts(there, "copy", f"file://{tmp_path}/one", f"file://{tmp_path}/two") == {"here already": 1}
    assert "nothing that could be copied" in run(there, "copy", "cookie:", code=1)
    assert "cannot list all sessions" in run(there, "copy", "memcached://127.0.0.1:1", code=1)


def test_no_warning_is_printed_twice(old: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    url, prefix = old
    with caplog.at_level(logging.WARNING):
        counts(make_app(MemoryStore(), from_flask_session(url, prefix=prefix)), "import")
    assert caplog.records == []
