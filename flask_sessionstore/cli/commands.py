"""``flask sessions``: commands for operators, in a terminal or from a script.

They show what other modules collect: as tables for people, or with ``--json`` for programs. Sessions are named by their
handles; the commands never know a session key.
"""

from __future__ import annotations

import collections
import itertools
import typing as t
from datetime import datetime

import click
from flask import current_app

from ..current import app_in_use, interface_in_use, server_store_in_use, store_in_use
from ..errors import ConfigurationError
from ..record import SessionInfo
from ..stores.abilities import HasSchema
from . import as_json, checks, endings, listing, rendering, survey, tables
from .as_json import Facts
from .group import SessionsGroup
from .handles import no_session, resolved
from .progress import aborting, progress
from .rendering import Literal
from .times import span

F = t.TypeVar("F", bound=t.Callable[..., t.Any])

#: How many sessions a list for people shows, if it is not told another number.
_SHOWN = 50
_COLORS: dict[str, str] = {"error": "red", "warning": "yellow", "note": "cyan"}


class _Manager(t.Protocol):
    """The methods of the application's SessionManager that the commands use."""

    def find(self, owner: str) -> list[SessionInfo]: ...
    def revoke(self, handle: str) -> bool: ...
    def revoke_all(self, owner: str, *, keep: str | None = None) -> int: ...


def _manager() -> _Manager:
    manager: _Manager | None = current_app.extensions.get("sessionstore")
    if manager is None:
        raise ConfigurationError("this application has no SessionManager: call init_app with it first")
    return manager


def json_option(command: F) -> F:
    """Give a command the option ``--json``."""
    return click.option("--json", "json", is_flag=True, help="Print JSON.")(command)


