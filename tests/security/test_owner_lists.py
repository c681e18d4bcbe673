"""Owners' lists: what others wrote there, what was lost, clocks that are ahead, and many sessions."""

from __future__ import annotations

import hashlib
import time
import typing as t
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import servers
from attacks import target
from every_store import lists_of, sql_store
from flask import session
from http_support import Browser, make_app, started

from flask_sessionstore import Record, SessionKey, owners
from flask_sessionstore.layout import HEAD_SIZE
from flask_sessionstore.record import TOMBSTONE_TIME
from flask_sessionstore.stores import ServerSideStore, from_url, list_name
from flask_sessionstore.stores.dynamodb import DynamoDBStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.mongodb import MongoDBStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.testing import Clock

DAY = timedelta(days=1)
HOUR = 3600.0
ANN = hashlib.sha256(b"ann").hexdigest()[:32]
LATER = TOMBSTONE_TIME.total_seconds() + 1
KEY = "_user_id"


def saved(store: ServerSideStore, owner: str = "ann", ttl: timedelta = DAY) -> SessionKey:
    return store.save(Record(state={"a": b"1"}, owner=owner), ttl)


def listed(store: ServerSideStore, owner: str = "ann") -> list[str]:
    return [entry.handle for entry in lists_of(store).entries(owner)]


def prune(store: ServerSideStore) -> int:
    return lists_of(store).prune()


@pytest.fixture
def store(valkey: servers.RedisServer, clock: Clock) -> RedisStore:
    store = RedisStore.from_url(valkey.url, prefix=f"{uuid4()}:")
    store.clock = clock
    return store


