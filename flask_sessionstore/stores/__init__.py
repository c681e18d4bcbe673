"""Makes a store from a URL. Drivers are imported when a store that needs them is made, never before."""

from __future__ import annotations

import importlib
import re
import typing as t
from importlib.metadata import entry_points

from ..errors import ConfigurationError, StoreFull, TableMissing
from ..layout import may_replace, owner_in, revision_of
from . import drivers
from .base import (
    Counts,
    Entry,
    HasSchema,
    OwnerIndex,
    Scans,
    ServerSideStore,
    SessionStore,
    Sweeps,
    has_expired,
    has_left,
    list_name,
)
from .contact import Contact
from .pool import PerProcess

__all__ = [
    "Contact",
    "Counts",
    "Entry",
    "HasSchema",
    "OwnerIndex",
    "PerProcess",
    "Scans",
    "ServerSideStore",
    "SessionStore",
    "StoreFull",
    "Sweeps",
    "TableMissing",
    "from_url",
    "has_expired",
    "has_left",
    "list_name",
    "may_replace",
    "owner_in",
    "revision_of",
]

#: Where third parties announce their stores: ``scheme = "package.module:Class"``.
ENTRY_POINTS = "flask_sessionstore.stores"

_SCHEME = re.compile(r"[a-z][a-z0-9+._-]*")
_REDIS = ("redis:RedisStore", "redis")
_SQL = ("sqlalchemy:SQLAlchemyStore", "sqlalchemy")
_MONGODB = ("mongodb:MongoDBStore", "mongodb")
#: Scheme -> (module and class, the extra that brings its driver).
_BUILT_IN = {
    "cookie": ("cookie:CookieStore", ""),
    "dynamodb": ("dynamodb:DynamoDBStore", "dynamodb"),
    "file": ("filesystem:FileSystemStore", ""),
    "memory": ("memory:MemoryStore", ""),
    "memcached": ("memcached:MemcachedStore", "memcached"),
    "mongodb": _MONGODB,
    "mongodb+srv": _MONGODB,
    "redis+unix": _REDIS,
    **{
        f"{name}{kind}": _REDIS
        for name in ("redis", "rediss", "valkey", "valkeys")
        for kind in ("", "+sentinel", "+cluster")
    },
    # These also with any driver that SQLAlchemy knows: postgresql+psycopg:// ...
    "sqlite": _SQL,
    "postgresql": _SQL,
    "postgres": _SQL,  # what some hosters write; SQLAlchemy itself knows the other spelling only
    "mysql": _SQL,
    "mariadb": _SQL,
    "oracle": _SQL,
    "mssql": _SQL,
}


def from_url(url: str, **options: t.Any) -> SessionStore:
    """The store that ``url`` names.

    :param options: the store's own keyword arguments.
    :raises ConfigurationError: if the scheme is unknown, the driver is missing, or the store lacks an option.
    """
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    cls = _found(scheme) if colon and _SCHEME.fullmatch(scheme) else None
    if cls is None:
        from . import spelling

        raise spelling.refusal(url, _BUILT_IN)
    try:
        return cls.from_url(f"{scheme}:{rest}", **options)
    except TypeError as error:
        raise ConfigurationError(
            f"SESSION_STORE_OPTIONS does not fit {cls.__name__}: {error}", key="SESSION_STORE_OPTIONS"
        ) from error


def store_class(scheme: str) -> type[SessionStore]:
    """The class of store for a URL's scheme.

    :raises ConfigurationError: if the scheme is unknown, or the driver is not installed.
    """
    cls = _found(scheme)
    if cls is None:
        raise ConfigurationError(f"SESSION_STORE has the unknown URL scheme {scheme!r}", key="SESSION_STORE")
    return cls


def _found(scheme: str) -> type[SessionStore] | None:
    if scheme in _BUILT_IN:
        return _built_in(scheme, *_BUILT_IN[scheme])
    for entry_point in entry_points(group=ENTRY_POINTS, name=scheme):
        return t.cast("type[SessionStore]", entry_point.load())
    dialect, plus, _ = scheme.partition("+")
    return _built_in(scheme, *_SQL) if plus and _BUILT_IN.get(dialect) is _SQL else None


def _built_in(scheme: str, path: str, extra: str) -> type[SessionStore]:
    module, _, name = path.partition(":")
    try:
        return t.cast("type[SessionStore]", getattr(importlib.import_module(f".{module}", __name__), name))
    except ModuleNotFoundError as error:
        if not extra or error.name is None or error.name.startswith("flask_sessionstore"):
            raise
        raise drivers.missing(name, scheme, extra, error) from error
