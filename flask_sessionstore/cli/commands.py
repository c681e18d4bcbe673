"""``flask sessions``: commands for operators, in a terminal or from a script.

They show what other modules collect: as tables for people, or with ``--json`` for programs. Sessions are named by their
handles; the commands never know a session key.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import typing as t

import click
from flask import current_app
from flask.cli import AppGroup

from ..current import interface_in_use, server_store_in_use, store_in_use
from ..errors import ConfigurationError, SessionError, SessionGone, UnsupportedByStore
from ..key import is_handle
from ..record import SessionInfo
from ..stores.abilities import HasSchema
from . import checks, rendering, survey
from .rendering import DAMAGED, Facts, Literal

logger = logging.getLogger("flask_sessionstore")

F = t.TypeVar("F", bound=t.Callable[..., t.Any])


class _Manager(t.Protocol):
    """The methods of the application's SessionManager that the commands use."""

    def find(self, owner: str) -> list[SessionInfo]: ...
    def revoke(self, handle: str) -> bool: ...
    def revoke_all(self, owner: str) -> int: ...


# Matches what may be a session key, or most of its characters, given instead of a handle.
_SECRET = re.compile(r"[\w-]{20,}", re.ASCII)


class _Sessions(AppGroup):
    """Commands whose errors are one line and never quote a session key."""

    def make_context(self, *args: t.Any, **extra: t.Any) -> click.Context:
        with _quoting_no_secret():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> t.Any:
        try:
            with _quoting_no_secret(), _warnings_in_one_line():
                return super().invoke(ctx)
        except SessionError as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@contextlib.contextmanager
def _quoting_no_secret() -> t.Iterator[None]:
    """Remove what may be a session key from click's error messages, which quote wrong arguments."""
    try:
        yield
    except click.UsageError as error:
        error.message = _SECRET.sub("...", error.message)  # type: ignore[misc]  # final in name only
        raise


@contextlib.contextmanager
def _warnings_in_one_line() -> t.Iterator[None]:
    """Print warnings in one line if the application has not set up logging: Python would print tracebacks with them."""
    if logger.hasHandlers():
        yield
        return
    handler = _OneLine(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _OneLine(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"Warning: {record.getMessage()}", err=True)


def _manager() -> _Manager:
    manager: _Manager | None = current_app.extensions.get("sessionstore")
    if manager is None:
        raise ConfigurationError("this application has no SessionManager: call init_app with it first")
    return manager


def _check_handle(handle: str) -> None:
    if not is_handle(handle):
        # Does not quote the argument: it may be a session key, even a shortened one, and this may get into a log.
        raise click.UsageError("a HANDLE is 64 hexadecimal digits in lower case")


def json_option(command: F) -> F:
    """Give a command the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


# -- the commands --------------------------------------------------------------------------------------------------


@click.group("sessions", cls=_Sessions)
def sessions() -> None:
    """Look at sessions, end them, and clean up."""


@sessions.command("list")
@click.option("--owner", help="List only this owner's sessions, most recently extended first.")
@click.option("--limit", type=click.IntRange(min=1), help="List at most this many sessions.")
@json_option
def list_(owner: str | None, limit: int | None, as_json: bool) -> None:
    """List the living sessions."""
    manager = _manager()
    found = survey.sessions_of_everybody(store_in_use()) if owner is None else map(survey.listed, manager.find(owner))
    print_all = rendering.print_array if as_json else _print_table
    print_all(itertools.islice(found, limit))


@sessions.command()
@click.argument("handle")
@click.option("--values", is_flag=True, help="Include the stored values (they are likely to be personal data).")
@json_option
def show(handle: str, values: bool, as_json: bool) -> None:
    """Show one session."""
    _check_handle(handle)
    facts, record = survey.find(server_store_in_use(), handle)
    kept = survey.values_of(record) if values else {}
    if as_json:
        rendering.print_json(facts | ({"values": kept} if values else {}))
        return
    rendering.print_pairs(facts)
    if kept:
        click.echo()
        rendering.print_pairs({key: Literal(value) for key, value in kept.items()})


@sessions.command()
@click.argument("handle", required=False)
@click.option("--owner", help="End all sessions of this owner.")
@click.option("--all", "everybody", is_flag=True, help="End all sessions of all owners.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation of --all.")
@json_option
def revoke(handle: str | None, owner: str | None, everybody: bool, yes: bool, as_json: bool) -> None:
    """End the session HANDLE, all sessions of an owner, or all sessions."""
    if (handle is not None) + (owner is not None) + everybody != 1:
        raise click.UsageError("Give a HANDLE, --owner or --all, and only one of these.")
    manager = _manager()
    if handle is not None:
        _check_handle(handle)
        ended = int(manager.revoke(handle))
        if not ended:
            raise SessionGone("there is no session under this handle")
    elif owner is not None:
        ended = manager.revoke_all(owner)
    else:
        survey.scanning(store_in_use())
        if not yes:
            click.confirm("End all sessions? Everybody will have to sign in again.", abort=True, err=True)
        ended = survey.end_all(store_in_use(), manager.revoke)
    _print_count("ended", ended, as_json)


@sessions.command()
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="How many sessions to remove at a time.",
)
@json_option
def cleanup(batch: int, as_json: bool) -> None:
    """Remove expired sessions, and print how many.

    May run at any time, while the application runs, on many machines at once.
    """
    removed = 0
    steps = survey.removals(store_in_use(), batch)
    with rendering.progress(steps, lambda: f"{removed} removed") as shown:
        for count in shown:
            removed += count
    _print_count("removed", removed, as_json)


@sessions.command()
@json_option
def stats(as_json: bool) -> None:
    """Count the sessions."""
    print_facts = rendering.print_json if as_json else rendering.print_pairs
    print_facts(survey.totals(store_in_use()))


@sessions.command()
@json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Show the settings and their risks.

    The exit code is 0 if there are no findings, and 1 if there are.
    """
    interface = interface_in_use()
    with current_app.test_request_context():  # an application's cookie settings may depend on the request
        settings = checks.settings_of(current_app, interface)
        findings = checks.findings_of(current_app, interface)
    if as_json:
        rendering.print_json({"settings": settings, "findings": findings})
    else:
        rendering.print_pairs(settings)
        click.echo()
        rendering.print_list(findings, "No findings.")
    ctx.exit(1 if findings else 0)


@sessions.command("create-schema")
def create_schema() -> None:
    """Create the table or the indexes that the store needs, if they are missing."""
    store = store_in_use()
    engine = store.ability(HasSchema)
    if engine is None:
        raise UnsupportedByStore(f"{type(store).__name__} does not need a schema")
    engine.create_schema()
    click.echo("The schema exists.")


def _print_count(done: str, count: int, as_json: bool) -> None:
    if as_json:
        rendering.print_json({done: count})
    else:
        click.echo(f"{count} {done}")


#: The columns of a list for people, and their widths.
_COLUMNS = {"handle": 64, "extended_at": 20, "expires_at": 20, "owner": 20, "client": 0}


def _print_table(rows: t.Iterator[Facts]) -> None:
    shown = ({**row, "extended_at": DAMAGED} if row["damaged"] else row for row in rows)
    rendering.print_table(shown, _COLUMNS, "No sessions.")
