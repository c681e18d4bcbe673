"""Fixtures for the tests in this folder."""

from __future__ import annotations

import typing as t

import pytest

if t.TYPE_CHECKING:
    from flask_sessionstore.testing import Clock
from session_support import Browser, CountingStore


@pytest.fixture
def store(clock: Clock) -> CountingStore:
    store = CountingStore()
    store.clock = clock
    return store


@pytest.fixture
def browser(store: CountingStore) -> Browser:
    return Browser(store)
