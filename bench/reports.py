"""What was measured, as tables: printed, and kept for the documentation where that is asked for."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from .tables import table

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "costs"


class Report(t.NamedTuple):
    """A table: *name* is that of its file in ``docs/costs``, *title* says in a sentence what it shows."""

    name: str
    title: str
    rows: t.Sequence[t.Sequence[str]]
    measured: str
    """The versions, the machine, and how often."""
    brackets: str = ""
    """What a cell has in brackets: what is wanted, which is for those who work on this project."""

    @property
    def printed(self) -> str:
        note = f" (in brackets {self.brackets})" if self.brackets else ""
        return f"{self.title}{note}:\n\n{table(self.rows)}\n\n{self.measured}\n"

    @property
    def kept(self) -> str:
        """For those who use it: without the brackets."""
        rows = [[re.sub(r" \(.*\)$", "", cell) for cell in row] for row in self.rows] if self.brackets else self.rows
        return f"{self.title}:\n\n{table(rows)}\n"


def keep(report: Report) -> None:
    """Writes the files that ``docs/costs.rst`` includes, and the table in the README, if it has this one."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{report.name}.txt").write_text(f"{report.kept}\n*{report.measured}*\n", encoding="utf-8")
    readme = ROOT / "README.rst"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), report), encoding="utf-8")


def with_table(text: str, report: Report) -> str:
    """*text* with the table between the two comments that name it in place of the one that was there."""
    begin, end = f".. begin {report.name}\n", f".. end {report.name}\n"
    return re.sub(
        f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", lambda _: f"\n{report.kept}\n", text, flags=re.DOTALL
    )
