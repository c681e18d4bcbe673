"""Flask-Login with its default settings, over every store: no line of code for either."""

from __future__ import annotations

from datetime import timedelta

import pytest
from clients import cookie, key, with_cookie
from flask_login_app import User, index, make_app
from http_support import cookie_of, fate, redirects, set_cookies, watch
from werkzeug.test import TestResponse

from flask_sessionstore import SessionStore, session
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

flask_login = pytest.importorskip("flask_login")
ELSEWHERE = {"User-Agent": "another browser"}


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
    assert redirects(client.get("/private"))


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
    assert redirects(thief.get("/private"))
    assert redirects(client.get("/private"))


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


@pytest.mark.parametrize("meanwhile", [[], ["/renew"], ["/login/bob"]], ids=str)
@pytest.mark.parametrize("leave", ["/logout", "/leave"])
def test_a_poll_that_was_under_way_at_the_log_out_remembers_nobody(
    leave: str, meanwhile: list[str], server_store: ServerSideStore, clock: Clock
) -> None:
    """It has the remember cookie of before, and Flask-Login writes the owner for it; Flask's own session has no such
    trouble, for there is nothing to be signed in to.
    """
    server_store.clock = clock
    app = make_app(server_store)
    app.add_url_rule("/leave", "leave", lambda: str(flask_login.logout_user()))
    client, poll = app.test_client(), app.test_client()
    client.get("/remember")
    for name in ("session", "remember_token"):
        found = client.get_cookie(name)
        assert found is not None
        poll.set_cookie(name, found.value)
    for path in (*meanwhile, leave):
        client.get(path)
    before = client.get_cookie("session")
    response = poll.get("/")
    assert "session" not in [cookie.name for cookie in set_cookies(response)]
    assert client.get_cookie("session") == before
    assert client.get("/").text.startswith("nobody")
    clock.advance(10)  # by now it is no poll from before, and whoever has a remember cookie comes back
    assert sessions_cookie(poll.get("/"))


def test_a_number_for_every_guest_takes_no_log_in_away(server_store: ServerSideStore) -> None:
    app = make_app(server_store)

    @app.before_request
    def number() -> None:
        if "_user_id" not in session:
            session.setdefault("uid", "guest")

    client = app.test_client()
    client.get("/")
    poll = with_cookie(app, cookie(client))
    client.get("/login")
    assert set_cookies(poll.get("/")) == []
    assert client.get("/private").text == "for members"


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
    assert client.get("/", headers=ELSEWHERE).text.startswith("ann")
    assert client.get("/fresh", headers=ELSEWHERE).status_code == 401
    assert client.get("/fresh").status_code == 401


def test_strong_protection_ends_the_session(store: SessionStore) -> None:
    client = make_app(store, SESSION_PROTECTION="strong").test_client()
    client.get("/login")
    assert client.get("/").text.startswith("ann")
    assert client.get("/", headers=ELSEWHERE).text.startswith("nobody")
    assert client.get("/kept").text == ""
    assert redirects(client.get("/private"))
    client.get("/login")
    assert client.get("/private").status_code == 200


def test_strong_protection_ends_the_session_of_the_thief_and_of_the_visitor(server_store: ServerSideStore) -> None:
    app = make_app(server_store, SESSION_PROTECTION="strong")
    client = app.test_client()
    client.get("/buy")
    client.get("/login")
    thief = with_cookie(app, cookie(client))
    assert redirects(thief.get("/private", headers=ELSEWHERE))
    assert client.get("/").text == "nobody, cart: None"  # the old key is dead
    assert thief.get("/", headers=ELSEWHERE).text == "nobody, cart: ['mug']"


def test_strong_protection_takes_the_remember_cookie_too(store: SessionStore) -> None:
    client = make_app(store, SESSION_PROTECTION="strong").test_client()
    client.get("/remember")
    names = {
        cookie.name for cookie in set_cookies(client.get("/", headers=ELSEWHERE)) if cookie.deletes or not cookie.value
    }
    assert "remember_token" in names
    assert client.get_cookie("remember_token") is None
    assert client.get("/").text.startswith("nobody")


def test_strong_protection_is_basic_to_a_permanent_session() -> None:
    """Flask-Login has it so."""
    client = make_app(MemoryStore(), SESSION_PROTECTION="strong", SESSION_PERMANENT=True).test_client()
    client.get("/login")
    assert client.get("/", headers=ELSEWHERE).text.startswith("ann")
    assert client.get("/fresh", headers=ELSEWHERE).status_code == 401


def test_strong_protection_holds_for_a_session_with_a_lifetime_of_its_own() -> None:
    app = make_app(MemoryStore(), SESSION_PROTECTION="strong")

    def log_in_for_a_month() -> str:
        flask_login.login_user(User("ann"))
        session.lifetime = timedelta(days=30)
        return ""

    app.add_url_rule("/month", "month", log_in_for_a_month)
    client = app.test_client()
    assert int(cookie_of(client.get("/month")).attributes["max-age"]) == 30 * 86400
    assert client.get("/").text.startswith("ann")
    assert client.get("/", headers=ELSEWHERE).text.startswith("nobody")
