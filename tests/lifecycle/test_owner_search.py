"""Ending, finding and counting an owner's sessions, mixed in every order with requests that make and change them.

As in test_interleavings.py, but over a store whose index is apart from its records, as in files and Redis: a session is
filed in one step and made in another.
"""

from __future__ import annotations

import logging
import random
import typing as t

import msgspec
import pytest
from filed import FiledRun
from interleaving import POLICY, WIRE_FAULTS, Fault, Run, Step, every_run
from kinds import ANN, CLEAR, LOG_OUT, OWNER, PURGE, RENEW, WRITE, Kind, Request, _assign, _nothing

from flask_sessionstore import owners
from flask_sessionstore.record import TOMBSTONE_TIME, Record

MOST = 2


class LimitedRun(FiledRun):
    """No owner may have more than :data:`MOST` sessions. Time moves."""

    policy = msgspec.structs.replace(POLICY, max_per_owner=MOST)

    def step(self, number: int) -> None:
        self.store.time += 0.001
        super().step(number)


def _sign_in(session: t.Any, value: str) -> t.Collection[str]:
    session[OWNER] = ANN
    session["note"] = value
    return ()


SIGN_IN = Kind("sign in", _sign_in, writes=OWNER, body=True)
SIGN_IN_ELSEWHERE = Kind("sign in elsewhere", _sign_in, writes=OWNER, body=True, elsewhere=True)
FIND = Kind("find", _nothing, act=lambda store, handle: owners.find(store, ANN))
REVOKE_ALL = Kind("revoke all", _nothing, act=lambda store, handle: owners.end_all(store, ANN))
OTHER_OWNER = Kind("sign in as another", _assign(OWNER), writes=OWNER, body=True)

KINDS = (SIGN_IN, SIGN_IN_ELSEWHERE, FIND, REVOKE_ALL, OTHER_OWNER, WRITE, RENEW, LOG_OUT, CLEAR, PURGE)
STARTS = {"anonymous": {"cart": "old"}, "signed in": {OWNER: ANN, "cart": "old"}}
Complaints = t.Iterator[str]


def nothing_failed(run: FiledRun) -> Complaints:
    for request in run.requests:
        if request.error is not None:
            yield f"{request} failed: {request.error!r}"


def all_filed_before_are_ended(run: FiledRun) -> Complaints:
    """After all sessions of an owner were ended, those are alive that were filed after that, and no others."""
    for number, step in enumerate(run.store.log):
        if step.request.kind is not REVOKE_ALL or step.request.error is not None:
            continue
        if any(later.request is step.request for later in run.store.log[number + 1 :]):
            continue  # not its last operation
        for handle in run.anns:
            if handle in _filed_until(run, _last_list(run.store.log, step.request)):
                yield f"a session of {run.makers.get(handle, 'before')} is alive"


def _last_list(log: list[Step], request: Request) -> int:
    lists = [n for n, step in enumerate(log) if step.request is request and step.operation.verb == "list"]
    return lists[-1]


def _filed_until(run: FiledRun, end: int) -> set[str]:
    """Handles filed under ann before this place in the log, and that of the session all began with."""
    filed = [step.operation for step in run.store.log[:end] if step.operation.verb == "file"]
    return {run.handle} | {(done.replaces or b"").hex() for done in filed if done.handle == f"{ANN}/"}


def all_can_be_found(run: FiledRun) -> Complaints:
    """No session of an owner is missing from the owner's list."""
    run.finish()
    found = owners.find(run.store, ANN)
    for handle in run.anns:
        if handle not in found:
            yield f"a session of {run.makers.get(handle, 'before')} cannot be found"


def no_cookie_for_a_dead_key(run: FiledRun) -> Complaints:
    for request in run.acknowledged:
        if request.sent is not None:
            steps = [step for step in run.steps(request) if step.operation.handle == request.sent]
            if not isinstance(steps[-1].what, Record):
                yield f"{request} sent a key that it had not found alive"


def only_the_revoked_are_refused(run: FiledRun) -> Complaints:
    """A sign-in without a session is one that somebody revoked."""
    revoked = any(request.kind is REVOKE_ALL for request in run.requests)
    for request in run.acknowledged:
        if request.signs_in and request.sent is None and not revoked and not run.straggles(request):
            yield f"{request} got no cookie"


def who_is_barred_makes_nothing(run: FiledRun) -> Complaints:
    """All sessions of the owner were ended while this one was made: no other is made in its place."""
    for request in run.requests:
        barred = [step for step in run.steps(request) if step.operation.verb == "add" and step.bytes is None]
        if barred and request.sent is not None:
            yield f"{request} was barred, and got a session all the same"


