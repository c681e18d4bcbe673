"""Makes a store from a URL. Drivers are imported when a store that needs them is made, never before."""

from __future__ import annotations

import difflib
import importlib
import re
import typing as t
from importlib.metadata import entry_points

from ..errors import ConfigurationError, StoreFull, TableMissing
from ..layout import may_replace, owner_in, revision_of
from .base import (
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
from .pool import PerProcess

__all__ = [
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
    "postgres": _SQL,  # the store's error message tells the right spelling
    "mysql": _SQL,
    "mariadb": _SQL,
    "oracle": _SQL,
    "mssql": _SQL,
}
#: Extra -> the package that it installs and that the store imports.
_PACKAGES = {
    "dynamodb": "boto3",
    "memcached": "pymemcache",
    "mongodb": "pymongo",
    "redis": "redis",
    "sqlalchemy": "sqlalchemy",
}
# Flask-Session's values of SESSION_TYPE, and what to write instead.
_FLASK_SESSION_TYPES = {
    "redis": '"redis://localhost:6379/0"',
    "memcached": '"memcached://localhost:11211"',
    "filesystem": '"file:sessions"',
    "cachelib": '"file:sessions"',
    "mongodb": '"mongodb://localhost:27017/database"',
    "sqlalchemy": "the database's URL, or lambda app: SQLAlchemyStore(db.engine)",
    "dynamodb": '"dynamodb://region/table"',
    "null": "nothing: without SESSION_STORE, sessions are in files in the instance folder",
}
# Other names for a scheme that do not look like it.
_MEANT = {"pg": "postgresql", "psql": "postgresql"}


def from_url(url: str, **options: t.Any) -> SessionStore:
    """The store that ``url`` names.

    :param options: the store's own keyword arguments.
    :raises ConfigurationError: if the scheme is unknown, the driver is missing, or the store lacks an option.
    """
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon and scheme in _FLASK_SESSION_TYPES:
        raise ConfigurationError(
            f"SESSION_STORE: {scheme!r} is a name of Flask-Session's; here, write {_FLASK_SESSION_TYPES[scheme]}",
            key="SESSION_STORE",
        )
    if not colon or not _SCHEME.fullmatch(scheme):
        raise ConfigurationError(
            "SESSION_STORE is not a URL: write one like redis://localhost:6379/0", key="SESSION_STORE"
        )
    cls = store_class(scheme)
    try:
        return cls.from_url(f"{scheme}:{rest}", **options)
    except TypeError as error:
        raise ConfigurationError(
            f"SESSION_STORE_OPTIONS does not fit {cls.__name__}: {error}", key="SESSION_STORE_OPTIONS"
        ) from error


def _built_in(path: str, extra: str) -> type[SessionStore]:
    module, _, name = path.partition(":")
    try:
        return t.cast("type[SessionStore]", getattr(importlib.import_module(f".{module}", __name__), name))
    except ModuleNotFoundError as error:
        if not extra or error.name is None or error.name.startswith("flask_sessionstore"):
            raise
        raise ConfigurationError(
            f"{name} needs a driver that is not installed: pip install {_PACKAGES[extra]} (this package's extra"
            f" {extra!r})",
            key="SESSION_STORE",
        ) from error


def store_class(scheme: str) -> type[SessionStore]:
    """The class of store for a URL's scheme.

    :raises ConfigurationError: if the scheme is unknown, or the driver is not installed.
    """
    if scheme in _BUILT_IN:
        return _built_in(*_BUILT_IN[scheme])
    for entry_point in entry_points(group=ENTRY_POINTS, name=scheme):
        return t.cast("type[SessionStore]", entry_point.load())
    dialect, plus, _ = scheme.partition("+")
    if plus and _BUILT_IN.get(dialect) is _SQL:
        return _built_in(*_SQL)
    alike = difflib.get_close_matches(_MEANT.get(scheme, scheme), _BUILT_IN, n=1)
    instead = f"did you mean {alike[0]!r}? Known" if alike else "known"
    raise ConfigurationError(
        f"SESSION_STORE: unknown URL scheme {scheme!r}; {instead} are {', '.join(sorted(_BUILT_IN))}, and schemes that"
        " installed packages add",
        key="SESSION_STORE",
    )
