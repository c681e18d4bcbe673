"""Fixtures for the tests in this folder."""

from __future__ import annotations

import typing as t
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sql_servers import DATABASES
from sql_stores import make_engine, open_store, url_of

from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore


@pytest.fixture(params=["sqlite", *DATABASES])
def database(request: pytest.FixtureRequest) -> str:
    """Every kind of database in turn."""
    return t.cast("str", request.param)


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest) -> str:
    return url_of(database, request)


@pytest.fixture
def engine(url: str) -> t.Iterator[sa.Engine]:
    """An application's own, with SQLAlchemy's defaults."""
    engine = make_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def store(url: str) -> t.Iterator[SQLAlchemyStore]:
    store = open_store(url, prefix=f"{uuid4()}:")
    yield store
    store.engine.dispose()
