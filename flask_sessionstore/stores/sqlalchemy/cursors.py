"""Sends the statements of requests by the driver's own cursor: SQLAlchemy's way to it costs more than the statement."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .errors import from_driver

Values = t.Mapping[str, t.Any]
#: The rows that a statement finds, or the number of rows that it changes.
Reply = t.Sequence[t.Any] | int


class Driver(t.NamedTuple):
    """How a driver's cursor is used.

    :param style: how names of parameters are written in a statement.
    :param shows_rows: an attribute of the cursor that is None if the reply has no rows.
    :param options: for the cursor.
    """

    style: t.Literal["named", "pyformat"]
    shows_rows: str = "description"
    options: t.Mapping[str, t.Any] = {}


#: The drivers whose cursors are used.
DRIVERS = {
    "pysqlite": Driver("named"),
    # psycopg makes the description anew each time it is asked for it, and by default gets bytes as hexadecimal digits.
    "psycopg": Driver("pyformat", "rownumber", {"binary": True}),
    "pymysql": Driver("pyformat"),
}


class Direct:
    """A statement that the driver's own cursor executes. SQLAlchemy compiles it at its first use, when it has connected
    and so knows the server.
    """

    _text = ""

    def __init__(self, statement: sa.ClauseElement, driver: Driver) -> None:
        self._statement, self._driver = statement, driver
        self._constants: dict[str, t.Any] = {}

    def send(self, connection: Connection, values: Values) -> Reply:
        """The reply."""
        text = self._text or self._compile(connection)
        try:
            cursor = self._cursor(connection)
            cursor.execute(text, {**self._constants, **values} if self._constants else values)
            has_rows = getattr(cursor, self._driver.shows_rows) is not None
            return t.cast("Reply", cursor.fetchall() if has_rows else cursor.rowcount)
        except connection.dialect.loaded_dbapi.Error as error:
            raise from_driver(error, text, connection) from error

    def _compile(self, connection: Connection) -> str:
        compiled = self._statement.compile(dialect=connection.dialect)
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        self._text = compiled.string
        return self._text

    def _cursor(self, connection: Connection) -> t.Any:
        """The cursor for this statement, which lives as long as the connection. (psycopg's has learnt how to convert
        the values of its last statement.)
        """
        cursors = connection.info
        if self not in cursors:
            cursors[self] = connection.connection.cursor(**self._driver.options)
        return cursors[self]


def send(connection: Connection, statement: sa.Executable | Direct, values: Values) -> Reply:
    """The reply to a statement."""
    if isinstance(statement, Direct):
        return statement.send(connection, values)
    result = connection.execute(statement, values)
    return result.all() if result.returns_rows else result.rowcount
