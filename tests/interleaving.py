"""Requests that share a session, run in every order in which their store operations can happen.

Each request is the real lifecycle, with a real session, on the real memory store, in a greenlet of its own; it stops
before each of the four primitives, and goes on when it is told to. A :class:`Run` is one order; :func:`every_run` makes
them all, and what came of each is read from the run: the outcomes, what is in the store, and the log of what was done
there.

``every_run`` is exhaustive, but of orders that cannot differ in what any request finds or leaves it runs one only (they
may differ in which request was done first by the clock on the wall, which no invariant asks):

* A read commutes with a read, and an operation with one on another name: where two that commute both wait, only one of
  them is tried first. (Known as sleep sets.)
* Some operations are *settled*: nothing that another request may yet do changes what they find, and they change nothing
  for others. These are done at once. They are: all on a name that no other request can know yet; a swap of a revision
  that is no longer there, for revisions never come back; all on a name with a tombstone, for tombstones stay as they
  are. (That is itself an invariant. Were it broken, then first by an operation that none of this leaves out.)

What the requests do between two operations touches nothing that they share.
"""

from __future__ import annotations

import enum
import functools
import itertools
import typing as t
from datetime import timedelta
from types import MappingProxyType

import greenlet  # type: ignore[import-untyped]

from flask_sessionstore import codec
from flask_sessionstore.errors import SessionError
from flask_sessionstore.key import Claim, SessionKey, Token
from flask_sessionstore.lifecycle import KEEP, Lifecycle
from flask_sessionstore.policy import Policy, Rules
from flask_sessionstore.record import TOMBSTONE_TIME, Record, Tombstone, revision_of, unpack
from flask_sessionstore.sessions import Session
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore

T = t.TypeVar("T")

OWNER = "_user_id"
LIFETIME = timedelta(days=31)
STARTED = 1_767_225_600.0
# By an hour later an extension is due: even a read writes then.
LATER = STARTED + 3600
# Waiting for others is no part of an order, so there is no giving up either. Sessions are permanent, for a
# browser-session cookie would not be sent again with an extension.
POLICY = Policy(rules=Rules(permanent=True), lifetime=LIFETIME, conflict_timeout=timedelta(days=1))


# -- what requests do ------------------------------------------------------------------------------------------------


class Kind(t.NamedTuple):
    """One kind of request."""

    name: str
    #: What its view does; returns the keys it removed. ``value`` tells its writes from those of others.
    view: t.Callable[[Session, str], t.Collection[str]]
    #: The key it writes, if any.
    writes: str | None = None
    #: Whether it ends the session, whatever is in it.
    ends: bool = False
    #: Whether it is a sign-in in the sense of the lifecycle: never dropped.
    signs_in: bool = False
    #: Instead of a request: what somebody does to the store, knowing the session's handle.
    act: t.Callable[[FaultyStore, str], object] | None = None
    #: Whether it comes from another browser, which has no session yet.
    elsewhere: bool = False
    #: Whether no cookie can be sent in answer: an event of a socket.
    event: bool = False

    def __str__(self) -> str:
        return self.name


def _assign(key: str) -> t.Callable[[Session, str], t.Collection[str]]:
    def view(session: Session, value: str) -> t.Collection[str]:
        session[key] = value
        return ()

    return view


def _count(session: Session, value: str) -> t.Collection[str]:
    session.update_or("hits", 1, lambda hits: hits + 1)
    return ()


def _pop_all(session: Session, value: str) -> t.Collection[str]:
    keys = list(session)
    for key in keys:
        session.pop(key)
    return keys


def _clear(session: Session, value: str) -> t.Collection[str]:
    session.clear()
    return ()


def _clear_and_write(session: Session, value: str) -> t.Collection[str]:
    session.clear()
    session["farewell"] = value
    return ()


def _purge(session: Session, value: str) -> t.Collection[str]:
    session.purge()
    return ()


def _renew(session: Session, value: str) -> t.Collection[str]:
    session.renew()
    return ()


def _log_out(session: Session, value: str) -> t.Collection[str]:
    return () if session.pop(OWNER, None) is None else (OWNER,)


def _read(session: Session, value: str) -> t.Collection[str]:
    session.get("cart")
    return ()


def _nothing(session: Session, value: str) -> t.Collection[str]:
    return ()


