"""Everything that can go wrong, as one family of exceptions::

    SessionError
      SessionInsertError (TypeError)      a value that no session can keep
      SessionGetError (ValueError)        a kept value that is not of the type asked for
      SessionTooLarge                     more than the limit, or than a cookie holds
      ConfigurationError (ValueError)     a setting that cannot work
        TableMissing                      no table there: for the stores, which export it
      UnsupportedByStore (NotImplementedError)
      StoreError                          the engine's exception is its ``__cause__``
        StoreUnavailable (werkzeug's ServiceUnavailable)
          StoreFull                       no room: for the stores, which export it
        SessionConflict                   another request wrote first
        SessionGone                       there is no session under this key any more
        SessionCorrupt                    bytes that are not a record, or not one of ours yet

Messages name places (a path within the session, a setting), never a session key, a value or a password.
"""

from __future__ import annotations

import typing as t
from datetime import datetime

from werkzeug.exceptions import ServiceUnavailable

if t.TYPE_CHECKING:
    from .record import Kind, Record


class SessionError(Exception):
    """Base of all errors of this package.

    :param message: what was wrong, where, and what to do.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(*(() if message is None else (message,)))
        #: What was wrong, or None.
        self.message = message


class SessionInsertError(SessionError, TypeError):
    """A value that cannot be kept in a session."""

    def __init__(self, message: str | None = None, *, path: str | None = None, type: type | None = None) -> None:
        super().__init__(message)
        #: Where in the session, such as ``cart[3].price``.
        self.path = path
        #: The type that cannot be kept.
        self.type = type


class SessionGetError(SessionError, ValueError):
    """A kept value is not of the type that was asked for."""

    def __init__(
        self,
        message: str | None = None,
        *,
        path: str | None = None,
        expected: object = None,
        value: object = None,
    ) -> None:
        super().__init__(message)
        #: Where in the session, such as ``cart[3].price``.
        self.path = path
        #: The type that was asked for.
        self.expected = expected
        #: The value that was found. It is in no message: mind where you log it.
        self.value = value


class SessionTooLarge(SessionError):
    """The session is larger than its limit."""

    def __init__(
        self,
        message: str | None = None,
        *,
        size: int | None = None,
        limit: int | None = None,
        largest: t.Sequence[str] | None = None,
    ) -> None:
        super().__init__(message)
        #: Size in bytes.
        self.size = size
        #: The limit in bytes.
        self.limit = limit
        #: The session's largest keys, largest first.
        self.largest = largest


class ConfigurationError(SessionError, ValueError):
    """A setting that cannot work: which one, why, and what to write instead."""

    def __init__(self, message: str | None = None, *, key: str | None = None) -> None:
        super().__init__(message)
        #: The setting's name.
        self.key = key


class TableMissing(ConfigurationError):
    """The table for the sessions is not there: the store's ``create_schema`` was not called yet.

    SQLite's is made when it is first missed.
    """


class UnsupportedByStore(SessionError, NotImplementedError):
    """The store in use lacks the ability that this call needs."""


class StoreError(SessionError):
    """Something between us and the store's engine. The engine's own exception is the ``__cause__``."""


class StoreUnavailable(StoreError, ServiceUnavailable):
    """The engine cannot be reached, does not answer in time, or refuses.

    Flask answers it with *503 Service Unavailable* and a ``Retry-After`` header, since it is a Werkzeug HTTP exception.
    The client reads :attr:`description`, never the message.
    """

    description = "The server cannot reach its session store just now. Please try again in a moment."

    def __init__(self, message: str | None = None, *, retry_after: int | None = None) -> None:
        ServiceUnavailable.__init__(self, retry_after=5 if retry_after is None else retry_after)
        self.args = () if message is None else (message,)
        self.message = message

    def __str__(self) -> str:
        return self.message or "the session store is unavailable"


class StoreFull(StoreUnavailable):
    """The engine has no room for a write. What was stored stays; removing still works."""


class SessionConflict(StoreError):
    """The record was written by another request since it was loaded."""

    def __init__(self, message: str | None = None, *, record: Record | None = None) -> None:
        super().__init__(message)
        #: The newest record.
        self.record = record


class SessionGone(StoreError):
    """No session lives under this key any more."""

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: Kind | None = None,
        left_at: datetime | None = None,
        successor: str | None = None,
        marks: tuple[bytes, bytes] | None = None,
    ) -> None:
        super().__init__(message)
        #: How it went: "ended", "emptied", "renewed", "signed in", "replaced", "revoked", or None where nothing is left
        #: that would tell.
        self.kind: Kind | None = kind
        #: When it went (aware, UTC), where that is known.
        self.left_at = left_at
        #: The handle of the session that it was renewed to, if it was.
        self.successor = successor
        #: What its tombstone keeps of the owners before and after.
        self.marks = marks


class Barred(SessionGone):
    """All sessions of an owner were ended while this one was made: it is not made."""

    def __init__(self) -> None:
        super().__init__("all sessions of this owner were ended while this one was made", kind="revoked")


class SessionCorrupt(StoreError):
    """The bytes in the store are not a record that this version can read."""

    def __init__(self, message: str | None = None, *, newer: bool | None = None) -> None:
        super().__init__(message)
        #: True if the format byte is that of a later version.
        self.newer = newer
