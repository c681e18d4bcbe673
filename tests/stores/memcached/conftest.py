"""Fixtures for the tests in this folder."""

from __future__ import annotations

import contextlib
import typing as t
from collections.abc import Iterator
from uuid import uuid4

import pytest
from memcached_server import MemcachedServer
from memcached_stores import Watched
from pymemcache import Client

from flask_sessionstore.stores.memcached import MemcachedStore

StartServer = t.Callable[..., MemcachedServer]


@pytest.fixture(scope="session")
def memcached(shared_memcached: MemcachedServer) -> MemcachedServer:
    """A running server, shared: take a prefix of your own."""
    return shared_memcached


@pytest.fixture
def start() -> Iterator[StartServer]:
    """Start servers for this test alone: ``start("-I", "1k")``."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(MemcachedServer(*options))


@pytest.fixture
def client(memcached: MemcachedServer) -> Iterator[Client]:
    """To look past the store."""
    with contextlib.closing(Client(("127.0.0.1", memcached.port), default_noreply=False)) as client:
        yield client


@pytest.fixture
def watched(memcached: MemcachedServer) -> MemcachedStore:
    Watched.sent.clear()
    Watched.before.clear()
    Watched.again = False
    return MemcachedStore(Watched(("127.0.0.1", memcached.port)), prefix=f"{uuid4()}:")
