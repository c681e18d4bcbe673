"""The cookie's attributes, what browsers demand of them, and how large it may be."""

from __future__ import annotations

import random
import typing as t
from datetime import timedelta

import pytest
from flask import Flask
from http_support import KEPT, SET, Action, Browser, cookie_of, fate, make_app, started, watch
from views import clear, purge, read, write
from werkzeug.http import http_date
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_sessionstore import ConfigurationError, SessionStore, SessionTooLarge, session
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


@pytest.fixture(params=[CookieStore, MemoryStore])
def store(request: pytest.FixtureRequest) -> SessionStore:
    """One store of each kind: the rest differ by nothing that the browser sees."""
    return t.cast("SessionStore", request.param())


# -- attributes ------------------------------------------------------------------------------------------------------


_PLAIN = {"path": "/", "httponly": ""}


ATTRIBUTES: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "defaults": ({}, _PLAIN),
    "domain": ({"SESSION_COOKIE_DOMAIN": "example.com"}, {**_PLAIN, "domain": "example.com"}),
    "path": ({"SESSION_COOKIE_PATH": "/shop"}, {**_PLAIN, "path": "/shop"}),
    "application root": ({"APPLICATION_ROOT": "/app"}, {**_PLAIN, "path": "/app"}),
    "path over root": ({"APPLICATION_ROOT": "/app", "SESSION_COOKIE_PATH": "/"}, _PLAIN),
    "secure": ({"SESSION_COOKIE_SECURE": True}, {**_PLAIN, "secure": ""}),
    "for scripts": ({"SESSION_COOKIE_HTTPONLY": False}, {"path": "/"}),
    "lax": ({"SESSION_COOKIE_SAMESITE": "Lax"}, {**_PLAIN, "samesite": "Lax"}),
    "strict": ({"SESSION_COOKIE_SAMESITE": "Strict"}, {**_PLAIN, "samesite": "Strict"}),
    "none": (
        {"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True},
        {**_PLAIN, "samesite": "None", "secure": ""},
    ),
    "partitioned": (
        {"SESSION_COOKIE_PARTITIONED": True, "SESSION_COOKIE_SECURE": True},
        {**_PLAIN, "partitioned": "", "secure": ""},
    ),
    "host": (
        {"SESSION_COOKIE_NAME": "__Host-id", "SESSION_COOKIE_SECURE": True},
        {**_PLAIN, "secure": ""},
    ),
    "secure name": (
        {
            "SESSION_COOKIE_NAME": "__Secure-id",
            "SESSION_COOKIE_SECURE": True,
            "SESSION_COOKIE_DOMAIN": "example.com",
            "SESSION_COOKIE_PATH": "/shop",
        },
        {"path": "/shop", "httponly": "", "secure": "", "domain": "example.com"},
    ),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("end", [purge, clear])
def test_the_cookie_is_deleted_with_the_attributes_it_was_set_with(end: Action, name: str, store: SessionStore) -> None:
    config, expected = ATTRIBUTES[name]
    app = make_app(store, **config)
    cookie_name = str(config.get("SESSION_COOKIE_NAME", "session"))
    browser = Browser(app, name=cookie_name)
    path = "/" if "/app" in config.values() else expected["path"]
    cookie = cookie_of(browser.does(write, path))
    assert (cookie.name, cookie.attributes) == (cookie_name, expected)
    deletion = cookie_of(browser.does(end, path))
    assert deletion.deletes
    assert deletion.name == cookie_name
    assert deletion.attributes == {**expected, "max-age": "0", "expires": http_date(0)}


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"SESSION_COOKIE_NAME": "__Host-id"}, "SESSION_COOKIE_SECURE"),
        ({"SESSION_COOKIE_NAME": "__host-id"}, "SESSION_COOKIE_SECURE"),
        ({"SESSION_COOKIE_NAME": "__Secure-id"}, "SESSION_COOKIE_SECURE"),
        (
            {
                "SESSION_COOKIE_NAME": "__Host-id",
                "SESSION_COOKIE_SECURE": True,
                "SESSION_COOKIE_DOMAIN": "example.com",
            },
            "SESSION_COOKIE_DOMAIN",
        ),
        (
            {"SESSION_COOKIE_NAME": "__Host-id", "SESSION_COOKIE_SECURE": True, "APPLICATION_ROOT": "/app"},
            "SESSION_COOKIE_PATH",
        ),
        ({"SESSION_COOKIE_SAMESITE": "None"}, "SESSION_COOKIE_SECURE"),
        ({"SESSION_COOKIE_SAMESITE": "none"}, "SESSION_COOKIE_SECURE"),
        ({"SESSION_COOKIE_PARTITIONED": True}, "SESSION_COOKIE_SECURE"),
    ],
)
def test_what_browsers_refuse_is_an_error_that_names_the_setting(config: dict[str, object], key: str) -> None:
    app = make_app(MemoryStore())
    app.config.update(config)  # as an application may that is configured late
    with pytest.raises(ConfigurationError) as caught:
        Browser(app, name=str(config.get("SESSION_COOKIE_NAME", "session"))).does(write)
    assert caught.value.key == key
    assert key in str(caught.value)
    assert Browser(app).does().status_code == 200


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("SESSION_COOKIE_SAMESITE", "Laxx", 'is \'Laxx\'; it takes "Lax", "Strict" or "None" (SameSite=None)'),
        ("SESSION_COOKIE_SAMESITE", "", "is ''; it takes \"Lax\""),
        ("SESSION_COOKIE_SAMESITE", True, 'is True; it takes "Lax"'),
        ("SESSION_COOKIE_NAME", "", "is ''; it takes a text"),
        ("SESSION_COOKIE_DOMAIN", True, "is True; it takes a host's name"),
        ("SESSION_COOKIE_PATH", "shop", "is 'shop'; it takes a path that begins with /"),
        ("SESSION_COOKIE_PATH", 5, "is 5; it takes a path"),
    ],
)
def test_what_makes_no_cookie_is_an_error_at_start_and_when_it_is_set_late(key: str, value: object, said: str) -> None:
    late = make_app(MemoryStore())
    late.config[key] = value
    for refused in lambda: make_app(MemoryStore(), **{key: value}), lambda: Browser(late).does(write):
        with pytest.raises(ConfigurationError) as caught:
            refused()
        assert caught.value.key == key
        assert f"{key} {said}" in str(caught.value)


