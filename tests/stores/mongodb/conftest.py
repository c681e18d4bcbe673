"""Fixtures for the tests in this folder."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from uuid import uuid4

import pytest
from memcached_server import NXServer
from mongodb_stores import Sent
from pymongo import MongoClient
from pymongo.collection import Collection

from flask_sessionstore.stores.mongodb import MongoDBStore

Documents = Collection[dict[str, t.Any]]


@pytest.fixture(scope="module")
def nx() -> Iterator[NXServer]:
    with NXServer() as server:
        yield server


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def documents(nx: NXServer, sent: Sent) -> Iterator[Documents]:
    """An empty collection whose commands are noted."""
    with MongoClient[dict[str, t.Any]](nx.url, event_listeners=[sent]) as client:
        yield client.test[f"sessions_{uuid4().hex}"]


@pytest.fixture
def store(documents: Documents) -> MongoDBStore:
    return MongoDBStore(documents)
