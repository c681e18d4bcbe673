"""Sweeper: cleans up the store a little, beside requests that make new sessions. So nobody has to set up a timer."""

from __future__ import annotations

import logging
from datetime import timedelta

from .stores.base import SessionStore, Sweeps

logger = logging.getLogger("flask_sessionstore")

# So many sessions are removed at once: that takes two or three milliseconds, which the next request may have to wait.
_MOST = 50
_NEVER = float("-inf")


class Sweeper:
    """Removes expired sessions from one store, at most once in an interval in this process.

    :param store: a store that does not sweep (see :meth:`.Sweeps.sweep`) is left alone.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._last = _NEVER

    def is_due(self, interval: timedelta | None) -> bool:
        """Whether the caller is to sweep now, after it has made a new session. Others are not told to, meanwhile.

        :param interval: the time from one sweep to the next; None: nobody sweeps.
        """
        if interval is None:
            return False
        now = self._store.now()
        # If the clock was set back, the last sweep was in the future, and says nothing.
        if self._last <= now < self._last + interval.total_seconds():
            return False
        self._last = now
        return True

    def sweep(self) -> None:
        """Remove some. If there are more, the next sweep is due at once. A failure is logged, since no caller waits."""
        try:
            sweeps = self._store.ability(Sweeps)
            if sweeps is not None and sweeps.sweep(_MOST):
                self._last = _NEVER
        except Exception as error:
            logger.warning("expired sessions could not be removed: %s", type(error).__name__, exc_info=error)
