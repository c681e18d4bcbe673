"""One value to bytes and back: MessagePack for the types it knows, tagged extensions for other Python types.

Encoding has two steps. ``_Walk`` goes through the value, refuses what cannot be kept (and names the path), and turns
every type that MessagePack does not have into an extension. Then ``msgspec`` writes bytes. The walk is our own code,
since MessagePack encoders do not tell tuple from list, keep subclasses apart, sort sets, or count depth. It costs about
1.5 µs for a cart of five articles. With the walk, ormsgpack would not be faster than msgspec (0.43 µs against 0.34 for
the same cart). ormsgpack's own hooks would save the walk, but they silently write UUID, date and Markup keys as text.
Typed reads need msgspec anyway.

Decoding cannot run code: an extension's tag chooses one of the constructors in ``_DECODERS``, and nothing else. msgspec
does not trust lengths: a header that promises more than the bytes hold is an error at once.

Python's hashes are secret only for text and bytes. Hashes of numbers, dates and tuples can be computed. So whoever
writes a session's bytes, or only the values that the application puts into a set, can choose thousands of members with
colliding hashes; a table of these takes a time that grows with the square of their number. ``distinct`` limits that for
every set and dict before it is built; encoding refuses by the same limits.

Encoding is canonical: equal values of the same types give the same bytes in every process. Changes within values are
found by comparing bytes.
"""

from __future__ import annotations

import dataclasses
import enum
import operator
import typing as t
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import msgspec
from markupsafe import Markup
from msgspec.msgpack import Ext
from werkzeug.local import LocalProxy

from .errors import SessionCorrupt, SessionGetError, SessionInsertError

#: How deep containers may lie in one another.
MAX_DEPTH = 100
#: How many members of one set, or keys of one dict, may be of types whose hash can be computed.
MAX_NUMBERS = 2000
#: How many of these may share one hash. (-1 and -2 do, and so do the eight triples that can be made of them.)
MAX_SHARED = 16

_encode = msgspec.msgpack.Encoder().encode
_INT64 = range(-(2**63), 2**64)

# The tags are part of the stored format: add, never change.
_TUPLE, _SET, _FROZENSET, _DICT, _BIGINT, _STR = 1, 2, 3, 4, 5, 6
_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL, _MARKUP = 7, 8, 9, 10, 11, 12, 13


def encode(value: object, path: str) -> bytes:
    """The bytes that keep ``value``.

    :param path: where in the session the value lies, for messages.
    :raises SessionInsertError: if it cannot be kept.
    """
    return encode_plain(value, path)[0]


def encode_plain(value: object, path: str) -> tuple[bytes, bool]:
    """The bytes of ``value``, and whether decoding them gives an equal value with the same types throughout.

    :raises SessionInsertError: if it cannot be kept.
    """
    if type(value) in _NATIVE or _is_native(value, 0):  # these need no walk
        try:
            return _encode(value), True
        except (UnicodeEncodeError, OverflowError):
            pass
    walk = _Walk()
    try:
        return _encode(walk.plain(value, 0)), walk.faithful
    except _Refusal as refusal:
        raise refusal.error(path) from refusal.__cause__


def _is_native(value: t.Any, depth: int) -> bool:
    """Whether this list or dict holds only types that MessagePack has. (Too large ints and the like fail later.)"""
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif type(value) is not list:
        return False
    if depth >= MAX_DEPTH:
        return False
    for item in value:  # noqa: SIM110  - a third faster than all()
        if type(item) not in _NATIVE and not _is_native(item, depth + 1):
            return False
    return True


def decode(data: bytes) -> t.Any:
    """The value kept in ``data``.

    :raises SessionCorrupt: if the bytes are not what :func:`encode` writes.
    """
    try:
        if len(data) > _HARMLESS:
            _check_maps(data)
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError, RecursionError, KeyError) as error:
        raise SessionCorrupt("a stored value cannot be decoded", newer=False) from error


