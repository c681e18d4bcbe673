"""Stores in Memcached, for the tests of MemcachedStore."""

from __future__ import annotations

import typing as t

from pymemcache import Client


class Watched(Client):  # type: ignore[misc]  # pymemcache has no types
    """A client that records its commands. A test may do something before each command is sent."""

    sent: t.ClassVar[list[str]] = []
    before: t.ClassVar[dict[str, t.Callable[[], object]]] = {}
    #: Whether this is done before every command, or only once.
    again: t.ClassVar[bool] = False

    def _note(self, command: str) -> None:
        self.sent.append(command)
        if command in self.before:
            (self.before.__getitem__ if self.again else self.before.pop)(command)()

    def gets(self, *args: t.Any, **options: t.Any) -> t.Any:
        self._note("gets")
        return super().gets(*args, **options)

    def add(self, *args: t.Any, **options: t.Any) -> t.Any:
        self._note("add")
        return super().add(*args, **options)

    def cas(self, *args: t.Any, **options: t.Any) -> t.Any:
        self._note("cas")
        return super().cas(*args, **options)

    def delete(self, *args: t.Any, **options: t.Any) -> t.Any:
        self._note("delete")
        return super().delete(*args, **options)
