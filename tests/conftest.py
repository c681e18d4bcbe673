"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import functools
import typing as t
import uuid

import pytest
import servers
from hypothesis import settings

from flask_sessionstore.stores import ServerSideStore, SessionStore, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore

# A time limit for each example would fail by chance on a busy machine. What Hypothesis sets up for CI stays.
settings.register_profile("project", settings.default, deadline=None)
settings.load_profile("project")

StartServer = t.Callable[..., servers.RedisServer]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not {"shared_redis", "start_redis"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("redis")


@pytest.fixture(scope="session")
def shared_redis() -> t.Iterator[t.Callable[[str], servers.RedisServer]]:
    """The running server of a program, by its name; tests share it, so take a key prefix of your own."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(servers.RedisServer(servers.program(name))))


@pytest.fixture(scope="session", params=servers.PROGRAMS)
def redis_server(request: pytest.FixtureRequest, shared_redis: StartServer) -> servers.RedisServer:
    """A shared server of every program in turn."""
    return shared_redis(request.param)


@pytest.fixture(scope="session")
def valkey(shared_redis: StartServer) -> servers.RedisServer:
    """The shared server of the newest program, for what need not be tried on all of them."""
    return shared_redis("valkey9")


@pytest.fixture
def start_redis() -> t.Iterator[StartServer]:
    """Start servers for this test alone, to be filled, paused or killed: ``start_redis(maxmemory="2mb")``."""
    with contextlib.ExitStack() as stack:
        yield lambda name="valkey9", **options: stack.enter_context(
            servers.RedisServer(servers.program(name), **options)
        )


class Clock:
    """Time as the test wants it: called, it gives seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at 2026-01-01, 00:00 UTC, until the test moves it."""
    return Clock(1_767_225_600.0)


#: Every store that needs no more than this machine: its name, and how to make it for a folder of its own.
STORES: dict[str, t.Callable[[pytest.FixtureRequest], SessionStore]] = {
    "cookie": lambda request: CookieStore(),
    "memory": lambda request: MemoryStore(),
    "caching": lambda request: CachingStore(MemoryStore(), MemoryStore()),
    "file": lambda request: FileSystemStore(request.getfixturevalue("tmp_path") / "sessions"),
    "redis": lambda request: from_url(request.getfixturevalue("valkey").url, prefix=f"{uuid.uuid4()}:"),
}


SERVERS = {"redis": [pytest.mark.redis]}


def stores(*names: str) -> list[t.Any]:
    """These stores as parameters, marked with the servers they need."""
    return [pytest.param(name, id=name, marks=SERVERS.get(name, [])) for name in names]


@pytest.fixture(params=stores(*STORES))
def store(request: pytest.FixtureRequest) -> SessionStore:
    """Every kind of store in turn, empty."""
    return STORES[request.param](request)


@pytest.fixture(params=stores(*(name for name in STORES if name != "cookie")))
def server_store(request: pytest.FixtureRequest) -> ServerSideStore:
    """Every kind of server-side store in turn, empty."""
    return t.cast("ServerSideStore", STORES[request.param](request))
