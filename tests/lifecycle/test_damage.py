"""Records that are damaged, and values that cannot be kept: what the browser gets then."""

from __future__ import annotations

import os
import pickle
import typing as t
from datetime import timedelta

import pytest
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, started, warnings_in, watch
from live import LIVE, live_app
from views import clear, purge, read, write

from flask_sessionstore import SessionInsertError, SessionTooLarge, session
from flask_sessionstore.key import SessionKey
from flask_sessionstore.layout import FORMAT, pack
from flask_sessionstore.record import Record, new_revision
from flask_sessionstore.signing import signer
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.filesystem import FileSystemStore
from flask_sessionstore.testing import Clock
from flask_sessionstore.tokens import Token

DAY = timedelta(days=1)


# -- bytes that are no record ----------------------------------------------------------------------------------------


class _Bomb:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[t.Any, ...]:
        return os._exit, (1,)


_GOOD = pack(Record(state={"a": b"\x01"}).written(1_767_225_600_000, DAY), None)


FOREIGN = {
    "nothing": b"",
    "a pickle": pickle.dumps({"a": 1}),
    "a pickle that acts": pickle.dumps(_Bomb()),
    "JSON": b'{"a": 1}',
    "text": b"hello",
    "cut off": _GOOD[:-1],
    "a header alone": _GOOD[:40],
    "a state that is none": _GOOD[:87] + b"\xc1",
    "a state of other types": _GOOD[:87] + b"\x81\x01\x01",
    "an unknown kind": _GOOD[:1] + b"\x09" + _GOOD[2:],
    "a later format": bytes([FORMAT + 1]) + bytes(100),
    "zeros": bytes(200),
}


