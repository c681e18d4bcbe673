"""Large records: they are set under a name beside, and a script moves them."""

from __future__ import annotations

import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
import redis
import servers
from http_support import make_app, started
from overlapping import in_threads
from redis.crc import key_slot
from redis_clusters import RedisCluster, until
from redis_commands import DAY, Counting, loaded, saved, state_of, update
from servers import StartServer
from twemproxy import Twemproxy
from wire import Proxy, Wire

from flask_sessionstore import Record, SessionConflict, SessionGone, SessionKey, StoreUnavailable, session
from flask_sessionstore.layout import revision_of
from flask_sessionstore.migrate import session_ids
from flask_sessionstore.record import new_revision
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.redis import RedisStore, clients
from flask_sessionstore.stores.redis import store as module
from flask_sessionstore.testing import StoreContract

pytestmark = pytest.mark.redis

OLD, NEW, NEWER = (letter * 20_000 for letter in (b"1", b"2", b"3"))


@pytest.fixture
def server(start_redis: StartServer) -> servers.RedisServer:
    """One that has no SET with IFEQ."""
    return start_redis("redis7")


@pytest.fixture
def admin(server: servers.RedisServer) -> t.Any:
    return redis.Redis(port=server.port)


@pytest.fixture
def store(server: servers.RedisServer) -> RedisStore:
    return RedisStore.from_url(server.url)


@pytest.fixture
def counting(server: servers.RedisServer) -> Counting:
    return Counting(server.port)


def moved(counting: Counting) -> bool:
    """Whether a record was moved by the script."""
    return counting.sent("rename") != {}


# -- an update -----------------------------------------------------------------------------------------------------


def test_a_large_record_is_moved_to_its_place_and_nothing_remains_beside(
    store: RedisStore, counting: Counting, admin: t.Any
) -> None:
    key, record = saved(store, OLD)
    update(store, key, record, NEW)
    assert moved(counting)
    assert state_of(store, key) == NEW
    name = store.prefix + key.handle
    assert admin.keys() == [name.encode()]
    assert DAY - timedelta(minutes=1) < timedelta(milliseconds=admin.pttl(name)) <= DAY


def test_a_small_record_goes_with_the_script(store: RedisStore, counting: Counting) -> None:
    key, record = saved(store, OLD)
    update(store, key, record, b"small")
    assert not moved(counting)
    assert state_of(store, key) == b"small"


def test_a_server_that_compares_bytes_moves_only_what_was_extended_meanwhile(start_redis: StartServer) -> None:
    server = start_redis()
    store, counting = RedisStore.from_url(server.url), Counting(server.port)
    key, record = saved(store, OLD)
    update(store, key, record, NEW)
    assert not moved(counting)
    key, record = loaded(store, key)
    store.update_ttl(SessionKey(str(key)), timedelta(days=2))
    update(store, key, record, NEWER)
    assert moved(counting)
    assert state_of(store, key) == NEWER


def test_a_write_of_another_request_is_not_overwritten(store: RedisStore, admin: t.Any) -> None:
    key, record = saved(store, OLD)
    update(store, loaded(store, key)[0], record, NEW)
    with pytest.raises(SessionConflict) as caught:
        update(store, key, record, NEWER)
    assert caught.value.record is not None
    assert caught.value.record.state == {"a": NEW}
    assert state_of(store, key) == NEW
    assert len(admin.keys()) == 1


@pytest.mark.parametrize("end", ["ended", "lost", "expired", "another type"])
def test_what_went_does_not_come_back(end: str, store: RedisStore, admin: t.Any) -> None:
    key, record = saved(store, OLD)
    name = store.prefix + key.handle
    if end == "ended":
        store.delete(loaded(store, key)[0])
    elif end == "lost":
        store.drop(key.handle)
    elif end == "expired":
        StoreContract().pass_time(store, DAY.total_seconds() + 1)  # though the server still has it
    else:
        admin.delete(name)
        admin.lpush(name, "another program's")
    before = admin.type(name), admin.strlen(name) if end in ("ended", "expired") else None
    assert store.swap(key.handle, store._pack(key, record), DAY, replaces=record.revision) is False
    assert (admin.type(name), admin.strlen(name) if end in ("ended", "expired") else None) == before
    assert len(admin.keys()) == (0 if end == "lost" else 1)


def test_a_server_that_lost_the_script_gets_it_again(store: RedisStore, counting: Counting, admin: t.Any) -> None:
    key, record = saved(store, OLD)
    update(store, key, record, NEW)
    admin.script_flush()
    key, record = loaded(store, key)
    update(store, key, record, NEWER)
    assert state_of(store, key) == NEWER
    assert counting.sent("rename") == {"rename": 2}


def test_a_server_without_digests_gets_the_text(start_redis: StartServer) -> None:
    server = start_redis("redis7", rename_command=[("EVALSHA", "")])
    store = RedisStore.from_url(server.url)
    key, record = saved(store, OLD)
    update(store, key, record, NEW)
    assert state_of(store, key) == NEW
    assert moved(Counting(server.port))


