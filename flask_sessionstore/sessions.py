"""Session: the mapping that views use. It loads when it is first used, and every method takes the session's lock.

Its draft holds the data and the changes (see ``draft``). Its source does what needs the store (see ``lifecycle``).
"""

from __future__ import annotations

import logging
import sys
import threading
import typing as t
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from types import MappingProxyType

from flask import current_app, g, has_app_context
from flask.sessions import SessionMixin

from . import codec, lookalikes
from .changes import Changes
from .draft import MISSING, Draft, SessionStatus, checked
from .errors import SessionCorrupt, SessionError, SessionInsertError
from .policy import Policy
from .record import MILLISECOND
from .stores.contact import urgently

if t.TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem
    from typing_extensions import TypeForm  # what is not a class: int | None

logger = logging.getLogger("flask_sessionstore")

__all__ = ["Session", "SessionStatus", "Source", "begin", "source_of"]

T = t.TypeVar("T")
D = t.TypeVar("D")

# Stands for a default that was not given.
_REQUIRED: t.Any = object()


class Source(t.Protocol):
    """What a session needs from the lifecycle it belongs to."""

    #: The request's working copy of its session.
    draft: Draft
    #: To be held by whoever uses the draft, since threads may share a session.
    lock: threading.RLock

    def load(self) -> None:
        """Start the draft."""

    def known_permanent(self) -> bool | None:
        """``permanent``, from the browser's token or the session to be imported; None without both.

        Loads only if the browser presented a session of another kind, and no cookie of ours.

        :raises StoreUnavailable: if it has to load, and the store cannot be asked.
        """

    def handle(self) -> str | None:
        """The handle under which the session is stored."""

    def is_store_troubled(self) -> bool:
        """Whether the store failed when it was last asked, by whomever."""

    def save(self) -> None:
        """Write what changed, now."""

    def reload(self) -> None:
        """Start the draft anew from the newest record."""


S = t.TypeVar("S", bound="Session")


def begin(source: Source, kind: type[S]) -> S:
    """The session of one request. Does not load it."""
    session = kind.__new__(kind)
    session._begin(source)
    return session


def source_of(session: Session) -> Source:
    """The session's source: the lifecycle, for a session of a request."""
    return session._source


def _pairs(other: t.Any, more: dict[str, t.Any]) -> dict[t.Any, t.Any] | t.Iterable[tuple[t.Any, t.Any]]:
    """Keys and values of what ``dict.update`` takes; as a dict if all of them are known before the first is used."""
    if type(other) is dict:
        return {**other, **more} if more else other
    if isinstance(other, Mapping):
        return dict(other.items()) | more
    # An object with keys() need not iterate over its keys.
    pairs = ((key, other[key]) for key in other.keys()) if hasattr(other, "keys") else other  # noqa: SIM118
    return chain(pairs, more.items())


def _is_lifetime(value: object) -> bool:
    return value is None or (isinstance(value, timedelta) and value >= timedelta(seconds=1))


def _is_moment(value: object) -> bool:
    return value is None or (isinstance(value, datetime) and value.utcoffset() is not None)


