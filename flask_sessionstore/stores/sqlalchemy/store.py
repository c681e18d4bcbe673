"""SQLAlchemyStore: sessions in a table of a relational database.

Each operation is one statement, sent on a connection of the store's own that commits automatically: the store never
joins, prolongs or ends a transaction of the application. The statement's condition decides whether a write may happen,
and the number of changed rows tells whether it has.
"""

from __future__ import annotations

import time
import typing as t
import weakref
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool, SingletonThreadPool, StaticPool

from ...errors import ConfigurationError, Lost, SessionError, SessionTooLarge, StoreFull, StoreUnavailable, TableMissing
from ...layout import FORMAT, HEAD_SIZE, HEADER_SIZE, of_another, owner_in, pack_tombstone, revision_of
from ...record import TOMBSTONE_TIME, to_ms
from ..base import Counts, Entry, HasSchema, OwnerIndex, Scans, ServerSideStore, Sweeps
from ..contact import Contact
from ..pool import MAX_CONNECTIONS, NoneFree
from .connections import Borrowed, Connections, kept
from .cursors import DRIVERS, Direct, Driver, Values, send
from .engine import LOCK_TIMEOUT_SET, POOL_TIMEOUT, give_up_spare, going_on, make_engine
from .errors import (
    FORBIDDEN,
    FULL,
    LOCKED,
    TOO_LARGE,
    Trials,
    Unacceptable,
    code_of,
    has_no_table,
    how_lost,
    refuses_writes,
    was_refused,
)
from .files import SQLiteFile, place_of

# Rows removed by one statement of a sweep: few, so that locks are not held for long.
_BATCH = 500
# Rows read by one statement of a scan: their data may be large.
_PAGE = 200
_LONGEST_PREFIX, _LONGEST_OWNER = 64, 255
_LONGEST_TABLE = 48  # the names of its indexes are 15 characters longer, and PostgreSQL allows 63

_MYSQL = ("mysql", "mariadb")
_LARGEST_BLOB = 2**24 - 1  # bytes of a MEDIUMBLOB
# Statements that ask a server for its time, in milliseconds since 1970. SQLite uses this machine's clock.
_MYSQLS_CLOCK = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000"
_CLOCKS = {
    "postgresql": "SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)",
    **dict.fromkeys(_MYSQL, _MYSQLS_CLOCK),
}
_CUTS = ("sqlite", *_CLOCKS)  # databases whose substr is known to cut bytes
_FAILURES = (exc.SQLAlchemyError, NoneFree, Unacceptable)

R = t.TypeVar("R")
_Statement = sa.Executable | Direct
_Conditions = tuple[sa.ColumnElement[bool], ...]


