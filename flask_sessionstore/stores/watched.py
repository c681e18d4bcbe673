"""WatchedStore: a store whose calls are told to somebody: how long each took, and how it ended.

It is made only if somebody wants to know, so that others do not pay for it.
"""

from __future__ import annotations

import inspect
import logging
import time
import typing as t
from datetime import timedelta
from types import MethodType

import msgspec

from ..errors import SessionConflict, SessionCorrupt, SessionGone, StoreUnavailable
from ..key import SessionKey
from ..record import Kind, Record
from .abilities import Entry, OwnerIndex
from .base import ServerSideStore, SessionStore
from .contact import Contact

logger = logging.getLogger("flask_sessionstore")

P = t.ParamSpec("P")
R = t.TypeVar("R")
_Ability = t.TypeVar("_Ability")


class StoreCall(msgspec.Struct, frozen=True):
    """One call of a store. It names no session and no owner."""

    verb: str
    """What was asked: "load", "save", "update", "update_ttl", "delete" or "renew", as requests ask for their session;
    "read", "add", "swap", "drop", "taken" or "end_each", for sessions by their handles; "file", "unfile", "entries" or
    "prune", for the lists of owners.
    """
    seconds: float
    """How long it took, in seconds."""
    ended: str
    """How it ended: "done"; "conflict" (another request wrote first), "gone" (the session has ended), "corrupt" (its
    bytes cannot be read), "unavailable" (the store failed, or was not asked during a pause), "failed" (anything else).
    """


#: Called after every call of the store, in the request that made it. What it raises is logged.
OnStoreCall = t.Callable[[StoreCall], object]

# Errors, and the words for them. The first that fits counts.
_ENDS: tuple[tuple[type[BaseException], str], ...] = (
    (SessionConflict, "conflict"),
    (SessionGone, "gone"),
    (SessionCorrupt, "corrupt"),
    (StoreUnavailable, "unavailable"),
    (BaseException, "failed"),
)


def _end_of(error: BaseException) -> str:
    """The word for how a call ended that raised ``error``."""
    return next(word for kind, word in _ENDS if isinstance(error, kind))


def _quickly_called(hook: OnStoreCall) -> OnStoreCall:
    """``hook``. To call an object takes twice as long as to call its method."""
    call = inspect.getattr_static(type(hook), "__call__")
    return MethodType(call, hook) if inspect.isfunction(call) else hook


