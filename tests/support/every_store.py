"""Every kind of store: how a test gets one, by its name."""

from __future__ import annotations

import copy
import os
import typing as t
import uuid

import pytest
from pymongo.collection import Collection

from flask_sessionstore import Record, SessionKey
from flask_sessionstore.stores import OwnerIndex, ServerSideStore, SessionStore, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.mongodb import MongoDBStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore


def sql_store(name: str, request: pytest.FixtureRequest) -> SQLAlchemyStore:
    """A copy of the shared store, with a prefix of its own: to make another would take longer than most tests."""
    store: SQLAlchemyStore = copy.copy(request.getfixturevalue("shared_sql_store")(name))
    store.prefix = f"{uuid.uuid4()}:"
    return store


#: Every store that needs no more than this machine: its name, and how to make it, empty.
STORES: dict[str, t.Callable[[pytest.FixtureRequest], SessionStore]] = {
    "cookie": lambda request: CookieStore(),
    "memory": lambda request: MemoryStore(),
    "caching": lambda request: CachingStore(MemoryStore(), MemoryStore()),
    "file": lambda request: FileSystemStore(request.getfixturevalue("tmp_path") / "sessions"),
    "redis": lambda request: from_url(request.getfixturevalue("valkey").url, prefix=f"{uuid.uuid4()}:"),
    "sqlite": lambda request: sql_store("sqlite", request),
    "postgresql": lambda request: sql_store("postgresql", request),
    "mariadb": lambda request: sql_store("mariadb", request),
    "memcached": lambda request: from_url(request.getfixturevalue("shared_memcached").url, prefix=f"{uuid.uuid4()}:"),
    "dynamodb": lambda request: request.getfixturevalue("shared_dynamodb")("moto").copy_of_store(f"{uuid.uuid4()}:"),
}


if os.environ.get("MONGODB_URL"):  # no MongoDB can be had that the tests could start
    STORES["mongodb"] = lambda request: mongodb_store(request.getfixturevalue("shared_mongodb"))


def mongodb_store(collection: Collection[dict[str, t.Any]]) -> MongoDBStore:
    store = MongoDBStore(collection, prefix=f"{uuid.uuid4()}:")
    store._has_indexes = True  # no index: by MongoDB's own clock, all of it has expired
    return store


SERVERS = {"redis": [pytest.mark.redis], "dynamodb": [pytest.mark.emulated]}


def stores(*names: str) -> list[t.Any]:
    """These stores as parameters, marked with the servers they need."""
    return [pytest.param(name, id=name, marks=SERVERS.get(name, [])) for name in names]


def stores_that_differ() -> list[t.Any]:
    """Every store as a parameter; in the default run the two that differ for what is decided above the stores.

    One keeps the session in the cookie, the others do not. The others are tried by "long".
    """
    marks = {name: [*SERVERS.get(name, []), pytest.mark.long] for name in STORES if name not in ("cookie", "memory")}
    return [pytest.param(name, id=name, marks=marks.get(name, [])) for name in STORES]


def lists_of(store: SessionStore) -> OwnerIndex:
    """The store's index of owners; it must have one."""
    lists = store.ability(OwnerIndex)
    assert lists is not None
    return lists


def alive(store: ServerSideStore, key: SessionKey) -> Record:
    """The record under a key; there must be one."""
    record = store.load(key)
    assert record is not None
    return record
