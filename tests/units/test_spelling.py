"""SESSION_STORE: what was meant by a text that names no store."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from flask import Flask

from flask_sessionstore import ConfigurationError, SessionManager, SessionStore, StoreSessionInterface
from flask_sessionstore.making import make_store
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore

HOME = str(Path.home())


def refusal(setting: t.Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make_store(Flask("shop"), setting, {"prefix": "session:"})
    assert caught.value.key == "SESSION_STORE"
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "url"),
    [
        ("memory", "memory:"),
        ("in-memory", "memory:"),
        ("sqlite", "sqlite:///sessions.db"),
        ("filesystem", "file:sessions"),
        ("FileSystem", "file:sessions"),
        ("file", "file:sessions"),
        ("cachelib", "file:sessions"),
        ("redis", "redis://localhost:6379/0"),
        ("valkey", "valkey://localhost:6379/0"),
        ("memcached", "memcached://localhost:11211"),
        ("mongodb", "mongodb://localhost:27017/database"),
        ("dynamodb", "dynamodb://region/table"),
        ("postgres", "postgresql://user:password@host/database"),
        ("mariadb", "mariadb://user:password@host/database"),
        ("cookie", "cookie:"),
    ],
)
def test_a_word_is_answered_with_a_url_of_that_kind(word: str, url: str) -> None:
    assert refusal(word) == f'SESSION_STORE is only the word "{word.lower()}": write a URL, such as "{url}"'


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/var/lib/shop", "file:///var/lib/shop"),
        ("/var/lib/my shop", "file:///var/lib/my%20shop"),
        ("/var/lib/shop.db", "sqlite:////var/lib/shop.db"),
        ("./sessions", "file:sessions"),
        ("../sessions", "file:../sessions"),
        ("sessions.db", "sqlite:///sessions.db"),
        ("./sessions.sqlite3", "sqlite:///sessions.sqlite3"),
        ("~/sessions", f"file://{HOME}/sessions"),
        ("~/shop.sqlite", f"sqlite:///{HOME}/shop.sqlite"),
        ("C:\\shop\\sessions", "file:///C:/shop/sessions"),
        ("C:/shop/sessions.db", "sqlite:///C:/shop/sessions.db"),
    ],
)
def test_a_path_is_answered_with_its_url(path: str, url: str) -> None:
    assert refusal(path) == f'SESSION_STORE is a path, not a URL: write "{url}"'


def test_the_url_of_a_path_is_accepted(tmp_path: Path) -> None:
    url = refusal(f"{tmp_path}/my sessions").partition('"')[2].removesuffix('"')
    store = make_store(Flask("shop"), url, {"prefix": "session:"})
    assert isinstance(store, FileSystemStore)
    assert store.path == tmp_path / "my sessions"


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("file:~/sessions", f"file://{HOME}/sessions"),
        ("file:///~/sessions", f"file://{HOME}/sessions"),
        ("file://~", f"file://{HOME}"),
        ("sqlite:///~/shop.db", f"sqlite:///{HOME}/shop.db"),
        ("sqlite:////~/shop.db", f"sqlite:///{HOME}/shop.db"),
    ],
)
def test_the_sign_for_the_home_folder_is_answered_with_the_folder(url: str, meant: str) -> None:
    assert refusal(url) == f'SESSION_STORE: nothing replaces the ~ in a URL; write "{meant}"'


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("localhost:6379", "redis"),
        ("127.0.0.1:6379/0", "redis"),
        ("redis.example.com:6379/0", "redis"),
        ("cache.example.com:11211", "memcached"),
        ("db:5432/shop", "postgresql"),
        ("ann:tops3cret@db/shop", "redis"),
    ],
)
def test_a_host_without_a_scheme_is_told_so(text: str, scheme: str) -> None:
    assert refusal(text) == f'SESSION_STORE lacks the scheme: write "{scheme}://" before the host'


@pytest.mark.parametrize(
    ("scheme", "ours"),
    [
        ("pgsql", "postgresql"),
        ("pg", "postgresql"),
        ("sqlite3", "sqlite"),
        ("mysql2", "mysql"),
        ("sqlserver", "mssql"),
        ("mongo", "mongodb"),
        ("memcache", "memcached"),
        ("dynamo", "dynamodb"),
        ("unix", "redis+unix"),
        ("redis+socket", "redis+unix"),
        ("redis+ssl", "rediss"),
        ("redis-sentinel", "redis+sentinel"),
        ("sentinel", "redis+sentinel"),
        ("redis-cluster", "redis+cluster"),
        ("keydb", "redis"),
        ("reddis", "redis"),
        ("filesystem", "file"),
        ("mem", "memory"),
        ("cookies", "cookie"),
    ],
)
def test_another_spelling_of_a_scheme_names_the_one_word_to_change(scheme: str, ours: str) -> None:
    for rest in ("//ann:tops3cret@host/x", "x"):
        said = refusal(f"{scheme}:{rest}")
        assert said == f'SESSION_STORE has the unknown URL scheme "{scheme}": write "{ours}" instead'


def test_a_scheme_like_none_is_answered_with_those_that_there_are() -> None:
    said = refusal("gopher://host/x")
    assert said.startswith(
        'SESSION_STORE has the unknown URL scheme "gopher"; known are cookie, dynamodb, file, mariadb'
    )
    assert "valkey+sentinel" in said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("", 'is empty: write a URL such as "redis://localhost:6379/0", "sqlite:///sessions.db"'),
        (" redis://localhost", "has quotes or blanks around it: remove them"),
        ('"redis://localhost"', "has quotes or blanks around it: remove them"),
        ("$REDIS_URL", "is the name of an environment variable that nobody has replaced by its value"),
        ("${REDIS_URL}", "is the name of an environment variable that nobody has replaced by its value"),
        ("%REDIS_URL%", "is the name of an environment variable that nobody has replaced by its value"),
        ("sqlalchemy", "write the database's URL, or lambda app: SQLAlchemyStore(db.engine)"),
        ("null", "leave it out, and sessions are in files in the instance folder"),
        ("sessions", 'is not a URL: write a URL such as "redis://localhost:6379/0"'),
        (Path("/tmp/sessions"), 'it is a path: write "file:///tmp/sessions"'),
        (MemoryStore, "it is the class MemoryStore: make an object of it, or write a URL"),
        (lambda app: None, "it is None, or a function that returned None"),
        (redis.Redis(), "it is of type Redis: write RedisStore(client)"),
        (sa.create_engine("sqlite://"), "it is of type Engine: write SQLAlchemyStore(engine)"),
        (5, "it is of type int"),
    ],
)
def test_what_else_is_no_store_is_told_what_it_is(setting: object, said: str) -> None:
    assert said in refusal(setting)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://localhost/shop", "redis://localhost:6379/0"),
        ("redis://localhost/0/1", "redis://localhost:6379/0"),
        ("redis://localhost?db=shop", "?db=0"),
        ("redis+unix:///run/redis.sock?db=shop", "?db=0"),
    ],
)
def test_a_redis_database_that_is_not_a_number_is_refused(url: str, remedy: str) -> None:
    """redis-py takes some of these for database 0."""
    said = refusal(url)
    assert "must be the number of a database" in said
    assert said.endswith(f"write {remedy}")


def test_a_redis_socket_without_a_path_is_refused() -> None:
    assert refusal("redis+unix://localhost").endswith("write redis+unix:///run/redis/redis.sock")


def store_of(url: str, instance: Path) -> SessionStore:
    app = Flask("shop", instance_path=str(instance))
    app.config.update(SECRET_KEY="secret", SESSION_STORE=url)
    SessionManager(app)
    return t.cast("StoreSessionInterface", app.session_interface).store


@pytest.mark.parametrize("path", ["shop.db", "data/shop.db"])
def test_a_relative_sqlite_file_is_in_the_instance_folder_which_is_made(path: str, tmp_path: Path) -> None:
    instance = tmp_path / "an instance"
    store = t.cast("t.Any", store_of(f"sqlite:///{path}?timeout=3", instance))
    assert not instance.exists(), "nothing is opened at start"
    store.read("0" * 64)
    assert (instance / path).exists()
    assert (instance / path).parent.stat().st_mode & 0o077 == 0
    assert store.engine.url.query["timeout"] == "3"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:////tmp/shop.db", "sqlite:///"])
def test_another_sqlite_database_is_where_its_url_says(url: str, tmp_path: Path) -> None:
    store = t.cast("t.Any", store_of(url, tmp_path / "instance"))
    assert store.engine.url.database == sa.make_url(url).database