def dry_run_option(command: F) -> F:
    """Give a command the option ``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="Only count what would be done.")(command)


@click.group("sessions", cls=SessionsGroup)
def sessions() -> None:
    """Look at sessions, end them, and clean up."""


# -- looking -------------------------------------------------------------------------------------------------------


@sessions.command("list")
@click.option("--owner", help="Only this owner's sessions, most recently extended first.")
@click.option("--anonymous", is_flag=True, help="Only sessions without an owner.")
@click.option("--client", metavar="TEXT", help="Only sessions whose client contains this text.")
@click.option("--idle", type=span, metavar="SPAN", help="Only sessions not extended for so long: 90, 30m, 2h, 7d.")
@click.option("--larger", type=listing.size, metavar="SIZE", help="Only sessions of more bytes: 500, 20k, 1M.")
@click.option("--sort", type=click.Choice(list(listing.SORTS)), help="What to sort by. Reads all before it prints.")
@click.option("--limit", type=click.IntRange(min=1), help=f"At most this many. [default: {_SHOWN}; with --json: all]")
@click.option("--wide", is_flag=True, help="Whole handles, all columns, exact times; nothing is cut off.")
@json_option
def list_(sort: str | None, limit: int | None, wide: bool, json: bool, **asked: t.Any) -> None:
    """List the living sessions."""
    rows = listing.rows(store_in_use(), _manager().find, **asked)
    limit = limit or (None if json else _SHOWN)
    with aborting(lambda: rows.count, "read"):
        chosen: t.Iterator[Facts] = itertools.islice(rows, limit)
        if sort is not None:
            with progress(rows, "Reading", "read") as read:
                chosen = listing.in_order(read, sort, limit)
        if json:
            as_json.print_array(chosen)
        else:
            shown = _print_rows(chosen, wide, one_owner=asked["owner"] is not None)
            _say_how_many_more(rows, shown, limit)


def _print_rows(rows: t.Iterator[Facts], wide: bool, *, one_owner: bool) -> int:
    """Print a table for people, and return how many rows it has."""
    short = rendering.terminal_width() is not None and not wide
    columns = (
        tables.WIDE
        if wide
        else tables.columns(
            times=tables.RELATIVE if short else tables.EXACT,
            owners=not one_owner,
            clients=interface_in_use().policy_of(app_in_use()).record_client or not short,
        )
    )
    now = listing.now_of(store_in_use()) if short else None
    return rendering.print_table(tables.for_people(rows, wide), columns, "No sessions.", now)


def _say_how_many_more(rows: listing.Rows, shown: int, limit: int | None) -> None:
    if rows.count == limit:  # otherwise all were read already
        with progress(rows, "Counting", "counted") as rest:
            collections.deque(rest, maxlen=0)
    if rows.count > shown:
        click.echo(f"{rows.count - shown:,} more: see --limit.", err=True)


@sessions.command()
@click.argument("handle")
@click.option("--values", is_flag=True, help="Include the stored values (they are likely to be personal data).")
@json_option
def show(handle: str, values: bool, json: bool) -> None:
    """Show one session."""
    store = server_store_in_use()
    facts, record = survey.find(store, resolved(store, handle))
    kept = survey.values_of(record) if values else {}
    if json:
        as_json.print_json(facts | ({"values": kept} if values else {}))
        return
    rendering.print_pairs(facts, _now_on_terminal())
    if kept:
        click.echo()
        rendering.print_pairs({key: Literal(value) for key, value in kept.items()})


def _now_on_terminal() -> datetime | None:
    return None if rendering.terminal_width() is None else listing.now_of(store_in_use())


@sessions.command()
@json_option
def stats(json: bool) -> None:
    """Count the sessions."""
    store = store_in_use()
    totals = survey.Totals(survey.now_ms_of(store))
    with progress(survey.scan(store), "Counting", "counted") as found:
        for each in found:
            totals.add(each)
    if json:
        as_json.print_json(totals.facts())
    else:
        rendering.print_pairs(totals.facts(), _now_on_terminal())


# -- ending, cleaning up -------------------------------------------------------------------------------------------


@sessions.command()
@click.argument("handle", required=False)
@click.option("--owner", help="End all sessions of this owner.")
@click.option("--all", "everybody", is_flag=True, help="End all sessions of all owners.")
@click.option("--keep", metavar="HANDLE", help="With --owner or --all: do not end this session.")
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation of --all.")
@json_option
def revoke(
    handle: str | None, owner: str | None, everybody: bool, keep: str | None, dry_run: bool, yes: bool, json: bool
) -> None:
    """End the session HANDLE, all sessions of an owner, or all sessions."""
    if (handle is not None) + (owner is not None) + everybody != 1:
        raise click.UsageError("Give a HANDLE, --owner or --all, and only one of these.")
    if handle is not None and keep is not None:
        raise click.UsageError("--keep needs --owner or --all.")
    kept = None if keep is None else _found(keep)
    if handle is not None:
        count = _end_one(handle, dry_run)
    elif owner is not None:
        count = _end_owners(owner, kept, dry_run)
    else:
        count = _end_everybodys(kept, dry_run, yes)
    if json:
        as_json.print_json({"ended": 0, "would_end": count} if dry_run else {"ended": count})
    else:
        click.echo(f"{count:,} {'would end' if dry_run else 'ended'}")


def _found(text: str) -> str:
    """The handle of a session that is there."""
    store = server_store_in_use()
    handle = resolved(store, text)
    if not endings.is_there(store, handle):
        raise no_session()
    return handle


def _end_one(text: str, dry_run: bool) -> int:
    if dry_run:
        _found(text)
    elif not _manager().revoke(resolved(server_store_in_use(), text)):
        raise no_session()
    return 1


def _end_owners(owner: str, kept: str | None, dry_run: bool) -> int:
    if not dry_run:
        return _manager().revoke_all(owner, keep=kept)
    names = endings.names_of(store_in_use(), kept)
    return sum(info.handle not in names for info in _manager().find(owner))


def _end_everybodys(kept: str | None, dry_run: bool, yes: bool) -> int:
    store, count = store_in_use(), None
    survey.scanning(store)
    if dry_run or not yes:
        with progress(endings.all_but(store, kept), "Counting", "counted") as found:
            count = sum(1 for _ in found)
        if dry_run:
            return count
        if count:
            others = "Everybody else" if kept else "Everybody"
            click.confirm(f"End {count:,} sessions? {others} will have to sign in again.", abort=True, err=True)
    with progress(endings.end_all(store, _manager().revoke, kept), "Ending", "ended", length=count, weigh=int) as ended:
        return sum(ended)


@sessions.command()
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="How many sessions to remove at a time.",
)
@json_option
def cleanup(batch: int, json: bool) -> None:
    """Remove expired sessions, and print how many.

    May run at any time, while the application runs, on many machines at once.
    """
    with progress(survey.removals(store_in_use(), batch), "Removing", "removed", weigh=int) as counts:
        removed = sum(counts)
    if json:
        as_json.print_json({"removed": removed})
    else:
        click.echo(f"{removed:,} removed")


# -- setting up ----------------------------------------------------------------------------------------------------


@sessions.command()
@click.option("-q", "--quiet", is_flag=True, help="Print only the findings, and nothing if there are none.")
@click.option(
    "--fail-on",
    type=click.Choice(checks.SEVERITIES),
    default="warning",
    show_default=True,
    help="The lightest finding for which the exit code is 1.",
)
@json_option
@click.pass_context
def check(ctx: click.Context, quiet: bool, fail_on: checks.Severity, json: bool) -> None:
    """Show the settings and their risks.

    The exit code is 1 if there is a finding as bad as --fail-on says, or worse, and otherwise 0.
    """
    interface, app = interface_in_use(), app_in_use()
    with app.test_request_context():  # an application's cookie settings may depend on the request
        settings = checks.settings_of(app, interface)
        findings = checks.findings_of(app, interface)
    if json:
        as_json.print_json(
            {
                "settings": settings,
                "findings": [finding.text for finding in findings],
                "details": [{"severity": finding.severity, "finding": finding.text} for finding in findings],
            }
        )
    else:
        _print_check(settings, findings, quiet)
    ctx.exit(1 if any(finding.is_at_least(fail_on) for finding in findings) else 0)


def _print_check(settings: Facts, findings: list[checks.Finding], quiet: bool) -> None:
    if not quiet:
        rendering.print_pairs(settings)
        click.echo()
        if not findings:
            click.echo("No findings.")
    rendering.print_findings(findings, _COLORS)


@sessions.command("create-schema")
def create_schema() -> None:
    """Create the table or the indexes that the store needs, if they are missing."""
    store = store_in_use()
    engine = store.ability(HasSchema)
    if engine is None:
        click.echo(f"{type(store).__name__} does not need a schema.")
        return
    engine.create_schema()
    click.echo("The schema exists.")
