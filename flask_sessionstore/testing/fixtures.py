"""pytest fixtures for applications. In a ``conftest.py``::

pytest_plugins = ["flask_sessionstore.testing.fixtures"]
"""

from __future__ import annotations

import contextlib
import typing as t

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ..interface import StoreSessionInterface
from ..policy import Policy
from ..stores.memory import MemoryStore
from .clock import Clock


@pytest.fixture
def session_clock() -> Clock:
    """The clock that the sessions of :func:`session_client` use: ``session_clock.advance(hours=2)``."""
    return Clock()


@pytest.fixture
def session_client(session_clock: Clock) -> t.Iterator[t.Callable[[Flask], FlaskClient]]:
    """A function that makes a test client of an application, whose sessions are in memory until the test ends."""
    with contextlib.ExitStack() as restored:
        in_memory: list[Flask] = []

        def client(app: Flask) -> FlaskClient:
            if app not in in_memory:
                in_memory.append(app)
                restored.enter_context(_in_memory(app, session_clock))
            return app.test_client()

        yield client


@pytest.fixture
def signed_in() -> t.Callable[..., FlaskClient]:
    """A function that signs an owner in: ``signed_in(client, "ada", cart=["mug"])`` returns the client.

    The session names the owner under ``SESSION_OWNER_KEY``, and holds the other arguments.
    """
    return _signed_in


def _signed_in(client: FlaskClient, owner: object, **data: object) -> FlaskClient:
    key = client.application.config.get("SESSION_OWNER_KEY", Policy().owner_key)
    assert key is not None, "SESSION_OWNER_KEY is None: the application's sessions have no owners"
    head, *path = key.split(".")
    for name in reversed(path):
        owner = {name: owner}
    with client.session_transaction() as session:
        session.update(data)
        session[head] = owner
    return client


@contextlib.contextmanager
def _in_memory(app: Flask, clock: Clock) -> t.Iterator[None]:
    interface = app.session_interface
    assert isinstance(interface, StoreSessionInterface), "the application has no SessionManager"
    store, interface.store = interface.store, MemoryStore()
    clock.set(interface.store)
    try:
        yield
    finally:
        interface.store = store
