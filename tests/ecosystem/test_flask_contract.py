"""What Flask expects of any session interface, over every store, with Flask's own test client."""

from __future__ import annotations

import gc
import typing as t
import uuid
import weakref
from datetime import UTC, datetime, timedelta

import flask
import pytest
from flask import Flask, Response
from flask_apps import an_app, clear, route, the_context
from http_support import set_cookies, watch
from markupsafe import Markup
from views import purge, renew
from werkzeug.http import parse_date

import flask_sessionstore
from flask_sessionstore import Session, SessionStore, session
from flask_sessionstore.sessions import source_of
from flask_sessionstore.stores.memory import MemoryStore


def write(permanent: bool = False) -> str:
    session["a"] = 1
    session.permanent = permanent
    return ""


def write_permanent() -> str:
    return write(permanent=True)


def session_at_hand() -> Session:
    """Past the proxy, whose use is an access since Flask 3.1.3; before, the context had the plain attribute."""
    context = the_context()
    return t.cast("Session", context._session if hasattr(context, "_session") else context.session)


@pytest.fixture
def app(store: SessionStore) -> Flask:
    """An application on every store in turn."""
    return an_app(store)


def test_the_package_s_session_is_flask_s() -> None:
    assert flask_sessionstore.session is flask.session


# -- accessed and modified -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "accessed", "modified"),
    [
        (lambda: "", False, False),
        (lambda: str(session.get("a")), True, False),
        (lambda: str("a" in session), True, False),
        (lambda: str(session.update(a=1)), True, True),
        (clear, True, True),
    ],
    ids=["untouched", "get", "in", "write", "clear"],
)
def test_the_session_knows_whether_it_was_accessed_and_modified(
    view: t.Callable[[], str], accessed: bool, modified: bool, app: Flask
) -> None:
    found: list[tuple[bool, bool]] = []

    def note(response: Response) -> Response:
        opened = session_at_hand()
        found.append((opened.accessed, opened.modified))
        return response

    app.after_request(note)
    route(app, "/", view)
    app.test_client().get("/")
    assert found == [(accessed, modified)]


def write_and_save() -> None:
    session["a"] = 2
    session.save()
    assert not session_at_hand().modified  # nothing is left to store


def write_and_reload() -> None:
    session["a"] = 2
    session.reload()


def write_and_forget() -> None:
    session["a"] = 2
    session.modified = False


