"""Record and tombstone: what a store keeps under a handle, as values. Their bytes are defined in :mod:`.layout`."""

from __future__ import annotations

import hashlib
import os
import typing as t
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

#: How a session went. "imported" is the kind of a mark: it says that a session of another kind was imported.
Kind = t.Literal["ended", "emptied", "renewed", "signed in", "replaced", "revoked", "imported"]
#: How long a tombstone stands: longer than a request should take, even with a slow upload and clocks that differ.
TOMBSTONE_TIME = timedelta(seconds=60)
#: A tombstone that claims to stand for longer than this from now is damaged.
LONGEST_TOMBSTONE_TIME = timedelta(minutes=10)
_LAST_MS = 253_402_300_799_999  # the last millisecond of the year 9999, the last year of datetime
#: Records keep times in whole milliseconds.
MILLISECOND = timedelta(milliseconds=1)
_LONGEST_MS = timedelta.max // MILLISECOND
# Milliseconds in which a record that was made to be written counts as written at that time.
_AT_ONCE = 1000
#: The kinds of tombstones that name a successor.
RENEWALS = ("renewed", "signed in")
#: The kind of a mark.
IMPORTED: t.Literal["imported"] = "imported"
_NOBODY = bytes(4)
#: Stands for a revision of a session that was not written yet.
NO_REVISION = bytes(8)
_MOST_NAMED = 3  # keys named in the message of SessionTooLarge


def new_revision() -> bytes:
    """Eight random bytes that name one attempt to write."""
    return os.urandom(8)


@lru_cache(maxsize=64)
def to_ms(span: timedelta) -> int:
    """A span of time in whole milliseconds; cached, since most sessions live as long as the next."""
    # Dividing by timedelta(milliseconds=1) gives the same number, and takes ten times as long.
    return span.days * 86_400_000 + span.seconds * 1000 + span.microseconds // 1000


def to_datetime(ms: int) -> datetime:
    """Milliseconds since 1970 as an aware UTC datetime."""
    ms = min(ms, _LAST_MS)
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


