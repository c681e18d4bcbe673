"""Updates by SET with IFEQ: which servers get it, and that its results are those of the script."""

from __future__ import annotations

import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import redis
import servers
from http_support import make_app, started
from overlapping import in_threads
from redis_clusters import RedisCluster
from redis_commands import DAY, Counting, loaded, saved, state_of, update
from servers import StartServer
from wire import Proxy, Wire

from flask_sessionstore import (
    Record,
    SessionConflict,
    SessionCorrupt,
    SessionGone,
    SessionKey,
    StoreUnavailable,
    session,
)
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.redis import RedisStore, clients
from flask_sessionstore.testing import StoreContract, later

pytestmark = pytest.mark.redis


@pytest.fixture
def server(start_redis: StartServer) -> servers.RedisServer:
    return start_redis()


@pytest.fixture
def counting(server: servers.RedisServer) -> Counting:
    return Counting(server.port)


@pytest.fixture
def store(server: servers.RedisServer) -> RedisStore:
    return RedisStore.from_url(server.url)


# -- which servers get it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_server_that_has_it_gets_one_command(protocol: int, server: servers.RedisServer, counting: Counting) -> None:
    store = RedisStore.from_url(f"{server.url}?protocol={protocol}")
    key, record = saved(store)
    counting.reset()
    update(store, key, record, b"2")
    assert counting.sent("set", "get", "evalsha", "eval") == {"set": 1}
    assert state_of(store, key) == b"2"


def test_a_connection_asks_for_the_version_once_and_before_its_first_update(
    store: RedisStore, counting: Counting
) -> None:
    key, record = saved(store)
    assert counting.sent("hello") == {}
    for n in range(3):
        update(store, key, record, b"%d" % n)
        key, record = loaded(store, key)
    assert counting.sent("hello") == {"hello": 1}


def test_what_is_known_to_be_refused_is_not_sent_and_says_nothing_about_the_server(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_has_ifeq", lambda greeting: False)
    key, record = saved(store)
    update(store, key, record, b"2")  # asks, and knows it now
    command = ("SET", "name", b"2", "PX", 1000, "IFEQ", b"1")
    with pytest.raises(clients.NotAsked):
        store._client.compare_and_set(command, bool)
    assert state_of(store, key) == b"2"


def test_one_request_may_write_several_times(store: RedisStore, counting: Counting) -> None:
    key, record = saved(store)
    counting.reset()
    for n in range(3):
        record = later(record, {"a": b"%d" % n})
        store.update(key, record, DAY, replaces=record.revisions[1])
    assert counting.sent("set", "get", "evalsha", "eval") == {"set": 3}


@pytest.mark.parametrize("program", ["redis6", "redis7"])
def test_a_server_that_does_not_have_it_gets_the_script(program: str, start_redis: StartServer) -> None:
    server = start_redis(program)
    store, counting = RedisStore.from_url(server.url), Counting(server.port)
    key, record = saved(store)
    update(store, key, record, b"2")  # it brings the script to the server
    key, record = loaded(store, key)
    counting.reset()
    update(store, key, record, b"3")
    assert counting.sent("set", "evalsha", "hello") == {"set": 1, "evalsha": 1}  # the script's own SET counts too
    assert state_of(store, key) == b"3"


def test_a_newer_server_in_the_place_of_an_older_one_gets_one_command(start_redis: StartServer) -> None:
    server = start_redis("redis7")
    store = RedisStore.from_url(server.url)
    key, record = saved(store)
    update(store, key, record, b"2")
    server.stop()
    server.program = servers.program("valkey9")
    server.start()
    counting = Counting(server.port)
    key, record = saved(store)
    update(store, key, record, b"3")
    assert counting.sent("set", "evalsha", "eval") == {"set": 2}
    assert state_of(store, key) == b"3"


def test_a_client_of_the_applications_gets_the_script(server: servers.RedisServer, counting: Counting) -> None:
    store = RedisStore(redis.Redis(port=server.port))
    key, record = saved(store)
    counting.reset()
    update(store, key, record, b"2")
    assert counting.sent("evalsha", "eval") == {"evalsha": 1, "eval": 1}  # the server does not know the script yet
    assert state_of(store, key) == b"2"


def test_a_server_that_tells_no_version_gets_the_script(start_redis: StartServer) -> None:
    server = start_redis(rename_command=[("HELLO", "")])
    store, counting = RedisStore.from_url(server.url), Counting(server.port)
    key, record = saved(store)
    update(store, key, record, b"2")
    assert state_of(store, key) == b"2"
    assert counting.sent("evalsha", "eval") == {"evalsha": 1, "eval": 1}


@pytest.mark.parametrize(
    ("name", "version", "has_it"),
    [
        (b"valkey", b"8.0.9", False),
        (b"valkey", b"8.1.0", True),
        (b"valkey", b"8.1.0-rc1", True),
        (b"valkey", b"10.0.0", True),
        (b"redis", b"7.2.4", False),  # also Valkey, where it is set to pass for Redis
        (b"redis", b"8.1.0", False),
        (b"redis", b"8.4.0", True),
        (b"another", b"99.0.0", False),
        (b"redis", b"", False),
    ],
)
def test_versions_that_have_it(name: bytes, version: bytes, has_it: bool) -> None:
    greeting = {b"server": name, b"version": version, b"proto": 2, b"modules": []}
    assert clients._has_ifeq(greeting) is has_it
    assert clients._has_ifeq([part for pair in greeting.items() for part in pair]) is has_it


# -- who may not use it --------------------------------------------------------------------------------------------


def test_what_an_acl_forbids_is_tried_by_the_script(server: servers.RedisServer, counting: Counting) -> None:
    admin: t.Any = redis.Redis(port=server.port)
    admin.execute_command("ACL SETUSER shop on >secret ~session:* +@all")
    url = f"redis://shop:secret@127.0.0.1:{server.port}"
    store = RedisStore.from_url(url)
    key, record = saved(store)
    update(store, key, record, b"2")
    key, record = loaded(store, key)

    admin.execute_command("ACL SETUSER shop -set")
    with pytest.raises(StoreUnavailable):  # also from within the script
        update(store, key, record, b"3")
    assert admin.info("commandstats")["cmdstat_set"]["rejected_calls"] >= 1
    assert counting.sent("eval", "evalsha") != {}
    assert state_of(store, key) == b"2"

    admin.execute_command("ACL SETUSER shop +set")
    key, record = loaded(store, key)
    counting.reset()
    update(RedisStore.from_url(url), key, record, b"4")
    assert counting.sent("set", "evalsha") == {"set": 1}


class Refusing:
    """Lets servers of an older kind pass for servers that have it: they refuse it in their own words."""

    @pytest.fixture(autouse=True)
    def refusing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clients, "_IFEQ_SINCE", {b"redis": (6, 0)})


