"""Owners' lists in Redis and in files: what they cost, that they never lose an entry, and that nothing is left."""

from __future__ import annotations

import hashlib
import threading
import typing as t
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import servers
from flask import session
from http_support import Browser, make_app

from flask_sessionstore import Record, SessionGone, SessionKey, StoreUnavailable
from flask_sessionstore.record import TOMBSTONE_TIME
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.stores.redis.scripts import DIGESTS, LIST, UNFILE
from flask_sessionstore.testing import Clock

DAY = timedelta(days=1)
LATER = TOMBSTONE_TIME.total_seconds() + 1
#: The name of ann's list.
ANN = hashlib.sha256(b"ann").hexdigest()[:32]
ODD_OWNERS = ["", " ", "a b", "a*", "[a-z]?", "\\", "owner:ann", "{tag}", "a{b}c", "Łukasz", "../..", "\n\0", "ö" * 255]


def saved(store: RedisStore | FileSystemStore, owner: str | None = "ann", ttl: timedelta = DAY) -> SessionKey:
    return store.save(Record(state={"a": b"1"}, owner=owner), ttl)


def handles(store: RedisStore | FileSystemStore, owner: str = "ann") -> list[str]:
    return [entry.handle for entry in store.entries(owner)]


# -- Redis: round trips --------------------------------------------------------------------------------------------


