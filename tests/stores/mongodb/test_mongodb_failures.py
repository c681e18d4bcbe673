"""MongoDBStore with a server that is away, and in processes that fork."""

from __future__ import annotations

import contextlib
import gc
import os
import time
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from every_store import alive
from forks import FORKS, Fork, fork_in_c, in_a_child
from http_support import KEPT, fate, make_app, started
from memcached_server import NXServer
from mongodb_stores import new
from pymongo import MongoClient, errors
from pymongo.collection import Collection
from views import add_one
from waits import IN_TIME

from flask_sessionstore import Record, SessionConflict, SessionGone, SessionKey, SessionTooLarge, StoreUnavailable
from flask_sessionstore.stores import ServerSideStore, StoreFull
from flask_sessionstore.stores import mongodb as module
from flask_sessionstore.stores.mongodb import MongoDBStore
from flask_sessionstore.testing import later

DAY = timedelta(days=1)
Documents = Collection[dict[str, t.Any]]


@pytest.fixture
def start() -> Iterator[t.Callable[[], NXServer]]:
    """Start servers for this test alone."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(NXServer())


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "kind", "says"),
    [
        (errors.WTimeoutError("waiting for replication timed out", 64), StoreUnavailable, "confirm"),
        (errors.ExecutionTimeout("operation exceeded time limit", 50), StoreUnavailable, "in time"),
        (errors.NetworkTimeout("host:27017: timed out"), StoreUnavailable, "in time"),
        (errors.WaitQueueTimeoutError("no connection"), StoreUnavailable, "in use for too long"),
        (errors.ServerSelectionTimeoutError("host:27017: refused"), StoreUnavailable, "cannot be reached"),
        (errors.NotPrimaryError("not primary"), StoreUnavailable, "cannot be reached"),
        (errors.AutoReconnect("connection closed"), StoreUnavailable, "cannot be reached"),
        (errors.OperationFailure("Authentication failed for secret", 18), StoreUnavailable, "refused"),
        (errors.WriteError("Resulting document after update is larger", 17419), SessionTooLarge, "larger"),
        (errors.DocumentTooLarge("BSON document too large"), SessionTooLarge, "larger"),
        (errors.OperationFailure("Out of disk space", 14031), StoreFull, "room"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_whatever_pymongo_says_is_translated(cause: Exception, kind: type[Exception], says: str) -> None:
    """These need several servers, a full disk or more than nx-27017 does: only the translation is tried here."""

    def fail() -> t.NoReturn:
        raise cause

    with pytest.raises(kind, match=says) as caught:
        module.translated(fail)
    assert caught.value.__cause__ is cause
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("cause", "times"),
    [
        (errors.AutoReconnect("closed"), 2),
        (errors.NotPrimaryError("not primary"), 2),
        (errors.NetworkTimeout("timed out"), 1),
        (errors.ServerSelectionTimeoutError("none"), 1),
        (errors.OperationFailure("no", 13), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_met_a_lost_connection_is_sent_once_more(cause: Exception, times: int) -> None:
    calls = []

    def fail() -> t.NoReturn:
        calls.append(True)
        raise cause

    with pytest.raises(StoreUnavailable):
        module.translated(fail)
    assert len(calls) == times


OPERATIONS: dict[str, t.Callable[[ServerSideStore, SessionKey, Record], object]] = {
    "load": lambda store, key, record: store.load(key),
    "save": lambda store, key, record: store.save(record, DAY),
    "update": lambda store, key, record: store.update(key, later(record, {}), DAY, replaces=record.revision),
    "update_ttl": lambda store, key, record: store.update_ttl(key),
    "delete": lambda store, key, record: store.delete(key),
    "renew": lambda store, key, record: store.renew(key, record, DAY, replaces=record.revision),
    "drop": lambda store, key, record: store.drop(key.handle),
    "sweep": lambda store, key, record: t.cast("MongoDBStore", store).delete_expired(),
    "scan": lambda store, key, record: list(t.cast("MongoDBStore", store).scan()),
    "entries": lambda store, key, record: t.cast("MongoDBStore", store).entries("ann"),
}
IMPATIENT = "/test?serverSelectionTimeoutMS=1500&socketTimeoutMS=1000"


class Under(t.NamedTuple):
    """What one operation is tried on."""

    store: MongoDBStore
    key: SessionKey
    record: Record


def each_on_its_own(server: NXServer) -> dict[str, Under]:
    """A client and a session for every operation, connected."""
    stores = {operation: MongoDBStore.from_url(server.url + IMPATIENT) for operation in OPERATIONS}
    keys = {operation: store.save(Record(state={"a": b"1"}), DAY) for operation, store in stores.items()}
    return {
        operation: Under(store, keys[operation], alive(store, keys[operation])) for operation, store in stores.items()
    }


def failures_of(under: dict[str, Under]) -> dict[str, StoreUnavailable]:
    """How every operation fails, in time. All at once, for each of them waits."""

    def fail(operation: str) -> StoreUnavailable:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            OPERATIONS[operation](*under[operation])
        assert time.monotonic() - began < IN_TIME, operation
        return caught.value

    with ThreadPoolExecutor(len(under)) as threads:
        return dict(zip(under, threads.map(fail, under), strict=True))


@pytest.mark.long
def test_a_server_that_was_killed_is_unavailable_until_it_is_back(start: t.Callable[[], NXServer]) -> None:
    server = start()
    under = each_on_its_own(server)
    server.kill()
    for operation, error in failures_of(under).items():
        assert isinstance(error.__cause__, errors.PyMongoError), operation
        assert "127.0.0.1" not in str(error)
    server.start()
    for store, key, record in under.values():
        assert alive(store, key) == record


def test_a_server_that_does_not_answer_is_given_up_in_time(start: t.Callable[[], NXServer]) -> None:
    server = start()
    under = each_on_its_own(server)
    server.pause()
    failures_of(under)
    server.resume()
    for store, key, record in under.values():
        assert alive(store, store.save(record, DAY)).state == {"a": b"1"}
        with contextlib.suppress(SessionGone):
            found = store.load(key)  # what was under way may have arrived, but whole
            assert found is None or found.state in ({"a": b"1"}, {})


def test_a_restarted_server_costs_no_request(start: t.Callable[[], NXServer]) -> None:
    server = start()
    store = MongoDBStore.from_url(f"{server.url}/test")
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = alive(store, key)
    server.kill()
    server.start()
    store.update(key, later(record, {"a": b"2"}), DAY, replaces=record.revision)
    assert alive(store, key).state == {"a": b"2"}


def test_a_host_that_does_not_exist_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        MongoDBStore.from_url("mongodb://nowhere.invalid" + IMPATIENT).load(SessionKey.generate())


def test_a_document_over_the_limit_is_an_error_and_what_was_there_stays(store: MongoDBStore) -> None:
    """pymongo itself refuses it, by what the server says of itself."""
    key, record, _ = new(store)
    large = {"a": bytes(2**25)}
    with pytest.raises(SessionTooLarge):
        store.update(key, later(record, large), DAY, replaces=record.revision)
    with pytest.raises(SessionTooLarge):
        store.save(Record(state=large), DAY)
    assert alive(store, key) == record


def test_a_document_that_is_none_of_ours_is_corrupt(store: MongoDBStore, documents: Documents) -> None:
    for data in ("text", None, 5):
        documents.insert_one({"_id": f"session:{data}", "data": data})
        assert store.read(str(data)) == b""


# -- processes -------------------------------------------------------------------------------------------------------


def test_a_child_process_has_a_client_of_its_own(nx: NXServer) -> None:
    """pymongo's clients are not to be used across a fork: it warns, its locks may be held, and its threads are gone."""
    store = MongoDBStore.from_url(f"{nx.url}/test", prefix=f"{uuid4()}:")
    key = store.save(Record(state={"n": b"1"}), DAY)
    record = alive(store, key)
    assert in_a_child(lambda: store.update(key, later(record, {"n": b"2"}), DAY, replaces=record.revision)) == "done"
    with pytest.raises(SessionConflict):
        store.update(key, later(record, {"n": b"3"}), DAY, replaces=record.revision)
    assert alive(store, key).state == {"n": b"2"}


