"""What a command says about a failure: what happened, why, and where; never a password."""

from __future__ import annotations

import textwrap
import typing as t
from urllib.parse import SplitResult, unquote, urlsplit

from flask import Flask

from ..errors import SessionError, StoreUnavailable

_HIDDEN = "***"
# Some drivers describe everything that they know.
_LONGEST = 300


def explained(error: SessionError, app: Flask, *words: str) -> str:
    """An error with its cause, in one line.

    :param words: what was typed; passwords in it are removed from the error, like those in the application's settings.
    """
    parts = [_one_line(str(error))]
    if isinstance(error, StoreUnavailable):  # else the cause is about a session's data, or a setting
        parts.append(_cause(error.__cause__))
        parts.append(_place(app, " ".join(parts)))
    text = ": ".join(filter(None, parts))
    for password in _passwords(app, words):
        text = text.replace(password, _HIDDEN)
    return text


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _cause(cause: BaseException | None) -> str:
    """The first line of what the engine or its driver says. Further lines may show a session's data."""
    # An error of SQLAlchemy's repeats the statement, which the driver's own error does not.
    lines = str(getattr(cause, "orig", None) or cause or "").strip().splitlines()
    return textwrap.shorten(_one_line(lines[0]), _LONGEST, placeholder=" ...") if lines else ""


def _place(app: Flask, said: str) -> str:
    """The hosts in the URL of the application's store, unless they were named already."""
    places = [parts.netloc.rpartition("@")[2] for parts in _urls([app.config.get("SESSION_STORE")])]
    hosts = places[-1].split(",") if places else []  # of a pair, the store
    names = [host.rpartition(":")[0] or host for host in hosts]
    return "" if not hosts or any(name in said for name in names) else f"SESSION_STORE is at {places[-1]}"


def _passwords(app: Flask, words: t.Iterable[str]) -> set[str]:
    """All passwords in URLs, longest first, as they are written and as they are meant."""
    found = {part for parts in _urls([*app.config.values(), *words]) for part in _password_in(parts)}
    return {password for written in found for password in (written, unquote(written)) if password}


def _password_in(parts: SplitResult) -> t.Iterator[str]:
    yield parts.netloc.rpartition("@")[0].partition(":")[2]
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if "pass" in name.lower():
            yield value


def _urls(values: t.Iterable[object]) -> t.Iterator[SplitResult]:
    """The URLs among values, and in lists of values."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _urls(value)
        elif isinstance(value, str) and "://" in value:
            try:
                yield urlsplit(value)
            except ValueError:
                continue
