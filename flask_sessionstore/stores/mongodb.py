"""MongoDBStore: sessions in MongoDB, over pymongo. Provisional: not yet verified against MongoDB.

A record is one document::

    {"_id": "<prefix><handle>", "data": Binary, "revision": "<hex>", "expires_ms": Long, "expires": Date, "owner": str}

``data`` is the whole record. The other fields are for the filters of updates (``revision``, ``expires_ms``), for the
TTL index (``expires``), by which MongoDB removes expired documents, and for the index of owners (``owner``, if there is
an owner). Writes wait for a majority, and reads ask the primary for what a majority has. So every request reads what
was confirmed to an earlier request, even after a failover.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import time
import typing as t
import warnings
import weakref
from datetime import UTC, timedelta
from urllib.parse import parse_qsl, urlsplit

from bson.binary import Binary
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from bson.errors import BSONError
from bson.int64 import Int64
from pymongo import ASCENDING, IndexModel, MongoClient, ReadPreference, WriteConcern, errors
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from ..errors import ConfigurationError, Lost, SessionTooLarge, StoreFull, StoreUnavailable
from ..layout import expires_ms_of, is_tombstone, owner_in, revision_of
from ..record import to_datetime, to_ms
from .base import Entry, HasSchema, OwnerIndex, Scans, ServerSideStore, Sweeps
from .contact import Contact
from .engines import CONNECT_TIMEOUT, PATIENCE, TIMEOUT
from .pool import MAX_CONNECTIONS, PerProcess

Document = dict[str, t.Any]

#: The default settings of a URL's client: how many milliseconds it waits for a server, for a connection, for a reply,
#: and for a place in the pool; how many connections it has to each server at once, and how many milliseconds an unused
#: connection stays open. pymongo does not try again: the store does so itself, once, and not after a time-out.
SETTINGS: Document = {
    "serverSelectionTimeoutMS": TIMEOUT * 1000,
    "connectTimeoutMS": CONNECT_TIMEOUT * 1000,
    "socketTimeoutMS": TIMEOUT * 1000,
    "waitQueueTimeoutMS": TIMEOUT * 1000,
    "maxPoolSize": MAX_CONNECTIONS,
    "maxIdleTimeMS": 60_000,
    "retryReads": False,
    "retryWrites": False,
}
#: Milliseconds for which MongoDB waits for a majority: less than we wait for the reply, so that the reply can say so.
CONFIRM_TIMEOUT = 1500

# MongoDB's error numbers: a document, or the result of an update, is too large; the disk is full.
_TOO_LARGE, _FULL = {10334, 17419}, {14031}
_BATCH = 500
# Sessions that a scan reads at once, with their data.
_PAGE = 100
_HANDLE_LENGTH = 64
_R = t.TypeVar("_R")

_logger = logging.getLogger("flask_sessionstore")


# The TTL index, and the index of owners, which leaves out documents without an owner.
_INDEXES = [IndexModel([("expires", ASCENDING)], expireAfterSeconds=0), IndexModel([("owner", ASCENDING)], sparse=True)]


class MongoDBStore(ServerSideStore, Sweeps, Scans, OwnerIndex, HasSchema):
    """Sessions in MongoDB.

    :param collection: pymongo's ``Collection``, or a function that makes a collection. The function is called at first
        use, and again in a child process, which must not use a client of its parent. The client keeps its own
        time-outs, and the store never closes it. The store sets write concern, read concern and read preference.
    :raises ConfigurationError: at a use after a fork, if a ``Collection`` was given whose client was used before the
        fork, and pymongo has not noticed the fork.
    :param prefix: put before every handle.
    """

    def __init__(
        self, collection: Collection[Document] | t.Callable[[], Collection[Document]], *, prefix: str = "session:"
    ) -> None:
        super().__init__(prefix=prefix)
        make = given(collection) if isinstance(collection, Collection) else collection
        self._collections = PerProcess(lambda: _prepared(make()))
        self._has_indexes = False
        self.contact: Contact = Contact()

    @classmethod
    def from_url(
        cls, url: str, *, database: str | None = None, collection: str = "sessions", **options: t.Any
    ) -> t.Self:
        """``mongodb://[user:password@]host[:port][,host...]/database``, ``mongodb+srv://``; pymongo's own URL arguments
        may follow.

        :param database: the database's name, if the URL does not name it.
        :param collection: the collection's name.
        :raises ConfigurationError: if the URL lacks a server or a database, or has a part that cannot be used.
        """
        connect = functools.partial(_connect, url, database, collection)
        # This client only checks the URL. It has made locks, which gevent may replace later, so it is not kept.
        _checked(connect).database.client.close()
        store = cls(connect, **options)
        weakref.finalize(store, close_client, store._collections)
        return store

    def create_schema(self) -> None:
        """Make the indexes by which MongoDB removes expired sessions and finds an owner's sessions; they may exist.

        The first new session of a process makes them too.

        :raises StoreUnavailable: if MongoDB cannot be reached, or refuses.
        """
        self._ask(lambda: self._collection.create_indexes(_INDEXES))
        self._has_indexes = True

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str) -> bytes | None:
        found = self._ask(lambda: self._collection.find_one({"_id": self.prefix + handle}, {"data": 1}))
        return None if found is None else _data_of(found)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        name, fields = self.prefix + handle, self._fields(data, ttl)
        try:
            self._ask(lambda: self._collection.insert_one({"_id": name, **fields}))
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, errors.DuplicateKeyError):
                raise
            return self._set({"_id": name, "expires_ms": {"$lte": self._now_ms()}}, fields)
        if not self._has_indexes:
            self._try_indexes()
        return True

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        which: Document = {"_id": self.prefix + handle, "expires_ms": {"$gt": self._now_ms()}}
        if replaces is None:
            found = self._ask(lambda: self._collection.find_one(which, {"data": 1, "revision": 1}))
            if found is None or is_tombstone(_data_of(found)):
                return False
            which["revision"] = found.get("revision")
        else:
            which["revision"] = replaces.hex()
        return self._set(which, self._fields(data, ttl))

    def drop(self, handle: str) -> None:
        self._ask(lambda: self._collection.delete_one({"_id": self.prefix + handle}))

    # -- abilities -------------------------------------------------------------------------------------------------

    def delete_expired(self, limit: int | None = None) -> int:
        now_ms, deleted = self._engines_now_ms(), 0
        while limit is None or deleted < limit:
            names = self._expired(_BATCH if limit is None else min(_BATCH, limit - deleted), now_ms)
            if not names:
                break
            deleted += self._delete(names, now_ms)
        return deleted

    def scan(self) -> t.Iterator[Entry]:
        # Every page is a new query. A cursor would end with its connection, and after ten minutes without a request.
        last = self.prefix
        while found := self._find_many({"_id": {**self._ours, "$gt": last}}, sort=[("_id", ASCENDING)], limit=_PAGE):
            last = found[-1]["_id"]
            yield from self._entries_of(found)

    def entries(self, owner: str) -> list[Entry]:
        return self._entries_of(self._find_many({"owner": owner, "_id": self._ours}))

    def _find_many(self, which: Document, **options: t.Any) -> list[Document]:
        return self._ask(lambda: list(self._collection.find(which, {"data": 1}, **options)))

    def _entries_of(self, found: list[Document]) -> list[Entry]:
        """These documents as entries, without those of a longer prefix that begins like ours."""
        start = len(self.prefix)
        return [
            Entry(document["_id"][start:], _data_of(document))
            for document in found
            if len(document["_id"]) == start + _HANDLE_LENGTH
        ]

    @property
    def _ours(self) -> Document:
        """The names of this store's documents: handles are hexadecimal."""
        return {"$gte": self.prefix, "$lt": self.prefix + "g"}

    def _engines_now_ms(self) -> int:
        """MongoDB's time, unless a test has a clock: a machine whose clock is ahead must not remove live sessions."""
        if self.clock is not None:
            return self._now_ms()
        reply: Document = self._ask(lambda: self._collection.database.command("hello"))
        return int(reply["localTime"].replace(tzinfo=UTC).timestamp() * 1000)

    def _expired(self, limit: int, now_ms: int) -> list[str]:
        exactly = f"^{re.escape(self.prefix)}[0-9a-f]{{{_HANDLE_LENGTH}}}$"
        which = {"expires": {"$lte": to_datetime(now_ms)}, "_id": {**self._ours, "$regex": exactly}}
        return self._ask(lambda: [found["_id"] for found in self._collection.find(which, {"_id": 1}, limit=limit)])

    def _delete(self, names: list[str], now_ms: int) -> int:
        which = {"_id": {"$in": names}, "expires_ms": {"$lte": now_ms}}
        return self._ask(lambda: self._collection.delete_many(which)).deleted_count

    # -- how ------------------------------------------------------------------------------------------------------

    @property
    def _collection(self) -> Collection[Document]:
        return self._collections.get()

    def _ask(self, operation: t.Callable[[], _R]) -> _R:
        return self.contact.ask(lambda: translated(operation))

    def _fields(self, data: bytes, ttl: timedelta) -> Document:
        """The fields of a document, except its ``_id``."""
        expires_ms, owner = expires_ms_of(data), owner_in(data)
        if expires_ms is None:
            expires_ms = self._now_ms() + to_ms(ttl)
        fields: Document = {
            "data": Binary(data),
            "revision": revision_of(data).hex(),
            "expires_ms": Int64(expires_ms),
            "expires": to_datetime(expires_ms),
        }
        return fields if owner is None else {**fields, "owner": owner}

    def _set(self, which: Document, fields: Document) -> bool:
        """Write ``fields`` to the document that ``which`` describes; False if there is no such document."""
        change: Document = {"$set": fields}
        if "owner" not in fields:
            change["$unset"] = {"owner": ""}
        return self._ask(lambda: self._collection.update_one(which, change)).matched_count == 1

    def _try_indexes(self) -> None:
        """Make the indexes, once in a process. The store works without them, so a failure does not fail the request."""
        self._has_indexes = True
        try:
            self.create_schema()
        except StoreUnavailable:
            _logger.warning(
                "MongoDB did not make the indexes of the sessions: expired sessions stay until create_schema() works or"
                " delete_expired() is called, and finding an owner's sessions takes as long as reading all sessions",
                exc_info=True,
            )


