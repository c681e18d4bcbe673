"""The cookie and the headers around it: each attribute, what browsers demand, what caches may keep, and forgeries."""

from __future__ import annotations

import io
import logging
import random
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from clocks import Clock
from flask import Flask, Response, abort, send_file, send_from_directory, stream_with_context
from http_support import (
    DELETED,
    KEPT,
    SET,
    Action,
    Browser,
    cookie_of,
    fate,
    make_app,
    set_cookies,
    started,
    warnings_in,
    watch,
)
from views import clear, force, purge, read, write
from werkzeug.http import http_date
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, TestResponse

from flask_sessionstore import ConfigurationError, SessionStore, SessionTooLarge, session
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore


@pytest.fixture(params=[CookieStore, MemoryStore])
def store(request: pytest.FixtureRequest) -> SessionStore:
    """One store of each kind: the rest differ by nothing that the browser sees."""
    return t.cast("SessionStore", request.param())


# -- attributes ----------------------------------------------------------------------------------------------------

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
    app = make_app(MemoryStore(), **config)
    with pytest.raises(ConfigurationError) as caught:
        Browser(app, name=str(config.get("SESSION_COOKIE_NAME", "session"))).does(write)
    assert caught.value.key == key
    assert key in str(caught.value)
    assert Browser(app).does().status_code == 200


def test_a_value_of_samesite_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="SameSite"):
        Browser(make_app(MemoryStore(), SESSION_COOKIE_SAMESITE="invalid")).does(write)


def test_a_cookie_that_cannot_be_made_leaves_none_in_the_error_page() -> None:
    app = make_app(MemoryStore(), SESSION_COOKIE_SAMESITE="None", TESTING=False)
    app.logger.disabled = True
    response = Browser(app).does(write)
    assert (response.status_code, fate(response)) == (500, KEPT)


# -- Expires and Max-Age -------------------------------------------------------------------------------------------


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


# -- caches --------------------------------------------------------------------------------------------------------


def _answering(action: Action, cache_control: str | None = None, vary: str | None = None) -> Action:
    """A view that does something and says what caches may keep."""

    def view() -> Response:
        action()
        response = Response("")
        for name, value in (("Cache-Control", cache_control), ("Vary", vary)):
            if value is not None:
                response.headers[name] = value
        return response

    return view


def _cache_control(response: TestResponse) -> set[str]:
    (header,) = response.headers.getlist("Cache-Control")
    return set(header.split(", "))


