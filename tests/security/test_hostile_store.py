"""A hostile neighbour: whatever stands in the store, it runs nothing, costs little, and is at worst no session."""

from __future__ import annotations

import contextlib
import pickle
import tracemalloc
import typing as t
import zlib
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import servers
from attacks import purge, read_all, renew, target
from conftest import Clock
from http_support import KEPT, Browser, fate, make_app, started
from itsdangerous.encoding import base64_encode
from msgspec.msgpack import Ext

from flask_sessionstore import Record, SessionCorrupt, SessionKey, StoreError, UnsupportedByStore, session
from flask_sessionstore.record import pack
from flask_sessionstore.stores import OwnerIndex, ServerSideStore, from_url
from flask_sessionstore.stores.cookie import CookieStore, _StateKey
from flask_sessionstore.stores.memory import MemoryStore
from fuzz import memory_bound, memory_used

HOUR = timedelta(hours=1)
NEW = Record(state={"user": b"\xa3bob"})
HUGE = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
HUGE += [b"\xc9\xff\xff\xff\xff\x01", b"\xdc\xff\xff", b"\xde\xff\xff", b"\xc5\xff\xff", b"\xda\xff\xff", b"\xd9\xff"]


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[t.Any, ...]:
        return Path.touch, (self.path,)


def code_that_runs(path: Path) -> list[bytes]:
    """What other serialisers would run."""
    pickles = [pickle.dumps({"user": Bomb(path)}, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    yaml = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{path}']]"
    return [*pickles, yaml.encode(), f"__import__('pathlib').Path({str(path)!r}).touch()".encode()]


def header(clock: Clock) -> bytes:
    """What precedes the state in a record that is alive."""
    return pack(Record().written(int(clock() * 1000), HOUR))[:-1]


def hostile_records(clock: Clock, path: Path) -> list[bytes]:
    """Bytes where a record belongs."""
    good = pack(Record(state={"user": b"\x01"}, owner="ann").written(int(clock() * 1000), HOUR))
    head = header(clock)
    deep = [b"\x91" * 50_000, b"\x81\xa1a" * 20_000, b"\xc7\xff\x01" * 10_000]
    states = [
        b"\x90",
        b"\xc0",
        b"\x81\x01\xc4\x00",
        b"\x81\xa1a\xa1b",
        b"\x81\xa1a\x91\xc4\x00",
        b"\x81\xa1\xff\xc4\x00",
    ]
    cut = [good[:n] for n in range(1, len(good), 3)]
    foreign = [b"\x00", b"{}", b'{"user": "ann"}', b'a:1:{s:4:"user";i:1;}', b"\xff" * 1000, b"\x01" * 1000]
    later = [bytes([number]) + good[1:] for number in (0, 2, 3, 31, 32, 128, 255)]
    ends = [good[:34] + time * 6 + good[82:] for time in (b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x00" * 8)]
    return [
        *code_that_runs(path),
        *(head + code for code in code_that_runs(path)),
        *(head + state for state in (*HUGE, *deep, *states)),
        *(*cut, *foreign, *later, *ends, good + b"\x00", good + good),
        good[:83] + b"\xff\xff" + good[85:],
        good[:85] + b"\xff\xff" + good[87:],
    ]


def hostile_values(path: Path) -> list[bytes]:
    """Bytes where one value belongs, none of which encoding writes."""
    encode = msgspec.msgpack.encode
    extensions = [Ext(code, data) for code in range(-2, 20) for data in (b"", b"\xff", b"\x93\x01\x02", b"nonsense")]
    nested = b"\xc0"
    for _ in range(2000):
        nested = encode(Ext(1, b"\x91" + nested))
    return [
        *code_that_runs(path),
        *HUGE,
        *map(encode, extensions),
        *(b"\x91" * 50_000, b"\x91" * 200 + b"\x90", b"\x81\xa1a" * 150 + b"\x80", nested),
        *(
            b"",
            b"\xc1",
            b"\x92\x01",
            b"\xa5abc",
            b"\x81\x90\x01",
            b"\x81\x81\x01\x02\x03",
            b"\x91\xff\xff",
            b"\xa1\xff",
        ),
        encode(Ext(12, b"9" * 50_000)),
        encode(Ext(5, b"\x7f" * 50_000)),
        encode(Ext(2, encode([[1]]))),
        encode(Ext(4, encode([1]))),
    ]


@contextlib.contextmanager
def traced() -> t.Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def plant(user: Browser, store: ServerSideStore, data: bytes) -> str:
    """Put bytes where this browser's session is."""
    handle = t.cast("str", user.asks(lambda: session.handle))
    store.drop(handle)
    assert store.add(handle, data, HOUR)
    return handle


def test_what_is_no_record_is_no_session_and_runs_nothing(
    server_store: ServerSideStore, clock: Clock, tmp_path: Path
) -> None:
    app = target(server_store, clock)
    touched = tmp_path / "touched"
    user = started(app, user="ann")
    handle = t.cast("str", user.asks(lambda: session.handle))
    for data in hostile_records(clock, touched)[:: 1 if isinstance(server_store, MemoryStore) else 8]:
        server_store.drop(handle)
        server_store.add(handle, data, HOUR)
        visitor = user.twin()
        response = visitor.does(lambda: session.get("user"))
        assert response.status_code == 200
        assert visitor.data in ({}, {"user": 1})
    assert not touched.exists()


def test_what_is_no_record_is_replaced_by_the_next_write_and_ended_by_a_purge(
    server_store: ServerSideStore, clock: Clock
) -> None:
    app = target(server_store, clock)
    for write in (lambda: session.update(n=1), purge):
        user = started(app, user="ann")
        handle = plant(user, server_store, b"no record of ours")
        assert fate(user.does(lambda: session.get("user"))) == KEPT
        user.does(write)
        assert "user" not in user.data
        assert handle != user.asks(lambda: session.handle)


VERBS: dict[str, t.Callable[[ServerSideStore, SessionKey], object]] = {
    "load": lambda store, key: store.load(key),
    "update": lambda store, key: store.update(key, NEW, HOUR, replaces=b"revision"),
    "update_ttl": lambda store, key: store.update_ttl(key),
    "update_ttl, as told": lambda store, key: store.update_ttl(key, HOUR),
    "renew": lambda store, key: store.renew(key, NEW, HOUR, replaces=b"revision"),
    "delete, what was loaded": lambda store, key: store.delete(key, replaces=b"revision"),
    "delete": lambda store, key: store.delete(key),
    "info": lambda store, key: store.info(key.handle),
    "end": lambda store, key: store.end(key.handle),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_every_verb_knows_what_to_say_to_it(
    verb: t.Callable[[ServerSideStore, SessionKey], object], clock: Clock, tmp_path: Path
) -> None:
    check_verbs(MemoryStore(), [verb], clock, tmp_path)


def test_so_does_every_store(server_store: ServerSideStore, clock: Clock, tmp_path: Path) -> None:
    check_verbs(server_store, list(VERBS.values()), clock, tmp_path, every=9)


def check_verbs(
    store: ServerSideStore,
    verbs: list[t.Callable[[ServerSideStore, SessionKey], object]],
    clock: Clock,
    tmp_path: Path,
    every: int = 1,
) -> None:
    store.clock = clock
    key = store.save(NEW, HOUR)
    for verb in verbs:
        for data in hostile_records(clock, tmp_path / "touched")[::-every]:
            store.drop(key.handle)
            store.add(key.handle, data, HOUR)
            with contextlib.suppress(StoreError):
                verb(store, key)
    assert not (tmp_path / "touched").exists()


def test_it_hides_no_other_session_of_its_owner(server_store: ServerSideStore, clock: Clock, tmp_path: Path) -> None:
    """One visitor's damaged record is not to keep the lists of an owner, or of all, from being made."""
    if not isinstance(server_store, OwnerIndex):
        pytest.skip("this store lists no owners")
    app = target(server_store, clock)
    sound = started(app, _user_id="ann").asks(lambda: session.handle)
    victim = started(app, _user_id="ann").asks(lambda: session.handle)
    sessions = app.extensions["sessionstore"]
    with app.app_context():
        for data in hostile_records(clock, tmp_path / "touched")[::5]:
            server_store.drop(victim)
            server_store.add(victim, data, HOUR)
            assert sound in [info.handle for info in sessions.find("ann")]
            with contextlib.suppress(UnsupportedByStore):
                sessions.delete_expired()
        assert sessions.revoke_all("ann") >= 1
        assert sessions.find("ann") == []


def test_what_is_no_value_is_absent_and_runs_nothing(clock: Clock, tmp_path: Path) -> None:
    store = MemoryStore()
    user = started(target(store, clock), good="tea")
    handle = t.cast("str", user.asks(lambda: session.handle))
    for data in hostile_values(tmp_path / "touched"):
        record = Record(state={"bad": data, "good": b"\xa3tea", "_user_id": data}).written(int(clock() * 1000), HOUR)
        store.drop(handle)
        store.add(handle, pack(record), HOUR)
        assert user.does(read_all).status_code == 200
        assert user.asks(lambda: session.get("good")) == "tea"
    assert not (tmp_path / "touched").exists()


def test_nothing_takes_more_memory_than_its_size_allows(clock: Clock, tmp_path: Path) -> None:
    """Whatever lengths are claimed inside: the bound is what the fuzzers hold all input to."""
    store = MemoryStore()
    user = started(target(store, clock), good="tea")
    handle = t.cast("str", user.asks(lambda: session.handle))

    def serve(data: bytes) -> None:
        store.drop(handle)
        store.add(handle, data, HOUR)
        assert user.does(session_copy).status_code == 200

    values = hostile_values(tmp_path)
    records = [pack(Record(state={"v": data}).written(int(clock() * 1000), HOUR)) for data in values]
    many = b"\xdd\x00\x00\xff\xff" + b"\x80" * 0xFFFF
    records += [pack(Record(state={"v": many}).written(int(clock() * 1000), HOUR)), *hostile_records(clock, tmp_path)]
    records = [data for data in records if len(data) > 200 or b"\xff" * 2 in data]
    with traced():
        for data in records:
            assert memory_used(serve, data) < memory_bound(len(data))


def session_copy() -> None:
    session.copy()


def test_a_cookie_that_swells_is_cut_off(clock: Clock) -> None:
    """Only who has the secret can sign it; 4 KB may claim to hold 4 MB, and are unpacked to 1 MB at most."""
    bomb = zlib.compress(header(clock) + b"\x81\xa1a\xc6\x00\x40\x00\x00" + bytes(4 << 20), 9)
    assert len(bomb) < 6000
    store = CookieStore()
    store.clock = clock
    key = _StateKey(base64_encode(bomb).decode())

    def load(data: bytes) -> None:
        with pytest.raises(SessionCorrupt):
            store.load(key)

    with traced():
        assert memory_used(load, bomb) < 3 << 20


# -- another application in the same Redis -------------------------------------------------------------------------


def test_another_application_s_keys_in_the_same_redis_are_left_alone(valkey: servers.RedisServer, clock: Clock) -> None:
    prefix = f"neighbour-{id(clock)}:"
    store = t.cast("t.Any", from_url(valkey.url, prefix=f"{prefix}ours:"))
    theirs = {f"{prefix}theirs:{n}".encode(): b"value" for n in range(3)} | {prefix.encode(): b"value"}
    for name, value in theirs.items():
        store.client.execute_command("SET", name, value)
    app = target(store, clock)
    user = started(app, _user_id="ann")
    user.does(renew)
    user.does(purge)
    with app.app_context():
        app.extensions["sessionstore"].revoke_all("ann")
    clock.advance(60)
    found = {name: store.client.execute_command("GET", name) for name in theirs}
    assert found == theirs
    store.client.execute_command("DEL", *theirs)


@pytest.mark.parametrize("command", [("RPUSH", "x"), ("HSET", "x", "y"), ("SADD", "x"), ("SET", "x"), ("SET", "")])
def test_a_neighbour_s_value_under_a_name_of_ours_is_an_error_or_no_session(
    command: tuple[str, ...], valkey: servers.RedisServer, clock: Clock
) -> None:
    """Of the wrong type, Redis refuses it: a 503 that says nothing of it. It is never taken for a session."""
    store = t.cast("t.Any", from_url(valkey.url, prefix=f"wrong-type-{id(clock)}:"))
    store.clock = clock
    app = make_app(store, TESTING=False)
    user = started(app, user="marker")
    handle = user.asks(lambda: session.handle)
    store.client.execute_command("DEL", store.prefix + handle)
    store.client.execute_command(command[0], store.prefix + handle, *command[1:])
    for action in (read_all, lambda: session.update(n=1), purge):
        response = user.twin().does(action)
        assert response.status_code in (200, 503)
        assert "WRONGTYPE" not in response.text
        assert "marker" not in response.text
    store.client.execute_command("DEL", store.prefix + handle)


def test_two_applications_with_prefixes_of_their_own_share_nothing(valkey: servers.RedisServer, clock: Clock) -> None:
    one, two = (target(from_url(valkey.url, prefix=f"{name}-{id(clock)}:"), clock) for name in ("one", "two"))
    user = started(one, _user_id="ann")
    stranger = Browser(two, *user.cookies)
    assert stranger.data == {}
    stranger.does(purge)
    assert user.data == {"_user_id": "ann"}
    with two.app_context():
        assert two.extensions["sessionstore"].find("ann") == []
        assert two.extensions["sessionstore"].revoke_all("ann") == 0
    assert user.data == {"_user_id": "ann"}