def _in_utc(moment: datetime) -> datetime:
    """``moment`` in UTC. If its year in UTC is below 1 or above 9999: the first or the last moment of these years."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if moment.year > 1 else datetime.min.replace(tzinfo=UTC)


class Session(SessionMixin):
    """A server-side session, as ``flask.session`` gives it to views.

    Every method that reads or writes data loads the session if need be, and so may raise
    :exc:`~flask_sessionstore.StoreUnavailable`.

    :param initial: the data of a free-standing session, without a request and without a store: for unit tests.
    """

    _warned = False

    def __init__(self, initial: t.Mapping[str, t.Any] | None = None) -> None:
        if initial is not None and not isinstance(initial, Mapping):
            raise TypeError("Session(...) takes a mapping. To give an application sessions, write SessionManager(app).")
        self._begin(_FreeStanding(initial or {}))

    def _begin(self, source: Source) -> None:
        self._source = source
        self._draft = source.draft
        self._lock = source.lock
        self._draft.on_login = _forget_token

    def _touch(self) -> Draft:
        """The draft, loaded if this is the first use. To be called under the lock."""
        draft = self._draft
        draft.accessed = True
        if draft.on_late_touch is not None:
            draft.on_late_touch(self._source)
        if not draft.loaded and not draft.purged:
            self._source.load()
        return draft

    def _touch_urgently(self) -> Draft:
        """As :meth:`_touch`, for a change that must not be refused without need: it asks even a store that hangs."""
        if self._draft.loaded or not self._source.is_store_troubled():
            return self._touch()
        with urgently():
            return self._touch()

    def _touch_for(self, key: object) -> Draft:
        """As :meth:`_touch`, for a change of this key: whoever signs in or out must not be refused without need."""
        return self._touch_urgently() if key in self._draft.policy.watched else self._touch()

    def _tell_if_late(self) -> None:
        if self._draft.on_late_touch is not None:
            self._draft.on_late_touch(self._source)

    @property
    def accessed(self) -> bool:
        """As in Flask: whether this request touched its session."""
        return self._draft.accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._draft.accessed = bool(value)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, key: object) -> t.Any:
        """The value of ``key``, or MISSING. A value that cannot be decoded counts as absent."""
        draft = self._touch()
        try:
            return draft.read(key)
        except SessionCorrupt:
            logger.warning("session %s: a stored value cannot be decoded and is left out", self._short())
            return MISSING

    def __getitem__(self, key: str) -> t.Any:
        with self._lock:
            value = self._read(key)
            if value is MISSING:
                raise KeyError(key)
            return value

    def get(self, key: str, default: t.Any = None) -> t.Any:
        """The value of ``key``; ``default`` if it is absent."""
        with self._lock:
            value = self._read(key)
            return default if value is MISSING else value

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return self._read(key) is not MISSING

    def __iter__(self) -> t.Iterator[str]:
        with self._lock:
            return iter([key for key in list(self._touch().state) if self._read(key) is not MISSING])

    def __reversed__(self) -> t.Iterator[str]:
        return reversed(list(self))

    def __len__(self) -> int:
        with self._lock:
            return len(self._touch().state)

    @t.overload
    def get_as(self, key: str, type: type[T]) -> T | None: ...
    @t.overload
    def get_as(self, key: str, type: type[T], default: D) -> T | D: ...
    @t.overload
    def get_as(self, key: str, type: TypeForm[T]) -> T | None: ...
    @t.overload
    def get_as(self, key: str, type: TypeForm[T], default: D) -> T | D: ...

    def get_as(self, key: str, type: t.Any, default: t.Any = None) -> t.Any:
        """The value of ``key``, checked and converted as ``type``: int, a dataclass, ``list[int]`` ...

        :param default: returned if the key is absent, and only then.
        :raises SessionGetError: if the value does not fit.
        """
        with self._lock:
            value = self._read(key)
            return default if value is MISSING else codec.convert(value, type, key)

    def entries(self) -> t.Mapping[str, t.Any]:
        """All keys and values, read-only."""
        with self._lock:
            return MappingProxyType(self.copy())

    def copy(self) -> dict[str, t.Any]:
        """A plain dict of all keys and values."""
        with self._lock:
            return {key: value for key in self if (value := self._read(key)) is not MISSING}

    def items(self) -> t.ItemsView[str, t.Any]:
        """Those of :meth:`copy`."""
        return self.copy().items()

    def values(self) -> t.ValuesView[t.Any]:
        """Those of :meth:`copy`."""
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
        """Set many keys, as dict does. If a value cannot be kept, the keys before it are set."""
        draft: Draft | None = None
        with self._lock:
            pairs = _pairs(other, more)
            is_urgent = not self._draft.policy.watched.isdisjoint(pairs if isinstance(pairs, dict) else more)
            for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
                name = key if type(key) is str and key.isascii() else checked(key)  # spares most keys a call
                if self._draft.purged and self._is_final():
                    continue
                if draft is None:
                    draft = self._touch_urgently() if is_urgent else self._touch_for(name)
                draft.write(name, value)

    def _set(self, key: object, value: t.Any) -> None:
        name = checked(key)
        if not self._is_final():
            self._touch_for(name).write(name, value)

    def __delitem__(self, key: str) -> None:
        with self._lock:
            if not self._is_final():
                self._touch_for(key).remove(key)

    def pop(self, key: str, default: t.Any = _REQUIRED) -> t.Any:
        """Remove ``key`` and return its value; if it is absent, return ``default``, if given.

        :raises KeyError: if the key is absent and no default is given.
        """
        with self._lock:
            self._touch_for(key)
            value = self._read(key)
            if value is not MISSING:
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
                return key, self.pop(key)
            raise KeyError("the session is empty")

    def setdefault(self, key: str, default: t.Any = None) -> t.Any:
        """The value of ``key``. If it is absent, set it to ``default`` first."""
        with self._lock:
            self._touch_for(key)
            if key not in self:
                self[key] = default
            return self.get(key, default)

    def remove(self, key: str) -> t.Any:
        """Remove ``key`` and return its value; None if it is absent."""
        return self.pop(key, None)

    @t.overload
    def remove_as(self, key: str, type: type[T]) -> T | None: ...
    @t.overload
    def remove_as(self, key: str, type: TypeForm[T]) -> T | None: ...

    def remove_as(self, key: str, type: t.Any) -> t.Any:
        """Remove ``key`` and return its value checked and converted as ``type``; None if it is absent.

        :raises SessionGetError: if the value does not fit. The key is removed anyway; the error's ``value`` holds it.
        """
        with self._lock:
            self._touch_for(key)
            value = self._read(key)
            self.pop(key, None)
            return None if value is MISSING else codec.convert(value, type, key)

    def update_or(self, key: str, default: t.Any, updater: t.Callable[[t.Any], t.Any], *, type: t.Any = None) -> t.Any:
        """Set ``key`` to ``updater(old)``, or to ``default`` if it is absent, and return this value.

        If another request writes meanwhile, the updater is called again with that request's value, so a counter loses
        nothing. The updater must have no side effects. Each call gets a freshly decoded value.

        :param type: the type as which the old value is checked and converted.
        :return: the value as this request has it; None after :meth:`purge`. If another request writes meanwhile, the
            stored value may be another.
        :raises SessionInsertError: if the result cannot be kept.
        :raises SessionGetError: if the old value is not of ``type``.
        """
        key = checked(key)
        with self._lock:
            if self._is_final():
                return None
            draft = self._touch_for(key)
            draft.update(key, default, updater, type)
            return draft.read(key)

    def clear(self) -> None:
        """Start over: remove all data and metadata; the old session key is no longer valid.

        If the session stays empty, it is deleted here and in the browser; if it is written to again, it goes on under
        a new session key.
        """
        with self._lock:
            if not self._is_final():
                self._touch_urgently().clear()

    def purge(self) -> None:
        """End the session, here and in the browser. Final for this request: later writes are dropped."""
        with self._lock:
            self._draft.accessed = True
            self._tell_if_late()
            self._draft.purge()

    def renew(self) -> None:
        """Go on with the same data under a new session key; the old key is no longer valid.

        Call it yourself only where a user gets more rights without a change of owner (OWASP, Session Management
        Cheat Sheet): signing in and out renews the session anyway.
        """
        with self._lock:
            if not self._is_final():
                self._touch_urgently().changes.renewed = True

    def _is_final(self) -> bool:
        if self._draft.purged and not self._warned:
            self._warned = True
            logger.warning(
                "a write after session.purge() was dropped; to go on with a new session, use session.clear()"
            )
        return self._draft.purged

    # -- metadata --------------------------------------------------------------------------------------------------

    def _assign(self, name: str, value: t.Any) -> None:
        with self._lock:
            if not self._is_final() and value != self._touch().meta(name):
                self._draft.changes.metadata[name] = value

    @property
    def permanent(self) -> bool:
        """As in Flask: whether the cookie outlives the browser. To set it does not create a session.

        It does not load a session of this package, but imports a session of another kind.
        """
        with self._lock:
            draft = self._draft
            if not draft.loaded and "permanent" not in draft.changes.metadata:
                known = self._source.known_permanent()
                return draft.policy.permanent if known is None else known
            return draft.permanent

    @permanent.setter
    def permanent(self, value: bool) -> None:
        with self._lock:
            if not self._is_final() and bool(value) != self.permanent:
                self._tell_if_late()
                self._draft.changes.metadata["permanent"] = bool(value)

    @property
    def lifetime(self) -> timedelta | None:
        """The session's own idle lifetime; then its cookie outlives the browser. None: as configured."""
        with self._lock:
            return t.cast("timedelta | None", self._touch().meta("lifetime"))

    @lifetime.setter
    def lifetime(self, value: timedelta | None) -> None:
        if not _is_lifetime(value):
            raise SessionInsertError(
                f"session.lifetime takes a timedelta of at least a second, or None; the value is of type"
                f" {type(value).__name__}",
                path="lifetime",
                type=type(value),
            )
        self._assign("lifetime", None if value is None else value - value % MILLISECOND)

    @property
    def deadline(self) -> datetime | None:
        """The session's own fixed end, which no activity moves; None: as configured."""
        with self._lock:
            return t.cast("datetime | None", self._touch().meta("deadline"))

    @deadline.setter
    def deadline(self, value: datetime | None) -> None:
        if not _is_moment(value):
            raise SessionInsertError(
                f"session.deadline takes an aware datetime (with a tzinfo), or None; the value is of type"
                f" {type(value).__name__}",
                path="deadline",
                type=type(value),
            )
        if value is not None:
            value = _in_utc(value)
            value = value.replace(microsecond=value.microsecond // 1000 * 1000)
        self._assign("deadline", value)

    # -- what the session is and does ------------------------------------------------------------------------------

    @property
    def modified(self) -> bool:
        """As in Flask, but also True after a change within a value. Reading it never loads the session.

        False again after :meth:`save`. Once the response was made, it says whether this request changed anything.
        """
        with self._lock:
            draft = self._draft
            return (draft.on_late_touch is not None and draft.has_settled) or draft.is_changed()

    @modified.setter
    def modified(self, value: bool) -> None:
        # False does not take back changes: what was written is stored.
        self._draft.forced = bool(value)

    @property
    def new(self) -> bool:  # type: ignore[override]  # a plain attribute in SessionMixin
        """Whether nothing of this session is stored yet."""
        with self._lock:
            return self._touch().base is None

    @property
    def status(self) -> SessionStatus:
        """What the end of the request will do about the session. Never loads."""
        with self._lock:
            return self._draft.status()

    @property
    def handle(self) -> str | None:
        """The name under which the session is stored. It is public, not a credential. None until it is stored."""
        with self._lock:
            self._touch()
            return self._source.handle()

    @property
    def created_at(self) -> datetime | None:
        """When the session was made, or last signed in (aware, UTC). None until it is stored."""
        with self._lock:
            base = self._touch().base
            return None if base is None else base.created_at

    @property
    def expires_at(self) -> datetime | None:
        """When the session expires if nothing extends it (aware, UTC). None until it is stored."""
        with self._lock:
            base = self._touch().base
            return None if base is None else base.expires_at

    def save(self) -> None:
        """Store the changes now instead of at the end of the request: for streams, sockets and jobs.

        If the session has gone meanwhile, its writes are dropped, with a warning and a signal, and without an error.

        :raises SessionError: if the browser would need a new cookie and it cannot be sent: the response has begun, or
            this is an event of Flask-SocketIO, or the session was opened by its handle.
        :raises StoreError: if the store cannot do it, or other requests wrote first for all of
            SESSION_CONFLICT_TIMEOUT.
        :raises SessionInsertError, SessionGetError, SessionTooLarge: if a value, or the whole, cannot be kept.
        """
        with self._lock:
            self._source.save()

    def reload(self) -> None:
        """Read the session again. Changes that were not saved are dropped.

        :raises StoreError: if the store cannot do it.
        """
        with self._lock:
            if not self._draft.purged:
                self._draft.accessed = True
                self._source.reload()

    def __dir__(self) -> t.Iterable[str]:
        return set(super().__dir__()) - lookalikes.NAMES

    def __repr__(self) -> str:
        draft = self._draft
        if not (draft.loaded or draft.purged):
            return f"<{type(self).__name__} not loaded>"
        return f"<{type(self).__name__} {self._short()} {self.status.value} {list(draft.state)}>"

    def _short(self) -> str:
        handle = self._source.handle()
        return handle[:8] if handle else "new"


lookalikes.refuse_in(Session)


def _forget_token(dropped: t.Collection[str]) -> None:
    """Drop Flask-WTF's CSRF token from ``flask.g`` too: forms made after the sign-in would show the old token."""
    if (
        "flask_wtf" in sys.modules
        and has_app_context()
        and (name := current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token")) in dropped
    ):
        g.pop(name, None)


class _FreeStanding:
    """The source of a session without a request and without a store."""

    def __init__(self, initial: t.Mapping[str, t.Any]) -> None:
        self.lock = threading.RLock()
        self.draft = Draft(Policy())
        self.draft.start(None)
        self.draft.sow(initial)
        self.draft.changes = Changes()

    def load(self) -> None:
        pass

    def known_permanent(self) -> bool | None:
        return None

    def handle(self) -> str | None:
        return None

    def is_store_troubled(self) -> bool:
        return False

    def save(self) -> None:
        raise SessionError("a free-standing session has no store: it cannot be saved")

    def reload(self) -> None:
        raise SessionError("a free-standing session has no store: it cannot be reloaded")
