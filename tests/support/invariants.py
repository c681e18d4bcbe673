"""What holds in every order of requests on one session: each invariant names what breaks it."""

from __future__ import annotations

import typing as t

from interleaving import Run, data_of
from kinds import CLEAR, CLEAR_AND_WRITE, NOBODY, OWNER, POP, PURGE, REVOKE, USER, Request, Who

from flask_sessionstore.record import Record, Tombstone
from flask_sessionstore.visitor import Delete, Keep

Complaints = t.Iterator[str]
Invariant = t.Callable[[Run], Complaints]


#
# "The session" is the one that all requests came with. A request is acknowledged if it did not fail; what failed may
# have happened or not. Who is signed in is an owner, or somebody by a login key.
def nothing_failed(run: Run) -> Complaints:
    """Where the store does not fail, no request does."""
    for request in run.requests:
        if request.error is not None:
            yield f"{request} failed: {request.error!r}"


# What ended.
def the_dead_stay_dead(run: Run) -> Complaints:
    """Nothing is done any more under a name with a tombstone; only names that nobody was told are dropped."""
    dead = set()
    for step in run.store.log:
        verb, handle, _ = step.operation
        if verb != "read" and handle in dead and step.bytes is not None:
            yield f"{step.request} made a {verb} on what was dead"
        known = (*run.begun, *(request.sent for request in run.requests))
        if verb == "drop" and handle in known and not run.store.is_full:
            yield f"{step.request} dropped what others know"
        if verb == "add" and handle in run.begun:
            yield f"{step.request} made a new session under the old name"
        if verb == "swap" and isinstance(step.what, Tombstone):
            dead.add(handle)


def tombstones_tell_the_truth(run: Run) -> Complaints:
    """A tombstone says how it went, and where the session goes on."""
    for place, step in run.graves:
        request, tombstone = step.request, t.cast("Tombstone", step.what)
        before = Who.of(run.data_before(step.operation.handle, place))
        if tombstone.kind == "emptied" and (before != NOBODY or request.kind.view is not POP.view):
            yield f"{request} emptied nothing, and says so"
        if tombstone.kind == "ended" and not _may_end(run, request):
            yield f"{request} ended nothing, and says so"
        if tombstone.kind == "renewed" and request.who.owner != before.owner:
            yield f"{request} calls a renewal what changed the owner"
        if tombstone.kind == "signed in" and not (before.owner is None and request.signs_in):
            yield f"{request} calls a sign-in what is none"
        if tombstone.kind == "replaced" and (before.owner is None or not request.signs_in):
            yield f"{request} replaced no owner, and says so"
        goes_on = tombstone.kind in ("renewed", "signed in")
        if goes_on != (tombstone.successor is not None and tombstone.successor in run.added):
            yield f"{request} left a wrong successor"


def _may_end(run: Run, request: Request) -> bool:
    return request.signs_out or run.met_two(request) or _ended_its_own(run, request)


def _ended_its_own(run: Run, request: Request) -> bool:
    """Whether all that it ended it had made: a renewal that came too late, or a sign-in."""
    return all(run.makers.get(step.operation.handle) is request for _, step in run.graves if step.request is request)


def an_ended_session_stays_ended(run: Run) -> Complaints:
    """After an end the session is not alive, nor what it went on as by renewals; only what this very end has made is.

    Who knows its handle ends also what somebody has signed in to.
    """
    for request in run.acknowledged:
        if not request.ends or request.kind.event:
            continue
        handle = _renewed_to(run, ("renewed", "signed in") if request.kind is REVOKE else ("renewed",))
        maker = run.makers.get(handle)
        if handle in run.alive and maker is not request:
            yield f"{request} ended the session, and it goes on as {maker or 'before'}'s"


def _renewed_to(run: Run, kinds: t.Collection[str]) -> str:
    """Under which handle the session goes on, by tombstones of these kinds."""
    handle = run.handle
    while handle in run.buried and run.buried[handle][1].kind in kinds:
        handle = run.buried[handle][1].successor or ""
    return handle


