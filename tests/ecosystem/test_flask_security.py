"""Flask-Security with its default settings, over every store: no line of code for either.

Only its passwords are kept in the clear here, for speed, and the users in an SQLite of their own.
"""

from __future__ import annotations

import itertools
import re
import typing as t

import pytest
from clients import buy, cookie, messages, renew, with_cookie
from flask import Flask, flash
from flask.testing import FlaskClient
from http_support import cookie_of, redirects, set_cookies
from werkzeug.test import TestResponse

from flask_sessionstore import SessionManager, SessionStore, session
from flask_sessionstore.interface import StoreSessionInterface
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore

pytest.importorskip("flask_security")
import flask_security
from flask_security.models import fsqla_v3
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()
fsqla_v3.FsModels.set_db_info(db)  # type: ignore[attr-defined, no-untyped-call]  # it is public all the same


class Role(db.Model, fsqla_v3.FsRoleMixin):  # type: ignore[misc, name-defined]  # classes made at run time
    pass


class User(db.Model, fsqla_v3.FsUserMixin):  # type: ignore[misc, name-defined]  # as above
    pass


users = flask_security.SQLAlchemyUserDatastore(db, User, Role)
sessions = SessionManager()
PASSWORD, OTHER_PASSWORD = "correct horse", "battery staple"
JSON = {"Accept": "application/json"}
_numbers = itertools.count()


@pytest.fixture(scope="module")
def site() -> t.Iterator[Flask]:
    """An application in the way that Flask-Security's documentation has it, made once: its templates take long."""
    app = Flask("with_flask_security")
    app.config.update(
        SECRET_KEY="a secret",
        TESTING=True,
        SQLALCHEMY_DATABASE_URI="sqlite://",
        SECURITY_PASSWORD_SALT="some salt",
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_CHANGEABLE=True,
        SECURITY_SEND_PASSWORD_CHANGE_EMAIL=False,
    )
    db.init_app(app)
    sessions.init_app(app, store="memory:")
    flask_security.Security(app, users)
    for path, view in VIEWS.items():
        app.add_url_rule(path, view.__name__, view)
    with app.app_context():
        db.create_all()
        engine = db.engine
    yield app
    t.cast("StoreSessionInterface", app.session_interface).store = MemoryStore()  # lets go of the last one
    engine.dispose()


@pytest.fixture
def app(site: Flask, store: SessionStore) -> Flask:
    """The application over every store in turn."""
    t.cast("StoreSessionInterface", site.session_interface).store = store
    return site


@pytest.fixture
def server_app(site: Flask, server_store: ServerSideStore) -> Flask:
    """The application over every server-side store in turn."""
    t.cast("StoreSessionInterface", site.session_interface).store = server_store
    return site


@pytest.fixture
def index_app(site: Flask, index: ServerSideStore) -> Flask:
    """The application over every store that can tell whose its sessions are."""
    t.cast("StoreSessionInterface", site.session_interface).store = index
    return site


@pytest.fixture
def email(site: Flask) -> str:
    """A user of the test's own."""
    return register(site)


def register(app: Flask) -> str:
    email = f"ann{next(_numbers)}@example.com"
    with app.app_context():
        users.create_user(email=email, password=flask_security.hash_password(PASSWORD))
        db.session.commit()
    return email


def uniquifier(app: Flask, email: str) -> str:
    """What Flask-Security calls a user in the session."""
    with app.app_context():
        return found(email).get_id()


def found(email: str) -> flask_security.UserMixin:
    user = users.find_user(email=email)
    assert user is not None
    return user


def kept() -> dict[str, t.Any]:
    return dict(session)


def leave() -> str:
    flask_security.logout_user()
    flash("Good bye.")
    return ""


def grow_old() -> str:
    """As a day later: when the password was given is kept in the session."""
    session["fs_paa"] -= 25 * 3600
    session.pop("fs_gexp", None)
    return ""


@flask_security.auth_required()
def private() -> str:
    return t.cast("str", flask_security.current_user.email)


