"""Signals of a session's life: created, renewed, ended, by a request or by its handle."""

from __future__ import annotations

import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from http_support import DELETED, SET, Action, Browser, fate, make_app, sessions_of
from signal_support import (
    ANN,
    CREATED,
    ENDED,
    FAILED,
    KEY,
    RENEWED,
    Event,
    Listen,
    begun,
    both,
    empty,
    handle_of,
    sign_in,
    write,
)
from views import clear, nothing, purge, read, renew, save

from flask_sessionstore import SessionStore, StoreUnavailable, session
from flask_sessionstore.stores import ServerSideStore, StoreFull
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore


def sign_out() -> None:
    session.pop(KEY)


# -- created, renewed, ended -----------------------------------------------------------------------------------------


def test_a_new_session_is_announced_once(store: SessionStore, listen: Listen) -> None:
    app = make_app(store)
    heard = listen(app)
    browser = begun(app)
    assert heard.now() == [(CREATED, {"handle": handle_of(browser)})]


def test_saving_by_hand_announces_it_then_and_not_again(store: SessionStore, listen: Listen) -> None:
    app = make_app(store)
    heard = listen(app)
    browser, sent = Browser(app), t.cast("list[Event]", [])
    browser.does(both(write, save, lambda: sent.extend(heard.now())))
    assert (sent, heard.now()) == ([(CREATED, {"handle": handle_of(browser)})], [])


def test_a_response_made_anew_announces_nothing_again(store: SessionStore, listen: Listen) -> None:
    """Flask calls ``save_session`` a second time where something fails after the first."""
    app = make_app(store, TESTING=False)
    heard = listen(app)
    save_session = app.session_interface.save_session

    def save_and_fail(*args: t.Any) -> None:
        save_session(*args)
        t.cast("t.Any", app.session_interface).save_session = save_session
        raise ZeroDivisionError

    t.cast("t.Any", app.session_interface).save_session = save_and_fail
    assert Browser(app).does(sign_in).status_code == 500
    assert [name for name, _ in heard.now()] == [CREATED]


class Case(t.NamedTuple):
    """What a session holds, what happens to it, and what is said of that."""

    data: dict[str, t.Any]
    action: Action
    said: str


RENEWALS = {
    "signed in": Case({}, sign_in, "signed in"),
    "signed in as another": Case({KEY: "bob"}, sign_in, "signed in"),
    "signed in afresh": Case({}, both(clear, sign_in), "signed in"),
    "signed out": Case(ANN, sign_out, "signed out"),
    "signed out with a farewell": Case(ANN, both(clear, write), "signed out"),
    "cleared": Case({}, both(clear, write), "cleared"),
    "signed in again": Case(ANN, both(clear, sign_in), "signed in"),
    "signed in by a login key": Case({}, lambda: session.update(user="ann"), "signed in"),
    "another user by a login key": Case({"user": "bob"}, lambda: session.update(user="ann"), "signed in"),
    "a login key that names nobody": Case({"user": {"n": 1}}, lambda: session.update(user={"n": 2}), "renewed"),
    "renewed": Case({}, renew, "renewed"),
    "renewed and written": Case(ANN, both(renew, write), "renewed"),
}


@pytest.mark.parametrize("case", RENEWALS)
def test_a_renewal_is_announced_with_its_reason(case: str, store: SessionStore, listen: Listen) -> None:
    data, action, reason = RENEWALS[case]
    app = make_app(store)
    heard, browser = listen(app), begun(app, **data)
    previous = handle_of(browser)
    sent = heard.during(browser, action)
    assert sent == [(RENEWED, {"handle": handle_of(browser), "previous": previous, "reason": reason})]
    assert isinstance(store, CookieStore) or previous != handle_of(browser)


def _pass_deadline() -> None:
    session.deadline = datetime(2020, 1, 1, tzinfo=UTC)


ENDS = {
    "purged": Case({}, purge, "purged"),
    "purged after all": Case(ANN, both(read, write, purge), "purged"),
    "cleared": Case(ANN, clear, "cleared"),
    "emptied": Case({}, empty, "emptied"),
    "signed out": Case(ANN, empty, "signed out"),
    "past its deadline": Case(ANN, _pass_deadline, "expired"),
    "cleared, and past its deadline": Case({}, both(clear, _pass_deadline, write), "cleared"),
}


@pytest.mark.parametrize("case", ENDS)
def test_an_end_is_announced_with_how_it_came(case: str, store: SessionStore, listen: Listen) -> None:
    data, action, how = ENDS[case]
    app = make_app(store)
    heard, browser = listen(app), begun(app, **data)
    handle = handle_of(browser)
    assert heard.during(browser, action) == [(ENDED, {"handle": handle, "how": how})]
    assert heard.during(browser, both(read, nothing)) == []


