"""MongoDBStore: the contract where MONGODB_URL names a server; else what can be known without one.

Without MongoDB, the commands sent are looked at by pymongo's own monitoring, and they are answered by nx-27017, which
speaks the protocol and is not MongoDB.
"""

from __future__ import annotations

import functools
import logging
import os
import typing as t
from datetime import UTC, timedelta
from uuid import uuid4

import msgspec
import pytest
from bson.binary import Binary
from every_store import alive
from memcached_server import NXServer
from mongodb_stores import Sent, new
from pymongo import ReadPreference, WriteConcern, errors
from pymongo.collection import Collection

from flask_sessionstore import ConfigurationError, Record, SessionKey, SessionTooLarge, StoreUnavailable
from flask_sessionstore.layout import pack
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores import mongodb as module
from flask_sessionstore.stores.base import Entry
from flask_sessionstore.stores.mongodb import MongoDBStore
from flask_sessionstore.testing import StoreContract, later

DAY = timedelta(days=1)
#: The variable with the URL of a MongoDB to test with, database included. Asked for and unreachable is a failure.
MONGODB_URL = "MONGODB_URL"
Documents = Collection[dict[str, t.Any]]
pass_time = StoreContract().pass_time


# -- the contract on MongoDB -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mongodb_url() -> str:
    url = os.environ.get(MONGODB_URL)
    if not url:
        pytest.skip(f"no MongoDB: {MONGODB_URL} names none")
    return url


@pytest.fixture(scope="session")
def mongodb(mongodb_url: str, shared_mongodb: Documents) -> Documents:
    """A collection of our own."""
    return shared_mongodb


def set_data(documents: Documents, name: str, data: bytes) -> None:
    documents.update_one({"_id": name}, {"$set": {"data": Binary(data)}})


class TestMongoDBStore(StoreContract):
    __test__ = MONGODB_URL in os.environ  # else the few tests below say often enough that they are skipped

    @pytest.fixture
    def store(self, mongodb_url: str, mongodb: Documents) -> ServerSideStore:
        self.documents = mongodb
        self.open = functools.partial(
            MongoDBStore.from_url, mongodb_url, database="test", collection=mongodb.name, prefix=f"{uuid4()}:"
        )
        return self.open()

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        found = self.documents.find_one({"_id": store.prefix + handle})
        return None if found is None else t.cast("bytes", found["data"])

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        set_data(self.documents, store.prefix + handle, data)

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return self.open


class TestMongoDBStoreOnAGivenCollection(TestMongoDBStore):
    """With its own concerns, which give way to the store's."""

    @pytest.fixture
    def store(self, mongodb_url: str, mongodb: Documents) -> ServerSideStore:
        self.documents = mongodb
        prefix = f"{uuid4()}:"
        self.open = functools.partial(
            MongoDBStore.from_url, mongodb_url, database="test", collection=mongodb.name, prefix=prefix
        )
        return MongoDBStore(mongodb.with_options(write_concern=WriteConcern(0)), prefix=prefix)


def test_mongodb_is_told_when_to_remove_what_has_expired(mongodb: Documents) -> None:
    store = MongoDBStore(mongodb)
    store.create_schema()
    store.create_schema()
    (index,) = [index for index in mongodb.list_indexes() if "expireAfterSeconds" in index]
    assert (dict(index["key"]), index["expireAfterSeconds"]) == ({"expires": 1}, 0)
    key = store.save(Record(state={"a": b"1"}), timedelta(hours=1))
    for ttl in (timedelta(hours=1), timedelta(hours=2)):
        store.update_ttl(key, ttl)
        found = mongodb.find_one({"_id": f"session:{key.handle}"})
        assert found is not None
        assert found["expires"].replace(tzinfo=UTC) == alive(store, key).expires_at


def test_mongodb_refuses_a_document_over_its_limit(mongodb: Documents) -> None:
    store = MongoDBStore(mongodb)
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = alive(store, key)
    for size in (2**24 - 100, 2**24, 2**25):
        with pytest.raises(SessionTooLarge):
            store.update(key, later(record, {"a": bytes(size)}), DAY, replaces=record.revision)
        with pytest.raises(SessionTooLarge):
            store.save(Record(state={"a": bytes(size)}), DAY)
    assert alive(store, key) == record


