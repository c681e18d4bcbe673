"""``flask sessions``: list, show, revoke, cleanup and stats, over every store where that matters."""

from __future__ import annotations

import json
import re
import tracemalloc
import typing as t
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from cli_support import error, handle_of, output, run, shop
from every_store import STORES, stores
from flask import Flask
from http_support import Browser, started
from views import renew

from flask_sessionstore import SessionKey, StoreUnavailable, session
from flask_sessionstore.layout import pack
from flask_sessionstore.record import TOMBSTONE_TIME, Record
from flask_sessionstore.stores import Entry, OwnerIndex, ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

DAY = timedelta(days=1)


def data(app: Flask, *args: str) -> t.Any:
    return json.loads(output(app, *args, "--json"))


def handles(rows: t.Iterable[dict[str, t.Any]]) -> set[str]:
    return {row["handle"] for row in rows}


# Views. (Not the session's own methods: which session it is, is known in the request only.)
def end() -> None:
    session.clear()


def created_at() -> str:
    return t.cast("datetime", session.created_at).isoformat()


def expires_at() -> str:
    return t.cast("datetime", session.expires_at).isoformat()


@pytest.fixture
def damaged() -> MemoryStore:
    """A store in which one of two records cannot be read."""
    store = MemoryStore()
    started(shop(store), user="ada")
    store.add("d" * 64, b"\1" + b"!" * 86 + b"\xdd" * 8 + b"!" * 10, DAY)
    return store


# -- list ------------------------------------------------------------------------------------------------------------


def test_list_shows_the_sessions_of_everybody_or_of_one_owner(index: ServerSideStore) -> None:
    app = shop(index)
    ada, bob, anonymous = started(app, user="ada"), started(app, user="bob"), started(app, cart=["mug"])
    assert handles(data(app, "list")) == {handle_of(ada), handle_of(bob), handle_of(anonymous)}
    (row,) = data(app, "list", "--owner", "ada")
    assert row == {
        "handle": handle_of(ada),
        "owner": "ada",
        "created_at": ada.asks(created_at),
        "extended_at": row["extended_at"],
        "expires_at": ada.asks(expires_at),
        "client": None,
        "bytes": len(index.read(handle_of(ada)) or b""),
        "damaged": False,
    }
    assert row in data(app, "list")
    assert len(data(app, "list", "--limit", "2")) == 2
    assert f"{handle_of(bob)[:12]}  20" in output(app, "list")
    assert data(app, "list", "--owner", "eve") == []
    assert output(app, "list", "--owner", "eve") == "No sessions.\n"


