"""What is logged, printed, shown or sent holds no session key, no secret, no password of a URL and no value."""

from __future__ import annotations

import io
import logging
import traceback
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy
from attacks import PROTECTIONS, identity, peek, steps, target
from blinker import Signal
from flask import Flask
from http_support import Browser, make_app, started
from sqlalchemy.exc import StatementError
from views import clear, purge, renew
from werkzeug.debug import DebuggedApplication
from werkzeug.test import Client

from flask_sessionstore import (
    ConfigurationError,
    Session,
    SessionError,
    SessionGetError,
    SessionInsertError,
    SessionKey,
    SessionManager,
    SessionStore,
    StoreUnavailable,
    codec,
    session,
    signals,
)
from flask_sessionstore.lifecycle import Lifecycle
from flask_sessionstore.record import Record, SessionInfo
from flask_sessionstore.sessions import source_of
from flask_sessionstore.stores import ServerSideStore, from_url
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.stores.sqlalchemy.store import _change
from flask_sessionstore.testing import Clock
from flask_sessionstore.tokens import Token

# In two parts, so that no line of source that a traceback shows holds them whole.
SECRET, FORMER, PASSWORD, VALUE = (f"marker-{word}" for word in ("secret", "former", "password", "value"))
#: Nobody listens there.
DEAD_REDIS = f"redis://somebody:{PASSWORD}@127.0.0.1:1/0"

each = pytest.mark.parametrize


class Output:
    """All that a scenario logged, and all that it showed."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.secrets = [SECRET, FORMER, PASSWORD, VALUE]

    def show(self, *things: object) -> None:
        for thing in things:
            self.parts += [f"{thing!r}", f"{thing!s}"]

    def show_error(self, error: BaseException) -> None:
        """As a log has it: with the traceback of all its causes, without the frames' variables."""
        self.parts += traceback.format_exception(error)
        self.show(error, error.args, getattr(error, "description", None))

    def keep_secret(self, browser: Browser) -> None:
        """The cookie that a browser holds, and the session key in it."""
        for cookie in browser.cookies:
            self.secrets += [cookie, *(part for part in cookie.split(".") if len(part) >= 40)]

    def check(self) -> None:
        whole = "\n".join(self.parts)
        assert [secret for secret in self.secrets if secret in whole] == []


@pytest.fixture
def output() -> t.Iterator[Output]:
    """What was shown; what was logged at every level, formatted as applications do; and what signals carried."""
    output, stream = Output(), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root, sent = logging.getLogger(), [signal for signal in vars(signals).values() if isinstance(signal, Signal)]

    def note(sender: object, **arguments: object) -> None:
        output.show(sender, *arguments.items())

    for signal in sent:
        signal.connect(note)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield output
    for signal in sent:
        signal.disconnect(note)
    root.removeHandler(handler)
    root.setLevel(level)
    output.parts.append(stream.getvalue())
    output.check()


def lifecycle() -> Lifecycle:
    """That of the session at hand."""
    return t.cast("Lifecycle", source_of(t.cast("t.Any", session)._get_current_object()))


def life(app: Flask, clock: Clock, output: Output) -> None:
    """A session from its first write to its last, with everything that goes wrong on the way."""
    user = Browser(app)
    for action in (
        lambda: session.update(_user_id="ann", letter=VALUE, nested=[VALUE]),
        lambda: session["nested"].append(VALUE),
        lambda: output.show(session, session.entries().keys(), session.handle, session.status),
        renew,
        lambda: output.show(vars(session).keys(), lifecycle(), lifecycle().draft, lifecycle().draft.base),
        lambda: output.show(lifecycle().draft.changes, lifecycle().outcome, lifecycle().visitor),
        lambda: output.show(app.session_interface, app.extensions),
        lambda: check_errors(output),
    ):
        user.does(action)
        output.keep_secret(user)
    latecomer = user.twin()
    user.does(renew)
    latecomer.does(lambda: session.update(letter=VALUE))  # too late: dropped, with a warning
    output.keep_secret(user)
    thief, other = user.twin(), started(app, letter=VALUE)
    output.keep_secret(other)
    user.does(clear)
    thief.does(lambda: session.update(letter=VALUE))
    output.keep_secret(thief)
    Browser(app, *thief.cookies, *other.cookies).does(lambda: session.update(letter=VALUE))
    Browser(app, t.cast("str", other.cookie)[:-2]).does(lambda: session.get("letter"))
    for _ in range(2):
        other.does(steps(purge, lambda: session.update(letter=VALUE)))
    clock.advance(10**8)
    thief.does()