WRITE = Kind("write", _assign("note"), writes="note")
OTHER = Kind("write other key", _assign("other"), writes="other")
COUNTER = Kind("counter", _count, writes="hits")
POP = Kind("pop to empty", _pop_all)
CLEAR = Kind("clear", _clear, ends=True)
CLEAR_AND_WRITE = Kind("clear and write", _clear_and_write, writes="farewell", ends=True)
PURGE = Kind("purge", _purge, ends=True)
RENEW = Kind("renew", _renew, signs_in=True)
SIGN_IN = Kind("sign in", _assign(OWNER), writes=OWNER, signs_in=True)
LOG_OUT = Kind("log out", _log_out)
LOG_OUT_IN_EVENT = Kind("log out in an event", _log_out, event=True)
READ = Kind("read", _read)
#: Somebody revokes the session by its handle.
REVOKE = Kind("revoke", _nothing, ends=True, act=lambda store, handle: store.end(handle))
#: The tombstones' time passes.
PAUSE = Kind("pause", _nothing, act=lambda store, handle: t.cast("WatchedStore", store.store).pause())

KINDS = (
    WRITE,
    OTHER,
    COUNTER,
    POP,
    CLEAR,
    CLEAR_AND_WRITE,
    PURGE,
    RENEW,
    SIGN_IN,
    LOG_OUT,
    READ,
    REVOKE,
)

#: The data that the session holds when the requests come in.
STARTS: dict[str, dict[str, str]] = {
    "anonymous": {"cart": "old"},
    "signed in": {OWNER: "ann", "cart": "old"},
    "signed in, no more": {OWNER: "ann"},
}


class Browser(t.NamedTuple):
    """What a browser presents with each of its requests."""

    token: Token | None
    event: bool = False

    def claims(self) -> list[Claim]:
        return [Claim(token.issued, token.lifetime) for token in self.tokens()]

    def tokens(self) -> list[Token]:
        return [] if self.token is None else [self.token]

    def seed(self) -> None:
        return None

    def client(self) -> None:
        return None

    def no_cookie(self) -> str | None:
        return "it is an event" if self.event else None

    def has_body(self) -> bool:
        return False


class _Unhurried(Lifecycle):
    """The order of the requests' steps is chosen here: nothing is gained by waiting."""

    def wait(self, seconds: float) -> None:
        pass


class Request:
    """One request, and what came of it."""

    def __init__(self, kind: Kind, number: int, policy: Policy) -> None:
        self.kind = kind
        self.policy = policy
        self.number = number
        self.name = f"{kind}-{number}"
        #: How many operations it has begun.
        self.operations = 0
        self.outcome = KEEP
        self.removed: t.Collection[str] = ()
        self.error: SessionError | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def sent(self) -> str | None:
        """The handle of the key that was sent to the browser."""
        return self.outcome.key.handle if self.outcome.key is not None else None

    @property
    def ends(self) -> bool:
        """Whether it ended the session, or signed its owner out."""
        return self.kind.ends or OWNER in self.removed

    def __call__(self, store: FaultyStore, token: Token) -> None:
        try:
            if self.kind.act is not None:
                self.kind.act(store, token.key.handle)
            else:
                browser = Browser(None if self.kind.elsewhere else token, self.kind.event)
                self._serve(_Unhurried(store, self.policy, browser))
        except SessionError as error:
            self.error = error

    def _serve(self, lifecycle: Lifecycle) -> None:
        session = Session._of(lifecycle)
        try:
            self.removed = self.kind.view(session, self.name)
            lifecycle.commit(session)
        finally:
            self.outcome = lifecycle.outcome


# -- the store -------------------------------------------------------------------------------------------------------


class Operation(t.NamedTuple):
    """One of the primitives, about to be done."""

    verb: str
    handle: str
    replaces: bytes | None = None


class Step(t.NamedTuple):
    """A primitive that was done."""

    request: Request
    operation: Operation
    #: The live record or tombstone that it found (read) or put there (add, swap); None if neither.
    bytes: bytes | None

    @property
    def what(self) -> Record | Tombstone | None:
        """What those bytes say."""
        return None if self.bytes is None else unpack(self.bytes, self.operation.handle)


class Fault(enum.Enum):
    """What can go wrong with an operation."""

    COMMAND_LOST = "command lost"
    REPLY_LOST = "reply lost"
    #: The reply was lost, and the client sent the command again by itself.
    SENT_AGAIN = "sent again"


#: What goes wrong, by the request's number and the operation's (its first is 1).
Faults = t.Mapping[tuple[int, int], Fault]


