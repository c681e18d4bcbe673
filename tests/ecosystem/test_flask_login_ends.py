"""Flask-Login: what it keeps, logging out, two at once, and ending all sessions of a user."""

from __future__ import annotations

import typing as t

import pytest
from clients import cookie, key, renew, with_cookie
from flask import Flask, flash
from flask.testing import FlaskClient
from flask_login_app import User, confirm, index, log_in, log_in_remembered, log_out, make_app
from http_support import cookie_of, fate, redirects, set_cookies, watch
from werkzeug.test import TestResponse

from flask_sessionstore import SessionManager, SessionStore, session
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore

flask_login = pytest.importorskip("flask_login")


# -- what Flask-Login keeps ------------------------------------------------------------------------------------------


def test_what_flask_login_keeps_survives_a_renewal(store: SessionStore) -> None:
    client = make_app(store).test_client()
    client.get("/login")
    before = client.get("/kept").text
    assert before.startswith("_user_id=ann _fresh=True _id=")
    old = cookie(client)
    client.get("/renew")
    assert cookie(client) != old
    assert client.get("/kept").text == before
    assert client.get("/fresh").status_code == 200


def test_being_remembered_survives_a_renewal(store: SessionStore) -> None:
    app = make_app(store)
    app.add_url_rule("/both", "both", lambda: log_in_remembered() + renew())
    client = app.test_client()
    names = {cookie.name for cookie in set_cookies(client.get("/both"))}
    assert names == {"remember_token", "session"}
    client.get("/renew")
    client.delete_cookie("session")
    client.get("/private")
    client.get("/renew")
    assert client.get("/kept").text == "_user_id=ann _fresh=False"


def test_being_remembered_survives_saving_early() -> None:
    """Flask-Login says it to itself in the session, at the log-in, and hears it after the view."""
    app = make_app(MemoryStore())

    def both() -> str:
        log_in_remembered()
        session.save()
        return ""

    app.add_url_rule("/both", "both", both)
    client = app.test_client()
    assert "remember_token" in {cookie.name for cookie in set_cookies(client.get("/both"))}
    assert "_remember" not in client.get("/kept").text


def test_a_remembered_visitor_is_not_fresh_until_they_confirm(store: SessionStore) -> None:
    app = make_app(store)
    app.add_url_rule("/raise", "raise", lambda: confirm() + renew())
    client = app.test_client()
    client.get("/remember")
    client.delete_cookie("session")
    assert client.get("/kept").text == ""  # nobody has asked who it is
    assert client.get("/private").status_code == 200
    assert client.get("/kept").text == "_user_id=ann _fresh=False"
    assert client.get("/fresh").status_code == 401
    before = key(client)
    client.get("/raise")
    assert client.get("/fresh").status_code == 200
    assert key(client) != before


def test_confirming_alone_keeps_the_key() -> None:
    """The owner does not change: who wants a new key says so."""
    client = make_app(MemoryStore()).test_client()
    client.get("/remember")
    client.delete_cookie("session")
    client.get("/private")
    before = key(client)
    client.get("/confirm")
    assert client.get("/fresh").status_code == 200
    assert key(client) == before


