"""Knowing and ending an owner's sessions: find, revoke, revoke_all, over every store that can."""

from __future__ import annotations

import logging
import typing as t
import uuid
from datetime import timedelta

import pytest
from every_store import lists_of
from flask import Flask, flash
from http_support import DELETED, KEPT, SET, Browser, fate, make_app, sessions_of, started, warnings_in
from owner_support import KEY, handle_of, signed_in
from views import clear, renew

from flask_sessionstore import (
    ConfigurationError,
    Record,
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
from flask_sessionstore.record import TOMBSTONE_TIME
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore

DAY = timedelta(days=1)
UNKNOWN = "0" * 64


# -- find ------------------------------------------------------------------------------------------------------------


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
    assert info.created_at <= info.extended_at == info.last_seen < info.expires_at
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


# -- revoke ----------------------------------------------------------------------------------------------------------


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


# -- revoke_all ------------------------------------------------------------------------------------------------------


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


def test_all_but_one_that_is_named(app: Flask) -> None:
    here, kept, other = signed_in(app), signed_in(app), signed_in(app)
    name = kept.asks(lambda: session.handle)
    kept.does(renew)
    response = here.does(lambda: str(sessions_of(app).revoke_all("ann", keep=name)))
    assert (response.text, fate(response)) == ("2", DELETED)
    assert [browser.data for browser in (here, kept, other)] == [{}, {KEY: "ann"}, {}]


def test_all_but_that_of_the_request_by_its_name(app: Flask) -> None:
    here, other = signed_in(app), signed_in(app)
    response = here.does(lambda: str(sessions_of(app).revoke_all("ann", keep=session.handle)))
    assert (response.text, fate(response)) == ("1", KEPT)
    assert [browser.data for browser in (here, other)] == [{KEY: "ann"}, {}]


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
    assert warnings_in(caplog, logging.ERROR) == ["GET /: FaultyStore was told to fail (entries)"]


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


# -- clean-up --------------------------------------------------------------------------------------------------------


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


# -- stores that cannot ----------------------------------------------------------------------------------------------


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
