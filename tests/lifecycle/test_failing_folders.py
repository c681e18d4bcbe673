"""Folders for sessions that cannot be used, or are full: what the browser gets then."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
import sys
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, started, warnings_in
from live import is_unavailable, live_app
from views import clear, nothing, purge, read, sign_in, write

from flask_sessionstore import ConfigurationError, session
from flask_sessionstore.stores.filesystem import FileSystemStore, posix
from flask_sessionstore.stores.filesystem import store as filesystem
from flask_sessionstore.stores.memory import MemoryStore


def test_a_folder_that_cannot_be_made_is_a_503_without_its_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    app = live_app(FileSystemStore(tmp_path / "file" / "sessions"))
    cookie = started(make_app(MemoryStore()), a=1).cookies
    for view in (write, sign_in):
        response = Browser(app).does(view)
        assert (is_unavailable(response), fate(response)) == (True, KEPT)
        assert str(tmp_path) not in response.text
    assert str(tmp_path) not in "".join(warnings_in(caplog, logging.ERROR))
    assert Browser(app, *cookie).does(nothing).status_code == 200
    assert Browser(app, *cookie).does(read).status_code == 503
    assert fate(Browser(app, *cookie).does(purge)) == DELETED


def test_a_folder_that_does_not_exist_yet_is_no_error(tmp_path: Path) -> None:
    app = live_app(FileSystemStore(tmp_path / "not" / "yet"))
    cookie = started(make_app(MemoryStore()), a=1).cookies
    assert fate(Browser(app, *cookie).does(read)) == KEPT
    assert not (tmp_path / "not").exists()
    assert fate(Browser(app).does(write)) == SET
    assert stat.S_IMODE((tmp_path / "not" / "yet").stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707])
def test_a_folder_that_others_can_write_to_is_refused(mode: int, tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions").chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        Browser(make_app(FileSystemStore(tmp_path / "sessions"))).does(write)
    assert caught.value.key == "SESSION_STORE"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_nothing_is_read_from_a_folder_that_others_can_write_to(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    browser = started(make_app(FileSystemStore(folder)), a=1)
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError):
        Browser(make_app(FileSystemStore(folder)), *browser.cookies).does(read)


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Though each of its locks was taken before."""
    folder = tmp_path / "sessions"
    store = FileSystemStore(folder)
    for number in range(256):
        store.add(f"{number:02x}" + "0" * 62, b"old", timedelta(seconds=60))
    app = live_app(store)
    browser = started(app, a=1)
    folder.rename(tmp_path / "away")  # all are to be logged out
    assert fate(browser.does(read)) == KEPT
    assert fate(browser.does(write)) == SET
    assert browser.data == {"a": 2}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[0-9a-f][0-9a-f]/*") if path.is_file()]


class _Killed(BaseException):
    """The process was killed."""


class _MortalOS:
    """The os module for a process that is killed at its ``last`` change to the file system; a write is cut in half."""

    _CHANGES = frozenset({"open", "write", "rename", "replace", "unlink", "link", "utime", "ftruncate", "makedirs"})

    def __init__(self, last: int) -> None:
        self._left = last

    def __getattr__(self, name: str) -> t.Any:
        function = getattr(os, name)
        return functools.partial(self._change, function) if name in self._CHANGES else function

    def _change(self, function: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        self._left -= 1
        if self._left > 0:
            return function(*args, **kwargs)
        if self._left == 0 and function is os.write:
            os.write(args[0], args[1][: (len(args[1]) + 1) // 2])
        raise _Killed


@pytest.mark.parametrize(
    ("view", "after"), [(write, {"a": 2}), (lambda: session.update(a="x" * 5000), {"a": "x" * 5000}), (clear, {})]
)
@pytest.mark.parametrize("writes_before", [1, 2, 3])
def test_whenever_a_writer_is_killed_the_record_is_whole(
    writes_before: int, view: Action, after: dict[str, t.Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"a": -writes_before}
    for last in range(1, 30):
        folder = tmp_path / str(last)
        browser = Browser(make_app(FileSystemStore(folder)))
        for number in range(writes_before):
            browser.does(lambda: session.update(a=-number - 1))  # noqa: B023  - called at once
        with monkeypatch.context() as patch, contextlib.suppress(_Killed):
            mortal = _MortalOS(last)
            patch.setattr(filesystem, "os", mortal)
            patch.setattr(posix, "os", mortal)
            browser.twin().does(view)
            break  # it lived: the end of its work
        again = Browser(make_app(FileSystemStore(folder)), *browser.cookies)
        assert again.twin().data in (before, after)
        assert again.does(lambda: session.update(b=1)).status_code == 200
        assert again.data in ({**before, "b": 1}, {**after, "b": 1})
    else:
        pytest.fail("it never came to an end")
    assert last > 2


def test_a_writer_that_is_killed_making_a_session_leaves_nothing_to_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last in range(1, 30):
        store = FileSystemStore(tmp_path / str(last))
        with monkeypatch.context() as patch, contextlib.suppress(_Killed):
            mortal = _MortalOS(last)
            patch.setattr(filesystem, "os", mortal)
            patch.setattr(posix, "os", mortal)
            Browser(make_app(store)).does(write)
            break
        again = FileSystemStore(tmp_path / str(last))
        for path in _files(tmp_path / str(last)):
            info = again.info(path.name.rstrip("+~")[-64:])
            assert info is None or path.stat().st_size > 87  # nothing, or the whole: nobody has its key
        assert again.delete_expired() == 0
        assert started(make_app(again), a=1).data == {"a": 1}
    else:
        pytest.fail("it never came to an end")


@contextlib.contextmanager
def _file_size_limit(size: int) -> t.Iterator[None]:
    """No file may grow beyond ``size`` bytes: as near to a full disk as a test can come without one."""
    resource = pytest.importorskip("resource", reason="this system has no limits of resources")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_503_and_what_was_stored_stays(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    app = live_app(FileSystemStore(folder))
    browser = started(app, a=1)
    before = {path.name: path.read_bytes() for path in _files(folder)}
    with _file_size_limit(500):
        responses = [who.does(lambda: session.update(a="x" * 600)) for who in (browser, Browser(app))]
    assert [(is_unavailable(response), fate(response)) for response in responses] == [(True, KEPT)] * 2
    assert {path.name: path.read_bytes() for path in _files(folder)} == before
    assert browser.data == {"a": 1}
    assert browser.does(write).status_code == 200
    assert browser.data == {"a": 2}


@pytest.mark.parametrize("view", [clear, purge])
def test_logging_out_works_on_a_full_disk(view: Action, tmp_path: Path) -> None:
    browser = started(live_app(FileSystemStore(tmp_path / "sessions")), a=1)
    thief = browser.twin()
    with _file_size_limit(10):
        response = browser.does(view)
    assert (response.status_code, fate(response)) == (200, DELETED)
    assert thief.data == {}
    assert _files(tmp_path / "sessions") == []