class TestServerThatRefuses(Refusing, StoreContract):
    @pytest.fixture
    def store(self, shared_redis: t.Callable[[str], servers.RedisServer]) -> RedisStore:
        return RedisStore.from_url(shared_redis("redis7").url, prefix=f"{uuid4()}:")


class TestRefusals(Refusing):
    def test_only_one_update_of_a_connection_is_refused(self, start_redis: StartServer) -> None:
        server = start_redis("redis7")
        store, admin = RedisStore.from_url(server.url), redis.Redis(port=server.port)
        key, record = saved(store)
        admin.config_resetstat()
        for n in range(3):
            update(store, key, record, b"%d" % n)
            key, record = loaded(store, key)
        assert record.state == {"a": b"2"}
        assert admin.info("errorstats")["errorstat_ERR"]["count"] == 1
        assert admin.info("commandstats")["cmdstat_set"]["failed_calls"] == 1


@pytest.fixture(scope="module")
def silent() -> t.Iterator[servers.RedisServer]:
    with servers.RedisServer(servers.program("valkey9"), rename_command=[("HELLO", "")]) as server:
        yield server


class TestServerThatTellsNoVersion(StoreContract):
    @pytest.fixture
    def store(self, silent: servers.RedisServer) -> RedisStore:
        return RedisStore.from_url(silent.url, prefix=f"{uuid4()}:")


# -- its results are those of the script ---------------------------------------------------------------------------


def test_a_write_of_another_request_is_not_overwritten(store: RedisStore) -> None:
    key, record = saved(store)
    other, _ = loaded(store, key)
    update(store, other, record, b"theirs")
    with pytest.raises(SessionConflict) as caught:
        update(store, key, record, b"ours")
    assert caught.value.record is not None
    assert caught.value.record.state == {"a": b"theirs"}
    update(store, key, caught.value.record, b"merged")
    assert state_of(store, key) == b"merged"


def test_after_a_conflict_the_next_attempt_needs_no_script(store: RedisStore, counting: Counting) -> None:
    key, record = saved(store)
    update(store, loaded(store, key)[0], record, b"theirs")
    with pytest.raises(SessionConflict) as caught:
        update(store, key, record, b"ours")
    assert caught.value.record is not None
    counting.reset()
    update(store, key, caught.value.record, b"merged")
    assert counting.sent("set", "get", "evalsha", "eval") == {"set": 1}


def test_an_extension_of_another_request_is_no_conflict(store: RedisStore) -> None:
    key, record = saved(store)
    store.update_ttl(loaded(store, key)[0], timedelta(days=2))
    update(store, key, record, b"2")
    assert state_of(store, key) == b"2"


def test_an_update_after_an_own_extension_is_no_conflict(store: RedisStore) -> None:
    key, record = saved(store)
    store.update_ttl(key, timedelta(days=2))
    update(store, key, record, b"2")
    assert state_of(store, key) == b"2"


def test_a_session_that_ended_stays_ended(store: RedisStore) -> None:
    key, record = saved(store)
    store.delete(loaded(store, key)[0])
    with pytest.raises(SessionGone) as caught:
        update(store, key, record, b"2")
    assert caught.value.kind == "ended"


