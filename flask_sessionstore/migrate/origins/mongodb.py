"""Reads sessions from MongoDB: documents with ``id``, ``val`` and ``expiration``."""

from __future__ import annotations

import re
import typing as t
import weakref
from datetime import UTC, datetime

from pymongo.collection import Collection

from ...errors import ConfigurationError
from ...stores.mongodb import Document, client_of, close_client, given, translated
from ...stores.pool import PerProcess
from . import Found


class _Origin:
    def __init__(self, make: t.Callable[[], Collection[Document]]) -> None:
        #: Each process has its own collection.
        self.collections = PerProcess(make)

    def read(self, name: str, now: float) -> Found | None:
        document = translated(lambda: self.collections.get().find_one({"id": name}))
        return None if document is None else _found(document)

    def remove(self, name: str) -> None:
        translated(lambda: self.collections.get().delete_one({"id": name}))

    def scan(self, prefix: str, now: float) -> t.Iterator[tuple[str, Found]]:
        which = {"id": {"$regex": f"^{re.escape(prefix)}"}}
        documents = iter(translated(lambda: self.collections.get().find(which)))
        while (document := translated(lambda: next(documents, None))) is not None:
            yield str(document["id"]), _found(document)

    def missing(self) -> None:
        return None


def _found(document: Document) -> Found:
    end, data = document.get("expiration"), document.get("val")
    ends_at = end.replace(tzinfo=end.tzinfo or UTC).timestamp() if isinstance(end, datetime) else None
    return Found(data if isinstance(data, bytes) else b"", ends_at)


def origin(source: t.Any, *, database: str = "flask_session", collection: str = "sessions") -> _Origin:
    """The origin in the server of a URL, or of a ``MongoClient``.

    :param database, collection: SESSION_MONGODB_DB and SESSION_MONGODB_COLLECT.
    """
    if isinstance(source, str):
        made = _Origin(lambda: client_of(source)[database][collection])
        weakref.finalize(made, close_client, made.collections)
        return made
    if isinstance(source, Collection) or not hasattr(source, "list_database_names"):
        raise ConfigurationError("it takes a MongoClient, with database= and collection=")
    return _Origin(given(source[database][collection]))