@pytest.mark.parametrize("text", ["false", "No", "off", "0"])
@pytest.mark.parametrize("flag", ["SECURE", "HTTPONLY", "PARTITIONED"])
def test_a_text_that_says_no_and_would_count_as_true_is_an_error_at_start(flag: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SESSION_COOKIE_{flag} is the text '{text}'; it takes True or False"):
        make_app(MemoryStore(), **{f"SESSION_COOKIE_{flag}": text})


def test_what_browsers_refuse_whatever_is_set_later_is_an_error_at_start() -> None:
    with pytest.raises(ConfigurationError, match="SESSION_COOKIE_DOMAIN = None"):
        make_app(MemoryStore(), SESSION_COOKIE_NAME="__Host-id", SESSION_COOKIE_DOMAIN="example.com")
    make_app(MemoryStore(), SESSION_COOKIE_NAME="__Host-id", SESSION_COOKIE_SAMESITE="None")  # Secure may come later


def test_a_cookie_that_cannot_be_made_leaves_none_in_the_error_page() -> None:
    app = make_app(MemoryStore(), SESSION_COOKIE_SAMESITE="None", TESTING=False)
    app.logger.disabled = True
    response = Browser(app).does(write)
    assert (response.status_code, fate(response)) == (500, KEPT)


# -- Expires and Max-Age ---------------------------------------------------------------------------------------------


def test_a_browser_session_s_cookie_has_no_end(store: SessionStore) -> None:
    assert not {"expires", "max-age"} & set(cookie_of(Browser(make_app(store)).does(write)).attributes)


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"SESSION_PERMANENT": True}, 31 * 86400),
        ({"SESSION_PERMANENT": True, "PERMANENT_SESSION_LIFETIME": 90}, 90),
        ({"SESSION_PERMANENT": True, "SESSION_BROWSER_LIFETIME": 60}, 31 * 86400),
        ({"SESSION_PERMANENT": True, "SESSION_ABSOLUTE_LIFETIME": 3600}, 3600),
        ({"SESSION_PERMANENT": True, "PERMANENT_SESSION_LIFETIME": timedelta(milliseconds=300)}, 1),
    ],
)
def test_a_permanent_session_s_cookie_ends_with_the_session(
    settings: dict[str, object], seconds: int, store: SessionStore, clock: Clock
) -> None:
    store.clock = clock
    attributes = cookie_of(Browser(make_app(store, **settings)).does(write)).attributes
    assert attributes["max-age"] == str(seconds)
    assert attributes["expires"] in (http_date(clock.now + seconds), http_date(clock.now))


def test_max_age_counts_down_to_a_hard_end(store: SessionStore, clock: Clock) -> None:
    store.clock = clock
    browser = started(make_app(store, SESSION_PERMANENT=True, SESSION_ABSOLUTE_LIFETIME=3600), a=1)
    clock.advance(3000)
    attributes = cookie_of(browser.does()).attributes
    assert (attributes["max-age"], attributes["expires"]) == ("600", http_date(clock.now + 600))


def test_a_session_that_is_permanent_no_more_loses_its_cookie_s_end(store: SessionStore) -> None:
    browser = started(make_app(store, SESSION_PERMANENT=True), a=1)

    def stop() -> None:
        session.permanent = False

    assert "max-age" not in cookie_of(browser.does(stop)).attributes


