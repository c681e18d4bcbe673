"""What views touch: the mapping, what it notices, and what it asks of its store."""

from __future__ import annotations

import dataclasses
import enum
import logging
import threading
import typing as t
from collections import OrderedDict
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest
from blinker import NamedSignal
from flask import Flask
from flask.sessions import SessionMixin
from markupsafe import Markup
from werkzeug.datastructures import MultiDict
from werkzeug.local import LocalProxy

from flask_sessionstore import (
    Record,
    Session,
    SessionError,
    SessionGetError,
    SessionGone,
    SessionInsertError,
    SessionKey,
    SessionStatus,
    codec,
)
from flask_sessionstore.key import Claim, Token
from flask_sessionstore.lifecycle import Lifecycle
from flask_sessionstore.policy import Policy, cookie_lifetime
from flask_sessionstore.sessions import begin, source_of
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.visitor import Delete, Keep, Outcome, Send

if t.TYPE_CHECKING:
    from clocks import Clock

UNCHANGED, CHANGED = SessionStatus.UNCHANGED, SessionStatus.CHANGED
RENEWED, PURGED = SessionStatus.RENEWED, SessionStatus.PURGED
SECRET = "tops3cret"


class Point(t.NamedTuple):
    x: int
    y: int


class CountingStore(MemoryStore):
    """A memory store that says what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def load(self, key: SessionKey, *, seen: bytes | None = None) -> Record | None:
        self.calls.append("load")
        return super().load(key, seen=seen)

    def save(self, record: Record, ttl: timedelta, *, key: SessionKey | None = None) -> SessionKey:
        self.calls.append("save")
        return super().save(record, ttl, key=key)

    def update(self, key: SessionKey, record: Record, ttl: timedelta, *, replaces: bytes) -> SessionKey:
        self.calls.append("update")
        return super().update(key, record, ttl, replaces=replaces)

    def update_ttl(self, key: SessionKey, ttl: timedelta | None = None) -> tuple[SessionKey, Record]:
        self.calls.append("update_ttl")
        return super().update_ttl(key, ttl)


class Browser:
    """Sends the token it has, and takes the one it gets."""

    def __init__(self, store: CountingStore, policy: Policy = Policy()) -> None:  # noqa: B008
        self.store = store
        self.policy = policy
        self.token: Token | None = None

    def claims(self) -> list[Claim]:
        return [Claim(token.issued, token.lifetime) for token in self.tokens()]

    def tokens(self) -> list[Token]:
        return [] if self.token is None else [self.token]

    def old(self) -> tuple[()]:
        return ()

    def seed(self) -> t.Mapping[str, object] | None:
        return None

    def client(self) -> str | None:
        return None

    def no_cookie(self) -> str | None:
        return None

    def has_body(self) -> bool:
        return False

    def may_extend(self) -> bool:
        return True

    def announce(self, signal: NamedSignal, **arguments: object) -> None:
        pass

    def open(self) -> Session:
        """The session of a new request."""
        self.store.calls.clear()
        return begin(Lifecycle(self.store, self.policy, self), Session)

    def end(self, session: Session) -> type[Outcome]:
        """The end of the session's request."""
        outcome = t.cast("Lifecycle", source_of(session)).commit()
        if isinstance(outcome, Send):
            lifetime = cookie_lifetime(outcome.record)
            self.token = Token(
                key=outcome.key,
                issued=outcome.record.extended_ms // 1000,
                lifetime=int(lifetime.total_seconds()) if lifetime else 0,
                permanent=outcome.record.permanent,
                seen=outcome.record.revision[:4],
            )
        elif isinstance(outcome, Delete):
            self.token = None
        return type(outcome)

    def write(self, **values: object) -> None:
        """A whole request that writes."""
        session = self.open()
        session.update(values)
        self.end(session)

    def read(self) -> dict[str, t.Any]:
        """A whole request that reads everything."""
        session = self.open()
        values = session.copy()
        self.end(session)
        return values


@pytest.fixture
def store(clock: Clock) -> CountingStore:
    store = CountingStore()
    store.clock = clock
    return store


@pytest.fixture
def browser(store: CountingStore) -> Browser:
    return Browser(store)


# -- a mapping -----------------------------------------------------------------------------------------------------


def test_a_session_is_flasks_and_a_mutable_mapping() -> None:
    assert isinstance(Session(), SessionMixin)
    assert isinstance(Session(), MutableMapping)


def test_a_free_standing_session_starts_with_its_data_untouched() -> None:
    session = Session({"a": 1, "b": [2]})
    assert (session.accessed, session.modified, session.status) == (False, False, UNCHANGED)
    assert session == {"a": 1, "b": [2]}


def test_an_application_is_no_data_and_the_error_names_the_manager() -> None:
    with pytest.raises(TypeError, match="SessionManager"):
        Session(Flask("shop"))  # type: ignore[arg-type]


def test_it_reads_as_a_dict_does() -> None:
    session = Session({"a": 1, "b": 2})
    assert session["a"] == session.get("a") == 1
    assert session.get("c") is None
    assert session.get("c", 3) == 3
    assert "a" in session
    assert "c" not in session
    assert len(session) == 2
    assert session
    assert not Session()
    assert list(session) == list(session.keys()) == ["a", "b"]
    assert list(session.values()) == [1, 2]
    assert list(session.items()) == [("a", 1), ("b", 2)]
    assert list(reversed(session)) == ["b", "a"]
    with pytest.raises(KeyError):
        session["c"]


