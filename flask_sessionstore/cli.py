"""``flask sessions``: what an operator asks of the sessions, in a terminal or from a script.

Commands collect, and then show what they have collected: tables for people, ``--json`` for programs. A million
sessions go through one at a time. Handles name sessions here; a session key is never known.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import typing as t

import click
from flask import current_app
from flask.cli import AppGroup

from . import checks, rendering
from .codec import decode
from .errors import ConfigurationError, SessionCorrupt, SessionError, SessionGone, UnsupportedByStore
from .key import is_handle
from .record import Record, SessionInfo, Tombstone, to_datetime, unpack
from .rendering import DAMAGED, Facts, Literal
from .stores.base import OwnerIndex, Scans, SessionStore, Sweeps

if t.TYPE_CHECKING:
    from .manager import SessionManager

logger = logging.getLogger("flask_sessionstore")

F = t.TypeVar("F", bound=t.Callable[..., t.Any])


class _Sessions(AppGroup):
    """Commands whose errors are one line."""

    def invoke(self, ctx: click.Context) -> t.Any:
        try:
            with _warnings_in_one_line():
                return super().invoke(ctx)
        except SessionError as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@contextlib.contextmanager
def _warnings_in_one_line() -> t.Iterator[None]:
    """Where the application has set up no logging, Python's last resort would print tracebacks."""
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


def _check_handle(handle: str) -> None:
    if not is_handle(handle):
        # Not quoted: it may be a session key, and this may end up in a log.
        raise click.UsageError("a HANDLE is 64 hexadecimal digits in lower case")


def _json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


# -- the commands --------------------------------------------------------------------------------------------------


@click.group("sessions", cls=_Sessions)
def sessions() -> None:
    """Look at the sessions, end them, and clean up after them."""


@sessions.command("list")
@click.option("--owner", help="Only those of this owner, the one last extended first.")
@click.option("--limit", type=click.IntRange(min=1), help="So many at most.")
@_json_option
def list_(owner: str | None, limit: int | None, as_json: bool) -> None:
    """List the living sessions."""
    found = _everybodys() if owner is None else _owners(owner)
    print_all = rendering.print_array if as_json else _print_table
    print_all(itertools.islice(found, limit))


@sessions.command()
@click.argument("handle")
@click.option("--values", is_flag=True, help="Also what the session keeps: personal data, most likely.")
@_json_option
def show(handle: str, values: bool, as_json: bool) -> None:
    """Show one session."""
    _check_handle(handle)
    data, record = _read(handle)
    facts = _facts_of(handle, data, record)
    kept = _values_of(record) if values else {}
    if as_json:
        rendering.print_json(facts | ({"values": kept} if values else {}))
        return
    rendering.print_pairs(facts)
    if kept:
        click.echo()
        rendering.print_pairs({key: Literal(value) for key, value in kept.items()})


@sessions.command()
@click.argument("handle", required=False)
@click.option("--owner", help="All sessions of this owner.")
@click.option("--all", "everybody", is_flag=True, help="All sessions of everybody.")
@click.option("--yes", is_flag=True, help="Do not ask whether --all is meant.")
@_json_option
def revoke(handle: str | None, owner: str | None, everybody: bool, yes: bool, as_json: bool) -> None:
    """End the session HANDLE, those of an owner, or all."""
    if (handle is not None) + (owner is not None) + everybody != 1:
        raise click.UsageError("Say which: a HANDLE, --owner or --all, and only one of these.")
    if handle is not None:
        _check_handle(handle)
        ended = int(_manager().revoke(handle))
        if not ended:
            raise SessionGone("there is no session under this handle")
    elif owner is not None:
        ended = _manager().revoke_all(owner)
    else:
        _scanning()
        if not yes:
            click.confirm("End all sessions? Everybody will have to sign in again.", abort=True, err=True)
        ended = _revoke_everybodys()
    _print_count("ended", ended, as_json)


@sessions.command()
@click.option(
    "--batch", type=click.IntRange(min=1), default=10_000, show_default=True, help="How many to remove at a time."
)
@_json_option
def cleanup(batch: int, as_json: bool) -> None:
    """Remove expired sessions, and say how many.

    May run at any time, beside the application, on many machines at once.
    """
    removed = 0
    steps = _removals(_manager()._store_in_use(), batch)
    with rendering.progress(steps, lambda: f"{removed} removed") as shown:
        for count in shown:
            removed += count
    _print_count("removed", removed, as_json)


@sessions.command()
@_json_option
def stats(as_json: bool) -> None:
    """Count the sessions."""
    facts = _totals()
    print_facts = rendering.print_json if as_json else rendering.print_pairs
    print_facts(facts)


