"""What holds whichever way the store operations of requests on one session are mixed."""

from __future__ import annotations

import itertools
import logging
import random
import typing as t

import pytest
from interleaving import (
    CLEAR,
    CLEAR_AND_WRITE,
    COUNTER,
    KINDS,
    LOG_OUT_IN_EVENT,
    OWNER,
    PAUSE,
    POP,
    PURGE,
    RENEW,
    SIGN_IN,
    STARTS,
    Fault,
    Kind,
    Request,
    Run,
    every_run,
    groups,
)

from flask_sessionstore.lifecycle import Cookie
from flask_sessionstore.record import Record, Tombstone

Complaints = t.Iterator[str]

# -- the invariants --------------------------------------------------------------------------------------------------
#
# "The session" is the one that all requests came with. A request is acknowledged if it did not fail; what failed may
# have happened or not.


def nothing_failed(run: Run) -> Complaints:
    """Where the store does not fail, no request does."""
    for request in run.requests:
        if request.error is not None:
            yield f"{request} failed: {request.error!r}"


def dead_stays_dead(run: Run) -> Complaints:
    """Nothing is done any more under a name with a tombstone; only names that nobody was told are dropped."""
    dead = set()
    for step in run.store.log:
        verb, handle, _ = step.operation
        if verb != "read" and handle in dead and step.bytes is not None:
            yield f"{step.request} made a {verb} on what was dead"
        if verb == "drop" and handle in (run.handle, *(request.sent for request in run.requests)):
            yield f"{step.request} dropped what others know"
        if verb == "add" and handle == run.handle:
            yield f"{step.request} made a new session under the old name"
        if verb == "swap" and isinstance(step.what, Tombstone):
            dead.add(handle)


def tombstones_tell_the_truth(run: Run) -> Complaints:
    """A tombstone says how it went: ended, emptied (and nobody's), or renewed (by its owner, to a key that exists)."""
    owned = OWNER in run.start
    for request, tombstone in run.buried.values():
        if tombstone.kind == "emptied" and (owned or request.kind is not POP):
            yield f"{request} emptied nothing, and says so"
        if tombstone.kind == "ended" and not (request.ends or (owned and request.kind is SIGN_IN)):
            yield f"{request} ended nothing, and says so"
        if tombstone.kind == "renewed":
            if owned and request.kind is not RENEW:
                yield f"{request} calls a renewal what changed the owner"
            if tombstone.successor is None or run.store.peek(tombstone.successor) is None:
                yield f"{request} renewed the session to nothing"


def no_old_key_for_new_rights(run: Run) -> Complaints:
    """Who renewed or signed in got a key that was never sent before, and the old one is dead."""
    for request in run.acknowledged:
        if request.kind.signs_in and request.sent is not None:
            if request.sent == run.handle:
                yield f"{request} got the old key"
            if run.handle in run.alive:
                yield f"{request} left the old key alive"


def no_cookie_for_a_dead_key(run: Run) -> Complaints:
    """A key was alive at the last operation on it of the request that sent it."""
    for request in run.requests:
        if request.sent is not None:
            steps = [step for step in run.steps(request) if step.operation.handle == request.sent]
            if not steps or not isinstance(steps[-1].what, Record):
                yield f"{request} sent a key that it had not found alive"


def no_cookie_deleted_in_vain(run: Run) -> Complaints:
    """Only who ended the session deletes its cookie: another may have been set since for what came after it."""
    for request in run.acknowledged:
        deleted = request.outcome.cookie is Cookie.DELETE
        if deleted and run.handle in run.alive:
            yield f"{request} deleted the cookie of a session that is alive"
        if deleted and request.kind is not PURGE and run.ended_by(run.handle) is not request:
            yield f"{request} deleted the cookie of a session that another had ended"
        if request.kind is PURGE and not deleted:
            yield f"{request} left the cookie"


def no_session_without_a_cookie(run: Run) -> Complaints:
    """Who made a session that is alive told the browser."""
    for handle in run.alive:
        maker = run.makers.get(handle)
        if maker is not None and maker.sent != handle:
            yield f"{maker} made a session that nobody knows"


