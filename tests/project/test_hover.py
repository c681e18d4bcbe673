"""What an editor shows when the mouse rests on a public name: every one says what it is.

Editors read docstrings: of classes, functions and properties, and the texts below attributes. They do not read
comments.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
import types
import typing as t

import pytest

import flask_sessionstore

MODULES = [
    *("flask_sessionstore", "flask_sessionstore.signals", "flask_sessionstore.stores", "flask_sessionstore.migrate"),
    "flask_sessionstore.testing",
]
STORES = [
    *("cookie:CookieStore", "filesystem:FileSystemStore", "memory:MemoryStore", "sqlalchemy:SQLAlchemyStore"),
    *("memcached:MemcachedStore", "mongodb:MongoDBStore", "dynamodb:DynamoDBStore", "caching:CachingStore"),
    "redis:RedisStore",
]


def public() -> dict[str, object]:
    """All public names."""
    found: dict[str, object] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        names = getattr(module, "__all__", [each for each in vars(module) if each.startswith(("session_", "store_"))])
        found |= {f"{name.rpartition('.')[2]}.{each}": getattr(module, each) for each in names}
    for name in STORES:
        module_name, _, cls = name.partition(":")
        found[cls] = getattr(importlib.import_module(f"flask_sessionstore.stores.{module_name}"), cls)
    return found


PUBLIC = public()
CLASSES = {name: value for name, value in PUBLIC.items() if isinstance(value, type)}


@pytest.mark.parametrize(
    "name", [name for name, value in PUBLIC.items() if isinstance(value, (type, types.FunctionType))]
)
def test_a_class_or_function_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", CLASSES)
def test_so_does_each_of_its_methods_and_properties(name: str) -> None:
    cls = CLASSES[name]
    own = [each for each, value in vars(cls).items() if not each.startswith(("_", "test_")) and _is_code(value)]
    assert [each for each in own if not inspect.getdoc(inspect.getattr_static(cls, each))] == []


def _is_code(value: object) -> bool:
    return isinstance(value, (types.FunctionType, property, classmethod, staticmethod))


@pytest.mark.parametrize("name", CLASSES)
def test_so_does_each_of_its_attributes_or_the_class_above_it(name: str) -> None:
    cls = CLASSES[name]
    above = {each for base in cls.__mro__[1:] for each in vars(base) | getattr(base, "__annotations__", {})}
    assert set(attributes(cls)) - above - {each for base in cls.__bases__ for each in made_by(base)} == set()


def attributes(cls: type) -> t.Iterator[str]:
    """The public attributes of a class, and of its objects, that no text follows."""
    body = _tree(cls).body
    yield from silent(body)
    yield from (name for made in _constructors(body) for name in silent(made, "self."))


def made_by(cls: type) -> t.Iterator[str]:
    """The attributes that a class of this package gives its objects: they are looked at in that class."""
    if cls.__module__.startswith("flask_sessionstore"):
        for body in _constructors(_tree(cls).body):
            yield from (name for statement in body for name in _assigned(statement, "self."))
        for base in cls.__bases__:
            yield from made_by(base)


def _tree(cls: type) -> ast.ClassDef:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return tree


def _constructors(body: list[ast.stmt]) -> list[list[ast.stmt]]:
    return [node.body for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]


def silent(body: list[ast.stmt], of: str = "") -> t.Iterator[str]:
    """The public names, or names on ``self.``, that these statements assign to, and that no text follows."""
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if not _is_text(after):
            yield from (name for name in _assigned(statement, of) if name[0] != "_")


def _assigned(statement: ast.stmt, of: str) -> t.Iterator[str]:
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple) else [target]:
            name = ast.unparse(part)
            if name.startswith(of) and "." not in name.removeprefix(of):
                yield name.removeprefix(of)


def _is_text(statement: ast.stmt | None) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def test_so_do_the_session_and_the_signals() -> None:
    for module in flask_sessionstore, flask_sessionstore.signals:
        body = ast.parse(inspect.getsource(module)).body
        assert {f"{module.__name__.rpartition('.')[2]}.{name}" for name in silent(body)}.isdisjoint(PUBLIC)


def test_what_has_no_text_is_found() -> None:
    """Else the tests above would always pass."""
    body = ast.parse('a = 1\n"""Text."""\nb: int\n_c = 2\nd, e = 3, 4\nself.f = 5\nx.g = 6\n').body
    assert list(silent(body)) == ["b", "d", "e"]
    assert list(silent(body, "self.")) == ["f"]
