"""Makes the store that an application's settings describe."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path
from urllib.parse import unquote

from flask import Flask

from . import stores
from .errors import ConfigurationError
from .stores.base import SessionStore
from .stores.caching import CachingStore
from .stores.drivers import DriverMissing, all_of

# The package of an object's class -> the store that takes such an object.
_WRAPPERS = {
    "boto3": "DynamoDBStore(client, table=...)",
    "botocore": "DynamoDBStore(client, table=...)",
    "flask_sqlalchemy": "lambda app: SQLAlchemyStore(db.engine)",
    "pymemcache": "MemcachedStore(client)",
    "pymongo": "MongoDBStore(collection)",
    "redis": "RedisStore(client)",
    "sqlalchemy": "SQLAlchemyStore(engine)",
}


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
        _refuse_home(setting)
        return stores.from_url(_in_instance_folder(app, setting), **options)
    if isinstance(setting, (tuple, list)) and len(setting) == 2:
        cache, store = setting
        return _make_pair(app, cache, store, options)
    raise ConfigurationError(
        f"SESSION_STORE takes a URL, a SessionStore, a pair (cache, store) of these, or a function of the"
        f" application; it is {_instead(setting)}",
        key="SESSION_STORE",
    )


def _instead(setting: object) -> str:
    """What a setting is that cannot be a store, and what to write."""
    kind = type(setting).__name__
    if setting is None:
        return "None, or a function that returned None"
    if isinstance(setting, type):
        return f"the class {setting.__name__}: make an object of it, or write a URL"
    if isinstance(setting, os.PathLike):
        return f'a path: write "{Path(setting).absolute().as_uri()}"'
    packages = (cls.__module__.partition(".")[0] for cls in type(setting).__mro__)
    store = next((_WRAPPERS[package] for package in packages if package in _WRAPPERS), None)
    return f"of type {kind}" + (f": write {store}" if store else "")


def _make_pair(app: Flask, cache: t.Any, store: t.Any, options: dict[str, t.Any]) -> SessionStore:
    """A cache in front of a store. The options belong to the store, except ``max_age``."""
    own = {"max_age": options["max_age"]} if "max_age" in options else {}
    rest = {name: value for name, value in options.items() if name not in own}
    # The cache has a prefix of its own, since both may be in one engine.
    wanted = ((cache, {"prefix": options["prefix"] + "cache:"}), (store, rest))
    made, lacking = list[SessionStore](), list[DriverMissing]()
    for setting, keywords in wanted:
        try:
            made.append(make_store(app, setting, keywords))
        except DriverMissing as error:
            lacking.append(error)
    if lacking:
        raise all_of(lacking)
    return CachingStore(*t.cast("t.Any", made), **own)


def _in_instance_folder(app: Flask, url: str) -> str:
    """``url``; a relative path, of a folder or of an SQLite file, is made absolute, below the instance folder."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "file" and rest and not rest.startswith("/"):
        return (Path(app.instance_path) / unquote(rest)).as_uri()
    if scheme.lower().partition("+")[0] == "sqlite" and rest.startswith("///"):
        path, question, query = rest[3:].partition("?")
        if path and not path.startswith(("/", ":memory:", "file:")):
            return f"{scheme}:///{(Path(app.instance_path) / path).as_posix()}{question}{query}"
    return url


def _refuse_home(url: str) -> None:
    """Refuse a path that begins with ``~``: it is the shell that replaces it, in a command."""
    scheme, _, rest = url.partition(":")
    path = rest.lstrip("/")
    kind = scheme.partition("+")[0]
    if kind in ("file", "sqlite") and (path == "~" or path.startswith("~/")):
        slashes = "//" if kind == "file" else "///"
        home = os.path.expanduser(path)  # noqa: PTH111  - pathlib's raises if there is no home
        raise ConfigurationError(
            f'SESSION_STORE: nothing replaces the ~ in a URL; write "{scheme}:{slashes}{home}"', key="SESSION_STORE"
        )
