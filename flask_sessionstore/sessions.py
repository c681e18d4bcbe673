"""Session: what views touch. A mapping that loads at the first touch and remembers what was done to it.

Values stay encoded until they are read; each that was read and can change in place is encoded again at the end and
compared with the bytes it came from. Everything that needs the store is asked of the session's source (see
``lifecycle``).
"""

from __future__ import annotations

import contextlib
import enum
import logging
import sys
import threading
import types
import typing as t
from datetime import UTC, datetime, timedelta
from itertools import chain

from flask import current_app, g, has_app_context
from flask.sessions import SessionMixin

from . import codec, signins
from .changes import Changes, Update
from .errors import SessionCorrupt, SessionError, SessionInsertError
from .policy import Rules
from .record import Record

if t.TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

logger = logging.getLogger("flask_sessionstore")

T = t.TypeVar("T")
D = t.TypeVar("D")

_MILLISECOND = timedelta(milliseconds=1)  # what a record keeps of a span of time
# A tuple cannot change, but what lies in it can.
_MUTABLE = frozenset({list, dict, set, tuple})
# What stands for an absent value, and for a default that was not given.
_MISSING: t.Any = object()
_REQUIRED: t.Any = object()


class SessionStatus(enum.Enum):
    """What the end of the request will do about the session. Purged goes over renewed, renewed over changed."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    RENEWED = "renewed"
    PURGED = "purged"


class Source(t.Protocol):
    """What a session asks of the lifecycle it belongs to."""

    rules: Rules

    def load(self) -> Record | None:
        """The record this request's session starts from; None for a new session."""

    def seed(self) -> t.Mapping[str, object] | None:
        """Data to start a new session with; None if there is none."""

    def known_permanent(self) -> bool | None:
        """``permanent`` as the browser's token has it, or what is to be imported; None without either. Never loads."""

    def has_body(self) -> bool:
        """Whether the request has a body, as one has that was sent by a form."""

    def handle(self) -> str | None:
        """The handle under which the session is stored."""

    def save(self, session: Session) -> None:
        """Write what changed, now."""

    def reload(self) -> Record | None:
        """The newest record."""


def _checked(key: object) -> str:
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


def _pairs(other: t.Any) -> t.Iterable[tuple[t.Any, t.Any]]:
    """Keys and values of what ``dict.update`` takes."""
    if isinstance(other, t.Mapping):
        return other.items()
    # What has keys() need not iterate over them.
    return ((key, other[key]) for key in other.keys()) if hasattr(other, "keys") else other  # noqa: SIM118


def _is_lifetime(value: object) -> bool:
    return value is None or (isinstance(value, timedelta) and value >= timedelta(seconds=1))


def _is_moment(value: object) -> bool:
    return value is None or (isinstance(value, datetime) and value.utcoffset() is not None)


