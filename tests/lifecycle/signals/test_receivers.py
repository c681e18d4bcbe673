"""Receivers of signals: whatever they do, the session stays as it is."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import sys
import threading
import typing as t
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from http_support import SET, Browser, fate, make_app, set_cookies, warnings_in
from lifecycle_views import fate_of_change
from signal_support import (
    ARGUMENTS,
    CORRUPT,
    CREATED,
    DROPPED,
    ENDED,
    FAILED,
    KEY,
    MERGED,
    RECOVERED,
    RENEWED,
    SIGNALS,
    Listen,
    begun,
    both,
    damage,
    meanwhile,
    sign_in,
    write,
)
from views import clear, purge, read
from waits import IN_TIME

from flask_sessionstore import StoreUnavailable, session, signals
from flask_sessionstore.stores import Contact, ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore

R = t.TypeVar("R")

DAY = timedelta(days=1)


class Reached(FaultyStore):
    """Its engine is reached through a contact, and so can be lost."""

    def __init__(self, store: ServerSideStore) -> None:
        super().__init__(store)
        self.contact: Contact = Contact()

    def pass_on(self, operation: str, call: t.Callable[[], R]) -> R:
        return self.contact.ask(lambda: FaultyStore.pass_on(self, operation, call))

    def lose(self) -> t.Self:
        """The next call finds that the engine answers again."""

        def fail() -> None:
            raise StoreUnavailable(lost="unreachable")

        with pytest.raises(StoreUnavailable):
            self.contact.ask(fail)
        return self


#: How each signal comes about: what a browser with a session does.
SCENES: dict[str, t.Callable[[Browser, Reached], t.Any]] = {
    CREATED: lambda browser, store: Browser(browser.app).does(write),
    RENEWED: lambda browser, store: browser.does(sign_in),
    ENDED: lambda browser, store: browser.does(clear),
    MERGED: lambda browser, store: browser.does(meanwhile(browser, lambda: session.update(b=2), own=write)),
    DROPPED: lambda browser, store: browser.does(meanwhile(browser, purge, own=write)),
    CORRUPT: lambda browser, store: [damage(store, browser), browser.does(write)][-1],
    FAILED: lambda browser, store: browser.does(both(write, lambda: store.fail("swap"))),
    RECOVERED: lambda browser, store: [store.lose(), browser.does(write)][-1],
}


def _played(name: str, *, listening: t.Callable[..., object] | None) -> tuple[object, ...]:
    """What the browser gets in the scene of a signal, and what is in the store then."""
    store = Reached(MemoryStore())
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


def test_what_is_marked_as_a_coroutine_is_waited_for() -> None:
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is None:
        pytest.skip("Python can mark functions so since 3.12")
    ended = []

    class Answer:
        def __await__(self) -> t.Iterator[None]:
            yield from asyncio.sleep(0).__await__()
            ended.append(True)

    def receiver(sender: object, **arguments: object) -> Answer:
        return Answer()

    mark(receiver)
    _played("session-created", listening=receiver)
    assert ended == [True]


def test_an_application_may_let_a_coroutine_go_on_beside_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    running, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    async def receiver(sender: object, **arguments: object) -> None:
        running.set()
        await asyncio.to_thread(may_end.wait, IN_TIME)
        ended.set()

    app = make_app(MemoryStore())
    with ThreadPoolExecutor(1) as beside:
        monkeypatch.setattr(
            app, "async_to_sync", lambda function: lambda *args: beside.submit(asyncio.run, function(*args))
        )
        signals.session_created.connect(receiver, app)
        begun(app)
        assert running.wait(IN_TIME)
        may_end.set()
    assert ended.is_set()


def test_a_coroutine_where_flask_cannot_run_it_is_logged_and_closed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def receiver(sender: object, **arguments: object) -> None:
        raise AssertionError("it runs")

    monkeypatch.setitem(sys.modules, "asgiref.sync", None)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        _played(next(iter(SCENES)), listening=receiver)
        gc.collect()
    assert "Install Flask with the 'async' extra" in caplog.text
    assert warned == []


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
    actions = {CREATED: write, RENEWED: sign_in, MERGED: meanwhile(browser, lambda: session.update(b=2), own=write)}

    def note(happened: str, arguments: dict[str, t.Any]) -> None:
        session["noted"] = happened
        session.save()

    heard.now()
    heard.then = note
    browser = browsers.get(name, browser)
    response = browser.does(actions[name])
    assert fate(response) == (fate_of_change(server_store) if name == MERGED else SET)
    assert [happened for happened, _ in heard.now()] == [name]
    assert browser.data["noted"] == name