class SQLAlchemyStore(ServerSideStore, Sweeps, Scans, Counts, OwnerIndex, HasSchema):
    """Sessions in a database that SQLAlchemy reaches.

    :param engine: the application's (Flask-SQLAlchemy's ``db.engine``). Connections are taken from its pool, set to
        commit automatically, and given back after each statement. It keeps its own time-outs.
    :param table: the table's name.
    :param schema: the schema of the table, if the database has schemas; None: the connection's default.
    :param prefix: kept in a column beside every handle, so applications with different prefixes can share a table.
    :raises ConfigurationError: if ``engine`` is of another type, or has only one connection (SQLite in memory): the
        store would write in the application's transactions.
    """

    # The path of the database's file, for SQLite.
    _file: str | None = None

    def __init__(
        self, engine: Engine, *, table: str = "flask_sessions", schema: str | None = None, prefix: str = "session:"
    ) -> None:
        super().__init__(prefix=prefix)
        if len(prefix) > _LONGEST_PREFIX:
            raise ConfigurationError(
                f"SQLAlchemyStore: a prefix has at most {_LONGEST_PREFIX} characters, not {len(prefix)}",
                key="SESSION_KEY_PREFIX",
            )
        if len(table) > _LONGEST_TABLE:
            raise ConfigurationError(
                f"SQLAlchemyStore: a table's name has at most {_LONGEST_TABLE} characters, since the names of its"
                " indexes are longer",
                key="SESSION_STORE_OPTIONS",
            )
        _check_engine(engine)
        self.contact: Contact = Contact()
        self.engine = engine
        """The source of connections."""
        self.table = _make_table(table, schema)
        """The table, with its indexes."""
        self.metadata = self.table.metadata
        """The metadata that holds the table, for tools such as Alembic."""
        self._connections: Connections = Borrowed(engine.execution_options(isolation_level="AUTOCOMMIT"))
        self._prepare()

    @classmethod
    def from_url(
        cls, url: str, *, max_connections: int = MAX_CONNECTIONS, prepared: bool = False, **options: t.Any
    ) -> t.Self:
        """Any URL that SQLAlchemy knows: ``postgresql://``, ``mysql://`` and ``mariadb://``, ``sqlite:///file``.

        If the URL names no driver, psycopg or PyMySQL is used. The driver's own arguments may follow
        (``?connect_timeout=3``).

        :param max_connections: how many connections there may be at once in one process.
        :param prepared: whether psycopg may prepare statements at the server. Not for PgBouncer in transaction mode.
        :raises ConfigurationError: if the URL cannot work, or its driver is not installed.
        """
        if max_connections < 1:
            raise ConfigurationError("max_connections must be at least 1", key="SESSION_STORE_OPTIONS")
        engine = make_engine(url, prepared=prepared)
        store = cls(engine, **options)
        if engine.dialect.name == "sqlite":
            store._file = engine.url.database
        if isinstance(engine.pool, QueuePool):  # SQLite in memory: closing the connection would lose all data
            store._connections = Borrowed(engine, lambda error: True)
        else:
            store._connections = kept(engine, most=max_connections, patience=POOL_TIMEOUT)
        if engine.dialect.name == "postgresql":
            store._prepare(LOCK_TIMEOUT_SET)
        if driver := DRIVERS.get(engine.dialect.driver):
            store._use_cursors(driver)
        weakref.finalize(store, engine.dispose)
        return store

    # -- the table -------------------------------------------------------------------------------------------------

    def create_schema(self) -> None:
        """Create the table and its indexes, if they are missing. May be called at any time, by many processes at once.

        :raises StoreUnavailable: if the database cannot be reached, or refuses.
        """
        things: list[sa.Table | sa.Index] = [self.table, *self.table.indexes]
        for thing in things:
            try:
                self._connections.lend(_create, thing)
            except _FAILURES as error:
                if not (was_refused(error) and self._has(thing)):  # it may exist: another process was faster
                    raise self._translated(error) from error

    def _has(self, thing: sa.Table | sa.Index) -> bool:
        try:
            return self._connections.lend(_has, thing, self.table)
        except _FAILURES:
            return False

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str) -> bytes | None:
        values = {"name": handle, "space": self.prefix, "now": self._now_ms()}
        rows = self._run(_find_its_own, self._read, values)
        return _as_bytes(rows[0][0]) if rows else None

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        row = self._row(handle, data, ttl)
        return any(self._run(_change, statement, row) for statement in self._add_steps)

    def taken(self, names: t.Sequence[str]) -> set[str]:
        rows = self._run(_find_among, self._taken, {"space": self.prefix, "names": names})
        return {name for (name,) in rows}

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        row = self._row(handle, data, ttl)
        if replaces is None:
            return bool(self._run(_change, self._swap_any, row))
        return bool(self._run(_change, self._swap, {**row, "old": replaces}))

    def drop(self, handle: str) -> None:
        values = {"name": handle, "space": self.prefix}
        try:
            self._run(_change, self._drop, values)
        except StoreFull:
            if not (self._file and give_up_spare(self._file)):
                raise
            self._run(_change, self._drop, values)

    def delete_expired(self, limit: int | None = None) -> int:
        return self._remove_expired(self._engines_now_ms(), limit)

    def sweep(self, limit: int) -> bool:
        return self._remove_expired(self._engines_now_ms() - to_ms(TOMBSTONE_TIME), limit) >= limit

    def _remove_expired(self, now_ms: int, limit: int | None) -> int:
        removed = 0
        while limit is None or removed < limit:
            size = _BATCH if limit is None else min(_BATCH, limit - removed)
            row = {"space": self.prefix, "now": now_ms, "size": size}
            names = [name for (name,) in self._run(_find, self._expired, row)]
            gone = self._run(_change, self._sweep, {**row, "names": names}) if names else 0
            removed += gone
            if len(names) < size or not gone:  # if none was left to remove, another process is sweeping
                break
        return removed

    def scan(self) -> t.Iterator[Entry]:
        if self._is_to_be_made:  # by the application: this may be a command that another user runs
            return
        handle = ""
        while True:
            rows = self._run(_find, self._page, {"space": self.prefix, "after": handle, "size": _PAGE})
            yield from (Entry(handle, _as_bytes(data)) for handle, data in rows)
            if len(rows) < _PAGE:
                return
            handle = rows[-1][0]

    def count(self) -> int:
        if self._is_to_be_made:  # as in scan()
            return 0
        now_ms = self._now_ms()
        values = {"space": self.prefix, "now": now_ms, "soon": now_ms + to_ms(TOMBSTONE_TIME)}
        return int(self._run(_find, self._living, values)[0][0])

    def missing(self) -> str | None:
        place = place_of(self.engine)
        if self._is_to_be_made:
            return f"{place} does not exist"
        return None if self._run(_has, self.table, self.table) else f"{place} has no table {self.table.fullname}"

    def entries(self, owner: str) -> list[Entry]:
        rows = self._run(_find, self._owned, {"space": self.prefix, "whose": _as_column(owner)})
        # The owner is compared once more here, since for a database "ann" and "ann " may be equal.
        entries = [Entry(handle, _as_bytes(data)) for handle, data in rows]
        return [entry for entry in entries if owner_in(entry.data or b"") in (owner, None)]

    def end_each(self, revisions: t.Mapping[str, bytes], owner: str) -> list[str]:
        tombstone, row = self._tombstone("revoked", owner), self.table.c
        data = {handle: sa.literal(pack_tombstone(tombstone, handle), row.data.type) for handle in revisions}
        new = {
            "revision": tombstone.revision,
            "expires_at": self._now_ms() + to_ms(TOMBSTONE_TIME),
            "owner": None,
            "data": sa.case(data, value=row.handle),
        }
        here = (row.handle.in_(revisions), row.prefix == self.prefix)
        # Every attempt to write has a revision of its own, so a revision from the list belongs to only one handle.
        still = (row.revision.in_(revisions.values()), row.expires_at > self._now_ms(), *self._first)
        try:
            if self._run(_change, sa.update(self.table).where(*here, *still).values(new), {}) == len(revisions):
                return list(revisions)
            ended = sa.select(row.handle).where(*here, row.revision == tombstone.revision)
            found = {handle for (handle,) in self._run(_find, ended, {})}
            return [handle for handle in revisions if handle in found]
        except StoreUnavailable:
            return []

    # -- health ----------------------------------------------------------------------------------------------------

    def probe(self) -> None:
        """As in every store; but if SQLite's file does not exist yet, only try whether it can be made."""
        file = SQLiteFile.of(self.engine)
        if file is None or not self._is_to_be_made:
            super().probe()
            return
        try:
            file.try_to_make()
        except OSError as error:
            raise StoreUnavailable(f"the session database ({self.engine.dialect.name}) cannot be made") from error

    def risks(self) -> list[str]:
        file = SQLiteFile.of(self.engine)
        if file is None:
            return super().risks()
        mode = "wal" if self._is_to_be_made else self._run(_find, sa.text("PRAGMA journal_mode"), {})[0][0]
        return [*super().risks(), *file.risks(mode)]

    @property
    def _is_to_be_made(self) -> bool:
        """Whether this is SQLite, and the file does not exist yet."""
        file = SQLiteFile.of(self.engine)
        return file is not None and not file.may_be_opened

    # -- how ------------------------------------------------------------------------------------------------------

    def _prepare(self, *first: sa.ColumnElement[bool]) -> None:
        """Make the statements, once. (Their parameters must not have the names of columns.)

        :param first: conditions that statements which lock rows evaluate before they lock.
        """
        row = self.table.c
        self._first = first
        new = {
            "revision": sa.bindparam("new", type_=row.revision.type),
            "expires_at": sa.bindparam("end", type_=row.expires_at.type),
            "owner": sa.bindparam("whose", type_=row.owner.type),
            "data": sa.bindparam("bytes", type_=row.data.type),
        }
        here = (row.handle == sa.bindparam("name"), row.prefix == sa.bindparam("space"))
        expired, alive = row.expires_at <= sa.bindparam("now"), row.expires_at > sa.bindparam("now")
        data = sa.type_coerce(row.data, sa.types.NullType())  # without conversion: see _as_bytes
        self._read: t.Any = sa.select(data).where(*here, alive)
        swap = sa.update(self.table).where(*here, alive, *first).values(new)
        self._swap: t.Any = swap.where(row.revision == sa.bindparam("old"))
        self._swap_any: t.Any = swap.where(sa.not_(_is_tombstone(row.data)))
        self._drop: t.Any = sa.delete(self.table).where(*here, *first)
        ours = row.prefix == sa.bindparam("space")
        self._expired = sa.select(row.handle).where(ours, expired).order_by(row.expires_at).limit(sa.bindparam("size"))
        # A sum, so that the planner does not use the index of expires_at again, which has all expired rows.
        still_expired = row.expires_at + 0 <= sa.bindparam("now")
        names = row.handle.in_(sa.bindparam("names", expanding=True))
        self._taken = sa.select(row.handle).where(names, ours)
        self._sweep = sa.delete(self.table).where(names, ours, still_expired, *first)
        entry = sa.select(row.handle, data)
        cuts = self.engine.dialect.name in _CUTS
        first_bytes: tuple[t.Any, ...] = (sa.literal_column("1"), sa.literal_column(str(HEAD_SIZE)))
        head = sa.func.substr(row.data, *first_bytes, type_=sa.types.NullType()) if cuts else data
        self._owned = sa.select(row.handle, head).where(ours, row.owner == sa.bindparam("whose"))
        # A concatenation, so that SQLite does not use another index, and sort all rows of our prefix for each page.
        among_ours = row.prefix.concat("") == sa.bindparam("space") if self.engine.dialect.name == "sqlite" else ours
        further = entry.where(row.handle > sa.bindparam("after"), among_ours)
        self._page = further.order_by(row.handle).limit(sa.bindparam("size"))

        # What stands longer than a tombstone is counted in the index alone; of the rest, the data have to be read.
        lasts, number = row.expires_at > sa.bindparam("soon"), sa.select(sa.func.count()).select_from(self.table)
        ends = (alive, sa.not_(lasts), sa.not_(_is_tombstone(row.data)))
        lasting, ending = number.where(ours, lasts).scalar_subquery(), number.where(ours, *ends).scalar_subquery()
        self._living = sa.select(lasting + ending)
        self._add_steps = self._make_add_steps(new, here, expired, first)

    def _use_cursors(self, driver: Driver) -> None:
        """Send by the driver's own cursors what ordinary requests send."""
        self._read, self._drop = Direct(self._read, driver), Direct(self._drop, driver)
        self._swap, self._swap_any = Direct(self._swap, driver), Direct(self._swap_any, driver)
        self._add_steps = tuple(Direct(statement, driver) for statement in self._add_steps)

    def _make_add_steps(
        self, new: dict[str, t.Any], here: _Conditions, expired: sa.ColumnElement[bool], first: _Conditions
    ) -> tuple[t.Any, ...]:
        """The statements that add a record. Each is tried if the one before has not changed a row."""
        row = self.table.c
        values = {"handle": sa.bindparam("name"), "prefix": sa.bindparam("space"), **new}
        dialect: t.Any = {"sqlite": sqlite, "postgresql": postgresql}.get(self.engine.dialect.name, sa)
        adding = dialect.insert(self.table).execution_options(preserve_rowcount=True)
        if first:
            # A condition in ON CONFLICT would be too late: the conflicting row is locked before it is evaluated.
            typed = [sa.type_coerce(value, row[name].type).label(name) for name, value in values.items()]
            adding = adding.from_select(list(values), sa.select(*typed).where(*first))
        else:
            adding = adding.values(values)
        if dialect is sa:
            # For a free name; for the name of an expired row; for a name that a sweep has freed in between.
            return (adding, sa.update(self.table).where(*here, expired).values(new), adding)
        return (adding.on_conflict_do_update(index_elements=[row.handle, row.prefix], set_=new, where=expired),)

    def _engines_now_ms(self) -> int:
        """The database's time, unless a test has a clock: a machine with a fast clock must not remove live sessions."""
        clock = _CLOCKS.get(self.engine.dialect.name)
        if clock is None or self.clock is not None:
            return self._now_ms()
        return int(self._run(_find, sa.text(clock), {})[0][0])

    def _row(self, handle: str, data: bytes, ttl: timedelta) -> dict[str, t.Any]:
        now = self._now_ms()
        if len(data) > _LARGEST_BLOB and self.engine.dialect.name in _MYSQL:
            # Outside of its strict mode, MySQL would silently cut off the rest.
            raise SessionTooLarge("the session is larger than MySQL's column", size=len(data), limit=_LARGEST_BLOB)
        return {
            "name": handle,
            "space": self.prefix,
            "new": revision_of(data),
            "end": now + to_ms(ttl),
            "whose": _as_column(owner_in(data)),
            "bytes": data,
            "now": now,
        }

    def _run(self, exchange: t.Callable[..., R], *args: t.Any) -> R:
        return self.contact.ask(lambda: self._try(exchange, args))

    def _try(self, exchange: t.Callable[..., R], args: tuple[t.Any, ...]) -> R:
        """The result of an exchange with the database, which is tried again where that makes sense."""
        started, trials = time.monotonic(), None
        while True:
            try:
                return self._connections.lend(exchange, *args)
            except _FAILURES as error:
                trials = trials or Trials(started)
                if not self._is_mended(error, trials):
                    if isinstance(error, Unacceptable) and error.rows is not None:
                        return t.cast("R", error.rows)  # the same rows twice: they are what is stored
                    raise self._translated(error, how_lost(error, started)) from error

    def _is_mended(self, error: Exception, trials: Trials) -> bool:
        """Do what can be done about a failure; return whether it makes sense to try again."""
        if trials.want_another_connection(error):
            self._connections.clear()  # the other connections are probably bad too
            return True
        if has_no_table(error) and self.engine.dialect.name == "sqlite" and trials.once("the table"):
            self.create_schema()
            return True
        return trials.want_another_moment(error)

    def _translated(self, error: Exception, lost: Lost | None = None) -> SessionError:
        """Our error for SQLAlchemy's, which are translated only here."""
        database = f"the session database ({self.engine.dialect.name})"
        if isinstance(error, exc.StatementError):
            error.hide_parameters = True  # the cause is logged, and must not show a session's data
        if isinstance(error, NoneFree):
            return StoreUnavailable(f"{database}: all connections were in use for too long; see max_connections")
        if isinstance(error, exc.TimeoutError):
            return StoreUnavailable(
                f"{database}: no connection of the Engine's pool came free in time; see its pool_size and max_overflow"
            )
        if not isinstance(error, exc.DBAPIError):
            return StoreUnavailable(f"{database} cannot be used")
        if has_no_table(error):
            return TableMissing(
                f"{database} has no table {self.table.fullname}: run 'flask sessions create-schema' once, or create it"
                " in a migration",
                key="SESSION_STORE",
            )
        return self._refused(error, database, lost)

    def _refused(self, error: exc.DBAPIError, database: str, lost: Lost | None) -> SessionError:
        code = code_of(error)
        if code in FULL:
            return StoreFull(f"{database} has no room left")
        if code in TOO_LARGE:
            return SessionTooLarge(f"the session is larger than {database} allows")
        if code in LOCKED:
            return StoreUnavailable(f"{database} is locked by another connection")
        if refuses_writes(code):
            return StoreUnavailable(f"{database} is read-only")
        if code in FORBIDDEN:
            return StoreUnavailable(f"{database} does not allow this user to use the table as sessions need it")
        if error.statement is None:
            return StoreUnavailable(f"{database} cannot be reached, or refuses the log-in", lost=lost)
        what = "did not answer" if error.connection_invalidated else "refused"
        return StoreUnavailable(f"{database} {what}", lost=lost)


