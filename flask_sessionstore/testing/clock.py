"""A clock that a test moves."""

from __future__ import annotations

import time
import typing as t
from datetime import timedelta

if t.TYPE_CHECKING:
    from ..stores.base import SessionStore


class Clock:
    """A clock that stands still until it is moved. Sessions use the clock of their store::

        clock = Clock()
        clock.set(store)
        clock.advance(hours=2)

    :param now: the time that it shows, in seconds since 1970; None: the time when it is made.
    """

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now
        """The time that it shows, in seconds since 1970."""

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float = 0, **more: float) -> None:
        """Let time pass.

        :param more: days, hours, minutes, as in ``timedelta``.
        """
        self.now += timedelta(seconds=seconds, **more).total_seconds()

    def set(self, store: SessionStore) -> None:
        """Make ``store`` use this clock from now on."""
        store.clock = self
