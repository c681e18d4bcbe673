"""Makes the engine for a URL, only for sessions: it commits automatically, and never waits long."""

from __future__ import annotations

import contextlib
import inspect
import os
import select
import time
import typing as t
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import NullPool, QueuePool, SingletonThreadPool

from ...errors import ConfigurationError
from .. import drivers
from ..engines import CONNECT_TIMEOUT, TIMEOUT
from .cursors import DRIVERS

#: Seconds to wait for a place in the pool.
POOL_TIMEOUT = TIMEOUT
# Seconds to wait for a row's lock: less than for a reply, so that no statement goes on waiting at the server.
_LOCK_TIMEOUT = TIMEOUT - 1
# Seconds to tell PostgreSQL that nobody waits for a reply any more, if the statement waits for something else.
_CANCEL_TIMEOUT = 0.25

# A file kept beside an SQLite file, to be removed when the disk is full; and its size in bytes, which is enough to
# remove some fifty sessions.
_SPARE, _SPARE_SIZE = "-spare", 1024 * 1024

_SPELLING = (
    "write two slashes before a host, three before a relative path, four before an absolute path, and percent-encode"
    " special characters in a password"
)
_WAITS: dict[str, object] = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": TIMEOUT, "write_timeout": TIMEOUT}
#: Driver -> the arguments in its URL that set time-outs. psycopg has none for a reply: see _with_deadline.
_TIMEOUTS: dict[str, dict[str, object]] = {
    "pysqlite": {"timeout": TIMEOUT},
    "psycopg": {"connect_timeout": CONNECT_TIMEOUT},  # PostgreSQL's drivers make it two seconds at least
    "psycopg2": {"connect_timeout": CONNECT_TIMEOUT},
    "pymysql": _WAITS,
    "mysqldb": _WAITS,
}

# Saves MySQL a round trip. Exists since SQLAlchemy 2.0.43.
_SPARING = {
    name: True for name in inspect.signature(DefaultDialect.__init__).parameters if name == "skip_autocommit_rollback"
}

#: A condition for PostgreSQL's statements that lock rows: it is evaluated before the first row is locked, and sets the
#: time-out only for that statement, since a pooler such as PgBouncer gives the connection to others afterwards.
LOCK_TIMEOUT_SET = sa.func.set_config("lock_timeout", sa.literal_column(f"'{_LOCK_TIMEOUT * 1000}'"), sa.true()).is_not(
    None
)

# psycopg's numbers for what it waits for, and for what is possible.
_READ, _WRITE = 1, 2


def make_engine(text: str, *, prepared: bool = False, ours: bool = True) -> Engine:
    """The engine for a URL. Opens no connection yet. It has no pool, except for SQLite in memory: one connection.

    :param prepared: whether psycopg may prepare statements at the server.
    :param ours: whether an SQLite file belongs to this package, and so is created, and set up in the best way for it.
    :raises ConfigurationError: if the URL cannot work, or its driver is not installed.
    """
    url = _parse(text)
    driver = _driver_of(url)
    try:
        defaults = {name: str(value) for name, value in _TIMEOUTS.get(driver, {}).items()}
        if driver in ("pymysql", "mysqldb"):
            defaults["init_command"] = f"SET SESSION innodb_lock_wait_timeout = {_LOCK_TIMEOUT}"
        engine = sa.create_engine(
            url.set(query={**defaults, **url.query}),
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,  # there is never a transaction to end
            hide_parameters=True,
            paramstyle=DRIVERS[driver].style if driver in DRIVERS else None,
            **_pool_for(url),
            **_SPARING,
        )
        _check_arguments(engine)
    except ImportError as error:  # the driver is missing, or a library that it needs
        raise drivers.missing("SQLAlchemyStore", f"{url.get_backend_name()}+{driver}", "sqlalchemy", error) from error
    except (exc.ArgumentError, exc.InvalidRequestError, TypeError, ValueError) as error:
        raise _refused(error) from None
    if driver == "pysqlite" and ours:
        if isinstance(engine.pool, NullPool):  # otherwise the database is in memory, without a file
            sa.event.listen(engine, "do_connect", _make_sqlite_file)
        sa.event.listen(engine, "connect", _set_up_sqlite)
    elif driver == "psycopg":
        _with_deadline(engine, {} if prepared else {"prepare_threshold": None})
    return engine


