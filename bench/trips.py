"""How often a request goes to the Redis server, by the server's own count."""

from __future__ import annotations

import typing as t

from flask import Flask, session

from .apps import Place, flask_session_redis, ours
from .cases import VALKEY
from .client import Client
from .scenarios import SCENARIOS, SMALL, Scenario, numbers, read, untouched

if t.TYPE_CHECKING:
    from redis import Redis

TARGETS = {
    "untouched": "0",
    "read": "1",
    "write": "2",
    "new": "1",
    "purge": "1",
    "renew": "at most 3",
    "sign in": "at most 4",
    "sign in, no session": "at most 2",
    "sign out": "at most 3",
    "untouched, extended": "1",
    "read, extended": "2",
}
OUR_OWN = ("info", "config|resetstat")


def purge() -> None:
    session.purge()  # type: ignore[attr-defined]  # only ours has it


def renew() -> None:
    session.renew()  # type: ignore[attr-defined]  # only ours has it


def sign_in() -> None:
    session["_user_id"] = str(next(numbers))  # Flask-Login's key


def sign_out() -> None:
    del session["_user_id"]


ONLY_OURS = (
    Scenario("purge", SMALL, purge),
    Scenario("renew", SMALL, renew),
    Scenario("sign in", SMALL, sign_in),
    Scenario("sign in, no session", {}, sign_in),
    Scenario("sign out", {**SMALL, "_user_id": "ada"}, sign_out),
    Scenario("untouched, extended", SMALL, untouched),
    Scenario("read, extended", SMALL, read),
)


class Trips(t.NamedTuple):
    """What one request cost the server: answers sent, and commands by name (also the commands of its scripts)."""

    number: int
    commands: str


def answers_sent(server: Redis) -> int:
    """Every round trip ends with one answer, however many commands it held. (This one counts, too.)"""
    return t.cast(int, server.info("stats")["total_writes_processed"])


def counted(server: Redis, run: t.Callable[[], object]) -> Trips:
    server.config_resetstat()
    before = answers_sent(server)
    run()
    number = answers_sent(server) - before - 1
    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in server.info("commandstats").items()}
    names = [f"{calls[name]} {name}" for name in sorted(calls) if name not in OUR_OWN]
    return Trips(number, ", ".join(names) or "none")


def trips(app: Flask, scenario: Scenario, server: Redis) -> Trips:
    """Counts a request of a fresh session, after other requests that have connected and loaded all scripts."""
    for _ in range(3):
        fresh_client(app, scenario).get("/")
    client = fresh_client(app, scenario)
    return counted(server, lambda: client.get("/"))


def fresh_client(app: Flask, scenario: Scenario) -> Client:
    client = Client(app)
    if scenario.seed:
        client.get("/seed")
    return client


def trips_table(place: Place) -> list[list[str]]:
    """One row for each kind of request; ImportError or Skip if something is missing."""
    from redis import Redis

    server = Redis.from_url(place.redis_url(VALKEY, SCENARIOS[0]))
    rows = [["", "Flask-Session", "this project", "target", "commands of this project"]]
    for scenario in (*SCENARIOS, *ONLY_OURS):
        theirs = "–"
        if scenario in SCENARIOS:
            theirs = str(trips(flask_session_redis(VALKEY, scenario, place), scenario, server).number)
        found = trips(ours_app(scenario, place), scenario, server)
        target = TARGETS[scenario.name.removesuffix(" 50 KB")]
        rows.append([scenario.name, theirs, str(found.number), target, found.commands])
    return rows


def ours_app(scenario: Scenario, place: Place) -> Flask:
    extended: dict[str, t.Any] = {"SESSION_REFRESH_INTERVAL": 0, "SESSION_PERMANENT": True}
    return ours(place.redis_url(VALKEY, scenario), scenario, **(extended if "extended" in scenario.name else {}))
