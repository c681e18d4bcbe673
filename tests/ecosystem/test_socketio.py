"""Flask-SocketIO: events come with the cookie that opened the socket, and no cookie can be sent in answer."""

from __future__ import annotations

import typing as t

import flask_login
import pytest
from every_store import lists_of
from flask import Flask, request
from flask.testing import FlaskClient
from http_support import serving, warnings_in
from views import clear, purge, remove_all, renew, save

from flask_sessionstore import SessionError, SessionManager, SessionStore, StoreUnavailable, session, signals
from flask_sessionstore.interface import StoreSessionInterface
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore

flask_socketio = pytest.importorskip("flask_socketio")
socketio = pytest.importorskip("socketio")

Do = t.Callable[[], object]


class User(flask_login.UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


class Chat:
    """An application with Flask-Login and Flask-SocketIO, whose one event does what the test hands in."""

    def __init__(self, store: SessionStore, *, manage_session: bool = False, **options: t.Any) -> None:
        self.app = app = Flask("chat")
        app.config.update(SECRET_KEY="a secret", SESSION_STORE=store, TESTING=True)
        self.sessions = SessionManager(app, **options)
        flask_login.LoginManager(app).user_loader(User)
        app.add_url_rule("/buy/<item>", "buy", lambda item: session.setdefault("cart", []).append(item) or "")
        app.add_url_rule("/login", "login", lambda: str(flask_login.login_user(User("ann"))))
        app.add_url_rule("/show", "show", lambda: dict(session))
        # A client that polls leaves when its last question is answered: at the next ping, which by itself takes 25 s.
        self.socketio = flask_socketio.SocketIO(
            app, manage_session=manage_session, async_mode="threading", ping_interval=1
        )
        app.add_url_rule("/do", "do", lambda: str(self.view()))
        self.socketio.on_event("do", self._do)
        #: What the view and the handler do.
        self.view: Do = lambda: None
        self.step: Do = lambda: None

    def _do(self) -> object:
        return self.step()

    def visitor(self, *, signed_in: bool = False) -> Visitor:
        """Somebody with a cart."""
        browser = self.app.test_client()
        browser.get("/buy/mug")
        if signed_in:
            browser.get("/login")
        return Visitor(self, browser)

    def handles(self) -> set[str]:
        """Everything in the store that lives."""
        store = t.cast("MemoryStore", self.app.session_interface.store)  # type: ignore[attr-defined]
        return {entry.handle for entry in store.scan() if store.info(entry.handle) is not None}


class Visitor:
    """A browser, and the socket that it has opened."""

    def __init__(self, chat: Chat, browser: FlaskClient) -> None:
        self.chat, self.browser = chat, browser
        self.socket = chat.socketio.test_client(chat.app, flask_test_client=browser)

    def sends(self, *steps: Do) -> object:
        """One event, whose handler takes these steps; the result is that of the last."""
        answers: list[object] = []
        self.chat.step = lambda: answers.extend(do() for do in steps)
        self.socket.emit("do")
        return answers[-1]

    @property
    def data(self) -> dict[str, t.Any]:
        """What the browser's session holds, without what Flask-Login keeps there."""
        return {name: value for name, value in self._shown().items() if not name.startswith("_")}

    @property
    def user(self) -> object:
        return self._shown().get("_user_id")

    def _shown(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.browser.get("/show").json)

    @property
    def cookie(self) -> str | None:
        cookie = self.browser.get_cookie("session")
        return None if cookie is None else cookie.value


@pytest.fixture
def chat(server_store: ServerSideStore) -> Chat:
    return Chat(server_store)


def write() -> None:
    session["message"] = "hello"


def log_in() -> None:
    flask_login.login_user(User("ann"))


def log_in_as_bob() -> None:
    flask_login.login_user(User("bob"))


def log_out() -> None:
    flask_login.logout_user()


# -- what an event may do --------------------------------------------------------------------------------------------


def test_events_and_requests_share_one_session(chat: Chat) -> None:
    visitor = chat.visitor()
    visitor.sends(write)
    visitor.browser.get("/buy/cup")
    assert visitor.data == {"cart": ["mug", "cup"], "message": "hello"}
    assert visitor.sends(lambda: session["cart"]) == ["mug", "cup"]


def test_a_change_within_a_value_is_noticed(chat: Chat) -> None:
    visitor = chat.visitor()
    visitor.sends(lambda: session["cart"].append("cup"))
    assert visitor.data == {"cart": ["mug", "cup"]}


def test_an_event_that_lasts_reads_anew(chat: Chat) -> None:
    visitor = chat.visitor()

    def last() -> tuple[list[str], list[str]]:
        before = session["cart"][:]
        visitor.browser.get("/buy/cup")
        session.reload()
        return before, session["cart"]

    assert visitor.sends(last) == (["mug"], ["mug", "cup"])


@pytest.mark.parametrize("end", [clear, purge])
def test_an_event_may_end_the_session(end: Do, chat: Chat) -> None:
    visitor = chat.visitor(signed_in=True)
    visitor.sends(end)
    assert (visitor.user, visitor.data) == (None, {})


# -- signing in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explicitly", [False, True])
@pytest.mark.parametrize("own", [log_in, renew, (clear, write), (clear, log_in)])
def test_what_needs_a_new_key_is_refused_and_stores_nothing(
    own: t.Any, explicitly: bool, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = chat.visitor()
    steps = [*(own if isinstance(own, tuple) else [own, write]), *([save] if explicitly else [])]
    with pytest.raises(SessionError, match="no cookie can be sent"):
        visitor.sends(*steps)
    assert (visitor.user, visitor.data) == (None, {"cart": ["mug"]})
    assert warnings_in(caplog) == []


def test_a_sign_in_of_another_user_leaves_the_first_signed_in(chat: Chat) -> None:
    visitor = chat.visitor(signed_in=True)
    with pytest.raises(SessionError):
        visitor.sends(log_in_as_bob)
    assert (visitor.user, visitor.data) == ("ann", {"cart": ["mug"]})


def test_a_sign_in_without_a_session_is_refused_too() -> None:
    chat = Chat(MemoryStore())
    nobody = Visitor(chat, chat.app.test_client())
    with pytest.raises(SessionError):
        nobody.sends(log_in)
    assert chat.handles() == set()


def test_a_sign_in_that_was_refused_can_be_taken_back() -> None:
    visitor = Chat(MemoryStore()).visitor()

    def try_in_vain() -> str:
        log_in()
        with pytest.raises(SessionError):
            session.save()
        session.reload()
        write()
        return "went on"

    assert visitor.sends(try_in_vain) == "went on"
    assert (visitor.user, visitor.data) == (None, {"cart": ["mug"], "message": "hello"})


# -- signing out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [[log_out], [log_out, write], [log_out, save]])
def test_a_sign_out_takes_the_owner_out_under_the_same_key(steps: list[Do], chat: Chat) -> None:
    visitor = chat.visitor(signed_in=True)
    before = visitor.cookie
    handle = visitor.sends(lambda: session.handle)
    visitor.sends(*steps)
    assert visitor.user is None
    assert visitor.data["cart"] == ["mug"]
    assert (visitor.cookie, visitor.sends(lambda: session.handle)) == (before, handle)


def test_who_was_signed_out_is_not_listed_any_more(index: ServerSideStore) -> None:
    chat = Chat(index)
    visitor = chat.visitor(signed_in=True)
    visitor.sends(log_out)
    with chat.app.app_context():
        assert chat.sessions.find("ann") == []
        assert chat.sessions.revoke_all("ann") == 0
    assert visitor.data == {"cart": ["mug"]}
    assert lists_of(index).entries("ann") == []


def test_a_sign_out_that_leaves_nothing_ends_the_session(chat: Chat) -> None:
    visitor = chat.visitor(signed_in=True)
    visitor.sends(lambda: session.pop("cart"))
    visitor.sends(log_out)
    assert visitor.data == {}
    assert visitor.sends(lambda: session.handle) is None


def test_who_was_signed_out_can_sign_in_again_over_http(chat: Chat) -> None:
    visitor = chat.visitor(signed_in=True)
    visitor.sends(log_out)
    before = visitor.cookie
    visitor.browser.get("/login")
    assert (visitor.user, visitor.data) == ("ann", {"cart": ["mug"]})
    assert visitor.cookie != before


def test_what_a_request_in_flight_writes_for_the_user_is_not_nobodys(chat: Chat) -> None:
    """The sign-out leaves no tombstone: the request meets the session under its key, without the owner."""
    visitor = chat.visitor(signed_in=True)
    chat.view = lambda: (session.update(secret="ann's"), visitor.sends(log_out))
    visitor.browser.get("/do")
    assert (visitor.user, visitor.data) == (None, {"cart": ["mug"]})


def test_a_clear_in_flight_ends_what_an_event_has_signed_out(chat: Chat) -> None:
    visitor = chat.visitor(signed_in=True)

    def view() -> None:
        session.clear()
        visitor.sends(log_out)

    chat.view = view
    visitor.browser.get("/do")
    assert visitor.cookie is None
    assert visitor.sends(lambda: dict(session)) == {}


# -- what would make a new session -----------------------------------------------------------------------------------


def test_a_socket_without_a_session_makes_none_that_nobody_can_reach(caplog: pytest.LogCaptureFixture) -> None:
    chat = Chat(MemoryStore())
    nobody = Visitor(chat, chat.app.test_client())
    heard: list[object] = []
    signals.session_write_dropped.connect(lambda sender, **known: heard.append(known), chat.app, weak=False)
    for _ in range(3):
        nobody.sends(write)
    assert chat.handles() == set()
    assert ["no cookie" in warning for warning in warnings_in(caplog)] == [True] * 3  # one for each event
    assert heard == [{"handle": None, "reason": "no cookie"}] * 3


def test_save_tells_that_no_session_can_be_made(caplog: pytest.LogCaptureFixture) -> None:
    chat = Chat(MemoryStore())
    nobody = Visitor(chat, chat.app.test_client())
    with pytest.raises(SessionError, match="no cookie can be sent"):
        nobody.sends(write, save)
    assert warnings_in(caplog) == []
    assert chat.handles() == set()


def test_an_event_that_goes_on_after_a_vain_save_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    chat = Chat(MemoryStore())
    nobody = Visitor(chat, chat.app.test_client())

    def save_in_vain() -> None:
        for _ in range(2):
            with pytest.raises(SessionError):
                session.save()

    nobody.sends(write, save_in_vain, write)
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("own", [write, lambda: setattr(session, "permanent", True), remove_all])
def test_a_socket_that_was_opened_before_the_log_in_has_the_old_key(
    own: Do, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = chat.visitor()
    visitor.browser.get("/login")
    visitor.sends(own)
    assert (visitor.user, visitor.data) == ("ann", {"cart": ["mug"]})
    assert len(warnings_in(caplog)) == (own is write)
    visitor.socket.disconnect()
    again = Visitor(chat, visitor.browser)
    again.sends(write)
    assert again.data == {"cart": ["mug"], "message": "hello"}


def test_what_was_emptied_during_the_event_is_not_made_again(chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    visitor = chat.visitor()
    chat.view = lambda: session.pop("cart")
    visitor.sends(write, lambda: visitor.browser.get("/do"))
    assert visitor.data == {}
    assert len(warnings_in(caplog)) == 1


def test_a_session_kept_elsewhere_is_not_imported_by_an_event(caplog: pytest.LogCaptureFixture) -> None:
    """To read what is there is no sign-in, though it has an owner."""
    chat = Chat(MemoryStore(), import_session=lambda app, request: {"_user_id": "ann", "cart": ["old"]})
    visitor = Visitor(chat, chat.app.test_client())
    assert visitor.sends(lambda: session["cart"]) == ["old"]
    assert chat.handles() == set()
    assert len(warnings_in(caplog)) == 1
    with pytest.raises(SessionError):
        visitor.sends(log_in_as_bob)
    assert (visitor.user, visitor.data) == ("ann", {"cart": ["old"]})  # over HTTP it is


# -- other settings --------------------------------------------------------------------------------------------------


def test_with_sessions_managed_by_flask_socketio_events_have_a_copy_and_nothing_is_saved(
    server_store: ServerSideStore,
) -> None:
    chat = Chat(server_store, manage_session=True)
    visitor = chat.visitor()
    visitor.sends(write)
    assert visitor.sends(lambda: dict(session)) == {"cart": ["mug"], "message": "hello"}
    visitor.browser.get("/buy/cup")
    assert visitor.sends(lambda: session["cart"]) == ["mug"]
    visitor.sends(log_in)
    assert visitor.sends(lambda: flask_login.current_user.id) == "ann"
    assert (visitor.user, visitor.data) == (None, {"cart": ["mug", "cup"]})


def test_what_is_in_a_cookie_can_only_be_read(caplog: pytest.LogCaptureFixture) -> None:
    visitor = Chat(CookieStore()).visitor(signed_in=True)
    assert visitor.sends(lambda: session["cart"]) == ["mug"]
    visitor.sends(write)
    assert visitor.sends(write, lambda: session["message"]) == "hello"
    assert len(warnings_in(caplog)) == 2
    assert visitor.data == {"cart": ["mug"]}


@pytest.mark.parametrize("steps", [[log_in_as_bob], [log_out], [clear], [purge], [renew], [write, save]])
def test_what_only_a_cookie_could_end_or_change_is_an_error(steps: list[Do]) -> None:
    visitor = Chat(CookieStore()).visitor(signed_in=True)
    with pytest.raises(SessionError, match="no cookie can be sent"):
        visitor.sends(*steps)
    assert (visitor.user, visitor.data) == ("ann", {"cart": ["mug"]})


@pytest.mark.parametrize("propagates", [True, False])
def test_an_event_whose_write_the_store_refused_is_not_acknowledged(propagates: bool) -> None:
    """Nobody would see the 503."""
    store = FaultyStore(MemoryStore())
    chat = Chat(store)
    chat.app.config["PROPAGATE_EXCEPTIONS"] = propagates
    visitor = chat.visitor()
    store.fail("swap")
    with pytest.raises(StoreUnavailable):
        visitor.sends(write)


class Quiet(StoreSessionInterface):
    """Sends no cookie with what everybody shares."""

    def can_send(self, request: t.Any, response: t.Any) -> bool:
        return super().can_send(request, response) and not request.path.startswith("/shared")


class QuietManager(SessionManager):
    interface_class = Quiet


def test_an_interface_of_ones_own_says_where_no_cookie_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("quiet")
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:", TESTING=True, SESSION_REFRESH_INTERVAL=0)
    QuietManager(app)

    @app.get("/<path:path>")
    def count(path: str) -> str:
        session.update_or("n", 1, lambda n: n + 1)
        return path

    browser = app.test_client()
    assert "Set-Cookie" not in browser.get("/shared/new").headers
    assert len(warnings_in(caplog)) == 1
    assert "Set-Cookie" in browser.get("/own").headers
    assert "Set-Cookie" not in browser.get("/shared/known").headers
    with browser.session_transaction() as kept:
        assert kept["n"] == 2


# -- a real server, a real client ------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_over_a_real_connection(transport: str) -> None:
    chat = Chat(MemoryStore())
    browser = chat.app.test_client()
    browser.get("/login")
    cookie = browser.get_cookie("session")
    assert cookie is not None
    seen: list[object] = []
    socket = socketio.Client(reconnection=False)
    with serving(chat.app) as (host, port):
        headers = {"Cookie": f"session={cookie.value}"}
        socket.connect(f"http://{host}:{port}", headers=headers, transports=[transport], wait_timeout=30)
        try:
            for step in (lambda: seen.append(request.args["transport"]), write, log_out):
                chat.step = step
                socket.call("do", timeout=30)
                seen.append(browser.get("/show").json)
        finally:
            socket.disconnect()
    signed_in, with_message, signed_out = t.cast("list[dict[str, t.Any]]", seen[1:])
    assert seen[0] == transport
    assert (signed_in["_user_id"], with_message["message"]) == ("ann", "hello")
    assert signed_out == {"message": "hello"}