class Counting:
    """A client that notes the commands it is given. It sends one at a time."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.sent = client, t.cast("list[str]", [])

    def execute_command(self, *args: t.Any) -> t.Any:
        self.sent.append(args[0])
        return self.client.execute_command(*args)  # type: ignore[no-untyped-call]


class Pipelining(Counting):
    """A client that notes its round trips."""

    def pipeline(self, *, transaction: bool) -> t.Any:
        pipeline = self.client.pipeline(transaction=transaction)
        execute = pipeline.execute

        def noted(**options: t.Any) -> list[t.Any]:
            self.sent.append(" ".join(sorted({command[0][0] for command in pipeline.command_stack})))
            return execute(**options)

        pipeline.execute = noted  # type: ignore[assignment,method-assign]
        return pipeline


@pytest.fixture
def client(valkey: servers.RedisServer) -> redis.Redis:
    return redis.Redis.from_url(valkey.url)


@pytest.fixture
def counted(client: redis.Redis) -> RedisStore:
    """A store whose ``client.sent`` tells its commands; the server has learnt its scripts."""
    store = RedisStore(Pipelining(client), prefix=f"{uuid4()}:")
    key = saved(store)
    store.update_ttl(key)
    store.delete(key, replaces=t.cast("Record", store.load(key)).revision)
    store.delete(saved(store))
    return store


def sent(store: RedisStore, call: t.Callable[[], object]) -> list[str]:
    commands = t.cast("Counting", store.client).sent
    commands.clear()
    call()
    return list(commands)


def test_an_owner_is_one_round_trip_more_where_it_signs_in_and_none_elsewhere(counted: RedisStore) -> None:
    app = make_app(counted)
    browser = Browser(app)

    def sign_out() -> None:
        session.clear()

    def cost(key: str, value: object) -> int:
        return len(sent(counted, lambda: browser.does(lambda: session.__setitem__(key, value))))

    assert cost("cart", 1) == 1
    assert cost("_user_id", "ann") == 4  # it would be three: read, make the new one, end the old one
    assert cost("cart", 2) == 2
    assert len(sent(counted, lambda: browser.does(lambda: session["cart"]))) == 1
    assert len(sent(counted, lambda: browser.does(sign_out))) == 2
    assert cost("cart", 1) == 1
    assert cost("_user_id", "ann") == 4


def test_a_hundred_sessions_of_an_owner_are_two_round_trips(counted: RedisStore) -> None:
    made = {saved(counted).handle for _ in range(100)}
    handles(counted)  # the server learns the script
    assert sent(counted, lambda: made.issubset(handles(counted))) == ["EVALSHA", "GETRANGE"]
    assert made <= set(handles(counted))


# -- Redis: lists that are kept short ------------------------------------------------------------------------------


@pytest.fixture
def store(valkey: servers.RedisServer, clock: Clock) -> RedisStore:
    store = RedisStore.from_url(valkey.url, prefix=f"[{uuid4()}]*:")
    store.clock = clock
    return store


def keys(client: redis.Redis, store: RedisStore) -> list[str]:
    prefix = store.prefix.encode()
    return [key.removeprefix(prefix).decode() for key in client.scan_iter(count=10_000) if key.startswith(prefix)]


def test_a_list_stays_short_where_nobody_ever_cleans_up(store: RedisStore, clock: Clock) -> None:
    """Somebody who signs in every day for a year, and never out."""
    for _ in range(365):
        saved(store, ttl=timedelta(milliseconds=1))
        clock.advance(86_400)
    assert len(handles(store)) <= 16


def test_a_list_of_living_sessions_is_kept_whole(store: RedisStore) -> None:
    made = {saved(store).handle for _ in range(70)}
    assert set(handles(store)) == made


def test_a_clean_up_that_fails_costs_no_sign_in(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    with redis.Redis.from_url(start_redis().url) as client:

        class Refusing(Counting):
            def execute_command(self, *args: t.Any) -> t.Any:
                if args[1] in (LIST, DIGESTS[LIST]):
                    raise redis.exceptions.ConnectionError
                return super().execute_command(*args)

        store = RedisStore(Refusing(client))
        made = [saved(store) for _ in range(17)]
        assert all(store.load(key) for key in made)
        assert client.zcard(f"session:owners:{ANN}") == 17
        with pytest.raises(StoreUnavailable):
            store.entries("ann")
        with pytest.raises(StoreUnavailable):
            store.prune()


def test_ten_thousand_sessions_come_and_go_and_leave_nothing(
    store: RedisStore, clock: Clock, client: redis.Redis
) -> None:
    """But tombstones, which have seconds to live."""
    ended = []
    for n in range(10_000):
        lasting = n % 20 == 0
        key = saved(store, f"user {n % 700}", DAY if lasting else timedelta(milliseconds=1))
        ended += [key] if lasting else []
    for key in ended[::2]:
        store.delete(key)
    for key in ended[1::2]:
        store.end(key.handle)
    clock.advance(TOMBSTONE_TIME.total_seconds() + 1)
    assert store.prune(5) == 5
    assert store.prune() > 700
    assert store.prune() == 0
    left = keys(client, store)
    assert set(left) <= {key.handle for key in ended}  # of which Redis may have forgotten some by now
    seconds_left = [client.ttl(store.prefix + name) for name in left]
    assert all(seconds <= LATER and seconds != -1 for seconds in seconds_left)  # -1: for ever


def test_what_was_filed_again_meanwhile_stays(store: RedisStore, clock: Clock, client: redis.Redis) -> None:
    """A slow sign-in, whose entry was found to be old just before it was renewed."""
    handle = "0" * 64
    store.file("ann", handle)
    clock.advance(LATER)
    pruned, going = threading.Event(), threading.Event()

    class Slow(Counting):
        def execute_command(self, *args: t.Any) -> t.Any:
            if args[:2] == ("EVAL", UNFILE):
                pruned.set()
                going.wait(10)
            return super().execute_command(*args)

    other = RedisStore(Slow(client), prefix=store.prefix)
    other.clock = clock
    thread = threading.Thread(target=other.prune)
    thread.start()
    assert pruned.wait(10)
    clock.advance(1)
    store.file("ann", handle)
    going.set()
    thread.join()
    assert handles(store) == [handle]


@pytest.mark.parametrize("owner", ODD_OWNERS)
def test_any_text_is_an_owner_in_redis(store: RedisStore, clock: Clock, owner: str) -> None:
    key = saved(store, owner)
    gone = saved(store, owner)
    saved(store, "another")
    assert set(handles(store, owner)) == {key.handle, gone.handle}
    store.delete(gone)
    clock.advance(1)
    assert store.prune() == 1
    assert handles(store, owner) == [key.handle]
    store.unfile(owner, key.handle)
    assert handles(store, owner) == []


@pytest.mark.parametrize("prefix", ["", "a:", "a*:", "[a]:", "a\\:", "ü:"])
def test_prefixes_share_a_database_and_nothing_else(
    start_redis: t.Callable[..., servers.RedisServer], clock: Clock, prefix: str
) -> None:
    """Whatever is in them; and what is no session of ours is left alone."""
    server = start_redis()
    with redis.Redis.from_url(server.url) as client:
        client.set(f"{prefix}owners:{'0' * 32}", "foreign")
        client.zadd(f"{prefix}owners:text", {"0" * 64: 1})
        client.set(f"{prefix}0123", "foreign")
        store, other = (RedisStore.from_url(server.url, prefix=text) for text in (prefix, "aa:"))
        store.clock = other.clock = clock
        key = saved(store)
        assert [entry.handle for entry in store.scan()] == [key.handle]
        saved(other, ttl=timedelta(milliseconds=1))
        clock.advance(LATER)
        assert store.prune() == 0
        assert len(handles(other)) == 1
        assert other.prune() == 1
        assert handles(store) == [key.handle]


def test_a_full_server_lets_sessions_be_found_and_leave(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    server = start_redis(maxmemory_policy="noeviction")
    store = RedisStore.from_url(server.url)
    made = [saved(store) for _ in range(3)]
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="memory"):
            saved(store)
        assert set(handles(store)) == {key.handle for key in made}
        assert store.end(made[0].handle, owner="ann")
        store.drop(made[1].handle)
        store.clock = Clock(store.now() + LATER)
        assert store.prune() == 1
        assert handles(store) == [made[2].handle]


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def files(folder: Path, clock: Clock) -> FileSystemStore:
    store = FileSystemStore(folder)
    store.clock = clock
    return store


def filed(folder: Path) -> list[Path]:
    """All that is in the owners' folders, and these."""
    return [path for path in folder.glob(".owners/??/*") if path.is_dir()] + list(folder.glob(".owners/??/*/*"))


