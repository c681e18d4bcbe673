"""Expired sessions in files and SQL, which requests that make new sessions remove."""

from __future__ import annotations

import logging
import os
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from every_store import STORES, stores
from file_support import files_in, store_in
from flask import Flask
from http_support import Browser, make_app, started, warnings_in
from views import read, write

from flask_sessionstore import Record, StoreUnavailable
from flask_sessionstore.key import SessionKey
from flask_sessionstore.stores import Scans, ServerSideStore, SessionStore, Sweeps, list_name
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.filesystem import store as filesystem
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: How many folders of files there are.
ROUND = 256
#: How many sweeps look everywhere.
SWEEPS = {"FileSystemStore": ROUND, "SQLAlchemyStore": 1}


@pytest.fixture(params=stores("file", "sqlite"))
def swept(request: pytest.FixtureRequest, clock: Clock) -> ServerSideStore:
    """Files, and a database. (The contract of stores says of all databases how they sweep.)"""
    store = t.cast("ServerSideStore", STORES[request.param](request))
    clock.set(store)
    return store


def kept(store: SessionStore) -> int:
    """How many records there are, expired or not."""
    scans = store.ability(Scans)
    assert scans is not None
    return sum(1 for _ in scans.scan())


def save(store: ServerSideStore, ttl: timedelta, times: int = 1, owner: str | None = None) -> None:
    for _ in range(times):
        store.save(Record(state={"a": b"1"}, owner=owner), ttl)


def gather(folder: Path) -> None:
    """Move all files of a folder below ``00``, as if their handles began so."""
    for path in files_in(folder):
        handle = "00" + path.name[-62:]
        path.rename(folder / "00" / f"session%3A{handle}")


def visit(app: Flask, clock: Clock, times: int = 1, every: float = 61) -> None:
    """New visitors, each with a new session."""
    for _ in range(times):
        clock.advance(every)
        Browser(app).does(write)


def test_new_sessions_remove_what_has_expired(swept: ServerSideStore, clock: Clock) -> None:
    save(swept, HOUR, 5)
    clock.advance(3600)
    visits = SWEEPS[type(swept).__name__]
    visit(make_app(swept), clock, visits)
    assert kept(swept) == visits


def test_what_expired_within_the_last_minute_stays(swept: ServerSideStore, clock: Clock) -> None:
    """Another machine's clock may be behind, and the session may live there."""
    save(swept, HOUR, 5)
    clock.advance(3659)
    sweeps = swept.ability(Sweeps)
    assert sweeps is not None
    for left in (5, 0):
        for _ in range(SWEEPS[type(swept).__name__]):
            assert not sweeps.sweep(100)
        assert kept(swept) == left
        clock.advance(1)


@pytest.fixture
def sql(request: pytest.FixtureRequest, clock: Clock) -> ServerSideStore:
    """A store whose sweep looks everywhere."""
    store = t.cast("ServerSideStore", STORES["sqlite"](request))
    clock.set(store)
    return store


def test_a_process_sweeps_at_most_once_in_the_interval(sql: ServerSideStore, clock: Clock) -> None:
    app = make_app(sql, SESSION_SWEEP_INTERVAL=600)
    visit(app, clock)
    save(sql, timedelta(seconds=1))
    visit(app, clock, 9)
    assert kept(sql) == 1 + 10
    visit(app, clock)
    assert kept(sql) == 11


def test_the_first_new_session_of_a_process_sweeps(sql: ServerSideStore, clock: Clock) -> None:
    """So sessions are cleaned up under servers whose processes do not live for long, too."""
    save(sql, HOUR)
    clock.advance(3600)
    visit(make_app(sql), clock)
    assert kept(sql) == 1


def test_a_clock_that_was_set_back_stops_no_sweep(sql: ServerSideStore, clock: Clock) -> None:
    clock.advance(days=1)
    app = make_app(sql)
    visit(app, clock)
    clock.advance(days=-1)
    save(sql, timedelta(seconds=1))
    visit(app, clock)
    assert kept(sql) == 2


def test_a_sweep_removes_fifty_and_goes_on_at_the_next_new_session(sql: ServerSideStore, clock: Clock) -> None:
    save(sql, HOUR, 125)
    clock.advance(3660)
    app = make_app(sql)
    left = []
    for made in range(1, 5):
        visit(app, clock, every=0)
        left.append(kept(sql) - made)
    assert left == [75, 25, 0, 0]
    save(sql, timedelta(seconds=1))
    visit(app, clock, every=0)
    assert kept(sql) == 6, "it has found fewer than fifty, so it waits again"


def test_without_an_interval_no_request_sweeps(sql: ServerSideStore, clock: Clock) -> None:
    save(sql, HOUR)
    clock.advance(3600)
    visit(make_app(sql, SESSION_SWEEP_INTERVAL=None), clock, 5)
    assert kept(sql) == 6