@pytest.mark.parametrize(
    ("act", "accessed", "modified"),
    [
        (lambda: None, False, False),
        (lambda: session.get("a"), True, False),
        (write, True, True),
        (lambda: session["cart"].append("tea"), True, True),
        (lambda: setattr(session, "permanent", True), True, True),
        (renew, True, True),
        (lambda: session.pop("a"), True, True),
        (clear, True, True),
        (purge, True, True),
        (write_and_save, True, True),
        (write_and_reload, True, False),
        (write_and_forget, True, True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_after_the_response_the_session_still_says_what_the_request_did(
    act: t.Callable[[], object], accessed: bool, modified: bool, app: Flask
) -> None:
    route(app, "/first", lambda: str(session.update(a=1, cart=["cup"])))
    route(app, "/", lambda: str(act()))
    client = app.test_client()
    client.get("/first")
    with client:
        client.get("/")
        opened = session_at_hand()
        assert (opened.accessed, opened.modified) == (accessed, modified)
    with client:
        client.get("/nowhere")
        assert not session_at_hand().modified


def test_what_it_says_after_the_response_is_not_stored_again(store: SessionStore) -> None:
    app = an_app(store)
    route(app, "/", write)
    client = app.test_client()
    calls = watch(store)
    with client:
        first = client.get("/")
        again = Response()
        app.session_interface.save_session(app, session_at_hand(), again)
        assert session_at_hand().modified
    assert calls == ["save"]
    assert again.headers.getlist("Set-Cookie") == first.headers.getlist("Set-Cookie")


def test_an_application_without_references_is_freed_without_the_garbage_collector(store: SessionStore) -> None:
    app = an_app(store)
    route(app, "/", write)
    assert app.test_client().get("/").status_code == 200
    freed = weakref.ref(app)
    gc.collect()  # of what Flask has left of the request itself
    gc.disable()
    try:
        del app
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("view", [str, write, write_permanent, clear])
def test_a_request_s_session_is_freed_without_the_garbage_collector(
    view: t.Callable[[], str], store: SessionStore
) -> None:
    """With all that hangs on it: the request, the response, what the view has read."""
    app, freed = an_app(store), list[str]()

    def watched() -> str:
        source = source_of(session_at_hand())
        weakref.finalize(source, freed.append, "source")
        weakref.finalize(source.draft, freed.append, "draft")
        return view()

    route(app, "/", watched)
    client = app.test_client()
    for _ in range(2):  # whatever is done once is done: connections, scripts
        client.get("/").close()
    gc.disable()
    try:
        freed.clear()
        client.get("/").close()
        assert sorted(freed) == ["draft", "source"]
    finally:
        gc.enable()


def test_asking_whether_it_was_modified_loads_nothing(store: SessionStore) -> None:
    app = an_app(store)
    route(app, "/write", lambda: str(session.update(a=1)))
    route(app, "/ask", lambda: str(session.modified))
    client = app.test_client()
    client.get("/write")
    calls = watch(store)
    assert client.get("/ask").text == "False"
    assert calls == []


# -- Vary ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("touch", "vary"),
    [
        (lambda: session.get("a"), "Cookie"),
        (lambda: session["b"], "Cookie"),
        (lambda: session.setdefault("a", 1), "Cookie"),
        (lambda: session.update(a=1), "Cookie"),
        (clear, "Cookie"),
        (purge, "Cookie"),
        (lambda: len(session), "Cookie"),
        (lambda: bool(session), "Cookie"),
        (lambda: list(session), "Cookie"),
        (lambda: session == {}, "Cookie"),
        (lambda: dict(session.items()), "Cookie"),
        (lambda: None, None),
    ],
)
@pytest.mark.parametrize("others", ["", "Accept-Encoding, Accept-Language", "cookie"])
def test_a_response_that_depends_on_the_session_varies_by_cookie_once(
    others: str, touch: t.Callable[[], object], vary: str | None
) -> None:
    app = an_app(MemoryStore())

    def view() -> Response:
        touch()
        response = Response("")
        response.vary.update(filter(None, others.split(", ")))
        return response

    route(app, "/write", lambda: str(session.update(b=1)))
    route(app, "/", view)
    client = app.test_client()
    client.get("/write")
    headers = client.get("/").headers.getlist("Vary")
    assert len(headers) == (1 if others or vary else 0)
    found = [value.lower() for header in headers for value in header.split(", ")]
    expected = {value.lower() for value in [*others.split(", "), vary or ""] if value}
    assert sorted(found) == sorted(expected)


def test_a_permanent_session_refreshed_on_an_untouched_route_varies(store: SessionStore) -> None:
    app = an_app(store, SESSION_REFRESH_INTERVAL=0)
    route(app, "/write", write_permanent)
    route(app, "/", lambda: "")
    client = app.test_client()
    client.get("/write")
    response = client.get("/")
    assert response.headers["Vary"] == "Cookie"
    assert len(set_cookies(response)) == 1


# -- which requests send the cookie ----------------------------------------------------------------------------------


@pytest.mark.parametrize("permanent", [True, False])
@pytest.mark.parametrize("refresh", [True, False])
def test_only_a_permanent_session_is_sent_again_on_a_read(permanent: bool, refresh: bool, store: SessionStore) -> None:
    if type(store).__name__ == "CookieStore":
        pytest.skip("an extension of a session in a cookie is another cookie")
    app = an_app(store, SESSION_REFRESH_EACH_REQUEST=refresh, SESSION_REFRESH_INTERVAL=0)
    route(app, "/write", lambda: write(permanent))
    route(app, "/read", lambda: str(session["a"]))
    client = app.test_client()
    client.get("/write")
    assert bool(set_cookies(client.get("/read"))) is (permanent and refresh)


def test_a_view_s_own_vary_and_cookies_are_kept(app: Flask) -> None:
    def view() -> Response:
        session["a"] = 1
        response = Response("")
        response.set_cookie("theirs", "x")
        return response

    route(app, "/", view)
    assert [cookie.name for cookie in set_cookies(app.test_client().get("/"))] == ["theirs", "session"]


def test_changes_made_after_the_view_are_stored(app: Flask) -> None:
    def change(response: Response) -> Response:
        session["a"] = session.get("a", 0) + 1
        return response

    app.after_request(change)
    route(app, "/", lambda: str(session.get("a")))
    client = app.test_client()
    assert [client.get("/").text for _ in range(3)] == ["None", "1", "2"]


def test_what_a_failing_view_changed_is_stored(app: Flask) -> None:
    def fail() -> str:
        session["a"] = 1
        raise LookupError

    app.register_error_handler(LookupError, lambda error: "handled")
    route(app, "/fail", fail)
    route(app, "/", lambda: str(session.get("a")))
    client = app.test_client()
    assert client.get("/fail").text == "handled"
    assert client.get("/").text == "1"


# -- expiry ----------------------------------------------------------------------------------------------------------


def test_a_permanent_session_s_cookie_expires_after_the_lifetime(store: SessionStore) -> None:
    app = an_app(store, PERMANENT_SESSION_LIFETIME=timedelta(days=3))
    route(app, "/<int:permanent>", lambda permanent: write(bool(permanent)))
    before = datetime.now(UTC).replace(microsecond=0)
    cookie = set_cookies(app.test_client().get("/1"))[0]
    expires = parse_date(cookie.attributes["expires"])
    assert expires is not None
    assert before <= expires - timedelta(days=3) <= datetime.now(UTC)
    assert cookie.attributes["max-age"] == str(3 * 86400)
    assert not {"expires", "max-age"} & set(set_cookies(app.test_client().get("/0"))[0].attributes)


def test_permanent_is_remembered(app: Flask) -> None:
    route(app, "/write", write_permanent)
    route(app, "/", lambda: f"{session.permanent} {session.get('a')} {session.permanent} {dict(session)}")
    client = app.test_client()
    client.get("/write")
    assert client.get("/").text == "True 1 True {'a': 1}"


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_without_a_secret_reads_work_and_writes_say_why(store: SessionStore) -> None:
    app = an_app(store, SECRET_KEY=None)
    calls = watch(store)

    def write() -> str:
        assert session.get("a") is None
        for action in (
            lambda: session.__setitem__("a", 1),
            clear,
            lambda: session.pop("a", None),
            lambda: session.setdefault("a", 1),
            lambda: session.update(a=1),
        ):
            with pytest.raises(RuntimeError, match="session is unavailable"):
                action()
        return "done"

    route(app, "/", write)
    response = app.test_client().get("/")
    assert response.text == "done"
    assert "Set-Cookie" not in response.headers
    assert calls == []


def test_a_secret_set_after_init_app_is_the_one_in_use(store: SessionStore) -> None:
    app = an_app(store, SECRET_KEY=None)
    app.secret_key = b"late"
    route(app, "/", lambda: str(session.setdefault("a", 1)))
    assert set_cookies(app.test_client().get("/"))


def test_former_secrets_still_open_sessions(store: SessionStore) -> None:
    def counter(**config: object) -> Flask:
        app = an_app(store, **config)
        route(app, "/", lambda: (session.update(n=session.get("n", 0) + 1), str(session["n"]))[1])
        return app

    def visit(app: Flask, cookie: str | None) -> tuple[str, str]:
        client = app.test_client()
        if cookie:
            client.set_cookie("session", cookie)
        text = client.get("/").text
        kept = client.get_cookie("session")
        assert kept is not None
        return text, kept.value

    _, old = visit(counter(SECRET_KEY="old"), None)
    both = counter(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"])
    text, new = visit(both, old)
    assert text == "2"
    assert visit(counter(SECRET_KEY="new"), new)[0] == "3"
    assert visit(counter(SECRET_KEY="new"), old)[0] == "1"


# -- types -----------------------------------------------------------------------------------------------------------


def test_the_types_that_flask_s_session_keeps_are_kept(app: Flask) -> None:
    values = {
        "tuple": (1, 2, (3,)),
        "bytes": b"\xff",
        "markup": Markup("<b>hi</b>"),
        "uuid": uuid.uuid4(),
        "datetime": datetime.now(UTC).replace(microsecond=0),
        "list": [1, {"a": [Markup("x")]}],
        "looks like a tag": {" t": "not-a-tuple"},
        "looks like two tags": {" t__": ["a"], " b": "x", "di": {" di": " di"}},
        " t": "a key that looks like a tag",
    }
    found: list[dict[str, t.Any]] = []

    def keep(data: dict[str, t.Any]) -> str:
        found.append(data)
        return ""

    route(app, "/write", lambda: str(session.update(values)))
    route(app, "/read", lambda: keep(dict(session)))
    client = app.test_client()
    client.get("/write")
    client.get("/read")
    assert found == [values]
    assert {key: type(value) for key, value in found[0].items()} == {k: type(v) for k, v in values.items()}
