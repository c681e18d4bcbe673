"""After a change the browser is sent a cookie only if the cookie says something that the browser does not know yet."""

from __future__ import annotations

import itertools
import typing as t
from datetime import timedelta

import pytest
from flask import Flask, Response, stream_with_context
from http_support import KEPT, SET, Action, Browser, cookie_of, fate, make_app, started, watch
from lifecycle_views import A, both, fate_of_change, memory_store, store_of, write_other
from views import add_one, clear, force, make_permanent, nothing, purge, read, renew, save, sign_in, write

from flask_sessionstore import SessionStore, cookies, session
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore


@pytest.fixture(params=["signed", "private"])
def kind(request: pytest.FixtureRequest) -> str:
    return t.cast("str", request.param)


@pytest.fixture
def app(store: SessionStore, kind: str, clock: Clock) -> Flask:
    """An application on every store in turn."""
    return make(store, kind, clock)


@pytest.fixture
def quiet_app(kind: str, clock: Clock) -> Flask:
    """An application on a store that needs no cookie after a change."""
    return make(MemoryStore(), kind, clock)


def make(store: SessionStore, kind: str, clock: Clock, **config: object) -> Flask:
    store.clock = clock
    return make_app(store, SESSION_COOKIE_CONTENT_SECURITY=kind, **config)


def fates(browser: Browser, *views: Action) -> list[str]:
    """What the responses to these requests, one after the other, do to the cookie."""
    return [fate(browser.does(view)) for view in views]


# -- over every store --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [write, force, both(read, write, save), add_one])
def test_a_change_behind_a_cookie_that_says_it_all_sends_none(app: Flask, view: Action) -> None:
    browser = started(app, **A)
    assert fates(browser, view, add_one, add_one) == [fate_of_change(store_of(app))] * 3
    assert browser.data["n"] == (3 if view is add_one else 2)


def test_a_change_of_a_permanent_session_sends_the_cookie_for_its_end_moves(app: Flask) -> None:
    browser = started(app, **A)
    assert fates(browser, make_permanent, write, write, add_one) == [SET] * 4


def test_with_a_refresh_interval_of_0_every_change_sends_every_cookie(
    store: SessionStore, kind: str, clock: Clock
) -> None:
    browser = started(make(store, kind, clock, SESSION_REFRESH_INTERVAL=0), **A)
    assert fates(browser, write, add_one, force) == [SET] * 3


@pytest.mark.parametrize("view", [renew, sign_in, both(clear, write)])
def test_a_new_key_is_always_sent_and_is_known_from_then_on(app: Flask, view: Action) -> None:
    browser = started(app, **A)
    assert fates(browser, view, add_one) == [SET, fate_of_change(store_of(app))]
    assert browser.data["n"] == 1


def test_what_two_requests_wrote_at_once_sends_none_either(
    server_store: ServerSideStore, kind: str, clock: Clock
) -> None:
    browser = started(make(server_store, kind, clock), **A)
    other = browser.twin()
    assert fates(browser, both(read, lambda: other.does(write), write_other)) == [fate_of_change(server_store)]
    assert browser.data == {"a": 2, "b": 2}


# -- what a cookie says ------------------------------------------------------------------------------------------------

