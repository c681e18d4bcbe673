"""Redis that is not there, hangs or is full: what the browser gets then."""

from __future__ import annotations

import contextlib
import socket
import time
import typing as t

import pytest
import redis
from flask import Flask
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, started
from live import is_unavailable, live_app, store_on
from servers import StartServer
from views import clear, nothing, purge, read, renew, sign_in, write
from werkzeug.test import TestResponse

from flask_sessionstore import session
from flask_sessionstore.stores import from_url
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


def read_and_purge() -> None:
    read()
    purge()


# -- Redis that is not there -----------------------------------------------------------------------------------------


def _in_time(action: t.Callable[[], TestResponse], seconds: float) -> TestResponse:
    start = time.monotonic()
    response = action()
    assert time.monotonic() - start < seconds
    return response


@contextlib.contextmanager
def _closed_port() -> t.Iterator[int]:
    """A port that is ours and where nobody listens."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@pytest.mark.redis
def test_where_nobody_listens_it_fails_at_once() -> None:
    with _closed_port() as port:
        store = from_url(f"redis://127.0.0.1:{port}/0")
        cookie = started(make_app(MemoryStore()), a=1).cookies
        app = live_app(store)
        for view in (read, write, clear):
            browser = Browser(app, *cookie)
            response = _in_time(lambda: browser.does(view), 1)  # noqa: B023  - called at once
            assert (is_unavailable(response), fate(response)) == (True, KEPT)
        assert fate(_in_time(lambda: Browser(app, *cookie).does(purge), 1)) == DELETED
        assert is_unavailable(Browser(app).does(write))
        assert Browser(app, *cookie).does(nothing).status_code == 200
        assert Browser(app).does(read).status_code == 200


@pytest.mark.redis
def test_where_connections_are_not_taken_it_fails_in_time() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):  # fill the queue, so that the system answers nobody any more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0?socket_connect_timeout=0.2&socket_timeout=0.2"
        assert is_unavailable(_in_time(lambda: Browser(live_app(from_url(url))).does(write), 1.5))


def test_a_server_that_died_and_came_back_is_used_again(start_redis: StartServer) -> None:
    server = start_redis()
    app = live_app(store_on(server))
    browser = started(app, a=1)
    server.kill()
    for _ in range(2):
        response = _in_time(lambda: browser.does(read), 1)
        assert (is_unavailable(response), fate(response)) == (True, KEPT)
    assert browser.does(nothing).status_code == 200
    server.start()
    assert fate(browser.does(read)) == KEPT  # it came back empty
    assert fate(browser.does(write)) == SET
    assert browser.does(lambda: session.update(a=3)).status_code == 200  # its scripts have gone, too
    assert browser.data == {"a": 3}


@pytest.mark.parametrize("view", [write, clear, sign_in, lambda: session.pop("a")])
def test_a_server_that_dies_between_load_and_write(view: Action, start_redis: StartServer) -> None:
    server = start_redis()
    browser = started(live_app(store_on(server)), a=1)

    def dying() -> None:
        read()
        server.kill()
        view()

    response = _in_time(lambda: browser.does(dying), 2)
    assert (is_unavailable(response), fate(response)) == (True, KEPT)


def test_a_lost_connection_is_made_again_unnoticed(start_redis: StartServer) -> None:
    server = start_redis()
    browser = started(live_app(store_on(server)), a=1)
    with redis.Redis(port=server.port) as admin:
        for view in (read, write, clear):
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert browser.does(view).status_code == 200
    assert browser.cookies == []


def test_a_server_that_hangs_is_waited_for_two_seconds_and_no_answer_is_mistaken(start_redis: StartServer) -> None:
    server = start_redis()
    app = live_app(store_on(server))
    browsers = [started(app, a=number) for number in range(3)]
    with server.hanging():
        assert is_unavailable(_in_time(lambda: browsers[0].does(read), 4))
        assert browsers[0].does(nothing).status_code == 200
    assert [browser.data for browser in browsers] == [{"a": 0}, {"a": 1}, {"a": 2}]


def test_a_time_out_in_the_url_is_kept_to(start_redis: StartServer) -> None:
    server = start_redis()
    browser = started(live_app(store_on(server, socket_timeout="0.1")), a=1)

    def hanging() -> None:
        read()
        server.pause()
        write()

    try:
        response = _in_time(lambda: browser.does(hanging), 1)
    finally:
        server.resume()
    assert (is_unavailable(response), fate(response)) == (True, KEPT)
    assert browser.data["a"] in (1, 2)  # what was sent may have arrived when it went on


@pytest.mark.parametrize("password", ["", ":wrong-password@"])
def test_a_wrong_password_is_a_503_that_does_not_show_it(
    password: str, start_redis: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis(requirepass="right-password")
    app = live_app(from_url(f"redis://{password}127.0.0.1:{server.port}/0"))
    response = Browser(app).does(write)
    assert is_unavailable(response)
    assert not [word for word in ("right-password", "wrong-password") if word in response.text + caplog.text]
    assert fate(Browser(live_app(store_on(server))).does(write)) == SET


def test_a_replica_that_takes_no_writes(start_redis: StartServer) -> None:
    server = start_redis()
    browser = started(live_app(store_on(server)), a=1)
    with redis.Redis(port=server.port) as admin, _closed_port() as nobody:
        admin.execute_command("REPLICAOF", "127.0.0.1", nobody)
        assert browser.data == {"a": 1}
        for view in (write, clear, sign_in):
            response = browser.does(view)
            assert (is_unavailable(response), fate(response)) == (True, KEPT)
        admin.execute_command("REPLICAOF", "NO", "ONE")
    assert browser.does(write).status_code == 200
    assert browser.data == {"a": 2}


# -- Redis that is full ----------------------------------------------------------------------------------------------


@pytest.fixture
def full_redis(start_redis: StartServer) -> t.Iterator[tuple[Flask, t.Callable[[], None]]]:
    """An application on a server, and what makes the server full."""
    server = start_redis(maxmemory_policy="noeviction")
    with redis.Redis(port=server.port) as admin:
        yield live_app(store_on(server)), lambda: admin.config_set("maxmemory", "1") and None


def test_a_full_server_takes_no_writes_and_keeps_what_it_has(
    full_redis: tuple[Flask, t.Callable[[], None]],
) -> None:
    app, fill = full_redis
    browser = started(app, a=1)
    fill()
    for view in (write, sign_in):
        response = browser.does(view)
        assert (is_unavailable(response), fate(response)) == (True, KEPT)
    assert is_unavailable(Browser(app).does(write))
    assert browser.data == {"a": 1}


@pytest.mark.parametrize("view", [clear, purge, read_and_purge, lambda: session.pop("a")])
def test_logging_out_works_on_a_full_server(view: Action, full_redis: tuple[Flask, t.Callable[[], None]]) -> None:
    app, fill = full_redis
    browser = started(app, a=1)
    thief = browser.twin()
    fill()
    response = browser.does(view)
    assert (response.status_code, fate(response)) == (200, DELETED)
    assert thief.data == {}


def test_a_log_out_that_keeps_other_data_ends_on_a_full_server_all_the_same(
    full_redis: tuple[Flask, t.Callable[[], None]],
) -> None:
    """There is no room for what was to be kept, which is said; but the user is signed out."""
    app, fill = full_redis
    browser = started(app, _user_id="ann", cart=[1])
    thief = browser.twin()
    fill()
    response = browser.does(lambda: session.pop("_user_id"))
    assert (is_unavailable(response), fate(response)) == (True, DELETED)
    assert thief.data == {}


def test_a_log_out_on_a_full_server_ends_successors_too(full_redis: tuple[Flask, t.Callable[[], None]]) -> None:
    app, fill = full_redis
    browser = started(app, a=1)
    other = browser.twin()
    browser.does(renew)
    fill()
    assert fate(other.does(purge)) == DELETED
    assert browser.data == {}


def test_an_extension_on_a_full_server_is_left_out(start_redis: StartServer, clock: Clock) -> None:
    server = start_redis(maxmemory_policy="noeviction")
    store = store_on(server)
    store.clock = clock
    browser = started(live_app(store, SESSION_PERMANENT=True), a=1)
    with redis.Redis(port=server.port) as admin:
        admin.config_set("maxmemory", "1")
        clock.advance(60)
        assert browser.does(lambda: str(session["a"])).text == "1"
        assert browser.does(nothing).status_code == 200