def check_errors(output: Output) -> None:
    for wrong in (
        lambda: session.get_as("letter", int),
        lambda: session.remove_as("nested", dict[str, int]),
        lambda: session.insert("stranger", {VALUE[:3]: [Stranger()]}),
        lambda: session.update_or("letter", "", lambda old: Stranger()),
        lambda: session.update_or("letter", "", lambda old: old, type=int),
        lambda: setattr(session, "deadline", VALUE),
        lambda: session.insert("_user_id", [VALUE]),
    ):
        with pytest.raises(SessionError) as caught:
            wrong()
        output.show_error(caught.value)


class Stranger:
    """What no session can keep."""

    def __repr__(self) -> str:
        return VALUE


def test_a_session_s_life_tells_nothing(store: SessionStore, clock: Clock, output: Output) -> None:
    app = target(store, clock, SECRET_KEY=SECRET, SECRET_KEY_FALLBACKS=[FORMER], TESTING=False)
    life(app, clock, output)
    output.show(store, app.extensions["sessionstore"], app.session_interface)


@each("protection", PROTECTIONS)
def test_nor_does_its_token(protection: str, clock: Clock, output: Output) -> None:
    for url in ("memory:", "cookie:"):
        app = target(from_url(url), clock, SECRET_KEY=SECRET, TESTING=False, SESSION_COOKIE_CONTENT_SECURITY=protection)
        life(app, clock, output)


def test_what_a_library_says_when_the_store_is_down_tells_nothing(output: Output, clock: Clock) -> None:
    app = make_app(DEAD_REDIS, SECRET_KEY=SECRET, TESTING=False)
    alive = started(make_app(from_url("memory:"), SECRET_KEY=SECRET), letter=VALUE)
    output.keep_secret(alive)
    for action in (lambda: session.get("letter"), lambda: session.update(letter=VALUE), purge):
        response = Browser(app, *alive.cookies).does(action)
        assert response.status_code == 503
        output.show(response.text, response.headers)
    app.config["TRAP_HTTP_EXCEPTIONS"] = app.testing = True
    with pytest.raises(StoreUnavailable) as caught:
        Browser(app, *alive.cookies).does(lambda: session.get("letter"))
    output.show_error(caught.value)
    output.show(app.session_interface.store)  # type: ignore[attr-defined]