def test_it_is_equal_to_any_mapping_of_the_same_pairs() -> None:
    session = Session({"a": 1, "b": [2]})
    assert session == {"b": [2], "a": 1} == session
    assert session == Session({"a": 1, "b": [2]})
    assert session != {"a": 1}
    assert session != t.cast("object", [("a", 1), ("b", [2])])


def test_it_writes_as_a_dict_does() -> None:
    session = Session()
    session["a"] = 1
    session.update({"b": 2}, c=3)
    session.update([("d", 4)])
    assert session.setdefault("a", 9) == 1
    assert session.setdefault("e", 5) == 5
    assert session.setdefault("f") is None
    del session["b"]
    with pytest.raises(KeyError):
        del session["b"]
    assert session == {"a": 1, "c": 3, "d": 4, "e": 5, "f": None}


class Row:
    """Has keys, and iterates over its values, as a database's rows do."""

    def keys(self) -> list[str]:
        return ["a"]

    def __getitem__(self, key: str) -> str:
        return f"value of {key}"

    def __iter__(self) -> t.Iterator[str]:
        return iter(["value of a"])


def test_an_update_takes_what_a_dict_takes() -> None:
    session = Session()
    session.update(Row())
    assert session == {"a": "value of a"}
    session.update(MultiDict([("a", 1), ("a", 2)]))
    assert session == {"a": 1}
    session.update()
    session.update((key, 3) for key in "ab")
    assert session == {"a": 3, "b": 3}
    with pytest.raises(TypeError):
        session.update(5)  # type: ignore[call-overload]


def test_an_update_sets_what_stands_before_a_value_that_cannot_be_kept() -> None:
    session = Session()
    with pytest.raises(SessionInsertError, match="'bad'"):
        session.update({"before": 1, "bad": object(), "after": 2})
    assert session == {"before": 1}


def test_it_pops_as_a_dict_does() -> None:
    session = Session({"a": [1], "b": 2, "c": 3})
    assert session.pop("a") == [1]
    assert session.pop("a", None) is None
    assert session.pop("a", "default") == "default"
    with pytest.raises(KeyError, match="a"):
        session.pop("a")
    assert session.popitem() == ("c", 3)
    assert session.popitem() == ("b", 2)
    with pytest.raises(KeyError):
        session.popitem()
    assert session == {}


def test_its_union_with_a_mapping_is_a_dict() -> None:
    session = Session({"a": 1, "b": 2})
    for union, expected in (
        (session | {"b": 3}, {"a": 1, "b": 3}),
        ({"b": 3} | session, {"b": 2, "a": 1}),
        (session | Session({"c": 4}), {"a": 1, "b": 2, "c": 4}),
    ):
        assert type(union) is dict
        assert list(union.items()) == list(expected.items())
    with pytest.raises(TypeError):
        session | 5  # type: ignore[operator]
    assert not session.modified


def test_its_union_in_place_is_an_update() -> None:
    session = same = Session({"a": 1})
    session |= {"b": 2}
    session |= [("c", 3)]  # type: ignore[arg-type]  # as dict takes it
    assert session is same
    assert session == {"a": 1, "b": 2, "c": 3}
    assert session.modified


def test_a_copy_is_a_plain_dict_with_the_values_it_has() -> None:
    session = Session({"a": [1]})
    copy = session.copy()
    assert type(copy) is dict
    copy["b"] = 2
    assert "b" not in session
    assert copy["a"] is session["a"]


def test_entries_are_a_view_that_cannot_be_written_to() -> None:
    session = Session({"a": 1, "b": [2]})
    assert session.entries() == {"a": 1, "b": [2]}
    with pytest.raises(TypeError):
        session.entries()["a"] = 2  # type: ignore[index]


def test_order_is_kept_as_in_a_dict() -> None:
    session = Session({"a": 1, "b": 2})
    session["a"] = 3
    assert list(session) == ["a", "b"]
    del session["a"]
    session["a"] = 4
    assert list(session) == ["b", "a"]


def test_it_may_be_changed_while_it_is_iterated() -> None:
    session = Session({"a": 1, "b": 2})
    for key in session:
        del session[key]
    assert not session


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_a_key_that_is_no_text_is_refused_on_writing_and_absent_on_reading(key: t.Any) -> None:
    session = Session()
    with pytest.raises(SessionInsertError, match="session keys are text"):
        session[key] = 1
    assert key not in session
    assert session.get(key) is None
    assert not session.modified


def test_a_key_of_a_subclass_of_str_is_stored_as_text() -> None:
    class Name(enum.StrEnum):
        CART = "cart"

    session = Session({Name.CART: 1})
    assert [type(key) for key in session] == [str]
    assert session[Name.CART] == session["cart"] == 1


def test_a_key_that_no_store_can_keep_is_refused_at_the_line_that_stores_it(browser: Browser) -> None:
    session = browser.open()
    with pytest.raises(SessionInsertError):
        session["\ud800"] = 1


# -- loading, and what counts as access ----------------------------------------------------------------------------

