"""Stores in an emulator of MongoDB, for the tests of MongoDBStore."""

from __future__ import annotations

import typing as t
from datetime import timedelta

from every_store import alive
from pymongo import monitoring

from flask_sessionstore import Record, SessionKey
from flask_sessionstore.stores.mongodb import MongoDBStore

DAY = timedelta(days=1)


class Sent(monitoring.CommandListener):
    """The commands that the store sends. Those that pymongo sends by itself are left out."""

    def __init__(self) -> None:
        self.commands: list[dict[str, t.Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in ("endSessions", "hello", "ping"):
            self.commands.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


def new(store: MongoDBStore) -> tuple[SessionKey, Record, str]:
    """A session, and the name of its document."""
    key = store.save(Record(state={"a": b"1"}), DAY)
    return key, alive(store, key), store.prefix + key.handle
