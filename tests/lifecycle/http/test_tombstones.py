"""Requests of a session that ended: those that come later, and those that were under way."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask
from http_support import DELETED, KEPT, SET, Action, Browser, fate, make_app, started, warnings_in, watch
from lifecycle_views import (
    TWO,
    A,
    both,
    fate_of_change,
    log_in,
    meanwhile,
    refresh,
    sign_in_another,
    sign_out,
    store_of,
    write_other,
    write_within,
)
from views import clear, count, force, purge, read, remove_all, renew, sign_in, write

from flask_sessionstore import SessionKey, session
from flask_sessionstore.signals import session_write_dropped
from flask_sessionstore.stores import OwnerIndex, ServerSideStore
from flask_sessionstore.testing import Clock

#: Longer than a tombstone stands.
LATER = 61.0
CART: dict[str, t.Any] = {"cart": ["mug"]}
ANN = {"_user_id": "ann"}
USER: dict[str, t.Any] = {"user": {"sub": "ann"}}
REFRESHED: dict[str, t.Any] = {"user": {"sub": "ann", "token": "fresh"}}


# -- tombstones: a request that comes after the end ------------------------------------------------------------------


def _ended(browser: Browser, view: Action) -> Browser:
    """Another window of ``browser``, whose session another request has just ended or renewed by ``view``."""
    other = browser.twin()
    browser.does(view)
    return other


@pytest.mark.parametrize(("before", "view"), [(A, purge), (A, clear), (ANN, sign_out), (A, remove_all)])
@pytest.mark.parametrize("own", [read, write, both(clear, write), renew])
def test_a_request_that_meets_an_end_starts_anew(
    own: Action, before: dict[str, t.Any], view: Action, server_app: Flask
) -> None:
    other = _ended(started(server_app, **before, secret="s"), both(view, remove_all))
    calls, writes = watch(store_of(server_app)), own not in (read, renew)
    assert fate(other.does(own)) == (SET if writes else KEPT)
    assert calls == (["load", "save"] if writes else ["load"])
    assert "secret" not in other.data


def test_a_request_that_meets_a_renewal_leaves_the_cookie_and_drops_its_writes(
    server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1)
    other = _ended(browser, renew)
    calls = watch(store_of(server_app))
    assert fate(other.does(read)) == KEPT
    assert calls == ["load"]
    assert warnings_in(caplog) == []
    with _dropped(server_app) as dropped:
        assert fate(other.does(write)) == KEPT
    assert calls == ["load", "load"]
    assert [reason for _, reason in dropped] == ["renewed"]
    assert "dropped" in warnings_in(caplog)[0]
    assert browser.data == A


def test_a_clear_that_meets_a_renewal_ends_the_successor(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = _ended(browser, renew)
    calls = watch(store_of(server_app))
    assert fate(other.does(clear)) == KEPT
    assert calls == ["load", "delete"]
    assert browser.data == {}


def test_a_purge_that_meets_a_renewal_ends_the_successor(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    assert fate(_ended(browser, renew).does(purge)) == DELETED
    assert browser.data == {}


#: What leaves each kind of tombstone of a session of ann's, or of nobody's.
_GOING: dict[str, tuple[dict[str, t.Any], Action]] = {
    "ended": ({**A, **ANN}, purge),
    "emptied": (A, remove_all),
    "renewed": ({**A, **ANN}, renew),
    "signed in": (A, sign_in),
    "replaced": ({**A, **ANN}, sign_in_another),
}
_UPLOAD = "with a body"


def _going(app: Flask, kind: str) -> tuple[Browser, Browser]:
    """A browser whose session has just gone, and another window of it that has not heard of it."""
    before, view = _GOING[kind]
    browser = started(app, **before)
    return browser, _ended(browser, view)


def _sign_in_as(owner: str) -> Action:
    return lambda: session.update(_user_id=owner)


@pytest.mark.parametrize("kind", _GOING)
@pytest.mark.parametrize("body", ["", _UPLOAD])
def test_a_straggler_signs_nobody_in(
    body: str, kind: str, server_app: Flask, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A poll that was under way at the log-out, whose remember cookie would log the user in again."""
    browser, other = _going(server_app, kind)
    owner = "bob" if kind == "replaced" else "ann"  # whom the session had, or went on with
    if kind == "emptied" and body:
        pytest.skip("nobody was signed in")
    clock.advance(9.9)
    calls = watch(store_of(server_app))
    with _dropped(server_app) as dropped:
        assert fate(other.does(_sign_in_as(owner), body=body)) == KEPT
    assert calls == ["load"]
    assert [reason for _, reason in dropped] == [kind]
    assert len(warnings_in(caplog)) == 1
    assert other.cookies != browser.cookies or browser.data == other.data


