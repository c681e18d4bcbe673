"""Where sessions of an owner cannot be ended, or not as fast as they are made."""

from __future__ import annotations

import itertools
import types
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from http_support import make_app, sessions_of
from owner_support import KEY, signed_in

from flask_sessionstore import Record, SessionKey, StoreUnavailable, owners, signals
from flask_sessionstore.layout import FORMAT
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore

DAY = timedelta(days=1)


def saved(store: MemoryStore | FaultyStore) -> SessionKey:
    return store.save(Record(state={KEY: b"\xa3ann"}, owner="ann"), DAY)


def test_who_signs_in_at_every_end_is_not_ended_for_ever() -> None:
    store = MemoryStore()
    app = make_app(store)
    signed_in(app)

    def sign_in_again(sender: t.Any, **arguments: t.Any) -> None:
        saved(store)

    with (
        app.app_context(),
        signals.session_ended.connected_to(sign_in_again),
        pytest.raises(StoreUnavailable, match="made faster than they can be ended"),
    ):
        sessions_of(app).revoke_all("ann")
    with app.app_context():
        assert sessions_of(app).revoke_all("ann") == 1


def test_a_limit_that_others_break_at_every_end_fails_no_sign_in(clock: Clock) -> None:
    store = MemoryStore()
    store.clock = clock

    def sign_in_earlier(handle: object = None) -> None:
        clock.advance(-60)
        saved(store)
        clock.advance(60)

    sign_in_earlier()
    new = saved(store)
    record = store.load(new)
    assert record is not None
    assert owners.keep_to(store, 1, new, record, DAY, sign_in_earlier) == record
    found = list(owners.find(store, "ann"))
    assert len(found) == 2
    assert found[0] == new.handle


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FaultyStore:
    """A store in which an attempt to end a session takes three seconds, once it is told to fail."""
    seconds = itertools.count(0, 3)
    monkeypatch.setattr(owners, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))
    return FaultyStore(FileSystemStore(tmp_path))


def test_after_a_while_of_failures_no_other_session_is_tried(failing: FaultyStore) -> None:
    for _ in range(4):
        saved(failing)
    failing.fail("swap", times=None)
    with pytest.raises(StoreUnavailable):
        owners.end_all(failing, "ann")
    assert failing.calls.count("swap") == 2  # with the others, and then one of them alone
    failing.heal()
    assert owners.end_all(failing, "ann") == 4


def test_after_a_while_of_failures_at_a_record_that_cannot_be_read_the_others_are_not_tried(
    failing: FaultyStore,
) -> None:
    living, later = saved(failing), saved(failing)
    data = failing.read(later.handle)
    assert data is not None
    failing.swap(later.handle, bytes([FORMAT + 1]) + data[1:], DAY, replaces=None)
    failing.fail("swap", times=1)
    with pytest.raises(StoreUnavailable):
        owners.end_all(failing, "ann")
    assert list(owners.find(failing, "ann")) == [living.handle]
    assert owners.end_all(failing, "ann") == 2


def test_what_has_expired_is_not_counted_as_ended(clock: Clock) -> None:
    store = MemoryStore()
    store.clock = clock
    saved(store)
    clock.advance(DAY.total_seconds() + 1)
    saved(store)
    assert owners.end_all(store, "ann") == 1
    assert owners.find(store, "ann") == {}
