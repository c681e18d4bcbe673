"""Sealed records: what lies in a store can be read by its browser's requests alone."""

from __future__ import annotations

import hmac
import subprocess
import sys
import typing as t
from base64 import urlsafe_b64decode
from datetime import timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from flask import session
from http_support import KEPT, Browser, fate, make_app, started
from hypothesis import given
from hypothesis import strategies as st
from records import records

from flask_sessionstore import (
    ConfigurationError,
    Record,
    SessionCorrupt,
    SessionError,
    SessionKey,
    SessionManager,
    sealing,
)
from flask_sessionstore.layout import HEADER_SIZE, TIMES, is_sealed, move_times, pack, pack_tombstone, unpack
from flask_sessionstore.manager import EXTENSION
from flask_sessionstore.record import Kind
from flask_sessionstore.sealing import seal, unseal
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.caching import CachingStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock, StoreContract

DAY = timedelta(days=1)
KEY = SessionKey("A" * 43)
SECRET = "the bird is a raven"


# -- the bytes -----------------------------------------------------------------------------------------------------


@given(records())
def test_what_is_sealed_opens_as_it_was(record: Record) -> None:
    key = SessionKey.generate()
    data = seal(record, key)
    assert is_sealed(data)
    assert unseal(data, key) == unseal(pack(record, key.handle), key) == unpack(pack(record, key.handle), key.handle)
    closed = unpack(data, key.handle)
    assert isinstance(closed, Record)
    assert closed == msgspec.structs.replace(unpack(pack(record, key.handle), key.handle), state={}, sealed=True)


@given(records())
def test_every_seal_is_another(record: Record) -> None:
    assert seal(record, KEY)[HEADER_SIZE:] != seal(record, KEY)[HEADER_SIZE:]


RECORD = Record(
    state={"a": b"1"}, revisions=(b"AAAAAAAA", b"BBBBBBBB"), owner="ann", client="curl", created_ms=1,
    extended_ms=2, expires_ms=3, idle_ms=4, end_ms=5,
)  # fmt: skip
SEALED = seal(RECORD, KEY)


@given(st.binary(min_size=32, max_size=32))
def test_its_key_is_what_a_library_s_hkdf_derives(secret: bytes) -> None:
    theirs = HKDFExpand(SHA256(), length=32, info=b"flask_sessionstore.seal").derive(secret)
    assert sealing._derive(secret) == theirs == hmac.digest(secret, b"flask_sessionstore.seal\x01", "sha256")


def test_a_sealed_record_of_long_ago_is_read() -> None:
    stored = bytes.fromhex(
        "010041414141414141414242424242424242000000000000000000000000000000000000000000000002000000000000000300000000"
        "000000010000000000000004000000000000000500000000000000001a000300040f007385b6f9d4b7616e6e6375726cb752500015ad"
        "940e83b3b93bc30644e42c91e9c6955a63e6dddc7f1f39af89c3d0a7"
    )
    assert unseal(stored, KEY) == RECORD


def test_a_sealed_record_opens_with_a_library_alone() -> None:
    """By what the documentation of the format says: anybody who has the session key can."""
    derived = HKDFExpand(SHA256(), length=32, info=b"flask_sessionstore.seal").derive(urlsafe_b64decode(f"{KEY}="))
    head_size = HEADER_SIZE + len("ann") + len("curl")
    head, nonce, sealed = SEALED[:head_size], SEALED[head_size : head_size + 12], SEALED[head_size + 12 :]
    authenticated = KEY.handle.encode() + head[: TIMES.start] + head[TIMES.stop :]
    state = AESGCM(derived).decrypt(nonce, sealed, authenticated)
    assert pack(RECORD, KEY.handle).endswith(state)
    assert len(state) == len(pack(RECORD, KEY.handle)) - head_size


