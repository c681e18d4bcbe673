"""Values in a session: what is kept, in what form, and what somebody else encoded."""

from __future__ import annotations

import typing as t
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from session_support import Browser

from flask_sessionstore import Session, SessionInsertError, codec
from flask_sessionstore.visitor import Delete, Send

SECRET = "tops3cret"


class Point(t.NamedTuple):
    x: int
    y: int


# -- values: what is kept, and in what form --------------------------------------------------------------------------


def test_a_plain_value_stays_the_same_object() -> None:
    session = Session()
    cart: list[int] = []
    session["cart"] = cart
    cart.append(1)
    assert session["cart"] is cart
    assert session.setdefault("cart", []) is cart
    assert session.copy()["cart"] is cart


def test_a_value_in_another_form_is_replaced_by_its_plain_form_when_it_is_stored() -> None:
    session = Session()
    session["point"] = Point(1, 2)
    session["points"] = [Point(1, 2)]
    session["ordered"] = OrderedDict(a=1)
    assert type(session["point"]) is tuple
    assert type(session["points"][0]) is tuple
    assert type(session["ordered"]) is dict


def test_what_was_saved_reads_as_the_next_request_will_read_it(browser: Browser) -> None:
    session = browser.open()
    session["points"] = []
    session["points"].append(Point(1, 2))
    session.save()
    kept = session["points"]
    browser.end(session)
    assert kept == browser.open()["points"] == [(1, 2)]
    assert type(kept[0]) is type(browser.open()["points"][0])


@pytest.mark.parametrize("store_it", [Session.insert, Session.__setitem__, Session.setdefault])
def test_a_value_that_cannot_be_kept_is_refused_at_the_line_that_stores_it(
    store_it: t.Callable[[Session, str, t.Any], object],
) -> None:
    session = Session({"cart": "before"}) if store_it is not Session.setdefault else Session()
    before = session.copy()
    with pytest.raises(SessionInsertError) as caught:
        store_it(session, "cart", [1, {"price": {"now": 1j}, "name": SECRET}])
    assert (caught.value.path, caught.value.type) == ("cart[1].price.now", complex)
    assert isinstance(caught.value, TypeError)
    assert SECRET not in str(caught.value)
    assert session == before
    assert not session.modified


def test_a_value_changed_in_place_to_one_that_cannot_be_kept_is_refused_at_the_end(browser: Browser) -> None:
    browser.write(cart=[1])
    session = browser.open()
    session["cart"].append(1j)
    with pytest.raises(SessionInsertError) as caught:
        browser.end(session)
    assert caught.value.path == "cart[1]"
    assert browser.read() == {"cart": [1]}


def test_a_session_that_cannot_be_stored_can_still_be_logged() -> None:
    session = Session({"cart": []})
    session["cart"].append(1j)
    assert "cart" in repr(session)


# -- values that somebody else encoded -------------------------------------------------------------------------------


#: How others write what we write otherwise: floats of 32 bits, numbers longer than they need be, sets in any order.
FOREIGN: dict[str, tuple[bytes, t.Any]] = {
    "float32": (b"\x92\xca\x3f\x80\x00\x00\x01", [1.0, 1]),
    "long int": (b"\x92\xd3\x00\x00\x00\x00\x00\x00\x00\x07\x01", [7, 1]),
    "long text": (b"\x91\xda\x00\x01a", ["a"]),
    "long list": (b"\xdd\x00\x00\x00\x01\x01", [1]),
    "long map": (b"\xdf\x00\x00\x00\x01\xa1a\x90", {"a": []}),
    "order of a set": (b"\xc7\x04\x02\x93\x03\x01\x02", {1, 2, 3}),
    "map of numbers": (b"\x81\x01\x02", {1: 2}),
    "within a tuple": (b"\xc7\x06\x01\x91\xca\x3f\x80\x00\x00", (1.0,)),
}


@pytest.fixture(params=FOREIGN)
def foreign(request: pytest.FixtureRequest, browser: Browser) -> t.Any:
    """A value that another writer has stored under "v", beside "a"."""
    data, value = FOREIGN[request.param]
    browser.write(a=1)
    assert browser.token is not None
    key, record = browser.token.key, browser.store.load(browser.token.key)
    assert record is not None
    revised = msgspec.structs.replace(record, state={**record.state, "v": data})
    browser.store.update(key, revised, timedelta(days=1), replaces=record.revision)
    assert codec.encode(value, "v") != data
    return value


def test_a_foreign_encoding_that_is_only_read_is_no_write(browser: Browser, foreign: t.Any) -> None:
    session = browser.open()
    assert session["v"] == foreign
    assert not session.modified
    assert browser.end(session) is not Send
    assert browser.store.calls == ["load"]
    session = browser.open()
    session["a"] = session["v"] and 2
    browser.end(session)
    assert browser.token is not None
    stored = browser.store.load(browser.token.key)
    assert stored is not None
    assert stored.state["v"] in [data for data, _ in FOREIGN.values()]


def test_a_change_within_one_is_a_write(browser: Browser, foreign: t.Any) -> None:
    if isinstance(foreign, tuple):
        pytest.skip("what lies in this one cannot change")
    session = browser.open()
    value = session["v"]
    value.append(1) if isinstance(value, list) else value.clear()
    assert session.modified
    browser.end(session)
    assert browser.read()["v"] == value


def test_a_deadline_in_the_past_ends_the_session(browser: Browser) -> None:
    browser.write(a=1)
    session = browser.open()
    session.deadline = datetime(1969, 1, 1, tzinfo=UTC)
    assert browser.end(session) is Delete
