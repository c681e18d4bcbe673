"""``flask sessions``: errors, the real program, and what the documentation shows of it."""

from __future__ import annotations

import doctest
import hashlib
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import typing as t
from datetime import timedelta
from pathlib import Path

import click
import pytest
import shop_server
from cli_support import error, handle_of, output, run, shop
from click.shell_completion import ShellComplete
from flask import Flask
from http_support import make_app, started

from flask_sessionstore import SessionKey, SessionManager, cli
from flask_sessionstore.cli import moves, rendering  # noqa: F401  - moves adds its commands
from flask_sessionstore.cli.commands import sessions
from flask_sessionstore.codec import encode
from flask_sessionstore.current import interface_in_use
from flask_sessionstore.layout import pack
from flask_sessionstore.migrate import from_store
from flask_sessionstore.migrate.other_store import credential_of
from flask_sessionstore.record import Record
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import Clock, FaultyStore

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cli.rst"
DEAD = "redis://127.0.0.1:1"  # where nobody listens
DAY = timedelta(days=1)


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "--owner", "ada"],
        ["show", "a" * 64],
        ["revoke", "a" * 64],
        ["revoke", "--owner", "ada"],
        ["revoke", "--all", "--yes"],
        ["cleanup"],
        ["stats"],
    ],
    ids=" ".join,
)
def test_what_a_store_cannot_do_is_an_error(args: list[str]) -> None:
    assert error(shop(CookieStore()), *args).startswith("Error: CookieStore ")


@pytest.mark.parametrize("args", [["list"], ["stats"], ["revoke", "--all"]], ids=" ".join)
def test_memcached_cannot_list_sessions(args: list[str]) -> None:
    assert error(shop("memcached://127.0.0.1:1"), *args) == "Error: MemcachedStore cannot list all sessions"


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "--json"],
        ["list", "--owner", "ada"],
        ["show", "a" * 64],
        ["revoke", "a" * 64],
        ["revoke", "--all", "--yes"],
        ["cleanup"],
        ["stats"],
    ],
    ids=" ".join,
)
def test_a_store_that_cannot_be_reached_is_an_error(args: list[str]) -> None:
    said = error(shop(DEAD), *args)
    assert said == "Error: Redis cannot be reached: Error 111 connecting to 127.0.0.1:1. Connection refused"


def test_a_store_that_fails_on_the_way_is_an_error() -> None:
    store = FaultyStore(MemoryStore())
    app = shop(store)
    for _ in range(3):
        started(app, user="ada")
    store.fail("swap")
    assert error(app, "revoke", "--all", "--yes").startswith("Error: ")
    assert output(app, "revoke", "--all", "--yes") == "3 ended\n"


def test_an_owner_that_there_cannot_be_is_an_error() -> None:
    assert error(shop(MemoryStore()), "revoke", "--owner", "x" * 256).startswith("Error: the session's owner must be")


def test_without_a_session_manager_there_is_an_error() -> None:
    app = Flask("bare")
    app.cli.add_command(cli.later)
    assert error(app, "list") == "Error: this application has no SessionManager: call init_app with it first"


def test_the_commands_are_imported_only_when_one_is_run() -> None:
    code = "import sys, flask_sessionstore; print([name for name in sys.modules if 'sessionstore.cli.' in name])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_command_is_listed_and_completed_like_others() -> None:
    app = shop(MemoryStore())
    text = app.test_cli_runner().invoke(args=["--help"]).output
    assert re.search(r"^  sessions +Look at sessions, end them, and clean up\.$", text, re.MULTILINE)
    complete = ShellComplete(app.cli, {}, "flask", "_FLASK_COMPLETE")
    assert {item.value for item in complete.get_completions(["sessions"], "")} == set(sessions.commands)


def test_an_application_keeps_its_own_command() -> None:
    own = click.Command("sessions", callback=lambda: click.echo("its own"))
    early, late = Flask("early"), Flask("late")
    early.cli.add_command(own)
    SessionManager(early)
    SessionManager(late)
    late.cli.add_command(own)
    for app in (early, late):
        assert output(app) == "its own\n"


def test_no_command_shows_a_session_key() -> None:
    app = shop(MemoryStore())
    browser = started(app, user="ada")
    key = t.cast("str", browser.key)
    handle = handle_of(browser)
    for args in (["list"], ["show", handle, "--values"], ["stats"], ["check"], ["cleanup"], ["revoke", handle]):
        for form in ([], ["--json"]):
            assert key not in run(app, *args, *form).output


# -- for real --------------------------------------------------------------------------------------------------------


