"""The command ``flask sessions``. What it does is imported when somebody runs it: an application never needs it."""

from __future__ import annotations

import typing as t

import click

__all__ = ["NAME", "later"]

NAME = "sessions"


class _Later(click.Command):
    """The group of commands before somebody runs it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: t.Any
    ) -> click.Context:
        from . import moves  # noqa: F401  - adds its commands
        from .commands import sessions

        return sessions.make_context(info_name, args, parent, **extra)


later = _Later(NAME, short_help="Look at sessions, end them, and clean up.")
