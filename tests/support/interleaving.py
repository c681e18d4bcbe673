"""Requests that share a session, run in every order in which their store operations can happen.

Each request is the real lifecycle, with a real session, on the real memory store, in its own greenlet. It stops before
each of the four primitives, and goes on when it is told to. A :class:`Run` is one order; :func:`every_run` makes all of
them. A run has the results: the outcomes, the content of the store, and the log of the operations.

``every_run`` is exhaustive, but of orders that cannot differ in what a request finds or leaves it runs only one. (They
may differ in which request finished first by the wall clock; no invariant depends on that.)

* A read commutes with a read, and an operation with an operation on another name. If two operations that commute both
  wait, only one of them is tried first. (This is known as sleep sets.)
* Some operations are *settled*: no other request can still change what they find, and they change nothing for others.
  They are done at once. Settled are: any operation on a name that no other request can know yet; a swap of a revision
  that is not there any more, since revisions never come back; any operation on a name with a tombstone, since
  tombstones do not change. (That is itself an invariant. If it were broken, the first operation to break it would be
  one that these rules do not leave out.)
* If time passes in a run, tombstones expire and requests begin. So an operation that moves the clock commutes with
  nothing.

Between two operations, requests do not touch anything that they share.
"""

from __future__ import annotations

import enum
import functools
import itertools
import typing as t
from datetime import timedelta
from types import MappingProxyType

import greenlet  # type: ignore[import-untyped]
from kinds import KINDS, LATER, OWNER, PAUSE, PLANTED, STARTED, Crash, Kind, Request, Who

from flask_sessionstore import codec
from flask_sessionstore.errors import StoreFull
from flask_sessionstore.layout import revision_of, unpack
from flask_sessionstore.policy import Policy
from flask_sessionstore.record import Record, Tombstone
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore
from flask_sessionstore.tokens import Token
from flask_sessionstore.visitor import OldSession

T = t.TypeVar("T")


LIFETIME = timedelta(days=31)
UNDER_WAY = 10.0


# Requests do not wait here, so they do not give up either. Sessions are permanent, since a browser-session cookie would
# not be sent again with an extension.
POLICY = Policy(permanent=True, lifetime=LIFETIME, conflict_timeout=timedelta(days=1))


# -- the store -------------------------------------------------------------------------------------------------------


class Operation(t.NamedTuple):
    """A call of a primitive that is about to be done."""

    verb: str
    handle: str
    replaces: bytes | None = None


class Step(t.NamedTuple):
    """A call of a primitive that was done."""

    request: Request
    operation: Operation
    #: The live record or tombstone that it found (read) or put there (add, swap); None if neither.
    bytes: bytes | None

    @property
    def what(self) -> Record | Tombstone | None:
        """The record or tombstone in those bytes."""
        return None if self.bytes is None else _unpacked(self.bytes, self.operation.handle)

    @property
    def data(self) -> dict[str, t.Any]:
        """The data of the record that it found or put there; empty if that was not a record."""
        return data_of(self.what)


#: Cached, since the same bytes are unpacked many times.
_unpacked = functools.lru_cache(maxsize=4096)(unpack)


def data_of(what: Record | Tombstone | None) -> dict[str, t.Any]:
    """The data of a record; empty if ``what`` is not a record."""
    return {key: codec.decode(value) for key, value in what.state.items()} if isinstance(what, Record) else {}


class Fault(enum.Enum):
    """What can go wrong with an operation."""

    COMMAND_LOST = "command lost"
    REPLY_LOST = "reply lost"
    #: The reply was lost, and the client sent the command again by itself.
    SENT_AGAIN = "sent again"
    #: The process was killed before the operation.
    CRASH = "crash"
    #: From then on the store is full, for every request.
    FULL = "full"


#: The faults after which it is still known which writes were acknowledged.
WIRE_FAULTS = tuple(fault for fault in Fault if fault is not Fault.FULL)


#: Faults by the number of the request and of its operation (the first operation is 1).
Faults = t.Mapping[tuple[int, int], Fault]


