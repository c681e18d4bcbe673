"""``flask sessions``: every command, over every store where that matters, and what the documentation shows of them."""

from __future__ import annotations

import doctest
import hashlib
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tracemalloc
import typing as t
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import click
import pytest
import redis
import shop_server
from click.testing import Result
from clocks import Clock
from every_store import STORES, stores
from flask import Flask, request
from http_support import Browser, make_app, started, warnings_in
from servers import StartServer
from sql_servers import DatabaseServer
from views import renew

from flask_sessionstore import (
    ConfigurationError,
    SessionKey,
    SessionManager,
    StoreSessionInterface,
    StoreUnavailable,
    cli,
    session,
)
from flask_sessionstore.codec import encode
from flask_sessionstore.current import interface_in_use
from flask_sessionstore.layout import pack
from flask_sessionstore.migrate import from_store
from flask_sessionstore.migrate.other_store import credential_of
from flask_sessionstore.record import TOMBSTONE_TIME, Record
from flask_sessionstore.stores import Entry, Scans, ServerSideStore, SessionStore, exposure, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import FaultyStore

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cli.rst"
DEAD = "redis://127.0.0.1:1"  # where nobody listens
DAY = timedelta(days=1)
SECRET = "x3J-9qLw0vT5sKzR8bN1mYc7uHfPaD2eGiO4nXkUtQE"
#: What check has nothing to say about.
SAFE = {
    "SECRET_KEY": SECRET,
    "SESSION_COOKIE_NAME": "__Host-session",
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_SAMESITE": "Lax",
}


def shop(store: object, **config: object) -> Flask:
    return make_app(store, **{"SESSION_OWNER_KEY": "user", **config})


