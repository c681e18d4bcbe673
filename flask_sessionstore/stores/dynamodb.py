"""DynamoDBStore: sessions in Amazon DynamoDB, over boto3. Provisional: not yet verified against DynamoDB itself.

A record is one item of a table, and so is each entry of an owner's list::

    {"pk": "<prefix><handle>", "sk": "record", "data": B, "revision": B, "expires_ms": N, "expires": N}
    {"pk": "<prefix>owners:<list>", "sk": "<handle>", "filed_ms": N}

``data`` is the whole record. The other attributes are for the conditions of writes (``revision``, ``expires_ms``), and
for DynamoDB's time to live (``expires``, in seconds), by which it removes expired items. Everything that matters is
read consistently. So the sessions of an owner are listed in the table, and are not found by a global secondary index:
DynamoDB updates such an index later than the table, and cannot read it consistently. Then a call that ends all sessions
of an owner could miss the session to which a thief has just signed in.
"""

from __future__ import annotations

import binascii
import contextlib
import functools
import os
import random
import re
import time
import typing as t
import weakref
from datetime import timedelta
from itertools import islice
from urllib.parse import urlsplit

import boto3.session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from ..errors import ConfigurationError, SessionError, SessionTooLarge, StoreUnavailable, TableMissing
from ..key import is_handle
from ..layout import expires_ms_of, is_tombstone, revision_of
from ..record import to_ms
from .abilities import has_left, list_name
from .base import Entry, HasSchema, OwnerIndex, Scans, ServerSideStore
from .contact import Contact
from .engines import CONNECT_TIMEOUT, PATIENCE, TIMEOUT
from .exposure import clear_text
from .pool import MAX_CONNECTIONS, PerProcess

Client = t.Any
Item = dict[str, t.Any]

#: The settings of a URL's client: how many seconds it waits for a connection and for a reply, and how many connections
#: it keeps. boto3 does not try again: the store does so itself, and soon gives up.
SETTINGS: dict[str, t.Any] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "read_timeout": TIMEOUT,
    "max_pool_connections": MAX_CONNECTIONS,
    "tcp_keepalive": True,
    "retries": {"total_max_attempts": 1, "mode": "standard"},
}
#: The most bytes that DynamoDB allows for an item.
LARGEST = 400 * 1024

# Bytes of an item besides its data: the names of its attributes, its numbers, "record", a handle, and some reserve.
_BESIDE = 256
# Records that DynamoDB reads at once.
_BATCH = 100
# How many times an operation is tried.
_TRIES = 3
# Seconds that DynamoDB may take to make a table.
_TABLE_TIME = 60
# Seconds before the second try; the pause before the third is twice as long.
_PAUSE = 0.05
# Error codes of DynamoDB: for too many requests, and for a problem of its own.
_THROTTLED = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "Throttling",
}
_TROUBLED = {"InternalServerError", "InternalFailure", "ServiceUnavailable", "ServiceUnavailableException"}
_FAILURES = (BotoCoreError, ClientError, ResponseParserError, binascii.Error, OSError, RecursionError)
_TIMEOUTS = (ConnectTimeoutError, ReadTimeoutError)
_UNKNOWN_USER = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)
_TOO_LARGE = "the session is larger than DynamoDB allows for an item"
_RECORD = "record"
_TABLE, _REGION = re.compile(r"[A-Za-z0-9_.-]{3,255}"), re.compile(r"[a-z0-9-]+")
_R = t.TypeVar("_R")