def _poke(store: ServerSideStore, browser: Browser, data: bytes) -> str:
    """Put ``data`` in the place of the browser's record. The result: its handle."""
    handle = SessionKey(browser.key or "").handle
    store.drop(handle)
    assert store.add(handle, data, DAY)
    return handle


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_bytes_in_the_store_are_an_empty_session_and_a_warning(
    name: str, server_store: ServerSideStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    if isinstance(server_store, FileSystemStore) and not FOREIGN[name].strip(b"\0"):
        pytest.skip("in a file, this is what a killed writer left: nothing")
    server_store.clock = clock
    browser = started(live_app(server_store), a=1)
    handle = _poke(server_store, browser, FOREIGN[name])
    old, stored, calls = browser.key, server_store.read(handle), watch(server_store)
    response = browser.does(lambda: str(dict(session)))
    assert (response.text, fate(response)) == ("{}", KEPT)
    (warning,) = warnings_in(caplog)
    assert handle[:8] in warning
    assert handle not in warning
    assert (old or "?") not in caplog.text
    assert fate(browser.does(write)) == SET
    assert calls == ["load", "load", "save"]
    assert browser.key != old
    assert browser.data == {"a": 2}
    assert server_store.read(handle) == stored  # a later version's record is that version's


@pytest.mark.parametrize("view", [clear, purge])
@pytest.mark.parametrize("name", ["a pickle that acts", "a later format"])
def test_a_log_out_from_a_damaged_session(name: str, view: Action, server_store: ServerSideStore, clock: Clock) -> None:
    server_store.clock = clock
    browser = started(live_app(server_store), a=1)
    old = browser.key
    _poke(server_store, browser, FOREIGN[name])
    response = browser.does(view)
    assert (response.status_code, fate(response)) == (200, DELETED)
    handle = SessionKey(str(old)).handle
    assert server_store.info(handle) is None  # nor for a process that could have read it


@pytest.mark.parametrize("name", ["a pickle", "a later format"])
def test_a_record_damaged_between_load_and_write(name: str, server_store: ServerSideStore, clock: Clock) -> None:
    server_store.clock = clock
    browser = started(live_app(server_store), a=1, secret="s")

    def view() -> None:
        read()
        _poke(server_store, browser, FOREIGN[name])
        write()

    response = browser.does(view)
    assert (response.status_code, fate(response)) == (200, KEPT)
    assert browser.data == {}


def test_one_value_that_cannot_be_decoded_is_left_out_and_the_others_stay(
    server_store: ServerSideStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server_store.clock = clock
    browser = started(live_app(server_store), a=1)
    record = Record(state={"a": b"\xc1", "b": b"\x02"}, revisions=(new_revision(),))
    _poke(server_store, browser, pack(record.written(int(clock.now * 1000), DAY), SessionKey(browser.key or "").handle))
    assert browser.does(lambda: f"{session.get('a')} {session['b']}").text == "None 2"
    assert len(warnings_in(caplog)) == 1
    browser.does(write)
    assert browser.data == {"a": 2, "b": 2}


@pytest.mark.parametrize("text", ["AAAA", "eJwDAAAAAAE", "x" * 3000])
def test_a_cookie_that_we_signed_but_cannot_read(text: str, caplog: pytest.LogCaptureFixture) -> None:
    token = Token(CookieStore.key_class(text), 0, 0, False, bytes(4), 0)
    browser = Browser(live_app(CookieStore()), signer(("a secret",), "session", "/").dumps(token))
    response = browser.does(lambda: str(dict(session)))
    assert (response.text, fate(response)) == ("{}", KEPT)
    assert len(warnings_in(caplog)) == 1
    assert fate(browser.does(write)) == SET
    assert browser.data == {"a": 2}


# -- values that cannot be kept --------------------------------------------------------------------------------------


def test_a_value_that_cannot_be_kept_is_refused_at_its_line_and_the_rest_is_stored(
    server_store: ServerSideStore,
) -> None:
    browser = started(make_app(server_store), a=1)

    def view() -> None:
        session["b"] = 1
        with pytest.raises(SessionInsertError) as caught:
            session["cart"] = [{"price": object()}]
        assert (caught.value.path, caught.value.type) == ("cart[0].price", object)
        assert "cart" not in session

    browser.does(view)
    assert browser.data == {"a": 1, "b": 1}


def test_a_value_spoilt_in_place_is_an_error_at_the_end_and_what_was_stored_stays(
    server_store: ServerSideStore,
) -> None:
    app = make_app(server_store)
    browser = started(app, a=1, cart=[1])
    old = browser.cookie

    def view() -> None:
        session["a"] = 2
        session["cart"].append(object())

    with pytest.raises(SessionInsertError) as caught:
        browser.does(view)
    assert (caught.value.path, caught.value.type) == ("cart[1]", object)
    app.config.update(LIVE)
    app.logger.disabled = True
    response = browser.does(view)
    assert (response.status_code, fate(response)) == (500, KEPT)
    assert browser.cookie == old
    assert browser.data == {"a": 1, "cart": [1]}


def test_a_state_over_the_limit_is_an_error_that_names_the_largest_keys(server_store: ServerSideStore) -> None:
    app = make_app(server_store, SESSION_MAX_SIZE=1000)
    browser = started(app, a=1)
    with pytest.raises(SessionTooLarge) as caught:
        browser.does(lambda: session.update(small="x" * 100, large="x" * 901))
    assert (caught.value.limit, list(caught.value.largest or [])[:2]) == (1000, ["large", "small"])
    assert caught.value.size is not None
    assert caught.value.size > 1000
    assert browser.data == {"a": 1}
    with pytest.raises(SessionTooLarge):
        Browser(app).does(lambda: session.update(large="x" * 1000))
    browser.does(lambda: session.update(large="x" * 900))
    assert browser.data == {"a": 1, "large": "x" * 900}


def test_the_limit_counts_bytes_of_keys_too_not_characters(server_store: ServerSideStore) -> None:
    app = make_app(server_store, SESSION_MAX_SIZE=1000)
    assert fate(Browser(app).does(lambda: session.update({"k" * 900: 1}))) == SET
    with pytest.raises(SessionTooLarge) as caught:
        Browser(app).does(lambda: session.update({"\u4e2d" * 400: 1}))
    assert caught.value.size == 1201


def test_a_merge_that_goes_over_the_limit_is_an_error_too(server_store: ServerSideStore) -> None:
    browser = started(make_app(server_store, SESSION_MAX_SIZE=1000), a=1)
    other = browser.twin()

    def view() -> None:
        session["mine"] = "x" * 600
        other.does(lambda: session.update(theirs="x" * 600))

    with pytest.raises(SessionTooLarge):
        browser.does(view)
    assert set(browser.data) == {"a", "theirs"}
