"""Members of sets and keys of dicts that were chosen to fall on one another: few are taken, written or read."""

from __future__ import annotations

import sys
import typing as t
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from attacks import target
from http_support import started
from msgspec import Raw
from msgspec.msgpack import Ext, encode

from flask_sessionstore import Record, SessionCorrupt, SessionInsertError, codec, session
from flask_sessionstore.layout import pack
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

HOUR = timedelta(hours=1)
#: Numbers that differ by this have the same hash, in every process.
MODULUS = sys.hash_info.modulus
TUPLE, SET, FROZENSET, DICT, BIGINT, UUID_, DECIMAL = 1, 2, 3, 4, 5, 11, 12


def number(n: int) -> int:
    return 1 + n * MODULUS


#: For each type whose hash can be computed: members of one hash, by their number.
SHARING: dict[str, t.Callable[[int], t.Any]] = {
    "int": number,
    "Decimal": lambda n: Decimal(number(n)),
    "UUID": lambda n: UUID(int=number(n)),
    "tuple": lambda n: (0, number(n)),
    "tuple of UUID": lambda n: (UUID(int=number(n)), "text"),
    "tuple of tuples": lambda n: ((number(n),), 1.5),
    "frozenset": lambda n: frozenset({number(n)}),
    "frozenset of Decimal": lambda n: frozenset({Decimal(number(n)), 2}),
    "tuple of frozensets": lambda n: (1, frozenset({number(n)})),
    "frozenset of frozensets": lambda n: frozenset({frozenset({number(n)})}),
}
AS_KEYS = ("int", "Decimal", "UUID")

CONTAINERS: dict[str, t.Callable[[list[t.Any]], t.Any]] = {
    "set": set,
    "frozenset": frozenset,
    "dict": dict.fromkeys,
}


def raw(value: t.Any) -> t.Any:
    """What another writer puts into the store for a value of these types, minding no limit."""
    if isinstance(value, (set, frozenset)):
        return Ext(SET if isinstance(value, set) else FROZENSET, encode([raw(part) for part in value]))
    if isinstance(value, tuple):
        return Ext(TUPLE, encode([raw(part) for part in value]))
    if isinstance(value, dict):
        return Ext(DICT, encode([raw(part) for pair in value.items() for part in pair]))
    if isinstance(value, UUID):
        return Ext(UUID_, value.bytes)
    if isinstance(value, Decimal):
        return Ext(DECIMAL, str(value).encode())
    if isinstance(value, int) and value >= 2**63:
        return Ext(BIGINT, value.to_bytes(value.bit_length() // 8 + 1, "big"))
    return value


ATTACKS = [
    pytest.param(make, member, id=f"{container} of {kind}")
    for container, make in CONTAINERS.items()
    for kind, member in SHARING.items()
    if container != "dict" or kind in AS_KEYS
]


@pytest.mark.parametrize(("make", "member"), ATTACKS)
def test_members_that_share_a_hash_are_refused_by_name_and_are_damage_when_read(
    make: t.Callable[[list[t.Any]], t.Any], member: t.Callable[[int], t.Any]
) -> None:
    hostile = make([member(n) for n in range(codec.MAX_SHARED + 1)])
    assert len(set(map(hash, hostile))) == 1 < len(hostile)
    with pytest.raises(SessionInsertError, match="share one hash") as caught:
        codec.encode({"seen": [1, hostile]}, "page")
    assert caught.value.path == "page.seen[1]"
    with pytest.raises(SessionCorrupt):
        codec.decode(encode(["before", raw(hostile)]))


@pytest.mark.parametrize(("make", "member"), ATTACKS)
def test_a_few_may_share_one_by_chance(
    make: t.Callable[[list[t.Any]], t.Any], member: t.Callable[[int], t.Any]
) -> None:
    """But where sets lie in sets, Python compares every member with every other, at each level."""
    value = make([member(n) for n in range(codec.MAX_SHARED)])
    if member is SHARING["frozenset of frozensets"]:
        with pytest.raises(SessionInsertError, match="share one hash"):
            codec.encode(value, "page")
    else:
        assert codec.decode(codec.encode(value, "page")) == codec.decode(encode(raw(value))) == value


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=list(CONTAINERS))
def test_of_members_whose_hash_can_be_computed_there_are_two_thousand_at_most(
    make: t.Callable[[list[t.Any]], t.Any],
) -> None:
    """Even if no two share one: they may lie in each other's way all the same."""
    most = make([n << 20 for n in range(codec.MAX_NUMBERS)])
    assert codec.decode(codec.encode(most, "page")) == most
    more = make([n << 20 for n in range(codec.MAX_NUMBERS + 1)])
    with pytest.raises(SessionInsertError, match="more than 2000 members or keys that are neither text nor bytes"):
        codec.encode(more, "page")
    with pytest.raises(SessionCorrupt):
        codec.decode(encode(raw(more)))


@pytest.mark.parametrize(
    "member",
    [
        timedelta,
        lambda n: float(n) + 0.5,
        lambda n: datetime.fromtimestamp(n, timezone(HOUR)),
        lambda n: datetime.fromtimestamp(n, UTC).time().replace(microsecond=n, tzinfo=timezone(HOUR)),
        lambda n: (n, n),
        lambda n: frozenset({n}),
    ],
    ids=["timedelta", "float", "datetime", "time", "tuple", "frozenset"],
)
def test_whatever_their_type(member: t.Callable[[int], t.Any]) -> None:
    members = {member(n) for n in range(codec.MAX_NUMBERS + 1)}
    with pytest.raises(SessionInsertError, match="more than 2000 members"):
        codec.encode(members, "page")


@pytest.mark.parametrize("member", [str, lambda n: str(n).encode()], ids=["text", "bytes"])
def test_of_text_and_bytes_there_may_be_any_number(member: t.Callable[[int], t.Any]) -> None:
    """What their hash is, nobody can foresee."""
    for make in CONTAINERS.values():
        value = make([member(n) for n in range(10 * codec.MAX_NUMBERS)])
        assert codec.decode(codec.encode(value, "page")) == value


@pytest.mark.parametrize("key", [lambda n: n, raw, lambda n: [n], float], ids=["int", "ext", "list", "float"])
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: [m], lambda m: {"a": [m]}, lambda m: Ext(TUPLE, encode([m]))])
def test_a_plain_map_has_keys_of_text_alone(key: t.Callable[[int], t.Any], wrap: t.Callable[[t.Any], t.Any]) -> None:
    """Encoding writes no other, but MessagePack has them, and what they are decoded to would be counted by nobody."""
    pairs = b"".join(encode(key(n)) + b"\xc0" for n in range(1000))
    hostile = Raw(b"\xde" + (1000).to_bytes(2, "big") + pairs)
    with pytest.raises(SessionCorrupt):
        codec.decode(encode(wrap(hostile)))