def test_a_client_is_made_at_first_use_and_again_in_a_child() -> None:
    """Not before: by then gevent may have replaced what locks are."""
    store = MongoDBStore.from_url("mongodb://127.0.0.1:1/test")
    assert store._collections.peek() is None
    client = store._collection.database.client
    assert client is store._collection.database.client

    def work() -> None:
        assert store._collection.database.client is not client

    for fork in (os.fork, fork_in_c):
        assert in_a_child(work, fork) == "done"


@pytest.mark.parametrize("fork", FORKS)
def test_a_function_is_called_at_first_use_and_again_in_a_child(fork: Fork) -> None:
    made: list[Documents] = []

    def make() -> Documents:
        made.append(MongoClient[dict[str, t.Any]]("mongodb://127.0.0.1:1", connect=False).test.made)
        return made[-1]

    store = MongoDBStore(make)
    assert made == []

    def work(times: int) -> None:
        assert [store._collection.name for _ in range(2)] == ["made"] * 2
        assert len(made) == times

    work(1)
    assert in_a_child(lambda: work(2), fork) == "done"
    work(1)


def test_a_collection_that_was_used_before_a_fork_in_c_is_refused_with_a_sentence(
    store: MongoDBStore, documents: Documents
) -> None:
    key = store.save(Record(state={"n": b"1"}), DAY)
    said = in_a_child(lambda: store.load(key), fork_in_c)
    assert said.startswith("ConfigurationError: MongoDBStore: this Collection's client was used before")
    assert alive(store, key).state == {"n": b"1"}


