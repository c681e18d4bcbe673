"""gunicorn, serving the example shop as readers would serve it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import flask_sessionstore


@contextlib.contextmanager
def gunicorn(folder: Path, application: str, *options: str, settings: t.Mapping[str, str]) -> t.Iterator[int]:
    """Serve an application that is imported from ``folder``; the result is the port on 127.0.0.1.

    :param settings: variables of its environment.
    """
    # The socket listens before the server runs: whoever connects waits in its queue, and nobody has to poll.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        own = [f"--bind=fd://{listener.fileno()}", f"--chdir={folder}", "--no-control-socket"]
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *own, *options, application],
            env=environment(settings),
            pass_fds=[listener.fileno()],
        )
    try:
        yield port
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def environment(settings: t.Mapping[str, str]) -> dict[str, str]:
    """The environment without the developer's settings, and with the package that these tests import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "GUNICORN_"))}
    package = str(Path(flask_sessionstore.__file__).parents[1])
    return {**kept, "PYTHONPATH": package, **settings}
