"""Knowing and ending sessions: find, revoke, revoke_all, open, the limit per owner, over every store that can."""

from __future__ import annotations

import logging
import threading
import typing as t
import uuid
from datetime import timedelta

import pytest
from clocks import Clock
from every_store import lists_of
from flask import Flask, flash
from http_support import DELETED, KEPT, SET, Browser, fate, make_app, started, warnings_in
from views import clear, renew

from flask_sessionstore import (
    ConfigurationError,
    Record,
    SessionError,
    SessionGone,
    SessionInsertError,
    SessionKey,
    SessionManager,
    StoreUnavailable,
    UnsupportedByStore,
    owners,
    session,
)
from flask_sessionstore.layout import FORMAT
from flask_sessionstore.lifecycle import Lifecycle
from flask_sessionstore.manager import EXTENSION
from flask_sessionstore.record import TOMBSTONE_TIME
from flask_sessionstore.sessions import source_of
from flask_sessionstore.stores import Entry, ServerSideStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore

DAY = timedelta(days=1)
KEY = "_user_id"
UNKNOWN = "0" * 64


@pytest.fixture
def app(index: ServerSideStore) -> t.Iterator[Flask]:
    """An application on each of them, in whose context the test runs."""
    app = make_app(index, SESSION_RECORD_CLIENT=True)
    with app.app_context():
        yield app


def sessions_of(app: Flask) -> SessionManager:
    return t.cast("SessionManager", app.extensions[EXTENSION])


def signed_in(app: Flask, user: object = "ann", **data: object) -> Browser:
    return started(app, **{KEY: user, **data})


def handle_of(browser: Browser) -> str:
    return SessionKey(str(browser.key)).handle


# -- find ----------------------------------------------------------------------------------------------------------


def test_find_shows_what_may_be_shown(app: Flask) -> None:
    sessions = sessions_of(app)
    assert sessions.find("ann") == []
    browser = signed_in(app)
    signed_in(app, "bob")
    started(app, cart=1)
    (info,) = sessions.find("ann")
    assert (info.handle, info.owner, info.client, info.current) == (
        handle_of(browser),
        "ann",
        "Werkzeug, 127.0.0.1",
        False,
    )
    assert info.created_at <= info.extended_at < info.expires_at
    assert str(browser.key) not in repr(info)


def test_the_session_of_the_request_is_marked(app: Flask) -> None:
    sessions = sessions_of(app)
    here, there = signed_in(app), signed_in(app)
    found = here.asks(lambda: {info.handle: info.current for info in sessions.find("ann")})
    assert found == {handle_of(here): True, handle_of(there): False}
    nobody = Browser(app).asks(lambda: [info.current for info in sessions.find("ann")])
    assert nobody == [False, False]


