"""Stores in emulators of DynamoDB, for the tests of DynamoDBStore."""

from __future__ import annotations

import typing as t
from datetime import timedelta

from every_store import alive

from flask_sessionstore import Record, SessionKey
from flask_sessionstore.stores.dynamodb import DynamoDBStore
from flask_sessionstore.testing import later

DAY = timedelta(days=1)


def new(store: DynamoDBStore, owner: str | None = None) -> tuple[SessionKey, Record]:
    key = store.save(Record(state={"a": b"1"}, owner=owner), DAY)
    return key, alive(store, key)


OPERATIONS: dict[str, t.Callable[[DynamoDBStore, SessionKey, Record], object]] = {
    "load": lambda store, key, record: store.load(key),
    "save": lambda store, key, record: store.save(record, DAY),
    "update": lambda store, key, record: store.update(key, later(record, {}), DAY, replaces=record.revision),
    "update_ttl": lambda store, key, record: store.update_ttl(key),
    "delete": lambda store, key, record: store.delete(key),
    "renew": lambda store, key, record: store.renew(key, record, DAY, replaces=record.revision),
    "drop": lambda store, key, record: store.drop(key.handle),
    "scan": lambda store, key, record: list(store.scan()),
    "file": lambda store, key, record: store.file("ann", key.handle),
    "unfile": lambda store, key, record: store.unfile("ann", key.handle),
    "entries": lambda store, key, record: store.entries("ann"),
    "prune": lambda store, key, record: store.prune(),
}
