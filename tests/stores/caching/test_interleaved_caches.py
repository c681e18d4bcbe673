"""Every order of requests on two stores with a cache each."""

from __future__ import annotations

import functools
import itertools
import logging
import random
import sys
import typing as t
from datetime import timedelta

import greenlet  # type: ignore[import-untyped]
import interleaving
import pytest
from interleaving import WIRE_FAULTS, Fault, Operation, Run, Step, WatchedStore, every_run, groups
from invariants import ALWAYS, INVARIANTS, Complaints, check, nothing_failed
from kinds import KINDS, LOG_OUT, PAUSE, RENEW, STARTS, Kind, Request
from tiers import seen

from flask_sessionstore import Record, SessionGone, SessionKey, StoreUnavailable
from flask_sessionstore.layout import pack, pack_tombstone, unpack
from flask_sessionstore.record import Tombstone
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import FaultyStore
from flask_sessionstore.visitor import Send

MAX_AGE = 2.0


#
# The search of test_interleavings.py, with every request on a CachingStore over the store that is watched. The session
# is in the caches when the requests come in. All invariants hold as they are: a request that is served from a cache is
# one that had loaded a little earlier. Only that a request sees what was done before it *came in* is lost, which none
# of them asks; what is left of that is stated below.
class Watched(CachingStore):
    """What is served from the cache is logged as what the request read."""

    store: Tiers

    def _cached(self, key: SessionKey, seen: bytes) -> Record | Tombstone | None:
        watched, request = self.store.watched, self.store.watched.turn
        if request is not None and not self.store.finely:
            interleaving._stop(Operation("look up", key.handle))
        found = super()._cached(key, seen)
        if found is not None and request is not None:
            name = key.handle
            data = pack(found, name) if isinstance(found, Record) else pack_tombstone(found, name)
            watched.log.append(Step(request, Operation("read", key.handle), data))
        return found


class WatchedCache(MemoryStore):
    """A cache; a request stops before each primitive on it, too. It can fail."""

    def __init__(self, watched: WatchedStore, number: int, finely: bool) -> None:
        super().__init__()
        self.watched, self.number, self.finely = watched, number, finely
        self.chance: t.Callable[[], bool] = lambda: False

    def read(self, handle: str) -> bytes | None:
        return self._do("read", handle, lambda: super(WatchedCache, self).read(handle))

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self._do("add", handle, lambda: super(WatchedCache, self).add(handle, data, ttl))

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self._do("swap", handle, lambda: super(WatchedCache, self).swap(handle, data, ttl, replaces=replaces))

    def drop(self, handle: str) -> None:
        return self._do("drop", handle, lambda: super(WatchedCache, self).drop(handle))

    def _do(self, verb: str, handle: str, do: t.Callable[[], interleaving.T]) -> interleaving.T:
        if self.watched.turn is None or isinstance(sys.exception(), greenlet.GreenletExit):  # a run that is given up
            return do()
        if self.finely:
            interleaving._stop(Operation(verb, f"{self.number}:{handle}"))
        if self.chance():
            raise StoreUnavailable("down")
        return do()


class Tiers(FaultyStore):
    """The store, as requests see it: each through one of the CachingStores, in turn.

    :param caches: how many there are, each with a cache of its own.
    :param finely: whether requests stop before each primitive on a cache too. Else only before they look into it: what
        they then tell it is one step with what they did to the store.
    """

    def __init__(self, store: ServerSideStore, caches: int = 2, finely: bool = True) -> None:
        super().__init__(store)
        self.watched, self.finely = t.cast("WatchedStore", store), finely
        self.tiers = [Watched(WatchedCache(self.watched, number, finely), self) for number in range(caches)]
        self.begun: Record | None = None

    def of(self, request: Request) -> Watched:
        """The store of a request."""
        return self.tiers[request.number % len(self.tiers)]

    @property
    def current(self) -> Watched:
        request = self.watched.turn
        assert request is not None
        if self.begun is None:
            self._warm(request)
        return self.of(request)

    def _warm(self, request: Request) -> None:
        self.watched.turn = None
        for handle in list(self.watched._entries):
            data = self.watched.peek(handle)
            assert data is not None
            self.begun = t.cast("Record", unpack(data, handle))
            for tier in self.tiers:
                tier.read(handle)
        self.watched.turn = request

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        return self.current.load(key, seen=seen)

    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        save = super().save if self.watched.turn is None else self.current.save
        return save(record, ttl, key=key)

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        return self.current.update(key, record, ttl, replaces=replaces)

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        return self.current.update_ttl(key, ttl)

    def delete(self, key: SessionKey, **options: t.Any) -> None:
        self.current.delete(key, **options)

    def renew(self, key: SessionKey, record: Record, ttl: timedelta, **options: t.Any) -> SessionKey:
        return self.current.renew(key, record, ttl, **options)

    def end_found(self, handle: str, **options: t.Any) -> str | None:
        return self.current.end_found(handle, **options)


