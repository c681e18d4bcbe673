"""MemcachedStore with servers that are away, and its connections."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import gc
import socket
import threading
import time
import typing as t
import weakref
from datetime import timedelta
from uuid import uuid4

import pytest
from every_store import alive
from forks import FORKS, Fork, in_a_child
from http_support import KEPT, Browser, fate, make_app, started
from memcached_server import MemcachedServer
from memcached_stores import Watched
from pymemcache import Client, HashClient
from views import add_one

from flask_sessionstore import (
    ConfigurationError,
    Record,
    SessionConflict,
    SessionCorrupt,
    SessionGone,
    SessionKey,
    SessionTooLarge,
    StoreUnavailable,
    session,
)
from flask_sessionstore.layout import pack
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memcached import MemcachedStore
from flask_sessionstore.testing import later

DAY = timedelta(days=1)
StartServer = t.Callable[..., MemcachedServer]


# -- failures --------------------------------------------------------------------------------------------------------


OPERATIONS: dict[str, t.Callable[[ServerSideStore, SessionKey, Record], object]] = {
    "load": lambda store, key, record: store.load(key),
    "save": lambda store, key, record: store.save(record, DAY),
    "update": lambda store, key, record: store.update(key, later(record, {}), DAY, replaces=record.revision),
    "update_ttl": lambda store, key, record: store.update_ttl(key),
    "delete": lambda store, key, record: store.delete(key),
    "renew": lambda store, key, record: store.renew(key, record, DAY, replaces=record.revision),
    "drop": lambda store, key, record: store.drop(key.handle),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("servers", [1, 2])
def test_a_server_that_was_killed_is_unavailable_until_it_is_back(
    servers: int, operation: str, start: StartServer
) -> None:
    running = [start() for _ in range(servers)]
    url = "memcached://" + ",".join(f"127.0.0.1:{server.port}" for server in running)
    store = MemcachedStore.from_url(url)
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = alive(store, key)
    for server in running:
        server.kill()
    for _ in range(5):  # it is never taken for "there is no session", however often it is asked
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
            OPERATIONS[operation](store, key, record)
        assert isinstance(caught.value.__cause__, OSError)
        assert "127.0.0.1" not in str(caught.value)
    for server in running:
        server.start()
    assert store.load(key) is None
    assert alive(store, store.save(record, DAY)).state == {"a": b"1"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_that_does_not_answer_is_given_up_in_time(operation: str, start: StartServer) -> None:
    server = start()
    store = MemcachedStore.from_url(f"{server.url}?timeout=0.5")
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = alive(store, key)
    server.pause()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="in time"):
        OPERATIONS[operation](store, key, record)
    assert time.monotonic() - began < 2
    server.resume()
    assert alive(store, store.save(record, DAY)).state == {"a": b"1"}
    with contextlib.suppress(SessionGone):
        found = store.load(key)  # what was under way may have arrived, but whole
        assert found is None or found.state in ({"a": b"1"}, {})


def test_a_reply_is_never_taken_for_anothers(start: StartServer) -> None:
    server = start()
    store = MemcachedStore.from_url(f"{server.url}?timeout=0.5")
    one, two = (store.save(Record(state={"a": value}), DAY) for value in (b"one", b"two"))
    server.pause()
    with pytest.raises(StoreUnavailable):
        store.load(one)
    server.resume()
    assert alive(store, two).state == {"a": b"two"}


def test_an_interrupted_read_leaves_no_reply_behind(memcached: MemcachedServer) -> None:
    """pymemcache itself keeps a connection on which an exception like KeyboardInterrupt left a reply."""
    interrupt = threading.Event()

    class Interrupted(Client):  # type: ignore[misc]  # pymemcache has no types
        def _extract_value(self, *args: t.Any) -> t.Any:
            if interrupt.is_set():
                interrupt.clear()
                raise KeyboardInterrupt
            return super()._extract_value(*args)

    store = MemcachedStore(Interrupted(("127.0.0.1", memcached.port)), prefix=f"{uuid4()}:")
    one, two = (store.save(Record(state={"a": value}), DAY) for value in (b"one", b"two"))
    interrupt.set()
    with pytest.raises(KeyboardInterrupt):
        store.load(one)
    assert alive(store, two).state == {"a": b"two"}


def test_a_restarted_server_costs_no_request(start: StartServer) -> None:
    server = start()
    store = MemcachedStore.from_url(server.url)
    store.save(Record(state={"a": b"1"}), DAY)
    server.kill()
    server.start()
    assert store.load(store.save(Record(state={"a": b"1"}), DAY)) is not None


@pytest.mark.long
def test_a_session_does_not_move_to_another_server_and_back(start: StartServer) -> None:
    """Else what was ended while its server was away would be alive again afterwards."""
    servers = [start(), start()]
    hosts = [("127.0.0.1", server.port) for server in servers]
    store = MemcachedStore(HashClient(hosts, retry_attempts=0, timeout=0.5, ignore_exc=True))
    keys = [store.save(Record(state={"a": b"1"}), DAY) for _ in range(20)]
    servers[0].pause()
    there, away = [], []
    for key in keys:
        try:
            store.delete(key)
            there.append(key)
        except StoreUnavailable:
            away.append(key)
    assert there
    assert away
    servers[0].resume()
    for key in there:
        with pytest.raises(SessionGone):
            store.load(key)
    assert [alive(store, key).state for key in away] == [{"a": b"1"}] * len(away)


def test_what_is_no_memcached_is_unavailable() -> None:
    """Something else answers on that port. It is asked twice, for a reply may have been another command's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for text in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"VALUE\r\n", b"VALUE other 0 1 1\r\nx\r\nEND\r\n"):
                for _ in range(2):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1000)
                        connection.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        store = MemcachedStore.from_url(f"memcached://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="Memcached refused a command"):
                store.load(SessionKey.generate())
        with pytest.raises(SessionCorrupt):  # an item of another name is damage, wherever it comes from
            store.load(SessionKey.generate())
        thread.join()


# -- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_process_has_connections_of_its_own(fork: Fork, memcached: MemcachedServer) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    keys = [store.save(Record(state={"n": value}), DAY) for value in (b"parent", b"child")]

    def read(number: int) -> None:
        answers = collections.Counter(alive(store, keys[number]).state["n"] for _ in range(200))
        assert answers == {(b"parent", b"child")[number]: 200}, answers

    read(0)
    assert in_a_child(lambda: read(1), fork, meanwhile=lambda: read(0)) == "done"
    read(0)


def test_a_child_process_may_write_what_its_parent_has_read(memcached: MemcachedServer) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    key = store.save(Record(state={"n": b"1"}), DAY)
    record = alive(store, key)
    newer = later(record, {"n": b"2"})
    assert in_a_child(lambda: store.update(key, newer, DAY, replaces=record.revision)) == "done"
    assert alive(store, key).state == {"n": b"2"}


def test_threads_share_as_many_connections_as_there_may_be(memcached: MemcachedServer, client: Client) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:", max_connections=3)
    key = store.save(Record(state={"n": b"1"}), DAY)
    before = int(client.stats()[b"total_connections"])
    threads = [threading.Thread(target=alive, args=(store, key)) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int(client.stats()[b"total_connections"]) - before <= 2


def test_who_finds_no_connection_free_waits_as_long_as_for_an_answer(watched: MemcachedStore) -> None:
    asking, released = threading.Event(), threading.Event()
    client = Watched(watched._servers.of("").template.server, timeout=0.3)
    store = MemcachedStore(client, prefix=watched.prefix, max_connections=1)
    key = store.save(Record(state={"n": b"1"}), DAY)

    def wait() -> None:
        asking.set()
        released.wait(30)

    Watched.before["gets"] = wait
    thread = threading.Thread(target=alive, args=(store, key))
    thread.start()
    asking.wait(30)
    with pytest.raises(StoreUnavailable, match="see max_connections"):
        store.load(key)
    released.set()
    thread.join()
    assert alive(store, key).state == {"n": b"1"}


def test_no_connection_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_connections") as caught:
        MemcachedStore.from_url("memcached://127.0.0.1", max_connections=0)
    assert caught.value.key == "SESSION_STORE_OPTIONS"


@pytest.mark.parametrize(("disturb", "says"), [("kill", "cannot be reached"), ("pause", "in time")])
def test_what_cannot_connect_or_is_not_answered_is_not_tried_again(
    disturb: str, says: str, start: StartServer, watched: MemcachedStore
) -> None:
    server = start()
    store = MemcachedStore(Watched(("127.0.0.1", server.port), timeout=0.3))
    getattr(server, disturb)()
    Watched.sent.clear()
    with pytest.raises(StoreUnavailable, match=says):
        store.load(SessionKey.generate())
    assert Watched.sent == ["gets"]


def test_a_record_of_another_is_asked_for_once_more_and_then_returned(watched: MemcachedStore, client: Client) -> None:
    one, two = (watched.save(Record(state={"a": value}), DAY) for value in (b"one", b"two"))
    names = [watched.prefix + key.handle for key in (one, two)]
    other, own = client.get(names[1]), client.get(names[0])
    client.set(names[0], other)
    Watched.sent.clear()
    assert watched.read(one.handle) == other
    assert Watched.sent == ["gets", "gets"]
    # And if it was a reply that had lost its way, the right one is.
    Watched.before["gets"] = lambda: Watched.before.update(gets=lambda: client.set(names[0], own))
    assert watched.read(one.handle) == own


# -- what was read last ----------------------------------------------------------------------------------------------


def test_a_mark_of_another_store_counts_for_nothing(start: StartServer) -> None:
    """Each server counts by itself, so that two may have the same marks for different things."""
    stores = [MemcachedStore.from_url(start().url) for _ in range(2)]
    name = SessionKey.generate().handle
    records = [pack(Record(state={"a": b"1"}).written(int(time.time() * 1000), DAY), name) for _ in range(3)]
    for store, record in zip(stores, records, strict=False):
        assert store.add(name, record, DAY)
    assert stores[0].read(name) == records[0]
    assert not stores[1].swap(name, records[2], DAY, replaces=records[0][2:10])
    assert stores[1].read(name) == records[1]


def test_a_mark_that_is_old_costs_a_round_trip_and_nothing_else(watched: MemcachedStore) -> None:
    key = watched.save(Record(state={"a": b"1"}), DAY)
    record = alive(watched, key)
    inherited = contextvars.copy_context()  # as a task, or a child process, does
    newer = later(record, {"a": b"2"})
    watched.update(key, newer, DAY, replaces=record.revision)
    Watched.sent.clear()
    with pytest.raises(SessionConflict):
        inherited.run(watched.update, key, later(record, {"a": b"3"}), DAY, replaces=record.revision)
    assert Watched.sent == ["cas", "gets", "gets"]  # the last for what stands there
    assert alive(watched, key).state == {"a": b"2"}


def test_what_was_read_last_keeps_no_store_alive(memcached: MemcachedServer) -> None:
    store = MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:")
    alive(store, store.save(Record(state={"a": b"1"}), DAY))
    gone = weakref.ref(store)
    gc.disable()
    try:
        del store
        assert gone() is None
    finally:
        gc.enable()


# -- with Flask ------------------------------------------------------------------------------------------------------


def test_requests_over_an_outage(start: StartServer) -> None:
    """No cookie is lost, nothing half-written is seen, and no restart is needed."""
    server = start()
    app = make_app(MemcachedStore.from_url(f"{server.url}?timeout=0.5"), TESTING=False, PROPAGATE_EXCEPTIONS=False)
    app.logger.disabled = True
    browser = started(app, n=1)
    key = browser.key
    server.pause()
    response = browser.does(add_one)
    assert (response.status_code, response.headers["Retry-After"], fate(response)) == (503, "5", KEPT)
    server.resume()
    browser.does(add_one)
    assert browser.key == key
    assert browser.data == {"n": 2}
    server.kill()
    assert browser.does(add_one).status_code == 503
    assert browser.key == key
    server.start()  # it comes back empty: a new session for everybody
    assert Browser(app).does(add_one).status_code == 200
    assert browser.does(add_one).status_code == 200
    assert browser.data == {"n": 1}


def test_a_session_beyond_the_limit_is_an_error_in_the_view(memcached: MemcachedServer) -> None:
    app = make_app(MemcachedStore.from_url(memcached.url, prefix=f"{uuid4()}:"), SESSION_MAX_SIZE=2**30)
    browser = started(app, n=1)
    with pytest.raises(SessionTooLarge):
        browser.does(lambda: session.update(large="x" * 2**20))
    assert browser.data == {"n": 1}
