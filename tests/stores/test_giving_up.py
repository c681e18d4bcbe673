"""A store that loses every time gives up, and says so; a chain of renewals that no browser makes is not followed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from http_support import KEPT, fate, make_app, started
from views import clear, sign_in

from flask_sessionstore import SessionKey, StoreUnavailable
from flask_sessionstore.record import Record
from flask_sessionstore.stores.memory import MemoryStore

DAY = timedelta(days=1)


class Stuck(MemoryStore):
    """Refuses to write, as if another writer were faster each time."""

    adds = swaps = True

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self.adds and super().add(handle, data, ttl)

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self.swaps and super().swap(handle, data, ttl, replaces=replaces)


@pytest.fixture
def stuck() -> Stuck:
    return Stuck()


def kept(store: MemoryStore) -> SessionKey:
    return store.save(Record(state={"a": b"\x01"}), DAY)


def test_a_new_session_whose_names_are_all_taken_is_given_up(stuck: Stuck) -> None:
    stuck.adds = False
    with pytest.raises(StoreUnavailable, match="changes faster"):
        kept(stuck)


def test_an_extension_and_an_end_that_always_lose_are_given_up(stuck: Stuck) -> None:
    key = kept(stuck)
    stuck.swaps = False
    with pytest.raises(StoreUnavailable, match="changes faster"):
        stuck.update_ttl(key)
    with pytest.raises(StoreUnavailable, match="changes faster"):
        stuck.end(key.handle)
    assert stuck.load(key) is not None


def test_a_mark_that_can_be_neither_left_nor_prolonged_is_given_up(stuck: Stuck) -> None:
    name, handle = "ab" * 32, "cd" * 32
    stuck.adds = False
    with pytest.raises(StoreUnavailable, match="changes faster"):
        stuck.mark(name, handle, DAY)
    stuck.adds = True
    assert stuck.mark(name, handle, DAY)
    stuck.swaps = False
    with pytest.raises(StoreUnavailable, match="changes faster"):
        stuck.mark(name, handle, 2 * DAY)
    assert stuck.marked(name) == handle


def test_a_mark_that_stands_long_enough_stays_as_it_is(stuck: Stuck) -> None:
    name, handle = "ab" * 32, "cd" * 32
    stuck.mark(name, handle, DAY)
    assert not stuck.mark(name, "ef" * 32, timedelta(hours=1))
    assert stuck.marked(name) == handle


def test_more_renewals_than_a_browser_makes_are_not_followed(stuck: Stuck) -> None:
    first = key = kept(stuck)
    for _ in range(10):
        record = stuck.load(key)
        assert record is not None
        key = stuck.renew(key, record, DAY, replaces=record.revision)
    assert len(list(stuck.successors(first.handle))) == 8
    assert stuck.renewed_to(first.handle) is None
    assert not stuck.end(first.handle)
    assert stuck.load(key) is not None


def test_a_log_out_and_a_sign_in_that_always_lose_are_a_503(stuck: Stuck) -> None:
    app = make_app(stuck, PROPAGATE_EXCEPTIONS=False)
    browser = started(app, a=1)
    stuck.swaps = False
    for view in (clear, sign_in):
        response = browser.does(view)
        assert (response.status_code, fate(response)) == (503, KEPT)
    stuck.swaps = True
    assert browser.data == {"a": 1}