def test_an_owners_folder_is_named_by_its_digest_and_for_its_user_alone(
    folder: Path, files: FileSystemStore, clock: Clock
) -> None:
    key = saved(files)
    entry = folder / ".owners" / ANN[:2] / ANN / f"session%3A{key.handle}"
    assert (entry.stat().st_size, entry.stat().st_mtime) == (0, clock())
    assert entry.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (entry.parent, *list(entry.parents)[1:4])} == {0o700}


def test_filing_again_renews_the_time(files: FileSystemStore, clock: Clock) -> None:
    files.file("ann", "0" * 64)
    clock.advance(40)
    files.file("ann", "0" * 64)
    (entry,) = files.entries("ann")
    assert entry.filed_ms == clock() * 1000
    clock.advance(TOMBSTONE_TIME.total_seconds() - 1)
    assert files.prune() == 0
    clock.advance(1)
    assert files.prune() == 1


@pytest.mark.parametrize("owner", ODD_OWNERS)
def test_any_text_is_an_owner_in_files(files: FileSystemStore, owner: str) -> None:
    key, gone = saved(files, owner), saved(files, owner)
    assert set(handles(files, owner)) == {key.handle, gone.handle}
    files.delete(gone)
    assert files.prune() == 1
    assert handles(files, owner) == [key.handle]
    files.unfile(owner, key.handle)
    assert filed(files.path) == []


def test_what_is_anothers_by_now_and_what_is_nobodys_leaves(files: FileSystemStore) -> None:
    for owner in ("bob", "", None):
        key = saved(files, owner)
        files.file("ann", key.handle)
        assert files.prune() == 1
        assert handles(files) == []


def test_what_cannot_be_read_stays(files: FileSystemStore, folder: Path) -> None:
    """It may be a later version's."""
    key = saved(files)
    (folder / key.handle[:2] / f"session%3A{key.handle}").write_bytes(b"\x02" * 200)
    assert files.prune() == 0
    assert handles(files) == [key.handle]


def test_sessions_come_and_go_and_leave_no_file(files: FileSystemStore, folder: Path, clock: Clock) -> None:
    made = [saved(files, f"user {n % 30}", timedelta(minutes=1)) for n in range(600)]
    for key in made[::3]:
        files.delete(key)
    for key in made[1::3]:
        files.end(key.handle)
    clock.advance(60 + LATER)
    assert files.prune(7) == 7
    assert files.prune() == 400 - 7
    assert filed(folder) == []
    files.delete_expired()
    left = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".locks"]
    assert left == [folder / ".gitignore"]


def test_a_list_does_not_grow_with_sessions_that_have_gone(files: FileSystemStore, folder: Path, clock: Clock) -> None:
    """A sign-in prunes a list that has doubled, so nobody has to clean up."""
    living, longest = [saved(files) for _ in range(5)], 0
    for _ in range(100):
        saved(files, ttl=timedelta(minutes=1))
        longest = max(longest, len(handles(files)))
        clock.advance(60 + LATER)
    assert longest == 15
    assert {key.handle for key in living} <= set(handles(files))


