"""Which markers a test has by what it uses, beside those that it was given."""

from __future__ import annotations

import typing as t

import pytest
import servers

#: What takes too long for the run at every turn, each for a reason of its own: see pyproject.toml.
SLOW = {"long", "emulated", "exhaustive", "foreign", "deployment", "deployment_all", "writers"}
REDIS_FIXTURES = {"shared_redis", "start_redis"}
#: Fixtures that start something.
SERVER_FIXTURES = {
    *REDIS_FIXTURES, "shared_memcached", "shared_mongodb", "shared_dynamodb", "redis_cluster", "sentinels", "visits",
}  # fmt: skip
#: What a test may have as a parameter, and then starts it.
SERVERS = {"redis", "mongodb", "dynamodb", *servers.PROGRAMS, *servers.OTHERS, *servers.WEB_SERVERS}
#: Folders whose tests are about a server.
SERVER_FOLDERS = {*SERVERS, "sql", "deployment"}


def implied(item: pytest.Item) -> t.Iterator[str]:
    """The markers that this test gets by itself."""
    fixtures, given = set(getattr(item, "fixturenames", ())), {marker.name for marker in item.iter_markers()}
    if fixtures & REDIS_FIXTURES:
        yield "redis"
    about = _parameters(item) & SERVERS or SERVER_FOLDERS.intersection(item.path.parts)
    if about or fixtures & SERVER_FIXTURES or given & {"redis", "emulated", "deployment"}:
        yield "server"
    if given & SLOW:
        yield "slow"


def _parameters(item: pytest.Item) -> set[str]:
    call = getattr(item, "callspec", None)
    return {value for value in call.params.values() if isinstance(value, str)} if call else set()