def test_a_wrong_password_is_unavailable_and_not_shown(mongodb: Documents) -> None:
    """nx-27017 knows no passwords."""
    host, port = mongodb.database.client.address or ("", 0)
    store = MongoDBStore.from_url(f"mongodb://ann:wrong-secret@{host}:{port}/test")
    with pytest.raises(StoreUnavailable) as caught:
        store.load(SessionKey.generate())
    assert "wrong-secret" not in str(caught.value)


# -- the protocol: a smoke test --------------------------------------------------------------------------------------


class TestProtocol(StoreContract):
    """The contract as far as nx-27017 goes. What passes here may yet fail on MongoDB."""

    @pytest.fixture
    def store(self, nx: NXServer, documents: Documents) -> ServerSideStore:
        self.documents = documents
        self.open = functools.partial(
            MongoDBStore.from_url, nx.url, database="test", collection=documents.name, prefix=f"{uuid4()}:"
        )
        return self.open()

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        found = self.documents.find_one({"_id": store.prefix + handle})
        return None if found is None else t.cast("bytes", found["data"])

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        set_data(self.documents, store.prefix + handle, data)

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return self.open


# -- the commands ----------------------------------------------------------------------------------------------------


MAJORITY = {"w": "majority", "wtimeout": 1500}


def test_a_new_session_is_one_insert_and_the_first_makes_the_indexes(store: MongoDBStore, sent: Sent) -> None:
    key = store.save(Record(state={"a": b"1"}), DAY)
    insert, index = sent.commands
    (document,) = insert["documents"]
    record = alive(store, key)
    assert document == {
        "_id": f"session:{key.handle}",
        "data": Binary(pack(record, key.handle)),
        "revision": record.revision.hex(),
        "expires_ms": record.expires_ms,
        "expires": record.expires_at,
    }
    assert insert["writeConcern"] == MAJORITY
    kinds = [(i["key"], i.get("expireAfterSeconds"), i.get("sparse")) for i in index["indexes"]]
    assert kinds == [({"expires": 1}, 0, None), ({"owner": 1}, None, True)]
    sent.commands.clear()
    store.save(Record(state={"a": b"1"}), DAY)
    assert [next(iter(command)) for command in sent.commands] == ["insert"]


def test_reads_ask_the_primary_for_what_a_majority_has(documents: Documents, sent: Sent) -> None:
    given = documents.with_options(read_preference=ReadPreference.SECONDARY)
    MongoDBStore(given).load(SessionKey.generate())
    (find,) = sent.commands
    assert find["readConcern"] == {"level": "majority"}
    assert find.get("$readPreference", {"mode": "primary"})["mode"] in ("primary", "primaryPreferred")
    assert MongoDBStore(given)._collection.read_preference == ReadPreference.PRIMARY
    assert list(find["filter"]) == ["_id"]


def test_a_write_is_one_conditional_update_that_makes_nothing(store: MongoDBStore, sent: Sent) -> None:
    key, record, name = new(store)
    sent.commands.clear()
    newer = later(record, {"a": b"2"})
    store.update(key, newer, DAY, replaces=record.revision)
    (command,) = sent.commands
    (update,) = command["updates"]
    assert command["writeConcern"] == MAJORITY
    assert update["q"].pop("expires_ms").keys() == {"$gt"}
    assert update["q"] == {"_id": name, "revision": record.revision.hex()}
    assert set(update["u"]) == {"$set", "$unset"}
    assert update["u"]["$set"].keys() == {"data", "revision", "expires_ms", "expires"}
    assert update["u"]["$set"]["revision"] == newer.revision.hex()
    assert not update.get("upsert")
    assert not update.get("multi")


def test_a_write_concern_of_the_collection_gives_way_and_its_wait_stays(documents: Documents, sent: Sent) -> None:
    store = MongoDBStore(documents.with_options(write_concern=WriteConcern(1, wtimeout=700)))
    store.save(Record(state={"a": b"1"}), DAY)
    assert sent.commands[0]["writeConcern"] == {"w": "majority", "wtimeout": 700}


