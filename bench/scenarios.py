"""What a request does with its session."""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass

from flask import Flask, session

Setting = t.Mapping[str, t.Any]

SMALL: Setting = {
    "user_id": 4711,
    "csrf_token": "8f14e45fceea167a5a36dedd4bea2543c4ca4238",
    "_fresh": True,
    "_id": "8f14e45fceea167a5a36dedd4bea2543" * 4,
    "language": "en-GB",
    "cart": [{"sku": "A-1042", "quantity": 2}, {"sku": "B-0007", "quantity": 1}],
    "next": "/checkout?step=2",
    "roles": ["customer", "beta"],
    "theme": "dark",
    "visits": 1_000_000,
}
LARGE: Setting = {f"key{number:03}": {"number": number, "text": "lorem ipsum dolor " * 12} for number in range(200)} | {
    "visits": 1_000_000
}

numbers = itertools.count(1_000_001)
"""A new number each time, always of the same length."""


@dataclass(frozen=True)
class Scenario:
    """One kind of request: *seed* is in the session before it (empty: a visitor without a cookie)."""

    name: str
    seed: Setting
    view: t.Callable[[], object]

    @property
    def large(self) -> bool:
        return self.seed is LARGE


def untouched() -> None:
    pass


def read() -> object:
    return session.get("user_id")


def write() -> None:
    session["visits"] += 1


def fill() -> None:
    session.update(SMALL)


def read_large() -> object:
    return session["key007"]["number"]


SCENARIOS = (
    Scenario("untouched", SMALL, untouched),
    Scenario("read", SMALL, read),
    Scenario("write", SMALL, write),
    Scenario("new", {}, fill),
    Scenario("read 50 KB", LARGE, read_large),
    Scenario("write 50 KB", LARGE, write),
)
"""In "new" a visitor without a cookie gets a session of ten keys; a write reads one key and sets it."""
NAMES = [scenario.name for scenario in SCENARIOS]


def build_app(scenario: Scenario, config: Setting) -> Flask:
    """An application; ``/`` is the scenario, ``/seed`` fills the session, ``/kept`` says whether it was kept."""
    app = Flask("bench")
    app.config.from_mapping(config, SECRET_KEY="a secret of the bench, thirty-two bytes or more")

    @app.route("/")
    def request() -> str:
        scenario.view()
        return "done"

    @app.route("/seed")
    def seed() -> str:
        session.update(scenario.seed)
        return "done"

    @app.route("/kept")
    def kept() -> str:
        return str(all(key in session for key in scenario.seed or ["visits"]))

    return app
