"""Forged, broken and hostile cookies, and the secrets that verify them."""

from __future__ import annotations

import logging
import typing as t

import pytest
from flask import Flask
from http_support import KEPT, SET, Browser, fate, make_app, set_cookies, started, warnings_in, watch
from views import read, write

from flask_sessionstore import ConfigurationError, SessionStore, session
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


@pytest.fixture(params=[CookieStore, MemoryStore])
def store(request: pytest.FixtureRequest) -> SessionStore:
    """One store of each kind: the rest differ by nothing that the browser sees."""
    return t.cast("SessionStore", request.param())


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


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_after_a_change_of_secret_the_next_response_signs_the_cookie_anew(store: SessionStore) -> None:
    browser = started(make_app(store, SECRET_KEY="old"), a=1)
    both = make_app(store, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"])
    moved = Browser(both, *browser.cookies)
    assert fate(moved.does(read)) == SET
    new = make_app(store, SECRET_KEY="new")
    assert Browser(new, *moved.cookies).data == {"a": 1}
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
    assert (len(key), len(rest), len(signature)) == (43, 7, 43)
    assert set_cookies(started(make_app(store), a=1).does()) == []