@pytest.mark.parametrize("kind", _GOING)
@pytest.mark.parametrize(("owner", "body", "wait"), [("eve", _UPLOAD, 0), ("ann", "", 10), ("ann", _UPLOAD, 10)])
def test_a_log_in_that_meets_what_has_gone_gets_a_session_of_its_own(
    owner: str, body: str, wait: float, kind: str, server_app: Flask, clock: Clock
) -> None:
    browser, other = _going(server_app, kind)
    before = browser.data
    clock.advance(wait)
    calls = watch(store_of(server_app))
    assert fate(other.does(_sign_in_as(owner), body=body)) == SET
    assert calls == ["load", "save"]
    assert other.data == {"_user_id": owner}
    assert browser.data == before


def test_a_log_in_that_names_no_owner_is_no_straggler_with_a_body(server_app: Flask) -> None:
    for body, expected in (("", KEPT), (_UPLOAD, SET)):
        other = _ended(started(server_app, a=1), purge)
        assert fate(other.does(log_in, body=body)) == expected


@pytest.mark.parametrize("kind", ["renewed", "signed in", "replaced"])
@pytest.mark.parametrize(
    ("body", "wait", "expected"), [("", 9.9, KEPT), ("", 10, SET), (_UPLOAD, 9.9, KEPT), (_UPLOAD, 59, KEPT)]
)
def test_a_page_whose_renewal_was_never_answered_works_again_after_ten_seconds(
    body: str, wait: float, expected: str, kind: str, server_app: Flask, clock: Clock
) -> None:
    """A request with a body may be an upload that began before: it takes no new cookie away."""
    browser, other = _going(server_app, kind)
    before = browser.data
    clock.advance(wait)
    assert fate(other.does(write, body=body)) == expected
    assert other.data == (TWO if expected == SET else {})
    assert browser.data == before


@pytest.mark.parametrize(("kind", "lives"), [("renewed", False), ("signed in", True), ("replaced", True)])
@pytest.mark.parametrize("wait", [0, 10])
def test_an_end_follows_a_renewal_but_ends_nothing_that_somebody_signed_in_to(
    wait: float, kind: str, lives: bool, server_app: Flask, clock: Clock
) -> None:
    """Whoever planted the key could end it."""
    for own, cookie in ((clear, KEPT), (purge, DELETED)):
        browser, other = _going(server_app, kind)
        clock.advance(wait)
        assert fate(other.does(own)) == cookie
        assert (browser.data != {}) is lives


@pytest.mark.parametrize("body", ["", _UPLOAD])
def test_what_was_under_way_when_everything_ended_takes_no_new_cookie_away(
    body: str, server_app: Flask, clock: Clock
) -> None:
    """A slow upload that began before the log-in, clocks apart, another application on the host."""
    _, other = _going(server_app, "signed in")
    for wait in (0, 30, 31, 600):
        clock.advance(wait)
        assert fate(other.twin().does(read, body=body)) == KEPT


def test_a_tombstone_is_forgotten_after_a_minute(server_app: Flask, clock: Clock) -> None:
    _, other = _going(server_app, "renewed")
    calls = watch(store_of(server_app))
    clock.advance(LATER)
    assert fate(other.does(write)) == SET
    assert calls == ["load", "save"]


# -- tombstones: a request that had loaded ---------------------------------------------------------------------------


class _dropped:  # noqa: N801  - reads as a verb at its uses
    """The handles and reasons that the signal reports meanwhile."""

    def __init__(self, app: Flask) -> None:
        self.app, self.reports = app, t.cast("list[tuple[str, str]]", [])

    def __enter__(self) -> list[tuple[str, str]]:
        session_write_dropped.connect(self._note, self.app)
        return self.reports

    def __exit__(self, *exc_info: object) -> None:
        session_write_dropped.disconnect(self._note, self.app)

    def _note(self, sender: Flask, handle: str, reason: str) -> None:
        self.reports.append((handle, reason))


@pytest.mark.parametrize(
    ("own", "kept"),
    [(write_other, {"b": 2}), (count, {"n": 1}), (both(write, write_other), {"a": 2, "b": 2}), (write_within, {})],
)
def test_what_was_emptied_meanwhile_goes_on_with_what_the_request_wrote(
    own: Action, kept: dict[str, t.Any], server_app: Flask
) -> None:
    browser = started(server_app, a=1, cart=[])
    cookie, calls = meanwhile(browser, remove_all, own)
    assert browser.data == kept
    assert cookie == (SET if kept else KEPT)
    assert calls[-1:] == (["save"] if kept else ["update(replaces)"])


def _expire(app: Flask) -> Action:
    """The record goes without a tombstone, as if evicted."""

    def drop() -> None:
        handle = session.handle
        assert handle is not None
        t.cast("ServerSideStore", store_of(app)).drop(handle)

    return drop