READS: dict[str, t.Callable[[Session], object]] = {
    "in": lambda s: "a" in s,
    "len": len,
    "bool": bool,
    "==": lambda s: s == {},
    "iter": list,
    "reversed": lambda s: list(reversed(s)),
    "[]": lambda s: s["a"],
    "get": lambda s: s.get("b"),
    "keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "copy": lambda s: s.copy(),
    "|": lambda s: s | {},
    "entries": lambda s: s.entries(),
    "get_as": lambda s: s.get_as("a", int),
    "remove of nothing": lambda s: s.remove("b"),
    "pop of nothing": lambda s: s.pop("b", None),
    "new": lambda s: s.new,
    "handle": lambda s: s.handle,
    "created_at": lambda s: s.created_at,
    "expires_at": lambda s: s.expires_at,
    "lifetime": lambda s: s.lifetime,
    "deadline": lambda s: s.deadline,
}
WRITES: dict[str, t.Callable[[Session], object]] = {
    "[]=": lambda s: s.__setitem__("a", 2),
    "equal []=": lambda s: s.__setitem__("a", 1),
    "insert": lambda s: s.insert("b", 2),
    "update": lambda s: s.update(b=2),
    "|=": lambda s: s.__ior__({"b": 2}),
    "setdefault": lambda s: s.setdefault("b", 2),
    "del": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "popitem": lambda s: s.popitem(),
    "remove": lambda s: s.remove("a"),
    "remove_as": lambda s: s.remove_as("a", int),
    "update_or": lambda s: s.update_or("a", 1, lambda n: n + 1),
    "clear": lambda s: s.clear(),
    "renew": lambda s: s.renew(),
    "lifetime": lambda s: setattr(s, "lifetime", timedelta(hours=1)),
    "deadline": lambda s: setattr(s, "deadline", datetime(2027, 1, 1, tzinfo=UTC)),
}
ASKED_WITHOUT_LOADING: dict[str, t.Callable[[Session], object]] = {
    "accessed": lambda s: s.accessed,
    "modified": lambda s: s.modified,
    "status": lambda s: s.status,
    "permanent": lambda s: s.permanent,
    "permanent assigned": lambda s: setattr(s, "permanent", True),
    "modified assigned": lambda s: setattr(s, "modified", True),
    "repr": repr,
}


@pytest.mark.parametrize("touch", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
def test_the_first_touch_loads_and_is_access_and_the_second_loads_no_more(
    browser: Browser, touch: t.Callable[[Session], object]
) -> None:
    browser.write(a=1, z=0)
    session = browser.open()
    touch(session)
    assert session.accessed
    session.get("z")
    assert browser.store.calls == ["load"]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reading_is_no_modification(browser: Browser, read: t.Callable[[Session], object]) -> None:
    browser.write(a=1)
    session = browser.open()
    read(session)
    assert (session.modified, session.status) == (False, UNCHANGED)
    browser.end(session)
    assert browser.store.calls == ["load"]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writing_is_a_modification(browser: Browser, write: t.Callable[[Session], object]) -> None:
    browser.write(a=1)
    session = browser.open()
    write(session)
    assert session.modified
    assert session.status in (CHANGED, RENEWED)


@pytest.mark.parametrize("ask", ASKED_WITHOUT_LOADING.values(), ids=ASKED_WITHOUT_LOADING)
def test_asking_what_a_session_knows_of_itself_never_loads(
    browser: Browser, ask: t.Callable[[Session], object]
) -> None:
    browser.write(a=1)
    session = browser.open()
    ask(session)
    assert not session.accessed
    assert browser.store.calls == []


def test_an_untouched_request_costs_nothing(browser: Browser) -> None:
    browser.write(a=1)
    assert browser.end(browser.open()) is Keep
    assert browser.store.calls == []


def test_only_the_values_that_are_read_are_decoded(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    session = corrupt(browser)
    assert session["good"] == 1
    assert caplog.text == ""


def test_a_value_that_cannot_be_decoded_is_left_out_with_a_warning(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    session = corrupt(browser)
    assert session.get("bad", "default") == "default"
    assert "bad" not in session
    assert session == {"good": 1}
    assert "cannot be decoded" in caplog.text


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda s: s.copy(), id="copy"),
        pytest.param(lambda s: s.entries(), id="entries"),
        pytest.param(lambda s: list(s.items()), id="items"),
        pytest.param(lambda s: s == {"good": 1}, id="=="),
        pytest.param(lambda s: s.get_as("bad", int), id="get_as"),
        pytest.param(lambda s: s.remove("bad"), id="remove"),
        pytest.param(lambda s: s.pop("bad", None), id="pop"),
        pytest.param(lambda s: s.popitem(), id="popitem"),
    ],
)
def test_nothing_fails_on_a_value_that_cannot_be_decoded(browser: Browser, read: t.Callable[[Session], object]) -> None:
    read(corrupt(browser))


def test_a_default_takes_the_place_of_a_value_that_cannot_be_decoded(browser: Browser) -> None:
    session = corrupt(browser)
    assert session.setdefault("bad", 2) == 2
    assert session["bad"] == 2


def corrupt(browser: Browser) -> Session:
    """A session one of whose values is not what the codec writes."""
    browser.token = Token(
        key=browser.store.save(Record(state={"good": b"\x01", "bad": b"\xc1"}), timedelta(hours=1)),
        issued=0,
        lifetime=0,
        permanent=False,
        seen=b"",
    )
    return browser.open()