_PRIVATE = {"private", 'no-cache="Set-Cookie"'}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, _PRIVATE),
        ("max-age=60", {"max-age=60", *_PRIVATE}),
        ("private, max-age=60", {"max-age=60", *_PRIVATE}),
        ("no-store", {"no-store", "private"}),
        ("no-cache", {"no-cache", "private"}),
        ("no-cache, no-store, must-revalidate", {"no-cache", "no-store", "must-revalidate", "private"}),
        ("public, max-age=60", {"max-age=60", *_PRIVATE}),
        ("s-maxage=60", _PRIVATE),
        ("public, s-maxage=60, immutable", {"immutable", *_PRIVATE}),
    ],
)
@pytest.mark.parametrize("action", [write, purge, force])
def test_no_cache_between_may_keep_a_response_with_the_cookie(
    action: Action, given: str | None, sent: set[str], store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(make_app(store), a=1)
    response = browser.does(_answering(action, given))
    assert fate(response) == (DELETED if action is purge else SET)
    assert _cache_control(response) == sent
    public = given is not None and ("public" in given or "s-maxage" in given)
    assert len(warnings_in(caplog)) == (1 if public else 0)


@pytest.mark.parametrize("given", ["public, max-age=60", "s-maxage=60", "public, s-maxage=60, immutable"])
def test_a_public_response_with_the_cookie_is_private_and_one_warning_says_so(
    given: str, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    sent = _cache_control(Browser(make_app(store)).does(_answering(write, given)))
    assert "private" in sent
    assert not any(directive.startswith(("public", "s-maxage")) for directive in sent)
    (warning,) = warnings_in(caplog)
    assert "public" in warning


@pytest.mark.parametrize("given", [None, "public, max-age=60", "s-maxage=60", "no-store"])
@pytest.mark.parametrize("action", [lambda: None, read])
def test_without_a_cookie_cache_control_is_the_view_s(action: Action, given: str | None, store: SessionStore) -> None:
    response = started(make_app(store), a=1).does(_answering(action, given))
    assert fate(response) == KEPT
    assert response.headers.get("Cache-Control") == given


@pytest.mark.parametrize(
    "given",
    [
        "public, max-age=60",
        "s-maxage=60",
        "Public",
    ],
)
@pytest.mark.parametrize("action", [lambda: None, read])
def test_a_mere_extension_waits_for_a_response_that_is_not_public(
    action: Action, given: str, store: SessionStore, clock: Clock
) -> None:
    store.clock = clock
    browser = started(make_app(store, SESSION_PERMANENT=True), a=1)
    clock.advance(60)
    calls = watch(store)
    response = browser.does(_answering(action, given))
    assert (fate(response), response.headers["Cache-Control"]) == (KEPT, given)
    assert "update_ttl" not in calls
    assert fate(browser.does(_answering(action, "max-age=60"))) == SET


@pytest.mark.parametrize(
    ("given", "action", "sent"),
    [
        (None, lambda: None, None),
        (None, read, "Cookie"),
        (None, write, "Cookie"),
        (None, purge, "Cookie"),
        ("Accept-Encoding", read, "Accept-Encoding, Cookie"),
        ("Accept-Encoding, Cookie", write, "Accept-Encoding, Cookie"),
        ("cookie", write, "cookie"),
        ("Accept-Encoding", lambda: None, "Accept-Encoding"),
    ],
)
def test_vary_is_there_once_and_merged(given: str | None, action: Action, sent: str | None) -> None:
    response = started(make_app(MemoryStore()), a=1).does(_answering(action, vary=given))
    assert response.headers.getlist("Vary") == ([] if sent is None else [sent])


def test_an_extension_of_an_untouched_session_makes_the_response_vary(clock: Clock) -> None:
    store = MemoryStore()
    store.clock = clock
    browser = started(make_app(store, SESSION_PERMANENT=True), a=1)
    clock.advance(60)
    response = browser.does()
    assert (fate(response), response.headers["Vary"]) == (SET, "Cookie")


def _streaming(streams: bool = True, **options: t.Any) -> Action:
    """A view whose body is made while it is sent."""
    return lambda: Response((part for part in ("a", "b")) if streams else ["a", "b"], **options)


def _sending(**options: t.Any) -> Action:
    return lambda: send_file(io.BytesIO(b"a file"), "text/plain", **options)


def _vary(browser: Browser, view: Action) -> str | None:
    return browser.does(view).headers.get("Vary")


def test_a_stream_to_who_has_a_cookie_varies_for_it_may_touch_the_session_later() -> None:
    app = make_app(MemoryStore())
    user = started(app, a=1)
    assert _vary(user, _streaming()) == "Cookie"
    assert _vary(user, _streaming(direct_passthrough=True)) == "Cookie"
    assert _vary(user, lambda: Response(stream_with_context(iter(["a"])))) == "Cookie"
    assert _vary(Browser(app, "forged"), _streaming()) == "Cookie"
    assert _vary(Browser(app), _streaming()) is None
    assert _vary(user, _streaming(streams=False)) is None


def test_a_file_cannot_touch_the_session_so_it_varies_with_nothing() -> None:
    app = make_app(MemoryStore())
    user = started(app, a=1)
    assert _vary(user, _sending()) is None
    assert _vary(user, _sending(conditional=False)) is None
    assert _vary(user, lambda: send_from_directory(Path(__file__).parent, Path(__file__).name)) is None
    ranged = app.test_client(use_cookies=False).get(
        "/",
        headers={"Cookie": f"session={user.cookie}", "Range": "bytes=1-2"},
        environ_overrides={"tests.action": _sending(conditional=True)},
    )
    assert (ranged.status_code, ranged.headers.get("Vary")) == (206, None)


def test_an_error_page_is_no_stream_but_a_stream_may_be_an_error_page() -> None:
    user = started(make_app(MemoryStore()), a=1)
    assert _vary(user, lambda: abort(404)) is None
    assert _vary(user, lambda: abort(Response(part for part in ("a", "b")))) == "Cookie"


def test_a_file_that_a_server_wraps_in_its_own_way_is_a_file_too() -> None:
    app = make_app(MemoryStore())
    user = started(app, a=1)
    response = app.test_client(use_cookies=False).get(
        "/",
        headers={"Cookie": f"session={user.cookie}"},
        environ_overrides={"tests.action": _sending(), "wsgi.file_wrapper": lambda file, size: iter(file)},
    )
    assert "Vary" not in response.headers


# -- headers for some caches, which those obey instead of Cache-Control -----------------------------------------------

TARGETED = [
    "CDN-Cache-Control",
    "Cloudflare-CDN-Cache-Control",
    "Surrogate-Control",
    "surrogate-control",
    "X-Accel-Expires",
]


def _with(action: Action, *headers: tuple[str, str]) -> Action:
    def view() -> Response:
        action()
        return Response("", headers=list(headers))

    return view


@pytest.mark.parametrize("header", TARGETED)
@pytest.mark.parametrize("action", [write, purge])
def test_beside_the_cookie_no_header_asks_a_particular_cache_to_keep_it(
    header: str, action: Action, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(make_app(store), a=1)
    value = "600" if header == "X-Accel-Expires" else "max-age=600"
    response = browser.does(_with(action, (header, value), ("Surrogate-Key", "shop")))
    assert header not in response.headers
    assert response.headers["Surrogate-Key"] == "shop"
    assert _cache_control(response) == _PRIVATE
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize(
    ("header", "value"),
    [("CDN-Cache-Control", "no-store"), ("Surrogate-Control", "private, max-age=1"), ("X-Accel-Expires", "0")],
)
def test_one_that_asks_nobody_to_share_is_no_reason_for_a_warning(
    header: str, value: str, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    response = Browser(make_app(store)).does(_with(write, (header, value), ("Cache-Control", "no-store")))
    assert _cache_control(response) == {"private", "no-store"}
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("header", TARGETED)
def test_a_mere_extension_waits_for_a_response_that_no_cache_was_asked_to_keep(
    header: str, store: SessionStore, clock: Clock
) -> None:
    store.clock = clock
    browser = started(make_app(store, SESSION_PERMANENT=True), a=1)
    clock.advance(60)
    response = browser.does(_with(read, (header, "max-age=60")))
    assert (fate(response), response.headers[header]) == (KEPT, "max-age=60")
    assert fate(browser.does(read)) == SET


# -- caches that ignore Vary -----------------------------------------------------------------------------------------


def _reader(store: SessionStore, **config: object) -> tuple[Browser, Browser]:
    """Somebody signed in, and a guest with a cart."""
    app = make_app(store, SESSION_PRIVATE_READS=True, **config)
    return started(app, _user_id="ann"), started(app, cart=["mug"])


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, {"private"}),
        ("max-age=60", {"private", "max-age=60"}),
        ("public, s-maxage=60, max-age=5", {"private", "max-age=5"}),
        ("no-store", {"private", "no-store"}),
    ],
)
def test_what_was_read_of_somebody_signed_in_is_private_if_so_configured(
    given: str | None, sent: set[str], store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    user, guest = _reader(store)
    response = user.does(_answering(read, given))
    assert (_cache_control(response), response.headers["Vary"], fate(response)) == (sent, "Cookie", KEPT)
    assert guest.does(_answering(read, given)).headers.get("Cache-Control") == given
    assert user.does(_answering(lambda: None, given)).headers.get("Cache-Control") == given
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("key", ["user_id", "username", "logged_in"])
def test_a_login_key_is_enough_for_that(key: str, store: SessionStore) -> None:
    user = started(make_app(store, SESSION_PRIVATE_READS=True), **{key: 1})
    assert _cache_control(user.does(read)) == {"private"}


@pytest.mark.parametrize("header", TARGETED)
def test_then_no_header_for_a_particular_cache_says_otherwise(header: str, store: SessionStore) -> None:
    user, guest = _reader(store)
    view = _with(read, (header, "max-age=60"))
    assert header not in user.does(view).headers
    assert header in guest.does(view).headers


def test_a_stream_may_read_later_so_it_is_private_too(store: SessionStore) -> None:
    user, guest = _reader(store)
    assert _cache_control(user.does(_streaming())) == {"private"}
    assert "Cache-Control" not in Browser(user.app).does(_streaming()).headers
    assert "private" not in user.does(_sending()).headers.get("Cache-Control", "")
    assert guest.data == {"cart": ["mug"]}


def test_without_the_setting_a_read_says_nothing_of_caches(store: SessionStore) -> None:
    assert "Cache-Control" not in started(make_app(store), _user_id="ann").does(read).headers


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


# -- the cookie store's limit --------------------------------------------------------------------------------------


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


# -- forged, broken and hostile cookies ------------------------------------------------------------------------------


def _tampered(cookie: str, place: int) -> str:
    other = "A" if cookie[place] != "A" else "B"
    return cookie[:place] + other + cookie[place:][1:]


HOSTILE: dict[str, t.Callable[[str], str]] = {
    "empty": lambda good: "",
    "quoted emptiness": lambda good: '""',
    "a word": lambda good: "hello",
    "dots": lambda good: "..",
    "many dots": lambda good: "." * 1000,
    "unsigned": lambda good: good.rpartition(".")[0],
    "the key alone": lambda good: good.partition(".")[0],
    "truncated": lambda good: good[:-1],
    "cut in half": lambda good: good[: len(good) // 2],
    "first character": lambda good: _tampered(good, 0),
    "last character of the key": lambda good: _tampered(good, len(good.rsplit(".", 2)[0]) - 2),
    "the rest": lambda good: _tampered(good, good.rindex(".") - 3),
    "the signature": lambda good: _tampered(good, len(good) - 5),
    "longer": lambda good: good + "A",
    "longer by a dot": lambda good: good + ".",
    "twice": lambda good: good + good,
    "100 kB": lambda good: "A" * 100_000,
    "100 kB of parts": lambda good: "A." * 50_000,
    "100 kB and the good one": lambda good: "A" * 100_000 + good,
    "non-ASCII": lambda good: "sessiön" + good,
    "not UTF-8": lambda good: "\xff\xfe" + good,
    "NUL": lambda good: "\x00" + good,
    "NUL at the end": lambda good: good + "\x00",
    "JSON": lambda good: '{"a": 1}',
    "a JWT without algorithm": lambda good: "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.",
    "a pickle": lambda good: "gASVHQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAJpZJSFlFKULg",
    "dictionary": lambda good: "%00%ff" + good,
    "spaces": lambda good: good.replace(".", " . "),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_cookie_that_we_did_not_sign_is_an_empty_session(
    name: str, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(store)
    good = started(app, a=1)
    forged = HOSTILE[name](str(good.cookie))
    calls = watch(store)
    for view in (lambda: None, read):
        response = Browser(app, forged).does(view)
        assert (response.status_code, fate(response)) == (200, KEPT)
    assert Browser(app, forged).asks(lambda: dict(session)) == {}
    assert calls == []
    assert warnings_in(caplog, logging.ERROR) == []
    browser = Browser(app, forged)
    assert fate(browser.does(write)) == SET
    assert calls == ["save"]
    assert browser.data == {"a": 2}
    assert good.data == {"a": 1}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_forged_cookie_beside_the_good_one_does_no_harm(name: str, store: SessionStore) -> None:
    app = make_app(store)
    good = str(started(app, a=1).cookie)
    assert Browser(app, HOSTILE[name](good), good).data == {"a": 1}


@pytest.mark.parametrize(
    "header", ["", ";", "=", "session", ";;session=;", "session==", "=session", "session=\x00;", "x" * 100_000]
)
def test_a_cookie_header_that_makes_no_sense_is_no_session(header: str, store: SessionStore) -> None:
    app = make_app(store)
    app.add_url_rule("/read", "read", lambda: str(dict(session)))
    response = app.test_client(use_cookies=False).get("/read", environ_overrides={"HTTP_COOKIE": header})
    assert (response.status_code, response.text) == (200, "{}")


@pytest.mark.parametrize(
    "header",
    [
        "other=1; session={}",
        "session={}; other=1",
        "session={};other=1",
        'session="{}"',
        "xsession=forged; session={}",
        "session2=forged; session={}; sessions=forged",
        "other=session={}; session={}",
    ],
)
def test_the_cookie_is_found_among_others(header: str, store: SessionStore) -> None:
    app = make_app(store)
    app.add_url_rule("/read", "read", lambda: str(dict(session)))
    header = header.replace("{}", str(started_on(app)))
    response = app.test_client(use_cookies=False).get("/read", headers={"Cookie": header})
    assert response.text == "{'a': 1}"


def started_on(app: Flask) -> str:
    return str(started(app, a=1).cookie)


def test_a_permanent_session_with_a_forged_time_is_not_extended(clock: Clock) -> None:
    store = MemoryStore()
    store.clock = clock
    app = make_app(store, SESSION_PERMANENT=True)
    good = str(started(app, a=1).cookie)
    key, _, signature = good.rsplit(".", 2)
    calls = watch(store)
    assert fate(Browser(app, f"{key}.{'A' * 21}Q.{signature}").does()) == KEPT
    assert fate(Browser(app, f"{key}.AAAAAf____8AAAAA.{signature}").does()) == KEPT
    assert calls == []


# -- secrets -------------------------------------------------------------------------------------------------------


def test_after_a_change_of_secret_the_cookie_is_signed_anew_when_next_sent(store: SessionStore) -> None:
    browser = started(make_app(store, SECRET_KEY="old"), a=1)
    both = make_app(store, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"])
    moved = Browser(both, *browser.cookies)
    assert fate(moved.does(read)) == KEPT
    assert moved.cookie == browser.cookie
    assert fate(moved.does(write)) == SET
    new = make_app(store, SECRET_KEY="new")
    assert Browser(new, *moved.cookies).data == {"a": 2}
    assert Browser(new, *browser.cookies).data == {}


def test_an_extension_signs_anew_too(store: SessionStore, clock: Clock) -> None:
    store.clock = clock
    browser = started(make_app(store, SECRET_KEY="old", SESSION_PERMANENT=True), a=1)
    clock.advance(60)
    moved = Browser(make_app(store, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]), *browser.cookies)
    assert fate(moved.does()) == SET
    assert Browser(make_app(store, SECRET_KEY="new"), *moved.cookies).data == {"a": 1}


def test_a_rolling_change_of_secret_logs_nobody_out(store: SessionStore) -> None:
    # Workers that have the new secret and workers that have not yet: neither touches what it cannot verify.
    old, new = make_app(store, SECRET_KEY="old"), make_app(store, SECRET_KEY="new")
    browser = started(old, a=1)
    assert fate(Browser(new, *browser.cookies).does(read)) == KEPT
    assert browser.data == {"a": 1}


@pytest.mark.parametrize("fallbacks", ["old", b"old", 7])
def test_fallbacks_that_are_no_list_are_an_error(fallbacks: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_app(MemoryStore(), SECRET_KEY_FALLBACKS=fallbacks)
    assert caught.value.key == "SECRET_KEY_FALLBACKS"
    assert "'old'" not in str(caught.value)


def test_bytes_and_text_are_the_same_secret(store: SessionStore) -> None:
    browser = started(make_app(store, SECRET_KEY="schlüssel"), a=1)
    assert Browser(make_app(store, SECRET_KEY="schlüssel".encode()), *browser.cookies).data == {"a": 1}


def test_without_a_secret_there_is_no_session(store: SessionStore) -> None:
    browser = started(make_app(store), a=1)
    app = make_app(store, SECRET_KEY=None)
    calls = watch(store)
    assert fate(Browser(app, *browser.cookies).does(read)) == KEPT
    with pytest.raises(RuntimeError, match="secret"):
        Browser(app, *browser.cookies).does(write)
    assert calls == []


def test_the_token_reads_key_rest_signature(clock: Clock) -> None:
    store = MemoryStore()
    store.clock = clock
    cookie = str(started(make_app(store), a=1).cookie)
    key, rest, signature = cookie.split(".")
    assert (len(key), len(rest), len(signature)) == (43, 16, 43)
    assert set_cookies(started(make_app(store), a=1).does()) == []
