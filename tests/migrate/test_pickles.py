"""Pickles are read as data: plain ones come back whole, and of hostile ones nothing is called, imported or unfolded."""

from __future__ import annotations

import builtins
import collections
import contextlib
import os
import pickle
import pickletools
import subprocess
import sys
import tracemalloc
import typing as t
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from flask_sessionstore.errors import SessionCorrupt
from flask_sessionstore.migrate.pickles import Foreign, loads

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
    | st.complex_numbers(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=2), "CEST")))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.text().map(Markup)
)
keys = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.uuids() | st.dates()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.sets(keys)
        | st.frozensets(keys | st.tuples(keys, keys))
    ),
    max_leaves=10,
)


@settings(max_examples=50)
@given(value=st.dictionaries(st.text(), values), protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_come_back_from_every_protocol(value: dict[str, t.Any], protocol: int) -> None:
    found, foreign = loads(pickle.dumps(value, protocol))
    assert found == value
    assert repr(found) == repr(pickle.loads(pickle.dumps(value, protocol)))  # types, too
    assert foreign == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_object_twice_comes_back_twice(protocol: int) -> None:
    shared = [uuid.uuid1(), {"n": 1}, (1, 2)]
    assert loads(pickle.dumps({"a": shared, "b": shared, "c": shared[0]}, protocol))[0] == {
        "a": shared,
        "b": shared,
        "c": shared[0],
    }


@given(data=st.binary(max_size=200))
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for attempt in (data, b"\x80\x04" + data + b".", b"(" + data + b"."):
        with contextlib.suppress(SessionCorrupt):
            loads(attempt)


# -- what a hostile writer tries -----------------------------------------------------------------------------------


class Calls:
    """Pickled as a call of ``what``."""

    def __init__(self, what: t.Any, *arguments: t.Any, state: t.Any = None) -> None:
        self.how = (what, arguments) if state is None else (what, arguments, state)

    def __reduce__(self) -> t.Any:
        return self.how


class Spy(dict[str, t.Any]):
    """Notes every way in which an object of a writer's could be asked to do something."""

    touched: t.ClassVar[list[str]] = []

    def __new__(cls, *args: t.Any) -> t.Self:
        cls.touched.append("new")
        return super().__new__(cls)

    def __setstate__(self, state: t.Any) -> None:
        self.touched.append("setstate")

    def __setitem__(self, key: str, value: t.Any) -> None:
        self.touched.append("setitem")

    def __hash__(self) -> int:  # type: ignore[override]
        self.touched.append("hash")
        return 1

    def __reduce__(self) -> t.Any:
        return Spy, (), {"a": 1}, None, iter([("k", "v")])


ATTACKS: dict[str, bytes] = {
    "os.system": b"cos\nsystem\n(S'touch {marker}'\ntR.",
    "posix.system, protocol 4": pickle.dumps(Calls(os.system, "touch {marker}"), 4),
    "subprocess.Popen": pickle.dumps(Calls(subprocess.Popen, ["touch", "{marker}"])),
    "builtins.eval": pickle.dumps(Calls(builtins.eval, "open('{marker}', 'w')")),
    "builtins.exec": pickle.dumps(Calls(builtins.exec, "open('{marker}', 'w')")),
    "builtins.open": pickle.dumps(Calls(open, "{marker}", "w")),
    "builtins.getattr": pickle.dumps(Calls(getattr, datetime, "__subclasses__")),
    "builtins.__import__": pickle.dumps(Calls(__import__, "this")),
    "a dotted name": b"\x80\x04\x8c\x08datetime\x8c\x11datetime.__class__\x93.",
    "INST": b"(S'touch {marker}'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch {marker}'\no.",
    "NEWOBJ": b"\x80\x02cos\nsystem\n(S'touch {marker}'\nt\x81.",
    "NEWOBJ_EX": b"\x80\x04cos\nsystem\n(S'touch {marker}'\nt}\x92.",
    "copyreg._reconstructor": b"ccopy_reg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
    "copyreg.__newobj__": b"ccopy_reg\n__newobj__\n(cos\nsystem\nS'touch {marker}'\ntR.",
    "a state for a function": b"cos\nsystem\n(tR}S'a'\nI1\nsb.",
    "a call of what a call returned": b"c__builtin__\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch {marker}'\ntR.",
    "codecs.encode by another codec": b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    "logging.config": b"clogging.config\nlisten\n(tR.",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_that_a_pickle_names_is_called(attack: bytes, tmp_path: t.Any) -> None:
    marker = tmp_path / "was-here"
    before = set(sys.modules)
    attack = attack.replace(b"{marker}", str(marker).encode())
    for data in (attack, b"\x80\x02}U\x01x" + attack.removeprefix(b"\x80\x04").removesuffix(b".") + b"s."):
        try:
            loads(data)
        except SessionCorrupt:
            continue
    assert not marker.exists()
    assert set(sys.modules) == before


def test_a_class_that_can_be_imported_is_not_asked_for_anything() -> None:
    data = pickle.dumps({"spy": Spy(), "in a set": frozenset([Spy()]), "beside": 1})
    Spy.touched.clear()
    found, foreign = loads(data)
    assert Spy.touched == []
    assert found["beside"] == 1
    assert isinstance(found["spy"], Foreign)
    assert foreign == [f"{__name__}.Spy"]


class Number(int):
    pass


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (collections.defaultdict(list, a=[1]), "collections.defaultdict"),
        (Number(3), f"{__name__}.Number"),
        (collections.deque([1, 2]), "collections.deque"),
        (range(3), "builtins.range"),
        (datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), "builtins.getattr"),
        (time(12, tzinfo=ZoneInfo("Europe/Berlin")), "builtins.getattr"),
        (dict, "builtins.dict"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_is_not_known_is_named_and_the_rest_is_there(value: t.Any, name: str, protocol: int) -> None:
    found, foreign = loads(pickle.dumps({"_user_id": "7", "odd": [value]}, protocol))
    assert isinstance(found["odd"][0], Foreign)
    assert {**found, "odd": None} == {"_user_id": "7", "odd": None}
    assert [one.replace("__builtin__", "builtins").replace(".xrange", ".range") for one in foreign] == [name]


def test_what_is_named_is_shown_by_its_name_alone() -> None:
    assert repr(loads(pickle.dumps(Calls(os.system, "secret")))[0]) == "<Foreign posix.system>"


@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        (datetime, (b"\x07\xea\x0d\x01\x00\x00\x00\x00\x00\x00",)),
        (datetime, (b"\x07\xea\x01\x01\x63\x00\x00\x00\x00\x00",)),
        (datetime, (b"short",)),
        (datetime, (2026, 1, 1)),
        (datetime, (b"\x07\xea\x01\x01\x00\x00\x00\x00\x00\x00", "UTC")),
        (date, (b"\x07\xea\x02\x1e",)),
        (timedelta, (10**12, 0, 0)),
        (timedelta, ("1", 0, 0)),
        (timezone, (timedelta(days=2),)),
        (Decimal, ("no number",)),
        (Decimal, (1.5,)),
        (Markup, (b"bytes",)),
        (complex, ("1", 2.0)),
        (set, ([[]],)),
        (set, (7,)),
        (bytes, (10**9,)),
        (bytearray, (10**9,)),
        (uuid.UUID, ("not an id",)),
    ],
)
def test_arguments_that_no_pickler_writes_are_refused(what: t.Any, arguments: tuple[t.Any, ...]) -> None:
    with pytest.raises(SessionCorrupt):
        loads(pickle.dumps({"x": Calls(what, *arguments)}))


