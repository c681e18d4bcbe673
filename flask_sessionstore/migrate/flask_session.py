"""A replacement for Flask-Session's ``Session``, so that an application has to change only one import::

    from flask_sessionstore.migrate.flask_session import Session   # was: from flask_session import Session

It reads the settings of Flask-Session 0.4 to 0.8. It keeps new sessions in the same engine, beside the old sessions,
and imports the old sessions. At start it logs, at level INFO, what to write instead.
"""

from __future__ import annotations

import logging
import os
import typing as t
from collections.abc import MutableMapping
from pathlib import Path

from flask import Flask

from .. import sessions, stores
from ..errors import ConfigurationError
from ..interface import StoreSessionInterface
from ..manager import SessionManager
from ..stores.base import SessionStore
from . import from_flask_session
from .importing import Listing

logger = logging.getLogger("flask_sessionstore")

#: Put after the names that Flask-Session uses in an engine, so that old and new sessions do not mix.
_SUFFIX = "store"


class _Session(sessions.Session):
    @property
    def sid(self) -> t.NoReturn:
        """Flask-Session's attribute. It does not exist here, since only the browser may know what is in the cookie."""
        raise AttributeError(
            "session.sid does not exist here: use session.handle, which names the session and is not secret"
        )


class _Interface(StoreSessionInterface):
    session_class = _Session

    def regenerate(self, session: MutableMapping[str, t.Any]) -> None:
        """A method of Flask-Session: calls ``session.renew()``."""
        t.cast("sessions.Session", session).renew()


class _Manager(SessionManager):
    interface_class = _Interface
    reads_flask_session = True


class _Move(t.NamedTuple):
    """The new store, the importer of the old sessions, and for both the code to write instead."""

    store: SessionStore
    importer: Listing
    store_line: str
    importer_line: str


class Session:
    """A replacement for ``flask_session.Session``: ``Session(app)``, or ``Session().init_app(app)``.

    :param app: an application to set up at once.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self.app = app
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up ``app`` with Flask-Session's settings. In a database it creates the table, as Flask-Session does.

        :raises ConfigurationError: if the settings cannot work here.
        """
        app.config.setdefault("SESSION_PERMANENT", True)
        if not app.secret_key:
            logger.warning(
                "SECRET_KEY is not set. Flask-Session did not need it, but here cookies are signed: set SECRET_KEY"
            )
        move = _moves(app)
        _Manager(store=move.store, import_session=move.importer).init_app(app)
        logger.info("%s", _note(app, move))


def _moves(app: Flask) -> _Move:
    kind = str(app.config.get("SESSION_TYPE") or "null").lower()
    if kind not in _KINDS:
        raise ConfigurationError(
            f"SESSION_TYPE: this replacement for Flask-Session supports {', '.join(map(repr, _KINDS))}",
            key="SESSION_TYPE",
        )
    return _KINDS[kind](_Settings(app))