# -- applications at several paths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["signed", "private"])
def test_applications_at_two_paths_with_one_secret_and_one_cookie_name_do_not_meet(
    kind: str, store: SessionStore
) -> None:
    def log_in(name: str) -> str:
        session["_user_id"] = name
        return "in"

    def log_out() -> str:
        session.clear()
        return "out"

    def make(root: str) -> Flask:
        app = make_app(store, APPLICATION_ROOT=root, SESSION_COOKIE_CONTENT_SECURITY=kind)
        app.add_url_rule("/who", "who", lambda: session.get("_user_id", "nobody"))
        app.add_url_rule("/in/<name>", "in", log_in)
        app.add_url_rule("/out", "out", log_out)
        return app

    client = Client(DispatcherMiddleware(make("/"), {"/admin": make("/admin")}))

    def who() -> tuple[str, str]:
        return client.get("/who").text, client.get("/admin/who").text

    client.get("/admin/in/root")
    assert who() == ("nobody", "root")
    client.get("/in/ann")
    assert who() == ("ann", "root")
    client.get("/admin/in/admin")
    assert who() == ("ann", "admin")
    client.get("/admin/out")
    assert who() == ("ann", "nobody")
    client.get("/admin/in/root")
    client.get("/out")
    assert who() == ("nobody", "root")


def test_a_cookie_of_another_path_stays_until_the_next_write(store: SessionStore) -> None:
    before, after = make_app(store), make_app(store, SESSION_COOKIE_PATH="/shop")
    browser = started(before, a=1)
    moved, calls = Browser(after, *browser.cookies), watch(store)
    for view in (read, clear, purge):
        assert fate(moved.does(view, "/shop")) == KEPT
    assert calls == []
    assert fate(moved.does(write, "/shop")) == SET
    assert (moved.data, browser.data) == ({"a": 2}, {"a": 1})


# -- the cookie store's limit ----------------------------------------------------------------------------------------


def _noise(size: int) -> str:
    """Text that no compression makes much smaller."""
    return "".join(random.Random(1).choices("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_", k=size))


def test_a_cookie_that_browsers_would_drop_is_an_error_and_the_old_one_stays() -> None:
    browser = started(make_app(CookieStore()), a=1)
    old = browser.cookie

    def write_much() -> None:
        session["small"] = "x"
        session["large"] = _noise(5000)

    with pytest.raises(SessionTooLarge) as caught:
        browser.does(write_much)
    assert caught.value.limit == 4093
    assert caught.value.size is not None
    assert caught.value.size > 4093
    assert caught.value.largest is not None
    assert caught.value.largest[0] == "large"
    assert "large" in str(caught.value)
    assert browser.cookie == old
    assert browser.data == {"a": 1}


def test_a_cookie_that_could_not_be_read_again_is_an_error(clock: Clock) -> None:
    """Compressed, a megabyte of blanks fits a cookie easily; but no more than that is ever unpacked."""
    app = make_app(CookieStore(), SESSION_MAX_SIZE=2 << 20)
    browser = started(app, a=1)
    assert fate(browser.does(lambda: session.update(large=" " * ((1 << 20) - 200)))) == SET
    assert len(browser.data["large"]) == (1 << 20) - 200
    old = browser.cookie
    with pytest.raises(SessionTooLarge) as caught:
        browser.does(lambda: session.update(large=" " * (1 << 20)))
    assert (caught.value.limit, list(caught.value.largest or ())) == (1 << 20, ["large", "a"])
    assert browser.cookie == old


def test_an_error_page_carries_no_cookie_that_is_too_large() -> None:
    app = make_app(CookieStore(), TESTING=False)
    app.logger.disabled = True
    browser = started(app, a=1)
    response = browser.does(lambda: session.update(large=_noise(5000)))
    assert (response.status_code, fate(response)) == (500, KEPT)
    assert browser.data == {"a": 1}


def test_the_limit_counts_the_whole_header() -> None:
    # The same session, once with and once without long attributes.
    def fits(**config: object) -> bool:
        try:
            return fate(Browser(make_app(CookieStore(), **config)).does(lambda: session.update(a=_noise(3600)))) == SET
        except SessionTooLarge:
            return False

    assert fits()
    assert not fits(SESSION_COOKIE_DOMAIN=".".join(["example"] * 40), SESSION_COOKIE_PATH="/" + "p" * 300)


def test_up_to_the_limit_every_size_is_sent_and_none_above() -> None:
    app, sizes = make_app(CookieStore(), TESTING=False), []
    app.logger.disabled = True
    for size in range(3500, 4200, 20):
        response = Browser(app).does(lambda: session.update(a=_noise(size)))  # noqa: B023  - called at once
        sizes.append(max((len(h) for h in response.headers.getlist("Set-Cookie")), default=0))
    sent = [size for size in sizes if size]
    assert sent
    assert len(sent) < len(sizes)
    assert max(sent) <= 4093
    assert max(sent) > 4000


def test_a_server_side_session_has_no_such_limit(clock: Clock) -> None:
    browser = started(make_app(MemoryStore()), a=_noise(50_000))
    assert len(str(browser.cookie)) < 200
