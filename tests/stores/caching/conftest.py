"""Fixtures for the tests in this folder."""

from __future__ import annotations

import pytest
from tiers import Process

from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore


@pytest.fixture
def truth(clock: Clock) -> FaultyStore:
    memory = MemoryStore()
    memory.clock = clock
    return FaultyStore(memory)


@pytest.fixture
def here(truth: FaultyStore) -> Process:
    return Process(truth)


@pytest.fixture
def there(truth: FaultyStore) -> Process:
    return Process(truth)
