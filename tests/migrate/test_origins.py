"""What cannot be read is one SessionCorrupt that says why; an engine that is away is a StoreUnavailable; and what is no
place of Flask-Session's is a ConfigurationError.
"""

from __future__ import annotations

import logging
import pickle
import sqlite3
import subprocess
import sys
import typing as t
import uuid
from pathlib import Path

import msgspec
import pymemcache
import pytest
import redis
import servers
import sqlalchemy as sa
from cachelib.file import FileSystemCache
from cachelib.simple import SimpleCache
from dynamodb_servers import ANYBODY, REGION, TABLE, DynamoDBServer
from engines import NOW, dynamodb, in_files, in_sql, look, make_app, new_table
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from memcached_server import MemcachedServer
from pymongo import MongoClient
from writers import all_recorded

from flask_sessionstore import codec
from flask_sessionstore.errors import ConfigurationError, SessionCorrupt, StoreUnavailable
from flask_sessionstore.migrate import Listing, contents, from_flask_session, from_store
from flask_sessionstore.migrate.importing import to_record
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore

SID = "A" * 43
IN_SQLITE = next(case for case in all_recorded("sqlite") if case.version == "0.8.0")
IN_FILES = next(case for case in all_recorded("files") if case.version == "0.8.0")


def written(folder: Path, data: bytes, sid: str = SID) -> Listing:
    """An importer of files, with these bytes under an id."""
    FileSystemCache(str(folder)).set("session:" + sid, 1)  # so that the name is cachelib's own
    for path in folder.iterdir():
        path.write_bytes(bytes(4) + data)
    return from_flask_session(folder)


# -- records that cannot be read -----------------------------------------------------------------------------------


