"""When a session is loaded, what it is asked of its store, and its status."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime, timedelta

import pytest

from flask_sessionstore import Record, Session, SessionError
from flask_sessionstore.sessions import source_of
from flask_sessionstore.tokens import Token
from flask_sessionstore.visitor import Keep, Send

if t.TYPE_CHECKING:
    from flask_sessionstore.testing import Clock
from session_support import CHANGED, PURGED, RENEWED, UNCHANGED, Browser

SECRET = "tops3cret"


# -- loading, and what counts as access ------------------------------------------------------------------------------


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
        mark=0,
    )
    return browser.open()


# -- new, modified, status -------------------------------------------------------------------------------------------


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


# -- repr, save and reload -------------------------------------------------------------------------------------------


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


def test_a_session_that_was_purged_is_not_read_again(browser: Browser) -> None:
    browser.write(a=1)
    session = browser.open()
    session.purge()
    session.reload()
    assert (dict(session), session.status) == ({}, PURGED)


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
