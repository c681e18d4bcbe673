"""What holds whichever way the store operations of requests on one session are mixed."""

from __future__ import annotations

import itertools
import logging
import random
import typing as t

import pytest
from interleaving import WIRE_FAULTS, ClockedRun, Fault, Run, every_run, groups
from invariants import (
    ALWAYS,
    INVARIANTS,
    TWO_ALIVE,
    Complaints,
    Invariant,
    after_an_end_nobody_is_signed_in_as_before,
    an_ended_session_stays_ended,
    check,
    no_acknowledged_removal_is_undone,
    no_acknowledged_write_is_lost,
    no_data_outlives_its_session,
    nothing_failed,
    only_sign_ins_revive,
    only_the_dead_lose_writes,
    the_browser_never_loses_a_living_session,
    the_dead_stay_dead,
    two_renewals_at_once_are_two_sessions,
    what_is_written_goes_to_whom_it_was_written_for,
    what_renews_beside_a_renewal_does_not_outlive_an_end_before_it,
)
from kinds import (
    CLEAR,
    CLEAR_AND_WRITE,
    EDIT_PROFILE,
    KINDS,
    LOG_IN,
    LOG_IN_AS_ANN,
    LOG_IN_BY_KEY,
    LOG_OUT,
    LOG_OUT_BY_KEY,
    LOG_OUT_IN_EVENT,
    OTHER,
    PAUSE,
    POP,
    PURGE,
    READ,
    RENEW,
    REVOKE,
    SIGN_IN,
    STARTS,
    WRITE,
    Kind,
    later,
    with_two_cookies,
)

from flask_sessionstore import contests
from flask_sessionstore.errors import SessionConflict
from flask_sessionstore.layout import is_tombstone
from flask_sessionstore.stores import base

# -- the search ------------------------------------------------------------------------------------------------------


starts = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
BY_KEY = STARTS["signed in by key"]
OWNED = STARTS["signed in"]
#: Those that a browser sends.
REQUESTS = [kind for kind in KINDS if kind.act is None]


