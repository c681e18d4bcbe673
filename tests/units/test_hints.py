"""What debug mode and ``flask sessions check`` say of an application's log-in keys."""

from __future__ import annotations

import json
import typing as t
from datetime import timedelta

import pytest
from flask import Flask
from http_support import Browser, make_app, started, warnings_in
from views import assign, clear, purge

from flask_sessionstore import SessionInsertError, session
from flask_sessionstore.hints import ALIKE
from flask_sessionstore.policy import LOGIN_KEYS
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore

each = pytest.mark.parametrize

FORM = "a=form"
NO_OWNER = "SESSION_OWNER_KEY does not say who"
GUEST = "was set in a new session by a request without a body"
AGAIN = "changed in two requests in a row"
NAMELESS = "holds a value that does not say which user it names"
LOOKALIKE = "looks like a key that a log-in writes"
#: In the values of these tests, and nowhere in a hint.
VALUE = "hush-hush"
BY_USER = {"SESSION_OWNER_KEY": "user.id"}


def in_debug_mode(**config: object) -> Flask:
    app = make_app(MemoryStore(), **config)
    app.debug = True
    return app


def hints(caplog: pytest.LogCaptureFixture, *needles: str) -> list[str]:
    """The warnings, which are to have these texts in them, one each, and no value."""
    found = warnings_in(caplog)
    caplog.clear()
    assert VALUE not in str(found)
    assert [needle for hint, needle in zip(found, needles, strict=True) if needle in hint] == [*needles]
    return found


# -- nobody can be found ---------------------------------------------------------------------------------------------


@each("value", [VALUE, 7, True, {"id": 7, "name": VALUE}, {"name": VALUE}])
def test_a_log_in_without_an_owner_is_said_once(caplog: pytest.LogCaptureFixture, value: object) -> None:
    app = in_debug_mode()
    for _ in range(2):
        started(app, cart=[VALUE]).does(assign(user=value), body=FORM)
    (hint,) = hints(caplog, NO_OWNER)
    assert hint.startswith("session['user'] ")
    assert "'user.id'" in hint


