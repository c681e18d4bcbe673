"""Reads pickles without running anything in them.

A pickle is a program: it names functions and has them called. This module reads it as data. :mod:`pickletools`, which
calls nothing, takes it apart into values and *requested calls*. Then each request is looked up in :data:`_MAKERS`, by
name, and a function of ours, which checks its arguments, makes the value. No module is imported, and the objects that a
pickle names are never touched. A name that is not in the table becomes a :class:`Foreign`, which only holds the name.

Sizes are limited before anything is built. A few bytes can put one list ten times into another, that list ten times
into a third, and so on; so a shared value counts each time that it occurs. Members of sets and keys of dicts have the
codec's limits, since they can be chosen to make hashing slow.
"""

from __future__ import annotations

import pickletools
import struct
import typing as t
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from markupsafe import Markup

from ..codec import MAX_DEPTH, distinct
from ..errors import SessionCorrupt

# Bytes. Every value counts as _EACH, plus the length of a text. All values together may count as _FREE, plus the
# pickle's own size _TIMES times.
_EACH, _FREE, _TIMES = 16, 1024 * 1024, 32
_SCALARS = frozenset({type(None), bool, int, float})
# Errors that a damaged pickle may cause in the machine, or wrong arguments in a maker.
_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error, RecursionError)


class Foreign:
    """Something that a pickle names, and that is not made.

    :param name: the module and the name in it: ``os.system``.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<Foreign {self.name}>"


def loads(data: bytes) -> tuple[t.Any, list[str]]:
    """The value in a pickle of any protocol, and the names of everything in it that was not made.

    :raises SessionCorrupt: if the bytes are not a pickle, or would become far larger than they are.
    """
    try:
        builder = _Builder(_FREE + _TIMES * len(data))
        value = builder.build(_Machine().run(data))
    except _DAMAGE as error:
        raise SessionCorrupt(f"its pickle cannot be read: {_reason(error)}", newer=False) from None
    return value, list(builder.foreign)


def _reason(error: Exception) -> str:
    return error.args[0] if isinstance(error, _Refused) else "it is damaged"  # other errors may quote its content


class _Refused(ValueError):
    """The pickle is understood, and refused."""


class _Pairs:
    """A dict that is not made yet."""

    __slots__ = ("pairs",)

    def __init__(self, flat: list[t.Any]) -> None:
        self.pairs: list[t.Any] = flat


class _Members:
    """A set or frozenset that is not made yet."""

    __slots__ = ("kind", "members")

    def __init__(self, kind: type, members: list[t.Any]) -> None:
        self.kind, self.members = kind, members


class _Call:
    """A call that a pickle requests, and the state to be set on its result."""

    __slots__ = ("arguments", "state", "what")

    def __init__(self, what: object, arguments: object) -> None:
        self.what, self.arguments = what, arguments
        self.state: object = None


class _Machine:
    """Runs the instructions that build values. It makes lists and tuples, and notes for all other values."""

    def __init__(self) -> None:
        self._stack: list[t.Any] = []
        self._below: list[list[t.Any]] = []  # the stacks below each mark
        self._memo: dict[int, t.Any] = {}

    def run(self, data: bytes) -> t.Any:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in _CONSTANTS:
                self._stack.append(argument)
            elif name in _INSTRUCTIONS:
                _INSTRUCTIONS[name](self, argument)
            elif name not in _NOTHING:
                raise _Refused(f"it has the instruction {name}")
        return self._stack.pop()

    # -- the stack -------------------------------------------------------------------------------------------------

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self, kind: type | None = None) -> t.Any:
        value = self._stack.pop()
        if kind is not None and type(value) is not kind:
            raise TypeError("another type was expected on the stack")
        return value

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop_to_mark(self) -> list[t.Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _drop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_to_mark()

    def _tuple(self, size: int) -> None:
        items = [self._pop() for _ in range(size)]
        self._push(tuple(reversed(items)))

    def _remember(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    # -- containers ------------------------------------------------------------------------------------------------

    def _append(self, items: list[t.Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is not _Call:  # the items of a foreign class are dropped with it
            raise TypeError("no list to append to")

    def _add(self, items: list[t.Any]) -> None:
        target = self._stack[-1]
        if type(target) is _Members:
            target.members.extend(items)
        elif type(target) is not _Call:
            raise TypeError("no set to add to")

    def _set(self, flat: list[t.Any]) -> None:
        target = self._stack[-1]
        if len(flat) % 2:
            raise TypeError("a key without a value")
        if type(target) is _Pairs:
            target.pairs.extend(flat)
        elif type(target) is not _Call:
            raise TypeError("no dict to set in")

    def _dict(self) -> None:
        flat = self._pop_to_mark()
        self._push(_Pairs([]))
        self._set(flat)

    # -- what is named ---------------------------------------------------------------------------------------------

    def _global(self, argument: str) -> None:
        self._push(Foreign(argument.replace(" ", ".", 1)))

    def _stack_global(self) -> None:
        name, module = self._pop(str), self._pop(str)
        self._push(Foreign(f"{module}.{name}"))

    def _call(self) -> None:
        arguments = self._pop()
        self._push(_Call(self._pop(), arguments))

    def _call_with_names(self) -> None:
        self._pop()  # keyword arguments, which no known type takes
        self._call()

    def _instance(self, argument: str) -> None:
        items = self._pop_to_mark()
        self._global(argument)
        self._push(_Call(self._pop(), tuple(items)))

    def _object(self) -> None:
        what, *arguments = self._pop_to_mark()
        self._push(_Call(what, tuple(arguments)))

    def _build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        if type(target) is not _Call:
            raise TypeError("no object to build")
        target.state = state


_NOTHING = frozenset({"PROTO", "FRAME", "STOP"})
_CONSTANTS = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    }
)  # fmt: skip
_INSTRUCTIONS: dict[str, t.Callable[[_Machine, t.Any], object]] = {
    "NONE": lambda machine, _: machine._push(None),
    "NEWTRUE": lambda machine, _: machine._push(True),
    "NEWFALSE": lambda machine, _: machine._push(False),
    "MARK": lambda machine, _: machine._mark(),
    "POP": lambda machine, _: machine._drop(),
    "POP_MARK": lambda machine, _: machine._pop_to_mark(),
    "EMPTY_LIST": lambda machine, _: machine._push([]),
    "EMPTY_TUPLE": lambda machine, _: machine._push(()),
    "EMPTY_DICT": lambda machine, _: machine._push(_Pairs([])),
    "EMPTY_SET": lambda machine, _: machine._push(_Members(set, [])),
    "LIST": lambda machine, _: machine._push(machine._pop_to_mark()),
    "TUPLE": lambda machine, _: machine._push(tuple(machine._pop_to_mark())),
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "DICT": lambda machine, _: machine._dict(),
    "FROZENSET": lambda machine, _: machine._push(_Members(frozenset, machine._pop_to_mark())),
    "APPEND": lambda machine, _: machine._append([machine._pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine._add(machine._pop_to_mark()),
    "SETITEM": lambda machine, _: machine._set([machine._pop(), machine._pop()][::-1]),
    "SETITEMS": lambda machine, _: machine._set(machine._pop_to_mark()),
    "PUT": _Machine._remember,
    "BINPUT": _Machine._remember,
    "LONG_BINPUT": _Machine._remember,
    "MEMOIZE": lambda machine, _: machine._remember(len(machine._memo)),
    "GET": lambda machine, number: machine._push(machine._memo[number]),
    "BINGET": lambda machine, number: machine._push(machine._memo[number]),
    "LONG_BINGET": lambda machine, number: machine._push(machine._memo[number]),
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": lambda machine, _: machine._stack_global(),
    "REDUCE": lambda machine, _: machine._call(),
    "NEWOBJ": lambda machine, _: machine._call(),
    "NEWOBJ_EX": lambda machine, _: machine._call_with_names(),
    "INST": _Machine._instance,
    "OBJ": lambda machine, _: machine._object(),
    "BUILD": lambda machine, _: machine._build(),
}


# -- from notes to values ------------------------------------------------------------------------------------------


class _Builder:
    """Makes values from the notes, as a tree: a shared value is made each time, and counts each time.

    :param budget: how much all values together may count.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        #: The names that were not made.
        self.foreign: dict[str, None] = {}

    def build(self, note: t.Any, depth: int = 0) -> t.Any:
        kind = type(note)
        self._budget -= _EACH + (len(note) if kind in (str, bytes, bytearray) else 0)
        if self._budget < 0:
            raise _Refused("it would become far larger than its bytes")
        if depth > MAX_DEPTH + 1:
            raise _Refused("it is nested too deeply, or within itself")
        if kind in _SCALARS:
            return self._scalar(note)
        return _BUILDERS[kind](self, note, depth + 1)

    def _scalar(self, value: t.Any) -> t.Any:
        if type(value) is int:
            self._budget -= value.bit_length() // 8
        return value

    def _each(self, notes: t.Iterable[t.Any], depth: int) -> list[t.Any]:
        return [self.build(note, depth) for note in notes]

    def _dict(self, note: _Pairs, depth: int) -> dict[t.Any, t.Any]:
        keys, values = self._each(note.pairs[::2], depth), self._each(note.pairs[1::2], depth)
        return dict(zip(distinct(keys), values, strict=True))

    def _set(self, note: _Members, depth: int) -> t.Any:
        return note.kind(distinct(self._each(note.members, depth)))

    def _named(self, note: Foreign, depth: int) -> Foreign:
        self.foreign[note.name] = None
        return note

    def _made(self, note: _Call, depth: int) -> t.Any:
        if type(note.what) is _Call:  # the result of a call is called, as in pickles of time zones
            return self._of_foreign(note.what, depth)
        what, arguments = _unwrapped(note)
        maker = _MAKERS.get(what.name)
        if maker is None:
            return self._named(what, depth)
        values = self._each(arguments, depth)
        if note.state is not None:
            values.append(self.build(note.state, depth))
        return maker(*values)

    def _of_foreign(self, note: _Call, depth: int) -> Foreign:
        made = self.build(note, depth)
        if not isinstance(made, Foreign):
            raise TypeError("a value is called")
        return made


