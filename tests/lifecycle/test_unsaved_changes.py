"""What is written when the response is made already, and saved by nobody: one warning, streamed or not."""

from __future__ import annotations

import io
import typing as t

import pytest
from flask import Flask, Response, send_file, stream_with_context
from http_support import Action, Browser, make_app, started, warnings_in

from flask_sessionstore import SessionStore, session
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore


def prepared(store: SessionStore, **config: object) -> Flask:
    app = make_app(store, **config)
    actions = app.extensions["tests.at_teardown"] = []

    @app.teardown_request
    def act(error: BaseException | None) -> None:
        if actions:
            actions.pop()()

    return app


@pytest.fixture
def app() -> Flask:
    return prepared(MemoryStore())


def at_teardown(app: Flask, action: Action) -> None:
    """Do it at the end of the next request."""
    app.extensions["tests.at_teardown"].append(action)


def write() -> None:
    session["late"] = 1


def append() -> None:
    session["cart"].append("mug")


def make_permanent() -> None:
    assert "n" in session
    session.permanent = True


def save() -> None:
    session["late"] = 1
    session.save()


CHANGES: dict[str, Action] = {
    "set": write,
    "nested": append,
    "update_or": lambda: session.update_or("n", 1, lambda n: n + 1),
    "removed": lambda: session.pop("cart"),
    "cleared": lambda: session.clear(),  # noqa: PLW0108  - the proxy wants its request
    "renewed": lambda: session.renew(),  # noqa: PLW0108
    "purged": lambda: session.purge(),  # noqa: PLW0108
    "permanent": make_permanent,
}


@pytest.mark.parametrize("view", [lambda: None, lambda: session.get("cart"), lambda: session.update(a=1)])
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_change_in_a_teardown_that_nobody_saved_is_one_warning(
    app: Flask, change: Action, view: Action, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(app, cart=[], n=0)
    at_teardown(app, change)
    browser.does(view)
    (warning,) = warnings_in(caplog)
    assert "session.save()" in warning
    assert browser.data["cart"] == []


QUIET: dict[str, Action] = {
    "read": lambda: session["cart"],
    "saved": save,
    "equal": lambda: session.update(n=0),
    "forced": lambda: setattr(session, "modified", True),
    "nothing": lambda: None,
}


@pytest.mark.parametrize("act", QUIET.values(), ids=list(QUIET))
def test_what_changes_nothing_or_is_saved_is_none(app: Flask, act: Action, caplog: pytest.LogCaptureFixture) -> None:
    browser = started(app, cart=[], n=0)
    at_teardown(app, act)
    browser.does(lambda: session.get("cart"))
    assert warnings_in(caplog) == []


def test_a_saved_change_is_stored_and_a_later_one_is_not(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    browser = started(app, cart=[])

    def act() -> None:
        save()
        session["later"] = 1

    at_teardown(app, act)
    browser.does()
    assert len(warnings_in(caplog)) == 1
    assert browser.data == {"cart": [], "late": 1}


def test_where_no_session_was_made_an_empty_one_that_stays_empty_is_nothing(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    at_teardown(app, lambda: session.pop("cart", None))
    Browser(app).does()
    assert warnings_in(caplog) == []
    at_teardown(app, write)
    Browser(app).does()
    assert len(warnings_in(caplog)) == 1


def streamed(act: Action) -> Action:
    def body() -> t.Iterator[str]:
        yield "begun"
        act()
        yield "done"

    return lambda: Response(stream_with_context(body()))


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_change_in_a_stream_is_one_warning_too(app: Flask, change: Action, caplog: pytest.LogCaptureFixture) -> None:
    browser = started(app, cart=[], n=0)
    browser.does(streamed(change))
    assert len(warnings_in(caplog)) == 1


def test_a_value_read_before_the_stream_and_changed_in_it_is_one_too(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(app, cart=[])

    def view() -> t.Any:
        cart = session["cart"]
        return streamed(lambda: cart.append("mug"))()

    browser.does(view)
    assert len(warnings_in(caplog)) == 1


def test_a_change_while_the_response_is_closed_is_one_too(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    browser = started(app, cart=[])

    def view() -> Response:
        held, response = session._get_current_object(), Response("")  # type: ignore[attr-defined]
        response.call_on_close(lambda: held.update(late=1))
        return response

    browser.does(view)
    assert len(warnings_in(caplog)) == 1


def test_what_a_store_could_not_keep_was_said_already(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(MemoryStore())
    app = prepared(store, TESTING=False)
    browser = started(app, cart=[])
    store.fail("swap")
    at_teardown(app, lambda: session.get("cart"))
    assert browser.does(write).status_code == 503
    assert warnings_in(caplog) == []


def test_a_file_is_sent_without_a_word(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    browser = started(app, cart=[])
    browser.does(lambda: send_file(io.BytesIO(b"data"), "text/plain"))
    assert warnings_in(caplog) == []
