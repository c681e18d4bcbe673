"""The contract over all stores, and what each store promises beyond it."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import threading
import typing as t
import warnings
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import servers
from file_support import FileContract
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_sessionstore import (
    ConfigurationError,
    Record,
    SessionCorrupt,
    SessionGone,
    SessionKey,
    SessionStore,
    SessionTooLarge,
    StoreUnavailable,
)
from flask_sessionstore.record import TOMBSTONE_TIME
from flask_sessionstore.stores import ServerSideStore, from_url
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.testing import FaultyStore, SessionStoreContract, StoreContract, later

DAY = timedelta(days=1)
pass_time = StoreContract().pass_time


# -- the contract --------------------------------------------------------------------------------------------------


class TestCookieStore(SessionStoreContract):
    @pytest.fixture
    def store(self) -> SessionStore:
        return CookieStore()


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> ServerSideStore:
        return MemoryStore()

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        return t.cast("MemoryStore", store)._entries.get(handle)

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        t.cast("MemoryStore", store)._entries[handle] = data


class TestFileSystemStore(FileContract):
    """As the system that runs the tests has it."""


class TestFaultyStore(StoreContract):
    """Healthy, it is the store behind it."""

    @pytest.fixture
    def store(self) -> ServerSideStore:
        return FaultyStore(MemoryStore())

    def pass_time(self, store: SessionStore, seconds: float) -> None:
        super().pass_time(t.cast("FaultyStore", store).store, seconds)

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        t.cast("MemoryStore", t.cast("FaultyStore", store).store)._entries[handle] = data


def make_redis_store(url: str, prefix: str) -> ServerSideStore:
    return t.cast("ServerSideStore", from_url(url, prefix=prefix))


class TestRedisStore(StoreContract):
    @pytest.fixture
    def store(self, redis_server: servers.RedisServer, request: pytest.FixtureRequest) -> ServerSideStore:
        self.client = redis.Redis.from_url(redis_server.url)
        self.open = functools.partial(make_redis_store, redis_server.url, f"{uuid4()}:")
        return self.open()

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        return t.cast("bytes | None", self.client.get(store.prefix + handle))

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        self.client.set(store.prefix + handle, data)

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return self.open


class TestRedisStoreOnAGivenClient(TestRedisStore):
    """With any client object, its own pool and its own settings."""

    @pytest.fixture
    def store(self, redis_server: servers.RedisServer, request: pytest.FixtureRequest) -> ServerSideStore:
        self.client = redis.Redis.from_url(redis_server.url)
        prefix = f"{uuid4()}:"
        self.open = functools.partial(make_redis_store, redis_server.url, prefix)
        return RedisStore(self.client, prefix=prefix)


# -- all server-side stores ----------------------------------------------------------------------------------------


def test_repr_shows_nothing_secret(server_store: ServerSideStore) -> None:
    """A store's repr names its class; no URL, no password."""
    assert "127.0.0.1" not in repr(server_store)


def test_a_child_process_does_not_share_the_parents_connections_and_locks(server_store: ServerSideStore) -> None:
    """After a fork both go on, in turn, on the same data (memory: each on its own)."""
    key = server_store.save(Record(state={"n": b"1"}), DAY)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if server_store.load(key) is not None else 1)
        except BaseException:  # noqa: BLE001  - nothing of pytest may run in the child
            os._exit(2)
    assert server_store.load(key) is not None
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server_store.load(key) is not None


# -- memory --------------------------------------------------------------------------------------------------------


def test_memory_is_bounded_and_the_least_recently_used_leaves_first() -> None:
    store = MemoryStore(max_bytes=10_000)
    keys = [store.save(Record(state={"a": bytes(1000)}), DAY) for _ in range(6)]
    assert store.load(keys[0]) is not None
    keys += [store.save(Record(state={"a": bytes(1000)}), DAY) for _ in range(2)]
    assert [store.load(key) is not None for key in keys] == [True, False, True, True, True, True, True, True]


def test_memory_refuses_what_is_larger_than_itself() -> None:
    store = MemoryStore(max_bytes=1000)
    with pytest.raises(SessionTooLarge) as caught:
        store.save(Record(state={"a": bytes(2000)}), DAY)
    assert caught.value.limit == 1000


def test_memory_of_no_size_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        MemoryStore(max_bytes=0)


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


def test_files_and_folders_are_their_owners_alone(folder: Path) -> None:
    store = FileSystemStore(folder)
    store.save(Record(state={"a": b"1"}), DAY)
    modes = {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir()}
    assert modes == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}


def test_nothing_is_made_before_the_first_write(folder: Path) -> None:
    store = FileSystemStore(folder)
    assert store.load(SessionKey.generate()) is None
    assert store.delete_expired() == 0
    store.delete(SessionKey.generate())
    assert not folder.exists()


