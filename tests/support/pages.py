"""The documentation's pages, and the code in them."""

from __future__ import annotations

import doctest
import re
import textwrap
import tomllib
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
README = ROOT / "README.rst"
CONFIGURATION = ROOT / "docs" / "configuration.rst"
MOVING = ROOT / "docs" / "moving.rst"
PAGES = [README, *sorted(path for path in (ROOT / "docs").rglob("*.rst") if "_build" not in path.parts)]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
REDIS_URL = "redis://localhost:6379/0"


class Block(t.NamedTuple):
    """One ``code-block``, with the number of its first line, counted from 0."""

    language: str
    line: int
    source: str
    skipped: bool


def blocks(page: Path) -> t.Iterator[Block]:
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        found = re.match(r"( *)\.\. code-block:: (\w+)$", line)
        if found:
            indent = len(found[1])
            start = next(n for n in range(number + 1, len(lines)) if lines[n] and ":caption:" not in lines[n])
            end = next(
                (n for n in range(start, len(lines)) if lines[n] and not lines[n].startswith(" " * (indent + 1))),
                len(lines),
            )
            before = "".join(lines[max(number - 2, 0) : number])
            source = textwrap.dedent("\n".join(lines[start:end])).rstrip() + "\n"
            yield Block(found[2], start, source, skipped=".. skip: " in before)


def documents() -> list[str]:
    """The documentation's pages as their addresses name them, such as ``stores/redis``."""
    docs = ROOT / "docs"
    return [page.relative_to(docs).with_suffix("").as_posix() for page in PAGES if page.is_relative_to(docs)]


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python" and not block.skipped]


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def needs_redis(page: Path) -> bool:
    return any(REDIS_URL in block.source for block in python_blocks(page))


def run_block(block: Block, source: str, page: Path, namespace: dict[str, t.Any]) -> None:
    if not source.startswith(">>>"):
        exec(compile("\n" * block.line + source, page, "exec", dont_inherit=True), namespace)
        return
    test = doctest.DocTestParser().get_doctest(source, {}, page.name, str(page), block.line)
    test.globs = namespace
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    if runner.run(test, out=report.append, clear_globs=False).failed:
        pytest.fail("".join(report), pytrace=False)
