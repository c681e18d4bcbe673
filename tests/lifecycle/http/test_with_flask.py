"""The lifecycle of a session beside the rest of Flask: error handlers, nested contexts, test clients."""

from __future__ import annotations

import importlib.util
import logging
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, copy_current_request_context, flash, get_flashed_messages
from flask.sessions import SecureCookieSessionInterface
from flask.wrappers import Request
from http_support import Action, Browser, cookie_of, make_app, set_cookies, started, warnings_in, watch
from lifecycle_views import A, both, memory_store, sign_out, write_other
from views import clear, count, nothing, purge, read, renew, sign_in, write

from flask_sessionstore import SessionManager, session
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.testing import Clock, FaultyStore


def _flasks_own(app: Flask, request: Request) -> t.Mapping[str, object] | None:
    old = SecureCookieSessionInterface().open_session(app, request)
    return dict(old) if old else None


def test_sessions_of_another_kind_can_be_taken_over(clock: Clock) -> None:
    before = Flask("before")
    before.secret_key = "a secret"
    serializer = SecureCookieSessionInterface().get_signing_serializer(before)
    assert serializer is not None
    data = {"_permanent": True, "a": 1, "_user_id": "ann"}
    app, store = Flask("after"), memory_store(clock)
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True)
    SessionManager(app, import_session=_flasks_own)
    app.add_url_rule("/", "index", view_func=lambda: dict(session))
    app.add_url_rule("/permanent", "permanent", view_func=lambda: str(session.permanent))
    app.add_url_rule("/untouched", "untouched", view_func=lambda: "")
    client = app.test_client()
    client.set_cookie("session", str(serializer.dumps(data)))
    assert "Set-Cookie" not in client.get("/untouched").headers
    response = client.get("/")
    assert response.json == {"a": 1, "_user_id": "ann"}
    assert cookie_of(response).attributes["max-age"] == str(31 * 86400)
    calls = watch(store)
    assert client.get("/").json == {"a": 1, "_user_id": "ann"}
    assert client.get("/permanent").text == "True"
    assert set(calls) == {"load"}


def _importing(data: t.Mapping[str, object], clock: Clock) -> Flask:
    app = Flask("taking over")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=memory_store(clock), TESTING=True)
    SessionManager(app, import_session=lambda app, request: data)
    return app


@pytest.mark.parametrize("kept", [True, False])
def test_permanent_is_right_in_the_request_that_imports_before_and_after_the_first_touch(
    kept: bool, clock: Clock
) -> None:
    app = _importing({"_permanent": kept, "a": 1}, clock)
    with app.test_request_context():
        assert session.permanent is kept
        assert session["a"] == 1
        assert session.permanent is kept
        assert "_permanent" not in session


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_permanent_can_be_set_in_the_request_that_imports(wanted: bool, kept: bool, clock: Clock) -> None:
    app = _importing({"_permanent": kept, "a": 1}, clock)

    @app.before_request
    def before() -> None:
        session.permanent = wanted

    app.add_url_rule("/", "index", view_func=lambda: f"{session['a']} {session.permanent}")
    client = app.test_client()
    response = client.get("/")
    assert response.text == f"1 {wanted}"
    assert ("max-age" in cookie_of(response).attributes) is wanted
    assert client.get("/").text == f"1 {wanted}"


def test_what_an_import_brings_that_cannot_be_kept_is_left_out_by_path_and_the_rest_is_stored(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"cart": [{"price": object()}], "a": 1, 7: "tops3cret", "_user_id": "ann", "late": [1]}
    app = _importing(t.cast("t.Any", data), clock)
    app.add_url_rule("/", "index", view_func=lambda: dict(session))
    client = app.test_client()
    for _ in range(2):
        assert client.get("/").json == {"a": 1, "_user_id": "ann", "late": [1]}
    assert [record.getMessage() for record in caplog.records] == [
        "an imported value at cart[0].price cannot be kept, and is left out",
        "an imported value under a key that is not text cannot be kept, and is left out",
    ]


