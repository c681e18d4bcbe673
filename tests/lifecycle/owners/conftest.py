"""Fixtures for the tests in this folder."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask
from http_support import make_app

from flask_sessionstore.stores import ServerSideStore


@pytest.fixture
def app(index: ServerSideStore) -> t.Iterator[Flask]:
    """An application on each of them, in whose context the test runs."""
    app = make_app(index, SESSION_RECORD_CLIENT=True)
    with app.app_context():
        yield app
