"""Prints what the commands have found as text, for people: within the terminal's width, and uncut into pipes."""

from __future__ import annotations

import itertools
import shutil
import sys
import textwrap
import typing as t
from datetime import datetime

import click

from .as_json import Facts
from .times import iso, relative

_CUT = ".."
_GAP = "  "


class Literal(t.NamedTuple):
    """A value to be shown to people as Python writes it."""

    value: object


class _Damaged:
    def __repr__(self) -> str:
        return "(damaged)"


#: Shown in place of a value that cannot be read.
DAMAGED = _Damaged()


class Column(t.NamedTuple):
    """A column of a table."""

    field: str
    #: In characters. Longer cells are cut on a terminal.
    width: int


def terminal_width() -> int | None:
    """How many characters a line of the terminal has; None if the output goes into a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fitting(text: str, start: str = "") -> str:
    """A text for standard error; in several lines if that is a terminal, and it is too long for one.

    :param start: what will be printed before it.
    """
    if not sys.stderr.isatty():
        return text
    return textwrap.fill(start + text, shutil.get_terminal_size().columns, break_on_hyphens=False).removeprefix(start)


def print_table(rows: t.Iterator[Facts], columns: t.Sequence[Column], nothing: str, now: datetime | None) -> int:
    """Print a table, each row as soon as it is known, and return how many rows.

    :param columns: the last one takes what room is left.
    :param nothing: printed if there are no rows.
    :param now: times are shown relative to it, and cells are cut; None: for pipes, in full.
    """
    first = next(rows, None)
    if first is None:
        click.echo(nothing)
        return 0
    _print_row(columns, [column.field.removesuffix("_at").upper() for column in columns], bold=True, cut=False)
    count = 0
    for row in itertools.chain([first], rows):
        _print_row(columns, [_cell(row[column.field], now) for column in columns], cut=now is not None)
        count += 1
    return count


def print_pairs(facts: Facts, now: datetime | None = None) -> None:
    """Print names and values, one pair on each line.

    :param now: as in :func:`print_table`; here times are shown in both ways.
    """
    names = [_printable(name) for name in facts]
    width = max(map(len, names))
    for name, value in zip(names, facts.values(), strict=True):
        start = f"{name:{width}}{_GAP}"
        if isinstance(value, Literal):
            click.echo(start + _literal(value.value))
            continue
        ago = f" ({relative(value, now)})" if now is not None and isinstance(value, datetime) else ""
        _print_wrapped(start, _cell(value) + ago, len(start))


def print_findings(findings: t.Iterable[tuple[str, str]], colors: t.Mapping[str, str]) -> None:
    """Print findings, one on each line, after a word.

    :param colors: the color of each word.
    """
    for word, text in findings:
        _print_wrapped(f"{word}: ", _printable(text), 2, fg=colors[word], bold=True)


def _print_wrapped(start: str, text: str, indent: int, **style: t.Any) -> None:
    """Print a line; on a terminal, if it is too long, in several lines that are indented after the first.

    :param style: of ``start``.
    """
    width = terminal_width()
    if width is not None:
        lines = textwrap.wrap(
            start + text, max(width, indent + 20), subsequent_indent=" " * indent, break_on_hyphens=False
        )
        text = "\n".join(lines).removeprefix(start)
    click.echo((click.style(start, **style) if style else start) + text)


def _print_row(columns: t.Sequence[Column], cells: list[str], *, cut: bool, bold: bool = False) -> None:
    left = (terminal_width() or 80) - sum(column.width + len(_GAP) for column in columns[:-1])
    widths = [*(column.width for column in columns[:-1]), max(left, columns[-1].width)]
    cells = [_shortened(cell, width) if cut else cell for cell, width in zip(cells, widths, strict=True)]
    padded = (f"{cell:{column.width}}" for cell, column in zip(cells, columns, strict=True))
    line = _GAP.join(padded).rstrip()
    click.echo(click.style(line, bold=True) if bold else line)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - len(_CUT)] + _CUT


def _cell(value: t.Any, now: datetime | None = None) -> str:
    if isinstance(value, Literal):
        return _literal(value.value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return iso(value) if now is None else relative(value, now)
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