# -- exchanges -----------------------------------------------------------------------------------------------------


def _find(connection: Connection, statement: _Statement, values: Values) -> t.Sequence[t.Any]:
    """The rows that a statement finds."""
    reply = send(connection, statement, values)
    if isinstance(reply, int):
        raise Unacceptable
    return reply


def _find_its_own(connection: Connection, statement: _Statement, values: Values) -> t.Sequence[t.Any]:
    """As :func:`_find`, for the record of a name; refuses the record of another name."""
    rows = _find(connection, statement, values)
    if rows and isinstance(rows[0][0], bytes) and of_another(values["name"])(rows[0][0]):
        raise Unacceptable(rows)
    return rows


def _find_among(connection: Connection, statement: _Statement, values: Values) -> t.Sequence[t.Any]:
    """As :func:`_find`, where the rows are some of the names that were asked for."""
    rows = _find(connection, statement, values)
    if not {row[0] for row in rows} <= set(values["names"]):
        raise Unacceptable
    return rows


def _change(connection: Connection, statement: _Statement, values: Values) -> int:
    """The number of rows that a statement changes."""
    try:
        reply = send(connection, statement, values)
    except exc.IntegrityError:
        return 0  # the name is taken
    if not isinstance(reply, int):
        raise Unacceptable
    return reply