def test_every_operation_is_as_many_round_trips_as_promised(store: MongoDBStore, sent: Sent) -> None:
    key, record, _ = new(store)

    def trips(call: t.Callable[[], t.Any]) -> list[str]:
        sent.commands.clear()
        call()
        return [next(iter(command)) for command in sent.commands]

    assert trips(lambda: store.load(key)) == ["find"]
    assert trips(lambda: store.update(key, record, DAY, replaces=record.revision)) == ["update"]
    assert trips(lambda: store.update_ttl(key)) == ["find", "update"]
    assert trips(lambda: store.delete(SessionKey.generate())) == ["find"]
    assert trips(lambda: store.drop("0" * 64)) == ["delete"]
    assert trips(lambda: store.renew(key, record, DAY, replaces=record.revision)) == ["insert", "update"]
    assert trips(store.delete_expired) == ["find"]


def test_a_name_that_is_taken_is_replaced_only_if_it_has_expired(store: MongoDBStore, sent: Sent) -> None:
    now = int(store.now() * 1000)
    old, data = (pack(Record(state={"a": v}).written(now, timedelta(seconds=5)), None) for v in (b"1", b"2"))
    assert store.add("name", old, DAY)
    sent.commands.clear()
    assert not store.add("name", data, DAY)
    insert, command = sent.commands
    assert "insert" in insert
    (update,) = command["updates"]
    assert update["q"]["_id"] == "session:name"
    assert update["q"]["expires_ms"].keys() == {"$lte"}
    assert not update.get("upsert")
    pass_time(store, 6)
    assert store.add("name", data, DAY)
    assert store.read("name") == data


def test_a_sweep_goes_in_batches_and_keeps_to_its_prefix(documents: Documents, sent: Sent) -> None:
    store, other = MongoDBStore(documents), MongoDBStore(documents, prefix="other:")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH", 3)
        for _ in range(7):
            store.save(Record(state={"a": b"1"}), timedelta(seconds=5))
        kept = other.save(Record(state={"a": b"1"}), timedelta(seconds=5))
        pass_time(store, 6)
        sent.commands.clear()
        assert store.delete_expired() == 7
    finds = [command for command in sent.commands if "find" in command]
    deletes = [command["deletes"][0] for command in sent.commands if "delete" in command]
    assert [len(delete["q"]["_id"]["$in"]) for delete in deletes] == [3, 3, 1]
    assert {find["limit"] for find in finds} == {3}
    assert all(delete["q"]["expires_ms"].keys() == {"$lte"} for delete in deletes)
    alive(other, kept)


def test_the_owner_stands_beside_every_record_that_has_one_and_beside_nothing_else(
    store: MongoDBStore, documents: Documents, sent: Sent
) -> None:
    def owner_of(key: SessionKey) -> object:
        found = documents.find_one({"_id": store.prefix + key.handle})
        assert found is not None
        return found.get("owner", "none")

    key, record, _ = new(store)
    assert owner_of(key) == "none"
    signed_in = store.renew(key, msgspec.structs.replace(record, owner="ann"), DAY, replaces=record.revision)
    assert (owner_of(key), owner_of(signed_in)) == ("none", "ann")
    sent.commands.clear()
    store.update_ttl(signed_in)
    assert sent.commands[1]["updates"][0]["u"].keys() == {"$set"}
    assert owner_of(signed_in) == "ann"
    store.end(signed_in.handle)
    assert owner_of(signed_in) == "none"


def test_an_owner_s_sessions_are_one_find_by_the_index(store: MongoDBStore, sent: Sent) -> None:
    store.save(Record(state={"a": b"1"}, owner="ann"), DAY)
    sent.commands.clear()
    store.entries("ann")
    (find,) = sent.commands
    assert find["filter"] == {"owner": "ann", "_id": {"$gte": "session:", "$lt": "session:g"}}
    assert find["readConcern"] == {"level": "majority"}


def test_a_scan_goes_in_pages_and_keeps_to_its_prefix(
    documents: Documents, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 3)
    stores = [MongoDBStore(documents, prefix=prefix) for prefix in ("a:", "a:b:", "b:")]
    keys = [[store.save(Record(state={"n": b"1"}, owner="ann"), DAY) for _ in range(4)] for store in stores]
    sent.commands.clear()
    scanned = [entry.handle for entry in stores[0].scan()]
    assert [command["limit"] for command in sent.commands if "find" in command] == [3] * 4
    assert not any("getMore" in command for command in sent.commands)
    assert scanned == sorted(key.handle for key in keys[0])
    assert {entry.handle for entry in stores[0].entries("ann")} == set(scanned)


