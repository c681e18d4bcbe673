"""The cases: what each subject does in each scenario, ready to be run again and again."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass

from flask import Flask

from . import apps, engines
from .apps import Place, Skip
from .client import Client
from .scenarios import LARGE, SMALL, Scenario, numbers


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
THEIRS_REDIS, OURS_REDIS = "Flask-Session, Redis", "this project, Redis"
THEIRS_FILES, OURS_FILES = "Flask-Session, cachelib files", "this project, files"
FILES = "os.open, read, close; os.replace"

APPS: dict[str, MakeApp] = {
    BARE: apps.bare,
    "Flask's own, cookie": apps.flask_cookie,
    "this project, cookie": apps.ours_cookie,
    "this project, cookie, encrypted": apps.ours_private_cookie,
    engines.MEMORY: apps.ours_memory,
    "this project, memory, sealed": apps.ours_sealed_memory,
    THEIRS_FILES: apps.flask_session_files,
    OURS_FILES: apps.ours_files,
    THEIRS_REDIS: apps.flask_session_redis,
    OURS_REDIS: apps.ours_redis,
}


def prepared_client(app: Flask, scenario: Scenario) -> Client:
    """A browser in the state that the scenario starts from, after a check that the session is kept."""
    client = Client(app)
    client.get("/seed" if scenario.seed else "/")
    if client.get("/kept") != "True":
        raise RuntimeError(f"{scenario.name}: the session was lost")
    return client if scenario.seed else Client(app, follow=False)


def app_case(subject: str, scenario: Scenario, place: Place) -> Case:
    client = prepared_client((APPS | engines.APPS)[subject](scenario, place), scenario)
    return Case(subject, scenario.name, client.call, tidy_for(subject, scenario, place))


def tidy_for(subject: str, scenario: Scenario, place: Place) -> t.Callable[[], object]:
    """The function that keeps a sample from costing the next sample something.

    New files stay until the end: after many files were deleted, some file systems make new files slowly.
    """
    if subject in (THEIRS_FILES, OURS_FILES, FILES, engines.THEIRS("SQLite"), engines.OURS("SQLite")):
        return os.sync
    if subject in (THEIRS_REDIS, OURS_REDIS, engines.TWO_TIERS) and not scenario.seed:
        from redis import Redis

        return Redis.from_url(place.redis_url(scenario)).flushdb
    return nothing


# The floors: one command of the bare client, on as many bytes as the session has


def size_of(scenario: Scenario) -> int:
    return {id(SMALL): 400, id(LARGE): 50_000}.get(id(scenario.seed), 100)


def redis_floor(scenario: Scenario, place: Place) -> t.Callable[[], object]:
    from redis import Redis

    client = Redis.from_url(place.redis_url(scenario))
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
    "redis-py GET; SET": redis_floor,
}
SUBJECTS = (*APPS, *FLOORS)
ENGINE_SUBJECTS = (BARE, engines.MEMORY, *engines.APPS)


def make_case(subject: str, scenario: Scenario, place: Place) -> Case:
    """Raises Skip or ImportError where the subject cannot do it."""
    if subject not in FLOORS:
        return app_case(subject, scenario, place)
    if scenario.name == "untouched":
        raise Skip("an untouched session does not send a command")
    return Case(subject, scenario.name, FLOORS[subject](scenario, place), tidy_for(subject, scenario, place))
