"""The cases: what each subject does in each scenario, ready to be run again and again."""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t
from dataclasses import dataclass
from functools import partial

from flask import Flask

from . import apps, engines
from .apps import Place, Skip
from .client import Client
from .scenarios import SCENARIOS, Scenario, numbers


def nothing() -> None:
    pass


@dataclass(frozen=True)
class Case:
    """A subject in a scenario: *run* is what is timed, *tidy* comes after each sample."""

    subject: str
    scenario: str
    run: t.Callable[[], object]
    tidy: t.Callable[[], object] = nothing


MakeApp = t.Callable[[Scenario, Place], Flask]
MakeFloor = t.Callable[[Scenario, Place], t.Callable[[], object]]

BARE = "bare request"
VALKEY, REDIS_7 = "Valkey", "Redis 7"
COOKIE, PRIVATE_COOKIE = "this project, cookie", "this project, cookie, encrypted"
SEALED = "this project, memory, sealed"
THEIRS_FILES, OURS_FILES = "Flask-Session, cachelib files", "this project, files"
FILES, COMMANDS = "os.open, read, close; os.replace", "redis-py GET; SET, Valkey"

APPS: dict[str, MakeApp] = {
    BARE: apps.bare,
    "Flask's own, cookie": apps.flask_cookie,
    COOKIE: apps.ours_cookie,
    PRIVATE_COOKIE: apps.ours_private_cookie,
    engines.MEMORY: apps.ours_memory,
    SEALED: apps.ours_sealed_memory,
    THEIRS_FILES: apps.flask_session_files,
    OURS_FILES: apps.ours_files,
}
for server in (VALKEY, REDIS_7):
    APPS[engines.THEIRS(server)] = partial(apps.flask_session_redis, server)
    APPS[engines.OURS(server)] = partial(apps.ours_redis, server)
METERED = f"{engines.OURS(VALKEY)}, Prometheus"
ALONE: dict[str, MakeApp] = {METERED: partial(apps.ours_metered, VALKEY)}
"""For a process of its own: blinker makes the signals of all applications dearer once one of them has receivers."""


def prepared_client(app: Flask, scenario: Scenario) -> Client:
    """A browser in the state that the scenario starts from, after a check that the session is kept."""
    client = Client(app)
    client.get("/seed" if scenario.seed else "/")
    if client.get("/kept") != "True":
        raise RuntimeError(f"{scenario.name}: the session was lost")
    return client if scenario.seed else Client(app, follow=False)


def app_case(subject: str, scenario: Scenario, place: Place) -> Case:
    client = prepared_client((APPS | ALONE | engines.APPS)[subject](scenario, place), scenario)
    return Case(subject, scenario.name, client.call, tidy_for(subject, scenario, place))


def tidy_for(subject: str, scenario: Scenario, place: Place) -> t.Callable[[], object]:
    """The function that keeps a sample from costing the next sample something.

    New files stay until the end: after many files were deleted, some file systems make new files slowly.
    """
    if subject in (THEIRS_FILES, OURS_FILES, FILES, engines.THEIRS("SQLite"), engines.OURS("SQLite")):
        return os.sync
    for server in (VALKEY, REDIS_7):
        if server in subject and not scenario.seed:
            from redis import Redis

            return Redis.from_url(place.redis_url(server, scenario)).flushdb
    return nothing


# The floors: one command of the bare client, on as many bytes as the session has


def size_of(scenario: Scenario) -> int:
    return 50_000 if scenario.large else 500


def redis_floor(scenario: Scenario, place: Place) -> t.Callable[[], object]:
    from redis import Redis

    client = Redis.from_url(place.redis_url(VALKEY, scenario))
    name = f"floor {scenario.name}"
    data = b"-" * size_of(scenario)
    client.set(name, data)
    if scenario.name.startswith("read"):
        return lambda: client.get(name)
    return lambda: client.set(name, data)


def files_floor(scenario: Scenario, place: Place) -> t.Callable[[], object]:
    folder = place.folder_of("floor", scenario)
    path, temporary = f"{folder}/session", f"{folder}/temporary"
    data = b"-" * size_of(scenario)
    if not scenario.seed:
        return lambda: write_file(f"{folder}/{next(numbers)}", data)
    write_file(path, data)
    if scenario.name.startswith("read"):
        return lambda: read_file(path, len(data) + 1)

    def replace() -> None:
        write_file(temporary, data)
        os.replace(temporary, path)  # noqa: PTH105  # the bare call, as for the rest

    return replace


def read_file(path: str, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    data = os.read(descriptor, size)
    os.close(descriptor)
    return data


def write_file(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, data)
    os.close(descriptor)


FLOORS: dict[str, MakeFloor] = {
    FILES: files_floor,
    COMMANDS: redis_floor,
}
SUBJECTS = (*APPS, *FLOORS)
ENGINE_SUBJECTS = (BARE, engines.MEMORY, engines.THEIRS(VALKEY), engines.OURS(VALKEY), *engines.APPS)


def chosen(subjects: t.Sequence[str], asked_for: t.Sequence[str] | None) -> list[str]:
    """Those with one of these names, or else with one of these in their names; always the bare request."""
    wanted = [{part} if part in subjects else {name for name in subjects if part in name} for part in asked_for or [""]]
    return [name for name in subjects if name == BARE or any(name in names for names in wanted)]


def make_case(subject: str, scenario: Scenario, place: Place) -> Case:
    """Raises Skip or ImportError where the subject cannot do it."""
    if subject not in FLOORS:
        return app_case(subject, scenario, place)
    if scenario.name == "untouched":
        raise Skip("an untouched session does not send a command")
    return Case(subject, scenario.name, FLOORS[subject](scenario, place), tidy_for(subject, scenario, place))


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
    """Name and leave out what cannot run here, so that the rest is measured."""
    try:
        yield
    except (ImportError, Skip) as reason:
        print(f"skipped: {what}: {reason}", file=sys.stderr)
