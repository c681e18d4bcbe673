"""Everything that can go wrong, as one family of exceptions::

    SessionError
      SessionInsertError (TypeError)      a value that a session cannot keep
      SessionGetError (ValueError)        a stored value that is not of the requested type
      SessionTooLarge                     more than the limit, or more than a cookie holds
      ConfigurationError (ValueError)     a setting that cannot work
        TableMissing                      the table does not exist (exported by the package's stores)
      UnsupportedByStore (NotImplementedError)
      StoreError                          the engine's exception is its ``__cause__``
        StoreUnavailable (werkzeug's ServiceUnavailable)
          StoreFull                       the engine has no room (exported by the package's stores)
        SessionConflict                   another request wrote first
        SessionGone                       there is no session under this key any more
        SessionCorrupt                    bytes that are not a record, or a record of a later version

Messages name places (a path within the session, a setting), never a session key, a value or a password.
"""

from __future__ import annotations

import typing as t
from datetime import datetime

from werkzeug.exceptions import ServiceUnavailable

if t.TYPE_CHECKING:
    from .record import Kind, Record

#: How the contact to an engine was lost.
Lost = t.Literal["timed out", "unreachable"]


class SessionError(Exception):
    """Base of all errors of this package.

    :param message: what was wrong, where, and what to do.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(*(() if message is None else (message,)))
        self.message = message
        """What was wrong, or None."""


class SessionInsertError(SessionError, TypeError):
    """A value that cannot be kept in a session."""

    def __init__(self, message: str | None = None, *, path: str | None = None, type: type | None = None) -> None:
        super().__init__(message)
        self.path = path
        """Where in the session, such as ``cart[3].price``."""
        self.type = type
        """The type that cannot be kept."""


class SessionGetError(SessionError, ValueError):
    """A stored value is not of the requested type."""

    def __init__(
        self,
        message: str | None = None,
        *,
        path: str | None = None,
        expected: object = None,
        value: object = None,
    ) -> None:
        super().__init__(message)
        self.path = path
        """Where in the session, such as ``cart[3].price``."""
        self.expected = expected
        """The requested type."""
        self.value = value
        """The value that was found. No message contains it; take care where you log it."""


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
        self.size = size
        """Size in bytes."""
        self.limit = limit
        """The limit in bytes."""
        self.largest = largest
        """The session's largest keys, largest first."""


class ConfigurationError(SessionError, ValueError):
    """A setting that cannot work: which one, why, and what to write instead."""

    def __init__(self, message: str | None = None, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        """The setting's name."""


class TableMissing(ConfigurationError):
    """The table for the sessions does not exist: the store's ``create_schema`` was not called yet.

    On SQLite the store creates the table by itself, when the first statement misses it.
    """


class UnsupportedByStore(SessionError, NotImplementedError):
    """The store in use lacks the ability that this call needs."""


class StoreError(SessionError):
    """An operation on the store failed. If the engine raised an exception, it is the ``__cause__``."""


class StoreUnavailable(StoreError, ServiceUnavailable):
    """The engine cannot be reached, does not answer in time, or refuses the operation.

    It is a Werkzeug HTTP exception, so Flask answers with *503 Service Unavailable* and a ``Retry-After`` header. The
    client reads :attr:`description`, never the message.
    """

    description = "The server cannot reach its session store just now. Please try again in a moment."
    """What the client reads."""

    def __init__(self, message: str | None = None, *, retry_after: int | None = None, lost: Lost | None = None) -> None:
        ServiceUnavailable.__init__(self, retry_after=5 if retry_after is None else retry_after)
        self.args = () if message is None else (message,)
        self.message = message
        self.lost = lost
        """How the contact to the engine was lost: "timed out" (while connecting, sending or receiving), or
        "unreachable" (a connection was refused, or broke). None: the engine has answered, or was not asked.
        """

    def __str__(self) -> str:
        return self.message or "the session store is unavailable"


class StoreFull(StoreUnavailable):
    """The engine has no room for a write. Stored sessions stay, and removing sessions still works."""


class SessionConflict(StoreError):
    """The record was written by another request since it was loaded."""

    def __init__(self, message: str | None = None, *, record: Record | None = None) -> None:
        super().__init__(message)
        self.record = record
        """The newest record."""


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
        self.kind: Kind | None = kind
        """How the session went: "ended", "emptied", "renewed", "signed in", "replaced", "revoked"; None if the store
        has no tombstone of it (any more).
        """
        self.left_at = left_at
        """When the session went (aware, UTC), where that is known."""
        self.successor = successor
        """If the session was renewed: the handle under which it goes on."""
        self.marks = marks
        """What the tombstone keeps of the owners before and after."""


class Barred(SessionGone):
    """All sessions of an owner were ended while this session was being made, so it was not made."""

    def __init__(self) -> None:
        super().__init__("all sessions of this owner were ended while this one was made", kind="revoked")


class SessionCorrupt(StoreError):
    """The bytes in the store are not a record that this version can read."""

    def __init__(self, message: str | None = None, *, newer: bool | None = None) -> None:
        super().__init__(message)
        self.newer = newer
        """True if the format byte is that of a later version."""
