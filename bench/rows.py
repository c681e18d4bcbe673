"""Whether a table of very many sessions is slower than a table of a thousand.

It measures the store's operations only: the rest of a request does not depend on the number of sessions.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import typing as t
from datetime import timedelta
from time import perf_counter

import sqlalchemy as sa

from flask_sessionstore import owners
from flask_sessionstore.key import SessionKey
from flask_sessionstore.layout import pack
from flask_sessionstore.record import Record, new_revision

from .apps import Place
from .cases import Case
from .engines import sqlalchemy_store
from .measure import measure
from .scenarios import SMALL
from .tables import figure

EXPIRED = 1_000
OWNER, OWNED = "ada", 100
FIND = f"find({OWNED})"
SWEEPS = 20
VISITORS = 1_000
CHUNK = 10_000
DAY = timedelta(days=1)
STATE = {name: repr(value).encode() for name, value in SMALL.items()}


def rows_table(engine: str, place: Place, sizes: t.Sequence[int], rounds: int) -> list[list[str]]:
    """One row for each operation; raises Skip if the engine is missing."""
    tables = [Table(engine, place, size) for size in sizes]
    sweep = f"delete_expired({EXPIRED})"
    cases = [Case(table.name, verb, run, table.tidy) for table in tables for verb, run in table.verbs().items()]
    times = measure(cases, rounds) | {(name, sweep): took for name, took in swept(tables).items()}
    rows = [[engine, *(table.name for table in tables), "target"]]
    for verb in ("load", "update", FIND, sweep):
        found = [statistics.median(times[table.name, verb]) for table in tables]
        rows.append([verb, *(f"{figure(value)} ({value / found[0]:.2f})" for value in found), "at most 1.33"])
    return rows


class Table:
    """A table of *size* sessions, a thousand of which have visitors."""

    def __init__(self, engine: str, place: Place, size: int) -> None:
        self.name = f"{size:,} rows"
        url = f"sqlite:///{place.folder}/{size}.db" if engine == "SQLite" else place.url_of(engine)
        self.tidy = os.sync if engine == "SQLite" else lambda: None
        self.store = sqlalchemy_store(url, table=f"sessions_{size}")
        self.bulk = sa.create_engine(self.store.engine.url)
        keys = self.fill(size - OWNED, timedelta(0))
        self.fill(OWNED, timedelta(0), OWNER)
        self.visited = keys[:: max(1, size // VISITORS)]
        random.Random(3).shuffle(self.visited)
        if engine == "PostgreSQL":  # as it does by itself, sooner or later
            with self.bulk.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text(f"VACUUM ANALYZE {self.store.table}"))
                connection.execute(sa.text("CHECKPOINT"))

    def fill(self, count: int, age: timedelta, owner: str | None = None) -> list[SessionKey]:
        """Add sessions that were made so long ago, for a day; without an owner named, each has one of its own."""
        made_ms = int((self.store.now() - age.total_seconds()) * 1000)
        record = Record(state=STATE, owner=owner).written(made_ms, DAY)
        row = {
            "prefix": self.store.prefix,
            "revision": record.revision,
            "expires_at": record.expires_ms,
        }
        keys = [SessionKey.generate() for _ in range(count)]
        for start in range(0, count, CHUNK):
            rows = [
                {
                    "handle": key.handle,
                    "owner": owner or key.handle[:16],
                    "data": pack(record, key.handle),
                    **row,
                }
                for key in keys[start : start + CHUNK]
            ]
            with self.bulk.begin() as connection:
                connection.execute(sa.insert(self.store.table), rows)
        return keys

    def verbs(self) -> dict[str, t.Callable[[], object]]:
        loads, updates = itertools.cycle(self.visited), itertools.cycle(self.visited)
        known = {key: self.store.load(key) for key in self.visited}

        def update() -> None:
            key = next(updates)
            old = known[key]
            assert old is not None
            new = Record(state=STATE, revisions=(new_revision(), *old.revisions)[:4], created_ms=old.created_ms)
            self.store.update(key, new, DAY, replaces=old.revision)
            known[key] = new

        def find() -> None:
            found = len(owners.find(self.store, OWNER))
            if found != OWNED:
                raise RuntimeError(f"{found} sessions were found instead of {OWNED}")

        return {"load": lambda: self.store.load(next(loads)), "update": update, FIND: find}


def swept(tables: t.Sequence[Table]) -> dict[str, list[float]]:
    """Microseconds of sweeps that find a thousand sessions, by table."""
    times: dict[str, list[float]] = {table.name: [] for table in tables}
    shuffle = random.Random(2).shuffle
    order = list(tables)
    for _ in range(SWEEPS):
        shuffle(order)
        for table in order:
            table.fill(EXPIRED, 2 * DAY)
            table.tidy()
            start = perf_counter()
            removed = table.store.delete_expired(EXPIRED)
            times[table.name].append((perf_counter() - start) * 1e6)
            if removed != EXPIRED:
                raise RuntimeError(f"{removed} sessions were swept instead of {EXPIRED}")
    return times