# -- new, modified, status -----------------------------------------------------------------------------------------


def test_a_session_is_new_until_it_is_stored(browser: Browser) -> None:
    session = browser.open()
    assert session.new
    assert (session.handle, session.created_at, session.expires_at) == (None, None, None)
    session["a"] = 1
    assert session.new
    browser.end(session)
    session = browser.open()
    assert not session.new
    assert browser.token is not None
    assert session.handle == browser.token.key.handle


def test_its_times_are_aware_and_utc(browser: Browser, clock: Clock) -> None:
    browser.write(a=1)
    clock.advance(60)
    session = browser.open()
    assert session.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert session.expires_at == datetime(2026, 2, 1, tzinfo=UTC)  # Flask's 31 days
    for moment in (session.created_at, session.expires_at):
        assert moment.tzinfo is UTC


@pytest.mark.parametrize("name", ["new", "handle", "created_at", "expires_at", "status"])
def test_what_a_session_says_of_itself_cannot_be_assigned(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Session(), name, None)


def test_there_is_no_attribute_that_gives_the_session_key(browser: Browser) -> None:
    browser.write(a=1)
    session = browser.open()
    assert not hasattr(session, "key")
    assert browser.token is not None
    assert str(browser.token.key) not in repr(session) + str(session.entries()) + str(session.handle)


def test_an_equal_value_of_the_same_type_is_a_modification_but_no_write(browser: Browser) -> None:
    browser.write(a=1, b=[1])
    session = browser.open()
    session["a"] = 1
    session["b"] = [1]
    assert session.modified
    assert not source_of(session).draft.changes
    assert browser.end(session) is Send
    assert browser.store.calls == ["load", "update_ttl"]


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_an_equal_value_of_another_type_is_a_write(browser: Browser, value: object) -> None:
    browser.write(a=1)
    session = browser.open()
    session["a"] = value
    browser.end(session)
    assert browser.store.calls == ["load", "update"]
    assert type(browser.read()["a"]) is type(value)


def test_modified_by_hand_extends_and_rewrites_nothing(browser: Browser) -> None:
    browser.write(a=1)
    session = browser.open()
    session.modified = True
    assert session.status is CHANGED
    assert browser.end(session) is Send
    assert browser.store.calls == ["load", "update_ttl"]


def test_modified_unset_by_hand_takes_back_no_write(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.modified = False
    assert session.modified
    browser.end(session)
    assert browser.read() == {"a": 1}


def test_purged_goes_over_renewed_and_renewed_over_changed() -> None:
    session = Session({"a": 1})
    statuses = [session.status]
    acts: list[t.Callable[[Session], object]] = [
        lambda s: s.insert("a", 2),
        lambda s: s.renew(),
        lambda s: s.insert("b", 3),
        lambda s: s.purge(),
    ]
    for act in acts:
        act(session)
        statuses.append(session.status)
    assert statuses == [UNCHANGED, CHANGED, RENEWED, RENEWED, PURGED]


# -- values: what is kept, and in what form ------------------------------------------------------------------------


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


# -- nested changes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "change", "expected"),
    [
        ([1], lambda v: v.append(2), [1, 2]),
        ({"a": {"b": [1]}}, lambda v: v["a"]["b"].append(2), {"a": {"b": [1, 2]}}),
        ({1}, lambda v: v.add(2), {1, 2}),
        ((1, [2]), lambda v: v[1].append(3), (1, [2, 3])),
        (({"a": ()},), lambda v: v[0].update(a=(1,)), ({"a": (1,)},)),
        ({"a": 1, "b": 2}, lambda v: v.update(a=v.pop("a")), {"b": 2, "a": 1}),
    ],
)
def test_a_change_within_a_value_is_noticed_and_stored(
    browser: Browser, value: t.Any, change: t.Callable[[t.Any], object], expected: object
) -> None:
    browser.write(v=value)
    session = browser.open()
    change(session["v"])
    assert (session.modified, session.status) == (True, CHANGED)
    assert browser.end(session) is Send
    assert browser.read() == {"v": expected}


def test_a_change_within_a_value_that_was_just_set_is_part_of_it(browser: Browser) -> None:
    session = browser.open()
    cart: list[int] = []
    session["cart"] = cart
    cart.append(1)
    browser.end(session)
    assert browser.read() == {"cart": [1]}


def test_a_change_that_was_taken_back_is_none(browser: Browser) -> None:
    browser.write(cart=[1])
    session = browser.open()
    session["cart"].append(2)
    session["cart"].pop()
    assert not session.modified
    browser.end(session)
    assert browser.store.calls == ["load"]


def test_a_set_in_another_order_is_no_change(browser: Browser) -> None:
    browser.write(tags=set("abcdefgh"))
    session = browser.open()
    session["tags"].clear()
    session["tags"].update("hgfedcba")
    assert not session.modified


def test_an_updater_sees_what_was_changed_in_place_before() -> None:
    session = Session({"cart": [1]})
    session["cart"].append(2)
    session.update_or("cart", [], lambda cart: [*cart, 3])
    assert session["cart"] == [1, 2, 3]