def what_renews_beside_a_renewal_does_not_outlive_an_end_before_it(run: Run) -> Complaints:
    """An end that was done before the last look of who renews beside another ends that one's session, too."""
    for maker in _living_makers(run):
        if maker is None or not _renewed_beside(run, maker):
            continue
        for request in run.acknowledged:
            if request.kind.view is CLEAR_AND_WRITE.view and request.found == NOBODY:
                continue  # what it cleared was this browser's own, and nobody's: that counts as a renewal
            if _ends_for(run, request, maker) and _place_of_end(run, request) < run.place_of_last(maker):
                yield f"{maker} renewed what {request} had ended"


def _ends_for(run: Run, request: Request, maker: Request) -> bool:
    """Whether it ended the session, or signed somebody out who is signed in in what ``maker`` made."""
    return request.ends or any(
        by is maker and _shares(_gone_by(run, request), Who.of(run.data(handle))) for handle, by in run.living.items()
    )


def _place_of_end(run: Run, request: Request) -> int:
    """The place in the log where it was done, by a tombstone or under the same key."""
    written = [place for place, step in run.records() if step.request is request]
    return run.burials.get(request, max(written, default=len(run.store.log)))


def _renewed_beside(run: Run, maker: Request) -> bool:
    return maker.renews and _loaded(run, maker) and run.ended_by(run.handle) is not maker


def after_an_end_nobody_is_signed_in_as_before(run: Run) -> Complaints:
    """After a log-out nothing alive is of who was signed in, but what is signed in by a log-in of its own."""
    for handle, maker in run.living.items():
        for request in run.acknowledged:
            if request is maker or not request.signs_out or (maker is not None and maker.signs_in):
                continue
            if maker is not None and _renewed_beside(run, maker):
                continue  # see the invariant above
            if _shares(_gone_by(run, request), Who.of(run.data(handle))):
                yield f"{request} was a log-out, and the session of {maker or 'before'} is signed in"


def _gone_by(run: Run, request: Request) -> Who:
    """Whom this log-out was for."""
    was = run.began
    if request.kind.ends or request.kind.event:
        return was
    return Who(
        was.owner if OWNER in request.removed else None, was.user if {OWNER, USER} & set(request.removed) else None
    )


def _shares(one: Who, other: Who) -> bool:
    return any(name is not None and name == other[number] for number, name in enumerate(one))


def what_is_left_empty_has_no_session_and_no_cookie(run: Run) -> Complaints:
    for request in run.acknowledged:
        if request.kind.view in (CLEAR.view, PURGE.view) and (request.sent or request in _living_makers(run)):
            yield f"{request} left the session empty, and there is one"


def of_two_living_sessions_neither_lives_on(run: Run) -> Complaints:
    """Who sends the cookies of two living sessions ends both, and whatever they were renewed to."""
    for request in run.acknowledged:
        for handle in run.begun if run.met_two(request) else ():
            if handle in run.alive:
                yield f"{request} sent two cookies, and one of the sessions is alive"
            if handle in run.buried and run.buried[handle][1].kind == "renewed" and run.last(handle) in run.alive:
                yield f"{request} sent two cookies, and one of the sessions goes on"


def _living_makers(run: Run) -> list[Request | None]:
    return list(run.living.values())


# Whose it is.
def what_is_written_goes_to_whom_it_was_written_for(run: Run) -> Complaints:
    """A record belongs to whom its writer had in mind; a sign-in that starts anew takes along only what it wrote."""
    for _, step in run.records():
        request, data = step.request, step.data
        if Who.of(data) != request.who and not (request.signs_in and _own(data, request) == data):
            yield f"{request} wrote as {request.who} into the session of {Who.of(data)}"


