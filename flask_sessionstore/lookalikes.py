"""Attributes that a session does not have, and that many expect: those of other libraries' sessions, and misspellings.

Without these, ``session.permanant = True`` would succeed, and change nothing. A ``__setattr__`` and a ``__getattr__``
would refuse more names, but would make every other attribute slower. (If another misspelling is read, Python's
traceback says what was meant.)
"""

from __future__ import annotations

import typing as t

# What to write -> what is written.
_INSTEAD = {
    "session.permanent": "permanant permenant permanet permament permenent permanent_ is_permanent",
    "session.modified": "modifed modfied modifyed is_modified changed dirty",
    "session.lifetime": "lifetimes life_time max_age timeout ttl set_expiry permanent_session_lifetime",
    "session.deadline": "dead_line deadlines",
    "session.expires_at": "expires expiry expires_in expire_date get_expiry_date",
    "session.created_at": "created created_on creation_time",
    "session.new": "is_new is_empty",
    "session.handle, which is public; the session key itself is only in the cookie": (
        "handel sid id session_id key session_key"
    ),
    "session.renew()": "regenerate regenerate_id cycle_key rotate",
    "session.clear() to sign out, or session.purge()": "flush invalidate destroy abandon delete end",
    "session.save()": "commit persist",
    "session.reload()": "refresh",
    "session[key] = value": "set put add",
    "key in session": "has has_key",
    "session.copy()": "data to_dict as_dict",
    "an item such as session['user_id']; SESSION_OWNER_KEY says which item is the owner": "user user_id owner username",
}


class _Lookalike:
    """An attribute that says what to write instead."""

    __slots__ = ("_message",)

    def __init__(self, message: str) -> None:
        self._message = message

    def __get__(self, session: object, kind: type) -> t.NoReturn:
        raise AttributeError(self._message)

    def __set__(self, session: object, value: object) -> t.NoReturn:
        raise AttributeError(self._message)


#: The names.
NAMES = frozenset(name for names in _INSTEAD.values() for name in names.split())


def refuse_in(kind: type) -> None:
    """Give a class of sessions these attributes."""
    for instead, names in _INSTEAD.items():
        for name in names.split():
            setattr(kind, name, _Lookalike(f"a session has no attribute {name!r}: write {instead}"))
