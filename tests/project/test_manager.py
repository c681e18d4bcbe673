"""SessionManager: how an application gets its store, and its sessions."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from datetime import timedelta
from pathlib import Path

import flask
import pytest
from flask import Flask, Request, current_app
from flask.sessions import NullSession, SecureCookieSessionInterface

import flask_sessionstore
from flask_sessionstore import (
    ConfigurationError,
    Record,
    Session,
    SessionKey,
    SessionManager,
    SessionStore,
    StoreSessionInterface,
    session,
)
from flask_sessionstore.manager import StoreSetting
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore


def make_app(**settings: object) -> Flask:
    app = Flask("shop")
    app.config.update(SECRET_KEY="secret", TESTING=True)
    app.config.update(settings)

    @app.get("/count")
    def count() -> str:
        session.update_or("n", 1, lambda n: n + 1)
        return str(session["n"])

    @app.get("/peek")
    def peek() -> str:
        return str(session.get("n"))

    return app


def store_of(app: Flask) -> SessionStore:
    interface = app.session_interface
    assert isinstance(interface, StoreSessionInterface)
    return interface.store


# -- setting up ----------------------------------------------------------------------------------------------------


def test_the_session_of_the_package_is_flasks() -> None:
    assert session is flask.session


def test_an_application_counts_visits_with_nothing_but_a_manager() -> None:
    app = make_app(SESSION_STORE="memory:")
    SessionManager(app)
    client = app.test_client()
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
    assert app.test_client().get("/count").text == "1"


def test_init_app_sets_the_interface_and_one_extension() -> None:
    app = make_app(SESSION_STORE="memory:")
    sessions = SessionManager()
    sessions.init_app(app)
    assert isinstance(app.session_interface, StoreSessionInterface)
    assert app.extensions == {"sessionstore": sessions}


def test_a_second_init_app_is_an_error_and_changes_nothing() -> None:
    app = make_app(SESSION_STORE="memory:")
    sessions = SessionManager(app)
    store = store_of(app)
    for again in (lambda: sessions.init_app(app), lambda: SessionManager(app)):
        with pytest.raises(ConfigurationError, match="call init_app once"):
            again()
    assert store_of(app) is store


def test_an_init_app_that_failed_may_be_called_again() -> None:
    app = make_app(SESSION_STORE="nosuch:")
    sessions = SessionManager()
    with pytest.raises(ConfigurationError):
        sessions.init_app(app)
    app.config["SESSION_STORE"] = "memory:"
    sessions.init_app(app)
    assert app.test_client().get("/count").text == "1"


def test_one_manager_serves_several_applications_each_with_its_own_store() -> None:
    sessions = SessionManager(store="memory:")
    apps = [make_app(), make_app(SESSION_STORE="cookie:"), make_app()]
    for app in apps:
        sessions.init_app(app)
    assert [type(store_of(app)) for app in apps] == [MemoryStore, CookieStore, MemoryStore]
    assert store_of(apps[0]) is not store_of(apps[2])
    client = apps[0].test_client()
    client.get("/count")
    cookie = client.get_cookie("session")
    assert cookie is not None
    other = apps[2].test_client()
    other.set_cookie("session", cookie.value)
    assert other.get("/peek").text == "None"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("redis://:tops3cret@localhost", "SessionManager(app, store=...)"),
        (MemoryStore(), "SessionManager(app, store=...)"),
        (("memory:", "redis://localhost"), "SessionManager(app, store=...)"),
        (Flask, "SessionManager(app)"),
        (object(), "SessionManager(app)"),
    ],
)
def test_a_manager_of_what_is_no_application_says_where_a_store_belongs(given: t.Any, remedy: str) -> None:
    for make in (SessionManager, SessionManager().init_app):
        with pytest.raises(TypeError) as caught:
            make(given)
        assert str(caught.value).endswith(f"write {remedy}")
        assert "tops3cret" not in str(caught.value)


def test_session_of_an_application_names_the_manager() -> None:
    with pytest.raises(TypeError, match=r"SessionManager\(app\)"):
        Session(make_app())  # type: ignore[arg-type]


# -- the secret ----------------------------------------------------------------------------------------------------


def test_the_secret_may_be_set_after_init_app() -> None:
    app = make_app(SECRET_KEY=None, SESSION_STORE="memory:")
    SessionManager(app)
    app.secret_key = "late"
    assert app.test_client().get("/count").text == "1"


def test_without_a_secret_sessions_are_flasks_null_sessions() -> None:
    app = make_app(SECRET_KEY=None, SESSION_STORE="memory:")
    SessionManager(app)
    with app.test_request_context():
        assert isinstance(t.cast("t.Any", session)._get_current_object(), NullSession)
        assert session.get("n") is None
        with pytest.raises(RuntimeError, match="session is unavailable because no secret"):
            session["n"] = 1
    assert app.test_client().get("/peek").text == "None"


def test_a_secret_may_be_rotated_without_logging_anybody_out() -> None:
    app = make_app(SESSION_STORE="memory:")
    SessionManager(app)
    client = app.test_client()
    client.get("/count")
    app.secret_key = "new"
    assert client.get("/peek").text == "None"
    app.config["SECRET_KEY_FALLBACKS"] = ["secret"]
    assert client.get("/count").text == "2"
    app.config["SECRET_KEY_FALLBACKS"] = []
    assert client.get("/count").text == "3"


def test_fallbacks_that_are_a_text_are_an_error_even_when_set_late() -> None:
    app = make_app(SESSION_STORE="memory:")
    SessionManager(app)
    client = app.test_client()
    client.get("/count")
    app.config["SECRET_KEY_FALLBACKS"] = "former"
    with pytest.raises(ConfigurationError) as caught:
        client.get("/peek")
    assert caught.value.key == "SECRET_KEY_FALLBACKS"


# -- the store -----------------------------------------------------------------------------------------------------


def test_the_store_is_a_url_an_instance_or_a_function_of_the_application() -> None:
    store = MemoryStore()
    settings: tuple[StoreSetting, ...] = (
        store,
        lambda app: store,
        lambda app: app.config["MINE"],
        lambda app: current_app.config["MINE"],
    )
    for setting in settings:
        for app, sessions in (
            (make_app(MINE=store, SESSION_STORE=setting), SessionManager()),
            (make_app(MINE=store), SessionManager(store=setting)),
        ):
            sessions.init_app(app)
            assert store_of(app) is store
    urls: tuple[StoreSetting, ...] = ("memory:", lambda app: "memory:")
    for url in urls:
        app = make_app()
        SessionManager().init_app(app, store=url)
        assert type(store_of(app)) is MemoryStore


def test_the_case_of_a_scheme_does_not_matter() -> None:
    app = make_app(SESSION_STORE="MEMORY:")
    SessionManager(app)
    assert type(store_of(app)) is MemoryStore


def test_a_function_is_called_once_when_the_application_is_set_up_and_within_its_context() -> None:
    calls: list[tuple[Flask, Flask]] = []

    def make_store(app: Flask) -> SessionStore:
        calls.append((app, t.cast("t.Any", current_app)._get_current_object()))
        return MemoryStore()

    app = make_app(SESSION_STORE=make_store)
    SessionManager(app)
    for _ in range(2):
        app.test_client().get("/count")
    assert calls == [(app, app)]
    assert not flask.has_app_context()


@pytest.mark.parametrize("result", [None, 5, MemoryStore, lambda app: MemoryStore()])
def test_a_function_that_returns_no_store_is_an_error(result: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionManager(make_app(SESSION_STORE=lambda app: result))
    assert caught.value.key == "SESSION_STORE"


def test_the_setting_wins_over_the_arguments_and_init_apps_over_the_classs() -> None:
    first, second, third = MemoryStore(), MemoryStore(), MemoryStore()
    app = make_app(SESSION_STORE=first)
    SessionManager(store=third).init_app(app, store=second)
    assert store_of(app) is first
    app = make_app()
    SessionManager(store=third).init_app(app, store=second)
    assert store_of(app) is second
    app = make_app(SESSION_STORE=None)
    SessionManager(store=third).init_app(app)
    assert store_of(app) is third


def test_a_url_gets_prefix_and_options_and_an_instance_keeps_its_own() -> None:
    settings: dict[str, t.Any] = {"SESSION_KEY_PREFIX": "shop:", "SESSION_STORE_OPTIONS": {"max_bytes": 5000}}
    app = make_app(SESSION_STORE="memory:", **settings)
    SessionManager(app)
    store = t.cast("MemoryStore", store_of(app))
    assert (store.prefix, store.max_bytes) == ("shop:", 5000)
    app = make_app(SESSION_STORE=MemoryStore(prefix="own:"), **settings)
    SessionManager(app)
    store = t.cast("MemoryStore", store_of(app))
    assert (store.prefix, store.max_bytes) == ("own:", 64 * 1024 * 1024)


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        (None, "sessions"),
        ("file:sessions", "sessions"),
        ("file:deep/er", "deep/er"),
        ("file:with%20space", "with space"),
        ("file:./here", "here"),
    ],
)
def test_a_relative_file_url_means_a_folder_below_the_instance_folder(
    url: str | None, folder: str, tmp_path: Path
) -> None:
    app = Flask("shop", instance_path=str(tmp_path / "an instance"))
    app.config["SESSION_STORE"] = url
    SessionManager(app)
    store = store_of(app)
    assert isinstance(store, FileSystemStore)
    assert store.path == tmp_path / "an instance" / folder
    assert not (tmp_path / "an instance").exists()


def test_an_absolute_file_url_means_that_folder(tmp_path: Path) -> None:
    app = make_app(SESSION_STORE=f"file://{tmp_path}/absolute")
    SessionManager(app)
    store = store_of(app)
    assert isinstance(store, FileSystemStore)
    assert store.path == tmp_path / "absolute"
    assert not store.path.exists()


def test_no_connection_is_opened() -> None:
    app = make_app(SESSION_STORE="redis://localhost:1/0")
    SessionManager(app)
    assert app.test_client().get("/nowhere").status_code == 404


def test_a_scheme_may_have_an_underscore_as_some_of_sqlalchemys_do() -> None:
    with pytest.raises(ConfigurationError, match="synchronous"):
        SessionManager(make_app(SESSION_STORE="postgresql+psycopg_async://host/shop"))


def run_blocked(drivers: str, url: str | tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """Set up an application in a process where these modules cannot be imported."""
    script = f"""
