"""The memory store in a forked child."""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta

import pytest
from forks import FORKS, Fork, in_a_child

from flask_sessionstore import Record
from flask_sessionstore.stores.memory import MemoryStore


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_can_use_the_store_that_another_thread_of_its_parent_was_using(fork: Fork) -> None:
    store, reached, over = MemoryStore(), threading.Event(), threading.Event()
    key = store.save(Record(state={"a": b"\x01"}), timedelta(hours=1))

    def hold() -> float:
        """A clock that stands still, in the midst of a read."""
        reached.set()
        over.wait()
        return time.time()

    def read() -> None:
        signal.alarm(10)  # ends a child that waits for ever
        store.clock = None
        assert store.load(key)

    store.clock = hold
    thread = threading.Thread(target=store.read, args=(key.handle,))
    thread.start()
    try:
        reached.wait()
        assert in_a_child(read, fork) == "done"
    finally:
        over.set()
        thread.join()
