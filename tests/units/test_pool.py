"""What belongs to one process, and connections that are lent to one exchange at a time."""

from __future__ import annotations

import contextlib
import gc
import threading
import typing as t
from collections.abc import Iterator

import pytest
from forks import FORKS, Fork, in_a_child

from flask_sessionstore.stores import pool as module
from flask_sessionstore.stores.pool import NoneFree, PerProcess, Pool


class Time:
    """The clock and the waits that the pool sees: waiting takes no time of ours."""

    def __init__(self) -> None:
        self.now, self.stands = 1000.0, False
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if not self.stands:
            self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "time", time)
    return time


class Connection:
    """What is lent."""

    def __init__(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False


class Ours:
    """A pool, and what it has made."""

    def __init__(self, most: int = 3, patience: float = 2.0, **options: t.Any) -> None:
        self.made: list[Connection] = []
        self.pool: Pool[Connection] = Pool(self.make, Connection.close, most=most, patience=patience, **options)

    def make(self) -> Connection:
        self.made.append(Connection())
        return self.made[-1]

    @property
    def open(self) -> list[Connection]:
        return [connection for connection in self.made if connection.open]

    def lend_at_once(self, number: int) -> list[Connection]:
        """So many connections that were lent at the same time, and are back."""
        with contextlib.ExitStack() as lent:
            return [lent.enter_context(self.lent()) for _ in range(number)]

    @contextlib.contextmanager
    def lent(self) -> Iterator[Connection]:
        """One is lent inside the block: to another thread, for an exchange ends where it began."""
        got: list[Connection] = []
        lending, done = threading.Event(), threading.Event()

        def exchange(connection: Connection) -> None:
            got.append(connection)
            lending.set()
            done.wait(30)

        thread = threading.Thread(target=self.pool.lend, args=(exchange,))
        thread.start()
        lending.wait(30)
        try:
            yield got[0]
        finally:
            done.set()
            thread.join()

    def one(self) -> Connection:
        """The connection that an exchange gets."""
        connection: Connection = self.pool.lend(lambda connection: connection)
        return connection


# -- lending -------------------------------------------------------------------------------------------------------


def test_an_exchange_gets_its_arguments_and_its_result_comes_back(time: Time) -> None:
    ours = Ours()
    assert ours.pool.lend(lambda connection, *args: (connection, args), 1, 2) == (ours.made[0], (1, 2))


def test_connections_are_made_when_they_are_needed_and_used_again(time: Time) -> None:
    ours = Ours()
    assert ours.made == []
    assert [ours.one() for _ in range(5)] == [ours.made[0]] * 5


def test_no_two_exchanges_have_one_connection_at_the_same_time(time: Time) -> None:
    ours = Ours(most=5)
    assert len(set(ours.lend_at_once(5))) == 5


def test_the_last_used_is_the_next_to_be_used(time: Time) -> None:
    """So that those of a burst come to be idle."""
    ours = Ours()
    with ours.lent() as last, ours.lent():
        pass
    assert [ours.one() for _ in range(3)] == [last] * 3


# -- bounds --------------------------------------------------------------------------------------------------------


def test_there_are_never_more_than_there_may_be_and_who_waits_gives_up(time: Time) -> None:
    ours = Ours(most=2, patience=2.0)
    with ours.lent(), ours.lent():
        with pytest.raises(NoneFree):
            ours.one()
        assert len(ours.made) == 2
        assert 2.0 <= sum(time.waits) < 2.1
    assert ours.one() in ours.made
    assert len(ours.made) == 2


def test_who_waits_gets_what_comes_back(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Ours(most=1)
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(ours.lent())
        monkeypatch.setattr(time, "sleep", lambda seconds: stack.close())
        assert ours.one() is connection


def test_who_waits_gets_the_place_of_what_was_closed(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Ours(most=1)
    lending, failing = threading.Event(), threading.Event()

    def fail(connection: Connection) -> t.NoReturn:
        lending.set()
        failing.wait(30)
        raise OSError

    def lend() -> None:
        with contextlib.suppress(OSError):
            ours.pool.lend(fail)

    thread = threading.Thread(target=lend)
    thread.start()
    lending.wait(30)

    def sleep(seconds: float) -> None:
        failing.set()
        thread.join()

    monkeypatch.setattr(time, "sleep", sleep)
    assert ours.one() is ours.made[1]
    assert ours.open == [ours.made[1]]


def test_a_clock_that_a_test_has_stopped_stops_no_wait_from_ending(time: Time) -> None:
    ours = Ours(most=1, patience=0.5)
    time.stands = True
    with ours.lent(), pytest.raises(NoneFree):
        ours.one()
    assert 0.5 <= sum(time.waits) < 0.6


def test_what_cannot_be_made_leaves_its_place_free(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Ours(most=1)

    def refuse() -> t.NoReturn:
        raise ConnectionRefusedError

    broken: Pool[Connection] = Pool(refuse, Connection.close, most=1, patience=0.0)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            broken.lend(lambda connection: connection)
    assert ours.one() is ours.one()


# -- what is cut short ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt, GeneratorExit, SystemExit])
def test_what_was_cut_short_is_closed_and_never_lent_again(error: type[BaseException], time: Time) -> None:
    ours = Ours(most=1)

    def fail(connection: Connection) -> t.NoReturn:
        raise error

    for _ in range(3):
        with pytest.raises(error):
            ours.pool.lend(fail)
        assert ours.open == []
    assert ours.one() is ours.made[3]


def test_after_an_error_that_says_nothing_against_it_a_connection_is_kept(time: Time) -> None:
    ours = Ours(most=1, is_sound=lambda error: isinstance(error, LookupError))

    def fail(connection: Connection) -> t.NoReturn:
        raise KeyError

    for _ in range(3):
        with pytest.raises(KeyError):
            ours.pool.lend(fail)
    assert [ours.one()] == ours.made == ours.open


def test_a_connection_that_cannot_be_closed_is_gone_all_the_same(time: Time) -> None:
    made: list[Connection] = []

    def close(connection: Connection) -> t.NoReturn:
        raise OSError

    def make() -> Connection:
        made.append(Connection())
        return made[-1]

    pool: Pool[Connection] = Pool(make, close, most=1, patience=0.0)
    pool.lend(lambda connection: None)
    pool.clear()
    assert pool.lend(lambda connection: connection) is made[1]


def test_to_clear_closes_what_nobody_uses_and_makes_room(time: Time) -> None:
    ours = Ours(most=3)
    ours.lend_at_once(2)
    with ours.lent() as lent:
        ours.pool.clear()
        assert ours.open == [lent]
        with ours.lent(), ours.lent(), pytest.raises(NoneFree):
            ours.one()
    assert len(ours.open) == 3


# -- idle ones -----------------------------------------------------------------------------------------------------


def test_after_a_burst_all_but_eight_are_closed_once_they_were_idle_for_a_minute(time: Time) -> None:
    ours = Ours(most=20)
    ours.lend_at_once(20)
    time.now += 59
    ours.one()
    assert len(ours.open) == 20
    time.now += 2
    ours.one()
    assert len(ours.open) == 8
    assert len(set(ours.lend_at_once(20))) == 20  # and all may come back


def test_eight_stay_open(time: Time) -> None:
    ours = Ours(most=20)
    ours.lend_at_once(8)
    for _ in range(3):
        time.now += 61
        ours.one()
    assert len(ours.open) == 8


def test_what_nobody_has_used_for_five_minutes_is_not_believed(time: Time) -> None:
    """What lies between may have forgotten it."""
    ours = Ours(most=3)
    old = ours.lend_at_once(3)
    time.now += 301
    fresh = ours.one()
    assert fresh not in old
    assert not all(connection.open for connection in old)
    assert ours.one() is fresh


# -- processes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_meets_nothing_of_its_parent_s(fork: Fork) -> None:
    ours = Ours(most=2)
    parents = ours.lend_at_once(2)

    def work() -> None:
        assert ours.one() not in parents
        ours.pool.clear()
        assert all(connection.open for connection in parents)

    assert in_a_child(work, fork) == "done"
    assert ours.one() in parents


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_has_all_places_though_its_parent_s_were_taken(fork: Fork) -> None:
    ours = Ours(most=1)
    said: list[str] = []
    ours.pool.lend(lambda connection: said.append(in_a_child(ours.one, fork)))
    assert said == ["done"]


@pytest.mark.parametrize("fork", FORKS)
def test_a_pool_that_goes_closes_the_connections_of_its_own_process_only(fork: Fork) -> None:
    pools = [Ours(most=1)]
    made = pools[0].made
    pools[0].one()

    def work() -> None:
        pools[0].one()
        pools.clear()
        gc.collect()
        assert [connection.open for connection in made] == [True, False]

    assert in_a_child(work, fork) == "done"
    pools.clear()
    gc.collect()
    assert [connection.open for connection in made] == [False]


@pytest.mark.parametrize("fork", FORKS)
def test_each_process_makes_its_own_once_and_at_first_use(fork: Fork) -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    own = PerProcess(make)
    assert (own.peek(), made) == (None, [])
    parents = own.get()
    assert own.get() is own.peek() is parents

    def work() -> None:
        assert own.peek() is None
        assert own.get() is own.peek() is made[1]

    assert in_a_child(work, fork) == "done"
    assert own.get() is parents
    assert made == [parents]


def test_of_two_threads_that_make_one_at_once_both_get_the_same() -> None:
    both = threading.Barrier(2)

    def make() -> object:
        both.wait(30)
        return object()

    own, got = PerProcess(make), []
    threads = [threading.Thread(target=lambda: got.append(own.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] is got[1]
