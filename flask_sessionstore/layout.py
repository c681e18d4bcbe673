"""The byte layout of records and tombstones, and what can be read and changed in it without unpacking.

::

    offset  bytes  what
    0       1      format
    1       1      kind: 0 live, or how the session went: 1 ended, 2 emptied, 3 renewed, 4 signed in, 5 replaced,
                   6 revoked; 7 imported (a mark, see below)
    2       8      revision, the newest
    10      24     the three revisions before it, newest first; zeros if there are fewer
    34      8      extended: when a request last extended it
    42      8      expires: when it ends
    50      8      created
    58      8      idle: the lifetime in force, as a span
    66      8      end: the fixed end in force, 0 if none
    74      8      deadline: the session's own fixed end, 0 if none
    82      1      flags: 1 permanent, 2 has an owner, 4 has a lifetime of its own, 8 has a client, 16 is sealed,
                   32 its key is derived from the credential of a session of another kind
    83      2      length of the owner in bytes
    85      2      length of the client in bytes
    87      8      the first eight bytes of the handle that it is kept under, zeros in a cookie
    95      ...    owner and client (UTF-8), then the state: a MessagePack map of key to encoded value, sealed or not

All numbers are big-endian and unsigned, all times milliseconds since 1970 UTC. ``revision``, ``extended`` and
``expires`` have fixed places so that an engine can compare the first and move the other two without reading the rest. A
record names its handle, so that a reply with another session's record is noticed.

In a tombstone ``extended`` is the time when it was left. In the place of ``idle`` stand four bytes of the hash of the
owner whom the session had, and four of the owner with whom it went on (zeros for nobody). The rest is zeros. A
tombstone of the kinds *renewed* and *signed in* ends with the 32 bytes of its successor's handle.

A mark says that a session of another kind was imported. It stands for as long as the old session's credential could be
presented, under a name that is derived from the credential, and ends with the handle under which the session began
here. Its bytes are laid out like a tombstone's, since a mark is as final as a tombstone.
"""

from __future__ import annotations

import struct
import typing as t
from binascii import a2b_hex
from datetime import UTC, datetime

import msgspec

from .errors import SessionCorrupt
from .key import is_handle
from .record import IMPORTED, MILLISECOND, NO_REVISION, RENEWALS, Kind, Record, Tombstone, to_datetime, to_ms

#: The format byte that this version writes and reads.
FORMAT = 1
#: Where the newest revision stands in a record's bytes.
REVISION = slice(2, 10)
#: Where ``extended`` and ``expires`` stand in a record's bytes.
TIMES = slice(34, 50)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_BITS = 57  # the most bits of a number of milliseconds that can be asked for
_HEADER = struct.Struct(">BB32sQQQQQQBHH8s")
_REVISIONS = struct.Struct("8s8s8s8s")
#: The bytes before the owner. They hold all that an engine needs to compare and to move.
HEADER_SIZE = _HEADER.size
#: The most bytes that a record has before its state: with an owner of 255 characters, and a client of 100.
HEAD_SIZE = HEADER_SIZE + 4 * 255 + 100
_TIMES = struct.Struct(">QQ")
_KINDS: tuple[Kind | None, ...] = (
    *(None, "ended", "emptied", "renewed", "signed in", "replaced", "revoked", "imported"),
)
_NAMING = (*RENEWALS, IMPORTED)
_OWNERS = struct.Struct(">4s4s")
_PERMANENT, _OWNED, _OWN_LIFETIME, _CLIENT, _SEALED, _DERIVED = 1, 2, 4, 8, 16, 32
_FORMAT_BYTE = bytes([FORMAT])
_LIVE = bytes([FORMAT, 0])
_TIMES_START, _FLAGS, _OWNER_SIZE, _NAME = TIMES.start, 82, slice(83, 85), slice(87, 95)
_NAME_DIGITS = 16
_NAMELESS = bytes(8)
# Later formats will have numbers up to this. Bytes that begin with more are not records of ours (JSON, text, a pickle).
_LAST_FORMAT = 31

#: Encrypts or decrypts a state, and also authenticates the bytes that precede it in the record.
Cipher = t.Callable[[bytes, bytes], bytes]

#: A state as a record has it, if it is not sealed. (It is longer than keys and values are together.)
pack_state = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(dict[str, bytes]).decode