@flask_security.auth_required(within=24 * 60, grace=60)
def fresh() -> str:
    return "for those who gave their password lately"


VIEWS: dict[str, t.Callable[[], t.Any]] = {
    "/kept": kept,
    "/buy": buy,
    "/renew": renew,
    "/leave": leave,
    "/messages": messages,
    "/grow-old": grow_old,
    "/private": private,
    "/fresh": fresh,
}


# -- a visitor -----------------------------------------------------------------------------------------------------


def token_of(page: TestResponse) -> str:
    found = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


def submit(client: FlaskClient, path: str, **fields: str) -> TestResponse:
    """Fill in a form, as it is at ``path``."""
    return client.post(path, data={"csrf_token": token_of(client.get(path)), **fields})


def log_in(client: FlaskClient, email: str, **fields: str) -> TestResponse:
    response = submit(client, "/login", email=email, password=PASSWORD, **fields)
    assert redirects(response)
    return response


def change_password(client: FlaskClient, **fields: str) -> TestResponse:
    """Send the form for another password; without ``csrf_token`` with that of the page."""
    words = {"password": PASSWORD, "new_password": OTHER_PASSWORD, "new_password_confirm": OTHER_PASSWORD}
    return client.post("/change", data=words | fields) if fields else submit(client, "/change", **words)


def is_in(client: FlaskClient) -> bool:
    return client.get("/private").status_code == 200


# -- what they meet ------------------------------------------------------------------------------------------------


def test_logging_in_and_out(app: Flask, email: str) -> None:
    client = app.test_client()
    assert not is_in(client)
    client.get("/buy")
    log_in(client, email)
    assert client.get("/private").text == email
    client.post("/logout")
    assert not is_in(client)
    assert client.get("/kept").json["cart"] == ["mug"]  # type: ignore[index]  # it is a dictionary
    log_in(client, email)
    assert is_in(client)


def test_a_farewell_arrives(app: Flask, email: str) -> None:
    client = app.test_client()
    log_in(client, email)
    client.get("/leave")
    assert client.get("/messages").text == "Good bye."


def test_logging_in_and_out_changes_the_key_and_the_old_one_is_dead(server_app: Flask, email: str) -> None:
    client = server_app.test_client()
    client.get("/buy")
    cookies = [cookie(client)]
    log_in(client, email)
    cookies.append(cookie(client))
    client.post("/logout")
    cookies.append(cookie(client))
    assert len({text.partition(".")[0] for text in cookies}) == 3
    assert [with_cookie(server_app, old).get("/kept").json for old in cookies[:2]] == [{}, {}]


def test_nothing_planted_survives_a_log_in(server_app: Flask, email: str) -> None:
    attacker = server_app.test_client()
    token = token_of(attacker.get("/login"))
    victim = with_cookie(server_app, cookie(attacker))
    assert redirects(victim.post("/login", data={"email": email, "password": PASSWORD, "csrf_token": token}))
    assert is_in(victim)
    assert not is_in(attacker)
    change_password(victim, csrf_token=token)
    change_password(victim, csrf_token=token_of(attacker.get("/login")))
    assert with_password(server_app, email, PASSWORD)
    assert redirects(change_password(victim))
    assert with_password(server_app, email, OTHER_PASSWORD)


def with_password(app: Flask, email: str, password: str) -> bool:
    """Whether this is the user's password."""
    client = app.test_client()
    return redirects(submit(client, "/login", email=email, password=password))


def test_the_token_in_the_answer_to_a_log_in_is_good_for_the_next_request(app: Flask, email: str) -> None:
    """What a page of JavaScript does."""
    client = app.test_client()

    def post(path: str, **fields: str) -> TestResponse:
        return client.post(path, json=fields, headers=JSON)

    def token(response: TestResponse) -> str:
        assert response.status_code == 200
        return t.cast("str", response.get_json()["response"]["csrf_token"])

    before = token(client.get("/login", headers={**JSON, "Content-Type": "application/json"}))
    after = token(post("/login", email=email, password=PASSWORD, csrf_token=before))
    words = {"password": PASSWORD, "new_password": OTHER_PASSWORD, "new_password_confirm": OTHER_PASSWORD}
    assert post("/change", **words, csrf_token=before).status_code == 400
    assert token(post("/change", **words, csrf_token=after)) != after