def test_an_update_whose_reply_is_lost_is_stored_once(server: servers.RedisServer) -> None:
    def cut(wire: Wire, reply: bytes) -> None:
        proxy.harmed.append(wire)
        proxy.harm = Wire.deliver
        wire.cut()

    with Proxy(server.port, b"+OK\r\n:1\r\n", lambda reply: True) as proxy:
        store = RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}")
        browser = started(make_app(store), n=1, ballast="x" * 20_000)

        def count() -> None:
            session["n"] += 1

        browser.does(count)  # it brings the script to the server
        proxy.harm = cut
        assert browser.does(count).status_code == 200
        assert len(proxy.harmed) == 1
        assert browser.data["n"] == 3


def test_counters_of_many_threads_are_exact(store: RedisStore, counting: Counting, admin: t.Any) -> None:
    browser = started(make_app(store), n=0, ballast="x" * 10_000)
    visits, number = 15, 4

    def count() -> None:
        session.update_or("n", 1, lambda n: n + 1)

    def visit() -> None:
        twin = browser.twin()
        assert [twin.does(count).status_code for _ in range(visits)] == [200] * visits

    in_threads(number, visit)
    assert browser.data["n"] == visits * number
    assert counting.sent("rename")["rename"] == visits * number
    assert len(admin.keys()) == 1


# -- a crash between the two commands ------------------------------------------------------------------------------


@pytest.fixture
def left_over(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> SessionKey:
    """A session for which a request set a new record, and died before the script."""
    key, record = saved(store, OLD)

    def die(*commands: t.Any, **options: t.Any) -> None:
        store.client.execute_command(*commands[0])
        raise redis.exceptions.ConnectionError("it died")

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "execute_commands", die)
        with pytest.raises(StoreUnavailable):
            update(store, key, record, NEW)
    return key


def test_what_a_crash_leaves_expires_soon(left_over: SessionKey, store: RedisStore, admin: t.Any) -> None:
    beside, *more = set(admin.keys()) - {(store.prefix + left_over.handle).encode()}
    assert more == []
    assert 0 < admin.pttl(beside) <= 10_000
    assert state_of(store, left_over) == OLD
    update(store, *loaded(store, left_over), NEWER)
    assert state_of(store, left_over) == NEWER


def test_what_a_crash_leaves_counts_for_no_session(left_over: SessionKey, store: RedisStore, admin: t.Any) -> None:
    assert len(admin.keys()) == 2
    assert [entry.handle for entry in store.scan()] == [left_over.handle]
    assert store.prune() == 0
    assert store.taken([left_over.handle]) == {left_over.handle}
    for rest in [name.decode().removeprefix(store.prefix) for name in admin.scan_iter()]:
        ids = {session_ids.checked(rest, length) for length in range(len(rest))}
        assert ids == {None}  # Flask-Session's sessions are imported by their ids
    assert store.end(left_over.handle)
    with pytest.raises(SessionGone):
        store.load(left_over)


# -- where it cannot be done ---------------------------------------------------------------------------------------


def limited(server: servers.RedisServer, admin: t.Any, *rules: str) -> RedisStore:
    """A store whose user has all rights but for these rules."""
    admin.execute_command("ACL", "SETUSER", "shop", "on", ">secret", "+@all", *rules)
    return RedisStore.from_url(f"redis://shop:secret@127.0.0.1:{server.port}")


def test_an_acl_for_the_prefix_is_enough(server: servers.RedisServer, admin: t.Any, counting: Counting) -> None:
    store = limited(server, admin, "~session:*")
    key, record = saved(store, OLD)
    update(store, key, record, NEW)
    assert moved(counting)


@pytest.mark.parametrize("rules", [("~session:[0-9a-f]*",), ("~session:*", "-rename")], ids=["name", "command"])
def test_what_an_acl_forbids_is_tried_once(
    rules: tuple[str, ...], server: servers.RedisServer, admin: t.Any, counting: Counting
) -> None:
    store = limited(server, admin, *rules)
    key, record = saved(store, OLD)
    for state in (NEW, NEWER):
        update(store, key, record, state)
        key, record = loaded(store, key)
        assert record.state == {"a": state}
    assert not moved(counting)
    counting.reset()
    update(store, key, record, OLD)
    assert counting.sent("evalsha", "eval") == {"evalsha": 1}
    assert state_of(store, key) == OLD


def test_a_client_of_the_applications_gets_the_script(server: servers.RedisServer, counting: Counting) -> None:
    store = RedisStore(redis.Redis(port=server.port))
    key, record = saved(store, OLD)
    update(store, key, record, NEW)
    assert not moved(counting)
    assert state_of(store, key) == NEW


