"""The stores that the demo is tried with: where each one is, and what it promises."""

from __future__ import annotations

import typing as t
import uuid

import pytest

#: How long a cache in front serves what has ended elsewhere, in seconds.
MAX_AGE = 0.2


# Time-outs for a machine that has much else to do: a busy machine is no fault of a server or a store.
REDIS = "?socket_connect_timeout=10&socket_timeout=10"
MEMCACHED = "?connect_timeout=10&timeout=10"


class Abilities(t.NamedTuple):
    """What a store promises."""

    merges: bool = True
    lists: bool = True
    ends: bool = True
    #: For how many seconds another process may go on reading a session that has ended.
    lag: float = 0


class Place(t.NamedTuple):
    """A store."""

    #: Where it is, by the fixtures that have its servers; as :func:`demo.make_app` takes it.
    find: t.Callable[[t.Callable[[str], t.Any]], str | list[str] | dict[str, str]]
    abilities: Abilities = Abilities()


PLACES: dict[str, Place] = {
    "cookie": Place(lambda fixture: "cookie:", Abilities(merges=False, lists=False, ends=False)),
    "memory": Place(lambda fixture: "memory:"),
    "file": Place(lambda fixture: "file:sessions"),
    "sqlite": Place(lambda fixture: "sqlite:///{folder}/sessions.db"),
    "redis": Place(lambda fixture: fixture("valkey").url + REDIS),
    "redis-client": Place(lambda fixture: {"client": fixture("valkey").url + REDIS}),
    "redis-cluster": Place(lambda fixture: fixture("redis_cluster").url),
    "redis-sentinel": Place(lambda fixture: fixture("sentinels").url),
    "memcached": Place(lambda fixture: fixture("shared_memcached").url + MEMCACHED, Abilities(lists=False)),
    "postgresql": Place(lambda fixture: fixture("database_url")("postgresql")),
    "postgresql-engine": Place(lambda fixture: {"engine": fixture("database_url")("postgresql")}),
    "mariadb": Place(lambda fixture: fixture("database_url")("mariadb")),
    "dynamodb": Place(lambda fixture: {"dynamodb": fixture("shared_dynamodb")("moto").endpoint_url}),
    "memory+redis": Place(lambda fixture: ["memory:", fixture("valkey").url + REDIS], Abilities(lag=MAX_AGE)),
    "memory+postgresql": Place(
        lambda fixture: ["memory:", fixture("database_url")("postgresql")], Abilities(lag=MAX_AGE)
    ),
}


def settings(place: str, request: pytest.FixtureRequest, *, warm: bool) -> dict[str, t.Any]:
    """What :func:`demo.make_app` takes, but for the folder; "{folder}" stands for it."""
    return {
        "store": PLACES[place].find(request.getfixturevalue),
        "prefix": f"{uuid.uuid4()}:",
        "warm": warm,
        "max_age": MAX_AGE,
        "folder": "{folder}",
    }