def deep_msgpack(levels: int, inside: bytes) -> bytes:
    return b"\x81\xa1x" + b"\x91" * levels + inside


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "its first bytes do not belong to a known format"),
    "text": (b"hello", "its first bytes do not belong to a known format"),
    "a pickle of protocol 1": (b"]q\x00.", "its first bytes do not belong to a known format"),
    "a list, pickled": (pickle.dumps([1]), "it is not a mapping"),
    "an object, pickled": (pickle.dumps(SimpleCache), "it is not a mapping, but names cachelib.simple.SimpleCache"),
    "a cut-off pickle": (pickle.dumps({"a": 1})[:-1], "its pickle cannot be read: it is damaged"),
    "cut-off MessagePack": (msgspec.msgpack.encode({"a": "b"})[:-1], "it is not MessagePack that can be read"),
    "more after MessagePack": (b"\x80\xc0", "it is not MessagePack that can be read"),
    "deep MessagePack": (deep_msgpack(100_000, b"\xc0"), "it is not MessagePack that can be read"),
    "a text too deep in MessagePack": (
        deep_msgpack(codec.MAX_DEPTH, msgspec.msgpack.encode("x" * 300)),
        "it is not MessagePack that can be read",
    ),
    "numbers of one hash": (
        msgspec.msgpack.encode({"x": {n * sys.hash_info.modulus: 1 for n in range(1, 4)} | dict.fromkeys(range(2001))}),
        "it is not MessagePack that can be read",
    ),
    "cut-off JSON": (b'{"a": ', "it is not JSON that can be read"),
    "deep JSON": (b'{"a":' * 100_000, "it is not JSON that can be read"),
    "too much": (b"{" + b" " * contents.MAX_SIZE, f"it has more than {contents.MAX_SIZE} bytes"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_says_why_and_shows_nothing_of_it(name: str, tmp_path: Path) -> None:
    data, why = UNREADABLE[name]
    with pytest.raises(SessionCorrupt) as caught:
        look(written(tmp_path / "old", data), SID)
    assert str(caught.value) == why


@pytest.mark.parametrize("data", [b"\x80", b"{}", pickle.dumps({}), b"(dp0\n."])
def test_an_empty_session_is_one_in_every_format(data: bytes, tmp_path: Path) -> None:
    old = look(written(tmp_path / "old", data), SID)
    assert old is not None
    assert old.record.state == {}


def test_a_long_text_in_messagepack_comes_back_as_deep_as_it_may_lie(tmp_path: Path) -> None:
    old = look(written(tmp_path / "old", deep_msgpack(90, msgspec.msgpack.encode("x" * 300))), SID)
    assert old is not None
    value = codec.decode(old.record.state["x"])
    for _ in range(90):
        (value,) = value
    assert value == "x" * 300


def test_a_mapping_with_numbers_for_keys_comes_back_however_deep_it_lies(tmp_path: Path) -> None:
    cart = [{"prices": {n: {"each": n, "text": "x" * 50} for n in range(100)}}]
    old = look(written(tmp_path / "old", msgspec.msgpack.encode({"cart": cart})), SID)
    assert old is not None
    assert codec.decode(old.record.state["cart"]) == cart


def test_a_file_that_is_cut_off_is_damage(tmp_path: Path) -> None:
    importer = written(tmp_path / "old", b"")
    for path in (tmp_path / "old").iterdir():
        path.write_bytes(b"\0\0")
    with pytest.raises(SessionCorrupt):
        look(importer, SID)


@pytest.mark.redis
def test_something_else_under_a_name_in_redis_is_damage(valkey: servers.RedisServer) -> None:
    prefix = f"{uuid.uuid4()}:"
    with redis.Redis.from_url(valkey.url) as client:
        client.rpush(prefix + SID, "a")
    with pytest.raises(SessionCorrupt):
        look(from_flask_session(valkey.url, prefix=prefix), SID)


def test_one_value_that_cannot_be_kept_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    data = {"_user_id": "7", "_permanent": True, 3: "number", "\ud800": "half", "cart": [{"price": SimpleCache}]}
    record = to_record(t.cast("t.Any", data), ["shop.Price"])
    assert sorted(record.state) == ["_user_id"]
    assert record.permanent
    (said,) = caplog.records
    assert said.levelno == logging.WARNING
    assert said.getMessage() == (
        "these values of an imported session cannot be kept, and are left out: a value under a key that is not text;"
        " a value under a key that is not text; cart[0].price (its pickle names shop.Price)"
    )


@pytest.mark.redis
def test_who_goes_through_all_sessions_gets_past_the_one_that_is_none(valkey: servers.RedisServer) -> None:
    prefix, sids = f"{uuid.uuid4()}:", [str(uuid.UUID(int=n, version=4)) for n in range(1200)]
    with redis.Redis.from_url(valkey.url) as client:
        client.mset({prefix + sid: b"{}" for sid in sids})
        client.rpush(prefix + SID, "a")
        client.set(prefix + "owners:" + "0" * 32, b"{}")
    found = dict(from_flask_session(valkey.url, prefix=prefix).listed(make_app(), NOW))
    assert {credential.text for credential in found} == {*sids, SID}
    for credential, find in found.items():
        if credential.text == SID:
            with pytest.raises(SessionCorrupt):
                find()
        else:
            assert find() is not None


@pytest.mark.redis
def test_who_goes_through_all_sessions_leaves_out_what_ends_meanwhile(valkey: servers.RedisServer) -> None:
    prefix = f"{uuid.uuid4()}:"

    class Ending(redis.connection.Connection):
        """Sees one session end between the names and what is under them."""

        def read_response(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            reply = super().read_response(*args, **kwargs)
            if isinstance(reply, list) and prefix + SID in str(reply):
                with redis.Redis.from_url(valkey.url) as other:
                    other.delete(prefix + SID)
            return reply

    with redis.Redis.from_url(valkey.url) as client:
        client.mset({prefix + SID: b"{}", prefix + "B" * 43: b"{}"})
    pool = redis.ConnectionPool.from_url(valkey.url, connection_class=Ending)
    importer = from_flask_session(redis.Redis(connection_pool=pool), prefix=prefix)
    assert [listed.text for listed, _ in importer.listed(make_app(), NOW)] == ["B" * 43]
    pool.disconnect()


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.redis
def test_a_session_without_an_end_in_redis_has_none(valkey: servers.RedisServer) -> None:
    prefix = f"{uuid.uuid4()}:"
    with redis.Redis.from_url(valkey.url) as client:
        client.set(prefix + SID, b"{}")
    old = look(from_flask_session(valkey.url, prefix=prefix), SID)
    assert old is not None
    assert old.ends_at is None


def test_the_newer_of_two_files_is_read_where_cachelib_was_updated(tmp_path: Path) -> None:
    md5 = next(case for case in all_recorded("files") if case.version == "0.6.0")
    importer = in_files(tmp_path / "old", md5)
    name = f"session:{md5.cookie}"
    FileSystemCache(str(tmp_path / "old")).set(name, {"newer": 1})
    old = look(importer, md5.cookie, 0.0)
    assert old is not None
    assert list(old.record.state) == ["newer"]
    credential = importer.recognise(make_app(), md5.cookie)
    assert credential is not None
    importer.remove(credential)
    assert importer.find(make_app(), credential, NOW) is None


def test_the_counter_of_a_cache_of_files_is_no_session(tmp_path: Path) -> None:
    """No id leads to its name; and what it holds would be no mapping."""
    importer = in_files(tmp_path / "old", IN_FILES)
    assert importer.recognise(make_app(), "__wz_cache_count") is None
    counters = [kept for kept in IN_FILES.kept if kept.seconds is None]
    assert len(counters) == 1
    with pytest.raises(SessionCorrupt, match="it is not a mapping"):
        contents.read(counters[0].data[4:])


# -- engines that are away -----------------------------------------------------------------------------------------


def away(what: str, tmp_path: Path) -> Listing:
    if what == "sqlite":
        return from_flask_session(f"sqlite:///{tmp_path}/gone/old.db")
    port = servers._free_port()
    options: dict[str, t.Any] = {"endpoint_url": f"http://127.0.0.1:{port}"} if what == "dynamodb" else {}
    return from_flask_session(
        {
            "redis": f"redis://127.0.0.1:{port}/0",
            "memcached": f"memcached://127.0.0.1:{port}",
            "dynamodb": f"dynamodb://{REGION}/Sessions",
            "mongodb": f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=100",
            "postgresql": f"postgresql://someone:secret@127.0.0.1:{port}/old",
        }[what],
        **options,
    )


@pytest.mark.parametrize("what", ["redis", "memcached", "mongodb", "dynamodb", "postgresql", "sqlite"])
def test_an_engine_that_is_away_is_a_503_and_says_no_password(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ANYBODY.items():
        monkeypatch.setenv(name, value)
    importer, app = away(what, tmp_path), make_app()
    credential = importer.recognise(app, SID)
    assert credential is not None
    calls: list[t.Callable[[], object]] = [
        lambda: importer.find(app, credential, NOW),
        lambda: importer.remove(credential),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert caught.value.code == 503
        assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.redis
def test_an_engine_that_comes_back_is_read(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    server = start_redis()
    importer = from_flask_session(server.url)
    server.stop()
    with pytest.raises(StoreUnavailable):
        look(importer, SID)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set(f"session:{SID}", b'{"_user_id":"7"}')
    old = look(importer, SID)
    assert old is not None
    assert list(old.record.state) == ["_user_id"]


def test_a_folder_that_cannot_be_read_is_a_503_and_one_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert look(from_flask_session(tmp_path / "none"), SID) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        look(from_flask_session(tmp_path / "file"), SID)


def test_a_table_that_is_missing_is_named(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "old.db").close()
    with pytest.raises(ConfigurationError, match=r"no table old_sessions: name it with table="):
        look(from_flask_session(f"sqlite:///{tmp_path}/old.db", table="old_sessions"), SID)


@pytest.mark.parametrize("table", ["old_sessions", TABLE])
def test_a_table_that_is_missing_or_ours_in_dynamodb_is_named(
    table: str, shared_dynamodb: t.Callable[[str], DynamoDBServer]
) -> None:
    importer = from_flask_session(shared_dynamodb("moto").store()._clients.get(), table=table)
    with pytest.raises(ConfigurationError, match=f"no table {table} of Flask-Session's") as caught:
        look(importer, SID)
    assert caught.value.key == "import_session"


def test_dynamodb_without_credentials_is_no_missing_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="credentials") as caught:
        look(from_flask_session(f"dynamodb://{REGION}/Sessions"), SID)
    assert "no table" not in str(caught.value)


def test_in_dynamodb_what_is_no_session_and_what_never_ends(
    shared_dynamodb: t.Callable[[str], DynamoDBServer],
) -> None:
    resource = dynamodb(shared_dynamodb("moto"))
    table = new_table(resource)
    table.put_item(Item={"id": f"session:{SID}", "val": b"{}"})
    table.put_item(Item={"id": f"session:{'B' * 43}", "val": "text"})
    importer = from_flask_session(resource, table=table.name)
    old = look(importer, SID)
    assert old is not None
    assert old.ends_at is None
    with pytest.raises(SessionCorrupt):
        look(importer, "B" * 43)
    assert len(list(from_flask_session(resource, table=table.name, prefix="").listed(make_app(), NOW))) == 0
    assert len(list(importer.listed(make_app(), NOW))) == 2


def test_an_old_database_is_left_as_it_is(tmp_path: Path) -> None:
    importer = in_sql(f"sqlite:///{tmp_path}/old.db", IN_SQLITE)
    before = (tmp_path / "old.db").read_bytes()
    assert look(importer, IN_SQLITE.cookie) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["old.db"]
    assert (tmp_path / "old.db").read_bytes() == before


@pytest.mark.parametrize("kind", ["mariadb", "postgresql", "sqlite"])
def test_an_id_in_other_letters_names_no_session(kind: str, shared_database: t.Any, tmp_path: Path) -> None:
    """MySQL's databases take "A" for "a": each spelling would be a credential of its own, which no log-out ends."""
    url = f"sqlite:///{tmp_path}/old.db" if kind == "sqlite" else shared_database(kind).url
    sid = "aB" * 21 + "c"
    importer = in_sql(url, IN_SQLITE._replace(kept=[IN_SQLITE.kept[0]._replace(name=f"session:{sid}")]))
    assert look(importer, sid) is not None
    assert look(importer, sid.lower()) is None
    assert look(importer, sid.upper()) is None


def keep_in_sqlite(file: Path, *names: str) -> None:
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE sessions (id INTEGER, session_id TEXT COLLATE NOCASE, data BLOB, expiry TIMESTAMP)")
    rows = [(number, name, b'{"_user_id":"7"}') for number, name in enumerate(names)]
    database.executemany("INSERT INTO sessions VALUES (?, ?, ?, NULL)", rows)
    database.commit()
    database.close()


def test_where_letters_are_equal_only_the_very_name_is_removed_and_listed(tmp_path: Path) -> None:
    keep_in_sqlite(tmp_path / "old.db", f"session:{'a' * 43}", f"session:{SID}", f"SESSION:{'b' * 43}")
    importer, app = from_flask_session(f"sqlite:///{tmp_path}/old.db"), make_app()
    credential = importer.recognise(app, SID)
    assert credential is not None
    importer.remove(credential)
    assert importer.find(app, credential, NOW) is None
    assert look(importer, "a" * 43) is not None
    assert [listed.text for listed, _ in importer.listed(app, NOW)] == ["a" * 43]


def postgresql_with_one(url: str) -> tuple[sa.Engine, str]:
    """An engine whose connections have the name of the table, which has one old session."""
    table = f"old_{uuid.uuid4().hex}"
    url = url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url, connect_args={"application_name": table})
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} (id INT, session_id TEXT, data BYTEA, expiry TIMESTAMP)")
        row = {"name": f"session:{SID}", "data": b"{}"}
        connection.execute(sa.text(f"INSERT INTO {table} VALUES (1, :name, :data, NULL)"), row)
    return engine, table


CONFLICT = """
CREATE SEQUENCE {0}_tries;
CREATE FUNCTION {0}_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('{0}_tries') = 1 THEN
        RAISE EXCEPTION 'met another' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER once BEFORE DELETE ON {0} FOR EACH ROW EXECUTE FUNCTION {0}_once();
"""


@pytest.mark.server
def test_a_removal_that_met_another_transaction_is_sent_again(shared_database: t.Any) -> None:
    """A sequence counts on where its transaction fails, so the first removal fails, and only that."""
    engine, table = postgresql_with_one(shared_database("postgresql").url)
    with engine.begin() as connection:
        connection.exec_driver_sql(CONFLICT.format(table))
    importer, app = from_flask_session(engine, table=table), make_app()
    credential = importer.recognise(app, SID)
    assert credential is not None
    importer.remove(credential)
    assert importer.find(app, credential, NOW) is None
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT last_value FROM {table}_tries").scalar_one() == 2
    engine.dispose()


@pytest.mark.server
def test_a_connection_that_the_server_closed_is_replaced(shared_database: t.Any) -> None:
    engine, table = postgresql_with_one(shared_database("postgresql").url)
    importer = from_flask_session(engine, table=table)
    assert look(importer, SID) is not None
    other = sa.create_engine(engine.url)
    with other.connect() as connection:
        end = sa.text("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = :name")
        assert connection.execute(end, {"name": table}).scalars().all() == [True]
    assert look(importer, SID) is not None
    other.dispose()
    engine.dispose()


# -- where they are ------------------------------------------------------------------------------------------------


def test_clients_engines_and_caches_are_taken_as_they_are(
    valkey: servers.RedisServer, shared_memcached: MemcachedServer, tmp_path: Path
) -> None:
    data, name = b'{"_user_id":"7"}', f"session:{SID}"
    app = make_app(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/old.db")
    database = SQLAlchemy(app)
    memcached = pymemcache.Client(("127.0.0.1", shared_memcached.port), key_prefix=f"{uuid.uuid4()}:".encode())
    memcached.set(name, data, noreply=False)
    prefix = f"{uuid.uuid4()}:"
    client = redis.Redis.from_url(valkey.url)
    client.set(prefix + SID, data)
    cache = FileSystemCache(str(tmp_path / "files"))
    cache.set(name, {"_user_id": "7"})
    with app.app_context(), database.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE sessions (id INTEGER, session_id TEXT, data BLOB, expiry DATETIME)"))
        connection.execute(sa.text("INSERT INTO sessions VALUES (1, :name, :data, NULL)"), {"name": name, "data": data})
    with app.app_context():
        engine = database.engine
    for importer in (
        from_flask_session(engine),
        from_flask_session(memcached),
        from_flask_session(client, prefix=prefix),
        from_flask_session(cache),
        from_flask_session(f"file://{tmp_path}/files"),
        from_flask_session(str(tmp_path / "files")),
    ):
        old = look(importer, SID)
        assert old is not None
        assert list(old.record.state) == ["_user_id"]
    engine.dispose()
    client.close()
    memcached.close()


@pytest.mark.parametrize(
    ("source", "options", "why"),
    [
        ("gopher://old", {}, "this URL's scheme is not a known kind of origin"),
        (7, {}, "an object of type int is not a known kind of origin"),
        (SimpleCache(), {}, "of cachelib's caches only FileSystemCache can be read, not SimpleCache"),
        ("redis://localhost", {"table": "x"}, "an option does not fit"),
        ("folder", {"table": "x"}, "an option does not fit"),
        ("redis:///0", {}, "lacks the Redis server"),
        ("memcached://", {}, "write memcached://host:11211"),
        (sa.MetaData(), {}, "it takes an Engine"),
    ],
)
def test_what_is_no_place_of_flask_sessions_is_said_at_start(source: t.Any, options: t.Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        from_flask_session(source, **options)
    assert str(caught.value).startswith("from_flask_session: ")
    assert "SESSION_STORE" not in str(caught.value)


def test_a_database_of_mongodbs_is_no_client() -> None:
    with (
        MongoClient[t.Any]("mongodb://127.0.0.1:1", connect=False) as client,
        pytest.raises(ConfigurationError, match="it takes a MongoClient"),
    ):
        from_flask_session(client["flask_session"]["sessions"])


def test_a_store_without_a_servers_side_has_nothing_to_import() -> None:
    with pytest.raises(ConfigurationError, match="from_store takes a store on the server's side, not CookieStore"):
        from_store(CookieStore())


def test_what_goes_on_under_another_cookie_in_the_same_store_is_not_removed() -> None:
    with pytest.raises(ConfigurationError, match="leave out remove=True"):
        from_store(MemoryStore(), former=Flask("former"), remove=True)


def test_no_driver_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from flask_sessionstore import migrate;"
        " migrate.from_flask(); migrate.from_flask_session('folder');"
        " print(sorted({'redis', 'sqlalchemy', 'pymemcache', 'pymongo', 'cachelib', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymemcache.client.base", None)
    monkeypatch.delitem(sys.modules, "flask_sessionstore.stores.memcached", raising=False)
    monkeypatch.delitem(sys.modules, "flask_sessionstore.migrate.origins.memcached", raising=False)
    with pytest.raises(ConfigurationError, match="it needs a driver that is not installed: pip install pymemcache"):
        from_flask_session("memcached://127.0.0.1")