def doubling(levels: int, wrap: t.Callable[[t.Any], t.Any]) -> bytes:
    value: t.Any = ("x",)
    for _ in range(levels):
        value = wrap(value)
    return pickle.dumps({"x": value})


def within_itself() -> bytes:
    value: list[t.Any] = []
    value.append(value)
    return pickle.dumps({"x": value})


BOMBS: dict[str, bytes] = {
    "a list that doubles": doubling(40, lambda value: [value, value]),
    "a key that doubles": b"\x80\x04}N\x85" + b"".join(b"\x94h%c\x86" % n for n in range(40)) + b"Ns.",
    "a member that doubles": doubling(40, lambda value: frozenset([(value, value)])),
    "a long text ten thousand times": pickle.dumps({"x": ["y" * 10_000] * 10_000}),
    "a list within itself": within_itself(),
    "deep lists": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b"\x80\x04)" + b"\x85" * 100_000 + b".",
    "a text that promises 4 GB": b"\x80\x04\x8d" + (2**32).to_bytes(8, "little") + b"x.",
    "bytes that promise 8 EB": b"\x80\x04\x8e" + (2**63 - 1).to_bytes(8, "little") + b"x.",
    "a bytearray that promises 8 EB": b"\x80\x05\x96" + (2**63 - 1).to_bytes(8, "little") + b"x.",
    "a number that promises 2 GB": b"\x80\x04\x8b" + (2**31 - 1).to_bytes(4, "little") + b"x.",
    "a frame that promises 8 EB": b"\x80\x04\x95" + (2**63 - 1).to_bytes(8, "little") + b"N.x",
    "a memo of four billion": b"\x80\x04Nr\xff\xff\xff\xff0h\x00.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "numbers of one hash": pickle.dumps({"x": {n * sys.hash_info.modulus: 1 for n in range(1, 3000)}}),
    "marks over many values": b"\x80\x04" + b"N" * 100_000 + b"(l0" * 100_000 + b".",
    "ext codes": b"\x80\x02\x82\x01.",
    "persistent ids": b"Pid\n.",
    "buffers of another place": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("name", [name for name in BOMBS if "promise" in name or "billion" in name or "text" in name])
def test_no_memory_is_taken_for_what_is_only_promised(name: str) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(SessionCorrupt):
            loads(BOMBS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


HARMLESS = ("marks over many values", "a frame that promises 8 EB")


@pytest.mark.parametrize("name", [name for name in BOMBS if name not in HARMLESS])
def test_a_bomb_is_refused(name: str) -> None:
    with pytest.raises(SessionCorrupt, match="its pickle cannot be read"):
        loads(BOMBS[name])


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_a_bomb_is_read(name: str) -> None:
    assert loads(BOMBS[name])[0] in (None, [])


def test_a_cut_off_pickle_is_refused_wherever_it_is_cut() -> None:
    data = pickle.dumps({"_user_id": "7", "when": datetime(2026, 1, 1, tzinfo=UTC), "cart": [1, (2, 3)]})
    for length in range(len(data)):
        with pytest.raises(SessionCorrupt):
            loads(data[:length])


def test_an_instruction_in_the_wrong_place_is_refused() -> None:
    for opcode in pickletools.opcodes:
        if (
            opcode.arg is None
            and opcode.name not in ("MARK", "NONE", "NEWTRUE", "NEWFALSE", "STOP")
            and not opcode.name.startswith("EMPTY_")
        ):
            with pytest.raises(SessionCorrupt):
                loads(opcode.code.encode("latin-1") + b".")


MISUSES: dict[str, bytes] = {
    "a number that names a class": b"\x80\x04K\x01K\x02\x93.",
    "an item put into a number": b"K\x01K\x02a.",
    "a member put into a list": b"\x80\x04](K\x02\x90.",
    "a pair put into a list": b"]K\x01K\x02s.",
    "a key without a value": b"}(K\x01u.",
    "a state for a number": b"K\x01}b.",
    "a call of a set that was made": b"c__builtin__\nset\n)R)R.",
    "a call of a number": b"K\x01)R.",
    "a call with a number for its arguments": b"c__builtin__\nset\nK\x01R.",
}


@pytest.mark.parametrize("data", MISUSES.values(), ids=MISUSES)
def test_an_instruction_for_a_value_of_another_type_is_damage(data: bytes) -> None:
    with pytest.raises(SessionCorrupt, match="it is damaged"):
        loads(data)


def test_what_is_put_into_an_object_that_is_not_made_is_dropped_with_it() -> None:
    filled = b"(K\x01\x90(K\x02e(K\x03K\x04u"  # a member, an item and a pair
    found, foreign = loads(b"\x80\x04cshop\nCart\n)R" + filled + b".")
    assert isinstance(found, Foreign)
    assert foreign == ["shop.Cart"]


def test_a_zone_is_no_value_of_a_writers_choosing() -> None:
    state = b"\x07\xea\x01\x01\x00\x00\x00\x00\x00\x00"
    found, foreign = loads(pickle.dumps({"x": Calls(datetime, state, Calls(Number, 1))}))
    assert isinstance(found["x"], Foreign)
    assert foreign == [f"{__name__}.Number"]
