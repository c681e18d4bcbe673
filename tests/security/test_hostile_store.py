"""A hostile neighbour: whatever stands in the store, it runs nothing, costs little, and is at worst no session."""

from __future__ import annotations

import contextlib
import pickle
import tracemalloc
import typing as t
import zlib
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import servers
from attacks import read_all, target
from http_support import KEPT, Browser, fate, make_app, started
from itsdangerous.encoding import base64_encode
from msgspec.msgpack import Ext
from views import purge, renew

from flask_sessionstore import (
    Record,
    SessionCorrupt,
    SessionGone,
    SessionKey,
    StoreError,
    StoreUnavailable,
    UnsupportedByStore,
    session,
)
from flask_sessionstore.layout import HEADER_SIZE, pack, pack_tombstone
from flask_sessionstore.record import Kind, Tombstone
from flask_sessionstore.stores import OwnerIndex, ServerSideStore, from_url, list_name
from flask_sessionstore.stores.cookie import CookieStore, _StateKey
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock
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


def header(clock: Clock, handle: str | None) -> bytes:
    """What precedes the state in a record that is alive."""
    return pack(Record().written(int(clock() * 1000), HOUR), handle)[:-1]


def hostile_records(clock: Clock, path: Path, handle: str) -> list[bytes]:
    """Bytes where the record under a handle belongs."""
    good = pack(Record(state={"user": b"\x01"}, owner="ann").written(int(clock() * 1000), HOUR), handle)
    head = header(clock, handle)
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
    for data in hostile_records(clock, touched, handle)[:: 1 if isinstance(server_store, MemoryStore) else 8]:
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


#: Those that end what is there, whatever it is. No log-out may fail at what somebody else has written.
ENDS = {VERBS["delete"], VERBS["end"]}


def damaged_tombstones(clock: Clock, handle: str) -> list[bytes]:
    """Bytes that begin as tombstones do."""
    expires_ms = int((clock() + 3600) * 1000)
    graves: list[tuple[Kind, str | None]] = [("ended", None), ("renewed", "ab" * 32)]
    ended, renewed = (
        pack_tombstone(Tombstone(kind=kind, revision=b"revision", expires_ms=expires_ms, successor=successor), handle)
        for kind, successor in graves
    )
    return [
        *(ended + b"x", ended[:-1], ended + bytes(32)),
        *(renewed + b"x", renewed[:-1], renewed[:-32]),
        *(ended[:83] + size + ended[85:] for size in (b"\xff\xff", b"\x00\x01")),
        b"\x01\x07" + ended[2:],
    ]


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
        for data in [
            *damaged_tombstones(clock, key.handle),
            *hostile_records(clock, tmp_path / "touched", key.handle)[::-every],
        ]:
            store.drop(key.handle)
            store.add(key.handle, data, HOUR)
            if verb in ENDS:
                verb(store, key)
                assert not is_there(store, key)
            with contextlib.suppress(StoreError):
                verb(store, key)
    assert not (tmp_path / "touched").exists()


def test_damaged_bytes_whose_own_end_is_past_are_nothing(server_store: ServerSideStore, clock: Clock) -> None:
    """An engine that goes by that end replaces them by nothing; a log-out is not to wait for it to remove them."""
    server_store.clock = clock
    key = server_store.save(NEW, HOUR)
    for data in damaged_tombstones(clock, key.handle):
        if len(data) < HEADER_SIZE:
            continue  # such an end is not believed
        server_store.drop(key.handle)
        server_store.add(key.handle, data[:42] + bytes(8) + data[50:], HOUR)
        assert server_store.load(key) is None
        server_store.delete(key)
        assert not server_store.end(key.handle)


def is_there(store: ServerSideStore, key: SessionKey) -> bool:
    """Whether a session is there, or what makes its owner wonder."""
    try:
        return store.load(key) is not None
    except SessionGone:
        return False


def test_it_hides_no_other_session_of_its_owner(server_store: ServerSideStore, clock: Clock, tmp_path: Path) -> None:
    """One visitor's damaged record is not to keep the lists of an owner, or of all, from being made."""
    if server_store.ability(OwnerIndex) is None:
        pytest.skip("this store lists no owners")
    app = target(server_store, clock)
    sound = started(app, _user_id="ann").asks(lambda: session.handle)
    victim = started(app, _user_id="ann").asks(lambda: session.handle)
    sessions = app.extensions["sessionstore"]
    with app.app_context():
        for data in hostile_records(clock, tmp_path / "touched", victim)[::5]:
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
        store.add(handle, pack(record, handle), HOUR)
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
    records = [pack(Record(state={"v": data}).written(int(clock() * 1000), HOUR), handle) for data in values]
    many = b"\xdd\x00\x00\xff\xff" + b"\x80" * 0xFFFF
    records += [pack(Record(state={"v": many}).written(int(clock() * 1000), HOUR), handle)]
    records += hostile_records(clock, tmp_path, handle)
    records = [data for data in records if len(data) > 200 or b"\xff" * 2 in data]
    with traced():
        for data in records:
            assert memory_used(serve, data) < memory_bound(len(data))


