"""Times and spans of time as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

# Seconds in a unit; from how many units on it is used; its name.
_UNITS = ((86_400, 2, "days"), (3600, 1, "h"), (60, 1, "min"), (1, 1, "s"))
_SPAN = re.compile(r"(\d+)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
# Seconds: nearly a hundred years. More may be more than a timedelta can hold.
_LONGEST = 3_000_000_000


def relative(when: datetime, now: datetime) -> str:
    """How far a time is from now: "3 min ago", "in 14 days"."""
    seconds = (when - now).total_seconds()
    span = _span(abs(seconds))
    if span is None:
        return "now"
    return f"in {span}" if seconds > 0 else f"{span} ago"


def _span(seconds: float) -> str | None:
    """A span in one unit; None if it is shorter than any."""
    for size, least, name in _UNITS:
        count = round(seconds / size)
        if count >= least and seconds >= (least - 0.01) * size:
            return f"{count} {name}"
    return None


def iso(when: datetime) -> str:
    """A time in UTC, to the second: "2026-01-01T09:00:00Z"."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(text: str) -> timedelta:
    """A span of time as it is typed: a number of seconds, or a number with ``s``, ``m``, ``h`` or ``d``.

    :raises click.BadParameter: if it is something else.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise click.BadParameter("give a number of seconds, or a number with s, m, h or d: 90, 30m, 2h, 7d")
    return timedelta(seconds=min(int(found[1]) * _SECONDS[found[2]], _LONGEST))
