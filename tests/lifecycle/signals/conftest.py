"""Fixtures for the tests in this folder."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask
from signal_support import Heard

from flask_sessionstore.stores import OwnerIndex, ServerSideStore


@pytest.fixture
def listen() -> t.Iterator[t.Callable[[Flask], Heard]]:
    """Listen to an application until the test ends."""
    heard: list[Heard] = []

    def begin(app: Flask) -> Heard:
        heard.append(Heard(app))
        return heard[-1]

    yield begin
    for one in heard:
        one.now()
        one.stop()


@pytest.fixture
def index(server_store: ServerSideStore) -> ServerSideStore:
    """Every store that can tell whose its sessions are, empty."""
    if server_store.ability(OwnerIndex) is None:
        pytest.skip(f"{type(server_store).__name__} has no OwnerIndex")
    return server_store
