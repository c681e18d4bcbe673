"""Stores that are away, full, hanging or damaged, and values that cannot be kept: what the browser gets then."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import socket
import stat
import sys
import threading
import time
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from clocks import Clock
from flask import Flask, Response
from flask.signals import got_request_exception
from http_support import (
    DELETED,
    KEPT,
    SET,
    Action,
    Browser,
    fate,
    make_app,
    set_cookies,
    started,
    warnings_in,
    watch,
)
from servers import RedisServer, StartServer
from views import clear, nothing, purge, read, renew, sign_in, write
from werkzeug.test import TestResponse

from flask_sessionstore import (
    ConfigurationError,
    SessionError,
    SessionInsertError,
    SessionTooLarge,
    StoreUnavailable,
    session,
)
from flask_sessionstore.key import SessionKey, Token
from flask_sessionstore.layout import FORMAT, pack
from flask_sessionstore.record import Record, new_revision
from flask_sessionstore.signing import signer
from flask_sessionstore.stores import ServerSideStore, from_url
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.filesystem import store as filesystem
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore

DAY = timedelta(days=1)
#: An application as it runs in production: exceptions become pages.
LIVE: dict[str, object] = {"TESTING": False, "PROPAGATE_EXCEPTIONS": False}


def read_and_purge() -> None:
    read()
    purge()


def live_app(store: object, **config: object) -> Flask:
    """An application as in production, that does not fill the terminal with its tracebacks."""
    app = make_app(store, **{**LIVE, **config})
    app.logger.propagate = False
    app.logger.addHandler(logging.NullHandler())
    return app


def is_unavailable(response: TestResponse) -> bool:
    """Whether a response is the 503 that a store's absence gives."""
    return response.status_code == 503 and response.headers.get("Retry-After") == "5"


@pytest.fixture
def faulty(clock: Clock) -> FaultyStore:
    """A store that fails when told to."""
    memory = MemoryStore()
    memory.clock = clock
    return FaultyStore(memory)


# -- a store that fails, in the view ---------------------------------------------------------------------------------


