"""Prints what the commands have found as JSON, for programs."""

from __future__ import annotations

import json
import typing as t
from datetime import date, datetime, time, timedelta

import click

# Python refuses to write integers of more than 4300 digits as text.
_LARGEST_INT = 10**4000

Facts = dict[str, t.Any]


def print_json(facts: Facts) -> None:
    """Print one JSON object."""
    click.echo(_dumps(facts, indent=2))


def print_array(rows: t.Iterator[Facts]) -> None:
    """Print one JSON array, with a line for each row, as soon as it is known."""
    start = "["
    for row in rows:
        click.echo(f"{start}\n  {_dumps(row)}", nl=False)
        start = ","
    click.echo("[]" if start == "[" else "\n]")


def _dumps(value: t.Any, indent: int | None = None) -> str:
    return json.dumps(_jsonable(value), indent=indent)


def _jsonable(value: t.Any) -> t.Any:
    """The nearest value that JSON has."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(_jsonable(key)): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_jsonable, value), key=repr)
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        return hex(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