@pytest.mark.parametrize("place", range(len(SEALED)))
def test_a_changed_byte_is_noticed(place: int) -> None:
    """Wherever it is, but in the two times that an extension moves, or where it is no sealed record any more."""
    for change in (1, 2, 0x80):
        data = bytearray(SEALED)
        data[place] ^= change
        changed = bytes(data)
        if place in (TIMES.start, TIMES.start + 8) and change > 1:
            with pytest.raises(SessionCorrupt, match="damaged"):  # there is no such time
                unseal(changed, KEY)
        elif TIMES.start <= place < TIMES.stop:
            moved = unseal(changed, KEY)
            assert isinstance(moved, Record)
            assert pack(moved, KEY.handle)[TIMES] == changed[TIMES]
        elif is_sealed(changed):
            with pytest.raises(SessionCorrupt):
                unseal(changed, KEY)
        else:
            assert place in (0, 1)


@pytest.mark.parametrize("length", range(HEADER_SIZE, len(SEALED)))
def test_a_cut_record_is_noticed(length: int) -> None:
    with pytest.raises(SessionCorrupt):
        unseal(SEALED[:length], KEY)


def test_an_extension_needs_no_key() -> None:
    assert unseal(move_times(SEALED, 7, 8), KEY) == msgspec.structs.replace(RECORD, extended_ms=7, expires_ms=8)


def test_under_another_name_it_does_not_open() -> None:
    with pytest.raises(SessionCorrupt):
        unseal(SEALED, SessionKey.generate())


def test_a_handle_is_no_key() -> None:
    known = SessionKey.of(KEY.handle)
    for call in (lambda: seal(RECORD, known), lambda: unseal(SEALED, known)):
        with pytest.raises(SessionError, match="only the browser knows"):
            call()


def test_a_mark_that_was_taken_off_opens_nothing() -> None:
    """What is behind it is no state then."""
    flags = SEALED[82] & ~16
    with pytest.raises(SessionCorrupt):
        unpack(SEALED[:82] + bytes([flags]) + SEALED[83:], KEY.handle)


# -- stores --------------------------------------------------------------------------------------------------------


class SealedContract(StoreContract):
    """The contract, sealed."""

    def make(self, request: pytest.FixtureRequest) -> ServerSideStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, request: pytest.FixtureRequest) -> ServerSideStore:
        store = self.make(request)
        store.seal = True
        return store


class TestSealedMemoryStore(SealedContract):
    def make(self, request: pytest.FixtureRequest) -> ServerSideStore:
        return MemoryStore()


class TestSealedCachingStore(SealedContract):
    def make(self, request: pytest.FixtureRequest) -> ServerSideStore:
        return CachingStore(MemoryStore(), MemoryStore())


@pytest.fixture
def sealed(server_store: ServerSideStore) -> ServerSideStore:
    server_store.seal = True
    return server_store


def test_a_stolen_dump_reads_nothing(sealed: ServerSideStore) -> None:
    key = sealed.save(Record(state={SECRET: SECRET.encode()}, owner="ann"), DAY)
    record = t.cast("Record", sealed.load(key))
    sealed.update(
        key, msgspec.structs.replace(record, revisions=(b"12345678", *record.revisions)), DAY, replaces=record.revision
    )
    sealed.update_ttl(key)
    tiers = [sealed.cache, sealed.store] if isinstance(sealed, CachingStore) else [sealed]
    for tier in tiers:
        data = tier.read(key.handle)
        assert data is not None
        assert is_sealed(data)
        assert SECRET.encode() not in data
        assert str(key).encode() not in data


def test_every_verb_opens_what_it_returns(sealed: ServerSideStore) -> None:
    key = sealed.save(Record(state={"a": b"1"}), DAY)
    first = t.cast("Record", sealed.load(key))
    assert first.state == {"a": b"1"}
    assert sealed.update_ttl(key)[1].state == {"a": b"1"}
    second = msgspec.structs.replace(first, state={"a": b"2"}, revisions=(b"12345678", *first.revisions))
    sealed.update(key, second, DAY, replaces=first.revision)
    with pytest.raises(Exception, match="another request") as caught:
        sealed.update(key, second, DAY, replaces=first.revision)
    assert t.cast("t.Any", caught.value).record.state == {"a": b"2"}
    new = sealed.renew(key, second, DAY, replaces=second.revision)
    assert t.cast("Record", sealed.load(new)).state == {"a": b"2"}