@pytest.fixture
def flask(tmp_path: Path) -> t.Callable[..., subprocess.Popen[bytes]]:
    """``flask --app shop`` in a folder of its own, started with settings in the environment."""
    shutil.copytree(ROOT / "examples" / "shop", tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__"))

    def start(*args: str, settings: t.Mapping[str, str], **options: t.Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flask", "--app", "shop", "sessions", *args]
        return subprocess.Popen(command, cwd=tmp_path, env=shop_server.environment(settings), **options)

    return start


def test_the_shops_sessions_in_a_terminal(flask: t.Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    app = make_app(FileSystemStore(folder), SESSION_OWNER_KEY="user_id", PERMANENT_SESSION_LIFETIME=0.001)
    started(app, user_id="ada")
    settings = {
        "FLASK_SESSION_STORE": f"file://{folder}",
        "FLASK_SESSION_RECORD_CLIENT": "false",
        "COLUMNS": "80",
    }
    seen = _in_a_terminal(lambda slave: flask("cleanup", settings=settings, stdout=slave, stderr=slave))
    assert b"\rRemoving  [" in seen.replace(b"\x1b[?25l", b"")
    assert seen.endswith(b"\r\n1 removed\r\n")
    started(make_app(FileSystemStore(folder), SESSION_OWNER_KEY="user_id"), user_id="ada" * 80)
    seen = _in_a_terminal(lambda slave: flask("list", settings=settings, stdout=slave, stderr=slave))
    header, row = seen.decode().splitlines()
    assert header == "\x1b[1mHANDLE        EXTENDED      EXPIRES       OWNER\x1b[0m"
    assert re.fullmatch(r"[0-9a-f]{12}  (now|\d+ (s|min) ago) +in \d+ days +(ada)+a?d?\.\.", row)
    assert len(row) == 80
    settings["FLASK_SESSION_STORE"] = "memory:"
    said = _in_a_terminal(lambda slave: flask("show", "a", settings=settings, stdout=slave, stderr=slave)).decode()
    assert said.splitlines() == [
        "Error: there is no session under this handle: the sessions in memory: live in",
        "the application's process, where commands do not see them",
    ]


def _in_a_terminal(start: t.Callable[[int], subprocess.Popen[bytes]]) -> bytes:
    """What a program writes to a terminal."""
    master, slave = pty.openpty()
    with start(slave):
        os.close(slave)
        seen = b"".join(iter(lambda: _read(master), b""))
    os.close(master)
    return seen


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_the_shops_sessions_beside_a_cache_that_is_down(
    flask: t.Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    folder = tmp_path / "sessions"
    browser = started(make_app(FileSystemStore(folder), SESSION_OWNER_KEY="user_id"), user_id="ada")
    settings = {"FLASK_SESSION_STORE": json.dumps([DEAD, f"file://{folder}"])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with flask("revoke", "--owner", "ada", settings=settings, **pipes) as process:
        shown, complaint = process.communicate()
    assert (process.returncode, shown) == (0, b"1 ended\n")
    assert complaint == b"Warning: the session cache is not used for a while: Redis cannot be reached\n"
    assert browser.data == {}


# -- the documentation -----------------------------------------------------------------------------------------------


def _documented() -> list[tuple[str, str]]:
    """The commands on the page, each with what it is shown to print."""
    shown = re.findall(r"\.\. code-block:: console\n\n((?:    .*\n|\n)+)", PAGE.read_text())
    texts = ["\n".join(line[4:] for line in block.rstrip().split("\n")) for block in shown]
    commands = [part.partition("\n") for text in texts for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    return [(command, printed.rstrip()) for command, _, printed in commands]


@pytest.fixture
def documented_app(tmp_path: Path, clock: Clock) -> Flask:
    """The application whose sessions the page shows."""
    store = SQLAlchemyStore.from_url(f"sqlite:///{tmp_path}/shop.db")
    store.create_schema()
    store.clock = clock
    app = shop(
        store,
        SESSION_OWNER_KEY="user_id",
        SESSION_RECORD_CLIENT=True,
        PERMANENT_SESSION_LIFETIME=timedelta(days=14),
    )
    app.config["SECRET_KEY"] = "dev"
    _keep(store, "expired", timedelta(hours=1))
    clock.advance(6 * 3600)
    _keep(store, "computer", DAY * 14, user_id="ada", cart={"mug": 2}, client="Firefox on Linux, 192.0.2.7")
    clock.advance(3 * 3600)
    _keep(store, "phone", DAY * 14, user_id="ada", client="Safari on iPhone, 198.51.100.23")
    _keep(store, "anonymous", DAY * 14, cart={"lamp": 1})
    old = SQLAlchemyStore.from_url(f"sqlite:///{tmp_path}/old.db")
    old.create_schema()
    old.clock = clock
    for name in ("desk", "tablet", "lamp"):
        _keep(old, name, DAY * 14, cart={name: 1})
    copied_before = next(iter(old.scan()))
    with app.app_context():
        interface_in_use().importers.append(from_store(old))
    app.config["OLD_STORE"] = old
    store.mark(credential_of(SessionKey.of(copied_before.handle)).mark, copied_before.handle, DAY)
    return app


def _keep(store: SQLAlchemyStore, name: str, ttl: timedelta, client: str | None = None, **values: object) -> None:
    """A session whose handle is the same at every run."""
    owner = t.cast("str | None", values.get("user_id"))
    state = {key: encode(value, key) for key, value in values.items()}
    record = Record(state=state, owner=owner, client=client).written(store._now_ms(), ttl)
    handle = hashlib.sha256(name.encode()).hexdigest()
    store.add(handle, pack(record, handle), ttl)


@pytest.mark.usefixtures("lasting_disk")
def test_the_documentation_shows_what_the_commands_print(
    documented_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _documented()
    assert {shlex.split(command)[4] for command, _ in shown} == set(sessions.commands)
    for line, printed in shown:
        command, pipe, _ = line.partition(" | cat")
        monkeypatch.setattr(rendering, "terminal_width", lambda pipe=pipe: None if pipe else 80)
        *flask_command, group = shlex.split(command)[:4]
        assert (flask_command, group) == (["flask", "--app", "shop"], "sessions")
        result = run(documented_app, *shlex.split(command)[4:]).output.rstrip()
        assert doctest.OutputChecker().check_output(printed, result, doctest.ELLIPSIS), (command, printed, result)


def test_every_command_and_option_is_documented() -> None:
    text = PAGE.read_text()
    for name, command in sessions.commands.items():
        assert f"``flask sessions {name}" in text
        for option in (opt for param in command.params for opt in param.opts if opt.startswith("--")):
            assert option in text