def test_nor_does_what_sqlalchemy_refuses_before_any_database_is_asked(output: Output, tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/sessions.db")
    store: t.Any = SQLAlchemyStore(engine)
    with pytest.raises(StoreUnavailable) as caught:
        store._run(_change, store._swap, {"bytes": VALUE.encode()})  # without the other parameters
    engine.dispose()
    assert isinstance(caught.value.__cause__, StatementError)
    output.show_error(caught.value)
    output.show(caught.value.__cause__)


def test_a_damaged_record_is_reported_and_not_quoted(
    server_store: ServerSideStore, clock: Clock, output: Output
) -> None:
    app = target(server_store, clock, SECRET_KEY=SECRET, TESTING=False)
    user = started(app, n=1)
    output.keep_secret(user)
    handle = user.asks(lambda: session.handle)
    for data in (VALUE.encode(), b"\x01\x00" + VALUE.encode() * 20):
        server_store.drop(handle)
        server_store.add(handle, data, timedelta(hours=1))
        assert peek(app, f"session={user.cookie}") == {}
        with pytest.raises(SessionError) as caught:
            server_store.load(SessionKey.of(handle))
        output.show_error(caught.value)


@each(
    "url",
    [
        f"redis://somebody:{PASSWORD}@",
        f"redis://somebody:{PASSWORD}@localhost:no-port/0",
        f"redis+sentinel://:{PASSWORD}@localhost/",
        f"postgresql+nothing://somebody:{PASSWORD}@localhost/sessions",
        f"pgsql://somebody:{PASSWORD}@localhost/sessions",
        f"somebody:{PASSWORD}@localhost/sessions",
        f"redis://localhost/{PASSWORD}",
        f"mysql://somebody:{PASSWORD}@[::1/sessions",
        f"memcached://somebody:{PASSWORD}@localhost",
        f"mongodb://somebody:{PASSWORD}:{PASSWORD}@local host/",
        f"nothing://somebody:{PASSWORD}@localhost",
        f"file://somebody:{PASSWORD}@host/sessions",
        f"memory:{PASSWORD}",
        f"{PASSWORD}",
    ],
    ids=lambda url: url.partition(":")[0][:20],
)
def test_a_url_that_cannot_work_is_not_quoted(url: str, output: Output) -> None:
    with pytest.raises((SessionError, ValueError)) as caught:
        make_app(url, SECRET_KEY=SECRET)
    assert isinstance(caught.value, ConfigurationError)
    output.show_error(caught.value)


def test_a_setting_that_cannot_work_is_not_quoted(output: Output) -> None:
    for config in (
        {"SECRET_KEY_FALLBACKS": FORMER},
        {"SECRET_KEY_FALLBACKS": [FORMER, ""]},
        {"SESSION_STORE": {"url": PASSWORD}},
        {"SESSION_STORE_OPTIONS": PASSWORD},
        {"SESSION_STORE_OPTIONS": {"password": PASSWORD}},
        {"SESSION_KEY_PREFIX": [PASSWORD]},
        {"SESSION_ABSOLUTE_LIFETIME": PASSWORD},
        {"SESSION_COOKIE_CONTENT_SECURITY": PASSWORD},
        {"SESSION_OWNER_KEY": [PASSWORD]},
        {"SESSION_REDIS": PASSWORD},
    ):
        with pytest.raises(ConfigurationError) as caught:
            make_app(t.cast("dict[str, object]", config).pop("SESSION_STORE", "memory:"), SECRET_KEY=SECRET, **config)
        output.show_error(caught.value)


def test_the_parts_tell_nothing_about_themselves(clock: Clock, output: Output) -> None:
    key = SessionKey.generate()
    output.secrets.append(str(key))
    record = Record(state={"letter": VALUE.encode()}, owner="ann")
    output.show(
        [key],  # str() of one alone is the secret: that is what it is for
        Token(key=key, issued=1, lifetime=1, permanent=True, seen=b"seen", mark=7),
        record,
        Session({"letter": VALUE}),
        SessionInfo.of(key.handle, record),
        SessionGetError("no", value=VALUE),
        SessionInsertError("no", path="letter"),
        SessionManager(),
    )


# -- flask sessions ------------------------------------------------------------------------------------------------

COMMANDS = (["list"], ["list", "--owner", "ann"], ["stats"], ["check"], ["cleanup"], ["show"], ["revoke"])


def run_commands(app: Flask, handle: str, output: Output) -> None:
    for args in COMMANDS:
        for json in ([], ["--json"]):
            named = [handle] if args in (["show"], ["revoke"]) else []
            result = app.test_cli_runner().invoke(args=["sessions", *args, *named, *json])
            output.show(result.output)
            assert result.exception is None or isinstance(result.exception, SystemExit)


@each("seal", [False, True])
def test_the_commands_show_none_either(seal: bool, clock: Clock, output: Output) -> None:
    config = {"SESSION_RECORD_CLIENT": True, "SESSION_SEAL": seal, "SECRET_KEY_FALLBACKS": [FORMER]}
    app = target(from_url("memory:"), clock, SECRET_KEY=SECRET, **config)
    user = started(app, _user_id="ann", letter=VALUE)
    output.keep_secret(user)
    handle = user.asks(lambda: session.handle)
    run_commands(app, handle, output)
    assert handle in "".join(output.parts)


def test_nor_do_they_where_the_store_is_down(output: Output) -> None:
    app = make_app(DEAD_REDIS, SECRET_KEY=SECRET)
    run_commands(app, SessionKey.generate().handle, output)


def test_a_session_key_that_was_given_for_a_handle_is_not_repeated(clock: Clock, output: Output) -> None:
    app = target(from_url("memory:"), clock, SECRET_KEY=SECRET)
    user = started(app, letter=VALUE)
    output.keep_secret(user)
    run_commands(app, t.cast("str", user.key), output)
    run_commands(app, t.cast("str", user.cookie), output)
    assert user.data


# -- Flask's debugger ----------------------------------------------------------------------------------------------


def debugger_page(app: Flask, browser: Browser, action: t.Callable[[], object]) -> str:
    """What Werkzeug's debugger shows of the exception that ``action`` ends in."""
    app.debug, app.testing = True, False
    client = Client(DebuggedApplication(app, evalex=True), use_cookies=False)
    header = "; ".join(f"session={cookie}" for cookie in browser.cookies)
    response = client.get("/", environ_overrides={"HTTP_COOKIE": header, "tests.action": action})
    assert response.status_code == 500
    assert "Traceback" in response.text
    return response.text


@each("protection", PROTECTIONS)
def test_flask_s_debugger_shows_source_and_no_secrets(protection: str, output: Output, clock: Clock) -> None:
    app = target(
        from_url("memory:"), clock, SECRET_KEY=SECRET, SESSION_MAX_SIZE=500, SESSION_COOKIE_CONTENT_SECURITY=protection
    )
    for action in (
        lambda: session.get_as("letter", int),
        lambda: session.insert("stranger", Stranger()),
        lambda: session["letters"].append(Stranger()),  # found at the end of the request, in our own code
        lambda: session.update(long=VALUE * 100),
        lambda: session["no such key"],
    ):
        user = started(app, letter=VALUE, letters=[VALUE])
        output.keep_secret(user)
        output.parts.append(debugger_page(app, user, action))
        app.debug, app.testing = False, True
        assert user.data["letter"] == VALUE


def test_flask_s_debugger_shows_no_password_of_a_store_that_is_down(output: Output) -> None:
    app = make_app(DEAD_REDIS, SECRET_KEY=SECRET)
    user = started(make_app(from_url("memory:"), SECRET_KEY=SECRET), letter=VALUE)
    output.keep_secret(user)
    for action in (lambda: session.get("letter"), purge):
        app.debug, app.testing = True, False
        header = f"session={user.cookie}"
        client = Client(DebuggedApplication(app, evalex=True), use_cookies=False)
        response = client.get("/", environ_overrides={"HTTP_COOKIE": header, "tests.action": action})
        assert response.status_code in (500, 503)
        output.show(response.text)


def test_a_response_sends_the_key_in_its_cookie_alone(store: SessionStore, clock: Clock) -> None:
    app = target(store, clock, SECRET_KEY=SECRET)
    browser = Browser(app)
    response = browser.does(lambda: (session.update(_user_id="ann"), repr(session))[1])
    rest = [f"{name}: {value}" for name, value in response.headers if name != "Set-Cookie"]
    key = t.cast("str", browser.cookie).partition(".")[0]
    assert key not in "\n".join([*rest, response.text])
    assert identity(browser)


# -- stores and their clients --------------------------------------------------------------------------------------

URLS = [
    "redis://somebody:{}@host.invalid/0",
    "rediss://:{}@host.invalid/0",
    "redis+sentinel://somebody:{}@host.invalid/main",
    "redis+cluster://somebody:{}@host.invalid",
    "postgresql://somebody:{}@host.invalid/shop",
    "mysql://somebody:{}@host.invalid/shop",
    "mongodb://somebody:{}@host.invalid/shop",
    "memcached://host.invalid",
    "file:sessions",
    "memory:",
    "cookie:",
]


def parts_of(thing: object, depth: int = 4) -> t.Iterator[object]:
    """A store, and what it holds: clients, engines, pools, servers."""
    yield thing
    for part in vars(thing).values() if depth and hasattr(thing, "__dict__") else ():
        if not isinstance(part, (dict, list, tuple, str, bytes)):
            yield from parts_of(part, depth - 1)


@each("url", URLS)
def test_no_store_and_no_client_shows_its_password(url: str) -> None:
    store = from_url(url.format(PASSWORD))
    for part in parts_of(store):
        assert PASSWORD not in f"{part!r}{part!s}"
    pair = from_url("memory:"), store
    assert PASSWORD not in f"{pair!r}{Flask('shop').config!r}"


@each(("level", "shows_values"), [(logging.INFO, False), (logging.DEBUG, True)])
def test_sqlalchemy_s_own_log_shows_rows_at_debug_and_never_a_key(
    level: int, shows_values: bool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Its documentation says so. (What a store made from a URL sends in a request is not in that log at all.)"""
    caplog.set_level(level, "sqlalchemy")
    url = f"sqlite:///{tmp_path}/sessions.db"
    engine = sqlalchemy.create_engine(url, hide_parameters=True)
    for store, is_in_log in ((from_url(url), False), (SQLAlchemyStore(engine), True)):
        key = store.save(Record(state={"note": codec.encode(VALUE, "note")}), timedelta(1))
        assert store.load(key)
        assert ("INSERT" in caplog.text) is is_in_log
        assert (VALUE in caplog.text) is (is_in_log and shows_values)
        assert str(key) not in caplog.text
    engine.dispose()