def test_import_session_is_asked_only_where_there_is_no_session_of_ours(clock: Clock) -> None:
    asked: list[Request] = []

    def end() -> str:
        purge()
        return ""

    app = Flask("taking over")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=memory_store(clock), TESTING=True)
    SessionManager(app, import_session=lambda app, request: asked.append(request))
    app.add_url_rule("/", "index", view_func=lambda: str(session.setdefault("a", 1)))
    app.add_url_rule("/purge", "purge", view_func=end)
    client = app.test_client()
    client.get("/")
    assert len(asked) == 1
    client.get("/")
    old = client.get_cookie("session")
    client.get("/purge")
    assert old is not None
    client.set_cookie("session", old.value)
    client.get("/")
    assert len(asked) == 1


def test_a_test_client_s_session_transaction_works(app: Flask) -> None:
    client = app.test_client()
    with client.session_transaction() as opened:
        opened["a"] = 1
        opened["cart"] = []
    with client.session_transaction() as opened:
        opened["cart"].append("mug")
    with client.session_transaction() as opened:
        assert dict(opened) == {"a": 1, "cart": ["mug"]}
        opened.clear()
    with client.session_transaction() as opened:
        assert dict(opened) == {}
    assert client.get_cookie("session") is None


def test_a_copied_context_shares_the_session(app: Flask) -> None:
    browser = started(app, a=1)

    def view() -> None:
        @copy_current_request_context
        def work(key: str) -> object:
            session.update_or("n", 1, lambda n: n + 1)
            session[key] = session["a"]
            return session

        dict(session)
        # Flask copies a context once for each function: one for each thread.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(work, "b").result() == session
        assert session["b"] == 1

    browser.does(view)
    assert browser.data == {"a": 1, "b": 1, "n": 1}


def test_threads_of_one_request_lose_nothing(memory_app: Flask) -> None:
    browser = Browser(memory_app)

    def view() -> None:
        def work() -> None:
            for _ in range(50):
                count()

        copies = [copy_current_request_context(work) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(copy) for copy in copies]:
                done.result()

    browser.does(view)
    assert browser.data == {"n": 200}


@pytest.mark.skipif(importlib.util.find_spec("asgiref") is None, reason="asgiref, for async views, is not installed")
def test_async_views_work(app: Flask) -> None:
    async def view() -> str:
        count()
        return str(session["n"])

    app.add_url_rule("/async", view_func=view)
    client = app.test_client()
    assert [client.get("/async").text for _ in range(3)] == ["1", "2", "3"]


def test_flashed_messages_are_shown_once(app: Flask) -> None:
    browser = Browser(app)
    browser.does(both(lambda: flash("one"), lambda: flash("two")))
    assert browser.asks(get_flashed_messages) == ["one", "two"]
    assert browser.asks(get_flashed_messages) == []


def test_the_primitives_are_one_for_each_step(clock: Clock) -> None:
    # FaultyStore counts what a store of four primitives is asked: the price of the table in an engine's terms.
    store = FaultyStore(memory_store(clock))
    app = make_app(store)
    browser = Browser(app)
    prices: list[tuple[Action, list[str]]] = [
        (nothing, []),
        (write, ["add"]),
        (nothing, []),
        (read, ["read"]),
        (write_other, ["read", "swap"]),
        (renew, ["read", "add", "swap"]),
        (clear, ["read", "swap"]),
    ]
    for view, price in prices:
        store.calls.clear()
        browser.does(view)
        assert store.calls == price


def test_two_applications_may_share_a_store(server_store: ServerSideStore, clock: Clock) -> None:
    server_store.clock = clock
    browser = started(make_app(server_store), a=1)
    assert Browser(make_app(server_store), *browser.cookies).data == A
    assert Browser(make_app(server_store, SECRET_KEY="another"), *browser.cookies).data == {}


def test_a_cookie_signed_for_another_name_is_worth_nothing(server_store: ServerSideStore) -> None:
    browser = started(make_app(server_store), a=1)
    elsewhere = make_app(server_store, SESSION_COOKIE_NAME="other")
    assert Browser(elsewhere, *browser.cookies, name="other").data == {}


def test_an_ordinary_run_logs_no_warning(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    browser = started(app, a=1)
    for view in (read, write, sign_in, renew, sign_out, clear, write, purge, nothing):
        browser.does(view)
    assert set_cookies(browser.does(read)) == []
    assert warnings_in(caplog) == []