def _unwrapped(note: _Call) -> tuple[Foreign, tuple[t.Any, ...]]:
    """The name and the arguments of a call, without the detours that protocols 0 to 2 take."""
    what, arguments = note.what, note.arguments
    if type(arguments) is not tuple:
        raise TypeError("the arguments are not a tuple")
    if type(what) is Foreign and what.name in _NEW_OBJECT:
        what, *rest = arguments
        arguments = tuple(rest)
    elif type(what) is Foreign and what.name in _RECONSTRUCTORS:
        what, _base, value = arguments  # the value in the base type's form; None if the base is object
        arguments = () if value is None else (value,)
    if type(what) is not Foreign:
        raise TypeError("the called object has no name")
    return what, arguments


_NEW_OBJECT = frozenset({"copy_reg.__newobj__", "copyreg.__newobj__"})
_RECONSTRUCTORS = frozenset({"copy_reg._reconstructor", "copyreg._reconstructor"})

_BUILDERS: dict[type, t.Callable[[_Builder, t.Any, int], t.Any]] = {
    str: lambda builder, note, depth: note,
    bytes: lambda builder, note, depth: note,
    bytearray: lambda builder, note, depth: note,
    list: _Builder._each,
    tuple: lambda builder, note, depth: tuple(builder._each(note, depth)),
    _Pairs: _Builder._dict,
    _Members: _Builder._set,
    Foreign: _Builder._named,
    _Call: _Builder._made,
}


