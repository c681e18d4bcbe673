"""Signals of writes that were merged or dropped, and of sessions that cannot be read; and when there is none."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
from every_store import lists_of
from flask import Flask
from http_support import Action, Browser, make_app, sessions_of
from signal_support import (
    ANN,
    CORRUPT,
    CREATED,
    DROPPED,
    ENDED,
    FAILED,
    KEY,
    MERGED,
    RENEWED,
    SECRET,
    Listen,
    begun,
    both,
    damage,
    empty,
    handle_of,
    meanwhile,
    sign_in,
    write,
)
from views import clear, make_permanent, nothing, purge, read, renew

from flask_sessionstore import SessionGone, SessionKey, SessionManager, SessionStore, StoreUnavailable, session
from flask_sessionstore.layout import FORMAT
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore

DAY = timedelta(days=1)
LATER = 61.0  # longer than a tombstone stands


def store_of(app: Flask) -> t.Any:
    return t.cast("t.Any", app.session_interface).store


# -- merged, dropped -------------------------------------------------------------------------------------------------


def test_merged(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle = handle_of(browser)
    sent = heard.during(browser, meanwhile(browser, lambda: session.update(b=2), own=write))
    assert sent == [(MERGED, {"handle": handle, "attempts": 2})]
    assert browser.data == {**SECRET, "a": "written", "b": 2}


def test_merged_into_a_renewal(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    previous = handle_of(browser)
    sent = heard.during(browser, meanwhile(browser, write, own=sign_in))
    renewed = (RENEWED, {"handle": handle_of(browser), "previous": previous, "reason": "signed in"})
    assert sent == [renewed, (MERGED, {"handle": previous, "attempts": 2})]


def test_it_says_how_often_it_was_tried(listen: Listen) -> None:
    store = MemoryStore()
    app = make_app(store)
    heard, browser, rivals = listen(app), begun(app), [1, 2, 3]
    swap, rival = store.swap, browser.twin()

    def swap_after_another(handle: str, *args: t.Any, **kwargs: t.Any) -> bool:
        if rivals:
            number = rivals.pop()
            t.cast("t.Any", store).swap = swap
            rival.does(lambda: session.update(rival=number))
            t.cast("t.Any", store).swap = swap_after_another
        return swap(handle, *args, **kwargs)

    t.cast("t.Any", store).swap = swap_after_another
    assert heard.during(browser, write) == [(MERGED, {"handle": handle_of(browser), "attempts": 4})]


@pytest.mark.parametrize("rivals", [0, 1])
def test_a_write_whose_reply_was_lost_has_met_nobody(rivals: int, listen: Listen) -> None:
    """The client sent the command again, and found its own write. Only what came before that was another's."""
    store = MemoryStore()
    app = make_app(store)
    heard, browser = listen(app), begun(app)
    swap, tries = store.swap, t.cast("list[bool]", [])

    def swap_twice(handle: str, *args: t.Any, **kwargs: t.Any) -> bool:
        tries.append(swap(handle, *args, **kwargs))
        return swap(handle, *args, **kwargs)

    def own() -> None:
        write()
        t.cast("t.Any", store).swap = swap_twice

    other: list[Action] = [lambda: session.update(b=2)] * rivals
    sent = heard.during(browser, meanwhile(browser, *other, own=own))
    assert tries == [False] * rivals + [True]
    assert sent == [(MERGED, {"handle": handle_of(browser), "attempts": 2})] * rivals


def _expire(app: Flask, browser: Browser) -> Action:
    return lambda: store_of(app).drop(SessionKey(str(browser.key)).handle)


