"""A token on its way through the browser: as text, signed.

``<session key>.<time, lifetime and revision seen>.<signature>``, all in the characters of base64url. The signature is
HMAC-SHA-256 under a key derived from the application's secret, this purpose and the cookie's name: what was signed for
another cookie, or by another extension with the same secret, does not verify.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache

from itsdangerous import BadSignature, Signer
from itsdangerous.encoding import want_bytes
from itsdangerous.signer import SigningAlgorithm

from .key import Claim, SessionKey, Token

_SALT = "flask_sessionstore.cookie."
# time and lifetime in seconds (the lifetime's highest bit: permanent), four bytes of revision
_REST = struct.Struct(">II4s")
_PERMANENT = 1 << 31
_SEPARATOR = "."
# 32 bytes in their one spelling: base64's decoder would also take others.
_SIGNATURE = re.compile(r"\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\Z", re.ASCII)


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


@lru_cache(maxsize=64)
def signer(secrets: tuple[str | bytes, ...], cookie_name: str) -> TokenSigner:
    """The signer for one cookie. ``secrets``: the one that signs first, then those that still verify."""
    return TokenSigner(secrets, cookie_name)


class TokenSigner:
    """Writes and reads tokens."""

    def __init__(self, secrets: tuple[str | bytes, ...], cookie_name: str) -> None:
        # itsdangerous signs with the last.
        self._signer = _Signer([want_bytes(secret) for secret in reversed(secrets)], _SALT + cookie_name)

    def dumps(self, token: Token) -> str:
        """The cookie's value for ``token``."""
        lifetime = min(token.lifetime, _PERMANENT - 1) | (_PERMANENT if token.permanent else 0)
        rest = urlsafe_b64encode(_REST.pack(token.issued, lifetime, token.seen)).decode()  # 16 bytes: no padding
        return self._signer.sign(f"{token.key}{_SEPARATOR}{rest}").decode()

    def loads(self, text: str, key_class: type[SessionKey]) -> Token | None:
        """The token of a cookie's value; None if it is not one that we signed."""
        if not _SIGNATURE.search(text):
            return None
        try:
            return _parse(self._signer.unsign(text).decode("ascii"), key_class)
        except (BadSignature, ValueError):
            return None


def claim(text: str) -> Claim | None:
    """What a cookie's value says before its signature is looked at; None if it is no token."""
    try:
        issued, lifetime, _ = _REST.unpack(urlsafe_b64decode(text.rsplit(_SEPARATOR, 2)[1]))
    except (ValueError, IndexError, struct.error):
        return None
    return Claim(issued, lifetime & ~_PERMANENT)


def _parse(text: str, key_class: type[SessionKey]) -> Token:
    """A token without its signature.

    :raises ValueError: if it is none.
    """
    key, _, rest = text.rpartition(_SEPARATOR)
    try:
        issued, lifetime, seen = _REST.unpack(urlsafe_b64decode(rest))
    except struct.error as error:
        raise ValueError("not a token") from error
    return Token(key_class(key), issued, lifetime & ~_PERMANENT, bool(lifetime & _PERMANENT), seen)
