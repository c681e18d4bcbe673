"""What a browser sends: the Cookie header, the tokens in it, and what a token carries once it is known to be ours."""

from __future__ import annotations

import contextlib
import hashlib
import typing as t

from itsdangerous import Signer
from msgspec.structs import replace

from flask_sessionstore import SessionCorrupt, SessionKey
from flask_sessionstore.encryption import PRIVATE, _cipher
from flask_sessionstore.hkdf import context_of, derive_key
from flask_sessionstore.interface import _Browser
from flask_sessionstore.key import to_base64url
from flask_sessionstore.record import Record
from flask_sessionstore.signing import SIGNED
from flask_sessionstore.stores.cookie import CookieStore, _StateKey
from flask_sessionstore.tokens import Token

from . import requests

#: Every way in which a token may be protected, by its setting.
PROTECTIONS = {"signed": SIGNED, "private": PRIVATE}
_SECRETS = (requests.SECRET, "a former secret")
_TOKENS: dict[str, t.Any] = {name: how.tokens(_SECRETS, "session", "/") for name, how in PROTECTIONS.items()}
_APPS = {name: requests.application(SESSION_COOKIE_CONTENT_SECURITY=name) for name in PROTECTIONS}
_KEYS: tuple[type[SessionKey], ...] = (SessionKey, _StateKey)
_SIGNER = Signer(
    derive_key(requests.SECRET, context_of("flask_sessionstore.cookie", "session", "/")),
    key_derivation="none",
    digest_method=hashlib.sha256,
)
_TOKEN = Token(key=requests.KEY, issued=requests.NOW, lifetime=0, permanent=False, seen=b"seen", mark=7)


def check(data: bytes) -> None:
    """Take ``data`` for a header, for a token, and for what a token carries."""
    text = data.decode("latin-1")  # as WSGI hands it on
    for name, protection in PROTECTIONS.items():
        _check_header(text, name)
        _check_header(f"session={text}", name)
        claim = protection.read_claim(text)
        assert claim is None or (claim.issued < 2**32 and claim.lifetime < 2**31)
        for key_class in _KEYS:
            assert _TOKENS[name].loads(text, key_class) is None or text in _MADE
    _check_carried(_signed(text), "signed")
    _check_carried(_encrypted(data), "private")


def seeds() -> list[bytes]:
    """Tokens and headers such as browsers send, and what is in these tokens."""
    texts = sorted(_MADE)
    headers = [f"a=1; session={texts[0]}; session={texts[1]}", f'session="{texts[0]}"; session=; session']
    unsigned = [text.rpartition(".")[0] for text in texts if "." in text]
    return [*(text.encode("latin-1") for text in (*texts, *headers, *unsigned)), b"seen\x07" + bytes(32)]


def _make() -> set[str]:
    store = CookieStore()
    store.clock = lambda: requests.NOW
    state = store.save(Record(state={"user": b"\xa3ann"}), requests.APP.permanent_session_lifetime)
    return {tokens.dumps(replace(_TOKEN, key=key)) for tokens in _TOKENS.values() for key in (requests.KEY, state)}


#: All tokens there are: whatever else is believed was forged.
_MADE = _make()


def _check_header(header: str, protection: str) -> None:
    app: t.Any = _APPS[protection]
    browser = _Browser(app.session_interface, app, requests.request_with(header))
    tokens = browser.tokens()
    assert len({token.key for token in tokens}) == len(tokens) <= header.count("=")


def _check_carried(text: str, protection: str) -> None:
    """The thief of a secret can make any session there is, and no other exception."""
    _TOKENS[protection].loads(text, SessionKey)
    token = _TOKENS[protection].loads(text, _StateKey)
    if token is not None:
        with contextlib.suppress(SessionCorrupt):
            CookieStore().load(token.key)


def _signed(payload: str) -> str:
    return _SIGNER.sign(payload.encode()).decode()


def _encrypted(content: bytes) -> str:
    clear, salt, nonce = b"\1" + bytes(8), bytes(16), bytes(12)
    cipher = _TOKENS["private"]
    encrypted = _cipher(cipher._macs[0], salt).encrypt(nonce, content, clear + cipher._context)
    return to_base64url(clear + salt + nonce + encrypted)
