"""Time as a test wants it."""

from __future__ import annotations


class Clock:
    """Time as the test wants it: called, it gives seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
