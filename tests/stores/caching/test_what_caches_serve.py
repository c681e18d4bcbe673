"""What a cache may serve and keep, and what must not get into it; and ends."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
from tiers import Process, begin, load, seen, write

from flask_sessionstore import Record, SessionConflict, SessionGone, SessionKey, StoreUnavailable
from flask_sessionstore.layout import pack
from flask_sessionstore.record import TOMBSTONE_TIME, new_revision
from flask_sessionstore.stores import ServerSideStore, StoreFull
from flask_sessionstore.testing import Clock, later

DAY = timedelta(days=1)
MAX_AGE = 2.0


# -- what is served from the cache -----------------------------------------------------------------------------------


def test_a_hit_asks_the_store_nothing(here: Process) -> None:
    key, record = begin(here)
    here.store.calls.clear()
    assert here.load(key, seen=seen(record)) == here.store.load(key)
    assert here.store.calls == ["read"]  # our own


def test_a_miss_fills_the_cache(here: Process, there: Process) -> None:
    key, record = begin(here)
    assert load(there, key, record) == {"a": b"1"}
    reads = there.reads()
    assert load(there, key, record) == {"a": b"1"}
    assert there.reads() == reads


def test_what_was_saved_written_or_extended_is_a_hit(here: Process, clock: Clock) -> None:
    key = here.save(Record(state={"a": b"1"}, revisions=(first := new_revision(),)), DAY)
    reads = here.reads()
    record = here.load(key, seen=first[:4])
    assert record is not None
    record = write(here, key, record, a=b"2")
    assert load(here, key, record) == {"a": b"2"}
    assert here.reads() == reads
    clock.advance(1)
    _, extended = here.update_ttl(key, 2 * DAY)
    reads = here.reads()
    assert here.load(key, seen=seen(record)) == extended
    assert here.reads() == reads


def test_who_has_seen_nothing_yet_asks_the_store(here: Process) -> None:
    key, _ = begin(here)
    reads = here.reads()
    assert here.load(key) is not None
    assert here.reads() == reads + 1


def test_everybody_reads_their_own_writes_on_every_process(here: Process, there: Process) -> None:
    key, record = begin(here, there)
    record = write(here, key, record, a=b"2")
    assert load(there, key, record) == {"a": b"2"}
    record = write(there, key, record, a=b"3")
    assert load(here, key, record) == {"a": b"3"}


def test_a_browser_that_has_seen_less_is_served_what_is_newer(here: Process) -> None:
    """Up to three writes newer, for a record remembers so many; who has seen still less asks the store."""
    key, record = begin(here)
    seen_long_ago = record
    for n, asked in enumerate([0, 0, 0, 1]):
        record = write(here, key, record, a=b"%d" % n)
        reads = here.reads()
        assert load(here, key, seen_long_ago) == {"a": b"%d" % n}
        assert here.reads() - reads == asked


def test_what_others_wrote_is_seen_within_max_age(here: Process, there: Process, clock: Clock) -> None:
    key, record = begin(here, there)
    write(here, key, record, a=b"2")
    clock.advance(MAX_AGE - 0.001)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.001)
    assert load(there, key, record) == {"a": b"2"}


def test_an_age_counts_from_before_the_read(here: Process, there: Process, clock: Clock) -> None:
    key, record = begin(here)

    def write_slowly() -> None:
        write(here, key, record, a=b"2")
        clock.advance(1.5)

    after(there.store, "read", write_slowly)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.4)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.1)
    assert load(there, key, record) == {"a": b"2"}


def test_a_clock_that_was_set_back_makes_nothing_last_longer(here: Process, there: Process, clock: Clock) -> None:
    key, record = begin(here, there)
    write(here, key, record, a=b"2")
    clock.advance(-3600)
    assert load(there, key, record) == {"a": b"2"}


def test_absence_is_never_cached(here: Process) -> None:
    key, record = SessionKey.generate(), Record(state={"a": b"1"}).written(int(here.now() * 1000), DAY)
    assert load(here, key, record) is None
    assert here.store.add(key.handle, pack(record, key.handle), DAY)
    assert load(here, key, record) == {"a": b"1"}


def test_what_expires_in_the_cache_was_perhaps_extended_elsewhere(here: Process, there: Process, clock: Clock) -> None:
    key, record = begin(here, there, ttl=timedelta(seconds=1))
    here.update_ttl(key, DAY)
    clock.advance(1.5)
    assert load(there, key, record) == {"a": b"1"}


def test_an_end_that_no_activity_moves_is_kept_in_the_cache(here: Process, clock: Clock) -> None:
    key = here.save(Record(state={"a": b"1"}, end_ms=int(here.now() * 1000) + 1000), DAY)
    record = here.load(key)
    assert record is not None
    clock.advance(1)
    assert load(here, key, record) is None


# -- what must not get into the cache --------------------------------------------------------------------------------


def after(store: ServerSideStore, primitive: str, then: t.Callable[[], object]) -> None:
    """Let something happen once, after the store has answered and before the answer arrives."""
    original = getattr(store, primitive)

    def slow(*args: t.Any, **kwargs: t.Any) -> t.Any:
        setattr(store, primitive, original)
        answer = original(*args, **kwargs)
        then()
        return answer

    setattr(store, primitive, slow)


@pytest.mark.parametrize("writes", range(1, 7))
def test_a_slow_reader_puts_nothing_old_over_what_is_newer(here: Process, clock: Clock, writes: int) -> None:
    key, record = begin(here)
    records = [record]

    def write_meanwhile() -> None:
        for n in range(writes):
            clock.advance(0.01)
            records.append(write(here, key, records[-1], a=b"new %d" % n))

    after(here.store, "read", write_meanwhile)
    found = here.load(key)
    assert found is not None
    assert found.state == {"a": b"1"}
    reads = here.reads()
    assert load(here, key, records[-1]) == records[-1].state
    assert here.reads() == reads


def test_a_slow_writer_puts_nothing_old_over_what_is_newer(here: Process) -> None:
    key, record = begin(here)
    newest: list[Record] = []
    first = later(record, {"a": b"2"})
    after(here.store, "swap", lambda: newest.append(write(here, key, first, a=b"3")))
    here.update(key, first, DAY, replaces=record.revision)
    assert load(here, key, record) == {"a": b"3"}


@pytest.mark.parametrize("primitive", ["read", "swap"])
def test_whoever_is_slow_brings_no_ended_session_back(here: Process, primitive: str) -> None:
    """Neither who had read it before it ended, nor who had written to it."""
    key, record = begin(here)
    after(here.store, primitive, lambda: here.delete(key))
    if primitive == "read":
        assert here.load(key) is not None
    else:
        write(here, key, record, a=b"2")
    assert load(here, key, record) == "ended"


def test_what_was_cached_is_dropped_before_a_conflict_is_raised(here: Process, there: Process) -> None:
    key, record = begin(here, there)
    write(here, key, record, a=b"2")
    with pytest.raises(SessionConflict):
        write(there, key, record, a=b"3")
    assert load(there, key, record) == {"a": b"2"}


def test_what_was_cached_is_dropped_when_nobody_knows_what_was_written(here: Process) -> None:
    key, record = begin(here)
    here.store.lose_reply("swap")
    with pytest.raises(StoreUnavailable):
        write(here, key, record, a=b"2")
    assert load(here, key, record) == {"a": b"2"}


def test_what_was_cached_is_dropped_when_the_store_has_nothing(here: Process) -> None:
    key, record = begin(here)
    here.store.drop(key.handle)
    with pytest.raises(SessionGone):
        here.update_ttl(key)
    assert load(here, key, record) is None


def test_the_mark_of_an_end_stays_whatever_a_late_writer_meets(here: Process) -> None:
    """A conflict, a failure: both drop what is cached, for it may be old; but a mark never is."""
    key, record = begin(here)
    here.delete(key)
    with pytest.raises(SessionGone):
        write(here, key, record, a=b"2")
    here.store.fail("swap")
    with pytest.raises(StoreUnavailable):
        write(here, key, record, a=b"3")
    reads = here.reads()
    assert load(here, key, record) == "ended"
    assert here.reads() == reads


# -- the end ---------------------------------------------------------------------------------------------------------


ENDS: dict[str, t.Callable[[ServerSideStore, SessionKey, Record], object]] = {
    "ended": lambda store, key, record: store.delete(key),
    "emptied": lambda store, key, record: store.delete(key, replaces=record.revision, emptied=True),
    "renewed": lambda store, key, record: store.renew(key, later(record, {"a": b"2"}), DAY, replaces=record.revision),
}
ends = pytest.mark.parametrize("kind", ENDS)


@ends
def test_an_end_leaves_its_mark_in_both_tiers(here: Process, kind: str) -> None:
    key, record = begin(here)
    ENDS[kind](here, key, record)
    assert here.memory.read(key.handle) == here.store.read(key.handle)
    reads = here.reads()
    assert load(here, key, record) == kind
    assert here.reads() == reads


@ends
def test_elsewhere_an_ended_session_is_served_for_max_age_at_most(
    here: Process, there: Process, clock: Clock, kind: str
) -> None:
    """The browser that ended it has no such cookie any more; this is one that was copied before."""
    key, record = begin(here, there)
    clock.advance(1)
    ENDS[kind](here, key, record)
    clock.advance(MAX_AGE - 1 - 0.001)
    assert load(there, key, record) == {"a": b"1"}
    clock.advance(0.001)
    assert load(there, key, record) == kind
    clock.advance(TOMBSTONE_TIME.total_seconds())
    assert load(here, key, record) is load(there, key, record) is None


@ends
def test_nothing_is_written_to_what_ended_elsewhere(here: Process, there: Process, kind: str) -> None:
    key, record = begin(here, there)
    ENDS[kind](here, key, record)
    for attempt in (lambda: write(there, key, record, a=b"3"), lambda: there.update_ttl(key)):
        with pytest.raises(SessionGone) as caught:
            attempt()
        assert caught.value.kind == kind
    assert load(there, key, record) == kind


def test_an_end_by_handle_marks_the_cache(here: Process) -> None:
    key, record = begin(here)
    assert here.end(key.handle)
    assert load(here, key, record) == "revoked"


def test_ending_a_renewed_session_ends_its_successor_in_the_cache(here: Process, there: Process) -> None:
    key, record = begin(here, there)
    new = there.renew(key, later(record, {"a": b"2"}), DAY, replaces=record.revision)
    renewed = here.load(new)
    assert renewed is not None
    here.delete(key)
    assert load(here, new, renewed) == "ended"


def test_a_store_without_room_ends_a_session_in_both_tiers(here: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    key, record = begin(here)

    def full(*args: object, **kwargs: object) -> bool:
        raise StoreFull("no room")

    monkeypatch.setattr(here.store, "swap", full)
    here.delete(key)
    assert load(here, key, record) is None
