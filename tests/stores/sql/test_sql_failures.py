"""SQLAlchemyStore with database servers that go away, hang or die."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t
from datetime import timedelta
from uuid import uuid4

import pytest
from flask import session
from http_support import make_app
from overlapping import in_threads
from sql_servers import DATABASES, DatabaseServer
from sql_stores import connect_at_once, open_store, operations
from waits import IN_TIME

from flask_sessionstore import Record, SessionConflict, StoreUnavailable
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import later

DAY = timedelta(days=1)


@pytest.fixture(params=DATABASES, scope="module")
def frail_server(request: pytest.FixtureRequest) -> t.Iterator[DatabaseServer]:
    """A server to be paused or killed."""
    with DATABASES[request.param]() as server:
        yield server


@pytest.fixture
def own_server(frail_server: DatabaseServer) -> DatabaseServer:
    """That server, running, whatever another test has left."""
    frail_server.resume()
    if not frail_server.running:
        frail_server.start()
    return frail_server


@pytest.fixture
def own_store(own_server: DatabaseServer) -> t.Iterator[SQLAlchemyStore]:
    store = open_store(own_server.url, prefix=f"{uuid4()}:")
    store.create_schema()
    yield store
    store.engine.dispose()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_is_down_and_back(own_server: DatabaseServer, own_store: SQLAlchemyStore, end: str) -> None:
    """Each operation says so, and the next one works when it can, without a restart of ours."""
    key = own_store.save(Record(state={"a": b"1"}), DAY)
    getattr(own_server, end)()
    for call in operations(own_store).values():
        with pytest.raises(StoreUnavailable):
            call()
    own_server.start()
    assert own_store.load(key) is not None


def test_a_restart_between_requests_is_not_noticed(own_server: DatabaseServer, own_store: SQLAlchemyStore) -> None:
    key = own_store.save(Record(state={"a": b"1"}), DAY)
    for call in operations(own_store).values():
        own_server.stop()
        own_server.start()
        call()
    assert own_store.load(key) is not None


def test_a_restart_is_not_noticed_by_many_either(own_server: DatabaseServer, own_store: SQLAlchemyStore) -> None:
    """Not one of the connections that were kept is any good."""
    key = own_store.save(Record(state={"a": b"1"}), DAY)
    connect_at_once(own_store, 5)
    own_server.stop()
    own_server.start()
    for _ in range(5):
        assert own_store.load(key) is not None
    in_threads(5, lambda: own_store.load(key))


@pytest.mark.long
def test_a_server_that_does_not_answer_is_given_up_in_time(
    own_server: DatabaseServer, own_store: SQLAlchemyStore
) -> None:
    """With a connection and without one; and a late reply is never taken for another's."""
    one = own_store.save(Record(state={"a": b"one"}), DAY)
    two = own_store.save(Record(state={"a": b"two"}), DAY)
    with own_server.hanging():
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                own_store.load(one)
            assert time.monotonic() - started < IN_TIME
    assert t.cast("Record", own_store.load(two)).state == {"a": b"two"}


@pytest.mark.long
def test_whatever_is_asked_of_a_server_that_hangs_is_given_up_in_time(
    own_server: DatabaseServer, own_store: SQLAlchemyStore
) -> None:
    key = own_store.save(Record(state={"a": b"1"}, owner="ann"), DAY)
    record = t.cast("Record", own_store.load(key))
    calls: list[t.Callable[[], object]] = [
        lambda: own_store.load(key),
        lambda: own_store.save(Record(state={"a": b"2"}), DAY),
        lambda: own_store.update(key, later(record, {"a": b"3"}), DAY, replaces=record.revision),
        lambda: own_store.update_ttl(key),
        lambda: own_store.renew(key, later(record, {"a": b"4"}), DAY, replaces=record.revision),
        lambda: own_store.delete(key),
        lambda: own_store.drop(key.handle),
        lambda: own_store.entries("ann"),
        lambda: list(own_store.scan()),
        own_store.delete_expired,
        own_store.create_schema,
    ]
    took: list[float] = []

    def give_up(call: t.Callable[[], object]) -> None:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            call()
        took.append(time.monotonic() - started)

    threads = [threading.Thread(target=give_up, args=(call,)) for call in calls * 2]  # more than the pool's connections
    with own_server.hanging():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(took) == len(threads)
    assert max(took) < IN_TIME
    own_store.load(key)


def test_a_server_killed_in_the_middle_loses_nothing_that_it_confirmed(
    own_server: DatabaseServer, own_store: SQLAlchemyStore
) -> None:
    """Several count by compare-and-set while it is killed and comes back: every count confirmed is there."""
    key = own_store.save(Record(state={"n": b"0"}), DAY)
    confirmed: list[int] = []
    news, done = threading.Condition(), threading.Event()

    def count() -> None:
        while not done.is_set():
            with contextlib.suppress(StoreUnavailable, SessionConflict):
                record = t.cast("Record", own_store.load(key))
                number = int(record.state["n"]) + 1
                state = {"n": str(number).encode()}
                own_store.update(key, later(record, state), DAY, replaces=record.revision)
                with news:
                    confirmed.append(number)
                    news.notify()

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            with news:
                enough = len(confirmed) + 20
                assert news.wait_for(lambda: len(confirmed) >= enough, timeout=60)  # noqa: B023  - called at once
            own_server.kill()
            own_server.start()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(set(confirmed)) == len(confirmed)
    assert int(t.cast("Record", own_store.load(key)).state["n"]) >= max(confirmed)


def test_visitors_keep_their_cookies(own_server: DatabaseServer, own_store: SQLAlchemyStore) -> None:
    """Over HTTP: a 503 without a cookie while it is down, and everything as before afterwards."""
    app = make_app(own_store, TESTING=False)
    browser = app.test_client()

    def visit() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    def get() -> t.Any:
        return browser.get("/", environ_overrides={"tests.action": visit})

    assert get().text == "1"
    for end in (own_server.stop, own_server.kill):
        end()
        response = get()
        assert (response.status_code, response.headers.getlist("Set-Cookie")) == (503, [])
        own_server.start()
    assert get().text == "2"