# -- typed reads ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Article:
    name: str
    price: int


def test_get_as_gives_the_type_asked_for_and_the_default_for_an_absent_key_only() -> None:
    session = Session({"n": 5, "cart": [{"name": "tea", "price": 3}], "none": None})
    assert session.get_as("n", int) == 5
    assert session.get_as("cart", list[Article]) == [Article("tea", 3)]
    assert session.get_as("absent", int) is None
    assert session.get_as("absent", int, 7) == 7
    assert session.get_as("none", int | None, 7) is None
    with pytest.raises(SessionGetError):
        session.get_as("none", int, 7)


def test_a_misfit_names_the_place_and_the_type_and_never_the_value() -> None:
    session = Session({"cart": [{"name": "tea", "price": SECRET}]})
    with pytest.raises(SessionGetError) as caught:
        session.get_as("cart", list[Article])
    error = caught.value
    assert (error.path, error.expected) == ("cart[0].price", list[Article])
    assert isinstance(error, ValueError)
    assert SECRET not in str(error)
    assert "cart" in session


def test_a_converted_value_is_not_the_one_that_is_kept() -> None:
    session = Session({"article": Article("tea", 3)})
    article = t.cast("Article", session.get_as("article", Article))
    article.price = 4
    assert session["article"] == {"name": "tea", "price": 3}
    assert not session.modified


def test_remove_returns_the_value_or_none() -> None:
    session = Session({"a": 1})
    assert session.remove("a") == 1
    assert session.remove("a") is None
    assert session == {}


def test_remove_as_removes_even_what_does_not_fit_and_hands_it_over() -> None:
    session = Session({"n": 5, "misfit": SECRET})
    assert session.remove_as("n", int) == 5
    assert session.remove_as("n", int) is None
    with pytest.raises(SessionGetError) as caught:
        session.remove_as("misfit", int)
    assert caught.value.value == SECRET
    assert SECRET not in str(caught.value)
    assert session == {}


# -- update_or -----------------------------------------------------------------------------------------------------


def test_update_or_sets_the_default_first_and_calls_the_updater_then() -> None:
    session = Session()
    values = []
    for _ in range(3):
        session.update_or("n", 1, lambda n: n + 1)
        values.append(session["n"])
    assert values == [1, 2, 3]


def test_update_or_is_replayed_on_what_another_request_wrote(browser: Browser) -> None:
    browser.write(n=10)
    first, second = browser.open(), browser.open()
    for session in (first, second):
        session.update_or("n", 1, lambda n: n + 1)
    browser.end(first)
    browser.end(second)
    assert browser.read() == {"n": 12}


def test_update_or_converts_for_its_updater() -> None:
    session = Session({"article": Article("tea", 3)})
    session.update_or("article", None, lambda a: dataclasses.replace(a, price=a.price + 1), type=Article)
    assert session["article"] == {"name": "tea", "price": 4}
    with pytest.raises(SessionGetError):
        session.update_or("article", None, lambda n: n, type=int)


@pytest.mark.parametrize("default", [1j, 1])
def test_update_or_refuses_what_cannot_be_kept(default: object) -> None:
    session = Session({} if default == 1j else {"n": 1})
    before = session.copy()
    with pytest.raises(SessionInsertError):
        session.update_or("n", default, lambda n: 1j)
    assert session == before
    assert not session.modified