def pack(record: Record, handle: str | None, encrypt: Cipher | None = None) -> bytes:
    """The bytes of a record.

    :param handle: the handle under which it is to be kept; None in a cookie, since its session has no handle.
    :param encrypt: seals the state; without it the state is not sealed.
    """
    owner = b"" if record.owner is None else record.owner.encode()
    client = b"" if record.client is None else record.client.encode()
    header = _HEADER.pack(
        FORMAT,
        0,
        b"".join(record.revisions),
        record.extended_ms,
        record.expires_ms,
        record.created_ms,
        record.idle_ms,
        record.end_ms,
        0 if record.deadline is None else to_ms(record.deadline - _EPOCH),
        (_PERMANENT if record.permanent else 0)
        | (_OWNED if record.owner is not None else 0)
        | (_OWN_LIFETIME if record.lifetime is not None else 0)
        | (_CLIENT if record.client is not None else 0)
        | (_SEALED if encrypt is not None else 0)
        | (_DERIVED if record.derived else 0),
        len(owner),
        len(client),
        _NAMELESS if handle is None else _name_of(handle),
    )
    head, state = header + owner + client, pack_state(record.state)
    return head + (state if encrypt is None else encrypt(head, state))


def pack_tombstone(tombstone: Tombstone, handle: str) -> bytes:
    """The bytes of a tombstone to be left under ``handle``."""
    kind, name = _KINDS.index(tombstone.kind), _name_of(handle)
    times = (tombstone.left_ms, tombstone.expires_ms, 0)
    owners = int.from_bytes(_OWNERS.pack(tombstone.before, tombstone.after), "big")
    header = _HEADER.pack(FORMAT, kind, tombstone.revision, *times, owners, 0, 0, 0, 0, 0, name)
    return header + bytes.fromhex(tombstone.successor or "")


def unpack(data: bytes, handle: str | None, decrypt: Cipher | None = None, *, head: bool = False) -> Record | Tombstone:
    """The record or tombstone that the bytes hold.

    :param handle: the handle under which they were found; None for those of a cookie.
    :param decrypt: opens the state of a sealed record; without it, a sealed state is left out.
    :param head: ``data`` may be only the first :data:`HEAD_SIZE` bytes; the state is left out.
    :raises SessionCorrupt: if they are not a record, or belong to another handle; ``newer`` is True if a later version
        may have written them.
    """
    if not data or data[0] != FORMAT:
        newer = bool(data) and FORMAT < data[0] <= _LAST_FORMAT
        what = "a record of a later format" if newer else "something that is not a session record"
        raise SessionCorrupt(f"the store holds {what} under this handle", newer=newer)
    try:
        return _unpack(data, handle, decrypt, head)
    except (msgspec.MsgspecError, ValueError, IndexError, OverflowError, struct.error, RecursionError) as error:
        raise SessionCorrupt("the store holds a damaged session record", newer=False) from error


def _unpack(data: bytes, handle: str | None, decrypt: Cipher | None, head: bool) -> Record | Tombstone:
    header = _HEADER.unpack_from(data)
    _, kind, history, extended, expires, created, idle, end, deadline, flags, owned, client, name = header
    if name != (_NAMELESS if handle is None else a2b_hex(handle[:_NAME_DIGITS])):
        raise SessionCorrupt("the store holds the record of another session under this handle", newer=False)
    if (extended | expires | created | (0 if kind else idle) | end) >> _TIME_BITS:
        raise ValueError("a time is too large")
    names = _HEADER.size + owned
    rest = names + client
    if kind:
        kind_name = t.cast("Kind", _KINDS[kind])
        if len(data) - rest != (32 if kind_name in _NAMING else 0):
            raise ValueError("a tombstone of the wrong length")
        return _tombstone(kind_name, history[:8], extended, expires, idle, data[rest:])
    if len(data) < rest:
        raise ValueError("its owner or client is cut off")
    revisions = _REVISIONS.unpack(history)
    if NO_REVISION in revisions:  # it was written fewer than four times, or it is damaged
        revisions = _fewer(revisions)
    sealed, state = bool(flags & _SEALED), memoryview(data)[rest:]
    if sealed and decrypt is not None:
        sealed, state = False, memoryview(decrypt(data[:rest], data[rest:]))
    return Record(
        state={} if sealed or head else _decode_state(state),
        sealed=sealed,
        revisions=revisions,
        owner=data[_HEADER.size : names].decode() if flags & _OWNED else None,
        permanent=bool(flags & _PERMANENT),
        lifetime=idle * MILLISECOND if flags & _OWN_LIFETIME else None,
        deadline=to_datetime(deadline) if deadline else None,
        client=data[names:rest].decode() if flags & _CLIENT else None,
        derived=bool(flags & _DERIVED),
        created_ms=created,
        extended_ms=extended,
        expires_ms=expires,
        idle_ms=idle,
        end_ms=end,
    )


