"""Flask-Login with its default settings, over every store: no line of code for either."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
from clients import buy, cookie, key, messages, renew, with_cookie
from clocks import Clock
from flask import Flask, flash, redirect
from flask.testing import FlaskClient
from http_support import cookie_of, fate, redirects, set_cookies, watch
from werkzeug.test import TestResponse

from flask_sessionstore import SessionManager, SessionStore, session
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore

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


def kept() -> str:
    """What Flask-Login keeps in the session."""
    return " ".join(f"{name}={session[name]}" for name in ("_user_id", "_fresh", "_id", "_remember") if name in session)


def confirm() -> str:
    flask_login.confirm_login()
    return ""


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
    "/kept": kept,
    "/renew": renew,
    "/confirm": confirm,
    "/private": private,
    "/fresh": fresh,
}


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


# -- what Flask-Login keeps ----------------------------------------------------------------------------------------


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


# -- logging out ---------------------------------------------------------------------------------------------------


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


# -- two at once ---------------------------------------------------------------------------------------------------


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


# -- ending them all -----------------------------------------------------------------------------------------------


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
