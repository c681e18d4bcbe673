"""Requests that bring an old session in, run in every order in which their store operations can happen.

As in test_interleavings.py; but all requests come with what a browser has of a session of another kind, and the store
has nothing yet.
"""

from __future__ import annotations

import itertools
import logging
import typing as t

import msgspec
import pytest
from filed import FiledRun
from interleaving import LIFETIME, POLICY, WIRE_FAULTS, Fault, every_run
from kinds import (
    ANN,
    CLEAR,
    CLEAR_AND_WRITE,
    COUNTER,
    LATER,
    LOG_IN,
    LOG_IN_AS_ANN,
    LOG_OUT,
    OTHER,
    OWNER,
    PAUSE,
    POP,
    PURGE,
    READ,
    RENEW,
    REVOKE,
    WRITE,
    Kind,
    Request,
    _nothing,
)

from flask_sessionstore import codec, owners
from flask_sessionstore.derived import Credential, owner_mark
from flask_sessionstore.key import SessionKey
from flask_sessionstore.moving_in import bar_owner
from flask_sessionstore.record import Record
from flask_sessionstore.testing import FaultyStore
from flask_sessionstore.tokens import Token
from flask_sessionstore.visitor import Old

Complaints = t.Iterator[str]
DATA = {OWNER: ANN, "cart": "old"}


class _Kept:
    """A session of another kind, which lives, and is asked without an operation of the store."""

    def __init__(self) -> None:
        credential = Credential.of("A" * 43)
        self.key: SessionKey = credential.key
        self.mark = credential.mark
        self.is_derived = True

    def find(self, now: float) -> Old | None:
        state = {key: codec.encode(value, key) for key, value in DATA.items()}
        return Old(record=Record(state=state, permanent=True), ends_at=LATER + LIFETIME.total_seconds(), kept_as="test")

    def remove(self) -> None:
        pass


OLD = _Kept()


class ImportRun(FiledRun):
    """Requests that all come with an old session, in one order."""

    old = (OLD,)

    def _tokens(self, start: t.Mapping[str, t.Any]) -> list[Token]:
        return []

    def _named(self) -> set[str | None]:
        return super()._named() | {OLD.key.handle, OLD.mark, owner_mark(ANN)}

    def comes_again(self, kind: Kind = READ) -> Request:
        """One more request with the old session, which nobody interrupts."""
        self.finish()
        request = Request(kind, len(self.requests), self.policy)
        request(FaultyStore(self.store), self.handle, (), self.old)
        assert request.error is None
        return request


def _revoke_all(store: FaultyStore, handle: str) -> None:
    bar_owner(store, ANN, LIFETIME)
    owners.end_all(store, ANN)


REVOKE_ALL = Kind("revoke all", _nothing, act=_revoke_all)
KINDS = (
    *(READ, WRITE, OTHER, COUNTER, POP, CLEAR, CLEAR_AND_WRITE, PURGE, RENEW, LOG_IN, LOG_IN_AS_ANN, LOG_OUT),
    *(REVOKE, REVOKE_ALL),
)
#: What leaves the session where it is.
STAY = {READ, WRITE, OTHER, COUNTER, LOG_IN_AS_ANN, PAUSE}


# -- the invariants ------------------------------------------------------------------------------------------------


def nothing_failed(run: ImportRun) -> Complaints:
    for request in run.requests:
        if request.error is not None:
            yield f"{request} failed: {request.error!r}"


def everybody_sees_the_old_session_until_it_goes(run: ImportRun) -> Complaints:
    for request in run.acknowledged:
        looked = request.kind.act is None and request.kind is not PURGE
        alone = {other.kind for other in run.requests if other is not request} <= STAY
        if looked and alone and request.found.owner != ANN:
            yield f"{request} found {request.found}"


def there_is_one_session_and_all_that_was_written_is_in_it(run: ImportRun) -> Complaints:
    if not {request.kind for request in run.requests} <= STAY:
        return
    if set(run.anns) != {OLD.key.handle}:
        yield f"the sessions are {list(run.anns)}"
    data = run.data(OLD.key.handle)
    written = {request.writes for request in run.acknowledged} - {None}
    if not written <= data.keys():
        yield f"of {written} it has {list(data)}"
    counters = sum(request.kind is COUNTER for request in run.acknowledged)
    if data.get("hits", 0) < counters:
        yield f"it has counted {data.get('hits')} of {counters}"
    for request in run.acknowledged:
        if request.kind.act is None and request.sent != OLD.key.handle:
            yield f"{request} sent no cookie of it"


def _ended_it(run: ImportRun, request: Request) -> bool:
    """Whether it was an acknowledged end for the owner."""
    if request.kind is REVOKE_ALL:
        return True
    if request.kind is PURGE:
        return any(step.operation.handle == OLD.key.handle for _, step in run.graves if step.request is request)
    return request.kind.act is None and request.found.owner == ANN and request.signs_out


