"""Invariants: what must hold after requests on one session, in every order. Each yields a complaint per violation."""

from __future__ import annotations

import typing as t

from interleaving import Run, data_of
from kinds import CLEAR, CLEAR_AND_WRITE, NOBODY, OWNER, POP, PURGE, REVOKE, USER, Request, Who

from flask_sessionstore.record import Record, Tombstone
from flask_sessionstore.visitor import Delete, Keep

Complaints = t.Iterator[str]
Invariant = t.Callable[[Run], Complaints]


# "The session" is the session with which all requests came. A request is acknowledged if it did not fail; a failed
# request may have had its effect or not. Somebody may be signed in as an owner, or by a login key.


def nothing_failed(run: Run) -> Complaints:
    """If the store does not fail, the requests do not fail."""
    for request in run.requests:
        if request.error is not None:
            yield f"{request} failed: {request.error!r}"


# -- ends ------------------------------------------------------------------------------------------------------------


def the_dead_stay_dead(run: Run) -> Complaints:
    """Nothing is written under a name with a tombstone. A name is only dropped if nobody was told it."""
    dead = set()
    for step in run.store.log:
        verb, handle, _ = step.operation
        if verb != "read" and handle in dead and step.bytes is not None:
            yield f"{step.request} made a {verb} on a dead name"
        known = (*run.begun, *(request.sent for request in run.requests))
        if verb == "drop" and handle in known and not run.store.is_full:
            yield f"{step.request} dropped a name that others know"
        if verb == "add" and handle in run.begun:
            yield f"{step.request} made a new session under the old name"
        if verb == "swap" and isinstance(step.what, Tombstone):
            dead.add(handle)


def tombstones_tell_the_truth(run: Run) -> Complaints:
    """A tombstone says how the session went, and where it goes on."""
    for place, step in run.graves:
        request, tombstone = step.request, t.cast("Tombstone", step.what)
        before = Who.of(run.data_before(step.operation.handle, place))
        if tombstone.kind == "emptied" and (before != NOBODY or request.kind.view is not POP.view):
            yield f"{request} left 'emptied', but did not empty the session"
        if tombstone.kind == "ended" and not _may_end(run, request):
            yield f"{request} left 'ended', but did not end the session"
        if tombstone.kind == "renewed" and request.who.owner != before.owner:
            yield f"{request} left 'renewed', but changed the owner"
        if tombstone.kind == "signed in" and not (before.owner is None and request.signs_in):
            yield f"{request} left 'signed in', but did not sign in to a session without owner"
        if tombstone.kind == "replaced" and (before.owner is None or not request.signs_in):
            yield f"{request} left 'replaced', but did not replace an owner"
        goes_on = tombstone.kind in ("renewed", "signed in")
        if goes_on != (tombstone.successor is not None and tombstone.successor in run.added):
            yield f"{request} left a wrong successor"


def _may_end(run: Run, request: Request) -> bool:
    return request.signs_out or run.met_two(request) or _ended_its_own(run, request)


def _ended_its_own(run: Run, request: Request) -> bool:
    """Whether the request ended only sessions that it had made itself: a renewal that came too late, or a sign-in."""
    return all(run.makers.get(step.operation.handle) is request for _, step in run.graves if step.request is request)


def an_ended_session_stays_ended(run: Run) -> Complaints:
    """After an end neither the session is alive nor its successors by renewals, except a session that the end has made.

    An end by the handle also ends successors by sign-ins.
    """
    for request in run.acknowledged:
        if not request.ends or request.kind.event:
            continue
        handle = _renewed_to(run, ("renewed", "signed in") if request.kind is REVOKE else ("renewed",))
        maker = run.makers.get(handle)
        if handle in run.alive and maker is not request:
            yield f"{request} ended the session, and it goes on as {maker or 'before'}'s"


def _renewed_to(run: Run, kinds: t.Collection[str]) -> str:
    """The handle under which the session goes on, if tombstones of these kinds are followed."""
    handle = run.handle
    while handle in run.buried and run.buried[handle][1].kind in kinds:
        handle = run.buried[handle][1].successor or ""
    return handle