class WatchedStore(MemoryStore):
    """The memory store; a request stops before each primitive, and what is done is logged."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.log: list[Step] = []
        #: Whose turn it is; None before there are requests.
        self.turn: Request | None = None
        self._faults = faults
        self.time = STARTED
        self.clock = lambda: self.time

    def read(self, handle: str) -> bytes | None:
        return self._do(Operation("read", handle), lambda: self.peek(handle), lambda data: data)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self._do(
            Operation("add", handle),
            lambda: super(WatchedStore, self).add(handle, data, ttl),
            lambda added: data if added else None,
        )

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self._do(
            Operation("swap", handle, replaces),
            lambda: super(WatchedStore, self).swap(handle, data, ttl, replaces=replaces),
            lambda swapped: data if swapped else None,
        )

    def drop(self, handle: str) -> None:
        return self._do(Operation("drop", handle), lambda: super(WatchedStore, self).drop(handle), lambda _: None)

    def pause(self) -> None:
        """Let the tombstones' time pass."""
        _stop(Operation("pause", ""))
        self.time += TOMBSTONE_TIME.total_seconds() + 1

    def peek(self, handle: str) -> bytes | None:
        """What is there, unnoticed."""
        return super().read(handle)

    def _do(self, operation: Operation, do: t.Callable[[], T], put: t.Callable[[T], bytes | None]) -> T:
        request = self.turn
        if request is None:
            return do()
        _stop(operation)
        request.operations += 1
        result = do()
        self.log.append(Step(request, operation, put(result)))
        fault = self._faults.get((request.number, request.operations))
        if fault is Fault.SENT_AGAIN and operation.verb != "read":  # a read sent again is but a later one
            _stop(operation)
            result = do()
            self.log.append(Step(request, operation, put(result)))
        return result


def _stop(operation: Operation) -> None:
    """Wait for one's turn."""
    greenlet.getcurrent().parent.switch(operation)


# -- one order -------------------------------------------------------------------------------------------------------


class Run:
    """Requests on one session, in one order.

    :param start: the session's data.
    :param kinds: what the requests do. All have come in already, and none has asked the store yet.
    :param faults: what goes wrong.
    """

    store_class: t.ClassVar[type[WatchedStore]] = WatchedStore
    policy = POLICY

    def __init__(self, start: t.Mapping[str, str], kinds: t.Iterable[Kind], faults: Faults) -> None:
        self.start = start
        self.store = self.store_class(faults)
        self._faulty = FaultyStore(self.store)
        self._faults = faults
        key, record = _begin(self.store, start)
        self.handle = key.handle
        self.requests = [Request(kind, number, self.policy) for number, kind in enumerate(kinds)]
        self.store.time = LATER
        token = Token(key, int(STARTED), int(LIFETIME.total_seconds()), True, record.revision[:4])
        self._has_pause = any(request.kind is PAUSE for request in self.requests)
        self._greenlets = [
            greenlet.greenlet(functools.partial(request, self._faulty, token)) for request in self.requests
        ]
        #: The operation that each request waits for, by its number; not those that have finished.
        self.waiting: dict[int, Operation] = {}
        for request in self.requests:
            self.step(request.number)

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
        if operation.verb == "pause":
            return False
        if operation.handle != self.handle and operation.handle not in self._named():
            return True
        data = self.store.peek(operation.handle)
        if data is None:
            return False
        if isinstance(unpack(data, operation.handle), Tombstone):
            return not self._has_pause
        return operation.replaces not in (None, revision_of(data))

    def _named(self) -> set[str | None]:
        """The handles that a tombstone names: what others can come to know."""
        return {found.successor for step in self.store.log if isinstance(found := step.what, Tombstone)}

    # -- what came of it; to be asked when nobody waits any more -----------------------------------------------------

    @functools.cached_property
    def acknowledged(self) -> list[Request]:
        """The requests that did not fail."""
        return [request for request in self.requests if request.error is None]

    @functools.cached_property
    def buried(self) -> dict[str, tuple[Request, Tombstone]]:
        """What ended, by handle: by whom, and what was left there."""
        found = ((step, step.what) for step in self.store.log if step.operation.verb == "swap")
        return {step.operation.handle: (step.request, what) for step, what in found if isinstance(what, Tombstone)}

    def ended_by(self, handle: str) -> Request | None:
        """Who left a tombstone under ``handle``."""
        return self.buried[handle][0] if handle in self.buried else None

    @functools.cached_property
    def grave(self) -> Tombstone | None:
        """The tombstone of the session that all came with."""
        return self.buried[self.handle][1] if self.handle in self.buried else None

    @functools.cached_property
    def makers(self) -> dict[str, Request]:
        """Who made a new session, by handle."""
        return {step.operation.handle: step.request for step in self.store.log if step.operation.verb == "add"}

    @functools.cached_property
    def alive(self) -> dict[str, Record]:
        """The sessions that are alive, by handle. Not those of requests that failed: nobody was told their keys."""
        handles = [self.handle, *(handle for handle, maker in self.makers.items() if maker.error is None)]
        found = {handle: data for handle in handles if (data := self.store.peek(handle)) is not None}
        return {handle: what for handle, data in found.items() if isinstance(what := unpack(data, handle), Record)}

    def data(self, handle: str) -> dict[str, t.Any]:
        """The data of a session; none if it is not alive."""
        state = self.alive[handle].state if handle in self.alive else {}
        return {key: codec.decode(value) for key, value in state.items()}

    def last(self, handle: str) -> str:
        """Where the session under ``handle`` went on, last of all: there, if it ended or nobody knows the new key."""
        while handle in self.buried:
            request, tombstone = self.buried[handle]
            heir = tombstone.successor or request.sent
            if request.error is not None or heir is None or self.makers.get(heir) is not request:
                break
            handle = heir
        return handle

    def met(self, request: Request) -> Record | Tombstone | None:
        """What a request found when it loaded."""
        return next((step.what for step in self.steps(request) if step.operation.verb == "read"), None)

    def steps(self, request: Request) -> list[Step]:
        """What a request did to the store."""
        return [step for step in self.store.log if step.request is request]

    def end(self) -> str:
        """What it came to, equal for runs that came to the same: who sent what, what is alive, what was left."""
        names = {self.handle: "the session", **{handle: f"{maker}'s" for handle, maker in self.makers.items()}}
        cookies = [(request.outcome.cookie.name, names.get(request.sent or "")) for request in self.requests]
        alive = [(names[handle], sorted(self.data(handle).items())) for handle in self.alive]
        left = [
            (names[handle], request.name, tombstone.kind, names.get(tombstone.successor or ""))
            for handle, (request, tombstone) in self.buried.items()
        ]
        return repr((cookies, sorted(alive), sorted(left)))

    def story(self) -> str:
        """What happened, one operation a line."""
        names = {self.handle: "the session"}
        lines = [f"{' | '.join(map(repr, self.requests))}, from {dict(self.start)}"]
        for step in self.store.log:
            name = names.setdefault(step.operation.handle, f"new session {len(names)}")
            lines.append(f"{step.request}: {step.operation.verb} {name}: {_describe(step, names)}")
        for request in self.requests:
            cookie = request.outcome.cookie.value
            sent = "" if request.sent is None else f" {names.get(request.sent, 'unknown')}"
            lines.append(f"{request}: cookie {cookie}{sent}" + (f", {request.error!r}" if request.error else ""))
        lines += [f"alive: {names.get(handle, 'unknown')} {self.data(handle)}" for handle in self.alive]
        return "\n".join(lines)


