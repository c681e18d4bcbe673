"""CookieStore: the browser keeps everything."""

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

# Far above what fits a cookie, and a bound on what a signed but hostile one could unpack to.
_MAX_UNPACKED = 1024 * 1024


class _StateKey(SessionKey):
    """A key whose text is the session itself. It names nothing on the server: it has no handle."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("an empty session")
        self._text, self._handle = text, None

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
    """The whole session in the cookie, 4093 bytes at most with all attributes. Signed, it is readable by the user.

    The server keeps nothing. So nothing can be revoked or listed, concurrent requests do not merge, and a log-out
    only asks the browser to forget: an old cookie that was copied lives until its end. For that, take a server-side
    store.
    """

    key_class = _StateKey

    @classmethod
    def from_url(cls, url: str, **options: t.Any) -> t.Self:
        """``cookie:``"""
        if url.rstrip("/") != "cookie:":
            raise ConfigurationError('SESSION_STORE: the cookie store\'s URL is just "cookie:"', key="SESSION_STORE")
        options.pop("prefix", None)  # it shares no engine with anybody
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
        pass  # the browser is told; there is nothing else

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
            f"the session is {len(data)} bytes, and {_MAX_UNPACKED} are unpacked from a cookie; its largest keys are"
            f" {', '.join(map(repr, largest))}",
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
        raise SessionCorrupt("the cookie holds no session record", newer=False) from error
    if isinstance(record, Tombstone):
        raise SessionCorrupt("the cookie holds no session record", newer=False)
    return record