def what_others_wrote_comes_along_only_from_the_session_of_the_same(run: Run) -> Complaints:
    """What others wrote is in a record only if it stood in one of whom the writer had found signed in."""
    for place, step in run.records():
        request, data = step.request, step.data
        others = {key: value for key, value in data.items() if key not in (*_own(data, request), OWNER, USER, "hits")}
        sources = [*run.begun.values(), *(earlier.what for _, earlier in run.records(until=place))]
        for key, value in others.items():
            came = (Who.of(source) for source in map(data_of, sources) if source.get(key) == value)
            if not _loaded(run, request) or not any(who in (request.found, Who.of(data)) for who in came):
                yield f"{request} took {key!r} along, which was not of the same"


def _own(data: t.Mapping[str, t.Any], request: Request) -> dict[str, t.Any]:
    """What of this data the request wrote by itself."""
    return {
        key: value
        for key, value in data.items()
        if key == request.writes and (key == "hits" or value == request.data.get(key))
    }


def _loaded(run: Run, request: Request) -> bool:
    return isinstance(run.met(request), Record)


def no_data_outlives_its_session(run: Run) -> Complaints:
    """A session holds nothing but what its maker wrote and may carry; after an end the old one holds nothing."""
    for handle, maker in run.living.items():
        data = run.data(handle)
        own = {} if maker is None else _own(data, maker)
        carried = {key: value for key, value in data.items() if key not in own}
        if carried and not (_may_carry(run, maker) if maker is not None else not _is_over(run)):
            yield f"{carried} lives on in the session of {maker or 'before'}"


def _is_over(run: Run) -> bool:
    """Whether somebody ended or emptied the session, and knows."""
    return run.was_emptied or any(request.ends and not request.kind.event for request in run.acknowledged)


def _may_carry(run: Run, maker: Request) -> bool:
    if run.began.owner is None and maker.signs_in and run.grave is not None:
        # It signed in where another had renewed or signed in: what was in the session of nobody is this browser's own.
        return run.grave.kind in ("renewed", "signed in")
    if _renewed_beside(run, maker):
        return run.grave is not None and run.grave.kind == "renewed"
    if run.ended_by(run.handle) is not maker or maker.kind.ends:
        return False
    # It took the place of the living session. If that was not by another owner or none, no end may have followed.
    return not maker.renews or not _is_over(run)


def only_sign_ins_revive(run: Run) -> Complaints:
    """Whoever makes a new session signs in, or replaced the old one, or found that it had ended or was emptied."""
    for maker in _living_makers(run):
        if maker is None or maker.signs_in or maker.kind.elsewhere or run.was_emptied or _starts_anew(run, maker):
            continue
        if run.met_two(maker):
            continue
        if maker not in (by for by, _ in run.buried.values()) and not _renewed_beside(run, maker):
            yield f"{maker} started a new session"


def _starts_anew(run: Run, request: Request) -> bool:
    """Whether it came upon an end; or, long after it, upon a renewal, whose reply was lost."""
    met = run.met(request)
    if not isinstance(met, Tombstone):
        return False
    is_overdue = not request.kind.body and request.born >= met.left_ms / 1000 + 10
    return met.kind in ("ended", "emptied", "revoked") or is_overdue


# What is sent.
def new_rights_come_with_a_new_key(run: Run) -> Complaints:
    """Who renewed or signed in got a key that was never sent before, and the old one is dead, or nobody's."""
    for request in run.acknowledged:
        if request.moves and request.sent is not None:
            if request.sent in run.begun:
                yield f"{request} got the old key"
            if run.handle in run.alive and not _signed_out_in_place(run):
                yield f"{request} left the old key alive"


def _signed_out_in_place(run: Run) -> bool:
    """Whether who was signed in was signed out under the same key: to others, that is as if it had ended."""
    return any(step.operation.handle == run.handle and Who.of(step.data) != run.began for _, step in run.records())


def a_cookie_is_sent_only_on_proof(run: Run) -> Complaints:
    """A key was alive at the last operation on it of the request that sent it."""
    for request in run.requests:
        if request.sent is not None:
            steps = [step for step in run.steps(request) if step.operation.handle == request.sent]
            if not steps or not isinstance(steps[-1].what, Record):
                yield f"{request} sent a key that it had not found alive"