def _describe(step: Step, names: t.Mapping[str, str]) -> str:
    what = step.what
    if isinstance(what, Record):
        return str({key: codec.decode(value) for key, value in what.state.items()})
    if isinstance(what, Tombstone):
        return what.kind if what.successor is None else f"{what.kind}, as {names.get(what.successor, 'unknown')}"
    return "nothing"


def _begin(store: MemoryStore, data: t.Mapping[str, str]) -> tuple[SessionKey, Record]:
    record = Record(
        state={key: codec.encode(value, key) for key, value in data.items()},
        owner=data.get(OWNER),
        permanent=True,
    ).written(int(store.now() * 1000), LIFETIME)
    return store.save(record, LIFETIME), record


# -- all orders ------------------------------------------------------------------------------------------------------


class _Branch:
    """A point in a run where it matters who goes on."""

    def __init__(self, waiting: t.Iterable[int], asleep: set[int]) -> None:
        self.asleep = set(asleep)
        self._untried = [number for number in waiting if number not in asleep]

    @property
    def chosen(self) -> int | None:
        return self._untried[0] if self._untried else None

    def advance(self) -> bool:
        """Choose the next; False if all were tried."""
        if self._untried:
            self.asleep.add(self._untried.pop(0))
        return bool(self._untried)


def every_run(
    start: t.Mapping[str, str],
    kinds: t.Collection[Kind],
    faults: Faults = MappingProxyType({}),
    *,
    prune: bool = True,
    make: type[Run] | None = None,
) -> t.Iterator[Run]:
    """All runs of these requests that can differ in anything; without ``prune``, all."""
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
    """Run to the end, at known branches as chosen there; False if an equivalent run has been made."""
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
            asleep = {number for number in branch.asleep if _commute(run.waiting[number], operation)}
        run.step(branch.chosen)
    return True


def _commute(one: Operation, other: Operation) -> bool:
    if "pause" in (one.verb, other.verb):
        return False
    return one.handle != other.handle or one.verb == other.verb == "read"


def groups(first: Kind, size: int) -> t.Iterator[tuple[Kind, ...]]:
    """The groups of kinds that begin with ``first``. Who is named before whom makes no difference: each comes once."""
    later = KINDS[KINDS.index(first) :]
    return ((first, *others) for others in itertools.combinations_with_replacement(later, size - 1))