def _create(connection: Connection, thing: sa.Table | sa.Index) -> None:
    """Make the table, or one of its indexes, if it does not exist."""
    with going_on(connection):
        thing.create(connection, checkfirst=True)


def _has(connection: Connection, thing: sa.Table | sa.Index, table: sa.Table) -> bool:
    """Whether the table, or one of its indexes, exists."""
    found = sa.inspect(connection)
    if isinstance(thing, sa.Table):
        return found.has_table(table.name, schema=table.schema)
    return thing.name in [index["name"] for index in found.get_indexes(table.name, schema=table.schema)]


def _as_bytes(data: object) -> bytes:
    """The data as bytes. SQLite also accepts text and numbers in this column: these are not records of ours, and count
    as damaged.
    """
    return bytes(data) if isinstance(data, (bytes, memoryview)) else b""


def _is_tombstone(data: t.Any) -> t.Any:
    """As :func:`~flask_sessionstore.record.is_tombstone`, for a column."""
    first, second = (sa.func.substr(data, place, 1, type_=sa.LargeBinary) for place in (1, 2))
    return sa.and_(first == bytes([FORMAT]), second != b"\0", sa.func.length(data) >= HEADER_SIZE)


def _make_table(name: str, schema: str | None) -> sa.Table:
    """Names compare byte by byte, whatever the database's language, and records may have any size."""
    handle = (
        sa.String(64)
        .with_variant(mysql.CHAR(64, charset="ascii", collation="ascii_bin"), *_MYSQL)
        .with_variant(sa.String(64, collation="C"), "postgresql")
    )
    table = sa.Table(
        name,
        sa.MetaData(),
        sa.Column("handle", handle, primary_key=True),
        sa.Column("prefix", _text(_LONGEST_PREFIX), primary_key=True),
        sa.Column("revision", sa.LargeBinary().with_variant(mysql.BINARY(8), *_MYSQL), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False, comment="milliseconds since 1970"),
        sa.Column("owner", _text(_LONGEST_OWNER)),
        sa.Column("data", sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), *_MYSQL), nullable=False),
        schema=schema,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    sa.Index(f"ix_{name}_expires_at", table.c.prefix, table.c.expires_at)
    owned = table.c.owner.is_not(None)
    sa.Index(f"ix_{name}_owner", table.c.prefix, table.c.owner, postgresql_where=owned, sqlite_where=owned)
    return table


def _text(length: int) -> t.Any:
    return (
        sa.String(length)
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), *_MYSQL)
        .with_variant(sa.String(length, collation="C"), "postgresql")
    )


def _as_column(owner: str | None) -> str | None:
    """An owner as the column holds it. PostgreSQL does not accept NUL."""
    return owner.replace("\0", " ")[:_LONGEST_OWNER] if owner else owner


def _check_engine(engine: object) -> None:
    if not isinstance(engine, Engine) or engine.dialect.is_async:
        raise ConfigurationError(
            f"SQLAlchemyStore takes a synchronous Engine, such as db.engine, not a {type(engine).__name__};"
            " for a URL, use SQLAlchemyStore.from_url",
            key="SESSION_STORE",
        )
    if isinstance(engine.pool, (SingletonThreadPool, StaticPool)):
        raise ConfigurationError(
            "SQLAlchemyStore cannot share an Engine that has only one connection (SQLite in memory): it would write in"
            ' the application\'s transactions. Set SESSION_STORE to "memory:", or to the URL of another database',
            key="SESSION_STORE",
        )
