"""Fixtures for the tests in this folder: old sessions, and stores that they are moved to."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime
from pathlib import Path

import pytest
from every_store import STORES, stores
from old_sessions import FlaskCookies, FlaskSessionFiles, Origin

from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

KINDS: dict[str, t.Callable[[Path, Clock], Origin]] = {
    "flask": lambda folder, clock: FlaskCookies(),
    "flask-session": lambda folder, clock: FlaskSessionFiles(folder / "old", clock),
}


@pytest.fixture(params=stores("memory", "file", "redis", "sqlite"))
def target(request: pytest.FixtureRequest, clock: Clock) -> ServerSideStore:
    """What is moved to."""
    store = t.cast("ServerSideStore", STORES[request.param](request))
    store.clock = clock
    return store


@pytest.fixture
def clock() -> Clock:
    """Starts now, for Flask's cookies and Redis have a clock that cannot be moved."""
    return Clock(datetime.now(UTC).timestamp())


@pytest.fixture(params=KINDS)
def origin(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Origin:
    """Where the old sessions are."""
    return KINDS[request.param](tmp_path, clock)


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> FlaskSessionFiles:
    """Old sessions in files."""
    return FlaskSessionFiles(tmp_path / "old", clock)


@pytest.fixture
def memory(clock: Clock) -> MemoryStore:
    """Where it makes no difference what is moved to."""
    store = MemoryStore()
    store.clock = clock
    return store