class WatchedStore(MemoryStore):
    """The memory store. A request stops before each primitive, and each primitive that was done is logged."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.log: list[Step] = []
        #: The request whose turn it is; None before there are requests.
        self.turn: Request | None = None
        self._faults = faults
        self.is_full = False
        self.time = STARTED
        self.clock = lambda: self.time

    def read(self, handle: str) -> bytes | None:
        return self._do(Operation("read", handle), lambda: self.peek(handle), lambda data: data)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self._do(
            Operation("add", handle),
            lambda: self._with_room() and super(WatchedStore, self).add(handle, data, ttl),
            lambda added: data if added else None,
        )

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self._do(
            Operation("swap", handle, replaces),
            lambda: self._with_room() and super(WatchedStore, self).swap(handle, data, ttl, replaces=replaces),
            lambda swapped: data if swapped else None,
        )

    def drop(self, handle: str) -> None:
        return self._do(Operation("drop", handle), lambda: super(WatchedStore, self).drop(handle), lambda _: None)

    def _with_room(self) -> bool:
        if self.is_full:
            raise StoreFull("there is no room")
        return True

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        _stop(Operation("pause", ""))
        self.time += seconds

    def peek(self, handle: str) -> bytes | None:
        """The bytes under a handle, without a stop and a log entry."""
        return super().read(handle)

    def _do(self, operation: Operation, do: t.Callable[[], T], put: t.Callable[[T], bytes | None]) -> T:
        request = self.turn
        if request is None:
            return do()
        _stop(operation)
        request.operations += 1
        fault = self._faults.get((request.number, request.operations))
        if fault is Fault.CRASH:
            raise Crash
        self.is_full = self.is_full or fault is Fault.FULL
        result = do()
        self.log.append(Step(request, operation, put(result)))
        if fault is Fault.SENT_AGAIN and operation.verb != "read":  # a read sent again equals a later read
            _stop(operation)
            result = do()
            self.log.append(Step(request, operation, put(result)))
        return result


def _stop(operation: Operation) -> None:
    """Stop the request until its next turn."""
    greenlet.getcurrent().parent.switch(operation)


# -- one order -------------------------------------------------------------------------------------------------------


class Run:
    """Requests on one session, in one order.

    :param start: the session's data.
    :param kinds: the kinds of the requests. All of them have come in, but none has asked the store yet.
    :param faults: the faults that happen.
    """

    store_class: t.ClassVar[type[WatchedStore]] = WatchedStore
    policy = POLICY
    #: The sessions of another kind whose credentials the browser presents.
    old: tuple[OldSession, ...] = ()
    #: Verbs for which the order by the wall clock matters, so that they commute with nothing.
    by_the_clock: t.ClassVar[tuple[str, ...]] = ()

    def __init__(self, start: t.Mapping[str, t.Any], kinds: t.Iterable[Kind], faults: Faults) -> None:
        self.start = start
        self.store = self.store_class(faults)
        self._faulty = FaultyStore(self.store)
        self._faults = faults
        tokens = self._tokens(start)
        self.requests = [Request(kind, number, self.policy) for number, kind in enumerate(kinds)]
        if any(request.kind.two_cookies for request in self.requests):
            tokens.append(_begin(self.store, PLANTED))
        #: The handle of the session with which all requests come; the records at that time, with the other session's if
        #: there is one.
        self.handle = (tokens or self.old)[0].key.handle
        self.begun = {
            token.key.handle: _unpacked(self.store.peek(token.key.handle), token.key.handle) for token in tokens
        }
        self.store.time = LATER
        self._time_passes = any(request.kind is PAUSE or request.kind.later for request in self.requests)
        self._greenlets = [
            greenlet.greenlet(functools.partial(request, self._faulty, self.handle, tuple(tokens), self.old))
            for request in self.requests
        ]
        #: The next operation of each request that has not finished, by the request's number.
        self.waiting: dict[int, Operation] = {}
        for request in self.requests:
            self.step(request.number)

    def _tokens(self, start: t.Mapping[str, t.Any]) -> list[Token]:
        """Store a session with this data, and return the browser's tokens for it."""
        return [_begin(self.store, start)]

    def step(self, number: int) -> None:
        """Let a request go on to its next operation, or to its end."""
        self.waiting.pop(number, None)
        self.store.turn = self.requests[number]
        fault = self._faults.get((number, self.store.turn.operations + 1))
        if fault is Fault.COMMAND_LOST:
            self._faulty.fail()
        elif fault is Fault.REPLY_LOST:
            self._faulty.lose_reply()
        operation = self._greenlets[number].switch()
        self._faulty.heal()
        if operation is not None:
            self.waiting[number] = operation

    def settled(self) -> int | None:
        """A request whose next operation is settled (see above), if there is one."""
        return next((number for number, operation in self.waiting.items() if self._is_settled(operation)), None)

    def _is_settled(self, operation: Operation) -> bool:
        if operation.verb == "pause" or operation.verb in self.by_the_clock:
            return False
        if operation.handle not in self.begun and operation.handle not in self._named():
            return True
        data = self.store.peek(operation.handle)
        if data is None:
            return False
        if isinstance(_unpacked(data, operation.handle), Tombstone):
            return not self._time_passes
        return operation.replaces not in (None, revision_of(data))

    def commute(self, one: Operation, other: Operation) -> bool:
        """Whether it makes no difference which of two operations is done first."""
        if "pause" in (one.verb, other.verb) or {one.verb, other.verb} & set(self.by_the_clock):
            return False
        return one.handle != other.handle or one.verb == other.verb == "read"

    def _named(self) -> set[str | None]:
        """The handles that tombstones name, which other requests can learn from them."""
        return {found.successor for step in self.store.log if isinstance(found := step.what, Tombstone)}

    # -- results, once no request waits any more ---------------------------------------------------------------------

    @functools.cached_property
    def began(self) -> Who:
        """Who was signed in when the requests came in."""
        return Who.of(self.start)

    @functools.cached_property
    def acknowledged(self) -> list[Request]:
        """The requests that did not fail."""
        return [request for request in self.requests if request.error is None]

    @functools.cached_property
    def graves(self) -> list[tuple[int, Step]]:
        """The steps that left tombstones, with their places in the log."""
        steps = enumerate(self.store.log)
        return [(n, step) for n, step in steps if step.operation.verb == "swap" and isinstance(step.what, Tombstone)]

    @functools.cached_property
    def buried(self) -> dict[str, tuple[Request, Tombstone]]:
        """For each handle under which a session went: the request that did it, and the tombstone."""
        return {step.operation.handle: (step.request, t.cast("Tombstone", step.what)) for _, step in self.graves}

    @functools.cached_property
    def burials(self) -> dict[Request, int]:
        """The last place in the log where a request left a tombstone."""
        return {step.request: place for place, step in self.graves}

    def place_of_last(self, request: Request) -> int:
        """The place in the log of a request's last step."""
        return max(place for place, step in enumerate(self.store.log) if step.request is request)

    def records(self, until: int | None = None) -> t.Iterator[tuple[int, Step]]:
        """The steps that wrote records, not merely extended them, with their places in the log.

        :param until: only steps before this place.
        """
        seen = {record.revision for record in self.begun.values() if isinstance(record, Record)}
        for place, step in enumerate(self.store.log[:until]):
            if step.operation.verb == "read" or not isinstance(step.what, Record) or step.what.revision in seen:
                continue
            seen.add(step.what.revision)
            yield place, step

    def data_before(self, handle: str, place: int) -> dict[str, t.Any]:
        """The data under a handle before this place in the log."""
        for step in reversed(self.store.log[:place]):
            if step.operation.handle == handle and isinstance(step.what, Record):
                return step.data
        return data_of(self.begun.get(handle))

    def ended_by(self, handle: str) -> Request | None:
        """The request that left a tombstone under ``handle``, or removed the record as the store was full."""
        if handle in self.buried:
            return self.buried[handle][0]
        dropped = (step.request for step in self.store.log if step.operation[:2] == ("drop", handle))
        return next(dropped, None)

    @functools.cached_property
    def grave(self) -> Tombstone | None:
        """The tombstone of the session with which all requests came."""
        return self.buried[self.handle][1] if self.handle in self.buried else None

    @functools.cached_property
    def makers(self) -> dict[str, Request]:
        """The request that made a new session, by its handle."""
        return {step.operation.handle: step.request for step in self.store.log if step.operation.verb == "add"}

    @functools.cached_property
    def added(self) -> set[str]:
        """The handles of all sessions that were made."""
        return {step.operation.handle for step in self.store.log if step.operation.verb == "add" and step.bytes}

    @functools.cached_property
    def was_emptied(self) -> bool:
        """Whether the session's last key was removed."""
        return self.grave is not None and self.grave.kind == "emptied"

    @functools.cached_property
    def living(self) -> dict[str, Request | None]:
        """The requests that made the living sessions, by handle; None for a session that was there before."""
        return {handle: self.makers.get(handle) for handle in self.alive}

    @functools.cached_property
    def alive(self) -> dict[str, Record]:
        """The living sessions by handle, without those that failed requests made: nobody was told their keys."""
        handles = [*self.begun, *(handle for handle, maker in self.makers.items() if maker.error is None)]
        found = {handle: data for handle in handles if (data := self.store.peek(handle)) is not None}
        return {handle: what for handle, data in found.items() if isinstance(what := _unpacked(data, handle), Record)}

    def data(self, handle: str) -> dict[str, t.Any]:
        """The data of a session; empty if it is not alive."""
        return data_of(self.alive.get(handle))

    def last(self, handle: str) -> str:
        """The last handle under which the session went on; ``handle`` if it ended, or if nobody knows the new key."""
        while (request := self.ended_by(handle)) is not None:
            heir = request.sent if handle not in self.buried else self.buried[handle][1].successor or request.sent
            if request.error is not None or heir is None or self.makers.get(heir) is not request:
                break
            if self.met_two(request):
                break
            handle = heir
        return handle

    def looks(self, request: Request) -> list[Record | Tombstone | None]:
        """The records and tombstones that a request found at its first read, under the key of each cookie."""
        first: dict[str, Record | Tombstone | None] = {}
        for step in self.steps(request):
            if step.operation.verb == "read" and step.operation.handle in self.begun:
                first.setdefault(step.operation.handle, step.what)
        return list(first.values())

    def met_two(self, request: Request) -> bool:
        """Whether a request found two living sessions."""
        looks = self.looks(request)
        return len(looks) > 1 and all(isinstance(what, Record) for what in looks)

    def met(self, request: Request) -> Record | Tombstone | None:
        """The living session that a request started from, or else a tombstone; None also if it found two sessions."""
        looks = self.looks(request)
        if self.met_two(request):
            return None
        return next((what for sort in (Record, Tombstone) for what in looks if isinstance(what, sort)), None)

    def straggles(self, request: Request) -> bool:
        """Whether a request cannot sign in: its session went a moment ago, and it has no body or the same user."""
        met = self.met(request)
        if not isinstance(met, Tombstone) or request.born >= met.left_ms / 1000 + UNDER_WAY:
            return False
        place, grave = next((place, step) for place, step in self.graves if step.what == met)
        known = {self.data_before(grave.operation.handle, place).get(OWNER)}
        if met.kind in ("renewed", "signed in", "replaced"):
            known.add(grave.request.who.owner)
        return not request.kind.body or (met.kind != "revoked" and request.who.owner in known - {None})

    def steps(self, request: Request) -> list[Step]:
        """The steps of a request."""
        return [step for step in self.store.log if step.request is request]

    def end(self) -> str:
        """The cookies, living sessions and tombstones at the end, as text: equal for runs with equal results."""
        names = {handle: f"session {number}" for number, handle in enumerate(self.begun)}
        names |= {handle: f"{maker}'s" for handle, maker in self.makers.items()}
        cookies = [(type(request.outcome).__name__, names.get(request.sent or "")) for request in self.requests]
        alive = [(names[handle], sorted(self.data(handle).items())) for handle in self.alive]
        left = [
            (names[handle], request.name, tombstone.kind, names.get(tombstone.successor or ""))
            for handle, (request, tombstone) in self.buried.items()
        ]
        return repr((cookies, sorted(alive), sorted(left)))

    def story(self) -> str:
        """The story of this run for people, one operation a line."""
        names = dict(zip(self.begun, ("the session", "the other session"), strict=False))
        lines = [f"{' | '.join(map(repr, self.requests))}, from {dict(self.start)}"]
        for step in self.store.log:
            name = names.setdefault(step.operation.handle, f"new session {len(names)}")
            lines.append(f"{step.request}: {step.operation.verb} {name}: {_describe(step, names)}")
        for request in self.requests:
            cookie = type(request.outcome).__name__.lower()
            sent = "" if request.sent is None else f" {names.get(request.sent, 'unknown')}"
            lines.append(f"{request}: cookie {cookie}{sent}" + (f", {request.error!r}" if request.error else ""))
        lines += [f"alive: {names.get(handle, 'unknown')} {self.data(handle)}" for handle in self.alive]
        return "\n".join(lines)