@lru_cache(maxsize=64)
def _span(ms: int) -> timedelta:
    """A span of at least a millisecond; cached, since most sessions live as long as the next."""
    return min(max(ms, 1), _LONGEST_MS) * MILLISECOND


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One session as a store keeps it. Records never change: a change makes a new record."""

    state: dict[str, bytes] = {}
    """The data: encoded values by key. Empty in a record that is sealed."""
    sealed: bool = False
    """Whether the data is encrypted, so that only the browser's own requests can read it."""
    revisions: tuple[bytes, ...] = ()
    """Up to four revisions, newest first."""
    owner: str | None = None
    """The user to whom the session belongs, or None."""
    permanent: bool = False
    """As in Flask: the cookie outlives the browser."""
    lifetime: timedelta | None = None
    """The session's own idle lifetime, or None for the configuration's."""
    deadline: datetime | None = None
    """The session's own fixed end, or None."""
    client: str | None = None
    """Browser and address of the last sign-in, if SESSION_RECORD_CLIENT is set."""
    derived: bool = False
    """Whether the session key is derived from the credential of a session of another kind: see ``moving_in``."""
    created_ms: int = 0
    """When the session was made, or last signed in. This and the next two are in milliseconds since 1970."""
    extended_ms: int = 0
    """When a request last extended the session."""
    expires_ms: int = 0
    """When the session expires if nothing extends it."""
    idle_ms: int = 0
    """The idle lifetime in force, in milliseconds: the session's own (``lifetime``), or the configuration's."""
    end_ms: int = 0
    """The fixed end in force, in milliseconds since 1970: the earlier of the session's own (``deadline``) and the
    configuration's; 0 for none.
    """

    def __repr__(self) -> str:
        return f"<Record {self.revision.hex()} {list(self.state)}>"  # without values: it may get into a log

    @property
    def revision(self) -> bytes:
        """The newest revision."""
        return self.revisions[0] if self.revisions else NO_REVISION

    @property
    def created_at(self) -> datetime:
        """When the session was made, or last signed in (aware, UTC)."""
        return to_datetime(self.created_ms)

    @property
    def extended_at(self) -> datetime:
        """When a request last extended the session (aware, UTC)."""
        return to_datetime(self.extended_ms)

    @property
    def expires_at(self) -> datetime:
        """When the session expires if nothing extends it (aware, UTC)."""
        return to_datetime(self.expires_ms)

    @property
    def remaining(self) -> timedelta:
        """How long the record lives if nothing extends it again, counted from the last extension."""
        return _span(self.expires_ms - self.extended_ms)

    def written(self, now_ms: int, ttl: timedelta) -> Record:
        """This record as it is written now, to be idle for ``ttl`` at most."""
        idle = to_ms(ttl)
        if 0 <= now_ms - self.extended_ms < _AT_ONCE and self.idle_ms == idle and self.revisions:
            return self  # the lifecycle has made it for this write
        return self.anew(now_ms, ttl)

    def anew(self, now_ms: int, ttl: timedelta) -> Record:
        """As :meth:`written`, of a record that was read: however new it is, it is extended now."""
        idle = to_ms(ttl)
        return msgspec.structs.replace(
            self,
            revisions=self.revisions or (new_revision(),),
            created_ms=self.created_ms or now_ms,
            extended_ms=now_ms,
            expires_ms=self._clamp(now_ms + idle),
            idle_ms=idle,
        )

    def extended(self, now_ms: int, ttl: timedelta | None = None) -> Record:
        """This record extended now, by ``ttl`` or by the lifetime it was written with."""
        idle = self.idle_ms if ttl is None else to_ms(ttl)
        return msgspec.structs.replace(self, extended_ms=now_ms, expires_ms=self._clamp(now_ms + idle))

    def _clamp(self, expires_ms: int) -> int:
        return min(expires_ms, self.end_ms) if self.end_ms else expires_ms


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """What is left under a handle after its session went."""

    #: How the session went; "imported" for a mark.
    kind: Kind
    #: Names the attempt that left the tombstone.
    revision: bytes
    #: When the tombstone is forgotten, in milliseconds since 1970.
    expires_ms: int
    #: When the tombstone was left, in milliseconds since 1970.
    left_ms: int = 0
    #: The handle under which a renewed session goes on, or under which an imported session began.
    successor: str | None = None
    #: The owner whom the session had, and the owner with whom it went on, as :func:`owner_mark` gives them.
    before: bytes = _NOBODY
    after: bytes = _NOBODY


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a session: neither its key nor its data."""

    handle: str
    """The name under which it is stored: public, not a credential. ``revoke()`` and ``open()`` take it."""
    owner: str | None
    """Whose it is, as text: the value under SESSION_OWNER_KEY; None if nobody is signed in."""
    created_at: datetime
    """When it was made, or last signed in (aware, UTC)."""
    extended_at: datetime
    """When a request last extended it (aware, UTC), as exactly as SESSION_REFRESH_INTERVAL says."""
    expires_at: datetime
    """When it expires if nothing extends it (aware, UTC)."""
    client: str | None = None
    """Browser and address of its last sign-in, if SESSION_RECORD_CLIENT is set."""
    current: bool = False
    """Whether it is the session of the current request."""

    @property
    def last_seen(self) -> datetime:
        """When a request last extended it, under the name that a page about devices has for that: ``extended_at``."""
        return self.extended_at

    @classmethod
    def of(cls, handle: str, record: Record, *, current: bool = False) -> SessionInfo:
        """What may be shown of ``record``, which is kept under ``handle``."""
        return cls(
            handle=handle,
            owner=record.owner,
            created_at=record.created_at,
            extended_at=record.extended_at,
            expires_at=record.expires_at,
            client=record.client,
            current=current,
        )


def owner_mark(owner: str | None) -> bytes:
    """What a tombstone keeps of an owner: four bytes of its SHA-1. (Redis' scripts can compute SHA-1 too.)"""
    return _NOBODY if owner is None else hashlib.sha1(owner.encode(), usedforsecurity=False).digest()[:4]


def largest_keys(state: t.Mapping[str, bytes]) -> list[str]:
    """The keys with the largest values, largest first."""
    return sorted(state, key=lambda key: len(state[key]), reverse=True)[:_MOST_NAMED]
