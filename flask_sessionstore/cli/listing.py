"""Which sessions ``flask sessions list`` shows, and in which order."""

from __future__ import annotations

import heapq
import re
import typing as t
from datetime import UTC, datetime, timedelta

import click

from ..record import SessionInfo
from ..stores.base import ServerSideStore, SessionStore
from . import survey
from .as_json import Facts

#: By what a list can be sorted -> the field of its rows, and whether the largest comes first.
SORTS = {
    "created": ("created_at", True),
    "extended": ("extended_at", True),
    "expires": ("expires_at", False),
    "size": ("bytes", True),
    "owner": ("owner", False),
}

_SIZE = re.compile(r"(\d+)([kKmM]?)[bB]?")
_BYTES = {"": 1, "k": 1000, "m": 1_000_000}


def size(text: str) -> int:
    """A number of bytes as it is typed: a number, or a number with ``k`` or ``M``.

    :raises click.BadParameter: if it is something else.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise click.BadParameter("give a number of bytes, or a number with k or M: 500, 20k, 1M")
    return int(found[1]) * _BYTES[found[2].lower()]


class Which(t.NamedTuple):
    """What is asked of a session to be shown; None, or False: nothing."""

    anonymous: bool = False
    #: A part of the client's text, in upper or lower case.
    client: str | None = None
    #: How long ago the session was last extended, at least.
    idle: timedelta | None = None
    #: More bytes than this.
    larger: int | None = None

    def takes(self, row: Facts, now: datetime) -> bool:
        """Whether to show a row. Of a damaged record only its size is known."""
        if row["damaged"]:
            return not (self.anonymous or self.client or self.idle) and self._is_large(row)
        return (
            not (self.anonymous and row["owner"] is not None)
            and (self.client is None or self.client.casefold() in (row["client"] or "").casefold())
            and (self.idle is None or now - row["extended_at"] >= self.idle)
            and self._is_large(row)
        )

    def _is_large(self, row: Facts) -> bool:
        return self.larger is None or row["bytes"] > self.larger


def _of_everybody(store: SessionStore) -> t.Iterator[Facts]:
    """A row for each living session, and for each damaged record."""
    for handle, size, record in survey.living(store):
        yield survey.damaged(handle, size) if record is None else survey.listed(SessionInfo.of(handle, record), size)


def _of_one(store: ServerSideStore, found: t.Iterable[SessionInfo]) -> t.Iterator[Facts]:
    """A row for each session of an owner. The list of an owner does not tell the sizes of records."""
    for info in found:
        data = store.read(info.handle)
        if data is not None:
            yield survey.listed(info, len(data))


def now_of(store: SessionStore) -> datetime:
    """The present time by the store's clock."""
    return datetime.fromtimestamp(store.now(), UTC)


class Rows(t.Iterator[Facts]):
    """Rows that are counted as they are taken."""

    def __init__(self, rows: t.Iterator[Facts]) -> None:
        self._rows = rows
        self.count = 0

    def __next__(self) -> Facts:
        row = next(self._rows)
        self.count += 1
        return row


def rows(
    store: SessionStore, find: t.Callable[[str], t.Iterable[SessionInfo]], *, owner: str | None, **which: t.Any
) -> Rows:
    """The rows of those sessions that are asked for.

    :param find: finds the sessions of an owner.
    :param which: see :class:`Which`.
    :raises click.UsageError: if an owner's sessions are asked for, and those without an owner.
    """
    asked, now = Which(**which), now_of(store)
    if owner is not None and asked.anonymous:
        raise click.UsageError("--owner and --anonymous exclude each other.")
    found = _of_everybody(store) if owner is None else _of_one(t.cast("ServerSideStore", store), find(owner))
    return Rows(row for row in found if asked.takes(row, now))


def in_order(rows: t.Iterable[Facts], by: str, limit: int | None) -> t.Iterator[Facts]:
    """The first ``limit`` rows by a field. Only so many are held at a time. Rows that lack the field come last."""
    field, largest_first = SORTS[by]

    def place(row: Facts) -> tuple[bool, t.Any]:
        return (row[field] is not None) == largest_first, row[field]

    if limit is None:
        return iter(sorted(rows, key=place, reverse=largest_first))
    return iter((heapq.nlargest if largest_first else heapq.nsmallest)(limit, rows, key=place))
