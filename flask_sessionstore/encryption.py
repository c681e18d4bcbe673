"""Encrypted tokens: a token as text in a cookie, which nobody can read or forge. Needs the package cryptography.

The text is the base64url of::

    format (1), time (4), lifetime (4) | salt (16) | nonce (12) | encrypted: seen (4), mark (1), session key | tag (16)

The token of a browser-session cookie has another format byte, and neither time nor lifetime. What precedes the salt is
not encrypted, so that a request can see without decryption that nothing is due. AES-256-GCM authenticates it together
with the rest, the purpose, and the cookie's name and path.

Each token is encrypted under its own key: HMAC-SHA-256 of its salt, under a key that HKDF-SHA-256 derives from the
application's secret, this purpose, and the cookie's name and path. A single key for all tokens would only be safe for
2**32 random nonces (NIST SP 800-38D, section 8.3): fifty days, at a thousand cookies a second.
"""

from __future__ import annotations

import hmac
import os
import struct
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .hkdf import context_of, derive_key
from .key import SessionKey, from_base64url, to_base64url
from .tokens import Claim, Protection, Secrets, Token, Tokens

_PURPOSE = "flask_sessionstore.private cookie"
_WITH_END, _WITHOUT_END = 1, 2  # formats
_CLEAR = struct.Struct(">BII")  # 9 bytes are 12 characters
_CLEAR_WITHOUT_END = bytes([_WITHOUT_END])
_RANDOM = struct.Struct(">16s12s")  # salt, nonce
_TOLD = struct.Struct(">4sB")  # revision seen, and what stands for the cookie's attributes


class TokenCipher(Tokens):
    """Tokens that nobody can read or make without the secret."""

    def __init__(self, secrets: Secrets, cookie_name: str, cookie_path: str) -> None:
        super().__init__()
        self._context = context_of(_PURPOSE, cookie_name, cookie_path)
        # Each token uses a copy, as in signing.
        self._macs = [hmac.new(derive_key(secret, self._context), digestmod="sha256") for secret in secrets]

    def dumps(self, token: Token) -> str:
        """The cookie's value for ``token``, encrypted under the first secret."""
        clear = _CLEAR_WITHOUT_END
        if token.lifetime:
            clear = _CLEAR.pack(_WITH_END, token.issued, token.packed_lifetime)
        random = os.urandom(_RANDOM.size)
        salt, nonce = _RANDOM.unpack(random)
        # The text of a key is base64url already. Encrypted as text, it would grow by a third a second time.
        content = _TOLD.pack(token.seen, token.mark) + from_base64url(f"{token.key}==")
        encrypted = _cipher(self._macs[0], salt).encrypt(nonce, content, clear + self._context)
        return to_base64url(clear + random + encrypted)

    def verify(self, text: str, key_class: type[SessionKey]) -> Token:
        """The token of a cookie's value.

        :raises ValueError, struct.error: if it was not encrypted under any of the secrets.
        """
        data = _decode(text)
        clear, times = _clear_part(data)
        salt, nonce = _RANDOM.unpack_from(data, len(clear))
        content, former = self._decrypt(salt, nonce, data[len(clear) + _RANDOM.size :], clear)
        key = key_class(to_base64url(content[_TOLD.size :]))
        return Token.unpack(key, former, *_TOLD.unpack_from(content), *times)

    def _decrypt(self, salt: bytes, nonce: bytes, encrypted: bytes, clear: bytes) -> tuple[bytes, bool]:
        """The decrypted bytes, and whether they were encrypted under a former secret.

        :raises ValueError: if they were not encrypted under any of the secrets.
        """
        for place, mac in enumerate(self._macs):
            try:
                return _cipher(mac, salt).decrypt(nonce, encrypted, clear + self._context), place > 0
            except InvalidTag:
                continue
        raise ValueError("the token was not encrypted under any of these secrets")


@lru_cache(maxsize=64)
def cipher(secrets: Secrets, cookie_name: str, cookie_path: str) -> Tokens:
    """The encrypted tokens of one cookie."""
    return TokenCipher(secrets, cookie_name, cookie_path)


def read_claim(text: str) -> Claim | None:
    """What a cookie's value says before it is decrypted; None if its token has no end, or it is not a token."""
    try:
        _, times = _clear_part(from_base64url(text[:12]))
    except (ValueError, struct.error):
        return None
    return Claim.unpack(*times) if times else None


PRIVATE = Protection(read_claim, cipher)


def _cipher(mac: hmac.HMAC, salt: bytes) -> AESGCM:
    mac = mac.copy()
    mac.update(salt)
    return AESGCM(mac.digest())


def _clear_part(data: bytes) -> tuple[bytes, tuple[int, ...]]:
    """What of a token is not encrypted, and the time and lifetime in it, if its cookie has an end.

    :raises ValueError, struct.error: if these are not the bytes of a token.
    """
    if data.startswith(_CLEAR_WITHOUT_END):
        return _CLEAR_WITHOUT_END, ()
    form, *times = _CLEAR.unpack_from(data)
    if form != _WITH_END:
        raise ValueError("a token of another format")
    return data[: _CLEAR.size], tuple(times)


def _decode(text: str) -> bytes:
    """The bytes that :func:`.to_base64url` spells as ``text``.

    :raises ValueError: if there are none. Base64's decoder alone would also accept other spellings.
    """
    data = from_base64url(text + "==")
    if to_base64url(data) != text:
        raise ValueError("the text is not the one spelling that base64url gives its bytes")
    return data
