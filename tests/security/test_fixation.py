"""Fixation: a session key that somebody else put into the browser is worth nothing once its user has signed in."""

from __future__ import annotations

import typing as t

import pytest
from attacks import (
    LOG_INS,
    LOG_OUTS,
    PLANTS,
    PROTECTIONS,
    UNKNOWN,
    Planting,
    alive,
    ended,
    identity,
    out_by_removal,
    reload,
    steps,
    target,
    tutorial,
)
from flask import flash
from http_support import SET, Action, Browser, fate, started
from views import clear, purge, renew, save

from flask_sessionstore import SessionStore, session
from flask_sessionstore.stores import ServerSideStore, from_url
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

each = pytest.mark.parametrize
FORM = "password=secret"


def name_of(action: t.Callable[..., object]) -> str:
    return action.__name__


def test_after_a_log_in_a_planted_cookie_is_worth_nothing(store: SessionStore, clock: Clock) -> None:
    check_log_ins(store, clock, alive)


@each("url", ["memory:", "cookie:"])
@each("plant", PLANTS, ids=name_of)
def test_so_it_is_wherever_the_cookie_came_from(plant: Planting, url: str, clock: Clock) -> None:
    check_log_ins(from_url(url), clock, plant)


def check_log_ins(store: SessionStore, clock: Clock, plant: Planting) -> None:
    app = target(store, clock)
    for log_in in LOG_INS:
        cookie = plant(app, clock).cookie
        victim, attacker = Browser(app, cookie), Browser(app, cookie)
        victim.does(log_in, body=FORM)
        assert victim.cookie not in (None, cookie)
        assert identity(victim)
        for seconds in (0, 60):
            clock.advance(seconds)
            assert not identity(attacker.twin())


@each("protection", PROTECTIONS)
@each("plant", PLANTS, ids=name_of)
def test_so_it_is_where_the_application_names_its_owners(plant: Planting, protection: str, clock: Clock) -> None:
    app = target(MemoryStore(), clock, SESSION_OWNER_KEY="user_id", SESSION_COOKIE_CONTENT_SECURITY=protection)
    for log_in in (tutorial, lambda: session.update(user_id=7)):
        cookie = plant(app, clock).cookie
        victim = Browser(app, cookie)
        victim.does(log_in, body=FORM)
        assert identity(victim) == {"user_id": 7}
        assert not identity(Browser(app, cookie))


def test_an_attacker_whose_request_is_under_way_gains_nothing(server_store: ServerSideStore, clock: Clock) -> None:
    app = target(server_store, clock)
    for log_in in LOG_INS:
        cookie = alive(app, clock).cookie
        victim, attacker = Browser(app, cookie), Browser(app, cookie)

        def load_before_and_write_after(log_in: Action = log_in, victim: Browser = victim) -> None:
            assert session["cart"] == ["bait"]
            victim.does(log_in)
            session["cart"] = ["more bait"]

        attacker.does(load_before_and_write_after)
        assert not identity(attacker)
        assert "more bait" not in victim.data.get("cart", [])


def test_two_cookies_of_which_one_is_planted_are_both_dead_after_the_log_in(
    server_store: ServerSideStore, clock: Clock
) -> None:
    """An attacker on a neighbouring domain may add a cookie to that of the victim: whose is whose cannot be told."""
    app = target(server_store, clock)
    for log_in in LOG_INS:
        plant, own = alive(app, clock), started(app, cart=["tea"])
        victim = Browser(app, plant.cookie, t.cast("str", own.cookie))
        assert fate(victim.does(log_in)) == SET
        assert identity(victim)
        assert (Browser(app, plant.cookie).data, own.data) == ({}, {})


@each("log_out", LOG_OUTS, ids=name_of)
def test_a_log_out_holds_though_a_cookie_was_planted(log_out: Action, server_store: ServerSideStore) -> None:
    """Flask-Login asks first whether anybody is signed in, and an empty session says no."""
    app = target(server_store)
    own, plant = started(app, _user_id="ann"), started(app, cart=["bait"])

    def view() -> None:
        if log_out is not out_by_removal or "_user_id" in session:
            log_out()

    victim = Browser(app, t.cast("str", own.cookie), t.cast("str", plant.cookie))
    assert victim.does(view).status_code == 200
    assert not identity(victim)
    assert (own.data, plant.data) == ({}, {})


VERBS: dict[str, Action] = {
    "set": lambda: session.update(a=1),
    "insert": lambda: session.insert("a", 1),
    "setdefault": lambda: session.setdefault("a", 1),
    "update_or": lambda: session.update_or("a", 1, lambda n: n + 1),
    "flash": lambda: flash("hello"),
    "clear": clear,
    "clear and set": steps(clear, lambda: session.update(a=1)),
    "renew": renew,
    "renew and set": steps(renew, lambda: session.update(a=1)),
    "purge": purge,
    "purge and set": steps(purge, lambda: session.update(a=1)),
    "remove": lambda: session.remove("cart"),
    "pop": lambda: session.pop("cart", None),
    "permanent": lambda: setattr(session, "permanent", True),
    "permanent and set": steps(lambda: setattr(session, "permanent", True), lambda: session.update(a=1)),
    "modified": lambda: setattr(session, "modified", True),
    "save": steps(lambda: session.update(a=1), save),
    "reload": steps(reload, lambda: session.update(a=1)),
    "read": lambda: session.get("cart"),
    "nothing": lambda: None,
}


@each("plant", UNKNOWN, ids=name_of)
def test_no_verb_adopts_a_key_that_the_server_does_not_know(plant: Planting, clock: Clock) -> None:
    store = MemoryStore()
    app = target(store, clock)
    for verb in VERBS.values():
        cookie, handle = plant(app, clock)
        victim = Browser(app, cookie)
        for _ in range(2):
            victim.does(verb)
            assert "bait" not in victim.data.get("cart", [])
        assert Browser(app, cookie).data == {}
        assert handle is not None
        assert store.info(handle) is None


def test_no_store_adopts_a_key_that_it_does_not_know(server_store: ServerSideStore, clock: Clock) -> None:
    app = target(server_store, clock)
    for plant in UNKNOWN:
        cookie, handle = plant(app, clock)
        victim = Browser(app, cookie)
        victim.does(lambda: session.update(a=1))
        assert handle is not None
        assert server_store.info(handle) is None
        assert victim.asks(lambda: session.handle) != handle
        assert Browser(app, cookie).data == {}


def test_what_an_attacker_ends_again_stays_ended(server_store: ServerSideStore, clock: Clock) -> None:
    app = target(server_store, clock)
    cookie, handle = ended(app, clock)
    for verb in VERBS.values():
        Browser(app, cookie).does(verb)
    assert Browser(app, cookie).data == {}
    assert handle is not None
    assert server_store.info(handle) is None
