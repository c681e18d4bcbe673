"""The engines in which Flask-Session kept its sessions: one module for each kind, imported when it is needed."""

from __future__ import annotations

import importlib
import os
import typing as t
from urllib.parse import unquote, urlsplit

from ...errors import ConfigurationError


class Found(t.NamedTuple):
    """The bytes that an engine has under a name."""

    data: bytes
    #: When they expire, in seconds since 1970; None: never, or the engine does not tell.
    ends_at: float | None
    #: Whether the engine tells when they expire.
    tells_end: bool = True


class Origin(t.Protocol):
    """An engine with Flask-Session's records. It translates its exceptions; names are checked before they come here."""

    def read(self, name: str, now: float) -> Found | None:
        """The bytes under exactly this name, expired or not.

        :raises StoreUnavailable:
        """

    def remove(self, name: str) -> None:
        """Remove the bytes under this name. A name that does not exist is not an error.

        :raises StoreUnavailable:
        """

    def scan(self, prefix: str, now: float) -> t.Iterator[tuple[str, Found]]:
        """Everything whose name begins with ``prefix``, in any order, in batches. Records that are made or removed
        meanwhile may be missing, and others may appear twice.

        :raises UnsupportedByStore: if the engine cannot list names.
        :raises StoreUnavailable:
        """

    def missing(self) -> str | None:
        """The folder, the file or the table, if it does not exist: see :meth:`.stores.Scans.missing`.

        :raises StoreUnavailable:
        """


#: The scheme of a URL, up to a plus sign -> the module that reads it.
_SCHEMES = {
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys"), "redis"),
    **dict.fromkeys(("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql"), "sqlalchemy"),
    "memcached": "memcached",
    "mongodb": "mongodb",
    "dynamodb": "dynamodb",
}
#: The package of an object's class -> the module that reads it.
_PACKAGES = {
    "redis": "redis",
    "sqlalchemy": "sqlalchemy",
    "pymemcache": "memcached",
    "pymongo": "mongodb",
    "cachelib": "cachelib",
    "boto3": "dynamodb",
    "botocore": "dynamodb",
}


def origin(source: object, options: dict[str, t.Any]) -> Origin:
    """The engine for ``source``: a URL, a client, an Engine or a folder. Opens no connection.

    :param options: further arguments for this kind of engine.
    :raises ConfigurationError: if ``source`` is none of these, or its driver is not installed.
    """
    try:
        folder = _folder_of(source)
        if folder is not None:
            return t.cast("Origin", _module("files").Files(folder, **options))
        return t.cast("Origin", _module(_kind_of(source)).origin(source, **options))
    except ModuleNotFoundError as error:
        raise _wrong(f"it needs a driver that is not installed: pip install {error.name}") from error
    except ConfigurationError as error:
        raise _wrong(str(error).removeprefix("SESSION_STORE").removeprefix(":").strip()) from error.__cause__
    except TypeError as error:
        raise _wrong(f"an option does not fit: {error}") from error


def _folder_of(source: object) -> str | None:
    if isinstance(source, os.PathLike):
        return str(os.fspath(source))
    if not isinstance(source, str):
        return None
    if source.startswith("file:"):
        return unquote(urlsplit(source).path)
    return None if "://" in source else source


def _kind_of(source: object) -> str:
    if isinstance(source, str):
        kind = _SCHEMES.get(source.partition("://")[0].partition("+")[0].lower())
    else:
        packages = (cls.__module__.partition(".")[0] for cls in type(source).__mro__)
        kind = next((_PACKAGES[package] for package in packages if package in _PACKAGES), None)
    if kind is None:
        what = "this URL's scheme" if isinstance(source, str) else f"an object of type {type(source).__qualname__}"
        raise _wrong(
            f"{what} is not a known kind of origin: pass a URL (redis://, postgresql://, sqlite://, memcached://, mongodb://,"
            " dynamodb://), a client of redis-py, pymemcache, pymongo or boto3, an Engine, a cache of cachelib, or a"
            " folder"
        )
    return kind


def _module(name: str) -> t.Any:
    return importlib.import_module(f".{name}", __name__)


def _wrong(why: str) -> ConfigurationError:
    return ConfigurationError(f"from_flask_session: {why.removeprefix('from_flask_session: ')}", key="import_session")
