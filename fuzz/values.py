"""What a record holds under a key: one encoded value, in MessagePack and its extensions."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import typing as t
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from markupsafe import Markup

from flask_sessionstore import Record, Session, SessionCorrupt, SessionGetError, SessionInsertError, codec
from flask_sessionstore.layout import pack

from . import requests


class Colour(enum.Enum):
    """What a view may have stored the value of."""

    RED = "red"
    GREEN = "green"


@dataclasses.dataclass
class Article:
    """What a view may have stored, and ask for again; as deep as it likes."""

    name: str
    price: Decimal = Decimal(0)
    parts: list[Article] | None = None


#: What views ask for with ``get_as``.
TYPES: tuple[t.Any, ...] = (
    *(int, float, str, bytes, bool, None, datetime, date, time, timedelta, UUID, Decimal, Colour, Article),
    *(list[int], dict[str, int], dict[int, str], set[str], frozenset[int], tuple[int, str], int | str | None),
    t.Literal["a", 1],
)


def check(data: bytes) -> None:
    """Decode ``data``, encode what it is, ask for it as every type, and have a view read it."""
    _check_request(data)
    try:
        value = codec.decode(data)
    except SessionCorrupt:
        return
    with contextlib.suppress(SessionInsertError):  # more can be read than we write
        again = codec.encode(value, "value")
        assert codec.encode(codec.decode(again), "value") == again
    for expected in TYPES:
        with contextlib.suppress(SessionGetError):
            codec.convert(value, expected, "value")


def seeds() -> list[bytes]:
    """A value of every type that comes back."""
    values: list[t.Any] = [None, True, 1, -(2**40), 2**70, 1.5, "tea", "\ud800", b"tea", Markup("<b>"), UUID(int=1)]
    values += [date(2026, 1, 1), time(12, 30, fold=1), timedelta(1, 2, 3), Decimal("1.10"), datetime(2026, 1, 1)]  # noqa: DTZ001
    values += [datetime(2026, 1, 1, tzinfo=UTC), [1, [2]], (1, (2,)), {1, 2}, frozenset("ab"), {"a": {"b": []}}]
    values += [2**4000, Decimal("sNaN"), Decimal("1e999999"), float("nan"), float("-inf"), "2026-01-01T00:00", "1.10"]
    values += [{1: 2, None: 3, b"k": 4, 1.5: 5}, {"name": "tea", "price": Decimal(3)}, [{"a": (1, {2})}] * 2]
    deep = b"\x81\xa5parts\x91" * 200 + b"\x80", b"\x91" * 900 + b"\x90"  # deeper than is ever written
    return [*(codec.encode(value, "value") for value in values), *deep]


def _check_request(data: bytes) -> None:
    """A view that reads the value and leaves it alone gets its response."""
    record = Record(state={"value": data, "_user_id": data}).written(requests.NOW * 1000, timedelta(hours=1))
    for view in (Session.copy, dict):
        requests.respond(requests.HEADER, view, requests.store_with(pack(record, requests.KEY.handle)))