def test_an_updater_that_raises_changes_nothing() -> None:
    session = Session({"n": 0})
    with pytest.raises(ZeroDivisionError):
        session.update_or("n", 1, lambda n: 1 // n)
    assert session == {"n": 0}
    assert not session.modified


def test_update_or_refuses_a_key_that_is_no_text() -> None:
    with pytest.raises(SessionInsertError):
        Session().update_or(5, 1, lambda n: n)  # type: ignore[arg-type]


# -- clear, purge, renew -------------------------------------------------------------------------------------------


def test_a_session_cleared_and_left_empty_is_deleted_on_both_sides(browser: Browser) -> None:
    browser.write(a=1)
    old = browser.token
    session = browser.open()
    session.clear()
    assert (session.copy(), session.status) == ({}, CHANGED)
    assert browser.end(session) is Delete
    browser.token = old
    assert browser.read() == {}


def test_a_session_cleared_and_written_to_goes_on_under_a_new_key(browser: Browser) -> None:
    browser.write(a=1)
    old = browser.token
    session = browser.open()
    session.permanent = True
    session.clear()
    session["farewell"] = "bye"
    assert session.status is RENEWED
    assert browser.end(session) is Send
    assert browser.token != old
    assert browser.read() == {"farewell": "bye"}
    assert not browser.open().permanent
    assert old is not None
    with pytest.raises(SessionGone):
        browser.store.load(old.key)


def test_a_purged_session_is_gone_and_drops_what_is_written_later_with_one_warning(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    browser.write(a=1, b=2)
    session = browser.open()
    session.purge()
    assert (session.copy(), session.status, session.modified) == ({}, PURGED, True)
    session["a"] = 2
    session.update_or("n", 1, lambda n: n)
    session.insert("b", 1)
    session.permanent = True
    session.lifetime = timedelta(hours=1)
    session.renew()
    session.clear()
    del session["a"]
    assert session == {}
    assert browser.end(session) is Delete
    assert [record.message for record in caplog.records if "session.clear()" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1


def test_a_purge_needs_no_load(browser: Browser) -> None:
    browser.write(a=1)
    session = browser.open()
    session.purge()
    browser.end(session)
    assert "load" not in browser.store.calls
    assert browser.token is None


@pytest.mark.parametrize("renew_first", [True, False])
def test_renew_keeps_the_data_under_a_new_key_whether_before_or_after_writes(
    browser: Browser, renew_first: bool
) -> None:
    browser.write(a=1)
    old = browser.token
    session = browser.open()
    if renew_first:
        session.renew()
    session["b"] = 2
    if not renew_first:
        session.renew()
    assert session.status is RENEWED
    browser.end(session)
    assert browser.token != old
    assert browser.read() == {"a": 1, "b": 2}
    assert old is not None
    with pytest.raises(SessionGone):
        browser.store.load(old.key)


# -- metadata ------------------------------------------------------------------------------------------------------


def test_permanent_is_no_data_and_makes_no_session(browser: Browser) -> None:
    session = browser.open()
    session.permanent = True
    assert session.permanent
    assert not session.accessed
    assert list(session) == []
    assert browser.end(session) is Keep
    assert browser.store.calls == []


def test_permanent_is_stored_with_data_and_read_from_the_token(browser: Browser) -> None:
    session = browser.open()
    session.permanent = True
    session["a"] = 1
    browser.end(session)
    session = browser.open()
    assert session.permanent
    assert not session.accessed
    assert session.keys() == {"a"}


def test_assigning_the_permanent_it_has_is_free(browser: Browser) -> None:
    session = browser.open()
    session.permanent = True
    session["a"] = 1
    browser.end(session)
    session = browser.open()
    session.permanent = True
    assert (session.accessed, session.modified, session.status) == (False, False, UNCHANGED)
    assert browser.end(session) is Keep
    assert browser.store.calls == []


def test_assigning_another_permanent_is_a_change(browser: Browser) -> None:
    browser.write(a=1)
    session = browser.open()
    session.permanent = True
    assert (session.accessed, session.modified, session.status) == (False, True, CHANGED)
    assert browser.end(session) is Send
    assert browser.store.calls == ["load", "update"]
    assert browser.token is not None
    assert (browser.token.permanent, browser.token.lifetime) == (True, 31 * 86_400)


def test_new_sessions_start_as_the_settings_have_it(store: CountingStore) -> None:
    browser = Browser(store, Policy(permanent=True))
    assert browser.open().permanent
    browser.write(a=1)
    assert browser.token is not None
    assert browser.token.permanent


def test_lifetime_and_deadline_are_stored_with_the_session(browser: Browser, clock: Clock) -> None:
    deadline = datetime(2026, 1, 1, 1, 30, 0, 123_456, timezone(timedelta(hours=1)))
    session = browser.open()
    assert (session.lifetime, session.deadline) == (None, None)
    session["a"] = 1
    session.lifetime = timedelta(hours=2)
    session.deadline = deadline
    browser.end(session)
    session = browser.open()
    assert session.lifetime == timedelta(hours=2)
    assert session.deadline == deadline.replace(microsecond=123_000)
    assert session.deadline is not None
    assert session.deadline.tzinfo is UTC
    assert session.expires_at == session.deadline
    clock.advance(30 * 60 + 1)
    assert browser.read() == {}


def test_lifetime_and_deadline_go_back_to_the_settings(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.lifetime = timedelta(hours=1)
    session.deadline = datetime(2026, 1, 2, tzinfo=UTC)
    browser.end(session)
    session = browser.open()
    session.lifetime = session.deadline = None
    browser.end(session)
    session = browser.open()
    assert (session.lifetime, session.deadline) == (None, None)
    assert session.expires_at == datetime(2026, 2, 1, tzinfo=UTC)


def test_assigning_the_lifetime_it_has_is_no_change(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.lifetime = timedelta(hours=1)
    browser.end(session)
    session = browser.open()
    session.lifetime = timedelta(hours=1)
    assert not session.modified


def test_a_lifetime_makes_the_cookie_outlive_the_browser(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.lifetime = timedelta(days=90)
    browser.end(session)
    assert browser.token is not None
    assert browser.token.lifetime == 90 * 86_400


def test_a_lifetime_without_end_can_be_asked_for(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.lifetime = timedelta.max
    assert browser.end(session) is Send
    assert browser.read() == {"a": 1}


def test_the_end_of_a_session_without_end_can_be_asked_for(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.lifetime = timedelta.max
    browser.end(session)
    assert browser.open().expires_at is not None


@pytest.mark.parametrize("lifetime", [3600, "1h", timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=999)])
def test_a_lifetime_is_a_timedelta_of_a_second_at_least(lifetime: t.Any) -> None:
    session = Session({"a": 1})
    with pytest.raises(SessionInsertError, match="lifetime is a timedelta"):
        session.lifetime = lifetime
    assert not session.modified


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  - that is what is refused


@pytest.mark.parametrize("deadline", [1_767_225_600, "2026-01-01", NAIVE, timedelta(hours=1)])
def test_a_deadline_is_an_aware_datetime(deadline: t.Any) -> None:
    session = Session({"a": 1})
    with pytest.raises(SessionInsertError, match="deadline is an aware datetime"):
        session.deadline = deadline
    assert not session.modified


def test_a_proxy_of_text_is_kept_as_its_text_but_is_no_key() -> None:
    session, proxy = Session({}), LocalProxy(lambda: "tea")
    session["drink"] = proxy
    assert type(session["drink"]) is str
    with pytest.raises(SessionInsertError, match="session keys are text, not LocalProxy"):
        session[t.cast("str", proxy)] = 1


def test_a_value_that_breaks_is_refused_at_the_line_that_stores_it() -> None:
    session = Session({"a": 1})
    broken = type("Broken", (list,), {"__iter__": lambda self: 1 / 0})()
    with pytest.raises(SessionInsertError) as caught:
        session["cart"] = [broken]
    assert caught.value.path == "cart[0]"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert session == {"a": 1}


@pytest.mark.parametrize("hours", [-23, 0, 23])
@pytest.mark.parametrize(("moment", "year"), [(datetime.max, 9999), (datetime.min, 1)])  # noqa: DTZ901  - they get one
def test_a_deadline_beyond_the_years_that_there_are_is_their_end(moment: datetime, year: int, hours: int) -> None:
    session = Session({"a": 1})
    session.deadline = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert session.deadline is not None
    assert (session.deadline.year, session.deadline.tzinfo) == (year, UTC)


def test_a_session_can_be_kept_until_the_last_year_there_is(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.deadline = datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))
    browser.end(session)
    assert browser.open().deadline == datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)


# -- values that somebody else encoded -----------------------------------------------------------------------------

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


# -- whose session -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [7, "7", "ünal", UUID(int=7), "x" * 255, -(2**70), ""])
def test_signing_in_changes_the_key_and_files_the_session_under_its_owner(browser: Browser, owner: object) -> None:
    browser.write(cart=[1])
    anonymous = browser.token
    session = browser.open()
    session["_user_id"] = owner
    assert session.status is RENEWED
    browser.end(session)
    assert browser.token is not None
    assert browser.token != anonymous
    record = browser.store.load(browser.token.key)
    assert record is not None
    assert record.owner == str(owner)
    assert browser.read() == {"cart": [1], "_user_id": owner}


@pytest.mark.parametrize(
    "sign_in",
    [
        lambda s: s.insert("_user_id", 7),
        lambda s: s.update(_user_id=7),
        lambda s: s.setdefault("_user_id", 7),
        lambda s: s.update_or("_user_id", 7, lambda old: old),
    ],
)
def test_every_way_to_set_the_owner_signs_in(browser: Browser, sign_in: t.Callable[[Session], object]) -> None:
    browser.write(a=1, csrf_token="old")
    session = browser.open()
    sign_in(session)
    assert session.status is RENEWED
    assert "csrf_token" not in session


@pytest.mark.parametrize(
    "sign_out",
    [
        lambda s: s.remove("_user_id"),
        lambda s: s.pop("_user_id"),
        lambda s: s.__delitem__("_user_id"),
        lambda s: s.insert("_user_id", None),
        lambda s: s.update_or("_user_id", None, lambda old: None),
    ],
)
def test_every_way_to_take_the_owner_away_signs_out(browser: Browser, sign_out: t.Callable[[Session], object]) -> None:
    browser.write(a=1, _user_id=7)
    signed_in = browser.token
    session = browser.open()
    session["csrf_token"] = "old"
    sign_out(session)
    assert session.status is RENEWED
    assert "csrf_token" not in session
    browser.end(session)
    assert browser.token != signed_in
    assert browser.token is not None
    record = browser.store.load(browser.token.key)
    assert record is not None
    assert record.owner is None


@pytest.mark.parametrize(("before", "after"), [(7, "7"), ("7", 7), (UUID(int=7), str(UUID(int=7))), (7, 7)])
def test_the_same_owner_as_text_is_no_change_of_owner(browser: Browser, before: object, after: object) -> None:
    browser.write(_user_id=before, csrf_token="kept")
    session = browser.open()
    session["_user_id"] = after
    assert session.status is CHANGED
    assert session["csrf_token"] == "kept"


def test_another_owner_in_the_same_browser_signs_in(browser: Browser) -> None:
    browser.write(_user_id=7, csrf_token="old", cart=[1])
    session = browser.open()
    session["_user_id"] = 8
    assert session == {"_user_id": 8, "cart": [1]}
    assert session.status is RENEWED


def test_an_owner_set_and_taken_back_is_no_change_of_owner(browser: Browser) -> None:
    browser.write(_user_id=7, a=1)
    session = browser.open()
    session["_user_id"] = 8
    session["_user_id"] = 7
    assert session.status is CHANGED


def test_the_keys_to_drop_are_dropped_at_that_line_and_what_is_written_later_stays(browser: Browser) -> None:
    browser.write(csrf_token="old", a=1)
    session = browser.open()
    session["_user_id"] = 7
    assert "csrf_token" not in session
    session["csrf_token"] = "new"
    browser.end(session)
    assert browser.read() == {"a": 1, "_user_id": 7, "csrf_token": "new"}


def test_owner_and_dropped_keys_are_as_the_settings_name_them(store: CountingStore) -> None:
    browser = Browser(store, Policy(owner_key="user", login_drops=("x", "y")))
    browser.write(x=1, y=2, csrf_token=3, z=4)
    session = browser.open()
    session["_user_id"] = 7
    assert session.status is CHANGED
    session["user"] = 7
    assert session.status is RENEWED
    assert list(session) == ["csrf_token", "z", "_user_id", "user"]


def test_without_an_owner_key_nobody_owns_a_session(store: CountingStore) -> None:
    browser = Browser(store, Policy(owner_key=None))
    browser.write(a=1)
    session = browser.open()
    session["_user_id"] = 7
    assert session.status is CHANGED
    session["_user_id"] = [1, 2]
    assert session["_user_id"] == [1, 2]


@pytest.mark.parametrize(
    "owner",
    ["x" * 256, 10**255, 1.5, True, b"7", [7], {"id": 7}, "\ud800"],
    ids=["too long", "too many digits", "float", "bool", "bytes", "list", "dict", "surrogate"],
)
def test_what_cannot_name_an_owner_is_refused_and_changes_nothing(owner: t.Any) -> None:
    session = Session({"_user_id": 7, "csrf_token": "kept"})
    for sign_in in (session.insert, lambda key, value: session.update_or(key, None, lambda _: value)):
        with pytest.raises(SessionInsertError, match="owner must be a str, an int or a UUID"):
            sign_in("_user_id", owner)
        assert session == {"_user_id": 7, "csrf_token": "kept"}
        assert session.status is UNCHANGED


def test_a_free_standing_session_has_all_the_data_it_was_given_whatever_its_order() -> None:
    assert "csrf_token" in Session({"csrf_token": "kept", "_user_id": 7})


def test_an_owner_with_more_digits_than_python_prints_is_refused_like_any_other() -> None:
    with pytest.raises(SessionInsertError):
        Session().insert("_user_id", 10**5000)


def test_an_owner_that_is_stored_in_its_plain_form_is_known_again_by_it(browser: Browser) -> None:
    class User(int, enum.Enum):
        ANN = 7

    browser.write(_user_id=User.ANN)
    session = browser.open()
    session["_user_id"] = User.ANN
    assert session.status is CHANGED


# -- repr, save and reload -----------------------------------------------------------------------------------------


def test_repr_shows_handle_status_and_keys_and_never_a_value(browser: Browser) -> None:
    browser.write(password=SECRET, cart=[SECRET])
    session = browser.open()
    assert repr(session) == "<Session not loaded>"
    session["cart"].append(SECRET)
    assert browser.token is not None
    assert repr(session) == f"<Session {browser.token.key.handle[:8]} changed ['password', 'cart']>"
    assert repr(Session({"password": SECRET})) == "<Session new unchanged ['password']>"
    session.purge()
    assert repr(session) == "<Session new purged []>"


def test_a_free_standing_session_cannot_be_saved_or_reloaded() -> None:
    for act in (Session().save, Session().reload):
        with pytest.raises(SessionError, match="free-standing"):
            act()


def test_save_writes_now_and_the_end_of_the_request_writes_no_more(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.save()
    assert (session.new, session.modified, session.status) == (False, False, UNCHANGED)
    assert session.handle is not None
    assert browser.end(session) is Send
    assert browser.store.calls == ["save"]
    assert browser.read() == {"a": 1}


def test_what_is_written_after_a_save_is_a_further_write(browser: Browser) -> None:
    session = browser.open()
    session["a"] = 1
    session.save()
    session["b"] = 2
    browser.end(session)
    assert browser.store.calls == ["save", "update"]
    assert browser.read() == {"a": 1, "b": 2}


def test_reload_reads_what_others_wrote_and_drops_what_was_not_saved(browser: Browser) -> None:
    browser.write(a=1)
    session = browser.open()
    session["b"] = 2
    browser.open()
    browser.write(a=3)
    session.reload()
    assert session == {"a": 3}
    assert not session.modified


def test_an_extension_takes_nothing_over_of_what_another_request_wrote_meanwhile(
    browser: Browser, clock: Clock
) -> None:
    browser.write(a=1)
    clock.advance(3600)
    here, other = browser.open(), Browser(browser.store)
    other.token = browser.token
    assert here["a"] == 1
    other.write(b=2)
    browser.end(here)  # it extends what is there now, and that is newer than what it has
    here["c"] = 3
    here.save()
    assert browser.read() == {"a": 1, "b": 2, "c": 3}


# -- threads -------------------------------------------------------------------------------------------------------


def test_threads_may_share_a_session(browser: Browser) -> None:
    browser.write(n=0)
    session = browser.open()
    start = threading.Barrier(8)

    def work(name: str) -> None:
        start.wait()
        for i in range(50):
            session[f"{name}{i}"] = [i]
            session.update_or("n", 0, lambda n: n + 1)
            assert session.get(f"{name}{i}") == [i]
            list(session.items())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    browser.end(session)
    values = browser.read()
    assert values.pop("n") == 400
    assert len(values) == 400


def test_a_markup_value_stays_markup(browser: Browser) -> None:
    browser.write(message=Markup("<b>hello</b>"))
    assert type(browser.read()["message"]) is Markup


def test_nothing_is_logged_by_ordinary_requests(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "flask_sessionstore")
    browser.write(a=1)
    browser.read()
    assert caplog.records == []