def test_a_proxy_that_keeps_names_on_several_servers_gets_the_script(start_redis: StartServer) -> None:
    with Twemproxy(start_redis("redis7"), start_redis("redis7")) as proxy:
        store = RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}")
        for _ in range(12):  # half of the names beside are on the other server
            key, record = saved(store, OLD)
            update(store, key, record, NEW)
            assert state_of(store, key) == NEW
        assert store._large is None


def test_on_a_full_server_an_update_is_refused_and_a_conflict_is_a_conflict(store: RedisStore, admin: t.Any) -> None:
    key, record = saved(store, OLD)
    other, _ = loaded(store, key)
    update(store, key, record, NEW)
    newest = loaded(store, key)
    admin.config_set("maxmemory", "100kb")
    with pytest.raises(SessionConflict):
        update(store, other, record, NEWER)
    with pytest.raises(StoreUnavailable, match="no memory"):
        update(store, *newest, NEWER)
    assert state_of(store, key) == NEW


# -- clusters and replicas -----------------------------------------------------------------------------------------


def unread(key: SessionKey) -> SessionKey:
    """The key without the bytes under it, so that revisions are compared."""
    return SessionKey(str(key))


@pytest.mark.parametrize("prefix", ["shop:", "{shop}:", "shop:{a}{b}", "sh}op:", "sh{op:", "{}shop:", "sh{}{op}:", ""])
def test_in_a_cluster_the_two_names_are_in_one_slot(prefix: str, cluster: RedisCluster) -> None:
    store = RedisStore.from_url(cluster.url, prefix=f"{uuid4()}{prefix}" if prefix else "")
    counting = Counting(*(primary.port for primary in cluster.primaries()))
    counting.reset()
    for _ in range(8):
        key, record = saved(store, OLD)
        update(store, unread(key), record, NEW)
        assert state_of(store, key) == NEW
        store.drop(key.handle)
    # Where the end of the tag is missing, or the tag is empty, no name beside can be in the same slot.
    possible = prefix not in ("sh}op:", "sh{op:", "{}shop:", "sh{}{op}:")
    assert counting.sent("rename") == ({"rename": 8} if possible else {})


@pytest.mark.parametrize("is_known", [False, True])
def test_while_a_slot_moves_large_records_are_written(is_known: bool, cluster: RedisCluster) -> None:
    """By the bytes that were read, and by the revision."""
    store = RedisStore.from_url(cluster.url, prefix=f"{uuid4()}:")
    key, _ = saved(store, OLD)
    name = store.prefix + key.handle
    slot, old = key_slot(name.encode()), cluster.owner(name)
    new = next(server for server in cluster.primaries() if server is not old)
    cluster.ask(new, "CLUSTER SETSLOT", slot, "IMPORTING", cluster.ask(old, "CLUSTER MYID"))
    cluster.ask(old, "CLUSTER SETSLOT", slot, "MIGRATING", cluster.ask(new, "CLUSTER MYID"))

    def write(state: bytes) -> None:
        own, record = loaded(store, key)
        update(store, own if is_known else unread(own), record, state)
        assert state_of(store, key) == state

    write(NEW)
    cluster.ask(old, "MIGRATE", "127.0.0.1", new.port, name, 0, 10_000)
    write(NEWER)
    for server in (new, old):
        cluster.ask(server, "CLUSTER SETSLOT", slot, "NODE", cluster.ask(new, "CLUSTER MYID"))
    write(OLD)
    assert store._large is not None
    write(NEW)
    until(cluster.settled)


def test_replicas_have_to_confirm_the_end_of_a_large_session(server: servers.RedisServer, counting: Counting) -> None:
    store = RedisStore.from_url(server.url, wait_replicas=1, wait_timeout=0.001)
    key, record = saved(store, OLD)
    update(store, key, record, NEW)
    assert counting.sent("rename", "wait") == {"rename": 1}
    with pytest.raises(StoreUnavailable, match="replicas"):
        store.delete(key)
    assert counting.sent("wait") != {}


# -- the contract, as if every record were large -------------------------------------------------------------------


class _Large(StoreContract):
    @pytest.fixture(autouse=True)
    def every_record_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_LARGE", 0)
        monkeypatch.setattr(clients, "_IFEQ_SINCE", {})


class TestOneServer(_Large):
    @pytest.fixture
    def store(self, shared_redis: t.Callable[[str], servers.RedisServer]) -> ServerSideStore:
        return RedisStore.from_url(shared_redis("redis7").url, prefix=f"{uuid4()}:")


class TestCluster(_Large):
    @pytest.fixture
    def store(self, cluster: RedisCluster) -> ServerSideStore:
        return RedisStore.from_url(cluster.url, prefix=f"{uuid4()}:")


def test_names_beside_differ_for_every_write() -> None:
    store = RedisStore.from_url("redis://127.0.0.1:1")
    names = {store._beside("session:" + "0" * 64, new_revision()) for _ in range(10)}
    assert len(names) == 10
    assert revision_of(store._pack(SessionKey.generate(), Record(revisions=(b"12345678",)))) == b"12345678"
