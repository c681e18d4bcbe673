"""Session files on Windows, as far as that can be tried on another system: see ``support/windows.py``."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import typing as t
from datetime import timedelta
from pathlib import Path, PureWindowsPath
from urllib.parse import urlsplit

import pytest
from file_support import FileContract, files_in, loaded, path_of, saved, store_in, update
from flask import Flask
from windows import WindowsOS

from flask_sessionstore import Record, SessionKey, StoreUnavailable, making
from flask_sessionstore.stores import ServerSideStore, from_url
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.testing import Clock

DAY = timedelta(days=1)


@pytest.mark.usefixtures("on_windows")
class TestFileSystemStoreOnWindows(FileContract):
    """The contract, with Windows' locks, and with its refusal to rename or remove what is open."""


@pytest.fixture
def store(folder: Path, clock: Clock, on_windows: WindowsOS) -> FileSystemStore:
    return store_in(folder, clock)


@pytest.fixture
def key(store: FileSystemStore) -> SessionKey:
    """Of a session that was written to, so that it has a record and a spare."""
    key = saved(store)
    update(store, key)
    return key


@pytest.fixture
def closing(monkeypatch: pytest.MonkeyPatch, on_windows: WindowsOS) -> t.Callable[[Path], None]:
    """Opens a file, and closes it when somebody waits."""

    def open_until_somebody_waits(path: Path) -> None:
        descriptor = on_windows.open(str(path), os.O_RDONLY)

        def close(_seconds: float) -> None:
            if descriptor in on_windows.opened:
                on_windows.close(descriptor)

        monkeypatch.setattr(time, "sleep", close)

    return open_until_somebody_waits


@pytest.mark.parametrize("suffix", ["", "~"])
def test_a_writer_waits_for_who_has_a_file_open(
    store: FileSystemStore, key: SessionKey, closing: t.Callable[[Path], None], suffix: str
) -> None:
    record = loaded(store, key)
    closing(path_of(store, key, suffix))
    store.update(key, Record(state={"n": b"\x05"}), DAY, replaces=record.revision)
    assert loaded(store, key).state == {"n": b"\x05"}


def test_who_removes_a_session_waits_for_who_has_its_file_open(
    store: FileSystemStore, key: SessionKey, closing: t.Callable[[Path], None]
) -> None:
    closing(path_of(store, key))
    store.drop(key.handle)
    assert files_in(store.path) == []


@pytest.mark.parametrize(("suffix", "found"), [("", b"\x01"), ("~", b"\x05")])
def test_a_file_that_stays_open_is_a_503_and_loses_no_session(
    store: FileSystemStore, key: SessionKey, on_windows: WindowsOS, slept: list[float], suffix: str, found: bytes
) -> None:
    """The write may have arrived or not, as with every store that fails."""
    record = loaded(store, key)
    descriptor = on_windows.open(str(path_of(store, key, suffix)), os.O_RDONLY)
    with pytest.raises(StoreUnavailable):
        store.update(key, Record(state={"n": b"\x05"}), DAY, replaces=record.revision)
    assert 1.5 < sum(slept) < 2.1
    on_windows.close(descriptor)
    assert loaded(store, key).state == {"n": found}
    update(store, key)
    assert loaded(store, key).state == {"n": b"\x01"}


