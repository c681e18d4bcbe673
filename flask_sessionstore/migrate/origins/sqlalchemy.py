"""Reads sessions from a table: ``session_id``, ``data``, and ``expiry``, a time in UTC without a time zone."""

from __future__ import annotations

import time
import typing as t
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine

from ...errors import ConfigurationError, StoreUnavailable, TableMissing
from ...stores.places import is_there
from ...stores.pool import MAX_CONNECTIONS, NoneFree
from ...stores.sqlalchemy.connections import Borrowed, Connections, kept
from ...stores.sqlalchemy.engine import POOL_TIMEOUT, make_engine
from ...stores.sqlalchemy.errors import Trials, has_no_table
from ...stores.sqlalchemy.files import place_of
from . import Found

# Rows that a scan reads at once.
_PAGE = 100

R = t.TypeVar("R")


class _Origin:
    def __init__(self, engine: Engine, connections: Connections, table: sa.TableClause) -> None:
        self._engine, self._connections, self._table = engine, connections, table
        columns = table.c
        self._columns = (columns.id, columns.session_id, columns.data, columns.expiry)

    def read(self, name: str, now: float) -> Found | None:
        rows = self._run(_rows, sa.select(*self._columns).where(self._table.c.session_id == name))
        # For some databases, names are equal that differ only in case, or in blanks at the end.
        return next((_found(row) for row in rows if row.session_id == name), None)

    def remove(self, name: str) -> None:
        for row in self._run(_rows, sa.select(*self._columns).where(self._table.c.session_id == name)):
            if row.session_id == name:
                self._run(_change, sa.delete(self._table).where(self._table.c.id == row.id))

    def scan(self, prefix: str, now: float) -> t.Iterator[tuple[str, Found]]:
        last = None
        while rows := self._run(_rows, self._page_after(last, prefix)):
            for row in rows:
                if row.session_id.startswith(prefix):
                    yield row.session_id, _found(row)
            last = rows[-1].id

    def missing(self) -> str | None:
        place = place_of(self._engine)
        if self._is_missing_file():
            return f"{place} does not exist"
        try:
            self._run(_rows, sa.select(self._table.c.id).limit(1))
        except TableMissing:
            return f"{place} has no table {self._table.fullname}"
        return None

    def _page_after(self, last: object, prefix: str) -> t.Any:
        columns = self._table.c
        page = sa.select(*self._columns).order_by(columns.id).limit(_PAGE)
        page = page.where(columns.session_id.startswith(prefix, autoescape=True))
        return page if last is None else page.where(columns.id > last)

    def _run(self, exchange: t.Callable[[Connection, t.Any], R], statement: t.Any) -> R:
        """Run an exchange. SQLAlchemy's exceptions are translated only here."""
        if self._is_missing_file():
            raise StoreUnavailable("the SQLite file of the old sessions does not exist")
        trials = Trials(time.monotonic())
        while True:
            try:
                return self._connections.lend(exchange, statement)
            except (exc.SQLAlchemyError, NoneFree) as error:
                if trials.want_another_connection(error):
                    self._connections.clear()
                elif not trials.want_another_moment(error):
                    raise self._translated(error) from error

    def _is_missing_file(self) -> bool:
        """Whether an SQLite file is missing. SQLite would create an empty file, even if its volume is not mounted."""
        url = self._engine.url
        in_a_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
        return in_a_file and not url.query.get("uri") and not is_there(Path(str(url.database)))

    def _translated(self, error: Exception) -> Exception:
        if has_no_table(error):
            return TableMissing(
                f"from_flask_session: there is no table {self._table.fullname}: name it with table= (and schema=), or"
                " remove the importer",
                key="import_session",
            )
        return StoreUnavailable("the database of the old sessions cannot be reached")


def _rows(connection: Connection, statement: t.Any) -> t.Sequence[t.Any]:
    return connection.execute(statement).all()


def _change(connection: Connection, statement: t.Any) -> None:
    connection.execute(statement)


def _found(row: t.Any) -> Found:
    end: datetime | None = row.expiry
    ends_at = None if end is None else end.replace(tzinfo=end.tzinfo or UTC).timestamp()
    return Found(bytes(row.data or b""), ends_at)


def origin(source: t.Any, *, table: str = "sessions", schema: str | None = None) -> _Origin:
    """The origin in the database of a URL, or of an Engine.

    :param table, schema: SESSION_SQLALCHEMY_TABLE and SESSION_SQLALCHEMY_SCHEMA.
    """
    what = sa.table(
        table,
        sa.column("id", sa.Integer()),
        sa.column("session_id", sa.String()),
        sa.column("data", sa.LargeBinary()),
        sa.column("expiry", sa.DateTime()),
        schema=schema,
    )
    if isinstance(source, str):
        engine = make_engine(source, ours=False)
        return _Origin(engine, kept(engine, most=MAX_CONNECTIONS, patience=POOL_TIMEOUT), what)
    if not isinstance(source, Engine):
        raise ConfigurationError(f"it takes an Engine (Flask-SQLAlchemy's db.engine), not {type(source).__qualname__}")
    return _Origin(source, Borrowed(source.execution_options(isolation_level="AUTOCOMMIT")), what)
