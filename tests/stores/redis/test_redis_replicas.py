"""Replicas that confirm a write before it counts."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
import redis
import servers
from redis_cluster_support import saved
from redis_clusters import RedisCluster, until

from flask_sessionstore import ConfigurationError, Record, SessionGone, SessionKey, StoreUnavailable
from flask_sessionstore.stores.redis import RedisStore

pytestmark = pytest.mark.redis
DAY = timedelta(days=1)


@pytest.fixture(scope="session")
def pair() -> t.Iterator[tuple[servers.RedisServer, servers.RedisServer]]:
    """A primary and its replica."""
    program = servers.program("valkey9")
    with (
        servers.RedisServer(program, repl_diskless_sync_delay="0") as primary,
        servers.RedisServer(program) as replica,
    ):
        with redis.Redis(port=replica.port) as admin:
            admin.replicaof("127.0.0.1", str(primary.port))
        with redis.Redis(port=primary.port, single_connection_client=True) as admin:
            until(lambda: admin.set("a write to wait for", 1) and admin.wait(1, 1000))
        yield primary, replica


class Confirmed(t.NamedTuple):
    """Stores for which a replica is to confirm."""

    open: t.Callable[[], RedisStore]
    replica: t.Callable[[SessionKey], servers.RedisServer]


@pytest.fixture(params=["url", "client", "cluster"])
def confirmed(request: pytest.FixtureRequest) -> t.Iterator[Confirmed]:
    wait = {"wait_replicas": 1, "wait_timeout": 0.1}
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("cluster")
        yield Confirmed(
            lambda: RedisStore.from_url(cluster.url, **wait), lambda key: cluster.replica(f"session:{key.handle}")
        )
        until(cluster.settled)
        return
    primary, replica = request.getfixturevalue("pair")
    if request.param == "url":
        yield Confirmed(lambda: RedisStore.from_url(primary.url, **wait), lambda key: replica)
    else:
        yield Confirmed(
            lambda: RedisStore(redis.Redis(port=primary.port), wait_replicas=1, wait_timeout=0.1), lambda key: replica
        )


def test_an_end_that_no_replica_confirms_is_told(confirmed: Confirmed) -> None:
    """It stands on the primary; to end it once more says so again, until a replica has confirmed it."""
    store, other = confirmed.open(), confirmed.open()
    key = saved(store)
    assert other.load(key)  # it knows the cluster by now, and need not ask a node that hangs
    with confirmed.replica(key).hanging():
        store.update_ttl(key)  # waits for nobody
        record = t.cast("Record", store.load(key))
        store.update(key, record, DAY, replaces=record.revision)
        for once_more in (store, other):
            with pytest.raises(StoreUnavailable, match="replicas"):
                once_more.delete(key)
        with pytest.raises(SessionGone):
            store.load(key)
    until(lambda: store.delete(key) is None)  # type: ignore[func-returns-value]
    confirmed.open().delete(key)


def test_a_renewal_that_no_replica_confirms_is_logged(confirmed: Confirmed, caplog: pytest.LogCaptureFixture) -> None:
    """The visitor has the new key: to refuse would lose the session."""
    store = confirmed.open()
    key = saved(store)
    record = t.cast("Record", store.load(key))
    with confirmed.replica(key).hanging():
        new = store.renew(key, record, DAY, replaces=record.revision)
        assert "replicas" in caplog.text
        with pytest.raises(SessionGone):  # one that lost is told so, whatever the replicas say
            store.update(key, record, DAY, replaces=record.revision)
        with pytest.raises(SessionGone):
            store.delete(key, replaces=record.revision)
    assert store.load(new)


def test_only_ends_and_renewals_wait_for_replicas(confirmed: Confirmed) -> None:
    """A replica that confirms is no news."""
    store = confirmed.open()
    key = saved(store)
    record = t.cast("Record", store.load(key))
    new = store.renew(key, record, DAY, replaces=record.revision)
    store.delete(new)
    assert store.end(new.handle) is False


def test_a_client_that_may_wait_on_another_connection_is_refused(cluster: RedisCluster) -> None:
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port)
    with pytest.raises(ConfigurationError, match="different connections"):
        RedisStore(client, wait_replicas=1)


@pytest.mark.parametrize("options", [{"wait_replicas": -1}, {"wait_replicas": 1, "wait_timeout": 0}])
def test_to_wait_for_nobody_or_for_ever_is_refused(options: dict[str, t.Any]) -> None:
    with pytest.raises(ConfigurationError, match="too small"):
        RedisStore.from_url("redis://localhost", **options)
