"""Session files beside other processes: locks, and what is removed by hand."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import threading
import time
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from file_support import files_in, loaded, path_of, saved, store_in, update
from forks import Child
from http_support import make_app, started

from flask_sessionstore import ConfigurationError, SessionConflict, SessionGone, SessionKey, StoreUnavailable, session
from flask_sessionstore.stores.filesystem import FileSystemStore, posix
from flask_sessionstore.stores.filesystem import store as filesystem
from flask_sessionstore.stores.filesystem.locks import LOCKS, Locks
from flask_sessionstore.testing import Clock, later

DAY = timedelta(days=1)


@pytest.fixture
def store(folder: Path, clock: Clock) -> FileSystemStore:
    return store_in(folder, clock)


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


# -- locks -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["posix", "windows"])
def locks(request: pytest.FixtureRequest, folder: Path) -> Locks:
    """Locks of either kind of system."""
    if request.param == "windows":
        request.getfixturevalue("on_windows")
    return Locks(str(folder))


def test_a_lock_that_was_used_before_a_fork_excludes_parent_and_child(locks: Locks, slept: list[float]) -> None:
    """An open file that a child inherits would be locked for both."""
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
        "StoreUnavailable: another process has locked the session folder's .locks/05 for more than 2 s"
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
    update(store, key)

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


def test_who_holds_a_lock_excludes_its_own_thread_too(locks: Locks, slept: list[float]) -> None:
    """No lock belongs to a thread: greenlets that were threads when it was made exclude each other as well."""
    held = locks.acquire(5)
    with pytest.raises(StoreUnavailable, match=r"another process has locked .* \.locks/05"):
        locks.acquire(5)
    locks.release(locks.acquire(6))
    locks.release(held)
    locks.release(locks.acquire(5))


@pytest.mark.parametrize("is_frozen", [False, True], ids=["clock runs", "clock is frozen"])
def test_a_wait_for_a_lock_ends_after_two_seconds(
    is_frozen: bool, locks: Locks, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    locks.acquire(5)
    if is_frozen:
        monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    with pytest.raises(StoreUnavailable):
        locks.acquire(5)
    assert 1.5 < sum(slept) <= 2.1
    assert max(slept) < 0.01
    assert len(set(slept)) > 10, "no two wait in step"


def test_sleep_that_takes_longer_than_it_was_told_counts(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def oversleep(seconds: float) -> None:
        now[0] += 0.5

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
    """Which of a store's files this process has open."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list open files")
    found = (os.path.realpath(link) for link in list(Path("/proc/self/fd").iterdir()))
    return sorted(path for path in found if path.startswith(f"{folder}/"))


def test_nothing_is_open_between_two_exchanges(store: FileSystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a fork shares nothing, and no server runs out of descriptors."""
    key = saved(store)
    threads = [threading.Thread(target=count_up, args=(store, key, 20)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert descriptors(store.path) == []
    locks = Locks(str(store.path))
    held = locks.acquire(5)
    assert descriptors(store.path) == [str(store.path / ".locks" / "05")]
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(time, "monotonic", iter((0.0, 1.0, 3.0)).__next__)
    with pytest.raises(StoreUnavailable):
        locks.acquire(5)
    locks.release(held)
    assert descriptors(store.path) == []


def test_a_child_that_was_forked_while_a_lock_was_held_does_not_keep_it(locks: Locks, slept: list[float]) -> None:
    """It has the lock's file open for as long as it lives."""
    read, write = os.pipe()
    held = locks.acquire(5)
    child = Child(lambda: os.read(read, 1))
    try:
        locks.release(held)
        locks.release(locks.acquire(5))
    finally:
        os.write(write, b".")
    assert child.answer() == "b'.'"
    os.close(read)
    os.close(write)


def test_a_folder_that_is_removed_while_its_lock_is_awaited_is_made_anew(
    locks: Locks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = locks.acquire(5)

    def remove(seconds: float) -> None:
        shutil.rmtree(folder)
        locks.release(held)

    monkeypatch.setattr(time, "sleep", remove)
    again = locks.acquire(5)
    assert os.fstat(again).st_ino == (folder / ".locks" / "05").stat().st_ino
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_ignores_the_folder(folder: Path) -> None:
    """Sessions do not belong into a commit, wherever the folder is."""
    saved(FileSystemStore(folder))
    (folder.parent / "app.py").touch()
    subprocess.run(["git", "init", "-q", folder.parent], check=True)
    status = ["git", "-C", str(folder.parent), "status", "--porcelain", "--untracked-files=all"]
    assert subprocess.run(status, check=True, capture_output=True, text=True).stdout == "?? app.py\n"


# -- what is removed by hand -----------------------------------------------------------------------------------------


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

    _CHANGES = frozenset({"open", "write", "ftruncate", "replace", "unlink"})

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
            interrupted = _InterruptedOS(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
            for module in (filesystem, posix):
                monkeypatch.setattr(module, "os", interrupted)
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

            interrupted = _InterruptedOS(step, remove)
            for module in (filesystem, posix):
                patch.setattr(module, "os", interrupted)
            try:
                store.update(key, record, DAY, replaces=record.revision)
            except SessionGone:
                assert removed
            else:
                if not removed:
                    break  # after its last step, or between its renames, when there was nothing to remove
        assert store.load(key) is None
    assert step > 5