def ended_stays_ended(run: Run) -> Complaints:
    """After an end the session is not alive, nor what it went on as; but what this very end has made itself is."""
    for request in run.acknowledged:
        if not request.ends:
            continue
        handle = run.handle
        while handle in run.buried:
            handle = run.buried[handle][1].successor or ""
        maker = run.makers.get(handle)
        if handle in run.alive and maker is not request:
            yield f"{request} ended the session, and it goes on as {maker}'s" if maker else f"{request} ended nothing"


def no_data_outlives_its_session(run: Run) -> Complaints:
    """A session holds nothing but what its maker wrote and may carry; after an end the old one holds nothing."""
    for handle in run.alive:
        maker = run.makers.get(handle)
        carried = _carried(run.data(handle), maker)
        if carried and not (_may_carry(run, maker) if maker is not None else not _is_over(run)):
            yield f"{carried} lives on in the session of {maker or 'before'}"


def _is_over(run: Run) -> bool:
    """Whether somebody ended or emptied the session, and knows."""
    return _was_emptied(run) or any(request.ends for request in run.acknowledged)


def _carried(data: t.Mapping[str, t.Any], maker: Request | None) -> dict[str, t.Any]:
    own = () if maker is None else (maker.name, 1)
    return {key: value for key, value in data.items() if value not in own}


def _may_carry(run: Run, maker: Request) -> bool:
    if OWNER not in run.start:
        # It signed in where another had done so: what was in the anonymous session is this browser's own.
        return maker.kind.signs_in and run.grave is not None and run.grave.kind == "renewed"
    if run.ended_by(run.handle) is not maker or maker.kind.ends:
        return False
    # It took the place of the living session. If that was not by another owner or none, no end may have followed.
    return maker.kind is not RENEW or not _is_over(run)


def no_owner_after_the_end(run: Run) -> Complaints:
    """After an end nothing alive is the old owner's."""
    owner = run.start.get(OWNER)
    if owner is not None and any(request.ends for request in run.acknowledged):
        for handle, record in run.alive.items():
            if owner in (record.owner, run.data(handle).get(OWNER)):
                yield f"{owner} is still signed in, in the session of {run.makers.get(handle, 'before')}"


def nothing_there_after_a_clear(run: Run) -> Complaints:
    """What was left empty has no session and no cookie."""
    for request in run.acknowledged:
        if request.kind in (CLEAR, PURGE) and (request.sent or request in _living_makers(run)):
            yield f"{request} left the session empty, and there is one"


def _living_makers(run: Run) -> list[Request | None]:
    return [run.makers.get(handle) for handle in run.alive]


def only_sign_ins_revive(run: Run) -> Complaints:
    """Whoever makes a new session signs in, or replaced the old one, or found that it had ended or was emptied."""
    for maker in _living_makers(run):
        if maker is None or maker.kind.signs_in or _was_emptied(run) or _met_an_end(run, maker):
            continue
        if run.ended_by(run.handle) is not maker:
            yield f"{maker} started a new session"


def _was_emptied(run: Run) -> bool:
    return run.grave is not None and run.grave.kind == "emptied"


def _met_an_end(run: Run, request: Request) -> bool:
    met = run.met(request)
    return isinstance(met, Tombstone) and met.kind == "ended"


def only_the_dead_lose_writes(run: Run) -> Complaints:
    """An acknowledged request that wrote sends a cookie, unless the session ended or was renewed meanwhile."""
    for request in run.acknowledged:
        if request.outcome.cookie is not Cookie.KEEP:
            continue
        if run.grave is None and (request.kind.writes or request.removed):
            yield f"{request} was dropped, but nothing had ended"
        if request.kind.writes and (_was_emptied(run) or _met_an_end(run, request)):
            yield f"{request} was dropped, but could start anew"


def no_acknowledged_write_is_lost(run: Run) -> Complaints:
    """What was written for a cookie is in the session that the cookie leads to, unless somebody removed it."""
    for request in run.acknowledged:
        key = request.kind.writes
        if key is None or request.sent is None:
            continue
        handle = run.last(request.sent)
        if handle not in run.alive:
            if not _explains(run, handle, key):
                yield f"what {request} wrote is gone"
        elif not _removed(run, handle, key, request):
            value = run.data(handle).get(key)
            if key != "hits" and value not in _writers(run, request.kind):
                yield f"instead of what {request} wrote, there is {value!r}"