@pytest.mark.parametrize("action", [both(read, purge), clear, empty], ids=["purge", "clear", "empty"])
def test_what_has_ended_does_not_end_again(action: Action, server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    other = browser.twin()
    browser.does(clear)
    assert heard.during(other, action) == []


def test_many_that_end_a_session_at_once_announce_one_end(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser, threads = listen(app), begun(app), 3
    heard.now()
    windows, start = [browser.twin() for _ in range(threads)], threading.Barrier(threads, timeout=10)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda window: window.does(both(read, start.wait, clear)), windows))
    assert [name for name, _ in heard.now()] == [ENDED]


def test_a_log_out_that_ends_what_a_session_goes_on_as(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    other = browser.twin()
    browser.does(renew)
    handle = handle_of(browser)
    assert heard.during(other, clear) == [(ENDED, {"handle": handle, "how": "cleared"})]
    assert browser.data == {}


def test_a_log_out_where_all_had_ended_before_is_no_news(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    slow = browser.twin()

    def clear_late() -> None:
        dict(session)
        browser.does(renew)
        browser.does(clear)
        clear()

    slow.does(clear_late)
    assert [name for name, _ in heard.now()].count(ENDED) == 1


def test_a_log_out_from_a_full_store(server_store: ServerSideStore, listen: Listen) -> None:
    """It ends the session, though what was to be kept beside the owner finds no room."""
    app = make_app(server_store)
    heard, browser = listen(app), begun(app, **ANN)
    handle, add = handle_of(browser), server_store.add

    def full(*args: t.Any, **kwargs: t.Any) -> bool:
        raise StoreFull("no room")

    def view() -> None:
        sign_out()
        server_store.add = full  # type: ignore[method-assign]

    heard.now()
    with pytest.raises(StoreFull):
        browser.does(view)
    server_store.add = add  # type: ignore[method-assign]
    (ended, (failed, _)) = heard.now()
    assert ended == (ENDED, {"handle": handle, "how": "signed out"})
    assert failed == FAILED


# -- ended by its handle ---------------------------------------------------------------------------------------------


def test_revoked(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app, **ANN)
    handle, sessions = str(handle_of(browser)), sessions_of(app)
    heard.now()
    with app.app_context():
        assert sessions.revoke(handle, owner="bob") is False
        assert heard.now() == []
        assert sessions.revoke(handle, owner="ann") is True
        assert heard.now() == [(ENDED, {"handle": handle, "how": "revoked"})]
        assert sessions.revoke(handle) is False
    assert heard.now() == []


@pytest.mark.parametrize(("goes_on", "cookie"), [(nothing, DELETED), (purge, DELETED), (write, SET)])
def test_the_session_of_the_request_revoked(
    goes_on: Action, cookie: str, server_store: ServerSideStore, listen: Listen
) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app, **ANN)
    handle = handle_of(browser)
    heard.now()
    response = browser.does(both(lambda: sessions_of(app).revoke(str(session.handle)), goes_on))
    sent, created = heard.now(), [(CREATED, {"handle": handle_of(browser)})]
    assert sent == [(ENDED, {"handle": handle, "how": "revoked"}), *(created if goes_on is write else [])]
    assert fate(response) == cookie


def test_all_of_an_owner_revoked(index: ServerSideStore, listen: Listen) -> None:
    app = make_app(index)
    heard, browsers = listen(app), [begun(app, **ANN) for _ in range(3)]
    handles = {handle_of(browser) for browser in browsers}
    heard.now()
    with app.app_context():
        assert sessions_of(app).revoke_all("ann") == 3
    sent = heard.now()
    assert [(name, arguments["how"]) for name, arguments in sent] == [(ENDED, "revoked")] * 3
    assert {arguments["handle"] for _, arguments in sent} == handles


def test_those_that_ended_although_the_store_failed_are_announced(listen: Listen) -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store)
    heard, handles = listen(app), {handle_of(begun(app, **ANN)) for _ in range(3)}
    heard.now()
    store.fail("swap", times=2)  # it is tried again, by itself
    with app.app_context(), pytest.raises(StoreUnavailable):
        sessions_of(app).revoke_all("ann")
    ended = [arguments["handle"] for name, arguments in heard.now() if name == ENDED]
    assert len(ended) == 2
    with app.app_context():
        assert sessions_of(app).revoke_all("ann") == 1
    assert heard.now() == [(ENDED, {"handle": (handles - set(ended)).pop(), "how": "revoked"})]


def test_displaced(index: ServerSideStore, listen: Listen, clock: Clock) -> None:
    index.clock = clock
    app = make_app(index, SESSION_MAX_PER_OWNER=1)
    heard, first = listen(app), begun(app, **ANN)
    handle = handle_of(first)
    clock.advance(1)
    heard.now()
    second = begun(app, **ANN)
    created = (CREATED, {"handle": handle_of(second)})
    assert heard.now() == [created, (ENDED, {"handle": handle, "how": "displaced"})]


def test_a_job_that_ends_a_session(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle = str(handle_of(browser))
    heard.now()
    with app.app_context(), sessions_of(app).open(handle) as opened:
        opened.clear()
    assert heard.now() == [(ENDED, {"handle": handle, "how": "cleared"})]