def _tombstone(kind: Kind, revision: bytes, left_ms: int, expires_ms: int, owners: int, successor: bytes) -> Tombstone:
    before, after = _OWNERS.unpack(owners.to_bytes(8, "big"))
    return Tombstone(
        kind=kind,
        revision=revision,
        expires_ms=expires_ms,
        left_ms=left_ms,
        successor=successor.hex() or None,
        before=before,
        after=after,
    )


def _fewer(revisions: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Those that were written, of the four places for revisions."""
    if revisions[0] == NO_REVISION and any(map(any, revisions)):
        raise ValueError("the newest of its revisions is missing")
    return tuple([revision for revision in revisions if revision != NO_REVISION])


def of_another(handle: str) -> t.Callable[[bytes], bool]:
    """A function that tells whether packed bytes name another handle than this one.

    Bytes that are not a record name no handle. A name that is not a handle belongs to a session of another kind, whose
    bytes name no handle either.
    """
    name = handle[:_NAME_DIGITS]
    return lambda data: (
        data[_NAME].hex() != name  # first, since it is nearly always False
        and data.startswith(_FORMAT_BYTE)
        and len(data) >= _HEADER.size
        and is_handle(handle)
    )


def _name_of(handle: str) -> bytes:
    return a2b_hex(handle[:_NAME_DIGITS])  # a third of what bytes.fromhex takes


def is_tombstone(data: bytes) -> bool:
    """Whether packed bytes are a tombstone."""
    return data[:1] == _FORMAT_BYTE and data[1:2] != b"\0" and len(data) >= HEADER_SIZE


def revision_of(data: bytes) -> bytes:
    """The revision of a packed record or tombstone, with which ``replaces`` is compared."""
    return data[REVISION]


def may_replace(current: bytes, replaces: bytes | None) -> bool:
    """Whether a ``swap`` may replace ``current``, whose head is enough to tell.

    :param replaces: the revision to be replaced; None: any record, but not a tombstone (an ended session stays ended).
    """
    return not is_tombstone(current) if replaces is None else revision_of(current) == replaces


def expires_ms_of(data: bytes) -> int | None:
    """When a packed record or tombstone expires, in milliseconds since 1970; None for bytes that are neither."""
    if len(data) < HEADER_SIZE or data[0] != FORMAT:
        return None
    return int(_TIMES.unpack_from(data, _TIMES_START)[1])


def is_over(data: bytes, now_ms: int) -> bool:
    """Whether a packed record or tombstone has expired at ``now_ms`` (milliseconds since 1970)."""
    if len(data) < HEADER_SIZE or data[0] != FORMAT:
        return False
    _, expires_ms = _TIMES.unpack_from(data, _TIMES_START)
    return bool(expires_ms <= now_ms)


def owner_in(data: bytes) -> str | None:
    """The owner of a packed record; None if it has none, or if the bytes are not a record."""
    if data[:2] != _LIVE or len(data) < _HEADER.size or not data[_FLAGS] & _OWNED:
        return None
    owner = data[_HEADER.size : _HEADER.size + int.from_bytes(data[_OWNER_SIZE], "big")]
    try:
        return owner.decode()
    except UnicodeDecodeError:
        return None


def is_sealed(data: bytes) -> bool:
    """Whether packed bytes are a sealed record."""
    return data[:2] == _LIVE and len(data) >= _HEADER.size and data[_FLAGS] & _SEALED != 0


def move_times(data: bytes, extended_ms: int, expires_ms: int) -> bytes:
    """A packed record with its two times moved, and everything else unchanged."""
    return data[: TIMES.start] + _TIMES.pack(extended_ms, expires_ms) + data[TIMES.stop :]
