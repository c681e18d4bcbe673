"""Moving in: imports the sessions that visitors have in Flask's own cookie, in Flask-Session, or in another store of
this package.

Drivers are imported when an importer that needs them is made, never before.
"""

from __future__ import annotations

import os
import typing as t

from flask import Flask

from ..derived import Credential
from ..errors import ConfigurationError
from ..stores.base import ServerSideStore, SessionStore
from ..visitor import Old
from .flask_cookie import FlaskCookies
from .flask_sessions import FlaskSessions
from .importing import Importer, Listing, to_record
from .origins import origin
from .other_store import OtherStore

__all__ = ["Credential", "Importer", "Listing", "Old", "from_flask", "from_flask_session", "from_store", "to_record"]


def from_flask(*, cookie: str | None = None) -> Importer:
    """Imports Flask's own sessions, if they are signed with SECRET_KEY or one of SECRET_KEY_FALLBACKS, and not older
    than PERMANENT_SESSION_LIFETIME.

    Every cookie that Flask has sent is a separate credential: a log-out here ends only the one that this browser has.

    :param cookie: the cookie's old name, if it differs from the present name.
    """
    return FlaskCookies(cookie=cookie)


def from_flask_session(
    source: str | os.PathLike[str] | t.Any,
    *,
    prefix: str = "session:",
    signed: bool = False,
    id_length: int = 32,
    cookie: str | None = None,
    remove: bool = False,
    **options: t.Any,
) -> Listing:
    """Imports Flask-Session's sessions, of its versions 0.4 to 0.8.

    Pickles are read as data: nothing in them is run, and no module is imported for them.

    :param source: where the sessions are. A URL as for SESSION_STORE (but the folder of a ``file:`` URL is below the
        working folder, as Flask-Session's is), a client of redis-py, pymemcache, pymongo or
        boto3, an Engine of SQLAlchemy (Flask-SQLAlchemy's ``db.engine``), cachelib's FileSystemCache, or a folder.
    :param prefix: SESSION_KEY_PREFIX, as it was.
    :param signed: SESSION_USE_SIGNER.
    :param id_length: SESSION_ID_LENGTH, in bytes. The longer ids of versions before 0.6 are accepted in any case.
    :param cookie: the cookie's old name, if it differs from the present name.
    :param remove: remove each old session once it is imported. Otherwise old sessions end by themselves, and old
        versions of the application can still use them meanwhile.
    :param options: ``table`` and ``schema`` of a database; ``database`` and ``collection`` of MongoDB; ``table``
        of a client of boto3's, ``endpoint_url`` of a ``dynamodb:`` URL.
    :raises ConfigurationError: if ``source`` is not something that can be read, or its driver is not installed.
    """
    origin_ = origin(source, options)
    return FlaskSessions(origin_, prefix=prefix, signed=signed, id_length=id_length, cookie=cookie, remove=remove)


def from_store(store: SessionStore, *, former: Flask | None = None, remove: bool = False) -> Importer:
    """Imports the sessions of another store of this package, under the same cookie: for a change of SESSION_STORE.

    With ``former`` it may be the same store: for a change of the cookie's name, path or protection.

    :param former: an application that serves no requests, and has the settings under which the cookies were made.
    :param remove: remove each session from the other store once it is imported.
    :raises ConfigurationError: if the other store keeps nothing on the server's side, or if ``remove`` comes with
        ``former``: it would remove the session that goes on in the same store.
    """
    if not isinstance(store, ServerSideStore):
        raise ConfigurationError(f"from_store takes a store on the server's side, not {type(store).__name__}")
    if remove and former is not None:
        raise ConfigurationError(
            "from_store: with former, sessions may go on in the same store and cannot be removed; leave out remove=True"
        )
    return OtherStore(store, former=former, remove=remove)
