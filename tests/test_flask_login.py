"""Flask-Login with its default settings, over every store: no line of code for either."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask, flash, get_flashed_messages, redirect
from flask.testing import FlaskClient
from http_support import cookie_of, fate, set_cookies, watch
from werkzeug.test import TestResponse

from flask_sessionstore import SessionManager, SessionStore, session
from flask_sessionstore.stores import ServerSideStore

flask_login = pytest.importorskip("flask_login")


class User(flask_login.UserMixin):  # type: ignore[misc, name-defined]  # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


def make_app(store: SessionStore, **config: object) -> Flask:
    """A small application in the way that Flask-Login's documentation has it."""
    app = Flask("with_flask_login")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True, **config)
    SessionManager(app)
    manager = flask_login.LoginManager(app)
    manager.login_view = "log_in"
    manager.user_loader(User)
    for path, view in VIEWS.items():
        app.add_url_rule(path, view.__name__, view)
    return app


def index() -> str:
    user = flask_login.current_user
    return f"{user.id if user.is_authenticated else 'nobody'}, cart: {session.get('cart')}"


def public() -> str:
    return "for all"


def buy() -> str:
    session.setdefault("cart", []).append("mug")
    return ""


def log_in(name: str = "ann") -> t.Any:
    flask_login.login_user(User(name))
    flash(f"Welcome, {name}.")
    return redirect("/")


def log_in_as(name: str) -> t.Any:
    return log_in(name)


def log_in_remembered() -> str:
    flask_login.login_user(User("ann"), remember=True)
    return ""


def log_out() -> t.Any:
    flask_login.logout_user()
    flash("Good bye.")
    return redirect("/")


def messages() -> str:
    return " ".join(map(str, get_flashed_messages()))


@flask_login.login_required  # type: ignore[untyped-decorator]  # as above
def private() -> str:
    return "for members"


@flask_login.fresh_login_required  # type: ignore[untyped-decorator]  # as above
def fresh() -> str:
    return "for those who have just logged in"


VIEWS: dict[str, t.Callable[..., t.Any]] = {
    "/": index,
    "/public": public,
    "/buy": buy,
    "/login": log_in,
    "/login/<name>": log_in_as,
    "/remember": log_in_remembered,
    "/logout": log_out,
    "/messages": messages,
    "/private": private,
    "/fresh": fresh,
}


def cookie(client: FlaskClient) -> str:
    """The session cookie that a client holds."""
    found = client.get_cookie("session")
    assert found is not None
    return found.value


def key(client: FlaskClient) -> str:
    return cookie(client).rsplit(".", 2)[0]


def with_cookie(app: Flask, value: str) -> FlaskClient:
    """A client that has got hold of a cookie."""
    client = app.test_client()
    client.set_cookie("session", value)
    return client


def sessions_cookie(response: TestResponse) -> str:
    return next(cookie.value for cookie in set_cookies(response) if cookie.name == "session")


def test_logging_in_and_out(store: SessionStore) -> None:
    client = make_app(store).test_client()
    assert client.get("/").text == "nobody, cart: None"
    assert client.get("/private").headers["Location"].startswith("/login")
    client.get("/buy")
    client.get("/login")
    assert client.get("/").text == "ann, cart: ['mug']"
    assert client.get("/private").text == "for members"
    assert client.get("/fresh").text == "for those who have just logged in"
    client.get("/logout")
    assert client.get("/").text == "nobody, cart: ['mug']"
    assert client.get("/private").status_code == 302


def test_flashed_messages_survive_both(store: SessionStore) -> None:
    client = make_app(store).test_client()
    client.get("/login")
    assert client.get("/messages").text == "Welcome, ann."
    client.get("/logout")
    assert client.get("/messages").text == "Good bye."
    assert client.get("/messages").text == ""


