"""Imports sessions of this package from another store, or under another cookie: for a change of settings."""

from __future__ import annotations

from flask import Flask

from .. import settings
from ..derived import Credential
from ..errors import SessionGone
from ..key import SessionKey
from ..stores.base import Scans, ServerSideStore
from ..visitor import Old


def credential_of(key: SessionKey) -> Credential:
    """The credential for a session key: its handle, since a copy of all sessions knows only handles."""
    return Credential(key.handle, key, is_derived=False)


class OtherStore:
    """See :func:`~flask_sessionstore.migrate.from_store`."""

    def __init__(self, store: ServerSideStore, *, former: Flask | None, remove: bool) -> None:
        self.store, self.removes, self._former = store, remove, former
        self.cookie = None if former is None else former.session_interface.get_cookie_name(former)

    def recognise(self, app: Flask, text: str) -> Credential | None:
        """The session key in a cookie of ours. The session keeps its key: both stores use the same handle for it."""
        app = self._former or app
        secrets = settings.secrets(app)
        interface = app.session_interface
        if not secrets:
            return None
        tokens = settings.protection(app).tokens(
            secrets, interface.get_cookie_name(app), interface.get_cookie_path(app)
        )
        token = tokens.loads(text, SessionKey)
        return None if token is None else credential_of(token.key)

    def find(self, app: Flask, credential: Credential, now: float) -> Old | None:
        """The record as it is, with its owner, times and deadline."""
        try:
            record = self.store.load(credential.key)
        except SessionGone:
            return None
        if record is None:
            return None
        return Old(record=record, ends_at=record.expires_ms / 1000, kept_as="record")

    def missing(self) -> str | None:
        """What the other store keeps its sessions in, if it does not exist."""
        scans = self.store.ability(Scans)
        return None if scans is None else scans.missing()

    def remove(self, credential: Credential) -> None:
        """Remove the session without leaving a tombstone, since the session goes on."""
        self.store.drop(credential.key.handle)
