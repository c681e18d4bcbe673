"""Flask-Session's Session by another import: its settings are read, its sessions go on, in the same engine."""

from __future__ import annotations

import logging
import pickle
import sqlite3
import typing as t
import uuid
from decimal import Decimal
from pathlib import Path

import engines
import msgspec
import pymemcache
import pytest
import redis
import servers
import sqlalchemy as sa
from cachelib import FileSystemCache, SimpleCache
from dynamodb_servers import DynamoDBServer
from flask import Flask, jsonify, session
from flask.testing import FlaskClient
from flask_sqlalchemy import SQLAlchemy
from http_support import cookie_of
from memcached_server import MemcachedServer
from old_sessions import LOGIN, MONTH, SECRET_KEY, FlaskSessionFiles
from pymongo import MongoClient

from flask_sessionstore import ConfigurationError, SessionManager
from flask_sessionstore.current import store_in_use
from flask_sessionstore.migrate import from_flask_session
from flask_sessionstore.migrate.flask_session import Session
from flask_sessionstore.stores import SessionStore
from flask_sessionstore.testing import Clock

SID = "A" * 43
#: As it keeps it.
KEPT = {"_permanent": True, **LOGIN}


def make_app(**settings: t.Any) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET_KEY, TESTING=True, **settings)
    app.add_url_rule("/", "show", view_func=lambda: jsonify(dict(session)))
    return app


def comes(app: Flask, cookie: str = SID) -> FlaskClient:
    client = app.test_client()
    client.set_cookie("session", cookie)
    return client


def store_of(app: Flask) -> SessionStore:
    with app.app_context():
        return store_in_use()


def goes_on(app: Flask, store: str) -> None:
    """The old session is there, and so it is by our cookie alone."""
    client = comes(app)
    response = client.get("/")
    assert response.json == LOGIN
    assert "max-age" in cookie_of(response).attributes
    assert client.get("/").json == LOGIN
    assert type(store_of(app)).__name__ == store


def test_in_redis(valkey: servers.RedisServer) -> None:
    prefix = f"{uuid.uuid4()}:"
    with redis.Redis.from_url(valkey.url) as client:
        client.set(f"{prefix}{SID}", msgspec.msgpack.encode(KEPT), ex=MONTH)
        app = make_app(SESSION_TYPE="redis", SESSION_REDIS=client, SESSION_KEY_PREFIX=prefix)
        Session(app)
        goes_on(app, "RedisStore")


def test_in_memcached(shared_memcached: MemcachedServer) -> None:
    prefix = f"{uuid.uuid4()}:"
    client = pymemcache.Client(("127.0.0.1", shared_memcached.port))
    client.set(f"{prefix}{SID}", msgspec.msgpack.encode(KEPT), noreply=False)
    app = make_app(SESSION_TYPE="memcached", SESSION_MEMCACHED=client, SESSION_KEY_PREFIX=prefix)
    Session(app)
    goes_on(app, "MemcachedStore")
    client.close()


@pytest.mark.parametrize("kind", ["filesystem", "cachelib"])
@pytest.mark.parametrize("by_name", [True, False])
def test_in_files(by_name: bool, kind: str, tmp_path: Path) -> None:
    cache = FileSystemCache(str(tmp_path / "old"))
    cache.set(f"session:{SID}", KEPT)
    place = str(tmp_path / "old") if by_name else cache if kind == "cachelib" else tmp_path / "old"
    settings = {"SESSION_FILE_DIR" if kind == "filesystem" else "SESSION_CACHELIB": place}
    app = make_app(SESSION_TYPE=kind, SESSION_FILE_THRESHOLD=100, SESSION_FILE_MODE=384, **settings)
    Session().init_app(app)
    goes_on(app, "FileSystemStore")
    assert cache.get(f"session:{SID}") == KEPT
    assert all(path.is_file() for path in (tmp_path / "old").iterdir())  # cachelib opens all that is there


def test_in_mongodb_what_is_ours_stands_beside_what_was(caplog: pytest.LogCaptureFixture) -> None:
    with MongoClient[t.Any]("mongodb://127.0.0.1:1", connect=False) as client, caplog.at_level(logging.INFO):
        app = make_app(SESSION_TYPE="mongodb", SESSION_MONGODB=client)
        app.config.update(SESSION_MONGODB_DB="shop", SESSION_MONGODB_COLLECT="visits")
        Session(app)
    assert type(store_of(app)).__name__ == "MongoDBStore"
    assert "MongoDBStore(client['shop']['visits_store'], prefix='session:')" in caplog.text


