"""An old session goes on here: in the first request, in parallel, once, and not after it has gone."""

from __future__ import annotations

import pickle
import threading
import typing as t
from pathlib import Path

import pytest
from flask import jsonify
from http_support import DELETED, KEPT, SET, Action, Browser, cookie_of, fate, warnings_in, watch
from old_sessions import (
    LOGIN,
    MONTH,
    FlaskSessionFiles,
    Origin,
    handle_of,
    make_app,
    manager,
    read_cart,
    say_farewell,
    show,
    sign_out,
)
from views import clear, nothing, purge, remove_all, renew

from flask_sessionstore import SessionError, SessionManager, session
from flask_sessionstore.interface import StoreSessionInterface
from flask_sessionstore.migrate import from_flask_session
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore

# -- the first request ---------------------------------------------------------------------------------------------


def test_an_old_session_goes_on_in_the_first_request_and_its_cookie_is_ours_from_then_on(
    target: ServerSideStore, origin: Origin
) -> None:
    app = make_app(target, origin.importer)
    old = origin.begin(**LOGIN)
    browser = Browser(app, old)
    assert fate(browser.does(nothing)) == KEPT
    response = browser.does(show)
    assert (response.json, fate(response)) == (LOGIN, SET)
    assert browser.cookie != old
    calls = watch(target)
    assert browser.data == LOGIN
    assert calls == ["load"]
    with app.app_context():
        assert [info.handle for info in manager(app).find("7")] == [handle_of(browser)]


def test_who_is_signed_in_there_does_not_sign_in_here(target: ServerSideStore, origin: Origin) -> None:
    """Else the session would be renewed at once, and what it has for its log-in dropped."""
    browser = Browser(make_app(target, origin.importer), origin.begin(**LOGIN, csrf_token="abc"))
    assert browser.data == {**LOGIN, "csrf_token": "abc"}


@pytest.mark.parametrize("permanent", [True, False])
def test_permanent_is_known_before_the_first_touch(memory: MemoryStore, origin: Origin, permanent: bool) -> None:
    browser = Browser(make_app(memory, origin.importer), origin.begin(**LOGIN, _permanent=permanent))
    answers: list[bool] = []
    response = browser.does(lambda: answers.append(session.permanent))
    assert answers == [permanent]
    assert ("max-age" in cookie_of(response).attributes) is permanent
    assert browser.data == LOGIN


def test_a_write_in_the_first_request_is_kept(target: ServerSideStore, origin: Origin) -> None:
    browser = Browser(make_app(target, origin.importer), origin.begin(**LOGIN))
    browser.does(lambda: session["cart"].append("pen"))
    assert browser.data == {**LOGIN, "cart": ["mug", "pen"]}


def test_without_an_old_session_there_is_none(target: ServerSideStore, origin: Origin) -> None:
    app = make_app(target, origin.importer)
    for text in ("A" * 43, "junk", ""):
        browser = Browser(app, text)
        assert (fate(browser.does(read_cart)), browser.data) == (KEPT, {})


def test_an_old_session_that_is_empty_makes_none_here(memory: MemoryStore, origin: Origin) -> None:
    browser = Browser(make_app(memory, origin.importer), origin.begin())
    assert fate(browser.does(read_cart)) == KEPT
    assert list(memory.scan()) == []


def test_a_page_for_everybody_goes_without_the_cookie_and_the_next_one_brings_it(
    memory: MemoryStore, origin: Origin
) -> None:
    browser = Browser(make_app(memory, origin.importer), origin.begin(**LOGIN))
    assert fate(browser.does(lambda: (str(read_cart()), {"Cache-Control": "public"}))) == KEPT
    response = browser.does(show)
    assert (response.json, fate(response)) == (LOGIN, SET)


class _Sockets(StoreSessionInterface):
    def can_send(self, request: t.Any, response: t.Any) -> bool:
        return bool(request.path != "/event")


def test_what_can_send_no_cookie_imports_all_the_same(
    memory: MemoryStore, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SessionManager, "interface_class", _Sockets)
    browser = Browser(make_app(memory, origin.importer), origin.begin(**LOGIN))
    assert fate(browser.does(lambda: session["cart"].append("pen"), "/event")) == KEPT
    assert browser.data == {**LOGIN, "cart": ["mug", "pen"]}
    fresh = Browser(browser.app, origin.begin(**LOGIN))

    def sign_in() -> None:
        session["_user_id"] = "8"
        with pytest.raises(SessionError):
            session.save()
        session["_user_id"] = "7"

    fresh.does(sign_in, "/event")
    assert fresh.data == LOGIN


# -- in parallel ---------------------------------------------------------------------------------------------------


