"""Flask-WTF with its default settings, over every store: its token lives in the session."""

from __future__ import annotations

import typing as t

import pytest
from clients import buy, renew
from flask import Flask
from flask.testing import FlaskClient

from flask_sessionstore import SessionManager, SessionStore, session
from flask_sessionstore.stores.memory import MemoryStore

flask_wtf = pytest.importorskip("flask_wtf")


class Form(flask_wtf.FlaskForm):  # type: ignore[misc, name-defined]  # Flask-WTF has no types
    """A form with nothing but its token."""


def make_app(store: SessionStore, **config: object) -> Flask:
    """An application whose every POST needs a token, and that signs in without Flask-Login."""
    app = Flask("with_flask_wtf")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, SESSION_OWNER_KEY="user_id", TESTING=True, **config)
    SessionManager(app)
    flask_wtf.CSRFProtect(app)
    for path, view in VIEWS.items():
        app.add_url_rule(path, view.__name__, view, methods=["GET", "POST"])
    return app


def form() -> str:
    """A page that is nothing but its token, as the form has it."""
    return t.cast("str", Form().csrf_token.current_token)


def order() -> t.Any:
    return "ordered" if Form().validate_on_submit() else ("refused", 400)


def log_in() -> str:
    session["user_id"] = "ann"
    return ""


def log_in_and_show_a_form() -> str:
    Form()  # as the log-in form, which was checked
    session["user_id"] = "ann"
    return form()


def log_out() -> str:
    session.clear()
    return ""


VIEWS: dict[str, t.Callable[[], t.Any]] = {
    "/form": form,
    "/order": order,
    "/login": log_in,
    "/login-page": log_in_and_show_a_form,
    "/logout": log_out,
    "/renew": renew,
    "/buy": buy,
}


def post(client: FlaskClient, path: str, token: str, field: str = "csrf_token") -> int:
    """The status of a form sent with ``token``."""
    return client.post(path, data={field: token}).status_code


def planted_in(client: FlaskClient, other: FlaskClient) -> None:
    """Put the session cookie of ``client`` into the browser ``other``."""
    cookie = client.get_cookie("session")
    assert cookie is not None
    other.set_cookie("session", cookie.value)


def test_a_form_needs_the_token_of_its_session(store: SessionStore) -> None:
    app = make_app(store)
    client, other = app.test_client(), app.test_client()
    assert post(client, "/order", client.get("/form").text) == 200
    assert post(client, "/order", other.get("/form").text) == 400
    assert post(client, "/order", "") == 400
    assert post(app.test_client(), "/order", client.get("/form").text) == 400


def test_a_token_survives_ordinary_requests_and_a_renewal(store: SessionStore) -> None:
    client = make_app(store).test_client()
    token = client.get("/form").text
    client.get("/buy")
    assert post(client, "/order", token) == 200
    client.get("/renew")
    assert post(client, "/order", token) == 200
    assert client.post("/order", headers={"X-CSRFToken": token}).status_code == 200


def test_signing_in_replaces_the_token_and_the_next_form_works(store: SessionStore) -> None:
    client = make_app(store).test_client()
    before = client.get("/form").text
    assert post(client, "/login", before) == 200
    assert post(client, "/order", before) == 400
    after = client.get("/form").text
    assert post(client, "/order", after) == 200
    assert post(client, "/order", before) == 400
    assert post(client, "/login", after) == 200  # the same user once more
    assert post(client, "/order", after) == 200


def test_a_form_in_the_response_to_the_sign_in_works() -> None:
    """Flask-WTF remembers the token for the request, beside the session."""
    client = make_app(MemoryStore()).test_client()
    before = client.get("/form").text
    after = client.post("/login-page", data={"csrf_token": before}).text
    assert post(client, "/order", after) == 200
    assert post(client, "/order", before) == 400


def test_signing_out_replaces_the_token(store: SessionStore) -> None:
    client = make_app(store).test_client()
    client.get("/login")
    before = client.get("/form").text
    assert post(client, "/logout", before) == 200
    assert post(client, "/order", before) == 400
    assert post(client, "/order", client.get("/form").text) == 200


def test_a_planted_token_is_refused_after_the_victim_s_sign_in(store: SessionStore) -> None:
    app = make_app(store)
    attacker, victim = app.test_client(), app.test_client()
    token = attacker.get("/form").text
    planted_in(attacker, victim)
    assert post(victim, "/order", token) == 200
    assert post(victim, "/login", token) == 200
    assert post(victim, "/order", token) == 400
    assert post(victim, "/order", attacker.get("/form").text) == 400
    assert post(victim, "/order", victim.get("/form").text) == 200


def test_a_token_from_before_the_sign_in_holds_where_a_sign_in_drops_nothing() -> None:
    client = make_app(MemoryStore(), SESSION_LOGIN_DROPS=()).test_client()
    before = client.get("/form").text
    assert post(client, "/login", before) == 200
    assert post(client, "/order", before) == 200


def test_a_field_of_another_name_is_named_in_both_settings() -> None:
    app = make_app(MemoryStore(), WTF_CSRF_FIELD_NAME="proof", SESSION_LOGIN_DROPS=("proof",))
    app.view_functions["form"] = lambda: t.cast("str", Form().proof.current_token)
    client = app.test_client()
    before = client.get("/form").text
    assert post(client, "/login", before, "proof") == 200
    assert post(client, "/order", before, "proof") == 400
    assert post(client, "/order", client.get("/form").text, "proof") == 200