def given(collection: Collection[Document]) -> t.Callable[[], Collection[Document]]:
    """A function that returns a collection which the application has made."""
    home = os.getpid()

    def get() -> Collection[Document]:
        # After os.fork, pymongo starts everything again. After a fork in C, it believes that its threads still run, so
        # a server that was lost would never be found again. (No public attribute tells whether a client has threads.)
        if os.getpid() != home and getattr(collection.database.client, "_opened", True):
            raise ConfigurationError(
                "MongoDBStore: this Collection's client was used before this process was forked, so it cannot be used"
                " here. Give the store a URL, or a function that makes the Collection: each process calls it",
                key="SESSION_STORE",
            )
        return collection

    return get


def _prepared(collection: Collection[Document]) -> Collection[Document]:
    """The collection with the settings that the store relies on."""
    wait = collection.write_concern.document.get("wtimeout") or CONFIRM_TIMEOUT
    return collection.with_options(
        DEFAULT_CODEC_OPTIONS,
        ReadPreference.PRIMARY,
        WriteConcern("majority", wtimeout=wait),
        ReadConcern("majority"),
    )


def close_client(collections: PerProcess[Collection[Document]]) -> None:
    """Close the client of this process. A parent's client is left alone."""
    found = collections.peek()
    if found is not None:
        found.database.client.close()