def canonical(data: bytes) -> bytes | None:
    """The bytes that :func:`encode` writes for the value in ``data``, which another program may have written.

    None if the value cannot be encoded: decoding accepts more than encoding writes.
    """
    try:
        return encode(decode(data), "")
    except (SessionCorrupt, SessionInsertError):
        return None


def convert(value: object, type: t.Any, path: str) -> t.Any:
    """``value`` checked and converted as ``type`` by msgspec: dataclass, TypedDict, Struct, ``list[int]`` ...

    :raises SessionGetError: if it does not fit.
    """
    try:
        return msgspec.convert(value, type, builtin_types=_BUILTIN, str_keys=False)
    except (msgspec.ValidationError, ValueError, ArithmeticError, RecursionError, SystemError) as error:
        # SystemError: msgspec before 0.22 raises it for an int too large for a float.
        raise SessionGetError(
            f"session value {path!r} is not of the type asked for: {_without_value(error)}",
            path=path + _error_path(error),
            expected=type,
            value=value,
        ) from None  # the original's text may quote the value


# -- encoding ------------------------------------------------------------------------------------------------------


class _Refusal(Exception):
    """A value that cannot be kept, found within another value. Each level above adds its step to the path."""

    def __init__(self, type: type, why: str) -> None:
        self.type, self.why, self.steps = type, why, t.cast("list[str]", [])

    def error(self, path: str) -> SessionInsertError:
        path += "".join(reversed(self.steps))
        name = f"{self.type.__module__}.{self.type.__qualname__}".removeprefix("builtins.")
        return SessionInsertError(f"session value {path!r} of type {name} {self.why}", path=path, type=self.type)


