"""``probe()`` and ``sessions.ping()``: whether a store can keep sessions now, tried on what cannot."""

from __future__ import annotations

import os
import sqlite3
import typing as t
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import sqlalchemy as sa
from forks import as_nobody, let_others_pass, needs_root
from http_support import Browser, make_app, sessions_of, warnings_in
from live import is_unavailable, live_app
from servers import RedisServer, StartServer
from sql_servers import PASSWORD, DatabaseServer, PostgreSQL, Standby

from flask_sessionstore import StoreUnavailable
from flask_sessionstore.stores import Scans, ServerSideStore, SessionStore, StoreFull, TableMissing, from_url
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.stores.sqlalchemy import SQLAlchemyStore
from flask_sessionstore.testing import FaultyStore


def refusal(store: SessionStore) -> str:
    """Why a store cannot keep sessions now."""
    with pytest.raises(StoreUnavailable) as caught:
        store.probe()
    return str(caught.value)


# -- what is there ---------------------------------------------------------------------------------------------------


def test_a_store_that_can_keep_sessions_says_nothing_and_keeps_nothing(store: SessionStore) -> None:
    store.probe()
    scans = store.ability(Scans)
    assert scans is None or list(scans.scan()) == []
    with make_app(store).app_context() as context:
        assert 0 <= sessions_of(context.app).ping() < 60


def test_a_probe_asks_for_each_of_the_four_operations() -> None:
    store = FaultyStore(MemoryStore())
    store.probe()
    assert store.calls == ["add", "read", "swap", "drop"]
    for operation in ("add", "read", "swap", "drop"):
        store.fail(operation)
        assert operation in refusal(store)
        store.heal()


class Forgetful(MemoryStore):
    """Says yes, and keeps nothing."""

    def add(self, handle: str, data: bytes, ttl: object) -> bool:
        return True


class Stubborn(MemoryStore):
    """Keeps what it has."""

    def swap(self, handle: str, data: bytes, ttl: object, *, replaces: bytes | None) -> bool:
        return False


@pytest.mark.parametrize("kind", [Forgetful, Stubborn])
def test_a_store_that_does_not_do_what_it_says_is_found_out(kind: type[MemoryStore]) -> None:
    store = kind()
    assert refusal(store) == f"{kind.__name__} does not keep what it is given"
    assert list(store.scan()) == []


# -- a page for a load balancer --------------------------------------------------------------------------------------


def test_a_ping_in_a_view_is_a_503_while_the_store_is_away() -> None:
    store = FaultyStore(MemoryStore())
    app = live_app(store)
    sessions = sessions_of(app)

    def ready() -> str:
        sessions.ping()
        return "ready"

    assert Browser(app).does(ready).text == "ready"
    store.fail("add")
    response = Browser(app).does(ready)
    assert is_unavailable(response)
    assert "Retry-After" in response.headers


# -- a cache in front ------------------------------------------------------------------------------------------------


def test_a_cache_that_fails_is_logged_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    cache = FaultyStore(MemoryStore())
    pair = CachingStore(cache, MemoryStore())
    cache.fail("add")
    pair.probe()
    assert len(warnings_in(caplog)) == 1
    cache.fail("add")
    (finding,) = (risk for risk in pair.risks() if "cache" in risk)
    assert finding.startswith("The cache cannot be used, so every request asks the store: ")


def test_a_store_that_fails_behind_a_cache_is_an_error() -> None:
    store = FaultyStore(MemoryStore())
    store.fail("swap")
    assert "swap" in refusal(CachingStore(MemoryStore(), store))


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_does_not_exist_yet_is_not_made(tmp_path: Path) -> None:
    """The probe may run as root, whose folder the application could not use."""
    FileSystemStore(tmp_path / "not" / "yet").probe()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = refusal(FileSystemStore(tmp_path / "file" / "sessions"))
    assert said == "the session folder cannot be used (Not a directory)"
    assert "cannot be used" in refusal(FileSystemStore("/proc/nowhere/sessions"))


@needs_root
def test_folders_that_a_user_cannot_make_or_write_are_errors(tmp_path: Path) -> None:
    let_others_pass(tmp_path)
    sessions = tmp_path / "theirs" / "sessions"
    sessions.mkdir(parents=True, mode=0o500)
    os.chown(sessions, 65534, 65534)
    denied = "StoreUnavailable: the session folder cannot be used (Permission denied)"
    assert as_nobody(FileSystemStore(sessions).probe) == denied
    assert as_nobody(FileSystemStore(tmp_path / "new").probe) == denied


# -- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_redis(start_redis: StartServer) -> RedisServer:
    return start_redis()


def both(server: RedisServer) -> list[RedisStore]:
    """Stores by URL, and by a client of the application's."""
    return [t.cast("RedisStore", from_url(server.url)), RedisStore(redis.Redis.from_url(server.url))]