class DynamoDBStore(ServerSideStore, Scans, OwnerIndex, HasSchema):
    """Sessions in a table of DynamoDB, which :meth:`create_schema` makes.

    :param client: boto3's (``boto3.client("dynamodb")``), or a function that makes a client. The function is called at
        first use, and again in a child process. A client keeps its own time-outs and retries, and the store never
        closes it.
    :param table: the table's name.
    :param prefix: put before every handle, so applications with different prefixes can share a table.
    :raises ConfigurationError: if ``client`` is something else; at a use in another process than the process in which
        the store was given a client.
    """

    def __init__(self, client: Client | t.Callable[[], Client], *, table: str, prefix: str = "session:") -> None:
        super().__init__(prefix=prefix)
        self.table = table
        """The table's name."""
        self._clients = PerProcess(_given(client))
        self.contact: Contact = Contact()

    @classmethod
    def from_url(cls, url: str, *, endpoint_url: str | None = None, **options: t.Any) -> t.Self:
        """``dynamodb://region/table``. Credentials do not belong in the URL: boto3 finds them in its usual places.

        :param endpoint_url: the address of DynamoDB, if it is not the region's: ``http://localhost:8000``.
        :raises ConfigurationError: if one of the two URLs cannot be used.
        """
        region, table = _place(url)
        _check_endpoint(endpoint_url)
        store = cls(functools.partial(_connect, region, endpoint_url), table=table, **options)
        weakref.finalize(store, _close, store._clients)
        return store

    # -- the table -------------------------------------------------------------------------------------------------

    def create_schema(self) -> None:
        """Make the table, with billing by request, and turn on its time to live. Both may have been done already.

        Returns when the table can be used, which takes some seconds.

        :raises StoreUnavailable: if DynamoDB cannot be reached, or refuses.
        """
        keys = {"pk": "HASH", "sk": "RANGE"}
        with contextlib.suppress(_InUse):
            self._do(
                "create_table",
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
                BillingMode="PAY_PER_REQUEST",
            )
        self._wait_for_table()
        if not self._expires():
            how = {"Enabled": True, "AttributeName": "expires"}
            self._do("update_time_to_live", TimeToLiveSpecification=how)

    def _wait_for_table(self) -> None:
        for _ in range(_TABLE_TIME):
            if self._do("describe_table")["Table"]["TableStatus"] in ("ACTIVE", "UPDATING"):
                return
            time.sleep(1)
        raise StoreUnavailable("DynamoDB has not made the table in time: try again in a moment")

    def _expires(self) -> bool:
        """Whether DynamoDB removes expired items."""
        found = self._do("describe_time_to_live")["TimeToLiveDescription"]
        is_on = found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
        return is_on and found.get("AttributeName") == "expires"

    # -- the four primitives ---------------------------------------------------------------------------------------

    def read(self, handle: str) -> bytes | None:
        found = self._do("get_item", Key=self._key(handle), ConsistentRead=True).get("Item")
        return None if found is None else _data_of(found)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self._put(handle, data, ttl, "attribute_not_exists(#pk) OR #expires_ms <= :now", {"pk"}, {})

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        beside, value = "revision", replaces
        if value is None:
            beside, value = "data", self.read(handle)
            if value is None or is_tombstone(value):
                return False
        condition = f"#{beside} = :old AND #expires_ms > :now"
        return self._put(handle, data, ttl, condition, {beside}, {":old": {"B": value}})

    def drop(self, handle: str) -> None:
        self._do("delete_item", Key=self._key(handle))

    # -- abilities -------------------------------------------------------------------------------------------------

    def scan(self) -> t.Iterator[Entry]:
        for page in self._pages(
            "scan",
            FilterExpression="begins_with(#pk, :prefix) AND #sk = :record",
            ExpressionAttributeNames={"#pk": "pk", "#sk": "sk"},
            ExpressionAttributeValues={":prefix": {"S": self.prefix}, ":record": {"S": _RECORD}},
            ConsistentRead=True,
        ):
            for item in page:
                handle = item["pk"]["S"].removeprefix(self.prefix)
                if is_handle(handle):  # otherwise it belongs to a longer prefix that begins like ours
                    yield Entry(handle, _data_of(item))

    def missing(self) -> str | None:
        try:
            self.read("0" * 64)  # what every user of the table may do
        except TableMissing:
            return f"DynamoDB has no table {self.table} in this region"
        return None

    def file(self, owner: str, handle: str) -> None:
        entry = {"pk": {"S": self._list_of(owner)}, "sk": {"S": handle}, "filed_ms": _number(self._now_ms())}
        self._do("put_item", Item=entry)

    def unfile(self, owner: str, *handles: str) -> None:
        for handle in handles:
            self._do("delete_item", Key={"pk": {"S": self._list_of(owner)}, "sk": {"S": handle}})

    def entries(self, owner: str) -> list[Entry]:
        pages = self._pages(
            "query",
            KeyConditionExpression="#pk = :list",
            ExpressionAttributeNames={"#pk": "pk"},
            ExpressionAttributeValues={":list": {"S": self._list_of(owner)}},
            ConsistentRead=True,
        )
        return [entry for page in pages for entry, _ in self._filed(page)]

    def prune(self, limit: int | None = None) -> int:
        """As in every store. It reads the whole table, since DynamoDB cannot find items without their key otherwise."""
        return sum(self._remove(item) for item in islice(self._left(), limit))

    def _left(self) -> t.Iterator[Item]:
        """The entries, of all lists, whose session is gone."""
        for page in self._pages(
            "scan",
            FilterExpression="begins_with(#pk, :lists)",
            ExpressionAttributeNames={"#pk": "pk"},
            ExpressionAttributeValues={":lists": {"S": self._lists}},
        ):
            for entry, item in self._filed(page):
                name = item["pk"]["S"].removeprefix(self._lists)
                # This machine's clock, which may be ahead, does not count: DynamoDB removes expired items by its own.
                if has_left(entry, name, self.now(), expires=self.clock is not None):
                    yield item

    def _filed(self, items: list[Item]) -> list[tuple[Entry, Item]]:
        """These items of lists as entries, without foreign items."""
        filed = [item for item in items if is_handle(item["sk"].get("S")) and "N" in item.get("filed_ms", {})]
        records = self._read_each([item["sk"]["S"] for item in filed])
        return [
            (Entry(handle, records.get(handle), int(float(item["filed_ms"]["N"]))), item)
            for item in filed
            for handle in (item["sk"]["S"],)
        ]

    def _read_each(self, handles: t.Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        rest = iter([self._key(handle) for handle in dict.fromkeys(handles)])
        while keys := list(islice(rest, _BATCH)):
            while keys:
                asked = {self.table: {"Keys": keys, "ConsistentRead": True}}
                reply = self._send("batch_get_item", RequestItems=asked)
                items = reply["Responses"].get(self.table, [])
                found.update((item["pk"]["S"].removeprefix(self.prefix), _data_of(item)) for item in items)
                keys = reply.get("UnprocessedKeys", {}).get(self.table, {}).get("Keys", [])
                if keys and not items:
                    raise StoreUnavailable("DynamoDB returned no records: the table's reads are throttled")
        return found

    def _remove(self, item: Item) -> bool:
        """Remove an entry, unless it was filed again meanwhile."""
        try:
            self._do(
                "delete_item",
                Key={name: item[name] for name in ("pk", "sk")},
                ConditionExpression="#filed_ms = :seen",
                ExpressionAttributeNames={"#filed_ms": "filed_ms"},
                ExpressionAttributeValues={":seen": item["filed_ms"]},
            )
        except _Unmet:
            return False
        return True

    # -- risks -----------------------------------------------------------------------------------------------------

    def risks(self) -> list[str]:
        found = super().risks()
        if not self._expires():
            found.append(
                f"DynamoDB does not remove expired sessions from the table {self.table}: run 'flask sessions"
                " create-schema', or turn on its time to live with the attribute 'expires'."
            )
        return found

    def exposures(self) -> list[str]:
        place = urlsplit(self._clients.get().meta.endpoint_url)
        hosts = [place.hostname or ""] if place.scheme == "http" else []
        return clear_text(hosts, "use an endpoint_url that begins with https")

    # -- how ------------------------------------------------------------------------------------------------------

    @property
    def _lists(self) -> str:
        """The beginning of the names of all lists."""
        return f"{self.prefix}owners:"

    def _list_of(self, owner: str) -> str:
        return self._lists + list_name(owner)

    def _key(self, handle: str) -> Item:
        return {"pk": {"S": self.prefix + handle}, "sk": {"S": _RECORD}}

    def _put(
        self, handle: str, data: bytes, ttl: timedelta, condition: str, names: set[str], values: dict[str, t.Any]
    ) -> bool:
        """Write a record if ``condition`` holds for the item that is there; False if it does not."""
        try:
            self._do(
                "put_item",
                Item=self._item(handle, data, ttl),
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in names | {"expires_ms"}},
                ExpressionAttributeValues={":now": _number(self._now_ms()), **values},
            )
        except _Unmet:
            return False
        return True

    def _item(self, handle: str, data: bytes, ttl: timedelta) -> Item:
        size = len(data) + len(self.prefix.encode()) + _BESIDE
        if size > LARGEST:
            raise SessionTooLarge(_TOO_LARGE, size=size, limit=LARGEST)
        expires_ms = expires_ms_of(data)
        if expires_ms is None:
            expires_ms = self._now_ms() + to_ms(ttl)
        return {
            **self._key(handle),
            "data": {"B": data},
            "revision": {"B": revision_of(data)},
            "expires_ms": _number(expires_ms),
            "expires": _number(-(-expires_ms // 1000)),  # rounded up
        }

    def _pages(self, operation: str, **arguments: t.Any) -> t.Iterator[list[Item]]:
        while True:
            reply = self._do(operation, **arguments)
            yield reply["Items"]
            if "LastEvaluatedKey" not in reply:
                return
            arguments["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def _do(self, operation: str, **arguments: t.Any) -> dict[str, t.Any]:
        return self._send(operation, TableName=self.table, **arguments)

    def _send(self, operation: str, **arguments: t.Any) -> dict[str, t.Any]:
        return self.contact.ask(lambda: _tried(lambda: _genuine(getattr(self._clients.get(), operation)(**arguments))))


class _Unmet(StoreUnavailable):
    """The condition of a write did not hold."""


class _InUse(StoreUnavailable):
    """The table exists already."""


def _number(value: int) -> dict[str, str]:
    return {"N": str(value)}


def _data_of(item: Item) -> bytes:
    data = item.get("data", {}).get("B")
    return data if isinstance(data, bytes) else b""  # not written by us: counts as damaged


def _genuine(reply: dict[str, t.Any]) -> dict[str, t.Any]:
    """The reply, if it is DynamoDB's. botocore takes a page from a proxy for an empty reply."""
    if "RequestId" not in reply["ResponseMetadata"]:
        raise ResponseParserError("the reply does not come from DynamoDB")
    return reply


# -- the exchange --------------------------------------------------------------------------------------------------


def _tried(operation: t.Callable[[], _R]) -> _R:
    """The operation's result. It is tried again soon if the failure may pass. boto3's exceptions are translated here.

    A write may be sent twice: see ``engines``.
    """
    began, pause = time.monotonic(), _PAUSE
    for left in reversed(range(_TRIES)):
        try:
            return operation()
        except _FAILURES as error:
            if not (left and _may_pass(error)) or time.monotonic() - began > PATIENCE:
                raise _translation(error) from error
        time.sleep(random.uniform(pause / 2, pause))  # noqa: S311  - no secret
        pause *= 2
    raise AssertionError


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return _code_of(error) in _THROTTLED | _TROUBLED or _status_of(error) >= 500
    return not isinstance(error, (*_TIMEOUTS, *_UNKNOWN_USER, RecursionError))


def _translation(error: Exception) -> SessionError:
    if isinstance(error, ClientError):
        return _refusal(error)
    if isinstance(error, _UNKNOWN_USER):
        return ConfigurationError(
            "DynamoDBStore: boto3 finds no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
            " AWS_PROFILE, or give this machine a role; an emulator accepts any values",
            key="SESSION_STORE",
        )
    if isinstance(error, RecursionError):  # raised in Python's ssl if gevent replaced only a part of what boto3 uses
        return ConfigurationError(
            "DynamoDBStore: boto3 was imported before gevent or eventlet replaced modules that it needs. Call"
            " gevent.monkey.patch_all() (or eventlet's) first, at the top of the application's module, or do not load"
            " the application before the workers start (gunicorn without --preload)",
            key="SESSION_STORE",
        )
    if isinstance(error, _TIMEOUTS):
        return StoreUnavailable("DynamoDB did not answer in time", lost="timed out")
    return StoreUnavailable("DynamoDB cannot be reached", lost="unreachable")


def _refusal(error: ClientError) -> SessionError:
    code = _code_of(error)
    if code == "ConditionalCheckFailedException":
        return _Unmet()
    if code == "ResourceInUseException":
        return _InUse("DynamoDB is busy with the table")
    if code == "ResourceNotFoundException":
        return TableMissing(
            "DynamoDB does not have this table in this region, or it is not ready yet: run 'flask sessions"
            " create-schema' once, or correct region and table in SESSION_STORE",
            key="SESSION_STORE",
        )
    if "Item size" in str(error):
        return SessionTooLarge(_TOO_LARGE)
    if code == "ValidationException":
        return ConfigurationError(
            "DynamoDB finds a request invalid: the table must have the keys pk and sk, both strings; 'flask sessions"
            " create-schema' makes such a table",
            key="SESSION_STORE",
        )
    if code in _THROTTLED:
        return StoreUnavailable("DynamoDB throttles requests: they exceed what the table is allowed")
    return StoreUnavailable("DynamoDB refused a command")


def _code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


# -- the client ----------------------------------------------------------------------------------------------------


def _place(url: str) -> tuple[str, str]:
    """Region and table of a URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    region, table = parts.netloc, parts.path.removeprefix("/")
    if not (_REGION.fullmatch(region) and _TABLE.fullmatch(table)) or parts.query or parts.fragment:
        raise ConfigurationError(
            "SESSION_STORE: write dynamodb://eu-central-1/sessions, with the region and the table. boto3 finds"
            " credentials by itself (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, a role); endpoint_url="
            " belongs in SESSION_STORE_OPTIONS",
            key="SESSION_STORE",
        )
    return region, table


def _check_endpoint(url: str | None) -> None:
    if url is not None and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?", url):
        raise ConfigurationError(
            "SESSION_STORE_OPTIONS: endpoint_url takes http:// or https://, a host and perhaps a port, nothing else",
            key="SESSION_STORE_OPTIONS",
        )


def _connect(region: str, endpoint_url: str | None) -> Client:
    session = boto3.session.Session(region_name=region)  # boto3's default session is not safe for threads
    if session.get_credentials() is None:  # a client made without them would never look for them again
        raise NoCredentialsError
    return session.client("dynamodb", endpoint_url=endpoint_url, config=Config(**SETTINGS))


def _given(client: Client | t.Callable[[], Client]) -> t.Callable[[], Client]:
    """A function that makes a client, or returns the client that the application has made."""
    if not isinstance(client, BaseClient):
        if callable(client):
            return t.cast("t.Callable[[], Client]", client)
        raise ConfigurationError(
            f"DynamoDBStore takes a client, boto3.client('dynamodb'), or a function that makes one, not"
            f" {type(client).__name__}. (A Table and other resources of boto3 are not safe for threads.)",
            key="SESSION_STORE",
        )
    home = os.getpid()

    def get() -> Client:
        # The child would share its parent's connections, and each might get the other's replies.
        if os.getpid() != home:
            raise ConfigurationError(
                "DynamoDBStore: this client was made before this process was forked, so it cannot be used here. Give"
                " the store a URL, or a function that makes the client: each process calls it",
                key="SESSION_STORE",
            )
        return client

    return get


def _close(clients: PerProcess[Client]) -> None:
    """Close the client of this process. A parent's client is left alone."""
    found = clients.peek()
    if found is not None:
        found.close()
