"""Connections, each lent to one exchange: of an engine that this package made, or of the application's engine."""

from __future__ import annotations

import os
import typing as t
import weakref

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Engine

from ..pool import PerProcess, Pool
from .errors import is_read_only, is_sound

R = t.TypeVar("R")


class Connections(t.Protocol):
    """A source of connections."""

    def lend(self, exchange: t.Callable[..., R], *args: t.Any) -> R:
        """What ``exchange(connection, *args)`` returns."""

    def clear(self) -> None:
        """Close unused connections, since they are probably broken."""


class CannotConnect(exc.SQLAlchemyError):
    """A driver raised an exception of its own, for instance when something else than a database answered."""


class _Opened(t.NamedTuple):
    """SQLAlchemy's connection and the driver's. After a failure SQLAlchemy forgets the driver's, and leaves it open."""

    connection: Connection
    driver: t.Any


class _Kept:
    """Connections of our own pool."""

    def __init__(self, pool: Pool[_Opened]) -> None:
        self._pool = pool

    def lend(self, exchange: t.Callable[..., R], *args: t.Any) -> R:
        return t.cast("R", self._pool.lend(_by_opened, exchange, args))

    def clear(self) -> None:
        self._pool.clear()


def _by_opened(opened: _Opened, exchange: t.Callable[..., R], args: tuple[t.Any, ...]) -> R:
    return exchange(opened.connection, *args)


def kept(engine: Engine, *, most: int, patience: float) -> _Kept:
    """Connections of an engine without a pool, kept in our own pool: taking a connection out of SQLAlchemy's pool and
    giving it back costs as much as a short statement.

    :param most: how many connections there may be at once in one process.
    :param patience: how many seconds to wait for a connection.
    """
    pool = Pool(_FirstAlone(engine, patience), _close, most=most, patience=patience, is_sound=is_sound)
    found = weakref.ref(pool)  # with a strong reference, the engine and the pool would never be collected

    def clear(_engine: object) -> None:
        if (pool := found()) is not None:
            pool.clear()

    sa.event.listen(engine, "engine_disposed", clear)
    return _Kept(pool)


class _FirstAlone:
    """Opens connections, and the first connection while nobody else opens one.

    When an engine first connects, it asks the server some questions, and holds a lock meanwhile. If the lock was made
    before gevent replaced threads, waiting for it would last for ever.
    """

    def __init__(self, engine: Engine, patience: float) -> None:
        self._engine = engine
        self._turn = Pool(object, id, most=1, patience=patience, is_sound=lambda error: True)
        self._is_over = False

    def __call__(self) -> _Opened:
        first = None if self._is_over else self._turn.lend(self._connect_first)
        connection = _connect(self._engine) if first is None else first
        driver = connection.connection.dbapi_connection
        connection.detach()  # otherwise SQLAlchemy would close it when it is collected, even in a child process
        return _Opened(connection, driver)

    def _connect_first(self, _turn: object) -> Connection | None:
        if self._is_over:
            return None
        connection = _connect(self._engine)
        self._is_over = True
        return connection


class Borrowed:
    """Connections from an engine's own pool.

    A child process neither uses nor closes its parent's connections.

    :param sound: tells whether a connection can be used again after an exchange that raised this error.
    """

    def __init__(self, engine: Engine, sound: t.Callable[[BaseException], bool] = is_sound) -> None:
        self._engine, self._is_sound = engine, sound
        self._first_process = os.getpid()
        self._parents: list[object] = []
        self._process = PerProcess(self._begin)

    def lend(self, exchange: t.Callable[..., R], *args: t.Any) -> R:
        self._process.get()
        with _connect(self._engine) as connection:
            try:
                return exchange(connection, *args)
            except BaseException as error:
                if not (connection.invalidated or self._is_sound(error)):
                    connection.invalidate()
                if is_read_only(error):
                    self._engine.dispose()
                raise

    def clear(self) -> None:
        """Do nothing: the engine's own pool knows which connections are lost."""

    def _begin(self) -> int:
        pid = os.getpid()
        if pid != self._first_process:
            self._parents.append(self._engine.pool)  # keep it: a collected pool closes its connections
            self._engine.dispose(close=False)
        return pid


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except exc.SQLAlchemyError:
        raise
    except Exception as error:
        raise CannotConnect(f"{engine.dialect.driver} failed to connect") from error


def _close(opened: _Opened) -> None:
    """Close a connection at once. SQLAlchemy would end a transaction first, and wait for the reply."""
    opened.driver.close()
