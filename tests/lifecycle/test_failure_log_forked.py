"""The log of failures in a child that was forked while its parent wrote a line."""

from __future__ import annotations

import logging

import pytest
from forks import FORKS, Fork, in_a_child

from flask_sessionstore import StoreUnavailable
from flask_sessionstore.failures import Failures


class ForksAtItsFirstLine(logging.Handler):
    """Keeps the lines, and has a child fail in the midst of the first one."""

    def __init__(self, failures: Failures, fork: Fork) -> None:
        super().__init__()
        self.failures, self.fork = failures, fork
        self.lines: list[str] = []
        self.child = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if len(self.lines) == 1:
            self.child = in_a_child(self.fail_too, self.fork)

    def fail_too(self) -> None:
        self.failures.tell(StoreUnavailable("Redis cannot be reached", lost="unreachable"), None)
        assert len(self.lines) == 2


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_has_lines_of_its_own_though_its_parent_was_writing_one(fork: Fork) -> None:
    failures = Failures()
    handler = ForksAtItsFirstLine(failures, fork)
    logger = logging.getLogger("flask_sessionstore")
    logger.addHandler(handler)
    try:
        failures.tell(StoreUnavailable("Redis did not answer in time", lost="timed out"), None)
    finally:
        logger.removeHandler(handler)
    assert (handler.child, handler.lines) == ("done", ["Redis did not answer in time"])
