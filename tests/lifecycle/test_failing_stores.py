"""A store that fails in the view or at the end of the request: what the browser gets then, and what is never told."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import typing as t

import pytest
import redis
from flask import Flask, Response
from flask.signals import got_request_exception
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, set_cookies, started, warnings_in
from live import LIVE, is_unavailable, live_app, store_on
from servers import StartServer
from views import clear, nothing, purge, read, renew, sign_in, write
from werkzeug.test import TestResponse

from flask_sessionstore import SessionError, StoreUnavailable, session
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore


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


# -- a store that fails, at the end ----------------------------------------------------------------------------------


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


def test_a_body_that_has_to_be_closed_is_closed_though_it_is_not_sent(faulty: FaultyStore) -> None:
    browser, body = started(live_app(faulty), a=1), io.BytesIO(b"never sent")

    def view() -> Response:
        write()
        return Response(body)

    faulty.fail("swap")
    response = browser.does(view)
    assert is_unavailable(response)
    assert "sent" not in response.text
    assert body.closed


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
    browser = started(live_app(store_on(server)), a=1)
    server.kill()
    caplog.clear()
    browser.does(read)
    errors = [r for r in caplog.records if r.name == "flask_sessionstore" and r.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is not None
    assert isinstance(errors[0].exc_info[1], redis.exceptions.ConnectionError)


def test_a_503_sets_no_cookie_of_ours_whatever_save_had_made_before(faulty: FaultyStore) -> None:
    browser = Browser(live_app(faulty))

    def view() -> None:
        write()
        session.save()
        session["more"] = 1
        faulty.fail("swap")

    response = browser.does(view)
    assert is_unavailable(response)
    assert fate(response) == KEPT
