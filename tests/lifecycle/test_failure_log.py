"""What the log says of a store that fails: a line a second at most, the traceback once, which request it was."""

from __future__ import annotations

import collections
import logging
import re
import time
import typing as t

import pytest
from flask import Request
from freezegun import freeze_time
from http_support import Browser, sessions_of, started, warnings_in
from live import live_app
from views import nothing, read, write
from werkzeug.test import EnvironBuilder

from flask_sessionstore import StoreUnavailable, session
from flask_sessionstore.errors import Lost
from flask_sessionstore.failures import Failures
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, FaultyStore


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore(MemoryStore())


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return warnings_in(caplog, logging.ERROR)


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[bool]:
    return [bool(record.exc_info) for record in caplog.records if record.name == "flask_sessionstore"]


def failure(text: str = "Redis did not answer in time", lost: Lost | None = "timed out") -> StoreUnavailable:
    error = StoreUnavailable(text, lost=lost)
    error.__cause__ = TimeoutError("timed out")
    return error


class Gone(MemoryStore):
    """Cannot be reached, once it has an error."""

    error: StoreUnavailable | None = None

    def read(self, handle: str) -> bytes | None:
        if self.error is not None:
            raise self.error
        return super().read(handle)


class Emptied(collections.deque[None]):
    """Another thread is always faster to take what is in it."""

    def pop(self) -> None:  # type: ignore[override]
        raise IndexError


def test_threads_that_count_at_once_do_not_fail() -> None:
    failures = Failures()
    failures.tell(failure(), None)
    alike = failures._alike.get()[""]
    alike._untold = Emptied([None, None])
    alike._told_at[0] = alike._seen_at = float("-inf")
    failures.tell(failure(), None)
    failures.recovered()


def test_a_line_names_method_and_path_and_nothing_of_the_query(
    faulty: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(live_app(faulty), a=1)
    faulty.fail()
    browser.does(read, "/cart/3?token=secret", body="x")
    assert lines(caplog) == ["POST /cart/3: FaultyStore was told to fail (read)"]


def test_a_path_cannot_begin_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    environ = {**EnvironBuilder().get_environ(), "PATH_INFO": "/a cart\nERROR: all is lost"}
    Failures().tell(failure(), Request(environ))
    assert lines(caplog) == ["GET /a%20cart%0AERROR%3A%20all%20is%20lost: Redis did not answer in time"]


def test_a_failure_of_a_job_has_no_request(faulty: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    app = live_app(faulty)
    handle = started(app, a=1).asks(lambda: session.handle)
    faulty.fail("swap", times=None)
    with app.app_context(), pytest.raises(StoreUnavailable), sessions_of(app).open(handle) as opened:
        opened["a"] = 2
    assert lines(caplog) == ["FaultyStore was told to fail (swap)"]


def test_of_many_failures_the_first_has_a_line_and_the_next_is_counted_a_second_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with freeze_time() as time_passes:
        failures = Failures()
        for _ in range(3):
            for _ in range(50):
                failures.tell(failure(), None)
                time_passes.tick(0.01)
            time_passes.tick(0.5)
    assert lines(caplog) == [
        "Redis did not answer in time",
        *["Redis did not answer in time; 49 more failures since the last line"] * 2,
    ]
    assert tracebacks(caplog) == [True, False, False]


def test_there_are_never_more_lines_than_seconds(faulty: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    browser = started(live_app(faulty), a=1)
    faulty.fail("read", times=None)
    began = time.monotonic()
    for _ in range(100):
        browser.does(read)
    assert 1 <= len(lines(caplog)) <= 1 + (time.monotonic() - began)


def test_an_outage_has_one_line_a_second_whatever_its_failures_say(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    with freeze_time():
        failures.tell(failure(), None)
        failures.tell(failure("Redis cannot be reached", "unreachable"), None)
        failures.tell(failure("the session store is not asked for a moment"), None)
    assert lines(caplog) == ["Redis did not answer in time"]


def test_failures_of_another_kind_have_lines_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    with freeze_time():
        for text in ("Redis has no memory left", "Redis refused a command"):
            for _ in range(3):
                failures.tell(failure(text, None), None)
    assert lines(caplog) == ["Redis has no memory left", "Redis refused a command"]


def test_an_outage_after_a_quiet_time_is_a_new_one_with_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    with freeze_time() as time_passes:
        for pause in (9.0, 11.0, 0.0):
            failures.tell(failure(), None)
            time_passes.tick(pause)
    assert tracebacks(caplog) == [True, False, True]


def test_the_end_of_an_outage_says_how_many_failures_had_no_line(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    with freeze_time():
        for _ in range(8):
            failures.tell(failure(), None)
        failures.recovered()
        failures.recovered()
        failures.tell(failure(), None)
    assert warnings_in(caplog) == [
        "the session store answers again; 7 more failures since the last line",
        "the session store answers again",
    ]
    assert len(lines(caplog)) == 2


def test_a_store_that_says_something_new_every_time_fills_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for number in range(1000):
        failures.tell(failure(f"failure {number}", None), None)
    assert len(lines(caplog)) == 1000
    assert len(failures._alike.get()) <= 33


def test_pages_that_need_no_session_log_no_more_either(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    store = Gone()
    store.clock = clock
    browser = started(live_app(store, SESSION_PERMANENT=True), a=1)
    clock.advance(minutes=5)
    store.error = failure()
    with freeze_time():
        for _ in range(5):
            assert browser.does(nothing).status_code == 200
    assert lines(caplog) == ["GET /: Redis did not answer in time"]


# -- slow calls ----------------------------------------------------------------------------------------------------


class Slow(MemoryStore):
    """Its writes let the time pass."""

    tick: t.Callable[[float], object] = staticmethod(lambda seconds: None)

    def swap(self, *args: t.Any, **options: t.Any) -> bool:
        self.tick(0.2)
        return super().swap(*args, **options)


@pytest.mark.parametrize(("limit", "logged"), [(0.1, 1), (0.3, 0), (None, 0)])
def test_calls_that_take_longer_than_the_setting_are_logged(
    limit: float | None, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = Slow()
    with freeze_time() as time_passes:
        store.tick = time_passes.tick
        browser = started(live_app(store, SESSION_SLOW_CALL=limit), a=1)
        browser.does(write, "/cart?token=secret")
    found = warnings_in(caplog)
    assert len(found) == logged
    for line in found:
        assert re.fullmatch(r"GET /cart: the session store took 0\.2\d\d s for update \(done\)", line)


def test_a_slow_failure_is_logged_as_a_failure_only(faulty: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    app = live_app(faulty, SESSION_SLOW_CALL=0.001)
    faulty.fail("add")
    with freeze_time(auto_tick_seconds=1):
        Browser(app).does(write)
    assert (warnings_in(caplog), len(lines(caplog))) == ([], 1)
