"""What an importer is: something that knows the sessions of another kind by what browsers present."""

from __future__ import annotations

import logging
import typing as t

import msgspec
from flask import Flask

from .. import codec, signins
from ..errors import SessionInsertError
from ..record import Record
from .derived import Credential

logger = logging.getLogger("flask_sessionstore")

#: Where Flask's session and others keep what :attr:`Session.permanent` says.
_PERMANENT = "_permanent"


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """A living session of another kind."""

    #: What it comes to here, not written yet.
    record: Record
    #: When its credential is good for nothing any more, in seconds since 1970; None: never by itself.
    ends_at: float | None
    #: How it was kept: "pickle", "msgpack", "json", "cookie", "record".
    kept_as: str


class Importer(t.Protocol):
    """Knows sessions of one kind. Importers keep nothing of a request, and are shared by threads."""

    @property
    def cookie(self) -> str | None:
        """The name of the cookie that has the credentials; None: the application's."""

    def recognise(self, app: Flask, text: str) -> Credential | None:
        """The credential in a cookie's value, if it is of this kind, well formed and signed as it should be.

        Asks nobody: it says nothing of whether there is such a session.
        """

    def find(self, app: Flask, credential: Credential, now: float) -> Old | None:
        """The session behind a credential; None if none is alive.

        :param now: in seconds since 1970.
        :raises StoreUnavailable: if it cannot be asked for just now.
        :raises SessionCorrupt: if what is there cannot be read; the message says why, and has nothing of its content.
        """

    def remove(self, credential: Credential) -> None:
        """Remove the old session, if there is anything that can be removed.

        :raises StoreUnavailable: if it may still be there.
        """


class Listing(Importer, t.Protocol):
    """An importer that can also go through all sessions of its kind."""

    def listed(self, app: Flask, now: float) -> t.Iterator[tuple[Credential, t.Callable[[], Old | None]]]:
        """Every credential, and what finds its session: which may raise as :meth:`find` does.

        :raises UnsupportedByStore: if the engine cannot list what it has.
        :raises StoreUnavailable:
        """


def candidates(
    importers: t.Iterable[Importer], app: Flask, cookies: t.Callable[[str | None], t.Iterable[str]]
) -> t.Iterator[tuple[Importer, Credential]]:
    """What was presented that an importer knows, the first importer's first.

    :param cookies: the values of the request's cookies of a name.
    """
    for importer in importers:
        for text in cookies(importer.cookie):
            credential = importer.recognise(app, text)
            if credential is not None:
                yield importer, credential


def to_record(data: t.Mapping[object, object], foreign: t.Sequence[str] = ()) -> Record:
    """What data of another kind of session come to here. What cannot be kept is left out, with one warning.

    :param foreign: the names of types that could not be read.
    """
    state, left_out = {}, []
    for key, value in data.items():
        if not (isinstance(key, str) and signins.is_unicode(key)):
            left_out.append("what is under a key that is no text")
        elif key != _PERMANENT:
            try:
                state[key] = codec.encode(value, key)
            except SessionInsertError as error:
                left_out.append(str(error.path))
    if left_out:
        types = f" (its pickle names {', '.join(foreign)})" if foreign else ""
        logger.warning("of an imported session this cannot be kept, and is left out: %s%s", "; ".join(left_out), types)
    return Record(state=state, permanent=bool(data.get(_PERMANENT)))