def test_a_remembered_visitor_gets_a_key_of_their_own_over_a_planted_one(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    attacker = app.test_client()
    attacker.get("/buy")
    victim = app.test_client()
    victim.get("/remember")
    victim.set_cookie("session", cookie(attacker))
    assert victim.get("/").text == "ann, cart: ['mug']"
    assert attacker.get("/").text == "nobody, cart: None"


def test_a_remember_cookie_sent_anew_at_each_request_writes_nothing() -> None:
    store = MemoryStore()
    client = make_app(store, REMEMBER_COOKIE_REFRESH_EACH_REQUEST=True).test_client()
    client.get("/remember")
    calls = watch(store)
    names = {cookie.name for cookie in set_cookies(client.get("/"))}
    assert "remember_token" in names
    assert calls == ["load", "update_ttl"]


# -- logging out -----------------------------------------------------------------------------------------------------


def leave_by_clearing_first() -> str:
    session.clear()
    flask_login.logout_user()
    flash("Good bye.")
    return ""


def test_clearing_before_logging_out_leaves_nothing_and_the_farewell_arrives(store: SessionStore) -> None:
    app = make_app(store)
    app.add_url_rule("/leave", "leave", leave_by_clearing_first)
    client = app.test_client()
    client.get("/buy")
    client.get("/remember")
    client.get("/leave")
    assert client.get_cookie("remember_token") is None
    assert client.get("/messages").text == "Good bye."
    assert client.get("/").text == "nobody, cart: None"


@pytest.mark.parametrize("end", ["clear", "purge"])
def test_clearing_after_logging_out_makes_flask_login_forget_its_cookie(end: str) -> None:
    """It keeps what it is to do about the cookie in the session: the documentation warns."""
    app = make_app(MemoryStore())

    def leave() -> str:
        flask_login.logout_user()
        getattr(session, end)()
        return ""

    app.add_url_rule("/leave", "leave", leave)
    client = app.test_client()
    client.get("/remember")
    client.get("/leave")
    assert client.get("/").text.startswith("ann")


# -- two at once -----------------------------------------------------------------------------------------------------


def during(app: Flask, client: FlaskClient, path: str, view: t.Callable[[], t.Any]) -> TestResponse:
    """The response to ``view``, when the same browser sends another request, to ``path``, in the middle of it."""
    sent = cookie(client)

    def slow() -> t.Any:
        index()
        with_cookie(app, sent).get(path)
        return view()

    app.view_functions["public"] = slow
    return client.get("/public")


@pytest.mark.parametrize("second", ["ann", "bob"])
def test_two_log_ins_at_once_both_sign_in(server_store: ServerSideStore, second: str) -> None:
    app = make_app(server_store)
    client = app.test_client()
    client.get("/buy")
    old = cookie(client)
    late = during(app, client, "/login/ann", lambda: log_in(second))
    assert fate(late) == "set"
    assert client.get("/").text == f"{second}, cart: ['mug']"
    assert client.get("/fresh").status_code == 200
    assert with_cookie(app, old).get("/").text == "nobody, cart: None"


def test_a_log_out_during_a_log_out(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    client = app.test_client()
    client.get("/login")
    old = cookie(client)
    during(app, client, "/logout", log_out)
    assert redirects(client.get("/private"))
    assert redirects(with_cookie(app, old).get("/private"))


def test_another_user_s_log_in_takes_over_nothing_of_the_first_one_s_rights(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    client = app.test_client()
    client.get("/login")
    anns = cookie(client)
    client.get("/login/bob")
    assert client.get("/private").status_code == 200
    assert client.get("/kept").text.startswith("_user_id=bob _fresh=True")
    assert redirects(with_cookie(app, anns).get("/private"))


# -- ending them all -------------------------------------------------------------------------------------------------


def owners(app: Flask, owner: str) -> list[str]:
    """The handles of an owner's sessions."""
    with app.app_context():
        return [info.handle for info in sessions_of(app).find(owner)]


def sessions_of(app: Flask) -> SessionManager:
    return t.cast("SessionManager", app.extensions["sessionstore"])


def test_the_sessions_of_a_user_are_found_by_what_flask_login_calls_them(index: ServerSideStore) -> None:
    app = make_app(index)
    for name in ("ann", "bob", "bob"):
        app.test_client().get(f"/login/{name}")
    assert (len(owners(app, "ann")), len(owners(app, "bob"))) == (1, 2)
    client = app.test_client()
    client.get("/login/ann")
    client.get("/login/bob")
    assert (len(owners(app, "ann")), len(owners(app, "bob"))) == (1, 3)
    client.get("/logout")
    assert len(owners(app, "bob")) == 2


def test_a_revoked_visitor_is_logged_out_and_a_remembered_one_comes_back(index: ServerSideStore) -> None:
    app = make_app(index)
    here, there = app.test_client(), app.test_client()
    here.get("/login")
    there.get("/remember")
    with app.app_context():
        assert sessions_of(app).revoke_all("ann") == 2
    assert here.get("/").text.startswith("nobody")
    assert there.get("/").text.startswith("ann")
    assert there.get("/fresh").status_code == 401


def test_an_alternative_id_keeps_out_what_revoking_does_not_reach(index: ServerSideStore) -> None:
    """A remember cookie, and a log-in whose password was checked before."""
    app = make_app(index)
    ids = ["ann.1"]
    t.cast("t.Any", app).login_manager.user_loader(lambda name: User(name) if name == ids[-1] else None)

    def remembered() -> str:
        flask_login.login_user(User(ids[-1]), remember=True)
        return ""

    def overtaken() -> str:
        user = User(ids[-1])
        ids.append("ann.2")
        assert sessions_of(app).revoke_all(user.get_id()) == 1
        flask_login.login_user(user)
        return ""

    app.add_url_rule("/remembered", "remembered", remembered)
    app.add_url_rule("/overtaken", "overtaken", overtaken)
    here, late = app.test_client(), app.test_client()
    here.get("/remembered")
    assert here.get("/").text == "ann.1, cart: None"
    late.get("/overtaken")
    for client in (here, late):
        assert client.get("/").text == "nobody, cart: None"
        assert redirects(client.get("/private"))
    here.get("/remembered")
    assert here.get("/").text == "ann.2, cart: None"


def test_ending_all_sessions_of_one_s_own(index: ServerSideStore) -> None:
    app = make_app(index)

    def leave_everywhere() -> str:
        count = sessions_of(app).revoke_all("ann")
        flask_login.logout_user()
        flash(f"{count} ended.")
        return ""

    app.add_url_rule("/leave", "leave", leave_everywhere)
    here, there = app.test_client(), app.test_client()
    here.get("/remember")
    there.get("/login")
    here.get("/messages")
    here.get("/leave")
    assert here.get_cookie("remember_token") is None
    assert here.get("/messages").text == "2 ended."
    assert [client.get("/").text for client in (here, there)] == ["nobody, cart: None"] * 2


def test_the_cookie_goes_with_its_settings(store: SessionStore) -> None:
    client = make_app(store, SESSION_COOKIE_SAMESITE="Lax").test_client()
    assert cookie_of(client.get("/login")).attributes["samesite"] == "Lax"
