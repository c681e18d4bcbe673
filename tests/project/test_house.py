"""How the package is built: nobody reaches into another's class, and imports lead down, those for types included."""

from __future__ import annotations

import ast
import graphlib
import typing as t
from pathlib import Path

import flask_sessionstore

ROOT = Path(flask_sessionstore.__file__).parent
#: Public in spite of their names: of named tuples, and of Werkzeug's proxies.
PUBLIC = {"_asdict", "_replace", "_get_current_object"}
#: The files that a request walks down and up. Each imports only what stands below it, if it imports any of them.
FLOORS = [
    *(
        "manager",
        "current",
        "interface",
        "failures",
        "cookies",
        "sessions",
        "hints",
        "lifecycle",
        "finding",
        "moving_in",
        "contests",
        "writing",
        "verdicts",
        "draft",
    ),
    *("changes", "signins", "policy", "visitor", "owners", "stores.watched", "stores.base"),
    *("stores.abilities", "stores.contact", "sealing", "layout"),
    *("codec", "signing", "tokens", "key", "errors", "record"),
]


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def _names_made_in(tree: ast.AST) -> t.Iterator[str]:
    """What a class, or a file, defines: functions, names, and what is set on ``self``."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case (
                ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store())
            ):
                yield name


def _is_ones_own(reached: ast.expr) -> bool:
    match reached:
        case ast.Name(id="self" | "cls") | ast.Call(func=ast.Name(id="super")):
            return True
    return False


def reaches(source: str) -> list[str]:
    """Where code reaches for the underscore of a class that is not its own; a file's functions may for its classes'."""
    tree = ast.parse(source)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    rest = ast.Module([node for node in tree.body if not isinstance(node, ast.ClassDef)], [])
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for part in (*classes, rest)
        for made in ({*_names_made_in(tree if part is rest else part)},)
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute) and _is_private(node.attr)
        if not _is_ones_own(node.value) and node.attr not in made
    ]


def test_no_class_reaches_for_anothers_underscore() -> None:
    found = {path.name: reaches(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}
    assert {name: places for name, places in found.items() if places} == {}


def test_what_reaches_for_anothers_underscore_is_found() -> None:
    """Else the test above would always pass."""
    source = """
class Session:
    def __init__(self):
        self._state = {}
    def __eq__(self, other):
        return self._state == other._state
class Lifecycle:
    def commit(self, session):
        return session._state
def _peek(session):
    return session._state or session._elsewhere or session._replace()
"""
    assert reaches(source) == ["9: session._state", "11: session._elsewhere"]


def name_of(path: Path) -> str:
    """A module by its path below the package; of a folder, its ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """The modules of the package that a module names in its imports, wherever they stand in it."""
    path = MODULES[name]
    home = name.split(".") if path.name == "__init__.py" and name != "__init__" else name.split(".")[:-1]
    return {
        found
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
        for found in _named(home[: len(home) - node.level + 1], node)
    } - {name}


def _named(base: list[str], node: ast.ImportFrom) -> t.Iterator[str]:
    module = [*base, *(node.module.split(".") if node.module else ())]
    for alias in node.names:
        inner = ".".join([*module, alias.name])
        yield inner if inner in MODULES else ".".join(module) or "__init__"


ARROWS = {name: imports(name) for name in MODULES}


def reached(name: str) -> set[str]:
    """All that a module needs."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = ARROWS[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def test_arrows_are_found() -> None:
    """Else what follows would always pass."""
    assert {"codec", "errors"} <= reached("sessions")
    assert {"draft", "contests", "verdicts", "visitor"} <= ARROWS["lifecycle"]
    assert "stores.redis.clients" in ARROWS["stores.redis.store"]
    assert "cli" in ARROWS["manager"]


def test_no_module_needs_itself() -> None:
    graphlib.TopologicalSorter(ARROWS).prepare()  # raises, and names a circle


def test_the_files_of_a_request_stand_on_one_another() -> None:
    above = {floor: [name for name in ARROWS[floor] if name in FLOORS[:place]] for place, floor in enumerate(FLOORS)}
    assert {floor: names for floor, names in above.items() if names} == {}


def test_stores_know_neither_flask_nor_what_lies_above() -> None:
    for name in MODULES:
        if name.startswith("stores"):
            above = {module for module in reached(name) if not module.startswith("stores")}
            assert above <= {"errors", "record", "layout", "key", "sealing"}, name