def test_what_flask_security_keeps_survives_a_renewal(app: Flask, email: str) -> None:
    client = app.test_client()
    log_in(client, email)
    client.get("/fresh")
    before, old = client.get("/kept").json, cookie(client)
    assert {"_user_id", "_id", "_fresh", "fs_cc", "fs_paa", "fs_gexp"} <= set(before or ())
    client.get("/renew")
    assert cookie(client) != old
    assert client.get("/kept").json == before


def test_freshness_lasts_as_long_as_it_is_to_and_a_password_renews_it(app: Flask, email: str) -> None:
    client = app.test_client()
    log_in(client, email)
    assert client.get("/fresh").status_code == 200
    client.get("/grow-old")
    assert is_in(client)
    assert "/verify" in client.get("/fresh").headers["Location"]
    assert submit(client, "/verify", password="wrong").status_code == 200
    assert redirects(client.get("/fresh"))
    assert redirects(submit(client, "/verify", password=PASSWORD))
    assert client.get("/fresh").status_code == 200


def test_being_remembered_outlives_the_session_and_is_not_fresh(app: Flask, email: str) -> None:
    client = app.test_client()
    response = log_in(client, email, remember="y")
    assert {cookie.name for cookie in set_cookies(response)} == {"remember_token", "session"}
    client.delete_cookie("session")
    assert is_in(client)
    assert client.get("/kept").json == {"_user_id": uniquifier(app, email), "_fresh": False}
    assert "/verify" in client.get("/fresh").headers["Location"]
    client.post("/logout")
    assert client.get_cookie("remember_token") is None
    assert not is_in(client)


# -- another password ----------------------------------------------------------------------------------------------


def test_another_password_changes_the_key_and_logs_out_everywhere_else(app: Flask, email: str) -> None:
    here, there, remembered = app.test_client(), app.test_client(), app.test_client()
    for client in (here, there):
        log_in(client, email)
    log_in(remembered, email, remember="y")
    old = cookie(here)
    assert redirects(change_password(here))
    assert cookie(here) != old
    assert is_in(here)
    assert not is_in(there)
    assert not is_in(remembered)


def test_what_is_left_of_the_old_sessions_can_be_ended(index_app: Flask, email: str) -> None:
    """They are filed under what Flask-Security called the user before."""
    here, there = index_app.test_client(), index_app.test_client()
    for client in (here, there):
        log_in(client, email)
    before = uniquifier(index_app, email)
    change_password(here)
    with index_app.app_context():
        assert [len(sessions.find(owner)) for owner in (before, uniquifier(index_app, email))] == [1, 1]
        assert sessions.revoke_all(before) == 1
        assert sessions.find(before) == []
    assert is_in(here)


def test_logging_out_everywhere_without_another_password(index_app: Flask, email: str) -> None:
    here, remembered = index_app.test_client(), index_app.test_client()
    log_in(here, email)
    log_in(remembered, email, remember="y")
    with index_app.app_context():
        before = found(email).get_id()
        users.set_uniquifier(found(email))
        db.session.commit()
        assert sessions.revoke_all(before) == 2
    assert [is_in(here), is_in(remembered)] == [False, False]
    log_in(here, email)
    assert is_in(here)


def test_the_log_in_of_another_user_takes_the_session_over(server_app: Flask, email: str) -> None:
    other = register(server_app)
    client = server_app.test_client()
    log_in(client, email)
    first = cookie(client)
    server_app.view_functions["buy"] = lambda: str(flask_security.login_user(found(other)))
    try:
        second = cookie_of(client.get("/buy")).value
    finally:
        server_app.view_functions["buy"] = buy
    assert client.get("/private").text == other
    assert second != first
    assert not is_in(with_cookie(server_app, first))
