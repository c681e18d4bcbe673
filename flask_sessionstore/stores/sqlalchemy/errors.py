"""What a database's error means: by SQLite's names, PostgreSQL's SQLSTATEs, and the numbers of MySQL and MariaDB."""

from __future__ import annotations

import random
import time
import typing as t

from sqlalchemy import exc

FULL = {"SQLITE_FULL", "53100", 1021, 1114}
TOO_LARGE = {"SQLITE_TOOBIG", 1153, 1406}
LOCKED = {"SQLITE_BUSY", "SQLITE_LOCKED", "55P03", 1205}
#: Another transaction was in the way, and this one was undone: a deadlock, or what a strict isolation does not allow.
CONFLICT = {"40P01", "40001", 1213, 1020}
# The server takes no writes, or none over this connection: another one is the primary by now.
_READ_ONLY = {"25006", 1290, 1792, 1836}
_NO_TABLE = {"42P01", 1146}

# What a server that is well answers in full, and its connection is good for more.
_ANSWERS = LOCKED | CONFLICT | _NO_TABLE
# What failed within this many seconds failed at once, not by a time-out: worth a second try.
_AT_ONCE = 0.5
# For so many seconds what only met another transaction is tried again, after a wait between these two.
_CONFLICT_TIME, _SHORTEST, _LONGEST = 2.0, 0.002, 0.02


class Unacceptable(Exception):
    """A reply that belongs to another statement. Its connection is closed: all further ones would, too.

    :param rows: what it was, if somebody can make something of it.
    """

    def __init__(self, rows: object = None) -> None:
        super().__init__("a reply to another statement")
        self.rows = rows


def code_of(error: exc.DBAPIError) -> object:
    """The code that the database gave an error."""
    first = next(iter(getattr(error.orig, "args", ())), None)
    if isinstance(first, int):
        return first
    names = ("sqlite_errorname", "sqlstate", "pgcode")
    return next(filter(None, (getattr(error.orig, name, None) for name in names)), None)


def is_sound(error: BaseException) -> bool:
    """Whether a connection is good for more after an exchange that raised this."""
    return was_refused(error) and code_of(t.cast("exc.DBAPIError", error)) in _ANSWERS


def was_refused(error: BaseException) -> bool:
    """Whether the database answered, and did not want to."""
    return isinstance(error, exc.DBAPIError) and error.statement is not None and not error.connection_invalidated


def is_read_only(error: BaseException) -> bool:
    """Whether this is not the server to talk to any more."""
    return isinstance(error, exc.DBAPIError) and code_of(error) in _READ_ONLY


def has_no_table(error: BaseException) -> bool:
    """Whether the table is missing."""
    return isinstance(error, exc.DBAPIError) and (
        code_of(error) in _NO_TABLE or "no such table" in str(error.orig)  # SQLite has no code for it
    )


class Trials:
    """What one operation has tried in vain.

    :param started: when it began, by the monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self._started, self._waited = started, 0.0
        self._tried: set[str] = set()

    def once(self, remedy: str) -> bool:
        """True when this remedy is tried for the first time."""
        first = remedy not in self._tried
        self._tried.add(remedy)
        return first

    def want_another_connection(self, error: BaseException) -> bool:
        """Whether to ask once more, over a new connection.

        A server closes what is idle, a restarted one knows no connections, and what was the primary may be a replica
        by now. Sending twice is safe: every write carries a revision by which a store recognises its own.
        """
        lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
        if lost and time.monotonic() - self._started >= _AT_ONCE:
            return False  # by a time-out: nobody is to wait twice as long
        wrong = lost or is_read_only(error) or isinstance(error, (Unacceptable, exc.ResourceClosedError))
        return wrong and self.once("another connection")

    def want_another_moment(self, error: BaseException) -> bool:
        """Whether to ask once more, after the short wait that is over by then: it met another transaction."""
        if not (isinstance(error, exc.DBAPIError) and code_of(error) in CONFLICT):
            return False
        if max(time.monotonic() - self._started, self._waited) >= _CONFLICT_TIME:  # a test may have stopped the clock
            return False
        pause = random.uniform(_SHORTEST, _LONGEST)  # noqa: S311  - no secret
        time.sleep(pause)
        self._waited += pause
        return True
