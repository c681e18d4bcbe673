"""Server-side sessions for Flask: ``flask.session``, kept in a store."""

from __future__ import annotations

import typing as t

from flask import session as _flask_session

from .errors import (
    ConfigurationError,
    SessionConflict,
    SessionCorrupt,
    SessionError,
    SessionGetError,
    SessionGone,
    SessionInsertError,
    SessionTooLarge,
    StoreError,
    StoreUnavailable,
    UnsupportedByStore,
)
from .interface import StoreSessionInterface
from .key import SessionKey
from .manager import SessionManager
from .record import Record, SessionInfo
from .sessions import Session, SessionStatus
from .stores.base import SessionStore

__all__ = [
    "ConfigurationError",
    "Record",
    "Session",
    "SessionConflict",
    "SessionCorrupt",
    "SessionError",
    "SessionGetError",
    "SessionGone",
    "SessionInfo",
    "SessionInsertError",
    "SessionKey",
    "SessionManager",
    "SessionStatus",
    "SessionStore",
    "SessionTooLarge",
    "StoreError",
    "StoreSessionInterface",
    "StoreUnavailable",
    "UnsupportedByStore",
    "session",
]

session: Session = t.cast(Session, _flask_session)
"""The same object as ``flask.session``, typed as :class:`Session`."""

__version__: str
"""The version that is installed."""

if not t.TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        if name == "__version__":  # looked up when it is asked for, since it is in a file
            from importlib import metadata

            try:
                return metadata.version("flask-sessionstore")
            except metadata.PackageNotFoundError:
                name += ", since it is not installed"
        raise AttributeError(f"module {__name__!r} has no attribute {name}")
