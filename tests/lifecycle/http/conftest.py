"""Fixtures for the tests in this folder."""

from __future__ import annotations

import pytest
from flask import Flask
from http_support import make_app
from lifecycle_views import memory_store

from flask_sessionstore import SessionStore
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.testing import Clock


@pytest.fixture
def app(store: SessionStore, clock: Clock) -> Flask:
    """An application on every store in turn."""
    store.clock = clock
    return make_app(store)


@pytest.fixture
def server_app(server_store: ServerSideStore, clock: Clock) -> Flask:
    """An application on every server-side store in turn."""
    server_store.clock = clock
    return make_app(server_store)


@pytest.fixture
def memory_app(clock: Clock) -> Flask:
    """An application on the memory store, for what no store can change."""
    return make_app(memory_store(clock))