def the_browser_never_loses_a_living_session(run: Run) -> Complaints:
    """Only who ended the session deletes its cookie: another may have been set since for what came after it."""
    for request in run.acknowledged:
        deleted = isinstance(request.outcome, Delete)
        if deleted and run.handle in run.alive and not request.kind.two_cookies:
            yield f"{request} deleted the cookie of a session that is alive"
        ended = request in (by for by, _ in run.buried.values()) or request.kind.view is PURGE.view or run.store.is_full
        ended = ended or run.met_two(request)
        if deleted and not ended:
            yield f"{request} deleted the cookie of a session that another had ended"
        if request.kind is PURGE and not deleted:
            yield f"{request} left the cookie"


def nothing_unreachable_is_left_alive(run: Run) -> Complaints:
    """Who made a session that is alive told the browser."""
    for handle, maker in run.living.items():
        if maker is not None and maker.sent != handle:
            yield f"{maker} made a session that nobody knows"


# What is lost.
def only_the_dead_lose_writes(run: Run) -> Complaints:
    """An acknowledged request that wrote sends a cookie, unless the session ended or was renewed meanwhile."""
    for request in run.acknowledged:
        if not isinstance(request.outcome, Keep):
            continue
        wrote = request.writes or request.removed
        if wrote and run.grave is None and not _signed_out_in_place(run):
            yield f"{request} was dropped, but nothing had ended"
        can_start_anew = _starts_anew(run, request) or (run.was_emptied and request.found == NOBODY)
        if request.writes and can_start_anew and not _is_dropped(run, request):
            yield f"{request} was dropped, but could start anew"


def _is_dropped(run: Run, request: Request) -> bool:
    """Whether it is a sign-in that is no other than one sent before an end."""
    return request.signs_in and run.straggles(request)


def a_sign_in_is_never_dropped_but_a_stragglers(run: Run) -> Complaints:
    """Who signed in has a session of theirs, under the key that was sent, unless an end found it."""
    for request in run.acknowledged:
        if not request.signs_in or request.kind.ends:
            continue
        if _is_dropped(run, request):
            if request.sent is not None or request in _living_makers(run):
                yield f"{request} straggles, and signed in"
        elif request.sent is None:
            yield f"{request} got no cookie"
        elif request.sent in run.alive:
            if not _shares(request.who, Who.of(run.data(request.sent))):
                yield f"{request} got the session of {Who.of(run.data(request.sent))}"
        elif (by := run.ended_by(request.sent)) is None or not (by.ends or run.met_two(by)):
            yield f"{request} got a session that is gone"


def _took_any(run: Run) -> bool:
    """Whether somebody who had lost too often signed in over a revision that was not read."""
    return any(step.request.signs_in and step.operation.replaces is None for _, step in run.graves)


def no_acknowledged_write_is_lost(run: Run) -> Complaints:
    """What was written for a cookie is in the session that the cookie leads to, unless somebody removed it."""
    for request in () if _took_any(run) else run.acknowledged:
        key = request.writes
        if key is None or request.sent is None:
            continue
        handle = run.last(request.sent)
        if handle not in run.alive:
            if not _explains(run, handle, key):
                yield f"what {request} wrote is gone"
        elif not _removed(run, handle, key, request):
            value = run.data(handle).get(key)
            if key != "hits" and value not in _written(run, key):
                yield f"instead of what {request} wrote, there is {value!r}"


def _explains(run: Run, handle: str, key: str) -> bool:
    """Whether the end of ``handle`` explains that ``key`` is gone."""
    request = run.ended_by(handle)
    if request is None:
        return run.store.is_full  # then it may have been removed
    if request.kind.ends or run.met_two(request) or any(key in other.removed for other in run.requests):
        return True
    # A log-out ends what the session went on as, but of the session itself it removes no more than it saw. Who failed
    # has left the data under a key that nobody was told.
    return (request.signs_out and handle != run.handle) or request.error is not None


