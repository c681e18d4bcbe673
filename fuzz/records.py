"""What a store holds under a handle: whole, damaged, or written by somebody else."""

from __future__ import annotations

import contextlib
import typing as t
import zlib
from datetime import timedelta

from itsdangerous.encoding import base64_encode

from flask_sessionstore import Record, Session, SessionCorrupt, StoreError
from flask_sessionstore.layout import (
    expires_ms_of,
    is_sealed,
    is_tombstone,
    owner_in,
    pack,
    pack_tombstone,
    revision_of,
    unpack,
)
from flask_sessionstore.record import Kind, Tombstone
from flask_sessionstore.sealing import seal, unseal
from flask_sessionstore.stores import Entry, has_expired, has_left, list_name
from flask_sessionstore.stores.cookie import CookieStore, _StateKey
from flask_sessionstore.stores.memory import MemoryStore

from . import requests

_HOUR = timedelta(hours=1)
_NOW_MS = requests.NOW * 1000


def check(data: bytes) -> None:
    """Read ``data`` as a record, by every verb of a store, and in requests."""
    sound = _check_bytes(data)
    _check_seal(data)
    for setting in (False, True, "required") if sound else (False,):
        for verb in _VERBS:
            with contextlib.suppress(StoreError):
                verb(requests.store_with(data, setting))
        for view in _VIEWS if sound else _VIEWS[:2]:  # what is no record is met in the same way by all
            requests.respond(requests.HEADER, view, requests.store_with(data, setting))


def seeds() -> list[bytes]:
    """Records and tombstones of every kind."""
    record = Record(state={"user": b"\xa3ann", "cart": b"\x91\xa3tea"}, owner="ann", client="curl", permanent=True)
    record = record.written(_NOW_MS, _HOUR)
    spans = Record(lifetime=_HOUR, deadline=record.expires_at, end_ms=record.expires_ms).written(_NOW_MS, _HOUR)
    graves: list[tuple[Kind, str | None]] = [("ended", None), ("emptied", None), ("renewed", requests.KEY.handle)]
    tombstones = [
        Tombstone(kind=kind, revision=b"revision", expires_ms=_NOW_MS + 5000, successor=successor)
        for kind, successor in graves
    ]
    live = (record, spans)
    return [
        *(pack(one, requests.KEY.handle) for one in live),
        *(seal(one, requests.KEY) for one in live),
        *(pack_tombstone(one, requests.KEY.handle) for one in tombstones),
    ]


def _check_bytes(data: bytes) -> bool:
    """Whether the bytes are a record or a tombstone, by the functions that read them."""
    owner, expires_ms, revision = owner_in(data), expires_ms_of(data), revision_of(data)
    has_expired(data, requests.NOW)
    has_left(Entry(requests.KEY.handle, data), list_name("ann"), requests.NOW)
    try:
        found = unpack(data, requests.KEY.handle)
    except SessionCorrupt:
        return False
    assert expires_ms == found.expires_ms
    assert isinstance(found, Tombstone) is is_tombstone(data)
    if isinstance(found, Tombstone):
        assert revision == found.revision
        return True
    assert owner == found.owner
    assert is_sealed(data) is found.sealed
    assert found.sealed or unpack(pack(found, requests.KEY.handle), requests.KEY.handle) == found
    repr((found, found.created_at, found.extended_at, found.expires_at, found.remaining))
    return True


def _check_seal(data: bytes) -> None:
    try:
        found = unseal(data, requests.KEY)
    except SessionCorrupt:
        return
    if isinstance(found, Record):
        assert unseal(seal(found, requests.KEY), requests.KEY) == found


def _load_from_cookie(store: MemoryStore) -> None:
    """The same bytes where the browser keeps them, under a signature that holds."""
    data = store._entries[requests.KEY.handle]
    cookies = CookieStore()
    cookies.clock = store.clock
    key = _StateKey(_packed(data))
    cookies.load(key)
    cookies.update_ttl(key)


def _packed(data: bytes) -> str:
    return base64_encode(zlib.compress(data, 1)).decode()


_NEW = Record(state={"user": b"\xa3bob"}, owner="bob")
_VERBS: list[t.Callable[[MemoryStore], object]] = [
    lambda store: store.load(requests.KEY),
    lambda store: store.info(requests.KEY.handle),
    lambda store: store.update(requests.KEY, _NEW, _HOUR, replaces=b"revision"),
    lambda store: store.update_ttl(requests.KEY),
    lambda store: store.update_ttl(requests.KEY, _HOUR),
    lambda store: store.renew(requests.KEY, _NEW, _HOUR, replaces=b"revision"),
    lambda store: store.delete(requests.KEY, replaces=b"revision"),
    lambda store: store.delete(requests.KEY),
    lambda store: store.end(requests.KEY.handle, owner="ann"),
    lambda store: store.delete_expired(),
    lambda store: (list(store.scan()), store.entries("ann"), store.prune()),
    _load_from_cookie,
]


def _write(session: Session) -> None:
    session["seen"] = True


def _sign_in(session: Session) -> None:
    session["_user_id"] = "bob"


_VIEWS: list[t.Callable[[Session], object]] = [
    lambda session: (session.copy(), session.permanent, session.lifetime, session.deadline, session.expires_at),
    _write,
    lambda session: None,
    _sign_in,
    Session.clear,
    Session.purge,
]
