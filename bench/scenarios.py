"""What a request does with its session."""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass

from flask import Flask, session

Setting = t.Mapping[str, t.Any]

SMALL: Setting = {
    "name": "Ada Lovelace",
    "theme": "dark",
    "csrf": "8f14e45fceea167a5a36dedd4bea2543c4ca4238",
    "cart": [
        {"sku": "A-1042", "title": "Brass cogwheel, 40 teeth", "quantity": 2, "price": 12.5},
        {"sku": "B-0007", "title": "Punched cards, 500 sheets", "quantity": 1, "price": 31.0},
        {"sku": "C-0311", "title": "Notebook with grid", "quantity": 3, "price": 4.75},
    ],
    "visits": 1_000_000,
}
LARGE: Setting = {f"key{number:03}": f"{number:03}".ljust(240, "-") for number in range(200)}

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
    return session["theme"]


def write() -> None:
    session["visits"] = next(numbers)


def read_large() -> object:
    return session["key100"]


def write_large() -> None:
    session["key100"] = str(next(numbers)).ljust(240, "-")


SCENARIOS = (
    Scenario("untouched", SMALL, untouched),
    Scenario("read", SMALL, read),
    Scenario("write", SMALL, write),
    Scenario("new", {}, write),
    Scenario("read 50 KB", LARGE, read_large),
    Scenario("write 50 KB", LARGE, write_large),
)


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
