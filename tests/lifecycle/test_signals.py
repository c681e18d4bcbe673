"""Signals: sent once for each event, with handles alone, after the store has done it; no receiver changes anything."""

from __future__ import annotations

import logging
import re
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from blinker import NamedSignal
from clocks import Clock
from every_store import lists_of
from flask import Flask
from http_support import DELETED, SET, Action, Browser, fate, make_app, set_cookies, started, warnings_in
from views import clear, make_permanent, nothing, purge, read, renew, save

from flask_sessionstore import SessionGone, SessionKey, SessionManager, SessionStore, StoreUnavailable, session, signals
from flask_sessionstore.layout import FORMAT
from flask_sessionstore.manager import EXTENSION
from flask_sessionstore.stores import OwnerIndex, ServerSideStore, StoreFull
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore

SIGNALS = {value.name: value for value in vars(signals).values() if isinstance(value, NamedSignal)}
CREATED, RENEWED, ENDED = "session-created", "session-renewed", "session-ended"
MERGED, DROPPED, CORRUPT, FAILED = "session-merged", "session-write-dropped", "session-corrupt", "store-failed"

DAY = timedelta(days=1)
LATER = 61.0  # longer than a tombstone stands
KEY = "_user_id"
ANN = {KEY: "ann"}
#: In every session that a test starts, and in nothing that is sent.
SECRET = {"secret": "tell nobody"}

Event = tuple[str, dict[str, t.Any]]


class Heard:
    """What an application has sent, in order. Whatever it is, it is looked at."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.events: list[Event] = []
        self.then: t.Callable[[str, dict[str, t.Any]], object] = lambda name, arguments: None
        self._receivers = {name: self._receiver(name) for name in SIGNALS}
        for name, receiver in self._receivers.items():
            SIGNALS[name].connect(receiver)

    def _receiver(self, name: str) -> t.Callable[..., None]:
        def receive(sender: object, **arguments: t.Any) -> None:
            assert sender is self.app
            self.events.append((name, arguments))
            self.then(name, arguments)

        return receive

    def stop(self) -> None:
        for name, receiver in self._receivers.items():
            SIGNALS[name].disconnect(receiver)

    def now(self) -> list[Event]:
        """What was sent since the last time."""
        events, self.events = self.events, []
        for name, arguments in events:
            _check(name, dict(arguments))
        return events

    def during(self, browser: Browser, action: Action) -> list[Event]:
        """What one request sends."""
        self.now()
        browser.does(action)
        return self.now()


#: The arguments of every signal, and all that they can be.
HANDLE = r"[0-9a-f]{64}|None"
ARGUMENTS = {
    CREATED: {"handle": HANDLE},
    RENEWED: {"handle": HANDLE, "previous": HANDLE, "reason": "signed in|signed out|cleared|renewed"},
    ENDED: {"handle": HANDLE, "how": "purged|cleared|emptied|signed out|expired|revoked|displaced|ambiguous"},
    MERGED: {"handle": HANDLE, "attempts": r"\d+"},
    DROPPED: {"handle": HANDLE, "reason": "ended|emptied|renewed|signed in|replaced|revoked|unknown"},
    CORRUPT: {"handle": HANDLE, "newer": "True|False"},
}


def _check(name: str, arguments: dict[str, t.Any]) -> None:
    if name == FAILED:
        error = arguments.pop("error")
        assert isinstance(error, StoreUnavailable)
        assert not arguments
        assert SECRET["secret"] not in f"{error!r} {error} {vars(error)}"
        assert not re.search(r"[\w-]{43}", f"{error!r} {vars(error)}")
        return
    assert arguments.keys() == ARGUMENTS[name].keys()
    for argument, pattern in ARGUMENTS[name].items():
        assert re.fullmatch(pattern, str(arguments[argument])), arguments


@pytest.fixture
def listen() -> t.Iterator[t.Callable[[Flask], Heard]]:
    """Listen to an application until the test ends."""
    heard: list[Heard] = []

    def begin(app: Flask) -> Heard:
        heard.append(Heard(app))
        return heard[-1]

    yield begin
    for one in heard:
        one.now()
        one.stop()


Listen = t.Callable[[Flask], Heard]


def begun(app: Flask, **data: object) -> Browser:
    return started(app, **SECRET, **data)


def handle_of(browser: Browser) -> str | None:
    """None over the cookie store."""
    return t.cast("str | None", browser.asks(lambda: session.handle))


def store_of(app: Flask) -> t.Any:
    return t.cast("t.Any", app.session_interface).store


def sessions_of(app: Flask) -> SessionManager:
    return t.cast("SessionManager", app.extensions[EXTENSION])


def both(*actions: Action) -> Action:
    return lambda: [action() for action in actions][-1]


def write() -> None:
    session["a"] = "written"


def sign_in() -> None:
    session[KEY] = "ann"


def sign_out() -> None:
    session.pop(KEY)


def empty() -> None:
    for key in list(session):
        del session[key]


def damage(store: ServerSideStore, browser: Browser, data: bytes = b"no session") -> str:
    """Put other bytes in the place of the browser's record."""
    handle = SessionKey(str(browser.key)).handle
    store.drop(handle)
    assert store.add(handle, data, DAY)
    return handle


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


