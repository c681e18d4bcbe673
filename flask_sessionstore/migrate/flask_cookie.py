"""Imports Flask's own sessions, whose data is in the cookie."""

from __future__ import annotations

import typing as t

from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import BadData, URLSafeTimedSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from ..derived import Credential
from ..errors import SessionCorrupt
from ..visitor import Old
from .importing import to_record


class FlaskCookies:
    """See :func:`~flask_sessionstore.migrate.from_flask`."""

    removes = False

    def __init__(self, *, cookie: str | None = None) -> None:
        self.cookie = cookie
        self._interface = SecureCookieSessionInterface()

    def recognise(self, app: Flask, text: str) -> Credential | None:
        """The cookie, if it is signed under one of the application's secrets, however old it is."""
        serializer = self._serializer(app)
        if serializer is None or not _has_one_spelling(text):
            return None
        try:
            serializer.loads(text)
        except BadData:
            return None
        return Credential.of(text)

    def find(self, app: Flask, credential: Credential, now: float) -> Old | None:
        """The session in the cookie, as long as Flask would accept the cookie."""
        serializer = self._serializer(app)
        if serializer is None:
            return None
        try:
            data, signed_at = t.cast("t.Any", serializer.loads(credential.text, return_timestamp=True))
        except BadData:
            return None
        ends_at = signed_at.timestamp() + app.permanent_session_lifetime.total_seconds()
        if ends_at < now:
            return None
        if not isinstance(data, dict):
            raise SessionCorrupt("it is not a mapping", newer=False)
        return Old(record=to_record(data), ends_at=ends_at, kept_as="cookie")

    def remove(self, credential: Credential) -> None:
        """Do nothing: the session is only in the browser."""

    def _serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        return self._interface.get_signing_serializer(app)


def _has_one_spelling(text: str) -> bool:
    """Whether the signature is in its canonical spelling. Base64's decoder accepts other spellings of the same bytes.
    Each would be a different credential, which a log-out has not ended.
    """
    signature = text.rpartition(".")[2]
    try:
        return base64_encode(base64_decode(signature)).decode() == signature
    except BadData:
        return False
