"""A process remembers the tokens that it has verified, and nothing of what a request learned from the store."""

from __future__ import annotations

import pytest

from flask_sessionstore import SessionKey
from flask_sessionstore.encryption import TokenCipher
from flask_sessionstore.record import Record, new_revision
from flask_sessionstore.sealing import seal, unseal
from flask_sessionstore.signing import TokenSigner
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.tokens import REMEMBERED, Token, Tokens


class CountingSigner(TokenSigner):
    verified = 0

    def verify(self, text: str, key_class: type[SessionKey]) -> Token:
        self.verified += 1
        return super().verify(text, key_class)


class CountingCipher(TokenCipher):
    verified = 0

    def verify(self, text: str, key_class: type[SessionKey]) -> Token:
        self.verified += 1
        return super().verify(text, key_class)


@pytest.fixture(params=[CountingSigner, CountingCipher])
def tokens(request: pytest.FixtureRequest) -> Tokens:
    made: Tokens = request.param(("secret",), "session", "/")
    return made


def a_token(key: SessionKey | None = None) -> Token:
    return Token(key or SessionKey.generate(), issued=5, lifetime=60, permanent=True, seen=b"seen", mark=7)


def verified(tokens: Tokens) -> int:
    return tokens.verified  # type: ignore[attr-defined, no-any-return]


def test_a_token_is_verified_once(tokens: Tokens) -> None:
    token = a_token()
    text = tokens.dumps(token)
    assert [tokens.loads(text, SessionKey) for _ in range(3)] == [token] * 3
    assert verified(tokens) == 1


def test_what_was_refused_is_not_remembered(tokens: Tokens) -> None:
    text = tokens.dumps(a_token())
    tokens.loads(text, SessionKey)
    forged = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert [tokens.loads(forged, SessionKey) for _ in range(3)] == [None] * 3
    assert verified(tokens) == 4


def test_whole_sessions_are_not_remembered(tokens: Tokens) -> None:
    text = tokens.dumps(a_token(CookieStore.key_class("x" * 400)))
    assert tokens.loads(text, CookieStore.key_class) == tokens.loads(text, CookieStore.key_class) is not None
    assert verified(tokens) == 2


def test_the_tokens_that_were_used_last_are_remembered() -> None:
    tokens = CountingSigner(("secret",), "session", "/")
    texts = [tokens.dumps(a_token()) for _ in range(REMEMBERED + 1)]
    for text in texts:
        assert tokens.loads(text, SessionKey)
    tokens.verified = 0
    assert all(tokens.loads(text, SessionKey) for text in reversed(texts[1:]))
    assert tokens.verified == 0
    assert tokens.loads(texts[0], SessionKey)
    assert tokens.verified == 1


def test_each_request_has_a_key_of_its_own_which_knows_nothing_of_the_store(tokens: Tokens) -> None:
    text = tokens.dumps(a_token())
    first = tokens.loads(text, SessionKey)
    assert first is not None
    first.key.known = b"what the store had"
    second = tokens.loads(text, SessionKey)
    assert second is not None
    assert second.key == first.key
    assert second.key is not first.key
    assert second.key.known is None


def test_the_cipher_of_a_sealed_session_is_made_once_for_all_requests() -> None:
    key = SessionKey.generate()
    data = seal(Record(state={"a": b"\x01"}, revisions=(new_revision(),)), key)
    first, second = key.again(), key.again()
    assert unseal(data, first) == unseal(data, second)
    assert first.sealer is second.sealer is None
    assert key.sealer is not None