def test_the_one_last_seen_comes_first(app: Flask, index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    browsers = []
    for _ in range(3):
        clock.advance(60)
        browsers.append(signed_in(app))
    clock.advance(3600)
    browsers[1].does(lambda: session.update(seen=True))
    found = [info.handle for info in sessions_of(app).find("ann")]
    assert found == [handle_of(browsers[n]) for n in (1, 2, 0)]


@pytest.mark.parametrize("owner", [7, "7", uuid.UUID(int=7), "ünï *", "x" * 255])
def test_owners_compare_as_text(app: Flask, owner: t.Any) -> None:
    signed_in(app, owner)
    assert len(sessions_of(app).find(owner)) == 1
    assert len(sessions_of(app).find(str(owner))) == 1


@pytest.mark.parametrize("owner", ["", "x" * 256, 1.5, b"7", True, ["ann"], "a\x00b"])
def test_an_owner_that_no_session_can_have_is_an_error_at_that_line(app: Flask, owner: t.Any) -> None:
    sessions = sessions_of(app)
    if owner == "":  # an owner like any other
        assert sessions.find(owner) == []
        return
    for call in (sessions.find, sessions.revoke_all):
        with pytest.raises(SessionInsertError, match="owner"):
            call(owner)
    with pytest.raises(SessionInsertError, match="owner"):
        sessions.revoke(UNKNOWN, owner=owner)


def test_none_is_no_owner(app: Flask) -> None:
    browser = started(app, cart=1)
    sessions = sessions_of(app)
    for call in (sessions.find, sessions.revoke_all):
        with pytest.raises(ValueError, match="None"):
            call(t.cast("str", None))
    assert sessions.revoke(handle_of(browser), owner=None) is False
    assert browser.data == {"cart": 1}


def test_what_was_logged_out_expired_or_renewed_is_not_found(app: Flask, index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    sessions = sessions_of(app)
    one, two, three = signed_in(app), signed_in(app), signed_in(app)
    one.does(lambda: session.pop(KEY))
    two.does(renew)
    three.does(clear)
    assert [info.handle for info in sessions.find("ann")] == [handle_of(two)]
    clock.advance(DAY.total_seconds() * 40)
    assert sessions.find("ann") == []


def test_a_session_that_became_anothers_is_theirs(app: Flask) -> None:
    browser = signed_in(app)
    browser.does(lambda: session.update({KEY: "bob"}))
    sessions = sessions_of(app)
    assert sessions.find("ann") == []
    assert [info.handle for info in sessions.find("bob")] == [handle_of(browser)]
    assert sessions.revoke_all("ann") == 0
    assert browser.data == {KEY: "bob"}


@pytest.mark.parametrize("key", ["uid", "account", "user.sub"])
def test_an_owner_key_that_is_new_files_sessions_at_their_next_write(
    key: str, app: Flask, index: ServerSideStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Old and new processes side by side: nobody is logged out, no key changes and no write is dropped."""
    old = started(app, **({"user": {"sub": "ann"}} if key == "user.sub" else {key: "ann"}))
    other = make_app(index, SESSION_OWNER_KEY=key)
    new, key_before = Browser(other, *old.cookies), old.key

    def write_slowly() -> None:
        session["slow"] = 1
        new.does(lambda: session.update(cart=1))
        with other.app_context():
            assert [info.handle for info in sessions_of(other).find("ann")] == [handle_of(old)]

    old.does(write_slowly)
    assert new.key == old.key == key_before
    assert (new.data["cart"], new.data["slow"]) == (1, 1)
    new.does(lambda: session.update(cart=2))
    with other.app_context():
        assert [info.handle for info in sessions_of(other).find("ann")] == [handle_of(new)]
        assert sessions_of(other).revoke_all("ann") == 1
    assert (old.data, new.data) == ({}, {})
    assert warnings_in(caplog) == []


def test_a_dotted_owner_key_is_looked_for_as_it_is_and_then_within(
    app: Flask, index: ServerSideStore, clock: Clock
) -> None:
    index.clock = clock  # that of a machine may stand still between two sessions, and either would be the oldest
    other = make_app(index, SESSION_OWNER_KEY="user.sub", SESSION_MAX_PER_OWNER=2)
    within = []
    for _ in range(2):
        within.append(started(other, user={"sub": "ann", "name": "Ann"}))
        clock.advance(1)
    started(other, user={"name": "nobody"})
    as_it_is = started(other, **{"user.sub": "ann", "user": {"sub": "bob"}})
    with other.app_context():
        found = {info.handle for info in sessions_of(other).find("ann")}
        assert found == {handle_of(within[1]), handle_of(as_it_is)}  # the limit holds, too
        assert sessions_of(other).find("bob") == []
        assert sessions_of(other).revoke(handle_of(as_it_is), owner="ann") is True
    key = within[1].key
    within[1].does(lambda: session.update(user={"sub": "ann", "name": "Anne"}))
    assert within[1].key == key
    within[1].does(lambda: session.update(user={"sub": "bob"}))
    assert within[1].key != key


# -- revoke --------------------------------------------------------------------------------------------------------


def test_a_revoked_browser_is_signed_out_and_can_sign_in_again(
    app: Flask, index: ServerSideStore, clock: Clock
) -> None:
    """By a form at once; without a body it may be a request that was under way, with a remember cookie."""
    index.clock = clock
    here, there = signed_in(app), signed_in(app)
    assert here.asks(lambda: sessions_of(app).revoke(handle_of(there), owner="ann")) is True
    assert there.data == {}
    late = there.twin()
    there.does(lambda: session.update({KEY: "ann"}))
    assert there.data == {}
    there.does(lambda: session.update({KEY: "ann"}), body="password=secret")
    assert there.data == {KEY: "ann"}
    clock.advance(10)
    late.does(lambda: session.update({KEY: "ann"}))
    assert late.data == {KEY: "ann"}
    assert here.data == {KEY: "ann"}


@pytest.mark.parametrize(
    "handle", ["", "ann", UNKNOWN, UNKNOWN.upper() + "A", "../../etc/passwd", "*", "a\r\nDEL x", None, 7]
)
def test_a_handle_that_is_none_ends_nothing(app: Flask, handle: t.Any) -> None:
    browser = signed_in(app)
    assert sessions_of(app).revoke(handle) is False
    assert sessions_of(app).revoke(handle, owner="ann") is False
    assert browser.data == {KEY: "ann"}


def test_anothers_session_is_not_theirs_to_end(app: Flask) -> None:
    browser = signed_in(app, "bob")
    sessions = sessions_of(app)
    assert sessions.revoke(handle_of(browser), owner="ann") is False
    assert sessions.revoke(str(browser.key), owner="bob") is False  # a key is no handle
    assert browser.data == {KEY: "bob"}
    assert sessions.revoke(handle_of(browser), owner="bob") is True
    assert sessions.revoke(handle_of(browser), owner="bob") is False


def test_revoking_an_old_handle_ends_what_the_session_goes_on_as(app: Flask) -> None:
    browser = signed_in(app)
    old = handle_of(browser)
    browser.does(renew)
    assert sessions_of(app).revoke(old, owner="ann") is True
    assert browser.data == {}


def test_a_write_in_flight_does_not_undo_it(app: Flask) -> None:
    browser = signed_in(app)
    handle, writing = handle_of(browser), browser.twin()

    def write_while_it_is_revoked() -> None:
        session["cart"] = 1
        store = t.cast("t.Any", app.session_interface).store
        assert store.end(handle) is True  # as another process does

    assert fate(writing.does(write_while_it_is_revoked)) == KEPT
    assert browser.data == {}


def test_revoking_the_session_of_the_request_left_empty(app: Flask) -> None:
    browser = signed_in(app, cart=1)
    seen: list[object] = []

    def view() -> None:
        session["late"] = 1
        assert sessions_of(app).revoke(str(session.handle)) is True
        seen.extend([dict(session), session.handle, session.new])

    response = browser.does(view)
    assert seen == [{}, None, True]
    assert fate(response) == DELETED
    assert browser.data == {}


def test_revoking_the_session_of_the_request_and_writing_on(app: Flask) -> None:
    browser = signed_in(app)
    old = browser.twin()

    def view() -> None:
        assert sessions_of(app).revoke(str(session.handle), owner="ann") is True
        flash("farewell")

    assert fate(browser.does(view)) == SET
    assert browser.key != old.key
    assert list(browser.data) == ["_flashes"]
    assert old.data == {}


def test_another_applications_session_is_not_taken_for_the_requests(app: Flask) -> None:
    """A manager serves the application whose context stands."""
    other = make_app(MemoryStore())
    browser = signed_in(app)
    with other.app_context():
        assert sessions_of(app).find("ann") == []
        assert sessions_of(other).revoke(handle_of(browser)) is False
    assert browser.data == {KEY: "ann"}


# -- revoke_all ----------------------------------------------------------------------------------------------------


def test_all_sessions_of_an_owner_end(app: Flask) -> None:
    anns, bobs = [signed_in(app) for _ in range(3)], signed_in(app, "bob")
    anns[0].does(renew)
    assert sessions_of(app).revoke_all("ann") == 3
    assert [browser.data for browser in anns] == [{}, {}, {}]
    assert bobs.data == {KEY: "bob"}
    assert sessions_of(app).revoke_all("ann") == 0
    assert sessions_of(app).find("ann") == []


def test_all_but_that_of_the_request(app: Flask) -> None:
    here, others = signed_in(app), [signed_in(app) for _ in range(3)]
    here.does(renew)
    assert here.asks(lambda: sessions_of(app).revoke_all("ann", keep_current=True)) == 3
    assert here.data == {KEY: "ann"}
    assert [browser.data for browser in others] == [{}, {}, {}]


def test_with_that_of_the_request(app: Flask) -> None:
    here, other = signed_in(app), signed_in(app)
    response = here.does(lambda: sessions_of(app).revoke_all("ann"))
    assert fate(response) == DELETED
    assert (here.data, other.data) == ({}, {})


def test_after_a_change_of_password_one_is_signed_in_again(app: Flask) -> None:
    here, other = signed_in(app), signed_in(app)

    def change_password() -> None:
        sessions_of(app).revoke_all("ann")
        session[KEY] = "ann"

    assert fate(here.does(change_password)) == SET
    assert (here.data, other.data) == ({KEY: "ann"}, {})
    assert len(sessions_of(app).find("ann")) == 1


def test_a_session_being_made_does_not_survive(index: ServerSideStore, caplog: pytest.LogCaptureFixture) -> None:
    """It is filed, and its record is still to come."""
    if not _files_first(index):
        pytest.skip("this store files a session and makes it in one step")
    app = make_app(index)
    add = index.add

    def revoke_and_add(handle: str, data: bytes, ttl: timedelta) -> bool:
        index.add = add  # type: ignore[method-assign]
        with app.app_context():
            assert sessions_of(app).revoke_all("ann") == 0
        return add(handle, data, ttl)

    index.add = revoke_and_add  # type: ignore[method-assign]
    assert fate(Browser(app).does(lambda: session.update({KEY: "ann"}))) == KEPT
    with app.app_context():
        assert sessions_of(app).find("ann") == []
    assert any("revoked" in message for message in warnings_in(caplog))


def _files_first(store: ServerSideStore) -> bool:
    index = lists_of(store)
    index.file("somebody", UNKNOWN)
    return bool(index.entries("somebody"))


def test_a_barred_name_is_refused_and_no_other_is_tried(
    index: ServerSideStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [SessionKey.generate() for _ in range(2)]
    index.bar(keys[0].handle)
    monkeypatch.setattr(SessionKey, "generate", iter(keys).__next__)
    with pytest.raises(SessionGone) as caught:
        index.save(Record(state={"a": b"1"}, owner="ann"), DAY)
    assert caught.value.kind == "revoked"
    assert index.load(keys[1]) is None


def test_a_stale_entry_ends_nobodys_session(index: ServerSideStore) -> None:
    if not _files_first(index):
        pytest.skip("this store has no entries apart from records")
    key = index.save(Record(state={"a": b"1"}, owner="bob"), DAY)
    lists_of(index).file("ann", key.handle)
    assert owners.find(index, "ann") == {}
    lists_of(index).file("ann", key.handle)
    assert owners.end_all(index, "ann") == 0
    assert index.load(key) is not None


def test_one_that_cannot_be_ended_keeps_no_other_alive(index: ServerSideStore) -> None:
    store = FaultyStore(index)
    for _ in range(4):
        store.save(Record(state={"a": b"1"}, owner="ann"), DAY)
    store.fail("swap", times=2)  # it is tried again, by itself
    with pytest.raises(StoreUnavailable):
        owners.end_all(store, "ann")
    assert len(owners.find(store, "ann")) == 1
    assert owners.end_all(store, "ann") == 1


def test_a_failure_is_logged_where_a_request_meets_it(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store, TESTING=False)
    browser = signed_in(app)
    store.fail("entries")
    assert browser.does(lambda: str(sessions_of(app).find("ann"))).status_code == 503
    assert warnings_in(caplog, logging.ERROR) == ["FaultyStore was told to fail (entries)"]


def test_a_record_that_cannot_be_read_is_ended_where_it_is_filed(index: ServerSideStore) -> None:
    """A later version's, for example, by which its owner is signed in elsewhere."""
    key = index.save(Record(state={"a": b"1"}, owner="ann"), DAY)
    data = index.read(key.handle)
    assert data is not None
    if not _files_first(index):
        pytest.skip("this store knows the owner by the record alone")
    index.swap(key.handle, bytes([FORMAT + 1]) + data[1:], DAY, replaces=None)
    owners.end_all(index, "ann")
    with pytest.raises(SessionGone):
        index.load(key)


def test_who_takes_longer_to_make_a_session_than_a_bar_stands_makes_none(index: ServerSideStore, clock: Clock) -> None:
    if not _files_first(index):
        pytest.skip("this store files a session and makes it in one step")
    index.clock = clock
    add = index.add

    def add_late(handle: str, data: bytes, ttl: timedelta) -> bool:
        index.add = add  # type: ignore[method-assign]
        assert owners.end_all(index, "ann") == 0
        clock.advance(TOMBSTONE_TIME.total_seconds() + 1)
        return add(handle, data, ttl)

    index.add = add_late  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="too long"):
        index.save(Record(state={"a": b"1"}, owner="ann"), DAY)
    assert owners.find(index, "ann") == {}


def test_an_entry_outlives_its_session_for_those_whose_clock_is_behind(index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    key = index.save(Record(state={"a": b"1"}, owner="ann"), timedelta(seconds=100))
    clock.advance(101)
    lists_of(index).prune()
    assert owners.find(index, "ann") == {}
    clock.advance(-2)
    index.update_ttl(key)
    assert list(owners.find(index, "ann")) == [key.handle]


# -- while other requests of the same browser run ------------------------------------------------------------------


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


# -- a limit -------------------------------------------------------------------------------------------------------


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


# -- open ----------------------------------------------------------------------------------------------------------


def test_a_job_writes_into_a_session(app: Flask) -> None:
    browser = signed_in(app, cart=[1])
    with sessions_of(app).open(handle_of(browser)) as opened:
        opened["cart"].append(2)
        opened["report"] = "ready"
        browser.does(lambda: session.update(meanwhile=True))
    assert browser.data == {KEY: "ann", "cart": [1, 2], "report": "ready", "meanwhile": True}


def test_what_the_block_raises_drops_what_it_changed(app: Flask) -> None:
    browser = signed_in(app)
    with pytest.raises(ZeroDivisionError), sessions_of(app).open(handle_of(browser)) as opened:  # noqa: PT012
        opened["report"] = "half"
        raise ZeroDivisionError
    assert browser.data == {KEY: "ann"}


@pytest.mark.parametrize("handle", [UNKNOWN, "", "x", None])
def test_what_is_not_there_cannot_be_opened(app: Flask, handle: t.Any) -> None:
    with pytest.raises(SessionGone), sessions_of(app).open(handle):
        pytest.fail("there is nothing to open")


@pytest.mark.parametrize("end", ["clear", "purge"])
def test_a_job_ends_a_session(app: Flask, end: str) -> None:
    browser = signed_in(app)
    with sessions_of(app).open(handle_of(browser)) as opened:
        getattr(opened, end)()
    assert browser.data == {}
    with pytest.raises(SessionGone) as caught, sessions_of(app).open(handle_of(browser)):
        pytest.fail("it has ended")
    assert caught.value.kind == "ended"


def _sign_in_bob(opened: t.Any) -> None:
    opened[KEY] = "bob"


def _clear_and_write(opened: t.Any) -> None:
    opened.clear()
    opened["a"] = 1


@pytest.mark.parametrize("change", [lambda opened: opened.renew(), _sign_in_bob, _clear_and_write])
def test_what_needs_a_new_key_is_the_browsers(app: Flask, change: t.Callable[[t.Any], object]) -> None:
    browser = signed_in(app)
    with pytest.raises(SessionError, match="opened by its handle"), sessions_of(app).open(handle_of(browser)) as opened:
        change(opened)
    assert browser.data == {KEY: "ann"}


def test_a_job_signs_out_and_the_browser_keeps_its_key(app: Flask, index: ServerSideStore) -> None:
    browser = signed_in(app, cart=[1])
    handle = handle_of(browser)
    with sessions_of(app).open(handle) as opened:
        del opened[KEY]
    assert (browser.data, handle_of(browser)) == ({"cart": [1]}, handle)
    assert lists_of(index).entries("ann") == []


def test_an_owner_key_that_is_new_files_a_session_that_a_job_writes(index: ServerSideStore) -> None:
    browser = started(make_app(index, SESSION_OWNER_KEY=None), name="ann")
    handle = handle_of(browser)
    app = make_app(index, SESSION_OWNER_KEY="name")
    with app.app_context():
        with sessions_of(app).open(handle) as opened:
            opened["report"] = "ready"
        assert [info.handle for info in sessions_of(app).find("ann")] == [handle]


def test_a_session_that_was_emptied_while_a_job_ran_is_not_made_again(app: Flask) -> None:
    browser = started(app, cart=[1])
    with pytest.raises(SessionGone) as caught, sessions_of(app).open(handle_of(browser)) as opened:  # noqa: PT012
        opened["report"] = "ready"
        browser.does(lambda: session.pop("cart"))
    assert caught.value.kind == "emptied"
    assert browser.data == {}


def test_a_session_that_ended_while_a_job_ran_is_no_silence(app: Flask) -> None:
    browser = signed_in(app)
    with pytest.raises(SessionGone), sessions_of(app).open(handle_of(browser)) as opened:  # noqa: PT012
        opened["report"] = "ready"
        browser.does(clear)


def test_reading_extends_nothing(app: Flask, index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    browser = signed_in(app)
    before = index.info(handle_of(browser))
    clock.advance(7200)
    with sessions_of(app).open(handle_of(browser)) as opened:
        assert opened[KEY] == "ann"
    assert index.info(handle_of(browser)) == before


def test_an_opened_session_knows_itself(app: Flask) -> None:
    browser = signed_in(app)
    browser.does(lambda: setattr(session, "permanent", True))
    with sessions_of(app).open(handle_of(browser)) as opened:
        assert opened.handle == handle_of(browser)
        assert opened.permanent is True
        assert opened.new is False
        assert "None" not in repr(opened)
        with pytest.raises(SessionError):
            str(t.cast("Lifecycle", source_of(opened)).visitor.tokens()[0].key)


def test_it_is_not_the_session_of_the_request(app: Flask) -> None:
    here, there = signed_in(app), signed_in(app)

    def view() -> None:
        with sessions_of(app).open(handle_of(there)) as opened:
            opened["message"] = "hello"
        session["sent"] = True

    here.does(view)
    assert here.data == {KEY: "ann", "sent": True}
    assert there.data == {KEY: "ann", "message": "hello"}


# -- clean-up ------------------------------------------------------------------------------------------------------


def test_what_is_left_of_sessions_is_removed(app: Flask, index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    browsers = [signed_in(app) for _ in range(5)]
    browsers[0].does(clear)
    clock.advance(TOMBSTONE_TIME.total_seconds() + 1)
    sessions = sessions_of(app)
    sessions.delete_expired(1)
    sessions.delete_expired()
    assert len(lists_of(index).entries("ann")) == 4
    clock.advance(DAY.total_seconds() * 40)
    sessions.delete_expired()
    assert lists_of(index).entries("ann") == []
    assert sessions.delete_expired() == 0


# -- stores that cannot --------------------------------------------------------------------------------------------


class Bare(ServerSideStore):
    """A store that can do no more than it must."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()

    def read(self, handle: str) -> bytes | None:
        return self.store.read(handle)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self.store.add(handle, data, ttl)

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self.store.swap(handle, data, ttl, replaces=replaces)

    def drop(self, handle: str) -> None:
        self.store.drop(handle)


def test_what_a_store_cannot_do_is_said() -> None:
    app = make_app(Bare())
    browser = signed_in(app)
    sessions = sessions_of(app)
    with app.app_context():
        for call in (lambda: sessions.find("ann"), lambda: sessions.revoke_all("ann"), sessions.delete_expired):
            with pytest.raises(UnsupportedByStore, match="Bare"):
                call()
        with sessions.open(handle_of(browser)) as opened:
            opened["a"] = 1
        assert browser.data == {KEY: "ann", "a": 1}
        assert sessions.revoke(handle_of(browser), owner="ann") is True


def test_a_session_in_a_cookie_is_out_of_reach() -> None:
    app = make_app(CookieStore())
    sessions = sessions_of(app)
    with app.app_context():
        for call in (
            lambda: sessions.find("ann"),
            lambda: sessions.revoke_all("ann"),
            lambda: sessions.revoke(UNKNOWN),
            lambda: sessions.open(UNKNOWN).__enter__(),
            sessions.delete_expired,
        ):
            with pytest.raises(UnsupportedByStore, match="CookieStore"):
                call()


@pytest.mark.parametrize("store", [CookieStore(), Bare()], ids=lambda store: type(store).__name__)
def test_a_limit_that_cannot_be_kept_is_refused_at_start(store: object) -> None:
    with pytest.raises(ConfigurationError, match="SESSION_MAX_PER_OWNER"):
        make_app(store, SESSION_MAX_PER_OWNER=3)


def test_without_an_application_there_are_no_sessions() -> None:
    with pytest.raises(RuntimeError, match="application context"):
        SessionManager().find("ann")
    with Flask("bare").app_context(), pytest.raises(ConfigurationError, match="init_app"):
        SessionManager().find("ann")