def test_another_application_is_told_as_well(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        Browser(in_debug_mode()).does(assign(username=VALUE), body=FORM)
    hints(caplog, NO_OWNER, NO_OWNER)


@each(
    ("config", "data"),
    [
        ({}, {"_user_id": VALUE, "user": {"name": VALUE}}),  # Flask-Login, and more
        (BY_USER, {"user": {"id": VALUE}}),
        (BY_USER, {"user": {"name": VALUE}}),  # named, though it leads nowhere this time
        ({"SESSION_OWNER_KEY": "user_id"}, {"user_id": 7, "logged_in": True}),
        ({"SESSION_OWNER_KEY": "user_id"}, {"uid": VALUE}),
        ({"SESSION_OWNER_KEY": None}, {"user_id": 7}),  # no owners are wanted
        ({}, {"user": None, "logged_in": False, "username": ""}),
        ({}, {"cart": [VALUE]}),
    ],
)
def test_nothing_is_said_where_owners_are_named_or_nobody_is(
    caplog: pytest.LogCaptureFixture, config: dict[str, object], data: dict[str, object]
) -> None:
    Browser(in_debug_mode(**config)).does(assign(**data), body=FORM)
    hints(caplog)


# -- a guest's number ------------------------------------------------------------------------------------------------


def test_a_number_given_to_a_guest_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    app = in_debug_mode(**BY_USER)
    for _ in range(2):
        browser = Browser(app)
        for _ in range(2):
            browser.does(lambda: session.setdefault("uid", VALUE))
    (hint,) = hints(caplog, GUEST)
    assert hint.startswith("session['uid'] ")
    assert "take 'uid' out of SESSION_LOGIN_KEYS" in hint


def test_a_log_in_is_no_guest_s_number(caplog: pytest.LogCaptureFixture) -> None:
    app = in_debug_mode(**BY_USER)
    Browser(app).does(assign(uid=VALUE), body=FORM)
    started(app, cart=[VALUE]).does(assign(uid=VALUE))  # an OAuth callback has its state in the session
    Browser(app).does(assign(user={"id": VALUE}))  # a link in a mail
    Browser(in_debug_mode()).does(assign(_user_id=VALUE))  # Flask-Login's remember cookie
    hints(caplog)


def test_taking_the_name_out_ends_the_hint(caplog: pytest.LogCaptureFixture) -> None:
    app = in_debug_mode(SESSION_LOGIN_KEYS=[key for key in LOGIN_KEYS if key != "uid"])
    Browser(app).does(assign(uid=VALUE))
    hints(caplog)


# -- a value that names nobody ---------------------------------------------------------------------------------------


def nested(browser: Browser, number: int) -> None:
    browser.does(lambda: session["user"].update(seen=number))


def anew(browser: Browser, number: int) -> None:
    browser.does(assign(user={"name": VALUE, "seen": number}))


@each("change", [anew, nested])
def test_a_nameless_value_that_changes_at_every_request_is_said_once(
    caplog: pytest.LogCaptureFixture, change: t.Callable[[Browser, int], None]
) -> None:
    app = in_debug_mode(**BY_USER)
    for _ in range(2):
        browser = started(app, user={"name": VALUE})
        caplog.clear()
        change(browser, 1)
        assert warnings_in(caplog) == []
        change(browser, 2)
        change(browser, 3)
        if _ == 0:
            (hint,) = hints(caplog, AGAIN)
            assert hint.startswith("session['user'] ")
    hints(caplog)


def test_edits_with_a_request_in_between_are_not_in_a_row(caplog: pytest.LogCaptureFixture) -> None:
    browser = started(in_debug_mode(**BY_USER), user={"name": VALUE}, cart=[VALUE])
    caplog.clear()
    for number in range(3):
        anew(browser, number)
        assert browser.data["cart"] == [VALUE]
    hints(caplog)


@each("value", [{"id": 7}, {"login": VALUE}])
def test_nothing_is_said_where_the_value_or_the_setting_names_somebody(
    caplog: pytest.LogCaptureFixture, value: dict[str, object]
) -> None:
    app = in_debug_mode(SESSION_OWNER_KEY="user.login")
    browser = started(app, user=value)
    for number in range(3):
        browser.does(assign(user={**value, "seen": number}))
    caplog.clear()
    hints(caplog)


def test_the_list_of_sessions_that_were_renewed_does_not_grow() -> None:
    app = in_debug_mode(**BY_USER)
    browser = Browser(app)
    for number in range(120):
        anew(browser, number)
        browser = Browser(app) if number % 2 else browser
    assert len(app.session_interface._hints._renewed) <= 100  # type: ignore[attr-defined]


# -- a key that looks like one ---------------------------------------------------------------------------------------


def test_a_key_that_looks_like_one_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    app = in_debug_mode()
    for name in ("email", "is_admin"):
        started(app, cart=[VALUE]).does(assign(**{name: VALUE}), body=FORM)
    (hint,) = hints(caplog, LOOKALIKE)
    assert hint.startswith("session['email'] ")


def test_there_is_none_among_those_that_are_ones() -> None:
    assert ALIKE.isdisjoint({*LOGIN_KEYS, "_user_id"})


def renew_and_say_the_address() -> None:
    session["email"] = VALUE
    session.renew()


def clear_and_say_the_address() -> None:
    session.clear()
    session["email"] = VALUE


def test_nothing_is_said_of_a_key_where_there_is_no_danger(caplog: pytest.LogCaptureFixture) -> None:
    Browser(in_debug_mode()).does(assign(email=VALUE))  # nobody can have planted a session that is new
    started(in_debug_mode(), cart=[VALUE]).does(assign(_user_id=VALUE, email=VALUE))  # which is a log-in
    started(in_debug_mode(), cart=[VALUE]).does(renew_and_say_the_address)
    started(in_debug_mode(), cart=[VALUE]).does(clear_and_say_the_address)
    started(in_debug_mode(), email=VALUE).does(assign(email=VALUE * 2))  # it does not come, it changes
    started(in_debug_mode(SESSION_LOGIN_KEYS=["email"], SESSION_OWNER_KEY="email"), a=1).does(assign(email=VALUE))
    hints(caplog)


# -- not for everybody -----------------------------------------------------------------------------------------------


def everything(app: Flask) -> None:
    """All that there is a hint for."""
    browser = Browser(app)
    browser.does(assign(user={"name": VALUE}))
    for number in range(3):
        browser.does(assign(user={"name": VALUE, "seen": number}))
    browser.does(assign(email=VALUE))


def test_all_hints_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    app = in_debug_mode()
    for _ in range(2):
        everything(app)
    hints(caplog, NO_OWNER, GUEST, AGAIN, LOOKALIKE)


def test_outside_debug_mode_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    everything(make_app(MemoryStore()))
    hints(caplog)


def test_a_request_that_fails_says_so_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """What a value is that cannot be kept is said by the error."""
    browser = started(in_debug_mode(), cart=[1], _user_id=VALUE)
    with pytest.raises(SessionInsertError, match=r"cart\[1\]"):
        browser.does(lambda: session["cart"].append(object()))
    hints(caplog)


@each("end", [purge, clear])
def test_hints_do_not_get_in_the_way_of_a_log_out(caplog: pytest.LogCaptureFixture, end: t.Callable[[], None]) -> None:
    browser = started(in_debug_mode(**BY_USER), user={"id": VALUE})
    browser.does(end)
    assert browser.cookies == []
    hints(caplog)


# -- check -----------------------------------------------------------------------------------------------------------


def findings(app: Flask) -> list[str]:
    """What check has to say of the log-in keys that the sessions in the store have."""
    result = app.test_cli_runner().invoke(args=["sessions", "check", "--json"])
    assert VALUE not in result.output
    return [one for one in json.loads(result.output)["findings"] if one.startswith("session[")]


def with_sessions(*sessions: dict[str, object], **config: object) -> Flask:
    app = make_app(MemoryStore(), **config)
    for data in sessions:
        started(app, **data)
    return app


def test_check_finds_log_ins_without_an_owner() -> None:
    (finding,) = findings(with_sessions({"user_id": 7}, {"user_id": 8}, {"cart": [VALUE]}))
    assert finding.startswith("session['user_id'] ")
    assert NO_OWNER in finding


@each("value", [{"name": VALUE}, {"iss": VALUE, "name": VALUE}, [VALUE]])
def test_check_finds_values_that_name_nobody(value: object) -> None:
    app = with_sessions({"user": value}, {"logged_in": True}, **BY_USER)
    (finding,) = findings(app)
    assert finding.startswith("session['user'] ")
    assert NAMELESS in finding


def test_check_finds_keys_that_look_like_those_of_a_log_in() -> None:
    (finding,) = findings(with_sessions({"member_id": VALUE}, {"member_id": VALUE}))
    assert finding.startswith("session['member_id'] ")
    assert LOOKALIKE in finding


def test_check_says_each_once_and_ends_the_sentence() -> None:
    app = with_sessions({"user": [VALUE]}, {"uid": 1, "email": VALUE}, {"email": VALUE}, {"role": VALUE})
    found = findings(app)
    assert [needle in finding for needle, finding in zip((NO_OWNER, NAMELESS, LOOKALIKE), found, strict=True)] == [
        True
    ] * 3
    assert all(finding.endswith(".") for finding in found)


@each(
    ("config", "data"),
    [
        ({}, {"_user_id": VALUE, "email": VALUE, "username": VALUE}),
        (BY_USER, {"user": {"id": VALUE}, "is_admin": True}),
        ({"SESSION_OWNER_KEY": "user.login"}, {"user": {"login": VALUE}}),
        ({"SESSION_OWNER_KEY": None}, {"user_id": 7}),
        ({"SESSION_LOGIN_KEYS": ()}, {"user_id": 7}),
        ({}, {"cart": [VALUE], "user": None, "logged_in": False}),
    ],
)
def test_check_is_content_with_a_log_in_that_names_its_owner(
    config: dict[str, object], data: dict[str, object]
) -> None:
    assert findings(with_sessions(data, **config)) == []


def test_check_cannot_look_into_the_sessions_of_a_cookie_store() -> None:
    app = make_app(CookieStore())
    started(app, user_id=7)
    assert findings(app) == []


def test_check_cannot_look_into_sealed_sessions() -> None:
    assert findings(with_sessions({"user_id": 7}, SESSION_SEAL=True)) == []


def test_check_goes_on_after_a_damaged_session() -> None:
    store = MemoryStore()
    store.add("0" * 64, b"damage", timedelta(minutes=1))
    app = make_app(store)
    started(app, user_id=7)
    assert len(findings(app)) == 1
