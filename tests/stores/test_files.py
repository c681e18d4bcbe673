"""Session files beside other processes and other users: locks, who may use the folder, what is removed by hand."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from clocks import Clock
from forks import NOBODY, Child, as_nobody, needs_root
from http_support import Browser, make_app, started, warnings_in

from flask_sessionstore import (
    ConfigurationError,
    Record,
    SessionConflict,
    SessionGone,
    SessionKey,
    StoreUnavailable,
    session,
)
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.filesystem import store as filesystem
from flask_sessionstore.stores.filesystem.locks import LOCKS, Locks
from flask_sessionstore.testing import later

DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(folder: Path, clock: Clock) -> FileSystemStore:
    return store_in(folder, clock)


def store_in(folder: Path, clock: Clock) -> FileSystemStore:
    store = FileSystemStore(folder)
    store.clock = clock
    return store


@pytest.mark.parametrize("prefix", ["p" * 191, "\u00e9" * 32, "a:b/" * 24])
def test_a_prefix_too_long_for_the_names_of_files_is_refused_at_start(prefix: str, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="have room for 190 bytes") as caught:
        FileSystemStore(folder, prefix=prefix)
    assert caught.value.key == "SESSION_KEY_PREFIX"


def test_the_longest_prefix_works_for_records_their_spares_and_their_owners(folder: Path) -> None:
    store = FileSystemStore(folder, prefix="p" * 190)
    key = saved(store, owner="ann")
    for n in (b"\x01", b"\x02"):
        record = store.load(key)
        assert record is not None
        store.update(key, later(record, {"n": n}), DAY, replaces=record.revision)
    assert [entry.handle for entry in store.scan()] == [key.handle]
    store.delete(key)


def path_of(store: FileSystemStore, key: SessionKey, suffix: str = "") -> Path:
    return store.path / key.handle[:2] / f"session%3A{key.handle}{suffix}"


def saved(store: FileSystemStore, owner: str | None = None) -> SessionKey:
    return store.save(Record(state={"n": b"\x00"}, owner=owner), DAY)


def loaded(store: FileSystemStore, key: SessionKey) -> Record:
    record = store.load(key)
    assert record is not None
    return record


def update(store: FileSystemStore, key: SessionKey) -> None:
    record = loaded(store, key)
    store.update(key, later(record, {"n": b"\x01"}), DAY, replaces=record.revision)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[0-9a-f][0-9a-f]/*") if path.is_file()]


# -- locks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long was slept; no time passes."""
    spans: list[float] = []
    monkeypatch.setattr(time, "sleep", spans.append)
    return spans


def test_a_lock_that_was_open_before_a_fork_excludes_parent_and_child(folder: Path, slept: list[float]) -> None:
    """What they inherit is one open file, which would be locked for both."""
    locks = Locks(str(folder))
    locks.release(locks.acquire(5))
    read, write = os.pipe()

    def lock_when_told() -> str:
        os.read(read, 1)
        locks.acquire(5)
        return "locked"

    child = Child(lock_when_told)
    held = locks.acquire(5)
    os.write(write, b".")
    assert child.answer() == (
        "StoreUnavailable: the session folder's .locks/05 is locked by another process, and was for 2 s"
    )
    locks.release(held)
    assert Child(lambda: bool(locks.acquire(5))).answer() == "True"
    os.close(read)
    os.close(write)


def count_up(store: FileSystemStore, key: SessionKey, times: int) -> None:
    for _ in range(times):
        while True:
            record = loaded(store, key)
            state = {"n": (int.from_bytes(record.state["n"], "big") + 1).to_bytes(4, "big")}
            try:
                store.update(key, later(record, state), DAY, replaces=record.revision)
                break
            except SessionConflict:
                time.sleep(0)