def after_an_end_nobody_is_signed_in(run: ImportRun) -> Complaints:
    for request in run.acknowledged:
        if not _ended_it(run, request):
            continue
        for handle in run.anns:
            maker = run.makers.get(handle)
            if maker is not None and maker.error is not None and handle == OLD.key.handle:
                continue  # who comes to it finds that it is not to be let in: see below
            if maker is None or not maker.signs_in or handle == OLD.key.handle:
                yield f"{request} was an end, and {maker}'s session is alive"


def who_comes_later_finds_what_became_of_it(run: ImportRun) -> Complaints:
    """More than a minute after, and with the old cookie alone."""
    moved = any(step.operation.handle == OLD.key.handle for _, step in run.graves)
    ended = moved or any(_ended_it(run, request) for request in run.acknowledged)
    was_in = any(request.found.owner == ANN for request in run.acknowledged)
    run.finish()
    run.store.time += 3600
    may_have_ended = any(request.kind is REVOKE_ALL for request in run.requests)
    if not (ended or may_have_ended) and run.comes_again().found.owner != ANN:
        yield "it did not go, and is not found"
    if ended and (was_in or any(request.kind is REVOKE_ALL for request in run.acknowledged)):
        found = run.comes_again().found
        if found.owner is not None:
            yield f"it went, and {found} is back"


def no_cookie_for_a_dead_key(run: ImportRun) -> Complaints:
    for request in run.acknowledged:
        if request.sent is not None:
            steps = [step for step in run.steps(request) if step.operation.handle == request.sent]
            if not isinstance(steps[-1].what, Record):
                yield f"{request} sent a key that it had not found alive"


def there_is_a_mark(run: ImportRun) -> Complaints:
    if any(request.found.owner == ANN for request in run.acknowledged) and run.store.peek(OLD.mark) is None:
        yield "it was imported, and no mark stands"


INVARIANTS = (
    everybody_sees_the_old_session_until_it_goes,
    there_is_one_session_and_all_that_was_written_is_in_it,
    after_an_end_nobody_is_signed_in,
    no_cookie_for_a_dead_key,
    there_is_a_mark,
    who_comes_later_finds_what_became_of_it,
)


def check(run: t.Any, *invariants: t.Callable[[t.Any], Complaints]) -> None:
    complaints = [f"{holds.__name__}: {complaint}" for holds in invariants for complaint in holds(run)]
    assert not complaints, "\n".join(["", *complaints, run.story()])


@pytest.fixture(autouse=True)
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of dropped writes are no news."""
    monkeypatch.setattr(logging.getLogger("flask_sessionstore"), "disabled", True)


#: Each sort of these once.
SOME = (READ, WRITE, CLEAR, LOG_OUT, REVOKE_ALL)


def some(*default: t.Any, of: t.Iterable[t.Any]) -> list[t.Any]:
    """Those of the default run as they are, the others as what takes long."""
    return [pytest.param(one, marks=[] if one in default else [pytest.mark.long]) for one in of]


@pytest.mark.parametrize("kind", some(CLEAR, LOG_OUT, REVOKE_ALL, of=KINDS), ids=str)
def test_two_first_requests(kind: Kind) -> None:
    for other in KINDS[KINDS.index(kind) :]:
        for run in every_run({}, (kind, other), make=ImportRun):
            check(run, nothing_failed, *INVARIANTS)


PAIRS = list(itertools.combinations_with_replacement(SOME, 2))


@pytest.mark.long
@pytest.mark.parametrize("kinds", PAIRS, ids=lambda kinds: " beside ".join(map(str, kinds)))
def test_two_first_requests_longer_than_tombstones_stand(kinds: tuple[Kind, Kind]) -> None:
    for run in every_run({}, (*kinds, PAUSE), make=ImportRun):
        check(run, there_is_a_mark, after_an_end_nobody_is_signed_in, who_comes_later_finds_what_became_of_it)


@pytest.mark.long
@pytest.mark.parametrize("kind", SOME, ids=str)
@pytest.mark.parametrize("fault", WIRE_FAULTS, ids=str)
def test_two_first_requests_and_one_fault(fault: Fault, kind: Kind) -> None:
    """Whatever fails, who comes again finds the session, or that it has ended."""
    for other in SOME:
        for operation in itertools.count(1):
            happened = False
            for run in every_run({}, (kind, other), {(0, operation): fault}, make=ImportRun):
                happened |= run.requests[0].operations + 1 >= operation
                check(run, after_an_end_nobody_is_signed_in, there_is_a_mark, who_comes_later_finds_what_became_of_it)
            if not happened:
                break


class LimitedRun(ImportRun):
    """No owner may have more than one session."""

    policy = msgspec.structs.replace(POLICY, max_per_owner=1)


def test_the_limit_of_one_session_leaves_the_one_that_all_have_come_to() -> None:
    for run in every_run({}, (READ, WRITE), make=LimitedRun):
        check(run, nothing_failed, *INVARIANTS)
