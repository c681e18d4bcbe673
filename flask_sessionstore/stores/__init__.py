"""From a URL to its store. Drivers are imported when a store that needs one is made, never before."""

from __future__ import annotations

import importlib
import typing as t
from importlib.metadata import entry_points

from ..errors import ConfigurationError
from ..record import revision_of
from .base import ServerSideStore, SessionStore, StoreFull, Sweeps, has_expired

__all__ = ["ServerSideStore", "SessionStore", "StoreFull", "Sweeps", "from_url", "has_expired", "revision_of"]

#: Where third parties announce their stores: ``scheme = "package.module:Class"``.
ENTRY_POINTS = "flask_sessionstore.stores"

_REDIS = "flask_sessionstore.stores.redis:RedisStore"
_BUILT_IN = {
    "cookie": "flask_sessionstore.stores.cookie:CookieStore",
    "file": "flask_sessionstore.stores.filesystem:FileSystemStore",
    "memory": "flask_sessionstore.stores.memory:MemoryStore",
    "redis": _REDIS,
    "rediss": _REDIS,
    "redis+unix": _REDIS,
    "valkey": _REDIS,
    "valkeys": _REDIS,
}


def from_url(url: str, **options: t.Any) -> SessionStore:
    """The store that ``url`` names.

    :param options: the store's own keyword arguments.
    :raises ConfigurationError: for an unknown scheme, a missing driver, an option the store does not have.
    """
    scheme = url.partition(":")[0].lower()
    cls = _store_class(scheme)
    try:
        return cls.from_url(url, **options)
    except TypeError as error:
        raise ConfigurationError(
            f"SESSION_STORE_OPTIONS does not fit {cls.__name__}: {error}", key="SESSION_STORE_OPTIONS"
        ) from error


def _store_class(scheme: str) -> type[SessionStore]:
    if scheme in _BUILT_IN:
        module, _, name = _BUILT_IN[scheme].partition(":")
        return t.cast("type[SessionStore]", getattr(importlib.import_module(module), name))
    for entry_point in entry_points(group=ENTRY_POINTS, name=scheme):
        return t.cast("type[SessionStore]", entry_point.load())
    known = ", ".join(sorted(_BUILT_IN))
    raise ConfigurationError(
        f"SESSION_STORE: no store is known for the URL scheme {scheme!r}; there are {known},"
        " and what installed packages add",
        key="SESSION_STORE",
    )