def test_a_replica_is_an_error(own_redis: RedisServer, start_redis: StartServer) -> None:
    replica = start_redis()
    with redis.Redis(port=replica.port) as admin:
        admin.replicaof("127.0.0.1", str(own_redis.port))
    for store in both(replica):
        assert refusal(store) == "Redis is a replica, which does not accept writes"


def test_a_full_redis_is_an_error(start_redis: StartServer) -> None:
    for store in both(start_redis(maxmemory="1", maxmemory_policy="noeviction")):
        with pytest.raises(StoreFull, match="Redis has no memory left"):
            store.probe()


@pytest.mark.parametrize("without", ["set", "get", "del"])
def test_a_user_of_redis_who_may_not_write_is_an_error(own_redis: RedisServer, without: str) -> None:
    with redis.Redis(port=own_redis.port) as admin:
        admin.acl_setuser("shop", enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all", f"-{without}"])
    store = from_url(own_redis.url.replace("//", "//shop:pass@"))
    assert refusal(store) == "Redis does not allow this user to run a command that sessions need"


# -- databases -------------------------------------------------------------------------------------------------------


def test_an_sqlite_file_that_does_not_exist_yet_is_not_made(tmp_path: Path) -> None:
    from_url(f"sqlite:///{tmp_path}/shop.db").probe()
    assert list(tmp_path.iterdir()) == []
    assert refusal(from_url(f"sqlite:///{tmp_path}/nowhere/shop.db")) == "the session database (sqlite) cannot be made"


def test_an_sqlite_that_is_read_only_is_an_error(tmp_path: Path) -> None:
    t.cast("t.Any", from_url(f"sqlite:///{tmp_path}/shop.db")).create_schema()
    read_only = from_url(f"sqlite:///file:{tmp_path}/shop.db?mode=ro&uri=true")
    assert refusal(read_only) == "the session database (sqlite) is read-only"


def test_an_engine_of_the_applications_is_probed_too(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE shop (id)")
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    SQLAlchemyStore(engine).probe()
    engine.dispose()


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_table_that_is_missing_is_an_error_with_the_command(
    shared_database: t.Callable[[str], DatabaseServer], name: str
) -> None:
    store = from_url(shared_database(name).url, table=f"t{uuid4().hex[:8]}")
    with pytest.raises(TableMissing, match="flask sessions create-schema"):
        store.probe()


#: How an administrator makes a user who may only read the table; the names of the user and the table are filled in.
READERS = {
    "postgresql": [f"CREATE ROLE {{user}} LOGIN PASSWORD '{PASSWORD}'", "GRANT SELECT ON {table} TO {user}"],
    "mariadb": [f"CREATE USER {{user}} IDENTIFIED BY '{PASSWORD}'", "GRANT SELECT ON {table} TO {user}"],
}


@pytest.mark.parametrize("name", READERS)
def test_a_user_who_may_only_read_is_an_error(shared_database: t.Callable[[str], DatabaseServer], name: str) -> None:
    server, names = shared_database(name), {"user": f"u{uuid4().hex[:8]}", "table": f"t{uuid4().hex[:8]}"}
    owner = t.cast("t.Any", from_url(server.url, table=names["table"]))
    owner.create_schema()
    root = server.url.replace(f"//sessions:{PASSWORD}@", "//root@") if name == "mariadb" else server.url
    with t.cast("t.Any", from_url(root)).engine.connect() as connection:
        for statement in READERS[name]:
            connection.execute(sa.text(statement.format(**names)))
    reader = from_url(server.url.replace("//sessions:", f"//{names['user']}:"), table=names["table"])
    assert refusal(reader) == (
        f"the session database ({owner.engine.dialect.name}) does not allow this user to use the table as sessions"
        " need it"
    )


@pytest.mark.server
def test_a_standby_of_postgresql_is_an_error(shared_database: t.Callable[[str], DatabaseServer]) -> None:
    primary = t.cast("PostgreSQL", shared_database("postgresql"))
    table = f"t{uuid4().hex[:8]}"
    t.cast("t.Any", from_url(primary.url, table=table)).create_schema()
    with Standby(primary) as standby:
        assert refusal(from_url(standby.url, table=table)) == "the session database (postgresql) is read-only"


@pytest.mark.server
def test_a_mariadb_that_is_read_only_is_an_error(
    shared_sql_store: t.Callable[[str], ServerSideStore],
) -> None:
    url = t.cast("t.Any", shared_sql_store("mariadb")).engine.url.update_query_dict(
        {"init_command": "SET SESSION TRANSACTION READ ONLY"}
    )
    store = from_url(url.render_as_string(hide_password=False))
    assert refusal(store) == "the session database (mysql) is read-only"
