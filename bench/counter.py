"""What a counted process has. It imports next to nothing, because imports are counted, too."""

from __future__ import annotations

import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Counter:
    """Counts from now on, and dumps each count under its name; *library* is built by :mod:`bench.callgrind`."""

    def __init__(self, library: str) -> None:
        self.calls = ctypes.CDLL(library)
        self.calls.start()

    def count(self, name: str, run: Callable[[], object]) -> None:
        self.calls.zero()
        run()
        self.calls.dump(name.encode())
