"""For store authors: tests of what every store has to do, as a pytest class. Needs pytest.

A store author writes::

    from flask_sessionstore.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            return MyStore(...)

and runs pytest. Tests that need a hook are skipped if the class does not define the hook.
"""

from __future__ import annotations

import multiprocessing
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from ..errors import SessionConflict, SessionCorrupt, SessionGone
from ..key import SessionKey
from ..layout import FORMAT, pack, pack_tombstone, revision_of, unpack
from ..record import TOMBSTONE_TIME, Kind, Record, Tombstone, new_revision, owner_mark
from ..stores.base import Counts, OwnerIndex, Scans, ServerSideStore, SessionStore, Sweeps, has_left, list_name

_Ability = t.TypeVar("_Ability")
_generate = SessionKey.generate
_DAY = timedelta(days=1)
_UNKNOWN = "0" * 64
# Enough writes to test the engine's atomicity, and few enough for a slow engine.
_WRITERS, _WRITES = 4, 25
# How a session may go on under another key: the kind of its tombstone, the owner before, and the owner after.
_MOVES = [
    ("renewed", None, None),
    ("renewed", "ann", "ann"),
    ("signed in", None, "ann"),
    ("signed in", None, None),
    ("replaced", "ann", "bob"),
]


def later(record: Record, state: t.Mapping[str, bytes]) -> Record:
    """The record that a request writes if it has loaded ``record`` and changes the data to ``state``."""
    return Record(
        state=dict(state),
        revisions=(new_revision(), *record.revisions)[:4],
        owner=record.owner,
        permanent=record.permanent,
        created_ms=record.created_ms,
        end_ms=record.end_ms,
    )