def _explains(run: Run, handle: str, key: str) -> bool:
    """Whether the end of ``handle`` explains that ``key`` is gone."""
    request = run.ended_by(handle)
    if request is None:
        return False
    if request.kind.ends or key in request.removed:
        return True
    # A log-out ends what the session went on as, but of the session itself it removes no more than it saw. Who failed
    # has left the data under a key that nobody was told.
    return (request.ends and handle != run.handle) or request.error is not None


def _removed(run: Run, handle: str, key: str, written_by: Request) -> bool:
    """Whether somebody removed ``key`` from what goes on as ``handle``."""
    if any(key in request.removed for request in run.requests):
        return True
    maker = run.makers.get(handle)
    return maker is not None and maker.kind is CLEAR_AND_WRITE and maker is not written_by


def _writers(run: Run, kind: Kind) -> list[str]:
    return [request.name for request in run.requests if request.kind is kind]


def no_acknowledged_removal_is_undone(run: Run) -> Complaints:
    """What was removed is not in the session that the cookie leads to."""
    for request in run.acknowledged:
        handle = run.last(request.sent or run.handle)
        if request.outcome.cookie is not Cookie.KEEP and handle in run.alive:
            back = [key for key in request.removed if run.data(handle).get(key, run) == run.start.get(key)]
            if back:
                yield f"{request} removed {back}"


def the_cart_survives_a_sign_in(run: Run) -> Complaints:
    """Where nothing ended, whoever signs in or renews keeps what it found in an anonymous session."""
    if OWNER in run.start or any(request.ends or request.removed for request in run.requests):
        return
    for request in run.acknowledged:
        found = isinstance(run.met(request), Record)
        if found and request.kind.signs_in and "cart" not in run.data(str(request.sent)):
            yield f"{request} lost the cart"


def counters_are_exact(run: Run) -> Complaints:
    """Where nobody removed it, a counter is as many as were acknowledged; those that failed count, or do not."""
    counted = [request for request in run.acknowledged if request.kind is COUNTER and request.sent]
    failed = sum(request.kind is COUNTER for request in run.requests if request.error is not None)
    for handle in run.alive:
        number = sum(run.last(str(request.sent)) == handle for request in counted)
        hits = run.data(handle).get("hits", 0)
        if number and not number <= hits <= number + failed and not _removed(run, handle, "hits", counted[0]):
            yield f"{number} were counted, and {hits} is kept"


def no_sign_in_is_dropped(run: Run) -> Complaints:
    """Who signed in has a session of theirs, under the key that was sent, unless an end found it."""
    for request in run.acknowledged:
        if request.kind is not SIGN_IN:
            continue
        if request.sent is None:
            yield f"{request} got no cookie"
        elif request.sent in run.alive:
            if run.alive[request.sent].owner != request.name:
                yield f"{request} got the session of {run.alive[request.sent].owner}"
        elif (ended_by := run.ended_by(request.sent)) is None or not ended_by.ends:
            yield f"{request} got a session that is gone"


INVARIANTS = (
    dead_stays_dead,
    tombstones_tell_the_truth,
    no_old_key_for_new_rights,
    no_cookie_for_a_dead_key,
    no_cookie_deleted_in_vain,
    no_session_without_a_cookie,
    ended_stays_ended,
    no_data_outlives_its_session,
    no_owner_after_the_end,
    nothing_there_after_a_clear,
    only_sign_ins_revive,
    only_the_dead_lose_writes,
    no_acknowledged_write_is_lost,
    no_acknowledged_removal_is_undone,
    the_cart_survives_a_sign_in,
    counters_are_exact,
    no_sign_in_is_dropped,
)


def check(run: Run, *invariants: t.Callable[[Run], Complaints]) -> None:
    """Fail, and say what happened, if an invariant does not hold."""
    complaints = [f"{holds.__name__}: {complaint}" for holds in invariants for complaint in holds(run)]
    assert not complaints, "\n".join(["", *complaints, run.story()])