def what_renews_beside_a_renewal_does_not_outlive_an_end_before_it(run: Run) -> Complaints:
    """A session made by a renewal beside another also ends, if an end came before that renewal's last look."""
    for maker in _living_makers(run):
        if maker is None or not _renewed_beside(run, maker):
            continue
        for request in run.acknowledged:
            if request.kind.view is CLEAR_AND_WRITE.view and request.found == NOBODY:
                continue  # it cleared this browser's own session, without owner: that counts as a renewal
            if _ends_for(run, request, maker) and _place_of_end(run, request) < run.place_of_last(maker):
                yield f"{maker} renewed a session that {request} had ended"


def _ends_for(run: Run, request: Request, maker: Request) -> bool:
    """Whether ``request`` ended the session, or signed out a user who is signed in in a session of ``maker``."""
    return request.ends or any(
        by is maker and _shares(_gone_by(run, request), Who.of(run.data(handle))) for handle, by in run.living.items()
    )


def _place_of_end(run: Run, request: Request) -> int:
    """The place in the log where ``request`` ended the session, by a tombstone or under the same key."""
    written = [place for place, step in run.records() if step.request is request]
    return run.burials.get(request, max(written, default=len(run.store.log)))


def _renewed_beside(run: Run, maker: Request) -> bool:
    return maker.renews and _loaded(run, maker) and run.ended_by(run.handle) is not maker


def after_an_end_nobody_is_signed_in_as_before(run: Run) -> Complaints:
    """After a log-out no living session is signed in as that user, unless another log-in has signed in to it."""
    for handle, maker in run.living.items():
        for request in run.acknowledged:
            if request is maker or not request.signs_out or (maker is not None and maker.signs_in):
                continue
            if maker is not None and _renewed_beside(run, maker):
                continue  # see the invariant above
            if _shares(_gone_by(run, request), Who.of(run.data(handle))):
                yield f"{request} was a log-out, and the session of {maker or 'before'} is signed in"


def _gone_by(run: Run, request: Request) -> Who:
    """The user whom this log-out signed out."""
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
            yield f"{request} left the session empty, but it lives on"


def of_two_living_sessions_neither_lives_on(run: Run) -> Complaints:
    """If a browser sends the cookies of two living sessions, both end, and so do the sessions they were renewed to."""
    for request in run.acknowledged:
        for handle in run.begun if run.met_two(request) else ():
            if handle in run.alive:
                yield f"{request} sent two cookies, and one of the sessions is alive"
            if handle in run.buried and run.buried[handle][1].kind == "renewed" and run.last(handle) in run.alive:
                yield f"{request} sent two cookies, and one of the sessions goes on"


def _living_makers(run: Run) -> list[Request | None]:
    return list(run.living.values())


# -- whose data it is ------------------------------------------------------------------------------------------------


def what_is_written_goes_to_whom_it_was_written_for(run: Run) -> Complaints:
    """A record belongs to the user for whom it was written. A sign-in that starts anew keeps only its own writes."""
    for _, step in run.records():
        request, data = step.request, step.data
        if Who.of(data) != request.who and not (request.signs_in and _own(data, request) == data):
            yield f"{request} wrote as {request.who} into the session of {Who.of(data)}"


def what_others_wrote_comes_along_only_from_the_session_of_the_same(run: Run) -> Complaints:
    """Data of others is only in a record if it was in a session of the user whom the writer had found signed in."""
    for place, step in run.records():
        request, data = step.request, step.data
        others = {key: value for key, value in data.items() if key not in (*_own(data, request), OWNER, USER, "hits")}
        sources = [*run.begun.values(), *(earlier.what for _, earlier in run.records(until=place))]
        for key, value in others.items():
            came = (Who.of(source) for source in map(data_of, sources) if source.get(key) == value)
            if not _loaded(run, request) or not any(who in (request.found, Who.of(data)) for who in came):
                yield f"{request} took {key!r} along, which another user wrote"


def _own(data: t.Mapping[str, t.Any], request: Request) -> dict[str, t.Any]:
    """The part of this data that the request wrote itself."""
    return {
        key: value
        for key, value in data.items()
        if key == request.writes and (key == "hits" or value == request.data.get(key))
    }


def _loaded(run: Run, request: Request) -> bool:
    return isinstance(run.met(request), Record)


