"""Comparisons of secrets take the same time wherever they differ, and no engine is asked to compare one."""

from __future__ import annotations

import ast
import sys
import types
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from attacks import PROTECTIONS, by_owner, target
from http_support import Browser, started
from views import clear, renew

import flask_sessionstore
from flask_sessionstore import SessionKey, session
from flask_sessionstore.stores.memory import MemoryStore

PACKAGE = Path(flask_sessionstore.__file__).parent
#: What compares in constant time: Python's own; and AES-GCM's, within which OpenSSL compares the tag (CRYPTO_memcmp).
CONSTANT_TIME = {"signed": "compare_digest", "private": "decrypt"}


def builtins_called(action: t.Callable[[], object]) -> set[str]:
    """The names of all functions written in C (or Rust) that ``action`` calls."""
    called = set()

    def note(frame: types.FrameType, event: str, function: t.Any) -> None:
        if event == "c_call":
            called.add(function.__name__)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return called


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("good", [True, False])
def test_a_token_s_signature_is_compared_in_constant_time(good: bool, protection: str) -> None:
    app = target(MemoryStore(), SESSION_COOKIE_CONTENT_SECURITY=protection)
    user = started(app, n=1)
    token = t.cast("str", user.cookie)
    text = token if good else token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:]
    called: set[str] = set()
    Browser(app, text).does(lambda: called.update(builtins_called(lambda: session.get("n"))))
    assert CONSTANT_TIME[protection] in called


def test_session_keys_are_compared_in_constant_time() -> None:
    one, other = SessionKey.generate(), SessionKey.generate()
    assert "compare_digest" in builtins_called(lambda: one == other)


@pytest.mark.parametrize("module", ["signing", "encryption", "key"])
def test_no_secret_is_compared_by_an_operator(module: str) -> None:
    """In the modules that know secrets, == and != are for constants, and for the text that the browser itself sent."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    suspects = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, (ast.Eq, ast.NotEq)) for operator in node.ops)
        and not any(_is_harmless(side) for side in (node.left, *node.comparators))
    ]
    assert suspects == []


def _is_harmless(side: ast.expr) -> bool:
    text = ast.unparse(side)
    return isinstance(side, ast.Constant) or text.startswith("len(") or text.strip("_").isupper() or text == "text"


class Listening(MemoryStore):
    """Notes all that an engine is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def read(self, handle: str) -> bytes | None:
        self.told.append(handle)
        return super().read(handle)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        self.told += [handle, data]
        return super().add(handle, data, ttl)

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        self.told += [handle, data, replaces]
        return super().swap(handle, data, ttl, replaces=replaces)

    def drop(self, handle: str) -> None:
        self.told.append(handle)
        super().drop(handle)


def test_an_engine_never_learns_a_session_key() -> None:
    """It looks records up by a hash, whose timing says nothing about the key (CVE-2019-16782 is the other way)."""
    store = Listening()
    app = target(store)
    user = Browser(app)
    keys = []
    for action in (by_owner, lambda: session.update(n=1), renew, clear):
        user.does(action)
        keys += [user.key] if user.key else []
    assert len(set(keys)) >= 2
    told = " ".join(item.hex() + repr(item) if isinstance(item, bytes) else str(item) for item in store.told)
    for key in keys:
        assert key not in told
        assert key.encode().hex() not in told
        assert SessionKey(key).handle in told


@pytest.mark.parametrize(
    "engine", ["memory", "filesystem", "redis", "sqlalchemy", "memcached", "dynamodb", "mongodb", "caching"]
)
def test_no_engine_reads_the_text_of_a_key(engine: str) -> None:
    """str() of a session key is for the browser: no engine's source has it."""
    stores = PACKAGE / "stores"
    files = [path for path in (stores / f"{engine}.py", *(stores / engine).glob("*.py")) if path.exists()]
    assert files
    assert not any("str(key)" in path.read_text() for path in files)
