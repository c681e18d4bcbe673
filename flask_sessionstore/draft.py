"""Draft: one request's working copy of its session, and what the request did to it. No Flask, store, clock or lock.

A draft starts from a record, or empty. Values stay encoded until they are read. A value that was read and can change in
place is encoded again at the end, and compared with the bytes it was decoded from. The session that views use reads and
writes its draft; the lifecycle stores the changes, and then lets the draft go on from the record that was stored.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import typing as t

from . import codec, signins
from .changes import Changes, State, Update
from .errors import SessionCorrupt, SessionInsertError
from .policy import Policy
from .record import Record

logger = logging.getLogger("flask_sessionstore")

#: Stands for an absent value.
MISSING: t.Any = object()

# A tuple cannot change, but a list or dict inside it can.
_MUTABLE = frozenset({list, dict, set, tuple})


class SessionStatus(enum.Enum):
    """What the end of the request will do with the session. Purged outranks renewed, and renewed outranks changed."""

    UNCHANGED = "unchanged"
    """Nothing is written."""
    CHANGED = "changed"
    """What changed is stored, or an emptied session is deleted."""
    RENEWED = "renewed"
    """It goes on under a new session key."""
    PURGED = "purged"
    """It ends."""


def checked(key: object) -> str:
    """``key`` as a plain str.

    :raises SessionInsertError: if it is not text, or has a lone surrogate.
    """
    if type(key) is str and key.isascii():
        return key
    text = str.__str__(t.cast("str", key)) if issubclass(type(key), str) else None  # isinstance() believes a proxy
    if text is not None and signins.is_unicode(text):
        return text
    what = f"not {type(key).__name__}" if text is None else "with a lone surrogate"
    raise SessionInsertError(f"session keys are text, {what}", path=None, type=type(key))


class Draft:
    """One request's working copy of a session.

    :param policy: the settings that it obeys.
    :param has_body: whether the request has a body, as a request has that a form sends.
    """

    __slots__ = (
        "__weakref__",
        "_has_body",
        "_has_unfaithful",
        "_mutable",
        "_step",
        "_values",
        "accessed",
        "base",
        "before",
        "changes",
        "forced",
        "has_settled",
        "loaded",
        "minded",
        "on_late_touch",
        "on_login",
        "policy",
        "purged",
        "state",
    )

    #: The data as this request sees it, encoded.
    state: State
    #: What this request did.
    changes: Changes
    #: The record it started from, or was last stored as; None for a new session.
    base: Record | None
    #: The data that changes are compared with: the record's, or the data that was imported.
    before: t.Mapping[str, bytes]
    #: Whether the draft was started, by :meth:`start`.
    loaded: bool
    #: As in Flask: whether the request used its session.
    accessed: bool
    #: Whether the session counts as modified even if no value differs.
    forced: bool
    #: Whether the session ends with this request, whatever is written afterwards.
    purged: bool
    #: Whether a key that says who is signed in was written.
    minded: bool
    #: Whether changes were stored, or dropped, already.
    has_settled: bool
    #: Called with the session's source at every use of the session after the response was made; None until then. (The
    #: callable must not hold the source: a cycle would keep the request's objects until the garbage collector runs.)
    on_late_touch: t.Callable[[t.Any], object] | None
    #: Called with the keys that were dropped, because somebody signed in or out.
    on_login: t.Callable[[t.Collection[str]], object] | None

    # Values that were read or set: the value, its bytes at that time, and whether decoding them gives it unchanged.
    _values: dict[str, tuple[t.Any, bytes, bool]]
    # The keys of those that may change in place, in order. (Some of them may have gone from ``_values``.)
    _mutable: dict[str, None]
    # Whether a value was changed in place to one that does not come back as it is.
    _has_unfaithful: bool
    # What this request did about who is signed in; None until :attr:`step` computes it.
    _step: signins.Step | None

    def __init__(self, policy: Policy, has_body: t.Callable[[], bool] = lambda: False) -> None:
        self.policy = policy
        self._has_body = has_body
        self.changes = Changes()
        self.state, self.before, self._values, self._mutable = {}, {}, {}, {}
        self.base = self.on_late_touch = self.on_login = None
        self.loaded = self.accessed = self.forced = self.purged = self.minded = self.has_settled = False
        self._has_unfaithful, self._step = False, signins.Step.NOTHING

    # -- start and restart -----------------------------------------------------------------------------------------

    def start(self, record: Record | None, seed: t.Mapping[str, object] | None = None) -> None:
        """Start from a record; or without a record from ``seed``, the data that another session interface kept."""
        self.loaded = True
        self.base = record
        is_new_data = record is None or record.state is not self.state
        self.state = {} if record is None else dict(record.state)
        if self._values and (is_new_data or self._has_unfaithful):
            self._forget_stale()
        self.before = {} if record is None else record.state
        self.minded, self._step = False, signins.Step.NOTHING
        if seed:
            self._import(seed)

    def _forget_stale(self) -> None:
        """Forget values whose bytes have changed. The others stay the same objects, since a view may hold them."""
        self._values = {
            key: known for key, known in self._values.items() if known[2] and self.state.get(key) == known[1]
        }
        self._has_unfaithful = False

    def _import(self, seed: t.Mapping[str, object]) -> None:
        for key, value in seed.items():
            try:
                self.sow({key: value})
            except SessionInsertError as error:
                where = "under a key that is not text" if error.path is None else f"at {error.path}"
                logger.warning("an imported value %s cannot be kept, and is left out", where)
        self.before = dict(self.state)  # an imported login is not a sign-in

    def sow(self, seed: t.Mapping[str, object]) -> None:
        """Take in data that another interface kept. Flask's own session keeps ``permanent`` among its data.

        :raises SessionInsertError: if a value cannot be kept.
        """
        for key, value in seed.items():
            if key != "_permanent":
                self._keep(checked(key), value, *codec.encode_plain(value, key))
            elif "permanent" not in self.changes.metadata and bool(value) != self.permanent:
                self.changes.metadata["permanent"] = bool(value)

    def settle(self, record: Record | None) -> None:
        """The changes were stored (or dropped): go on from ``record``."""
        self.has_settled = self.has_settled or self.dirty
        self._go_on(record)

    def start_over(self) -> None:
        """The session has ended: go on as a new session."""
        self._values.clear()
        self.settle(None)

    def restart(self, record: Record | None) -> None:
        """Forget the changes, and the values that views hold: start from ``record``."""
        self._values.clear()
        self._go_on(record)

    def _go_on(self, record: Record | None) -> None:
        self.changes = Changes()
        self.forced = False
        self.start(record)

    # -- data ------------------------------------------------------------------------------------------------------

    def read(self, key: t.Any) -> t.Any:
        """The value of ``key``, or :data:`MISSING`.

        :raises SessionCorrupt: if the value cannot be decoded; from then on the key is absent.
        """
        known = self._values.get(key)
        if known is not None:
            return known[0]
        data = self.state.get(key)
        if data is None:
            return MISSING
        try:
            value = codec.decode(data)
        except SessionCorrupt:
            del self.state[key]
            raise
        self._values[key] = (value, data, True)
        if type(value) in _MUTABLE:
            self._mutable[key] = None
        return value

    def write(self, key: str, value: t.Any) -> None:
        """Set a value.

        :raises SessionInsertError: if the value cannot be kept, or would name the owner but is not a valid owner.
        """
        data, faithful = codec.encode_plain(value, key)
        if key in self.policy.watched:
            self._mind_login(key, data)
        self.forced = True
        self._keep(key, value, data, faithful)

    def _keep(self, key: str, value: t.Any, data: bytes, faithful: bool) -> None:
        """Keep a value. An equal value changes nothing, unless this request has changed the key before."""
        before = self.state.get(key)
        if before is None or before != data or key in self.changes:
            self.changes.set(key, data)
            self.state[key] = data
        if faithful:
            self._values[key] = (value, data, True)
            if type(value) in _MUTABLE:
                self._mutable[key] = None
        else:
            self._values.pop(key, None)  # the next read decodes, and so gives what the next request will read

    def remove(self, key: str) -> None:
        """Remove a value.

        :raises KeyError: if the key is absent.
        """
        if key not in self.state:
            raise KeyError(key)
        if key in self.policy.watched:
            self._mind_login(key, None)
        self.forced = True
        self.changes.remove(key)
        del self.state[key]
        self._values.pop(key, None)

    def update(self, key: str, default: t.Any, updater: t.Callable[[t.Any], t.Any], type: t.Any = None) -> None:
        """Set ``key`` to ``updater(value)``, or to ``default`` if it is absent.

        :raises SessionInsertError: if the result cannot be kept.
        :raises SessionGetError: if the old value is not of ``type``.
        """
        self._notice(key)
        update = Update(codec.encode(default, key), updater, type)
        data = update.result(self.state.get(key), key)
        if key in self.policy.watched:
            self._mind_login(key, data)
        self.forced = True
        self.changes.update(key, update)
        self.state[key] = data
        self._values.pop(key, None)

    def clear(self) -> None:
        """Remove all data: the old session is to end."""
        self.forced = True
        self.minded, self._step = True, None
        self.changes.clear()
        self._empty()

    def purge(self) -> None:
        """End the session for good."""
        self.purged = True
        self.base = None
        self.changes.clear()
        self._empty()

    def _empty(self) -> None:
        self.state.clear()
        self._values.clear()

    # -- metadata --------------------------------------------------------------------------------------------------

    def meta(self, name: str, default: t.Any = None) -> t.Any:
        """``permanent``, ``lifetime`` or ``deadline``: as assigned, as in the record, or ``default`` if it is new."""
        if name in self.changes.metadata:
            return self.changes.metadata[name]
        if self.base is None or self.changes.cleared:
            return default
        return getattr(self.base, name)

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser. Only valid once the draft was started."""
        return bool(self.meta("permanent", self.policy.permanent))

    # -- changes within a value ------------------------------------------------------------------------------------

    def notice(self) -> None:
        """Find the values that were changed in place, and add them to the changes.

        :raises SessionInsertError: if a value was changed so that it cannot be kept.
        """
        for key in list(self._mutable):
            self._notice(key)

    def _notice(self, key: str) -> None:
        value, before, _ = self._values.get(key, (None, b"", True))
        if type(value) not in _MUTABLE:
            return
        try:
            data, faithful = codec.encode_plain(value, key)
        except SessionInsertError:
            if codec.canonical(before) is not None:
                raise
            return  # another writer put a value there that cannot be encoded again: it stays as it is
        if data != before and data != codec.canonical(before):  # another writer's bytes may differ, for an equal value
            if key in self.policy.watched:
                self._mind_login(key, data, written=self.changes)
            self.changes.nested(key, data)
            self.state[key] = data
            self._values[key] = (value, data, faithful)
            self._has_unfaithful |= not faithful

    # -- who is signed in ------------------------------------------------------------------------------------------

    def _mind_login(self, key: str, data: bytes | None, written: t.Container[str] = ()) -> None:
        """Note that a key which says who is signed in gets a value, or is removed.

        If that signs somebody in, or the owner out, the keys in SESSION_LOGIN_DROPS are dropped.

        :param data: the new value; None if the key is removed.
        :param written: keys that are not dropped.
        :raises SessionInsertError: if the value would name the owner but is not a valid owner.
        """
        policy, before, signs_in = self.policy, self.state.get(key), False
        if signins.is_affirmed(self.before.get(key), data) and (before is None or self._has_body()):
            self.changes.renewed = True
        if before == data:
            return
        if key in policy.heads:
            found = {
                name: value for name in policy.heads if (value := self.state.get(name)) is not None and name != key
            }
            owner = signins.owner_set_in(policy, found if data is None else {**found, key: data})
            signs_in = owner != self.owner
        self.minded, self._step = True, None
        if not signs_in:  # to remove a user and put the same user back is not a sign-in
            both = {before, self.compared_with.get(key)}
            signs_in = min([signins.compare(known, data) for known in both]) is signins.Step.SIGNS_IN
            if signs_in:
                self._step = signins.Step.SIGNS_IN  # one key is enough
        if signs_in:
            self._drop(policy.login_drops, written)

    def _drop(self, names: t.Collection[str], written: t.Container[str]) -> None:
        for name in names:
            if name not in written:
                self.changes.remove(name)
                self.state.pop(name, None)
                self._values.pop(name, None)
        if self.on_login is not None:
            self.on_login(names)

    @property
    def compared_with(self) -> t.Mapping[str, bytes]:
        """The data with which a sign-in is compared: as loaded, or empty once this request cleared the session."""
        return {} if self.changes.cleared else self.before

    @property
    def owner(self) -> str | None:
        """The owner as this request sees it."""
        return signins.owner_in(self.policy, self.state)

    @property
    def owner_before(self) -> str | None:
        """The owner as it was loaded."""
        return signins.owner_in(self.policy, self.before)

    @property
    def was_somebody(self) -> bool:
        """Whether somebody was signed in in the session as it was loaded."""
        return signins.is_somebody(self.policy, self.before)

    @property
    def is_somebody(self) -> bool:
        """Whether somebody is signed in now."""
        return signins.is_somebody(self.policy, self.state)

    @property
    def changes_owner(self) -> bool:
        """Whether this request gave the session another owner, or removed its owner."""
        return self.minded and self.owner != self.owner_before

    @property
    def step(self) -> signins.Step:
        """What this request did about who is signed in."""
        if self._step is None:
            self._step = signins.step(self.policy, self.compared_with, self.state)
        return self._step

    @property
    def signs_in(self) -> bool:
        """Whether this request signed somebody in."""
        return self.step is signins.Step.SIGNS_IN

    @property
    def signs_out(self) -> bool:
        """Whether this request removed the owner, or cleared a session in which somebody was signed in."""
        if self.changes.cleared:
            return self.was_somebody and not self.is_somebody
        return self.changes_owner and self.owner is None

    # -- what was done ---------------------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether there is something to store. Only valid after :meth:`notice`."""
        return self.forced or bool(self.changes)

    @property
    def moves(self) -> bool:
        """Whether the session goes on under another session key, because of what this request did."""
        return self.changes.renewed or self.changes.cleared or self.step is not signins.Step.NOTHING

    def is_changed(self) -> bool:
        """Whether the end of the request has anything to do."""
        try:
            self.notice()
        except SessionInsertError:
            return True  # the end of the request raises the error again, and says why it cannot be stored
        return self.purged or self.dirty

    def is_unsaved(self) -> bool:
        """Whether something was changed since it was last stored. Metadata alone does not count on a new session."""
        with contextlib.suppress(SessionInsertError):
            self.notice()
        return self.changes.writes or (self.base is not None and bool(self.changes))

    def status(self) -> SessionStatus:
        """What the end of the request will do."""
        is_changed = self.is_changed()  # also notices changes within values
        if self.purged:
            return SessionStatus.PURGED
        goes_on = self.changes.renewed or (self.changes.cleared and self.state)
        if goes_on or self.changes_owner or self.step is not signins.Step.NOTHING:
            return SessionStatus.RENEWED
        return SessionStatus.CHANGED if is_changed else SessionStatus.UNCHANGED