def test_a_scan_tells_what_is_none_of_ours_as_corrupt(store: MongoDBStore, documents: Documents) -> None:
    documents.insert_one({"_id": "session:" + "0" * 64, "data": "text"})
    assert list(store.scan()) == [Entry("0" * 64, b"")]


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://",
        "mongodb:///shop",
        "mongodb://host",
        "mongodb://user:secret@host",
        "mongodb://user:secret@/shop",
        "mongodb://host:port/shop",
        "mongodb://user:sec@ret@host/shop",
        "mongodb://user:sec/ret@host/shop",
        "mongodb://user:secret@host/shop?nonsense=1",
        "mongodb://user:secret@host/shop?socketTimeoutMS=soon",
        "mongodb://user:secret@host/shop?tls=true&tlsCAFile=/nowhere/secret",
        "http://user:secret@host/shop",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MongoDBStore.from_url(url)
    assert caught.value.key == "SESSION_STORE"
    told = f"{caught.value!r}{caught.value.__cause__!r}"
    assert not any(part in told for part in ("secret", "sec@", "sec/", "ret@"))


def test_a_collection_of_a_forbidden_name_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        MongoDBStore.from_url("mongodb://host/shop", collection="")


@pytest.mark.parametrize(
    ("url", "options", "name"),
    [
        ("mongodb://host/shop", {}, "shop.sessions"),
        ("mongodb://host", {"database": "other"}, "other.sessions"),
        ("mongodb://host/shop", {"collection": "visits"}, "shop.visits"),
        ("mongodb://one,two:1234/shop?replicaSet=rs", {}, "shop.sessions"),
    ],
)
def test_a_url_names_database_and_collection(url: str, options: dict[str, str], name: str) -> None:
    assert MongoDBStore.from_url(url, **options)._collection.full_name == name


def test_an_option_that_is_unknown_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        MongoDBStore.from_url("mongodb://host/shop", nonsense=1)


def test_waits_are_set_and_those_of_the_url_stay() -> None:
    client = MongoDBStore.from_url("mongodb://host/shop?sockettimeoutms=9000")._collection.database.client
    options = client.options
    assert options.server_selection_timeout == 2
    assert (options.pool_options.connect_timeout, options.pool_options.socket_timeout) == (1, 9)
    assert options.pool_options.wait_queue_timeout == 2
    assert (options.pool_options.max_pool_size, options.pool_options.max_idle_time_seconds) == (64, 60)
    assert (options.retry_reads, options.retry_writes) == (False, False)


def test_repr_shows_nothing_secret() -> None:
    assert "host" not in repr(MongoDBStore.from_url("mongodb://user:secret@host/shop"))


def test_a_given_collection_is_not_changed_and_its_client_not_closed(documents: Documents) -> None:
    before = (documents.write_concern, documents.read_concern)
    MongoDBStore(documents).save(Record(state={"a": b"1"}), DAY)
    assert (documents.write_concern, documents.read_concern) == before
    assert documents.count_documents({}) == 1


# -- the schema ------------------------------------------------------------------------------------------------------


def test_the_schema_may_be_made_again_and_is_not_made_by_writes_then(store: MongoDBStore, sent: Sent) -> None:
    store.create_schema()
    store.create_schema()
    sent.commands.clear()
    store.save(Record(state={"a": b"1"}), DAY)
    assert [next(iter(command)) for command in sent.commands] == ["insert"]


def test_a_store_without_its_indexes_works_and_says_so_once(
    documents: Documents, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Documents, *args: object, **options: object) -> t.NoReturn:
        raise errors.OperationFailure("not authorized", 13)

    monkeypatch.setattr(Collection, "create_indexes", refuse)
    store = MongoDBStore(documents)
    for _ in range(3):
        alive(store, store.save(Record(state={"a": b"1"}), DAY))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "create_schema()" in caplog.text
    with pytest.raises(StoreUnavailable, match="refused"):
        store.create_schema()
