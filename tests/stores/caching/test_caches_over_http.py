"""Two processes with a cache each, over HTTP."""

from __future__ import annotations

import typing as t
from uuid import uuid4

import pytest
import servers
from flask import session
from http_support import DELETED, SET, Browser, fate, make_app, started
from tiers import Process
from views import sign_in

from flask_sessionstore.stores import from_url
from flask_sessionstore.testing import Clock

MAX_AGE = 2.0


class Windows:
    """One browser, two processes."""

    def __init__(self, here: Process, there: Process) -> None:
        self.apps = [make_app(here), make_app(there)]
        self.browser = Browser(self.apps[0])

    def here(self) -> Browser:
        """The browser, sent to the one process."""
        return self._sent_to(0)

    def there(self) -> Browser:
        """The browser, sent to the other."""
        return self._sent_to(1)

    def _sent_to(self, number: int) -> Browser:
        self.browser.app = self.apps[number]
        return self.browser


@pytest.fixture
def windows(here: Process, there: Process) -> Windows:
    return Windows(here, there)


def count() -> None:
    session.update_or("hits", 1, lambda hits: hits + 1)  # type: ignore[attr-defined]


def log_out() -> None:
    session.clear()


def test_a_counter_is_exact_on_two_processes(windows: Windows) -> None:
    for n in range(1, 6):
        windows.here().does(count)
        assert windows.there().data == {"hits": 2 * n - 1}
        windows.there().does(count)
        assert windows.here().data == {"hits": 2 * n}


def test_a_page_that_reads_asks_the_store_nothing(windows: Windows, here: Process) -> None:
    windows.here().does(count)
    here.store.calls.clear()
    assert windows.here().data == {"hits": 1}
    assert here.store.calls == []


def test_two_tabs_on_two_processes_lose_nothing(windows: Windows) -> None:
    windows.here().does(count)
    tab = windows.browser.twin()
    tab.app = windows.apps[1]
    assert tab.data == {"hits": 1}  # from now on in that cache
    windows.here().does(count)
    tab.does(count)
    windows.browser.cookies = tab.cookies  # as browsers do
    assert windows.here().data == tab.data == {"hits": 3}


def test_a_sign_in_and_a_log_out_count_at_once_for_the_browser(windows: Windows) -> None:
    windows.here().does(count)
    windows.there().does(sign_in)
    assert windows.here().data == {"hits": 1, "_user_id": "ann"}
    assert fate(windows.there().does(log_out)) == DELETED
    assert windows.here().data == {}


def test_a_copied_cookie_outlives_a_log_out_elsewhere_by_max_age(windows: Windows, clock: Clock) -> None:
    windows.here().does(sign_in)
    thief = windows.browser.twin()
    thief.app = windows.apps[1]
    assert thief.data == {"_user_id": "ann"}
    windows.here().does(log_out)
    clock.advance(MAX_AGE - 0.001)
    assert thief.data == {"_user_id": "ann"}
    clock.advance(0.001)
    assert thief.data == {}
    for app in windows.apps:
        thief.app = app
        assert thief.data == {}


def test_a_copied_cookie_writes_nothing_after_a_log_out_elsewhere(windows: Windows) -> None:
    windows.here().does(sign_in)
    thief = windows.browser.twin()
    thief.app = windows.apps[1]
    assert thief.data == {"_user_id": "ann"}
    windows.here().does(log_out)
    response = thief.does(count)
    assert fate(response) != SET
    assert thief.data == {}


def test_where_the_log_out_was_a_copied_cookie_is_dead_at_once(windows: Windows, here: Process) -> None:
    windows.here().does(sign_in)
    thief = windows.browser.twin()
    windows.here().does(log_out)
    here.store.calls.clear()
    assert thief.data == {}
    assert here.store.calls == []


def test_pages_are_served_whatever_the_cache_does(windows: Windows, here: Process) -> None:
    here.cache.fail(times=None)
    for n in range(1, 4):
        assert windows.here().does(count).status_code == 200
        assert windows.here().data == {"hits": n}
    assert fate(windows.here().does(log_out)) == DELETED


def test_a_session_goes_on_from_the_stores_own_days(clock: Clock, here: Process) -> None:
    """A cache can be put before a store, and taken away, without anybody noticing."""
    browser = started(make_app(here.store.store), hits=1)
    for store in (here, here.store.store):
        browser.app = make_app(store)
        browser.does(count)
    assert browser.data == {"hits": 3}


def test_a_pair_of_urls_works(valkey: servers.RedisServer, shared_database: t.Callable[..., t.Any]) -> None:
    """Valkey before PostgreSQL, as the README has it."""
    url = shared_database("postgresql").url
    t.cast("t.Any", from_url(url)).create_schema()
    app = make_app((valkey.url, url), SESSION_KEY_PREFIX=f"{uuid4()}:")
    browser = started(app, hits=1)
    browser.does(count)
    assert browser.data == {"hits": 2}
    browser.does(log_out)
    assert browser.data == {}
