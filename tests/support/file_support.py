"""What the tests of session files share."""

from __future__ import annotations

import functools
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest

from flask_sessionstore import Record, SessionKey
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.testing import Clock, later
from flask_sessionstore.testing.contract import StoreContract

DAY = timedelta(days=1)


def store_in(folder: Path, clock: Clock) -> FileSystemStore:
    store = FileSystemStore(folder)
    store.clock = clock
    return store


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


class FileContract(StoreContract):
    """What every store promises, for files."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> ServerSideStore:
        return FileSystemStore(tmp_path / "sessions")

    def path(self, store: ServerSideStore, handle: str) -> Path:
        return t.cast("FileSystemStore", store).path / handle[:2] / f"session%3A{handle}"

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        path = self.path(store, handle)
        return path.read_bytes() if path.exists() else None

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        self.path(store, handle).write_bytes(data)

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return functools.partial(FileSystemStore, t.cast("FileSystemStore", store).path)