def _parse(text: str) -> URL:
    """The URL, with our default driver if it names none."""
    scheme, colon, rest = text.partition(":")
    database, plus, driver = scheme.partition("+")
    if database == "postgres":  # SQLAlchemy knows it by its full name only
        database = "postgresql"
    if database in drivers.DRIVERS and not plus:
        plus, driver = "+", drivers.DRIVERS[database]
    try:
        return make_url(f"{database}{plus}{driver}{colon}{rest}")
    except (exc.ArgumentError, ValueError):
        # The original error may quote the URL. It is not chained, since a cause may be logged.
        raise ConfigurationError(
            f"SESSION_STORE is not a URL that SQLAlchemy can read: {_SPELLING}", key="SESSION_STORE"
        ) from None


def _driver_of(url: URL) -> str:
    """The name of the URL's driver. Does not import the driver.

    :raises ConfigurationError: if SQLAlchemy does not know it, or it is a driver for asyncio.
    """
    try:
        dialect = url.get_dialect()
    except (exc.ArgumentError, exc.InvalidRequestError) as error:
        raise _refused(error) from None
    if dialect.is_async:
        name = url.get_backend_name()
        ours = f"{name}+{drivers.DRIVERS[name]}" if name in drivers.DRIVERS else name
        raise ConfigurationError(
            f'SESSION_STORE: "{url.drivername}" is a driver for asyncio, and this store needs a synchronous one: write'
            f' "{ours}://" instead',
            key="SESSION_STORE",
        )
    return dialect.driver


def _refused(error: Exception) -> ConfigurationError:
    """The error for a URL that SQLAlchemy refuses. Some of its own errors quote the URL."""
    why = str(error) if isinstance(error, (exc.NoSuchModuleError, TypeError)) else _SPELLING
    return ConfigurationError(f"SESSION_STORE: SQLAlchemy refuses the URL: {why}", key="SESSION_STORE")


def _pool_for(url: URL) -> dict[str, t.Any]:
    if issubclass(t.cast("t.Any", url.get_dialect()).get_pool_class(url), SingletonThreadPool):
        # A database in memory exists only in its connection, so there is one connection, for one user at a time.
        arguments = {"check_same_thread": False}
        one = {"pool_size": 1, "max_overflow": 0, "pool_timeout": POOL_TIMEOUT}
        return {"poolclass": QueuePool, **one, "connect_args": arguments}
    return {"poolclass": NullPool}


def _check_arguments(engine: Engine) -> None:
    """Refuse arguments that the driver does not know: the driver itself would refuse them only when it connects."""
    with contextlib.suppress(ValueError):  # some drivers' functions have no signature
        signature = inspect.signature(engine.dialect.loaded_dbapi.connect)
        args, kwargs = engine.dialect.create_connect_args(engine.url)
        signature.bind(*args, **kwargs)


def _set_up_sqlite(connection: t.Any, _record: object) -> None:
    """Set SQLite so that readers do not wait for the writer, nor a writer for the disk. A power cut may lose the last
    writes.
    """
    try:
        with contextlib.suppress(connection.OperationalError):  # others may be making the same change
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: a sweep takes half as long as with 1000
    except connection.Error:  # the file is not a database
        connection.close()
        raise


