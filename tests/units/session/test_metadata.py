"""What is known of a session: its times, its owner; and how it ends."""

from __future__ import annotations

import enum
import typing as t
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from werkzeug.local import LocalProxy

from flask_sessionstore import Session, SessionGone, SessionInsertError
from flask_sessionstore.policy import Policy
from flask_sessionstore.visitor import Delete, Keep, Send

if t.TYPE_CHECKING:
    from flask_sessionstore.testing import Clock
from session_support import CHANGED, PURGED, RENEWED, UNCHANGED, Browser, CountingStore

# -- clear, purge, renew ---------------------------------------------------------------------------------------------


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


def test_an_update_after_a_purge_is_dropped_with_the_same_warning(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    browser.write(a=1)
    session = browser.open()
    session.purge()
    session.update(a=2, b=3)
    assert session == {}
    assert browser.end(session) is Delete
    assert [record.message[:37] for record in caplog.records] == ["a write after session.purge() was dro"]


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


# -- metadata --------------------------------------------------------------------------------------------------------


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
    with pytest.raises(SessionInsertError, match="lifetime takes a timedelta"):
        session.lifetime = lifetime
    assert not session.modified


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  - that is what is refused


@pytest.mark.parametrize("deadline", [1_767_225_600, "2026-01-01", NAIVE, timedelta(hours=1)])
def test_a_deadline_is_an_aware_datetime(deadline: t.Any) -> None:
    session = Session({"a": 1})
    with pytest.raises(SessionInsertError, match="deadline takes an aware datetime"):
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


# -- whose session ---------------------------------------------------------------------------------------------------


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
