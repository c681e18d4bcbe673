"""Prints what the commands have found, as text for people or as JSON for programs."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import typing as t
from datetime import UTC, date, datetime, time, timedelta

import click

# Python refuses to write integers of more than 4300 digits as text.
_LARGEST_INT = 10**4000

Facts = dict[str, t.Any]
T = t.TypeVar("T")


class Literal(t.NamedTuple):
    """A value to be shown to people as Python writes it."""

    value: object


class _Damaged:
    def __repr__(self) -> str:
        return "(damaged)"


#: Shown in place of a value that cannot be read.
DAMAGED = _Damaged()


# -- for people ----------------------------------------------------------------------------------------------------


def print_table(rows: t.Iterator[Facts], columns: t.Mapping[str, int], nothing: str) -> None:
    """Print a table, each row as soon as it is known.

    :param columns: which fields of a row to show, and how wide.
    :param nothing: printed if there are no rows.
    """
    first = next(rows, None)
    if first is None:
        click.echo(nothing)
        return
    _print_row(columns, [name.removesuffix("_at").upper() for name in columns])
    for row in itertools.chain([first], rows):
        _print_row(columns, [_cell(row[name]) for name in columns])


def print_pairs(facts: Facts) -> None:
    """Print names and values, one pair on each line."""
    names = [_printable(name) for name in facts]
    width = max(map(len, names))
    for name, value in zip(names, facts.values(), strict=True):
        click.echo(f"{name:{width}}  {_cell(value)}")


def print_list(sentences: t.Sequence[str], nothing: str) -> None:
    """Print sentences, one on each line; or ``nothing``, if there are none."""
    for sentence in sentences:
        click.echo(f"- {_printable(sentence)}")
    if not sentences:
        click.echo(nothing)


def progress(
    steps: t.Iterator[T], state: t.Callable[[], str], label: str = "Removing"
) -> t.ContextManager[t.Iterable[T]]:
    """These steps, with a progress bar if there is a terminal to show it on."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext(steps)
    return click.progressbar(steps, label=label, show_eta=False, item_show_func=lambda _: state(), file=sys.stderr)


def _print_row(columns: t.Mapping[str, int], cells: list[str]) -> None:
    padded = (f"{cell:{width}}" for cell, width in zip(cells, columns.values(), strict=True))
    click.echo("  ".join(padded).rstrip())


def _cell(value: t.Any) -> str:
    if isinstance(value, Literal):
        return _literal(value.value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value)) or "-"
    return _printable(str(value))


def _literal(value: t.Any) -> str:
    """A value as Python writes it, which never contains control characters for a terminal."""
    try:
        if isinstance(value, (set, frozenset)) and value:  # sorted: a set's order differs from process to process
            members = f"{{{', '.join(sorted(map(repr, value)))}}}"
            return members if isinstance(value, set) else f"frozenset({members})"
        return repr(value)
    except ValueError:  # Python refuses to write very large integers as text
        return f"<a value of type {type(value).__name__}, too large to show>"


def _printable(text: str) -> str:
    """Text from outside, with control characters for a terminal escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# -- for programs --------------------------------------------------------------------------------------------------


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
