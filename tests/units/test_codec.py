"""Values to bytes and back: which types survive, and what becomes of the others."""

from __future__ import annotations

import dataclasses
import enum
import os
import random
import subprocess
import sys
import typing as t
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from values import Colour, Level, Point, members, values
from werkzeug.datastructures import ImmutableDict, ImmutableMultiDict, MultiDict
from werkzeug.local import LocalProxy

from flask_sessionstore import SessionInsertError, codec

# -- every type that comes back, nested in every way -----------------------------------------------------------------


few = settings(max_examples=settings().max_examples // 4)  # of what takes long to make up


def look(value: t.Any) -> t.Any:
    """All that there is to see of a value: its types throughout, order of dicts, sign of zero, kind of NaN."""
    kind = type(value)
    if kind is float:
        return kind, value.hex()
    if kind is dict:
        return kind, [(look(key), look(item)) for key, item in value.items()]
    if kind in (list, tuple):
        return kind, [look(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted((look(item) for item in value), key=repr)
    return kind, repr(value)


@given(values)
@example(2**64)
@example(-(2**63) - 1)
@example(datetime(2026, 10, 25, 2, 30, 0, 1, fold=1))  # noqa: DTZ001  - naive
@example(Decimal("1E+999999"))
@example([float("nan"), float("-inf"), -0.0])
@example({"\ud800": 1, "é": 2, b"a": 3, "a": 4, None: 5, 1.5: 6, Markup("m"): 7})
def test_every_type_comes_back_equal_and_with_the_same_type_throughout(value: t.Any) -> None:
    data, faithful = codec.encode_plain(value, "key")
    assert look(codec.decode(data)) == look(value)
    assert faithful


@few
@given(st.lists(members, unique=True), st.randoms(use_true_random=False))
def test_a_set_gives_the_same_bytes_whatever_its_order(items: list[t.Any], shuffle: random.Random) -> None:
    before = codec.encode(set(items), "key")
    shuffle.shuffle(items)
    assert codec.encode(set(items), "key") == before
    assert codec.encode(codec.decode(before), "key") == before


@few
@given(values)
def test_what_was_read_gives_the_bytes_that_it_was_read_from(value: t.Any) -> None:
    data = codec.encode(value, "key")
    assert codec.encode(codec.decode(data), "key") == data


def test_a_value_gives_the_same_bytes_in_every_process() -> None:
    source = "{frozenset({'a', 'b', ('c', 1.5), None, b'd', frozenset({'e', 'f'})}): 1}.popitem()[0]"
    script = f"from flask_sessionstore import codec; print(codec.encode({source}, 'key').hex())"
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        outputs.add(run.stdout.decode().strip())
    assert outputs == {codec.encode(eval(source), "key").hex()}


def test_a_timezone_comes_back_as_its_offset() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1, seconds=2, microseconds=3)))
    back = codec.decode(codec.encode(moment, "key"))
    assert (back, back.utcoffset(), type(back.tzinfo)) == (moment, moment.utcoffset(), timezone)


# -- plain forms -----------------------------------------------------------------------------------------------------


class Mode(enum.StrEnum):
    DARK = "dark"


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Real(float):
    pass


class Raw(bytes):
    pass


class Mapping(dict[str, int]):
    pass


class Items(list[int]):
    pass


class Members(set[int]):
    pass


class Frozen(frozenset[int]):
    pass


class Moment(datetime):
    pass


class Day(date):
    pass


class Hour(time):
    pass


class Span(timedelta):
    pass


class Money(Decimal):
    pass


class Id(UUID):
    pass


@dataclasses.dataclass
class Article:
    name: str
    price: Decimal
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    n: int


class Row(msgspec.Struct):
    n: int
    point: t.Any = None


class Widget:
    def __html__(self) -> str:
        return "<b>"


