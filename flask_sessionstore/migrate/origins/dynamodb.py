"""In DynamoDB: an item with ``id``, ``val`` and ``expiration``, which only version 0.8 writes."""

from __future__ import annotations

import functools
import typing as t
from datetime import UTC, datetime

import boto3.session
import botocore.session
from boto3.resources.base import ServiceResource
from botocore.exceptions import ClientError

from ...errors import ConfigurationError, TableMissing
from ...stores.dynamodb import DynamoDBStore
from . import Found

Item = dict[str, t.Any]


class _DynamoDB(DynamoDBStore):
    """Its exchanges with DynamoDB are a store's: the same time-outs, and the same number of tries."""

    def item(self, name: str) -> Item | None:
        """The item of a name."""
        found: Item | None = self._do("get_item", Key=_key(name), ConsistentRead=True).get("Item")
        return found

    def remove(self, name: str) -> None:
        """Remove the item of a name, if there is one."""
        self._do("delete_item", Key=_key(name))

    def items(self, prefix: str) -> t.Iterator[Item]:
        """The items of all names that begin with ``prefix``."""
        # An empty text is none that DynamoDB takes for a condition.
        only = {
            "FilterExpression": "begins_with(#id, :prefix)",
            "ExpressionAttributeNames": {"#id": "id"},
            "ExpressionAttributeValues": {":prefix": {"S": prefix}},
        }
        for page in self._pages("scan", ConsistentRead=True, **(only if prefix else {})):
            yield from page

    def _do(self, operation: str, **arguments: t.Any) -> dict[str, t.Any]:
        try:
            return super()._do(operation, **arguments)
        except ConfigurationError as error:
            if not isinstance(error.__cause__, ClientError):
                raise
            raise TableMissing(
                f"from_flask_session: DynamoDB has no table {self.table} of Flask-Session's in this region: name it"
                " with table=, or in the URL, or take the importer out",
                key="import_session",
            ) from error


class _Origin:
    def __init__(self, table: _DynamoDB) -> None:
        self._table = table

    def read(self, name: str, now: float) -> Found | None:
        item = self._table.item(name)
        return None if item is None else _found(item)

    def remove(self, name: str) -> None:
        self._table.remove(name)

    def scan(self, prefix: str, now: float) -> t.Iterator[tuple[str, Found]]:
        for item in self._table.items(prefix):
            yield item["id"]["S"], _found(item)

    def missing(self) -> str | None:
        try:
            self._table.item("-")
        except TableMissing:
            return f"DynamoDB has no table {self._table.table} of Flask-Session's in this region"
        return None


def _key(name: str) -> Item:
    return {"id": {"S": name}}


def _found(item: Item) -> Found:
    data, end = item.get("val", {}).get("B"), item.get("expiration", {}).get("N")
    return Found(data if isinstance(data, bytes) else b"", None if end is None else _end(float(end)))


def _end(written: float) -> float:
    """When the session ends. Flask-Session takes the time in UTC for a local time, and writes that: as many hours off
    as the server's time zone is. So the zone of this process, which is the same, undoes it."""
    return datetime.fromtimestamp(written, UTC).astimezone().replace(tzinfo=UTC).timestamp()


def origin(source: t.Any, **options: t.Any) -> _Origin:
    """The origin in a URL's table, or in a table that boto3's client or resource reaches.

    :param options: ``endpoint_url`` of a URL; ``table`` with anything else: SESSION_DYNAMODB_TABLE.
    """
    if isinstance(source, str):
        return _Origin(_DynamoDB.from_url(source, prefix="", **options))
    options.setdefault("table", "Sessions")
    return _Origin(_DynamoDB(client_of(source), prefix="", **options))


def client_of(source: t.Any) -> t.Any:
    """What a store takes: a client, or for a resource, which Flask-Session takes, a function that makes a client."""
    return functools.partial(_like, source.meta.client) if isinstance(source, ServiceResource) else source


def _like(client: t.Any) -> t.Any:
    """A new client with the settings and the credentials of a resource's client, which itself reads and writes
    Python's values in the place of DynamoDB's."""
    signer = vars(client)["_request_signer"]  # nothing public tells a client's credentials
    session = botocore.session.get_session()
    session.register_component("credential_provider", _Known(vars(signer)["_credentials"]))
    made = {"region_name": client.meta.region_name, "endpoint_url": client.meta.endpoint_url}
    return boto3.session.Session(botocore_session=session).client("dynamodb", config=client.meta.config, **made)


class _Known(t.NamedTuple):
    """What botocore asks for credentials. These may be such as change: a role's."""

    credentials: t.Any

    def load_credentials(self) -> t.Any:
        return self.credentials