def no_data_outlives_its_session(run: Run) -> Complaints:
    """A session holds only what its maker wrote or may carry along. After an end, the old session holds nothing."""
    for handle, maker in run.living.items():
        data = run.data(handle)
        own = {} if maker is None else _own(data, maker)
        carried = {key: value for key, value in data.items() if key not in own}
        if carried and not (_may_carry(run, maker) if maker is not None else not _is_over(run)):
            yield f"{carried} lives on in the session of {maker or 'before'}"


def _is_over(run: Run) -> bool:
    """Whether the session was emptied, or a request ended it and was acknowledged."""
    return run.was_emptied or any(request.ends and not request.kind.event for request in run.acknowledged)


def _may_carry(run: Run, maker: Request) -> bool:
    if run.began.owner is None and maker.signs_in and run.grave is not None:
        # It signed in after another request had renewed the session or signed in. The data of the session without owner
        # is this browser's own.
        return run.grave.kind in ("renewed", "signed in")
    if _renewed_beside(run, maker):
        return run.grave is not None and run.grave.kind == "renewed"
    if run.ended_by(run.handle) is not maker or maker.kind.ends:
        return False
    # It replaced the living session. If it was a mere renewal, the session must not have ended.
    return not maker.renews or not _is_over(run)


def only_sign_ins_revive(run: Run) -> Complaints:
    """A request makes a new session only if it signs in, replaced the old session, or found it ended or emptied."""
    for maker in _living_makers(run):
        if maker is None or maker.signs_in or maker.kind.elsewhere or run.was_emptied or _starts_anew(run, maker):
            continue
        if run.met_two(maker):
            continue
        if maker not in (by for by, _ in run.buried.values()) and not _renewed_beside(run, maker):
            yield f"{maker} started a new session"


def _starts_anew(run: Run, request: Request) -> bool:
    """Whether the request found that the session had ended; or, long afterwards, that it was renewed (a lost reply)."""
    met = run.met(request)
    if not isinstance(met, Tombstone):
        return False
    is_overdue = not request.kind.body and request.born >= met.left_ms / 1000 + 10
    return met.kind in ("ended", "emptied", "revoked") or is_overdue


# -- cookies ---------------------------------------------------------------------------------------------------------


def new_rights_come_with_a_new_key(run: Run) -> Complaints:
    """A renewal or sign-in gets a key that was never sent before, and the old key is dead, or signed out."""
    for request in run.acknowledged:
        if request.moves and request.sent is not None:
            if request.sent in run.begun:
                yield f"{request} got the old key"
            if run.handle in run.alive and not _signed_out_in_place(run):
                yield f"{request} left the old key alive"


def _signed_out_in_place(run: Run) -> bool:
    """Whether the user was signed out under the same key. For other requests this counts as an end."""
    return any(step.operation.handle == run.handle and Who.of(step.data) != run.began for _, step in run.records())


def a_cookie_is_sent_only_on_proof(run: Run) -> Complaints:
    """If a request sends a key, the request's last operation on that key found it alive."""
    for request in run.requests:
        if request.sent is not None:
            steps = [step for step in run.steps(request) if step.operation.handle == request.sent]
            if not steps or not isinstance(steps[-1].what, Record):
                yield f"{request} sent a key that it had not found alive"


def the_browser_never_loses_a_living_session(run: Run) -> Complaints:
    """Only the request that ended the session deletes its cookie: others would delete the cookie of its successor."""
    for request in run.acknowledged:
        deleted = isinstance(request.outcome, Delete)
        if deleted and run.handle in run.alive and not request.kind.two_cookies:
            yield f"{request} deleted the cookie of a session that is alive"
        ended = request in (by for by, _ in run.buried.values()) or request.kind.view is PURGE.view or run.store.is_full
        ended = ended or run.met_two(request)
        if deleted and not ended:
            yield f"{request} deleted the cookie of a session that another request had ended"
        if request.kind is PURGE and not deleted:
            yield f"{request} left the cookie"


def nothing_unreachable_is_left_alive(run: Run) -> Complaints:
    """The browser was told the key of every session that was made and is alive."""
    for handle, maker in run.living.items():
        if maker is not None and maker.sent != handle:
            yield f"{maker} made a session that nobody knows"


