"""Fixtures for the tests in this folder."""

from __future__ import annotations

import typing as t
from uuid import uuid4

import pytest
from dynamodb_servers import EMULATORS, DynamoDBServer

from flask_sessionstore.stores.dynamodb import DynamoDBStore


@pytest.fixture(
    scope="session",
    params=["moto", *(pytest.param(name, marks=pytest.mark.long) for name in EMULATORS if name != "moto")],
)
def emulator(request: pytest.FixtureRequest, shared_dynamodb: t.Callable[[str], DynamoDBServer]) -> DynamoDBServer:
    """Each of the two in turn."""
    return shared_dynamodb(request.param)


@pytest.fixture
def store(emulator: DynamoDBServer) -> DynamoDBStore:
    return emulator.copy_of_store(f"{uuid4()}:")
