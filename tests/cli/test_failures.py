"""What ``flask sessions`` says when something does not work: the cause and the host, and never a password."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path
from urllib.parse import quote

import pytest
from cli_support import error, handle_of, run, shop
from flask import Flask
from forks import NOBODY, as_nobody, let_others_pass, needs_root
from http_support import started
from servers import StartServer

from flask_sessionstore import SessionManager, StoreUnavailable
from flask_sessionstore.cli.failures import explained
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore

PASSWORD = "hush/hush: %&"
QUOTED = quote(PASSWORD, safe="")


def app_of(url: str, **config: object) -> Flask:
    """An application as an environment sets it up, which knows the URL."""
    app = Flask("shop")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE=url, **config)
    SessionManager(app)
    return app


# -- engines that are away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:{}@127.0.0.1:1", ["Redis cannot be reached: ", "127.0.0.1:1", "Connection refused"]),
        ("postgresql://shop:{}@127.0.0.1:1/shop", ["cannot be reached", "127.0.0.1", "port 1 failed", "refused"]),
        ("mysql://shop:{}@127.0.0.1:1/shop", ["cannot be reached", "127.0.0.1", "Connection refused"]),
    ],
)
def test_an_engine_that_is_away_is_named_with_the_cause(url: str, said: list[str]) -> None:
    line = error(app_of(url.format(QUOTED)), "stats")
    assert [word for word in said if word not in line] == []
    assert "hush" not in line


def test_where_the_cause_does_not_name_the_host_the_setting_does() -> None:
    line = error(app_of("memcached://127.0.0.1:1"), "show", "a" * 64)
    assert line.startswith("Error: Memcached cannot be reached: ")
    assert line.endswith(": SESSION_STORE is at 127.0.0.1:1")


def test_check_says_as_much() -> None:
    result = run(app_of(f"redis://:{QUOTED}@127.0.0.1:1"), "check", "--quiet")
    assert (
        "error: The store cannot be used: Redis cannot be reached: Error 111 connecting to 127.0.0.1:1."
        in result.output
    )
    assert "hush" not in result.output


@pytest.mark.redis
def test_a_password_that_is_wrong_is_not_shown(start_redis: StartServer) -> None:
    server = start_redis(requirepass="right")
    line = error(app_of(f"redis://:{QUOTED}@127.0.0.1:{server.port}"), "list")
    assert "hush" not in line
    assert "right" not in line


@pytest.mark.parametrize("where", ["SESSION_STORE", "OLD_STORE", "typed"])
def test_passwords_are_removed_from_what_an_engine_says(where: str) -> None:
    url = f"redis://shop:{QUOTED}@redis.example.com/0?sentinel_password=mumble"
    app = Flask("shop")
    app.config.update({where: url} if where != "typed" else {})
    cause = Exception(f"cannot log in with {PASSWORD}, {QUOTED} or mumble\nand more")
    failure = StoreUnavailable("Redis refused a command")
    failure.__cause__ = cause
    line = explained(failure, app, "copy", *([url] if where == "typed" else []))
    assert line.startswith("Redis refused a command: cannot log in with ***, *** or ***")
    assert "more" not in line, "further lines may show what is in a session"


def test_a_password_is_not_shown_by_copy_either() -> None:
    line = error(shop(MemoryStore()), "copy", f"redis://:{QUOTED}@127.0.0.1:1")
    assert "Connection refused" in line
    assert "hush" not in line


# -- a folder that cannot be read ------------------------------------------------------------------------------------

#: With "" for the handle of a session.
COMMANDS = [
    ["list"],
    ["list", "--json"],
    ["list", "--owner", "ada"],
    ["show", "a"],
    ["show", ""],
    ["revoke", "a"],
    ["revoke", ""],
    ["revoke", "--owner", "ada"],
    ["revoke", "--all", "--yes"],
    ["revoke", "--all", "--dry-run"],
    ["cleanup"],
    ["stats"],
    ["check", "--fail-on", "error", "--quiet"],
]


def make_unreadable(store: FileSystemStore, *, inner: bool) -> None:
    """Give the folder to nobody, and take away the right to look into it, or only into the folders in it."""
    for path in (store.path, *store.path.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    for path in store.path.iterdir() if inner else [store.path]:
        path.chmod(0)


@needs_root
@pytest.mark.parametrize("inner", [False, True], ids=["the folder", "the folders in it"])
def test_a_folder_that_cannot_be_read_is_an_error_for_every_command(tmp_path: Path, inner: bool) -> None:
    let_others_pass(tmp_path)
    store = FileSystemStore(tmp_path / "sessions")
    app = shop(store, SECRET_KEY="k9" * 20)
    handle = handle_of(started(app, user="ada"))
    run(app, "check")  # imports what the commands need: the child can import nothing
    make_unreadable(store, inner=inner)

    def fails(args: list[str]) -> bool:
        result = run(app, *(arg or handle for arg in args))
        return result.exit_code == 1 and "Permission denied" in result.output

    assert as_nobody(lambda: [args for args in COMMANDS if not fails(args)]) == "[]"


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["list"], ["list", "--json"], ["stats"], ["cleanup"], ["revoke", "--all", "--yes"]])
def test_commands_say_that_the_sessions_in_memory_live_in_another_process(args: list[str]) -> None:
    app = app_of("memory:")
    result = run(app, *args, apart=True)
    assert result.stderr == (
        "Note: the sessions in memory: live in the application's process, where commands do not see them.\n"
    )
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["memory:"], "FROM"),
        (["OLD_STORE"], "OLD_STORE"),
        (["MINE", "memory:"], "TO"),
        (["MINE", "OLD_STORE", "--dry-run"], "OLD_STORE"),
    ],
)
def test_nothing_is_copied_from_a_new_memory_or_to_one(args: list[str], named: str) -> None:
    app = shop(MemoryStore(), OLD_STORE="memory:", MINE=MemoryStore())
    assert error(app, "copy", *args) == (
        f"Error: {named}: the sessions in memory: live in the application's process, where commands do not see them"
    )


def test_what_an_application_has_in_a_memory_of_its_own_is_copied() -> None:
    there, here = MemoryStore(), MemoryStore()
    started(shop(there), user="ada")
    assert run(shop(here, OLD_STORE=there), "copy", "OLD_STORE").output.split() == ["copied", "1"]


@pytest.mark.parametrize("args", [["show", "a"], ["revoke", "a" * 64], ["revoke", "--all", "--keep", "a"]])
def test_where_a_session_is_missing_that_is_the_reason(args: list[str]) -> None:
    assert error(app_of("memory:"), *args) == (
        "Error: there is no session under this handle: the sessions in memory: live in the application's process, where"
        " commands do not see them"
    )


def test_nothing_is_said_where_there_are_sessions(tmp_path: Path) -> None:
    app = app_of("memory:")
    started_in = t.cast("t.Any", app.session_interface).store
    store = FileSystemStore(tmp_path / "sessions")
    started(shop(started_in), user="ada")
    for each in (app, shop(store), shop((MemoryStore(), store))):
        assert run(each, "stats", apart=True).stderr == ""


# -- schemas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "memory:", "cookie:"])
def test_a_store_that_needs_no_schema_says_so_and_is_no_failure(url: str) -> None:
    result = run(app_of(url), "create-schema")
    assert result.output.endswith("Store does not need a schema.\n")
    assert result.exit_code == 0
