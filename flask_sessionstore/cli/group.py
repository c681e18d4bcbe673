"""The group ``flask sessions``: its errors are one line and never quote a session key."""

from __future__ import annotations

import contextlib
import logging
import re
import typing as t

import click
from flask import Flask
from flask.cli import AppGroup, ScriptInfo

from ..current import store_in_use
from ..errors import SessionError, SessionGone
from ..stores.memory import MemoryStore
from .failures import explained
from .rendering import fitting
from .sources import IN_MEMORY

logger = logging.getLogger("flask_sessionstore")

# Matches what may be a session key, or most of its characters, given instead of a handle.
_SECRET = re.compile(r"[\w-]{20,}", re.ASCII)
# The commands that show or change what is in the store.
_LOOKING = ("list", "show", "revoke", "cleanup", "stats")


class SessionsGroup(AppGroup):
    """Commands whose errors are one line and never quote a session key."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: t.Any
    ) -> click.Context:
        """As click does; remembers what was typed."""
        words = tuple(args)  # before click takes them out
        with _quoting_no_secret():
            ctx = super().make_context(info_name, args, parent, **extra)
        ctx.meta[__name__] = words
        return ctx

    def invoke(self, ctx: click.Context) -> t.Any:
        """As click does; turns this package's errors into a line."""
        try:
            with _quoting_no_secret(), _warnings_in_one_line():
                result = super().invoke(ctx)
        except SessionError as error:
            said = explained(error, _app_of(ctx), *ctx.meta[__name__])
            if isinstance(error, SessionGone):
                said = ": ".join(filter(None, (said, _where_memory_is(ctx))))
            raise click.ClickException(fitting(said, "Error: ")) from error
        note = _where_memory_is(ctx)
        if note:
            click.echo(fitting(f"Note: {note}."), err=True)
        return result


def _app_of(ctx: click.Context) -> Flask:
    """The application of a command that has run."""
    return ctx.ensure_object(ScriptInfo).load_app()


def _where_memory_is(ctx: click.Context) -> str | None:
    """What to say if the store is in memory and has nothing: this is probably another process than the application's.

    None for other stores, and after commands that are not about sessions.
    """
    if ctx.invoked_subcommand not in _LOOKING:
        return None
    with _app_of(ctx).app_context():
        store = store_in_use()
    store = getattr(store, "store", store)  # behind a cache
    if type(store) is not MemoryStore or next(store.scan(), None) is not None:
        return None
    return IN_MEMORY


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
        click.echo(f"{click.style('Warning:', fg='yellow')} {record.getMessage()}", err=True)