def nobody_elses_session_ended(run: FiledRun) -> Complaints:
    """Who signed in as another owner is not signed out with this one."""
    for handle, (by, tombstone) in run.buried.items():
        maker = run.makers.get(handle)
        if by.kind is REVOKE_ALL and tombstone.kind == "ended" and maker is not None and maker.kind is OTHER_OWNER:
            yield f"{by} ended the session of {maker}"


def nothing_is_left_behind(run: FiledRun) -> Complaints:
    """When all sessions have gone, and some time after that, the lists are empty."""
    run.finish()
    for entry in list(run.store.scan()):
        run.store.end(entry.handle)
    run.store.time += 3 * TOMBSTONE_TIME.total_seconds()
    run.store.prune()
    left = {owner: handles for owner, handles in run.store.lists.items() if handles}
    if left:
        yield f"the lists hold {left}"


INVARIANTS = (
    all_filed_before_are_ended,
    all_can_be_found,
    no_cookie_for_a_dead_key,
    only_the_revoked_are_refused,
    who_is_barred_makes_nothing,
    nobody_elses_session_ended,
    nothing_is_left_behind,
)


def check(run: t.Any, *invariants: t.Callable[[t.Any], Complaints]) -> None:
    complaints = [f"{holds.__name__}: {complaint}" for holds in invariants for complaint in holds(run)]
    assert not complaints, "\n".join(["", *complaints, run.story()])


@pytest.fixture(autouse=True)
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of dropped writes are no news."""
    monkeypatch.setattr(logging.getLogger("flask_sessionstore"), "disabled", True)


starts = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)


def first_by_default(all_of_them: t.Iterable[t.Any]) -> list[t.Any]:
    """The first in the default run, the others in the long one."""
    first, *others = all_of_them
    return [first, *(pytest.param(other, marks=pytest.mark.long) for other in others)]


@starts
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_two_requests(start: dict[str, str], kind: Kind) -> None:
    for other in KINDS[KINDS.index(kind) :]:
        for run in every_run(start, (kind, other), make=FiledRun):
            check(run, nothing_failed, *INVARIANTS)


@starts
@pytest.mark.parametrize("fault", first_by_default(WIRE_FAULTS), ids=lambda fault: fault.value)
def test_two_requests_and_one_fault(start: dict[str, str], fault: Fault) -> None:
    for group in ((SIGN_IN, REVOKE_ALL), (SIGN_IN_ELSEWHERE, REVOKE_ALL), (SIGN_IN, FIND), (RENEW, REVOKE_ALL)):
        for request in range(2):
            for operation in range(1, 9):
                for run in every_run(start, group, {(request, operation): fault}, make=FiledRun):
                    check(run, all_can_be_found, no_cookie_for_a_dead_key, nothing_is_left_behind)


@starts
@pytest.mark.parametrize("seed", first_by_default(range(4)))
def test_many_requests(start: dict[str, str], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(500):
        run = FiledRun(start, chance.choices(KINDS, k=chance.choice((3, 4, 5))), {})
        _at_random(run, chance)
        check(run, nothing_failed, *INVARIANTS)


def no_more_than_the_limit(run: LimitedRun) -> Complaints:
    if any(request.signs_in for request in run.requests) and len(run.anns) > MOST:
        yield f"{len(run.anns)} sessions are alive"


def no_fewer_than_there_may_be(run: LimitedRun) -> Complaints:
    """Of several who sign in at once, none ends another in vain."""
    elsewhere = sum(request.kind is SIGN_IN_ELSEWHERE for request in run.requests)
    if len(run.anns) < min(MOST, elsewhere):
        yield f"of {elsewhere} sessions and more, {len(run.anns)} are alive"


@pytest.mark.parametrize("seed", first_by_default(range(6)))
def test_the_limit_holds_when_many_sign_in_at_once(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(250):
        kinds = chance.choices((SIGN_IN_ELSEWHERE, SIGN_IN_ELSEWHERE, SIGN_IN, WRITE, FIND), k=chance.choice((2, 3, 4)))
        run = LimitedRun(chance.choice(list(STARTS.values())), kinds, {})
        _at_random(run, chance)
        check(
            run, nothing_failed, no_more_than_the_limit, no_fewer_than_there_may_be, no_cookie_for_a_dead_key,
            all_can_be_found, nothing_is_left_behind,
        )  # fmt: skip


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_the_limit_holds_in_every_order_of_two(start: dict[str, str]) -> None:
    for group in ((SIGN_IN_ELSEWHERE, SIGN_IN_ELSEWHERE), (SIGN_IN, SIGN_IN_ELSEWHERE), (SIGN_IN_ELSEWHERE, WRITE)):
        for run in every_run(start, group, make=LimitedRun):
            check(run, nothing_failed, no_more_than_the_limit, no_fewer_than_there_may_be)


def _at_random(run: Run, chance: random.Random) -> None:
    while run.waiting:
        run.step(chance.choice(list(run.waiting)))