SECURE: dict[str, object] = {"SESSION_COOKIE_SECURE": True}
CHANGES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "SameSite": ({}, {"SESSION_COOKIE_SAMESITE": "Lax"}),
    "another SameSite": ({"SESSION_COOKIE_SAMESITE": "Lax"}, {"SESSION_COOKIE_SAMESITE": "Strict"}),
    "Secure": ({}, SECURE),
    "no Secure": (SECURE, {"SESSION_COOKIE_SECURE": False}),
    "no HttpOnly": ({}, {"SESSION_COOKIE_HTTPONLY": False}),
    "Partitioned": (SECURE, {"SESSION_COOKIE_PARTITIONED": True}),
    "a domain": ({}, {"SESSION_COOKIE_DOMAIN": "example.com"}),
    "another domain": ({"SESSION_COOKIE_DOMAIN": "example.com"}, {"SESSION_COOKIE_DOMAIN": "www.example.com"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_that_changes_the_attributes_is_sent_by_the_next_change_and_then_known(
    name: str, kind: str, clock: Clock
) -> None:
    before, after = CHANGES[name]
    app = make(MemoryStore(), kind, clock, **before)
    browser = started(app, **A)
    app.config.update(after)
    assert fates(browser, nothing, read, add_one, add_one) == [KEPT, KEPT, SET, KEPT]


def test_attributes_that_depend_on_the_request_are_what_that_request_says(
    quiet_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = itertools.chain(["Lax", "Lax", "Strict"], itertools.repeat("Strict"))
    monkeypatch.setattr(quiet_app.session_interface, "get_cookie_samesite", lambda app: next(answers))
    assert fates(started(quiet_app, **A), add_one, add_one, add_one) == [KEPT, SET, KEPT]


def test_the_mark_of_the_same_attributes_is_the_same_in_every_process_and_tells_most_others_apart() -> None:
    marks = [cookies.mark_of(f"; HttpOnly; Path=/{n}") for n in range(256)]
    assert marks[:4] == [211, 88, 93, 116]
    assert len(set(marks)) > 128
    assert set(marks) <= set(range(256))


def test_an_end_that_comes_or_goes_is_sent(quiet_app: Flask) -> None:
    def remember() -> None:
        session.lifetime = timedelta(days=1)

    def forget() -> None:
        session.lifetime = None

    def stop() -> None:
        session.permanent = False

    browser = started(quiet_app, **A)
    assert fates(browser, remember, add_one, forget, add_one) == [SET, SET, SET, KEPT]
    assert fates(browser, make_permanent, add_one, stop, add_one) == [SET, SET, SET, KEPT]


def test_a_cookie_of_a_former_secret_is_replaced_by_a_change_and_then_known(quiet_app: Flask) -> None:
    browser = started(quiet_app, **A)
    quiet_app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["a secret"])
    assert fates(browser, add_one, add_one) == [SET, KEPT]


def test_a_cookie_that_is_called_otherwise_from_now_on_is_sent(quiet_app: Flask) -> None:
    browser = started(quiet_app, **A)
    quiet_app.config["SESSION_COOKIE_NAME"] = "id"
    renamed = Browser(quiet_app, *browser.cookies, name="id")
    assert cookie_of(renamed.does(add_one)).name == "id"
    assert renamed.data == {"n": 1}  # the name is part of what was signed
    assert fates(renamed, add_one) == [KEPT]


# -- what came with it -------------------------------------------------------------------------------------------------


def test_beside_another_cookie_of_the_name_it_is_sent(quiet_app: Flask) -> None:
    """The other may come first tomorrow, or be the one that the browser keeps."""
    browser, dead = started(quiet_app, **A), started(quiet_app, **A)
    dead.twin().does(purge)
    older = str(browser.cookie)
    browser.does(make_permanent)
    browser.does(lambda: setattr(session, "permanent", False))
    ours = str(browser.cookie)
    for other in ("", "x", ours[:-1], f"{ours}A", older, str(dead.cookie)):
        for values in ([ours, other], [other, ours]):
            assert fates(Browser(quiet_app, *values), add_one) == [SET]
    assert fates(browser, add_one) == [KEPT]


def test_cookies_of_other_names_do_not_matter(quiet_app: Flask) -> None:
    value = started(quiet_app, **A).cookie
    client = quiet_app.test_client(use_cookies=False)
    for header in (f"a=1; session={value}; session2={value}", f"my_session=x;session={value}", f'session="{value}"'):
        response = client.get("/", headers={"Cookie": header}, environ_overrides={"tests.action": add_one})
        assert fate(response) == KEPT


@pytest.mark.parametrize("cookie", ["", "x", "A" * 43])
def test_for_what_is_not_ours_a_cookie_is_sent(quiet_app: Flask, cookie: str) -> None:
    assert fates(Browser(quiet_app, cookie), add_one, add_one) == [SET, KEPT]


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "expired"])
def test_for_a_session_that_is_gone_a_cookie_with_another_key_is_sent(
    ended: bool, quiet_app: Flask, clock: Clock
) -> None:
    browser = started(quiet_app, **A)
    if ended:
        browser.twin().does(purge)
    else:
        clock.advance(32 * 86400)
    assert fates(browser, add_one, add_one) == [SET, KEPT]
    assert browser.data == {"n": 2}


