"""What is told about every call of the store: the verb, how long it took, how it ended, and nothing about whom."""

from __future__ import annotations

import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from flask import Flask
from freezegun import freeze_time
from http_support import Browser, make_app, sessions_of, started
from live import live_app
from views import clear, nothing, read, renew, sign_in, write

from flask_sessionstore import SessionGone, SessionManager, StoreUnavailable, UnsupportedByStore, session
from flask_sessionstore.interface import StoreSessionInterface
from flask_sessionstore.stores import Counts, ServerSideStore, SessionStore
from flask_sessionstore.stores import watched as watched_module
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.watched import StoreCall, watched
from flask_sessionstore.testing import FaultyStore, StoreContract


class Calls:
    """What was told."""

    def __init__(self) -> None:
        self.heard: list[StoreCall] = []

    def __call__(self, call: StoreCall) -> None:
        self.heard.append(call)

    def now(self) -> list[str]:
        """The verbs since the last time; with how they ended, unless all was well."""
        heard, self.heard = self.heard, []
        return [call.verb if call.ended == "done" else f"{call.verb} {call.ended}" for call in heard]


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_threads_that_come_first_at_once_get_one_watched_store(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    interface = t.cast("StoreSessionInterface", make_app(MemoryStore()).session_interface)
    interface.on_store_call = (calls,)
    both = threading.Barrier(2)

    def slowly(*arguments: t.Any) -> t.Any:
        both.wait(30)
        return watched(*arguments)

    monkeypatch.setattr(watched_module, "watched", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: interface.asked, range(2))
    assert first is second is interface.asked


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore(MemoryStore())


def told(app: Flask, *hooks: t.Callable[[StoreCall], object]) -> Flask:
    """The application, which tells these what its store does."""
    t.cast("StoreSessionInterface", app.session_interface).on_store_call = hooks
    return app


class TestTheContract(StoreContract):
    """A store whose calls are told is the same store."""

    @pytest.fixture
    def store(self) -> ServerSideStore:
        return t.cast("ServerSideStore", watched(MemoryStore(), [Calls()]))

    def pass_time(self, store: SessionStore, seconds: float) -> None:
        inner = t.cast("t.Any", store).store
        now = inner.now()
        inner.clock = lambda: now + seconds


def test_each_verb_is_told_as_it_was_asked(calls: Calls) -> None:
    browser = started(told(make_app(MemoryStore()), calls), a=1)
    heard = {"start": calls.now()}
    for view in (nothing, read, write, renew, sign_in, clear):
        browser.does(view)
        heard[view.__name__] = calls.now()
    assert heard == {
        "start": ["save"],
        "nothing": [],
        "read": ["load"],
        "write": ["load", "update"],
        "renew": ["load", "renew"],
        "sign_in": ["load", "renew"],
        "clear": ["load", "delete"],
    }


def test_an_extension_is_told(calls: Calls) -> None:
    browser = started(told(make_app(MemoryStore(), SESSION_REFRESH_INTERVAL=0), calls), a=1)
    calls.now()
    browser.does(read)
    assert calls.now() == ["load", "update_ttl"]


def test_a_call_is_told_how_it_ended(calls: Calls, faulty: FaultyStore) -> None:
    app = told(live_app(faulty), calls)
    browser = started(app, a=1)
    twin, third = browser.twin(), browser.twin()

    def lose() -> None:
        write()
        twin.does(lambda: session.update(b=3))

    calls.now()
    browser.does(lose)
    assert calls.now() == ["load", "load", "update", "update conflict", "update"]
    faulty.fail("read")
    browser.does(read)
    assert calls.now() == ["load unavailable"]
    browser.does(clear)
    calls.now()
    third.does(read)
    assert calls.now() == ["load gone"]
    handle = started(app, a=1).asks(lambda: session.handle)
    data = faulty.store.read(handle)
    assert data is not None
    faulty.store.drop(handle)
    faulty.store.add("0" * 64, data, timedelta(days=1))
    calls.now()
    with app.app_context(), pytest.raises(SessionGone), sessions_of(app).open("0" * 64):
        pass
    assert calls.now() == ["load corrupt"]


def test_how_long_a_call_took_is_told_in_seconds(calls: Calls) -> None:
    class Slow(MemoryStore):
        def swap(self, *args: t.Any, **options: t.Any) -> bool:
            time_passes.tick(0.25)
            return super().swap(*args, **options)

    with freeze_time() as time_passes:
        browser = started(told(make_app(Slow()), calls), a=1)
        browser.does(write)
    assert [round(call.seconds, 3) for call in calls.heard] == [0, 0, 0.25]


def test_listing_and_revoking_are_told_too(calls: Calls) -> None:
    app = told(make_app(MemoryStore()), calls)
    started(app, _user_id="ann")
    handle = started(app, _user_id="ann").asks(lambda: session.handle)
    calls.now()
    with app.app_context():
        sessions_of(app).find("ann")
        assert calls.now() == ["entries"]
        assert sessions_of(app).revoke(handle)
        assert calls.now()[:2] == ["read", "swap"]
        assert sessions_of(app).revoke_all("ann") == 1
        assert "end_each" in calls.now()


def test_revoking_the_own_session_works_where_calls_are_told(calls: Calls) -> None:
    app = told(make_app(MemoryStore()), calls)
    browser = started(app, _user_id="ann")
    assert browser.asks(lambda: [one.current for one in sessions_of(app).find("ann")]) == [True]
    assert browser.asks(lambda: sessions_of(app).revoke(str(session.handle)))
    assert browser.data == {}


def test_of_two_tiers_the_call_as_a_whole_is_told(calls: Calls) -> None:
    browser = started(told(make_app(CachingStore(MemoryStore(), MemoryStore())), calls), a=1)
    calls.now()
    browser.does(write)
    assert calls.now() == ["load", "update"]


def test_a_store_without_a_server_is_told_too(calls: Calls) -> None:
    app = told(make_app(CookieStore()), calls)
    browser = started(app, a=1)
    browser.does(write)
    assert browser.data == {"a": 2}
    assert calls.now() == ["save", "load", "update", "load"]


def test_a_store_without_lists_is_named_by_its_own_name(calls: Calls) -> None:
    app = told(make_app(CookieStore()), calls)
    with app.app_context(), pytest.raises(UnsupportedByStore, match="CookieStore cannot list"):
        sessions_of(app).find("ann")


def test_sealed_sessions_stay_sealed_where_calls_are_told(calls: Calls) -> None:
    store = MemoryStore()
    browser = started(told(make_app(store, SESSION_SEAL="required"), calls), secret="tell nobody")
    handle = browser.asks(lambda: session.handle)
    assert b"tell nobody" not in (store.read(handle) or b"tell nobody")
    assert browser.data == {"secret": "tell nobody"}


def test_nothing_that_is_told_names_a_session_or_an_owner(calls: Calls) -> None:
    browser = started(told(make_app(MemoryStore()), calls), _user_id="ann")
    handle = browser.asks(lambda: session.handle)
    for call in calls.heard:
        assert StoreCall.__struct_fields__ == ("verb", "seconds", "ended")
        assert not any(word in repr(call) for word in ("ann", handle, str(browser.key)))


def test_whoever_is_told_and_raises_is_logged_and_the_others_are_told(
    calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(call: StoreCall) -> None:
        raise ValueError(call.verb)

    browser = started(told(make_app(MemoryStore()), fail, calls), a=1)
    assert browser.data == {"a": 1}
    assert calls.now() == ["save", "load"]
    assert "on_store_call failed" in caplog.text


@pytest.mark.parametrize("kind", ["function", "method", "built-in", "partial", "object", "class", "static"])
def test_whatever_can_be_called_is_called(kind: str) -> None:
    heard: list[StoreCall] = []

    def keep(call: StoreCall) -> None:
        heard.append(call)

    class Keeper:
        def __init__(self, call: StoreCall | None = None) -> None:
            if call:
                keep(call)

        def __call__(self, call: StoreCall) -> None:
            keep(call)

    class Static:
        __call__ = staticmethod(keep)

    hooks: dict[str, t.Callable[[StoreCall], object]] = {
        "function": keep,
        "method": Keeper().__call__,
        "built-in": heard.append,
        "partial": partial(keep),
        "object": Keeper(),
        "class": Keeper,
        "static": Static(),
    }
    started(told(make_app(MemoryStore()), hooks[kind]), a=1)
    assert [call.verb for call in heard] == ["save"]


def test_what_listens_to_an_application_is_given_it_and_a_class_is_not() -> None:
    listened: list[Flask] = []

    class Listener:
        def __init__(self, call: StoreCall | None = None) -> None:
            pass

        def __call__(self, call: StoreCall) -> None:
            pass

        def listen_to(self, app: Flask) -> None:
            listened.append(app)

    app = Flask(__name__)
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
    SessionManager(app, on_store_call=[Listener, Listener()])
    assert listened == [app]


@pytest.mark.parametrize("several", [False, True])
def test_the_manager_takes_one_function_or_several(several: bool, calls: Calls) -> None:
    other = Calls()
    app = Flask(__name__)
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
    SessionManager(app, on_store_call=[calls, other] if several else calls)

    @app.get("/")
    def view() -> str:
        session["a"] = 1
        return ""

    app.test_client().get("/")
    assert (calls.now(), other.now()) == (["save"], ["save"] if several else [])


def test_a_store_that_is_watched_counts_its_sessions_all_the_same(calls: Calls) -> None:
    app = make_app(MemoryStore())
    told(app, calls)
    Browser(app).does(write)
    counts = t.cast("StoreSessionInterface", app.session_interface).asked.ability(Counts)
    assert counts is not None
    assert counts.count() == 1


def test_without_anybody_to_tell_requests_ask_the_store_itself() -> None:
    app = make_app(MemoryStore())
    interface = t.cast("StoreSessionInterface", app.session_interface)
    assert interface.asked is interface.store
    told(app, Calls())
    assert interface.asked is not interface.store
    assert interface.asked is interface.asked
    interface.store = MemoryStore()
    assert Browser(app).does(write).status_code == 200


def test_a_failure_that_is_told_is_raised_all_the_same(calls: Calls, faulty: FaultyStore) -> None:
    store = watched(faulty, [calls])
    faulty.fail()
    with pytest.raises(StoreUnavailable, match="told to fail"):
        t.cast("ServerSideStore", store).drop("0" * 64)
    assert calls.now() == ["drop unavailable"]