def test_only_a_request_that_makes_a_session_sweeps(sql: ServerSideStore, clock: Clock) -> None:
    app = make_app(sql)
    browser = started(app, a=1)
    save(sql, timedelta(seconds=1))
    clock.advance(3600)
    for view in (read, write, lambda: None):
        browser.does(view)
    Browser(app).does(read)
    assert kept(sql) == 2
    visit(app, clock)
    assert kept(sql) == 2


def test_the_visitor_has_the_answer_before_the_sweep(sql: ServerSideStore, clock: Clock) -> None:
    save(sql, HOUR)
    clock.advance(3660)
    app = make_app(sql)
    with app.test_request_context("/", environ_overrides={"tests.action": write}):
        response = app.full_dispatch_request()
        assert kept(sql) == 2
        response.close()
        assert kept(sql) == 1


def test_behind_a_cache_the_store_is_swept(sql: ServerSideStore, clock: Clock) -> None:
    save(sql, HOUR)
    clock.advance(3600)
    tiers = CachingStore(MemoryStore(), sql)
    clock.set(tiers)
    visit(make_app(tiers), clock)
    assert kept(sql) == 1


class Failing(FileSystemStore):
    """Cannot sweep."""

    error: Exception

    def sweep(self, limit: int) -> bool:
        raise self.error


@pytest.mark.parametrize("error", [StoreUnavailable("no"), OSError("no"), ValueError("no")], ids=repr)
def test_a_sweep_that_fails_fails_no_request(
    error: Exception, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Failing(tmp_path / "sessions")
    store.error, store.clock = error, clock
    app = make_app(store)
    assert started(app, a=1).data == {"a": 1}
    assert warnings_in(caplog) == [f"expired sessions could not be removed: {type(error).__name__}"]
    visit(app, clock, every=1)
    assert len(warnings_in(caplog)) == 1, "it waits for the next interval"
    visit(app, clock)
    assert len(warnings_in(caplog, logging.WARNING)) == 2


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_sweep_of_files_looks_through_one_folder_and_the_next_through_the_next(tmp_path: Path, clock: Clock) -> None:
    store = store_in(tmp_path / "sessions", clock)
    for number in range(ROUND):
        handle = f"{number:02x}" + SessionKey.generate().handle[2:]
        store.add(handle, b"", DAY)
    files, left = files_in(store.path), []
    for _ in range(ROUND):
        assert not store.sweep(100)
        left.append(sum(map(Path.exists, files)))
    assert left == list(range(ROUND - 1, -1, -1))


def test_no_request_looks_at_more_than_some_hundred_files(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are in a folder, that live. The next new sessions look at the rest."""
    store = store_in(tmp_path / "sessions", clock)
    save(store, DAY, 1000)
    gather(store.path)
    looked = 0

    def count(path: str, size: int | None = None) -> bytes:
        nonlocal looked
        looked += 1
        return real(path, size)

    real = filesystem._read
    monkeypatch.setattr(filesystem, "_read", count)
    seen = []
    for _ in range(ROUND + 2):
        before = looked
        is_more = store.sweep(100)
        seen.append((looked - before, is_more))
    assert [each for each in seen if each != (0, False)] == [(400, True), (400, True), (200, False)]
    assert kept(store) == 1000


def test_with_a_file_its_owners_entry_goes(tmp_path: Path, clock: Clock) -> None:
    """Else the folders of users who never come back would stay for ever."""
    store = store_in(tmp_path / "sessions", clock)
    save(store, HOUR, 3, owner="ann")
    save(store, HOUR, owner="bob")
    save(store, DAY, owner="ann")
    clock.advance(3660)
    for _ in range(ROUND):
        store.sweep(100)
    assert [len(store.entries(owner)) for owner in ("ann", "bob")] == [1, 0]
    name = list_name("bob")
    assert not (store.path / ".owners" / name[:2] / name).exists()


def test_a_file_that_cannot_be_read_stops_no_sweep(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_in(tmp_path / "sessions", clock)
    save(store, HOUR, 3)
    gather(store.path)
    foreign = str(files_in(store.path)[1])
    clock.advance(3660)
    real = os.open

    def refuse(path: str, *args: t.Any) -> int:
        if path == foreign:
            raise PermissionError
        return real(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    for _ in range(ROUND):
        store.sweep(100)
    assert [str(path) for path in files_in(store.path)] == [foreign]
    assert warnings_in(caplog) == []


@pytest.mark.long
def test_thousands_of_expired_files_are_gone_after_so_many_new_sessions(tmp_path: Path, clock: Clock) -> None:
    """One sweep of each folder removes fifty, and the next new session goes on at once while there are more."""
    store = store_in(tmp_path / "sessions", clock)
    save(store, HOUR, 8_000)
    save(store, DAY, 200)
    clock.advance(3600)
    visit(make_app(store), clock, ROUND)
    assert kept(store) == 200 + ROUND