# -- the search ------------------------------------------------------------------------------------------------------

starts = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
kinds = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.fixture(autouse=True)
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of dropped writes are no news."""
    monkeypatch.setattr(logging.getLogger("flask_sessionstore"), "disabled", True)


@starts
@kinds
def test_two_requests(start: dict[str, str], kind: Kind) -> None:
    for group in groups(kind, 2):
        for run in every_run(start, group):
            check(run, nothing_failed, *INVARIANTS)


@pytest.mark.search3
@starts
@kinds
def test_three_requests(start: dict[str, str], kind: Kind) -> None:
    for group in groups(kind, 3):
        for run in every_run(start, group):
            check(run, nothing_failed, *INVARIANTS)


@starts
def test_what_is_left_out_would_come_to_the_same(start: dict[str, str]) -> None:
    for group in itertools.chain.from_iterable(groups(kind, 2) for kind in KINDS):
        ends = {run.end() for run in every_run(start, group)}
        assert ends == {run.end() for run in every_run(start, group, prune=False)}, group


@pytest.mark.search3
@starts
@kinds
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
def test_two_requests_and_one_fault(start: dict[str, str], kind: Kind, fault: Fault) -> None:
    """A fault at any one operation of either request. What the client sends again by itself, nobody notices."""
    invariants = (nothing_failed, *INVARIANTS) if fault is Fault.SENT_AGAIN else INVARIANTS
    for group in groups(kind, 2):
        for request in range(2):
            for operation in itertools.count(1):
                happened = False
                for run in every_run(start, group, {(request, operation): fault}):
                    happened |= run.requests[request].operations + 1 >= operation
                    check(run, *invariants)
                if not happened:
                    break


@pytest.mark.parametrize("seed", range(8))
def test_many_requests_and_many_faults(seed: int) -> None:
    """Three or four requests, in some order, on a bad wire."""
    chance = random.Random(seed)
    for _ in range(500):
        group = chance.choices(KINDS, k=chance.choice((3, 4)))
        places = itertools.product(range(len(group)), range(1, 13))
        faults = {place: chance.choice(list(Fault)) for place in places if chance.random() < 0.12}
        run = Run(chance.choice(list(STARTS.values())), group, faults)
        while run.waiting:
            run.step(chance.choice(list(run.waiting)))
        check(run, *INVARIANTS)


#: What holds even if a request takes longer than tombstones stand: it then cannot know where a session went on.
PATIENT = (
    dead_stays_dead,
    no_old_key_for_new_rights,
    no_cookie_for_a_dead_key,
    no_cookie_deleted_in_vain,
    no_session_without_a_cookie,
    nothing_there_after_a_clear,
    only_sign_ins_revive,
    no_acknowledged_write_is_lost,
    no_acknowledged_removal_is_undone,
    counters_are_exact,
    no_sign_in_is_dropped,
)


@starts
@kinds
def test_two_requests_longer_than_tombstones_stand(start: dict[str, str], kind: Kind) -> None:
    for group in groups(kind, 2):
        for run in every_run(start, (*group, PAUSE)):
            check(run, nothing_failed, *PATIENT)


#: What holds where a sign-out leaves the session under its key.
SIGNED_OUT_IN_PLACE = (
    dead_stays_dead,
    no_cookie_for_a_dead_key,
    no_cookie_deleted_in_vain,
    no_session_without_a_cookie,
    no_owner_after_the_end,
    nothing_there_after_a_clear,
    no_acknowledged_removal_is_undone,
    only_sign_ins_revive,
    counters_are_exact,
    no_sign_in_is_dropped,
)


@starts
@kinds
def test_an_event_that_signs_out_beside_a_request(start: dict[str, str], kind: Kind) -> None:
    for run in every_run(start, (kind, LOG_OUT_IN_EVENT)):
        check(run, nothing_failed, *SIGNED_OUT_IN_PLACE)


@starts
def test_two_events_that_sign_out(start: dict[str, str]) -> None:
    for run in every_run(start, (LOG_OUT_IN_EVENT, LOG_OUT_IN_EVENT)):
        check(run, nothing_failed, *SIGNED_OUT_IN_PLACE)