def test_a_collection_that_was_used_before_python_s_own_fork_works(store: MongoDBStore) -> None:
    """pymongo is told, makes all anew, and says that it may not be entirely safe."""
    key = store.save(Record(state={"n": b"1"}), DAY)

    def work() -> None:
        with pytest.warns(UserWarning, match="MongoClient opened before fork"):
            alive(store, key)

    assert in_a_child(work) == "done"


@pytest.mark.parametrize("fork", FORKS)
def test_a_collection_that_was_not_used_before_a_fork_is_as_good_as_made_after_it(fork: Fork) -> None:
    with MongoClient[dict[str, t.Any]]("mongodb://127.0.0.1:1", connect=False) as client:
        store = MongoDBStore(client.test.unused)

        def work() -> None:
            assert store._collection.database.client is client

        assert in_a_child(work, fork) == "done"


def test_a_store_that_goes_closes_its_client_in_its_own_process_only(nx: NXServer) -> None:
    store = MongoDBStore.from_url(f"{nx.url}/test", prefix=f"{uuid4()}:")
    key = store.save(Record(state={"n": b"1"}), DAY)
    collection, stores = store._collection, [store]
    del store

    def work() -> None:
        stores.clear()
        gc.collect()
        assert not collection.database.client._closed

    assert in_a_child(work, fork_in_c) == "done"
    alive(stores[0], key)
    stores.clear()
    with pytest.raises(errors.InvalidOperation):
        collection.find_one({})


# -- with Flask ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_requests_over_an_outage(start: t.Callable[[], NXServer]) -> None:
    """No cookie is lost, nothing half-written is seen, and no restart is needed."""
    server = start()
    app = make_app(MongoDBStore.from_url(server.url + IMPATIENT), TESTING=False, PROPAGATE_EXCEPTIONS=False)
    app.logger.disabled = True
    browser = started(app, n=1)
    key = browser.key
    for disturb, mend in ((server.pause, server.resume), (server.kill, server.start)):
        disturb()
        response = browser.does(add_one)
        assert (response.status_code, response.headers["Retry-After"], fate(response)) == (503, "5", KEPT)
        mend()
        browser.does(add_one)
        assert browser.key == key
    assert browser.data == {"n": 3}