# -- lost writes -----------------------------------------------------------------------------------------------------


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
    """Whether the request is the sign-in of a straggler, which looks like a sign-in but was sent before the end."""
    return request.signs_in and run.straggles(request)


def a_sign_in_is_never_dropped_but_a_stragglers(run: Run) -> Complaints:
    """After a sign-in the user has a session under the key that was sent, unless an end came."""
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
    """Whether a sign-in that had lost too often replaced a revision that it had not read."""
    return any(step.request.signs_in and step.operation.replaces is None for _, step in run.graves)


def no_acknowledged_write_is_lost(run: Run) -> Complaints:
    """A write is in the session to which the request's cookie leads, unless somebody removed it."""
    for request in () if _took_any(run) else run.acknowledged:
        key = request.writes
        if key is None or request.sent is None:
            continue
        handle = run.last(request.sent)
        if handle not in run.alive:
            if not _explains(run, handle, key):
                yield f"the write of {request} is gone"
        elif not _removed(run, handle, key, request):
            value = run.data(handle).get(key)
            if key != "hits" and value not in _written(run, key):
                yield f"the session holds {value!r} instead of the write of {request}"


def _explains(run: Run, handle: str, key: str) -> bool:
    """Whether the end of ``handle`` explains that ``key`` is gone."""
    request = run.ended_by(handle)
    if request is None:
        return run.store.is_full  # a full store may have removed it
    if request.kind.ends or run.met_two(request) or any(key in other.removed for other in run.requests):
        return True
    # A log-out ends the session's successor; in the session itself it only removes what it has read. A request that
    # failed has left the data under a key that nobody was told.
    return (request.signs_out and handle != run.handle) or request.error is not None


def _removed(run: Run, handle: str, key: str, written_by: Request) -> bool:
    """Whether somebody removed ``key`` from the session that goes on under ``handle``."""
    if any(key in request.removed for request in run.requests):
        return True
    maker = run.makers.get(handle)
    return maker is not None and maker.kind.view is CLEAR_AND_WRITE.view and maker is not written_by


def _written(run: Run, key: str) -> list[object]:
    """The values that were written under a key."""
    return [request.data[key] for request in run.requests if request.writes == key and key in request.data]


def no_acknowledged_removal_is_undone(run: Run) -> Complaints:
    """Removed keys are not in the session to which the request's cookie leads."""
    for request in () if _took_any(run) else run.acknowledged:
        handle = run.last(request.sent or run.handle)
        if request.kind.two_cookies and request.sent is None:
            continue  # it may have ended the other session
        if not isinstance(request.outcome, Keep) and handle in run.alive:
            back = {key for key in request.removed if run.data(handle).get(key, run) == run.start.get(key)}
            if back - {other.writes for other in run.requests if other.signs_in}:
                yield f"{request} removed {back}, which came back"


def the_cart_survives_a_sign_in(run: Run) -> Complaints:
    """If nothing ended, a sign-in or renewal keeps the data that it found in a session without owner."""
    if run.began != NOBODY or any(request.signs_out or request.removed for request in run.requests):
        return
    for request in run.acknowledged:
        moved = (request.signs_in or request.renews) and _loaded(run, request)
        if moved and request.sent is not None and "cart" not in run.data(request.sent):
            yield f"{request} lost the cart"


def two_renewals_at_once_are_two_sessions(run: Run) -> Complaints:
    """If there were only renewals and writes, each request that renewed a living session has a session."""
    if any(request.signs_in or request.removed or request.kind.ends for request in run.requests):
        return
    for request in run.acknowledged:
        if request.renews and _loaded(run, request) and request.sent not in run.alive:
            yield f"{request} was dropped"


def counters_are_exact(run: Run) -> Complaints:
    """A counter that nobody removed counts every acknowledged request; a failed request may count or not."""
    counted = [request for request in run.acknowledged if request.writes == "hits" and request.sent]
    failed = sum(request.writes == "hits" for request in run.requests if request.error is not None)
    for handle in run.alive:
        number = sum(run.last(str(request.sent)) == handle for request in counted)
        hits = run.data(handle).get("hits", 0)
        if number and not number <= hits <= number + failed and not _removed(run, handle, "hits", counted[0]):
            yield f"{number} requests counted, but the counter is {hits}"


#: Invariants that always hold.
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


#: Invariants for a browser with two sessions.
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
