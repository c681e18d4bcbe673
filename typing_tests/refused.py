"""What type checkers are to refuse. Each line is wrong on purpose; an ignore that is not needed is an error to both."""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from __future__ import annotations

from flask import Flask

from flask_sessionstore import Session, SessionKey, SessionManager, SessionStore, session
from flask_sessionstore.stores.memory import MemoryStore


def refused(app: Flask, key: SessionKey, store: SessionStore) -> None:
    session.inserted("a", 1)  # type: ignore[attr-defined]
    session.key  # type: ignore[attr-defined]
    session[5] = "keys are text"  # type: ignore[index]
    session.insert(5, "keys are text")  # type: ignore[arg-type]
    session.update_or("n", 1)  # type: ignore[call-arg]
    session.update_or("n", 1, 2)  # type: ignore[arg-type]
    session.status = "changed"  # type: ignore[assignment,misc]
    session.handle = None  # type: ignore[misc]
    session.lifetime = 3600  # type: ignore[assignment]
    session.deadline = "2030-01-01"  # type: ignore[assignment]
    session.entries()["a"] = 1  # type: ignore[index]
    Session(app)  # type: ignore[arg-type]
    SessionManager(app, "memory:")  # type: ignore[call-arg]
    SessionManager(app, store=5)  # type: ignore[arg-type]
    store.load(key.handle)  # type: ignore[arg-type]
    store.delete(key, b"revision")  # type: ignore[call-arg]
    MemoryStore(max_entries=5)  # type: ignore[call-arg]
    SessionStore()  # type: ignore[abstract]
    number: int = session.get_as("n", int)  # type: ignore[assignment]
    text: str = session.get_as("n", int, 0)  # type: ignore[assignment]
    either: str = session.get_as("n", int | None, 0)  # type: ignore[assignment]
    session.get_as("n", 5)  # type: ignore[call-overload]
    del number, text, either