class _Walk:
    """One pass over one value. ``faithful`` turns False when some part is stored in another, plain form."""

    def __init__(self) -> None:
        self.faithful = True

    def plain(self, value: t.Any, depth: int) -> t.Any:
        """The form in which msgspec is to write ``value``."""
        kind = type(value)
        if kind in _NATIVE:
            return self.scalar(value, kind)
        try:
            handler = _HANDLERS.get(kind)
            if handler is not None:
                if depth >= MAX_DEPTH and kind in _CONTAINERS:
                    raise _Refusal(kind, f"lies deeper than {MAX_DEPTH} containers")
                return handler(self, value, depth)
            self.faithful = False
            return self.plain(_plain_form(value), depth)
        except _Refusal:
            raise
        except Exception as error:  # a value's own methods may raise anything
            why = f"cannot be kept in a session: reading it raised {type(error).__name__}"
            raise _Refusal(kind, why) from error

    def scalar(self, value: t.Any, kind: type) -> t.Any:
        if kind is int and value not in _INT64:
            return Ext(_BIGINT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
        if kind is str and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # a lone surrogate, such as os.fsdecode makes
                return Ext(_STR, value.encode("utf-8", "surrogatepass"))
        return value

    def dict_(self, value: dict[t.Any, t.Any], depth: int) -> t.Any:
        for key in value:
            if type(key) is not str or not key.isascii():
                return self.pairs(value, depth)
        plain = {}
        for key, item in value.items():
            # The most common types are handled inline: a call for each would double the cost of a cart.
            kind = type(item)
            if (kind is str and item.isascii()) or kind is bool or kind is float:
                plain[key] = item
                continue
            try:
                plain[key] = self.plain(item, depth + 1)
            except _Refusal as refusal:
                refusal.steps.append(_step(key))
                raise
        return plain

    def pairs(self, value: dict[t.Any, t.Any], depth: int) -> t.Any:
        """A dict whose keys are not all ASCII text. It is written as a list of keys and values, so any scalar may be a
        key.
        """
        keys = self.keys(value)
        items = []
        for key, item in value.items():
            try:
                items.append(self.plain(item, depth + 1))
            except _Refusal as refusal:
                refusal.steps.append(_step(key))
                raise
        if all(type(key) is str for key in keys):
            return dict(zip(keys, items, strict=True))
        return Ext(_DICT, _encode([part for pair in zip(keys, items, strict=True) for part in pair]))

    def keys(self, value: dict[t.Any, t.Any]) -> list[t.Any]:
        before, self.faithful = self.faithful, True
        keys = [self.key(key) for key in value]
        read = list(value) if self.faithful else _decode_list(_encode(keys))
        if len(_kept_apart(read, dict)) < len(value):
            raise _Refusal(dict, "has two keys that become the same key when they are stored")
        self.faithful = self.faithful and before
        return keys

    def key(self, key: t.Any) -> t.Any:
        plain = self.plain(key, 0)
        if type(plain) in _CONTAINERS or (type(plain) is Ext and plain.code <= _DICT):
            raise _Refusal(type(key), "cannot be a dictionary's key in a session")
        return plain

    def list_(self, value: list[t.Any], depth: int) -> t.Any:
        return self.items(value, depth)

    def tuple_(self, value: tuple[t.Any, ...], depth: int) -> t.Any:
        return Ext(_TUPLE, _encode(self.items(value, depth)))

    def set_(self, value: set[t.Any], depth: int) -> t.Any:
        return Ext(_SET, self.members(value, depth))

    def frozenset_(self, value: frozenset[t.Any], depth: int) -> t.Any:
        return Ext(_FROZENSET, self.members(value, depth))

    def items(self, value: t.Iterable[t.Any], depth: int) -> list[t.Any]:
        plain = []
        for index, item in enumerate(value):
            try:
                plain.append(self.plain(item, depth + 1))
            except _Refusal as refusal:
                refusal.steps.append(f"[{index}]")
                raise
        return plain

    def members(self, value: t.Collection[t.Any], depth: int) -> bytes:
        """The members sorted by their bytes, since a set's order differs from process to process."""
        before, self.faithful = self.faithful, True
        encoded = sorted({_encode(self.plain(item, depth + 1)) for item in value})
        data = _encode([msgspec.Raw(item) for item in encoded])
        _kept_apart(list(value) if self.faithful else _decode_list(data), type(value))
        self.faithful = self.faithful and before
        return data

    # datetime and time keep their offset, not the zone: a zone's name may mean another offset after its rules change.
    # So a value with a zone comes back in a plain form, with a fixed offset (see ``faithful``).

    def datetime_(self, value: datetime, depth: int) -> t.Any:
        return Ext(_DATETIME, self.moment(value))

    def time_(self, value: time, depth: int) -> t.Any:
        return Ext(_TIME, self.moment(value))

    def moment(self, value: t.Any) -> bytes:
        if value.tzinfo is not None and type(value.tzinfo) is not timezone:
            self.faithful = False
        fold = b"~" if value.fold and value.utcoffset() is None else b""
        self.faithful = self.faithful and bool(fold) == bool(value.fold)
        return fold + t.cast("str", value.isoformat()).encode("ascii")

    def timedelta_(self, value: timedelta, depth: int) -> t.Any:
        return Ext(_TIMEDELTA, _encode([value.days, value.seconds, value.microseconds]))


def _kept_apart(members: list[t.Any], kind: type) -> set[t.Any]:
    """The members of a set, or a dict's keys, as they will be read; refuses them if reading would refuse them."""
    try:
        return set(distinct(members))
    except ValueError as error:
        raise _Refusal(kind, str(error)) from None
    except TypeError:  # a dataclass with a hash comes back as a dict, and a dict has no hash
        raise _Refusal(kind, "has a member that comes back as a type without a hash") from None


def _plain_form(value: t.Any) -> t.Any:
    """The nearest value of a type that can be kept; subclasses and ``__html__`` as in Flask's own session."""
    if isinstance(value, LocalProxy):  # isinstance() below would see the type of the object behind the proxy
        return value._get_current_object()
    if isinstance(value, enum.Enum):
        return value.value
    if callable(getattr(type(value), "__html__", None)):
        return Markup(value.__html__())
    for base, plain in _BASES:
        if isinstance(value, base):
            return plain(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if _is_lazy_string(value):
        return str(value)
    raise _Refusal(type(value), "cannot be kept in a session")


def _is_lazy_string(value: t.Any) -> bool:
    """A lazy string such as Flask-Babel's: not a str, but equal to ``str(value)`` and with the methods of str."""
    return callable(getattr(value, "casefold", None)) and bool(value == str(value))


def _step(key: t.Any) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    try:
        return f"[{key!r:.40}]"
    except Exception:  # noqa: BLE001  - a key's own repr() may raise anything, a very large integer's a ValueError
        return "[...]"


_NATIVE = frozenset({type(None), bool, int, float, str, bytes})
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})