# -- the types that are known --------------------------------------------------------------------------------------


def _typed(value: t.Any, *kinds: type) -> t.Any:
    """A value of exactly one of these types."""
    if type(value) not in kinds:
        raise TypeError("an argument of another type")
    return value


def _make_datetime(state: t.Any, zone: t.Any = None) -> datetime | Foreign:
    if isinstance(zone, Foreign):
        return zone  # without its zone, the datetime would mean another moment
    high, low, month, day, hour, minute, second, *rest = struct.unpack("10B", _typed(state, bytes))
    microsecond = int.from_bytes(bytes(rest), "big")
    parts = (hour, minute, second, microsecond)
    return datetime(high << 8 | low, month & 127, day, *parts, tzinfo=zone, fold=month >> 7)


def _make_date(state: t.Any) -> date:
    year, month, day = struct.unpack(">HBB", _typed(state, bytes))
    return date(year, month, day)


def _make_time(state: t.Any, zone: t.Any = None) -> time | Foreign:
    if isinstance(zone, Foreign):
        return zone
    hour, minute, second, *rest = struct.unpack("6B", _typed(state, bytes))
    return time(hour & 127, minute, second, int.from_bytes(bytes(rest), "big"), tzinfo=zone, fold=hour >> 7)


def _make_timedelta(days: t.Any, seconds: t.Any, microseconds: t.Any) -> timedelta:
    return timedelta(*(_typed(part, int) for part in (days, seconds, microseconds)))


def _make_timezone(offset: t.Any, name: t.Any = None) -> timezone:
    offset = _typed(offset, timedelta)
    return timezone(offset) if name is None else timezone(offset, _typed(name, str))


def _make_uuid(state: t.Any) -> UUID:
    return UUID(int=_typed(_typed(state, dict)["int"], int))


def _make_encoded(text: t.Any, encoding: t.Any) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused("it has bytes in another encoding")
    return t.cast("str", _typed(text, str)).encode("latin-1")


def _make_bytearray(content: t.Any = b"", encoding: t.Any = None) -> bytearray:
    return bytearray(_typed(content, bytes) if encoding is None else _make_encoded(content, encoding))


_Maker = t.Callable[..., t.Any]
_BUILT_IN: dict[str, _Maker] = {
    "complex": lambda real, imaginary: complex(_typed(real, float), _typed(imaginary, float)),
    "set": lambda members=(): set(distinct(list(_typed(members, list, tuple)))),
    "frozenset": lambda members=(): frozenset(distinct(list(_typed(members, list, tuple)))),
    "bytes": lambda: b"",
    "bytearray": _make_bytearray,
}
#: Module and name -> the function that makes the value from the arguments, and from the state, if there is one.
_MAKERS: dict[str, _Maker] = {
    **{f"{module}.{name}": maker for module in ("builtins", "__builtin__") for name, maker in _BUILT_IN.items()},
    "_codecs.encode": _make_encoded,
    "datetime.datetime": _make_datetime,
    "datetime.date": _make_date,
    "datetime.time": _make_time,
    "datetime.timedelta": _make_timedelta,
    "datetime.timezone": _make_timezone,
    "decimal.Decimal": lambda text: Decimal(_typed(text, str)),
    "markupsafe.Markup": lambda text: Markup(_typed(text, str)),
    "uuid.UUID": _make_uuid,
}