class Lazy:
    """As Flask-Babel's and Django's lazy strings are: no str, but all of its methods, and equal to its text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return self._text == other

    def __hash__(self) -> int:
        return hash(self._text)

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._text, name)


PLAIN_FORMS: list[tuple[t.Any, t.Any]] = [
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (Mode.DARK, "dark"),
    (Flags.A | Flags.B, 3),
    (Text("a"), "a"),
    (Number(5), 5),
    (Real(0.5), 0.5),
    (Raw(b"a"), b"a"),
    (Mapping(a=1), {"a": 1}),
    (Items([1]), [1]),
    (Members({1}), {1}),
    (Frozen({1}), frozenset({1})),
    (Moment(2026, 1, 2, 3, 4, 5, 6, UTC), datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
    (Moment(2026, 1, 2, fold=1), datetime(2026, 1, 2, fold=1)),  # noqa: DTZ001  - naive
    (Day(2026, 1, 2), date(2026, 1, 2)),
    (Hour(1, 2, 3, 4, fold=1), time(1, 2, 3, 4, fold=1)),
    (Span(1, 2, 3), timedelta(1, 2, 3)),
    (Money("1.50"), Decimal("1.50")),
    (Id(int=5), UUID(int=5)),
    (Point(1, 2), (1, 2)),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (defaultdict(list, a=[1]), {"a": [1]}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (MultiDict([("a", 1), ("a", 2), ("b", 3)]), {"a": 1, "b": 3}),
    (ImmutableMultiDict([("a", 1), ("a", 2)]), {"a": 1}),
    (ImmutableDict(a=1), {"a": 1}),
    (Article("tea", Decimal("2.5"), ["x"]), {"name": "tea", "price": Decimal("2.5"), "tags": ["x"]}),
    (Slotted(1), {"n": 1}),
    (Row(1, Point(1, 2)), {"n": 1, "point": (1, 2)}),
    (Widget(), Markup("<b>")),
    (Lazy("später"), "später"),
    (bytearray(b"a"), b"a"),
    (memoryview(b"a"), b"a"),
    (
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=1))),
    ),
    (datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")), datetime(2026, 1, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("value", "plain"), PLAIN_FORMS, ids=lambda value: type(value).__name__)
def test_what_has_a_plain_form_is_stored_in_it(value: t.Any, plain: t.Any) -> None:
    for outer, inner in ((value, plain), ([{"k": value}], [{"k": plain}]), ((value,), (plain,))):
        data, faithful = codec.encode_plain(outer, "key")
        assert look(codec.decode(data)) == look(inner)
        assert not faithful


@pytest.mark.parametrize(("key", "plain"), [(Colour.RED, "red"), (Level.HIGH, 3), (Text("a"), "a"), (Number(1), 1)])
def test_a_dictionarys_key_is_stored_in_its_plain_form(key: t.Any, plain: t.Any) -> None:
    assert look(codec.decode(codec.encode({key: None}, "key"))) == look({plain: None})


def test_two_keys_that_would_become_one_are_refused() -> None:
    with pytest.raises(SessionInsertError, match="two keys that become the same key"):
        codec.encode({Colour.RED: 1, "red": 2}, "key")


# -- what is refused -------------------------------------------------------------------------------------------------


SECRET = "tops3cret"


class Broken(Exception):
    """What a value raises that is looked at."""


def breaks(*args: object) -> t.Any:
    raise Broken(SECRET)


class NoTime(datetime):
    """As pandas' NaT is: a datetime whose parts are not there."""

    date = timetz = breaks


class BrokenEnum(enum.Enum):
    A = 1
    value = property(breaks)


class BrokenZone(tzinfo):
    utcoffset = dst = tzname = breaks


BROKEN: dict[str, t.Any] = {
    "__html__": type("Broken", (), {"__html__": breaks})(),
    "__iter__": type("Broken", (list,), {"__iter__": breaks})([1]),
    "items": type("Broken", (dict,), {"items": breaks})(a=1),
    "__int__": type("Broken", (int,), {"__int__": breaks, "__trunc__": breaks})(1),
    "__str__": type("Broken", (), {"__str__": breaks, "casefold": lambda self: ""})(),
    "__eq__": type("Broken", (), {"__eq__": breaks, "casefold": lambda self: ""})(),
    "a property": type("Broken", (), {"casefold": property(breaks)})(),
    "a dataclass' field": dataclasses.make_dataclass("Broken", ["a"], namespace={"__getattribute__": breaks})(1),
    "value": BrokenEnum.A,
    "a date": NoTime(2026, 1, 1),
    "a zone": datetime(2026, 1, 1, tzinfo=BrokenZone()),
    "a proxy of nothing": LocalProxy(breaks),
}


class Opaque:
    def __repr__(self) -> str:
        return SECRET

    __str__ = __repr__


def unkeepable(path: str, type: type, value: t.Any) -> t.Any:
    return pytest.param(value, path, type, id=f"{path} {type.__name__}")


REFUSED = [
    unkeepable("cart", Opaque, Opaque()),
    unkeepable("cart[1]", Opaque, [SECRET, Opaque()]),
    unkeepable("cart[3].price", Opaque, [{}, {}, {}, {"name": SECRET, "price": Opaque()}]),
    unkeepable("cart.a[0].b", complex, {"a": ({"b": 1j},)}),
    unkeepable("cart['an item']", deque, {"an item": deque([SECRET])}),
    unkeepable("cart[7]", ChainMap, {7: ChainMap({SECRET: 1})}),
    unkeepable("cart", type, Opaque),
    unkeepable("cart", range, range(3)),
    unkeepable("cart.point", Opaque, Row(1, Opaque())),
    unkeepable("cart.tags[0]", Opaque, Article(SECRET, Decimal(1), [Opaque()])),  # type: ignore[list-item]
    unkeepable("cart[0]", ZoneInfo, [ZoneInfo("UTC")]),
    unkeepable("cart", Opaque, {Opaque()}),
    unkeepable("cart", tuple, {(1, SECRET): 1}),
    unkeepable("cart", frozenset, {frozenset({SECRET}): 1}),
    unkeepable("cart", Opaque, {Opaque(): 1}),
]


