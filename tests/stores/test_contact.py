"""An engine that hangs is not asked for a while: when that begins, who asks all the same, and how it ends."""

from __future__ import annotations

import gc
import threading
import typing as t

import pytest
from forks import FORKS, Fork, in_a_child

from flask_sessionstore import StoreUnavailable
from flask_sessionstore.errors import Lost
from flask_sessionstore.stores import Contact
from flask_sessionstore.stores.contact import urgently

LONG, SHORT = 3600.0, 0.001


class Engine:
    """Answers, or fails in the way that it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.lost: Lost | None = None
        self.error: BaseException | None = None

    def answer(self, word: str = "yes") -> str:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return word

    def time_out(self) -> None:
        self.error = StoreUnavailable("no answer", lost="timed out")

    def refuse(self) -> None:
        self.error = StoreUnavailable("nobody listens", lost="unreachable")

    def reject(self) -> None:
        self.error = StoreUnavailable("this row is locked")

    def recover(self) -> None:
        self.error = None


@pytest.fixture
def engine() -> Engine:
    return Engine()


def contact_with(pause: float) -> Contact:
    contact = Contact()
    contact.pause = pause
    return contact


def fails(contact: Contact, engine: Engine) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        contact.ask(engine.answer)
    return caught.value


def hang(contact: Contact, engine: Engine) -> None:
    """Let two calls run into a time-out."""
    engine.time_out()
    for _ in range(2):
        fails(contact, engine)


def ask_until(contact: Contact, engine: Engine) -> None:
    """Ask again and again, until the engine is asked."""
    before = engine.asked
    while engine.asked == before:
        try:
            contact.ask(engine.answer)
        except StoreUnavailable:
            continue


class App:
    """Listens."""

    def __init__(self, contact: Contact) -> None:
        self.recovered: list[object] = []
        contact.listen(self, lambda app: app.recovered.append(app))


def test_an_engine_that_answers_is_asked_and_answers(engine: Engine) -> None:
    contact = contact_with(LONG)
    assert contact.ask(engine.answer) == "yes"
    assert engine.asked == 1


def test_after_two_time_outs_in_a_row_calls_fail_at_once(engine: Engine) -> None:
    contact = contact_with(LONG)
    hang(contact, engine)
    error = fails(contact, engine)
    assert engine.asked == 2
    assert (error.code, error.lost) == (503, "timed out")
    assert "not asked again for a moment" in str(error)
    assert error.__cause__ is None


def test_one_time_out_begins_no_pause(engine: Engine) -> None:
    contact = contact_with(LONG)
    engine.time_out()
    fails(contact, engine)
    engine.recover()
    assert contact.ask(engine.answer) == "yes"


def test_an_answer_in_between_breaks_the_row(engine: Engine) -> None:
    contact = contact_with(LONG)
    for _ in range(3):
        engine.time_out()
        fails(contact, engine)
        engine.recover()
        assert contact.ask(engine.answer) == "yes"


def test_a_refused_connection_in_between_breaks_the_row_too(engine: Engine) -> None:
    contact = contact_with(LONG)
    for make_fail in (engine.time_out, engine.refuse, engine.time_out, engine.refuse):
        make_fail()
        fails(contact, engine)
    assert engine.asked == 4
    engine.recover()
    assert contact.ask(engine.answer) == "yes"


@pytest.mark.parametrize("make_fail", [Engine.refuse, Engine.reject])
def test_what_costs_no_time_begins_no_pause(make_fail: t.Callable[[Engine], None], engine: Engine) -> None:
    """A server that is not there; a locked row, a full pool, a full engine."""
    contact = contact_with(LONG)
    make_fail(engine)
    for _ in range(5):
        fails(contact, engine)
    assert engine.asked == 5


def test_without_a_pause_every_call_asks(engine: Engine) -> None:
    contact = contact_with(0)
    hang(contact, engine)
    fails(contact, engine)
    assert engine.asked == 3


def test_what_is_urgent_asks_in_a_pause_and_its_answer_ends_it(engine: Engine) -> None:
    contact = contact_with(LONG)
    hang(contact, engine)
    with urgently():
        fails(contact, engine)
    assert engine.asked == 3
    fails(contact, engine)
    engine.recover()
    fails(contact, engine)
    assert engine.asked == 3
    with urgently():
        assert contact.ask(engine.answer) == "yes"
    assert contact.ask(engine.answer) == "yes"


def test_when_the_pause_is_over_the_engine_is_asked_again(engine: Engine) -> None:
    contact = contact_with(SHORT)
    hang(contact, engine)
    engine.recover()
    ask_until(contact, engine)
    assert contact.ask(engine.answer) == "yes"


def test_after_a_pause_only_one_call_asks_until_it_is_answered(engine: Engine) -> None:
    contact = contact_with(SHORT)
    hang(contact, engine)
    engine.recover()
    asking, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        asking.set()
        go_on.wait(30)

    def probe() -> None:
        while not asking.is_set():
            try:
                contact.ask(wait)
            except StoreUnavailable:
                continue

    thread = threading.Thread(target=probe)
    thread.start()
    assert asking.wait(30)
    for _ in range(5):
        fails(contact, engine)
    go_on.set()
    thread.join(30)
    assert contact.ask(engine.answer) == "yes"


@pytest.mark.parametrize("error", [StoreUnavailable("no", lost="timed out"), ValueError(), SystemExit()])
def test_whoever_asked_in_vain_lets_the_next_one_ask(error: BaseException, engine: Engine) -> None:
    contact = contact_with(SHORT)
    hang(contact, engine)
    for _ in range(3):
        engine.error, before = error, engine.asked
        while engine.asked == before:
            with pytest.raises((StoreUnavailable, type(error))):
                contact.ask(engine.answer)
    engine.recover()
    ask_until(contact, engine)


def test_those_who_listen_hear_once_that_it_answers_again(engine: Engine) -> None:
    contact = contact_with(LONG)
    here, there = App(contact), App(contact)
    for make_fail in (engine.refuse, engine.time_out):
        make_fail()
        for _ in range(3):
            fails(contact, engine)
        engine.recover()
        with urgently():
            for _ in range(3):
                contact.ask(engine.answer)
    assert (here.recovered, there.recovered) == ([here, here], [there, there])


def test_nothing_is_told_where_the_engine_has_answered_all_the_time(engine: Engine) -> None:
    contact = contact_with(LONG)
    app = App(contact)
    engine.reject()
    fails(contact, engine)
    engine.recover()
    contact.ask(engine.answer)
    assert app.recovered == []


def test_a_store_does_not_keep_an_application_alive(engine: Engine) -> None:
    contact = contact_with(LONG)
    heard = App(contact).recovered
    gc.collect()
    engine.refuse()
    fails(contact, engine)
    engine.recover()
    contact.ask(engine.answer)
    assert heard == []


def test_many_threads_that_are_answered_tell_it_once(engine: Engine) -> None:
    contact = contact_with(LONG)
    app = App(contact)
    hang(contact, engine)
    engine.recover()
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait(30)
        with urgently():
            contact.ask(engine.answer)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert app.recovered == [app]


@pytest.mark.parametrize("fork", FORKS)
def test_a_child_does_not_inherit_the_pause(fork: Fork, engine: Engine) -> None:
    contact = contact_with(LONG)
    hang(contact, engine)
    engine.recover()

    def ask() -> None:
        assert contact.ask(engine.answer) == "yes"

    assert in_a_child(ask, fork) == "done"
    fails(contact, engine)
