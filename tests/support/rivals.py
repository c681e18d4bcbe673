"""Other writers of a session, each of which is faster than the write under test."""

from __future__ import annotations

import typing as t

from http_support import Browser
from views import count


class Rivals:
    """Before each write of a session another writer writes first, up to ``number`` times."""

    def __init__(self, store: t.Any, browser: Browser, number: int) -> None:
        self.left, self.loads = number, 0
        self._store, self._browser = store, browser
        self._swap, self._read = store.swap, store.read
        store.swap, store.read = self.swap, self.read

    def read(self, handle: str) -> bytes | None:
        self.loads += 1
        return t.cast("bytes | None", self._read(handle))

    def swap(self, handle: str, *args: t.Any, **kwargs: t.Any) -> bool:
        if self.left:
            self.left -= 1
            self._store.swap, self._store.read = self._swap, self._read
            self._browser.does(count)
            self._store.swap, self._store.read = self.swap, self.read
        return t.cast("bool", self._swap(handle, *args, **kwargs))
