"""Contact: whether the engine of a store answers this process. While it does not, most requests need not wait for it.

An engine that hangs costs every request that needs it a time-out, and soon all threads wait. So after two time-outs in
a row the engine is not asked for a pause: calls fail at once. Then one call at a time asks it again, and as soon as it
answers, all calls ask. What must not be refused without need asks at any time (see :func:`urgently`).

A connection on which a time-out ran out is closed, so two time-outs in a row are two connections. A row or a file that
is locked, or a pool without a free connection, is no time-out here: it may concern one session, or this process alone.

Nothing is locked, as in :mod:`.pool`: threads may be replaced by greenlets at any time. What a process knows belongs to
it: it is kept under the process id, which a child does not have.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import logging
import os
import time
import typing as t
import weakref

from ..errors import StoreUnavailable

logger = logging.getLogger("flask_sessionstore")

R = t.TypeVar("R")
H = t.TypeVar("H")

# So many time-outs in a row begin a pause.
_IN_A_ROW = 2

_is_urgent = contextvars.ContextVar("flask_sessionstore_urgent", default=False)


class urgently(contextlib.ContextDecorator):  # noqa: N801  - as the context managers of contextlib are called
    """A context in which the engine is asked even during a pause: for ends, for sign-ins, and to see how it is.

    Also a decorator. A class, since a sign-in enters it twice, and a generator takes four times as long.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _is_urgent.set(True)

    def __exit__(self, *_: object) -> None:
        _is_urgent.reset(self._token)

    def _recreate_cm(self) -> urgently:
        return urgently()  # each call of a decorated function has its own, since threads may overlap


class Contact:
    """What this process knows about one engine. A store passes every exchange with its engine through :meth:`ask`."""

    def __init__(self) -> None:
        self.pause = 0.0
        """For how many seconds an engine that hangs is not asked; 0: every call asks. SESSION_OUTAGE_PAUSE sets it."""
        # By process id; empty as long as the engine answers, which is the only thing that costs every call something.
        self._outages: dict[int, _Outage] = {}
        self._listeners: weakref.WeakKeyDictionary[t.Any, t.Callable[[t.Any], object]] = weakref.WeakKeyDictionary()

    def listen(self, who: H, recovered: t.Callable[[H], object]) -> None:
        """Call ``recovered(who)`` when the engine answers again, for as long as ``who`` lives."""
        self._listeners[who] = recovered

    @property
    def is_troubled(self) -> bool:
        """Whether the engine failed when it was last asked. As long as it answers, nothing need be asked urgently."""
        return bool(self._outages)

    def ask(self, exchange: t.Callable[..., R], *args: t.Any) -> R:
        """What ``exchange(*args)`` returns.

        :raises StoreUnavailable: as the exchange raises it, with ``lost`` set; at once during a pause.
        """
        if self._outages and (outage := self._outages.get(os.getpid())) is not None:
            return self._ask_in(outage, exchange, args)
        try:
            return exchange(*args)
        except StoreUnavailable as error:
            self._note(error)
            raise

    def _ask_in(self, outage: _Outage, exchange: t.Callable[..., R], args: tuple[t.Any, ...]) -> R:
        waits = self.pause > 0 and outage.hangs and not _is_urgent.get()
        if waits:
            outage.take_turn()
        try:
            result = exchange(*args)
        except StoreUnavailable as error:
            self._note(error)
            raise
        finally:
            if waits:
                outage.turns.append(None)
        if self._outages.pop(os.getpid(), None) is not None:
            for who, recovered in list(self._listeners.items()):
                try:
                    recovered(who)
                except Exception:  # the call has succeeded
                    logger.exception("the recovery of the session store could not be told")
        return result

    def _note(self, error: StoreUnavailable) -> None:
        if error.lost is not None:
            self._outages.setdefault(os.getpid(), _Outage()).note(error, self.pause)


class _Outage:
    """The time from the first failure until the engine answers again."""

    def __init__(self) -> None:
        #: Holds one item, which who asks during a pause takes out.
        self.turns = collections.deque([None])
        self._timeouts: collections.deque[None] = collections.deque(maxlen=_IN_A_ROW)
        self._resumes_at = 0.0

    @property
    def hangs(self) -> bool:
        """Whether the engine lets everybody wait."""
        return len(self._timeouts) == _IN_A_ROW

    def note(self, error: StoreUnavailable, pause: float) -> None:
        """Count a failure. One that is no time-out ends the row: to ask costs nobody any time."""
        if error.lost == "timed out":
            self._timeouts.append(None)
            self._resumes_at = time.monotonic() + pause
        else:
            self._timeouts.clear()

    def take_turn(self) -> None:
        """Return if the caller may ask the engine.

        :raises StoreUnavailable: if the pause is not over, or another call asks already.
        """
        if time.monotonic() >= self._resumes_at:
            with contextlib.suppress(IndexError):
                self.turns.pop()
                return
        raise StoreUnavailable(
            "the session store has not answered in time, and is not asked again for a moment", lost="timed out"
        )
