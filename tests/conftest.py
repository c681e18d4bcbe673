"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import typing as t
import uuid
from pathlib import Path

import dynamodb_servers
import markers
import programs
import pytest
import scratch
import servers
import sqlalchemy as sa
from dynamodb_servers import EMULATORS, DynamoDBServer
from every_store import STORES, stores, stores_that_differ
from hypothesis import HealthCheck, settings
from memcached_server import MemcachedServer
from pymongo import MongoClient
from pymongo.collection import Collection
from redis_clusters import RedisCluster, SentinelTrio
from servers import StartServer
from sql_servers import DATABASES, DatabaseServer

from flask_sessionstore.stores import OwnerIndex, ServerSideStore, SessionStore, exposure, places
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import Clock

# Time limits would fail by chance on a busy machine. What else Hypothesis sets up for CI stays.
settings.register_profile("project", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


if "DYNAMODB_URL" not in os.environ:  # else boto3 finds those that are meant for it
    os.environ.update(dynamodb_servers.ANYBODY)

if scratch.fits_in_memory():  # a disk takes longer to write a file to the end than most tests take in all
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(scratch.MEMORY))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    programs.follow_greenlets()
    for item in items:
        for marker in markers.implied(item):
            item.add_marker(marker)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # the tests themselves, which every collection would look through


def pytest_runtest_setup(item: pytest.Item) -> None:
    servers.Server.expected = item.get_closest_marker("server") is not None


@pytest.fixture(scope="session")
def shared_redis() -> t.Iterator[t.Callable[[str], servers.RedisServer]]:
    """The running server of a program, by its name; tests share it, so take a key prefix of your own."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(servers.RedisServer(servers.program(name))))


@pytest.fixture(scope="session")
def shared_mongodb() -> t.Iterator[Collection[dict[str, t.Any]]]:
    """A collection of our own in the MongoDB that MONGODB_URL names, removed at the end."""
    with MongoClient[dict[str, t.Any]](os.environ["MONGODB_URL"], serverSelectionTimeoutMS=5000) as client:
        collection = client.get_default_database("test")[f"sessions_{uuid.uuid4().hex}"]
        yield collection
        collection.drop()


@pytest.fixture(scope="session")
def shared_dynamodb() -> t.Iterator[t.Callable[[str], DynamoDBServer]]:
    """The running emulator of a name; tests share its table, so take a prefix of your own."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(EMULATORS[name]()))


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


@pytest.fixture(scope="session")
def shared_memcached() -> t.Iterator[MemcachedServer]:
    """A running server; tests share it, so take a prefix of your own."""
    with MemcachedServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_database() -> t.Iterator[t.Callable[[str], DatabaseServer]]:
    """The running server of a name; tests share its database, so take a prefix or a table of your own."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(DATABASES[name]()))


@pytest.fixture(scope="session")
def shared_sql_store(
    shared_database: t.Callable[[str], DatabaseServer], tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[t.Callable[[str], SQLAlchemyStore]]:
    """A store in the shared database of a name, or in a file for "sqlite", with its table."""
    with contextlib.ExitStack() as stack:

        def make(name: str) -> SQLAlchemyStore:
            file = f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/sessions.db"
            url = file if name == "sqlite" else shared_database(name).url
            maker, store = SQLAlchemyStore.from_url(patient(url)), SQLAlchemyStore.from_url(url)
            for one in (maker, store):
                stack.callback(one.engine.dispose)
            maker.create_schema()
            return store

        yield functools.cache(make)


@pytest.fixture
def database_url(shared_sql_store: t.Callable[[str], SQLAlchemyStore]) -> t.Callable[[str], str]:
    """The URL of the shared database of a name, which has the table; with time-outs for a busy machine."""
    return lambda name: patient(shared_sql_store(name).engine.url)


def patient(place: str | sa.URL) -> str:
    """The URL of a database with time-outs for a busy machine: to make a table takes longer than a request may."""
    url = sa.make_url(place)
    all_of_them = ["connect_timeout", "read_timeout", "write_timeout"]
    waits = {"postgresql": ["connect_timeout"], "mysql": all_of_them, "mariadb": all_of_them}
    longer = dict.fromkeys(waits.get(url.get_backend_name(), []), "10")
    return url.update_query_dict(longer).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def redis_cluster() -> t.Iterator[RedisCluster]:
    """A running cluster; tests share it, so take a prefix of your own, and leave its servers alone."""
    with RedisCluster(servers.program("valkey9")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sentinels() -> t.Iterator[SentinelTrio]:
    """A running primary with its Sentinels, to be shared likewise."""
    with SentinelTrio(servers.program("valkey9")) as trio:
        yield trio


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at 2026-01-01, 00:00 UTC, until the test moves it."""
    return Clock(1_767_225_600.0)


@pytest.fixture
def lasting_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is risky about the disk with the test's folder, whatever this machine has: it is local, and lasts."""
    monkeypatch.setattr(exposure, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(places, "TEMPORARY", ())


@pytest.fixture(params=stores(*STORES))
def store(request: pytest.FixtureRequest) -> SessionStore:
    """Every kind of store in turn, empty."""
    return STORES[request.param](request)


@pytest.fixture(params=stores_that_differ())
def any_store(request: pytest.FixtureRequest) -> SessionStore:
    """For what no store sees: every kind in the long run, empty, and two of them in the default run."""
    return STORES[request.param](request)


@pytest.fixture(params=stores(*(name for name in STORES if name != "cookie")))
def server_store(request: pytest.FixtureRequest) -> ServerSideStore:
    """Every kind of server-side store in turn, empty."""
    return t.cast("ServerSideStore", STORES[request.param](request))


@pytest.fixture
def index(server_store: ServerSideStore) -> ServerSideStore:
    """Every store that can tell whose its sessions are, in turn, empty."""
    if server_store.ability(OwnerIndex) is None:
        pytest.skip(f"{type(server_store).__name__} has no OwnerIndex")
    return server_store