@sessions.command()
@_json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Show the settings, and say what is risky about them.

    The exit code is 0 if nothing is, and 1 if something is.
    """
    interface = _manager()._interface()
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
    """Create the table or the indexes that the store needs, where they are missing."""
    store = _manager()._store_in_use()
    create = getattr(getattr(store, "store", store), "create_schema", None)  # of a pair, the second is the store
    if create is None:
        raise UnsupportedByStore(f"{type(store).__name__} needs no schema")
    create()
    click.echo("The schema is there.")


def _print_count(done: str, count: int, as_json: bool) -> None:
    if as_json:
        rendering.print_json({done: count})
    else:
        click.echo(f"{count} {done}")


def _print_table(rows: t.Iterator[Facts]) -> None:
    shown = ({**row, "extended_at": DAMAGED} if row["damaged"] else row for row in rows)
    rendering.print_table(shown, _COLUMNS, "No sessions.")


# -- collecting ----------------------------------------------------------------------------------------------------


class _Found(t.NamedTuple):
    """A session, found in going through all of them."""

    handle: str
    size: int
    #: None if it cannot be read.
    record: Record | None


def _manager() -> SessionManager:
    manager: SessionManager | None = current_app.extensions.get("sessionstore")
    if manager is None:
        raise ConfigurationError("this application has no SessionManager: call init_app with it first")
    return manager


def _scanning() -> Scans:
    store = _manager()._store_in_use()
    if not isinstance(store, Scans):
        raise UnsupportedByStore(f"{type(store).__name__} cannot list all sessions")
    return store


def _scan() -> t.Iterator[_Found]:
    """All sessions, the expired too, but no tombstones."""
    for handle, data, _ in _scanning().scan():
        if data is None:
            continue
        try:
            record = unpack(data)
        except SessionCorrupt:
            yield _Found(handle, len(data), None)
        else:
            if isinstance(record, Record):
                yield _Found(handle, len(data), record)


def _now_ms() -> int:
    return int(_manager()._store_in_use().now() * 1000)


def _everybodys() -> t.Iterator[Facts]:
    now_ms = _now_ms()
    for handle, _, record in _scan():
        if record is None:
            yield {**dict.fromkeys(_LISTED), "handle": handle, "damaged": True}
        elif record.expires_ms > now_ms:
            yield _listed(SessionInfo.of(handle, record))


def _owners(owner: str) -> t.Iterator[Facts]:
    yield from map(_listed, _manager().find(owner))


_LISTED = ("handle", "owner", "created_at", "extended_at", "expires_at", "client")
#: Of these, what people see of a list, and how wide it is.
_COLUMNS = {"handle": 64, "extended_at": 20, "expires_at": 20, "owner": 20, "client": 0}


def _listed(info: SessionInfo) -> Facts:
    return {**{name: getattr(info, name) for name in _LISTED}, "damaged": False}


def _read(handle: str) -> tuple[bytes, Record]:
    data = _manager()._server_store().read(handle)
    found = None if data is None else unpack(data)
    if data is None or found is None or found.expires_ms <= _now_ms():
        raise SessionGone("there is no session under this handle")
    if isinstance(found, Tombstone):
        further = f", and goes on as {found.successor}" if found.successor else ""
        raise SessionGone(f"this session was {found.kind}{further}", kind=found.kind)
    return data, found


def _facts_of(handle: str, data: bytes, record: Record) -> Facts:
    info = SessionInfo.of(handle, record)
    return {
        **{name: getattr(info, name) for name in _LISTED},
        "permanent": record.permanent,
        "lifetime": record.lifetime,
        "deadline": record.deadline,
        "bytes": len(data),
        "sealed": record.sealed,
        "keys": None if record.sealed else sorted(record.state),
    }


def _values_of(record: Record) -> dict[str, t.Any]:
    """The values by their keys; :data:`DAMAGED` is in the place of one that cannot be decoded."""
    if record.sealed:
        raise UnsupportedByStore("this session is sealed: only requests of its own browser can open it")
    return {key: _value_of(data) for key, data in sorted(record.state.items())}


def _value_of(data: bytes) -> t.Any:
    try:
        return decode(data)
    except SessionCorrupt:
        return DAMAGED


def _revoke_everybodys() -> int:
    """End all that there are, whatever they are renewed to meanwhile."""
    manager, began_ms, ended = _manager(), _now_ms(), 0
    for found in _scan():
        ended += manager.revoke(found.handle)
    while late := sum(manager.revoke(found.handle) for found in _scan() if _is_older(found, began_ms)):
        ended += late
    return ended


def _is_older(found: _Found, than_ms: int) -> bool:
    """A session that was renewed keeps its age: under its new name, the scan may have missed it."""
    return found.record is not None and found.record.created_ms < than_ms < found.record.expires_ms


def _removals(store: SessionStore, batch: int) -> t.Iterator[int]:
    """Remove what is to be removed, batch by batch: how many sessions each time; of lists, where there are no others.

    :raises UnsupportedByStore: if there is never anything to remove.
    """
    if not isinstance(store, Sweeps | OwnerIndex):
        raise UnsupportedByStore(f"{type(store).__name__} removes expired sessions by itself")
    if isinstance(store, Sweeps):
        yield from _until_fewer(store.delete_expired, batch)
    if isinstance(store, OwnerIndex):
        for pruned in _until_fewer(store.prune, batch):
            yield 0 if isinstance(store, Sweeps) else pruned


def _until_fewer(remove: t.Callable[[int], int], batch: int) -> t.Iterator[int]:
    removed = batch
    while removed >= batch:
        removed = remove(batch)
        yield removed


def _totals() -> Facts:
    now_ms = _now_ms()
    sessions = size = expired = damaged = 0
    oldest = expiring = None
    for _, length, record in _scan():
        if record is None:
            damaged += 1
        elif record.expires_ms <= now_ms:
            expired += 1
        else:
            sessions += 1
            size += length
            oldest = min(oldest or record.created_ms, record.created_ms)
            expiring = min(expiring or record.expires_ms, record.expires_ms)
    return {
        "sessions": sessions,
        "bytes": size,
        "oldest": None if oldest is None else to_datetime(oldest),
        "expiring_next": None if expiring is None else to_datetime(expiring),
        "expired": expired,
        "damaged": damaged,
    }