def test_no_file_but_the_tombstones_is_left_at_the_end(folder: Path) -> None:
    store = FileSystemStore(folder)
    key = store.save(Record(state={"a": b"1"}), DAY)
    record = store.load(key)
    assert record is not None
    store.update(key, record, DAY, replaces=record.revision)
    store.update_ttl(key)
    new = store.renew(key, record, DAY, replaces=record.revision)
    store.delete(new)
    assert {path.name.removeprefix("session%3A") for path in folder.glob("??/*")} == {key.handle, new.handle}


def cut_off(folder: Path, key: SessionKey, files: dict[str, bytes]) -> None:
    """Leave the files of ``key`` as a writer that was killed: by suffix, with their bytes."""
    path = folder / key.handle[:2] / f"session%3A{key.handle}"
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    for suffix, data in files.items():
        path.with_name(path.name + suffix).write_bytes(data)


@pytest.mark.parametrize(
    "files",
    [
        {"": "old", "+": "half"},
        {"": "old", "~": "older", "+": "half"},
        {"+": "new", "~": "old"},
        {"~": "new", "+": "old"},
        {"": "new", "~": "old"},
    ],
    ids=["first write", "later write", "between the renames", "the other way round", "done"],
)
def test_whatever_a_killed_writer_left_a_whole_record_stands(folder: Path, files: dict[str, str]) -> None:
    """The one before, or the one it had written out."""
    store = FileSystemStore(folder)
    store.clock = lambda: 1_800_000_000.0
    key = store.save(Record(state={"a": b"1"}), DAY)
    path = folder / key.handle[:2] / f"session%3A{key.handle}"
    versions = {"older": path.read_bytes()}
    for version in ("old", "new"):
        pass_time(store, 1)
        store.update_ttl(key)
        versions[version] = path.read_bytes()
    cut_off(folder, key, {s: versions.get(v, b"\0" + versions["new"][1:60]) for s, v in files.items()})
    whole = versions["new" if "new" in files.values() else "old"]
    assert FileSystemStore(folder).read(key.handle) == whole
    record = t.cast("Record", store.load(key))
    store.update(key, record, DAY, replaces=record.revision)
    store.delete(key)
    with pytest.raises(SessionGone):
        store.load(key)
    pass_time(store, TOMBSTONE_TIME.total_seconds() + 1)
    store.delete_expired()
    assert list(folder.glob("??/*")) == []


def test_a_log_out_that_was_cut_off_is_finished(folder: Path) -> None:
    store = FileSystemStore(folder)
    key = store.save(Record(state={"a": b"1"}), DAY)
    path = folder / key.handle[:2] / f"session%3A{key.handle}"
    live = path.read_bytes()
    store.delete(key)
    cut_off(folder, key, {"+": path.read_bytes(), "~": live})
    with pytest.raises(SessionGone):
        store.load(key)


def test_a_new_file_that_was_cut_off_is_nothing(folder: Path) -> None:
    store = FileSystemStore(folder)
    key = store.save(Record(state={"a": b"1"}), DAY)
    path = folder / key.handle[:2] / f"session%3A{key.handle}"
    data = path.read_bytes()
    cut_off(folder, key, {"": b"\0" + data[1:60]})
    assert store.load(key) is None
    assert store.end(key.handle) is False
    assert store.add(key.handle, data, DAY)
    assert store.load(key) is not None


@pytest.mark.parametrize("left", [b"", b"\0half of a record"], ids=["empty", "half"])
def test_a_new_file_that_was_cut_off_is_swept(folder: Path, left: bytes) -> None:
    store = FileSystemStore(folder)
    cut_off(folder, store.save(Record(state={"a": b"1"}), DAY), {"": left})
    store.delete_expired()
    assert list(folder.glob("??/*")) == []


def test_readers_never_miss_a_record_that_is_being_exchanged(folder: Path) -> None:
    """Between the two renames no file has the record's name; a reader then looks again under the lock."""
    store = FileSystemStore(folder)
    key = store.save(Record(state={"n": b"0"}), DAY)
    stop, missed = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if store.load(key) is None:
                missed.append(True)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(1000):
        store.update_ttl(key)
    stop.set()
    for reader in readers:
        reader.join()
    assert missed == []


def test_a_reader_never_sees_a_new_file_before_its_first_byte(folder: Path) -> None:
    """Of a key that is known before its session is there, as that of an imported one is."""
    store, key = FileSystemStore(folder), SessionKey.generate()
    stop, damaged = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                store.load(key)
            except SessionCorrupt as error:
                damaged.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(1000):
        store.save(Record(state={"a": b"1"}), DAY, key=key)
        store.drop(key.handle)
    stop.set()
    for reader in readers:
        reader.join()
    assert damaged == []


