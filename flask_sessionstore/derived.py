"""What is derived from an old credential: the key of the session that goes on here, and the names of the marks.

HKDF-SHA-256, each with a purpose of its own, and with no secret that rotates: so every request that brings the same
credential, on any process, before and after a change of SECRET_KEY, comes to the same key and the same names. What
keeps others out is the signature of our cookie.
"""

from __future__ import annotations

import typing as t

from .hkdf import context_of, derive_key
from .key import SessionKey, to_base64url

_KEY, _MARK, _OWNER = (context_of(f"flask_sessionstore.import {what}") for what in ("key", "mark", "owner"))


class Credential(t.NamedTuple):
    """What a browser presented to prove an old session, checked, and spelled in the one way there is."""

    #: The old session's id or token: as good as a password.
    text: str
    #: The key of the session that goes on here.
    key: SessionKey
    #: Whether the key is derived from the text.
    is_derived: bool = True

    @classmethod
    def of(cls, text: str) -> Credential:
        """The credential ``text``, with the key derived from it."""
        return cls(text, SessionKey(to_base64url(derive_key(text, _KEY))))

    @property
    def mark(self) -> str:
        """The name of the mark that says that it was imported."""
        return derive_key(self.text, _MARK).hex()

    def __repr__(self) -> str:
        return f"<Credential of {self.key!r}>"


def owner_mark(owner: str) -> str:
    """The name of the mark that says that nothing of an owner's is imported any more."""
    return derive_key(owner, _OWNER).hex()