def test_list_shows_no_session_that_ended_or_expired(index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    app = shop(index, PERMANENT_SESSION_LIFETIME=DAY)
    started(app, user="early")
    started(app, user="out").does(end)
    clock.advance(DAY.total_seconds())
    ada = started(app, user="ada")
    assert handles(data(app, "list")) == {handle_of(ada)}


def test_list_shows_what_cannot_be_read_as_damaged(damaged: MemoryStore) -> None:
    app = shop(damaged)
    assert re.search(r"^d{12}  \(damaged\)[ -]+$", output(app, "list"), re.MULTILINE)
    (row,) = (row for row in data(app, "list") if row["damaged"])
    assert (row.pop("handle"), row.pop("bytes")) == ("d" * 64, 105)
    assert set(row.values()) == {None, True}


def test_list_prints_the_first_session_before_it_knows_the_last() -> None:
    class Endless(MemoryStore):
        def scan(self) -> t.Iterator[Entry]:
            record = Record().written(self._now_ms(), DAY)
            while True:
                handle = SessionKey.generate().handle
                yield Entry(handle, pack(record, handle))

    assert len(data(shop(Endless()), "list", "--limit", "3")) == 3


def test_nothing_that_a_terminal_would_obey_is_shown() -> None:
    app = shop(MemoryStore())
    browser = started(app, **{"user": "\x1b[2J\u202eada\n", "\x1b]0;": "\x1b[31m\udc80"})
    for args in [
        ("list",),
        ("show", handle_of(browser), "--values"),
        ("show", handle_of(browser), "--values", "--json"),
    ]:
        assert all(c.isprintable() for c in output(app, *args).replace("\n", ""))
    assert data(app, "list")[0]["owner"] == "\x1b[2J\u202eada\n"


# -- show ------------------------------------------------------------------------------------------------------------


def test_show_tells_everything_but_the_values(server_store: ServerSideStore) -> None:
    app = shop(server_store, SESSION_RECORD_CLIENT=True)
    browser = Browser(app)

    def sign_in() -> None:
        session.update(user="ada", cart=["a mug"])
        session.permanent = True
        session.lifetime = timedelta(hours=1)

    browser.does(sign_in)
    handle = handle_of(browser)
    shown = data(app, "show", handle)
    size = len(server_store.read(handle) or b"")
    assert shown == {
        "handle": handle,
        "owner": "ada",
        "created_at": shown["created_at"],
        "extended_at": shown["extended_at"],
        "expires_at": browser.asks(expires_at),
        "client": shown["client"],
        "permanent": True,
        "lifetime": 3600.0,
        "deadline": None,
        "bytes": size,
        "sealed": False,
        "keys": ["cart", "user"],
    }
    assert shown["client"].endswith("127.0.0.1")
    text = output(app, "show", handle)
    assert re.search(r"^owner +ada$", text, re.MULTILINE)
    assert re.search(r"^lifetime +1:00:00$", text, re.MULTILINE)
    assert "a mug" not in text


VALUES: dict[str, tuple[object, object]] = {
    "none": (None, None),
    "numbers": ([1, 2.5, 2**80, True], [1, 2.5, 2**80, True]),
    "infinite": (float("inf"), "inf"),
    "money": (Decimal("1.50"), "1.50"),
    "pair": (("a", b"b\xff"), ["a", "b\\xff"]),
    "set": ({3}, [3]),
    "by number": ({1: {None: "x"}}, {"1": {"None": "x"}}),
    "at": (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
    "day": (date(2026, 1, 1), "2026-01-01"),
    "hour": (time(12, 30), "12:30:00"),
    "span": (timedelta(minutes=1), 60.0),
    "id": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
}


def test_show_decodes_the_values_when_asked_to() -> None:
    app = shop(MemoryStore())
    handle = handle_of(started(app, **{key: value for key, (value, _) in VALUES.items()}))
    assert data(app, "show", handle, "--values")["values"] == {key: plain for key, (_, plain) in VALUES.items()}
    text = output(app, "show", handle, "--values")
    for key, (value, _) in VALUES.items():
        assert re.search(rf"^{key} +{re.escape(repr(value))}$", text, re.MULTILINE)


def test_show_shows_a_number_that_python_writes_in_no_decimal_digits() -> None:
    app = shop(MemoryStore())
    handle = handle_of(started(app, number=10**5000))
    assert data(app, "show", handle, "--values")["values"] == {"number": hex(10**5000)}
    assert "<a value of type int, too large to show>" in output(app, "show", handle, "--values")


def test_show_shows_the_other_values_beside_one_that_cannot_be_decoded() -> None:
    store = MemoryStore()
    record = Record(state={"bad": b"\xc1", "good": b"\x01"}).written(store._now_ms(), DAY)
    store.add("a" * 64, pack(record, "a" * 64), DAY)
    assert data(shop(store), "show", "a" * 64, "--values")["values"] == {"bad": "(damaged)", "good": 1}
    assert output(shop(store), "show", "a" * 64, "--values").endswith("\nbad   (damaged)\ngood  1\n")


def test_show_says_that_a_sealed_session_is_closed_to_it() -> None:
    app = shop(MemoryStore(), SESSION_SEAL=True)
    handle = handle_of(started(app, user="ada"))
    shown = data(app, "show", handle)
    assert (shown["owner"], shown["sealed"], shown["keys"]) == ("ada", True, None)
    assert error(app, "show", handle, "--values").startswith("Error: this session is sealed")


def test_show_says_what_became_of_a_session(clock: Clock) -> None:
    store = MemoryStore()
    store.clock = clock
    app = shop(store, PERMANENT_SESSION_LIFETIME=DAY)
    ended, renewed, expired = started(app, n=1), started(app, n=1), started(app, n=1)
    before = [handle_of(browser) for browser in (ended, renewed, expired)]
    ended.does(end)
    renewed.does(renew)
    assert error(app, "show", before[0]) == "Error: this session was ended"
    assert error(app, "show", before[1]) == f"Error: this session was renewed, and goes on as {handle_of(renewed)}"
    clock.advance(DAY.total_seconds())
    for handle in before:
        assert error(app, "show", handle) == "Error: there is no session under this handle"


def test_show_says_that_a_record_is_damaged(damaged: MemoryStore) -> None:
    assert error(shop(damaged), "show", "d" * 64) == "Error: the store holds a damaged session record"


# -- revoke ----------------------------------------------------------------------------------------------------------


def test_revoke_ends_one_session(server_store: ServerSideStore) -> None:
    app = shop(server_store)
    ada, bob = started(app, user="ada"), started(app, user="bob")
    handle = handle_of(ada)
    assert output(app, "revoke", handle) == "1 ended\n"
    assert (ada.data, bob.data) == ({}, {"user": "bob"})
    assert error(app, "revoke", handle) == "Error: there is no session under this handle"


def test_revoke_ends_the_sessions_of_an_owner(index: ServerSideStore) -> None:
    app = shop(index)
    phone, laptop, bob = (started(app, user=name) for name in ("ada", "ada", "bob"))
    assert data(app, "revoke", "--owner", "ada") == {"ended": 2}
    assert (phone.data, laptop.data, bob.data) == ({}, {}, {"user": "bob"})
    assert output(app, "revoke", "--owner", "ada") == "0 ended\n"


def test_revoke_ends_all_sessions(index: ServerSideStore) -> None:
    app = shop(index)
    browsers = [started(app, user="ada"), started(app, user="bob"), started(app, cart=["mug"])]
    index.add("d" * 64, b"\1" + b"!" * 86 + b"\xdd" * 8 + b"!" * 10, DAY)
    assert output(app, "revoke", "--all", "--yes") == "4 ended\n"
    assert [browser.data for browser in browsers] == [{}, {}, {}]
    assert data(app, "list") == []
    assert output(app, "revoke", "--all", "--yes") == "0 ended\n"


def test_revoke_asks_before_it_ends_all() -> None:
    app = shop(MemoryStore())
    browser = started(app, user="ada")
    refused = run(app, "revoke", "--all", input="n\n")
    assert refused.exit_code == 1
    assert refused.output.endswith("Aborted!\n")
    assert browser.data == {"user": "ada"}
    assert run(app, "revoke", "--all", input="y\n").output.endswith("1 ended\n")
    assert browser.data == {}


def test_revoke_all_ends_a_session_that_was_renewed_behind_its_back(clock: Clock) -> None:
    class Passed(MemoryStore):
        """The first scan has passed the new name of a session when it gets it, and comes late to its old one."""

        meanwhile: t.Callable[[], object] | None = None

        def scan(self) -> t.Iterator[Entry]:
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is None:
                return super().scan()
            meanwhile()
            return iter(())

    store = Passed()
    store.clock = clock
    app = shop(store)
    browser = started(app, user="ada")
    clock.advance(1)
    store.meanwhile = lambda: browser.does(renew)
    assert output(app, "revoke", "--all", "--yes") == "1 ended\n"
    assert browser.data == {}


@pytest.mark.parametrize(
    "args", [(), ("a" * 64, "--all"), ("--owner", "ada", "--all"), ("a" * 64, "--owner", "ada")], ids=" ".join
)
def test_revoke_wants_to_know_which_and_one_of_them_only(args: tuple[str, ...]) -> None:
    store = MemoryStore()
    browser = started(shop(store), user="ada")
    assert "only one of these" in error(shop(store), "revoke", *args, code=2)
    assert browser.data == {"user": "ada"}


@pytest.mark.parametrize("command", ["show", "revoke"])
def test_what_is_no_handle_is_not_repeated(command: str) -> None:
    key = str(SessionKey.generate()).replace("-", "x")
    result = run(shop(MemoryStore()), command, key)
    assert result.exit_code == 2
    assert result.output.endswith("Error: a HANDLE is 64 hexadecimal digits in lower case, or the first of them\n")
    assert key not in result.output


@pytest.mark.parametrize("before", [("revoke", "0" * 64), ("show", "0" * 64), ("list",), ("list", "--limit"), ()])
@pytest.mark.parametrize("dashes", ["", "--"])
@pytest.mark.parametrize("length", [43, 40])
def test_a_key_in_a_place_where_nothing_belongs_is_not_repeated(
    before: tuple[str, ...], dashes: str, length: int
) -> None:
    key = str(SessionKey.generate()).replace("-", "x")[:length]
    result = run(shop(MemoryStore()), *before, dashes + key)
    assert result.exit_code == 2
    assert "Error: " in result.output
    assert key not in result.output


def test_without_a_command_there_is_help_and_no_error() -> None:
    said = run(shop(MemoryStore())).output
    assert "Commands:" in said
    assert "Error" not in said


# -- cleanup ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=stores("memory", "caching", "file"))
def swept_store(request: pytest.FixtureRequest, clock: Clock) -> ServerSideStore:
    """Every kind of store whose engine does not remove what has expired, and that needs no server."""
    store = t.cast("ServerSideStore", STORES[request.param](request))
    store.clock = clock
    return store


@pytest.mark.parametrize("batch", ["1", "2", "3", "100"])
def test_cleanup_removes_what_has_expired_in_batches(swept_store: ServerSideStore, clock: Clock, batch: str) -> None:
    app = shop(swept_store, PERMANENT_SESSION_LIFETIME=DAY)
    for number in range(5):
        started(app, user=number)
    clock.advance(DAY.total_seconds())
    alive = started(app, user="ada")
    assert data(app, "stats")["expired"] == 5
    assert output(app, "cleanup", "--batch", batch) == "5 removed\n"
    assert data(app, "stats")["expired"] == 0
    assert alive.data == {"user": "ada"}
    assert data(app, "cleanup") == {"removed": 0}


class WithoutLists(MemoryStore):
    """A store of one's own, that cannot list the sessions of an owner."""

    def ability(self, kind: t.Callable[..., t.Any]) -> t.Any:
        return None if kind is OwnerIndex else super().ability(kind)


def test_cleanup_needs_no_lists_of_owners(clock: Clock) -> None:
    store = WithoutLists()
    store.clock = clock
    app = shop(store, PERMANENT_SESSION_LIFETIME=DAY)
    started(app, cart=1)
    clock.advance(DAY.total_seconds())
    alive = started(app, cart=2)
    assert output(app, "cleanup") == "1 removed\n"
    assert alive.data == {"cart": 2}


@pytest.mark.parametrize("batch", ["0", "-1", "many"])
def test_a_batch_is_a_number_above_0(batch: str) -> None:
    assert "--batch" in error(shop(MemoryStore()), "cleanup", "--batch", batch, code=2)


def test_cleanup_that_failed_on_the_way_is_finished_by_the_next(clock: Clock) -> None:
    class Failing(MemoryStore):
        left = 2

        def delete_expired(self, limit: int | None = None) -> int:
            self.left -= 1
            if not self.left:
                raise StoreUnavailable("the disk is gone")
            return super().delete_expired(limit)

    store = Failing()
    store.clock = clock
    app = shop(store, PERMANENT_SESSION_LIFETIME=DAY)
    for number in range(5):
        started(app, user=number)
    clock.advance(DAY.total_seconds())
    assert error(app, "cleanup", "--batch", "2") == "Error: the disk is gone"
    assert output(app, "cleanup", "--batch", "2") == "3 removed\n"


def test_cleanup_prunes_the_lists_of_owners_to_the_end(clock: Clock) -> None:
    limits: list[int | None] = []

    class Listing(MemoryStore):
        def prune(self, limit: int | None = None) -> int:
            limits.append(limit)
            return 2 if len(limits) < 4 else 1

    assert output(shop(Listing()), "cleanup", "--batch", "2") == "0 removed\n"
    assert limits == [2, 2, 2, 2]


@pytest.mark.redis
def test_cleanup_counts_entries_of_lists_where_the_engine_removes_sessions_itself(
    valkey: t.Any, request: pytest.FixtureRequest, clock: Clock
) -> None:
    store = t.cast("ServerSideStore", STORES["redis"](request))
    store.clock = clock
    app = shop(store)
    for _ in range(3):
        store.drop(handle_of(started(app, user="ada")))
    clock.advance(TOMBSTONE_TIME.total_seconds())
    assert output(app, "cleanup", "--batch", "2") == "3 removed\n"


# -- stats -----------------------------------------------------------------------------------------------------------


def test_stats_counts_living_sessions(index: ServerSideStore, clock: Clock) -> None:
    index.clock = clock
    app = shop(index, PERMANENT_SESSION_LIFETIME=DAY)
    numbers = dict.fromkeys(("sessions", "anonymous", "owners", "bytes", "expired", "damaged"), 0)
    nothing = {**numbers, "oldest": None, "expiring_next": None}
    assert data(app, "stats") == nothing
    first = started(app, user="ada")
    clock.advance(3600)
    others = [started(app, **{key: value}) for key, value in (("user", "bob"), ("user", "bob"), ("cart", 1))]
    started(app, user="out").does(end)
    sizes = [len(index.read(handle_of(browser)) or b"") for browser in (first, *others)]
    assert data(app, "stats") == {
        **nothing,
        "sessions": 4,
        "anonymous": 1,
        "owners": 2,
        "bytes": sum(sizes),
        "oldest": "2026-01-01T00:00:00+00:00",
        "expiring_next": "2026-01-02T01:00:00+00:00",  # asking for the first one's handle has extended it
    }


def test_stats_counts_what_is_damaged(damaged: MemoryStore) -> None:
    counted = data(shop(damaged), "stats")
    assert (counted["sessions"], counted["damaged"]) == (1, 1)
    assert re.search(r"^damaged +1$", output(shop(damaged), "stats"), re.MULTILINE)


@pytest.mark.parametrize("args", [["stats"], ["revoke", "--all", "--yes"], ["list"]], ids=lambda args: args[0])
def test_many_sessions_are_never_in_memory_at_once(args: list[str]) -> None:
    class Many(MemoryStore):
        def scan(self) -> t.Iterator[Entry]:
            large = Record(state={"x": b"\xc5\x40\x00" + bytes(16_384)})
            for _ in range(500):
                handle = SessionKey.generate().handle
                yield Entry(handle, pack(large.written(self._now_ms(), DAY), handle))

    app = shop(Many())
    run(app, "stats")  # what is imported and kept at the first command is no matter
    tracemalloc.start()
    try:
        output(app, *args)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
