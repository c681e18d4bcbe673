"""Objects that belong to one process, and connections that belong to one exchange.

Some servers (uWSGI) fork in C after the application was loaded, and do not call Python's hooks for forks. So every use
looks at the process id to see whose an object is. Other servers (gevent, eventlet) replace threads, before or after the
application was made. So nothing here belongs to a thread, and nothing is locked: taking an item from a deque, and
setting an item of a dict, are single steps.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import time
import typing as t
import weakref

T = t.TypeVar("T")
C = t.TypeVar("C")
R = t.TypeVar("R")

#: The default for how many connections a store may have open at once in one process.
MAX_CONNECTIONS = 64
# So many unused connections stay open. Further unused connections are closed after so many seconds.
_SPARE, _SPARE_TIME = 8, 60.0
# After so many seconds without use a connection is replaced: a firewall or balancer on the way may have silently
# forgotten an idle connection.
_STALE_TIME = 300.0
# Seconds to wait before looking for a free connection again.
_PAUSE = 0.005


class PerProcess(t.Generic[T]):
    """An object that each process has for itself, made at its first use. A child never uses its parent's object.

    The child does not close the parent's object either: closing some connections would end them for the parent too.

    :param make: makes the object.
    """

    def __init__(self, make: t.Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """This process's object."""
        pid = os.getpid()
        try:
            return self._made[pid]
        except KeyError:
            return self._made.setdefault(pid, self._make())  # if two threads make an object, both get the first

    def peek(self) -> T | None:
        """This process's object, if it was made already."""
        return self._made.get(os.getpid())


class NoneFree(Exception):
    """All connections were in use for as long as an exchange waits for one."""


class Pool(t.Generic[C]):
    """Connections, each lent to one exchange at a time.

    :param connect: opens a connection.
    :param close: closes a connection; what it raises is ignored.
    :param most: how many connections may be open at once in one process.
    :param patience: how many seconds to wait for a connection if all are lent.
    :param is_sound: whether a connection can be used again after an exchange that raised this error. If not, it is
        closed: a reply may still be under way, and the next exchange would take it for its own.
    """

    def __init__(
        self,
        connect: t.Callable[[], C],
        close: t.Callable[[C], object],
        *,
        most: int,
        patience: float,
        is_sound: t.Callable[[BaseException], bool] = lambda error: False,
    ) -> None:
        self._connect, self._close, self._is_sound = connect, close, is_sound
        self._patience = patience
        self._places = PerProcess(lambda: _Places[C](most))
        # Not __del__: connections are parts of cycles, and the garbage collector may find an open socket first.
        weakref.finalize(self, _close_kept, self._places, close)

    def lend(self, exchange: t.Callable[..., R], *args: t.Any) -> R:
        """What ``exchange(connection, *args)`` returns.

        :raises NoneFree: if no connection came free in time.
        """
        places, now, connection = self._places.get(), time.monotonic(), None
        try:
            connection, since = places.idle.pop()  # the most recently used connection
        except IndexError:
            since = now
        if connection is None or now - since > _STALE_TIME:
            connection = self._find(places, now, connection)
        try:
            result = exchange(connection, *args)
        except BaseException as error:
            if self._is_sound(error):
                places.idle.append((connection, now))
            else:
                self._drop(places, connection)
            raise
        places.idle.append((connection, now))
        if len(places.idle) > _SPARE:
            self._close_spares(places, now)
        return result

    def clear(self) -> None:
        """Close all unused connections: their server is not the right one any more, or has dropped them."""
        places = self._places.get()
        with contextlib.suppress(IndexError):
            while True:
                self._drop(places, places.idle.pop()[0])

    def _find(self, places: _Places[C], now: float, stale: C | None) -> C:
        """A new connection; if there are as many as allowed, the next that becomes free."""
        if stale is not None:
            self._drop(places, stale)
        waited = 0.0
        while not _popped(places.free):
            if places.idle:
                with contextlib.suppress(IndexError):  # another thread was faster
                    return places.idle.pop()[0]
            # The waited time is also counted separately, since a test may have stopped the clock.
            if max(waited, time.monotonic() - now) >= self._patience:
                raise NoneFree
            pause = random.uniform(_PAUSE / 2, _PAUSE)  # noqa: S311  - not used for security
            time.sleep(pause)
            waited += pause
        try:
            return self._connect()
        except BaseException:
            places.free.append(None)
            raise

    def _close_spares(self, places: _Places[C], now: float) -> None:
        with contextlib.suppress(IndexError):
            while len(places.idle) > _SPARE and now - places.idle[0][1] >= _SPARE_TIME:
                self._drop(places, places.idle.popleft()[0])

    def _drop(self, places: _Places[C], connection: C) -> None:
        _close_one(connection, self._close)
        places.free.append(None)


class _Places(t.Generic[C]):
    """The connections of one process, except those that are lent."""

    __slots__ = ("free", "idle")

    def __init__(self, most: int) -> None:
        #: The unused connections, and when their last exchange began (monotonic, in seconds); most recently used last.
        self.idle: collections.deque[tuple[C, float]] = collections.deque()
        #: One None for each connection that may still be opened.
        self.free = collections.deque([None] * most)


def _popped(free: collections.deque[None]) -> bool:
    """Take a place; return whether there was one."""
    try:
        free.pop()
    except IndexError:
        return False
    return True


def _close_kept(places: PerProcess[_Places[C]], close: t.Callable[[C], object]) -> None:
    found = places.peek()
    for connection, _ in found.idle if found is not None else ():
        _close_one(connection, close)


def _close_one(connection: C, close: t.Callable[[C], object]) -> None:
    with contextlib.suppress(Exception):  # a caller could not do anything about it
        close(connection)
