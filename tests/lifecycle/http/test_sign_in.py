"""Signing in and out: another key for the session, over every store."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

import pytest
from flask import Flask, flash, get_flashed_messages
from http_support import DELETED, SET, Action, Browser, fate, make_app, started
from lifecycle_views import A, both, log_in, log_in_another, memory_store, sign_in_another, sign_out, store_of
from views import clear, purge, remove_all, renew, sign_in, write

from flask_sessionstore import SessionGone, SessionInsertError, SessionKey, SessionTooLarge, session
from flask_sessionstore.stores import StoreFull
from flask_sessionstore.testing import Clock, FaultyStore

ANN = {"_user_id": "ann"}
USER: dict[str, t.Any] = {"user": {"sub": "ann"}}


def test_a_planted_session_key_is_worth_nothing_after_the_log_in(server_app: Flask) -> None:
    attacker = started(server_app, planted=1)
    victim = Browser(server_app, *attacker.cookies)
    victim.does(sign_in)
    assert victim.data == {"planted": 1, "_user_id": "ann"}
    assert victim.key != attacker.key
    assert attacker.data == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"_user_id": "ann"}),
        ({"_user_id": "ann"}, {}),
        ({"_user_id": "ann"}, {"_user_id": "bob"}),
        ({"_user_id": "1"}, {"_user_id": "one"}),
    ],
    ids=["in", "out", "another user", "another name"],
)
def test_the_session_key_changes_with_the_owner(
    before: dict[str, str], after: dict[str, str], server_app: Flask
) -> None:
    browser = started(server_app, a=1, **before)
    old = browser.twin()
    browser.does(both(lambda: session.pop("_user_id", None), lambda: session.update(after)))
    assert browser.key != old.key
    assert browser.data == {"a": 1, **after}
    assert old.data == {}


@pytest.mark.parametrize(("before", "value"), [("ann", "ann"), ("1", 1), (None, None)])
def test_setting_the_owner_it_has_changes_no_key(before: object, value: object, server_app: Flask) -> None:
    browser = started(server_app, a=1, _user_id=before, csrf_token="kept")
    key = browser.key

    def set_owner() -> None:
        session["_user_id"] = value

    browser.does(set_owner)
    assert browser.key == key
    assert browser.data == {"a": 1, "csrf_token": "kept", "_user_id": value}


def test_what_must_not_survive_a_log_in_is_dropped_at_that_line(clock: Clock) -> None:
    app = make_app(memory_store(clock), SESSION_LOGIN_DROPS=("csrf_token", "draft"))
    browser = started(app, csrf_token="old", draft="old", cart=["mug"])

    def log_in() -> None:
        session["_user_id"] = 7
        assert "csrf_token" not in session
        session["csrf_token"] = "new"

    browser.does(log_in)
    assert browser.data == {"cart": ["mug"], "_user_id": 7, "csrf_token": "new"}


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({"SESSION_OWNER_KEY": "account"}, True),
        ({"SESSION_OWNER_KEY": None}, False),
        ({"SESSION_OWNER_KEY": None, "SESSION_LOGIN_KEYS": ("account",)}, True),
        ({"SESSION_OWNER_KEY": "account", "SESSION_LOGIN_KEYS": ()}, True),
    ],
)
def test_owners_and_log_ins_may_have_other_names_or_none(
    config: dict[str, object], changes: bool, clock: Clock
) -> None:
    browser = started(make_app(memory_store(clock), **config), a=1)
    key = browser.key
    browser.does(lambda: session.update(account=1, _user_id=1))
    assert (browser.key != key) is changes


@pytest.mark.parametrize(
    ("before", "view", "kind"),
    [
        (A, purge, "ended"),
        (A, clear, "ended"),
        (ANN, clear, "ended"),
        (A, remove_all, "emptied"),
        (ANN, remove_all, "ended"),
        (USER, remove_all, "ended"),
        (A, renew, "renewed"),
        (ANN, renew, "renewed"),
        (A, both(clear, write), "renewed"),
        (A, sign_in, "signed in"),
        (A, log_in, "signed in"),
        (USER, log_in_another, "signed in"),
        (ANN, sign_in_another, "replaced"),
        (ANN, both(clear, sign_in_another), "replaced"),
        (ANN, both(clear, sign_in), "renewed"),
        ({**ANN, **A}, sign_out, "ended"),
        (ANN, both(clear, write), "ended"),
    ],
)
def test_what_is_left_of_a_session_says_how_it_went_and_when(
    before: dict[str, t.Any], view: Action, kind: str, server_app: Flask, clock: Clock
) -> None:
    browser = started(server_app, **before)
    old = SessionKey(browser.key or "")
    clock.advance(5)
    browser.does(view)
    with pytest.raises(SessionGone) as caught:
        store_of(server_app).load(old)
    gone = caught.value
    assert (gone.kind, gone.left_at) == (kind, datetime.fromtimestamp(clock.now, UTC))
    follows = kind in ("renewed", "signed in")
    assert gone.successor == (SessionKey(browser.key or "").handle if follows else None)


@pytest.mark.parametrize("owner", [1.5, True, ["ann"], "x" * 256, b"ann"])
def test_what_cannot_name_an_owner_is_refused_at_the_line(owner: object, memory_app: Flask) -> None:
    browser = started(memory_app, a=1)

    def log_in() -> None:
        with pytest.raises(SessionInsertError):
            session["_user_id"] = owner

    browser.does(log_in)
    assert browser.data == A


@pytest.mark.parametrize("fault", ["full", "down"])
@pytest.mark.parametrize("out", [sign_out, both(clear, write)])
def test_a_log_out_has_happened_though_what_is_left_finds_no_room(out: Action, fault: str, clock: Clock) -> None:
    store = FaultyStore(memory_store(clock))
    app = make_app(store, TESTING=False)
    browser = started(app, **A, **ANN)
    thief, add = browser.twin(), store.add

    def full(*args: t.Any, **kwargs: t.Any) -> bool:
        raise StoreFull("no room")

    def view() -> None:
        out()
        if fault == "full":
            t.cast("t.Any", store).add = full
        else:
            store.fail("add")

    response = browser.does(view)
    t.cast("t.Any", store).add = add
    assert (response.status_code, fate(response)) == (503, DELETED)
    assert (browser.cookies, thief.data) == ([], {})


def test_a_log_out_whose_rest_is_too_large_can_be_saved_smaller(clock: Clock) -> None:
    browser = started(make_app(memory_store(clock), SESSION_MAX_SIZE=100), **A, **ANN)
    thief = browser.twin()

    def view() -> None:
        sign_out()
        session["large"] = "x" * 200
        with pytest.raises(SessionTooLarge):
            session.save()
        del session["large"]

    assert fate(browser.does(view)) == SET
    assert (browser.data, thief.data) == (A, {})


def test_clear_before_a_log_in_keeps_nothing_and_the_farewell_is_flashed(server_app: Flask) -> None:
    browser = started(server_app, _user_id="ann", secret="s")
    old = browser.twin()
    browser.does(both(clear, lambda: flash("Bye.")))
    assert browser.key != old.key
    assert browser.asks(get_flashed_messages) == ["Bye."]
    assert browser.data == {}
    assert old.data == {}
