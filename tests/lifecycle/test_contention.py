"""Many writers of one session: each gets through, after a bounded number of attempts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import typing as t
from datetime import timedelta

import pytest
from flask import Flask
from http_support import make_app, started
from overlapping import in_threads
from rivals import Rivals
from views import count

from flask_sessionstore import SessionConflict, session
from flask_sessionstore.signals import session_merged
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore

MOST_ATTEMPTS = 21
GIVE_WAY = 0.004  # what a write waits for another that has lost often
THREADS = 6
WRITES = 25


def attempts_of(app: Flask) -> list[int]:
    """How often each write that met another was tried, from now on."""
    counted: list[int] = []

    def note(sender: Flask, handle: str, attempts: int) -> None:
        counted.append(attempts)

    session_merged.connect(note, app, weak=False)
    return counted


def test_no_thread_that_writes_one_session_starves(server_store: ServerSideStore) -> None:
    app = make_app(server_store)
    browser, attempts = started(app, n=0), attempts_of(app)

    def write() -> None:
        mine = browser.twin()
        for _ in range(WRITES):
            mine.does(count)

    in_threads(THREADS, write)
    assert browser.data == {"n": THREADS * WRITES}
    assert max(attempts, default=1) <= MOST_ATTEMPTS


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited; nothing really is."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


@pytest.mark.parametrize(("rivals", "waited", "loads"), [(1, 0, 2), (2, 1, 4), (4, 3, 8)])
def test_after_the_second_loss_it_waits_and_reads_again(
    rivals: int, waited: int, loads: int, waits: list[float]
) -> None:
    """Each loss is one read, to see what won; a wait is followed by one more."""
    store = MemoryStore()
    browser = started(make_app(store), n=0)
    met = Rivals(store, browser.twin(), rivals)
    browser.does(count)
    assert len(waits) == waited
    assert met.loads == loads
    assert browser.data == {"n": rivals + 1}


def test_waits_are_short_and_grow(waits: list[float]) -> None:
    store = MemoryStore()
    browser = started(make_app(store), n=0)
    Rivals(store, browser.twin(), 20)
    browser.does(count)
    assert waits[0] < 0.002 < waits[-1] <= 0.016
    assert sum(waits) < 0.3


def test_who_comes_fresh_gives_way_to_who_has_lost_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads share one lock of the interpreter, the one that holds it would win again and again."""
    store = MemoryStore()
    browser = started(make_app(store), n=0)
    fresh, waits = browser.twin(), t.cast("list[float]", [])
    Rivals(store, browser.twin(), 6)

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:  # after the fifth loss
            waits.append(-1)
            monkeypatch.setattr(time, "sleep", waits.append)
            fresh.does(count)
            monkeypatch.setattr(time, "sleep", wait)

    monkeypatch.setattr(time, "sleep", wait)
    browser.does(count)
    assert waits[waits.index(-1) + 1] == GIVE_WAY
    waits.clear()
    fresh.does(count)
    assert waits == []


def test_the_time_limit_ends_it_though_the_clock_stands_still(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    store = MemoryStore()
    browser = started(make_app(store, SESSION_CONFLICT_TIMEOUT=0.1), n=0)
    Rivals(store, browser.twin(), 1000)
    with pytest.raises(SessionConflict):
        browser.does(count)
    assert 0.1 <= sum(wait for wait in waits if wait != GIVE_WAY) < 0.12


def test_the_time_limit_ends_it_though_no_time_is_spent_waiting(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(moments)))
    store = MemoryStore()
    browser = started(make_app(store, SESSION_CONFLICT_TIMEOUT=timedelta(seconds=3)), n=0)
    Rivals(store, browser.twin(), 1000)
    with pytest.raises(SessionConflict):
        browser.does(count)
    assert len(waits) == 2


@pytest.mark.parametrize("end", ["clear", "delete"])
def test_a_session_that_ended_during_the_wait_stays_ended(
    end: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    app = make_app(store)
    browser = started(app, n=0)
    twin, handle = browser.twin(), browser.asks(lambda: session.handle)
    ends: dict[str, t.Callable[[], object]] = {
        "clear": lambda: twin.does(session.clear),
        "delete": lambda: store.drop(handle),
    }
    Rivals(store, browser.twin(), 2)
    monkeypatch.setattr(time, "sleep", lambda seconds: ends[end]())
    browser.does(count)
    assert browser.data == {}


GREENLETS = """
from gevent import monkey

monkey.patch_all()
from http_support import make_app, started
from overlapping import in_threads
from rivals import Rivals
from views import count

from flask_sessionstore.stores.memory import MemoryStore

store = MemoryStore()
browser = started(make_app(store), n=0)
Rivals(store, browser.twin(), 3)
browser.does(count)
print(browser.data)
"""


def test_conflicts_are_merged_under_gevent_too() -> None:
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GREENLETS],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout == "{'n': 4}\n", done.stderr
