"""What belongs to one process, and connections that belong to one exchange.

Some servers fork in C, after the application was loaded (uWSGI), and call none of the hooks that Python has for that:
so whose something is, its process id tells, at every use. Others (gevent, eventlet) replace what a thread is, before
or after the application was made: so nothing here belongs to a thread, and nothing is locked. What is taken from a
deque, or set in a dict, is taken or set in one step.
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

#: How many connections a store may have open at once in one process, where nothing else is said.
MAX_CONNECTIONS = 64
# Of connections that nobody uses, so many stay open. More than these are closed after so many seconds.
_SPARE, _SPARE_TIME = 8, 60.0
# After so many seconds without use a connection is not believed any more: where something on the way (a firewall, a
# balancer) forgets what is idle, it dies without a word.
_STALE_TIME = 300.0
# Seconds between two looks for a free connection.
_PAUSE = 0.005


class PerProcess(t.Generic[T]):
    """Something that a process has for itself, made at first use. A child never meets its parent's.

    A parent's is neither used nor closed, for to close some connections is to end them for the parent as well.

    :param make: makes one.
    """

    def __init__(self, make: t.Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """This process's own."""
        pid = os.getpid()
        try:
            return self._made[pid]
        except KeyError:
            return self._made.setdefault(pid, self._make())  # of two threads that make one, one is heard

    def peek(self) -> T | None:
        """This process's own, if it was made."""
        return self._made.get(os.getpid())


class NoneFree(Exception):
    """All connections that there may be were in use for as long as somebody waits for one."""


class Pool(t.Generic[C]):
    """Connections, each lent to one exchange at a time.

    :param connect: opens a connection.
    :param close: closes one; what it raises is ignored.
    :param most: how many may be open at once in one process.
    :param patience: for how many seconds to wait for one, where all are lent.
    :param is_sound: whether a connection is still good after an exchange that raised this error. Others are closed:
        a reply may be under way, which the next exchange would take for its own.
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
        # Not by __del__: connections are parts of cycles, and the garbage collector may come upon an open socket first.
        weakref.finalize(self, _close_kept, self._places, close)

    def lend(self, exchange: t.Callable[..., R], *args: t.Any) -> R:
        """What ``exchange(connection, *args)`` returns.

        :raises NoneFree: if no connection came free in time.
        """
        places, now, connection = self._places.get(), time.monotonic(), None
        try:
            connection, since = places.idle.pop()  # the last used first
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
        """Close all that nobody uses now: they lead to where nobody should talk to any more."""
        places = self._places.get()
        with contextlib.suppress(IndexError):
            while True:
                self._drop(places, places.idle.pop()[0])

    def _find(self, places: _Places[C], now: float, stale: C | None) -> C:
        """A new connection or, where there are as many as there may be, the next that comes free."""
        if stale is not None:
            self._drop(places, stale)
        waited = 0.0
        while not _popped(places.free):
            if places.idle:
                with contextlib.suppress(IndexError):  # somebody was faster
                    return places.idle.pop()[0]
            # What was waited counts by itself, for a test may have stopped the clock.
            if max(waited, time.monotonic() - now) >= self._patience:
                raise NoneFree
            pause = random.uniform(_PAUSE / 2, _PAUSE)  # noqa: S311  - no secret
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
    """Where the connections of one process are, except those that are lent."""

    __slots__ = ("free", "idle")

    def __init__(self, most: int) -> None:
        #: Those that nobody uses, and when their last exchange began (monotonic, in seconds); the last used is last.
        self.idle: collections.deque[tuple[C, float]] = collections.deque()
        #: One None for each that may still be opened.
        self.free = collections.deque([None] * most)


def _popped(free: collections.deque[None]) -> bool:
    """Whether there was a place to take."""
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
    with contextlib.suppress(Exception):  # nobody could do anything about it
        close(connection)