def test_metadata_lies_open_for_those_who_list(sealed: ServerSideStore) -> None:
    key = sealed.save(Record(state={"a": b"1"}, owner="ann", client="curl"), DAY)
    info = sealed.info(key.handle)
    assert info is not None
    assert (info.owner, info.client) == ("ann", "curl")


def test_a_record_moved_under_another_name_is_corrupt() -> None:
    """Whoever can write to the store cannot give one visitor another's session."""
    store = MemoryStore()
    store.seal = True
    mine, theirs = (store.save(Record(state={"who": who}), DAY) for who in (b"me", b"them"))
    data = store.read(theirs.handle)
    assert data is not None
    store.swap(mine.handle, data, DAY, replaces=None)
    with pytest.raises(SessionCorrupt):
        store.load(mine)


@pytest.mark.parametrize("seal_now", [True, "required"])
def test_records_from_before(seal_now: t.Any) -> None:
    """A rolling deploy reads them; once all are sealed, what is not was planted."""
    store = MemoryStore()
    key = store.save(Record(state={"a": b"1"}), DAY)
    store.seal = seal_now
    if seal_now == "required":
        with pytest.raises(SessionCorrupt, match="SESSION_SEAL"):
            store.load(key)
        store.end(key.handle)
        return
    record = t.cast("Record", store.load(key))
    assert record.state == {"a": b"1"}
    store.update(key, msgspec.structs.replace(record, revisions=(b"12345678",)), DAY, replaces=record.revision)
    assert is_sealed(store.read(key.handle) or b"")


def test_what_was_sealed_opens_when_sealing_is_off_again() -> None:
    store = MemoryStore()
    store.seal = True
    key = store.save(Record(state={"a": b"1"}), DAY)
    store.seal = False
    assert t.cast("Record", store.load(key)).state == {"a": b"1"}


def test_times_that_were_moved_in_the_store_reach_no_fixed_end(clock: Clock) -> None:
    """Whoever can write there can make a session last, but not beyond what is sealed with it."""
    store = MemoryStore()
    store.clock, store.seal = clock, "required"
    key = store.save(Record(state={"a": b"1"}, owner="ann", end_ms=int(clock.now * 1000) + 60_000), DAY)
    data = store.read(key.handle)
    assert data is not None
    far = int(clock.now * 1000) + 10**9
    store.swap(key.handle, move_times(data, far, far), DAY, replaces=None)
    clock.advance(59)
    assert store.load(key) is not None
    clock.advance(2)
    assert store.load(key) is None
    assert store.info(key.handle) is None


@pytest.mark.parametrize(("first", "second"), [("required", True), (True, "required"), ("required", False)])
def test_of_two_applications_on_one_store_the_stricter_counts(first: t.Any, second: t.Any) -> None:
    store = MemoryStore()
    make_app(store, SESSION_SEAL=first)
    make_app(store, SESSION_SEAL=second)
    assert store.seal == "required"


def test_a_tombstone_needs_no_seal(clock: Clock) -> None:
    store = MemoryStore()
    store.seal = "required"
    key = store.save(Record(state={"a": b"1"}), DAY)
    store.delete(key)
    with pytest.raises(SessionError, match="ended"):
        store.load(key)


# -- applications --------------------------------------------------------------------------------------------------


def test_views_notice_nothing(server_store: ServerSideStore) -> None:
    app = make_app(server_store, SESSION_SEAL="required")
    browser = started(app, cart=[1], _user_id="ann")
    browser.does(lambda: session["cart"].append(2))
    browser.does(lambda: session.update(other=True))
    assert browser.data == {"cart": [1, 2], "_user_id": "ann", "other": True}
    old = browser.twin()
    browser.does(lambda: session.update(_user_id="bob"))
    assert browser.data == {"cart": [1, 2], "_user_id": "bob", "other": True}
    assert old.data == {}
    browser.does(lambda: session.clear())  # noqa: PLW0108  - the proxy wants its request
    assert browser.data == {}


