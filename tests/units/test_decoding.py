"""Bytes to values: bytes that are not ours, and typed reads."""

from __future__ import annotations

import contextlib
import dataclasses
import tracemalloc
import typing as t
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from values import Colour, Level, Point, values

from flask_sessionstore import SessionCorrupt, SessionGetError, codec

few = settings(max_examples=settings().max_examples // 4)  # of what takes long to make up
SECRET = "tops3cret"


# -- bytes that are not ours -----------------------------------------------------------------------------------------


def decodes_or_is_corrupt(data: bytes) -> None:
    with contextlib.suppress(SessionCorrupt):
        codec.decode(data)


@given(st.binary())
def test_any_bytes_decode_or_are_corrupt(data: bytes) -> None:
    decodes_or_is_corrupt(data)


@few
@given(values, st.data())
def test_damaged_bytes_decode_or_are_corrupt(value: t.Any, draw: st.DataObject) -> None:
    data = bytearray(codec.encode(value, "key"))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    decodes_or_is_corrupt(bytes(data))


@few
@given(values, st.data())
def test_bytes_cut_off_or_with_more_behind_them_are_corrupt(value: t.Any, draw: st.DataObject) -> None:
    data = codec.encode(value, "key")
    for wrong in (data[: draw.draw(st.integers(0, len(data) - 1))], data + b"\x00"):
        with pytest.raises(SessionCorrupt):
            codec.decode(wrong)


def test_an_extension_with_any_tag_and_content_decodes_or_is_corrupt() -> None:
    contents = (b"", b"\xff", b"~", b"\x91\x91\x01", b"sNaN", b"9" * 400, b"\x93\x01\x01\xcf" + b"\xff" * 8)
    for tag in range(-128, 128):
        for content in contents:
            decodes_or_is_corrupt(msgspec.msgpack.encode(msgspec.msgpack.Ext(tag, content)))


@pytest.mark.parametrize("kind", ["dd", "df", "db", "c6", "c9"], ids=["array", "map", "str", "bin", "ext"])
def test_a_length_that_lies_takes_no_memory(kind: str) -> None:
    lie = bytes.fromhex(f"{kind}ffffffff01")
    tracemalloc.start()
    try:
        for data in (lie, msgspec.msgpack.encode(msgspec.msgpack.Ext(1, lie))):
            with pytest.raises(SessionCorrupt):
                codec.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_containers_without_end_are_corrupt() -> None:
    within = b"\x01"
    for _ in range(5000):
        within = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\x91" + within))
    for data in (b"\x91" * 100_000, within):
        with pytest.raises(SessionCorrupt):
            codec.decode(data)


# -- typed reads -----------------------------------------------------------------------------------------------------


class Line(t.TypedDict):
    name: str
    price: Decimal


class Item(msgspec.Struct):
    n: int
    at: datetime | None = None


@dataclasses.dataclass
class Cart:
    lines: list[Item]


MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


FITTING: list[tuple[t.Any, t.Any, t.Any]] = [
    (5, int, 5),
    (True, bool, True),
    (2**70, int, 2**70),
    (0.5, float, 0.5),
    ("a", str, "a"),
    (b"a", bytes, b"a"),
    ([1, 2], list[int], [1, 2]),
    ((1, "a"), tuple[int, str], (1, "a")),
    ({1, 2}, set[int], {1, 2}),
    (frozenset({1}), frozenset[int], frozenset({1})),
    ({1: "a"}, dict[int, str], {1: "a"}),
    ({"a": 1}, dict[str, int], {"a": 1}),
    (MOMENT, datetime, MOMENT),
    (MOMENT.replace(tzinfo=None), datetime, MOMENT.replace(tzinfo=None)),
    (date(2026, 1, 2), date, date(2026, 1, 2)),
    (time(1, 2, 3), time, time(1, 2, 3)),
    (timedelta(1, 2, 3), timedelta, timedelta(1, 2, 3)),
    (UUID(int=5), UUID, UUID(int=5)),
    (Decimal("1.50"), Decimal, Decimal("1.50")),
    (None, int | None, None),
    (5, t.Optional[int], 5),  # noqa: UP045
    ("red", Colour, Colour.RED),
    (3, Level, Level.HIGH),
    ({"name": "tea", "price": Decimal(2)}, Line, {"name": "tea", "price": Decimal(2)}),
    ({"n": 1, "at": MOMENT}, Item, Item(1, MOMENT)),
    ({"lines": [{"n": 1}, {"n": 2}]}, Cart, Cart([Item(1), Item(2)])),
    ((1, 2), Point, Point(1, 2)),
    (5, t.Any, 5),
    ({"a": {1}}, dict[str, t.Any], {"a": {1}}),
    (Markup("<b>"), str, Markup("<b>")),
    (Markup("<b>"), Markup, Markup("<b>")),
]


@pytest.mark.parametrize(("value", "type", "expected"), FITTING, ids=lambda part: str(part)[:30])
def test_a_value_is_read_as_the_type_asked_for(value: t.Any, type: t.Any, expected: t.Any) -> None:
    stored = codec.decode(codec.encode(value, "key"))
    converted = codec.convert(stored, type, "key")
    assert converted == expected
    assert converted.__class__ is expected.__class__


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    n: int = 0


@dataclasses.dataclass
class Checked:
    word: str

    def __post_init__(self) -> None:
        raise ValueError(f"{self.word} is no word")


MISFITS: list[tuple[t.Any, t.Any, str]] = [
    (SECRET, int, "key"),
    (7654321, str, "key"),
    (0.7654321, int, "key"),
    ([1, SECRET], list[int], "key[1]"),
    ([{}, {}, {}, {"price": SECRET}], list[dict[str, int]], "key[3][...]"),
    ({"lines": [{"n": 1}, {"n": SECRET}]}, Cart, "key.lines[1].n"),
    ({"name": SECRET}, Line, "key"),
    (SECRET, Colour, "key"),
    (7654321, Level, "key"),
    (SECRET, t.Literal["a", "b"], "key"),
    ({SECRET}, set[int], "key[0]"),
    ((1, 2), tuple[int, str], "key[1]"),
    ((SECRET,), tuple[int, int], "key"),
    (SECRET, datetime, "key"),
    (SECRET, UUID, "key"),
    (None, int, "key"),
    (SECRET, int | None, "key"),
    (True, int, "key"),
    (SECRET, t.Annotated[str, msgspec.Meta(max_length=3)], "key"),
]


@pytest.mark.parametrize(("value", "type", "path"), MISFITS, ids=lambda part: str(part)[:30])
def test_a_value_of_another_type_is_an_error_that_names_the_place_and_never_the_value(
    value: t.Any, type: t.Any, path: str
) -> None:
    with pytest.raises(SessionGetError) as caught:
        codec.convert(value, type, "key")
    error = caught.value
    assert (error.path, error.expected, error.value) == (path, type, value)
    assert "'key'" in str(error)
    assert SECRET not in str(error)
    assert "7654321" not in str(error)


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ({"word": SECRET}, Checked),
        ({SECRET: 1}, Strict),
        ({SECRET: 1}, dict[int, int]),
    ],
)
def test_a_check_of_the_types_own_and_its_unknown_fields_do_not_quote_the_value_either(
    value: t.Any, type: t.Any
) -> None:
    with pytest.raises(SessionGetError) as caught:
        codec.convert(value, type, "key")
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.path)
