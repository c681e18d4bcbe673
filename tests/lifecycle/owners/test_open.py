"""open: a session by its handle, without its browser."""

from __future__ import annotations

import typing as t

import pytest
from every_store import lists_of
from flask import Flask
from http_support import make_app, sessions_of, started
from owner_support import KEY, handle_of, signed_in
from views import clear

from flask_sessionstore import SessionError, SessionGone, session
from flask_sessionstore.lifecycle import Lifecycle
from flask_sessionstore.sessions import source_of
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.testing import Clock

UNKNOWN = "0" * 64


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
