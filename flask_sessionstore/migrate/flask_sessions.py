"""Imports Flask-Session's sessions, from any of its engines."""

from __future__ import annotations

import typing as t

from flask import Flask

from .. import settings
from ..derived import Credential
from ..visitor import Old
from . import contents, session_ids
from .importing import to_record
from .origins import Found, Origin


class FlaskSessions:
    """See :func:`~flask_sessionstore.migrate.from_flask_session`."""

    def __init__(
        self, origin: Origin, *, prefix: str, signed: bool, id_length: int, cookie: str | None, remove: bool
    ) -> None:
        self.cookie, self.removes = cookie, remove
        self._origin, self._prefix = origin, prefix
        self._signed, self._id_length = signed, id_length

    def recognise(self, app: Flask, text: str) -> Credential | None:
        """The session id in a cookie, which is either unsigned or signed."""
        bare = session_ids.unsigned(text, settings.secrets(app)) if self._signed else text
        sid = None if bare is None else session_ids.checked(bare, self._id_length)
        return None if sid is None else Credential.of(sid)

    def find(self, app: Flask, credential: Credential, now: float) -> Old | None:
        """The session that the engine has under the id."""
        return self._old(app, self._origin.read(self._prefix + credential.text, now), now)

    def remove(self, credential: Credential) -> None:
        """Remove the session from the engine."""
        self._origin.remove(self._prefix + credential.text)

    def listed(self, app: Flask, now: float) -> t.Iterator[tuple[Credential, t.Callable[[], Old | None]]]:
        """Every session that the engine has under this prefix."""
        for name, found in self._origin.scan(self._prefix, now):
            sid = session_ids.checked(name.removeprefix(self._prefix), self._id_length)
            if sid is not None:
                yield Credential.of(sid), lambda found=found: self._old(app, found, now)  # type: ignore[misc]

    def missing(self) -> str | None:
        """The folder, the file or the table of the old sessions, if it does not exist."""
        return self._origin.missing()

    def _old(self, app: Flask, found: Found | None, now: float) -> Old | None:
        if found is None or (found.ends_at is not None and found.ends_at <= now):
            return None
        content = contents.read(found.data)
        ends_at = found.ends_at
        if not found.tells_end:  # take the latest possible end: an old version has written it just now
            ends_at = now + app.permanent_session_lifetime.total_seconds()
        return Old(record=to_record(content.data, content.foreign), ends_at=ends_at, kept_as=content.kept_as)
