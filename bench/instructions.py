"""Instructions: of one request by subject and scenario, over the bare request, and of the import; and their budgets."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import typing as t

from . import budgets, callgrind, counted, imported
from .apps import Place
from .budgets import Budgets, Figures
from .cases import ALONE, BARE
from .tables import figure

IMPORT = ("import flask_sessionstore", "over import flask")


def measured(place: Place, subjects: t.Sequence[str], names: t.Sequence[str]) -> Figures:
    """Thousand instructions over the bare request, by subject and scenario; for the bare request, all of them."""
    where = json.dumps({"folder": str(place.folder), "urls": dict(place.urls)})
    found: dict[str, list[int]] = {}
    for together in ([name for name in subjects if name not in ALONE], *([name] for name in ALONE if name in subjects)):
        found |= callgrind.counts(counted.__name__, where, json.dumps(together), json.dumps(names))
    total = {
        (subject, name): statistics.median(batches) / counted.RUNS / 1000
        for title, batches in found.items()
        if len(batches) == counted.BATCHES
        for subject, _, name in [title.partition(": ")]
    }
    return {case: value - (0 if case[0] == BARE else total[BARE, case[1]]) for case, value in total.items()}


def import_share() -> float:
    """What our import takes after Flask's, divided by Flask's; both from compiled bytecode."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        compiled = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        subprocess.run([sys.executable, "-c", f"import {imported.THEN}"], check=True, env={**os.environ, **compiled})
        found = callgrind.counts(imported.__name__, **compiled)
    return found[imported.THEN][0] / found[imported.FIRST][0]


def rows(found: Figures, subjects: t.Sequence[str], names: t.Sequence[str], limits: Budgets) -> list[list[str]]:
    """With what is wanted in brackets."""
    head = ["thousand instructions", *names]
    body = [[subject, *(cell(found, (subject, name), limits) for name in names)] for subject in subjects]
    return [head, *(row for row in body if set(row[1:]) != {figure(None)})]


def cell(found: Figures, case: tuple[str, str], limits: Budgets) -> str:
    wanted = limits.wanted.get(case)
    return figure(found.get(case)) + (f" ({wanted:g})" if wanted is not None and case in found else "")


def judge(found: Figures) -> int:
    """Compares with the budgets, if they were measured with what is here; the result is an exit code."""
    limits = budgets.read(budgets.FILE.read_text(encoding="utf-8"))
    here = budgets.measured_here()
    if limits.measured != here:
        others = ", ".join(sorted(set(limits.measured) - set(here)))
        print(f"Not compared with the budgets: they were measured with {others}.", file=sys.stderr)
        return 0
    above, below = budgets.judged(limits, found)
    for line in above:
        print(f"ABOVE: {line}. Make it cheaper, or record the new figure and give the reason.", file=sys.stderr)
    for line in below:
        print(f"Below: {line}. Please lower the budget: python -m bench --instructions --record", file=sys.stderr)
    return int(bool(above))


def record(found: Figures) -> None:
    """Makes these figures the budgets, but for the bare request's."""
    old = budgets.read(budgets.FILE.read_text(encoding="utf-8"))
    ours = {case: value for case, value in found.items() if case[0].startswith("this project") or case == IMPORT}
    new = budgets.recorded(old, ours, budgets.measured_here())
    budgets.FILE.write_text(budgets.written(new), encoding="utf-8")
