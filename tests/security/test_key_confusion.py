"""Key confusion: one SECRET_KEY serves many; what one of them made is nothing to another."""

from __future__ import annotations

import hmac
import json
import typing as t
import zlib
from base64 import urlsafe_b64encode

import flask_login
import pytest
from attacks import PROTECTIONS, User, identity, target
from derived_keys import PRIVATE as PRIVATE_PURPOSE
from derived_keys import SIGNED as SIGNED_PURPOSE
from derived_keys import context, derive, signer
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from http_support import KEPT, Browser, fate, make_app, set_cookies, started
from itsdangerous import BadSignature, Signer, TimestampSigner, URLSafeSerializer, URLSafeTimedSerializer

from flask_sessionstore import SessionKey, SessionStore, session
from flask_sessionstore.encryption import PRIVATE, TokenCipher
from flask_sessionstore.signing import SIGNED
from flask_sessionstore.stores import from_url
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.testing import Clock
from flask_sessionstore.tokens import Token

SECRET = "a secret"
STATE = {"_user_id": "ann", "user_id": 1, "admin": True}
TOKEN = Token(key=SessionKey.generate(), issued=1, lifetime=0, permanent=False, seen=b"seen", mark=7)
#: What our encrypted tokens are bound to, and what sealed records are.
PRIVATELY, SEAL = context(PRIVATE_PURPOSE), b"flask_sessionstore.seal"

each = pytest.mark.parametrize


@pytest.fixture(params=["memory:", "cookie:"])
def store(request: pytest.FixtureRequest) -> SessionStore:
    return from_url(request.param)


def flasks_own_session() -> str:
    app = Flask("another")
    app.secret_key = SECRET
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    return serializer.dumps(STATE)


def flask_logins_remember_cookie() -> str:
    app = target(from_url("memory:"))
    response = Browser(app).does(lambda: flask_login.login_user(User("ann"), remember=True))
    return next(cookie.value for cookie in set_cookies(response) if cookie.name == "remember_token")


def derived_in_our_way(payload: str, purpose: str) -> str:
    """Signed as our tokens are, for something else."""
    return signer(SECRET, purpose=purpose).sign(payload).decode()


def encrypted_in_our_way(purpose: bytes, bound: bytes) -> str:
    """Encrypted as our tokens are, under the key of one purpose, and authenticated with another."""
    cipher = TokenCipher((), "session", "/")
    cipher._macs = [hmac.new(derive(SECRET.encode(), purpose), digestmod="sha256")]
    cipher._context = bound
    return cipher.dumps(TOKEN)


def foreign_texts() -> dict[str, str]:
    """What others make with the same secret, some with our key or our state in it."""
    key = str(SessionKey.generate())
    ours = started(make_app(from_url("memory:"), SECRET_KEY=SECRET), **STATE).cookie
    assert ours is not None
    payload = ours.rpartition(".")[0]
    app = make_app(from_url("cookie:"), SECRET_KEY=SECRET, SESSION_COOKIE_NAME="session2")
    other_name = Browser(app, name="session2")
    other_name.does(lambda: session.update(STATE))
    return {
        "Flask's own session": flasks_own_session(),
        "Flask-Login's remember cookie": flask_logins_remember_cookie(),
        "a serializer": URLSafeSerializer(SECRET).dumps(STATE),
        "a timed serializer": URLSafeTimedSerializer(SECRET).dumps(STATE),
        "a timed serializer with a salt like ours": URLSafeTimedSerializer(
            SECRET, salt="flask_sessionstore.cookie.session"
        ).dumps(STATE),
        "a signer of texts": Signer(SECRET).sign(payload).decode(),
        "a signer with Flask's salt": Signer(SECRET, salt="cookie-session", key_derivation="hmac")
        .sign(payload)
        .decode(),
        "a signer with a time": TimestampSigner(SECRET).sign(key).decode(),
        "another purpose": derived_in_our_way(payload, "flask_sessionstore.csrf"),
        "our purpose, longer": derived_in_our_way(payload, "flask_sessionstore.cookies"),
        "another name": signer(SECRET, "").sign(payload).decode(),
        "another path": signer(SECRET, path="/admin").sign(payload).decode(),
        "another purpose, encrypted": encrypted_in_our_way(context("flask_sessionstore.csrf"), PRIVATELY),
        "another path, encrypted": PRIVATE.tokens((SECRET,), "session", "/admin").dumps(TOKEN),
        "the purpose of sealed records, encrypted": encrypted_in_our_way(SEAL, SEAL),
        "the purpose of sealed records as the key's": encrypted_in_our_way(SEAL, PRIVATELY),
        "the purpose of sealed records beside our key": encrypted_in_our_way(PRIVATELY, SEAL),
        "our purpose, no name, encrypted": encrypted_in_our_way(context(PRIVATE_PURPOSE, ""), PRIVATELY),
        "our purpose, no name beside our key": encrypted_in_our_way(PRIVATELY, context(PRIVATE_PURPOSE, "")),
        "another cookie, encrypted": PRIVATE.tokens((SECRET,), "session2", "/").dumps(TOKEN),
        "another cookie": str(other_name.cookie),
        "no signature": payload,
        "a bare key": key,
    }


FOREIGN = foreign_texts()


