"""``flask sessions import`` and ``copy``: move all sessions at once, while the application runs."""

from __future__ import annotations

import collections
import itertools
import typing as t

import click

from ..current import app_in_use, interface_in_use, server_store_in_use
from ..errors import ConfigurationError
from . import as_json, rendering
from .commands import dry_run_option, json_option, sessions
from .progress import progress
from .sources import Argument, missing_for


@sessions.command("import")
@dry_run_option
@json_option
def import_(dry_run: bool, json: bool) -> None:
    """Import all sessions that the importers of this application can list.

    May run while the application runs, be interrupted, and be started again: each session is imported once. Sessions
    that cannot be listed, such as Flask's own cookies, are imported when their browser comes.
    """
    from ..migrate.bulk import copy_all, import_all
    from ..migrate.other_store import OtherStore

    interface, store, app = interface_in_use(), server_store_in_use(), app_in_use()
    if not interface.importers:
        raise ConfigurationError("this application has no importer: pass one as import_session", key="import_session")
    for missing in filter(None, map(missing_for, interface.importers)):
        raise ConfigurationError(missing, key="import_session")
    outcomes: list[t.Iterator[str]] = []
    for importer in interface.importers:
        if isinstance(importer, OtherStore):
            outcomes.append(copy_all(importer.store, store, dry_run=dry_run))
        elif hasattr(importer, "listed"):
            policy = interface.policy_of(app)
            outcomes.append(import_all(app, t.cast("t.Any", importer), store, policy, dry_run=dry_run))
    _show(outcomes, json, "Importing")


@sessions.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="[TO]", required=False)
@dry_run_option
@json_option
def copy(source: str, target: str | None, dry_run: bool, json: bool) -> None:
    """Copy all sessions from one store to another.

    FROM and TO are URLs as for SESSION_STORE, or names of settings that hold such a URL, so that you need not type a
    password. Without TO, the target is the application's own store. Let the application use TO first, with
    import_session=migrate.from_store(the store of FROM): then nobody is logged out meanwhile, and nothing is lost.
    """
    from ..migrate.bulk import copy_all

    app = app_in_use()
    there = server_store_in_use() if target is None else Argument("TO", target).store(app)
    _show([copy_all(Argument("FROM", source).source(app), there, dry_run=dry_run)], json, "Copying")


def _show(outcomes: t.Iterable[t.Iterator[str]], json: bool, label: str) -> None:
    with progress(itertools.chain.from_iterable(outcomes), label, "looked at") as shown:
        counts = dict(sorted(collections.Counter(shown).items()))
    if json:
        as_json.print_json(counts)
    elif counts:
        rendering.print_pairs(counts)
    else:
        click.echo("No sessions.")
