"""SQLite's file: whether it can be made, and what is risky about it."""

from __future__ import annotations

import stat
import typing as t
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import Engine

from ..exposure import network_risk
from ..places import is_there, temporary_risk, try_to_make_in


class SQLiteFile:
    """The file of an SQLite database.

    :param path: where it is, or will be.
    :param by_uri: whether SQLite gets a URI, which may forbid to make it.
    """

    def __init__(self, path: str, *, by_uri: bool) -> None:
        self.path = Path(path).absolute()
        """Where it is, or will be."""
        self._by_uri = by_uri

    @classmethod
    def of(cls, engine: Engine) -> t.Self | None:
        """The file of an Engine's database; None for other databases, and for SQLite in memory."""
        name = engine.url.database if engine.dialect.name == "sqlite" else None
        if not name or name == ":memory:" or "memory" in engine.url.query.values():
            return None
        path = unquote(name.removeprefix("file:").removeprefix("//"))
        return cls(path, by_uri=name.startswith("file:"))

    @property
    def may_be_opened(self) -> bool:
        """Whether SQLite can be asked without making the file as this user.

        :raises StoreUnavailable: if this user cannot see that.
        """
        return self._by_uri or is_there(self.path)

    def try_to_make(self) -> None:
        """Find out whether the file can be made.

        :raises OSError: if it cannot.
        """
        try_to_make_in(self.path.parent)

    def risks(self, journal_mode: str) -> list[str]:
        """What is risky about the file, and about SQLite's ``journal_mode``."""
        what, path = "SQLite's file", str(self.path)
        return [
            *network_risk(what, path),
            *temporary_risk(what, path),
            *(self._rights() if self.path.exists() else ()),
            *_journal(journal_mode),
        ]

    def _rights(self) -> t.Iterator[str]:
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & 0o077:
            yield (
                f"SQLite's file has the mode {mode:o}, so other users of this machine can read the sessions: chmod 600,"
                " or use a separate database for the sessions."
            )


def place_of(engine: Engine) -> str:
    """What an Engine connects to, for people: a file, or a URL without its password, and without options, among which
    drivers take a password, too.
    """
    file = SQLiteFile.of(engine)
    return f"the database {engine.url.set(query={})!r}" if file is None else f"the file {file.path}"


def _journal(mode: str) -> t.Iterator[str]:
    if mode not in ("wal", "memory"):
        yield (
            f"SQLite's journal_mode is {mode}, so requests that read wait for each request that writes: run 'PRAGMA"
            " journal_mode = WAL' once in this database."
        )
