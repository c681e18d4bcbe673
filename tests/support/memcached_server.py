"""Real Memcached servers for the tests, and what speaks MongoDB's protocol."""

from __future__ import annotations

import typing as t
from pathlib import Path

from servers import Server, program


class _Server(Server):
    """A server that is spoken to by a port, and told things by the words of its command line.

    :param options: further words.
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
    """Memcached. It comes back empty."""

    name, scheme = "memcached", "memcached"
    ready = "server listening"

    def command(self, port: int) -> list[str | Path]:
        # It listens before it says so, and says so only if it is told to say everything. It refuses to be root unless
        # it is told to be.
        words = ["-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-vv"]
        return [self.program, *words, *self.options]


class NXServer(_Server):
    """What speaks MongoDB's protocol, over SQLite. It is not MongoDB. What it kept is there when it comes back."""

    name, scheme = "nx-27017", "mongodb"
    ready = "Listening on"

    def command(self, port: int) -> list[str | Path]:
        files = {"--db": "sessions.db", "--log-file": "log", "--pid-file": "pid"}
        paths = [word for option, file in files.items() for word in (option, str(self.folder / file))]
        return [self.program, "--host", "127.0.0.1", "--port", str(port), *paths, *self.options]
