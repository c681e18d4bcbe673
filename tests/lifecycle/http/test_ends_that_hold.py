"""Ends in odd company: beside a renewal and a sign-in, an updater that fails, a store that is down, a second save()."""

from __future__ import annotations

import contextlib
import typing as t
from datetime import timedelta

import pytest
from flask import Flask
from http_support import DELETED, Browser, fate, make_app, started, watch
from lifecycle_views import A, both, memory_store, store_of
from views import clear, make_permanent, purge, read, remove_all, renew, save, sign_in

from flask_sessionstore import SessionCorrupt, SessionKey, SessionTooLarge, StoreUnavailable, session
from flask_sessionstore.record import Record
from flask_sessionstore.signals import session_ended
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore


@contextlib.contextmanager
def heard(signal: t.Any, app: Flask) -> t.Iterator[list[dict[str, t.Any]]]:
    """What was sent by this signal."""
    sent: list[dict[str, t.Any]] = []

    def receiver(sender: object, **arguments: t.Any) -> None:
        sent.append(arguments)

    with signal.connected_to(receiver, app):
        yield sent


@pytest.mark.parametrize("end", [clear, purge])
def test_an_end_with_an_old_key_ends_nothing_that_was_signed_in_to_after_a_renewal(
    end: t.Callable[[], None], server_app: Flask
) -> None:
    """Whoever planted the key could end the user's session with it, whatever is between the two."""
    browser = started(server_app, a=1)
    other = browser.twin()
    browser.does(renew)
    browser.does(sign_in)
    other.does(end)
    assert browser.data == {"a": 1, "_user_id": "ann"}


def test_an_end_with_an_old_key_ends_what_was_renewed_and_renewed_again(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = browser.twin()
    browser.does(renew)
    browser.does(renew)
    other.does(clear)
    assert browser.data == {}


def test_a_log_out_beside_an_updater_that_fails_is_told_whole(server_app: Flask) -> None:
    """The session has ended: the cookie goes, and the signal is sent, though the response is a 500."""
    server_app.testing = False
    browser = started(server_app, _user_id="ann", n=1)
    other = browser.twin()

    def view() -> None:
        dict(session)
        other.does(lambda: session.update(n="text"))
        session.update_or("n", 0, lambda n: n + 1)
        del session["_user_id"]

    with heard(session_ended, server_app) as ended:
        response = browser.does(view)
    assert (response.status_code, fate(response)) == (500, DELETED)
    assert [signal["how"] for signal in ended] == ["signed out"]
    assert other.data == {}


def test_a_log_out_that_could_not_be_stored_does_not_count_against_a_later_save(server_app: Flask) -> None:
    server_app.testing = False
    browser = started(server_app, _user_id="ann", cart=[1])

    def view() -> None:
        del session["_user_id"]
        session["large"] = "x" * 2_000_000
        with pytest.raises(SessionTooLarge):
            session.save()
        del session["large"]
        session["cart"] = [1, 2]
        session.save()
        session["cart"].append(object())  # so that the end of the request fails

    response = browser.does(view)
    assert response.status_code == 500
    assert browser.data["cart"] == [1, 2]
    assert "_user_id" not in browser.data


@pytest.mark.parametrize(("data", "how"), [(A, "emptied"), ({"_user_id": "ann"}, "signed out")])
def test_a_session_that_is_renewed_and_emptied_has_ended(data: dict[str, t.Any], how: str, server_app: Flask) -> None:
    browser = started(server_app, **data)
    other = browser.twin()
    with heard(session_ended, server_app) as ended:
        assert fate(browser.does(both(renew, remove_all))) == DELETED
    assert [signal["how"] for signal in ended] == [how]
    assert other.data == {}


def test_what_another_request_has_written_is_not_lost_to_one_that_renews_and_empties(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = browser.twin()

    def view() -> None:
        dict(session)
        other.does(lambda: session.update(b=2))
        renew()
        del session["a"]

    browser.does(view)
    assert browser.data == {"b": 2}


@pytest.mark.parametrize("planted", [False, True])
def test_a_purge_deletes_the_cookies_though_the_store_cannot_say_which_is_alive(planted: bool, clock: Clock) -> None:
    store = FaultyStore(memory_store(clock))
    app = make_app(store, PROPAGATE_EXCEPTIONS=False)
    browser = started(app, a=1)
    if planted:
        browser.cookies += started(app, a=2).cookies
    store.fail(times=None)
    response = browser.does(purge)
    assert (response.status_code, fate(response)) == (503, DELETED)


class Damaged(MemoryStore):
    """Has bytes that cannot be read under one handle."""

    damaged = ""

    def read(self, handle: str) -> bytes | None:
        return b"\x01 damage" if handle == self.damaged else super().read(handle)

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return handle != self.damaged and super().swap(handle, data, ttl, replaces=replaces)


def test_a_renewal_that_meets_damage_leaves_no_session_behind() -> None:
    """Otherwise it would be among the user's devices, and count for the limit."""
    store, day = Damaged(), timedelta(days=1)
    key = store.save(Record(state={"a": b"\x01"}, owner="ann"), day)
    record = store.load(key)
    assert record is not None
    store.damaged = key.handle
    with pytest.raises(SessionCorrupt):
        store.renew(key, record, day, replaces=record.revision)
    assert [entry.handle for entry in store.entries("ann") if entry.data] == [key.handle]


def test_each_of_two_living_cookies_is_told_by_its_signal(server_app: Flask) -> None:
    first, second = started(server_app, a=1), started(server_app, a=2)
    both_cookies = Browser(server_app, *first.cookies, *second.cookies)
    handles = [SessionKey(str(browser.key)).handle for browser in (first, second)]
    with heard(session_ended, server_app) as ended:
        both_cookies.does(read)
    assert sorted(signal["handle"] for signal in ended) == sorted(handles)


def test_save_says_that_a_session_could_not_be_extended(clock: Clock) -> None:
    store = FaultyStore(memory_store(clock))
    browser = Browser(make_app(store))
    browser.does(both(lambda: session.update(a=1), make_permanent))
    clock.advance(20 * 86_400)

    def view() -> None:
        read()
        store.fail(times=None)
        with pytest.raises(StoreUnavailable):
            session.save()
        store.heal()

    browser.does(view)
    assert browser.data == A


@pytest.mark.parametrize("before", [read, lambda: None])
def test_a_session_that_is_due_is_extended_once_in_a_request(before: t.Callable[[], None], memory_app: Flask) -> None:
    browser = Browser(memory_app)
    browser.does(both(lambda: session.update(a=1), make_permanent))
    store = t.cast("MemoryStore", store_of(memory_app))
    t.cast("Clock", store.clock).advance(20 * 86_400)
    calls = watch(store)
    browser.does(both(before, save, save))
    assert calls.count("update_ttl") == 1