@pytest.fixture
def index(server_store: ServerSideStore) -> ServerSideStore:
    """Every store that can tell whose its sessions are, empty."""
    if server_store.ability(OwnerIndex) is None:
        pytest.skip(f"{type(server_store).__name__} has no OwnerIndex")
    return server_store


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


# -- merged, dropped -------------------------------------------------------------------------------------------------


def _meanwhile(browser: Browser, *others: Action, own: Action) -> Action:
    """A view that loads; then other windows come and go; then it goes on."""
    windows = [(browser.twin(), other) for other in others]

    def view() -> None:
        read()
        for window, other in windows:
            window.does(other)
        own()

    return view


def test_merged(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    handle = handle_of(browser)
    sent = heard.during(browser, _meanwhile(browser, lambda: session.update(b=2), own=write))
    assert sent == [(MERGED, {"handle": handle, "attempts": 2})]
    assert browser.data == {**SECRET, "a": "written", "b": 2}


def test_merged_into_a_renewal(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    previous = handle_of(browser)
    sent = heard.during(browser, _meanwhile(browser, write, own=sign_in))
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
    sent = heard.during(browser, _meanwhile(browser, *other, own=own))
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
    *_, last = heard.during(browser, _meanwhile(browser, other, own=write))
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


# -- receivers -------------------------------------------------------------------------------------------------------


#: How each signal comes about: what a browser with a session does.
SCENES: dict[str, t.Callable[[Browser, FaultyStore], t.Any]] = {
    CREATED: lambda browser, store: Browser(browser.app).does(write),
    RENEWED: lambda browser, store: browser.does(sign_in),
    ENDED: lambda browser, store: browser.does(clear),
    MERGED: lambda browser, store: browser.does(_meanwhile(browser, lambda: session.update(b=2), own=write)),
    DROPPED: lambda browser, store: browser.does(_meanwhile(browser, purge, own=write)),
    CORRUPT: lambda browser, store: [damage(store, browser), browser.does(write)][-1],
    FAILED: lambda browser, store: browser.does(both(write, lambda: store.fail("swap"))),
}


def _played(name: str, *, listening: t.Callable[..., object] | None) -> tuple[object, ...]:
    """What the browser gets in the scene of a signal, and what is in the store then."""
    store = FaultyStore(MemoryStore())
    app = make_app(store, TESTING=False)
    browser = begun(app)
    if listening is not None:
        SIGNALS[name].connect(listening, app)
    response = SCENES[name](browser, store)
    store.heal()
    kept = [(cookie.name, cookie.attributes) for cookie in set_cookies(response)]
    return response.status_code, fate(response), kept, response.headers.get("Vary"), browser.data


def test_there_is_a_scene_for_each() -> None:
    assert SCENES.keys() == SIGNALS.keys() == {*ARGUMENTS, FAILED}


@pytest.mark.parametrize("name", SCENES)
def test_a_receiver_that_raises_is_logged_and_changes_nothing(name: str, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[object] = []

    def receiver(sender: object, **arguments: object) -> None:
        calls.append(arguments)
        raise ZeroDivisionError

    expected = _played(name, listening=None)
    caplog.clear()
    assert _played(name, listening=receiver) == expected
    assert len(calls) == 1
    assert f"a receiver of the signal {name} failed" in warnings_in(caplog, logging.ERROR)


@pytest.mark.parametrize("name", SCENES)
def test_it_keeps_the_signal_from_no_other_receiver(name: str) -> None:
    calls: list[int] = []
    receivers = []
    for number in range(5):

        def receiver(sender: object, number: int = number, **arguments: object) -> None:
            calls.append(number)
            raise ZeroDivisionError

        receivers.append(receiver)
        SIGNALS[name].connect(receiver)
    try:
        _played(name, listening=None)
    finally:
        for one in receivers:
            SIGNALS[name].disconnect(one)
    assert set(calls) >= set(range(5))


@pytest.mark.parametrize("name", SCENES)
def test_a_receiver_may_be_a_coroutine(name: str) -> None:
    calls: list[object] = []

    async def receiver(sender: object, **arguments: object) -> None:
        calls.append(sender)

    _played(name, listening=receiver)
    assert len(calls) == 1


def test_a_muted_signal_is_silent(listen: Listen) -> None:
    app = make_app(MemoryStore())
    heard = listen(app)
    with signals.session_created.muted():
        begun(app)
    assert heard.now() == []


def test_another_application_s_receivers_hear_nothing(listen: Listen) -> None:
    app, other = make_app(MemoryStore()), make_app(MemoryStore())
    calls: list[object] = []

    def receiver(sender: object, **arguments: object) -> None:
        calls.append(arguments)

    signals.session_created.connect(receiver, other)
    begun(app)
    assert calls == []


def test_the_store_has_done_it_by_then(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, seen = listen(app), t.cast("list[tuple[str, list[bool]]]", [])

    def look(name: str, arguments: dict[str, t.Any]) -> None:
        handles = [arguments["handle"], arguments.get("previous")]
        seen.append((name, [server_store.info(handle) is not None for handle in handles if handle]))

    heard.then = look
    browser = begun(app)
    browser.does(sign_in)
    browser.does(clear)
    assert seen == [(CREATED, [True]), (RENEWED, [True, False]), (ENDED, [False])]


def test_the_request_s_session_can_be_read_in_a_receiver(server_store: ServerSideStore, listen: Listen) -> None:
    app = make_app(server_store)
    heard, seen = listen(app), t.cast("list[object]", [])
    heard.then = lambda name, arguments: seen.append((name, session.get(KEY), session.handle == arguments["handle"]))
    browser = begun(app)
    browser.does(sign_in)
    damage(server_store, browser)
    browser.does(read)
    assert seen == [(CREATED, None, True), (RENEWED, "ann", True), (CORRUPT, None, False)]


@pytest.mark.parametrize("name", SCENES)
def test_a_receiver_that_reads_the_session_changes_nothing(name: str) -> None:
    calls: list[object] = []

    def receiver(sender: object, **arguments: object) -> None:
        calls.append(arguments)
        dict(session)

    assert _played(name, listening=receiver) == _played(name, listening=None)
    assert len(calls) == 1


@pytest.mark.parametrize("name", [CREATED, RENEWED, MERGED])
def test_a_receiver_may_write_to_the_session_if_it_saves_it(
    name: str, server_store: ServerSideStore, listen: Listen
) -> None:
    app = make_app(server_store)
    heard, browser = listen(app), begun(app)
    browsers = {CREATED: Browser(app)}
    actions = {CREATED: write, RENEWED: sign_in, MERGED: _meanwhile(browser, lambda: session.update(b=2), own=write)}

    def note(happened: str, arguments: dict[str, t.Any]) -> None:
        session["noted"] = happened
        session.save()

    heard.now()
    heard.then = note
    browser = browsers.get(name, browser)
    response = browser.does(actions[name])
    assert fate(response) == SET
    assert [happened for happened, _ in heard.now()] == [name]
    assert browser.data["noted"] == name
