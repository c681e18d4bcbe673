"""SessionKey: one spelling, one secret, and a handle for everybody."""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_sessionstore import SessionError, SessionKey

ALPHABET = string.ascii_letters + string.digits + "-_"
ZERO = "A" * 43  # 32 zero bytes


def test_a_generated_key_is_43_characters_of_base64url_and_never_the_same() -> None:
    texts = {str(SessionKey.generate()) for _ in range(1000)}
    assert len(texts) == 1000
    assert {len(text) for text in texts} == {43}
    assert set("".join(texts)) <= set(ALPHABET)


@given(st.text(ALPHABET, min_size=42, max_size=42), st.sampled_from("AEIMQUYcgkosw048"))
def test_a_key_reads_back_from_its_text(start: str, last: str) -> None:
    key = SessionKey(start + last)
    assert str(key) == start + last


@pytest.mark.parametrize("last", sorted(set(ALPHABET) - set("AEIMQUYcgkosw048")))
def test_a_key_has_one_spelling(last: str) -> None:
    with pytest.raises(ValueError, match="not a session key"):
        SessionKey(ZERO[:42] + last)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ZERO[:42],
        ZERO + "A",
        ZERO + "=",
        ZERO + "\n",
        " " + ZERO[:42],
        ZERO[:41] + "+A",
        ZERO[:41] + "/A",
        ZERO[:41] + ".A",
        ZERO[:41] + "éA",
        ZERO[:41] + "\u0661A",
        ZERO[:41] + "\x00A",
        "session:" + ZERO,
    ],
)
def test_anything_else_is_no_key_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="43 characters of base64url") as caught:
        SessionKey(text)
    assert ZERO[:41] not in str(caught.value)


@given(st.text())
def test_no_text_makes_a_key_or_another_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a session key"):
        SessionKey(text)


def test_the_handle_is_the_sha256_of_the_43_characters() -> None:
    assert SessionKey(ZERO).handle == hashlib.sha256(ZERO.encode()).hexdigest()


def test_only_str_gives_the_secret() -> None:
    key = SessionKey.generate()
    assert str(key) not in repr(key)
    assert repr(key) == f"<SessionKey {key.handle[:8]}>"
    assert str(key) not in repr([key]) + f"{key!r}"


def test_keys_are_equal_if_they_name_the_same_session() -> None:
    key, other = SessionKey.generate(), SessionKey.generate()
    assert key == SessionKey(str(key)) == SessionKey.of(key.handle)
    assert len({key, SessionKey(str(key)), SessionKey.of(key.handle), other}) == 2
    assert key != other
    assert key != str(key)


def test_a_key_of_a_handle_has_no_secret() -> None:
    key = SessionKey.of(SessionKey(ZERO).handle)
    assert key.handle == SessionKey(ZERO).handle
    assert repr(key) == repr(SessionKey(ZERO))
    for spell in (str, "{}".format):
        with pytest.raises(SessionError, match="only the browser knows"):
            spell(key)


@pytest.mark.parametrize(
    "handle", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "a" * 64 + "\n", "../" + "a" * 61]
)
def test_a_handle_is_64_hexadecimal_digits_in_lower_case(handle: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        SessionKey.of(handle)
