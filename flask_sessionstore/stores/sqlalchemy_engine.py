"""The engine that a URL means, made for sessions alone: it commits by itself, and never waits for long.

And the connections of any engine, handed out one at a time.
"""

from __future__ import annotations

import contextlib
import inspect
import selectors
import threading
import time
import typing as t

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import QueuePool, SingletonThreadPool

from ..errors import ConfigurationError

#: Seconds to wait for a connection, for an answer, and for a place in the pool, with an engine made from a URL.
#: (Drivers of PostgreSQL take two for the least.)
CONNECT_TIMEOUT, TIMEOUT, POOL_TIMEOUT = 1, 2, 1
# For a lock: sooner than an answer is given up, so that nothing goes on waiting at the server.
_LOCK_TIMEOUT = TIMEOUT - 1
# Seconds until a connection is made anew: where something on the way forgets what is idle, it dies without a word.
_RECYCLE = 300

# The drivers that this store is tested with. A URL may name another.
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_PACKAGES = {
    "psycopg": "psycopg[binary]",
    "pymysql": "pymysql[rsa]",  # what MySQL 8 asks of a password is otherwise not understood
    "MySQLdb": "mysqlclient",
}
_WAITS: dict[str, object] = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": TIMEOUT, "write_timeout": TIMEOUT}
#: Driver -> the arguments of its URL that end waiting. psycopg has none for an answer: see _with_deadline.
_TIMEOUTS: dict[str, dict[str, object]] = {
    "pysqlite": {"timeout": TIMEOUT},
    "psycopg": {"connect_timeout": CONNECT_TIMEOUT},
    "psycopg2": {"connect_timeout": CONNECT_TIMEOUT},
    "pymysql": _WAITS,
    "mysqldb": _WAITS,
}

# Spares MySQL a round trip. Since SQLAlchemy 2.0.43.
_SPARING = {
    name: True for name in inspect.signature(DefaultDialect.__init__).parameters if name == "skip_autocommit_rollback"
}

# The cheapest that is good for any number of open files. (There are none of these on Windows, nor its limit.)
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


def make_engine(text: str) -> Engine:
    """The engine for a URL. It connects to nothing yet.

    :raises ConfigurationError: if the URL cannot work, or its driver is not installed.
    """
    url = _parse(text)
    try:
        driver = url.get_dialect().driver
        defaults = {name: str(value) for name, value in _TIMEOUTS.get(driver, {}).items()}
        if driver in ("pymysql", "mysqldb"):
            defaults["init_command"] = f"SET SESSION innodb_lock_wait_timeout = {_LOCK_TIMEOUT}"
        engine = sa.create_engine(
            url.set(query={**defaults, **url.query}),
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,  # there is never a transaction to end
            hide_parameters=True,
            **_pool_for(url),
            **_SPARING,
        )
        _check_arguments(engine)
    except ImportError as error:  # not there, or without a library that it needs
        name = error.name if isinstance(error, ModuleNotFoundError) else url.get_driver_name()
        raise ConfigurationError(
            f"SESSION_STORE needs a driver that is not installed: pip install '{_PACKAGES.get(name or '', name)}'",
            key="SESSION_STORE",
        ) from error
    except (exc.ArgumentError, exc.InvalidRequestError, TypeError, ValueError) as error:
        why = f": {error}" if isinstance(error, (exc.NoSuchModuleError, TypeError)) else ""
        raise ConfigurationError(f"SESSION_STORE: SQLAlchemy refuses the URL{why}", key="SESSION_STORE") from None
    if driver == "pysqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _set_up_postgresql)
    if driver == "psycopg":
        _with_deadline(engine)
    return engine


def _parse(url: str) -> URL:
    """The URL, with a driver and its time-outs where it names none."""
    scheme = url.partition(":")[0]
    if scheme.partition("+")[0] == "postgres":
        raise ConfigurationError(f'SESSION_STORE: write "postgresql+psycopg://" for "{scheme}://"', key="SESSION_STORE")
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        # It may quote the URL. Not chained, for a cause may be logged.
        raise ConfigurationError(
            "SESSION_STORE is no URL that SQLAlchemy reads: percent-encode what is special in a password",
            key="SESSION_STORE",
        ) from None
    if scheme in _DRIVERS:
        parsed = parsed.set(drivername=f"{scheme}+{_DRIVERS[scheme]}")
    return parsed


def _pool_for(url: URL) -> dict[str, t.Any]:
    if issubclass(t.cast("t.Any", url.get_dialect()).get_pool_class(url), SingletonThreadPool):
        # A database in memory is its connection. Whoever uses it has it to himself.
        arguments = {"check_same_thread": False}
        return {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "connect_args": arguments}
    return {"pool_timeout": POOL_TIMEOUT, "pool_use_lifo": True, "pool_recycle": _RECYCLE}


