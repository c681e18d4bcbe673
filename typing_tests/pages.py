"""Checks the types in the code that the documentation shows, by mypy and pyright: python typing_tests/pages.py

Both are strict, but for functions without annotations, since the pages' code has none. What they find is printed with
the page and its line.
"""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent
sys.path[:0] = [str(ROOT / "tests" / "support")]

import pages as documentation  # noqa: E402  - the folder of tests/support is not a package

MYPY = """
[mypy]
python_version = 3.11
strict = True
allow_untyped_defs = True
allow_incomplete_defs = True
allow_untyped_calls = True
allow_untyped_decorators = True
disallow_any_generics = False
disallow_subclassing_any = False
warn_return_any = False
disable_error_code = no-redef, import-untyped, import-not-found, var-annotated
"""
PYRIGHT = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    **dict.fromkeys(
        (
            *("reportUnknownMemberType", "reportUnknownParameterType", "reportUnknownVariableType"),
            *("reportUnknownArgumentType", "reportUnknownLambdaType", "reportMissingParameterType"),
            *("reportMissingTypeArgument", "reportUntypedFunctionDecorator", "reportUntypedBaseClass"),
            *("reportMissingTypeStubs", "reportMissingImports", "reportUnusedFunction", "reportUnusedExpression"),
            *("reportRedeclaration", "reportUnusedImport", "reportUnusedVariable", "reportUnusedClass"),
            *("reportConstantRedefinition", "reportPrivateUsage", "reportUnnecessaryTypeIgnoreComment"),
        ),
        False,
    ),
}
#: A page, or nothing for every page -> what may be found there, and why.
EXCUSED = {
    "": (
        # Flask types app.session_interface, and what session_transaction() gives, by the base class.
        r'"(store|handle)" for class "Session(Interface|Mixin)"',
        r'"Session(Interface|Mixin)" has no attribute "(store|handle)"',
        # The page has just set this cookie.
        r'"Cookie \| None"|"value" is not a known attribute of "None"',
        # A proxy that is typed as what it stands for.
        r"_get_current_object",
        # The page knows that this client is not None.
        r'"str \| None"',
    ),
    # Flask's types do not know stream_with_context as a decorator.
    "docs/concepts.rst": (r'Too few arguments for "parts"', r"Expected 1 more positional argument"),
    # What is read from sqlite3; and a path that only this store has.
    "docs/custom-store.rst": ("bytes|ReadableBuffer|Need more than 1 value", r'"path" for class "ServerSideStore"'),
    # What the page's own dictionaries are taken for.
    "docs/flask-login.rst": ('"join"|"iterable"',),
    "docs/owners.rst": (r"check_password_hash|for \+|Operator \"\+\"",),
    "docs/moving.rst": ('"FlaskClient"', r'"bool \| Unknown"'),
    "docs/troubleshooting.rst": ('"join"|"iterable"',),
    # What OpenTelemetry's types say may be missing.
    "docs/signals.rst": ("span_id|Attributes|AnyValue",),
    "docs/metrics.rst": ('span_id|Attributes|AnyValue|"__init__"',),
    # The page shows what is refused.
    "docs/errors.rst": (r'"int": "str"|"dict\[int, str\]"',),
    # The page knows that these responses are JSON.
    "docs/howto/single-page-applications.rst": ("not indexable|not subscriptable",),
    # The page gives its applications an attribute.
    "docs/why.rst": ('"meanwhile"',),
}
# A mistake that both have to find: otherwise they look at nothing.
MISTAKE = "from flask_sessionstore import session\n\nsession.inserted('a', 1)\n"


def module_of(page: Path) -> str:
    """The code of a page, every line of it where it is in the page."""
    lines = [""] * (len(page.read_text().splitlines()) + 1)
    for block in documentation.python_blocks(page):
        for number, source in _parts(block):
            for offset, line in enumerate(source.splitlines()):
                lines[number + offset] = line
    return "\n".join(lines) + "\n"


def _parts(block: documentation.Block) -> list[tuple[int, str]]:
    if not block.source.startswith(">>>"):
        return [(block.line, block.source)]
    return [
        (block.line + example.lineno, example.source) for example in doctest.DocTestParser().get_examples(block.source)
    ]


def write_modules(folder: Path) -> dict[str, Path]:
    """Write a module for each page that has code; the result is the page of each module."""
    found = {}
    for page in documentation.PAGES:
        source = module_of(page)
        if source.strip():
            name = "_".join(page.relative_to(ROOT).with_suffix("").parts).replace("-", "_").lower() + ".py"
            (folder / name).write_text(source)
            found[name] = page
    return found


def run_mypy(folder: Path) -> t.Iterator[tuple[str, int, str]]:
    """What mypy finds: module, line and message."""
    (folder / "mypy.cfg").write_text(MYPY + f"mypy_path = {ROOT}:{ROOT}/examples\n")
    command: list[str | Path] = [
        SCRIPTS / "mypy",
        "--config-file=mypy.cfg",
        "--no-error-summary",
        *sorted(folder.glob("*.py")),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"(?:.*/)?(\w+\.py):(\d+): error: (.*)", line)
        if match:
            yield match[1], int(match[2]), match[3]


def run_pyright(folder: Path) -> t.Iterator[tuple[str, int, str]]:
    """What pyright finds: module, line and message."""
    (folder / "pyrightconfig.json").write_text(json.dumps({**PYRIGHT, "extraPaths": [f"{ROOT}", f"{ROOT}/examples"]}))
    command: list[str | Path] = [SCRIPTS / "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        rule = f" ({each['rule']})" if "rule" in each else ""
        yield Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["message"] + rule


def is_excused(page: str, message: str) -> bool:
    """Whether this may be found on that page."""
    return any(re.search(pattern, message) for pattern in (*EXCUSED[""], *EXCUSED.get(page, ())))


def main() -> int:
    """Print what is not excused; the result is an exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        modules = write_modules(folder)
        (folder / "mistake.py").write_text(MISTAKE)
        found = [*run_mypy(folder), *run_pyright(folder)]
    of_pages = [(str(modules[each[0]].relative_to(ROOT)), *each[1:]) for each in found if each[0] in modules]
    wrong = [f"{page}:{line}: {message}" for page, line, message in of_pages if not is_excused(page, message)]
    if sum(each[0] == "mistake.py" for each in found) < 2:
        wrong.append("mypy or pyright has not found the mistake that it was given: it looks at nothing")
    print("\n".join([*wrong, f"pages: {len(modules)}; wrong types: {len(wrong)}"]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
