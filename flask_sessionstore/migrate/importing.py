"""Importer: finds sessions of another kind, by the credentials that browsers present."""

from __future__ import annotations

import logging
import typing as t

from flask import Flask

from .. import codec, signins
from ..derived import Credential
from ..errors import SessionInsertError
from ..key import SessionKey
from ..record import Record
from ..visitor import Old

logger = logging.getLogger("flask_sessionstore")

#: The key under which Flask's session and others keep ``permanent``.
_PERMANENT = "_permanent"


class Importer(t.Protocol):
    """Finds sessions of one kind. An importer keeps nothing of a request, since threads share it."""

    @property
    def cookie(self) -> str | None:
        """The name of the cookie that has the credentials; None: the application's."""

    @property
    def removes(self) -> bool:
        """Whether an old session is removed once it is imported."""

    def recognise(self, app: Flask, text: str) -> Credential | None:
        """The credential in a cookie's value, if it is of this kind, well formed and properly signed.

        It asks no engine, so it does not tell whether the session exists.
        """

    def find(self, app: Flask, credential: Credential, now: float) -> Old | None:
        """The session behind a credential; None if there is no living session.

        :param now: in seconds since 1970.
        :raises StoreUnavailable: if the engine cannot be asked just now.
        :raises SessionCorrupt: if the session cannot be read; the message says why, without the session's content.
        """

    def remove(self, credential: Credential) -> None:
        """Remove the old session, if it can be removed.

        :raises StoreUnavailable: if the session may still exist.
        """


class Listing(Importer, t.Protocol):
    """An importer that can also go through all sessions of its kind."""

    def listed(self, app: Flask, now: float) -> t.Iterator[tuple[Credential, t.Callable[[], Old | None]]]:
        """Every credential, with a function that finds its session and may raise like :meth:`Importer.find`.

        :raises UnsupportedByStore: if the engine cannot list its sessions.
        :raises StoreUnavailable:
        """


def candidates(
    importers: t.Iterable[Importer], app: Flask, cookies: t.Callable[[str | None], t.Iterable[str]]
) -> t.Iterator[Presented]:
    """The presented credentials that an importer recognises, in the order of the importers.

    :param cookies: gives the values of the request's cookies with a name.
    """
    for importer in importers:
        for text in cookies(importer.cookie):
            credential = importer.recognise(app, text)
            if credential is not None:
                yield Presented(app, importer, credential)


class Presented(t.NamedTuple):
    """An old session whose credential was presented to an application."""

    app: Flask
    importer: Importer
    credential: Credential

    @property
    def key(self) -> SessionKey:
        """The key under which the session goes on here."""
        return self.credential.key

    @property
    def is_derived(self) -> bool:
        """Whether the key is derived from the credential. (Otherwise the credential has the key itself.)"""
        return self.credential.is_derived

    @property
    def mark(self) -> str:
        """The name of the mark that says that it was imported."""
        return self.credential.mark

    def find(self, now: float) -> Old | None:
        """See :meth:`Importer.find`."""
        return self.importer.find(self.app, self.credential, now)

    def remove(self) -> None:
        """See :meth:`Importer.remove`; does nothing if the importer does not remove old sessions."""
        if self.importer.removes:
            self.importer.remove(self.credential)


def to_record(data: t.Mapping[t.Any, object], foreign: t.Sequence[str] = ()) -> Record:
    """The record for the data of another kind of session. Values that cannot be kept are left out, with one warning.

    :param foreign: the names of types that could not be read.
    """
    state, left_out = {}, []
    for key, value in data.items():
        if not (isinstance(key, str) and signins.is_unicode(key)):
            left_out.append("a value under a key that is not text")
        elif key != _PERMANENT:
            try:
                state[key] = codec.encode(value, key)
            except SessionInsertError as error:
                left_out.append(str(error.path))
    if left_out:
        types = f" (its pickle names {', '.join(foreign)})" if foreign else ""
        logger.warning(
            "these values of an imported session cannot be kept, and are left out: %s%s", "; ".join(left_out), types
        )
    return Record(state=state, permanent=bool(data.get(_PERMANENT)))