def _describe(step: Step, names: t.Mapping[str, str]) -> str:
    what = step.what
    if isinstance(what, Tombstone):
        return what.kind if what.successor is None else f"{what.kind}, as {names.get(what.successor, 'unknown')}"
    return str(step.data) if what else "nothing"


def _begin(store: MemoryStore, data: t.Mapping[str, t.Any]) -> Token:
    """Store a session with this data, and return a browser's token for it."""
    record = Record(
        state={key: codec.encode(value, key) for key, value in data.items()},
        owner=data.get(OWNER),
        permanent=True,
    ).written(int(store.now() * 1000), LIFETIME)
    seconds, seen = int(LIFETIME.total_seconds()), record.revision[:4]
    return Token(store.save(record, LIFETIME), int(STARTED), seconds, True, seen, 0)


# -- all orders ------------------------------------------------------------------------------------------------------


class ClockedRun(Run):
    """A run in which it matters when sessions were made."""

    by_the_clock = ("add",)


class _Branch:
    """A point in a run where it matters which request goes on."""

    def __init__(self, waiting: t.Iterable[int], asleep: set[int]) -> None:
        self.asleep = set(asleep)
        self._untried = [number for number in waiting if number not in asleep]

    @property
    def chosen(self) -> int | None:
        return self._untried[0] if self._untried else None

    def advance(self) -> bool:
        """Choose the next request; False if all were tried."""
        if self._untried:
            self.asleep.add(self._untried.pop(0))
        return bool(self._untried)


