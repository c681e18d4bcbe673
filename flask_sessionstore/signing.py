"""A token on its way through the browser: as text, signed.

``<session key>.<time, lifetime and revision seen>.<signature>``, all in the characters of base64url. The signature is
HMAC-SHA-256 under a key that HKDF derives from the application's secret, this purpose, and the cookie's name and path:
what was signed for another cookie, for an application at another path, or by another extension with the same secret,
does not verify. Encrypted tokens are in :mod:`.encryption`; which of the two is read is a setting, never found out by
trial.
"""

from __future__ import annotations

import hmac
import struct
import typing as t
from abc import ABC, abstractmethod
from functools import lru_cache
from hashlib import sha256

from itsdangerous.encoding import want_bytes

from .key import Claim, SessionKey, Token, from_base64url, to_base64url

#: The one that makes tokens first, then those whose tokens are still read.
Secrets = tuple[str | bytes, ...]

_PURPOSE = "flask_sessionstore.cookie"
# time and lifetime in seconds, four bytes of revision
_REST = struct.Struct(">II4s")
_PERMANENT = 1 << 31  # the lifetime's highest bit
_SEPARATOR = "."


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
    #: The tokens of one cookie, by the secrets, its name and its path.
    tokens: t.Callable[[Secrets, str, str], Tokens]


def context_of(*parts: str) -> bytes:
    """What a key is derived for: each part with its length before it, so that no two contexts are spelled the same."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def derive_key(secret: str | bytes, context: bytes) -> bytes:
    """32 bytes of HKDF-SHA-256 (RFC 5869), without salt: one block.

    The secret is what is hashed, never the key of an HMAC over a text that somebody might choose: an application that
    shows such an HMAC under its ``SECRET_KEY`` does not give this key away.
    """
    extracted = hmac.digest(bytes(32), want_bytes(secret), "sha256")
    return hmac.digest(extracted, context + b"\x01", "sha256")


class TokenSigner(Tokens):
    """Tokens that everybody can read, and nobody without the secret can make.

    With the derived key, itsdangerous' ``Signer`` makes and reads the same (``key_derivation="none"``, SHA-256).
    """

    def __init__(self, secrets: Secrets, cookie_name: str, cookie_path: str) -> None:
        context = context_of(_PURPOSE, cookie_name, cookie_path)
        self._macs = [_Mac(derive_key(secret, context)) for secret in secrets]

    def dumps(self, token: Token) -> str:
        """The cookie's value for ``token``, signed by the first secret."""
        rest = to_base64url(_REST.pack(token.issued, to_lifetime(token), token.seen))
        value = f"{token.key}{_SEPARATOR}{rest}"
        return f"{value}{_SEPARATOR}{self._macs[0].sign(value)}"

    def loads(self, text: str, key_class: type[SessionKey]) -> Token | None:
        """The token of a cookie's value; None if it is not one that we signed."""
        value, _, signature = text.rpartition(_SEPARATOR)
        try:
            # Compared as text, for base64's decoder would take other spellings of one signature.
            if not any(hmac.compare_digest(mac.sign(value), signature) for mac in self._macs):
                return None
            key, _, rest = value.rpartition(_SEPARATOR)
            return to_token(key_class(key), *_REST.unpack(from_base64url(rest)))
        except (ValueError, TypeError, struct.error):  # a TypeError: the signature is not ASCII
            return None


class _Mac:
    """HMAC-SHA-256 (RFC 2104) under one key of 32 bytes. Its two hashes have taken in the key, and are copied for each
    text: that is half of what hmac.new and its wrappers cost.
    """

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, text: str) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text.encode("ascii"))
        outer.update(inner.digest())
        return to_base64url(outer.digest())


@lru_cache(maxsize=64)
def signer(secrets: Secrets, cookie_name: str, cookie_path: str) -> Tokens:
    """The signed tokens of one cookie."""
    return TokenSigner(secrets, cookie_name, cookie_path)


def claim(text: str) -> Claim | None:
    """What a cookie's value says before its signature is checked; None if it is not a token."""
    try:
        issued, lifetime, _ = _REST.unpack(from_base64url(text.rsplit(_SEPARATOR, 2)[1]))
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
