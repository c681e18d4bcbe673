"""Several threads at once, all of which have to succeed."""

from __future__ import annotations

import threading
import typing as t


def in_threads(number: int, call: t.Callable[[], object]) -> None:
    """Run this in so many threads, and wait for all. None may fail."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  - a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