def every_run(
    start: t.Mapping[str, t.Any],
    kinds: t.Collection[Kind],
    faults: Faults = MappingProxyType({}),
    *,
    prune: bool = True,
    make: type[Run] | None = None,
) -> t.Iterator[Run]:
    """All runs of these requests that can differ in their results; without ``prune``, all runs."""
    path: list[_Branch] = []
    while True:
        run = (make or Run)(start, kinds, faults)
        if _follow(run, path, prune):
            yield run
        while path and not path[-1].advance():
            path.pop()
        if not path:
            return


def _follow(run: Run, path: list[_Branch], prune: bool) -> bool:
    """Run to the end, and follow the choices at known branches; False if an equivalent run has been made."""
    asleep: set[int] = set()
    branches = iter(list(path))
    while run.waiting:
        settled = run.settled() if prune else None
        if settled is not None:
            run.step(settled)
            continue
        branch = next(branches, None)
        if branch is None:
            branch = _Branch(run.waiting, asleep)
            path.append(branch)
        if branch.chosen is None:
            return False
        if prune:
            operation = run.waiting[branch.chosen]
            asleep = {number for number in branch.asleep if run.commute(run.waiting[number], operation)}
        run.step(branch.chosen)
    return True


def groups(first: Kind, size: int) -> t.Iterator[tuple[Kind, ...]]:
    """The groups of kinds that begin with ``first``. The order within a group does not matter, so each comes once."""
    later = KINDS[KINDS.index(first) :]
    return ((first, *others) for others in itertools.combinations_with_replacement(later, size - 1))