def session_copy() -> None:
    session.copy()


def test_a_cookie_that_swells_is_cut_off(clock: Clock) -> None:
    """Only who has the secret can sign it; 4 KB may claim to hold 4 MB, and are unpacked to 1 MB at most."""
    bomb = zlib.compress(header(clock, None) + b"\x81\xa1a\xc6\x00\x40\x00\x00" + bytes(4 << 20), 9)
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


#: What writes something under a name that a record never is.
OTHER_TYPES = {
    "list": ("RPUSH", "x"),
    "hash": ("HSET", "x", "y"),
    "set": ("SADD", "x"),
    "empty text": ("SET", ""),
}


@pytest.fixture(params=OTHER_TYPES)
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return OTHER_TYPES[request.param]


@pytest.fixture
def redis_store(redis_server: servers.RedisServer, clock: Clock) -> t.Any:
    store = t.cast("t.Any", from_url(redis_server.url, prefix=f"{uuid4()}:"))
    store.clock = clock
    return store


def write_over(store: t.Any, name: str, command: tuple[str, ...]) -> None:
    """What a neighbour does that writes under a name of ours."""
    store.client.execute_command("DEL", store.prefix + name)
    store.client.execute_command(command[0], store.prefix + name, *command[1:])


def test_a_neighbour_s_value_under_a_name_of_ours_is_no_record(
    command: tuple[str, ...], redis_store: t.Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its type: a warning and a new session, as with damaged bytes."""
    app = make_app(redis_store, TESTING=False)
    user = started(app, user="marker")
    handle = user.asks(lambda: session.handle)
    clock.advance(86400 / 2)  # the next request extends
    for action in (read_all, lambda: session.update(n=1), lambda: session.pop("user", None), purge):
        write_over(redis_store, handle, command)
        caplog.clear()
        twin = user.twin()
        response = twin.does(action)
        assert response.status_code == 200
        assert caplog.records or action is purge  # which reads nothing
        assert "marker" not in response.text
        assert "user" not in twin.data


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_it_for_damaged_bytes(verb: str, command: tuple[str, ...], redis_store: t.Any) -> None:
    key = redis_store.save(NEW, HOUR)

    def outcome() -> type[Exception] | None:
        try:
            VERBS[verb](redis_store, key)
        except StoreError as error:
            return type(error)
        return None

    redis_store.drop(key.handle)
    redis_store.add(key.handle, b"damaged", HOUR)
    expected = outcome()
    write_over(redis_store, key.handle, command)
    assert outcome() is expected
    if VERBS[verb] in ENDS:
        with pytest.raises(SessionGone):
            redis_store.load(key)


def test_it_keeps_no_sessions_from_being_found_and_ended(command: tuple[str, ...], redis_store: t.Any) -> None:
    app = target(redis_store, redis_store.clock)
    sound, victim = (started(app, _user_id="ann").asks(lambda: session.handle) for _ in range(2))
    write_over(redis_store, victim, command)
    sessions = app.extensions["sessionstore"]
    with app.app_context():
        assert [info.handle for info in sessions.find("ann")] == [sound]
        assert sound in [entry.handle for entry in redis_store.scan()]
        assert sessions.revoke_all("ann") >= 1
        assert sessions.find("ann") == []


def test_what_is_no_list_of_an_owner_s_keeps_nobody_from_signing_in(
    command: tuple[str, ...], redis_store: t.Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is somebody else's, and stays; nobody is told that there are no sessions."""
    app = target(redis_store, redis_store.clock, SESSION_MAX_PER_OWNER=1)
    name = f"owners:{list_name('ann')}"
    write_over(redis_store, name, command)
    sessions = app.extensions["sessionstore"]
    redis_store.unfile("ann", "0" * 64)
    user = started(app, _user_id="ann")
    assert user.data == {"_user_id": "ann"}
    assert name in caplog.text
    with app.app_context():
        for ask in (sessions.find, sessions.revoke_all):
            with pytest.raises(StoreUnavailable, match=name):
                ask("ann")
        assert sessions.delete_expired() == 0
        redis_store.clock.advance(86400 / 2)  # the next request extends
        assert user.data == {"_user_id": "ann"}
        assert fate(user.does(purge)) != KEPT
        assert redis_store.client.execute_command("TYPE", redis_store.prefix + name) != b"zset"
        redis_store.client.execute_command("DEL", redis_store.prefix + name)
        assert sessions.find("ann") == []


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