def test_a_record_that_has_expired_by_its_own_time_is_not_replaced(store: RedisStore) -> None:
    key, record = saved(store)
    StoreContract().pass_time(store, DAY.total_seconds() + 1)
    with pytest.raises(SessionGone):  # though the server still has it
        update(store, key, record, b"2")
    assert store.read(key.handle) is not None


def test_a_session_that_is_lost_does_not_come_back(store: RedisStore) -> None:
    key, record = saved(store)
    store.drop(key.handle)
    with pytest.raises(SessionGone):
        update(store, key, record, b"2")
    assert store.read(key.handle) is None


def test_a_value_of_another_type_is_damage(store: RedisStore, server: servers.RedisServer) -> None:
    key, record = saved(store)
    store.drop(key.handle)
    redis.Redis(port=server.port).lpush(store.prefix + key.handle, "another program's")
    with pytest.raises(SessionCorrupt):
        update(store, key, record, b"2")


def test_a_conflict_on_a_full_server_is_a_conflict(store: RedisStore, server: servers.RedisServer) -> None:
    key, record = saved(store)
    update(store, loaded(store, key)[0], record, b"theirs")
    redis.Redis(port=server.port).config_set("maxmemory", "1mb")
    with pytest.raises(SessionConflict):
        update(store, key, record, b"ours")


def test_an_update_whose_reply_is_lost_is_stored_once(server: servers.RedisServer, counting: Counting) -> None:
    def cut(wire: Wire, reply: bytes) -> None:
        proxy.harmed.append(wire)
        proxy.harm = Wire.deliver
        wire.cut()

    with Proxy(server.port, b"+OK\r\n", lambda reply: True) as proxy:
        browser = started(make_app(RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}")), n=1)

        def count() -> None:
            session["n"] += 1  # loads
            proxy.harm = cut

        assert browser.does(count).status_code == 200
        assert len(proxy.harmed) == 1
        assert browser.data == {"n": 2}


def test_counters_of_many_threads_are_exact(store: RedisStore, counting: Counting) -> None:
    browser = started(make_app(store), n=0)
    visits, threads_number = 15, 4
    counting.reset()

    def count() -> None:
        session.update_or("n", 1, lambda n: n + 1)

    def visit() -> None:
        twin = browser.twin()
        assert [twin.does(count).status_code for _ in range(visits)] == [200] * visits

    in_threads(threads_number, visit)
    assert browser.data == {"n": visits * threads_number}
    assert counting.sent("set")["set"] >= visits * threads_number


# -- clusters, replicas, and a cache in front ----------------------------------------------------------------------


def test_in_a_cluster_the_primary_of_the_key_gets_one_command(cluster: RedisCluster) -> None:
    store = RedisStore.from_url(cluster.url)
    key, record = saved(store)
    counting = Counting(cluster.owner(store.prefix + key.handle).port)
    counting.reset()
    update(store, key, record, b"2")
    assert counting.sent("set", "get", "evalsha", "eval") == {"set": 1}
    assert state_of(store, key) == b"2"


def test_in_a_cluster_whose_nodes_do_not_have_it_changes_use_the_script(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_IFEQ_SINCE", {})
    store = RedisStore.from_url(cluster.url)
    counting = Counting(*(primary.port for primary in cluster.primaries()))
    key, record = saved(store)
    update(store, key, record, b"2")
    assert state_of(store, key) == b"2"
    counting.reset()
    update(store, *loaded(store, key), b"3")
    assert counting.sent("hello", "evalsha") == {"evalsha": 1}
    assert state_of(store, key) == b"3"


def test_replicas_have_to_confirm_an_end_but_not_an_update(start_redis: StartServer) -> None:
    server = start_redis()
    store, counting = RedisStore.from_url(server.url, wait_replicas=1, wait_timeout=0.001), Counting(server.port)
    key, record = saved(store)
    update(store, key, record, b"2")
    assert counting.sent("set", "wait") == {"set": 2}
    with pytest.raises(StoreUnavailable, match="replicas"):
        store.delete(key)
    assert counting.sent("wait") != {}
    with pytest.raises(SessionGone):
        update(store, key, record, b"3")


def test_what_a_cache_has_read_is_updated_by_one_command(store: RedisStore, counting: Counting) -> None:
    tiers = CachingStore(MemoryStore(), store)
    key, record = saved(tiers)
    counting.reset()
    own = SessionKey(str(key))
    cached = tiers.load(own, seen=record.revision[:4])
    assert cached == record
    update(tiers, own, record, b"2")
    assert counting.sent("set", "get", "evalsha", "eval") == {"set": 1}
    again = SessionKey(str(key))
    assert t.cast("Record", tiers.load(again, seen=record.revision[:4])).state == {"a": b"2"}
    assert counting.sent("get") == {}


def test_requests_of_one_browser_that_overlap_compare_with_what_each_of_them_has_read(store: RedisStore) -> None:
    """The process verifies their cookie once; what one has stored meanwhile is not what the other has read."""
    app = make_app(store)
    browser = started(app, c=0)

    def meanwhile() -> None:
        session["a"] = 1
        browser.asks(lambda: session.update(b=2))

    browser.asks(meanwhile)
    assert browser.data == {"c": 0, "a": 1, "b": 2}