def _check_arguments(engine: Engine) -> None:
    """A driver would refuse an argument that it does not know only when it connects."""
    with contextlib.suppress(ValueError):  # not every driver says what it takes
        signature = inspect.signature(engine.dialect.loaded_dbapi.connect)
        args, kwargs = engine.dialect.create_connect_args(engine.url)
        signature.bind(*args, **kwargs)


def _set_up_sqlite(connection: t.Any, _record: object) -> None:
    """Readers do not wait for the writer, nor a writer for the disk: the last writes may be lost in a power cut."""
    try:
        with contextlib.suppress(connection.OperationalError):  # while others make the same change
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: a sweep takes half as long as with 1000
    except connection.Error:  # the file is no database
        connection.close()
        raise


def _set_up_postgresql(connection: t.Any, _record: object) -> None:
    """Outside a transaction, whose end would undo it."""
    before, connection.autocommit = connection.autocommit, True
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {_LOCK_TIMEOUT * 1000}")
    connection.autocommit = before


class _CannotConnect(exc.SQLAlchemyError):
    """A driver failed in a way of its own: where something else than a database answers, for one."""


class Connections:
    """An engine's connections, each handed out for one statement.

    To take one out of the pool and to give it back costs as much as a short statement does, so that some are kept out
    of it. They belong to no thread: a thread that ends leaves none behind.

    :param keep: how many to keep out of the pool.
    """

    def __init__(self, engine: Engine, *, keep: int = 0) -> None:
        self._engine, self._keep = engine, keep
        self._kept: list[tuple[Connection, float]] = []  # and when they came out of the pool; the last used is last
        self._lock = threading.Lock()
        if keep:
            sa.event.listen(engine, "engine_disposed", self._close_kept)

    @contextlib.contextmanager
    def one(self) -> t.Iterator[Connection]:
        """A connection for one statement."""
        connection, since = self._take()
        try:
            yield connection
        except BaseException:
            connection.close()
            for other in self._emptied():  # if they are as bad, the pool knows it
                other.close()
            raise
        self._give_back(connection, since)

    def after_fork(self) -> object:
        """In a child process: forget those that were kept. They are returned, for they must not be collected either."""
        self._lock = threading.Lock()
        return self._emptied()

    def _take(self) -> tuple[Connection, float]:
        now = time.monotonic()
        with contextlib.suppress(IndexError):
            while True:
                connection, since = self._kept.pop()
                if now - since < _RECYCLE:
                    return connection, since
                connection.close()
        try:
            return self._engine.connect(), now
        except exc.SQLAlchemyError:
            raise
        except Exception as error:
            raise _CannotConnect(f"{self._engine.dialect.driver} failed to connect") from error

    def _give_back(self, connection: Connection, since: float) -> None:
        with self._lock:  # were more than these kept, somebody could wait for the pool in vain
            if len(self._kept) < self._keep:
                self._kept.append((connection, since))
                return
        connection.close()

    def _emptied(self) -> list[Connection]:
        """Those that were kept, which no longer are."""
        with self._lock:
            kept, self._kept = self._kept, []
        return [connection for connection, _ in kept]

    def _close_kept(self, _engine: object) -> None:
        for connection in self._emptied():
            connection.invalidate()
            connection.close()


def _with_deadline(engine: Engine) -> None:
    """Let psycopg give up a server that hangs; by itself it waits for ever."""
    import psycopg

    class Connection(psycopg.Connection[t.Any]):
        def wait(self, gen: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
            try:
                return _carry_on(gen, self.pgconn.socket, time.monotonic() + TIMEOUT)
            except TimeoutError as error:
                self.close()  # a reply may be under way, which the next statement would take for its own
                raise psycopg.OperationalError("no answer in time") from error

    def connect(_dialect: object, _record: object, args: t.Any, kwargs: t.Any) -> t.Any:
        return Connection.connect(*args, **kwargs)

    sa.event.listen(engine, "do_connect", connect)


def _carry_on(steps: t.Generator[int, int, t.Any], socket: int, deadline: float) -> t.Any:
    """An exchange with the server, which asks to wait (to read: 1, to write: 2) and is told what is possible."""
    try:
        wanted = next(steps)
        with _Selector() as selector:
            selector.register(socket, wanted)
            while True:
                ready = selector.select(max(deadline - time.monotonic(), 0))
                if not ready:
                    raise TimeoutError
                wanted = steps.send(ready[0][1])
                selector.modify(socket, wanted)
    except StopIteration as stop:
        return stop.value
