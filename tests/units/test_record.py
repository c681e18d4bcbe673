"""Records and tombstones: one byte layout, and what becomes of bytes that do not have it."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import moments_ms, records, tombstones

from flask_sessionstore import Record, SessionCorrupt
from flask_sessionstore.layout import (
    FORMAT,
    REVISION,
    TIMES,
    expires_ms_of,
    move_times,
    owner_in,
    pack,
    pack_tombstone,
    revision_of,
    unpack,
)
from flask_sessionstore.record import TOMBSTONE_TIME, Kind, Tombstone, new_revision, owner_mark, to_datetime, to_ms

NOW_MS = 1_767_225_600_123  # 2026-01-01 00:00:00.123 UTC


HANDLE = "0123456789abcdef" * 4
few = settings(max_examples=settings().max_examples // 4)  # of what takes long to make up
packed = records().map(lambda record: pack(record, HANDLE)) | tombstones().map(
    lambda tombstone: pack_tombstone(tombstone, HANDLE)
)

# -- round trips ---------------------------------------------------------------------------------------------------


@given(records())
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    back = unpack(pack(record, HANDLE), HANDLE)
    assert back == record
    assert isinstance(back, Record)
    assert list(back.state) == list(record.state)


@given(tombstones())
def test_a_tombstone_comes_back_as_it_was(tombstone: Tombstone) -> None:
    assert unpack(pack_tombstone(tombstone, HANDLE), HANDLE) == tombstone


@few
@given(packed)
def test_revision_and_times_are_read_at_their_places_without_reading_the_rest(data: bytes) -> None:
    whole = unpack(data, HANDLE)
    assert revision_of(data) == data[REVISION] == whole.revision
    assert expires_ms_of(data) == whole.expires_ms


@few
@given(records(), moments_ms, moments_ms)
def test_times_are_moved_and_all_else_stays(record: Record, extended_ms: int, expires_ms: int) -> None:
    moved = unpack(move_times(pack(record, HANDLE), extended_ms, expires_ms), HANDLE)
    assert moved == msgspec.structs.replace(record, extended_ms=extended_ms, expires_ms=expires_ms)


def test_an_owner_without_letters_is_an_owner_all_the_same() -> None:
    assert unpack(pack(Record(owner="", revisions=(b"revision",)), HANDLE), HANDLE) == Record(
        owner="", revisions=(b"revision",)
    )


# -- the layout, pinned: what was stored yesterday must be read tomorrow -------------------------------------------

#: Of each kind of tombstone its byte, and a successor if it names one.
KINDS: tuple[tuple[Kind, str, str | None], ...] = (
    ("ended", "01", None),
    ("emptied", "02", None),
    ("renewed", "03", "76543210fedcba98" * 4),
    ("signed in", "04", "76543210fedcba98" * 4),
    ("replaced", "05", None),
    ("revoked", "06", None),
)

RECORD = Record(
    state={"cart": b"\x91\xa3tea", "n": b"\x05"},
    revisions=(b"AAAAAAAA", b"BBBBBBBB", b"CCCCCCCC", b"DDDDDDDD"),
    owner="ünal",
    permanent=True,
    lifetime=timedelta(hours=1),
    deadline=datetime(2026, 2, 1, tzinfo=UTC),
    client="curl, 192.0.2.7",
    created_ms=NOW_MS - 2,
    extended_ms=NOW_MS,
    expires_ms=NOW_MS + 3_600_000,
    idle_ms=3_600_000,
    end_ms=NOW_MS + 86_400_000,
)
MARK = "975125e9"  # of SHA-1, which Redis can compute too
LAYOUT_NAMES = ["record", "bare record", "ended", "emptied", "renewed", "signed in", "replaced", "revoked"]
# In the order of layout.py: format, kind, revision; three older ones; extended, expires, created; idle, end, deadline;
# flags, lengths of the owner and the client, handle; what follows.
LAYOUTS: list[tuple[Record | Tombstone, str]] = [
    (
        RECORD,
        """
        01 00 4141414141414141
        4242424242424242 4343434343434343 4444444444444444
        0000019b76daa87b 0000019b771196fb 0000019b76daa879
        000000000036ee80 0000019b7c01047b 0000019c167fcc00
        0f 0005 000f 0123456789abcdef
        c3bc6e616c 6375726c2c203139322e302e322e37 82 a463617274 c405 91a3746561 a16e c401 05
        """,
    ),
    (
        Record(revisions=(b"AAAAAAAA",), created_ms=1, extended_ms=2, expires_ms=3),
        """
        01 00 4141414141414141
        0000000000000000 0000000000000000 0000000000000000
        0000000000000002 0000000000000003 0000000000000001
        0000000000000000 0000000000000000 0000000000000000
        00 0000 0000 0123456789abcdef
        80
        """,
    ),
    *(
        (
            Tombstone(
                kind=kind,
                revision=b"AAAAAAAA",
                left_ms=NOW_MS - 2,
                expires_ms=NOW_MS,
                successor=successor,
                before=owner_mark("ünal"),
                after=owner_mark(None),
            ),
            f"""
            01 {code} 4141414141414141
            0000000000000000 0000000000000000 0000000000000000
            0000019b76daa879 0000019b76daa87b 0000000000000000
            {MARK} 00000000 0000000000000000 0000000000000000
            00 0000 0000 0123456789abcdef
            {successor or ""}
            """,
        )
        for kind, code, successor in KINDS
    ),
]


@few
@given(records())
def test_the_owner_can_be_read_from_the_bytes_alone(record: Record) -> None:
    assert owner_in(pack(record, HANDLE)) == record.owner


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x00" + b"\xff" * 90, b"pickle"])
def test_bytes_that_are_no_record_have_no_owner_worth_an_error(data: bytes) -> None:
    assert not owner_in(data)


@pytest.mark.parametrize(("what", "layout"), LAYOUTS, ids=LAYOUT_NAMES)
def test_the_layout_is_what_it_has_always_been(what: Record | Tombstone, layout: str) -> None:
    data = pack(what, HANDLE) if isinstance(what, Record) else pack_tombstone(what, HANDLE)
    assert data.hex() == bytes.fromhex(layout).hex()
    assert unpack(bytes.fromhex(layout), HANDLE) == what


# -- bytes that are not ours ---------------------------------------------------------------------------------------


@few
@given(records().map(lambda record: pack(record, HANDLE)), st.data())
def test_a_record_that_is_cut_off_is_corrupt(data: bytes, draw: st.DataObject) -> None:
    with pytest.raises(SessionCorrupt) as caught:
        unpack(data[: draw.draw(st.integers(0, len(data) - 1))], HANDLE)
    assert caught.value.newer is False


@few
@given(tombstones().map(lambda tombstone: pack_tombstone(tombstone, HANDLE)), st.data())
def test_a_tombstone_of_any_other_length_is_corrupt(data: bytes, draw: st.DataObject) -> None:
    for wrong in (data[: draw.draw(st.integers(0, len(data) - 1))], data + b"\x00"):
        with pytest.raises(SessionCorrupt):
            unpack(wrong, HANDLE)


@few
@given(records().map(lambda record: pack(record, HANDLE)), st.binary(min_size=1))
def test_a_record_with_more_behind_it_is_corrupt(data: bytes, more: bytes) -> None:
    with pytest.raises(SessionCorrupt):
        unpack(data + more, HANDLE)


@few
@given(packed, st.data())
def test_a_damaged_record_is_read_or_corrupt(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    damaged[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    read_or_corrupt(bytes(damaged))


@given(st.binary() | st.binary(max_size=200).map(lambda data: bytes([FORMAT]) + data))
def test_any_bytes_are_read_or_corrupt(data: bytes) -> None:
    read_or_corrupt(data)


def read_or_corrupt(data: bytes) -> None:
    try:
        found: object = unpack(data, HANDLE)
    except SessionCorrupt as error:
        found = error
    if isinstance(found, SessionCorrupt):
        assert found.newer is (FORMAT < data[0] <= 31 if data else False)
    else:
        assert isinstance(found, (Record, Tombstone))


@pytest.mark.parametrize(
    ("data", "newer"),
    [
        (b"", False),
        (bytes([0]) + pack(RECORD, HANDLE)[1:], False),
        (bytes([FORMAT + 1]) + pack(RECORD, HANDLE)[1:], True),
        (b"\x1f", True),
        (json.dumps({"user": 1}).encode(), False),
        (msgspec.msgpack.encode({"user": 1}), False),
        *((pickle.dumps({"user": 1}, protocol), False) for protocol in range(6)),
    ],
)
def test_a_later_format_is_told_from_what_is_none_of_ours(data: bytes, newer: bool) -> None:
    with pytest.raises(SessionCorrupt) as caught:
        unpack(data, HANDLE)
    assert caught.value.newer is newer
    assert expires_ms_of(data) is None


def test_a_message_about_corrupt_bytes_quotes_none_of_them() -> None:
    for data in (b'{"password": "tops3cret"}', pack(RECORD, HANDLE)[:-1] + b"tops3cret"):
        with pytest.raises(SessionCorrupt) as caught:
            unpack(data, HANDLE)
        assert "tops3cret" not in str(caught.value)


# -- a record's times ----------------------------------------------------------------------------------------------


def test_a_record_is_stamped_as_it_is_written() -> None:
    written = Record(state={"n": b"\x05"}).written(NOW_MS, timedelta(hours=1))
    assert (written.created_ms, written.extended_ms, written.idle_ms) == (NOW_MS, NOW_MS, 3_600_000)
    assert written.expires_at == to_datetime(NOW_MS) + timedelta(hours=1)
    assert len(written.revision) == 8


def test_a_record_written_again_keeps_its_birth_and_its_revisions() -> None:
    first = Record(revisions=(b"AAAAAAAA",)).written(NOW_MS, timedelta(hours=1))
    again = first.written(NOW_MS + 5000, timedelta(hours=1))
    assert (again.created_ms, again.revisions, again.extended_ms) == (NOW_MS, (b"AAAAAAAA",), NOW_MS + 5000)


def test_a_record_made_to_be_written_keeps_its_times_for_a_second() -> None:
    made = Record().written(NOW_MS, timedelta(hours=1))
    assert made.written(NOW_MS + 999, timedelta(hours=1)) is made
    assert made.written(NOW_MS + 1000, timedelta(hours=1)).extended_ms == NOW_MS + 1000
    assert made.written(NOW_MS - 1, timedelta(hours=1)).extended_ms == NOW_MS - 1


def test_a_record_made_anew_gets_other_times_at_once() -> None:
    made = Record().written(NOW_MS, timedelta(hours=1))
    anew = made.anew(NOW_MS + 1, timedelta(hours=1))
    assert (anew.created_ms, anew.revisions) == (NOW_MS, made.revisions)
    assert (anew.extended_ms, anew.expires_ms) == (NOW_MS + 1, made.expires_ms + 1)


def test_an_extension_takes_the_lifetime_it_was_written_with_unless_another_is_given() -> None:
    record = Record().written(NOW_MS, timedelta(hours=1))
    assert record.extended(NOW_MS + 5000).expires_ms == NOW_MS + 5000 + 3_600_000
    assert record.extended(NOW_MS + 5000, timedelta(minutes=1)).expires_ms == NOW_MS + 5000 + 60_000
    assert record.extended(NOW_MS + 5000, timedelta(minutes=1)).revisions == record.revisions


@pytest.mark.parametrize("left_ms", [1, 1000, 3_599_999])
def test_nothing_extends_a_record_past_its_fixed_end(left_ms: int) -> None:
    record = Record(end_ms=NOW_MS + left_ms).written(NOW_MS, timedelta(hours=1))
    assert record.expires_ms == NOW_MS + left_ms
    assert record.extended(NOW_MS + 1, timedelta(days=1)).expires_ms == NOW_MS + left_ms


def test_times_are_aware_and_to_the_millisecond() -> None:
    record = Record(created_ms=NOW_MS, extended_ms=NOW_MS + 1, expires_ms=NOW_MS + 2)
    assert record.created_at == datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC)
    assert record.extended_at - record.created_at == timedelta(milliseconds=1)
    assert record.expires_at - record.created_at == timedelta(milliseconds=2)
    assert to_ms(timedelta(microseconds=1999)) == 1


def test_a_lifetime_beyond_the_last_year_does_not_keep_the_end_from_being_read() -> None:
    record = Record().written(NOW_MS, timedelta.max)
    assert unpack(pack(record, HANDLE), HANDLE) == record
    assert record.expires_at > to_datetime(NOW_MS)


def test_each_attempt_to_write_has_a_revision_of_its_own() -> None:
    assert len({new_revision() for _ in range(100)}) == 100
    assert Record().revision == bytes(8)


def test_a_tombstone_stands_for_a_minute() -> None:
    assert timedelta(seconds=60) == TOMBSTONE_TIME


def test_revision_and_times_have_the_places_that_engines_rely_on() -> None:
    numbers = bytes(range(100))
    assert list(numbers[REVISION]) == list(range(2, 10))
    assert list(numbers[TIMES]) == list(range(34, 50))


def test_repr_shows_keys_and_no_values() -> None:
    shown = repr(Record(state={"cart": b"secret"}, owner="somebody"))
    assert "cart" in shown
    assert "secret" not in shown
    assert "somebody" not in shown