def test_in_a_database_it_makes_its_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flask_sessionstore")
    db = SQLAlchemy()
    app = make_app(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=db, SESSION_SQLALCHEMY_TABLE="old")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/app.db"
    db.init_app(app)
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE old (id INTEGER PRIMARY KEY, session_id VARCHAR, data BLOB, expiry TIMESTAMP)")
        )
        connection.execute(
            sa.text("INSERT INTO old (session_id, data, expiry) VALUES (:sid, :data, '2100-01-01 00:00:00.000000')"),
            {"sid": f"session:{SID}", "data": pickle.dumps(KEPT)},
        )
    Session(app)
    goes_on(app, "SQLAlchemyStore")
    assert "SQLAlchemyStore(db.engine, table='old_store', prefix='session:')" in caplog.text
    with app.app_context():
        assert set(sa.inspect(db.engine).get_table_names()) >= {"old", "old_store"}
        db.engine.dispose()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_database_that_the_settings_do_not_name_is_the_applications(is_there: bool, tmp_path: Path) -> None:
    """It is found among the extensions, or made from Flask-SQLAlchemy's settings, as Flask-Session does."""
    old = sqlite3.connect(tmp_path / "app.db")
    old.execute("CREATE TABLE sessions (id INTEGER PRIMARY KEY, session_id TEXT, data BLOB, expiry TIMESTAMP)")
    old.execute("INSERT INTO sessions VALUES (1, ?, ?, NULL)", (f"session:{SID}", pickle.dumps(KEPT)))
    old.commit()
    old.close()
    app = make_app(SESSION_TYPE="sqlalchemy", SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/app.db")
    database = SQLAlchemy(app) if is_there else None
    Session(app)
    goes_on(app, "SQLAlchemyStore")
    assert database is None or app.extensions["sqlalchemy"] is database
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()


@pytest.mark.parametrize(
    ("kind", "store", "lines"),
    [
        (
            "redis",
            "RedisStore",
            ['SESSION_STORE = "redis://localhost:6379/0"', 'SESSION_KEY_PREFIX = "session:store:"'],
        ),
        (
            "memcached",
            "MemcachedStore",
            ['SESSION_STORE = "memcached://localhost:11211"', 'SESSION_KEY_PREFIX = "session:store:"'],
        ),
        (
            "mongodb",
            "MongoDBStore",
            [
                (
                    'SESSION_STORE = "mongodb://localhost:27017/flask_session", with SESSION_STORE_OPTIONS ='
                    " {\"collection\": 'sessions_store'}"
                )
            ],
        ),
    ],
)
def test_without_a_client_it_is_the_server_on_this_machine(
    kind: str, store: str, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(SESSION_TYPE=kind)
    with caplog.at_level(logging.INFO, "flask_sessionstore"):
        Session(app)
    assert type(store_of(app)).__name__ == store
    said = [line.strip() for line in caplog.text.splitlines()]
    assert said[said.index(lines[0]) :][: len(lines)] == lines
    assert [line for line in said if line.startswith("SESSION_KEY_PREFIX")] == lines[1:]


def test_in_dynamodb_it_makes_its_table_and_has_the_credentials_of_the_application(
    shared_dynamodb: t.Callable[[str], DynamoDBServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = engines.dynamodb(shared_dynamodb("moto"))
    table = engines.new_table(resource)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    item = {"id": f"session:{SID}", "val": msgspec.msgpack.encode(KEPT), "expiration": Decimal(4_000_000_000)}
    table.put_item(Item=item)
    app = make_app(SESSION_TYPE="dynamodb", SESSION_DYNAMODB=resource, SESSION_DYNAMODB_TABLE=table.name)
    Session(app)
    goes_on(app, "DynamoDBStore")
    tables = resource.meta.client.list_tables()["TableNames"]
    assert f"{table.name}_store" in tables
    assert table.get_item(Key={"id": f"session:{SID}"})["Item"] == item


def test_dynamodb_on_this_machine_where_no_other_is_named_wants_credentials_of_any_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="an emulator accepts any"):
        Session(make_app(SESSION_TYPE="dynamodb"))


def test_signed_ids_are_read(tmp_path: Path, clock: Clock) -> None:
    from test_credentials import signed

    files = FlaskSessionFiles(tmp_path / "old", lambda: 4e9)
    files.keep(SID, pickle.dumps(KEPT), 0)
    app = make_app(SESSION_TYPE="filesystem", SESSION_FILE_DIR=str(files.folder), SESSION_USE_SIGNER=True)
    Session(app)
    assert comes(app).get("/").json == {}
    assert comes(app, signed(SID)).get("/").json == LOGIN


def test_what_its_session_has_besides_is_there_or_says_what_to_write(tmp_path: Path) -> None:
    app = make_app(SESSION_TYPE="filesystem", SESSION_FILE_DIR=str(tmp_path / "old"))
    Session(app)
    interface = t.cast("t.Any", app.session_interface)
    handles: list[str] = []

    @app.post("/log-in")
    def log_in() -> str:
        session["right"] = True
        interface.regenerate(session)
        return ""

    @app.get("/handle")
    def handle() -> str:
        with pytest.raises(AttributeError, match="handle"):
            _ = t.cast("t.Any", session).sid
        handles.append(t.cast("t.Any", session).handle)
        return ""

    client = app.test_client()
    client.post("/log-in")
    client.get("/handle")
    client.post("/log-in")
    client.get("/handle")
    assert handles[0] != handles[1]


def test_at_start_it_logs_what_to_write_and_that_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = FlaskSessionFiles(tmp_path / "old", lambda: 4e9)
    files.keep(SID, pickle.dumps(KEPT), 0)
    app = make_app(SESSION_TYPE="filesystem", SESSION_FILE_DIR=str(files.folder), SESSION_ID_LENGTH=32)
    with caplog.at_level(logging.INFO, "flask_sessionstore"):
        Session(app)
    (note,) = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    client = comes(app)
    assert client.get("/").json == LOGIN
    later = make_app()
    for line in note.splitlines():
        if line.startswith("    SESSION_"):
            name, value = line.strip().split(" = ")
            later.config[name] = eval(value)
    (call,) = [line.strip() for line in note.splitlines() if "SessionManager(" in line]
    eval(call, {"SessionManager": SessionManager, "app": later, "from_flask_session": from_flask_session})
    cookie = client.get_cookie("session")
    assert cookie is not None
    assert comes(later, cookie.value).get("/").json == LOGIN
    assert comes(later).get("/").json == LOGIN


def test_the_note_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    client = redis.Redis.from_url("redis://user:tops3cret@127.0.0.1:1/0")
    with caplog.at_level(logging.INFO, "flask_sessionstore"):
        Session(make_app(SESSION_TYPE="redis", SESSION_REDIS=client))
    assert "RedisStore(client, prefix='session:store:')" in caplog.text
    assert "tops3cret" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "SESSION_TYPE"),
        ({"SESSION_TYPE": "null"}, "SESSION_TYPE"),
        ({"SESSION_TYPE": "gaeMemcached"}, "SESSION_TYPE"),
        ({"SESSION_TYPE": "cachelib", "SESSION_CACHELIB": SimpleCache()}, None),
        ({"SESSION_TYPE": "memcached", "SESSION_MEMCACHED": object()}, "SESSION_STORE"),
    ],
)
def test_what_it_cannot_do_is_an_error_at_start(settings: dict[str, t.Any], key: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Session(make_app(**settings))
    assert caught.value.key == key


@pytest.mark.parametrize("secret", [None, SECRET_KEY])
def test_a_secret_that_flask_session_did_not_need_is_asked_for(
    secret: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(SESSION_TYPE="filesystem", SESSION_FILE_DIR=str(tmp_path / "old"))
    app.secret_key = secret
    Session(app)
    assert ("SECRET_KEY is not set" in caplog.text) is (secret is None)


def test_new_sessions_are_permanent_unless_it_is_said(tmp_path: Path) -> None:
    folder = str(tmp_path / "old")
    for permanent, settings in ((True, {}), (False, {"SESSION_PERMANENT": False})):
        app = make_app(SESSION_TYPE="filesystem", SESSION_FILE_DIR=folder, **settings)
        app.add_url_rule("/write", "write", view_func=lambda: str(session.setdefault("a", 1)))
        Session(app)
        cookie = cookie_of(app.test_client().get("/write"))
        assert ("max-age" in cookie.attributes) is permanent
