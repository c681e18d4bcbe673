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

#: The same object as ``flask.session``, typed as :class:`Session`.
session: Session = t.cast(Session, _flask_session)
