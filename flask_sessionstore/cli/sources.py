"""Where sessions come from that are moved in: the store that was typed for it, and whether its place exists."""

from __future__ import annotations

import re
import typing as t

from flask import Flask

from ..errors import ConfigurationError, UnsupportedByStore
from ..making import make_store
from ..stores.base import Scans, ServerSideStore
from ..stores.memory import MemoryStore

IN_MEMORY = "the sessions in memory: live in the application's process, where commands do not see them"

# What the name of a setting looks like. A URL has other characters, and so has nearly every password.
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


class Argument(t.NamedTuple):
    """An argument of a command that stands for a store: a URL, or the name of a setting."""

    #: FROM or TO.
    name: str
    text: str

    def store(self, app: Flask) -> ServerSideStore:
        """The store, with the prefix of this application.

        :raises ConfigurationError: which names the setting or the argument; also if the store is a new one in memory.
        :raises UnsupportedByStore: if the store keeps nothing on the server's side.
        """
        prefix = app.config.get("SESSION_KEY_PREFIX", "session:")
        setting = app.config.get(self.text, self.text)
        try:
            store = make_store(app, setting, {"prefix": prefix})
        except ConfigurationError as error:
            raise ConfigurationError(self._about(app, str(error))) from error.__cause__
        if not isinstance(store, ServerSideStore):
            raise UnsupportedByStore(f"{self.named(app)}: {type(store).__name__} keeps nothing that could be copied")
        if type(store) is MemoryStore and store is not setting:
            raise ConfigurationError(f"{self.named(app)}: {IN_MEMORY}")
        return store

    def source(self, app: Flask) -> ServerSideStore:
        """As :meth:`store`, for a store that has to be there.

        :raises ConfigurationError: also if its folder, file or table does not exist.
        """
        store = self.store(app)
        scans = store.ability(Scans)
        missing = None if scans is None else scans.missing()
        if missing is not None:
            raise ConfigurationError(f"{self.named(app)}: {missing}: name the store in which the sessions are")
        return store

    def named(self, app: Flask) -> str:
        """The setting, if this is the name of one, or else the argument."""
        return self.text if self.text in app.config else self.name

    def _about(self, app: Flask, said: str) -> str:
        """What was said about SESSION_STORE, said about this."""
        if self.text not in app.config and _NAME.fullmatch(self.text):
            return f"{self.name}: this application has no setting {self.text}: write a URL, or the name of a setting"
        about_it = said.removeprefix("SESSION_STORE")
        return self.named(app) + (about_it if about_it[:1] in (" ", ":") else f": {said}")


def missing_for(importer: t.Any) -> str | None:
    """What an importer reads from, if it does not exist, and what to do. An application's own importer may not tell.

    :raises StoreUnavailable: if its engine cannot be asked.
    """
    missing = importer.missing() if hasattr(importer, "missing") else None
    if missing is None:
        return None
    return f"import_session: {missing}: name the place of the old sessions, or remove the importer"