def _in_utc(moment: datetime) -> datetime:
    """What lies beyond the years 1 to 9999 there is their first moment, or their last."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if moment.year > 1 else datetime.min.replace(tzinfo=UTC)


class Session(SessionMixin):
    """A server-side session, as ``flask.session`` gives it to views.

    Every method that reads or writes data loads the session if need be, and so may raise
    :exc:`~flask_sessionstore.StoreUnavailable`.

    :param initial: the data of a free-standing session, which belongs to no request: for unit tests.
    """

    accessed = False

    _loaded = False
    _record: Record | None = None
    _forced = False
    _purged = False
    _warned = False
    # Whether changes were settled already: once the response was made these count as well.
    _has_settled = False
    # Called at every touch from when the response was made; None until then.
    _on_late_touch: t.Callable[[Session], None] | None = None
    # What was loaded, or came from elsewhere.
    _before: t.Mapping[str, bytes] = types.MappingProxyType({})
    # Whether a key was written that says who is signed in, and what that came to, once it was found out.
    _minded = False
    _step_known: signins.Step | None = None

    def __init__(self, initial: t.Mapping[str, t.Any] | None = None) -> None:
        if initial is not None and not isinstance(initial, t.Mapping):
            raise TypeError("Session(...) takes a mapping. To give an application sessions, write SessionManager(app).")
        self._start(_FreeStanding())
        self._loaded = True
        self._sow(initial or {})
        self._changes = Changes()

    @classmethod
    def _of(cls, source: Source) -> Session:
        """The session of one request; loads nothing."""
        session = cls.__new__(cls)
        session._start(source)
        return session

    def _start(self, source: Source) -> None:
        self._source = source
        self._lock = threading.RLock()
        self._state: dict[str, bytes] = {}
        # What was read or set: the value, its bytes at that time, and whether it comes back from them as it is.
        self._values: dict[str, tuple[t.Any, bytes, bool]] = {}
        self._changes = Changes()

    # -- loading ---------------------------------------------------------------------------------------------------

    def _touch(self) -> None:
        """Load the session if this is the first touch. To be called under the lock."""
        self.accessed = True
        if self._on_late_touch is not None:
            self._on_late_touch(self)
        if not self._loaded and not self._purged:
            record = self._source.load()
            seed = self._source.seed() if record is None else None  # may raise: nothing is adopted then
            self._adopt(record)
            self._import(seed or {})

    def _tell_if_late(self) -> None:
        if self._on_late_touch is not None:
            self._on_late_touch(self)

    def _sow(self, seed: t.Mapping[str, object]) -> None:
        """Start with data from elsewhere. Flask's own session keeps ``permanent`` among its data."""
        for key, value in seed.items():
            if key != "_permanent":
                self._keep(_checked(key), value, *codec.encode_plain(value, key))
            elif "permanent" not in self._changes.metadata:
                self.permanent = bool(value)

    def _import(self, seed: t.Mapping[str, object]) -> None:
        """Start with what another session interface has kept: as much of it as can be kept here."""
        for key, value in seed.items():
            try:
                self._sow({key: value})
            except SessionInsertError as error:
                where = "under a key that is no text" if error.path is None else f"at {error.path}"
                logger.warning("what was imported %s cannot be kept, and is left out", where)
        if seed:  # who was signed in elsewhere does not sign in here
            self._before = dict(self._state)

    def _adopt(self, record: Record | None) -> None:
        self._loaded = True
        self._record = record
        self._state = {} if record is None else dict(record.state)
        # What views hold stays what the session holds, as far as it is unchanged.
        if self._values:
            self._values = {
                key: known for key, known in self._values.items() if known[2] and self._state.get(key) == known[1]
            }
        self._before = {} if record is None else record.state
        self._minded, self._step_known = False, None

    def _settle(self, record: Record | None) -> None:
        """The changes are stored (or dropped): go on from ``record``."""
        self._has_settled = self._has_settled or self._forced or bool(self._changes)
        self._go_on(record)

    def _go_on(self, record: Record | None) -> None:
        """As if nothing was changed yet."""
        self._changes = Changes()
        self._forced = False
        self._adopt(record)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, key: object) -> t.Any:
        """The value of ``key``, or _MISSING. One that cannot be decoded is as good as absent."""
        self._touch()
        known = self._values.get(t.cast("str", key))
        if known is not None:
            return known[0]
        data = self._state.get(t.cast("str", key))
        if data is None:
            return _MISSING
        try:
            value = codec.decode(data)
        except SessionCorrupt:
            logger.warning("session %s: a stored value cannot be decoded and is left out", self._short())
            del self._state[t.cast("str", key)]
            return _MISSING
        self._values[t.cast("str", key)] = (value, data, True)
        return value

    def __getitem__(self, key: str) -> t.Any:
        with self._lock:
            value = self._read(key)
            if value is _MISSING:
                raise KeyError(key)
            return value

    def get(self, key: str, default: t.Any = None) -> t.Any:
        """The value of ``key``; ``default`` if it is absent."""
        with self._lock:
            value = self._read(key)
            return default if value is _MISSING else value

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return self._read(key) is not _MISSING

    def __iter__(self) -> t.Iterator[str]:
        with self._lock:
            self._touch()
            return iter([key for key in list(self._state) if self._read(key) is not _MISSING])

    def __reversed__(self) -> t.Iterator[str]:
        return reversed(list(self))

    def __len__(self) -> int:
        with self._lock:
            self._touch()
            return len(self._state)

    @t.overload
    def get_as(self, key: str, type: type[T]) -> T | None: ...
    @t.overload
    def get_as(self, key: str, type: type[T], default: D) -> T | D: ...
    @t.overload
    def get_as(self, key: str, type: t.Any, default: t.Any = None) -> t.Any: ...

    def get_as(self, key: str, type: t.Any, default: t.Any = None) -> t.Any:
        """The value of ``key``, checked and converted as ``type``: int, a dataclass, ``list[int]`` ...

        :param default: returned if the key is absent, and only then.
        :raises SessionGetError: if the value does not fit.
        """
        with self._lock:
            value = self._read(key)
            return default if value is _MISSING else codec.convert(value, type, key)

    def entries(self) -> t.Mapping[str, t.Any]:
        """All keys and values, read-only."""
        with self._lock:
            return types.MappingProxyType(self.copy())

    def copy(self) -> dict[str, t.Any]:
        """A plain dict of all keys and values."""
        with self._lock:
            return {key: value for key in self if (value := self._read(key)) is not _MISSING}

    def items(self) -> t.ItemsView[str, t.Any]:
        """As of :meth:`copy`."""
        return self.copy().items()

    def values(self) -> t.ValuesView[t.Any]:
        """As of :meth:`copy`."""
        return self.copy().values()

    def __or__(self, other: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        return self.copy() | dict(other)

    def __ror__(self, other: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        return dict(other) | self.copy()

    def __ior__(self, other: t.Mapping[str, t.Any]) -> t.Self:
        self.update(other)
        return self

    # -- writing ---------------------------------------------------------------------------------------------------

    def insert(self, key: str, value: object) -> None:
        """Keep ``value`` under ``key``, as ``session[key] = value`` does.

        :raises SessionInsertError: if the value, or a part of it, cannot be kept; ``path`` says which.
        """
        self[key] = value

    def __setitem__(self, key: str, value: t.Any) -> None:
        with self._lock:
            self._set(key, value)

    @t.overload
    def update(self, other: SupportsKeysAndGetItem[str, t.Any], /, **more: t.Any) -> None: ...
    @t.overload
    def update(self, other: t.Iterable[tuple[str, t.Any]] = (), /, **more: t.Any) -> None: ...

    def update(self, other: t.Any = (), /, **more: t.Any) -> None:
        """Set many keys, as dict does. What stands before a value that cannot be kept is set."""
        with self._lock:
            for key, value in chain(_pairs(other), more.items()):
                self._set(key, value)

    def _set(self, key: object, value: t.Any) -> None:
        key = _checked(key)
        if self._is_final():
            return
        self._touch()
        data, faithful = codec.encode_plain(value, key)
        if key in self._source.rules.watched:
            self._mind_login(key, data)
        self._forced = True
        self._keep(key, value, data, faithful)

    def _keep(self, key: str, value: t.Any, data: bytes, faithful: bool) -> None:
        """Set a value. An equal one is no write, unless it follows on another change of this request."""
        if self._state.get(key) != data or key in self._changes:
            self._changes.set(key, data)
            self._state[key] = data
        if faithful:
            self._values[key] = (value, data, True)
        else:
            self._values.pop(key, None)  # the next read gives what the next request will read

    def __delitem__(self, key: str) -> None:
        with self._lock:
            if self._is_final():
                return
            self._touch()
            if key not in self._state:
                raise KeyError(key)
            if key in self._source.rules.watched:
                self._mind_login(key, None)
            self._forced = True
            self._changes.remove(key)
            del self._state[key]
            self._values.pop(key, None)

    def pop(self, key: str, default: t.Any = _REQUIRED) -> t.Any:
        """Remove ``key`` and return its value; the default, if given, where it is absent.

        :raises KeyError: if the key is absent and no default is given.
        """
        with self._lock:
            value = self._read(key)
            if value is not _MISSING:
                del self[key]
                return value
            if default is _REQUIRED:
                raise KeyError(key)
            return default

    def popitem(self) -> tuple[str, t.Any]:
        """Remove and return the pair that was added last, as dict does.

        :raises KeyError: if the session is empty.
        """
        with self._lock:
            for key in reversed(self):
                value = self.pop(key, _MISSING)
                if value is not _MISSING:
                    return key, value
            raise KeyError("the session is empty")

    def setdefault(self, key: str, default: t.Any = None) -> t.Any:
        """The value of ``key``, which is set to ``default`` if absent."""
        with self._lock:
            if key not in self:
                self[key] = default
            return self.get(key, default)

    def remove(self, key: str) -> t.Any:
        """Remove ``key`` and return its value; None if it is absent."""
        return self.pop(key, None)

    @t.overload
    def remove_as(self, key: str, type: type[T]) -> T | None: ...
    @t.overload
    def remove_as(self, key: str, type: t.Any) -> t.Any: ...

    def remove_as(self, key: str, type: t.Any) -> t.Any:
        """Remove ``key`` and return its value checked and converted as ``type``; None if it is absent.

        :raises SessionGetError: if the value does not fit. It is removed all the same: ``value`` holds it.
        """
        with self._lock:
            value = self._read(key)
            self.pop(key, None)
            return None if value is _MISSING else codec.convert(value, type, key)

    def update_or(self, key: str, default: t.Any, updater: t.Callable[[t.Any], t.Any], *, type: t.Any = None) -> None:
        """Set ``key`` to ``updater(old)``, or to ``default`` if it is absent.

        If another request writes meanwhile, the updater is called again with that request's value: a counter loses
        nothing. It must have no side effects. Each call gets a freshly decoded value.

        :param type: what the old value is checked and converted as.
        :raises SessionInsertError: if the result cannot be kept.
        :raises SessionGetError: if the old value is not of ``type``.
        """
        key = _checked(key)
        with self._lock:
            if self._is_final():
                return
            self._touch()
            self._notice(key)
            update = Update(codec.encode(default, key), updater, type)
            data = update.result(self._state.get(key), key)
            if key in self._source.rules.watched:
                self._mind_login(key, data)
            self._forced = True
            self._changes.update(key, update)
            self._state[key] = data
            self._values.pop(key, None)

    def clear(self) -> None:
        """Start over: no data, no metadata, and the old session key is dead.

        Left empty, the session is deleted here and in the browser; written to again, it goes on under a new key.
        """
        with self._lock:
            if self._is_final():
                return
            self._touch()
            self._forced = True
            self._minded, self._step_known = True, None
            self._changes.clear()
            self._state.clear()
            self._values.clear()

    def purge(self) -> None:
        """End the session, here and in the browser. Final for this request: later writes are dropped."""
        with self._lock:
            self.accessed = True
            self._tell_if_late()
            self._purged = True
            self._record = None
            self._changes.clear()
            self._state.clear()
            self._values.clear()

    def renew(self) -> None:
        """Go on with the same data under a new session key; the old key is dead.

        Needed by hand only where rights rise without a change of owner (OWASP, Session Management
        Cheat Sheet); signing in and out renews by itself.
        """
        with self._lock:
            if not self._is_final():
                self._touch()
                self._changes.renewed = True

    def _mind_login(self, key: str, data: bytes | None, written: t.Container[str] = ()) -> None:
        """If this value of ``key`` signs somebody in, or the owner out: drop what must not survive that.

        :param written: what is not dropped.
        :raises SessionInsertError: if it can be no owner's name.
        """
        rules, before, signs_in = self._source.rules, self._state.get(key), False
        if signins.is_affirmed(self._before.get(key), data) and (before is None or self._source.has_body()):
            self._changes.renewed = True
        if before == data:
            return
        if key in rules.heads:
            found = {
                name: value for name in rules.heads if (value := self._state.get(name)) is not None and name != key
            }
            owner = signins.owner_set_in(rules, found if data is None else {**found, key: data})
            signs_in = owner != self._owner
        if not signs_in:  # who is taken out and put back in has not signed in
            both = {before, self._compared_with().get(key)}
            signs_in = min(signins.compare(known, data) for known in both) is signins.Step.SIGNS_IN
        self._minded, self._step_known = True, None
        if signs_in:
            self._drop_at_login(rules.login_drops, written)

    def _drop_at_login(self, names: t.Collection[str], written: t.Container[str]) -> None:
        for name in names:
            if name not in written:
                self._changes.remove(name)
                self._state.pop(name, None)
                self._values.pop(name, None)
        _forget_token(names)

    def _is_final(self) -> bool:
        if self._purged and not self._warned:
            self._warned = True
            logger.warning(
                "a write after session.purge() was dropped; to go on with a new session, use session.clear()"
            )
        return self._purged

    # -- metadata --------------------------------------------------------------------------------------------------

    def _meta(self, name: str, default: t.Any = None) -> t.Any:
        if name in self._changes.metadata:
            return self._changes.metadata[name]
        if self._record is None or self._changes.cleared:
            return default
        return getattr(self._record, name)

    def _set_meta(self, name: str, value: t.Any) -> None:
        with self._lock:
            if self._is_final():
                return
            self._touch()
            if value != self._meta(name):
                self._changes.metadata[name] = value

    @property
    def permanent(self) -> bool:
        """As in Flask: whether the cookie outlives the browser. It alone makes no new session. Never loads."""
        with self._lock:
            default = self._source.rules.permanent
            if not self._loaded and "permanent" not in self._changes.metadata:
                known = self._source.known_permanent()
                return default if known is None else known
            return bool(self._meta("permanent", default))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        with self._lock:
            if not self._is_final() and bool(value) != self.permanent:
                self._tell_if_late()
                self._changes.metadata["permanent"] = bool(value)

    @property
    def lifetime(self) -> timedelta | None:
        """The session's own idle lifetime, with a cookie that outlives the browser; None: as configured."""
        with self._lock:
            self._touch()
            return t.cast("timedelta | None", self._meta("lifetime"))

    @lifetime.setter
    def lifetime(self, value: timedelta | None) -> None:
        if not _is_lifetime(value):
            raise SessionInsertError(
                "session.lifetime is a timedelta of at least a second, or None", path="lifetime", type=type(value)
            )
        self._set_meta("lifetime", None if value is None else value - value % _MILLISECOND)

    @property
    def deadline(self) -> datetime | None:
        """The session's own fixed end, which no activity moves; None: as configured."""
        with self._lock:
            self._touch()
            return t.cast("datetime | None", self._meta("deadline"))

    @deadline.setter
    def deadline(self, value: datetime | None) -> None:
        if not _is_moment(value):
            raise SessionInsertError(
                "session.deadline is an aware datetime, or None", path="deadline", type=type(value)
            )
        if value is not None:
            value = _in_utc(value)
            value = value.replace(microsecond=value.microsecond // 1000 * 1000)
        self._set_meta("deadline", value)

    # -- the session about itself ----------------------------------------------------------------------------------

    @property
    def modified(self) -> bool:
        """As in Flask, and True after a change within a value. Asking never loads.

        False again after :meth:`save`; after the response was made it says whether this request changed anything.
        """
        with self._lock:
            return (self._on_late_touch is not None and self._has_settled) or self._is_changed()

    @modified.setter
    def modified(self, value: bool) -> None:
        # False takes back no change that was made: what is written is stored.
        self._forced = bool(value)

    def _is_changed(self) -> bool:
        """Whether the end of the request has anything to do."""
        try:
            self._notice_all()
        except SessionInsertError:
            return True  # and the end of the request says why it cannot be stored
        return self._forced or self._purged or bool(self._changes)

    def _start_over(self) -> None:
        """What was the session has ended: go on as a new one."""
        with self._lock:
            self._values.clear()
            self._settle(None)

    def _is_unsaved(self) -> bool:
        """Whether something was changed since the last commit. What makes no new session is nothing to one."""
        with self._lock:
            with contextlib.suppress(SessionInsertError):
                self._notice_all()
            return self._changes.writes or (self._record is not None and bool(self._changes))

    @property
    def new(self) -> bool:  # type: ignore[override]  # a plain attribute in SessionMixin
        """Whether nothing of this session is stored yet."""
        with self._lock:
            self._touch()
            return self._record is None

    @property
    def status(self) -> SessionStatus:
        """What the end of the request will do about the session. Never loads."""
        with self._lock:
            is_changed = self._is_changed()  # and what changed within a value is noticed
            if self._purged:
                return SessionStatus.PURGED
            if self._changes.renewed or self._owner_changed() or (self._changes.cleared and self._state):
                return SessionStatus.RENEWED
            if self._step() is not signins.Step.NOTHING:
                return SessionStatus.RENEWED
            return SessionStatus.CHANGED if is_changed else SessionStatus.UNCHANGED

    @property
    def _owner(self) -> str | None:
        """The owner as this request has it."""
        return signins.owner_in(self._source.rules, self._state)

    @property
    def _loaded_owner(self) -> str | None:
        """The owner as it was loaded."""
        return signins.owner_in(self._source.rules, self._before)

    def _owner_changed(self) -> bool:
        return self._minded and self._owner != self._loaded_owner

    def _step(self) -> signins.Step:
        """What this request did about who is signed in."""
        if not self._minded:
            return signins.Step.NOTHING
        if self._step_known is None:
            self._step_known = signins.step(self._source.rules, self._compared_with(), self._state)
        return self._step_known

    def _compared_with(self) -> t.Mapping[str, bytes]:
        """What was there before this request, or before the new start that it made."""
        return {} if self._changes.cleared else self._before

    def _signs_in(self) -> bool:
        """Whether this request signed somebody in."""
        return self._step() is signins.Step.SIGNS_IN

    def _signs_out(self) -> bool:
        """Whether this request took the session from its owner, or from whoever was signed in by clearing it."""
        if self._changes.cleared:
            rules = self._source.rules
            return signins.is_somebody(rules, self._before) and not signins.is_somebody(rules, self._state)
        return self._owner_changed() and self._owner is None

    @property
    def handle(self) -> str | None:
        """The name under which the session is stored: public, no credential. None until it is stored."""
        with self._lock:
            self._touch()
            return None if self._record is None else self._source.handle()

    @property
    def created_at(self) -> datetime | None:
        """When the session was made, or last signed in (aware, UTC). None until it is stored."""
        with self._lock:
            self._touch()
            return None if self._record is None else self._record.created_at

    @property
    def expires_at(self) -> datetime | None:
        """When the session expires if nothing extends it (aware, UTC). None until it is stored."""
        with self._lock:
            self._touch()
            return None if self._record is None else self._record.expires_at

    def save(self) -> None:
        """Write what changed now, not at the end of the request: for streams, sockets and jobs.

        :raises SessionError: if the browser would need a new cookie and none can be sent: the response has begun, or
            this is an event of Flask-SocketIO, or a session that was opened by its handle.
        :raises StoreError: if the store cannot do it.
        """
        with self._lock:
            self._source.save(self)

    def reload(self) -> None:
        """Read the session again. What changed and was not saved is dropped.

        :raises StoreError: if the store cannot do it.
        """
        with self._lock:
            if not self._purged:
                self.accessed = True
                record = self._source.reload()
                self._values.clear()
                self._go_on(record)

    def __repr__(self) -> str:
        if not (self._loaded or self._purged):
            return f"<{type(self).__name__} not loaded>"
        return f"<{type(self).__name__} {self._short()} {self.status.value} {list(self._state)}>"

    def _short(self) -> str:
        handle = None if self._record is None else self._source.handle()
        return handle[:8] if handle else "new"

    # -- nested changes --------------------------------------------------------------------------------------------

    def _notice(self, key: str) -> None:
        """Log the change if the value of ``key`` was changed in place."""
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
            if key in self._source.rules.watched:
                self._mind_login(key, data, written=self._changes)
            self._changes.nested(key, data)
            self._state[key] = data
            self._values[key] = (value, data, faithful)

    def _notice_all(self) -> None:
        for key, known in list(self._values.items()):
            if type(known[0]) in _MUTABLE:
                self._notice(key)


def _forget_token(dropped: t.Collection[str]) -> None:
    """Flask-WTF keeps a request's CSRF token in ``flask.g`` too: forms made after the sign-in would show a dead one."""
    if (
        "flask_wtf" in sys.modules
        and has_app_context()
        and (name := current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token")) in dropped
    ):
        g.pop(name, None)


class _FreeStanding:
    """The source of a session that belongs to no request and no store."""

    rules = Rules()

    def load(self) -> Record | None:
        return None

    def seed(self) -> t.Mapping[str, object] | None:
        return None

    def known_permanent(self) -> bool | None:
        return None

    def has_body(self) -> bool:
        return False

    def handle(self) -> str | None:
        return None

    def save(self, session: Session) -> None:
        raise SessionError("a free-standing session belongs to no store: there is nowhere to save it")

    def reload(self) -> Record | None:
        raise SessionError("a free-standing session belongs to no store: there is nothing to load")
