"""Tokens on their way through the browser: ours come back, nobody else's is believed, and no text raises."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
import string
import typing as t
from base64 import urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor

import derived_keys
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from derived_keys import context, derive
from flask.sessions import SecureCookieSessionInterface
from hypothesis import example, given
from hypothesis import strategies as st
from itsdangerous import Signer
from msgspec.structs import replace

from flask_sessionstore import SessionKey, sealing
from flask_sessionstore.encryption import PRIVATE, TokenCipher
from flask_sessionstore.hkdf import context_of, derive_key
from flask_sessionstore.signing import SIGNED, TokenSigner
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.tokens import Claim, Protection, Token

ALPHABET = string.ascii_letters + string.digits + "-_"
KEY = SessionKey("A" * 43)
TOKEN = Token(key=KEY, issued=1_767_225_600, lifetime=3600, permanent=True, seen=b"seen", mark=7)
SIGNER = TokenSigner(("secret",), "session", "/")
PLAIN = derived_keys.signer("secret")
CIPHER = TokenCipher(("secret",), "session", "/")
#: One text for each.
TEXTS = {SIGNED: SIGNER.dumps(TOKEN), PRIVATE: CIPHER.dumps(TOKEN)}
BOTH = pytest.mark.parametrize("protection", [pytest.param(SIGNED, id="signed"), pytest.param(PRIVATE, id="private")])


def loads(protection: Protection, text: str, secrets: tuple[str | bytes, ...] = ("secret",)) -> Token | None:
    return protection.tokens(secrets, "session", "/").loads(text, SessionKey)


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


# What the cookie store's keys hold: the session itself, in base64url.
keys = st.builds(SessionKey.generate) | st.binary(min_size=1, max_size=300).map(encode).map(CookieStore.key_class)
tokens = st.builds(
    Token,
    key=keys,
    issued=st.integers(0, 2**32 - 1),
    lifetime=st.integers(1, 2**31 - 1),
    permanent=st.booleans(),
    seen=st.binary(min_size=4, max_size=4),
    mark=st.integers(0, 255),
    former=st.just(False),
)


# A browser-session cookie has no end, so it has no time either.
tokens |= tokens.map(lambda token: replace(token, issued=0, lifetime=0, permanent=False))

texts = st.text() | st.text(ALPHABET + ".") | st.text(st.characters(categories=["Cs"]))


# -- there and back ------------------------------------------------------------------------------------------------


@BOTH
@given(token=tokens)
def test_a_token_comes_back_as_it_was_sent(protection: Protection, token: Token) -> None:
    ours = protection.tokens(("secret",), "session", "/")
    text = ours.dumps(token)
    assert ours.loads(text, type(token.key)) == token
    assert protection.read_claim(text) == (Claim(token.issued, token.lifetime) if token.lifetime else None)
    assert set(text) <= set(ALPHABET + ".")


@BOTH
def test_a_lifetime_longer_than_a_token_can_say_is_the_longest_it_can(protection: Protection) -> None:
    text = protection.tokens(("secret",), "session", "/").dumps(replace(TOKEN, lifetime=2**40))
    assert loads(protection, text) == replace(TOKEN, lifetime=2**31 - 1)


def test_a_signed_token_starts_with_the_session_key() -> None:
    assert TEXTS[SIGNED].split(".")[0] == str(KEY)


def test_the_text_of_a_signed_token_is_what_it_has_always_been() -> None:
    expected = f"{KEY}.c2VlbgdpVbkAgAAOEA.MOvWdG1H5m-LfSfsOvneHD1BKYDXPofQR1zPUbMXBC4"
    assert TEXTS[SIGNED] == expected
    without_end = SIGNER.dumps(replace(TOKEN, issued=0, lifetime=0, permanent=False))
    assert without_end == f"{KEY}.c2Vlbgc.Pb-fPAx3YD6oxiVPuuMNLjgJZCPzlyWbRj-e_E8ck0k"


def test_a_signed_token_without_an_end_is_so_short_that_its_hash_has_one_block() -> None:
    value, _, _ = SIGNER.dumps(replace(TOKEN, issued=0, lifetime=0, permanent=False)).rpartition(".")
    assert len(value) <= 64 - 9  # SHA-256 adds at least nine bytes (FIPS 180-4, section 5.1.1)


def test_an_encrypted_token_of_long_ago_is_read() -> None:
    text = (
        "AWlVuQCAAA4QmWFiFuk9xulUp608dYMGwgLa5sV13gOWjd7NaLMKkALRqFal"
        "XT0vcjQYvoGHCZ7Af3kgs41tMYoYcBbwFGJbPl1tjGv2-XvqSa76s7xEmQ0g"
    )
    assert loads(PRIVATE, text) == TOKEN


def test_an_encrypted_token_shows_its_time_and_nothing_else() -> None:
    text = CIPHER.dumps(TOKEN)
    assert decode(text)[:9] == bytes([1]) + decode("aVW5AIAADhA")
    assert TOKEN.seen not in decode(text)
    assert bytes(32) not in decode(text)  # the key's bytes
    assert "A" * 10 not in text


def test_two_encrypted_tokens_share_neither_key_nor_nonce_nor_anything_encrypted() -> None:
    texts = [decode(CIPHER.dumps(TOKEN)) for _ in range(50)]
    for part in (slice(9, 25), slice(25, 37), slice(37, 74), slice(74, None)):
        assert len({text[part] for text in texts}) == 50


@pytest.mark.parametrize("size", [1, 2, 3, 32, 1000, 2992])
def test_encryption_adds_fifteen_characters_to_a_signed_token_at_most(size: int) -> None:
    token = replace(TOKEN, key=CookieStore.key_class(encode(bytes(size))))
    signed, private = SIGNER.dumps(token), CIPHER.dumps(token)
    assert len(private) == len(encode(bytes(58 + size)))
    assert len(private) - len(signed) in (14, 15)


def test_the_sizes_of_a_server_side_session_s_tokens() -> None:
    assert (len(TEXTS[SIGNED]), len(TEXTS[PRIVATE])) == (106, 120)


# -- tampering -----------------------------------------------------------------------------------------------------


@BOTH
def test_a_token_with_any_character_changed_is_refused(protection: Protection) -> None:
    text = TEXTS[protection]
    for position, other in itertools.product(range(len(text)), ALPHABET + ".=+/!é \x00"):
        if other != text[position]:
            assert loads(protection, text[:position] + other + text[position + 1 :]) is None


def test_an_encrypted_token_with_any_bit_of_any_byte_changed_is_refused() -> None:
    data = decode(TEXTS[PRIVATE])
    for position, bit in itertools.product(range(len(data)), range(8)):
        changed = data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
        assert loads(PRIVATE, encode(changed)) is None


@BOTH
@given(token=tokens, choice=st.data())
def test_no_part_of_any_token_may_be_changed_moved_or_doubled(
    protection: Protection, token: Token, choice: st.DataObject
) -> None:
    ours = protection.tokens(("secret",), "session", "/")
    text = ours.dumps(token)
    places = st.integers(0, len(text))
    start, end, to = choice.draw(places), choice.draw(places), choice.draw(places)
    changed = text[:to] + choice.draw(st.just(text[start:end]) | texts) + text[choice.draw(places) :]
    assert ours.loads(changed, type(token.key)) == (token if changed == text else None)


@BOTH
def test_a_token_cut_off_or_with_more_around_it_is_refused(protection: Protection) -> None:
    text = TEXTS[protection]
    for position in range(len(text)):
        assert loads(protection, text[:position]) is None
        assert loads(protection, text[position + 1 :]) is None
    for more in ("A", "AAAA", ".", "=", "==", "!", " ", "\n", "é", text, "A" * 100_000):
        assert loads(protection, text + more) is None
        assert loads(protection, more + text) is None


@BOTH
@pytest.mark.parametrize("size", range(1, 7))
def test_a_token_has_one_spelling(protection: Protection, size: int) -> None:
    # Of bytes that are no multiple of three, the last character has bits to spare.
    ours = protection.tokens(("secret",), "session", "/")
    text = ours.dumps(replace(TOKEN, key=CookieStore.key_class(encode(bytes(size)))))
    spellings = [text[:-1] + other for other in ALPHABET]
    spellings += [text + "=" * n for n in (1, 2, 3)] + [f"{text[:9]}{junk}{text[9:]}" for junk in ("!", " ", "\n", "=")]
    assert [found for found in spellings if ours.loads(found, CookieStore.key_class)] == [text]


def test_parts_of_two_encrypted_tokens_make_no_third() -> None:
    one, other = decode(CIPHER.dumps(TOKEN)), decode(CIPHER.dumps(replace(TOKEN, issued=1)))
    for position in (5, 9, 25, 37, 74):
        assert loads(PRIVATE, encode(one[:position] + other[position:])) is None


# -- secrets and purposes ------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", ["", "Session", "session2", "session\x00", "__Host-session"])
def test_a_token_of_another_cookie_is_refused(protection: Protection, name: str) -> None:
    assert protection.tokens(("secret",), name, "/").loads(TEXTS[protection], SessionKey) is None


@BOTH
@pytest.mark.parametrize("path", ["", "/admin", "//", "/\x00", "/ "])
def test_a_token_of_the_same_cookie_at_another_path_is_refused(protection: Protection, path: str) -> None:
    assert protection.tokens(("secret",), "session", path).loads(TEXTS[protection], SessionKey) is None


names = st.text(st.characters(exclude_categories=["Cs"]))


@given(one=st.lists(names, min_size=3, max_size=3), other=st.lists(names, min_size=3, max_size=3), at=st.integers(0, 9))
def test_no_two_cookies_share_a_context(one: list[str], other: list[str], at: int) -> None:
    """However purpose, name and path are put together: the end of one may be the beginning of the next."""
    moved = [one[0], one[1][:at], one[1][at:] + one[2]]
    for parts in (other, moved):
        assert (context_of(*parts) == context_of(*one)) is (parts == one)


@BOTH
@pytest.mark.parametrize("secrets", [("another",), ("another", "and another"), ("secret2",), ("Secret",), ("secre",)])
def test_a_token_of_another_secret_is_refused(protection: Protection, secrets: tuple[str, ...]) -> None:
    assert loads(protection, TEXTS[protection], secrets) is None


@BOTH
def test_former_secrets_are_read_and_the_current_one_writes(protection: Protection) -> None:
    rotated = protection.tokens(("new", "older", "secret"), "session", "/")
    assert rotated.loads(TEXTS[protection], SessionKey) == replace(TOKEN, former=True)
    assert rotated.loads(rotated.dumps(TOKEN), SessionKey) == TOKEN
    text = rotated.dumps(TOKEN)
    assert [secret for secret in ("new", "older", "secret") if loads(protection, text, (secret,))] == ["new"]


@BOTH
def test_a_secret_may_be_bytes(protection: Protection) -> None:
    assert loads(protection, TEXTS[protection], (b"secret",)) == TOKEN


@given(token=tokens)
def test_neither_reads_what_the_other_made(token: Token) -> None:
    for writer, reader in ((SIGNER, CIPHER), (CIPHER, SIGNER)):
        text = writer.dumps(token)
        assert reader.loads(text, SessionKey) is reader.loads(text, CookieStore.key_class) is None


def test_a_signed_text_in_place_of_an_encrypted_one_is_refused() -> None:
    # Signed by the right key: what it says is an encrypted token, or the same bytes.
    signed = PLAIN.sign(TEXTS[PRIVATE]).decode()
    for text in (signed, signed.replace(".", ""), encode(signed.encode())):
        assert loads(PRIVATE, text) is None


def test_what_flask_or_another_extension_signs_with_the_same_secret_is_refused() -> None:
    payloads = (TEXTS[SIGNED].rpartition(".")[0], TEXTS[PRIVATE])
    salts = ("itsdangerous.Signer", SecureCookieSessionInterface.salt, "session")
    for salt, payload, digest in itertools.product(salts, payloads, (hashlib.sha1, hashlib.sha256)):
        text = Signer("secret", salt=salt, key_derivation="hmac", digest_method=digest).sign(payload).decode()
        assert loads(SIGNED, text) is loads(PRIVATE, text) is None


PURPOSE = context(derived_keys.PRIVATE)


def made_with(key: bytes, *, form: int = 1, content: bytes = b"seen\x07" + bytes(32), purpose: bytes = PURPOSE) -> str:
    """An encrypted token, as the documentation has it, under any key."""
    clear, salt, nonce = bytes([form]) + decode("aVW5AIAADhA"), b"s" * 16, b"n" * 12
    encrypted = AESGCM(hmac.digest(key, salt, "sha256")).encrypt(nonce, content, clear + purpose)
    return encode(clear + salt + nonce + encrypted)


def test_the_key_comes_from_the_secret_the_purpose_and_the_name() -> None:
    assert loads(PRIVATE, made_with(derive(b"secret", PURPOSE))) == TOKEN


FOREIGN_KEYS = {
    "the secret itself": b"secret",
    "its digest": hashlib.sha256(b"secret").digest(),
    "no secret": derive(b"", PURPOSE),
    "another cookie's": derive(b"secret", PURPOSE + b"2"),
    "a seal's": sealing._derive(b"secret"),
    "the signer's": derive(b"secret", context(derived_keys.SIGNED)),
    "a signer's of that purpose": Signer("secret", PURPOSE, key_derivation="hmac").derive_key(),
    "Flask's": Signer("secret", "cookie-session", key_derivation="hmac").derive_key(),
    "itsdangerous's": Signer("secret").derive_key(),
    "an oracle's": hmac.digest(b"secret", PURPOSE, "sha256"),
}


@pytest.mark.parametrize("name", FOREIGN_KEYS)
def test_a_token_under_a_key_of_another_purpose_is_refused(name: str) -> None:
    assert loads(PRIVATE, made_with(FOREIGN_KEYS[name])) is None


def test_no_two_purposes_share_a_key() -> None:
    names = ("", "session", "session2", "flask_sessionstore.cookie.session", ".session", "cookie.session")
    found = [
        key
        for secret, name in itertools.product((b"secret", b"secret\x00", b"another"), names)
        for key in (
            derive_key(secret, context(derived_keys.PRIVATE, name)),
            derive_key(secret, context(derived_keys.SIGNED, name)),
            derive_key(secret, context(derived_keys.SIGNED, "session", name)),
            derive(secret, b"flask_sessionstore.seal" + name.encode()),
            Signer(secret, name or "salt", key_derivation="hmac").derive_key(),
        )
    ]
    # HMAC pads its key with zeros, so that "secret" and "secret\0" are one to itsdangerous; not to HKDF.
    assert len(set(found)) == len(found) - len(names)


@given(secret=st.binary(max_size=200), info=st.binary(max_size=100))
def test_the_key_is_what_hkdf_makes(secret: bytes, info: bytes) -> None:
    assert derive_key(secret, info) == derive(secret, info)


def test_an_hmac_of_any_text_under_the_secret_gives_no_key_away() -> None:
    """An application may show one, for a webhook say, of a text that its visitor chose."""
    secret = secrets.token_urlsafe(32)
    for protection, purpose in ((SIGNED, derived_keys.SIGNED), (PRIVATE, derived_keys.PRIVATE)):
        key, whole = derive_key(secret, context(purpose)), context(purpose)
        chosen = (whole, whole + b"\x01", f"{purpose}.session".encode(), f"{purpose}.sessionsigner".encode(), b"")
        shown = [hmac.digest(secret.encode(), text, "sha256") for text in chosen]
        shown += [hmac.digest(seen, whole + b"\x01", "sha256") for seen in shown]
        assert key not in shown
        ours = protection.tokens((secret,), "session", "/")
        for known in shown:
            forged = Signer(known, key_derivation="none", digest_method=hashlib.sha256).sign(f"{KEY}.{'A' * 18}")
            assert ours.loads(forged.decode(), SessionKey) is ours.loads(made_with(known), SessionKey) is None


# -- right keys, and still no token --------------------------------------------------------------------------------


def test_itsdangerous_reads_our_tokens_and_we_read_its() -> None:
    value = PLAIN.unsign(TEXTS[SIGNED])
    assert PLAIN.sign(value).decode() == TEXTS[SIGNED]
    assert loads(SIGNED, PLAIN.sign(value).decode()) == TOKEN


def test_a_rightly_signed_text_that_is_no_token_is_refused() -> None:
    sign = PLAIN.sign
    for payload in ("", ".", "A" * 43, f"{KEY}.", f"{KEY}.AAAA", f"{KEY}.{'A' * 17}", f"{KEY}x.{'A' * 18}", "é.é"):
        assert loads(SIGNED, sign(payload).decode()) is None


def test_a_rightly_encrypted_text_that_is_no_token_is_refused() -> None:
    key = derive(b"secret", PURPOSE)
    for content in (b"", b"see", b"seen", b"seen\x07", b"seen\x07" + bytes(31), b"seen\x07" + bytes(33)):
        assert loads(PRIVATE, made_with(key, content=content)) is None
    assert loads(PRIVATE, made_with(key, purpose=b"")) is None
    assert loads(PRIVATE, made_with(key, purpose=PURPOSE + b"2")) is None


@pytest.mark.parametrize("form", [0, 2, 255])
def test_a_token_of_another_format_is_refused_and_claims_nothing(form: int) -> None:
    text = made_with(derive(b"secret", PURPOSE), form=form)
    assert loads(PRIVATE, text) is None
    assert PRIVATE.read_claim(text) is None


# -- any text ------------------------------------------------------------------------------------------------------


key_classes = st.sampled_from([SessionKey, CookieStore.key_class])


@BOTH
@given(text=texts | st.binary().map(lambda data: encode(b"\x01" + data)), key_class=key_classes)
@example("", SessionKey)
@example("." * 1000, SessionKey)
@example("A" * 100_000, SessionKey)
@example("AQ" + "A" * 100_000, CookieStore.key_class)
@example(f"{KEY}.{'A' * 18}.", SessionKey)
@example("\ud800.\udfff.\x00", SessionKey)
def test_no_text_raises_and_none_is_believed(protection: Protection, text: str, key_class: type[SessionKey]) -> None:
    assert protection.tokens(("secret",), "session", "/").loads(text, key_class) is None


@BOTH
@given(text=texts)
@example("0000000000000.signature")
@example("\ud800.\udfff.\x00")
@example("é.é.é")
@example("AQ==AAAAAAAA")
def test_no_text_raises_when_its_claim_is_read(protection: Protection, text: str) -> None:
    assert protection.read_claim(text) is None or len(text) >= 12


def test_a_claim_needs_no_secret_and_proves_nothing() -> None:
    claimed = Claim(TOKEN.issued, TOKEN.lifetime)
    signed, private = TEXTS[SIGNED], TEXTS[PRIVATE]
    assert SIGNED.read_claim(signed[:-5] + "wrong") == SIGNED.read_claim("x" + signed) == claimed
    assert PRIVATE.read_claim(private[:-5] + "wrong") == PRIVATE.read_claim(private[:12]) == claimed
    assert SIGNED.read_claim(str(KEY)) is PRIVATE.read_claim(str(KEY)) is None


def test_neither_makes_a_claim_of_what_the_other_made() -> None:
    assert SIGNED.read_claim(TEXTS[PRIVATE]) is None
    assert PRIVATE.read_claim(TEXTS[SIGNED]) is None


@BOTH
def test_threads_may_share_the_tokens_of_a_cookie(protection: Protection) -> None:
    ours = protection.tokens(("new", "secret"), "session", "/")

    def there_and_back(number: int) -> bool:
        token = replace(TOKEN, key=SessionKey.generate(), issued=number)
        return all(ours.loads(ours.dumps(token), SessionKey) == token for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(40)))


def test_the_tokens_of_a_cookie_are_made_once() -> None:
    made: list[t.Any] = [p.tokens(("secret",), "session", "/") for p in (SIGNED, PRIVATE, SIGNED, PRIVATE)]
    assert made[0] is made[2] is not made[1]
    assert made[1] is made[3]
