"""Redis whose primary dies under load, and nodes that hang, move or refuse."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import redis
import servers
from flask import Flask, session
from http_support import Browser, make_app
from redis.crc import key_slot
from redis_cluster_support import saved
from redis_clusters import RedisCluster, SentinelTrio, until

from flask_sessionstore import Record, SessionGone, SessionKey, StoreUnavailable
from flask_sessionstore.record import TOMBSTONE_TIME
from flask_sessionstore.stores import ServerSideStore, list_name
from flask_sessionstore.stores.engines import CONNECT_TIMEOUT, TIMEOUT
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.stores.redis.clients import Cluster
from flask_sessionstore.stores.redis.urls import SENTINEL_TIMEOUT
from flask_sessionstore.testing import StoreContract

pytestmark = pytest.mark.redis
DAY = timedelta(days=1)
StartServer = t.Callable[..., servers.RedisServer]
pass_time = StoreContract().pass_time


# -- a primary dies --------------------------------------------------------------------------------------------------


class Visitor(threading.Thread):
    """Counts its own visits, one request after the other, and checks every answer.

    An answer is right if it is a 503 in time, or the page of this very visitor with a count that has grown by one; by
    more only after failures, whose writes may have arrived. It falls back at most to ``replicated``, and not at all
    while that is None.
    """

    #: Seconds for one request; with some to spare for a busy machine.
    longest = 3 * SENTINEL_TIMEOUT + CONNECT_TIMEOUT + TIMEOUT + 1

    def __init__(self, app: Flask, name: str) -> None:
        super().__init__(name=name)
        self.browser = Browser(app)
        self.count = self.failures = 0
        self.replicated: int | None = None
        self.wrong: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            if not self.visit():
                self.done.wait(0.02)  # the servers need the processor to agree on a new primary

    def visit(self) -> bool:
        started = time.monotonic()
        response = self.browser.does(self._view)
        took = time.monotonic() - started
        if response.status_code == 503:
            self.failures += 1
        else:
            name, _, count = response.text.partition(" ")
            lowest = self.count if self.replicated is None else self.replicated
            right = name == self.name and lowest < int(count) <= self.count + self.failures + 1
            if not right:
                self.wrong.append(f"{response.text!r} after {self.count} and {self.failures} failures, {lowest=}")
            self.count, self.failures = int(count), 0
        if took > self.longest:
            self.wrong.append(f"{response.status} after {took} seconds")
        return response.status_code == 200

    def _view(self) -> str:
        session["name"] = session.get("name", self.name)
        session["count"] = session.get("count", 0) + 1
        return f"{session['name']} {session['count']}"

    @property
    def name_in_store(self) -> str:
        return f"session:{SessionKey(self.browser.key or '').handle}"


@contextlib.contextmanager
def visited(store: ServerSideStore, number: int) -> t.Iterator[list[Visitor]]:
    """Visitors with a session each, who come again and again inside the block, and all are served after it."""
    app = make_app(store, TESTING=False)  # as in production: what fails is a response
    app.logger.disabled = True
    visitors = [Visitor(app, f"visitor{n}") for n in range(number)]
    for visitor in visitors:
        assert visitor.visit()
        visitor.start()
    try:
        until(lambda: all(visitor.count > 20 for visitor in visitors))
        yield visitors
        before = [visitor.count for visitor in visitors]
        until(lambda: all(visitor.count > count + 20 for visitor, count in zip(visitors, before, strict=True)))
    finally:
        for visitor in visitors:
            visitor.done.set()
        for visitor in visitors:
            visitor.join()
    assert all(visitor.visit() for visitor in visitors)
    assert [wrong for visitor in visitors for wrong in visitor.wrong] == []


def logged_out(store: ServerSideStore) -> SessionKey:
    key = saved(store)
    store.delete(key)
    return key


@pytest.fixture(params=servers.PROGRAMS)
def any_trio(request: pytest.FixtureRequest) -> t.Iterator[SentinelTrio]:
    """The shared trio, and five seconds each for those of older programs where they are asked for."""
    if request.param == "valkey9":
        yield request.getfixturevalue("trio")
    elif request.param in os.environ.get(servers.ASKED_FOR, "").split(","):
        with SentinelTrio(servers.program(request.param)) as trio:
            yield trio
    else:
        pytest.skip(f"{servers.ASKED_FOR} does not ask for {request.param}")


@pytest.mark.long
def test_sessions_go_on_when_the_sentinels_have_made_a_new_primary(any_trio: SentinelTrio) -> None:
    """The scripts are new to it, and nothing that was replicated is missing, log-outs least of all."""
    store = RedisStore.from_url(any_trio.url, wait_replicas=2)
    old = until(any_trio.primary)
    with visited(store, 3) as visitors:
        ended = logged_out(store)
        counts = [visitor.count for visitor in visitors]
        assert any_trio.replicated(old, 2)
        for visitor, count in zip(visitors, counts, strict=True):
            visitor.replicated = count
        old.kill()
        until(lambda: any_trio.primary() not in (None, old))
    with pytest.raises(SessionGone):
        store.load(ended)
    any_trio.revive(old)


@pytest.mark.long
def test_sessions_go_on_when_a_primary_of_a_cluster_is_gone(cluster: RedisCluster) -> None:
    store = RedisStore.from_url(cluster.url, wait_replicas=1)
    with visited(store, 4) as visitors:
        ended = logged_out(store)
        old = cluster.owner(store.prefix + ended.handle)
        counts = [visitor.count for visitor in visitors]
        for visitor, count in zip(visitors, counts, strict=True):
            key = visitor.name_in_store
            assert cluster.replicated(cluster.owner(key), 1, f"{{{key}}}")
            visitor.replicated = count
        old.kill()
        until(lambda: cluster.owner(store.prefix + ended.handle) is not old)
    with pytest.raises(SessionGone):
        store.load(ended)
    old.start()
    until(cluster.settled)


# -- nodes that hang, move, refuse -----------------------------------------------------------------------------------


def test_a_node_that_hangs_is_waited_for_once_and_the_others_go_on(cluster: RedisCluster) -> None:
    store = RedisStore.from_url(f"{cluster.url}?socket_timeout=0.2")
    keys = [saved(store) for _ in range(30)]
    hung = cluster.owner(store.prefix + keys[0].handle)
    others = [key for key in keys if cluster.owner(store.prefix + key.handle) is not hung]
    with hung.hanging():
        with pytest.raises(StoreUnavailable, match="in time"):
            store.load(keys[0])
        assert all(store.load(key) for key in others)
    until(cluster.settled)
    assert all(store.load(key) for key in keys)


def test_a_cluster_that_hangs_is_waited_for_no_longer_than_one_node(cluster: RedisCluster) -> None:
    """By many threads at once, whose waits do not add up."""
    store = RedisStore.from_url(f"{cluster.url}?socket_timeout=0.2")
    key = saved(store)
    waits: list[float] = []

    def load() -> None:
        started = time.monotonic()
        with contextlib.suppress(StoreUnavailable):
            store.load(key)
        waits.append(time.monotonic() - started)

    threads = [threading.Thread(target=load) for _ in range(8)]
    with contextlib.ExitStack() as stack:
        for server in cluster.servers:
            stack.enter_context(server.hanging())
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        load()
    assert max(waits) < 2 * 0.2 + 0.3
    until(cluster.settled)
    until(lambda: store.load(key))


def move_the_rest(cluster: RedisCluster, slot: int, old: servers.RedisServer, new: servers.RedisServer) -> None:
    """Move the keys that are still in a slot, those of other tests too, and end the move."""
    for name in cluster.ask(old, "CLUSTER GETKEYSINSLOT", slot, 100):
        cluster.ask(old, "MIGRATE", "127.0.0.1", new.port, name, 0, 10_000)
    for server in (new, old):
        cluster.ask(server, "CLUSTER SETSLOT", slot, "NODE", cluster.ask(new, "CLUSTER MYID"))


def test_a_slot_that_moves_to_another_node_is_followed(cluster: RedisCluster) -> None:
    """While it moves, with keys on either side, and after it has moved."""
    store = RedisStore.from_url(cluster.url)
    key = saved(store)
    name = store.prefix + key.handle
    slot = key_slot(name.encode())
    old = cluster.owner(name)
    cluster.ask(old, "SET", f"{{{name}}}", "a neighbour in the slot, as another test may leave one")
    new = next(server for server in cluster.primaries() if server is not old)
    old_id, new_id = (cluster.ask(server, "CLUSTER MYID") for server in (old, new))
    cluster.ask(new, "CLUSTER SETSLOT", slot, "IMPORTING", old_id)
    cluster.ask(old, "CLUSTER SETSLOT", slot, "MIGRATING", new_id)
    assert store.load(key)
    cluster.ask(old, "MIGRATE", "127.0.0.1", new.port, name, 0, 1000)
    assert store.load(key)
    store.update_ttl(key)
    move_the_rest(cluster, slot, old, new)
    assert store.load(key)
    store.delete(key)
    with pytest.raises(SessionGone):
        store.load(key)
    until(cluster.settled)


OPERATIONS: dict[str, t.Callable[[ServerSideStore, SessionKey, Record], object]] = {
    "load": lambda store, key, record: store.load(key),
    "save": lambda store, key, record: store.save(record, DAY),
    "update": lambda store, key, record: store.update(key, record, DAY, replaces=record.revision),
    "update_ttl": lambda store, key, record: store.update_ttl(key),
    "renew": lambda store, key, record: store.renew(key, record, DAY, replaces=record.revision),
    "delete": lambda store, key, record: store.delete(key),
}


def refused(store: ServerSideStore, key: SessionKey, record: Record, *operations: str) -> None:
    for operation in operations:
        with pytest.raises(StoreUnavailable):
            OPERATIONS[operation](store, key, record)


@pytest.mark.parametrize("program", servers.PROGRAMS)
def test_a_primary_that_became_a_replica_is_left(program: str, start_redis: StartServer) -> None:
    """READONLY is unavailability; so is MASTERDOWN. The connection is given up, for it leads to the wrong server."""
    server, nobody = start_redis(program), ["127.0.0.1", "1"]
    store = RedisStore.from_url(server.url)
    key = saved(store)
    record = t.cast("Record", store.load(key))
    with redis.Redis(port=server.port) as admin:
        admin.replicaof(*nobody)
        for operation in ("save", "update", "update_ttl", "renew", "delete"):
            store.load(key)
            connected = {client["id"] for client in admin.client_list()}
            refused(store, key, record, operation)
            store.load(key)
            assert {client["id"] for client in admin.client_list()} != connected
        admin.config_set("replica-serve-stale-data", "no")
        refused(store, key, record, *OPERATIONS)
        admin.replicaof("NO", "ONE")
    assert store.load(key) == record


def test_a_primary_that_wants_replicas_and_has_none_refuses(start_redis: StartServer) -> None:
    """NOREPLICAS."""
    server = start_redis()
    store = RedisStore.from_url(server.url)
    key = saved(store)
    record = t.cast("Record", store.load(key))
    with redis.Redis(port=server.port) as admin:
        admin.config_set("min-replicas-to-write", 1)
    refused(store, key, record, "save", "update", "update_ttl", "renew", "delete")
    assert store.load(key) == record


def test_many_threads_notice_nothing_of_a_restart(start_redis: StartServer) -> None:
    """Though every connection is lost, those that ended threads have left for others too."""
    server = start_redis()
    store = RedisStore.from_url(server.url)
    failures: list[BaseException] = []

    def load(together: threading.Barrier) -> None:
        together.wait()
        try:
            store.load(SessionKey.generate())
        except BaseException as error:  # noqa: BLE001  - a thread's failure is the test's
            failures.append(error)
        together.wait()  # so that each has a connection of its own

    def at_once(number: int) -> None:
        together = threading.Barrier(number)
        threads = [threading.Thread(target=load, args=(together,)) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    at_once(40)
    server.stop()
    server.start()
    for _ in range(4):
        at_once(8)
    assert failures == []


@pytest.mark.parametrize("program", ["valkey9", "redis7"])  # older ones answer only after every two megabytes
def test_a_server_that_is_loading_its_data_refuses_and_heals(program: str, start_redis: StartServer) -> None:
    """LOADING: nobody is taken for signed out. It loads as slowly as it is told to, until it is told otherwise."""
    server = start_redis(program, loading_process_events_interval_bytes="1024", enable_debug_command="yes")
    store = RedisStore.from_url(server.url)
    keys = [store.save(Record(state={"a": os.urandom(2000)}, owner="ann"), DAY) for _ in range(400)]
    records = [store.load(key) for key in keys]
    with redis.Redis(port=server.port) as admin:
        admin.config_set("key-load-delay", 5_000)  # microseconds for each key
        loader = threading.Thread(target=admin.execute_command, args=("DEBUG RELOAD",))
        loader.start()
        with redis.Redis(port=server.port) as other:
            until(lambda: other.info("persistence")["loading"])
            with pytest.raises(StoreUnavailable) as caught:
                store.load(keys[0])
            assert isinstance(caught.value.__cause__, redis.exceptions.BusyLoadingError)
            for call in (lambda: store.entries("ann"), lambda: saved(store), lambda: list(store.scan())):
                with pytest.raises(StoreUnavailable):
                    call()
            other.config_set("key-load-delay", 0)
        loader.join()
    assert [store.load(key) for key in keys] == records


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_cluster_without_its_slots_refuses(scheme: str, start_redis: StartServer) -> None:
    """CLUSTERDOWN, or a slot that nobody serves."""
    server = start_redis(cluster_enabled="yes", cluster_port=str(servers._free_port()))
    store = RedisStore.from_url(f"{scheme}://127.0.0.1:{server.port}")
    refused(store, SessionKey.generate(), Record(state={"a": b"1"}), *OPERATIONS)


def test_of_a_cluster_that_is_not_whole_what_is_there_is_known(start_redis: StartServer) -> None:
    """Whichever of the nodes in the URL is asked last: one may have left the cluster, and know of no other."""
    server, lone = (
        start_redis(
            cluster_enabled="yes", cluster_port=str(servers._free_port()), cluster_require_full_coverage="no"
        )
        for _ in range(2)
    )  # fmt: skip
    with redis.Redis(port=server.port) as admin:
        admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16000)
        name = admin.execute_command("CLUSTER MYID")
    for ports in ((server.port, lone.port), (lone.port, server.port)):
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        client = t.cast("Cluster", RedisStore.from_url(f"redis+cluster://{hosts}").client)
        assert [primary.execute_command("CLUSTER MYID") for primary in client.primaries()] == [name]


@pytest.mark.long
def test_no_sentinel_and_no_node_at_all(start_redis: StartServer) -> None:
    """At once, and healed without a restart."""
    server = start_redis(cluster_enabled="yes", cluster_port=str(servers._free_port()))
    port = server.port
    with redis.Redis(port=port) as admin:
        admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
    store = RedisStore.from_url(f"redis+cluster://127.0.0.1:{port}")
    sentinel = RedisStore.from_url(f"redis+sentinel://127.0.0.1:{port}/mymaster")
    server.kill()
    for nowhere in (store, sentinel) * 3:
        with pytest.raises(StoreUnavailable):
            nowhere.load(SessionKey.generate())
    server.start()
    until(lambda: saved(store))
    with pytest.raises(StoreUnavailable):  # it answers, and is no Sentinel
        sentinel.load(SessionKey.generate())


def test_a_child_process_has_connections_of_its_own(cluster: RedisCluster) -> None:
    store = RedisStore.from_url(cluster.url)
    key = saved(store)
    if (child := os.fork()) == 0:
        try:
            os._exit(0 if all(store.load(key) for _ in range(100)) else 1)
        except BaseException:  # noqa: BLE001  - nothing of pytest may run in the child
            os._exit(2)
    assert all(store.load(key) for _ in range(100))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_lists_and_records_of_a_slot_that_moves_are_found(cluster: RedisCluster) -> None:
    """Though all for one node were asked of it at once, and some have left it."""
    store = RedisStore.from_url(cluster.url, prefix=f"{{{uuid4()}}}:")  # all in one slot
    keys = [store.save(Record(state={"a": b"1"}, owner="ann"), DAY) for _ in range(4)]
    name = store.prefix + keys[0].handle
    slot, old = key_slot(name.encode()), cluster.owner(name)
    new = next(server for server in cluster.primaries() if server is not old)
    old_id, new_id = (cluster.ask(server, "CLUSTER MYID") for server in (old, new))
    found = {entry.handle: entry.data for entry in store.entries("ann")}
    cluster.ask(new, "CLUSTER SETSLOT", slot, "IMPORTING", old_id)
    cluster.ask(old, "CLUSTER SETSLOT", slot, "MIGRATING", new_id)
    for gone in (name, store.prefix + keys[1].handle, f"{store.prefix}owners:{list_name('ann')}"):
        cluster.ask(old, "MIGRATE", "127.0.0.1", new.port, gone, 0, 10_000)
        assert {entry.handle: entry.data for entry in store.entries("ann")} == found
        assert {entry.handle: entry.data for entry in store.scan()} == found
        assert store.prune() == 0
    move_the_rest(cluster, slot, old, new)
    assert {entry.handle: entry.data for entry in store.entries("ann")} == found
    store.drop(keys[0].handle)
    pass_time(store, TOMBSTONE_TIME.total_seconds() + 1)
    assert store.prune() == 1
    until(cluster.settled)


def test_a_node_that_hangs_is_no_shorter_list(cluster: RedisCluster) -> None:
    """Neither of an owner's sessions nor of all."""
    store = RedisStore.from_url(f"{cluster.url}?socket_timeout=0.2", prefix=f"{uuid4()}:")
    keys = [store.save(Record(state={"a": b"1"}, owner="ann"), DAY) for _ in range(12)]
    with cluster.owner(store.prefix + keys[0].handle).hanging():
        for call in (lambda: store.entries("ann"), lambda: list(store.scan()), store.prune):
            with pytest.raises(StoreUnavailable):
                call()
    until(cluster.settled)
    assert len(store.entries("ann")) == 12
