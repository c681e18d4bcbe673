"""What is derived from an old credential: the key of the session that goes on here, and the names of the marks.

HKDF-SHA-256 derives them, for a different purpose each, and without a secret that rotates. So every request that brings
the same credential, in any process, before and after a change of SECRET_KEY, derives the same key and the same names.
The signature of our cookie keeps others out.
"""

from __future__ import annotations

import typing as t

from .hkdf import context_of, derive_key
from .key import SessionKey, to_base64url

_KEY, _MARK, _OWNER = (context_of(f"flask_sessionstore.import {what}") for what in ("key", "mark", "owner"))


class Credential(t.NamedTuple):
    """What a browser presented to prove an old session, checked and in its canonical spelling."""

    text: str
    """The old session's id or token: as good as a password."""
    key: SessionKey
    """The key of the session that goes on here."""
    is_derived: bool = True
    """Whether the key is derived from the text."""

    @classmethod
    def of(cls, text: str) -> Credential:
        """The credential ``text``, with the key derived from it."""
        return cls(text, SessionKey(to_base64url(derive_key(text, _KEY))))

    @property
    def mark(self) -> str:
        """The name of the mark that says that this old session was imported."""
        return derive_key(self.text, _MARK).hex()

    def __repr__(self) -> str:
        return f"<Credential of {self.key!r}>"


def owner_mark(owner: str) -> str:
    """The name of the mark that says that no more sessions of this owner are imported."""
    return derive_key(owner, _OWNER).hex()
