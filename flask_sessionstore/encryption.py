"""A token on its way through the browser: as text, encrypted. Needs the package cryptography.

One run of base64url over::

    format (1), time (4), lifetime (4) | salt (16) | nonce (12) | encrypted: revision seen (4), session key | tag (16)

The first nine bytes stand in the clear, so that a request need decrypt nothing to know that nothing is due. AES-256-GCM
authenticates them, the purpose, and the cookie's name and path with the rest.

Each token is encrypted under a key of its own: HMAC-SHA-256 of its salt, under a key that HKDF-SHA-256 derives from
the application's secret, this purpose, and the cookie's name and path. One key for all tokens would be used up by 2**32
random nonces (NIST SP 800-38D, section 8.3): fifty days, at a thousand cookies a second.
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
_FORMAT = 1
_CLEAR = struct.Struct(">BII")  # 9 bytes are 12 characters
_HEAD = struct.Struct(">9s16s12s")  # the clear part, salt, nonce
_SEEN = 4


class TokenCipher(Tokens):
    """Tokens that nobody without the secret can read or make."""

    def __init__(self, secrets: Secrets, cookie_name: str, cookie_path: str) -> None:
        self._context = context_of(_PURPOSE, cookie_name, cookie_path)
        # Copied for each token, as a signer's.
        self._macs = [hmac.new(derive_key(secret, self._context), digestmod="sha256") for secret in secrets]

    def dumps(self, token: Token) -> str:
        """The cookie's value for ``token``, encrypted under the first secret."""
        clear = _CLEAR.pack(_FORMAT, token.issued, token.packed_lifetime)
        random = os.urandom(28)
        salt, nonce = random[:16], random[16:]
        # The text of a key is base64url already; encrypted as it is, it would grow by a third once more.
        content = token.seen + from_base64url(f"{token.key}==")
        encrypted = _cipher(self._macs[0], salt).encrypt(nonce, content, clear + self._context)
        return to_base64url(clear + random + encrypted)

    def loads(self, text: str, key_class: type[SessionKey]) -> Token | None:
        """The token of a cookie's value; None if it is not one that we encrypted."""
        try:
            data = _decode(text)
            clear, salt, nonce = _HEAD.unpack_from(data)
            form, issued, lifetime = _CLEAR.unpack(clear)
            if form != _FORMAT:
                return None
            content, former = self._decrypt(salt, nonce, data[_HEAD.size :], clear)
            key = key_class(to_base64url(content[_SEEN:]))
            return Token.unpack(key, issued, lifetime, content[:_SEEN], former=former)
        except (ValueError, struct.error):
            return None

    def _decrypt(self, salt: bytes, nonce: bytes, encrypted: bytes, clear: bytes) -> tuple[bytes, bool]:
        """What was encrypted, and whether under a former secret.

        :raises ValueError: if under none of ours.
        """
        for place, mac in enumerate(self._macs):
            try:
                return _cipher(mac, salt).decrypt(nonce, encrypted, clear + self._context), place > 0
            except InvalidTag:
                continue
        raise ValueError("not encrypted under any of these secrets")


@lru_cache(maxsize=64)
def cipher(secrets: Secrets, cookie_name: str, cookie_path: str) -> Tokens:
    """The encrypted tokens of one cookie."""
    return TokenCipher(secrets, cookie_name, cookie_path)


def read_claim(text: str) -> Claim | None:
    """What a cookie's value says before it is decrypted; None if it is not a token."""
    try:
        form, issued, lifetime = _CLEAR.unpack(from_base64url(text[:12]))
    except (ValueError, struct.error):
        return None
    return Claim.unpack(issued, lifetime) if form == _FORMAT else None


PRIVATE = Protection(read_claim, cipher)


def _cipher(mac: hmac.HMAC, salt: bytes) -> AESGCM:
    mac = mac.copy()
    mac.update(salt)
    return AESGCM(mac.digest())


def _decode(text: str) -> bytes:
    """The bytes that :func:`.to_base64url` spells as ``text``.

    :raises ValueError: if there are none. Base64's decoder would also take other spellings.
    """
    data = from_base64url(text + "==")
    if to_base64url(data) != text:
        raise ValueError("not base64url in its one spelling")
    return data
