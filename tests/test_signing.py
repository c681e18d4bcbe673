"""Tokens on their way through the browser: ours come back, nobody else's is believed, and no text raises."""

from __future__ import annotations

import string

import pytest
from flask.sessions import SecureCookieSessionInterface
from hypothesis import example, given
from hypothesis import strategies as st
from itsdangerous import Signer

from flask_sessionstore import SessionKey
from flask_sessionstore.key import Claim, Token
from flask_sessionstore.signing import claim, signer
from flask_sessionstore.stores.cookie import CookieStore

ALPHABET = string.ascii_letters + string.digits + "-_"
KEY = SessionKey("A" * 43)
TOKEN = Token(key=KEY, issued=1_767_225_600, lifetime=3600, permanent=True, seen=b"seen")
SIGNER = signer(("secret",), "session")
TEXT = SIGNER.dumps(TOKEN)


def loads(text: str) -> Token | None:
    return SIGNER.loads(text, SessionKey)


tokens = st.builds(
    Token,
    key=st.binary(min_size=32, max_size=32).map(lambda _: SessionKey.generate()),
    issued=st.integers(0, 2**32 - 1),
    lifetime=st.integers(0, 2**31 - 1),
    permanent=st.booleans(),
    seen=st.binary(min_size=4, max_size=4),
)


@given(tokens)
def test_a_token_comes_back_as_it_was_sent(token: Token) -> None:
    text = SIGNER.dumps(token)
    assert loads(text) == token
    assert claim(text) == Claim(token.issued, token.lifetime)


def test_a_token_starts_with_the_session_key_and_is_safe_in_a_cookie() -> None:
    key, rest, signature = TEXT.split(".")
    assert key == str(KEY)
    assert set(rest + signature) <= set(ALPHABET)
    assert len(TEXT) < 120


def test_the_text_of_a_token_is_what_it_has_always_been() -> None:
    expected = f"{KEY}.aVW5AIAADhBzZWVu.zuA_-HaOm_p06PzLpnQti934Wm2eiksC8I2F9d0y70E"
    assert expected == TEXT


def test_a_lifetime_longer_than_a_token_can_say_is_the_longest_it_can() -> None:
    token = loads(SIGNER.dumps(TOKEN._replace(lifetime=2**40)))
    assert token == TOKEN._replace(lifetime=2**31 - 1)


@pytest.mark.parametrize("position", range(len(TEXT) - 1))
def test_a_token_with_any_character_changed_is_rejected(position: int) -> None:
    for other in set(ALPHABET + ".=!é \x00") - {TEXT[position]}:
        assert loads(TEXT[:position] + other + TEXT[position + 1 :]) is None


def test_a_token_cut_off_or_with_more_in_front_of_it_is_rejected() -> None:
    for position in range(len(TEXT)):
        assert loads(TEXT[:position]) is None
        assert loads(TEXT[position + 1 :]) is None
    assert loads("A" + TEXT) is None
    assert loads("." + TEXT) is None


def test_a_signature_has_one_spelling() -> None:
    spellings = [TEXT[:-1] + other for other in ALPHABET] + [TEXT + junk for junk in ("=", "!", " ", "\n", "é")]
    assert [text for text in spellings if loads(text)] == [TEXT]


@pytest.mark.parametrize("name", ["", "Session", "session2", "__Host-session"])
def test_a_token_of_another_cookie_is_rejected(name: str) -> None:
    assert signer(("secret",), name).loads(TEXT, SessionKey) is None


def test_a_token_of_another_secret_is_rejected() -> None:
    assert signer(("another",), "session").loads(TEXT, SessionKey) is None
    assert signer(("another", "and another"), "session").loads(TEXT, SessionKey) is None


def test_a_former_secret_verifies_and_the_current_one_signs() -> None:
    rotated = signer(("new", "secret"), "session")
    assert rotated.loads(TEXT, SessionKey) == TOKEN
    assert rotated.dumps(TOKEN) == signer(("new",), "session").dumps(TOKEN) != TEXT
    assert loads(rotated.dumps(TOKEN)) is None


def test_a_secret_may_be_bytes() -> None:
    assert signer((b"secret",), "session").loads(TEXT, SessionKey) == TOKEN


def test_what_flask_or_another_extension_signs_with_the_same_secret_is_rejected() -> None:
    payload = TEXT.rpartition(".")[0]
    for salt in ("itsdangerous.Signer", SecureCookieSessionInterface.salt, "session"):
        assert loads(Signer("secret", salt=salt, key_derivation="hmac").sign(payload).decode()) is None


def test_a_rightly_signed_text_that_is_no_token_is_rejected() -> None:
    sign = SIGNER._signer.sign
    for payload in ("", ".", "A" * 43, f"{KEY}.", f"{KEY}.AAAA", f"{KEY}.{'A' * 15}", f"{KEY}x.{'A' * 16}", "é.é"):
        assert loads(sign(payload).decode()) is None


texts = st.text() | st.text(ALPHABET + ".") | st.text(st.characters(categories=["Cs"]))
key_classes = st.sampled_from([SessionKey, CookieStore.key_class])


@given(texts, key_classes)
@example("", SessionKey)
@example("." * 1000, SessionKey)
@example("A" * 100_000, SessionKey)
@example(f"{KEY}.{'A' * 16}.", SessionKey)
@example("\ud800.\udfff.\x00", SessionKey)
def test_no_text_raises_and_none_is_believed(text: str, key_class: type[SessionKey]) -> None:
    assert SIGNER.loads(text, key_class) is None


@given(texts)
@example("0000000000000.signature")
@example("\ud800.\udfff.\x00")
@example("é.é.é")
def test_no_text_raises_when_its_claim_is_read(text: str) -> None:
    assert claim(text) is None or len(text) >= 18


def test_a_claim_needs_no_secret_and_proves_nothing() -> None:
    assert claim(TEXT[:-5] + "wrong") == claim("x" + TEXT) == Claim(TOKEN.issued, TOKEN.lifetime)
    assert claim(str(KEY)) is None
