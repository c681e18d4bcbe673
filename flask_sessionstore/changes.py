"""What one request did to its session, as a log that can be applied again to a newer record.

Two requests that write at once both load revision 1. The first stores revision 2. The store refuses the second, which
applies its changes to revision 2 and stores revision 3. The log is kept per key:

* a plain set always applies: the later wins;
* a removal wins over a nested change of the value that it removed;
* an updater runs again, on the newest value;
* ``clear`` empties whatever is there when it is applied.
"""

from __future__ import annotations

import typing as t

import msgspec

from . import codec
from .errors import SessionCorrupt

State = dict[str, bytes]


class Set(msgspec.Struct, frozen=True):
    """``session[key] = value``."""

    data: bytes

    def apply(self, state: State, key: str) -> None:
        state[key] = self.data


class Remove(msgspec.Struct, frozen=True):
    """``del session[key]``."""

    def apply(self, state: State, key: str) -> None:
        state.pop(key, None)


class Nested(msgspec.Struct, frozen=True):
    """``session[key].append(...)``: applies only while the key exists."""

    data: bytes

    def apply(self, state: State, key: str) -> None:
        if key in state:
            state[key] = self.data


class Update(msgspec.Struct, frozen=True):
    """``session.update_or(key, default, updater)``."""

    default: bytes
    updater: t.Callable[[t.Any], t.Any]
    type: t.Any

    def apply(self, state: State, key: str) -> None:
        state[key] = self.result(state.get(key), key)

    def result(self, data: bytes | None, key: str) -> bytes:
        """The bytes after this update, where the value is ``data`` now; None: the key is absent."""
        if data is None:
            return self.default
        try:
            old = codec.decode(data)
        except SessionCorrupt:  # counts as absent
            return self.default
        if self.type is not None:
            old = codec.convert(old, self.type, key)
        return codec.encode(self.updater(old), key)


Change = Set | Remove | Nested | Update
# What was done to one key, in order. Nearly always it is one plain set: then it is only the bytes.
_Done = bytes | list[Change]


class Changes:
    """The log of one request."""

    __slots__ = ("_log", "cleared", "metadata", "renewed")

    def __init__(self) -> None:
        self._log: dict[str, _Done] = {}
        #: Whether the session was emptied first.
        self.cleared = False
        #: Whether a new session key was asked for.
        self.renewed = False
        #: Those of ``permanent``, ``lifetime`` and ``deadline`` that were assigned.
        self.metadata: dict[str, t.Any] = {}

    def __bool__(self) -> bool:
        return bool(self._log or self.cleared or self.renewed or self.metadata)

    def __contains__(self, key: object) -> bool:
        return key in self._log

    def __iter__(self) -> t.Iterator[str]:
        """The keys that were written or removed."""
        return iter(self._log)

    @property
    def writes(self) -> bool:
        """Whether any data was written or removed."""
        return bool(self._log)

    def set(self, key: str, data: bytes) -> None:
        """Log a plain set. It replaces earlier changes of the key, except a removal, which moves the key to the end."""
        if isinstance(self._log.get(key), list):
            removed = [change for change in self._changes_after_removal(key) if isinstance(change, Remove)]
            self._log[key] = [*removed[-1:], Set(data)]
        else:
            self._log[key] = data

    def remove(self, key: str) -> None:
        """Log a removal."""
        self._log.pop(key, None)
        self._log[key] = [Remove()]

    def update(self, key: str, update: Update) -> None:
        """Log a call of an updater."""
        self._log[key] = [*self._changes_after_removal(key), update]

    def _changes_after_removal(self, key: str) -> list[Change]:
        """The changes of ``key`` so far. After a removal, the next change adds the key at the end, as in a dict."""
        changes = _listed(self._log.get(key, []))
        if changes and isinstance(changes[-1], Remove):
            del self._log[key]
        return changes

    def nested(self, key: str, data: bytes) -> None:
        """Log a change within the value of ``key``. If this request has set the value, the change joins that set."""
        changes = self._log[key] = _listed(self._log.get(key, []))
        last = changes.pop() if changes and isinstance(changes[-1], (Set, Nested)) else None
        changes.append(Set(data) if isinstance(last, Set) else Nested(data))

    def clear(self) -> None:
        """Log a new start: all earlier changes are forgotten, also those of metadata."""
        self._log.clear()
        self.metadata.clear()
        self.cleared = True

    def apply(self, state: t.Mapping[str, bytes]) -> State:
        """``state`` with these changes made.

        :raises SessionInsertError, SessionGetError: if an updater no longer fits the value it finds.
        """
        return self._apply({} if self.cleared else dict(state), skip=())

    def own(self) -> State:
        """Only what this request wrote itself: plain sets, and updates applied to their defaults. No loaded data."""
        return self._apply({}, skip=(Nested,))

    def _apply(self, state: State, skip: tuple[type, ...]) -> State:
        for key, changes in self._log.items():
            for change in _listed(changes):
                if not isinstance(change, skip):
                    change.apply(state, key)
        return state


def _listed(done: _Done) -> list[Change]:
    return [Set(done)] if isinstance(done, bytes) else done
