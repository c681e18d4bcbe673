"""How much room sessions take in each engine, and how much of it comes back once they have expired and are swept."""

from __future__ import annotations

import random
import time
import typing as t
from datetime import timedelta

from flask_sessionstore.record import Record
from flask_sessionstore.stores import from_url
from flask_sessionstore.stores.abilities import HasSchema, Sweeps

from .apps import Place
from .cases import skipping
from .scenarios import SMALL

DAY = timedelta(days=1)
OWNERS = 1_000
#: The data of one session, by its name in the table.
SIZES = {
    "small": {name: repr(value).encode() for name, value in SMALL.items()},
    # Random, since some engines compress: real data take less room than this.
    "2 KB": {f"key{number}": random.Random(number).randbytes(200) for number in range(10)},
    "50 KB": {f"key{number}": random.Random(number).randbytes(500) for number in range(100)},
}
Measure = t.Callable[[], int]


class Engine(t.NamedTuple):
    """One engine: its store's URL, how many bytes it takes now, and what gives room back to the system, if anything."""

    url: str
    taken: Measure
    compact: t.Callable[[], object] | None = None


def capacity_table(place: Place, count: int) -> list[list[str]]:
    """One row for each engine that runs here: bytes for one session of each size, and what is left after a sweep."""
    rows = [["bytes a session", *SIZES, "left after a sweep", "and given back"]]
    for name, make in ENGINES.items():
        with skipping(name):
            rows.append([name, *measured(make(place), count)])
    return rows


def measured(engine: Engine, count: int) -> t.Iterator[str]:
    store = from_url(engine.url)
    schema = store.ability(HasSchema)
    if schema is not None:
        schema.create_schema()
    record = Record(state=SIZES["small"])
    store.save(record, DAY)  # what the first session makes is there before the first measure
    empty = engine.taken()
    for number, state in enumerate(SIZES.values()):
        before, many = engine.taken(), count if number < 2 else count // 10
        for session in range(many):
            store.save(Record(state=state, owner=f"user{session % OWNERS}"), DAY)
        yield f"{(engine.taken() - before) / many:,.0f}"
    sweeps = store.ability(Sweeps)
    if sweeps is None:
        yield from ("–", "–")
        return
    full = engine.taken()
    store.clock = lambda: time.time() + 3 * DAY.total_seconds()
    while sweeps.delete_expired(1000):
        pass
    yield f"{(engine.taken() - empty) / (full - empty):.0%}"
    if engine.compact is None:
        yield "–"
        return
    engine.compact()
    yield f"{max(engine.taken() - empty, 0) / (full - empty):.0%}"


# -- the engines ---------------------------------------------------------------------------------------------------


def files(place: Place) -> Engine:
    folder = place.folder / "capacity"
    folder.mkdir()
    return Engine(folder.as_uri(), lambda: sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")))


def sqlite(place: Place) -> Engine:
    import sqlalchemy as sa

    path = place.folder / "capacity.db"
    engine = sa.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")

    def run(statement: str) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def taken() -> int:
        run("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.stat().st_size

    return Engine(f"sqlite:///{path}", taken, lambda: run("VACUUM"))


def postgresql(place: Place) -> Engine:
    size = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE '%%session%%'"
    return sql(place.url_of("PostgreSQL"), size, "VACUUM FULL")


def mariadb(place: Place) -> Engine:
    size = "SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
    return sql(place.url_of("MariaDB"), size, "OPTIMIZE TABLE flask_sessions", before="ANALYZE TABLE flask_sessions")


def sql(url: str, size: str, compact: str, before: str = "") -> Engine:
    """:param before: a statement that makes the engine count anew."""
    import sqlalchemy as sa

    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")

    def run(statement: str) -> t.Any:
        with engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return result.scalar() if result.returns_rows else None

    def taken() -> int:
        if before:
            run(before)
        return int(run(size) or 0)

    return Engine(url, taken, lambda: run(compact))


def redis(place: Place) -> Engine:
    from redis import Redis

    url = f"{place.url_of('Valkey')}/0"
    client = Redis.from_url(url)
    return Engine(url, lambda: int(client.info("memory")["used_memory"]))


def memcached(place: Place) -> Engine:
    from pymemcache.client.base import Client

    url = place.url_of("Memcached")
    client = Client(url.removeprefix("memcached://"))
    return Engine(url, lambda: int(client.stats()[b"bytes"]))


ENGINES: dict[str, t.Callable[[Place], Engine]] = {
    "files": files,
    "SQLite": sqlite,
    "PostgreSQL": postgresql,
    "MariaDB": mariadb,
    "Valkey": redis,
    "Memcached": memcached,
}
