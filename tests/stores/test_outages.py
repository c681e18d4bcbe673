"""Real servers that hang, are killed, and come back: who waits, who does not, and who is asked all the same."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t
from uuid import uuid4

import pytest
import sqlalchemy as sa
from flask import Flask
from http_support import DELETED, KEPT, SET, Action, Browser, fate, sessions_of, started
from live import is_unavailable, live_app
from memcached_server import MemcachedServer, NXServer
from redis_clusters import until
from servers import RedisServer, Server, StartServer, program
from sql_servers import DATABASES
from views import clear, nothing, purge, read, renew, sign_in, write

from flask_sessionstore import SessionKey, StoreUnavailable, session, signals
from flask_sessionstore.stores import HasSchema, ServerSideStore, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import Clock

#: Seconds: no test waits for the end of the first, and nobody notices the second.
LONG, SHORT = 3600, 0.001
NOT_ASKED = "the session store has not answered in time, and is not asked again for a moment"

SharedRedis = t.Callable[[str], RedisServer]
SERVERS: dict[str, t.Callable[[], Server]] = {
    "redis": lambda: RedisServer(program("valkey9")),
    "memcached": MemcachedServer,
    "mongodb": NXServer,
    **DATABASES,
}
#: The others take longer to start, and have longer time-outs.
NAMES = [name if name == "redis" else pytest.param(name, marks=pytest.mark.long) for name in SERVERS]
every_server = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def server(name: str) -> t.Iterator[Server]:
    with SERVERS[name]() as server:
        yield server


def store_at(server: Server) -> ServerSideStore:
    url: str = server.url  # type: ignore[attr-defined]  # these have one
    store = t.cast("ServerSideStore", from_url(f"{url}/test" if url.startswith("mongodb") else url))
    if (schema := store.ability(HasSchema)) is not None:
        schema.create_schema()
    return store


class Told:
    """What an application is told about its store."""

    def __init__(self, app: Flask) -> None:
        self.failures: list[StoreUnavailable] = []
        self.recoveries = 0
        signals.store_failed.connect(self._failed, app)
        signals.store_recovered.connect(self._recovered, app)

    def _failed(self, sender: Flask, error: StoreUnavailable) -> None:
        self.failures.append(error)

    def _recovered(self, sender: Flask) -> None:
        self.recoveries += 1


def hang(*browsers: Browser) -> None:
    """Let these wait for a time-out, at the same time."""
    threads = [threading.Thread(target=browser.does, args=(read,)) for browser in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def pretend_to_hang(store: ServerSideStore) -> None:
    """Let the store believe that its engine hangs, without waiting for that."""

    def time_out() -> None:
        raise StoreUnavailable("no answer", lost="timed out")

    assert store.contact is not None
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.contact.ask(time_out)


def message(told: Told) -> str:
    return str(told.failures[-1])


@every_server
def test_a_server_that_hangs_is_asked_by_nobody_but_ends_and_sign_ins(server: Server) -> None:
    app = live_app(store_at(server), SESSION_OUTAGE_PAUSE=LONG)
    browsers, told = [started(app, a=number) for number in range(4)], Told(app)
    with server.hanging():
        hang(*browsers[:2])
        assert [error.lost for error in told.failures] == ["timed out"] * 2
        for browser in browsers:
            assert is_unavailable(browser.does(read))
            assert message(told) == NOT_ASKED
            assert browser.does(nothing).status_code == 200
        assert is_unavailable(Browser(app).does(write))
        assert message(told) == NOT_ASKED
        response = browsers[3].does(purge)
        assert (is_unavailable(response), fate(response)) == (True, DELETED)
        assert message(told) != NOT_ASKED
    assert is_unavailable(browsers[0].does(read))
    assert message(told) == NOT_ASKED
    response = browsers[0].does(clear)
    assert (response.status_code, fate(response)) == (200, DELETED)
    assert told.recoveries == 1
    assert [browser.data["a"] for browser in browsers[1:3]] == [1, 2]


@every_server
def test_when_it_goes_on_the_next_to_ask_is_answered(server: Server) -> None:
    app = live_app(store_at(server), SESSION_OUTAGE_PAUSE=SHORT)
    browsers, told = [started(app, a=number) for number in range(3)], Told(app)
    with server.hanging():
        hang(*browsers)
    assert until(lambda: browsers[2].does(read).status_code == 200)
    assert told.recoveries == 1
    assert [browser.data["a"] for browser in browsers] == [0, 1, 2]


@every_server
def test_a_server_that_is_killed_is_used_as_soon_as_it_is_back(server: Server) -> None:
    app = live_app(store_at(server), SESSION_OUTAGE_PAUSE=SHORT)
    browser, told = started(app, a=1), Told(app)
    server.kill()
    for _ in range(3):
        assert is_unavailable(browser.does(read))
        assert told.failures[-1].lost is not None
    server.start()
    assert until(lambda: Browser(app).does(write).status_code == 200)
    assert told.recoveries == 1


def test_a_server_that_is_not_there_is_asked_every_time(start_redis: StartServer) -> None:
    """That costs nobody any time."""
    server = start_redis()
    app = live_app(store_at(server), SESSION_OUTAGE_PAUSE=LONG)
    browser, told = started(app, a=1), Told(app)
    server.kill()
    for _ in range(3):
        assert is_unavailable(browser.does(read))
        assert (told.failures[-1].lost, message(told)) == ("unreachable", "Redis cannot be reached")


def test_what_asks_no_server_does_not_tell_that_it_answers_again(start_redis: StartServer) -> None:
    server = start_redis()
    store = store_at(server)
    app = live_app(store)
    browser, told = started(app, a=1), Told(app)
    server.kill()
    assert is_unavailable(browser.does(read))
    for ask in (store.risks, store.exposures):
        with contextlib.suppress(StoreUnavailable):
            ask()
    assert told.recoveries == 0


@pytest.mark.long
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_is_killed_while_it_hangs_is_used_as_soon_as_it_is_back(server: Server) -> None:
    app = live_app(store_at(server), SESSION_OUTAGE_PAUSE=SHORT)
    browsers, told = [started(app, a=number) for number in range(2)], Told(app)
    server.pause()
    hang(*browsers)
    server.kill()
    assert is_unavailable(browsers[0].does(read))
    server.start()
    assert until(lambda: Browser(app).does(write).status_code == 200)
    assert told.recoveries == 1


@pytest.mark.parametrize(
    "view",
    [
        sign_in,
        clear,
        purge,
        renew,
        lambda: session.pop("_user_id", None),
        lambda: session.update(_user_id="eve"),
        lambda: session.update({"first": 1, "_user_id": "eve"}),
        lambda: session.update(first=1, _user_id="eve"),
        lambda: session.update([("first", 1)], _user_id="eve"),
        lambda: session.update_or("_user_id", "eve", lambda user: "eve"),
        lambda: session.setdefault("_user_id", "eve"),
        lambda: session.remove_as("_user_id", str),
    ],
)
def test_who_signs_in_or_out_asks_a_store_that_has_hung(view: Action, shared_redis: SharedRedis) -> None:
    store = store_at(shared_redis("valkey9"))
    app = live_app(store, SESSION_OUTAGE_PAUSE=LONG)
    browser, other = started(app, _user_id="bob"), started(app, a=1)
    pretend_to_hang(store)
    assert is_unavailable(browser.does(read))
    assert browser.does(view).status_code == 200
    assert other.data == {"a": 1}


def test_who_signs_in_for_the_first_time_asks_and_who_fills_a_cart_does_not(shared_redis: SharedRedis) -> None:
    store = store_at(shared_redis("valkey9"))
    app = live_app(store, SESSION_OUTAGE_PAUSE=LONG)
    pretend_to_hang(store)
    assert is_unavailable(Browser(app).does(write))
    assert fate(Browser(app).does(sign_in)) == SET


@pytest.mark.server
def test_sentinels_that_do_not_answer_hang() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = from_url(f"redis+sentinel://127.0.0.1:{silent.getsockname()[1]}/primary")
        assert store.contact is not None
        store.contact.pause = LONG
        found = []
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as caught:
                store.load(SessionKey.generate())
            found.append((caught.value.lost, str(caught.value) == NOT_ASKED))
        assert found == [("timed out", False), ("timed out", False), ("timed out", True)]


def test_a_receiver_that_fails_does_not_fail_the_call_that_found_the_store_well(shared_redis: SharedRedis) -> None:
    store = store_at(shared_redis("valkey9"))
    assert store.contact is not None

    def fail(_: object) -> None:
        raise RuntimeError

    listener = Clock()
    store.contact.listen(listener, fail)
    pretend_to_hang(store)
    assert store.load(SessionKey.generate()) is None


def test_revoking_asks_and_listing_does_not(shared_redis: SharedRedis) -> None:
    store, owner = store_at(shared_redis("valkey9")), uuid4().hex
    app = live_app(store, SESSION_OUTAGE_PAUSE=LONG)
    handle = started(app, _user_id=owner).asks(lambda: session.handle)
    started(app, _user_id=owner)
    sessions = sessions_of(app)
    with app.app_context():
        pretend_to_hang(store)
        with pytest.raises(StoreUnavailable, match="not asked"):
            sessions.find(owner)
        assert sessions.revoke(handle)
        pretend_to_hang(store)
        assert sessions.revoke_all(owner) == 1
        assert sessions.find(owner) == []


def test_an_extension_that_nobody_asked_for_waits_for_nobody(shared_redis: SharedRedis, clock: Clock) -> None:
    store = store_at(shared_redis("valkey9"))
    store.clock = clock
    app = live_app(store, SESSION_OUTAGE_PAUSE=LONG, SESSION_PERMANENT=True)
    browser = started(app, a=1)
    clock.advance(minutes=5)
    pretend_to_hang(store)
    response = browser.does(nothing)
    assert (response.status_code, fate(response)) == (200, KEPT)
    with pytest.raises(StoreUnavailable, match="not asked"):
        store.read("0" * 64)


@pytest.mark.long
@pytest.mark.parametrize("name", DATABASES)
def test_a_locked_row_starts_no_pause(server: Server) -> None:
    store = t.cast("SQLAlchemyStore", store_at(server))
    app = live_app(store, SESSION_OUTAGE_PAUSE=LONG)
    held, other, told = started(app, a=1), started(app, a=2), Told(app)
    handle = held.asks(lambda: session.handle)
    engine = sa.create_engine(store.engine.url)
    with engine.begin() as connection:
        row = sa.select(store.table).where(store.table.c.handle == handle).with_for_update()
        assert connection.execute(row).all()
        for _ in range(2):
            assert is_unavailable(held.does(lambda: session.update(a=3)))
            assert told.failures[-1].lost is None
        assert other.does(write).status_code == 200
        assert held.data == {"a": 1}
    engine.dispose()
    assert told.recoveries == 0


def test_what_the_cache_has_is_served_while_the_store_hangs(shared_redis: SharedRedis, clock: Clock) -> None:
    store = store_at(shared_redis("valkey9"))
    store.clock = clock
    app = live_app(CachingStore(MemoryStore(), store), SESSION_OUTAGE_PAUSE=LONG)
    browser, other = started(app, a=1), started(app, a=2)
    pretend_to_hang(store)
    assert browser.data == {"a": 1}
    assert is_unavailable(other.does(write))
    assert browser.data == {"a": 1}