class Teller:
    """Makes calls, and tells about them."""

    def __init__(self, hooks: t.Sequence[OnStoreCall]) -> None:
        self._hooks = [_quickly_called(hook) for hook in hooks]

    def call(self, verb: str, call: t.Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What ``call(*args, **kwargs)`` returns or raises."""
        started, ended = time.perf_counter(), "done"
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            ended = _end_of(error)
            raise
        finally:
            self.tell(verb, started, ended)

    def tell(self, verb: str, started: float, ended: str) -> None:
        """Tell of a call that has ended now.

        :param started: what ``time.perf_counter`` said when it began.
        """
        told = StoreCall(verb, time.perf_counter() - started, ended)
        for hook in self._hooks:
            try:
                hook(told)
            except Exception:
                logger.exception("on_store_call failed")


def watched(store: SessionStore, hooks: t.Sequence[OnStoreCall]) -> WatchedStore:
    """``store``, whose calls are told to ``hooks``."""
    return WatchedServerSideStore(store, hooks) if isinstance(store, ServerSideStore) else WatchedStore(store, hooks)


class WatchedStore(SessionStore):
    """A store that passes all calls on to another store, and tells about them.

    The three calls of most requests do by themselves what :meth:`Teller.call` does, since ``*args`` and ``**kwargs``
    would cost as much as all the rest.
    """

    def __init__(self, store: SessionStore, hooks: t.Sequence[OnStoreCall]) -> None:
        self.store = store
        self.teller = Teller(hooks)
        self.key_class, self.needs_seen = store.key_class, store.needs_seen  # type: ignore[misc]  # of this object
        self.now = store.now  # type: ignore[method-assign]  # asked often
        self._abilities: dict[t.Any, t.Any] = {}

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def contact(self) -> Contact | None:  # type: ignore[override]  # a plain attribute in SessionStore
        return self.store.contact

    def ability(self, kind: t.Callable[..., _Ability]) -> _Ability | None:
        if kind not in self._abilities:
            found = self.store.ability(kind)
            watched = isinstance(found, OwnerIndex) and kind is OwnerIndex
            self._abilities[kind] = _WatchedIndex(t.cast("OwnerIndex", found), self.teller) if watched else found
        return t.cast("_Ability | None", self._abilities[kind])

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        started, ended = time.perf_counter(), "done"
        try:
            return self.store.load(key, seen=seen)
        except BaseException as error:
            ended = _end_of(error)
            raise
        finally:
            self.teller.tell("load", started, ended)

    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        started, ended = time.perf_counter(), "done"
        try:
            return self.store.save(record, ttl, key=key)
        except BaseException as error:
            ended = _end_of(error)
            raise
        finally:
            self.teller.tell("save", started, ended)

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        started, ended = time.perf_counter(), "done"
        try:
            return self.store.update(key, record, ttl, replaces=replaces)
        except BaseException as error:
            ended = _end_of(error)
            raise
        finally:
            self.teller.tell("update", started, ended)

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        return self.teller.call("update_ttl", self.store.update_ttl, key, ttl)

    def delete(
        self, key: SessionKey, *, replaces: bytes | None = None, emptied: bool = False, owner: str | None = None
    ) -> None:
        self.teller.call("delete", self.store.delete, key, replaces=replaces, emptied=emptied, owner=owner)

    def renew(
        self,
        key: SessionKey,
        record: Record,
        ttl: timedelta,
        *,
        replaces: bytes | None,
        kind: Kind = "renewed",
        to: SessionKey | None = None,
        owner: str | None = None,
    ) -> SessionKey:
        return self.teller.call(
            "renew", self.store.renew, key, record, ttl, replaces=replaces, kind=kind, to=to, owner=owner
        )


class WatchedServerSideStore(WatchedStore, ServerSideStore):
    """As :class:`WatchedStore`. What goes by handles is told by its primitives."""

    store: ServerSideStore

    def __init__(self, store: ServerSideStore, hooks: t.Sequence[OnStoreCall]) -> None:
        WatchedStore.__init__(self, store, hooks)
        ServerSideStore.__init__(self, prefix=store.prefix)
        self.forgets = store.forgets

    @property
    def seal(self) -> bool | t.Literal["required"]:  # type: ignore[override]
        return self.store.seal

    def read(self, handle: str) -> bytes | None:
        return self.teller.call("read", self.store.read, handle)

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        return self.teller.call("add", self.store.add, handle, data, ttl)

    def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
        return self.teller.call("swap", self.store.swap, handle, data, ttl, replaces=replaces)

    def drop(self, handle: str) -> None:
        self.teller.call("drop", self.store.drop, handle)

    def taken(self, names: t.Sequence[str]) -> set[str]:
        return self.teller.call("taken", self.store.taken, names)

    def end_each(self, revisions: t.Mapping[str, bytes], owner: str) -> list[str]:
        return self.teller.call("end_each", self.store.end_each, revisions, owner)


class _WatchedIndex(OwnerIndex):
    def __init__(self, index: OwnerIndex, teller: Teller) -> None:
        self._index, self._teller = index, teller

    def file(self, owner: str, handle: str) -> None:
        self._teller.call("file", self._index.file, owner, handle)

    def unfile(self, owner: str, *handles: str) -> None:
        self._teller.call("unfile", self._index.unfile, owner, *handles)

    def entries(self, owner: str) -> list[Entry]:
        return self._teller.call("entries", self._index.entries, owner)

    def prune(self, limit: int | None = None) -> int:
        return self._teller.call("prune", self._index.prune, limit)