@pytest.fixture(autouse=True)
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of dropped writes are no news."""
    monkeypatch.setattr(logging.getLogger("flask_sessionstore"), "disabled", True)


def search(start: t.Mapping[str, t.Any], groups: t.Iterable[tuple[Kind, ...]], *invariants: Invariant) -> None:
    for group in groups:
        for run in every_run(start, group):
            check(run, *invariants)


@starts
@kinds
def test_two_requests(start: dict[str, t.Any], kind: Kind) -> None:
    search(start, groups(kind, 2), nothing_failed, *INVARIANTS)


@pytest.mark.long
@starts
@kinds
def test_three_requests(start: dict[str, t.Any], kind: Kind) -> None:
    search(start, groups(kind, 3), nothing_failed, *INVARIANTS)


#: What the default run takes beside what is less likely; the long one takes all.
SOME = (WRITE, CLEAR, RENEW, LOG_IN_AS_ANN, LOG_OUT, EDIT_PROFILE)


def default(*some: Kind, of: t.Iterable[Kind]) -> pytest.MarkDecorator:
    """A parameter: these kinds in the default run, the others when they are asked for."""
    long = [pytest.param(kind, marks=pytest.mark.long) for kind in of if kind not in some]
    return pytest.mark.parametrize("kind", [*some, *long], ids=str)


@starts
@default(RENEW, of=KINDS)
def test_a_request_that_comes_more_than_ten_seconds_later(start: dict[str, t.Any], kind: Kind) -> None:
    """It is overdue, and no straggler, where it comes upon what the other has left."""
    search(start, ((kind, later(other)) for other in REQUESTS), nothing_failed, *INVARIANTS)


@starts
@default(LOG_OUT, of=KINDS)
def test_two_requests_longer_than_tombstones_stand(start: dict[str, t.Any], kind: Kind) -> None:
    """They cannot know then where a session went on, or whether it ever was."""
    search(start, ((*group, PAUSE) for group in groups(kind, 2)), nothing_failed, *ALWAYS)


@starts
def test_an_event_that_signs_out_beside_a_request(start: dict[str, t.Any]) -> None:
    search(start, ((kind, LOG_OUT_IN_EVENT) for kind in (*KINDS, LOG_OUT_IN_EVENT)), nothing_failed, *INVARIANTS)


TWO_COOKIES = tuple(
    map(with_two_cookies, (WRITE, POP, CLEAR, CLEAR_AND_WRITE, PURGE, RENEW, SIGN_IN, LOG_IN, LOG_OUT, READ))
)
CLEAR_WITH_TWO = with_two_cookies(CLEAR)


@starts
@default(CLEAR_WITH_TWO, of=TWO_COOKIES)
def test_a_browser_with_the_cookies_of_two_living_sessions(start: dict[str, t.Any], kind: Kind) -> None:
    """Beside what the browser sends with one of them."""
    search(start, ((kind, other) for other in KINDS), nothing_failed, *TWO_ALIVE)


@starts
@default(of=TWO_COOKIES)
def test_two_parts_of_a_page_with_the_cookies_of_two_living_sessions(start: dict[str, t.Any], kind: Kind) -> None:
    search(start, ((kind, other) for other in TWO_COOKIES), nothing_failed, *TWO_ALIVE)


#: After a loss or two what waits for none is done as after ten, or a hundred.
LOSES_OFTEN = [(0, 1), (1, 1)]


@pytest.fixture
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """After how many losses what goes on under a new key is saved first, and an end takes any revision."""
    before_saving, before_any = request.param
    monkeypatch.setattr(contests, "_LOSSES_BEFORE_SAVING", before_saving)
    monkeypatch.setattr(contests, "_MAX_LOSSES", before_any)
    monkeypatch.setattr(base, "MAX_LOSSES", 2)


@pytest.mark.parametrize("patience", LOSES_OFTEN, indirect=True, ids=str)
@starts
@pytest.mark.usefixtures("patience")
def test_two_requests_that_have_lost_often(start: dict[str, t.Any]) -> None:
    search(start, itertools.combinations_with_replacement(SOME, 2), nothing_failed, *INVARIANTS)


def nothing_failed_but_renewals(run: Run) -> Complaints:
    """Who only renews gives up in the end, for it must not take a revision that it has not read."""
    for request in run.requests:
        gave_up = isinstance(request.error, SessionConflict) and request.renews
        if request.error is not None and not gave_up:
            yield f"{request} failed: {request.error!r}"


#: What is done at any rate, beside one that writes.
AT_ANY_RATE = (
    *(CLEAR, CLEAR_AND_WRITE, PURGE, REVOKE),
    *(RENEW, LOG_IN, LOG_IN_BY_KEY),
    *(LOG_OUT, LOG_OUT_BY_KEY, EDIT_PROFILE),
)


@pytest.mark.parametrize("patience", LOSES_OFTEN, indirect=True, ids=str)
@starts
@default(of=(WRITE, *AT_ANY_RATE))
@pytest.mark.usefixtures("patience")
def test_what_has_lost_often_beside_a_writer(start: dict[str, t.Any], kind: Kind) -> None:
    others = ((WRITE, kind, other) for other in AT_ANY_RATE)
    search(start, others, nothing_failed_but_renewals, *INVARIANTS)


@starts
@default(LOG_OUT, of=KINDS)
def test_what_is_left_out_would_come_to_the_same(start: dict[str, t.Any], kind: Kind) -> None:
    for group in groups(kind, 2):
        ends = {run.end() for run in every_run(start, group)}
        assert ends == {run.end() for run in every_run(start, group, prune=False)}, group


#: What does not hold on a full store, where an end removes what it cannot leave a tombstone for: nobody can tell then
#: what has ended from what never was.
WITH_ROOM = {
    after_an_end_nobody_is_signed_in_as_before,
    no_acknowledged_removal_is_undone,
    no_data_outlives_its_session,
    only_the_dead_lose_writes,
    only_sign_ins_revive,
    two_renewals_at_once_are_two_sessions,
}


@pytest.mark.long
@starts
@kinds
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
def test_two_requests_and_one_fault(start: dict[str, t.Any], kind: Kind, fault: Fault) -> None:
    """A fault at any one operation of either request. What the client sends again by itself, nobody notices."""
    invariants = [holds for holds in INVARIANTS if fault is not Fault.FULL or holds not in WITH_ROOM]
    if fault is Fault.SENT_AGAIN:
        invariants.append(nothing_failed)
    for group in groups(kind, 2):
        for request in range(2):
            for operation in itertools.count(1):
                happened = False
                for run in every_run(start, group, {(request, operation): fault}):
                    happened |= run.requests[request].operations + 1 >= operation
                    check(run, *invariants)
                if not happened:
                    break


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 9))])
def test_many_requests_and_many_faults(seed: int) -> None:
    """Three or four requests, in some order, on a bad wire."""
    chance = random.Random(seed)
    for _ in range(300):
        group = chance.choices(KINDS, k=chance.choice((3, 4)))
        places = itertools.product(range(len(group)), range(1, 13))
        faults = {place: chance.choice(WIRE_FAULTS) for place in places if chance.random() < 0.12}
        run = Run(chance.choice(list(STARTS.values())), group, faults)
        while run.waiting:
            run.step(chance.choice(list(run.waiting)))
        check(run, *INVARIANTS)


@default(LOG_OUT, of=(CLEAR, PURGE, REVOKE))
def test_what_renews_beside_a_renewal_does_not_outlive_an_end_before_it_by_the_clock(kind: Kind) -> None:
    for run in every_run(OWNED, (RENEW, RENEW, kind), make=ClockedRun):
        check(run, what_renews_beside_a_renewal_does_not_outlive_an_end_before_it)


# -- what the search has found ---------------------------------------------------------------------------------------


def test_a_log_out_by_a_login_key_ends_what_the_session_was_renewed_to_meanwhile() -> None:
    for run in every_run(BY_KEY, (RENEW, LOG_OUT_BY_KEY)):
        check(run, after_an_end_nobody_is_signed_in_as_before)


def test_what_was_loaded_of_somebody_does_not_come_back_when_the_session_was_emptied_after_the_log_out() -> None:
    for other in (RENEW, EDIT_PROFILE):
        for run in every_run(BY_KEY, (LOG_OUT_BY_KEY, POP, other)):
            check(run, what_is_written_goes_to_whom_it_was_written_for, after_an_end_nobody_is_signed_in_as_before)


@pytest.mark.parametrize("patience", [(1, 1)], indirect=True, ids=str)
@pytest.mark.usefixtures("patience")
def test_a_log_out_that_has_lost_often_keeps_nothing_of_what_another_has_ended() -> None:
    for end in (CLEAR, PURGE, REVOKE, LOG_OUT, RENEW, LOG_IN):
        for run in every_run(OWNED, (WRITE, LOG_OUT, end)):
            check(run, no_data_outlives_its_session, no_acknowledged_write_is_lost)


@pytest.mark.parametrize("patience", [(1, 1)], indirect=True, ids=str)
@pytest.mark.usefixtures("patience")
def test_an_end_that_has_lost_often_leaves_alone_the_cookie_of_what_another_has_ended() -> None:
    for end in (CLEAR, PURGE, REVOKE, LOG_IN):
        for run in every_run(OWNED, (WRITE, CLEAR, end)):
            check(run, the_browser_never_loses_a_living_session)


@pytest.mark.parametrize("patience", [(0, 1)], indirect=True, ids=str)
@pytest.mark.usefixtures("patience")
def test_a_renewal_that_has_lost_often_does_not_take_along_who_was_signed_out_meanwhile() -> None:
    for run in every_run(BY_KEY, (WRITE, RENEW, LOG_OUT_BY_KEY)):
        check(run, after_an_end_nobody_is_signed_in_as_before, no_acknowledged_removal_is_undone)


@pytest.mark.parametrize("patience", [(0, 1)], indirect=True, ids=str)
@pytest.mark.usefixtures("patience")
def test_a_renewal_that_gives_up_leaves_nothing_alive() -> None:
    for run in every_run(OWNED, (WRITE, OTHER, RENEW)):
        if run.requests[2].error is not None:
            assert [entry.handle for entry in run.store.scan() if not is_tombstone(entry.data or b"")] == [run.handle]


@pytest.mark.parametrize("patience", [(0, 1)], indirect=True, ids=str)
@pytest.mark.usefixtures("patience")
def test_what_takes_any_revision_never_takes_a_tombstone() -> None:
    for run in every_run(OWNED, (WRITE, CLEAR, LOG_IN)):
        check(run, the_dead_stay_dead, an_ended_session_stays_ended)
