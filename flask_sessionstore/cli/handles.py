"""The handles that people type: all 64 digits, or so many of them that only one session begins with them."""

from __future__ import annotations

import re

import click

from ..errors import SessionGone, UnsupportedByStore
from ..key import is_handle
from ..stores.base import Scans, SessionStore
from . import survey

#: How many digits of a handle are shown to people. Of a million sessions, hardly two have these in common.
SHORT = 12
_DIGITS = re.compile(r"[0-9a-f]{1,64}")


def resolved(store: SessionStore, text: str) -> str:
    """The handle that a text means.

    :raises click.UsageError: if it is not a handle, nor the beginning of one.
    :raises click.ClickException: if several sessions begin with it.
    :raises SessionGone: if none does.
    """
    if not _DIGITS.fullmatch(text):
        # Does not quote the argument: it may be a session key, even a shortened one, and this may get into a log.
        raise click.UsageError("a HANDLE is 64 hexadecimal digits in lower case, or the first of them")
    if is_handle(text):
        return text
    if store.ability(Scans) is None:
        raise UnsupportedByStore(f"{type(store).__name__} cannot list all sessions: give all 64 digits of the HANDLE")
    found = survey.handles_like(store, text)
    if len(found) > 1:
        raise click.ClickException(f"{len(found)} sessions have a handle that begins with {text}: give more digits")
    if not found:
        raise no_session()
    return found.pop()


def no_session() -> SessionGone:
    """The error for a handle without a session."""
    return SessionGone("there is no session under this handle")