@each("protection", PROTECTIONS)
@each("text", FOREIGN.values(), ids=list(FOREIGN))
def test_what_others_made_with_the_secret_is_no_session(text: str, protection: str, store: SessionStore) -> None:
    app = target(store, SECRET_KEY=SECRET, SESSION_COOKIE_CONTENT_SECURITY=protection)
    browser = Browser(app, text)
    assert browser.data == {}
    assert fate(browser.does()) == KEPT
    browser.does(lambda: session.update(n=1))
    assert browser.data == {"n": 1}
    assert text not in browser.cookies


@each("text", FOREIGN.values(), ids=list(FOREIGN))
def test_it_is_no_token_of_ours_whatever_is_in_it(text: str) -> None:
    for protection in (SIGNED, PRIVATE):
        for key_class in (SessionKey, CookieStore.key_class):
            assert protection.tokens((SECRET,), "session", "/").loads(text, key_class) is None


def test_the_same_text_for_our_purpose_is_one() -> None:
    """Else the refusals would say nothing."""
    signed, private = (protection.tokens((SECRET,), "session", "/") for protection in (SIGNED, PRIVATE))
    assert private.loads(encrypted_in_our_way(PRIVATELY, PRIVATELY), SessionKey) is not None
    payload = signed.dumps(TOKEN).rpartition(".")[0]
    assert signed.loads(derived_in_our_way(payload, SIGNED_PURPOSE), SessionKey) is not None


@each("protection", PROTECTIONS)
def test_our_token_is_nothing_to_others(protection: str, store: SessionStore) -> None:
    app = target(store, SECRET_KEY=SECRET, SESSION_COOKIE_CONTENT_SECURITY=protection)
    token = t.cast("str", started(app, **STATE).cookie)
    flasks = SecureCookieSessionInterface().get_signing_serializer(app)
    assert flasks is not None
    for serializer in (flasks, URLSafeSerializer(SECRET), URLSafeTimedSerializer(SECRET)):
        with pytest.raises(BadSignature):
            serializer.loads(token)
    for theirs in (
        Signer(SECRET),
        TimestampSigner(SECRET),
        Signer(SECRET, salt="cookie-session", key_derivation="hmac"),
    ):
        assert not theirs.validate(token)
    with app.app_context():
        assert flask_login.decode_cookie(token) is None


def test_a_remember_cookie_and_a_session_cookie_cannot_change_places(store: SessionStore) -> None:
    app = target(store)
    response = Browser(app).does(lambda: flask_login.login_user(User("ann"), remember=True))
    values = {cookie.name: cookie.value for cookie in set_cookies(response)}
    assert set(values) == {"session", "remember_token"}
    assert identity(Browser(app, values["session"])) == {"_user_id": "ann"}
    for name, value in (("session", values["remember_token"]), ("remember_token", values["session"])):
        answer = Browser(app, value, name=name).asks(lambda: flask_login.current_user.is_authenticated)
        assert answer is False


@each("protection", PROTECTIONS)
def test_two_cookies_of_one_application_cannot_change_places(protection: str) -> None:
    """A site with two applications behind one secret: what one signed for its cookie is nothing in the other's."""
    shared = from_url("memory:")
    config: dict[str, t.Any] = {"SECRET_KEY": SECRET, "SESSION_COOKIE_CONTENT_SECURITY": protection}
    shop = target(shared, SESSION_COOKIE_NAME="shop", **config)
    office = target(shared, SESSION_COOKIE_NAME="office", **config)
    visitor = Browser(shop, name="shop")
    visitor.does(lambda: session.update(STATE))
    assert identity(visitor)
    assert not identity(Browser(office, *visitor.cookies, name="office"))


@each(("from_", "to"), [("memory:", "cookie:"), ("cookie:", "memory:")])
@each("protection", PROTECTIONS)
def test_a_token_of_one_kind_of_store_is_no_session_in_another(from_: str, to: str, protection: str) -> None:
    config: dict[str, t.Any] = {"SECRET_KEY": SECRET, "SESSION_COOKIE_CONTENT_SECURITY": protection}
    before = started(target(from_url(from_), **config), **STATE)
    after = Browser(target(from_url(to), **config), *before.cookies)
    assert after.data == {}
    after.does(lambda: session.update(n=1))
    assert after.data == {"n": 1}


@each("protection", PROTECTIONS)
def test_no_encoding_without_a_signature_is_ever_tried(protection: str, store: SessionStore) -> None:
    app = target(store, SECRET_KEY=SECRET, SESSION_COOKIE_CONTENT_SECURITY=protection)
    plain = json.dumps(STATE).encode()
    for data in (plain, zlib.compress(plain)):
        for text in (
            data.decode("latin-1"),
            urlsafe_b64encode(data).decode(),
            urlsafe_b64encode(data).decode().rstrip("="),
        ):
            for whole in (text, f"{text}.", f".{text}", f"{text}..", f"{text}.AAAA.{'A' * 43}"):
                assert Browser(app, whole).data == {}


def test_a_former_secret_is_as_good_as_the_one_in_use_and_a_retired_one_is_not(
    store: SessionStore, clock: Clock
) -> None:
    user = started(target(store, clock, SECRET_KEY="old"), **STATE)
    rolling = target(store, clock, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])
    assert identity(Browser(rolling, *user.cookies))
    retired = target(store, clock, SECRET_KEY="new")
    assert not identity(Browser(retired, *user.cookies))