def test_a_file_that_cannot_be_opened_for_a_moment_is_not_taken_for_damage(
    store: FileSystemStore, key: SessionKey, on_windows: WindowsOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is being renamed, or a virus scanner looks at it."""
    refusals, real = iter([True, True, False]), on_windows.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if path == str(path_of(store, key)) and next(refusals, False):
            raise PermissionError
        return real(path, flags, mode)

    monkeypatch.setattr(on_windows, "open", refuse)
    assert loaded(store, key).state == {"n": b"\x01"}
    assert next(refusals, None) is None


def test_a_file_that_can_never_be_opened_is_not_replaced(
    store: FileSystemStore, key: SessionKey, on_windows: WindowsOS, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if path == str(path_of(store, key)):
            raise PermissionError
        return real(path, flags, mode)

    record, real = loaded(store, key), on_windows.open
    with monkeypatch.context() as patch:
        patch.setattr(on_windows, "open", refuse)
        with pytest.raises(StoreUnavailable):
            store.load(key)
        with pytest.raises(StoreUnavailable):
            store.update(key, record, DAY, replaces=record.revision)
    assert loaded(store, key) == record


def test_no_byte_is_taken_for_the_end_of_a_line(store: FileSystemStore) -> None:
    key = store.save(Record(state={"a": b"\xc4\x04\n\r\n\x1a"}), DAY)
    assert loaded(store, key).state == {"a": b"\xc4\x04\n\r\n\x1a"}


def test_a_lock_that_cannot_be_had_at_all_is_not_waited_for(
    store: FileSystemStore, key: SessionKey, on_windows: WindowsOS, monkeypatch: pytest.MonkeyPatch, slept: list[float]
) -> None:
    def refuse(descriptor: int, mode: int, size: int) -> None:
        raise OSError(errno.EINVAL, "no locks here")

    monkeypatch.setattr(sys.modules["msvcrt"], "locking", refuse)
    with pytest.raises(StoreUnavailable):
        store.drop(key.handle)
    assert slept == []
    assert on_windows.opened == {}


def test_the_default_folder_has_a_url_on_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Flask("shop", instance_path=os.path.abspath("instance"))  # noqa: PTH100  - as Flask wants it
    app.instance_path = r"C:\Users\Ann Lee\instance"
    asked: list[str] = []
    monkeypatch.setattr(making, "Path", PureWindowsPath)

    def note(url: str, **options: t.Any) -> FileSystemStore:
        asked.append(url)
        return FileSystemStore("unused")

    monkeypatch.setattr("flask_sessionstore.stores.from_url", note)
    for url in ("file:sessions", r"file:D:\sessions"):
        making.make_store(app, url, {})
    assert asked == ["file:///C:/Users/Ann%20Lee/instance/sessions", "file:///D:/sessions"]
    assert {urlsplit(url).netloc for url in asked} == {""}


def test_a_system_that_cannot_reserve_space_keeps_sessions_in_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS and Windows."""
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(os, "statvfs")
    store = t.cast("ServerSideStore", from_url(f"sqlite:///{tmp_path}/sessions.db"))
    key = store.save(Record(state={"a": b"1"}), DAY)
    assert store.load(key) is not None
    assert not (tmp_path / "sessions.db-spare").exists()


FIRST_EXAMPLE = """
import os, sys
from flask import Flask
sys.path[:0] = {support!r}
import windows
sys.modules.update(msvcrt=windows.Msvcrt(), fcntl=None, pwd=None, resource=None)
for name in [name for name in sys.modules if name.startswith("flask_sessionstore")]:
    del sys.modules[name]
for name in windows.WindowsOS.LACKS:
    vars(os).pop(name, None)
os.O_BINARY = 0
sys.platform = "win32"

from flask_sessionstore import SessionManager, session
from flask_sessionstore.stores.filesystem import system

app = Flask("shop", instance_path={folder!r})
app.config["SECRET_KEY"] = "change me"
SessionManager(app)

@app.route("/")
def count():
    session["n"] = session.get("n", 0) + 1
    return str(session["n"])

client = app.test_client()
print(*(client.get("/").text for _ in range(3)), system.try_lock.__module__)
print(app.test_cli_runner().invoke(args=["sessions", "check"]).exception)
"""


def test_the_first_example_works_without_what_only_posix_has(tmp_path: Path) -> None:
    support = [path for path in sys.path if Path(path, "windows.py").is_file()]
    program = FIRST_EXAMPLE.format(support=support, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "2", "3", "flask_sessionstore.stores.filesystem.windows", "1"], done.stderr
