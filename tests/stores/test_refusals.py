"""Where an engine refuses: it has no room, not even for a tombstone, or a name is taken and then free."""

from __future__ import annotations

import sys
import typing as t
import zlib
from datetime import timedelta

import pytest
from every_store import alive
from itsdangerous.encoding import base64_encode

from flask_sessionstore import ConfigurationError, Record, SessionConflict, SessionCorrupt, SessionGone, SessionKey
from flask_sessionstore.layout import pack_tombstone
from flask_sessionstore.record import Tombstone, new_revision
from flask_sessionstore.stores import ServerSideStore, StoreFull, from_url
from flask_sessionstore.stores.base import ANY
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore

HOUR = timedelta(hours=1)


def record(**state: bytes) -> Record:
    return Record(state=state, revisions=(new_revision(),))


class Narrow(MemoryStore):
    """Refuses for want of room before it compares, as some engines do; or says that a name is taken which is free."""

    is_full = False
    refusals = 0

    def add(self, handle: str, data: bytes, ttl: timedelta) -> bool:
        if self.refusals:
            self.refusals -= 1
            return False
        return super().add(handle, data, ttl)

    def swap(self, *args: t.Any, **kwargs: t.Any) -> bool:
        if self.is_full:
            raise StoreFull("no room")
        return super().swap(*args, **kwargs)


@pytest.fixture
def narrow() -> Narrow:
    return Narrow()


def kept(store: ServerSideStore) -> SessionKey:
    return store.save(record(a=b"\x01"), HOUR)


@pytest.mark.parametrize("replaces", ["that revision", "any"])
def test_without_room_a_session_can_end(narrow: Narrow, replaces: str) -> None:
    key = kept(narrow)
    narrow.is_full = True
    narrow.delete(key, replaces=ANY if replaces == "any" else alive(narrow, key).revision)
    assert narrow.load(key) is None


def test_without_room_an_end_spares_what_another_request_wrote(narrow: Narrow) -> None:
    key = kept(narrow)
    old = alive(narrow, key)
    newer = record(a=b"\x02")
    narrow.update(key, newer, HOUR, replaces=old.revision)
    narrow.is_full = True
    with pytest.raises(SessionConflict) as caught:
        narrow.delete(key, replaces=old.revision)
    assert caught.value.record == alive(narrow, key)
    assert not narrow.end_exactly(key.handle, old.revision, "ann")
    assert alive(narrow, key).revision == newer.revision


def test_without_room_an_end_spares_the_tombstone_that_stands(narrow: Narrow) -> None:
    key = kept(narrow)
    new = narrow.renew(key, record(a=b"\x02"), HOUR, replaces=None)
    narrow.is_full = True
    with pytest.raises(SessionGone):
        narrow.delete(key, replaces=ANY)
    with pytest.raises(SessionGone) as caught:
        narrow.load(key)
    assert caught.value.successor == new.handle


def test_a_name_that_was_taken_and_is_free_again_is_no_failure(narrow: Narrow) -> None:
    narrow.refusals = 2
    assert alive(narrow, kept(narrow)).state == {"a": b"\x01"}


@pytest.mark.parametrize("scheme", ["gopher+tls", "redis+pymysql"])
def test_a_driver_is_named_for_databases_alone(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown URL scheme"):
        from_url(f"{scheme}://127.0.0.1/sessions")


def test_the_url_of_cookies_has_nothing_in_it() -> None:
    with pytest.raises(ConfigurationError, match='URL is just "cookie:"'):
        from_url("cookie://here")


def without(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where ``module`` is not installed. The package that imports it is imported anew."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)


def test_a_part_of_this_package_that_is_missing_is_not_called_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    part = "flask_sessionstore.stores.memcached"
    without(part, part, monkeypatch)
    with pytest.raises(ModuleNotFoundError, match=part):
        from_url("memcached://127.0.0.1")


def test_a_tombstone_in_a_cookie_is_damage() -> None:
    """Only who has the secret could sign it; a cookie that ends is deleted instead."""
    ended = Tombstone(kind="ended", revision=new_revision(), expires_ms=2**40)
    text = base64_encode(zlib.compress(pack_tombstone(ended, "0" * 64))).decode()
    with pytest.raises(SessionCorrupt, match="does not hold a session record"):
        CookieStore().load(CookieStore.key_class(text))