def at_once(browsers: t.Sequence[Browser], view: Action) -> list[t.Any]:
    """What the view answers to each of these, which are all in it before one of them goes on."""
    barrier, answers = threading.Barrier(len(browsers)), dict[int, t.Any]()

    def meet() -> t.Any:
        answer = view()
        barrier.wait(60)
        return jsonify(answer)

    def send(number: int) -> None:
        answers[number] = browsers[number].does(meet).json

    threads = [threading.Thread(target=send, args=(number,)) for number in range(len(browsers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers.get(number) for number in range(len(browsers))]


@pytest.mark.parametrize("most", [None, 1])
def test_six_first_requests_at_once_come_to_one_session(
    target: ServerSideStore, origin: Origin, most: int | None
) -> None:
    app = make_app(target, origin.importer, SESSION_MAX_PER_OWNER=most)
    old = origin.begin(**LOGIN)
    browsers = [Browser(app, old) for _ in range(6)]

    def view() -> t.Any:
        session.update_or("requests", 1, lambda number: number + 1)
        return {"user": session.get("_user_id"), "cart": session.get("cart")}

    assert at_once(browsers, view) == [{"user": "7", "cart": ["mug"]}] * 6
    late = Browser(app, old)
    assert late.data == {**LOGIN, "requests": 6}
    assert {handle_of(browser) for browser in (*browsers, late)} == {handle_of(late)}
    with app.app_context():
        assert len(manager(app).find("7")) == 1


def test_the_limit_of_sessions_counts_who_comes_in(target: ServerSideStore, origin: Origin, clock: Clock) -> None:
    app = make_app(target, origin.importer, SESSION_MAX_PER_OWNER=1)
    first = Browser(app, origin.begin(**LOGIN))
    second = Browser(app, origin.begin(**LOGIN))
    assert first.data == LOGIN
    clock.advance(1)
    assert second.data == LOGIN
    assert first.data == {}


# -- once ----------------------------------------------------------------------------------------------------------


def sign_in_as_another() -> None:
    session["_user_id"] = "8"


def revoke(browser: Browser) -> None:
    with browser.app.app_context():
        assert manager(browser.app).revoke(handle_of(browser))


def revoke_all(browser: Browser) -> None:
    with browser.app.app_context():
        assert manager(browser.app).revoke_all("7") == 1


VIEWS: tuple[Action, ...] = (clear, say_farewell, purge, sign_out, remove_all, sign_in_as_another, renew)
WAYS: dict[str, t.Callable[[Browser, Clock], object]] = {
    **{view.__name__: lambda browser, clock, view=view: browser.does(view) for view in VIEWS},  # type: ignore[misc]
    "revoke": lambda browser, clock: revoke(browser),
    "revoke_all": lambda browser, clock: revoke_all(browser),
    "expire": lambda browser, clock: clock.advance(3601),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seconds", [0, 61])
def test_after_a_session_went_the_old_cookie_is_nobodys(
    target: ServerSideStore, origin: Origin, clock: Clock, way: str, seconds: int
) -> None:
    app = make_app(target, origin.importer, SESSION_BROWSER_LIFETIME=3600)
    old = origin.begin(**LOGIN)
    browser = Browser(app, old)
    assert browser.data == LOGIN
    WAYS[way](browser, clock)
    clock.advance(seconds)
    thief = Browser(app, old)
    assert thief.data == {}
    clock.advance(MONTH / 2)
    assert thief.data == {}


@pytest.mark.parametrize("view", [clear, say_farewell, purge, sign_out], ids=lambda view: str(view.__name__))
def test_a_log_out_that_is_the_first_request_of_all_holds(
    target: ServerSideStore, origin: Origin, clock: Clock, view: Action
) -> None:
    app = make_app(target, origin.importer)
    old = origin.begin(**LOGIN)
    assert fate(Browser(app, old).does(view)) == (DELETED if view in (clear, purge) else SET)
    for _ in range(2):
        assert "_user_id" not in Browser(app, old).data
        clock.advance(61)


def test_all_sessions_of_an_owner_end_those_that_have_not_come_yet_too(
    target: ServerSideStore, origin: Origin, clock: Clock
) -> None:
    app = make_app(target, origin.importer)
    here, there, another = origin.begin(**LOGIN), origin.begin(**LOGIN), origin.begin(_user_id="8")
    assert Browser(app, here).data == LOGIN
    with app.app_context():
        assert manager(app).revoke_all("7") == 1
    for _ in range(2):
        assert Browser(app, here).data == Browser(app, there).data == {}
        clock.advance(61)
    assert Browser(app, another).data == {"_user_id": "8"}


def test_a_mark_stands_for_as_long_as_an_old_version_goes_on_with_the_session(
    memory: MemoryStore, files: FlaskSessionFiles, clock: Clock
) -> None:
    app = make_app(memory, files.importer)
    old = files.begin(**LOGIN)
    browser = Browser(app, old)
    assert browser.data == LOGIN
    browser.does(clear)
    for _ in range(4):
        files.keep(old, pickle.dumps(LOGIN))
        assert Browser(app, old).data == {}
        clock.advance(MONTH - 60)


def test_a_log_out_holds_over_a_change_of_the_secret(memory: MemoryStore, files: FlaskSessionFiles) -> None:
    old = files.begin(**LOGIN)
    browser = Browser(make_app(memory, files.importer), old)
    assert browser.data == LOGIN
    browser.does(clear)
    later = make_app(memory, files.importer)
    later.config["SECRET_KEY"] = "another"
    assert Browser(later, old).data == {}


def test_a_session_that_lives_goes_on_though_the_old_one_has_expired(
    target: ServerSideStore, files: FlaskSessionFiles, clock: Clock
) -> None:
    app = make_app(target, files.importer)
    old = files.begin(**LOGIN)
    browser = Browser(app, old)
    assert browser.data == LOGIN
    files.path(old).unlink()
    assert Browser(app, old).data == LOGIN
    assert handle_of(Browser(app, old)) == handle_of(browser)


def test_what_was_written_here_is_not_overwritten_by_what_is_there(target: ServerSideStore, origin: Origin) -> None:
    app = make_app(target, origin.importer)
    old = origin.begin(**LOGIN)
    browser = Browser(app, old)
    browser.does(lambda: session.update(cart=["cup"]))
    assert Browser(app, old).data == browser.data == {**LOGIN, "cart": ["cup"]}


# -- what fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["fail", "lose_reply"])
@pytest.mark.parametrize("operation", ["read", "add", "file"])
def test_a_store_that_fails_once_costs_nothing(memory: MemoryStore, origin: Origin, fault: str, operation: str) -> None:
    store = FaultyStore(memory)
    app = make_app(store, origin.importer, TESTING=False)
    old = origin.begin(**LOGIN)
    getattr(store, fault)(operation)
    assert Browser(app, old).does(read_cart).status_code == 503
    browser = Browser(app, old)
    assert browser.data == LOGIN
    browser.does(clear)
    assert Browser(app, old).data == {}


def test_the_mark_that_failed_is_left_by_the_next_request(memory: MemoryStore, origin: Origin, clock: Clock) -> None:
    """The second thing that is added is the mark."""
    store = FaultyStore(memory)
    app = make_app(store, origin.importer, TESTING=False)
    old = origin.begin(**LOGIN)
    store.fail("add", times=2)
    statuses = [Browser(app, old).does(read_cart).status_code for _ in range(3)]
    assert statuses == [503, 503, 200]
    browser = Browser(app, old)
    assert browser.data == LOGIN
    browser.does(clear)
    clock.advance(61)
    assert Browser(app, old).data == {}


def test_an_old_engine_that_is_away_is_a_503_and_the_session_comes_later(
    memory: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(memory, from_flask_session(f"sqlite:///{tmp_path}/none.db"), TESTING=False)
    assert Browser(app, "A" * 43).does(read_cart).status_code == 503
    assert Browser(app).does(read_cart).status_code == 200
    assert list(memory.scan()) == []


def test_who_was_imported_does_not_need_the_old_engine(
    memory: MemoryStore, files: FlaskSessionFiles, tmp_path: Path
) -> None:
    old = files.begin(**LOGIN)
    browser = Browser(make_app(memory, files.importer), old)
    assert browser.data == LOGIN
    later = make_app(memory, from_flask_session(f"sqlite:///{tmp_path}/none.db"))
    assert Browser(later, old).data == LOGIN
    browser.does(clear)
    assert Browser(later, old).data == {}


@pytest.mark.parametrize(
    "data", [b"", b"junk", pickle.dumps([1]), pickle.dumps({"_user_id": "7", "text": "x" * 2000})], ids=range(4)
)
def test_what_cannot_be_had_is_one_warning_and_a_new_session(
    memory: MemoryStore, files: FlaskSessionFiles, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(memory, files.importer, SESSION_MAX_SIZE=1000)
    old = "A" * 43
    files.keep(old, data)
    browser = Browser(app, old)
    response = browser.does(lambda: jsonify(user=session.get("_user_id"), a=session.setdefault("a", 1)))
    assert (response.json, fate(response)) == ({"user": None, "a": 1}, SET)
    (warning,) = warnings_in(caplog)
    assert warning.startswith("a session of another kind is not imported: ")
    assert browser.data == {"a": 1}


def test_an_old_session_that_is_removed_goes_once_it_has_come(
    memory: MemoryStore, clock: Clock, tmp_path: Path
) -> None:
    files = FlaskSessionFiles(tmp_path / "old", clock, remove=True)
    old = files.begin(**LOGIN)
    app = make_app(memory, files.importer)
    assert Browser(app, old).data == LOGIN
    assert not files.path(old).exists()
    assert Browser(app, old).data == LOGIN