class _Settings:
    """Reads Flask-Session's settings, with Flask-Session's defaults."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.prefix: str = self("KEY_PREFIX", "session:")

    def __call__(self, name: str, default: t.Any = None) -> t.Any:
        value = self.app.config.get(f"SESSION_{name}")
        return default if value is None else value

    @property
    def our_prefix(self) -> str:
        return f"{self.prefix}{_SUFFIX}:"

    def move(self, store: SessionStore, store_line: str, source: t.Any, shown: str, **options: t.Any) -> _Move:
        """The move from ``source`` to ``store``.

        :param shown: the code to write for ``source``.
        """
        common = {"prefix": self.prefix, "signed": bool(self("USE_SIGNER")), "id_length": self("ID_LENGTH", 32)}
        changed = {name: value for name, value in common.items() if value != _DEFAULTS[name]}
        written = "".join(f", {name}={value!r}" for name, value in {**changed, **options}.items())
        importer = from_flask_session(source, **common, **options)
        return _Move(store, importer, store_line, f"from_flask_session({shown}{written})")


_DEFAULTS: dict[str, t.Any] = {"prefix": "session:", "signed": False, "id_length": 32}


# -- the engines ---------------------------------------------------------------------------------------------------


def _redis(settings: _Settings) -> _Move:
    return _by_client(settings, "RedisStore", settings("REDIS"), "redis://localhost:6379/0")


def _memcached(settings: _Settings) -> _Move:
    return _by_client(settings, "MemcachedStore", settings("MEMCACHED"), "memcached://localhost:11211")


def _by_client(settings: _Settings, name: str, client: t.Any, url: str) -> _Move:
    """The move in the engine that the application's client reaches; without a client, in Flask-Session's default."""
    prefix, scheme = settings.our_prefix, url.partition(":")[0]
    if client is None:
        return settings.move(stores.from_url(url, prefix=prefix), f'"{url}"', url, f'"{url}"')
    store = _store_class(scheme)(client, prefix=prefix)
    return settings.move(store, f"{name}(client, prefix={prefix!r})", client, "client")


def _store_class(scheme: str) -> t.Any:
    return stores.store_class(scheme)


def _filesystem(settings: _Settings) -> _Move:
    folder = Path(settings("FILE_DIR", Path.cwd() / "flask_session"))
    return _in_folder(settings, folder, folder)


def _cachelib(settings: _Settings) -> _Move:
    cache = settings("CACHELIB", "flask_session")
    if isinstance(cache, str):
        return _in_folder(settings, Path(cache), cache)
    from .origins.cachelib import folder_of

    return _in_folder(settings, Path(folder_of(cache)), cache)


def _in_folder(settings: _Settings, folder: Path, source: t.Any) -> _Move:
    """The move to a new folder beside the old one, since cachelib looks through all files in its folder."""
    ours = folder.absolute().with_name(f"{folder.name}_{_SUFFIX}")
    url = f"file://{ours.as_posix()}"
    shown = repr(str(folder.absolute()))
    return settings.move(stores.from_url(url, prefix=settings.prefix), f'"{url}"', source, shown)


def _mongodb(settings: _Settings) -> _Move:
    client, url = settings("MONGODB"), "mongodb://localhost:27017"
    database, collection = settings("MONGODB_DB", "flask_session"), settings("MONGODB_COLLECT", "sessions")
    ours, options = f"{collection}_{_SUFFIX}", {"database": database, "collection": collection}
    if client is None:
        line = f'"{url}/{database}", with SESSION_STORE_OPTIONS = {{"collection": {ours!r}}}'
        store = stores.from_url(f"{url}/{database}", collection=ours, prefix=settings.prefix)
        return settings.move(store, line, url, f'"{url}"', **options)
    store = _store_class("mongodb")(client[database][ours], prefix=settings.prefix)
    return settings.move(
        store, f"MongoDBStore(client[{database!r}][{ours!r}], prefix={settings.prefix!r})", client, "client", **options
    )


def _sqlalchemy(settings: _Settings) -> _Move:
    app, bind = settings.app, settings("SQLALCHEMY_BIND_KEY")
    db = settings("SQLALCHEMY") or _made_database(app)
    table, schema = settings("SQLALCHEMY_TABLE", "sessions"), settings("SQLALCHEMY_SCHEMA")
    options = {"table": table} | ({} if schema is None else {"schema": schema})
    ours, engine_line = f"{table}_{_SUFFIX}", "db.engine" if bind is None else f"db.engines[{bind!r}]"
    given = {**options, "table": ours, "prefix": settings.prefix}
    with app.app_context():
        engine = db.engine if bind is None else db.engines[bind]
        store = _store_class("sqlite")(engine, **given)
        store.create_schema()
    written = "".join(
        f", {name}={value!r}" for name, value in {**options, "table": ours, "prefix": settings.prefix}.items()
    )
    return settings.move(store, f"lambda app: SQLAlchemyStore({engine_line}{written})", engine, engine_line, **options)


def _made_database(app: Flask) -> t.Any:
    """The Flask-SQLAlchemy extension; made from its settings if there is none, as Flask-Session does."""
    known = app.extensions.get("sqlalchemy")
    if known is not None:
        return known
    from flask_sqlalchemy import SQLAlchemy

    return SQLAlchemy(app)


def _dynamodb(settings: _Settings) -> _Move:
    table, source = settings("DYNAMODB_TABLE", "Sessions"), settings("DYNAMODB")
    ours, prefix = f"{table}_{_SUFFIX}", settings.prefix
    if source is None:
        region, local = "dynamodb://us-west-2", {"endpoint_url": "http://localhost:8000"}
        store: t.Any = stores.from_url(f"{region}/{ours}", prefix=prefix, **local)
        move = settings.move(
            store,
            f'"{region}/{ours}", with SESSION_STORE_OPTIONS = {local!r}',
            f"{region}/{table}",
            f'"{region}/{table}"',
            **local,
        )
    else:
        from .origins.dynamodb import client_of

        store = _store_class("dynamodb")(client_of(source), table=ours, prefix=prefix)
        line = f"DynamoDBStore(client, table={ours!r}, prefix={prefix!r})"
        move = settings.move(store, line, source, "client", table=table)
    store.create_schema()
    return move


_KINDS: dict[str, t.Callable[[_Settings], _Move]] = {
    "redis": _redis,
    "memcached": _memcached,
    "filesystem": _filesystem,
    "cachelib": _cachelib,
    "mongodb": _mongodb,
    "sqlalchemy": _sqlalchemy,
    "dynamodb": _dynamodb,
}


# -- the note ------------------------------------------------------------------------------------------------------


def _note(app: Flask, move: _Move) -> str:
    lines = [f"SESSION_STORE = {move.store_line}"]
    prefix = getattr(move.store, "prefix", None)
    if "Store(" not in move.store_line and prefix != _DEFAULTS["prefix"]:
        lines.append(f'SESSION_KEY_PREFIX = "{prefix}"')
    lines.append(f"SESSION_PERMANENT = {app.config['SESSION_PERMANENT']}")
    return os.linesep.join(
        [
            "Flask-Session's settings were read. Instead of them, write:",
            *(f"    {line}" for line in lines),
            "and instead of Session(app):",
            f"    SessionManager(app, import_session={move.importer_line})",
        ]
    )
