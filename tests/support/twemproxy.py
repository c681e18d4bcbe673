"""A proxy in front of Redis servers."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import servers
from redis_clusters import until


class Twemproxy(servers.Server):
    """Twemproxy in front of some Redis servers, each of which has some of the keys."""

    ready = "run, rabbit run"

    def __init__(self, *behind: servers.RedisServer) -> None:
        super().__init__(servers.program("twemproxy"))
        self.behind = behind

    def command(self, port: int) -> list[str | Path]:
        config = self.folder / "nutcracker.yml"
        config.write_text(
            f"sessions:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  timeout: 2000\n"
            "  servers:\n" + "".join(f"   - 127.0.0.1:{server.port}:1\n" for server in self.behind)
        )
        files: list[str | Path] = ["-c", config, "-p", self.folder / "pid", "-o", "/dev/stdout"]
        return [self.program, *files, "-a", "127.0.0.1", "-s", str(servers._free_port())]

    def start(self) -> None:
        super().start()
        until(lambda: self._is_there)  # its output says so too early

    @property
    def _is_there(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False