@pytest.mark.parametrize("reason", ["ended", "renewed", "signed in", "unknown"])
def test_what_was_written_to_a_session_that_went(reason: str, server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle = handle_of(browser)
    other = {"ended": purge, "renewed": renew, "signed in": sign_in, "unknown": _expire(app, browser)}[reason]
    *_, last = heard.during(browser, meanwhile(browser, other, own=write))
    assert last == (DROPPED, {"handle": handle, "reason": reason})
    assert browser.data == {}


def test_what_was_written_to_one_that_had_gone_before(
    server_store: ServerSideStore, listen: Listen, clock: Clock
) -> None:
    server_store.clock = clock
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle, other = handle_of(browser), browser.twin()
    browser.does(renew)
    assert heard.during(other, write) == [(DROPPED, {"handle": handle, "reason": "renewed"})]
    assert heard.during(other, both(lambda: clock.advance(LATER), write)) == [
        (DROPPED, {"handle": handle, "reason": "unknown"})
    ]


def test_the_cookies_of_two_living_sessions_end_both(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, two = listen(app), [begun(app, a=1), begun(app, a=2)]
    handles = [handle_of(one) for one in two]
    browser = Browser(app, *two[0].cookies, *two[1].cookies)
    *ended, created = heard.during(browser, write)
    assert ended == [(ENDED, {"handle": handle, "how": "ambiguous"}) for handle in handles]
    assert created == (CREATED, {"handle": handle_of(browser)})


def test_of_two_living_sessions_in_cookies_alone_none_ends(listen: Listen) -> None:
    app = make_app(CookieStore())
    heard, cookies = listen(app), [*begun(app, a=1).cookies, *begun(app, a=2).cookies]
    assert heard.during(Browser(app, *cookies), write) == [(CREATED, {"handle": None})]


@pytest.mark.parametrize(
    ("reason", "data", "view"),
    [
        ("ended", ANN, clear),
        ("emptied", {}, empty),
        ("renewed", ANN, renew),
        ("signed in", {}, sign_in),
        ("replaced", ANN, lambda: session.update({KEY: "bob"})),
    ],
)
def test_a_straggler_s_sign_in(
    reason: str, data: dict[str, t.Any], view: Action, server_store: ServerSideStore, listen: Listen
) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app, **data)
    handle, other = handle_of(browser), browser.twin()
    browser.does(view)
    assert heard.during(other, sign_in) == [(DROPPED, {"handle": handle, "reason": reason})]


def _files_first(store: ServerSideStore) -> bool:
    index = lists_of(store)
    index.file("somebody", "0" * 64)
    return bool(index.entries("somebody"))


@pytest.mark.parametrize("known", [False, True], ids=["a new session", "a known one"])
def test_a_sign_in_while_all_sessions_of_its_owner_are_ended(
    known: bool, index: ServerSideStore, listen: Listen
) -> None:
    if not _files_first(index):
        pytest.skip("this store files a session and makes it in one step")
    app = make_app(index)
    heard, browser = listen(app), begun(app) if known else Browser(app)
    handle, add = handle_of(browser) if known else None, index.add

    def revoke_and_add(*args: t.Any, **kwargs: t.Any) -> bool:
        index.add = add  # type: ignore[method-assign]
        with app.app_context():
            assert sessions_of(app).revoke_all("ann") == 0
        return add(*args, **kwargs)

    def view() -> None:
        sign_in()
        index.add = revoke_and_add  # type: ignore[method-assign]

    assert heard.during(browser, view) == [(DROPPED, {"handle": handle, "reason": "revoked"})]
    with app.app_context():
        assert sessions_of(app).find("ann") == []


def test_what_a_job_wrote_to_a_session_that_went(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle = str(handle_of(browser))
    with app.app_context(), pytest.raises(SessionGone), sessions_of(app).open(handle) as opened:  # noqa: PT012
        opened["a"] = 1
        browser.does(clear)
        heard.now()
    assert heard.now() == [(DROPPED, {"handle": handle, "reason": "ended"})]


# -- corrupt, failed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newer", [False, True])
def test_bytes_that_are_no_session(newer: bool, server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle = damage(server_store, browser, bytes([FORMAT + 1]) + bytes(100) if newer else b"no session")
    corrupt = (CORRUPT, {"handle": handle, "newer": newer})
    assert heard.during(browser, both(read, read)) == [corrupt]
    assert heard.during(browser, write) == [corrupt, (CREATED, {"handle": handle_of(browser)})]


def test_bytes_that_were_damaged_while_a_request_ran(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle = handle_of(browser)
    sent = heard.during(browser, both(read, lambda: damage(server_store, browser), write))
    assert sent == [(CORRUPT, {"handle": handle, "newer": False}), (DROPPED, {"handle": handle, "reason": "unknown"})]


def test_a_log_out_from_damaged_bytes(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle = damage(server_store, browser)
    assert heard.during(browser, purge) == [(ENDED, {"handle": handle, "how": "purged"})]


@pytest.mark.parametrize(
    ("operation", "action"),
    [("read", both(read)), ("swap", both(read, write)), ("add", sign_in), ("swap", clear), ("swap", purge)],
    ids=["load", "write", "sign in", "clear", "purge"],
)
def test_a_store_that_fails_is_announced_once(operation: str, action: Action, listen: Listen) -> None:
    """And nothing else, for nothing else has happened."""
    store = FaultyStore(MemoryStore())
    app = make_app(store, TESTING=False)
    heard, browser = listen(app), begun(app)
    heard.now()
    store.fail(operation, times=None)
    response = browser.does(action)
    ((name, arguments),) = heard.now()
    assert (response.status_code, name) == (503, FAILED)
    assert isinstance(arguments["error"], StoreUnavailable)


def test_a_view_that_goes_on_after_a_failure_hears_of_it_once(listen: Listen) -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store, TESTING=False)
    heard, browser = listen(app), begun(app)
    heard.now()

    def view() -> None:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                read()

    store.fail(times=None)
    browser.does(view)
    assert [name for name, _ in heard.now()] == [FAILED]


def test_sessions_from_elsewhere_that_cannot_be_had(listen: Listen) -> None:
    def import_session(app: Flask, request: object) -> dict[str, object]:
        raise StoreUnavailable("down")

    app = Flask("elsewhere")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
    SessionManager(app, import_session=import_session)
    app.add_url_rule("/", view_func=lambda: str(session.get("a")))
    heard = listen(app)
    assert app.test_client().get("/").status_code == 503
    assert [name for name, _ in heard.now()] == [FAILED]


def test_an_extension_that_fails_is_no_failure_of_the_request(listen: Listen, clock: Clock) -> None:
    store = FaultyStore(MemoryStore())
    app = make_app(store)
    store.clock = store.store.clock = clock
    heard, browser = listen(app), begun(app)
    clock.advance(3600)
    store.fail("swap")
    assert heard.during(browser, read) == []


# -- nothing to say --------------------------------------------------------------------------------------------------


QUIET: tuple[Action, ...] = (
    nothing,
    read,
    write,
    lambda: session.update(SECRET),
    lambda: session["cart"].append(1),
    make_permanent,
    nothing,
    lambda: setattr(session, "modified", True),
)


def test_a_session_that_goes_on_as_ever_sends_nothing(store: SessionStore, listen: Listen, clock: Clock) -> None:
    store.clock = clock
    app = make_app(store)
    heard, browser = listen(app), begun(app, cart=[])
    for action in QUIET:
        for wait in (0, 3600):  # when it is due, it is extended too
            clock.advance(wait)
            assert heard.during(browser, action) == []


@pytest.mark.parametrize("cookies", [[], ["forged"]], ids=len)
def test_a_visitor_without_a_session_sends_nothing(cookies: list[str], store: SessionStore, listen: Listen) -> None:
    app = make_app(store)
    heard = listen(app)
    for action in (nothing, read, clear, purge, make_permanent):
        assert heard.during(Browser(app, *cookies), action) == []


def test_expiry_sends_nothing(server_store: ServerSideStore, listen: Listen, clock: Clock) -> None:
    server_store.clock = clock
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    clock.advance(DAY.total_seconds() * 40)
    assert heard.during(browser, read) == []
