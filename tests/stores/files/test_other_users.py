"""Session files beside other users of the machine: who may use the folder, and what they left."""

from __future__ import annotations

import os
import shutil
import tempfile
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from file_support import files_in, loaded, path_of, saved, store_in, update
from forks import NOBODY, as_nobody, needs_root
from http_support import Browser, make_app, started, warnings_in

from flask_sessionstore import ConfigurationError, SessionKey, session
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.testing import Clock

DAY = timedelta(days=1)


# -- who may use the folder ------------------------------------------------------------------------------------------


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
    assert 'use a folder below it, which will be created: SESSION_STORE = "file:///dev/shm/sessions"' in said


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


# -- what another user left ------------------------------------------------------------------------------------------


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
    assert said.count("belongs to root and cannot be read; a new session replaces it at the next write") == 1


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
    assert said == str([1, "2 session files cannot be read and were not removed; they may belong to another user"])
    assert {path.name[-64:] for path in files_in(left.path)} == {keys[0].handle, keys[1].handle}


# -- where nothing can be written ------------------------------------------------------------------------------------


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
