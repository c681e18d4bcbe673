"""What caches between browser and server may keep: Vary, Cache-Control, and headers for some caches."""

from __future__ import annotations

import io
import typing as t
from pathlib import Path

import pytest
from flask import Response, abort, send_file, send_from_directory, stream_with_context
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, started, warnings_in, watch
from lifecycle_views import fate_of_change
from views import force, purge, read, renew, write
from werkzeug.test import TestResponse

from flask_sessionstore import SessionStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


@pytest.fixture(params=[CookieStore, MemoryStore])
def store(request: pytest.FixtureRequest) -> SessionStore:
    """One store of each kind: the rest differ by nothing that the browser sees."""
    return t.cast("SessionStore", request.param())


# -- caches ----------------------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("action", [write, purge, force, renew])
def test_no_cache_between_may_keep_the_response_to_a_change_with_a_cookie_or_without(
    action: Action, given: str | None, sent: set[str], store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(make_app(store), a=1)
    response = browser.does(_answering(action, given))
    assert fate(response) == (DELETED if action is purge else SET if action is renew else fate_of_change(store))
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


# -- headers for some caches, which those obey instead of Cache-Control ----------------------------------------------


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
