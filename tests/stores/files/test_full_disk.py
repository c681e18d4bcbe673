"""A log-out on a disk that has no room left, tried on a small file system of the tests' own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest

from flask_sessionstore import Record, SessionGone, SessionKey
from flask_sessionstore.stores import ServerSideStore, StoreFull, from_url

DAY = timedelta(days=1)


@pytest.fixture
def small_disk(tmp_path: Path) -> t.Iterator[Path]:
    """Four megabytes."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filling").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def use_up(store: ServerSideStore) -> None:
    """What is left in pages that were begun."""
    try:
        for _ in range(1000):
            store.save(Record(state={"a": b"1" * 3000}), DAY)
    except StoreFull:
        return
    pytest.fail("the disk did not fill up")


def is_there(store: ServerSideStore, key: SessionKey) -> bool:
    try:
        return store.load(key) is not None
    except SessionGone:
        return False


@pytest.mark.parametrize("url", ["sqlite:///{}/sessions.db", "file://{}/sessions"])
def test_sessions_end_on_a_full_disk_and_nothing_else_is_lost(url: str, small_disk: Path) -> None:
    store = t.cast("ServerSideStore", from_url(url.format(small_disk)))
    keys = [store.save(Record(state={"a": b"1" * 100}, owner="ann"), DAY) for _ in range(40)]
    fill(small_disk)
    use_up(store)
    for key in keys[:20]:
        store.delete(key)
    assert [is_there(store, key) for key in keys] == [False] * 20 + [True] * 20


def test_the_room_that_was_kept_for_it_comes_back(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk}/sessions.db"
    store, spare = t.cast("ServerSideStore", from_url(url)), small_disk / "sessions.db-spare"
    key = store.save(Record(state={"a": b"1"}), DAY)
    assert spare.stat().st_size == spare.stat().st_blocks * 512 > 0
    assert spare.stat().st_mode & 0o777 == 0o600
    fill(small_disk)
    use_up(store)
    store.delete(key)
    assert not spare.exists()
    (small_disk / "filling").unlink()
    assert not is_there(t.cast("ServerSideStore", from_url(url)), key)
    assert spare.exists()
