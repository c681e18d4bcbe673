"""CookieStore: the cookie holds the whole session."""

from __future__ import annotations

import typing as t
import zlib
from datetime import timedelta

from itsdangerous.encoding import base64_decode, base64_encode
from itsdangerous.exc import BadData

from ..errors import ConfigurationError, SessionCorrupt, SessionGone, SessionTooLarge
from ..key import SessionKey
from ..layout import pack, unpack
from ..record import Kind, Record, Tombstone, largest_keys
from .base import SessionStore

# Bytes. Far more than a cookie can hold; it limits what a signed but hostile cookie can unpack to.
_MAX_UNPACKED = 1024 * 1024


class _StateKey(SessionKey):
    """A key whose text is the session itself. It has no handle, since the server stores nothing under it."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("an empty session")
        self._set(text, None, None)

    @property
    def handle(self) -> str:
        return t.cast(str, None)

    def __repr__(self) -> str:
        return "<session in a cookie>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _StateKey) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class CookieStore(SessionStore):
    """The whole session in the cookie: at most 4093 bytes with all attributes. The user can read a signed cookie.

    The server keeps nothing. So sessions cannot be revoked or listed, concurrent requests do not merge, and a log-out
    only asks the browser to delete the cookie: a copy of an old cookie stays valid until it expires. If you need any of
    this, use a server-side store.
    """

    key_class = _StateKey
    needs_seen = True  # each state is another cookie

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``cookie:``"""
        if url.rstrip("/") != "cookie:":
            raise ConfigurationError('SESSION_STORE: the cookie store\'s URL is just "cookie:"', key="SESSION_STORE")
        options.pop("prefix", None)  # this store has no engine that it could share
        return cls(**options)

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        record = _unpack(str(key))
        return record if record.expires_ms > self.now() * 1000 else None

    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        return _StateKey(_pack(record.written(int(self.now() * 1000), ttl)))

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        return self.save(record, ttl)

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        record = self.load(key)
        if record is None:
            raise SessionGone("the session expired")
        record = record.extended(int(self.now() * 1000), ttl)
        return _StateKey(_pack(record)), record

    def delete(
        self, key: SessionKey, *, replaces: bytes | None = None, emptied: bool = False, owner: str | None = None
    ) -> None:
        pass  # the response deletes the cookie; nothing else is stored

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
        return self.save(record, ttl)


def _pack(record: Record) -> str:
    data = pack(record, None)
    if len(data) > _MAX_UNPACKED:
        largest = largest_keys(record.state)
        raise SessionTooLarge(
            f"the session is {len(data)} bytes, over the {_MAX_UNPACKED} that a cookie may unpack to; its largest keys"
            f" are {', '.join(map(repr, largest))}",
            size=len(data),
            limit=_MAX_UNPACKED,
            largest=largest,
        )
    return base64_encode(zlib.compress(data)).decode()


def _unpack(text: str) -> Record:
    try:
        unpacker = zlib.decompressobj()
        record = unpack(unpacker.decompress(base64_decode(text), _MAX_UNPACKED), None)
    except (BadData, zlib.error) as error:
        raise SessionCorrupt("the cookie does not hold a session record", newer=False) from error
    if isinstance(record, Tombstone):
        raise SessionCorrupt("the cookie does not hold a session record", newer=False)
    return record
