"""The settings that a session and its lifecycle obey, and what these settings mean for one record."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from .record import Record, to_ms

#: The keys that tutorials and libraries write at a log-in: Flask's tutorial and quickstart, Authlib and Auth0, MSAL.
LOGIN_KEYS = ("user_id", "userid", "uid", "user", "username", "_logged_in_user", "logged_in")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that a session and its lifecycle obey; spans of time as timedelta."""

    #: The key whose value names the owner, or a dotted path into mappings; None: sessions have no owners.
    owner_key: str | None = "_user_id"
    #: Keys that log-ins are known to write, though they do not name the owner.
    login_keys: tuple[str, ...] = LOGIN_KEYS
    #: Keys dropped at a sign-in and a sign-out.
    login_drops: tuple[str, ...] = ("csrf_token",)
    #: Whether new sessions are permanent.
    permanent: bool = False
    #: Idle lifetime of permanent sessions, and of all sessions if ``browser_lifetime`` is None.
    lifetime: timedelta = timedelta(days=31)
    #: Idle lifetime of sessions behind a browser-session cookie.
    browser_lifetime: timedelta | None = None
    #: Fixed end, counted from the session's creation or last sign-in.
    absolute_lifetime: timedelta | None = None
    #: Whether every request extends the session, or only a request that changes it.
    refresh: bool = True
    #: The least time between two extensions; for short lifetimes a tenth of the lifetime, if that is less.
    refresh_interval: timedelta = timedelta(seconds=60)
    #: Limit of the encoded state, in bytes.
    max_size: int = 1024 * 1024
    #: For how long a write tries again when other requests write first.
    conflict_timeout: timedelta = timedelta(seconds=2)
    #: The least time between two sweeps in a process; None: requests never sweep.
    sweep_interval: timedelta | None = timedelta(seconds=60)
    #: How many sessions an owner may have; None: any number.
    max_per_owner: int | None = None
    #: Whether records keep the browser and the address of the last sign-in.
    record_client: bool = False
    #: Whether responses that read the session of somebody signed in are kept out of all shared caches.
    private_reads: bool = False

    #: Derived from the fields above: the keys whose values may name an owner.
    heads: frozenset[str] = frozenset()
    #: Derived from the fields above: all keys that say who is signed in.
    watched: frozenset[str] = frozenset()
    #: Derived from the fields above: ``refresh_interval`` in milliseconds.
    refresh_ms: int = 0

    def __post_init__(self) -> None:
        heads = frozenset() if self.owner_key is None else frozenset({self.owner_key, self.owner_key.partition(".")[0]})
        msgspec.structs.force_setattr(self, "heads", heads)
        msgspec.structs.force_setattr(self, "watched", heads.union(self.login_keys))
        msgspec.structs.force_setattr(self, "refresh_ms", to_ms(self.refresh_interval))

    def idle(self, record: Record) -> timedelta:
        """How long the session of ``record`` may be idle."""
        return self.idle_of(record.permanent, record.lifetime)

    def idle_of(self, permanent: bool, lifetime: timedelta | None) -> timedelta:
        """How long a session with this ``permanent``, and this ``lifetime`` of its own, may be idle."""
        if lifetime is not None:
            return lifetime
        if permanent or self.browser_lifetime is None:
            return self.lifetime
        return self.browser_lifetime

    def end_ms(self, deadline: datetime | None, created_ms: int) -> int:
        """The fixed end in force, in milliseconds since 1970; 0 for none."""
        if deadline is None and self.absolute_lifetime is None:
            return 0
        ends = []
        if deadline is not None:
            ends.append(int(deadline.timestamp() * 1000))
        if self.absolute_lifetime is not None:
            ends.append(created_ms + to_ms(self.absolute_lifetime))
        return max(min(ends), 1)

    def interval_ms(self, lifetime_ms: int) -> float:
        """The least time between two extensions of a session with this idle lifetime; both in milliseconds."""
        return min(self.refresh_ms, lifetime_ms / 10)


def is_persistent(record: Record) -> bool:
    """Whether the cookie of ``record`` outlives the browser."""
    return record.permanent or record.lifetime is not None


def cookie_lifetime(record: Record) -> int:
    """How long the cookie of ``record`` lives, in seconds; 0 for a browser-session cookie."""
    return max((record.expires_ms - record.extended_ms) // 1000, 1) if is_persistent(record) else 0
