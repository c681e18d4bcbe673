"""What an assignment to ``session.modified`` takes back: nothing that was done."""

from __future__ import annotations

import pytest
from flask import Flask
from http_support import DELETED, SET, Action, fate, started
from lifecycle_views import A, both, store_of
from views import clear, make_permanent, renew

from flask_sessionstore import session
from flask_sessionstore.stores.cookie import CookieStore


def unmodify() -> None:
    session.modified = False


def test_a_cleared_session_has_ended(app: Flask) -> None:
    browser = started(app, **A)
    thief = browser.twin()
    assert fate(browser.does(both(clear, unmodify))) == DELETED
    assert browser.data == {}
    if not isinstance(store_of(app), CookieStore):
        assert thief.data == {}


@pytest.mark.parametrize("change", [renew, make_permanent])
def test_what_changes_no_data_is_done(change: Action, app: Flask) -> None:
    browser = started(app, **A)
    assert fate(browser.does(both(change, unmodify))) == SET
    assert browser.data == A
    if change is make_permanent:
        assert browser.asks(lambda: session.permanent)
