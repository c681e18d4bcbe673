"""For applications: a store that fails on demand."""

from __future__ import annotations

import threading
import typing as t
from datetime import timedelta

from ..errors import StoreUnavailable
from ..stores.base import Counts, Entry, OwnerIndex, ServerSideStore

_R = t.TypeVar("_R")
_Ability = t.TypeVar("_Ability")


class FaultyStore(ServerSideStore):
    """A store that passes all calls on to another store, and fails when told to.

    ::

        store = FaultyStore(MemoryStore())
        app.config["SESSION_STORE"] = store
        store.fail("swap")          # the next write to a known session fails, and does not reach the store
        store.lose_reply("swap")    # the next such write is stored, but fails all the same
        store.hang("read")          # the next read waits until heal(), then fails as after a time-out
        store.fail(times=None)      # every call fails until heal()

    :param store: the store that gets the calls, and whose clock is used.
    """

    def __init__(self, store: ServerSideStore) -> None:
        super().__init__(prefix=store.prefix)
        self.store = store
        """The store that gets the calls."""
        self.clock = store.now
        self.calls: list[str] = []
        """The primitives called so far, in order."""
        self.hanging = threading.Event()
        """Set while a call hangs: a test waits for it before it goes on."""
        self._plans: list[_Plan] = []
        self._healed = threading.Event()

    def fail(self, operation: str | None = None, *, times: int | None = 1) -> None:
        """Let the next calls raise :exc:`~flask_sessionstore.StoreUnavailable` without reaching the store.

        :param operation: "read", "add", "swap", "drop"; "file", "unfile" and "entries" of an index; "count"; None: any.
        :param times: how many calls fail; None: all until :meth:`heal`.
        """
        self._plans.append(_Plan("fail", operation, times))

    def lose_reply(self, operation: str | None = None, *, times: int | None = 1) -> None:
        """Let the next calls reach the store, and then raise :exc:`~flask_sessionstore.StoreUnavailable`."""
        self._plans.append(_Plan("lose", operation, times))

    def hang(self, operation: str | None = None, *, times: int | None = 1) -> None:
        """Let the next calls wait until :meth:`heal`, then raise :exc:`~flask_sessionstore.StoreUnavailable`."""
        self._healed.clear()
        self._plans.append(_Plan("hang", operation, times))

    def heal(self) -> None:
        """Let everything work again. Calls that hang go on."""
        self._plans.clear()
        self._healed.set()

    def read(self, handle: str) -> bytes | None:
        return self.pass_on("read", lambda: self.store.read(handle))

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self.pass_on("add", lambda: self.store.add(handle, data, ttl))

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self.pass_on("swap", lambda: self.store.swap(handle, data, ttl, replaces=replaces))

    def drop(self, handle: str) -> None:
        self.pass_on("drop", lambda: self.store.drop(handle))

    def ability(self, kind: t.Callable[..., _Ability]) -> _Ability | None:
        """The store's abilities. The lists of owners, and counting, fail as well when told to."""
        found = self.store.ability(kind)
        if isinstance(found, OwnerIndex) and kind is OwnerIndex:
            return t.cast("_Ability", _FaultyIndex(self, found))
        if isinstance(found, Counts) and kind is Counts:
            return t.cast("_Ability", _FaultyCounts(self, found))
        return found

    def pass_on(self, operation: str, call: t.Callable[[], _R]) -> _R:
        """The result of ``call``, unless ``operation`` is to fail now."""
        self.calls.append(operation)
        plan = next((plan for plan in self._plans if plan.takes(operation)), None)
        if plan is None:
            return call()
        if plan.fault == "lose":
            call()
        elif plan.fault == "hang":
            self.hanging.set()
            self._healed.wait()
            self.hanging.clear()
        raise StoreUnavailable(f"FaultyStore was told to {plan.fault} ({operation})")


class _FaultyIndex(OwnerIndex):
    def __init__(self, store: FaultyStore, index: OwnerIndex) -> None:
        self._store, self._index = store, index

    def file(self, owner: str, handle: str) -> None:
        self._store.pass_on("file", lambda: self._index.file(owner, handle))

    def unfile(self, owner: str, *handles: str) -> None:
        self._store.pass_on("unfile", lambda: self._index.unfile(owner, *handles))

    def entries(self, owner: str) -> list[Entry]:
        return self._store.pass_on("entries", lambda: self._index.entries(owner))

    def prune(self, limit: int | None = None) -> int:
        return self._index.prune(limit)


class _FaultyCounts(Counts):
    def __init__(self, store: FaultyStore, counts: Counts) -> None:
        self._store, self._counts = store, counts

    def count(self) -> int:
        return self._store.pass_on("count", self._counts.count)


class _Plan:
    def __init__(self, fault: str, operation: str | None, times: int | None) -> None:
        self.fault, self._operation, self._times = fault, operation, times

    def takes(self, operation: str) -> bool:
        if self._operation not in (None, operation) or self._times == 0:
            return False
        if self._times is not None:
            self._times -= 1
        return True