def test_an_extension_prunes_no_list(files: FileSystemStore, clock: Clock) -> None:
    made = [saved(files, ttl=timedelta(minutes=1)) for _ in range(16)]
    clock.advance(60 + LATER)
    for key in made:
        files.file("ann", key.handle)
    assert len(handles(files)) == 16


def test_a_list_that_cannot_be_pruned_stops_no_sign_in(files: FileSystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> bool:
        raise StoreUnavailable

    monkeypatch.setattr(FileSystemStore, "_prune", fail)
    made = {saved(files).handle for _ in range(17)}
    assert set(handles(files)) == made


def test_a_folder_that_a_killed_clean_up_left_goes_with_the_next(files: FileSystemStore, folder: Path) -> None:
    key = saved(files)
    (left,) = [path for path in filed(folder) if path.is_file()]
    left.unlink()
    assert (files.prune(), filed(folder)) == (0, [])
    files.file("ann", key.handle)
    assert handles(files) == [key.handle]


def test_prefixes_share_a_folder_and_no_entry(folder: Path, clock: Clock) -> None:
    one, other = FileSystemStore(folder, prefix="one/"), FileSystemStore(folder, prefix="")
    one.clock = other.clock = clock
    key = saved(one)
    assert (handles(other), list(other.scan())) == ([], [])
    clock.advance(100_000)
    assert other.prune() == 0
    assert handles(one) == [key.handle]
    assert [entry.handle for entry in one.scan()] == [key.handle]
    assert one.prune() == 1
    assert filed(folder) == []


def test_nothing_is_made_to_find_nobody(files: FileSystemStore, folder: Path) -> None:
    assert (files.entries("ann"), files.prune(), list(files.scan())) == ([], 0, [])
    files.unfile("ann", "0" * 64)
    assert not folder.exists()


def test_filing_beside_a_clean_up_loses_nothing(folder: Path, clock: Clock) -> None:
    """Its folder is made and removed all the time, and so are its neighbours."""
    stop, failures = threading.Event(), t.cast("list[BaseException]", [])

    def go_through() -> None:
        store = FileSystemStore(folder)
        store.clock = clock
        while not stop.is_set():
            store.prune()

    def sign_in_and_out(n: int) -> None:
        store = FileSystemStore(folder)
        store.clock = clock
        try:
            for _ in range(60):
                key = saved(store)
                assert key.handle in handles(store)
                assert store.end(key.handle, owner="ann")
        except BaseException as error:  # noqa: BLE001  - a thread's failure is the test's
            failures.append(error)

    brooms = [threading.Thread(target=go_through) for _ in range(2)]
    visitors = [threading.Thread(target=sign_in_and_out, args=(n,)) for n in range(3)]
    for thread in brooms + visitors:
        thread.start()
    for thread in visitors:
        thread.join()
    stop.set()
    for thread in brooms:
        thread.join()
    assert failures == []
    FileSystemStore(folder).prune()
    assert filed(folder) == []


def test_an_entry_that_is_renewed_beside_a_clean_up_stays(files: FileSystemStore, clock: Clock) -> None:
    """Each time it is old when it is looked at, or just renewed, and never both."""
    stop = threading.Event()

    def go_through() -> None:
        while not stop.is_set():
            files.prune()

    broom = threading.Thread(target=go_through)
    broom.start()
    try:
        for n in range(200):
            clock.advance(TOMBSTONE_TIME.total_seconds())
            files.file("ann", f"{n % 2:064x}")
            assert f"{n % 2:064x}" in handles(files)
    finally:
        stop.set()
        broom.join()


def test_a_file_in_the_place_of_the_folders_is_a_named_error(files: FileSystemStore, folder: Path) -> None:
    saved(files, None)
    (folder / ".owners").write_text("a file")
    for call in (lambda: saved(files), lambda: files.entries("ann"), files.prune):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert str(folder) not in str(caught.value)
    (folder / ".owners").unlink()
    (folder / ".owners").symlink_to("nowhere")
    with pytest.raises(StoreUnavailable):
        saved(files)


def test_a_session_that_ended_is_met_as_such_whatever_the_lists_say(files: FileSystemStore) -> None:
    key = saved(files)
    files.end(key.handle)
    files.file("ann", key.handle)
    with pytest.raises(SessionGone):
        files.load(key)
    assert files.prune() == 1
