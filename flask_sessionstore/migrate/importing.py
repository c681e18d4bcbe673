"""What an importer is: something that knows the sessions of another kind by what browsers present."""

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

#: Where Flask's session and others keep what :attr:`Session.permanent` says.
_PERMANENT = "_permanent"


class Importer(t.Protocol):
    """Knows sessions of one kind. Importers keep nothing of a request, and are shared by threads."""

    @property
    def cookie(self) -> str | None:
        """The name of the cookie that has the credentials; None: the application's."""

    @property
    def removes(self) -> bool:
        """Whether an old session is removed once it is imported."""

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
        """Every credential, and what finds its session: which may raise as :meth:`Importer.find` does.

        :raises UnsupportedByStore: if the engine cannot list what it has.
        :raises StoreUnavailable:
        """


def candidates(
    importers: t.Iterable[Importer], app: Flask, cookies: t.Callable[[str | None], t.Iterable[str]]
) -> t.Iterator[Presented]:
    """What was presented that an importer knows, the first importer's first.

    :param cookies: the values of the request's cookies of a name.
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
        """Under which it goes on here."""
        return self.credential.key

    @property
    def is_derived(self) -> bool:
        """Whether that is derived, and not the credential itself."""
        return self.credential.is_derived

    @property
    def mark(self) -> str:
        """The name of its mark."""
        return self.credential.mark

    def find(self, now: float) -> Old | None:
        """See :meth:`Importer.find`."""
        return self.importer.find(self.app, self.credential, now)

    def remove(self) -> None:
        """See :meth:`Importer.remove`; nothing unless that is wanted."""
        if self.importer.removes:
            self.importer.remove(self.credential)


def to_record(data: t.Mapping[object, object], foreign: t.Sequence[str] = ()) -> Record:
    """What data of another kind of session come to here. What cannot be kept is left out, with one warning.

    :param foreign: the names of types that could not be read.
    """
    state, left_out = {}, []
    for key, value in data.items():
        if not (isinstance(key, str) and signins.is_unicode(key)):
            left_out.append("what is under a key that is not text")
        elif key != _PERMANENT:
            try:
                state[key] = codec.encode(value, key)
            except SessionInsertError as error:
                left_out.append(str(error.path))
    if left_out:
        types = f" (its pickle names {', '.join(foreign)})" if foreign else ""
        logger.warning("of an imported session this cannot be kept, and is left out: %s%s", "; ".join(left_out), types)
    return Record(state=state, permanent=bool(data.get(_PERMANENT)))
