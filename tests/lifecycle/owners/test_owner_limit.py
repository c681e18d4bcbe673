"""The limit per owner, and ends while other requests of the same browser run."""

from __future__ import annotations

import threading
import typing as t
from datetime import timedelta

import pytest
from flask import Flask
from http_support import DELETED, KEPT, SET, Browser, fate, make_app, sessions_of, started, warnings_in
from owner_support import KEY, handle_of, signed_in
from views import clear, renew

from flask_sessionstore import SessionGone, owners, session
from flask_sessionstore.codec import encode
from flask_sessionstore.key import SessionKey
from flask_sessionstore.record import Record
from flask_sessionstore.stores import Entry, ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore

DAY = timedelta(days=1)

# -- while other requests of the same browser run --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["revoke", "revoke_all"])
def test_revoking_anothers_while_ones_own_is_renewed_elsewhere(app: Flask, how: str) -> None:
    """That other request has set a cookie, and this one leaves it alone."""
    browser, bob = signed_in(app), signed_in(app, "bob")
    slow = browser.twin()

    def view() -> None:
        assert session[KEY] == "ann"
        browser.does(renew)
        sessions = sessions_of(app)
        assert sessions.revoke(handle_of(bob)) if how == "revoke" else sessions.revoke_all("bob")

    assert fate(slow.does(view)) == KEPT
    assert browser.data == {KEY: "ann"}


def test_a_double_click_on_sign_out_everywhere_and_in_again(app: Flask) -> None:
    """The first has ended everything before the second comes to it."""
    browser = signed_in(app)
    handle = handle_of(browser)

    def view() -> None:
        assert session[KEY] == "ann"
        t.cast("t.Any", app.session_interface).store.end(handle)
        sessions_of(app).revoke_all("ann")
        session[KEY] = "ann"

    assert fate(browser.does(view)) == SET
    assert browser.data == {KEY: "ann"}


def test_the_session_to_be_kept_is_kept_where_it_was_renewed_elsewhere(app: Flask) -> None:
    """A double click on "change password", which signs out everywhere else and renews."""
    browser = signed_in(app)
    slow = browser.twin()

    def change() -> None:
        sessions_of(app).revoke_all("ann", keep_current=True)
        session.renew()

    def change_late() -> None:
        assert session[KEY] == "ann"
        browser.does(change)
        change()

    assert fate(slow.does(change_late)) == SET
    assert (browser.data, slow.data) == ({KEY: "ann"}, {KEY: "ann"})
    assert browser.key != slow.key


def test_the_session_to_be_kept_is_kept_while_it_is_renewed(app: Flask, index: ServerSideStore) -> None:
    browser = signed_in(app)
    other, bury = browser.twin(), index._bury

    def bury_late(*args: t.Any) -> bool:
        index._bury = bury  # type: ignore[method-assign]
        other.does(lambda: str(sessions_of(app).revoke_all("ann", keep_current=True)))
        return bury(*args)

    index._bury = bury_late  # type: ignore[assignment,method-assign]
    browser.does(renew)
    assert browser.data == {KEY: "ann"}


def test_a_double_clicked_log_in_of_who_is_signed_in_already(app: Flask) -> None:
    """As Flask's tutorial writes it."""
    browser = signed_in(app)
    slow = browser.twin()

    def log_in() -> None:
        session.clear()
        session[KEY] = "ann"

    def log_in_late() -> None:
        assert session[KEY] == "ann"
        browser.does(log_in)
        log_in()

    assert fate(slow.does(log_in_late)) == SET
    assert slow.data == {KEY: "ann"}


def test_after_its_own_end_a_session_read_again_is_still_gone(app: Flask) -> None:
    def view() -> None:
        sessions_of(app).revoke(str(session.handle))
        session.reload()

    assert fate(signed_in(app).does(view)) == DELETED


@pytest.mark.parametrize("renewals", [1, 8])
def test_an_old_handle_reaches_eight_steps(app: Flask, renewals: int) -> None:
    browser = signed_in(app)
    first = handle_of(browser)
    for _ in range(renewals):
        browser.does(renew)
    assert sessions_of(app).revoke(first) is True
    assert browser.data == {}


# -- a limit ---------------------------------------------------------------------------------------------------------


