"""Counts the commands that a Redis server gets, and makes sessions on it to load and to update."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import redis

from flask_sessionstore import Record, SessionKey
from flask_sessionstore.testing import later

DAY = timedelta(days=1)


class Counting:
    """Counts the commands that a server gets."""

    def __init__(self, *ports: int) -> None:
        self.admins = [redis.Redis(port=port, protocol=2) for port in ports]  # so that they send no HELLO

    def reset(self) -> None:
        for admin in self.admins:
            admin.config_resetstat()

    def sent(self, *names: str) -> dict[str, int]:
        """How many commands of these names came since the last reset, except those that were not permitted."""
        counts = dict.fromkeys(names, 0)
        for admin in self.admins:
            for name, found in admin.info("commandstats").items():
                if name.removeprefix("cmdstat_") in counts:
                    counts[name.removeprefix("cmdstat_")] += found["calls"]
        return {name: count for name, count in counts.items() if count}


def saved(store: t.Any, state: bytes = b"1") -> tuple[SessionKey, Record]:
    """A new session, as a request that has loaded it sees it."""
    return loaded(store, store.save(Record(state={"a": state}), DAY))


def loaded(store: t.Any, key: SessionKey) -> tuple[SessionKey, Record]:
    """The session, as another request loads it, with the key in its cookie."""
    own = SessionKey(str(key))
    record = store.load(own)
    assert record is not None
    return own, record


def update(store: t.Any, key: SessionKey, record: Record, state: bytes) -> None:
    store.update(key, later(record, {"a": state}), DAY, replaces=record.revision)


def state_of(store: t.Any, key: SessionKey) -> bytes:
    return loaded(store, key)[1].state["a"]