def _make_sqlite_file(_dialect: object, _record: object, args: t.Any, kwargs: t.Any) -> None:
    """Create the database's file, and its folder, so that other users cannot read them. SQLite creates its other files
    with the same rights.
    """
    if not kwargs.get("uri"):
        with contextlib.suppress(OSError):
            Path(args[0]).parent.mkdir(0o700, parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # an existing file must not be opened: closing it would drop SQLite's locks
            os.close(os.open(args[0], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _keep_spare(args[0])


def _keep_spare(path: str) -> None:
    """Reserve some space beside a database, for when the disk is full."""
    if not hasattr(os, "posix_fallocate"):
        return  # macOS and Windows cannot reserve space
    with contextlib.suppress(OSError):  # it exists already; or it cannot be made, and then no space is reserved
        room = os.statvfs(Path(path).parent)
        if room.f_bavail * room.f_frsize < 2 * _SPARE_SIZE:
            return  # the disk is nearly full, so do not take the rest
        descriptor = os.open(path + _SPARE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SPARE_SIZE)
        except OSError:
            Path(path + _SPARE).unlink()
        finally:
            os.close(descriptor)


def give_up_spare(path: str) -> bool:
    """Free the reserved space; False if there was none. SQLite needs some space even to remove a row."""
    try:
        Path(path + _SPARE).unlink()
    except OSError:
        return False
    return True


def _with_deadline(engine: Engine, settings: dict[str, t.Any]) -> None:
    """Make psycopg give up when a server hangs; by default it waits for ever."""
    import psycopg

    class Connection(psycopg.Connection[t.Any]):
        is_to_be_cancelled = True

        def wait(self, gen: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
            try:
                return _carry_on(gen, self.pgconn.socket, time.monotonic() + TIMEOUT)
            except TimeoutError as error:
                if self.is_to_be_cancelled:
                    _cancel(self)
                self.close()  # a reply may still be under way, and the next statement would take it for its own
                raise psycopg.OperationalError("no answer in time") from error

        def __del__(self, *_args: object) -> None:
            """Suppress psycopg's warning: a collected connection is closed, if this process has opened it."""

    def connect(_dialect: object, _record: object, args: t.Any, kwargs: t.Any) -> t.Any:
        return Connection.connect(*args, **{**settings, **kwargs})

    sa.event.listen(engine, "do_connect", connect)


@contextlib.contextmanager
def going_on(connection: sa.Connection) -> t.Iterator[None]:
    """A context in which a statement that takes too long goes on at the server, though we give up: making an index may
    take long.
    """
    driver: t.Any = connection.connection.dbapi_connection
    if not hasattr(driver, "is_to_be_cancelled"):
        yield
        return
    driver.is_to_be_cancelled = False
    yield
    driver.is_to_be_cancelled = True  # not needed after an error: the connection is closed then


def _cancel(connection: t.Any) -> None:
    """Tell the server that nobody waits for its reply any more, if that can be done with a time-out."""
    from psycopg import capabilities

    if capabilities.has_cancel_safe():  # the older way has no time-out
        with contextlib.suppress(Exception):
            connection.cancel_safe(timeout=_CANCEL_TIMEOUT)


def _carry_on(steps: t.Generator[int, int, t.Any], socket: int, deadline: float) -> t.Any:
    """Run an exchange with the server: the generator says what it waits for, and is told what is possible."""
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(_until_ready(socket, wanted, max(deadline - time.monotonic(), 0)))
    except StopIteration as stop:
        return stop.value


def _until_ready(socket: int, wanted: int, seconds: float) -> int:
    """Wait until reading or writing, as wanted, is possible, and return which.

    gevent may replace both functions of the module ``select`` at any time; eventlet removes ``poll``.
    """
    ready = _poll(socket, wanted, seconds) if hasattr(select, "poll") else _select(socket, wanted, seconds)
    if not ready:
        raise TimeoutError
    return ready


def _poll(socket: int, wanted: int, seconds: float) -> int:
    waiting = select.poll()
    waiting.register(socket, (select.POLLIN if wanted & _READ else 0) | (select.POLLOUT if wanted & _WRITE else 0))
    ready = 0
    for _, events in waiting.poll(seconds * 1000):
        # Other events (an error, the end) are noticed by reading or writing.
        ready |= _READ if events & ~select.POLLOUT else 0
        ready |= _WRITE if events & ~select.POLLIN else 0
    return ready & wanted


def _select(socket: int, wanted: int, seconds: float) -> int:
    reading, writing = [socket] * bool(wanted & _READ), [socket] * bool(wanted & _WRITE)
    readable, writable, _ = select.select(reading, writing, [], seconds)
    return (_READ if readable else 0) | (_WRITE if writable else 0)
