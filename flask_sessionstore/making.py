"""Makes the store that an application's settings describe."""

from __future__ import annotations

import typing as t
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flask import Flask

from . import stores
from .errors import ConfigurationError
from .stores.base import SessionStore
from .stores.caching import CachingStore


def make_store(app: Flask, setting: t.Any, options: dict[str, t.Any]) -> SessionStore:
    """The store for a setting: a URL, a store, a pair (cache, store) of these, or a function of the application.

    :param options: keyword arguments for a store that a URL names; ``prefix`` is among them.
    :raises ConfigurationError: if the setting is none of these.
    """
    if callable(setting) and not isinstance(setting, (SessionStore, type)):
        with app.app_context():
            setting = setting(app)
    if isinstance(setting, SessionStore):
        return setting
    if isinstance(setting, str):
        return stores.from_url(_in_instance_folder(app, setting), **options)
    if isinstance(setting, (tuple, list)) and len(setting) == 2:
        cache, store = setting
        return _make_pair(app, cache, store, options)
    raise ConfigurationError(
        f"SESSION_STORE takes a URL, a SessionStore, a pair (cache, store) of these, or a function of the"
        f" application; it is of type {type(setting).__name__}",
        key="SESSION_STORE",
    )


def _make_pair(app: Flask, cache: t.Any, store: t.Any, options: dict[str, t.Any]) -> SessionStore:
    """A cache in front of a store. The options belong to the store, except ``max_age``."""
    own = {"max_age": options["max_age"]} if "max_age" in options else {}
    rest = {name: value for name, value in options.items() if name not in own}
    # The cache has a prefix of its own, since both may be in one engine.
    tiers = make_store(app, cache, {"prefix": options["prefix"] + "cache:"}), make_store(app, store, rest)
    return CachingStore(*t.cast("t.Any", tiers), **own)


def _in_instance_folder(app: Flask, url: str) -> str:
    """``url``; a relative path in a file URL is made absolute, below the instance folder."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError("SESSION_STORE is not a URL", key="SESSION_STORE") from error
    if parts.scheme != "file" or parts.netloc or parts.path.startswith("/") or not parts.path:
        return url
    return (Path(app.instance_path) / unquote(parts.path)).as_uri()