@pytest.fixture
def client(valkey: servers.RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> FileSystemStore:
    store = FileSystemStore(tmp_path / "sessions")
    store.clock = clock
    return store


@pytest.fixture(params=["redis", "file"])
def apart(request: pytest.FixtureRequest) -> ServerSideStore:
    """The stores whose lists are apart from their records."""
    return t.cast("ServerSideStore", request.getfixturevalue({"redis": "store", "file": "files"}[request.param]))


# -- names ---------------------------------------------------------------------------------------------------------


def test_the_name_of_a_list_shows_no_address(store: RedisStore, client: redis.Redis, files: FileSystemStore) -> None:
    owner = "ann@example.org"
    for one in (store, files):
        saved(one, owner)
    names = [key.decode() for key in client.scan_iter(f"{store.prefix}*", count=10_000)]
    names += [str(path) for path in files.path.rglob("*")]
    assert f"{store.prefix}owners:{list_name(owner)}" in names
    assert any(path.endswith(f"/.owners/{list_name(owner)[:2]}/{list_name(owner)}") for path in names)
    assert not any("ann" in name.replace(store.prefix, "") or "example" in name for name in names)


@pytest.mark.parametrize("longer", ["owners:", "owner:", "0", "a", "ffffffff", "owners:0"])
@pytest.mark.parametrize("engine", ["redis", "file"])
def test_a_prefix_that_begins_with_ours_has_lists_and_records_of_its_own(
    longer: str, engine: str, valkey: servers.RedisServer, tmp_path: Path, clock: Clock
) -> None:
    url, base = (valkey.url, f"{uuid4()}:") if engine == "redis" else (f"file://{tmp_path}/sessions", "session:")
    ours, theirs = (t.cast("t.Any", from_url(url, prefix=prefix)) for prefix in (base, base + longer))
    ours.clock = theirs.clock = clock
    mine, other = saved(ours), saved(theirs)
    saved(theirs, mine.handle)  # whose owner is named as our record
    assert (listed(ours), listed(theirs)) == ([mine.handle], [other.handle])
    assert [entry.handle for entry in ours.scan()] == [mine.handle]
    assert owners.end_all(ours, "ann") == 1
    clock.advance(HOUR)
    assert (prune(ours), prune(theirs)) == (0, 0)
    assert theirs.load(other)


# -- what others wrote ---------------------------------------------------------------------------------------------


def test_members_that_are_no_handles_and_scores_that_are_no_times_are_left_alone(
    store: RedisStore, client: redis.Redis, clock: Clock
) -> None:
    key, name = saved(store), f"{store.prefix}owners:{ANN}"
    foreign: dict[bytes, float] = {
        b"": 1,
        b"\xff\x00": 2,
        b"A" * 64: 3,
        b"0" * 63: 4,
        b"1" * 64: float("inf"),
        b"2" * 64: float("-inf"),
        b"owners:ann": 1e300,
    }
    client.zadd(name, t.cast("t.Any", foreign))
    app = target(store, clock)
    with app.app_context():
        sessions = app.extensions["sessionstore"]
        assert [info.handle for info in sessions.find("ann")] == [key.handle]
        clock.advance(HOUR)
        for _ in range(40):  # whose list is looked through when it has doubled
            saved(store)
        assert prune(store) == 0
        assert sessions.revoke_all("ann") == 41
        assert prune(store) == 0
    assert dict(t.cast("t.Any", client.zrange(name, 0, -1, withscores=True))) == foreign


def test_keys_of_the_application_below_our_prefix_are_left_alone(
    store: RedisStore, client: redis.Redis, clock: Clock
) -> None:
    names = ["cart", "owners:", "owners:ann", f"owners:{ANN}0", f"owners:{ANN[1:]}", f"owners:x{ANN[1:]}"]
    for name in names:
        client.zadd(store.prefix + name, {"0" * 64: 1})
    client.set(store.prefix + "0" * 63, "text")
    saved(store, ttl=timedelta(seconds=1))
    clock.advance(HOUR)
    store.prune()
    assert [entry for entry in store.scan() if len(entry.handle) != 64] == []
    assert [client.zcard(store.prefix + name) for name in names] == [1] * len(names)
    assert client.get(store.prefix + "0" * 63) == b"text"


def test_what_is_no_entry_in_an_owners_folder_is_left_alone(files: FileSystemStore, clock: Clock) -> None:
    key = saved(files)
    folder = files.path / ".owners" / ANN[:2] / ANN
    (folder / "README").write_text("theirs")
    (folder / f"session%3A{'0' * 64}").mkdir()
    (folder / f"session%3A{'1' * 64}").symlink_to("README")
    (folder.parent / "notes").write_text("theirs")
    (folder.parent.parent / "zz").mkdir()
    (folder.parent.parent / "zz" / ("0" * 32)).mkdir()
    assert listed(files) == [key.handle]
    clock.advance(HOUR * 48)
    assert prune(files) == 1
    assert len(list((files.path / ".owners").rglob("*"))) == 8


def test_a_file_in_the_place_of_an_owners_folder_keeps_nobody_from_signing_in(
    files: FileSystemStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    folder = files.path / ".owners" / ANN[:2] / ANN
    saved(files, "bob")
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("theirs")
    app = target(files, clock, SESSION_MAX_PER_OWNER=2)
    user = started(app, _user_id="ann")
    assert user.data == {KEY: "ann"}
    assert "not listed" in caplog.text
    with app.app_context(), pytest.raises(Exception, match="something that is not a folder"):
        app.extensions["sessionstore"].revoke_all("ann")
    files.unfile("ann", "0" * 64)
    assert prune(files) == 0
    assert folder.read_text() == "theirs"


# -- what was lost -------------------------------------------------------------------------------------------------


def lose(store: ServerSideStore) -> None:
    """As who restores a part, evicts a list, or cleans up what is old below /tmp."""
    (handle,) = listed(store)
    lists_of(store).unfile("ann", handle)
    assert listed(store) == []


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize("what", ["untouched", "read", "written"])
def test_a_lost_entry_comes_back_when_its_session_is_extended(
    what: str, permanent: bool, apart: ServerSideStore, clock: Clock
) -> None:
    app = make_app(apart, SESSION_PERMANENT=permanent)
    app.session_interface.store.clock = clock  # type: ignore[attr-defined]
    user = started(app, _user_id="ann")
    lose(apart)
    act: dict[str, t.Callable[[], object]] = {
        "untouched": lambda: None,
        "read": lambda: session.get(KEY),
        "written": lambda: session.update(n=clock()),
    }
    user.does(act[what])
    assert listed(apart) == [], "no request pays for it but those that extend"
    clock.advance(LATER)
    user.does(act[what])
    came_back = permanent or what != "untouched"  # a browser session that nobody touches is not extended either
    assert len(listed(apart)) == came_back
    assert len(owners.find(apart, "ann")) == came_back


def test_an_extension_touches_the_entry(files: FileSystemStore, clock: Clock) -> None:
    """Else who cleans up below /tmp takes it for old."""
    app = target(files, clock)
    user = started(app, _user_id="ann")
    (entry,) = (files.path / ".owners").rglob("session*")
    for _ in range(3):
        clock.advance(HOUR * 24 * 9)
        user.does(lambda: session.get(KEY))
        assert entry.stat().st_mtime == clock()


# -- clocks --------------------------------------------------------------------------------------------------------


def ahead(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From here on, this process' clock is."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)


def test_a_clean_up_by_a_machine_whose_clock_is_ahead_takes_no_entry_away(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that of a living session nor that of one which is just being made."""
    store.clock = None
    made = [saved(store).handle for _ in range(3)]
    store.file("ann", "0" * 64)
    ahead(monkeypatch, 2 * DAY.total_seconds())
    assert store.prune() == 0
    for _ in range(20):
        store.file("ann", SessionKey.generate().handle)
    assert {*made, "0" * 64} <= set(listed(store))


def test_a_session_that_is_being_made_is_barred_by_a_machine_whose_clock_is_ahead(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.clock = None
    store.file("ann", "0" * 64)
    ahead(monkeypatch, HOUR)
    owners.end_all(store, "ann")
    assert store.read("0" * 64) is not None


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_clean_up_of_a_database_goes_by_its_clock(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sql_store(name, request)
    living, expired = saved(store), saved(store, ttl=timedelta(milliseconds=1))
    assert abs(store._engines_now_ms() - time.time() * 1000) < 5000
    ahead(monkeypatch, 2 * DAY.total_seconds())
    while not store.delete_expired():
        assert store.load(expired) is None
    monkeypatch.undo()
    assert store.load(living) is not None
    assert store.delete_expired() == 0


def test_a_clean_up_by_a_machine_whose_clock_is_behind_is_no_use_and_no_harm(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.clock = None
    key = saved(store)
    ahead(monkeypatch, -2 * DAY.total_seconds())
    assert store.prune() == 0
    assert listed(store) == [key.handle]


# -- many sessions -------------------------------------------------------------------------------------------------


def test_a_list_is_made_from_heads(index: ServerSideStore) -> None:
    if isinstance(index, (DynamoDBStore, MongoDBStore)):
        pytest.skip("this engine gives no part of a value")
    index.save(Record(state={"a": bytes(200_000)}, owner="ann"), DAY)
    (entry,) = lists_of(index).entries("ann")
    in_memory = isinstance(lists_of(index), MemoryStore)
    assert in_memory or len(t.cast("bytes", entry.data)) == HEAD_SIZE
    assert len(owners.find(index, "ann")) == 1


def test_the_newest_ends_first_and_so_before_whatever_cuts_it_off(
    index: ServerSideStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief's, who signed in last, goes on for as long as it takes to end one batch."""
    index.clock = clock
    made = []
    for _ in range(6):
        made.append(saved(index))
        clock.advance(1)
    index.update_ttl(made[0])
    monkeypatch.setattr(owners, "_BATCH", 2)
    end_each = index.end_each

    def killed(revisions: t.Mapping[str, bytes], owner: str) -> list[str]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(list(revisions))
        return end_each(revisions, owner)

    asked: list[list[str]] = []
    monkeypatch.setattr(index, "end_each", killed)
    with pytest.raises(KeyboardInterrupt):
        owners.end_all(index, "ann")
    assert asked == [[made[0].handle, made[5].handle], [made[4].handle, made[3].handle]]
    assert set(owners.find(index, "ann")) == {made[1].handle, made[2].handle}


def test_who_writes_all_the_time_is_not_left_for_last(
    index: ServerSideStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.clock = clock
    old = saved(index)
    clock.advance(1)
    thief = saved(index)
    monkeypatch.setattr(owners, "_BATCH", 1)
    end_each = index.end_each

    def written_meanwhile(revisions: t.Mapping[str, bytes], owner: str) -> list[str]:
        if old.handle in revisions:
            raise KeyboardInterrupt
        record = t.cast("Record", index.load(thief))
        index.update(thief, Record(state={"a": b"2"}, owner="ann"), DAY, replaces=record.revision)
        return end_each(revisions, owner)

    monkeypatch.setattr(index, "end_each", written_meanwhile)
    with pytest.raises(KeyboardInterrupt):
        owners.end_all(index, "ann")
    assert list(owners.find(index, "ann")) == [old.handle]


class Noted:
    """A client that counts round trips."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.trips = client, 0

    def execute_command(self, *args: t.Any) -> t.Any:
        self.trips += 1
        return self.client.execute_command(*args)  # type: ignore[no-untyped-call]

    def pipeline(self, *, transaction: bool) -> t.Any:
        self.trips += 1
        return self.client.pipeline(transaction=transaction)


def test_two_thousand_sessions_are_found_and_ended_in_a_round_trip_for_each_five_hundred(client: redis.Redis) -> None:
    noted = Noted(client)
    store = RedisStore(noted, prefix=f"{uuid4()}:")
    for _ in range(2000):
        saved(store)
    listed(store)  # the server learns the script
    noted.trips = 0
    assert len(owners.find(store, "ann")) == 2000
    assert noted.trips == 1 + 4
    noted.trips = 0
    assert owners.end_all(store, "ann") == 2000
    assert noted.trips == (1 + 4) + 4 + 1 + 1  # found, ended, taken off the list, and looked at once more
    assert listed(store) == []


@pytest.mark.parametrize("name", ["postgresql", "mariadb", "sqlite"])
def test_a_thousand_rows_are_ended_by_two_statements(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sql_store(name, request)
    for _ in range(1000):
        saved(store)
    exchanges, run = [], store._run

    def counted(*args: t.Any) -> t.Any:
        exchanges.append(args)
        return run(*args)

    monkeypatch.setattr(store, "_run", counted)
    assert owners.end_all(store, "ann") == 1000
    assert len(exchanges) == 1 + 2 + 1


def test_the_first_sign_in_under_a_limit_ends_what_was_there_in_batches(store: RedisStore, client: redis.Redis) -> None:
    for _ in range(700):
        saved(store)
    noted = Noted(client)
    limited = RedisStore(noted, prefix=store.prefix)
    limited.clock = store.clock
    t.cast("Clock", store.clock).advance(1)
    app = make_app(limited, SESSION_MAX_PER_OWNER=3)
    browser = Browser(app)
    browser.does(lambda: session.update({KEY: "ann"}))
    assert len(owners.find(limited, "ann")) == 3
    assert noted.trips < 30
    assert browser.data == {KEY: "ann"}


def test_a_full_server_ends_many_all_the_same(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    server = start_redis(maxmemory_policy="noeviction")
    store = RedisStore.from_url(server.url)
    for _ in range(20):
        saved(store)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
    assert owners.end_all(store, "ann") == 20
    assert owners.find(store, "ann") == {}