def _data_of(document: Document) -> bytes:
    data = document.get("data")
    return data if isinstance(data, bytes) else b""  # not written by us: counts as damaged


def translated(operation: t.Callable[[], _R]) -> _R:
    """The operation's result. pymongo's exceptions are translated only here."""
    began = time.monotonic()
    try:
        return _again_if_lost(operation)
    except errors.DocumentTooLarge as error:
        raise SessionTooLarge("the session is larger than MongoDB allows for a document") from error
    except errors.OperationFailure as error:
        raise _refusal(error) from error
    except errors.WaitQueueTimeoutError as error:
        raise StoreUnavailable("all connections to MongoDB were in use for too long: see maxPoolSize") from error
    except errors.NetworkTimeout as error:
        raise StoreUnavailable("MongoDB did not answer in time", lost="timed out") from error
    except errors.ServerSelectionTimeoutError as error:
        raise StoreUnavailable("MongoDB cannot be reached", lost="timed out") from error
    except (errors.PyMongoError, BSONError, OSError) as error:
        # pymongo's monitor may give up a server that does not answer, together with all who wait for it.
        lost: Lost = "timed out" if time.monotonic() - began > PATIENCE else "unreachable"
        raise StoreUnavailable("MongoDB cannot be reached", lost=lost) from error


def _again_if_lost(operation: t.Callable[[], _R]) -> _R:
    """Do it once more if the connection was lost, or if the server is not the primary any more (see ``engines``)."""
    began = time.monotonic()
    try:
        return operation()
    except (errors.NetworkTimeout, errors.ServerSelectionTimeoutError):
        raise
    except errors.AutoReconnect:
        if time.monotonic() - began > PATIENCE:
            raise  # a server did not answer, and pymongo's monitor gave it up with all that waited for it
        return operation()


def _refusal(error: errors.OperationFailure) -> Exception:
    if error.code in _TOO_LARGE:
        return SessionTooLarge("the session is larger than MongoDB allows for a document")
    if error.code in _FULL:
        return StoreFull("MongoDB has no room left")
    if isinstance(error, errors.WTimeoutError):
        return StoreUnavailable("MongoDB's servers did not confirm a write in time")
    if error.timeout:
        return StoreUnavailable("MongoDB did not answer in time")
    return StoreUnavailable("MongoDB refused a command")


def _connect(url: str, database: str | None, collection: str) -> Collection[Document]:
    return client_of(url).get_default_database(database)[collection]


def client_of(url: str) -> MongoClient[Document]:
    """The client for a URL. Opens no connection yet."""
    given = {name.lower() for name, _ in parse_qsl(urlsplit(url).query)}
    settings = {name: value for name, value in SETTINGS.items() if name.lower() not in given}
    return MongoClient(url, connect=False, **settings)


def _checked(connect: t.Callable[[], Collection[Document]]) -> Collection[Document]:
    """The collection that pymongo makes for a URL. pymongo's error may quote the password, so it is not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pymongo only warns of an unknown argument
            return connect()
    except (errors.PyMongoError, ValueError, TypeError, OSError, Warning):
        raise ConfigurationError(
            "SESSION_STORE: pymongo refuses the URL. Write mongodb://user:password@host:27017/database, percent-encode"
            " special characters in a password, and spell arguments as pymongo does; database= and collection= belong"
            " in SESSION_STORE_OPTIONS",
            key="SESSION_STORE",
        ) from None
