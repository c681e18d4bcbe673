"""Token: what a cookie says. Tokens: writes cookies so that nobody can forge them, and reads them.

Two kinds of :class:`Protection` write tokens: :mod:`.signing` and :mod:`.encryption`.
"""

from __future__ import annotations

import struct
import typing as t
from abc import ABC, abstractmethod
from functools import lru_cache

import msgspec

from .key import SessionKey

#: An application's secrets: the first makes tokens; tokens made under the others are still read.
Secrets = tuple[str | bytes, ...]

#: How many verified tokens of one cookie a process remembers: a browser sends the same cookie many times, and verifying
#: it costs more than all else that reading a session costs, without the store. They take two megabytes at most; of
#: sealed sessions seven, with their ciphers.
REMEMBERED = 2048
_LONGEST = 256  # characters of a token that is remembered; a cookie that is a whole session is nearly always longer

_PERMANENT = 1 << 31  # the highest bit of a lifetime in a token


class Claim(msgspec.Struct, frozen=True):
    """What a cookie that has an end says before it is verified: enough to see that its session need not be extended."""

    #: As in :class:`Token`.
    issued: int
    lifetime: int

    @classmethod
    def unpack(cls, issued: int, packed_lifetime: int) -> Claim:
        """The claim of a token that has these two numbers."""
        return cls(issued, packed_lifetime & ~_PERMANENT)


class Token(msgspec.Struct, frozen=True):
    """What a cookie says: a session key, and what the browser was told when it got the cookie."""

    key: SessionKey
    #: When the session was last extended as far as this browser knows, in seconds since 1970; 0 for a browser-session
    #: cookie, which has no end that an extension could move.
    issued: int
    #: The cookie's lifetime in seconds; 0 for a browser-session cookie.
    lifetime: int
    #: The session's ``permanent`` at that time.
    permanent: bool
    #: The first four bytes of the revision that this browser has seen.
    seen: bytes
    #: One byte that tells the cookie's attributes from others: see :func:`.cookies.mark_of`.
    mark: int
    #: Whether the token was made under a former secret.
    former: bool = False

    @classmethod
    def unpack(
        cls, key: SessionKey, former: bool, seen: bytes, mark: int, issued: int = 0, packed_lifetime: int = 0
    ) -> Token:
        """The token that consists of these parts."""
        return cls(key, issued, packed_lifetime & ~_PERMANENT, bool(packed_lifetime & _PERMANENT), seen, mark, former)

    def again(self) -> Token:
        """This token for another request, with a key that knows nothing of what a store holds."""
        return Token(self.key.again(), self.issued, self.lifetime, self.permanent, self.seen, self.mark, self.former)

    def says_all(self, key: SessionKey, mark: int) -> bool:
        """Whether a browser that holds this token learns nothing from one with this key and mark, and without an end.

        A cookie that has an end, as a permanent session's has, is always news: each change moves the end.
        """
        return self.key is key and self.mark == mark and not self.lifetime and not self.former

    @property
    def packed_lifetime(self) -> int:
        """``lifetime`` and ``permanent`` as one number of 32 bits."""
        return min(self.lifetime, _PERMANENT - 1) | (_PERMANENT if self.permanent else 0)


class Tokens(ABC):
    """Writes and reads the tokens of one cookie, under one application's secrets."""

    def __init__(self) -> None:
        self._remembered = lru_cache(REMEMBERED)(self.verify)  # what raises is not remembered

    @abstractmethod
    def dumps(self, token: Token) -> str:
        """The cookie's value for ``token``."""

    def loads(self, text: str, key_class: type[SessionKey]) -> Token | None:
        """The token of a cookie's value; None if this application did not make it."""
        try:
            if len(text) > _LONGEST:
                return self.verify(text, key_class)
            return self._remembered(text, key_class).again()  # type: ignore[arg-type]  # a class has a hash
        except (ValueError, TypeError, struct.error):
            return None

    @abstractmethod
    def verify(self, text: str, key_class: type[SessionKey]) -> Token:
        """The token of a cookie's value.

        :raises ValueError, TypeError, struct.error: if this application did not make it.
        """


class Protection(t.NamedTuple):
    """A way to protect cookies: nobody can forge them, and, if they are encrypted, nobody can read them."""

    #: Gives a cookie's claim without any cryptography; None if it has no end, or is not a token.
    read_claim: t.Callable[[str], Claim | None]
    #: Gives the tokens of one cookie, for the secrets, the cookie's name and its path.
    tokens: t.Callable[[Secrets, str, str], Tokens]