def test_a_failure_in_the_view_is_a_503_that_tells_nothing(
    faulty: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(live_app(faulty), a=1)
    old = browser.cookie
    faulty.fail("read")
    response = browser.does(read)
    assert is_unavailable(response)
    assert "FaultyStore" not in response.text
    assert (fate(response), browser.cookie) == (KEPT, old)
    assert len(warnings_in(caplog, logging.ERROR)) == 1
    assert browser.data == {"a": 1}


def test_a_failed_load_is_remembered_for_the_request(faulty: FaultyStore) -> None:
    browser = started(live_app(faulty), a=1)

    def view() -> str:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                read()
        return "served all the same"

    faulty.calls.clear()
    faulty.fail("read")
    response = browser.does(view)
    assert (response.status_code, response.text, fate(response)) == (200, "served all the same", KEPT)
    assert faulty.calls == ["read"]


def test_an_application_may_answer_with_a_page_of_its_own(faulty: FaultyStore) -> None:
    app = live_app(faulty)
    app.register_error_handler(StoreUnavailable, lambda error: ("back soon", 503, {"Retry-After": "60"}))
    browser = started(app, a=1)
    faulty.fail("read")
    response = browser.does(read)
    assert (response.status_code, response.text, response.headers["Retry-After"]) == (503, "back soon", "60")


def test_save_in_a_view_raises_and_nothing_is_tried_again(faulty: FaultyStore) -> None:
    browser = started(live_app(faulty), a=1)

    def view() -> None:
        write()
        session.save()

    faulty.calls.clear()
    faulty.fail("swap")
    assert is_unavailable(browser.does(view))
    assert faulty.calls == ["read", "swap"]
    assert browser.data == {"a": 1}


# -- a store that fails, at the end ------------------------------------------------------------------------------------


def _redirecting(action: Action) -> Action:
    """A view that answers with a great deal of headers."""

    def view() -> Response:
        action()
        headers = {
            "Location": "/welcome",
            "ETag": '"x"',
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            "X-Own": "y",
            "Content-Security-Policy": "default-src 'self'",
            "Strict-Transport-Security": "max-age=1",
            "Vary": "Accept-Language",
            "Content-Language": "en",
            "content-encoding": "gzip",
            "Content-Disposition": "attachment",
            "Cache-Control": "max-age=60",
            "Expires": "Thu, 01 Jan 2027 00:00:00 GMT",
        }
        response = Response("secret page", 302, headers)
        response.set_cookie("own", "1")
        response.set_cookie("theme", "dark")
        return response

    return view


@pytest.mark.parametrize("operation", ["add", "swap"])
def test_a_failure_at_the_end_turns_the_response_into_a_503(
    operation: str, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    app = live_app(faulty)
    browser = started(app, a=1) if operation == "swap" else Browser(app)
    before, old = browser.data, browser.cookie
    reported: list[Exception] = []

    def report(sender: Flask, exception: Exception) -> None:
        reported.append(exception)

    faulty.fail(operation)
    with got_request_exception.connected_to(report, app):
        response = browser.does(_redirecting(write))
    assert is_unavailable(response)
    assert {name.lower() for name in response.headers.keys()} == {  # noqa: SIM118  - no dict
        *("set-cookie", "x-own", "content-security-policy", "strict-transport-security", "vary"),  # its own
        *("content-type", "content-length", "retry-after"),  # ours
    }
    assert set(response.vary) == {"Accept-Language", "Cookie"}
    assert response.headers.getlist("Set-Cookie") == ["own=1; Path=/", "theme=dark; Path=/"]
    assert response.headers["Content-Length"] == str(len(response.data))
    assert "secret page" not in response.text
    assert [type(error) for error in reported] == [StoreUnavailable]
    assert caplog.text.count("FaultyStore was told to fail") <= 2
    assert browser.cookie == old
    assert browser.data == before


@pytest.mark.parametrize("config", [{"TESTING": True}, {"TESTING": False, "PROPAGATE_EXCEPTIONS": True}])
def test_where_exceptions_propagate_it_raises(config: dict[str, object], faulty: FaultyStore) -> None:
    browser = started(live_app(faulty, **{"PROPAGATE_EXCEPTIONS": None, **config}), a=1)
    faulty.fail("swap")
    with pytest.raises(StoreUnavailable):
        browser.does(write)
    assert browser.data == {"a": 1}


def test_a_response_that_would_be_streamed_is_closed(faulty: FaultyStore) -> None:
    browser, closed = started(live_app(faulty), a=1), threading.Event()

    def view() -> Response:
        write()
        response = Response(iter(["never", "sent"]))
        response.call_on_close(closed.set)
        return response

    faulty.fail("swap")
    response = browser.does(view)
    assert is_unavailable(response)
    assert "sent" not in response.text
    assert closed.is_set()


@pytest.mark.parametrize("operation", ["read", "swap"])
def test_a_purge_with_the_store_away_deletes_the_cookie_and_says_so(operation: str, faulty: FaultyStore) -> None:
    app = live_app(faulty)
    browser = started(app, a=1)
    thief = browser.twin()
    faulty.fail(operation)
    response = browser.does(purge)
    assert is_unavailable(response)
    assert fate(response) == DELETED
    assert thief.data == {"a": 1}


def test_a_purge_is_tried_though_the_load_had_failed(faulty: FaultyStore) -> None:
    browser = started(live_app(faulty), a=1)
    thief = browser.twin()

    def view() -> None:
        with contextlib.suppress(StoreUnavailable):
            read()
        purge()

    faulty.fail("read", times=1)
    assert fate(browser.does(view)) == DELETED
    assert thief.data == {}


def test_a_purge_that_fails_where_exceptions_propagate_raises(faulty: FaultyStore) -> None:
    browser = started(make_app(faulty), a=1)
    faulty.fail(times=None)
    with pytest.raises(StoreUnavailable):
        browser.does(purge)


@pytest.mark.parametrize("action", [clear, lambda: session.pop("a")])
def test_a_log_out_that_the_store_did_not_take_keeps_the_cookie(action: Action, faulty: FaultyStore) -> None:
    browser = started(live_app(faulty), a=1)
    faulty.fail("swap")
    response = browser.does(action)
    assert is_unavailable(response)
    assert fate(response) == KEPT
    assert browser.data == {"a": 1}


def test_no_cookie_is_sent_for_what_was_not_stored(faulty: FaultyStore) -> None:
    app = live_app(faulty)
    for view in (write, sign_in):
        browser = Browser(app)
        faulty.fail("add")
        assert set_cookies(browser.does(view)) == []
        assert browser.cookies == []


@pytest.mark.parametrize("operation", ["add", "swap"])
def test_a_renewal_that_failed_leaves_the_old_session(operation: str, faulty: FaultyStore) -> None:
    browser = started(live_app(faulty), a=1)
    faulty.fail(operation)
    response = browser.does(sign_in)
    assert is_unavailable(response)
    assert fate(response) == KEPT
    assert browser.data == {"a": 1}


def test_a_write_whose_reply_was_lost_is_a_503_and_may_be_there(faulty: FaultyStore) -> None:
    browser = started(live_app(faulty), a=1)
    faulty.lose_reply("swap")
    assert is_unavailable(browser.does(write))
    assert browser.data == {"a": 2}


# -- what goes on without a store ------------------------------------------------------------------------------------


def test_requests_that_do_not_touch_the_session_are_served(faulty: FaultyStore, clock: Clock) -> None:
    browser = started(live_app(faulty, SESSION_PERMANENT=True), a=1)
    faulty.fail(times=None)
    for wait in (0, 60, 3600):
        clock.advance(wait)
        response = browser.does(lambda: "served")
        assert (response.status_code, response.text, fate(response)) == (200, "served", KEPT)
    faulty.heal()
    assert browser.data == {"a": 1}


def test_a_read_whose_extension_fails_is_served_without_it(
    faulty: FaultyStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(live_app(faulty, SESSION_PERMANENT=True), a=1)
    clock.advance(60)
    faulty.fail("swap")
    response = browser.does(lambda: str(session["a"]))
    assert (response.status_code, response.text, fate(response)) == (200, "1", KEPT)
    assert ["not extended" in warning for warning in warnings_in(caplog)] == [True]
    assert fate(browser.does(read)) == SET


def test_a_forced_extension_is_no_mere_one(faulty: FaultyStore) -> None:
    browser = started(live_app(faulty), a=1)
    faulty.fail("swap")
    response = browser.does(lambda: session.update(a=1))
    assert (response.status_code, fate(response)) in {(503, KEPT), (200, KEPT)}
    assert browser.data == {"a": 1}


def test_requests_without_a_cookie_do_not_notice(faulty: FaultyStore) -> None:
    app = live_app(faulty)
    faulty.fail(times=None)
    assert Browser(app).does(lambda: str(session.get("a"))).text == "None"


class _Hanging(MemoryStore):
    """Reads wait until they are let go, and then fail as a time-out does."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.let_go = threading.Event(), threading.Event()

    def read(self, handle: str) -> bytes | None:
        self.reached.set()
        assert self.let_go.wait(10)
        raise StoreUnavailable("no answer in time")


def test_a_store_that_hangs_holds_up_its_own_request_only() -> None:
    store = _Hanging()
    browser, responses = started(live_app(store), a=1), t.cast("list[TestResponse]", [])
    waiting = threading.Thread(target=lambda: responses.append(browser.twin().does(read)))
    waiting.start()
    assert store.reached.wait(10)
    assert browser.does(nothing).status_code == 200
    assert waiting.is_alive()
    store.let_go.set()
    waiting.join(10)
    assert [is_unavailable(response) for response in responses] == [True]


# -- Redis that is not there -------------------------------------------------------------------------------------------


def _in_time(action: t.Callable[[], TestResponse], seconds: float) -> TestResponse:
    start = time.monotonic()
    response = action()
    assert time.monotonic() - start < seconds
    return response


def _on(server: RedisServer, **options: str) -> ServerSideStore:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return t.cast("ServerSideStore", from_url(f"{server.url}?{query}"))


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
    app = live_app(_on(server))
    browser = started(app, a=1)
    server.kill()
    for _ in range(2):
        response = _in_time(lambda: browser.does(read), 1)
        assert (is_unavailable(response), fate(response)) == (True, KEPT)
    assert browser.does(nothing).status_code == 200
    server.start()
    assert fate(browser.does(read)) == KEPT  # it came back empty
    assert fate(browser.does(write)) == SET
    assert fate(browser.does(lambda: session.update(a=3))) == SET  # its scripts have gone, too
    assert browser.data == {"a": 3}


@pytest.mark.parametrize("view", [write, clear, sign_in, lambda: session.pop("a")])
def test_a_server_that_dies_between_load_and_write(view: Action, start_redis: StartServer) -> None:
    server = start_redis()
    browser = started(live_app(_on(server)), a=1)

    def dying() -> None:
        read()
        server.kill()
        view()

    response = _in_time(lambda: browser.does(dying), 2)
    assert (is_unavailable(response), fate(response)) == (True, KEPT)


def test_a_lost_connection_is_made_again_unnoticed(start_redis: StartServer) -> None:
    server = start_redis()
    browser = started(live_app(_on(server)), a=1)
    with redis.Redis(port=server.port) as admin:
        for view in (read, write, clear):
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert browser.does(view).status_code == 200
    assert browser.cookies == []


def test_a_server_that_hangs_is_waited_for_two_seconds_and_no_answer_is_mistaken(start_redis: StartServer) -> None:
    server = start_redis()
    app = live_app(_on(server))
    browsers = [started(app, a=number) for number in range(3)]
    with server.hanging():
        assert is_unavailable(_in_time(lambda: browsers[0].does(read), 4))
        assert browsers[0].does(nothing).status_code == 200
    assert [browser.data for browser in browsers] == [{"a": 0}, {"a": 1}, {"a": 2}]


def test_a_time_out_in_the_url_is_kept_to(start_redis: StartServer) -> None:
    server = start_redis()
    browser = started(live_app(_on(server, socket_timeout="0.1")), a=1)

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
    assert fate(Browser(live_app(_on(server))).does(write)) == SET


def test_a_replica_that_takes_no_writes(start_redis: StartServer) -> None:
    server = start_redis()
    browser = started(live_app(_on(server)), a=1)
    with redis.Redis(port=server.port) as admin, _closed_port() as nobody:
        admin.execute_command("REPLICAOF", "127.0.0.1", nobody)
        assert browser.data == {"a": 1}
        for view in (write, clear, sign_in):
            response = browser.does(view)
            assert (is_unavailable(response), fate(response)) == (True, KEPT)
        admin.execute_command("REPLICAOF", "NO", "ONE")
    assert fate(browser.does(write)) == SET


# -- Redis that is full --------------------------------------------------------------------------------------------


@pytest.fixture
def full_redis(start_redis: StartServer) -> t.Iterator[tuple[Flask, t.Callable[[], None]]]:
    """An application on a server, and what makes the server full."""
    server = start_redis(maxmemory_policy="noeviction")
    with redis.Redis(port=server.port) as admin:
        yield live_app(_on(server)), lambda: admin.config_set("maxmemory", "1") and None


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
    store = _on(server)
    store.clock = clock
    browser = started(live_app(store, SESSION_PERMANENT=True), a=1)
    with redis.Redis(port=server.port) as admin:
        admin.config_set("maxmemory", "1")
        clock.advance(60)
        assert browser.does(lambda: str(session["a"])).text == "1"
        assert browser.does(nothing).status_code == 200


# -- bytes that are no record ----------------------------------------------------------------------------------------


class _Bomb:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[t.Any, ...]:
        return os._exit, (1,)


_GOOD = pack(Record(state={"a": b"\x01"}).written(1_767_225_600_000, DAY), None)

FOREIGN = {
    "nothing": b"",
    "a pickle": pickle.dumps({"a": 1}),
    "a pickle that acts": pickle.dumps(_Bomb()),
    "JSON": b'{"a": 1}',
    "text": b"hello",
    "cut off": _GOOD[:-1],
    "a header alone": _GOOD[:40],
    "a state that is none": _GOOD[:87] + b"\xc1",
    "a state of other types": _GOOD[:87] + b"\x81\x01\x01",
    "an unknown kind": _GOOD[:1] + b"\x09" + _GOOD[2:],
    "a later format": bytes([FORMAT + 1]) + bytes(100),
    "zeros": bytes(200),
}


def _poke(store: ServerSideStore, browser: Browser, data: bytes) -> str:
    """Put ``data`` in the place of the browser's record. The result: its handle."""
    handle = SessionKey(browser.key or "").handle
    store.drop(handle)
    assert store.add(handle, data, DAY)
    return handle


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_bytes_in_the_store_are_an_empty_session_and_a_warning(
    name: str, server_store: ServerSideStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    if isinstance(server_store, FileSystemStore) and not FOREIGN[name].strip(b"\0"):
        pytest.skip("in a file, this is what a killed writer left: nothing")
    server_store.clock = clock
    browser = started(live_app(server_store), a=1)
    handle = _poke(server_store, browser, FOREIGN[name])
    old, stored, calls = browser.key, server_store.read(handle), watch(server_store)
    response = browser.does(lambda: str(dict(session)))
    assert (response.text, fate(response)) == ("{}", KEPT)
    (warning,) = warnings_in(caplog)
    assert handle[:8] in warning
    assert handle not in warning
    assert (old or "?") not in caplog.text
    assert fate(browser.does(write)) == SET
    assert calls == ["load", "load", "save"]
    assert browser.key != old
    assert browser.data == {"a": 2}
    assert server_store.read(handle) == stored  # a later version's record is that version's


@pytest.mark.parametrize("view", [clear, purge])
@pytest.mark.parametrize("name", ["a pickle that acts", "a later format"])
def test_a_log_out_from_a_damaged_session(name: str, view: Action, server_store: ServerSideStore, clock: Clock) -> None:
    server_store.clock = clock
    browser = started(live_app(server_store), a=1)
    old = browser.key
    _poke(server_store, browser, FOREIGN[name])
    response = browser.does(view)
    assert (response.status_code, fate(response)) == (200, DELETED)
    handle = SessionKey(str(old)).handle
    assert server_store.info(handle) is None  # nor for a process that could have read it


@pytest.mark.parametrize("name", ["a pickle", "a later format"])
def test_a_record_damaged_between_load_and_write(name: str, server_store: ServerSideStore, clock: Clock) -> None:
    server_store.clock = clock
    browser = started(live_app(server_store), a=1, secret="s")

    def view() -> None:
        read()
        _poke(server_store, browser, FOREIGN[name])
        write()

    response = browser.does(view)
    assert (response.status_code, fate(response)) == (200, KEPT)
    assert browser.data == {}


def test_one_value_that_cannot_be_decoded_is_left_out_and_the_others_stay(
    server_store: ServerSideStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server_store.clock = clock
    browser = started(live_app(server_store), a=1)
    record = Record(state={"a": b"\xc1", "b": b"\x02"}, revisions=(new_revision(),))
    _poke(server_store, browser, pack(record.written(int(clock.now * 1000), DAY), SessionKey(browser.key or "").handle))
    assert browser.does(lambda: f"{session.get('a')} {session['b']}").text == "None 2"
    assert len(warnings_in(caplog)) == 1
    browser.does(write)
    assert browser.data == {"a": 2, "b": 2}


@pytest.mark.parametrize("text", ["AAAA", "eJwDAAAAAAE", "x" * 3000])
def test_a_cookie_that_we_signed_but_cannot_read(text: str, caplog: pytest.LogCaptureFixture) -> None:
    token = Token(CookieStore.key_class(text), 0, 0, False, bytes(4))
    browser = Browser(live_app(CookieStore()), signer(("a secret",), "session", "/").dumps(token))
    response = browser.does(lambda: str(dict(session)))
    assert (response.text, fate(response)) == ("{}", KEPT)
    assert len(warnings_in(caplog)) == 1
    assert fate(browser.does(write)) == SET
    assert browser.data == {"a": 2}


# -- values that cannot be kept ------------------------------------------------------------------------------------


def test_a_value_that_cannot_be_kept_is_refused_at_its_line_and_the_rest_is_stored(
    server_store: ServerSideStore,
) -> None:
    browser = started(make_app(server_store), a=1)

    def view() -> None:
        session["b"] = 1
        with pytest.raises(SessionInsertError) as caught:
            session["cart"] = [{"price": object()}]
        assert (caught.value.path, caught.value.type) == ("cart[0].price", object)
        assert "cart" not in session

    browser.does(view)
    assert browser.data == {"a": 1, "b": 1}


def test_a_value_spoilt_in_place_is_an_error_at_the_end_and_what_was_stored_stays(
    server_store: ServerSideStore,
) -> None:
    app = make_app(server_store)
    browser = started(app, a=1, cart=[1])
    old = browser.cookie

    def view() -> None:
        session["a"] = 2
        session["cart"].append(object())

    with pytest.raises(SessionInsertError) as caught:
        browser.does(view)
    assert (caught.value.path, caught.value.type) == ("cart[1]", object)
    app.config.update(LIVE)
    app.logger.disabled = True
    response = browser.does(view)
    assert (response.status_code, fate(response)) == (500, KEPT)
    assert browser.cookie == old
    assert browser.data == {"a": 1, "cart": [1]}


def test_a_state_over_the_limit_is_an_error_that_names_the_largest_keys(server_store: ServerSideStore) -> None:
    app = make_app(server_store, SESSION_MAX_SIZE=1000)
    browser = started(app, a=1)
    with pytest.raises(SessionTooLarge) as caught:
        browser.does(lambda: session.update(small="x" * 100, large="x" * 901))
    assert (caught.value.limit, list(caught.value.largest or [])[:2]) == (1000, ["large", "small"])
    assert caught.value.size is not None
    assert caught.value.size > 1000
    assert browser.data == {"a": 1}
    with pytest.raises(SessionTooLarge):
        Browser(app).does(lambda: session.update(large="x" * 1000))
    assert fate(browser.does(lambda: session.update(large="x" * 900))) == SET


def test_the_limit_counts_bytes_of_keys_too_not_characters(server_store: ServerSideStore) -> None:
    app = make_app(server_store, SESSION_MAX_SIZE=1000)
    assert fate(Browser(app).does(lambda: session.update({"k" * 900: 1}))) == SET
    with pytest.raises(SessionTooLarge) as caught:
        Browser(app).does(lambda: session.update({"\u4e2d" * 400: 1}))
    assert caught.value.size == 1201


def test_a_merge_that_goes_over_the_limit_is_an_error_too(server_store: ServerSideStore) -> None:
    browser = started(make_app(server_store, SESSION_MAX_SIZE=1000), a=1)
    other = browser.twin()

    def view() -> None:
        session["mine"] = "x" * 600
        other.does(lambda: session.update(theirs="x" * 600))

    with pytest.raises(SessionTooLarge):
        browser.does(view)
    assert set(browser.data) == {"a", "theirs"}


# -- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_a_503_without_its_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    app = live_app(FileSystemStore(tmp_path / "file" / "sessions"))
    cookie = started(make_app(MemoryStore()), a=1).cookies
    for view in (write, sign_in):
        response = Browser(app).does(view)
        assert (is_unavailable(response), fate(response)) == (True, KEPT)
        assert str(tmp_path) not in response.text
    assert str(tmp_path) not in "".join(warnings_in(caplog, logging.ERROR))
    assert Browser(app, *cookie).does(nothing).status_code == 200
    assert Browser(app, *cookie).does(read).status_code == 503
    assert fate(Browser(app, *cookie).does(purge)) == DELETED


def test_a_folder_that_does_not_exist_yet_is_no_error(tmp_path: Path) -> None:
    app = live_app(FileSystemStore(tmp_path / "not" / "yet"))
    cookie = started(make_app(MemoryStore()), a=1).cookies
    assert fate(Browser(app, *cookie).does(read)) == KEPT
    assert not (tmp_path / "not").exists()
    assert fate(Browser(app).does(write)) == SET
    assert stat.S_IMODE((tmp_path / "not" / "yet").stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707])
def test_a_folder_that_others_can_write_to_is_refused(mode: int, tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions").chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        Browser(make_app(FileSystemStore(tmp_path / "sessions"))).does(write)
    assert caught.value.key == "SESSION_STORE"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_nothing_is_read_from_a_folder_that_others_can_write_to(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    browser = started(make_app(FileSystemStore(folder)), a=1)
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError):
        Browser(make_app(FileSystemStore(folder)), *browser.cookies).does(read)


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Though each of its locks was taken, and is open still."""
    folder = tmp_path / "sessions"
    store = FileSystemStore(folder)
    for number in range(256):
        store.add(f"{number:02x}" + "0" * 62, b"old", timedelta(seconds=60))
    app = live_app(store)
    browser = started(app, a=1)
    folder.rename(tmp_path / "away")  # all are to be logged out
    assert fate(browser.does(read)) == KEPT
    assert fate(browser.does(write)) == SET
    assert browser.data == {"a": 2}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[0-9a-f][0-9a-f]/*") if path.is_file()]


class _Killed(BaseException):
    """The process was killed."""


class _MortalOS:
    """The os module for a process that is killed at its ``last`` change to the file system; a write is cut in half."""

    _CHANGES = frozenset({"open", "pwrite", "rename", "replace", "unlink", "link", "utime", "ftruncate", "makedirs"})

    def __init__(self, last: int) -> None:
        self._left = last

    def __getattr__(self, name: str) -> t.Any:
        function = getattr(os, name)
        return functools.partial(self._change, function) if name in self._CHANGES else function

    def _change(self, function: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        self._left -= 1
        if self._left > 0:
            return function(*args, **kwargs)
        if self._left == 0 and function is os.pwrite:
            os.pwrite(args[0], args[1][: (len(args[1]) + 1) // 2], args[2])
        raise _Killed


@pytest.mark.parametrize(
    ("view", "after"), [(write, {"a": 2}), (lambda: session.update(a="x" * 5000), {"a": "x" * 5000}), (clear, {})]
)
@pytest.mark.parametrize("writes_before", [1, 2, 3])
def test_whenever_a_writer_is_killed_the_record_is_whole(
    writes_before: int, view: Action, after: dict[str, t.Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"a": -writes_before}
    for last in range(1, 30):
        folder = tmp_path / str(last)
        browser = Browser(make_app(FileSystemStore(folder)))
        for number in range(writes_before):
            browser.does(lambda: session.update(a=-number - 1))  # noqa: B023  - called at once
        with monkeypatch.context() as patch, contextlib.suppress(_Killed):
            patch.setattr(filesystem, "os", _MortalOS(last))
            browser.twin().does(view)
            break  # it lived: the end of its work
        again = Browser(make_app(FileSystemStore(folder)), *browser.cookies)
        assert again.twin().data in (before, after)
        assert fate(again.does(lambda: session.update(b=1))) == SET
        assert again.data in ({**before, "b": 1}, {**after, "b": 1})
    else:
        pytest.fail("it never came to an end")
    assert last > 2


def test_a_writer_that_is_killed_making_a_session_leaves_nothing_to_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last in range(1, 30):
        store = FileSystemStore(tmp_path / str(last))
        with monkeypatch.context() as patch, contextlib.suppress(_Killed):
            patch.setattr(filesystem, "os", _MortalOS(last))
            Browser(make_app(store)).does(write)
            break
        again = FileSystemStore(tmp_path / str(last))
        for path in _files(tmp_path / str(last)):
            info = again.info(path.name.rstrip("+~")[-64:])
            assert info is None or path.stat().st_size > 87  # nothing, or the whole: nobody has its key
        assert again.delete_expired() == 0
        assert started(make_app(again), a=1).data == {"a": 1}
    else:
        pytest.fail("it never came to an end")


@contextlib.contextmanager
def _file_size_limit(size: int) -> t.Iterator[None]:
    """No file may grow beyond ``size`` bytes: as near to a full disk as a test can come without one."""
    resource = pytest.importorskip("resource", reason="this system has no limits of resources")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_503_and_what_was_stored_stays(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    app = live_app(FileSystemStore(folder))
    browser = started(app, a=1)
    before = {path.name: path.read_bytes() for path in _files(folder)}
    with _file_size_limit(500):
        responses = [who.does(lambda: session.update(a="x" * 600)) for who in (browser, Browser(app))]
    assert [(is_unavailable(response), fate(response)) for response in responses] == [(True, KEPT)] * 2
    assert {path.name: path.read_bytes() for path in _files(folder)} == before
    assert browser.data == {"a": 1}
    assert fate(browser.does(write)) == SET


@pytest.mark.parametrize("view", [clear, purge])
def test_logging_out_works_on_a_full_disk(view: Action, tmp_path: Path) -> None:
    browser = started(live_app(FileSystemStore(tmp_path / "sessions")), a=1)
    thief = browser.twin()
    with _file_size_limit(10):
        response = browser.does(view)
    assert (response.status_code, fate(response)) == (200, DELETED)
    assert thief.data == {}
    assert _files(tmp_path / "sessions") == []


# -- what is never told ----------------------------------------------------------------------------------------------

SECRET_VALUE, PASSWORD = "a value that is nobody's business", "pass-word-of-the-url"


def _spoil() -> None:
    session["list"].append(object())


def _mistype() -> None:
    session.get_as("secret", int)


def _refuse() -> None:
    session["other"] = {SECRET_VALUE: object()}


def _run_of_accidents(app: Flask, break_store: t.Callable[[], object]) -> tuple[list[str], str]:
    """Everything that can go wrong, one after the other. The result: keys that were in use, and all pages."""
    keys, pages = [], []
    browser = Browser(app)

    def note(view: Action) -> None:
        response = browser.does(view)
        pages.append(f"{response.headers} {response.text}".replace(browser.cookie or "no cookie", ""))
        if browser.key:
            keys.append(browser.key)

    note(lambda: session.update(secret=SECRET_VALUE, list=[SECRET_VALUE]))
    for view in (_spoil, _mistype, _refuse, lambda: repr(session), lambda: str(1 / 0), sign_in, write):
        note(view)
    old = browser.twin()
    note(renew)
    old.does(lambda: session.update(secret=SECRET_VALUE))
    break_store()
    for view in (nothing, read, write, sign_in, clear, purge, write):
        note(view)
    return keys, "".join(pages)


def _assert_silent(keys: list[str], pages: str, caplog: pytest.LogCaptureFixture) -> None:
    told = caplog.text + pages
    assert caplog.records
    assert keys
    assert not [key for key in keys if key in told]
    assert SECRET_VALUE not in told
    assert PASSWORD not in told


def _logging_app(store: object) -> Flask:
    app = make_app(store, **LIVE)
    app.logger.setLevel(logging.DEBUG)
    return app


def test_neither_logs_nor_pages_tell_a_key_or_a_value(
    server_store: ServerSideStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    faulty = FaultyStore(server_store)
    _assert_silent(*_run_of_accidents(_logging_app(faulty), lambda: faulty.fail(times=None)), caplog)


def test_neither_logs_nor_pages_tell_redis_s_password(
    start_redis: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start_redis(requirepass=PASSWORD)
    _assert_silent(*_run_of_accidents(_logging_app(server.url), server.kill), caplog)
    assert "the session store" in caplog.text or "Redis" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{PASSWORD}@/0",
        f"redis://user:{PASSWORD}@localhost:port/0",
        f"redis://user:{PASSWORD}@localhost:6379/0?unknown=1",
        f"unknown://user:{PASSWORD}@localhost/0",
        f"file://user:{PASSWORD}@host/sessions",
    ],
)
def test_a_url_that_cannot_be_used_is_not_quoted(url: str) -> None:
    with pytest.raises(SessionError) as caught:
        make_app(url)
    assert PASSWORD not in f"{caught.value} {caught.value!r}"


def test_the_cause_of_a_failure_is_logged_once(start_redis: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    server = start_redis()
    browser = started(live_app(_on(server)), a=1)
    server.kill()
    caplog.clear()
    browser.does(read)
    errors = [r for r in caplog.records if r.name == "flask_sessionstore" and r.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is not None
    assert isinstance(errors[0].exc_info[1], redis.exceptions.ConnectionError)
