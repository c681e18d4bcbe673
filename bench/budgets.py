"""The budgets of instructions, in ``budgets.toml``: what each figure may be at most, and what it is wanted to become.

They hold for one interpreter and the versions that they were measured with; elsewhere a figure says nothing about them.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sysconfig
import tomllib
import typing as t
from pathlib import Path

FILE = Path(__file__).with_suffix(".toml")
SLACK = 0.03
LAYOUT = 5.0
"""Thousand instructions that the folder of the package decides on: some of Python's caches go by address. What is
within either of the two is not above a budget.
"""
PACKAGES = [
    *("flask", "werkzeug", "itsdangerous", "msgspec", "cryptography", "prometheus-client"),
    *("redis", "hiredis", "sqlalchemy", "psycopg", "pymysql", "pymemcache"),
]
HEAD = """\
# python -m bench --instructions --record writes "measured" and the budgets; what is wanted is written by hand.
# Thousand instructions that a session adds to a bare request; of the import, the share of what Flask's own takes.

"""

Figures = dict[tuple[str, str], float]
"""By subject and scenario."""


class Budgets(t.NamedTuple):
    measured: tuple[str, ...]
    """The interpreter, and the versions of packages."""
    limits: Figures
    wanted: Figures


def read(text: str) -> Budgets:
    data = tomllib.loads(text)
    measured = tuple(data.pop("measured"))
    limits, wanted = (
        {(subject, name): cell[kind] for subject, row in data.items() for name, cell in row.items() if kind in cell}
        for kind in ("budget", "wanted")
    )
    return Budgets(measured, limits, wanted)


def written(budgets: Budgets) -> str:
    """What *read* reads."""
    cases = list(dict.fromkeys([*budgets.wanted, *budgets.limits]))
    lines = [f"measured = {json.dumps(budgets.measured, indent=4)}"]
    for subject in dict.fromkeys(subject for subject, _ in cases):
        lines += ["", f"[{json.dumps(subject)}]"]
        lines += [f"{json.dumps(name)} = {cell(budgets, (owner, name))}" for owner, name in cases if owner == subject]
    return HEAD + "\n".join(lines) + "\n"


def cell(budgets: Budgets, case: tuple[str, str]) -> str:
    parts = [("budget", budgets.limits.get(case)), ("wanted", budgets.wanted.get(case))]
    return "{ " + ", ".join(f"{kind} = {value:g}" for kind, value in parts if value is not None) + " }"


def recorded(old: Budgets, found: Figures, here: tuple[str, ...]) -> Budgets:
    """What was found becomes the budget; what was not measured keeps its own, if it was measured as here."""
    kept = old.limits if old.measured == here else {}
    return Budgets(here, {**kept, **{case: float(f"{value:.4g}") for case, value in found.items()}}, old.wanted)


def judged(budgets: Budgets, found: Figures) -> tuple[list[str], list[str]]:
    """Sentences about figures above their budgets, and about those so far below that the budget is to be lowered."""
    excess = {case: found[case] - limit for case, limit in budgets.limits.items() if case in found}
    above = [sentence(budgets, found, case, "above") for case in excess if excess[case] > slack(budgets.limits[case])]
    below = [sentence(budgets, found, case, "below") for case in excess if -excess[case] > slack(budgets.limits[case])]
    return above, below


def slack(limit: float) -> float:
    """What a figure may differ from its budget; a share of Flask's import, below 1, has no layout."""
    return SLACK * limit if limit < 1 else max(SLACK * limit, LAYOUT)


def sentence(budgets: Budgets, found: Figures, case: tuple[str, str], where: str) -> str:
    limit = budgets.limits[case]
    share = abs(found[case] / limit - 1)
    return f"{', '.join(case)}: {found[case]:.4g} is {share:.1%} {where} its budget of {limit:.4g}"


def measured_here() -> tuple[str, ...]:
    """The interpreter, as it was built, and the versions of what a request runs."""
    options = [word for word in str(sysconfig.get_config_var("CONFIG_ARGS")).replace("'", "").split() if is_build(word)]
    build = ", ".join([platform.machine(), platform.python_compiler(), *options])
    interpreter = f"{platform.python_implementation()} {platform.python_version()} ({build})"
    return (interpreter, *(f"{name} {version(name)}" for name in PACKAGES))


def is_build(option: str) -> bool:
    return option.startswith(("--enable", "--with", "--disable")) and "/" not in option


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
