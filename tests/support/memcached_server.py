"""Real Memcached servers for the tests, and an emulator of MongoDB."""

from __future__ import annotations

import typing as t
from pathlib import Path

from servers import Server, program


class _Server(Server):
    """A server with a port, which gets its settings on the command line.

    :param options: further arguments of the program.
    """

    name: t.ClassVar[str]
    scheme: t.ClassVar[str]

    def __init__(self, *options: str) -> None:
        super().__init__(program(self.name))
        self.options = options

    @property
    def url(self) -> str:
        """The store's URL, without a path."""
        return f"{self.scheme}://127.0.0.1:{self.port}"


class MemcachedServer(_Server):
    """Memcached. After a restart it is empty."""

    name, scheme = "memcached", "memcached"
    ready = "server listening"

    def command(self, port: int) -> list[str | Path]:
        # It reports that it listens only with -vv, and after it listens. It refuses to run as root, unless
        # it is told to do so.
        words = ["-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-vv"]
        return [self.program, *words, *self.options]


class NXServer(_Server):
    """An emulator of MongoDB, over SQLite. It is not MongoDB. It keeps its documents over a restart."""

    name, scheme = "nx-27017", "mongodb"
    ready = "Listening on"

    def command(self, port: int) -> list[str | Path]:
        files = {"--db": "sessions.db", "--log-file": "log", "--pid-file": "pid"}
        paths = [word for option, file in files.items() for word in (option, str(self.folder / file))]
        return [self.program, "--host", "127.0.0.1", "--port", str(port), *paths, *self.options]
