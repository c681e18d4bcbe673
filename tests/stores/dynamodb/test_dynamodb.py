"""DynamoDBStore: over two emulators that differ, and over a real table where DYNAMODB_URL names one.

moto and dynalite are not DynamoDB. Neither throttles, forgets what has expired, or reads an index late; dynalite knows
no time to live. What they cannot do is answered here by a server of one line, or only the translation is tried.
"""

from __future__ import annotations

import functools
import os
import time
import typing as t
from datetime import timedelta
from uuid import uuid4

import boto3
import botocore.exceptions
import pytest
from dynamodb_servers import REGION, TABLE, URL, DynamoDBServer
from dynamodb_stores import OPERATIONS, new
from every_store import alive

from flask_sessionstore import ConfigurationError, Record, SessionKey, SessionTooLarge, StoreUnavailable
from flask_sessionstore.layout import pack
from flask_sessionstore.stores import ServerSideStore, TableMissing
from flask_sessionstore.stores import dynamodb as module
from flask_sessionstore.stores.base import Entry
from flask_sessionstore.stores.dynamodb import DynamoDBStore
from flask_sessionstore.testing import StoreContract, later

DAY = timedelta(days=1)
#: The variable with the URL of a table of Amazon's to test with; it is made if it is not there.
DYNAMODB_URL = "DYNAMODB_URL"
SECRET = "of-nobody-s-business"
pass_time = StoreContract().pass_time


def item_of(store: DynamoDBStore, handle: str) -> dict[str, t.Any] | None:
    """What is in the table, read past the store."""
    found = store._clients.get().get_item(TableName=store.table, Key=store._key(handle), ConsistentRead=True)
    return t.cast("dict[str, t.Any] | None", found.get("Item"))


def put(store: DynamoDBStore, name: str, kind: str, **attributes: dict[str, t.Any]) -> None:
    """Put an item into the table, past the store."""
    item = {"pk": {"S": name}, "sk": {"S": kind}, **attributes}
    store._clients.get().put_item(TableName=store.table, Item=item)


# -- the contract ----------------------------------------------------------------------------------------------------


class Contract(StoreContract):
    """Over any table."""

    __test__ = False
    open: functools.partial[DynamoDBStore]

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        found = item_of(t.cast("DynamoDBStore", store), handle)
        return None if found is None else t.cast("bytes", found["data"]["B"])

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        table = t.cast("DynamoDBStore", store)
        table._clients.get().update_item(
            TableName=table.table,
            Key=table._key(handle),
            UpdateExpression="SET #data = :data",
            ExpressionAttributeNames={"#data": "data"},
            ExpressionAttributeValues={":data": {"B": data}},
        )

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return self.open


class TestDynamoDBStoreOnEmulators(Contract):
    __test__ = True

    @pytest.fixture
    def store(self, emulator: DynamoDBServer) -> ServerSideStore:
        options = {"endpoint_url": emulator.endpoint_url, "prefix": f"{uuid4()}:"}
        self.open = functools.partial(DynamoDBStore.from_url, URL, **options)
        return emulator.copy_of_store(options["prefix"])


@pytest.fixture(scope="session")
def real_table() -> str:
    url = os.environ.get(DYNAMODB_URL)
    if not url:
        pytest.skip(f"no table of Amazon's: {DYNAMODB_URL} names none")
    DynamoDBStore.from_url(url).create_schema()
    return url


class TestDynamoDBStoreOnARealTable(Contract):
    __test__ = DYNAMODB_URL in os.environ

    @pytest.fixture
    def store(self, real_table: str) -> ServerSideStore:
        self.open = functools.partial(DynamoDBStore.from_url, real_table, prefix=f"{uuid4()}:")
        return self.open()

    def test_dynamodb_is_told_when_to_remove_what_has_expired(self, store: ServerSideStore) -> None:
        assert store.risks() == []


# -- the requests ----------------------------------------------------------------------------------------------------


Request = tuple[str, dict[str, t.Any]]


