"""Where an engine refuses: it has no room, not even for a tombstone, or a name is taken and then free."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
from every_store import alive

from flask_sessionstore import ConfigurationError, Record, SessionConflict, SessionGone, SessionKey
from flask_sessionstore.record import new_revision
from flask_sessionstore.stores import ServerSideStore, StoreFull, from_url
from flask_sessionstore.stores.base import ANY
from flask_sessionstore.stores.memory import MemoryStore

HOUR = timedelta(hours=1)


def record(**state: bytes) -> Record:
    return Record(state=state, revisions=(new_revision(),))


class Narrow(MemoryStore):
    """Refuses for want of room before it compares, as some engines do; or says that a name is taken which is free."""

    is_full = False
    refusals = 0

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        if self.refusals:
            self.refusals -= 1
            return False
        return super().add(handle, data, ttl)

    def swap(self, *args: t.Any, **kwargs: t.Any) -> bool:
        if self.is_full:
            raise StoreFull("no room")
        return super().swap(*args, **kwargs)


@pytest.fixture
def narrow() -> Narrow:
    return Narrow()


def kept(store: ServerSideStore) -> SessionKey:
    return store.save(record(a=b"\x01"), HOUR)


@pytest.mark.parametrize("replaces", ["that revision", "any"])
def test_without_room_a_session_can_end(narrow: Narrow, replaces: str) -> None:
    key = kept(narrow)
    narrow.is_full = True
    narrow.delete(key, replaces=ANY if replaces == "any" else alive(narrow, key).revision)
    assert narrow.load(key) is None


def test_without_room_an_end_spares_what_another_request_wrote(narrow: Narrow) -> None:
    key = kept(narrow)
    old = alive(narrow, key)
    newer = record(a=b"\x02")
    narrow.update(key, newer, HOUR, replaces=old.revision)
    narrow.is_full = True
    with pytest.raises(SessionConflict) as caught:
        narrow.delete(key, replaces=old.revision)
    assert caught.value.record == alive(narrow, key)
    assert not narrow.end_exactly(key.handle, old.revision, "ann")
    assert alive(narrow, key).revision == newer.revision


def test_without_room_an_end_spares_the_tombstone_that_stands(narrow: Narrow) -> None:
    key = kept(narrow)
    new = narrow.renew(key, record(a=b"\x02"), HOUR, replaces=None)
    narrow.is_full = True
    with pytest.raises(SessionGone):
        narrow.delete(key, replaces=ANY)
    with pytest.raises(SessionGone) as caught:
        narrow.load(key)
    assert caught.value.successor == new.handle


def test_a_name_that_was_taken_and_is_free_again_is_no_failure(narrow: Narrow) -> None:
    narrow.refusals = 2
    assert alive(narrow, kept(narrow)).state == {"a": b"\x01"}


@pytest.mark.parametrize("scheme", ["gopher+tls", "redis+pymysql"])
def test_a_driver_is_named_for_databases_alone(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown URL scheme"):
        from_url(f"{scheme}://127.0.0.1/sessions")
