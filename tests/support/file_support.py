"""What the tests of session files share."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from flask_sessionstore import Record, SessionKey
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.testing import Clock, later

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