def _removed(run: Run, handle: str, key: str, written_by: Request) -> bool:
    """Whether somebody removed ``key`` from what goes on as ``handle``."""
    if any(key in request.removed for request in run.requests):
        return True
    maker = run.makers.get(handle)
    return maker is not None and maker.kind.view is CLEAR_AND_WRITE.view and maker is not written_by


def _written(run: Run, key: str) -> list[object]:
    """What was written under a key."""
    return [request.data[key] for request in run.requests if request.writes == key and key in request.data]


def no_acknowledged_removal_is_undone(run: Run) -> Complaints:
    """What was removed is not in the session that the cookie leads to."""
    for request in () if _took_any(run) else run.acknowledged:
        handle = run.last(request.sent or run.handle)
        if request.kind.two_cookies and request.sent is None:
            continue  # it may have ended the other session
        if not isinstance(request.outcome, Keep) and handle in run.alive:
            back = {key for key in request.removed if run.data(handle).get(key, run) == run.start.get(key)}
            if back - {other.writes for other in run.requests if other.signs_in}:
                yield f"{request} removed {back}"


def the_cart_survives_a_sign_in(run: Run) -> Complaints:
    """Where nothing ended, whoever signs in or renews keeps what it found in an anonymous session."""
    if run.began != NOBODY or any(request.signs_out or request.removed for request in run.requests):
        return
    for request in run.acknowledged:
        moved = (request.signs_in or request.renews) and _loaded(run, request)
        if moved and request.sent is not None and "cart" not in run.data(request.sent):
            yield f"{request} lost the cart"


def two_renewals_at_once_are_two_sessions(run: Run) -> Complaints:
    """Where nothing but renewals happened, and writes, each who renewed a session that was alive has one."""
    if any(request.signs_in or request.removed or request.kind.ends for request in run.requests):
        return
    for request in run.acknowledged:
        if request.renews and _loaded(run, request) and request.sent not in run.alive:
            yield f"{request} was dropped"


def counters_are_exact(run: Run) -> Complaints:
    """Where nobody removed it, a counter is as many as were acknowledged; those that failed count, or do not."""
    counted = [request for request in run.acknowledged if request.writes == "hits" and request.sent]
    failed = sum(request.writes == "hits" for request in run.requests if request.error is not None)
    for handle in run.alive:
        number = sum(run.last(str(request.sent)) == handle for request in counted)
        hits = run.data(handle).get("hits", 0)
        if number and not number <= hits <= number + failed and not _removed(run, handle, "hits", counted[0]):
            yield f"{number} were counted, and {hits} is kept"


#: What holds in any case.
ALWAYS = (
    the_dead_stay_dead,
    tombstones_tell_the_truth,
    what_is_left_empty_has_no_session_and_no_cookie,
    what_is_written_goes_to_whom_it_was_written_for,
    what_others_wrote_comes_along_only_from_the_session_of_the_same,
    new_rights_come_with_a_new_key,
    a_cookie_is_sent_only_on_proof,
    the_browser_never_loses_a_living_session,
    nothing_unreachable_is_left_alive,
    only_sign_ins_revive,
    a_sign_in_is_never_dropped_but_a_stragglers,
    no_acknowledged_write_is_lost,
    no_acknowledged_removal_is_undone,
    counters_are_exact,
)


#: What holds where there are two sessions.
TWO_ALIVE = (*ALWAYS, of_two_living_sessions_neither_lives_on)


INVARIANTS = (
    *ALWAYS,
    an_ended_session_stays_ended,
    what_renews_beside_a_renewal_does_not_outlive_an_end_before_it,
    after_an_end_nobody_is_signed_in_as_before,
    no_data_outlives_its_session,
    only_the_dead_lose_writes,
    the_cart_survives_a_sign_in,
    two_renewals_at_once_are_two_sessions,
)


def check(run: Run, *invariants: Invariant) -> None:
    """Fail, and say what happened, if an invariant does not hold."""
    complaints = [f"{holds.__name__}: {complaint}" for holds in invariants for complaint in holds(run)]
    assert not complaints, "\n".join(["", *complaints, run.story()])
