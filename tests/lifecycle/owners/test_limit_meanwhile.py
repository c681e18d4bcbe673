"""The limit per owner, where others write and sign in while it is kept to."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask
from http_support import KEPT, Browser, fate, make_app, sessions_of, warnings_in
from lifecycle_views import memory_store
from owner_support import KEY, signed_in
from views import sign_in

from flask_sessionstore import SessionKey, session
from flask_sessionstore.stores import Entry, ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock


@pytest.fixture
def memory(clock: Clock) -> MemoryStore:
    return memory_store(clock)


@pytest.fixture
def one_each(memory: MemoryStore) -> Flask:
    """An application whose users have one session each."""
    return make_app(memory, SESSION_MAX_PER_OWNER=1, TESTING=False)


def once_counted(store: MemoryStore, before: t.Callable[[str], object], after: t.Callable[[str], object]) -> None:
    """Do something with the handle that was filed last, before and after the sessions of an owner are next listed."""
    entries = store.entries

    def listed(owner: str) -> list[Entry]:
        store.entries = entries  # type: ignore[method-assign]
        handle = entries(owner)[-1].handle
        before(handle)
        found = entries(owner)
        after(handle)
        return found

    store.entries = listed  # type: ignore[method-assign]


def note_in(app: Flask) -> t.Callable[[str], None]:
    """Write into a session, as a job does."""

    def note(handle: str) -> None:
        with app.app_context(), sessions_of(app).open(handle) as opened:
            opened["note"] = 1

    return note


def keep(handle: str) -> None:
    """Do nothing to a session."""


def test_who_is_displaced_after_it_was_saved_has_lost_no_write(
    index: ServerSideStore, caplog: pytest.LogCaptureFixture
) -> None:
    browser, other = (Browser(make_app(index, SESSION_MAX_PER_OWNER=1)) for _ in range(2))

    def view() -> None:
        session[KEY] = "ann"
        session.save()
        other.does(sign_in)

    browser.does(view)
    assert (browser.data, other.data) == ({}, {KEY: "ann"})
    assert warnings_in(caplog) == []


def test_a_session_shows_what_was_written_to_it_while_its_owners_sessions_were_counted(
    one_each: Flask, memory: MemoryStore
) -> None:
    once_counted(memory, note_in(one_each), keep)

    def view() -> str:
        session[KEY] = "ann"
        session.save()
        return str(session.get("note"))

    assert Browser(one_each).does(view).text == "1"


@pytest.mark.parametrize("when", ["before its owner's sessions are listed", "after that"])
def test_who_goes_while_the_sessions_are_counted_is_not_signed_in(
    when: str, one_each: Flask, memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    if when == "after that":
        once_counted(memory, note_in(one_each), memory.drop)  # it was written, so it is read again
    else:
        once_counted(memory, memory.drop, keep)
    response = Browser(one_each).does(sign_in)
    assert (response.status_code, fate(response)) == (200, KEPT)
    assert any("dropped" in message for message in warnings_in(caplog))


def test_a_sign_in_is_not_refused_where_others_write_to_it_at_the_same_time(
    one_each: Flask, memory: MemoryStore, clock: Clock
) -> None:
    """On a machine whose clock is behind: the other session is younger, so this one is written anew."""
    old, update = signed_in(one_each), memory.update
    clock.advance(-60)

    def update_late(key: SessionKey, *args: t.Any, **kwargs: t.Any) -> SessionKey:
        memory.update = update  # type: ignore[method-assign]
        note_in(one_each)(key.handle)
        return update(key, *args, **kwargs)

    memory.update = update_late  # type: ignore[method-assign]
    new = signed_in(one_each)
    assert (old.data, new.data) == ({}, {KEY: "ann", "note": 1})