def test_a_reader_never_sees_half_of_one_record_and_half_of_another(folder: Path) -> None:
    """A file is written into again two exchanges later, while a slow reader may still have it open."""
    store = FileSystemStore(folder)
    key = store.save(Record(state={"a": b"0"}), DAY)
    stop, torn = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            record = store.load(key)
            values = None if record is None else set(record.state.values())
            if values is None or len(values) != 1:
                torn.append(values)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(600):
        record = t.cast("Record", store.load(key))
        state = {f"key{i}": bytes([n % 256]) * 300 for i in range(1 + n * 7 % 300)}
        store.update(key, later(record, state), DAY, replaces=record.revision)
    stop.set()
    for reader in readers:
        reader.join()
    assert torn == []


def test_writing_again_and_again_takes_no_new_files(folder: Path) -> None:
    """ext4 does not take a freed inode again for minutes: with a new file each, writes would get slower and slower."""
    store = FileSystemStore(folder)
    key = store.save(Record(state={"a": b"1"}), DAY)
    store.update_ttl(key)
    files = {path.stat().st_ino for path in folder.glob("??/*")}
    for _ in range(5):
        store.update_ttl(key)
    assert {path.stat().st_ino for path in folder.glob("??/*")} == files
    assert len(files) == 2


@pytest.mark.parametrize("emptied", [False, True])
def test_nothing_of_an_ended_session_is_left_in_any_file(folder: Path, emptied: bool) -> None:
    store = FileSystemStore(folder)
    key = store.save(Record(state={"a": b"secret"}), DAY)
    store.update_ttl(key)
    store.delete(key, replaces=t.cast("Record", store.load(key)).revision, emptied=emptied)
    assert not any(b"secret" in path.read_bytes() for path in folder.glob("??/*"))


def test_two_prefixes_share_a_folder_and_no_session(folder: Path) -> None:
    one, other = FileSystemStore(folder, prefix="one/"), FileSystemStore(folder, prefix="other/")
    key = one.save(Record(state={"a": b"1"}), timedelta(seconds=1))
    assert other.load(key) is None
    pass_time(other, 10)
    assert other.delete_expired() == 0


def test_a_folder_that_others_can_write_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        FileSystemStore(folder).save(Record(state={"a": b"1"}), DAY)


def test_a_folder_that_cannot_be_is_a_named_error(folder: Path) -> None:
    folder.write_text("a file")
    store = FileSystemStore(folder)
    with pytest.raises(StoreUnavailable) as caught:
        store.save(Record(state={"a": b"1"}), DAY)
    assert isinstance(caught.value.__cause__, OSError)
    assert str(folder) not in str(caught.value)


@pytest.mark.parametrize("url", ["file://host/path", "file:", "file:///a?b=c"])
def test_a_file_url_that_names_no_folder_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="file:///absolute/path"):
        from_url(url)


# -- redis ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["redis://", "redis:///0", "redis+unix://", "redis://h:port/0", "redis://h/0?nonsense=1"]
)
def test_a_redis_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        from_url(url)


def test_a_store_that_goes_leaves_no_connection_open(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    """With its application, say, which is part of cycles: the garbage collector may come upon an open socket first."""
    server = start_redis()
    gc.disable()
    try:
        cycle: list[object] = [from_url(server.url)]
        store = t.cast("RedisStore", cycle[0])
        store.save(Record(state={"a": b"1"}), DAY)
        gc.collect(0)  # what is of the middle generation then comes after what is younger, such as a new socket
        with contextlib.closing(redis.Redis.from_url(server.url)) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")  # type: ignore[no-untyped-call]
        store.save(Record(state={"a": b"1"}), DAY)
        cycle.append(cycle)
        del cycle, store
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
    finally:
        gc.enable()
    assert [str(warning.message) for warning in caught] == []


def test_a_client_that_decodes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="decode_responses"):
        RedisStore(redis.Redis(decode_responses=True))