_HANDLERS: dict[type, t.Callable[[_Walk, t.Any, int], t.Any]] = {
    dict: _Walk.dict_,
    list: _Walk.list_,
    tuple: _Walk.tuple_,
    set: _Walk.set_,
    frozenset: _Walk.frozenset_,
    datetime: _Walk.datetime_,
    time: _Walk.time_,
    timedelta: _Walk.timedelta_,
    date: lambda walk, value, depth: Ext(_DATE, value.isoformat().encode("ascii")),
    UUID: lambda walk, value, depth: Ext(_UUID, value.bytes),
    Decimal: lambda walk, value, depth: Ext(_DECIMAL, str(value).encode("ascii")),
    Markup: lambda walk, value, depth: Ext(_MARKUP, str.encode(value, "utf-8", "surrogatepass")),
}

# In this order: datetime before date, since a datetime is also a date. (bool cannot have subclasses.)
_BASES: tuple[tuple[t.Any, t.Callable[[t.Any], t.Any]], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float.__float__),
    (bytes, bytes),
    ((bytearray, memoryview), bytes),
    (dict, lambda value: dict(value.items())),  # items() gives a MultiDict's first values, as in Flask's session
    (tuple, tuple),
    (list, list),
    (set, set),
    (frozenset, frozenset),
    (datetime, lambda v: datetime.combine(v.date(), v.timetz())),
    (date, lambda v: date(v.year, v.month, v.day)),
    (time, lambda v: time(v.hour, v.minute, v.second, v.microsecond, v.tzinfo, fold=v.fold)),
    (timedelta, lambda v: timedelta(v.days, v.seconds, v.microseconds)),
    (UUID, lambda v: UUID(bytes=v.bytes)),
    (Decimal, lambda v: Decimal(str(v))),
)


# -- decoding ------------------------------------------------------------------------------------------------------


def _decode_ext(code: int, data: memoryview) -> t.Any:
    return _DECODERS[code](data)


_decode = msgspec.msgpack.Decoder(ext_hook=_decode_ext).decode
_decode_items = msgspec.msgpack.Decoder(list, ext_hook=_decode_ext).decode
_decode_days = msgspec.msgpack.Decoder(tuple[int, int, int]).decode
_split_map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_split_array = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

# No map of so few bytes can take long to build. The next line: the first bytes of maps and of arrays.
_HARMLESS = 256
_MAPS, _ARRAYS = frozenset({*range(0x80, 0x90), 0xDE, 0xDF}), frozenset({*range(0x90, 0xA0), 0xDC, 0xDD})
# Types whose hash cannot be computed outside this process, for instance by whoever writes the bytes.
_SECRETLY_HASHED = frozenset({str, bytes, Markup})
_SIMPLE_BITS = 1024


def distinct(members: list[t.Any]) -> list[t.Any]:
    """``members``, unless they look chosen to make building a set or a dict of them slow.

    To look up a member, Python compares its hash with the hashes that lie in the same places of the table, in the worst
    case with all of them. So their number is limited. (Which hashes lie there depends on the table's size, which other
    versions of Python may choose differently.) Where two hashes are equal, Python compares the values too, and perhaps
    the values within them: see ``_check_shared``.

    :raises ValueError: if they look chosen for that.
    :raises TypeError: if a member has no hash.
    """
    if len(members) < 2:
        return members
    odd = [member for member in members if type(member) not in _SECRETLY_HASHED]
    if len(odd) > MAX_NUMBERS:
        raise ValueError(f"has more than {MAX_NUMBERS} members or keys that are neither text nor bytes")
    hashes = sorted(map(hash, odd))
    if any(map(operator.eq, hashes, hashes[1:])):
        _check_shared(odd)
    return members