@pytest.mark.parametrize("end", ["ended", "renewed", "unknown"])
@pytest.mark.parametrize(
    ("own", "verb"),
    [(write_other, "update(replaces)"), (write_within, "update(replaces)"), (force, "update_ttl")],
    ids=["write", "write within", "force"],
)
def test_what_ended_meanwhile_takes_no_writes(
    own: Action, verb: str, end: str, server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, a=1, cart=[])
    handle = browser.asks(lambda: session.handle)
    other = {"ended": purge, "renewed": renew, "unknown": _expire(server_app)}[end]
    with _dropped(server_app) as dropped:
        cookie, calls = meanwhile(browser, other, own)
    assert (cookie, calls) == (KEPT, [verb])
    assert dropped == ([] if own is force else [(handle, end)])
    assert [handle[:8] in warning for warning in warnings_in(caplog)] == [True] * len(dropped)
    assert browser.data == {}


@pytest.mark.parametrize("end", ["ended", "unknown"])
@pytest.mark.parametrize("own", [sign_in, both(renew, lambda: session.update(_user_id="ann"))])
def test_a_sign_in_outlives_the_end_but_nothing_loaded_does(own: Action, end: str, server_app: Flask) -> None:
    browser = started(server_app, a=1)
    other = purge if end == "ended" else _expire(server_app)
    cookie, calls = meanwhile(browser, other, own)
    assert (cookie, calls[-1]) == (SET, "save")
    assert browser.data == ANN


def test_two_log_ins_at_once_keep_the_cart_in_both(server_app: Flask) -> None:
    browser = started(server_app, cart=["mug"])
    twin = browser.twin()
    cookie, calls = meanwhile(browser, sign_in, both(sign_in, write))
    assert (cookie, calls[-1]) == (SET, "save")
    assert browser.data == {**CART, **ANN, **TWO}
    assert twin.data == {}


def test_of_an_owner_s_renewed_session_nothing_loaded_comes_along(server_app: Flask) -> None:
    browser = started(server_app, secret="s", _user_id="bob")
    cookie, _ = meanwhile(browser, renew, sign_in)
    assert cookie == SET
    assert browser.data == ANN


@pytest.mark.parametrize("own", [clear, sign_out, both(clear, write)], ids=["clear", "sign out", "clear and write"])
def test_a_log_out_ends_the_successor_of_what_was_renewed_meanwhile(own: Action, server_app: Flask) -> None:
    browser = started(server_app, a=1, _user_id="ann")
    renewed = browser.twin()

    def view() -> None:
        dict(session)
        renewed.does(renew)
        own()

    assert fate(browser.does(view)) == KEPT
    assert renewed.data == {}
    assert browser.data == {}


def test_a_log_out_that_comes_too_late_does_not_end_a_session_that_another_user_began(server_app: Flask) -> None:
    browser = started(server_app, _user_id="ann")
    bob = browser.twin()

    def view() -> None:
        dict(session)
        bob.does(lambda: session.update(_user_id="bob"))
        clear()

    browser.does(view)
    assert bob.data == {"_user_id": "bob"}


def confirm() -> None:
    """A password was confirmed: rights rise."""
    session.renew()
    session["confirmed"] = True


@pytest.mark.parametrize("before", [{**A, **ANN}, {**A, **USER}, A])
def test_two_clicks_on_confirm_your_password_are_two_sessions_of_the_same_user(
    before: dict[str, t.Any], server_app: Flask
) -> None:
    browser = started(server_app, **before)
    first = browser.twin()

    def view() -> None:
        dict(session)
        first.does(confirm)
        confirm()

    assert fate(browser.does(view)) == SET
    assert browser.data == first.data == {**before, "confirmed": True}
    assert browser.key != first.key


