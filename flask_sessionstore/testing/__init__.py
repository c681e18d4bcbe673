"""For tests of applications, and of stores that others write.

The parts that need pytest are imported when they are first used, so the other parts work without pytest.
"""

from __future__ import annotations

import importlib
import typing as t

from .clock import Clock
from .faulty import FaultyStore

if t.TYPE_CHECKING:
    from .contract import SessionStoreContract, StoreContract, later

__all__ = ["Clock", "FaultyStore", "SessionStoreContract", "StoreContract", "later"]


def __getattr__(name: str) -> t.Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    # Before the module is imported, so that pytest shows the compared values when a test of the contract fails.
    pytest.register_assert_rewrite(f"{__name__}.contract")
    return getattr(importlib.import_module(f"{__name__}.contract"), name)