def test_the_least_recently_extended_ends(index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    app = make_app(index, SESSION_MAX_PER_OWNER=2)
    first = signed_in(app)
    clock.advance(10)
    second = signed_in(app)
    clock.advance(3600)
    first.does(lambda: session.update(seen=True))
    clock.advance(10)
    third = signed_in(app)
    assert (first.data, second.data, third.data) == ({KEY: "ann", "seen": True}, {}, {KEY: "ann"})
    bob = signed_in(app, "bob")
    anonymous = [started(app, cart=1) for _ in range(3)]
    assert bob.data
    assert all(browser.data for browser in (first, third, *anonymous))


def test_signing_in_again_in_one_browser_displaces_nobody(index: ServerSideStore) -> None:
    app = make_app(index, SESSION_MAX_PER_OWNER=2)
    here, there = signed_in(app), signed_in(app)
    for _ in range(3):
        here.does(clear)
        here.does(lambda: session.update({KEY: "ann"}))
        here.does(renew)
    assert (here.data, there.data) == ({KEY: "ann"}, {KEY: "ann"})


def test_a_session_that_is_being_renewed_counts_once(index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    app = make_app(index, SESSION_MAX_PER_OWNER=2)
    browser, new, bury = signed_in(app), Browser(app), index._bury
    clock.advance(1)

    def bury_late(*args: t.Any) -> bool:
        index._bury = bury  # type: ignore[method-assign]
        clock.advance(1)
        new.does(lambda: session.update({KEY: "ann"}))
        return bury(*args)

    index._bury = bury_late  # type: ignore[assignment,method-assign]
    browser.does(renew)
    assert (browser.data, new.data) == ({KEY: "ann"}, {KEY: "ann"})


def test_a_machine_whose_clock_is_ahead_takes_no_hundred_rounds(clock: Clock) -> None:
    store = MemoryStore()
    store.clock = clock
    app = make_app(store, SESSION_MAX_PER_OWNER=1)
    old = signed_in(app)
    clock.advance(-60)
    rounds, entries = [], store.entries

    def counted(owner: str) -> list[Entry]:
        rounds.append(owner)
        return entries(owner)

    store.entries = counted  # type: ignore[method-assign]
    new = signed_in(app)
    assert len(rounds) < 30
    assert (old.data, new.data) == ({}, {KEY: "ann"})


def test_of_two_sign_ins_within_a_second_at_least_one_stays(clock: Clock) -> None:
    """Who has to end a younger session becomes the younger one first, so the other does not end it meanwhile."""
    store = MemoryStore()
    store.clock = clock
    first = saved(store)
    clock.advance(0.01)
    second, end_each = saved(store), store.end_each

    def end_late(*args: t.Any) -> list[str]:
        store.end_each = end_each  # type: ignore[method-assign]
        clock.advance(0.01)
        keep_to_one(store, second)
        return end_each(*args)

    store.end_each = end_late  # type: ignore[assignment,method-assign]
    clock.advance(0.01)
    with pytest.raises(SessionGone):
        keep_to_one(store, first)
    assert store.load(second) is not None


def saved(store: MemoryStore) -> SessionKey:
    return store.save(Record(state={KEY: encode("ann", KEY)}, owner="ann"), DAY)


def keep_to_one(store: MemoryStore, key: SessionKey) -> None:
    record = store.load(key)
    assert record is not None
    owners.keep_to(store, 1, key, record, DAY, lambda handle: None)


def test_a_sealed_session_that_is_written_while_it_is_displaced() -> None:
    store = MemoryStore()
    app = make_app(store, SESSION_SEAL=True, SESSION_MAX_PER_OWNER=1)
    old, end_exactly = signed_in(app), store.end_exactly

    def end_late(*args: t.Any) -> bool:
        store.end_exactly = end_exactly  # type: ignore[method-assign]
        old.does(lambda: session.update(x=1))
        return end_exactly(*args)

    store.end_exactly = end_late  # type: ignore[assignment,method-assign]
    assert signed_in(app).data == {KEY: "ann"}


def test_it_holds_when_many_sign_in_at_once(index: ServerSideStore) -> None:
    app = make_app(index, SESSION_MAX_PER_OWNER=3)
    browsers = [Browser(app) for _ in range(6)]
    threads = [threading.Thread(target=b.does, args=(lambda: session.update({KEY: "ann"}),)) for b in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with app.app_context():
        assert len(sessions_of(app).find("ann")) == 3
    assert sum(bool(browser.data) for browser in browsers) == 3


def test_a_store_that_cannot_count_does_not_fail_who_signs_in(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store, SESSION_MAX_PER_OWNER=1)
    first = signed_in(app)
    store.fail("entries")
    second = signed_in(app)
    assert (first.data, second.data) == ({KEY: "ann"}, {KEY: "ann"})
    assert any("counted" in message for message in warnings_in(caplog))
