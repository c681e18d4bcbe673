"""What the tests of clusters and Sentinels share."""

from __future__ import annotations

from datetime import timedelta

from flask_sessionstore import Record, SessionKey
from flask_sessionstore.stores import ServerSideStore

DAY = timedelta(days=1)


def saved(store: ServerSideStore) -> SessionKey:
    return store.save(Record(state={"a": b"1"}), DAY)
