"""Signed tokens: a token as text in a cookie, which everybody can read and nobody can forge.

The text is ``<session key>.<revision seen, mark, time and lifetime>.<signature>``, all in the characters of base64url.
The token of a browser-session cookie has neither time nor lifetime: it is shorter, so a request sees from its length
that nothing is due, and SHA-256 has one block less to process. The signature is HMAC-SHA-256 under a key that HKDF
derives from the application's secret, this purpose, and the cookie's name and path. So a token does not verify if it
was signed for another cookie, for an application at another path, or by another extension with the same secret.
Encrypted tokens are in :mod:`.encryption`. A setting decides which kind is read; the other kind is never tried.
"""

from __future__ import annotations

import hmac
import struct
from functools import lru_cache
from hashlib import sha256

from .hkdf import context_of, derive_key
from .key import SessionKey, from_base64url, to_base64url
from .tokens import Claim, Protection, Secrets, Token, Tokens

_PURPOSE = "flask_sessionstore.cookie"
# Four bytes of the revision, one that stands for the cookie's attributes; then time and lifetime in seconds, if the
# cookie has an end.
_TOLD, _TOLD_WITH_END = struct.Struct(">4sB"), struct.Struct(">4sBII")
_SHORT = 7  # characters of a token without an end
_CLAIM = struct.Struct(">II")
_SEPARATOR = "."


class TokenSigner(Tokens):
    """Tokens that everybody can read, but nobody can make without the secret.

    With the derived key, itsdangerous' ``Signer`` makes and reads the same tokens (``key_derivation="none"``, SHA-256).
    """

    def __init__(self, secrets: Secrets, cookie_name: str, cookie_path: str) -> None:
        super().__init__()
        context = context_of(_PURPOSE, cookie_name, cookie_path)
        self._macs = [_Mac(derive_key(secret, context)) for secret in secrets]

    def dumps(self, token: Token) -> str:
        """The cookie's value for ``token``, signed under the first secret."""
        if token.lifetime:
            told = _TOLD_WITH_END.pack(token.seen, token.mark, token.issued, token.packed_lifetime)
        else:
            told = _TOLD.pack(token.seen, token.mark)
        value = f"{token.key}{_SEPARATOR}{to_base64url(told)}"
        return f"{value}{_SEPARATOR}{self._macs[0].sign(value)}"

    def verify(self, text: str, key_class: type[SessionKey]) -> Token:
        """The token of a cookie's value.

        :raises ValueError, TypeError, struct.error: if it was not signed under any of the secrets.
        """
        value, _, signature = text.rpartition(_SEPARATOR)
        for place, mac in enumerate(self._macs):
            # Compared as text, since base64's decoder also accepts other spellings of a signature. (A TypeError: it is
            # not ASCII.)
            if hmac.compare_digest(mac.sign(value), signature):
                key, _, told = value.rpartition(_SEPARATOR)
                layout = _TOLD if len(told) == _SHORT else _TOLD_WITH_END
                return Token.unpack(key_class(key), place > 0, *layout.unpack(from_base64url(f"{told}==")))
        raise ValueError("the token was not signed under any of these secrets")


class _Mac:
    """HMAC-SHA-256 (RFC 2104) under one key of 32 bytes. Its two hashes have processed the key already, and are copied
    for each text: that costs half as much as hmac.new and its wrappers.
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


def read_claim(text: str) -> Claim | None:
    """What a cookie's value says before its signature is checked; None if it has no end, or is not a token."""
    parts = text.rsplit(_SEPARATOR, 2)
    if len(parts) < 3 or len(parts[1]) == _SHORT:
        return None
    try:
        return Claim.unpack(*_CLAIM.unpack(from_base64url(f"{parts[1]}==")[_TOLD.size :]))
    except (ValueError, struct.error):
        return None


SIGNED = Protection(read_claim, signer)