@pytest.mark.parametrize(("value", "path", "type"), REFUSED)
def test_what_cannot_be_kept_is_refused_by_path_and_type_without_its_value(value: t.Any, path: str, type: type) -> None:
    with pytest.raises(SessionInsertError) as caught:
        codec.encode(value, "cart")
    assert (caught.value.path, caught.value.type) == (path, type)
    assert type.__qualname__ in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("what", BROKEN)
def test_whatever_a_value_raises_when_it_is_looked_at_is_a_refusal_by_path(what: str) -> None:
    value = BROKEN[what]
    for outer, path in ((value, "cart"), ({"a": [1, value]}, "cart.a[1]"), ({1: (value,)}, "cart[1][0]")):
        with pytest.raises(SessionInsertError, match="reading it raised Broken") as caught:
            codec.encode(outer, "cart")
        assert caught.value.path == path
        assert isinstance(caught.value.__cause__, Broken)
        assert SECRET not in str(caught.value)


def test_a_key_s_own_repr_may_raise() -> None:
    key = type("Key", (int,), {"__repr__": breaks})(1)
    with pytest.raises(SessionInsertError) as caught:
        codec.encode({key: Opaque()}, "cart")
    assert (caught.value.path, caught.value.type) == ("cart[...]", Opaque)


def test_a_value_that_stands_for_itself_is_refused() -> None:
    proxy: t.Any = LocalProxy(lambda: proxy)
    with pytest.raises(SessionInsertError) as caught:
        codec.encode([proxy], "cart")
    assert caught.value.path == "cart[0]"


@dataclasses.dataclass(frozen=True)
class Frozenpoint:
    x: int


def test_a_member_that_has_no_hash_when_it_is_read_is_refused() -> None:
    """Its plain form is a dict, of which no set can be made."""
    with pytest.raises(SessionInsertError, match="comes back as a type without a hash") as caught:
        codec.encode({"points": {Frozenpoint(1)}}, "cart")
    assert caught.value.path == "cart.points"


def test_members_that_are_stored_alike_are_stored_once() -> None:
    assert codec.decode(codec.encode({Colour.RED, "red"}, "key")) == {"red"}
    assert codec.encode({Colour.RED, "red"}, "key") == codec.encode({"red"}, "key")


PROXIED = [
    "text",
    1.5,
    True,
    7,
    None,
    b"bytes",
    [1],
    {"a": 1},
    {1},
    datetime(2026, 1, 1, tzinfo=UTC),
    Markup("<b>"),
    UUID(int=5),
]


@pytest.mark.parametrize("value", PROXIED, ids=lambda value: type(value).__name__)
def test_a_proxy_is_stored_as_what_it_stands_for(value: t.Any) -> None:
    proxy = LocalProxy(lambda: value)
    for outer, inner in ((proxy, value), ([{"k": proxy}], [{"k": value}]), ((proxy,), (value,))):
        data, faithful = codec.encode_plain(outer, "key")
        assert look(codec.decode(data)) == look(inner)
        assert not faithful


def test_a_huge_number_as_a_key_is_named_in_the_path_like_any_other() -> None:
    with pytest.raises(SessionInsertError) as caught:
        codec.encode({10**5000: Opaque()}, "cart")
    assert caught.value.type is Opaque


NESTINGS = [
    lambda inner: [inner],
    lambda inner: (inner,),
    lambda inner: {"k": inner},
    lambda inner: {1: inner},
    lambda inner: frozenset({inner}),
]


def nested(depth: int, nestings: t.Sequence[t.Callable[[t.Any], t.Any]]) -> t.Any:
    value: t.Any = 1
    for level in range(depth):
        value = nestings[level % len(nestings)](value)
    return value


@pytest.mark.parametrize("nestings", [*([n] for n in NESTINGS), NESTINGS[:4]])
def test_a_hundred_containers_in_one_another_are_the_limit(nestings: t.Any) -> None:
    deepest = nested(codec.MAX_DEPTH, nestings)
    assert look(codec.decode(codec.encode(deepest, "key"))) == look(deepest)
    with pytest.raises(SessionInsertError, match="deeper than 100 containers"):
        codec.encode(nested(codec.MAX_DEPTH + 1, nestings), "key")


def test_a_list_that_contains_itself_is_refused() -> None:
    endless: list[t.Any] = []
    endless.append(endless)
    with pytest.raises(SessionInsertError, match="deeper than 100 containers"):
        codec.encode(endless, "key")


@pytest.mark.parametrize("bits", [64, 100, 1000])
def test_a_large_integer_takes_the_bytes_that_it_has(bits: int) -> None:
    for value in (1 << bits, -1 << bits):
        assert len(codec.encode(value, "n")) <= bits // 8 + 8