def run(app: Flask, *args: str, **options: t.Any) -> Result:
    """One command, that must not end in a traceback."""
    result = app.test_cli_runner().invoke(args=["sessions", *args], **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def output(app: Flask, *args: str) -> str:
    result = run(app, *args)
    assert result.exit_code == 0, result.output
    return result.output


def data(app: Flask, *args: str) -> t.Any:
    return json.loads(output(app, *args, "--json"))


def error(app: Flask, *args: str, code: int = 1) -> str:
    """The last line of a command that fails."""
    result = run(app, *args)
    assert result.exit_code == code, result.output
    *before, last = result.output.strip().split("\n")
    assert code == 2 or not before
    return last


def handle_of(browser: Browser) -> str:
    return t.cast("str", browser.asks(lambda: session.handle))


def handles(rows: t.Iterable[dict[str, t.Any]]) -> set[str]:
    return {row["handle"] for row in rows}


# Views. (Not the session's own methods: which session it is, is known in the request only.)


def end() -> None:
    session.clear()


def created_at() -> str:
    return t.cast("datetime", session.created_at).isoformat()


def expires_at() -> str:
    return t.cast("datetime", session.expires_at).isoformat()


@pytest.fixture
def damaged() -> MemoryStore:
    """A store in which one of two records cannot be read."""
    store = MemoryStore()
    started(shop(store), user="ada")
    store.add("d" * 64, b"\1" + b"!" * 86 + b"\xdd" * 8 + b"!" * 10, DAY)
    return store


# -- list ----------------------------------------------------------------------------------------------------------


def test_list_shows_the_sessions_of_everybody_or_of_one_owner(index: ServerSideStore) -> None:
    app = shop(index)
    ada, bob, anonymous = started(app, user="ada"), started(app, user="bob"), started(app, cart=["mug"])
    assert handles(data(app, "list")) == {handle_of(ada), handle_of(bob), handle_of(anonymous)}
    (row,) = data(app, "list", "--owner", "ada")
    assert row == {
        "handle": handle_of(ada),
        "owner": "ada",
        "created_at": ada.asks(created_at),
        "extended_at": row["extended_at"],
        "expires_at": ada.asks(expires_at),
        "client": None,
        "damaged": False,
    }
    assert row in data(app, "list")
    assert len(data(app, "list", "--limit", "2")) == 2
    assert f"{handle_of(bob)}  20" in output(app, "list")
    assert data(app, "list", "--owner", "eve") == []
    assert output(app, "list", "--owner", "eve") == "No sessions.\n"


def test_list_shows_no_session_that_ended_or_expired(index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    app = shop(index, PERMANENT_SESSION_LIFETIME=DAY)
    started(app, user="early")
    started(app, user="out").does(end)
    clock.advance(DAY.total_seconds())
    ada = started(app, user="ada")
    assert handles(data(app, "list")) == {handle_of(ada)}


def test_list_shows_what_cannot_be_read_as_damaged(damaged: MemoryStore) -> None:
    app = shop(damaged)
    assert re.search(r"^d{64}  \(damaged\)[ -]+$", output(app, "list"), re.MULTILINE)
    (row,) = (row for row in data(app, "list") if row["damaged"])
    assert row.pop("handle") == "d" * 64
    assert set(row.values()) == {None, True}


def test_list_prints_the_first_session_before_it_knows_the_last() -> None:
    class Endless(MemoryStore):
        def scan(self) -> t.Iterator[Entry]:
            record = Record().written(self._now_ms(), DAY)
            while True:
                handle = SessionKey.generate().handle
                yield Entry(handle, pack(record, handle))

    assert len(data(shop(Endless()), "list", "--limit", "3")) == 3


def test_nothing_that_a_terminal_would_obey_is_shown() -> None:
    app = shop(MemoryStore())
    browser = started(app, **{"user": "\x1b[2J\u202eada\n", "\x1b]0;": "\x1b[31m\udc80"})
    for args in [
        ("list",),
        ("show", handle_of(browser), "--values"),
        ("show", handle_of(browser), "--values", "--json"),
    ]:
        assert all(c.isprintable() for c in output(app, *args).replace("\n", ""))
    assert data(app, "list")[0]["owner"] == "\x1b[2J\u202eada\n"


# -- show ----------------------------------------------------------------------------------------------------------


def test_show_tells_everything_but_the_values(server_store: ServerSideStore) -> None:
    app = shop(server_store, SESSION_RECORD_CLIENT=True)
    browser = Browser(app)

    def sign_in() -> None:
        session.update(user="ada", cart=["a mug"])
        session.permanent = True
        session.lifetime = timedelta(hours=1)

    browser.does(sign_in)
    handle = handle_of(browser)
    shown = data(app, "show", handle)
    size = len(server_store.read(handle) or b"")
    assert shown == {
        "handle": handle,
        "owner": "ada",
        "created_at": shown["created_at"],
        "extended_at": shown["extended_at"],
        "expires_at": browser.asks(expires_at),
        "client": shown["client"],
        "permanent": True,
        "lifetime": 3600.0,
        "deadline": None,
        "bytes": size,
        "sealed": False,
        "keys": ["cart", "user"],
    }
    assert shown["client"].endswith("127.0.0.1")
    text = output(app, "show", handle)
    assert re.search(r"^owner +ada$", text, re.MULTILINE)
    assert re.search(r"^lifetime +1:00:00$", text, re.MULTILINE)
    assert "a mug" not in text


VALUES: dict[str, tuple[object, object]] = {
    "none": (None, None),
    "numbers": ([1, 2.5, 2**80, True], [1, 2.5, 2**80, True]),
    "infinite": (float("inf"), "inf"),
    "money": (Decimal("1.50"), "1.50"),
    "pair": (("a", b"b\xff"), ["a", "b\\xff"]),
    "set": ({3}, [3]),
    "by number": ({1: {None: "x"}}, {"1": {"None": "x"}}),
    "at": (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
    "day": (date(2026, 1, 1), "2026-01-01"),
    "hour": (time(12, 30), "12:30:00"),
    "span": (timedelta(minutes=1), 60.0),
    "id": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
}


def test_show_decodes_the_values_when_asked_to() -> None:
    app = shop(MemoryStore())
    handle = handle_of(started(app, **{key: value for key, (value, _) in VALUES.items()}))
    assert data(app, "show", handle, "--values")["values"] == {key: plain for key, (_, plain) in VALUES.items()}
    text = output(app, "show", handle, "--values")
    for key, (value, _) in VALUES.items():
        assert re.search(rf"^{key} +{re.escape(repr(value))}$", text, re.MULTILINE)


def test_show_shows_the_other_values_beside_one_that_cannot_be_decoded() -> None:
    store = MemoryStore()
    record = Record(state={"bad": b"\xc1", "good": b"\x01"}).written(store._now_ms(), DAY)
    store.add("a" * 64, pack(record, "a" * 64), DAY)
    assert data(shop(store), "show", "a" * 64, "--values")["values"] == {"bad": "(damaged)", "good": 1}
    assert output(shop(store), "show", "a" * 64, "--values").endswith("\nbad   (damaged)\ngood  1\n")


def test_show_says_that_a_sealed_session_is_closed_to_it() -> None:
    app = shop(MemoryStore(), SESSION_SEAL=True)
    handle = handle_of(started(app, user="ada"))
    shown = data(app, "show", handle)
    assert (shown["owner"], shown["sealed"], shown["keys"]) == ("ada", True, None)
    assert error(app, "show", handle, "--values").startswith("Error: this session is sealed")


def test_show_says_what_became_of_a_session(clock: Clock) -> None:
    store = MemoryStore()
    store.clock = clock
    app = shop(store, PERMANENT_SESSION_LIFETIME=DAY)
    ended, renewed, expired = started(app, n=1), started(app, n=1), started(app, n=1)
    before = [handle_of(browser) for browser in (ended, renewed, expired)]
    ended.does(end)
    renewed.does(renew)
    assert error(app, "show", before[0]) == "Error: this session was ended"
    assert error(app, "show", before[1]) == f"Error: this session was renewed, and goes on as {handle_of(renewed)}"
    clock.advance(DAY.total_seconds())
    for handle in before:
        assert error(app, "show", handle) == "Error: there is no session under this handle"


def test_show_says_that_a_record_is_damaged(damaged: MemoryStore) -> None:
    assert error(shop(damaged), "show", "d" * 64) == "Error: the store holds a damaged session record"


# -- revoke --------------------------------------------------------------------------------------------------------


def test_revoke_ends_one_session(server_store: ServerSideStore) -> None:
    app = shop(server_store)
    ada, bob = started(app, user="ada"), started(app, user="bob")
    handle = handle_of(ada)
    assert output(app, "revoke", handle) == "1 ended\n"
    assert (ada.data, bob.data) == ({}, {"user": "bob"})
    assert error(app, "revoke", handle) == "Error: there is no session under this handle"


def test_revoke_ends_the_sessions_of_an_owner(index: ServerSideStore) -> None:
    app = shop(index)
    phone, laptop, bob = (started(app, user=name) for name in ("ada", "ada", "bob"))
    assert data(app, "revoke", "--owner", "ada") == {"ended": 2}
    assert (phone.data, laptop.data, bob.data) == ({}, {}, {"user": "bob"})
    assert output(app, "revoke", "--owner", "ada") == "0 ended\n"


def test_revoke_ends_all_sessions(index: ServerSideStore) -> None:
    app = shop(index)
    browsers = [started(app, user="ada"), started(app, user="bob"), started(app, cart=["mug"])]
    index.add("d" * 64, b"\1" + b"!" * 86 + b"\xdd" * 8 + b"!" * 10, DAY)
    assert output(app, "revoke", "--all", "--yes") == "4 ended\n"
    assert [browser.data for browser in browsers] == [{}, {}, {}]
    assert data(app, "list") == []
    assert output(app, "revoke", "--all", "--yes") == "0 ended\n"


def test_revoke_asks_before_it_ends_all() -> None:
    app = shop(MemoryStore())
    browser = started(app, user="ada")
    refused = run(app, "revoke", "--all", input="n\n")
    assert refused.exit_code == 1
    assert refused.output.endswith("Aborted!\n")
    assert browser.data == {"user": "ada"}
    assert run(app, "revoke", "--all", input="y\n").output.endswith("1 ended\n")
    assert browser.data == {}


def test_revoke_all_ends_a_session_that_was_renewed_behind_its_back(clock: Clock) -> None:
    class Passed(MemoryStore):
        """The first scan has passed the new name of a session when it gets it, and comes late to its old one."""

        meanwhile: t.Callable[[], object] | None = None

        def scan(self) -> t.Iterator[Entry]:
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is None:
                return super().scan()
            meanwhile()
            return iter(())

    store = Passed()
    store.clock = clock
    app = shop(store)
    browser = started(app, user="ada")
    clock.advance(1)
    store.meanwhile = lambda: browser.does(renew)
    assert output(app, "revoke", "--all", "--yes") == "1 ended\n"
    assert browser.data == {}


@pytest.mark.parametrize(
    "args", [(), ("a" * 64, "--all"), ("--owner", "ada", "--all"), ("a" * 64, "--owner", "ada")], ids=" ".join
)
def test_revoke_wants_to_know_which_and_one_of_them_only(args: tuple[str, ...]) -> None:
    store = MemoryStore()
    browser = started(shop(store), user="ada")
    assert "only one of these" in error(shop(store), "revoke", *args, code=2)
    assert browser.data == {"user": "ada"}


@pytest.mark.parametrize("command", ["show", "revoke"])
def test_what_is_no_handle_is_not_repeated(command: str) -> None:
    key = str(SessionKey.generate()).replace("-", "x")
    result = run(shop(MemoryStore()), command, key)
    assert result.exit_code == 2
    assert result.output.endswith("Error: a HANDLE is 64 hexadecimal digits in lower case\n")
    assert key not in result.output


@pytest.mark.parametrize("before", [("revoke", "0" * 64), ("show", "0" * 64), ("list",), ("list", "--limit"), ()])
@pytest.mark.parametrize("dashes", ["", "--"])
@pytest.mark.parametrize("length", [43, 40])
def test_a_key_in_a_place_where_nothing_belongs_is_not_repeated(
    before: tuple[str, ...], dashes: str, length: int
) -> None:
    key = str(SessionKey.generate()).replace("-", "x")[:length]
    result = run(shop(MemoryStore()), *before, dashes + key)
    assert result.exit_code == 2
    assert "Error: " in result.output
    assert key not in result.output


def test_without_a_command_there_is_help_and_no_error() -> None:
    said = run(shop(MemoryStore())).output
    assert "Commands:" in said
    assert "Error" not in said


# -- cleanup -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=stores("memory", "caching", "file"))
def swept_store(request: pytest.FixtureRequest, clock: Clock) -> ServerSideStore:
    """Every kind of store whose engine does not remove what has expired, and that needs no server."""
    store = t.cast("ServerSideStore", STORES[request.param](request))
    store.clock = clock
    return store


@pytest.mark.parametrize("batch", ["1", "2", "3", "100"])
def test_cleanup_removes_what_has_expired_in_batches(swept_store: ServerSideStore, clock: Clock, batch: str) -> None:
    app = shop(swept_store, PERMANENT_SESSION_LIFETIME=DAY)
    for number in range(5):
        started(app, user=number)
    clock.advance(DAY.total_seconds())
    alive = started(app, user="ada")
    assert data(app, "stats")["expired"] == 5
    assert output(app, "cleanup", "--batch", batch) == "5 removed\n"
    assert data(app, "stats")["expired"] == 0
    assert alive.data == {"user": "ada"}
    assert data(app, "cleanup") == {"removed": 0}


def test_cleanup_that_failed_on_the_way_is_finished_by_the_next(clock: Clock) -> None:
    class Failing(MemoryStore):
        left = 2

        def delete_expired(self, limit: int | None = None) -> int:
            self.left -= 1
            if not self.left:
                raise StoreUnavailable("the disk is gone")
            return super().delete_expired(limit)

    store = Failing()
    store.clock = clock
    app = shop(store, PERMANENT_SESSION_LIFETIME=DAY)
    for number in range(5):
        started(app, user=number)
    clock.advance(DAY.total_seconds())
    assert error(app, "cleanup", "--batch", "2") == "Error: the disk is gone"
    assert output(app, "cleanup", "--batch", "2") == "3 removed\n"


def test_cleanup_prunes_the_lists_of_owners_to_the_end(clock: Clock) -> None:
    limits: list[int | None] = []

    class Listing(MemoryStore):
        def prune(self, limit: int | None = None) -> int:
            limits.append(limit)
            return 2 if len(limits) < 4 else 1

    assert output(shop(Listing()), "cleanup", "--batch", "2") == "0 removed\n"
    assert limits == [2, 2, 2, 2]


@pytest.mark.redis
def test_cleanup_counts_entries_of_lists_where_the_engine_removes_sessions_itself(
    valkey: t.Any, request: pytest.FixtureRequest, clock: Clock
) -> None:
    store = t.cast("ServerSideStore", STORES["redis"](request))
    store.clock = clock
    app = shop(store)
    for _ in range(3):
        store.drop(handle_of(started(app, user="ada")))
    clock.advance(TOMBSTONE_TIME.total_seconds())
    assert output(app, "cleanup", "--batch", "2") == "3 removed\n"


# -- stats ---------------------------------------------------------------------------------------------------------


def test_stats_counts_living_sessions(index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    app = shop(index, PERMANENT_SESSION_LIFETIME=DAY)
    nothing = {"sessions": 0, "bytes": 0, "oldest": None, "expiring_next": None, "expired": 0, "damaged": 0}
    assert data(app, "stats") == nothing
    first = started(app, user="ada")
    clock.advance(3600)
    second = started(app, user="bob")
    started(app, user="out").does(end)
    sizes = [len(index.read(handle_of(browser)) or b"") for browser in (first, second)]
    assert data(app, "stats") == {
        **nothing,
        "sessions": 2,
        "bytes": sum(sizes),
        "oldest": "2026-01-01T00:00:00+00:00",
        "expiring_next": "2026-01-02T01:00:00+00:00",  # asking for the first one's handle has extended it
    }


def test_stats_counts_what_is_damaged(damaged: MemoryStore) -> None:
    counted = data(shop(damaged), "stats")
    assert (counted["sessions"], counted["damaged"]) == (1, 1)
    assert re.search(r"^damaged +1$", output(shop(damaged), "stats"), re.MULTILINE)


@pytest.mark.parametrize("args", [["stats"], ["revoke", "--all", "--yes"], ["list"]], ids=lambda args: args[0])
def test_many_sessions_are_never_in_memory_at_once(args: list[str]) -> None:
    class Many(MemoryStore):
        def scan(self) -> t.Iterator[Entry]:
            large = Record(state={"x": b"\xc5\x40\x00" + bytes(16_384)})
            for _ in range(500):
                handle = SessionKey.generate().handle
                yield Entry(handle, pack(large.written(self._now_ms(), DAY), handle))

    app = shop(Many())
    run(app, "stats")  # what is imported and kept at the first command is no matter
    tracemalloc.start()
    try:
        output(app, *args)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# -- check ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSystemStore:
    """A store that is nothing to worry about, whatever this machine's disks are."""
    monkeypatch.setattr(exposure, "MOUNTS", tmp_path / "mounts")
    return FileSystemStore(tmp_path / "sessions")


def findings(store: object, **config: object) -> list[str]:
    result = run(shop(store, **{**SAFE, **config}), "check", "--json")
    found: list[str] = json.loads(result.output)["findings"]
    assert result.exit_code == (1 if found else 0)
    return found


def test_check_is_content_with_safe_settings(folder: FileSystemStore) -> None:
    result = run(shop(folder, **SAFE), "check")
    assert result.output.endswith("\nNo findings.\n")
    assert result.exit_code == 0
    assert not folder.path.exists(), "it only looks"


def test_check_finds_another_application_under_the_same_prefix(store: SessionStore) -> None:
    scans = store.ability(Scans)
    if scans is None:
        pytest.skip("this store does not show its sessions")
    started(shop(store), user="ann")
    another = {"SECRET_KEY": SECRET[::-1], "SESSION_OWNER_KEY": "user"}

    def strangers(**config: object) -> list[str]:
        return [finding for finding in findings(store, **config) if "another SECRET_KEY" in finding]

    assert strangers() == strangers() == []
    (finding,) = strangers(**another)
    assert f'under the prefix "{store.prefix}"' in finding  # type: ignore[attr-defined]
    assert strangers(**another) == []
    assert len(strangers()) == 1
    assert strangers(SECRET_KEY="k9" * 20, SECRET_KEY_FALLBACKS=[SECRET]) == [], "its own, by another key"
    assert json.loads(output(shop(store), "list", "--json"))[0]["owner"] == "ann"
    assert len(list(scans.scan())) == 2
    assert len(json.loads(output(shop(store), "list", "--json"))) == 1, "the note is nobody's session"


def test_check_leaves_no_note_where_nobody_keeps_sessions(folder: FileSystemStore) -> None:
    """As root, before the application has made its folder."""
    assert findings(folder) == findings(folder, SECRET_KEY=SECRET[::-1]) == []
    assert not folder.path.exists()


RISKS: list[tuple[dict[str, object], str]] = [
    ({"SECRET_KEY": None}, "SECRET_KEY is not set"),
    ({"SECRET_KEY": SECRET[:31]}, "SECRET_KEY has 31 bytes, fewer than 32"),
    ({"SECRET_KEY": b"dev"}, "SECRET_KEY is one that others try first"),
    ({"SECRET_KEY": "Change-me before you go to production!"}, "SECRET_KEY is one that others try first"),
    ({"SECRET_KEY": "0" * 64}, "SECRET_KEY is one that others try first"),
    ({"SECRET_KEY_FALLBACKS": [SECRET[::-1], SECRET[:8]]}, "SECRET_KEY_FALLBACKS has a secret that has 8 bytes"),
    ({"SECRET_KEY_FALLBACKS": "text"}, "SECRET_KEY_FALLBACKS is a list of former secrets"),
    ({"SESSION_COOKIE_HTTPONLY": False}, "SESSION_COOKIE_HTTPONLY is off"),
    ({"SESSION_COOKIE_SAMESITE": None}, "SESSION_COOKIE_SAMESITE is not set"),
    ({"SESSION_COOKIE_SAMESITE": "None"}, "SESSION_COOKIE_SAMESITE is None"),
    ({"SESSION_COOKIE_SAMESITE": "Sometimes"}, "No session works: SameSite must be"),
    ({"SESSION_COOKIE_NAME": "__Secure-s", "SESSION_COOKIE_SECURE": False}, "No session works: browsers refuse"),
    ({"SESSION_COOKIE_NAME": "s", "SESSION_COOKIE_SECURE": False}, "SESSION_COOKIE_SECURE is off"),
    ({"SESSION_COOKIE_PATH": "/shop"}, "No session works: browsers refuse a cookie of a name such as '__Host-session'"),
    ({"SESSION_COOKIE_NAME": "s"}, "SESSION_COOKIE_NAME has no prefix, so other hosts of your domain"),
]


@pytest.mark.parametrize(("config", "start"), RISKS, ids=[f"{next(iter(c))}-{n}" for n, (c, _) in enumerate(RISKS)])
def test_check_finds_a_risky_setting(folder: FileSystemStore, config: dict[str, object], start: str) -> None:
    try:
        app = shop(folder, **{**SAFE, **config})
    except ConfigurationError:  # refused at the start, unless it is set later
        app = shop(folder, **SAFE)
        app.config.update(config)
    result = run(app, "check")
    assert f"\n- {start}" in result.output
    assert result.exit_code == 1


def test_check_tells_which_prefix_a_cookie_can_have(folder: FileSystemStore) -> None:
    (host,) = findings(folder, SESSION_COOKIE_NAME="s")
    assert host.endswith('set it to "__Host-s".')
    (secure,) = findings(folder, SESSION_COOKIE_NAME="s", SESSION_COOKIE_DOMAIN="shop.example")
    assert secure.endswith('set it to "__Secure-s".')
    assert not findings(folder, SESSION_COOKIE_NAME="__Secure-s", SESSION_COOKIE_DOMAIN="shop.example")
    assert not findings(folder, SESSION_COOKIE_SAMESITE="None", SESSION_COOKIE_PARTITIONED=True)


def test_check_tells_no_secret(folder: FileSystemStore) -> None:
    app = shop((DEAD.replace("//", "//:hush-hush@"), folder), SECRET_KEY="short-and-hush")
    result = run(app, "check")
    assert "hush" not in result.output
    assert "SESSION_STORE                    CachingStore(RedisStore, FileSystemStore)\n" in result.output


def test_check_asks_the_applications_own_way_to_set_the_cookie(folder: FileSystemStore) -> None:
    class Interface(StoreSessionInterface):
        def get_cookie_name(self, app: Flask) -> str:
            return f"__Host-{request.host}"

    class Manager(SessionManager):
        interface_class = Interface

    app = Flask("hosts")
    app.config.update(SAFE)
    Manager(app, store=folder)
    result = run(app, "check", "--json")
    assert json.loads(result.output)["settings"]["SESSION_COOKIE_NAME"] == "__Host-localhost"
    assert result.exit_code == 0


def test_check_says_that_memory_is_one_process() -> None:
    (finding,) = findings(MemoryStore())
    assert finding.startswith("MemoryStore keeps sessions in one process")
    assert not findings(CookieStore()), "what it cannot do is no risk"


def test_check_is_content_with_memory_as_a_cache(folder: FileSystemStore) -> None:
    assert findings((MemoryStore(), folder)) == []


def test_check_finds_a_store_or_a_cache_that_cannot_be_reached(
    folder: FileSystemStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert findings(DEAD) == ["The store cannot be used: Redis cannot be reached."]
    (finding,) = findings((DEAD, folder))
    assert finding == "The cache cannot be used, so every request asks the store: Redis cannot be reached."
    assert len(warnings_in(caplog)) == 1


def test_check_finds_a_folder_that_is_not_ours_alone(folder: FileSystemStore) -> None:
    folder.path.mkdir(mode=0o777)
    folder.path.chmod(0o777)
    (finding,) = findings(folder)
    assert finding.startswith("The store cannot be used: ")


def test_check_finds_a_missing_table_which_create_schema_creates(
    shared_database: t.Callable[[str], DatabaseServer], tmp_path: Path
) -> None:
    url, table = shared_database("postgresql").url, f"t{uuid4().hex[:8]}"
    options = {"SESSION_STORE_OPTIONS": {"table": table}}
    (finding,) = findings(url, **options)
    assert f"has no table {table}: " in finding
    for _ in range(2):
        assert output(shop(url, **options), "create-schema") == "The schema is there.\n"
    assert not findings(url, **options)
    pair = ("memory:", f"sqlite:///{tmp_path}/shop.db")
    assert output(shop(pair), "create-schema") == "The schema is there.\n"


def test_check_finds_a_redis_that_evicts(start_redis: StartServer) -> None:
    server = start_redis(maxmemory_policy="allkeys-lru")
    with redis.Redis.from_url(server.url) as client:
        for store in (from_url(server.url), RedisStore(client)):
            (finding,) = findings(store)
            assert finding.startswith("Redis forgets sessions when its memory is full (maxmemory-policy allkeys-lru)")
        client.config_set("maxmemory-policy", "noeviction")
        for store in (from_url(server.url), RedisStore(client)):
            assert not findings(store)
        client.acl_setuser("shop", enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all", "-@dangerous"])
        (finding,) = findings(server.url.replace("//", "//shop:pass@"))
        assert finding.startswith("Redis does not let us see its maxmemory-policy")
        client.acl_setuser("shop", enabled=True, commands=["+info"])
        assert not findings(server.url.replace("//", "//shop:pass@"))


def test_a_redis_that_evicts_is_good_for_a_cache(start_redis: StartServer, folder: FileSystemStore) -> None:
    assert findings((start_redis(maxmemory_policy="allkeys-lru").url, folder)) == []


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("redis://redis.example.com", True),
        ("redis://192.0.2.7:6380/1", True),
        ("redis+unix:///run/redis.sock", False),
        ("rediss://redis.example.com", False),
        ("redis://localhost", False),
        ("redis://127.0.0.2", False),
        ("redis://[::1]:6379", False),
        ("memcached://localhost,memcached.example.com", True),
        ("memcached://localhost,127.0.0.1", False),
    ],
)
def test_records_that_travel_to_others_in_clear_text_are_a_risk(url: str, exposed: bool) -> None:
    store = t.cast("ServerSideStore", from_url(url))
    (*found,) = store.exposures()
    assert [finding.split(",")[0] for finding in found] == (
        [f"Records travel to {re.search(r'192.0.2.7|[a-z]+.example.com', url)[0]} without encryption"]  # type: ignore[index]
        if exposed
        else []
    )


def test_a_cache_beyond_this_machine_is_a_risk_too() -> None:
    class Remote(MemoryStore):
        def exposures(self) -> list[str]:
            return ["Records travel to the moon."]

    assert "Records travel to the moon." in CachingStore(Remote(), MemoryStore()).risks()


MOUNTS = r"""
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
//server/share /mnt/my\040share cifs rw 0 0
C:\134 /mnt/c 9p rw 0 0
you@server: /mnt/ssh fuse.sshfs rw 0 0
tmpfs /home/local tmpfs rw 0 0
server:/srv /srv nfs rw 0 0
/dev/sdb1 /srv ext4 rw 0 0
/dev/sdc1 /mnt/disk fuseblk rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/shop", None),
        ("/home", "nfs4"),
        ("/home/shop/sessions", "nfs4"),
        ("/homes/shop", None),
        ("/home/local/sessions", None),
        ("/mnt/my share/sessions", "cifs"),
        ("/mnt/c/sessions", "9p"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/srv/sessions", None),
        ("/mnt/disk/sessions", None),
    ],
)
def test_a_folder_on_a_network_file_system_is_a_risk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None
) -> None:
    monkeypatch.setattr(exposure, "MOUNTS", tmp_path / "mounts")
    assert FileSystemStore(path).risks() == [], "where there is no such list"
    exposure.MOUNTS.write_text(MOUNTS)
    found = FileSystemStore(path).risks()
    assert [re.search(r"\((.+?)\)", finding)[1] for finding in found] == ([kind] if kind else [])  # type: ignore[index]


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "--owner", "ada"],
        ["show", "a" * 64],
        ["revoke", "a" * 64],
        ["revoke", "--owner", "ada"],
        ["revoke", "--all", "--yes"],
        ["cleanup"],
        ["stats"],
        ["create-schema"],
    ],
    ids=" ".join,
)
def test_what_a_store_cannot_do_is_an_error(args: list[str]) -> None:
    assert error(shop(CookieStore()), *args).startswith("Error: CookieStore ")


@pytest.mark.parametrize("args", [["list"], ["stats"], ["revoke", "--all"]], ids=" ".join)
def test_memcached_cannot_list_sessions(args: list[str]) -> None:
    assert error(shop("memcached://127.0.0.1:1"), *args) == "Error: MemcachedStore cannot list all sessions"


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "--json"],
        ["list", "--owner", "ada"],
        ["show", "a" * 64],
        ["revoke", "a" * 64],
        ["revoke", "--all", "--yes"],
        ["cleanup"],
        ["stats"],
    ],
    ids=" ".join,
)
def test_a_store_that_cannot_be_reached_is_an_error(args: list[str]) -> None:
    assert error(shop(DEAD), *args) == "Error: Redis cannot be reached"


def test_a_store_that_fails_on_the_way_is_an_error() -> None:
    store = FaultyStore(MemoryStore())
    app = shop(store)
    for _ in range(3):
        started(app, user="ada")
    store.fail("swap")
    assert error(app, "revoke", "--all", "--yes").startswith("Error: ")
    assert output(app, "revoke", "--all", "--yes") == "3 ended\n"


def test_an_owner_that_there_cannot_be_is_an_error() -> None:
    assert error(shop(MemoryStore()), "revoke", "--owner", "x" * 256).startswith("Error: the session's owner must be")


def test_without_a_session_manager_there_is_an_error() -> None:
    app = Flask("bare")
    app.cli.add_command(cli.sessions)
    assert error(app, "list") == "Error: this application has no SessionManager: call init_app with it first"


def test_an_application_keeps_its_own_command() -> None:
    own = click.Command("sessions", callback=lambda: click.echo("its own"))
    early, late = Flask("early"), Flask("late")
    early.cli.add_command(own)
    SessionManager(early)
    SessionManager(late)
    late.cli.add_command(own)
    for app in (early, late):
        assert output(app) == "its own\n"


def test_no_command_shows_a_session_key() -> None:
    app = shop(MemoryStore())
    browser = started(app, user="ada")
    key = t.cast("str", browser.key)
    handle = handle_of(browser)
    for args in (["list"], ["show", handle, "--values"], ["stats"], ["check"], ["cleanup"], ["revoke", handle]):
        for form in ([], ["--json"]):
            assert key not in run(app, *args, *form).output


# -- for real ------------------------------------------------------------------------------------------------------


@pytest.fixture
def flask(tmp_path: Path) -> t.Callable[..., subprocess.Popen[bytes]]:
    """``flask --app shop`` in a folder of its own, started with settings in the environment."""
    shutil.copytree(ROOT / "examples" / "shop", tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__"))

    def start(*args: str, settings: t.Mapping[str, str], **options: t.Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flask", "--app", "shop", "sessions", *args]
        return subprocess.Popen(command, cwd=tmp_path, env=shop_server.environment(settings), **options)

    return start


def test_the_shops_sessions_in_a_terminal(flask: t.Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    app = make_app(FileSystemStore(folder), SESSION_OWNER_KEY="user_id", PERMANENT_SESSION_LIFETIME=0.001)
    started(app, user_id="ada")
    master, slave = pty.openpty()
    with flask("cleanup", settings={"FLASK_SESSION_STORE": f"file://{folder}"}, stdout=slave, stderr=slave):
        os.close(slave)
        seen = b"".join(iter(lambda: _read(master), b""))
    os.close(master)
    assert b"\rRemoving  [" in seen.replace(b"\x1b[?25l", b"")
    assert seen.endswith(b"\r\n1 removed\r\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_the_shops_sessions_beside_a_cache_that_is_down(
    flask: t.Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    folder = tmp_path / "sessions"
    browser = started(make_app(FileSystemStore(folder), SESSION_OWNER_KEY="user_id"), user_id="ada")
    settings = {"FLASK_SESSION_STORE": json.dumps([DEAD, f"file://{folder}"])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with flask("revoke", "--owner", "ada", settings=settings, **pipes) as process:
        shown, complaint = process.communicate()
    assert (process.returncode, shown) == (0, b"1 ended\n")
    assert complaint == b"Warning: the session cache is not used for a while: Redis cannot be reached\n"
    assert browser.data == {}


# -- the documentation ---------------------------------------------------------------------------------------------


def _documented() -> list[tuple[str, str]]:
    """The commands on the page, each with what it is shown to print."""
    shown = re.findall(r"\.\. code-block:: console\n\n((?:    .*\n|\n)+)", PAGE.read_text())
    texts = ["\n".join(line[4:] for line in block.rstrip().split("\n")) for block in shown]
    commands = [part.partition("\n") for text in texts for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    return [(command, printed.rstrip()) for command, _, printed in commands]


@pytest.fixture
def documented_app(tmp_path: Path, clock: Clock) -> Flask:
    """The application whose sessions the page shows."""
    store = SQLAlchemyStore.from_url(f"sqlite:///{tmp_path}/shop.db")
    store.create_schema()
    store.clock = clock
    app = shop(store, SESSION_OWNER_KEY="user_id", PERMANENT_SESSION_LIFETIME=timedelta(days=14))
    app.config["SECRET_KEY"] = "dev"
    _keep(store, "expired", timedelta(hours=1))
    clock.advance(6 * 3600)
    _keep(store, "computer", DAY * 14, user_id="ada", cart={"mug": 2}, client="Firefox on Linux, 192.0.2.7")
    clock.advance(3 * 3600)
    _keep(store, "phone", DAY * 14, user_id="ada", client="Safari on iPhone, 198.51.100.23")
    _keep(store, "anonymous", DAY * 14, cart={"lamp": 1})
    old = SQLAlchemyStore.from_url(f"sqlite:///{tmp_path}/old.db")
    old.create_schema()
    old.clock = clock
    for name in ("desk", "tablet", "lamp"):
        _keep(old, name, DAY * 14, cart={name: 1})
    copied_before = next(iter(old.scan()))
    with app.app_context():
        interface_in_use().importers.append(from_store(old))
    app.config["OLD_STORE"] = old
    store.mark(credential_of(SessionKey.of(copied_before.handle)).mark, copied_before.handle, DAY)
    return app


def _keep(store: SQLAlchemyStore, name: str, ttl: timedelta, client: str | None = None, **values: object) -> None:
    """A session whose handle is the same at every run."""
    owner = t.cast("str | None", values.get("user_id"))
    state = {key: encode(value, key) for key, value in values.items()}
    record = Record(state=state, owner=owner, client=client).written(store._now_ms(), ttl)
    handle = hashlib.sha256(name.encode()).hexdigest()
    store.add(handle, pack(record, handle), ttl)


def test_the_documentation_shows_what_the_commands_print(documented_app: Flask) -> None:
    shown = _documented()
    assert {shlex.split(command)[4] for command, _ in shown} == set(cli.sessions.commands)
    for command, printed in shown:
        *flask_command, group = shlex.split(command)[:4]
        assert (flask_command, group) == (["flask", "--app", "shop"], "sessions")
        result = run(documented_app, *shlex.split(command)[4:]).output.rstrip()
        assert doctest.OutputChecker().check_output(printed, result, doctest.ELLIPSIS), (command, printed, result)


def test_every_command_and_option_is_documented() -> None:
    text = PAGE.read_text()
    for name, command in cli.sessions.commands.items():
        assert f"``flask sessions {name}" in text
        for option in (opt for param in command.params for opt in param.opts if opt.startswith("--")):
            assert option in text