class TieredRun(Run):
    """Requests on CachingStores, in one order."""

    _faulty: Tiers

    def _is_settled(self, operation: Operation) -> bool:
        cache, _, handle = operation.handle.rpartition(":")
        if handle != self.handle and handle not in self._named():
            return True
        if len(self.requests) <= len(self._faulty.tiers):  # nobody else uses this cache
            return bool(cache) or super()._is_settled(operation)
        # What tells a cache something, or asks it, is not settled.
        return self._faulty.finely and not cache and super()._is_settled(operation)

    # -- when nobody waits any more

    def finish(self) -> None:
        """From here on nobody stops any more."""
        self.store.turn = None
        for tier in self._faulty.tiers:
            t.cast("WatchedCache", tier.cache).chance = lambda: False

    def found(self, store: ServerSideStore, handle: str, record: Record) -> Record | str | None:
        """What a browser that has seen ``record`` is served by ``store``."""
        try:
            return store.load(SessionKey.of(handle), seen=seen(record))
        except SessionGone as gone:
            return gone.kind


def everybody_reads_their_own_writes(run: Run) -> Complaints:
    """With the cookie that was sent, both processes know what was written for it, or something later."""
    for request in run.acknowledged:
        if request.sent is not None and isinstance(request.outcome, Send):
            record = request.outcome.record
            for number, _, (found, truth) in _asked(run, request.sent, record):
                if found != truth and not (isinstance(found, Record) and record.revision in found.revisions):
                    yield f"cache {number} does not know what {request} wrote, and serves {found}, not {truth}"


def where_it_ended_it_is_over(run: Run) -> Complaints:
    """The process that ended a session, or whose request came upon the end, does not serve it any more."""
    tiers = t.cast("TieredRun", run)._faulty
    for request in run.acknowledged:
        knows = any(
            isinstance(step.what, Tombstone) and step.operation.handle == run.handle for step in run.steps(request)
        )
        if request.ends or (knows and not run._faults):  # what is read may not arrive
            for _, tier, (found, truth) in _asked(run, run.handle, t.cast("Record", tiers.begun)):
                if tier is tiers.of(request) and isinstance(found, Record) and truth != found:
                    yield f"{request} knows that the session is over, and it is served all the same"


def in_time_everybody_knows_everything(run: Run) -> Complaints:
    """Once ``max_age`` has passed, every process serves what the store says."""
    run.store.time += MAX_AGE
    begun = t.cast("Record", t.cast("TieredRun", run)._faulty.begun)
    for handle in {run.handle, *run.makers}:
        for number, _, (found, truth) in _asked(run, handle, begun):
            if found != truth:
                yield f"cache {number} serves {found}, not {truth}"


def _asked(run: Run, handle: str, record: Record) -> t.Iterator[tuple[int, Watched, tuple[object, object]]]:
    """What a browser that has seen ``record`` is served, by each process and by the store."""
    tiered = t.cast("TieredRun", run)
    truth = tiered.found(run.store, handle, record)
    for number, tier in enumerate(tiered._faulty.tiers):
        yield number, tier, (tiered.found(tier, handle, record), truth)