@pytest.mark.parametrize(
    "last", [purge, clear, remove_all, sign_out, sign_in_another, both(clear, write), both(renew, purge)]
)
def test_a_right_is_written_to_nobody_s_session_once_the_renewed_one_has_ended(
    last: Action, server_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    browser = started(server_app, **A, **ANN)
    first = browser.twin()

    def view() -> None:
        dict(session)
        first.does(renew)
        first.does(last)
        confirm()

    with _dropped(server_app) as dropped:
        assert fate(browser.does(view)) == KEPT
    assert [reason for _, reason in dropped] == ["renewed"]
    assert browser.data == {}
    assert "confirmed" not in first.data


@pytest.mark.parametrize("first", [sign_in, log_in])
def test_renew_does_not_go_on_beside_what_somebody_signed_in_to(first: Action, server_app: Flask) -> None:
    """The thief who planted the key would be signed in, too."""
    browser = started(server_app, a=1)
    twin = browser.twin()
    cookie, calls = meanwhile(twin, lambda: browser.does(first), confirm)
    assert (cookie, calls) == (KEPT, ["renew(replaces)"])
    assert twin.data == {}
    assert "confirmed" not in browser.data


def test_what_renew_made_ends_if_the_other_session_ends_meanwhile(server_app: Flask) -> None:
    browser, store = started(server_app, **A, **ANN), t.cast("t.Any", store_of(server_app))
    first, save, made = browser.twin(), store.save, t.cast("list[SessionKey]", [])

    def save_while_the_other_signs_out(*args: t.Any, **kwargs: t.Any) -> SessionKey:
        store.save = save
        made.append(save(*args, **kwargs))
        first.does(clear)
        return made[0]

    def view() -> None:
        dict(session)
        first.does(renew)
        store.save = save_while_the_other_signs_out
        confirm()

    assert fate(browser.does(view)) == KEPT
    assert (browser.data, first.data) == ({}, {})
    assert store.info(made[0].handle) is None


def test_a_session_beside_counts_for_the_limit(server_store: ServerSideStore, clock: Clock) -> None:
    if server_store.ability(OwnerIndex) is None:
        pytest.skip("this store knows no owners")
    server_store.clock = clock
    browser = started(make_app(server_store, SESSION_MAX_PER_OWNER=1), **ANN)
    first = browser.twin()

    def view() -> None:
        dict(session)
        first.does(confirm)
        clock.advance(1)
        confirm()

    assert fate(browser.does(view)) == SET
    assert browser.data == {**ANN, "confirmed": True}
    assert first.data == {}


@pytest.mark.parametrize("before", [{**A, **USER}, {**A, "user": {"name": "Ann"}}, {**A, "logged_in": True}])
def test_a_log_out_without_a_cookie_is_not_undone_by_what_is_in_flight(
    before: dict[str, t.Any], server_app: Flask
) -> None:
    """``session.pop("user")`` beside a profile edit, a token refresh, or any other write."""
    key = next(key for key in before if key != "a")

    def edit() -> None:
        value = session[key]
        session[key] = {**value, "token": 1} if isinstance(value, dict) else value
        session["b"] = 2

    for own in (edit, write_other, renew):
        browser = started(server_app, **before)
        with _dropped(server_app) as dropped:
            cookie, _ = meanwhile(browser, lambda: session.pop(key), own)
        assert cookie == KEPT
        assert [reason for _, reason in dropped] == ["ended"]
        assert browser.data == A


def test_parallel_edits_of_who_is_signed_in_merge(server_app: Flask) -> None:
    """The same person, by the id: a token refresh beside another key."""
    browser = started(server_app, **USER)
    cookie, calls = meanwhile(browser, refresh, write_other)
    assert (cookie, calls) == (fate_of_change(store_of(server_app)), ["update(replaces)", "update(replaces)"])
    assert browser.data == {**REFRESHED, "b": 2}


@pytest.mark.parametrize("own", [purge, clear, remove_all])
def test_an_end_of_what_was_written_meanwhile_leaves_nothing(own: Action, server_app: Flask) -> None:
    browser = started(server_app, a=1)
    twin = browser.twin()
    cookie, _ = meanwhile(browser, write, own)
    assert cookie == DELETED
    assert twin.data == {}


def test_a_removal_of_all_that_it_saw_spares_what_another_wrote(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    cookie, _ = meanwhile(browser, write_other, remove_all)
    assert cookie == fate_of_change(store_of(server_app))
    assert browser.data == {"b": 2}


def test_a_clear_removes_what_another_wrote(server_app: Flask) -> None:
    browser = started(server_app, a=1)
    cookie, _ = meanwhile(browser, write_other, both(clear, count))
    assert cookie == SET
    assert browser.data == {"n": 1}


# -- late requests ---------------------------------------------------------------------------------------------------


def _late(browser: Browser, clock: Clock, own: Action) -> str:
    """A request that first touches the session when every tombstone of its time is forgotten."""

    def view() -> None:
        clock.advance(LATER)
        own()

    return fate(browser.does(view))


@pytest.mark.parametrize(("own", "expected"), [(read, KEPT), (write, KEPT), (clear, KEPT), (sign_in, SET)])
def test_a_late_request_leaves_store_and_cookie_alone_unless_it_signs_in(
    own: Action, expected: str, server_app: Flask, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    other = _ended(started(server_app, a=1), purge)
    calls = watch(store_of(server_app))
    with _dropped(server_app) as dropped:
        assert _late(other, clock, own) == expected
    assert calls == (["load", "save"] if expected == SET else ["load"])
    assert len(dropped) == len(warnings_in(caplog)) == (1 if own is write else 0)


def test_a_late_request_to_a_living_session_is_like_any_other(app: Flask, clock: Clock) -> None:
    browser = started(app, a=1)
    assert _late(browser, clock, write) == fate_of_change(store_of(app))
    assert browser.data == TWO