def test_a_unix_socket_and_a_valkey_url_work(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    server = start_redis()
    for url in (server.url.replace("redis://", "valkey://"), server.unix_url.replace("unix://", "redis+unix://")):
        store = from_url(url)
        assert store.load(store.save(Record(state={"a": b"1"}), DAY)) is not None


def test_the_engines_expiry_is_what_is_left(valkey: servers.RedisServer) -> None:
    """Asked of the server itself: record and tombstone alike, after every kind of write."""
    client = redis.Redis.from_url(valkey.url)
    store = from_url(valkey.url, prefix="ttl:")

    def left(key: SessionKey) -> float:
        return client.pttl("ttl:" + key.handle) / 1000

    key = store.save(Record(state={"a": b"1"}), timedelta(seconds=100))
    assert left(key) == pytest.approx(100, abs=5)
    record = store.load(key)
    assert record is not None
    store.update(key, record, timedelta(seconds=200), replaces=record.revision)
    assert left(key) == pytest.approx(200, abs=5)
    store.update_ttl(key, timedelta(seconds=300))
    assert left(key) == pytest.approx(300, abs=5)
    store.update_ttl(key)
    assert left(key) == pytest.approx(200, abs=5)
    store.delete(key)
    assert left(key) == pytest.approx(TOMBSTONE_TIME.total_seconds(), abs=2)


def test_every_operation_is_as_many_round_trips_as_promised(valkey: servers.RedisServer) -> None:
    """Counted by the client's commands: one each, but a renewal's two."""
    client = redis.Redis.from_url(valkey.url)
    sent: list[str] = []

    class Counting:
        def execute_command(self, *args: t.Any) -> t.Any:
            sent.append(args[0])
            return client.execute_command(*args)  # type: ignore[no-untyped-call]

    store = RedisStore(Counting(), prefix="trips:")

    def trips(call: t.Callable[[], t.Any]) -> int:
        call()  # the server learns the script
        sent.clear()
        call()
        return len(sent)

    key = store.save(Record(state={"a": b"1"}), DAY)
    record = store.load(key)
    assert record is not None
    assert trips(lambda: store.save(record, DAY)) == 1
    assert trips(lambda: store.load(key)) == 1
    assert trips(lambda: store.update(key, record, DAY, replaces=record.revision)) == 1
    assert trips(lambda: store.update_ttl(key)) == 1
    assert trips(lambda: store.delete(SessionKey.generate())) == 1
    sent.clear()
    store.renew(key, record, DAY, replaces=record.revision)
    assert len(sent) == 2


def test_a_lost_connection_is_made_again(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    """A restarted server costs no request: neither the connection nor the scripts it knew are missed."""
    server = start_redis()
    store = from_url(server.url)
    key = store.save(Record(state={"a": b"1"}), DAY)
    store.update_ttl(key)
    server.stop()
    with pytest.raises(StoreUnavailable):
        store.load(key)
    server.start()
    assert store.load(key) is None
    key = store.save(Record(state={"a": b"1"}), DAY)
    store.update_ttl(key)


def test_a_full_server_refuses_writes_by_name_and_still_lets_sessions_end(
    start_redis: t.Callable[..., servers.RedisServer],
) -> None:
    server = start_redis(maxmemory="3mb", maxmemory_policy="noeviction")
    store = from_url(server.url)
    keys = [store.save(Record(state={"a": b"1"}), DAY) for _ in range(3)]

    def fill() -> None:
        for _ in range(1000):
            store.save(Record(state={"a": bytes(100_000)}), DAY)

    with pytest.raises(StoreUnavailable, match="memory"):
        fill()
    record = store.load(keys[0])
    assert record is not None
    store.delete(keys[0])
    store.delete(keys[1], replaces=t.cast("Record", store.load(keys[1])).revision)
    assert t.cast("ServerSideStore", store).end(keys[2].handle)
    for key in keys:  # where there is room again for a tombstone, there is one
        assert t.cast("ServerSideStore", store).info(key.handle) is None


def test_a_server_that_does_not_answer_is_given_up_in_time(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    server = start_redis()
    store = from_url(f"{server.url}?socket_timeout=0.2")
    key = store.save(Record(state={"a": b"1"}), DAY)
    server.pause()
    with pytest.raises(StoreUnavailable, match="in time"):
        store.load(key)
    server.resume()
    assert store.load(key) is not None


def test_a_reply_is_never_taken_for_anothers(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    """After a time-out the late reply is under way; the connection is given up, not read from again."""
    server = start_redis()
    store = from_url(f"{server.url}?socket_timeout=0.2")
    one = store.save(Record(state={"a": b"one"}), DAY)
    two = store.save(Record(state={"a": b"two"}), DAY)
    server.pause()
    with pytest.raises(StoreUnavailable):
        store.load(one)
    server.resume()
    assert t.cast("Record", store.load(two)).state == {"a": b"two"}


def test_a_wrong_password_is_named_and_not_shown(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    server = start_redis(requirepass="right")
    store = from_url(server.url.replace(":right@", ":wrong-secret@"))
    with pytest.raises(StoreUnavailable) as caught:
        store.load(SessionKey.generate())
    assert "wrong-secret" not in str(caught.value)


def test_a_given_client_keeps_its_own_settings(start_redis: t.Callable[..., servers.RedisServer]) -> None:
    server = start_redis()
    client = redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))
    store = RedisStore(client)
    server.stop()
    with pytest.raises(StoreUnavailable) as caught:
        store.load(SessionKey.generate())
    assert isinstance(caught.value.__cause__, redis.exceptions.ConnectionError)
