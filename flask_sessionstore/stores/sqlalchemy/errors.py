"""What a database's error means: by SQLite's names, PostgreSQL's SQLSTATEs, and the numbers of MySQL and MariaDB."""

from __future__ import annotations

import random
import time
import typing as t

from sqlalchemy import exc
from sqlalchemy.engine import Connection

from ...errors import Lost

FULL = {"SQLITE_FULL", "53100", 1021, 1114}
TOO_LARGE = {"SQLITE_TOOBIG", 1153, 1406}
LOCKED = {"SQLITE_BUSY", "SQLITE_LOCKED", "55P03", 1205}
#: Another transaction was in the way, and this one was undone: by a deadlock, or by a strict isolation level.
CONFLICT = {"40P01", "40001", 1213, 1020}
# The server does not accept writes (over this connection): another server is the primary by now.
_READ_ONLY = {"25006", 1290, 1792, 1836}
_NO_TABLE = {"42P01", 1146}
#: The user may not use the table, or not in this way.
FORBIDDEN = {"42501", 1044, 1142, 1143}

# Complete replies of a server in good order, after which the connection can be used again.
_ANSWERS = LOCKED | CONFLICT | _NO_TABLE
# Seconds. A failure within this time was not a time-out, and is worth a second try.
_AT_ONCE = 0.5
# Seconds. For so long a statement that met another transaction is tried again, after pauses between the other two.
_CONFLICT_TIME, _SHORTEST_PAUSE, _LONGEST_PAUSE = 2.0, 0.002, 0.02


class Unacceptable(Exception):
    """A reply to another statement. Its connection is closed, since all further replies would be wrong too.

    :param rows: the rows in the reply, if a caller can use them.
    """

    def __init__(self, rows: object = None) -> None:
        super().__init__("a reply to another statement")
        self.rows = rows


def from_driver(error: Exception, statement: str, connection: Connection) -> BaseException:
    """SQLAlchemy's exception for one that a driver raised, as SQLAlchemy itself makes it."""
    dialect = connection.dialect
    lost = dialect.is_disconnect(t.cast("t.Any", error), connection.connection.dbapi_connection, None)
    return exc.DBAPIError.instance(
        statement,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=lost,
        dialect=dialect,
    )


def code_of(error: exc.DBAPIError) -> object:
    """The code that the database gave an error."""
    first = next(iter(getattr(error.orig, "args", ())), None)
    if isinstance(first, int):
        return first
    names = ("sqlite_errorname", "sqlstate", "pgcode")
    return next(filter(None, (getattr(error.orig, name, None) for name in names)), None)


def is_sound(error: BaseException) -> bool:
    """Whether a connection can be used again after an exchange that raised this error."""
    return was_refused(error) and code_of(t.cast("exc.DBAPIError", error)) in _ANSWERS


def was_refused(error: BaseException) -> bool:
    """Whether the database replied, and refused the statement."""
    return isinstance(error, exc.DBAPIError) and error.statement is not None and not error.connection_invalidated


def refuses_writes(code: object) -> bool:
    """Whether a database with this code does not accept writes from anybody: a standby, or a file that is read-only."""
    return code in _READ_ONLY or str(code).startswith("SQLITE_READONLY")


def is_read_only(error: BaseException) -> bool:
    """Whether the server does not accept writes any more, so that another server has to be used."""
    return isinstance(error, exc.DBAPIError) and code_of(error) in _READ_ONLY


def has_no_table(error: BaseException) -> bool:
    """Whether the table is missing."""
    return isinstance(error, exc.DBAPIError) and (
        code_of(error) in _NO_TABLE or "no such table" in str(error.orig)  # SQLite's code does not tell
    )


def how_lost(error: BaseException, started: float) -> Lost | None:
    """How the contact to the database was lost; None if it has replied, or was not asked.

    Drivers have no common error for a time-out, so the time decides.

    :param started: when the operation began, by the monotonic clock.
    """
    if not isinstance(error, exc.DBAPIError) or was_refused(error):
        return None
    return "timed out" if time.monotonic() - started >= _AT_ONCE else "unreachable"


class Trials:
    """The failed attempts of one operation.

    :param started: when the operation began, by the monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self._started, self._waited = started, 0.0
        self._tried: set[str] = set()

    def once(self, remedy: str) -> bool:
        """Whether this remedy is tried for the first time."""
        first = remedy not in self._tried
        self._tried.add(remedy)
        return first

    def want_another_connection(self, error: BaseException) -> bool:
        """Whether to send the statement once more, over a new connection.

        The server may have closed an idle connection, or have restarted; the former primary may be a replica by now.
        A write may be sent twice: see ``engines``.
        """
        lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
        if lost and time.monotonic() - self._started >= _AT_ONCE:
            return False  # lost by a time-out: the visitor must not wait twice as long
        wrong = lost or is_read_only(error) or isinstance(error, (Unacceptable, exc.ResourceClosedError))
        return wrong and self.once("another connection")

    def want_another_moment(self, error: BaseException) -> bool:
        """Whether to send the statement once more, since it met another transaction. Waits a moment first."""
        if not (isinstance(error, exc.DBAPIError) and code_of(error) in CONFLICT):
            return False
        if max(time.monotonic() - self._started, self._waited) >= _CONFLICT_TIME:  # a test may have stopped the clock
            return False
        pause = random.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE)  # noqa: S311  - not used for security
        time.sleep(pause)
        self._waited += pause
        return True