def check_tiers(run: Run, *invariants: t.Callable[[Run], Complaints]) -> None:
    """Check these, and then what holds of the caches."""
    t.cast("TieredRun", run).finish()
    check(
        run,
        *invariants,
        where_it_ended_it_is_over,
        everybody_reads_their_own_writes,
        in_time_everybody_knows_everything,
    )


@pytest.fixture
def tiers(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., None]:
    """Run requests on :class:`Tiers`, made with these arguments."""
    monkeypatch.setattr(logging.getLogger("flask_sessionstore"), "disabled", True)
    monkeypatch.setattr(interleaving, "Run", TieredRun)
    return lambda **options: monkeypatch.setattr(interleaving, "FaultyStore", functools.partial(Tiers, **options))


starts = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
kinds = pytest.mark.parametrize("kind", KINDS, ids=str)


#: What the default run takes; the long one takes all.
SOME = (RENEW, LOG_OUT)


@starts
@pytest.mark.parametrize(
    ("kind", "caches"),
    [
        pytest.param(
            kind, caches, id=f"{kind}-{caches}", marks=() if kind in SOME and caches == 2 else pytest.mark.long
        )
        for kind in KINDS
        for caches in (1, 2)
    ],
)
def test_two_requests(tiers: t.Callable[..., None], start: dict[str, str], kind: Kind, caches: int) -> None:
    """On two processes, and on one, or on two that share a cache."""
    tiers(caches=caches)
    for group in groups(kind, 2):
        for run in every_run(start, group):
            check_tiers(run, nothing_failed, *INVARIANTS)


@pytest.mark.exhaustive
@starts
@kinds
def test_three_requests(tiers: t.Callable[..., None], start: dict[str, str], kind: Kind) -> None:
    """Two on one process, one on another."""
    tiers(caches=2, finely=False)
    for one, other in itertools.combinations_with_replacement(KINDS, 2):
        for run in every_run(start, (one, kind, other)):
            check_tiers(run, nothing_failed, *INVARIANTS)


@pytest.mark.long
@starts
@kinds
@pytest.mark.parametrize("fault", [Fault.COMMAND_LOST, Fault.REPLY_LOST], ids=lambda fault: fault.value)
def test_two_requests_and_one_fault(
    tiers: t.Callable[..., None], start: dict[str, str], kind: Kind, fault: Fault
) -> None:
    """A fault of the store at any one operation of either request."""
    tiers(caches=2)
    for group in groups(kind, 2):
        for request in range(2):
            for operation in itertools.count(1):
                happened = False
                for run in every_run(start, group, {(request, operation): fault}):
                    happened |= run.requests[request].operations + 1 >= operation
                    check_tiers(run, *INVARIANTS)
                if not happened:
                    break


@pytest.mark.long
@starts
@kinds
def test_two_requests_longer_than_tombstones_stand(
    tiers: t.Callable[..., None], start: dict[str, str], kind: Kind
) -> None:
    tiers(caches=2)
    for group in groups(kind, 2):
        for run in every_run(start, (*group, PAUSE)):
            check_tiers(run, nothing_failed, *ALWAYS)


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
def test_many_requests_and_caches_that_fail(tiers: t.Callable[..., None], seed: int) -> None:
    """Three or four requests on two processes, in some order; the caches fail now and then, the store too."""
    chance = random.Random(seed)
    tiers(caches=2)
    for _ in range(300):
        group = chance.choices(KINDS, k=chance.choice((3, 4)))
        places = itertools.product(range(len(group)), range(1, 13))
        faults = {place: chance.choice(WIRE_FAULTS) for place in places if chance.random() < seed % 2 * 0.12}
        run = TieredRun(chance.choice(list(STARTS.values())), group, faults)
        for tier in run._faulty.tiers:
            t.cast("WatchedCache", tier.cache).chance = lambda: chance.random() < 0.2
        while run.waiting:
            run.step(chance.choice(list(run.waiting)))
        check_tiers(run, *(() if faults else (nothing_failed,)), *INVARIANTS)
