"""Encrypted cookies over HTTP: what they hide, what they refuse; and for both kinds, which secret made which cookie."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import typing as t
import zlib
from base64 import urlsafe_b64decode

import pytest
from flask import Flask, Request
from flask.sessions import SecureCookieSessionInterface
from http_support import DELETED, KEPT, SET, Browser, cookie_of, fate, make_app, started, watch
from views import clear, force, purge, read, write

from flask_sessionstore import (
    ConfigurationError,
    SessionKey,
    SessionManager,
    SessionStore,
    SessionTooLarge,
    StoreSessionInterface,
    session,
)
from flask_sessionstore.encryption import PRIVATE
from flask_sessionstore.signing import SIGNED
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock
from flask_sessionstore.tokens import Token

SECURITY = "SESSION_COOKIE_CONTENT_SECURITY"
KINDS = ["signed", "private"]
SECRET_DATA = "correct horse battery staple"


@pytest.fixture(params=[CookieStore, MemoryStore])
def store(request: pytest.FixtureRequest) -> SessionStore:
    """One store of each kind: the rest differ by nothing that the browser sees."""
    return t.cast("SessionStore", request.param())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return t.cast("str", request.param)


def make_private(store: object, **config: object) -> Flask:
    return make_app(store, **{SECURITY: "private", **config})


def token_in(cookie: str | None, kind: str, secret: str | bytes = "a secret") -> Token | None:
    """What a cookie says to whoever has this one secret."""
    made = {"signed": SIGNED, "private": PRIVATE}[kind].tokens((secret,), "session", "/")
    return made.loads(str(cookie), SessionKey) or made.loads(str(cookie), CookieStore.key_class)


def makers(cookie: str | None, kind: str, *secrets: str | bytes) -> list[str | bytes]:
    """Those of ``secrets`` that made the cookie."""
    return [secret for secret in secrets if token_in(cookie, kind, secret)]


# -- what a reader of the cookie sees ------------------------------------------------------------------------------


def views_of(cookie: str | None) -> t.Iterator[bytes]:
    """The cookie as somebody without the secret may look at it: as it is, decoded, and unpacked from any byte on."""
    yield str(cookie).encode()
    for part in str(cookie).split("."):
        data = urlsafe_b64decode(part + "==")
        yield data
        for start in range(len(data)):
            with contextlib.suppress(zlib.error):
                yield zlib.decompressobj().decompress(data[start:])


def is_seen(data: bytes, cookie: str | None) -> bool:
    return any(data in view for view in views_of(cookie))


def test_the_session_in_a_private_cookie_cannot_be_read() -> None:
    signed, private = (
        started(make_app(CookieStore(), **{SECURITY: kind}), note="correct horse battery staple") for kind in KINDS
    )
    for data in (b"correct horse", b"note"):
        assert is_seen(data, signed.cookie)
        assert not is_seen(data, private.cookie)
    assert signed.data == private.data == {"note": "correct horse battery staple"}


def test_the_session_key_in_a_private_cookie_cannot_be_read(kind: str) -> None:
    browser = started(make_app(MemoryStore(), **{SECURITY: kind}), a=1)
    token = token_in(browser.cookie, kind)
    assert token is not None
    for data in (str(token.key).encode(), urlsafe_b64decode(f"{token.key}=")):
        assert is_seen(data, browser.cookie) is (kind == "signed")


def test_no_private_cookie_is_sent_twice(store: SessionStore, clock: Clock) -> None:
    store.clock = clock
    browser = started(make_private(store, SESSION_REFRESH_INTERVAL=0), a=1)  # every change sends a cookie
    cookies = set()
    for _ in range(5):
        browser.does(force)
        cookies.add(str(browser.cookie)[12:])
    assert len(cookies) == len({cookie[:20] for cookie in cookies}) == len({cookie[-20:] for cookie in cookies}) == 5


# -- the limit of what browsers keep -------------------------------------------------------------------------------


def test_the_limit_of_a_session_in_a_cookie_is_exact(kind: str, clock: Clock) -> None:
    store = CookieStore()
    store.clock = clock
    noise = random.Random(1).randbytes(2800)
    browser = started(make_app(store, **{SECURITY: kind}), a=noise)
    # An extension by no time: the same session, in a cookie of the same length.
    length = len(browser.does(force).headers["Set-Cookie"]) + len("Domain=; ")
    assert 3900 < length < 4000
    for size, fits in ((4093, True), (4094, False)):
        domain = (50 * "d" + ".") * 4
        app = make_app(store, **{SECURITY: kind}, SESSION_COOKIE_DOMAIN=domain[: size - length - 1] + "d")
        again = Browser(app, *browser.cookies)
        if fits:
            assert len(again.does(force).headers["Set-Cookie"]) == size
            assert again.data == {"a": noise}
        else:
            with pytest.raises(SessionTooLarge) as caught:
                again.does(force)
            assert (caught.value.size, caught.value.limit, caught.value.largest) == (size, 4093, ["a"])


def test_encryption_takes_fifteen_bytes_of_a_cookie_at_most(store: SessionStore, clock: Clock) -> None:
    store.clock = clock
    signed = started(make_app(store), a=1)
    token = token_in(signed.cookie, "signed")
    assert token is not None
    private = PRIVATE.tokens(("a secret",), "session", "/").dumps(token)
    assert len(private) - len(str(signed.cookie)) in (14, 15)


# -- what is refused -----------------------------------------------------------------------------------------------


def refuse(app: Flask, cookie: str | None, name: str = "session") -> None:
    """A cookie that we did not make is no session; it stays, without a question to the store, until the next write."""
    calls = watch(app.session_interface.store)  # type: ignore[attr-defined]
    browser = Browser(app, str(cookie), name=name)
    for view in (lambda: None, read, clear, purge):
        assert (browser.data, fate(browser.does(view))) == ({}, KEPT)
    assert calls == []
    assert fate(browser.does(write)) == SET
    assert calls == ["save"]
    assert browser.data == {"a": 2}


@pytest.mark.parametrize(("before", "after"), [("signed", "private"), ("private", "signed")])
def test_neither_kind_of_application_reads_the_other_s_cookies(before: str, after: str, store: SessionStore) -> None:
    browser = started(make_app(store, **{SECURITY: before}), a=1)
    refuse(make_app(store, **{SECURITY: after}), browser.cookie)
    assert browser.data == {"a": 1}


def test_applications_with_one_secret_and_other_cookie_names_are_strangers(kind: str, store: SessionStore) -> None:
    shop = make_app(store, **{SECURITY: kind})
    admin = make_app(store, **{SECURITY: kind}, SESSION_COOKIE_NAME="admin")
    browser = started(shop, a=1)
    assert Browser(shop, *browser.cookies).data == {"a": 1}
    refuse(admin, browser.cookie, "admin")


def test_what_flask_signs_with_the_same_secret_is_refused(kind: str, store: SessionStore) -> None:
    app = make_app(store, **{SECURITY: kind})
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    refuse(app, str(serializer.dumps({"a": 1})))


def test_a_private_cookie_changed_anywhere_is_refused(store: SessionStore) -> None:
    cookie = str(started(make_private(store), a=1).cookie)
    for place in (0, 1, 5, 11, 12, 33, 34, 49, 50, 60, len(cookie) - 23, len(cookie) - 2):
        other = "B" if cookie[place] == "A" else "A"
        refuse(make_private(store), cookie[:place] + other + cookie[place + 1 :])
    for changed in ("", cookie[:-1], cookie[1:], cookie + "A", cookie + "=", cookie * 2, cookie[:12], "A" * 100_000):
        refuse(make_private(store), changed)


def test_a_private_cookie_is_found_beside_a_signed_one(store: SessionStore) -> None:
    signed, private = (str(started(make_app(store, **{SECURITY: kind}), a=kind).cookie) for kind in KINDS)
    for cookies in ((signed, private), (private, signed)):
        assert Browser(make_private(store), *cookies).data == {"a": "private"}
        assert Browser(make_app(store), *cookies).data == {"a": "signed"}


# -- what costs nothing --------------------------------------------------------------------------------------------


def permanent(store: SessionStore, clock: Clock, kind: str) -> tuple[Flask, Browser]:
    store.clock = clock
    app = make_app(store, **{SECURITY: kind}, SESSION_PERMANENT=True)
    return app, started(app, a=1)


def test_an_untouched_session_that_is_not_due_costs_no_cryptography(
    kind: str, store: SessionStore, clock: Clock
) -> None:
    app, browser = permanent(store, clock, kind)
    app.config["SECRET_KEY"] = 7  # an error for whoever derives a key from it
    clock.advance(59)
    assert fate(browser.does()) == KEPT
    for view in (read, write):
        with pytest.raises(TypeError):
            browser.does(view)
    clock.advance(1)  # due
    with pytest.raises(TypeError):
        browser.does()


def test_an_untouched_session_that_is_due_is_extended(kind: str, store: SessionStore, clock: Clock) -> None:
    _, browser = permanent(store, clock, kind)
    before = token_in(browser.cookie, kind)
    clock.advance(60)
    cookie = cookie_of(browser.does())
    after = token_in(cookie.value, kind)
    assert before is not None
    assert after is not None
    assert (after.issued, after.lifetime, after.permanent) == (before.issued + 60, before.lifetime, True)
    assert cookie.attributes["max-age"] == str(after.lifetime)
    assert browser.data == {"a": 1}


def test_a_private_cookie_with_a_forged_time_extends_nothing(store: SessionStore, clock: Clock) -> None:
    app, browser = permanent(store, clock, "private")
    calls = watch(store)
    cookie = str(browser.cookie)
    for issued, lifetime in ((0, 2**31 - 1), (2**32 - 1, 60), (0, 1)):
        clear_part = PRIVATE.tokens(("forged",), "session", "/").dumps(
            Token(SessionKey("A" * 43), issued, lifetime, True, b"seen", 0)
        )
        assert fate(Browser(app, clear_part[:12] + cookie[12:]).does()) == KEPT
    assert calls == []


# -- secrets that change -------------------------------------------------------------------------------------------


def test_a_cookie_under_a_former_secret_comes_back_under_the_current_one(kind: str, store: SessionStore) -> None:
    app = make_app(store, **{SECURITY: kind}, SECRET_KEY="old")
    browser = started(app, a=1)
    assert makers(browser.cookie, kind, "old", "new", "newest") == ["old"]
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"])
    browser.does(read)
    assert makers(browser.cookie, kind, "old", "new", "newest") == ["new"]
    app.config.update(SECRET_KEY="newest", SECRET_KEY_FALLBACKS=["new"])
    browser.does(force)
    assert makers(browser.cookie, kind, "old", "new", "newest") == ["newest"]
    assert browser.data == {"a": 1}


def test_an_extension_comes_under_the_current_secret_too(kind: str, store: SessionStore, clock: Clock) -> None:
    app, browser = permanent(store, clock, kind)
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["a secret"])
    clock.advance(60)
    assert fate(browser.does()) == SET
    assert makers(browser.cookie, kind, "a secret", "new") == ["new"]


def test_a_new_session_and_a_new_key_come_under_the_current_secret(kind: str, store: SessionStore) -> None:
    app = make_app(store, **{SECURITY: kind}, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])
    browser = started(app, a=1)
    assert makers(browser.cookie, kind, "old", "new") == ["new"]
    browser.does(lambda: session.renew())  # noqa: PLW0108  - the proxy wants its request
    assert makers(browser.cookie, kind, "old", "new") == ["new"]


def test_a_secret_that_is_no_fallback_any_more_reads_nothing(kind: str, store: SessionStore) -> None:
    app = make_app(store, **{SECURITY: kind}, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])
    browser = started(make_app(store, **{SECURITY: kind}, SECRET_KEY="old"), a=1)
    moved = Browser(app, *browser.cookies)
    assert moved.twin().data == {"a": 1}
    app.config["SECRET_KEY_FALLBACKS"] = []
    assert moved.data == {}
    refuse(app, browser.cookie)
    app.config["SECRET_KEY_FALLBACKS"] = ["old"]
    assert moved.data == {"a": 1}


def test_text_and_bytes_are_the_same_secret(kind: str, store: SessionStore) -> None:
    text, data = "schlüssel", "schlüssel".encode()
    browser = started(make_app(store, **{SECURITY: kind}, SECRET_KEY=text), a=1)
    assert makers(browser.cookie, kind, text, data, "schlussel") == [text, data]
    assert Browser(make_app(store, **{SECURITY: kind}, SECRET_KEY=data), *browser.cookies).data == {"a": 1}
    rotated = make_app(store, **{SECURITY: kind}, SECRET_KEY=b"\xff\x00 no text", SECRET_KEY_FALLBACKS=[data])
    moved = Browser(rotated, *browser.cookies)
    moved.does(write)
    assert makers(moved.cookie, kind, text, b"\xff\x00 no text") == [b"\xff\x00 no text"]


def test_a_secret_may_change_while_a_request_runs(kind: str, store: SessionStore) -> None:
    # What a request began with, it ends with: the old secret reads the cookie and makes the next.
    app = make_app(store, **{SECURITY: kind}, SECRET_KEY="old")
    browser = started(app, a=1)

    def change() -> None:
        read()
        app.config["SECRET_KEY"] = "new"
        write()

    browser.does(change)
    assert makers(browser.cookie, kind, "old", "new") == ["old"]
    assert browser.data == {}


# -- from one kind to the other ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [("signed", "private"), ("private", "signed")])
def test_an_application_can_bring_its_sessions_along(before: str, after: str, store: SessionStore) -> None:
    former = make_app(store, **{SECURITY: before})
    browser = started(former, a=1)
    thief = browser.twin()

    def import_session(app: Flask, request: Request) -> dict[str, object] | None:
        interface = t.cast("StoreSessionInterface", former.session_interface)
        old = interface.open_session(former, request)
        if not old:
            return None
        data = {"_permanent": old.permanent, **old}
        old.purge()
        old.save()
        return data

    app = Flask("moved")
    app.config.update({"SECRET_KEY": "a secret", "SESSION_STORE": store, SECURITY: after, "TESTING": True})
    app.add_url_rule("/", "index", lambda: dict(session))
    SessionManager(app, import_session=import_session)
    client = app.test_client()
    client.set_cookie("session", str(browser.cookie))
    for _ in range(2):
        assert client.get("/").json == {"a": 1}
    cookie = client.get_cookie("session")
    assert cookie is not None
    assert token_in(cookie.value, after)
    assert thief.data == ({"a": 1} if isinstance(store, CookieStore) else {})


# -- the setting ---------------------------------------------------------------------------------------------------

_WITHOUT_CRYPTOGRAPHY = """
import sys
sys.modules["cryptography"] = None
from flask import Flask
from flask_sessionstore import ConfigurationError, SessionManager
for kind in ("signed", "private"):
    app = Flask("shop")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="cookie:", SESSION_COOKIE_CONTENT_SECURITY=kind)
    try:
        SessionManager(app)
        print(kind, "starts")
    except ConfigurationError as error:
        print(error.key, error)
"""


def test_without_the_package_only_private_cookies_are_an_error_and_it_says_how_to_install_it() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT_CRYPTOGRAPHY], env=environment, capture_output=True, text=True, check=True
    )
    signed, private = run.stdout.splitlines()
    assert signed == "signed starts"
    assert private.startswith(SECURITY)
    assert "pip install cryptography" in private


@pytest.mark.parametrize("value", ["Private", "none", "encrypted", None, True, ["private"]])
def test_any_other_kind_is_an_error_at_the_start_and_later(value: object, store: SessionStore) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_app(store, **{SECURITY: value})
    assert caught.value.key == SECURITY
    app = make_private(store)
    app.config[SECURITY] = value
    with pytest.raises(ConfigurationError):
        Browser(app).does(write)


def test_a_private_cookie_is_deleted_as_any_other(store: SessionStore) -> None:
    for end in (clear, purge):
        assert fate(started(make_private(store), a=1).does(end)) == DELETED
