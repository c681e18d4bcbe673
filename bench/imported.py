"""The process whose imports are counted: python -m bench.imported LIBRARY."""

from __future__ import annotations

import sys

from .counter import Counter

FIRST, THEN = "flask", "flask_sessionstore"


def main(library: str) -> None:
    counter = Counter(library)
    counter.count(FIRST, lambda: __import__(FIRST))
    counter.count(THEN, lambda: __import__(THEN))


if __name__ == "__main__":
    main(*sys.argv[1:])
