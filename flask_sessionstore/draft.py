"""Draft: what one request has of its session, and what it did to it. No Flask, no store, no clock, no lock.

It starts from a record, or from nothing. Values stay encoded until they are read; each that was read and can change in
place is encoded again at the end and compared with the bytes it came from. A session, which views touch, reads and
writes its draft; the lifecycle stores what was changed, and lets it go on from what came of that.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import types
import typing as t

from . import codec, signins
from .changes import Changes, State, Update
from .errors import SessionCorrupt, SessionInsertError
from .policy import Policy
from .record import Record

logger = logging.getLogger("flask_sessionstore")

#: Stands for an absent value.
MISSING: t.Any = object()

# A tuple cannot change, but what lies in it can.
_MUTABLE = frozenset({list, dict, set, tuple})


class SessionStatus(enum.Enum):
    """What the end of the request will do about the session. Purged goes over renewed, renewed over changed."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    RENEWED = "renewed"
    PURGED = "purged"


def checked(key: object) -> str:
    """A key as plain text.

    :raises SessionInsertError: if it is none.
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
    :param has_body: whether the request has a body, as one has that was sent by a form.
    """

    # How every draft begins. What stands here, and not in the constructor, costs a request nothing.

    #: The record it started from, or was last stored as; None if it is a new session.
    base: Record | None = None
    #: What it started from, which its changes are compared with: the record's data, or what came from elsewhere.
    before: t.Mapping[str, bytes] = types.MappingProxyType({})
    #: Whether it is known what it starts from.
    loaded = False
    #: As in Flask: whether the request touched its session.
    accessed = False
    #: Whether it counts as modified though nothing may differ.
    forced = False
    #: Whether the session ends with this request, whatever is written yet.
    purged = False
    #: Whether a key was written that says who is signed in.
    minded = False
    #: Whether changes were stored, or dropped, already.
    has_settled = False
    #: Called with the session's source at every touch from when the response was made; None until then. (What it is
    #: called with it must not hold: a request's objects would wait for the garbage collector.)
    on_late_touch: t.Callable[[t.Any], object] | None = None
    #: Told which keys were dropped, since somebody signed in or out.
    on_login: t.Callable[[t.Collection[str]], object] | None = None

    # What this request did about who is signed in; None as long as that is not found out.
    _step: signins.Step | None = signins.Step.NOTHING

    def __init__(self, policy: Policy, has_body: t.Callable[[], bool] = lambda: False) -> None:
        self.policy = policy
        #: The data as this request has them, encoded.
        self.state: State = {}
        #: What this request did.
        self.changes = Changes()
        self._has_body = has_body
        # What was read or set: the value, its bytes at that time, and whether it comes back from them as it is.
        self._values: dict[str, tuple[t.Any, bytes, bool]] = {}

    # -- where it starts -------------------------------------------------------------------------------------------

    def start(self, record: Record | None, seed: t.Mapping[str, object] | None = None) -> None:
        """Start from a record; without one, from what another session interface has kept, if anything."""
        self.loaded = True
        self.base = record
        self.state = {} if record is None else dict(record.state)
        # What views hold stays what the session holds, as far as it is unchanged.
        if self._values:
            self._values = {
                key: known for key, known in self._values.items() if known[2] and self.state.get(key) == known[1]
            }
        self.before = {} if record is None else record.state
        self.minded, self._step = False, signins.Step.NOTHING
        if seed:
            self._import(seed)

    def _import(self, seed: t.Mapping[str, object]) -> None:
        for key, value in seed.items():
            try:
                self.sow({key: value})
            except SessionInsertError as error:
                where = "under a key that is not text" if error.path is None else f"at {error.path}"
                logger.warning("what was imported %s cannot be kept, and is left out", where)
        self.before = dict(self.state)  # who was signed in elsewhere does not sign in here

    def sow(self, seed: t.Mapping[str, object]) -> None:
        """Take in data from elsewhere. Flask's own session keeps ``permanent`` among its data.

        :raises SessionInsertError: if some of it cannot be kept.
        """
        for key, value in seed.items():
            if key != "_permanent":
                self._keep(checked(key), value, *codec.encode_plain(value, key))
            elif "permanent" not in self.changes.metadata and bool(value) != self.permanent:
                self.changes.metadata["permanent"] = bool(value)

    def settle(self, record: Record | None) -> None:
        """What was changed is stored (or dropped): go on from ``record``."""
        self.has_settled = self.has_settled or self.dirty
        self._go_on(record)

    def start_over(self) -> None:
        """What was the session has ended: go on as a new one."""
        self._values.clear()
        self.settle(None)

    def restart(self, record: Record | None) -> None:
        """Forget what was changed, and what views hold: start from ``record``."""
        self._values.clear()
        self._go_on(record)

    def _go_on(self, record: Record | None) -> None:
        self.changes = Changes()
        self.forced = False
        self.start(record)

    # -- data ------------------------------------------------------------------------------------------------------

    def read(self, key: object) -> t.Any:
        """The value of ``key``, or :data:`MISSING`.

        :raises SessionCorrupt: if it cannot be decoded; from then on it is absent.
        """
        name = t.cast("str", key)
        known = self._values.get(name)
        if known is not None:
            return known[0]
        data = self.state.get(name)
        if data is None:
            return MISSING
        try:
            value = codec.decode(data)
        except SessionCorrupt:
            del self.state[name]
            raise
        self._values[name] = (value, data, True)
        return value

    def write(self, key: str, value: t.Any) -> None:
        """Set a value.

        :raises SessionInsertError: if it cannot be kept, or can be no owner's name.
        """
        data, faithful = codec.encode_plain(value, key)
        if key in self.policy.watched:
            self._mind_login(key, data)
        self.forced = True
        self._keep(key, value, data, faithful)

    def _keep(self, key: str, value: t.Any, data: bytes, faithful: bool) -> None:
        """To write an equal value changes nothing, unless this request has changed the key before."""
        if self.state.get(key) != data or key in self.changes:
            self.changes.set(key, data)
            self.state[key] = data
        if faithful:
            self._values[key] = (value, data, True)
        else:
            self._values.pop(key, None)  # the next read gives what the next request will read

    def remove(self, key: str) -> None:
        """Remove a value.

        :raises KeyError: if it is absent.
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
        """Set what ``updater`` makes of the value of ``key``, or ``default`` if it is absent.

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
        """Empty it: what was the session is to end."""
        self.forced = True
        self.minded, self._step = True, None
        self.changes.clear()
        self._empty()

    def purge(self) -> None:
        """End it for good."""
        self.purged = True
        self.base = None
        self.changes.clear()
        self._empty()

    def _empty(self) -> None:
        self.state.clear()
        self._values.clear()

    # -- metadata --------------------------------------------------------------------------------------------------

    def meta(self, name: str, default: t.Any = None) -> t.Any:
        """``permanent``, ``lifetime`` or ``deadline``: as assigned, or as it was; in a new session the default."""
        if name in self.changes.metadata:
            return self.changes.metadata[name]
        if self.base is None or self.changes.cleared:
            return default
        return getattr(self.base, name)

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser, once it is known what the session starts from."""
        return bool(self.meta("permanent", self.policy.permanent))

    # -- changes within a value ------------------------------------------------------------------------------------

    def notice(self) -> None:
        """Log the values that were changed in place.

        :raises SessionInsertError: if one was changed into what cannot be kept.
        """
        for key, known in list(self._values.items()):
            if type(known[0]) in _MUTABLE:
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
            return  # somebody else wrote it into the store: it stays as it is
        if data != before and data != codec.canonical(before):  # nor is it a change that somebody else chose his bytes
            if key in self.policy.watched:
                self._mind_login(key, data, written=self.changes)
            self.changes.nested(key, data)
            self.state[key] = data
            self._values[key] = (value, data, faithful)

    # -- who is signed in ------------------------------------------------------------------------------------------

    def _mind_login(self, key: str, data: bytes | None, written: t.Container[str] = ()) -> None:
        """If this value of ``key`` signs somebody in, or the owner out: drop what must not survive that.

        :param written: what is not dropped.
        :raises SessionInsertError: if it can be no owner's name.
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
        if not signs_in:  # who is taken out and put back in has not signed in
            both = {before, self.compared_with.get(key)}
            signs_in = min(signins.compare(known, data) for known in both) is signins.Step.SIGNS_IN
        self.minded, self._step = True, None
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
        """What was there before this request, or before the new start that it made."""
        return {} if self.changes.cleared else self.before

    @property
    def owner(self) -> str | None:
        """The owner as this request has it."""
        return signins.owner_in(self.policy, self.state)

    @property
    def owner_before(self) -> str | None:
        """The owner as it was loaded."""
        return signins.owner_in(self.policy, self.before)

    @property
    def was_somebody(self) -> bool:
        """Whether somebody was signed in in what was loaded."""
        return signins.is_somebody(self.policy, self.before)

    @property
    def is_somebody(self) -> bool:
        """Whether somebody is signed in now."""
        return signins.is_somebody(self.policy, self.state)

    @property
    def changes_owner(self) -> bool:
        """Whether this request gave the session another owner, or took it from the one it had."""
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
        """Whether this request took the session from its owner, or from whoever was signed in by clearing it."""
        if self.changes.cleared:
            return self.was_somebody and not self.is_somebody
        return self.changes_owner and self.owner is None

    # -- what was done ---------------------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether there is something to store, once changes within values are noticed."""
        return self.forced or bool(self.changes)

    @property
    def moves(self) -> bool:
        """Whether what this request did goes on under another key."""
        return self.changes.renewed or self.changes.cleared or self.step is not signins.Step.NOTHING

    def is_changed(self) -> bool:
        """Whether the end of the request has anything to do."""
        try:
            self.notice()
        except SessionInsertError:
            return True  # and the end of the request says why it cannot be stored
        return self.purged or self.dirty

    def is_unsaved(self) -> bool:
        """Whether something was changed since it was last stored. Metadata alone does not count on a new session."""
        with contextlib.suppress(SessionInsertError):
            self.notice()
        return self.changes.writes or (self.base is not None and bool(self.changes))

    def status(self) -> SessionStatus:
        """What the end of the request will do."""
        is_changed = self.is_changed()  # and what changed within a value is noticed
        if self.purged:
            return SessionStatus.PURGED
        goes_on = self.changes.renewed or (self.changes.cleared and self.state)
        if goes_on or self.changes_owner or self.step is not signins.Step.NOTHING:
            return SessionStatus.RENEWED
        return SessionStatus.CHANGED if is_changed else SessionStatus.UNCHANGED