class Seeing(MemoryStore):
    """A store of somebody's own that looks at what browsers have seen."""

    needs_seen = True


def test_a_store_may_ask_that_every_change_is_told(kind: str, clock: Clock) -> None:
    assert fates(started(make(Seeing(), kind, clock), **A), add_one, add_one) == [SET, SET]


# -- what goes out instead ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cache-Control": "max-age=60"},
        {"Cache-Control": "public, s-maxage=60"},
        {"Cache-Control": "no-store", "Vary": "Accept"},
        {"CDN-Cache-Control": "max-age=60", "Surrogate-Control": "max-age=1", "X-Accel-Expires": "9"},
    ],
)
@pytest.mark.parametrize("private_reads", [False, True])
def test_but_for_the_cookie_the_response_is_what_it_would_be_with_it(
    headers: dict[str, str], private_reads: bool, kind: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def answer() -> Response:
        add_one()
        return Response("done", headers=headers)

    found = []
    for interval in (60, 0):
        caplog.clear()
        config = {"SESSION_REFRESH_INTERVAL": interval, "SESSION_PRIVATE_READS": private_reads}
        response = started(make(MemoryStore(), kind, clock, **config), _user_id="ann").does(answer)
        assert fate(response) == (SET if interval == 0 else KEPT)
        response.headers.remove("Set-Cookie")
        found.append((list(response.headers), response.data, caplog.messages))
    quiet, beside_a_cookie = found
    assert quiet == beside_a_cookie
    assert "private" in dict(quiet[0])["Cache-Control"]
    assert "Cookie" in dict(quiet[0])["Vary"]


# -- more than one write -----------------------------------------------------------------------------------------------


def test_what_was_saved_in_the_middle_needs_no_cookie_at_the_end(quiet_app: Flask) -> None:
    browser = started(quiet_app, **A)
    calls = watch(store_of(quiet_app))
    assert fates(browser, both(add_one, save, add_one, save)) == [KEPT]
    assert calls == ["load", "update(replaces)", "update(replaces)"]
    assert fates(Browser(quiet_app), both(add_one, save, nothing)) == [SET]
    assert fates(browser, both(add_one, save, renew)) == [SET]
    assert browser.data == {**A, "n": 3}


def test_a_stream_goes_on_saving_behind_the_cookie_that_the_browser_has(quiet_app: Flask) -> None:
    browser = started(quiet_app, **A)

    def parts() -> t.Iterator[str]:
        for _ in range(2):
            add_one()
            save()
            yield f"{session['n']} "

    def view() -> Response:
        add_one()
        return Response(stream_with_context(parts()))

    response = browser.does(view)
    assert (fate(response), response.text) == (KEPT, "2 3 ")
    assert browser.data == {**A, "n": 3}


@pytest.mark.parametrize("saved", [False, True])
def test_a_store_that_fails_at_the_end_is_a_503_without_a_cookie(saved: bool, kind: str, clock: Clock) -> None:
    store = FaultyStore(memory_store(clock))
    app = make(store, kind, clock, PROPAGATE_EXCEPTIONS=False)
    browser = started(app, **A)
    store.lose_reply("swap", times=None)

    def save_once() -> None:
        store.heal()
        add_one()
        save()
        store.lose_reply("swap", times=None)

    response = browser.does(both(save_once, write) if saved else write)
    assert (response.status_code, fate(response)) == (503, KEPT)
    store.heal()
    assert fates(browser, add_one) == [KEPT]
    assert browser.data["n"] == 1 + saved