def test_a_planted_session_is_none(server_store: ServerSideStore) -> None:
    key = server_store.save(Record(state={"admin": b"\xc3"}), DAY)
    app = make_app(server_store, SESSION_SEAL="required")
    browser = started(make_app(server_store), a=1)
    handle = SessionKey(str(browser.key)).handle
    data = server_store.read(key.handle)
    assert data is not None
    server_store.swap(handle, data, DAY, replaces=None)
    if isinstance(server_store, CachingStore):
        server_store.cache.drop(handle)  # what it still serves is the victim's own
    victim = Browser(app, *browser.cookies)
    assert victim.data == {}
    assert fate(victim.does(lambda: session.get("admin"))) == KEPT


def test_a_sealed_session_cannot_be_opened_by_its_handle_only_ended() -> None:
    app = make_app(MemoryStore(), SESSION_SEAL=True)
    browser = started(app, _user_id="ann")
    handle = SessionKey(str(browser.key)).handle
    sessions = t.cast("SessionManager", app.extensions[EXTENSION])
    with app.app_context():
        assert [info.handle for info in sessions.find("ann")] == [handle]
        with pytest.raises(SessionError, match="only the browser knows"), sessions.open(handle):
            pytest.fail("it cannot be opened")
        assert browser.data == {"_user_id": "ann"}
        assert sessions.revoke(handle, owner="ann") is True
    assert browser.data == {}


def test_a_limit_and_a_seal() -> None:
    app = make_app(MemoryStore(), SESSION_SEAL=True, SESSION_MAX_PER_OWNER=2)
    browsers = [started(app, _user_id="ann", n=n) for n in range(4)]
    assert sum(bool(browser.data) for browser in browsers) == 2
    assert browsers[3].data == {"_user_id": "ann", "n": 3}


def test_a_pair_is_sealed_in_both_tiers(tmp_path: t.Any) -> None:
    cache, store = MemoryStore(), FileSystemStore(tmp_path / "s")
    browser = started(make_app((cache, store), SESSION_SEAL=True), bird=SECRET)
    assert browser.data == {"bird": SECRET}
    handle = SessionKey(str(browser.key)).handle
    for tier in (cache, store):
        assert SECRET.encode() not in (tier.read(handle) or b"")


def test_a_cookie_is_sealed_by_another_setting() -> None:
    with pytest.raises(ConfigurationError, match="SESSION_COOKIE_CONTENT_SECURITY"):
        make_app(CookieStore(), SESSION_SEAL=True)


@pytest.mark.parametrize("value", ["yes", 1, None, "Required"])
def test_another_value_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="SESSION_SEAL"):
        make_app(MemoryStore(), SESSION_SEAL=value)


def test_without_the_library_the_application_does_not_start() -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from flask import Flask; from flask_sessionstore import SessionManager, ConfigurationError\n"
        "app = Flask('x'); app.config.update(SESSION_STORE='memory:', SESSION_SEAL=True)\n"
        "try: SessionManager(app)\n"
        "except ConfigurationError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install cryptography" in said


def test_without_the_library_a_sealed_session_is_as_good_as_one_of_a_later_version() -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from flask_sessionstore import SessionCorrupt, SessionKey; from flask_sessionstore.sealing import unseal\n"
        f"try: unseal(bytes.fromhex('{SEALED.hex()}'), SessionKey('A' * 43))\n"
        "except SessionCorrupt as error: print(error.newer, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("True ")
    assert "pip install" in said


def test_no_tombstone_is_taken_for_a_sealed_record() -> None:
    store = MemoryStore()
    kinds: tuple[Kind, ...] = ("ended", "emptied")
    for kind in kinds:
        tombstone = store._tombstone(kind)
        assert not is_sealed(pack_tombstone(tombstone, KEY.handle))


@pytest.mark.parametrize("head", [False, True])
def test_without_its_key_a_record_whose_owner_is_cut_off_is_damaged_and_not_somebody_elses(head: bool) -> None:
    """That of "anna" must not be listed, or ended, as one of "ann"."""
    sealed = seal(msgspec.structs.replace(RECORD, owner="anna", client=None), KEY)
    for length in range(HEADER_SIZE, HEADER_SIZE + len("anna")):
        with pytest.raises(SessionCorrupt):
            unpack(sealed[:length], KEY.handle, head=head)
