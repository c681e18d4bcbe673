"""What fails in ``after_request`` and in handlers of errors, where Flask makes a 500 of every exception."""

from __future__ import annotations

import logging

import pytest
from flask import Blueprint, Flask, abort, request
from flask_login_app import make_app
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from flask_sessionstore import SessionManager, StoreUnavailable, session
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore

pytest.importorskip("flask_login")


def mistake(*_: object) -> str:
    return str(1 / 0)


def in_an_outage(app: Flask, store: FaultyStore, path: str = "/login") -> TestResponse:
    """Flask-Login's application reads the session in views, and again after each request."""
    app.testing = False
    client = app.test_client()
    client.get("/buy")
    store.fail()
    return client.get(path)


def test_a_page_is_a_503_and_nothing_is_logged_but_what_the_store_said(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store)

    @app.after_request
    def mark(response: TestResponse) -> TestResponse:
        response.headers["X-Page"] = request.path
        return response

    response = in_an_outage(app, store)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert response.headers["X-Page"] == "/login"
    assert [(record.name, record.levelno) for record in caplog.records] == [("flask_sessionstore", logging.ERROR)]


@pytest.mark.parametrize("caught", [StoreUnavailable, 503, HTTPException, Exception])
def test_the_handler_for_what_a_view_raises_answers(caught: type[Exception] | int) -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store)
    app.register_error_handler(caught, lambda error: (f"back in {error.retry_after} s", 503))
    response = in_an_outage(app, store)
    assert (response.status_code, response.text) == (503, "back in 5 s")


def test_a_handler_that_reads_the_session_does_not_hide_the_503() -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store)
    app.register_error_handler(503, lambda error: (f"sorry, {session.get('name')}", 200))
    response = in_an_outage(app, store)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("traps", [False, True])
def test_an_error_page_that_reads_the_session_does_not_skip_what_follows_every_request(traps: bool) -> None:
    """Neither what the application adds to each response, nor the end that the view has ordered."""
    store = FaultyStore(MemoryStore())
    app = Flask("shop")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TRAP_HTTP_EXCEPTIONS=traps)
    manager = SessionManager(app)

    def leave() -> str:
        session.purge()
        return str(manager.find("ann"))

    app.add_url_rule("/sign-in", "sign_in", lambda: str(session.update(_user_id="ann")))
    app.add_url_rule("/leave", "leave", leave)
    app.after_request(lambda response: response.headers.add("X-Page", request.path) or response)
    app.register_error_handler(StoreUnavailable, lambda error: str(manager.find("ann")))
    client = app.test_client()
    client.get("/sign-in")
    store.fail("entries", times=None)
    response = client.get("/leave")
    assert (response.status_code, response.headers["X-Page"]) == (503, "/leave")
    assert client.get_cookie("session") is None
    store.heal()
    with app.app_context():
        assert manager.find("ann") == []


def test_a_handler_with_a_mistake_is_a_500_and_the_mistake_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store)
    app.register_error_handler(503, mistake)
    assert in_an_outage(app, store).status_code == 500
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_where_exceptions_propagate_this_one_does() -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(StoreUnavailable):
        in_an_outage(app, store)


@pytest.mark.parametrize("caught", [HTTPException, Exception])
@pytest.mark.parametrize("of_blueprint", [False, True])
def test_other_exceptions_reach_the_handlers_that_they_reach_without_us(
    caught: type[Exception], of_blueprint: bool
) -> None:
    app = Flask("shop")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=MemoryStore())
    SessionManager(app)
    pages = Blueprint("pages", "pages")
    pages.add_url_rule("/abort", view_func=lambda: abort(500))
    pages.add_url_rule("/fail", "fail", mistake)
    (pages if of_blueprint else app).register_error_handler(caught, lambda error: (type(error).__name__, 500))
    app.register_blueprint(pages)
    client = app.test_client()
    assert client.get("/abort").text == "InternalServerError"
    assert client.get("/fail").text == ("ZeroDivisionError" if caught is Exception else "InternalServerError")


def test_another_extension_that_answers_for_errors_is_asked() -> None:
    store = FaultyStore(MemoryStore())
    app = Flask("shop")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store)
    app.handle_exception = lambda error: app.make_response((type(error).__name__, 500))  # type: ignore[method-assign, assignment]
    SessionManager(app)
    app.add_url_rule("/fail", "fail", mistake)
    assert app.test_client().get("/fail").text == "ZeroDivisionError"