def test_logging_in_and_out_changes_the_key_and_the_old_one_is_dead(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    client = app.test_client()
    cookies = []
    for path in ("/buy", "/login", "/login/bob", "/logout"):
        client.get(path)
        cookies.append(cookie(client))
    assert len({text.partition(".")[0] for text in cookies}) == 4
    assert [with_cookie(app, old).get("/").text for old in cookies[:-1]] == ["nobody, cart: None"] * 3
    assert client.get("/").text == "nobody, cart: ['mug']"


def test_a_planted_session_is_worth_nothing_after_the_victim_s_log_in(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    attacker = app.test_client()
    attacker.get("/buy")
    victim = with_cookie(app, cookie(attacker))
    victim.get("/login")
    assert attacker.get("/").text == "nobody, cart: None"
    assert victim.get("/private").status_code == 200


def test_logging_in_again_as_the_same_user_keeps_the_key(server_store: ServerSideStore) -> None:
    client = make_app(server_store).test_client()
    client.get("/login")
    before = key(client)
    client.get("/login")
    assert key(client) == before


def test_a_log_out_with_nothing_else_in_the_session_deletes_the_cookie(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    app.add_url_rule("/leave", "leave", lambda: str(flask_login.logout_user()))
    client = app.test_client()
    client.get("/login")
    client.get("/messages")
    thief = with_cookie(app, cookie(client))
    response = client.get("/leave")
    # Flask-Login leaves nothing behind but what it took out.
    assert fate(response) in ("deleted", "set")
    assert thief.get("/private").status_code == 302
    assert client.get("/private").status_code == 302


def test_a_request_under_way_cannot_log_in_again_who_logged_out_meanwhile(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    client = app.test_client()
    client.get("/login")
    old = cookie(client)

    def slow() -> str:
        before = index()
        client.get("/logout")
        session["cart"] = ["late"]
        return before

    app.view_functions["public"] = slow
    response = with_cookie(app, old).get("/public")
    assert response.text.startswith("ann")
    assert set_cookies(response) == []
    assert client.get("/").text == "nobody, cart: None"
    assert with_cookie(app, old).get("/").text == "nobody, cart: None"


def test_a_page_for_all_costs_one_load_for_flask_login_looks_after_each_request(store: SessionStore) -> None:
    client = make_app(store).test_client()
    client.get("/login")
    calls = watch(store)
    response = client.get("/public")
    assert calls == ["load"]
    assert "Set-Cookie" not in response.headers


def test_being_remembered_outlives_the_session(store: SessionStore) -> None:
    client = make_app(store).test_client()
    names = {cookie.name for cookie in set_cookies(client.get("/remember"))}
    assert names == {"remember_token", "session"}
    client.delete_cookie("session")
    response = client.get("/")
    assert response.text == "ann, cart: None"
    assert sessions_cookie(response)
    assert client.get("/fresh").status_code == 401
    client.get("/logout")
    assert client.get("/").text == "nobody, cart: None"
    assert client.get_cookie("remember_token") is None


def test_a_stolen_session_is_noticed_by_flask_login_s_basic_protection(store: SessionStore) -> None:
    client = make_app(store).test_client()
    client.get("/login")
    elsewhere = {"User-Agent": "another browser"}
    assert client.get("/", headers=elsewhere).text.startswith("ann")
    assert client.get("/fresh", headers=elsewhere).status_code == 401


def test_strong_protection_ends_the_session(store: SessionStore) -> None:
    app = make_app(store)
    t.cast("t.Any", app).login_manager.session_protection = "strong"
    client = app.test_client()
    client.get("/login")
    assert client.get("/", headers={"User-Agent": "another browser"}).text.startswith("nobody")
    assert client.get("/").text.startswith("nobody")


def test_the_session_is_filed_under_flask_login_s_user(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    handles: list[str | None] = []

    def note() -> str:
        handles.append(session.handle)
        return ""

    app.add_url_rule("/note", "note", note)
    client = app.test_client()
    client.get("/login/bob")
    client.get("/note")
    info = server_store.info(handles[0] or "")
    assert info is not None
    assert info.owner == "bob"


def test_the_cookie_goes_with_its_settings(store: SessionStore) -> None:
    client = make_app(store, SESSION_COOKIE_SAMESITE="Lax").test_client()
    assert cookie_of(client.get("/login")).attributes["samesite"] == "Lax"