class SessionStoreContract:
    """Tests for every store, also for stores that keep nothing on the server's side."""

    @pytest.fixture
    def store(self) -> SessionStore:
        """The store under test, empty. To be overridden."""
        raise NotImplementedError("a StoreContract needs a fixture named store")

    def pass_time(self, store: SessionStore, seconds: float) -> None:
        """Let time pass for ``store``, without sleeping. Default: set its clock."""
        now = store.now()
        store.clock = lambda: now + seconds

    def test_a_saved_record_is_loaded_as_it_was(self, store: SessionStore) -> None:
        record = Record(
            state={"a": b"\x00\xff", "ünï": b"", "": b"x"},
            revisions=(new_revision(), new_revision()),
            owner="Łukasz",
            permanent=True,
            lifetime=timedelta(hours=2),
            deadline=datetime(2100, 1, 1, tzinfo=UTC),
        )
        loaded = _alive(store, store.save(record, timedelta(hours=2)))
        names = ("state", "revisions", "owner", "permanent", "lifetime", "deadline")
        assert {n: getattr(loaded, n) for n in names} == {n: getattr(record, n) for n in names}
        assert list(loaded.state) == list(record.state)

    def test_times_are_those_of_the_write(self, store: SessionStore) -> None:
        before = int(store.now() * 1000)
        record = _alive(store, store.save(Record(state={"a": b"1"}), _DAY))
        assert before <= record.created_ms == record.extended_ms <= store.now() * 1000
        assert record.expires_at - record.extended_at == _DAY

    def test_a_record_of_fifty_kilobytes_is_kept_whole(self, store: SessionStore) -> None:
        state = {f"key{n}": bytes([n]) * 250 for n in range(200)}
        assert _alive(store, store.save(Record(state=state), _DAY)).state == state

    def test_every_save_has_a_key_of_its_own(self, store: SessionStore) -> None:
        keys = [store.save(Record(state={"n": bytes([n])}), _DAY) for n in range(10)]
        assert len(set(map(str, keys))) == 10
        assert [_alive(store, key).state["n"] for key in keys] == [bytes([n]) for n in range(10)]

    def test_an_expired_record_is_not_there(self, store: SessionStore) -> None:
        key = store.save(Record(state={"a": b"1"}), timedelta(seconds=60))
        self.pass_time(store, 30)  # the engine may be slow, too
        assert store.load(key) is not None
        self.pass_time(store, 31)
        assert store.load(key) is None

    def test_an_expired_record_is_not_extended(self, store: SessionStore) -> None:
        key = store.save(Record(state={"a": b"1"}), timedelta(seconds=60))
        self.pass_time(store, 61)
        for ttl in (_DAY, None):
            with pytest.raises(SessionGone):
                store.update_ttl(key, ttl)
        assert store.load(key) is None

    def test_a_hard_end_is_not_passed(self, store: SessionStore) -> None:
        end_ms = int(store.now() * 1000) + 30_000
        key = store.save(Record(state={"a": b"1"}, end_ms=end_ms), timedelta(seconds=60))
        assert _alive(store, key).expires_ms == end_ms
        key, record = store.update_ttl(key, _DAY)
        assert record.expires_ms == end_ms

    def test_an_update_is_what_the_next_load_reads(self, store: SessionStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        first = _alive(store, key)
        key = store.update(key, later(first, {"b": b"2"}), _DAY, replaces=first.revision)
        second = _alive(store, key)
        assert second.state == {"b": b"2"}
        assert second.created_ms == first.created_ms

    @pytest.mark.parametrize("ttl", [timedelta(hours=3), None], ids=["given", "its own"])
    def test_an_extension_moves_the_end_and_nothing_else(self, store: SessionStore, ttl: timedelta | None) -> None:
        key = store.save(Record(state={"a": b"1"}, owner="ann"), timedelta(hours=2))
        before = _alive(store, key)
        self.pass_time(store, 3600)
        key, extended = store.update_ttl(key, ttl)
        after = _alive(store, key)
        assert after == extended
        assert after.expires_at - after.extended_at == (ttl or timedelta(hours=2))
        assert (after.state, after.revisions, after.owner) == (before.state, before.revisions, before.owner)
        assert after.extended_ms - before.extended_ms >= 3_599_000


class StoreContract(SessionStoreContract):
    """Tests for every server-side store. Subclass it, and define the fixture ``store``."""

    @pytest.fixture
    def store(self) -> ServerSideStore:
        """The store under test, empty. To be overridden."""
        raise NotImplementedError("a StoreContract needs a fixture named store")

    # -- hooks, to be overridden where the engine allows it --------------------------------------------------------

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        """The bytes under ``handle``, read from the engine directly. Default: with the store's own ``read``."""
        return store.read(handle)

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        """Write any bytes under ``handle``, into the engine directly."""
        pytest.skip("this store's contract has no poke()")

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        """A function that opens the same data as a second client, in this or another process. It must be picklable."""
        pytest.skip("this store's contract has no reopen()")

    # -- the four primitives ---------------------------------------------------------------------------------------

    def test_add_takes_a_free_name_only(self, store: ServerSideStore) -> None:
        data = _packed(store, b"1")
        assert store.add(_UNKNOWN, data, _DAY)
        assert not store.add(_UNKNOWN, _packed(store, b"2"), _DAY)
        assert store.read(_UNKNOWN) == data

    def test_add_takes_the_name_of_what_has_expired(self, store: ServerSideStore) -> None:
        assert store.add(_UNKNOWN, _packed(store, b"1", timedelta(seconds=5)), timedelta(seconds=5))
        self.pass_time(store, 6)
        if store.read(_UNKNOWN) is not None:
            # An engine with its own expiry counts in real time: it may refuse until then, but must not overwrite.
            pytest.skip("this engine's own expiry cannot be moved by the clock")
        data = _packed(store, b"2")
        assert store.add(_UNKNOWN, data, _DAY)
        assert store.read(_UNKNOWN) == data

    def test_swap_replaces_exactly_the_revision_named(self, store: ServerSideStore) -> None:
        first, second = _packed(store, b"1"), _packed(store, b"2")
        store.add(_UNKNOWN, first, _DAY)
        assert not store.swap(_UNKNOWN, second, _DAY, replaces=new_revision())
        assert store.read(_UNKNOWN) == first
        assert store.swap(_UNKNOWN, second, _DAY, replaces=revision_of(first))
        assert store.read(_UNKNOWN) == second
        assert not store.swap(_UNKNOWN, first, _DAY, replaces=revision_of(first))

    def test_swap_of_any_revision(self, store: ServerSideStore) -> None:
        store.add(_UNKNOWN, _packed(store, b"1"), _DAY)
        data = _packed(store, b"2")
        assert store.swap(_UNKNOWN, data, _DAY, replaces=None)
        assert store.read(_UNKNOWN) == data

    @pytest.mark.parametrize("kind", ["ended", "emptied", "renewed"])
    def test_swap_of_any_revision_leaves_a_tombstone_alone(self, store: ServerSideStore, kind: Kind) -> None:
        expires_ms = int(store.now() * 1000) + 60_000
        successor = "1" * 64 if kind == "renewed" else None
        tombstone = Tombstone(kind=kind, revision=new_revision(), expires_ms=expires_ms, successor=successor)
        data = pack_tombstone(tombstone, _UNKNOWN)
        store.add(_UNKNOWN, data, _DAY)
        assert not store.swap(_UNKNOWN, _packed(store, b"1"), _DAY, replaces=None)
        assert store.read(_UNKNOWN) == data

    @pytest.mark.parametrize("replaces", [None, bytes(8)], ids=["any", "a revision"])
    def test_swap_makes_nothing_where_nothing_is(self, store: ServerSideStore, replaces: bytes | None) -> None:
        assert not store.swap(_UNKNOWN, _packed(store, b"1"), _DAY, replaces=replaces)
        assert store.read(_UNKNOWN) is None

    def test_swap_does_not_revive_what_has_expired(self, store: ServerSideStore) -> None:
        data = _packed(store, b"1", timedelta(seconds=5))
        store.add(_UNKNOWN, data, timedelta(seconds=5))
        self.pass_time(store, 6)
        assert not store.swap(_UNKNOWN, _packed(store, b"2"), _DAY, replaces=revision_of(data))

    def test_drop_removes_and_may_be_repeated(self, store: ServerSideStore) -> None:
        store.add(_UNKNOWN, _packed(store, b"1"), _DAY)
        store.drop(_UNKNOWN)
        store.drop(_UNKNOWN)
        assert store.read(_UNKNOWN) is None

    def test_of_many_names_those_that_are_taken_are_known(self, store: ServerSideStore) -> None:
        names = [f"{number:064x}" for number in range(40)]
        assert store.taken(names) == set()
        for name in names[::3]:
            store.add(name, _packed(store, b"1", handle=name), _DAY)
        store.drop(names[3])
        assert store.taken(names) == set(names[::3]) - {names[3]}
        assert store.taken([]) == set()

    # -- what is kept ----------------------------------------------------------------------------------------------

    def test_a_record_lies_under_its_handle_and_the_key_is_nowhere(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        data = self.peek(store, key.handle)
        assert data is not None
        assert str(key).encode() not in data
        assert self.peek(store, str(key)) is None if _is_free_text(store) else True

    def test_an_unknown_key_is_nothing(self, store: ServerSideStore) -> None:
        assert store.load(SessionKey.generate()) is None
        assert store.info(_UNKNOWN) is None
        assert store.end(_UNKNOWN) is False

    def test_info_shows_what_may_be_shown(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}, owner="ann"), _DAY)
        info, record = store.info(key.handle), _alive(store, key)
        assert info is not None
        assert (info.handle, info.owner) == (key.handle, "ann")
        assert (info.created_at, info.expires_at) == (record.created_at, record.expires_at)

    @pytest.mark.parametrize(
        ("data", "newer"),
        [
            (b"", False),
            (b"\x80\x04N.", False),
            (b'{"a": 1}', False),
            (bytes([FORMAT]) + b"\xff" * 20, False),
            (bytes([FORMAT + 1]) + bytes(200), True),
        ],
        ids=["empty", "a pickle", "JSON", "cut off", "newer"],
    )
    def test_foreign_bytes_are_corrupt_and_can_be_ended(self, store: ServerSideStore, data: bytes, newer: bool) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        self.poke(store, key.handle, data)
        with pytest.raises(SessionCorrupt) as caught:
            store.load(key)
        assert caught.value.newer is newer
        store.delete(key)
        assert _fate(store, key) in ("ended", None)

    # -- update ----------------------------------------------------------------------------------------------------

    def test_a_second_writer_is_told_and_given_the_newest(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        first = _alive(store, key)
        store.update(key, later(first, {"a": b"2"}), _DAY, replaces=first.revision)
        with pytest.raises(SessionConflict) as caught:
            store.update(key, later(first, {"a": b"3"}), _DAY, replaces=first.revision)
        assert caught.value.record is not None
        assert caught.value.record.state == {"a": b"2"}
        assert first.revision in caught.value.record.revisions
        assert _alive(store, key).state == {"a": b"2"}

    def test_an_extension_is_no_conflict(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        first = _alive(store, key)
        store.update_ttl(key, _DAY)
        store.update(key, later(first, {"a": b"2"}), _DAY, replaces=first.revision)
        assert _alive(store, key).state == {"a": b"2"}

    def test_nothing_is_written_where_nothing_is(self, store: ServerSideStore) -> None:
        key, record = SessionKey.generate(), Record(state={"a": b"1"}, revisions=(new_revision(),))
        for write in _writes(store, key, record):
            with pytest.raises(SessionGone) as caught:
                write()
            assert caught.value.kind is None
        store.delete(key)
        assert self.peek(store, key.handle) is None

    def test_nothing_is_written_to_what_has_expired(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), timedelta(seconds=5))
        record = _alive(store, key)
        self.pass_time(store, 6)
        for write in _writes(store, key, record):
            with pytest.raises(SessionGone):
                write()
        assert store.load(key) is None

    # -- the end ---------------------------------------------------------------------------------------------------

    def test_a_record_is_saved_under_a_key_of_the_caller_s(self, store: ServerSideStore) -> None:
        key, record = SessionKey.generate(), Record(state={"a": b"1"}, revisions=(new_revision(),))
        assert store.save(record, _DAY, key=key) == key
        assert _alive(store, key).state == {"a": b"1"}
        assert store.save(record, _DAY, key=key) == key  # as if the reply was lost and the command sent again

    def test_save_takes_no_key_that_is_taken(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        with pytest.raises(SessionConflict) as caught:
            store.save(Record(state={"a": b"2"}), _DAY, key=key)
        assert caught.value.record is not None
        assert caught.value.record.state == {"a": b"1"}
        store.delete(key)
        with pytest.raises(SessionGone) as gone:
            store.save(Record(state={"a": b"2"}), _DAY, key=key)
        assert gone.value.kind == "ended"
        assert _fate(store, key) == "ended"
        barred = SessionKey.generate()
        assert store.bar(barred.handle)
        with pytest.raises(SessionGone) as gone:
            store.save(Record(state={"a": b"2"}), _DAY, key=barred)
        assert gone.value.kind == "revoked"

    @pytest.mark.parametrize("emptied", [False, True])
    @pytest.mark.parametrize("exactly", [False, True])
    def test_a_deleted_session_leaves_a_tombstone(self, store: ServerSideStore, emptied: bool, exactly: bool) -> None:
        key = store.save(Record(state={"secret": b"\xa6secret"}), _DAY)
        store.delete(key, replaces=_alive(store, key).revision if exactly else None, emptied=emptied)
        assert _fate(store, key) == ("emptied" if emptied else "ended")
        data = self.peek(store, key.handle)
        assert data is not None
        assert b"secret" not in data

    def test_delete_of_another_revision_is_a_conflict(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        with pytest.raises(SessionConflict):
            store.delete(key, replaces=new_revision())
        assert store.load(key) is not None

    def test_delete_may_be_repeated(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        store.delete(key)
        store.delete(key)
        assert _fate(store, key) == "ended"

    @pytest.mark.parametrize("end", ["delete", "emptied", "renew", "signed in", "replaced", "end"])
    def test_what_ended_stays_ended(self, store: ServerSideStore, end: str) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        record = _alive(store, key)
        _ENDS[end](store, key, record)
        kind = _fate(store, key)
        before = self.peek(store, key.handle)
        for write in _writes(store, key, record):
            with pytest.raises(SessionGone) as caught:
                write()
            assert caught.value.kind == kind
        assert self.peek(store, key.handle) == before
        self.pass_time(store, TOMBSTONE_TIME.total_seconds() + 1)
        assert store.load(key) is None
        for write in _writes(store, key, record):
            with pytest.raises(SessionGone):
                write()
        assert store.load(key) is None

    def test_end_by_handle(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}, owner="ann"), _DAY)
        assert store.end(key.handle, owner="bob") is False
        assert store.load(key) is not None
        assert store.end(key.handle, owner="ann") is True
        assert store.end(key.handle) is False
        assert _fate(store, key) == "revoked"

    # -- renewal ---------------------------------------------------------------------------------------------------

    def test_a_renewed_session_lives_under_its_new_key_only(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        record = _alive(store, key)
        new = store.renew(key, later(record, {"a": b"2"}), _DAY, replaces=record.revision)
        assert new.handle != key.handle
        assert _alive(store, new).state == {"a": b"2"}
        assert _fate(store, key) == "renewed"

    @pytest.mark.parametrize(("kind", "before", "after"), _MOVES)
    def test_what_a_renewal_leaves_says_what_it_was_and_when(
        self, store: ServerSideStore, kind: Kind, before: str | None, after: str | None
    ) -> None:
        key = store.save(Record(state={"a": b"1"}, owner=before), _DAY)
        record = _alive(store, key)
        self.pass_time(store, 5)
        moved = msgspec.structs.replace(later(record, {"a": b"2"}), owner=after)
        new = store.renew(key, moved, _DAY, replaces=record.revision, kind=kind, owner=before)
        gone = _gone(store, key)
        assert (gone.kind, gone.marks) == (kind, (owner_mark(before), owner_mark(after)))
        assert gone.successor == (None if kind == "replaced" else new.handle)
        assert gone.left_at is not None
        assert abs(gone.left_at.timestamp() - store.now()) < 2

    @pytest.mark.parametrize("end", ["delete", "delete exactly", "end"])
    def test_what_an_end_leaves_says_whose_it_was_and_when(self, store: ServerSideStore, end: str) -> None:
        key = store.save(Record(state={"a": b"1"}, owner="ann"), _DAY)
        record = _alive(store, key)
        self.pass_time(store, 5)
        if end == "delete":
            store.delete(key)
        elif end == "end":
            store.end(key.handle)
        else:
            store.delete(key, replaces=record.revision, owner="ann")
        gone = _gone(store, key)
        assert gone.kind == ("revoked" if end == "end" else "ended")
        assert (gone.successor, gone.marks) == (None, (owner_mark("ann"), owner_mark(None)))
        assert gone.left_at is not None
        assert abs(gone.left_at.timestamp() - store.now()) < 2

    @pytest.mark.parametrize(
        ("kind", "deleted", "ended"), [("renewed", True, True), ("signed in", False, True), ("replaced", False, False)]
    )
    def test_delete_follows_a_renewal_and_end_a_sign_in_too(
        self, store: ServerSideStore, kind: Kind, deleted: bool, ended: bool
    ) -> None:
        """A planted key must not end the session that a user has signed in to; a handle may."""
        for end, ends in ((store.delete, deleted), (lambda key: store.end(key.handle), ended)):
            key = store.save(Record(state={"a": b"1"}), _DAY)
            record = _alive(store, key)
            new = store.renew(key, later(record, {"a": b"1"}), _DAY, replaces=record.revision, kind=kind)
            end(key)
            assert self._is_alive(store, new) is not ends

    def test_a_session_can_be_renewed_to_one_that_was_saved_before(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        record, saved = _alive(store, key), Record(state={"a": b"2"}, revisions=(new_revision(),))
        to = store.save(saved, _DAY)
        with pytest.raises(SessionConflict):
            store.renew(key, saved, _DAY, replaces=new_revision(), to=to)
        assert _alive(store, to).state == {"a": b"2"}  # the saved session stays: the caller may try again with it
        assert store.renew(key, saved, _DAY, replaces=record.revision, to=to) == to
        assert _alive(store, to).state == {"a": b"2"}
        assert _gone(store, key).successor == to.handle

    def test_a_renewal_may_replace_any_revision_but_no_tombstone(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        new = store.renew(key, Record(state={"a": b"2"}), _DAY, replaces=None)
        assert _gone(store, key).successor == new.handle
        with pytest.raises(SessionGone):
            store.renew(key, Record(state={"a": b"3"}), _DAY, replaces=None)
        assert _gone(store, key).successor == new.handle

    def _is_alive(self, store: ServerSideStore, key: SessionKey) -> bool:
        try:
            return store.load(key) is not None
        except SessionGone:
            return False

    def test_a_renewal_that_lost_leaves_nothing(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}), _DAY)
        record = _alive(store, key)
        made: list[SessionKey] = []

        def generate() -> SessionKey:
            made.append(_generate())
            return made[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SessionKey, "generate", generate)
            with pytest.raises(SessionConflict):
                store.renew(key, later(record, {"a": b"2"}), _DAY, replaces=new_revision())
        assert store.load(key) == record
        assert [store.load(new) for new in made] == [None] * len(made)

    def test_ending_a_renewed_session_ends_its_successors(self, store: ServerSideStore) -> None:
        keys = [store.save(Record(state={"a": b"1"}), _DAY)]
        for _ in range(4):
            record = _alive(store, keys[-1])
            keys.append(store.renew(keys[-1], later(record, {"a": b"1"}), _DAY, replaces=record.revision))
        store.delete(keys[0])
        assert _fate(store, keys[-1]) == "ended"

    def test_revoking_a_renewed_session_by_its_old_handle(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"a": b"1"}, owner="ann"), _DAY)
        record = _alive(store, key)
        new = store.renew(key, later(record, {"a": b"1"}), _DAY, replaces=record.revision)
        assert store.end(key.handle, owner="bob") is False
        assert store.end(key.handle, owner="ann") is True
        assert _fate(store, new) == "revoked"

    # -- races -----------------------------------------------------------------------------------------------------

    def test_threads_that_write_at_once_lose_nothing(self, store: ServerSideStore) -> None:
        key = store.save(Record(state={"n": b"0"}), _DAY)
        start = threading.Barrier(_WRITERS)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                start.wait()
                _count(store, str(key), _WRITES)
            except BaseException as error:  # noqa: BLE001  - a thread's failure is the test's
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(_WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert _alive(store, key).state == {"n": str(_WRITERS * _WRITES).encode()}

    def test_a_second_client_sees_the_same_sessions(self, store: ServerSideStore) -> None:
        other = self.reopen(store)()
        key = store.save(Record(state={"a": b"1"}), _DAY)
        record = _alive(other, key)
        other.update(key, later(record, {"a": b"2"}), _DAY, replaces=record.revision)
        assert _alive(store, key).state == {"a": b"2"}
        with pytest.raises(SessionConflict):
            store.update(key, later(record, {"a": b"3"}), _DAY, replaces=record.revision)
        store.delete(key)
        assert _fate(other, key) == "ended"

    def test_processes_that_write_at_once_lose_nothing(self, store: ServerSideStore) -> None:
        reopen = self.reopen(store)
        key = store.save(Record(state={"n": b"0"}), _DAY)
        context = _processes()
        start = context.Barrier(2)
        processes = [context.Process(target=_count_elsewhere, args=(reopen, str(key), start)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        assert _alive(store, key).state == {"n": str(2 * _WRITES).encode()}

    # -- abilities -------------------------------------------------------------------------------------------------

    def test_a_sweep_removes_what_has_expired_and_nothing_else(self, store: ServerSideStore) -> None:
        sweeps = _able(store, Sweeps)
        short = [store.save(Record(state={"a": b"1"}), timedelta(seconds=5)) for _ in range(5)]
        long = store.save(Record(state={"a": b"1"}), _DAY)
        assert sweeps.delete_expired() == 0
        self.pass_time(store, 6)
        assert sweeps.delete_expired(2) == 2
        assert sweeps.delete_expired() == 3
        assert sweeps.delete_expired() == 0
        assert [self.peek(store, key.handle) for key in short] == [None] * 5
        assert store.load(long) is not None

    def test_a_sweep_beside_requests_spares_the_last_minute(self, store: ServerSideStore) -> None:
        """It may need many calls to get everywhere."""
        sweeps = _able(store, Sweeps)
        old = [store.save(Record(state={"a": b"1"}), timedelta(seconds=5)) for _ in range(3)]
        late = [store.save(Record(state={"a": b"1"}), timedelta(seconds=40)) for _ in range(3)]
        long = store.save(Record(state={"a": b"1"}), _DAY)
        self.pass_time(store, 80)
        for _ in range(256):
            sweeps.sweep(2)
        left = sweeps.delete_expired()
        if left == len(old) + len(late):
            pytest.skip("this store leaves sweeping to others")
        assert left == len(late)
        assert [self.peek(store, key.handle) for key in (*old, *late)] == [None] * 6
        assert store.load(long) is not None

    def test_a_scan_finds_every_session(self, store: ServerSideStore) -> None:
        scans = _able(store, Scans)
        assert list(scans.scan()) == []
        keys = [store.save(Record(state={"n": bytes([n])}, owner="ann" if n % 2 else None), _DAY) for n in range(40)]
        found = {entry.handle: entry.data for entry in scans.scan()}
        assert found == {key.handle: store.read(key.handle) for key in keys}

    def test_living_sessions_are_counted(self, store: ServerSideStore) -> None:
        """Neither the tombstones of what ended, nor a session and its successor twice."""
        counts = _able(store, Counts)
        assert counts.count() == 0
        keys = [store.save(Record(state={"n": bytes([n])}, owner="ann" if n % 2 else None), _DAY) for n in range(9)]
        assert counts.count() == 9
        renewed, changed = _alive(store, keys[0]), _alive(store, keys[1])
        store.renew(keys[0], later(renewed, {"a": b"1"}), _DAY, replaces=renewed.revision)
        store.update(keys[1], later(changed, {"a": b"1"}), _DAY, replaces=changed.revision)
        store.update_ttl(keys[2], _DAY)
        assert counts.count() == 9
        store.delete(keys[3])
        store.end(keys[4].handle)
        assert counts.count() == 7

    def test_what_has_expired_is_not_counted(self, store: ServerSideStore) -> None:
        counts = _able(store, Counts)
        for seconds in (30, 90, 3600):
            store.save(Record(state={"a": b"1"}), timedelta(seconds=seconds))
        assert counts.count() == 3
        self.pass_time(store, 31)
        assert counts.count() == 2
        self.pass_time(store, 60)
        assert counts.count() == 1

    @pytest.mark.parametrize("owner", ["ann", "Ann", "7", "ünï *:%_'\"\\/", "x" * 255])
    def test_the_sessions_of_an_owner(self, store: ServerSideStore, owner: str) -> None:
        index = _index_of(store)
        mine = [store.save(Record(state={"n": bytes([n])}, owner=owner), _DAY) for n in range(3)]
        for other in (None, "bob", owner + "2" if len(owner) < 9 else "y"):
            store.save(Record(state={"n": b"9"}, owner=other), _DAY)
        entries = index.entries(owner)
        assert {entry.handle: entry.data for entry in entries} == {key.handle: store.read(key.handle) for key in mine}
        assert len(entries) == 3
        assert not any(has_left(entry, list_name(owner), store.now()) for entry in entries)
        assert index.entries("nobody") == []

    def test_a_list_tells_of_sessions_by_their_heads(self, store: ServerSideStore) -> None:
        """An entry has the record's head, even if the record is large."""
        index = _index_of(store)
        record = Record(state={"a": b"\xc6\x00\x01\x00\x00" + bytes(0x10000)}, owner="ö" * 255, client="c" * 100)
        key = store.save(record, _DAY)
        (entry,) = index.entries("ö" * 255)
        found = unpack(t.cast("bytes", entry.data), entry.handle, head=True)
        assert isinstance(found, Record)
        loaded = _alive(store, key)
        assert found == msgspec.structs.replace(loaded, state={}, sealed=found.sealed)

    def test_many_sessions_of_an_owner_end_at_once(self, store: ServerSideStore) -> None:
        """Only records that still have the given revision are ended."""
        index = _index_of(store)
        keys = [store.save(Record(state={"n": bytes([n])}, owner="ann"), _DAY) for n in range(7)]
        revisions = {key.handle: _alive(store, key).revision for key in keys}
        first = _alive(store, keys[0])
        store.update(keys[0], later(first, {"n": b"9"}), _DAY, replaces=first.revision)
        store.delete(keys[1])
        assert store.end_each(revisions, "ann") == [key.handle for key in keys[2:]]
        assert _alive(store, keys[0]).state == {"n": b"9"}
        assert [_fate(store, key) for key in keys[1:]] == ["ended", *["revoked"] * 5]
        assert store.end_each(revisions, "ann") == []
        index.unfile("ann", *(key.handle for key in keys[1:]))
        assert _living(store, "ann") == [keys[0].handle]

    def test_an_entry_stays_as_long_as_its_session(self, store: ServerSideStore) -> None:
        """Also if the session is extended and written many times."""
        index = _index_of(store)
        key = store.save(Record(state={"a": b"1"}, owner="ann"), timedelta(seconds=60))
        for _ in range(3):
            self.pass_time(store, 50)
            store.update_ttl(key)
        record = _alive(store, key)
        store.update(key, later(record, {"a": b"2"}), timedelta(seconds=60), replaces=record.revision)
        index.prune()
        assert _living(store, "ann") == [key.handle]

    def test_an_entry_moves_with_a_renewal(self, store: ServerSideStore) -> None:
        _index_of(store)
        key = store.save(Record(state={"a": b"1"}), _DAY)
        first = _alive(store, key)
        second = msgspec.structs.replace(later(first, {"a": b"2"}), owner="ann")
        signed_in = store.renew(key, second, _DAY, replaces=first.revision)
        assert _living(store, "ann") == [signed_in.handle]
        second = _alive(store, signed_in)
        third = msgspec.structs.replace(later(second, {"a": b"3"}), owner="bob")
        replaced = store.renew(signed_in, third, _DAY, replaces=second.revision, kind="replaced")
        assert (_living(store, "ann"), _living(store, "bob")) == ([], [replaced.handle])

    @pytest.mark.parametrize("end", ["delete", "end", "expiry"])
    def test_no_entry_outlives_its_session_for_long(self, store: ServerSideStore, end: str) -> None:
        index = _index_of(store)
        keys = [store.save(Record(state={"a": b"1"}, owner="ann"), timedelta(seconds=60)) for _ in range(20)]
        assert index.prune() == 0
        for key in keys:
            if end == "delete":
                store.delete(key)
            elif end == "end":
                assert store.end(key.handle, owner="ann")
        stands = TOMBSTONE_TIME.total_seconds()  # a process that extends a session may have a clock that is behind
        self.pass_time(store, (60 if end == "expiry" else 0) + stands + 1)
        assert _living(store, "ann") == []
        index.prune(5)
        index.prune()
        sweeps = store.ability(Sweeps)
        if sweeps is not None:
            sweeps.delete_expired()
        index.prune()
        in_the_record = type(index).file is OwnerIndex.file  # no list: the engine itself removes expired records
        assert index.entries("ann") == [] or (in_the_record and sweeps is None)

    def test_a_session_that_is_being_made_can_be_barred(self, store: ServerSideStore) -> None:
        """Ending all sessions of an owner bars a session that is filed, but not written yet."""
        _index_of(store)
        key = SessionKey.generate()
        assert store.bar(key.handle)
        assert not store.add(key.handle, _packed(store, b"1", handle=key.handle), _DAY)
        assert _fate(store, key) == "revoked"
        living = store.save(Record(state={"a": b"1"}), _DAY)
        assert not store.bar(living.handle)

    # -- marks -----------------------------------------------------------------------------------------------------

    def test_a_mark_names_what_it_was_left_for(self, store: ServerSideStore) -> None:
        assert store.marked(_UNKNOWN) is None
        assert store.mark(_UNKNOWN, "1" * 64, _DAY)
        assert store.marked(_UNKNOWN) == "1" * 64
        assert not store.mark(_UNKNOWN, "2" * 64, _DAY)
        assert store.marked(_UNKNOWN) == "1" * 64

    def test_a_mark_stands_until_its_end(self, store: ServerSideStore) -> None:
        """Much longer than a tombstone stands."""
        store.mark(_UNKNOWN, "1" * 64, _DAY)
        self.pass_time(store, 86_000)
        assert store.marked(_UNKNOWN) == "1" * 64
        self.pass_time(store, 401)
        assert store.marked(_UNKNOWN) is None

    def test_a_mark_that_is_left_again_ends_later_never_sooner(self, store: ServerSideStore) -> None:
        store.mark(_UNKNOWN, "1" * 64, timedelta(hours=1))
        assert not store.mark(_UNKNOWN, "1" * 64, _DAY)
        assert not store.mark(_UNKNOWN, "1" * 64, timedelta(hours=1))
        self.pass_time(store, 86_000)
        assert store.marked(_UNKNOWN) == "1" * 64

    def test_a_mark_is_no_session_and_no_end_of_one_removes_it(self, store: ServerSideStore) -> None:
        key = SessionKey.generate()
        store.mark(key.handle, "1" * 64, _DAY)
        assert _fate(store, key) == "imported"
        assert not store.end(key.handle)
        store.delete(key)
        with pytest.raises(SessionGone):
            store.update_ttl(key)
        with pytest.raises(SessionGone):
            store.save(Record(state={"a": b"1"}), _DAY, key=key)
        assert store.marked(key.handle) == "1" * 64

    def test_of_many_who_leave_a_mark_one_is_first(self, store: ServerSideStore) -> None:
        with ThreadPoolExecutor(_WRITERS) as threads:
            left = list(threads.map(lambda n: store.mark(_UNKNOWN, f"{n}" * 64, _DAY), range(_WRITERS)))
        assert sorted(left) == [*[False] * (_WRITERS - 1), True]
        assert store.marked(_UNKNOWN) == f"{left.index(True)}" * 64

    def test_what_is_no_mark_is_damage(self, store: ServerSideStore) -> None:
        store.save(Record(state={"a": b"1"}), _DAY, key=(key := SessionKey.generate()))
        with pytest.raises(SessionCorrupt):
            store.marked(key.handle)


def _alive(store: SessionStore, key: SessionKey) -> Record:
    record = store.load(key)
    assert record is not None
    return record


def _index_of(store: ServerSideStore) -> OwnerIndex:
    return _able(store, OwnerIndex)


def _able(store: ServerSideStore, kind: t.Callable[..., _Ability]) -> _Ability:
    found = store.ability(kind)
    if found is None:
        pytest.skip(f"this store has no {getattr(kind, '__name__', kind)}")
    return found


def _living(store: ServerSideStore, owner: str) -> list[str]:
    """The handles of an owner's living sessions."""
    entries = _index_of(store).entries(owner)
    return [entry.handle for entry in entries if not has_left(entry, list_name(owner), store.now())]


def _gone(store: SessionStore, key: SessionKey) -> SessionGone:
    """The error that loading a gone session raises."""
    with pytest.raises(SessionGone) as caught:
        store.load(key)
    return caught.value


def _fate(store: SessionStore, key: SessionKey) -> str | None:
    """How a gone session went."""
    return _gone(store, key).kind


def _packed(store: ServerSideStore, value: bytes, ttl: timedelta = _DAY, *, handle: str = _UNKNOWN) -> bytes:
    return pack(Record(state={"a": value}).written(int(store.now() * 1000), ttl), handle)


def _writes(store: SessionStore, key: SessionKey, record: Record) -> list[t.Callable[[], object]]:
    """Every way to write to a known session."""
    new, replaces = later(record, {"a": b"2"}), record.revision
    return [
        lambda: store.update(key, new, _DAY, replaces=replaces),
        lambda: store.update_ttl(key, _DAY),
        lambda: store.update_ttl(key),
        lambda: store.renew(key, new, _DAY, replaces=replaces),
        lambda: store.delete(key, replaces=replaces),
    ]


# The ways in which a session can end.
_ENDS: dict[str, t.Callable[[ServerSideStore, SessionKey, Record], object]] = {
    "delete": lambda store, key, record: store.delete(key),
    "emptied": lambda store, key, record: store.delete(key, replaces=record.revision, emptied=True),
    "renew": lambda store, key, record: store.renew(key, record, _DAY, replaces=record.revision),
    "signed in": lambda store, key, record: store.renew(key, record, _DAY, replaces=record.revision, kind="signed in"),
    "replaced": lambda store, key, record: store.renew(key, record, _DAY, replaces=record.revision, kind="replaced"),
    "end": lambda store, key, record: store.end(key.handle),
}


def _processes() -> t.Any:
    """A context for new processes that share nothing with this one; the fastest that the system has."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _count(store: SessionStore, text: str, times: int) -> None:
    """Count up ``times`` times, by compare-and-set."""
    key = SessionKey(text)
    for _ in range(times):
        record = _alive(store, key)
        while True:
            try:
                state = {"n": str(int(record.state["n"]) + 1).encode()}
                store.update(key, later(record, state), _DAY, replaces=record.revision)
                break
            except SessionConflict as conflict:
                record = t.cast("Record", conflict.record)


def _count_elsewhere(reopen: t.Callable[[], SessionStore], text: str, start: t.Any) -> None:
    store = reopen()
    start.wait(30)
    _count(store, text, _WRITES)


def _is_free_text(store: ServerSideStore) -> bool:
    """Whether the engine accepts names that are not handles."""
    try:
        store.read("x" * 43)
    except Exception:  # noqa: BLE001  - an engine may raise anything for a foreign name
        return False
    return True
