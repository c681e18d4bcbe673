"""Time: microseconds by subject and scenario, and this project's share of what Flask-Session takes."""

from __future__ import annotations

import statistics
import typing as t

from .cases import (
    COOKIE,
    OURS_FILES,
    PRIVATE_COOKIE,
    REDIS_7,
    SEALED,
    THEIRS_FILES,
    VALKEY,
)
from .engines import MEMORY, OURS, PREPARED, THEIRS, TWO_TIERS
from .measure import Costs
from .scenarios import NAMES
from .tables import figure

Pair = tuple[str, str, t.Mapping[str, float]]
"""Two subjects, and what the first may cost at most, divided by the second, in each scenario."""


def each(*targets: float) -> dict[str, float]:
    return dict(zip(NAMES, targets, strict=False))


def always(target: float) -> dict[str, float]:
    return dict.fromkeys(NAMES, target)


THEIRS_SQLITE, THEIRS_POSTGRESQL, OURS_REDIS = THEIRS("SQLite"), THEIRS("PostgreSQL"), OURS(VALKEY)
TARGETS: dict[str, Pair] = {
    "Valkey": (OURS_REDIS, THEIRS(VALKEY), each(0.09, 0.45, 0.68, 0.87, 0.40, 0.84)),
    "Redis 7": (OURS(REDIS_7), THEIRS(REDIS_7), each(0.09, 0.46, 0.80, 0.90, 0.40, 0.90)),
    "files": (OURS_FILES, THEIRS_FILES, each(0.04, 0.13, 0.25, 0.78, 0.15, 0.30)),
    "memory, sealed over plain": (SEALED, MEMORY, always(1.4)),
    "cookie, encrypted over signed": (PRIVATE_COOKIE, COOKIE, always(1.3)),
}
ENGINE_TARGETS: dict[str, Pair] = {
    "SQLite": (OURS("SQLite"), THEIRS_SQLITE, each(0.01, 0.04, 0.07, 0.08)),
    "PostgreSQL, prepared statements": (PREPARED, THEIRS_POSTGRESQL, each(0.01, 0.13, 0.22, 0.20)),
    "PostgreSQL": (OURS("PostgreSQL"), THEIRS_POSTGRESQL, {}),
    "MariaDB": (OURS("MariaDB"), THEIRS("MariaDB"), {}),
    "Memcached": (OURS("Memcached"), THEIRS("Memcached"), {}),
    "our Memcached over our Valkey": (OURS("Memcached"), OURS_REDIS, always(1.6)),
    "memory before Valkey, over Flask-Session's": (TWO_TIERS, THEIRS(VALKEY), {"read": 0.25, "write": 0.80}),
}


def cost_rows(runs: t.Sequence[Costs], subjects: t.Sequence[str], names: t.Sequence[str]) -> list[list[str]]:
    """Microseconds: the median of the runs; what was not measured is left out."""
    cost = {case: statistics.median(run[case] for run in runs) for case in runs[0]}
    rows = [[subject, *(figure(cost.get((subject, name))) for name in names)] for subject in subjects]
    return [["µs", *names], *(row for row in rows if set(row[1:]) != {figure(None)})]


def ratio_rows(runs: t.Sequence[Costs], targets: t.Mapping[str, Pair], names: t.Sequence[str]) -> list[list[str]]:
    """The median of the runs' ratios, and the target in brackets."""
    rows = [[what, *(ratio(runs, pair, name) for name in names)] for what, pair in targets.items()]
    return [["ratio", *names], *(row for row in rows if set(row[1:]) != {figure(None)})]


def ratio(runs: t.Sequence[Costs], pair: Pair, name: str) -> str:
    ours, theirs, wanted = pair
    if (ours, name) not in runs[0] or (theirs, name) not in runs[0]:
        return figure(None)
    found = f"{statistics.median(run[ours, name] / run[theirs, name] for run in runs):.2f}"
    return f"{found} ({wanted[name]:.2f})" if name in wanted else found
