"""Whether a folder of very many sessions is slower than a folder of a hundred."""

from __future__ import annotations

import hashlib
import itertools
import typing as t
from datetime import timedelta
from pathlib import Path

from .apps import Place, ours
from .cases import BARE, Case, app_case, prepared_client
from .client import Client
from .measure import costs, measure
from .scenarios import SCENARIOS, Scenario
from .tables import figure

FEW = 100
READ_AND_WRITE = [scenario for scenario in SCENARIOS if scenario.name in ("read", "write")]


def growth_table(place: Place, many: int, rounds: int) -> list[list[str]]:
    """The cost of a read and of a write among FEW sessions and among *many*; ImportError without this package."""
    cases = [app_case(BARE, scenario, place) for scenario in READ_AND_WRITE]
    cases += folder_cases(place.folder / "few", FEW)
    cases += folder_cases(place.folder / "many", many)
    cost = costs(measure(cases, rounds))
    rows = [["", f"{FEW} sessions", f"{many:,} sessions", "ratio", "target"]]
    for scenario in READ_AND_WRITE:
        few, much = cost["few", scenario.name], cost["many", scenario.name]
        rows.append([scenario.name, figure(few), figure(much), f"{much / few:.2f}", "at most 1.25"])
    return rows


def folder_cases(folder: Path, count: int) -> list[Case]:
    """A read and a write by a hundred browsers in turn, in a folder of *count* sessions altogether."""
    folder.mkdir()
    runs = {scenario.name: visitors(folder, scenario) for scenario in READ_AND_WRITE}
    fill(folder, count - FEW)
    return [Case(folder.name, name, run) for name, run in runs.items()]


def visitors(folder: Path, scenario: Scenario) -> t.Callable[[], object]:
    """Visitors in turn, so that no single file is used all the time."""
    app = ours(folder.as_uri(), scenario)
    turn = itertools.cycle([prepared_client(app, scenario) for _ in range(FEW // len(READ_AND_WRITE))])
    return lambda: next(turn).call()


def fill(folder: Path, count: int) -> None:
    """Adds copies of a session, by the store's own verb."""
    scenario = READ_AND_WRITE[0]
    app = ours(folder.as_uri(), scenario)
    store = app.session_interface.store  # type: ignore[attr-defined]  # ours has it
    data = store.read(handle_of(prepared_client(app, scenario)))
    for number in range(count):
        store.add(hashlib.sha256(b"%d" % number).hexdigest(), data, timedelta(days=1))


def handle_of(client: Client) -> str:
    """A record's name is the hash of its session key, and the key is what the cookie's value begins with."""
    cookie: str = client.environ["HTTP_COOKIE"]
    return hashlib.sha256(cookie.partition("=")[2][:43].encode()).hexdigest()
