"""Real Memcached servers for the tests, and what speaks MongoDB's protocol.

As in servers.py: only what was started here is ever spoken to or ended. A server listens on a free port of the loopback
interface, keeps its files in a temporary folder, and dies with the process that started it.
"""

from __future__ import annotations

import collections
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import typing as t
from pathlib import Path

import pytest
from servers import ASKED_FOR, LEASH, _free_port


def _found(name: str, folder: str) -> Path | None:
    path = shutil.which(name, path=os.pathsep.join([folder, os.environ.get("PATH", "")]))
    return Path(path) if path else None


#: The programs: name -> (where it is if it is installed, where to get it).
PROGRAMS: dict[str, tuple[t.Callable[[], Path | None], str]] = {
    "memcached": (lambda: _found("memcached", "/usr/bin"), "apt-get install memcached, on Debian"),
    "nx-27017": (
        lambda: _found("nx-27017", str(Path(sys.executable).parent)),
        "pip install nx-27017, into an environment on the PATH if this one's pymongo is older than it needs",
    ),
}


def program(name: str) -> Path:
    """The program of this name. Without it the test is skipped, or fails if the program was asked for."""
    find, remedy = PROGRAMS[name]
    if path := find():
        return path
    if name in os.environ.get(ASKED_FOR, "").split(","):
        pytest.fail(f"{ASKED_FOR} asks for {name}, which is not installed: {remedy}")
    pytest.skip(f"{name} is not installed: {remedy}")


class Server:
    """One server of our own; as a context manager it runs inside the block.

    :param options: further words of its command line.
    """

    name: t.ClassVar[str]
    scheme: t.ClassVar[str]
    #: What it says when it is ready.
    ready: t.ClassVar[str]

    def __init__(self, *options: str) -> None:
        self.program = program(self.name)
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="server-"))
        self.port = 0
        self.log: collections.deque[str] = collections.deque(maxlen=200)
        self._process: subprocess.Popen[str] | None = None

    def command(self, port: int) -> list[str]:
        """The words after the program's name."""
        raise NotImplementedError

    def __enter__(self) -> t.Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove its files."""
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def url(self) -> str:
        """The store's URL, without a path."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """True also while it is paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and return when it answers. Once ended, it comes back on the port that it had."""
        for _ in range(5):
            port = self.port or _free_port()
            if self._launch(port):
                self.port = port
                return
            if self.port:
                break  # else somebody may have taken the port after we had looked
        raise RuntimeError("the server did not start:\n" + "".join(self.log))

    def _launch(self, port: int) -> bool:
        self.log.clear()
        self._process = subprocess.Popen(
            [*LEASH, self.program, *self.command(port), *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        settled = threading.Event()
        threading.Thread(target=self._read_log, args=(self._process, settled), daemon=True).start()
        settled.wait(timeout=30)
        if any(self.ready in line for line in self.log) and self.running:
            return True
        self.kill()
        return False

    def _read_log(self, process: subprocess.Popen[str], settled: threading.Event) -> None:
        """Keep the pipe empty, so that the server never waits for a reader; tell when it is ready or gone."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if not settled.is_set():
                    self.log.append(line)
                if self.ready in line:
                    settled.set()
        process.wait()
        settled.set()

    def kill(self) -> None:
        """End it at once, paused or not; nothing if it is not running."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it hang: connections are accepted by the system, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # all its threads: until then it may still answer

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self._process is not None:
            self._process.wait(timeout=30)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class MemcachedServer(Server):
    """Memcached. It comes back empty."""

    name, scheme = "memcached", "memcached"
    ready = "server listening"

    def command(self, port: int) -> list[str]:
        # It listens before it says so, and says so only if it is told to say everything. It refuses to be root unless
        # it is told to be.
        return ["-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-vv"]


class NXServer(Server):
    """What speaks MongoDB's protocol, over SQLite. It is not MongoDB. What it kept is there when it comes back."""

    name, scheme = "nx-27017", "mongodb"
    ready = "Listening on"

    def command(self, port: int) -> list[str]:
        files = {"--db": "sessions.db", "--log-file": "log", "--pid-file": "pid"}
        paths = [word for option, file in files.items() for word in (option, str(self.folder / file))]
        return ["--host", "127.0.0.1", "--port", str(port), *paths]
