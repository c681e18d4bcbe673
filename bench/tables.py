"""Tables of reStructuredText."""

from __future__ import annotations

import typing as t


def table(rows: t.Sequence[t.Sequence[str]]) -> str:
    """A simple table; the first row is its head, which would be lost if its first cell were empty: hence the dots."""
    rows = [[row[0] or "..", *row[1:]] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    head, *body = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join([rule, head, rule, *body, rule])


def figure(value: float | None) -> str:
    """Three significant digits, or a dash if there is no figure."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
