"""The columns of ``flask sessions list``."""

from __future__ import annotations

import typing as t

from .as_json import Facts
from .handles import SHORT
from .rendering import DAMAGED, Column

#: The widths of times: "13 days ago", and "2026-01-01T09:00:00Z".
RELATIVE, EXACT = 12, 20

#: With ``--wide``.
WIDE = (
    Column("handle", 64),
    Column("created_at", EXACT),
    Column("extended_at", EXACT),
    Column("expires_at", EXACT),
    Column("bytes", 8),
    Column("owner", 20),
    Column("client", 8),
)


def columns(*, times: int, owners: bool, clients: bool) -> list[Column]:
    """The columns within 80 characters.

    :param times: the width of times.
    :param owners: whether to show owners.
    :param clients: whether to show clients.
    """
    return [
        Column("handle", SHORT),
        Column("extended_at", times),
        Column("expires_at", times),
        *([Column("owner", 14)] if owners else []),
        *([Column("client", 8)] if clients else []),
    ]


def for_people(rows: t.Iterator[Facts], wide: bool) -> t.Iterator[Facts]:
    """Rows as a table shows them: with short handles, and a word for damaged records."""
    for row in rows:
        said = {"extended_at": DAMAGED} if row["damaged"] else {}
        yield {**row, **said, "handle": row["handle"] if wide else row["handle"][:SHORT]}
