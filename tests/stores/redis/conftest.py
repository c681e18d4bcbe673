"""Fixtures for the tests in this folder."""

from __future__ import annotations

import typing as t

import pytest
import servers
from redis_clusters import RedisCluster, SentinelTrio


@pytest.fixture(scope="session")
def cluster() -> t.Iterator[RedisCluster]:
    """Shared by all tests; what one kills, it starts again."""
    with RedisCluster(servers.program("valkey9")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def trio() -> t.Iterator[SentinelTrio]:
    with SentinelTrio(servers.program("valkey9")) as trio:
        yield trio
