"""Reads the records of all versions of Flask-Session. Their first bytes tell the formats apart."""

from __future__ import annotations

import typing as t

import msgspec

from ..codec import MAX_DEPTH, MAX_NUMBERS
from ..errors import SessionCorrupt
from . import pickles

#: The most bytes that are read of one record: four times the default of SESSION_MAX_SIZE.
MAX_SIZE = 4 * 1024 * 1024


class Content(t.NamedTuple):
    """The content of one record."""

    data: dict[t.Any, t.Any]
    #: The names of types in a pickle that could not be read.
    foreign: list[str]
    #: "pickle", "msgpack" or "json".
    kept_as: str


def read(data: bytes) -> Content:
    """The content of a record's bytes.

    :raises SessionCorrupt: if there are too many bytes, or they do not hold a session; the message says why, and of
        their content it shows only the names of types.
    """
    if len(data) > MAX_SIZE:
        raise SessionCorrupt(f"it has more than {MAX_SIZE} bytes", newer=False)
    kept_as = _format_of(data)
    value, foreign = _READERS[kept_as](data)
    if type(value) is not dict:
        named = f", but names {', '.join(foreign)}" if foreign else ""
        raise SessionCorrupt(f"it is not a mapping{named}", newer=False)
    return Content(value, foreign, kept_as)


def _format_of(data: bytes) -> str:
    first, second = data[:1], data[1:2]
    if first == b"{":
        return "json"
    if first == b"(" or (first == b"\x80" and b"\x02" <= second <= b"\x05"):
        return "pickle"
    if first and first[0] in _MAPS:
        return "msgpack"
    raise SessionCorrupt("its first bytes do not belong to a known format", newer=False)


# -- JSON and MessagePack ------------------------------------------------------------------------------------------

_MAPS, _ARRAYS = frozenset({*range(0x80, 0x90), 0xDE, 0xDF}), frozenset({*range(0x90, 0xA0), 0xDC, 0xDD})
_FAILURES = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
# Bytes. A map of so few bytes cannot take long to build.
_HARMLESS = 256

_split_map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_split_other_map = msgspec.msgpack.Decoder(dict[int | float | str | bool | None, msgspec.Raw]).decode
_split_array = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def _read_json(data: bytes) -> tuple[t.Any, list[str]]:
    try:
        return msgspec.json.decode(data), []
    except _FAILURES as error:
        raise SessionCorrupt("it is not JSON that can be read", newer=False) from error


def _read_msgpack(data: bytes) -> tuple[t.Any, list[str]]:
    try:
        _check_maps(data, 0)
        return msgspec.msgpack.decode(data), []
    except _FAILURES as error:
        raise SessionCorrupt("it is not MessagePack that can be read", newer=False) from error


def _check_maps(data: bytes, depth: int) -> None:
    """Refuse large maps whose keys are not text: the keys may have been chosen to make hashing slow.

    :raises ValueError, MsgspecError: if there is such a map, or containers lie too deep.
    """
    if len(data) <= _HARMLESS:
        return
    if depth > MAX_DEPTH:
        raise ValueError("containers lie too deep")
    parts: t.Iterable[msgspec.Raw] = ()
    if data[0] in _MAPS:
        parts = _values_of(data)
    elif data[0] in _ARRAYS:
        parts = _split_array(data)
    for part in parts:
        _check_maps(bytes(part), depth + 1)


def _values_of(data: bytes) -> t.Iterable[msgspec.Raw]:
    try:
        return _split_map(data).values()
    except msgspec.ValidationError:  # a key is not text
        size = data[0] & 15 if data[0] < 0x90 else int.from_bytes(data[1 : 3 if data[0] == 0xDE else 5], "big")
        if size > MAX_NUMBERS:
            raise
        return _split_other_map(data).values()


_READERS: dict[str, t.Callable[[bytes], tuple[t.Any, list[str]]]] = {
    "json": _read_json,
    "msgpack": _read_msgpack,
    "pickle": pickles.loads,
}
