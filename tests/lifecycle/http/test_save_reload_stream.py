"""save and reload in a view, streamed responses, and what Flask calls twice."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
from flask import Flask, Response, stream_with_context
from flask.signals import request_finished
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, started, warnings_in, watch
from lifecycle_views import TWO, both, fate_of_change, meanwhile, memory_store, store_of, write_other, write_within
from views import assign, clear, force, purge, read, remove_all, renew, save, sign_in, write

from flask_sessionstore import SessionError, SessionInsertError, SessionManager, SessionStatus, session
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.testing import Clock

# -- save, reload, streams -------------------------------------------------------------------------------------------


def test_save_writes_at_once_and_the_end_of_the_request_writes_nothing_twice(app: Flask) -> None:
    browser = started(app, a=1)
    calls = watch(store_of(app))

    def view() -> None:
        write()
        session.save()
        assert calls == ["load", "update(replaces)"]
        assert session.status is SessionStatus.UNCHANGED

    assert fate(browser.does(view)) == fate_of_change(store_of(app))
    assert calls == ["load", "update(replaces)"]
    assert browser.data == TWO


def test_what_comes_after_save_is_a_further_write(server_app: Flask) -> None:
    browser = Browser(server_app)
    calls = watch(store_of(server_app))
    assert fate(browser.does(both(write, save, write_other))) == SET
    assert calls == ["save", "update(replaces)"]
    assert browser.data == {"a": 2, "b": 2}


def test_a_new_session_is_known_once_saved(server_app: Flask) -> None:
    browser = Browser(server_app)

    def view() -> None:
        write()
        assert (session.new, session.handle, session.created_at, session.expires_at) == (True, None, None, None)
        session.save()
        assert session.handle is not None
        assert not session.new

    assert fate(browser.does(view)) == SET
    assert browser.data == TWO


def test_purge_after_save_ends_what_was_saved(app: Flask) -> None:
    browser = Browser(app)
    kept: list[str | None] = []
    browser.does(both(write, save, lambda: kept.append(session.handle), purge))
    assert browser.cookies == []
    store = store_of(app)
    if isinstance(store, ServerSideStore):
        assert store.info(kept[0] or "") is None


def test_reload_reads_what_another_request_wrote_and_drops_what_was_not_saved(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = browser.twin()

    def view() -> None:
        session["mine"] = 1
        other.does(write)
        assert session["a"] == 1
        session.reload()
        assert dict(session) == TWO

    assert fate(browser.does(view)) == KEPT
    assert browser.data == TWO


def test_reload_may_be_the_first_use_of_the_session(app: Flask) -> None:
    def view() -> dict[str, t.Any]:
        session.reload()
        return dict(session)

    assert started(app, a=1).asks(view) == {"a": 1}


def test_no_cookie_is_sent_for_a_session_that_reload_found_dead(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = browser.twin()

    def view() -> None:
        write()
        session.save()
        other.does(purge)
        session.reload()
        assert dict(session) == {}

    assert fate(browser.does(view)) != SET


def test_what_save_has_stored_is_not_lost_to_a_failure_at_the_end(server_app: Flask) -> None:
    """The browser gets the key that the sign-in was saved under, though the response is a 500."""
    server_app.testing = False
    browser = started(server_app, cart=[1])

    def view() -> None:
        sign_in()
        session.save()
        session["cart"].append(object())

    response = browser.does(view)
    assert (response.status_code, fate(response)) == (500, SET)
    assert browser.data["cart"] == [1]
    assert "_user_id" in browser.data


def test_a_second_response_may_start_a_session(memory_app: Flask) -> None:
    """Flask saves again where something fails after the first time."""

    def fail(sender: Flask, **_: object) -> None:
        raise RuntimeError("after the session was saved")

    memory_app.testing = False
    memory_app.register_error_handler(500, lambda error: (str(session.update(farewell=1)), 500))
    browser = Browser(memory_app)
    with request_finished.connected_to(fail, memory_app):
        response = browser.does(lambda: None)
    assert (response.status_code, fate(response)) == (500, SET)
    assert browser.data == {"farewell": 1}


def test_an_import_that_fails_is_tried_again(clock: Clock) -> None:
    answers: list[t.Any] = [RuntimeError("the old store is down"), {"cart": [1]}]

    def import_session(app: Flask, request: object) -> dict[str, object]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return t.cast("dict[str, object]", answer)

    app = make_app(memory_store(clock))
    app.extensions.clear()
    app.config.update(SESSION_TYPE=None, SESSION_FILE_DIR=None)
    SessionManager(app, import_session=import_session)
    browser = Browser(app)

    def view() -> None:
        with pytest.raises(RuntimeError):
            session.get("cart")
        with pytest.raises(RuntimeError):
            session["flash"] = 1

    assert fate(browser.does(view)) == KEPT
    assert browser.asks(lambda: session.get("cart")) == [1]


def test_how_long_one_user_is_remembered_says_nothing_about_the_next(server_app: Flask) -> None:
    browser = started(server_app, a=1)

    def sign_in_for_long() -> None:
        session["_user_id"] = "ann"
        session.lifetime = timedelta(days=365)

    browser.does(sign_in_for_long)
    assert browser.asks(lambda: session.lifetime.days if session.lifetime else None) == 365
    browser.does(lambda: session.pop("_user_id"))
    assert browser.asks(lambda: session.lifetime) is None


def test_a_stream_without_changes_of_a_session_warns_of_nothing(
    memory_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """What a view assigned that makes no session is no change that somebody forgot to save."""

    def view() -> t.Iterator[str]:
        session.permanent = True
        session.clear()
        session.modified = True
        return iter(["streamed"])

    Browser(memory_app).does(view)
    assert warnings_in(caplog) == []


def test_a_value_that_save_refused_can_be_mended(memory_app: Flask) -> None:
    browser = started(memory_app, cart=[1])

    def view() -> None:
        session["cart"].append(object())
        with pytest.raises(SessionInsertError):
            session.save()
        session["cart"] = [1, 2]

    browser.does(view)
    assert browser.data == {"cart": [1, 2]}


def _streaming(*steps: Action) -> Action:
    """A view whose response is streamed, with the session at hand."""

    def generate() -> t.Iterator[str]:
        for step in steps:
            step()
            yield "."

    return lambda: Response(stream_with_context(generate()))


def test_a_stream_may_read_and_save_what_the_browser_has_a_cookie_for(
    server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1)
    stream = _streaming(lambda: session["a"], assign(a=2), save)
    response = browser.does(stream)
    assert response.text == "..."
    assert browser.data == TWO
    assert warnings_in(caplog) == []


def test_a_stream_sees_the_session_that_the_view_left(app: Flask) -> None:
    browser = Browser(app)
    found: list[object] = []
    browser.does(both(write, _streaming(lambda: found.append(session["a"]))))
    assert found == [2]
    assert browser.data == TWO


@pytest.mark.parametrize("own", [write, sign_in, both(clear, write), renew])
def test_a_stream_cannot_save_under_a_key_that_the_browser_lacks(own: Action, server_app: Flask) -> None:
    browser = started(server_app, a=1) if own is not write else Browser(server_app)
    before = browser.data

    def save_in_vain() -> None:
        with pytest.raises(SessionError, match="response has begun"):
            session.save()

    calls = watch(store_of(server_app))
    browser.does(_streaming(own, save_in_vain))
    assert not {"save", "renew(replaces)"} & set(calls)
    assert browser.data == before


@pytest.mark.parametrize(
    "own",
    [
        write,
        write_within,
        purge,
        remove_all,
    ],
)
def test_what_a_stream_changed_and_nobody_saved_is_one_warning(
    own: Action, server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1, cart=[])
    browser.does(_streaming(own))
    (warning,) = warnings_in(caplog)
    assert "session.save()" in warning
    assert browser.data == {"a": 1, "cart": []}


def test_a_stream_signs_out_and_the_browser_keeps_its_key(server_app: Flask) -> None:
    browser = started(server_app, _user_id="ann", cart=[1])
    key = browser.key
    browser.does(_streaming(lambda: session.pop("_user_id"), save))
    assert (browser.data, browser.key) == ({"cart": [1]}, key)


def test_a_stream_may_end_the_session(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    browser.does(_streaming(clear, save))
    assert browser.data == {}


# -- Flask calls twice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "expected", "calls"),
    [
        (read, KEPT, ["load"]),
        (write, None, ["load", "update(replaces)"]),
        (force, None, ["load", "update_ttl"]),
        (renew, SET, ["load", "renew(replaces)"]),
        (clear, DELETED, ["load", "delete(replaces)"]),
        (purge, DELETED, ["delete"]),
    ],
)
def test_a_second_response_repeats_the_cookie_and_stores_nothing_twice(
    view: Action, expected: str | None, calls: list[str], app: Flask
) -> None:
    """An ``expected`` of None: as after any change under the same key."""
    # Flask makes a second response when something fails after the first was finished.
    app.config.update(TESTING=False)
    browser = started(app, a=1)
    watched = watch(store_of(app))

    def fail(sender: Flask, response: Response) -> None:
        raise RuntimeError("a receiver of request_finished failed")

    with request_finished.connected_to(fail, app):
        app.logger.disabled = True
        response = browser.does(view)
    assert response.status_code == 500
    assert fate(response) == (expected or fate_of_change(store_of(app)))
    assert watched == calls
    assert len(response.headers.getlist("Vary")) == 1


def test_an_error_handler_s_writes_are_a_further_write(server_app: Flask) -> None:
    def fail() -> None:
        write()
        raise RuntimeError("the view failed")

    def apologise(error: RuntimeError) -> str:
        session["b"] = 2
        return "sorry"

    server_app.register_error_handler(RuntimeError, apologise)
    browser, calls = started(server_app, a=1), watch(store_of(server_app))
    assert fate(browser.does(fail)) == fate_of_change(store_of(server_app))
    assert calls == ["load", "update(replaces)"]
    assert browser.data == {"a": 2, "b": 2}


@pytest.mark.parametrize("other", [renew, purge, both(clear, write_other)])
@pytest.mark.parametrize("own", [save, read])
def test_what_was_lost_at_save_is_told_once_and_leaves_alone_the_cookie_of_another_response(
    other: Action, own: Action, server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1)
    what, _ = meanwhile(browser, other, both(write, save, own))
    assert what == KEPT
    assert len(warnings_in(caplog)) == 1


def test_where_save_found_the_session_renewed_what_is_written_later_is_lost_as_well(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    what, _ = meanwhile(browser, renew, both(write, save, write_other))
    assert what == KEPT
