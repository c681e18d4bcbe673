"""Flask's test clients, and applications that override parts of the session interface."""

from __future__ import annotations

import typing as t

import flask
import pytest
from flask import Flask, Response, redirect, request
from flask.sessions import SecureCookieSession
from flask.wrappers import Request
from flask_apps import an_app, clear, route, the_context
from http_support import set_cookies, watch

from flask_sessionstore import Session, SessionManager, SessionStore, StoreSessionInterface, session
from flask_sessionstore.stores.memory import MemoryStore


@pytest.fixture
def app(store: SessionStore) -> Flask:
    """An application on every store in turn."""
    return an_app(store)


# -- test clients ----------------------------------------------------------------------------------------------------


def test_session_transaction_sees_and_leaves_what_views_do(app: Flask) -> None:
    app.testing = True
    route(app, "/", lambda: str(session["a"]))
    route(app, "/write", lambda: str(session.update(b=2)))
    with app.test_client() as client:
        with client.session_transaction() as opened:
            opened["a"] = [1]
            assert len(opened) == 1
        assert client.get("/").text == "[1]"
        assert flask.session["a"] == [1]  # the context is kept
        client.get("/write")
        with client.session_transaction() as opened:
            assert dict(opened) == {"a": [1], "b": 2}


def test_session_transaction_needs_cookies_and_a_secret(store: SessionStore) -> None:
    app = an_app(store)
    with pytest.raises(TypeError, match="cookies"), app.test_client(use_cookies=False).session_transaction():
        pass
    app.secret_key = None
    with pytest.raises(RuntimeError, match="session"), app.test_client().session_transaction():
        pass


def test_session_transaction_may_name_the_path_and_stands_within_another_context(store: SessionStore) -> None:
    app = an_app(store, APPLICATION_ROOT="/app")
    route(app, "/read", lambda: str(session.get("a")))
    client = app.test_client()
    with app.test_request_context("/"), client.session_transaction(base_url="http://localhost/app") as opened:
        opened["a"] = 1
    assert client.get("/read", base_url="http://localhost/app").text == "1"


def test_a_client_that_follows_redirects_ends_with_the_final_session(app: Flask) -> None:
    def first() -> t.Any:
        session["step"] = 1
        return redirect("/second")

    def second() -> t.Any:
        session["step"] += 1
        session.setdefault("seen", request.path)
        return redirect("/third")

    route(app, "/first", first)
    route(app, "/second", second)
    route(app, "/third", lambda: "end")
    with app.test_client() as client:
        client.get("/first", follow_redirects=True)
        assert dict(flask.session) == {"step": 2, "seen": "/second"}


def test_a_stream_keeps_the_session(store: SessionStore) -> None:
    app = an_app(store)

    def view() -> Response:
        flask.session["a"] = "before"
        calls.extend(watch(store))

        def generate() -> t.Iterator[str]:
            yield str(flask.session["a"])

        return Response(flask.stream_with_context(generate()))

    calls: list[str] = []
    route(app, "/", view)
    assert app.test_client().get("/").text == "before"
    assert "load" not in calls


# -- overriding the interface ----------------------------------------------------------------------------------------


class Interface(StoreSessionInterface):
    """Notes, and does what a test needs."""

    open_with: t.ClassVar[t.Callable[[Flask, Request], object]] = staticmethod(lambda app, request: None)

    def open_session(self, app: Flask, request: Request) -> Session | None:
        type(self).open_with(app, request)
        return super().open_session(app, request)


class Manager(SessionManager):
    interface_class = Interface


def _overridden(open_with: t.Callable[[Flask, Request], object], **config: object) -> Flask:
    class Own(Interface):
        pass

    class OwnManager(Manager):
        interface_class = Own

    Own.open_with = staticmethod(open_with)
    app = Flask("overridden")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=MemoryStore(), **config)
    OwnManager(app)
    return app


def test_an_interface_that_fails_to_open_pops_the_context() -> None:
    def fail(app: Flask, request: Request) -> None:
        raise RuntimeError("no session today")

    app = _overridden(fail)
    app.logger.disabled = True
    route(app, "/", lambda: "never")
    response = app.test_client().get("/")
    assert response.status_code == 500
    assert not flask.has_request_context()
    assert not flask.has_app_context()


def test_the_endpoint_can_be_had_when_the_session_is_opened() -> None:
    found: list[str | None] = []

    def match(app: Flask, request: Request) -> None:
        the_context().match_request()
        found.append(request.endpoint)

    app = _overridden(match)
    app.add_url_rule("/", "home", lambda: "home")
    assert app.test_client().get("/").text == "home"
    assert found == ["home"]


def test_an_interface_may_open_no_session() -> None:
    class Own(StoreSessionInterface):
        def open_session(self, app: Flask, request: Request) -> Session | None:
            return None

    class OwnManager(SessionManager):
        interface_class = Own

    app = Flask("without")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
    OwnManager(app)
    route(app, "/", lambda: str(session.get("a")))
    response = app.test_client().get("/")
    assert response.text == "None"
    assert "Set-Cookie" not in response.headers


def test_the_cookie_s_name_may_depend_on_the_request(store: SessionStore) -> None:
    class PerTenant(StoreSessionInterface):
        def get_cookie_name(self, app: Flask) -> str:
            return f"{request.url.rpartition('/')[2]}_session"

    class PerTenantManager(SessionManager):
        interface_class = PerTenant

    app = Flask("tenants")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store)
    PerTenantManager(app)
    route(app, "/set/<tenant>", lambda tenant: str(session.update(tenant=tenant)))
    route(app, "/get/<tenant>", lambda tenant: str(session.get("tenant")))
    route(app, "/end/<tenant>", lambda tenant: clear())
    client = app.test_client()
    for tenant in ("red", "blue"):
        assert set_cookies(client.get(f"/set/{tenant}"))[0].name == f"{tenant}_session"
    assert [client.get(f"/get/{tenant}").text for tenant in ("red", "blue", "green")] == ["red", "blue", "None"]
    assert set_cookies(client.get("/end/red"))[0].name == "red_session"
    assert [client.get(f"/get/{tenant}").text for tenant in ("red", "blue")] == ["None", "blue"]


def test_flashes_are_kept_until_they_are_shown(app: Flask) -> None:
    def view() -> str:
        before = session.modified
        flask.flash("Zip")
        assert (before, session.modified) == (False, True)
        flask.flash("Zap", "error")
        return ""

    route(app, "/flash", view)
    route(app, "/show", lambda: str(flask.get_flashed_messages(with_categories=True)))
    client = app.test_client()
    client.get("/flash")
    assert client.get("/show").text == "[('message', 'Zip'), ('error', 'Zap')]"
    assert client.get("/show").text == "[]"


def test_a_session_of_another_kind_that_an_override_opens_is_left_to_it() -> None:
    class Own(StoreSessionInterface):
        def open_session(self, app: Flask, request: Request) -> t.Any:
            return SecureCookieSession({"cart": ["tea"]})

    class OwnManager(SessionManager):
        interface_class = Own

    app = Flask("another kind")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
    OwnManager(app)
    route(app, "/", lambda: str(session["cart"]))
    response = app.test_client().get("/")
    assert (response.text, set_cookies(response)) == ("['tea']", [])