def _check_shared(members: list[t.Any]) -> None:
    """Refuse too many members with one hash, and members with one hash that take longer to compare than to decode."""
    groups: dict[int, list[t.Any]] = {}
    for member in members:
        groups.setdefault(hash(member), []).append(member)
    for group in groups.values():
        if len(group) > 1 and (len(group) > MAX_SHARED or not all(map(_is_simple, group))):
            raise ValueError("has members or keys that were chosen to share one hash")


def _is_simple(member: t.Any) -> bool:
    if isinstance(member, tuple):
        return all(map(_is_simple, member))
    if isinstance(member, frozenset):  # comparing looks up each of its own members
        flat = not any(isinstance(part, (tuple, frozenset)) for part in member)
        return flat and len(member) <= MAX_SHARED and all(map(_is_simple, member))
    return not isinstance(member, int) or member.bit_length() <= _SIMPLE_BITS  # Decimal compares in the square of that


def _check_maps(data: bytes, depth: int = 0) -> None:
    """Refuse maps with keys that are not text: ``encode`` writes these as an extension, but msgspec would accept them.

    Only a map of more than 15 pairs can take long, and every such map begins with one of two bytes.

    :raises ValueError, MsgspecError: if there is such a map, or containers lie too deep.
    """
    if len(data) <= _HARMLESS or not (b"\xde" in data or b"\xdf" in data):
        return
    first, parts = data[0], t.cast("t.Iterable[msgspec.Raw]", ())
    if first in _MAPS:
        parts = _split_map(data).values()
    elif first in _ARRAYS:
        parts = _split_array(data)
    for part in parts:
        if len(part) > _HARMLESS:
            if depth >= MAX_DEPTH:
                raise ValueError("containers lie too deep")
            _check_maps(bytes(part), depth + 1)


def _decode_list(data: t.Any) -> list[t.Any]:
    if len(data) > _HARMLESS:
        _check_maps(bytes(data))
    return _decode_items(data)


def _text(data: memoryview) -> str:
    return str(data, "utf-8", "surrogatepass")


def _decode_dict(data: memoryview) -> dict[t.Any, t.Any]:
    flat = _decode_list(data)
    return dict(zip(distinct(flat[::2]), flat[1::2], strict=True))


def _decode_datetime(data: memoryview) -> datetime:
    text = _text(data)
    return datetime.fromisoformat(text.removeprefix("~")).replace(fold=text.startswith("~"))


def _decode_time(data: memoryview) -> time:
    text = _text(data)
    return time.fromisoformat(text.removeprefix("~")).replace(fold=text.startswith("~"))


_DECODERS: dict[int, t.Callable[[memoryview], t.Any]] = {
    _TUPLE: lambda data: tuple(_decode_list(data)),
    _SET: lambda data: set(distinct(_decode_list(data))),
    _FROZENSET: lambda data: frozenset(distinct(_decode_list(data))),
    _DICT: _decode_dict,
    _BIGINT: lambda data: int.from_bytes(data, "big", signed=True),
    _STR: _text,
    _DATETIME: _decode_datetime,
    _DATE: lambda data: date.fromisoformat(_text(data)),
    _TIME: _decode_time,
    _TIMEDELTA: lambda data: timedelta(*_decode_days(data)),
    _UUID: lambda data: UUID(bytes=bytes(data)),
    _DECIMAL: lambda data: Decimal(_text(data)),
    _MARKUP: lambda data: Markup(_text(data)),
}
_BUILTIN = (bytes, bytearray, datetime, date, time, timedelta, UUID, Decimal)


def _error_path(error: Exception) -> str:
    """`` - at `$[3].price` `` of msgspec's message, without the root."""
    text = str(error)
    return text.rpartition("`$")[2].rstrip("`") if " - at `" in text else ""


def _without_value(error: Exception) -> str:
    # Messages that begin so name types and places. Others may quote an enum's value, an unknown field, or the text of a
    # type's own check.
    text = str(error)
    return text if text.startswith(("Expected `", "Object missing required")) else "invalid value"
