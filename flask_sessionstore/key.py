"""SessionKey: the secret that a browser holds, and the handle under which the server files its session."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import typing as t
from binascii import a2b_base64, b2a_base64

from .errors import SessionError

# 32 bytes in base64url without padding. The last character carries only four bits, so it is one of sixteen,
# and each key has exactly one spelling.
_KEY = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)
_HANDLE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_STANDARD, _URL_SAFE = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")


def from_base64url(text: str) -> bytes:
    """The bytes of padded base64url, in any spelling. The function in ``base64`` takes more than twice as long.

    :raises ValueError: if ``text`` is not base64.
    """
    return a2b_base64(text.encode("ascii").translate(_STANDARD))


def to_base64url(data: bytes) -> str:
    """``data`` as base64url without padding."""
    return b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode()


def is_handle(text: object) -> bool:
    """Whether ``text`` could be a session's handle: 64 hexadecimal digits in lower case."""
    return isinstance(text, str) and _HANDLE.fullmatch(text) is not None


class SessionKey:
    """The secret of one session: 32 random bytes as 43 characters of base64url.

    ``str(key)`` is the secret, and only for the cookie; ``repr`` shows the first digits of the handle. Two keys are
    equal if they name the same session.

    :param text: the 43 characters.
    :raises ValueError: if ``text`` is not a session key.
    """

    __slots__ = ("_handle", "_text", "known", "origin", "sealer")

    def __init__(self, text: str) -> None:
        if not _KEY.fullmatch(text):
            raise ValueError("not a session key: 43 characters of base64url are expected")
        self._text: str | None = text
        self._handle: str | None = None
        self.origin: SessionKey | None = None
        """The object that this one was made from, by :meth:`again`."""
        self.sealer: t.Any = None
        """The cipher that seals the session's record: ``sealing`` makes it once, for the key that is the origin."""
        self.known: bytes | None = None
        """The bytes that a store has read or written under this key last."""

    @classmethod
    def generate(cls) -> t.Self:
        """A new key from the operating system's randomness (256 bits; OWASP asks for at least 64)."""
        key = cls.__new__(cls)
        key._set(to_base64url(os.urandom(32)), None, None)
        return key

    @classmethod
    def of(cls, handle: str) -> t.Self:
        """The key of a known handle, without its secret: for the server's own use, never for a cookie.

        :raises ValueError: if ``handle`` is not 64 hexadecimal digits in lower case.
        """
        if not is_handle(handle):
            raise ValueError("not a session handle: 64 hexadecimal digits in lower case are expected")
        key = cls.__new__(cls)
        key._set(None, handle, None)
        return key

    def again(self) -> t.Self:
        """The same key for another request: what one request knows of the store is not for others."""
        key = type(self).__new__(type(self))
        key._text, key._handle, key.origin, key.sealer, key.known = self._text, self.handle, self, None, None
        return key

    def _set(self, text: str | None, handle: str | None, origin: SessionKey | None) -> None:
        self._text, self._handle, self.origin, self.sealer, self.known = text, handle, origin, None, None

    @property
    def handle(self) -> str:
        """SHA-256 of the secret's 43 characters, in hexadecimal: public, as nobody can compute the secret from it."""
        if self._handle is None:
            self._handle = hashlib.sha256(str(self).encode("ascii")).hexdigest()
        return self._handle

    def __str__(self) -> str:
        if self._text is None:
            raise SessionError("this session was opened by its handle: only the browser knows its secret key")
        return self._text

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.handle[:8]}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionKey):
            return NotImplemented
        return hmac.compare_digest(self.handle, other.handle)

    def __hash__(self) -> int:
        return hash(self.handle)


def handle_of(key: SessionKey | None) -> str | None:
    """The handle of a key; None without a key, and for a key of a store that does not file sessions under handles."""
    return getattr(key, "handle", None)


def short(key: SessionKey | None) -> str:
    """The name of a session in log lines: the first digits of its handle."""
    handle = handle_of(key)
    return handle[:8] if handle else "without a handle"