def watched(store: DynamoDBStore) -> list[Request]:
    """The requests that are sent from now on: their names and arguments."""
    sent: list[Request] = []

    def note(params: dict[str, t.Any], model: t.Any, **rest: object) -> None:
        sent.append((model.name, params))

    store._clients.get().meta.events.register("provide-client-params.dynamodb.*", note)
    return sent


def test_a_session_is_one_item_of_the_table(store: DynamoDBStore) -> None:
    key, record = new(store)
    assert item_of(store, key.handle) == {
        "pk": {"S": store.prefix + key.handle},
        "sk": {"S": "record"},
        "data": {"B": pack(record, key.handle)},
        "revision": {"B": record.revision},
        "expires_ms": {"N": str(record.expires_ms)},
        "expires": {"N": str(-(-record.expires_ms // 1000))},
    }


def test_the_time_to_live_is_in_seconds_and_never_before_the_end(store: DynamoDBStore) -> None:
    key, _ = new(store)
    for milliseconds in (1, 999, 1000):
        store.update_ttl(key, timedelta(hours=1, milliseconds=milliseconds))
        item, record = item_of(store, key.handle), alive(store, key)
        assert item is not None
        assert 0 <= int(item["expires"]["N"]) * 1000 - record.expires_ms < 1000


def test_all_that_counts_is_read_consistently(store: DynamoDBStore) -> None:
    key, _ = new(store, "ann")
    sent = watched(store)
    store.load(key)
    store.entries("ann")
    list(store.scan())
    (_, get), (_, query), (_, batch), (_, scan) = sent
    assert all(request["ConsistentRead"] for request in (get, query, scan, batch["RequestItems"][TABLE]))
    assert "IndexName" not in query


def test_no_write_to_a_session_is_without_a_condition(store: DynamoDBStore) -> None:
    key, record = new(store)
    sent = watched(store)
    store.save(record, DAY)
    store.update(key, later(record, {}), DAY, replaces=record.revision)
    store.update_ttl(key)
    store.delete(key)
    puts = [arguments for name, arguments in sent if name == "PutItem"]
    conditions = [arguments["ConditionExpression"] for arguments in puts]
    made = "attribute_not_exists(#pk) OR #expires_ms <= :now"
    assert conditions == [made, *["#revision = :old AND #expires_ms > :now"] * 3]
    assert {name for name, _ in sent} == {"PutItem", "GetItem"}


def test_every_operation_is_as_many_round_trips_as_promised(store: DynamoDBStore) -> None:
    key, record = new(store)
    sent = watched(store)

    def trips(call: t.Callable[[], t.Any]) -> list[str]:
        sent.clear()
        call()
        return [name for name, _ in sent]

    owned = Record(state={"a": b"1"}, owner="ann")
    assert trips(lambda: store.load(key)) == ["GetItem"]
    assert trips(lambda: store.save(Record(state={"a": b"1"}), DAY)) == ["PutItem"]
    assert trips(lambda: store.save(owned, DAY)) == ["PutItem", "PutItem"]
    assert trips(lambda: store.update(key, record, DAY, replaces=record.revision)) == ["PutItem"]
    assert trips(lambda: store.update_ttl(key)) == ["GetItem", "PutItem"]
    assert trips(lambda: store.delete(SessionKey.generate())) == ["GetItem"]
    assert trips(lambda: store.drop("0" * 64)) == ["DeleteItem"]
    assert trips(lambda: store.renew(key, record, DAY, replaces=record.revision)) == ["PutItem", "PutItem"]
    assert trips(lambda: store.entries("ann")) == ["Query", "BatchGetItem"]


def test_a_name_that_is_taken_is_replaced_only_if_it_has_expired(store: DynamoDBStore) -> None:
    """DynamoDB removes it days later."""
    now = int(store.now() * 1000)
    old, data = (pack(Record(state={"a": v}).written(now, timedelta(seconds=5)), None) for v in (b"1", b"2"))
    assert store.add("name", old, DAY)
    assert not store.add("name", data, DAY)
    assert store.read("name") == old
    pass_time(store, 6)
    assert store.add("name", data, DAY)
    assert store.read("name") == data


def test_a_scan_goes_in_pages_and_keeps_to_its_prefix(emulator: DynamoDBServer) -> None:
    prefix = f"{uuid4()}:"
    stores = [emulator.store(prefix=prefix + more) for more in ("", "b:")]
    keys = [[store.save(Record(state={"n": bytes(250_000)}, owner="ann"), DAY) for _ in range(6)] for store in stores]
    sent = watched(stores[0])
    scanned = {entry.handle: entry.data for entry in stores[0].scan()}
    assert len(sent) > 2
    assert scanned == {key.handle: stores[0].read(key.handle) for key in keys[0]}


def test_more_of_an_owner_s_sessions_than_fit_one_reply_are_all_found(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {store.save(Record(state={"n": bytes(300_000)}, owner="ann"), DAY).handle for _ in range(8)}
    monkeypatch.setattr(module, "_BATCH", 3)
    sent = watched(store)
    entries = store.entries("ann")
    assert {entry.handle for entry in entries} == keys
    assert all(entry.data for entry in entries)
    assert len([name for name, _ in sent if name == "BatchGetItem"]) >= 3


def test_records_that_a_reply_leaves_out_are_asked_for_again(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB gives 16 MB at most, and less where it throttles. These emulators do not."""
    keys = [new(store, "ann")[0].handle for _ in range(3)]
    send = store._send

    def one_at_a_time(operation: str, **arguments: t.Any) -> dict[str, t.Any]:
        if operation != "batch_get_item":
            return send(operation, **arguments)
        first, *rest = arguments["RequestItems"][TABLE]["Keys"]
        reply = send(operation, RequestItems={TABLE: {"Keys": [first], "ConsistentRead": True}})
        return {**reply, "UnprocessedKeys": {TABLE: {"Keys": rest}} if rest else {}}

    def nothing(operation: str, **arguments: t.Any) -> dict[str, t.Any]:
        if operation != "batch_get_item":
            return send(operation, **arguments)
        return {"Responses": {}, "UnprocessedKeys": arguments["RequestItems"]}

    monkeypatch.setattr(store, "_send", one_at_a_time)
    assert sorted(entry.handle for entry in store.entries("ann") if entry.data) == sorted(keys)
    monkeypatch.setattr(store, "_send", nothing)
    with pytest.raises(StoreUnavailable, match="throttled"):
        store.entries("ann")


def test_what_others_put_among_an_owner_s_sessions_is_left_alone(store: DynamoDBStore) -> None:
    key, _ = new(store, "ann")
    name = store._list_of("ann")
    put(store, name, "no handle", filed_ms={"N": "5"})
    put(store, name, "0" * 64, filed_ms={"S": "no number"})
    put(store, name, "1" * 64)
    assert [entry.handle for entry in store.entries("ann")] == [key.handle]
    pass_time(store, 2 * DAY.total_seconds())
    assert store.prune() == 1
    assert store.entries("ann") == []


def test_an_entry_that_was_filed_anew_is_not_pruned(store: DynamoDBStore) -> None:
    handle = "0" * 64
    store.file("ann", handle)
    pass_time(store, 61)
    (item,) = store._left()
    store.file("ann", handle)
    assert not store._remove(item)
    assert [entry.handle for entry in store.entries("ann")] == [handle]


def test_an_item_that_is_none_of_ours_is_corrupt(store: DynamoDBStore) -> None:
    handle = "0" * 64
    for attributes in ({}, {"data": {"S": "text"}}, {"data": {"N": "5"}}):
        put(store, store.prefix + handle, "record", **attributes)
        assert store.read(handle) == b""
        assert list(store.scan()) == [Entry(handle, b"")]


def test_a_session_over_dynamodb_s_limit_is_an_error_and_what_was_there_stays(store: DynamoDBStore) -> None:
    key, record = new(store)
    for size in (400 * 1024 - 100, 400 * 1024, 5_000_000):
        with pytest.raises(SessionTooLarge) as caught:
            store.update(key, later(record, {"a": bytes(size)}), DAY, replaces=record.revision)
        assert (caught.value.limit, (caught.value.size or 0) > size) == (400 * 1024, True)
        with pytest.raises(SessionTooLarge):
            store.save(Record(state={"a": bytes(size)}), DAY)
    assert alive(store, key) == record


def test_the_largest_session_that_we_send_is_not_too_large_for_dynamodb(
    shared_dynamodb: t.Callable[[str], DynamoDBServer],
) -> None:
    """As dynalite counts, and DynamoDB's documentation: the names of attributes belong to the size of an item."""
    store = shared_dynamodb("dynalite").store(prefix=f"{uuid4()}:")
    empty = len(pack(Record(state={"a": bytes(2**16)}).written(0, DAY), None)) - 2**16
    room = module.LARGEST - module._BESIDE - len(store.prefix) - empty
    key = store.save(Record(state={"a": bytes(room)}), DAY)
    assert len(alive(store, key).state["a"]) == room
    with pytest.raises(SessionTooLarge):
        store.save(Record(state={"a": bytes(room + 1)}), DAY)


def test_what_dynamodb_finds_too_large_is_too_large(shared_dynamodb: t.Callable[[str], DynamoDBServer]) -> None:
    """moto takes less."""
    store = shared_dynamodb("moto").store(prefix=f"{uuid4()}:")
    with pytest.raises(SessionTooLarge) as caught:
        store.save(Record(state={"a": bytes(407_000)}), DAY)
    assert isinstance(caught.value.__cause__, botocore.exceptions.ClientError)


# -- the table -------------------------------------------------------------------------------------------------------


def test_a_table_that_is_missing_is_an_error_that_says_what_to_do(emulator: DynamoDBServer) -> None:
    store = DynamoDBStore.from_url(f"dynamodb://{REGION}/nowhere", endpoint_url=emulator.endpoint_url)
    for operation in OPERATIONS.values():
        with pytest.raises(TableMissing, match="flask sessions create-schema") as caught:
            operation(store, SessionKey.generate(), Record(state={"a": b"1"}, owner="ann", revisions=(bytes(8),)))
        assert caught.value.key == "SESSION_STORE"


def test_a_table_of_another_shape_is_an_error_that_says_so(emulator: DynamoDBServer) -> None:
    table = f"other-{uuid4()}"
    store = DynamoDBStore.from_url(f"dynamodb://{REGION}/{table}", endpoint_url=emulator.endpoint_url)
    client = store._clients.get()
    client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=table)
    with pytest.raises(ConfigurationError, match="pk and sk"):
        store.load(SessionKey.generate())
    with pytest.raises(ConfigurationError, match="pk and sk"):
        store.save(Record(state={"a": b"1"}), DAY)


def test_the_table_may_be_made_again_and_says_when_to_remove_what_has_expired(
    shared_dynamodb: t.Callable[[str], DynamoDBServer],
) -> None:
    server = shared_dynamodb("moto")
    store = DynamoDBStore.from_url(f"dynamodb://{REGION}/made-{uuid4()}", endpoint_url=server.endpoint_url)
    store.create_schema()
    store.create_schema()
    client = store._clients.get()
    table = client.describe_table(TableName=store.table)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] == [("pk", "HASH"), ("sk", "RANGE")]
    ttl = client.describe_time_to_live(TableName=store.table)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires")
    assert store.risks() == []


def test_a_table_without_a_time_to_live_is_a_risk(shared_dynamodb: t.Callable[[str], DynamoDBServer]) -> None:
    """dynalite knows none."""
    store = shared_dynamodb("dynalite").store()
    (risk,) = store.risks()
    assert "does not remove expired sessions" in risk
    with pytest.raises(StoreUnavailable, match="refused"):
        store.create_schema()


def test_a_table_that_is_not_ready_in_time_is_unavailable(
    emulator: DynamoDBServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, waits = emulator.store(), list[float]()
    monkeypatch.setattr(store, "_do", lambda *args, **arguments: {"Table": {"TableStatus": "CREATING"}})
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(StoreUnavailable, match="has not made the table in time"):
        store.create_schema()
    assert sum(waits) == 60


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "dynamodb:",
        "dynamodb://",
        "dynamodb:///sessions",
        "dynamodb://eu-central-1",
        "dynamodb://eu-central-1/",
        "dynamodb://eu-central-1/a/b",
        "dynamodb://eu-central-1/ab",
        "dynamodb://eu-central-1/ses sions",
        "dynamodb://localhost:8000/sessions",
        f"dynamodb://AKIA:{SECRET}@eu-central-1/sessions",
        f"dynamodb://AKIA:{SECRET}]@[eu-central-1/sessions",
        f"dynamodb://eu-central-1/sessions?aws_secret_access_key={SECRET}",
        "dynamodb://eu-central-1/sessions#there",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="dynamodb://eu-central-1/sessions") as caught:
        DynamoDBStore.from_url(url)
    assert caught.value.key == "SESSION_STORE"
    assert SECRET not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"


@pytest.mark.parametrize("url", ["", "localhost:8000", f"http://u:{SECRET}@host", "ftp://host", "http://host/path"])
def test_an_endpoint_that_cannot_be_used_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint_url") as caught:
        DynamoDBStore.from_url(URL, endpoint_url=url)
    assert caught.value.key == "SESSION_STORE_OPTIONS"
    assert SECRET not in str(caught.value)


def test_an_option_that_is_unknown_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        DynamoDBStore.from_url(URL, nonsense=1)


def test_a_url_names_region_and_table_and_its_client_is_impatient() -> None:
    store = DynamoDBStore.from_url("dynamodb://eu-west-3/Shop.sessions-2")
    client = store._clients.get()
    assert (store.table, client.meta.region_name) == ("Shop.sessions-2", "eu-west-3")
    assert "eu-west-3" in client.meta.endpoint_url
    assert client.meta.endpoint_url.startswith("https://")
    config = client.meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (1, 2, 64)
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert store.exposures() == []


def test_records_in_clear_text_are_an_exposure_unless_they_stay_here() -> None:
    assert DynamoDBStore.from_url(URL, endpoint_url="http://127.0.0.1:8000").exposures() == []
    (risk,) = DynamoDBStore.from_url(URL, endpoint_url="http://dynamodb.example:8000").exposures()
    assert "dynamodb.example without encryption" in risk


@pytest.mark.parametrize("thing", ["sessions", None, 5])
def test_what_is_no_client_is_refused(thing: object) -> None:
    with pytest.raises(ConfigurationError, match="takes a client"):
        DynamoDBStore(thing, table=TABLE)


def test_a_table_of_boto3_s_is_refused() -> None:
    """It is not for threads, as its documentation says."""
    table = boto3.session.Session(region_name=REGION).resource("dynamodb").Table(TABLE)
    with pytest.raises(ConfigurationError, match="not safe for threads"):
        DynamoDBStore(table, table=TABLE)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> None:
    """A machine on which boto3 finds no credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.mark.usefixtures("nobody")
def test_without_credentials_every_use_is_an_error_until_there_are_some(
    emulator: DynamoDBServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = emulator.store(prefix=f"{uuid4()}:")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="boto3 finds no credentials") as caught:
            store.load(SessionKey.generate())
        assert caught.value.key == "SESSION_STORE"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    with pytest.raises(ConfigurationError, match="boto3 finds no credentials"):
        store.load(SessionKey.generate())  # half of them
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    alive(store, store.save(Record(state={"a": b"1"}), DAY))


@pytest.mark.usefixtures("nobody")
def test_a_profile_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(ConfigurationError, match="boto3 finds no credentials"):
        DynamoDBStore.from_url(URL, endpoint_url="http://127.0.0.1:1").load(SessionKey.generate())
