"""A session key that an attacker planted before the log-in, in the default settings, and through real log-in code.

The attacker has a session of his own, of a guest or of his own account, and puts its cookie into the victim's browser.
"""

from __future__ import annotations

import typing as t

import pytest
from clients import cookie, key, with_cookie
from flask import Flask
from flask.testing import FlaskClient
from log_ins import Site, sites

from flask_sessionstore import SessionStore
from flask_sessionstore.stores import ServerSideStore, from_url
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

NAMES = [
    "flask_login",
    "tutorial",
    "tutorial_without_clear",
    "quickstart",
    "authlib",
    "msal",
    "flaskr",
    "guests",
]

each_site = pytest.mark.parametrize("site", NAMES, indirect=True)


@pytest.fixture(scope="module")
def all_sites() -> t.Iterator[dict[str, Site]]:
    with sites() as found:
        assert list(found) == NAMES
        yield found


@pytest.fixture
def site(request: pytest.FixtureRequest, all_sites: dict[str, Site]) -> Site:
    return all_sites[request.param]


def me(client: FlaskClient) -> dict[str, t.Any]:
    """Who the application takes this browser for, and what is in its cart."""
    return t.cast("dict[str, t.Any]", client.get("/me").json)


def guest(site: Site, app: Flask) -> FlaskClient:
    """The attacker, who has put something into his cart."""
    attacker = app.test_client()
    attacker.post("/buy/bait")
    return attacker


def member(site: Site, app: Flask) -> FlaskClient:
    """The attacker, who is signed in to his own account."""
    attacker = guest(site, app)
    site.log_in(attacker, "mallory")
    return attacker


@each_site
def test_a_key_planted_by_a_guest_is_worth_nothing_after_the_log_in(
    site: Site, store: SessionStore, clock: Clock
) -> None:
    check(site, store, clock, guest)


@each_site
def test_a_key_planted_by_a_member_is_worth_nothing_after_the_log_in(
    site: Site, store: SessionStore, clock: Clock
) -> None:
    check(site, store, clock, member)


def check(site: Site, store: SessionStore, clock: Clock, attacker_of: t.Callable[[Site, Flask], FlaskClient]) -> None:
    store.clock = clock
    app = site.app(store)
    attacker = attacker_of(site, app)
    before = me(attacker)
    planted = cookie(attacker)
    victim = with_cookie(app, planted)
    site.log_in(victim, "ann")
    assert key(victim) != planted.rsplit(".", 2)[0]
    assert me(victim)["user"] not in (None, False)
    assert site.name == "flaskr" or me(victim)["user"] != before["user"]
    for seconds in (0, 11, 60):
        clock.advance(seconds)
        found = me(with_cookie(app, planted))
        if isinstance(store, ServerSideStore):
            assert found == {"user": None, "cart": None}
        else:  # a copy of a cookie that is the session itself works, and is the attacker's own
            assert found == before


@each_site
def test_so_it_is_with_a_key_that_died_before(site: Site, clock: Clock) -> None:
    """The attacker has signed in himself in between, at least ten seconds ago: see docs/concepts.rst."""
    store = MemoryStore()
    store.clock = clock
    app = site.app(store)
    planted = cookie(guest(site, app))
    site.log_in(with_cookie(app, planted), "mallory")
    victim = with_cookie(app, planted)
    clock.advance(11)
    victim.get("/me")
    site.log_in(victim, "ann")
    assert me(victim)["user"] not in (None, False)
    assert me(with_cookie(app, planted))["user"] is None


@each_site
def test_an_attacker_s_request_that_was_under_way_gains_nothing(site: Site, server_store: ServerSideStore) -> None:
    app = site.app(server_store)
    attacker = guest(site, app)
    victim = with_cookie(app, cookie(attacker))
    plain = app.view_functions["buy"]

    def slow(article: str) -> str:
        plain(article)
        site.log_in(victim, "ann")
        return ""

    app.view_functions["buy"] = slow
    attacker.post("/buy/poison")
    assert me(attacker) == {"user": None, "cart": None}
    assert me(victim)["user"] not in (None, False)
    assert "poison" not in (me(victim)["cart"] or [])


@each_site
@pytest.mark.parametrize("url", ["memory:", "cookie:"])
def test_what_was_in_the_cart_comes_along(site: Site, url: str) -> None:
    client = guest(site, site.app(from_url(url)))
    site.log_in(client, "ann")
    assert me(client)["cart"] == (None if site.name == "tutorial" else ["bait"])


@each_site
def test_the_same_user_who_logs_in_once_more_keeps_the_key(site: Site) -> None:
    app = site.app(MemoryStore())
    client = app.test_client()
    site.log_in(client, "ann")
    before = key(client)
    site.log_in(client, "ann")
    assert (key(client) == before) is (site.name not in ("tutorial", "flaskr"))


# -- session["logged_in"] = True ------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["flaskr"], indirect=True)
def test_true_over_true_renews_in_a_request_with_a_body_alone(site: Site, server_store: ServerSideStore) -> None:
    app = site.app(server_store)
    attacker = member(site, app)
    victim = with_cookie(app, cookie(attacker))
    victim.get("/login")
    assert key(victim) == key(attacker)
    by_form_without_fields = victim.post("/login")
    assert by_form_without_fields.status_code in (302, 303)
    assert key(victim) == key(attacker)
    site.log_in(victim, "ann")
    assert key(victim) != key(attacker)
    assert me(victim) == {"user": True, "cart": ["bait"]}
    assert me(attacker) == {"user": None, "cart": None}