import sys
sys.modules.update(dict.fromkeys({drivers.split()!r}))
from flask import Flask
from flask_sessionstore import ConfigurationError, SessionManager
app = Flask("shop")
app.config["SESSION_STORE"] = {url!r}
try:
    SessionManager(app)
except ConfigurationError as error:
    print(error.key, error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.server
@pytest.mark.parametrize(
    ("module", "url", "command"),
    [
        ("redis", "redis://localhost", "pip install redis (this package's extra 'redis')"),
        ("pymemcache", "memcached://localhost", "pip install pymemcache (this package's extra 'memcached')"),
        ("boto3", "dynamodb://eu-central-1/sessions", "pip install boto3 (this package's extra 'dynamodb')"),
        ("bson", "mongodb://localhost/shop", "pip install pymongo (this package's extra 'mongodb')"),
        ("pymongo", "mongodb://localhost/shop", "pip install pymongo (this package's extra 'mongodb')"),
        ("sqlalchemy", "sqlite:///file", "pip install sqlalchemy (this package's extra 'sqlalchemy')"),
        (
            "psycopg",
            "postgresql://localhost/shop",
            "pip install 'psycopg[binary]' (this package's extra 'postgresql')",
        ),
        ("pymysql", "mysql://localhost/shop", "pip install 'pymysql[rsa]' (this package's extra 'mysql')"),
        (
            "sqlalchemy psycopg",
            "postgresql://localhost/shop",
            "not installed: pip install sqlalchemy 'psycopg[binary]' (this package's extra 'postgresql')",
        ),
        ("sqlalchemy pymysql", "mariadb://h/shop", "sqlalchemy 'pymysql[rsa]' (this package's extra 'mysql')"),
        ("sqlalchemy", "mysql+nosuch://h/shop", "needs packages that are not installed: pip install sqlalchemy nosuch"),
        (
            "redis sqlalchemy psycopg",
            ("redis://localhost", "postgresql://localhost/shop"),
            "needs packages that are not installed: pip install redis sqlalchemy 'psycopg[binary]'",
        ),
        ("redis", ("memory:", "redis://localhost"), "pip install redis (this package's extra 'redis')"),
        # A module that the driver needs: to install the driver would change nothing.
        (
            "redis.credentials",
            "redis://localhost",
            "pip install --upgrade --force-reinstall redis",
        ),
        ("pymongo.errors", "mongodb://localhost/shop", "pip install --upgrade --force-reinstall pymongo"),
        ("psycopg.pq", "postgresql://localhost/shop", "pip install --upgrade --force-reinstall 'psycopg[binary]'"),
    ],
)
def test_a_missing_driver_is_an_error_with_the_command_that_installs_it(
    module: str, url: str | tuple[str, str], command: str
) -> None:
    run = run_blocked(module, url)
    assert run.stdout.startswith("SESSION_STORE "), run.stderr[-300:]
    assert run.stdout.strip().endswith(command)


def test_a_store_that_is_not_used_needs_no_driver() -> None:
    run = run_blocked("redis", "memory:")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


DISTRIBUTION = {
    "shelf_store.py": """
from flask_sessionstore.stores.memory import MemoryStore

class ShelfStore(MemoryStore):
    @classmethod
    def from_url(cls, url, **options):
        store = cls(**options)
        store.url = url
        return store
""",
    "shelf_store-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: shelf-store\nVersion: 1.0\n",
    "shelf_store-1.0.dist-info/entry_points.txt": "[flask_sessionstore.stores]\nshelf = shelf_store:ShelfStore\n",
}


def test_an_installed_package_adds_a_store_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in DISTRIBUTION.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    app = make_app(SESSION_STORE="shelf://top?left", SESSION_KEY_PREFIX="shop:")
    SessionManager(app)
    store = t.cast("t.Any", store_of(app))
    assert (type(store).__name__, store.url, store.prefix) == ("ShelfStore", "shelf://top?left", "shop:")
    assert app.test_client().get("/count").text == "1"
    monkeypatch.delitem(sys.modules, "shelf_store")


# -- for overriding ------------------------------------------------------------------------------------------------


class Choosy(StoreSessionInterface):
    """Gives no sessions to paths below /api."""

    def open_session(self, app: Flask, request: Request) -> Session | None:
        return None if request.path.startswith("/api") else super().open_session(app, request)


class ChoosyManager(SessionManager):
    interface_class = Choosy


def test_an_interface_of_ones_own_may_open_no_session() -> None:
    app = make_app(SESSION_STORE="memory:")
    ChoosyManager(app)
    assert type(app.session_interface) is Choosy

    @app.get("/api")
    def api() -> str:
        return type(t.cast("t.Any", session)._get_current_object()).__name__

    client = app.test_client()
    assert client.get("/count").text == "1"
    response = client.get("/api")
    assert response.text == "NullSession"
    assert "Set-Cookie" not in response.headers


def test_a_session_kept_elsewhere_is_imported_where_the_browser_has_none_of_ours() -> None:
    asked: list[str] = []

    def import_session(app: Flask, request: Request) -> dict[str, t.Any] | None:
        asked.append(request.path)
        return {"n": int(request.cookies["legacy"])} if "legacy" in request.cookies else None

    app = make_app(SESSION_STORE="memory:")
    SessionManager(app, import_session=import_session)
    client = app.test_client()
    client.set_cookie("legacy", "41")
    assert client.get("/count").text == "42"
    assert client.get("/count").text == "43"
    assert asked == ["/count"]
    assert app.test_client().get("/count").text == "1"


class Minimal(SessionStore):
    """The least that a store is: the six verbs, kept in a dict."""

    def __init__(self) -> None:
        self.records: dict[SessionKey, Record] = {}

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        return self.records.get(key)

    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        return self.update(key or SessionKey.generate(), record, ttl, replaces=b"")

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        self.records[key] = record.written(int(self.now() * 1000), ttl)
        return key

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        return key, self.records[key]

    def delete(self, key: SessionKey, **options: t.Any) -> None:
        self.records.pop(key, None)

    def renew(self, key: SessionKey, record: Record, ttl: timedelta, **options: t.Any) -> SessionKey:
        self.delete(key)
        return self.save(record, ttl)


def test_any_session_store_will_do() -> None:
    app = make_app(SESSION_STORE=Minimal())
    SessionManager(app)
    client = app.test_client()
    assert [client.get("/count").text for _ in range(2)] == ["1", "2"]


def test_a_store_without_urls_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Minimal cannot be made from a URL"):
        Minimal.from_url("minimal:")


def test_nothing_more_is_public_than_what_is_named() -> None:
    assert [name for name in flask_sessionstore.__all__ if not hasattr(flask_sessionstore, name)] == []
    assert sorted(flask_sessionstore.__all__) == flask_sessionstore.__all__


def test_an_extension_that_takes_the_sessions_over_is_named_at_the_first_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
    SessionManager(app)
    app.session_interface = SecureCookieSessionInterface()
    for _ in range(2):
        app.test_client().get("/")
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "flask.sessions.SecureCookieSessionInterface keeps the sessions now" in record.getMessage()


def test_nobody_is_named_where_nobody_takes_them_over(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="a secret", SESSION_STORE="memory:")
    SessionManager(app)
    app.test_client().get("/")
    assert caplog.records == []