def test_threads_and_forked_processes_lose_no_write(store: FileSystemStore) -> None:
    key = saved(store)
    update(store, key)  # its lock is open

    def count_in_threads() -> None:
        threads = [threading.Thread(target=count_up, args=(store, key, 50)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    children = [Child(count_in_threads) for _ in range(2)]
    count_in_threads()
    assert [child.answer() for child in children] == ["None"] * 2
    assert int.from_bytes(loaded(store, key).state["n"], "big") == 1 + 3 * 2 * 50


def test_who_holds_a_lock_excludes_its_own_thread_too(folder: Path, slept: list[float]) -> None:
    """No lock belongs to a thread: greenlets that were threads when it was made exclude each other as well."""
    locks = Locks(str(folder))
    held = locks.acquire(5)
    with pytest.raises(StoreUnavailable, match=r"\.locks/05 is locked by another process"):
        locks.acquire(5)
    locks.release(locks.acquire(6))
    locks.release(held)
    locks.release(locks.acquire(5))


@pytest.mark.parametrize("is_frozen", [False, True], ids=["clock runs", "clock is frozen"])
def test_a_wait_for_a_lock_ends_after_two_seconds(
    is_frozen: bool, folder: Path, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = Locks(str(folder))
    locks.acquire(5)
    if is_frozen:
        monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    with pytest.raises(StoreUnavailable):
        locks.acquire(5)
    assert 1.5 < sum(slept) <= 2.1
    assert max(slept) < 0.01
    assert len(set(slept)) > 10, "no two wait in step"


def test_sleep_that_takes_longer_than_it_was_told_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def oversleep(seconds: float) -> None:
        now[0] += 0.5

    locks = Locks(str(folder))
    locks.acquire(5)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", oversleep)
    with pytest.raises(StoreUnavailable):
        locks.acquire(5)
    assert now == [102.0]


def test_a_stopped_process_beside_us_does_not_stop_the_server(folder: Path, slept: list[float]) -> None:
    def write() -> None:
        session["a"] = 2

    app = make_app(FileSystemStore(folder), TESTING=False, PROPAGATE_EXCEPTIONS=False)
    browser = started(app, a=1)

    def stop_with_all_locks() -> None:
        locks = Locks(str(folder))
        assert all(locks.acquire(number) for number in range(LOCKS))
        os.kill(os.getpid(), signal.SIGSTOP)

    child = Child(stop_with_all_locks)
    try:
        child.wait_until_stopped()
        assert browser.does(write).status_code == 503
        assert 1 < sum(slept) < 3
        assert browser.data == {"a": 1}, "to read takes no lock"
    finally:
        child.kill()
    assert browser.does(write).status_code == 200
    assert browser.data == {"a": 2}


def descriptors(folder: Path) -> list[str]:
    """Which of a store's locks this process has open."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list open files")
    found = (os.path.realpath(link) for link in list(Path("/proc/self/fd").iterdir()))
    return sorted(path for path in found if path.startswith(f"{folder}/.locks/"))


def test_one_idle_descriptor_is_kept_for_each_lock_and_none_for_a_store_that_went(store: FileSystemStore) -> None:
    key = saved(store)
    threads = [threading.Thread(target=count_up, args=(store, key, 20)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(descriptors(store.path)) == 1
    locks = Locks(str(store.path))
    for held in [locks.acquire(number) for number in range(LOCKS)]:
        locks.release(held)
    assert len(descriptors(store.path)) == 1 + LOCKS
    del locks
    gc.collect()
    assert len(descriptors(store.path)) == 1


def test_a_child_that_drops_the_store_closes_nothing_of_its_parents(folder: Path) -> None:
    """By then the number may be that of another open file."""
    locks = [Locks(str(folder))]
    locks[0].release(locks[0].acquire(5))

    def drop() -> int:
        locks.clear()
        gc.collect()
        return len(descriptors(folder))

    assert Child(drop).answer() == "1"


def test_a_descriptor_that_somebody_closed_is_an_error_once(store: FileSystemStore) -> None:
    key = saved(store)
    (descriptor,) = store._locks._idle.values()
    os.close(descriptor)
    with pytest.raises(StoreUnavailable):
        store.delete(key)
    store.delete(key)


def test_a_folder_that_is_removed_while_its_lock_is_awaited_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = Locks(str(folder))
    held = locks.acquire(5)

    def remove(seconds: float) -> None:
        shutil.rmtree(folder)
        locks.release(held)

    monkeypatch.setattr(time, "sleep", remove)
    again = locks.acquire(5)
    assert os.fstat(again[2]).st_ino == (folder / ".locks" / "05").stat().st_ino
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# -- who may use the folder ----------------------------------------------------------------------------------------


@pytest.fixture
def common() -> t.Iterator[Path]:
    """A folder in which another user can have one."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o711)
    (path / "nobody").mkdir(0o700)
    os.chown(path / "nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    yield path
    shutil.rmtree(path)


def refusal(folder: Path) -> str:
    """What is said to who writes there, and to who reads there as well."""
    calls: list[t.Callable[[FileSystemStore], object]] = [
        saved,
        lambda store: store.load(SessionKey.generate()),
        lambda store: store.delete_expired(),
    ]
    said = set()
    for call in calls:
        with pytest.raises(ConfigurationError) as caught:
            call(FileSystemStore(folder))
        assert caught.value.key == "SESSION_STORE"
        said.add(str(caught.value))
    (one,) = said
    return one


@needs_root
def test_root_is_kept_out_of_another_users_folder(common: Path) -> None:
    """What root wrote there, the application could not read."""
    assert as_nobody(lambda: bool(saved(FileSystemStore(common / "nobody" / "sessions")))) == "True"
    before = sorted(common.rglob("*"))
    said = refusal(common / "nobody" / "sessions")
    assert "belongs to nobody, and this process runs as root" in said
    assert "sudo -u nobody flask sessions" in said
    assert "mounted" not in said
    app = make_app(FileSystemStore(common / "nobody" / "sessions"), SESSION_OWNER_KEY="user")
    for command in (["list"], ["cleanup"], ["revoke", "--all", "--yes"], ["check"]):
        result = app.test_cli_runner().invoke(args=["sessions", *command])
        assert result.exit_code == 1
        assert "belongs to nobody" in result.output
    assert sorted(common.rglob("*")) == before


@needs_root
def test_a_user_without_a_name_is_named_by_number(folder: Path) -> None:
    folder.mkdir(0o700)
    os.chown(folder, 54321, 54321)
    assert "belongs to #54321, and this process runs as root" in refusal(folder)


@needs_root
def test_nobody_is_kept_out_of_roots_folder(common: Path) -> None:
    (common / "roots").mkdir(0o755)
    assert "belongs to root, and this process runs as nobody" in as_nobody(lambda: refusal(common / "roots"))


def test_a_link_to_a_folder_is_refused_and_names_what_it_points_to(tmp_path: Path) -> None:
    saved(FileSystemStore(tmp_path / "real one"))
    (tmp_path / "link").symlink_to("real one")
    assert refusal(tmp_path / "link").endswith(f"name the folder that it points to, file://{tmp_path}/real%20one")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("nowhere")
    assert "is a symbolic link" in refusal(tmp_path / "link")


def test_a_link_on_the_way_to_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(tmp_path)
    store = FileSystemStore(tmp_path / "current" / "sessions")
    assert loaded(store, saved(store)).state == {"n": b"\x00"}


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="there is no mounted folder that all may write to")
def test_a_mounted_folder_that_is_not_ours_alone_names_the_way() -> None:
    said = refusal(Path("/dev/shm"))
    assert 'name a folder below it, which is made then, SESSION_STORE = "file:///dev/shm/sessions"' in said


@needs_root
def test_a_folder_below_one_that_others_may_write_to_is_ours_alone(common: Path) -> None:
    """As Kubernetes mounts a volume for a group: root's, writable for the group, which what is made in it inherits."""
    (common / "volume").mkdir()
    os.chown(common / "volume", 0, NOBODY.pw_gid)
    (common / "volume").chmod(0o2775)
    below = common / "volume" / "sessions"
    assert as_nobody(lambda: loaded(store := FileSystemStore(below), saved(store)).state["n"]) == str(b"\x00")
    assert below.stat().st_mode & 0o777 == 0o700
    assert "belongs to root" in as_nobody(lambda: refusal(common / "volume"))


# -- what another user left ----------------------------------------------------------------------------------------


def give_to_root(store: FileSystemStore, key: SessionKey, suffix: str = "") -> None:
    os.chown(path_of(store, key, suffix), 0, 0)


@pytest.fixture
def left(common: Path, clock: Clock) -> FileSystemStore:
    return store_in(common / "nobody" / "sessions", clock)


@pytest.fixture
def keys(left: FileSystemStore) -> list[SessionKey]:
    """Of three sessions of ann's, that nobody's process made; the file of the first is root's."""
    made = as_nobody(lambda: " ".join(saved(left, "ann").handle for _ in range(3)))
    found = [SessionKey.of(handle) for handle in made.split()]
    give_to_root(left, found[0])
    return found


@needs_root
def test_another_users_file_is_a_damaged_session(left: FileSystemStore, keys: list[SessionKey]) -> None:
    """Its visitor would otherwise get a 503 until somebody removes the file."""
    said = as_nobody(lambda: left.load(keys[0]))
    assert said == "SessionCorrupt: the file of this session belongs to root and cannot be read"
    assert "Record" in as_nobody(lambda: repr(left.load(keys[1])))


@needs_root
def test_the_visitor_of_another_users_file_gets_a_new_session(
    left: FileSystemStore, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(left)
    cookie = as_nobody(lambda: started(app, a=1).cookies[0])
    (path,) = files_in(left.path)
    os.chown(path, 0, 0)

    def visit() -> list[object]:
        browser = Browser(app, cookie)
        status = browser.does(lambda: session.update(b=2)).status_code
        return [status, browser.data, *warnings_in(caplog)]

    said = as_nobody(visit)
    assert said.startswith("[200, {'b': 2}, 'session ")
    assert said.count("belongs to root and cannot be read; a new one replaces it at the next write") == 1


@needs_root
def test_another_users_file_can_be_ended_and_removed(left: FileSystemStore, keys: list[SessionKey]) -> None:
    assert as_nobody(lambda: left.end(keys[0].handle)) == "True"
    assert as_nobody(lambda: left.load(keys[0])) == "SessionGone: the session went (revoked)"
    give_to_root(left, keys[1])
    assert as_nobody(lambda: left.drop(keys[1].handle)) == "None"
    assert as_nobody(lambda: left.load(keys[1])) == "None"


@needs_root
def test_another_users_file_in_the_place_of_a_spare_is_replaced(left: FileSystemStore, keys: list[SessionKey]) -> None:
    assert as_nobody(lambda: update(left, keys[1])) == "None"
    give_to_root(left, keys[1], "~")
    assert as_nobody(lambda: update(left, keys[1])) == "None"
    assert as_nobody(lambda: loaded(left, keys[1]).state["n"]) == str(b"\x01")


@needs_root
def test_of_two_files_that_a_killed_writer_left_the_other_users_is_passed_over(
    left: FileSystemStore, keys: list[SessionKey], clock: Clock
) -> None:
    clock.advance(1)
    assert as_nobody(lambda: update(left, keys[1])) == "None"
    path_of(left, keys[1]).rename(path_of(left, keys[1], "+"))
    give_to_root(left, keys[1], "+")
    assert as_nobody(lambda: loaded(left, keys[1]).state["n"]) == str(b"\x00")
    assert as_nobody(lambda: update(left, keys[1])) == "None"
    assert as_nobody(lambda: loaded(left, keys[1]).state["n"]) == str(b"\x01")


@needs_root
def test_another_users_file_hides_no_other_session_from_lists(left: FileSystemStore, keys: list[SessionKey]) -> None:
    def listed() -> list[list[str]]:
        return [sorted(entry.handle for entry in list_ if entry.data) for list_ in (left.scan(), left.entries("ann"))]

    assert as_nobody(listed) == str([sorted(key.handle for key in keys[1:])] * 2)
    assert as_nobody(lambda: [sum(entry.data == b"" for entry in left.entries("ann")), left.prune()]) == "[1, 0]"
    app = make_app(left, SESSION_OWNER_KEY="user")
    said = as_nobody(lambda: app.test_cli_runner().invoke(args=["sessions", "stats"]).output)
    assert "damaged" in said


@needs_root
def test_another_users_file_stops_no_sweep(
    left: FileSystemStore, keys: list[SessionKey], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays: it may be a session that lives again when the files are given back."""
    give_to_root(left, keys[1])
    clock.advance(DAY.total_seconds() + 1)
    said = as_nobody(lambda: [left.delete_expired(), *warnings_in(caplog)])
    assert said == str([1, "2 files of sessions cannot be read, and stay: are they another user's?"])
    assert {path.name[-64:] for path in files_in(left.path)} == {keys[0].handle, keys[1].handle}


# -- where nothing can be written ----------------------------------------------------------------------------------


def forbid_writing(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)


@needs_root
@pytest.mark.parametrize("has_locks", [True, False])
def test_sessions_are_read_where_nothing_can_be_written(left: FileSystemStore, has_locks: bool, clock: Clock) -> None:
    key, cut = (SessionKey.of(as_nobody(lambda: saved(left).handle)) for _ in range(2))
    clock.advance(1)
    assert as_nobody(lambda: update(left, cut)) == "None"
    path_of(left, cut).rename(path_of(left, cut, "+"))
    if not has_locks:
        shutil.rmtree(left.path / ".locks")
    forbid_writing(left.path)
    assert as_nobody(lambda: loaded(left, key).state["n"]) == str(b"\x00")
    assert as_nobody(lambda: loaded(left, cut).state["n"]) == str(b"\x01"), "a killed writer's"
    assert as_nobody(lambda: left.load(SessionKey.generate())) == "None"
    assert as_nobody(lambda: len(list(left.scan()))) == "2"
    assert as_nobody(lambda: update(left, key)).startswith("StoreUnavailable: the session folder cannot be used (")


# -- what is removed by hand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_session_ends_with_its_file(store: FileSystemStore, writes: int) -> None:
    """Though the file of what it was before is still there."""
    key = saved(store)
    for _ in range(writes):
        update(store, key)
    record = loaded(store, key)
    path_of(store, key).unlink()
    assert store.load(key) is None
    with pytest.raises(SessionGone):
        store.update(key, record, DAY, replaces=record.revision)
    assert list(store.scan()) == []
    assert store.load(key) is None
    assert store.delete_expired() == 0
    assert files_in(store.path) == []


class _InterruptedOS:
    """The os module of a process that something happens to before its ``last`` change to files."""

    _CHANGES = frozenset({"open", "pwrite", "ftruncate", "rename", "unlink"})

    def __init__(self, last: int, happen: t.Callable[[], object]) -> None:
        self._left, self._happen = last, happen

    def __getattr__(self, name: str) -> t.Any:
        if name in self._CHANGES:
            self._left -= 1
            if self._left == 0:
                self._happen()
        return getattr(os, name)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_what_a_killed_writer_left_goes_on_and_ends_with_its_file(
    writes: int, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its steps it is killed as the system kills. The record stands; removed by hand, it is gone."""
    between = 0
    for step in range(1, 20):
        store = store_in(tmp_path / str(step), clock)
        key = saved(store)
        for _ in range(writes):
            clock.advance(1)
            store.update_ttl(key)
        before = loaded(store, key)
        clock.advance(1)

        def write(step: int = step, store: FileSystemStore = store, key: SessionKey = key) -> None:
            monkeypatch.setattr(filesystem, "os", _InterruptedOS(step, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            update(store, key)

        if Child(write).answer() == "None":
            break
        path = path_of(store, key)
        is_between = not path.exists()
        between += is_between
        again = store_in(store.path, clock)
        found = loaded(again, key)
        assert found.state == ({"n": b"\x01"} if is_between else before.state)
        path.unlink()
        assert again.load(key) is None
        assert again.load(key) is None
        again.delete_expired()
        assert files_in(store.path) == []
    else:
        pytest.fail("it never came to an end")
    assert between == 1, "it was killed between its two renames"


def test_a_writer_whose_record_is_removed_meanwhile_does_not_bring_it_back(
    store: FileSystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 20):
        key = saved(store)
        update(store, key)
        record, path = loaded(store, key), path_of(store, key)
        with monkeypatch.context() as patch:
            removed: list[Path] = []

            def remove(path: Path = path, removed: list[Path] = removed) -> None:
                if path.exists():
                    removed.append(path)
                    path.unlink()

            patch.setattr(filesystem, "os", _InterruptedOS(step, remove))
            try:
                store.update(key, record, DAY, replaces=record.revision)
            except SessionGone:
                assert removed
            else:
                if not removed:
                    break  # after its last step, or between its renames, when there was nothing to remove
        assert store.load(key) is None
    assert step > 5