def test_large_plain_maps_of_text_are_read_wherever_they_lie() -> None:
    large = {f"key {n}": [n, "\u07de", {"x": b"\xde\xdf"}] for n in range(1000)}
    value: t.Any = large
    for _ in range(codec.MAX_DEPTH - 3):
        value = [value]
    for kept in (large, [large, {"a": large}], (large, {1: large}), value):
        assert codec.decode(codec.encode(kept, "key")) == kept


def test_maps_that_lie_deeper_than_any_that_is_written_are_damage() -> None:
    hostile = encode({f"key {n}": n for n in range(100)})
    for _ in range(200):
        hostile = b"\x91" + hostile
    with pytest.raises(SessionCorrupt):
        codec.decode(hostile)


def test_two_large_numbers_are_not_compared_with_decimals() -> None:
    """To compare an int of n digits with a Decimal takes the square of n."""
    large = 1 << 61 * 10_000  # its hash is that of 1
    with pytest.raises(SessionInsertError, match="share one hash"):
        codec.encode({large, Decimal(1)}, "page")
    assert codec.decode(codec.encode({large, Decimal(2)}, "page")) == {large, Decimal(2)}


def test_the_line_that_stores_it_is_told_and_a_planted_one_is_absent(clock: Clock) -> None:
    store = MemoryStore()
    user = started(target(store, clock), good="tea")
    hostile = {number(n) for n in range(1000)}

    def view() -> None:
        with pytest.raises(SessionInsertError) as caught:
            session["seen"] = hostile
        assert caught.value.path == "seen"

    user.does(view)
    assert user.data == {"good": "tea"}
    handle = t.cast("str", user.asks(lambda: session.handle))
    record = Record(state={"seen": encode(raw(hostile)), "good": b"\xa3tea"}).written(int(clock() * 1000), HOUR)
    store.drop(handle)
    store.add(handle, pack(record, handle), HOUR)
    assert user.asks(lambda: ("seen" in session, session.get("good"))) == (False, "tea")
