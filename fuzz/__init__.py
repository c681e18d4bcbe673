"""Fuzzing: bytes that nobody wrote, given to everything that reads what a browser or a store holds.

Each module named in :data:`TARGETS` has ``check(data)``, which fails if a property does not hold for these bytes, and
``seeds()``, inputs to start from. ``python -m fuzz`` searches for failures with atheris, guided by coverage. What it
finds it leaves in ``tests/security/corpus``, and the test suite tries all that is kept there on every run.

For every input:

* no exception but those that are documented;
* no hang: within :data:`SECONDS`;
* no memory beyond :func:`memory_bound` of its length, whatever lengths it claims inside.
"""

from __future__ import annotations

import importlib
import tracemalloc
import typing as t
from pathlib import Path

#: The modules that read, and what they read: Cookie headers, stored records, stored values.
TARGETS = ("tokens", "records", "values")
#: Inputs that are kept, in a folder for each target.
CORPUS = Path(__file__).resolve().parents[1] / "tests" / "security" / "corpus"
#: The longest input that is tried.
MAX_LENGTH = 64 * 1024
#: How long one input may take on a busy machine.
SECONDS = 10


class Target(t.Protocol):
    """A module of :data:`TARGETS`."""

    def check(self, data: bytes) -> None:
        """Fail if a property does not hold for ``data``."""

    def seeds(self) -> list[bytes]:
        """Inputs to start from."""


def target(name: str) -> Target:
    """The target of this name."""
    return t.cast("Target", importlib.import_module(f".{name}", __name__))


def kept(name: str) -> list[Path]:
    """The inputs that are kept for a target."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())


def memory_bound(length: int) -> int:
    """The memory that an input of ``length`` bytes may take, in bytes.

    The smallest dict takes 64 bytes, and one byte of input to ask for. Twice that for what is there twice while a value
    is written again, the rest for what Python and Flask need for any request.
    """
    return 256 * length + 1024 * 1024


def memory_used(check: t.Callable[[bytes], None], data: bytes) -> int:
    """What ``check(data)`` takes at its peak, in bytes. To be called while tracemalloc is tracing."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    check(data)
    return tracemalloc.get_traced_memory()[1] - before
