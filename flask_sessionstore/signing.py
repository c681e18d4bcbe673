"""A token on its way through the browser: as text, signed.

``<session key>.<time, lifetime and revision seen>.<signature>``, all in the characters of base64url. The signature is
HMAC-SHA-256 under a key derived from the application's secret, this purpose and the cookie's name: what was signed for
another cookie, or by another extension with the same secret, does not verify. Encrypted tokens are in
:mod:`.encryption`; which of the two is read is a setting, never found out by trial.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
import typing as t
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache

from itsdangerous import BadSignature, Signer
from itsdangerous.encoding import want_bytes
from itsdangerous.signer import SigningAlgorithm

from .key import Claim, SessionKey, Token

#: The one that makes tokens first, then those whose tokens are still read.
Secrets = tuple[str | bytes, ...]

_SALT = "flask_sessionstore.cookie."
# time and lifetime in seconds, four bytes of revision
_REST = struct.Struct(">II4s")
_PERMANENT = 1 << 31  # the lifetime's highest bit
_SEPARATOR = "."
# 32 bytes in their one spelling: base64's decoder would also take others.
_SIGNATURE = re.compile(r"\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\Z", re.ASCII)


class Tokens(ABC):
    """Writes and reads the tokens of one cookie, under one application's secrets."""

    @abstractmethod
    def dumps(self, token: Token) -> str:
        """The cookie's value for ``token``."""

    @abstractmethod
    def loads(self, text: str, key_class: type[SessionKey]) -> Token | None:
        """The token of a cookie's value; None if it is not one that we made."""


class Protection(t.NamedTuple):
    """What keeps a cookie from being forged, and maybe from being read."""

    #: What a cookie's value says before it is verified, without any cryptography; None if it is no token.
    claim: t.Callable[[str], Claim | None]
    #: The tokens of one cookie, by the secrets and its name.
    tokens: t.Callable[[Secrets, str], Tokens]


class _OneShotHMAC(SigningAlgorithm):
    """HMAC-SHA-256 in one call: half the time of itsdangerous' own, which makes an object first."""

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        return hmac.digest(key, value, "sha256")


class _Signer(Signer):
    """itsdangerous' Signer with each secret's key derived once, not at every call."""

    def __init__(self, secret_keys: list[bytes], salt: str) -> None:
        self._derived: dict[bytes | None, bytes] = {}
        super().__init__(
            secret_keys, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256, algorithm=_OneShotHMAC()
        )
        self._derived = {secret: super(_Signer, self).derive_key(secret) for secret in (*self.secret_keys, None)}

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        return self._derived[secret_key]  # type: ignore[index]  # itsdangerous passes the bytes it keeps


class TokenSigner(Tokens):
    """Tokens that everybody can read, and nobody without the secret can make."""

    def __init__(self, secrets: Secrets, cookie_name: str) -> None:
        # itsdangerous signs with the last.
        self._signer = _Signer([want_bytes(secret) for secret in reversed(secrets)], _SALT + cookie_name)

    def dumps(self, token: Token) -> str:
        """The cookie's value for ``token``, signed by the first secret."""
        rest = urlsafe_b64encode(_REST.pack(token.issued, to_lifetime(token), token.seen)).decode()  # no padding
        return self._signer.sign(f"{token.key}{_SEPARATOR}{rest}").decode()

    def loads(self, text: str, key_class: type[SessionKey]) -> Token | None:
        """The token of a cookie's value; None if it is not one that we signed."""
        if not _SIGNATURE.search(text):
            return None
        try:
            key, _, rest = self._signer.unsign(text).decode("ascii").rpartition(_SEPARATOR)
            return to_token(key_class(key), *_REST.unpack(urlsafe_b64decode(rest)))
        except (BadSignature, ValueError, struct.error):
            return None


@lru_cache(maxsize=64)
def signer(secrets: Secrets, cookie_name: str) -> Tokens:
    """The signed tokens of one cookie."""
    return TokenSigner(secrets, cookie_name)


def claim(text: str) -> Claim | None:
    """What a cookie's value says before its signature is looked at; None if it is no token."""
    try:
        issued, lifetime, _ = _REST.unpack(urlsafe_b64decode(text.rsplit(_SEPARATOR, 2)[1]))
    except (ValueError, IndexError, struct.error):
        return None
    return to_claim(issued, lifetime)


SIGNED = Protection(claim, signer)


# -- the lifetime in a token, with a bit for "permanent" -------------------------------------------------------------


def to_lifetime(token: Token) -> int:
    """The number that a token has for its lifetime and ``permanent``."""
    return min(token.lifetime, _PERMANENT - 1) | (_PERMANENT if token.permanent else 0)


def to_claim(issued: int, lifetime: int) -> Claim:
    """What these numbers of a token claim."""
    return Claim(issued, lifetime & ~_PERMANENT)


def to_token(key: SessionKey, issued: int, lifetime: int, seen: bytes) -> Token:
    """The token that these parts make."""
    return Token(key, issued, lifetime & ~_PERMANENT, bool(lifetime & _PERMANENT), seen)
