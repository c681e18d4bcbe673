"""For FileSystemStore: how long, and in what steps, it waits for what others are doing with a file."""

from __future__ import annotations

import random
import time
import typing as t

#: Seconds. An exchange takes a fraction of a millisecond.
PATIENCE = 2.0
# Seconds. If pauses grew further, the longest waiter would ask least often.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.002


def pauses() -> t.Iterator[None]:
    """Wait a moment before each next step, until patience is over."""
    # The slept time is also counted separately, since a test may have stopped the clock.
    begun, slept, pause = time.monotonic(), 0.0, _FIRST_PAUSE
    while max(slept, time.monotonic() - begun) < PATIENCE:
        span = random.uniform(pause / 2, pause)  # noqa: S311  - not used for security
        time.sleep(span)
        slept += span
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        yield
