"""``flask sessions list``: which sessions, in which order, how many; and handles that people shorten."""

from __future__ import annotations

import json
import re
import typing as t
from datetime import UTC, datetime, timedelta

import pytest
from cli_support import error, handle_of, output, run, shop
from flask import Flask
from http_support import started
from views import renew

from flask_sessionstore.cli import rendering, times
from flask_sessionstore.layout import pack
from flask_sessionstore.record import Record
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

DAY = timedelta(days=1)
#: Handles by the session's name.
NAMES = {"ada1": "a1" * 32, "ada2": "a2" * 32, "bob": "b0" * 32, "cart": "c0" * 32, "broken": "d0" * 32}


@pytest.fixture
def kept(clock: Clock) -> MemoryStore:
    """Sessions of two owners and of nobody, that were made an hour apart, and a damaged record."""
    store = MemoryStore()
    store.clock = clock

    def keep(name: str, ttl: timedelta, size: int, owner: str | None = None, client: str | None = None) -> None:
        record = Record(state={"x": bytes(size)}, owner=owner, client=client).written(store._now_ms(), ttl)
        store.add(NAMES[name], pack(record, NAMES[name]), ttl)
        clock.advance(3600)

    keep("ada1", 9 * DAY, 100, "ada", "Firefox on Linux, 192.0.2.7")
    keep("bob", 7 * DAY, 3000, "bob", "Safari on iPhone, 198.51.100.23")
    keep("cart", 8 * DAY, 2000)
    keep("ada2", 6 * DAY, 50, "ada")
    store.add(NAMES["broken"], b"\1" + b"!" * 86 + b"\xd0" * 8 + b"!" * 10, DAY)
    return store


def names(app: Flask, *args: str) -> list[str]:
    """The names of the sessions that a list has."""
    rows = json.loads(output(app, "list", *args, "--json"))
    return [name for row in rows for name, handle in NAMES.items() if handle == row["handle"]]


# -- which -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("", "ada1 ada2 bob broken cart"),
        ("--owner ada", "ada1 ada2"),
        ("--anonymous", "cart"),
        ("--client FIREFOX", "ada1"),
        ("--client 198.51", "bob"),
        ("--idle 3h", "ada1 bob"),
        ("--idle 180m", "ada1 bob"),
        ("--idle 10800", "ada1 bob"),
        ("--idle 10801s", "ada1"),
        ("--idle 1d", ""),
        (f"--idle {10**30}d", ""),
        ("--larger 1k", "bob cart"),
        ("--larger 50", "ada1 ada2 bob broken cart"),
        ("--larger 1MB", ""),
        ("--owner ada --client firefox", "ada1"),
        ("--anonymous --larger 3000", ""),
    ],
)
def test_options_choose_sessions(kept: MemoryStore, args: str, expected: str) -> None:
    assert sorted(names(shop(kept), *args.split())) == expected.split()


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("created", "ada2 cart bob ada1 broken"),
        ("extended", "ada2 cart bob ada1 broken"),
        ("expires", "ada2 bob cart ada1 broken"),
        ("size", "bob cart ada1 ada2 broken"),
        ("owner", "ada1 ada2 bob cart broken"),
    ],
)
def test_a_list_can_be_sorted(kept: MemoryStore, by: str, expected: str) -> None:
    """(Where two are equal, in the order in which the store has them.)"""
    app = shop(kept)
    assert names(app, "--sort", by) == expected.split()
    assert names(app, "--sort", by, "--limit", "2") == expected.split()[:2]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--owner", "ada", "--anonymous"), "--owner and --anonymous exclude each other"),
        (("--idle", "soon"), "give a number of seconds, or a number with s, m, h or d"),
        (("--larger", "-1"), "give a number of bytes, or a number with k or M"),
        (("--sort", "beauty"), "'beauty'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_chosen_is_an_error(args: tuple[str, ...], said: str) -> None:
    assert said in error(shop(MemoryStore()), "list", *args, code=2)


# -- how many --------------------------------------------------------------------------------------------------------


def test_a_list_for_people_has_fifty_sessions_and_says_how_many_more() -> None:
    app = shop(MemoryStore())
    for number in range(53):
        started(app, cart=number)
    for args, more in (((), 3), (("--limit", "2"), 51), (("--limit", "2", "--sort", "created"), 51)):
        result = run(app, "list", *args, apart=True)
        assert len(result.stdout.splitlines()) == 1 + 53 - more
        assert result.stderr == f"{more} more: see --limit.\n"
    assert run(app, "list", "--limit", "53", apart=True).stderr == ""
    assert len(json.loads(output(app, "list", "--json"))) == 53


# -- 80 columns ------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[int], None]:
    """Let the output go to a terminal of this width."""
    return lambda width: monkeypatch.setattr(rendering, "terminal_width", lambda: width)


def test_a_list_fits_into_a_terminal(kept: MemoryStore, terminal: t.Callable[[int], None]) -> None:
    app = shop(kept, SESSION_RECORD_CLIENT=True)
    terminal(80)
    shown = output(app, "list")
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(
        r"^b0b0b0b0b0b0  3 h ago       in 7 days     bob             Safari on iPhone, 19\.\.$", shown, re.MULTILINE
    )
    assert re.search(r"^d0d0d0d0d0d0  \(damaged\) ", shown, re.MULTILINE)
    terminal(120)
    assert "Safari on iPhone, 198.51.100.23" in output(app, "list")


def test_a_wide_list_has_whole_handles_and_exact_times(kept: MemoryStore, terminal: t.Callable[[int], None]) -> None:
    terminal(80)
    shown = output(shop(kept), "list", "--wide")
    line = next(line for line in shown.splitlines() if line.startswith(NAMES["bob"]))
    times_of_bob = "2026-01-01T01:00:00Z  2026-01-01T01:00:00Z  2026-01-08T01:00:00Z"
    assert line == f"{NAMES['bob']}  {times_of_bob}  3135      bob                   Safari on iPhone, 198.51.100.23"


def test_in_a_pipe_times_are_exact_and_nothing_is_cut_off(kept: MemoryStore) -> None:
    shown = output(shop(kept), "list")
    assert re.search(
        r"^b0b0b0b0b0b0  2026-01-01T01:00:00Z  2026-01-08T01:00:00Z  bob +Safari on iPhone, 198.51.100.23$",
        shown,
        re.MULTILINE,
    )


def test_long_lines_are_folded_in_a_terminal(kept: MemoryStore, terminal: t.Callable[[int], None]) -> None:
    terminal(80)
    app = shop(kept)
    shown = output(app, "show", NAMES["bob"])
    assert "expires_at   2026-01-08T01:00:00Z (in 7 days)\n" in shown
    checked = run(app, "check").output
    assert max(map(len, checked.splitlines())) <= 80
    assert "SESSION_LOGIN_KEYS               user_id, userid, uid, user, username,\n" + " " * 33 in checked


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "now"),
        (0.4, "now"),
        (1, "in 1 s"),
        (-59, "59 s ago"),
        (-60, "1 min ago"),
        (-1800, "30 min ago"),
        (-3540, "59 min ago"),
        (-3599, "1 h ago"),
        (3600 * 47, "in 47 h"),
        (3600 * 48, "in 2 days"),
        (86400 * 14 - 0.5, "in 14 days"),
        (-86400 * 400, "400 days ago"),
    ],
)
def test_times_are_told_by_how_far_they_are_from_now(seconds: float, said: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert times.relative(now + timedelta(seconds=seconds), now) == said


# -- handles ---------------------------------------------------------------------------------------------------------


def test_as_many_digits_as_only_one_session_has_are_enough(server_store: ServerSideStore) -> None:
    app = shop(server_store)
    browser = started(app, user="ada")
    handle = handle_of(browser)
    if type(server_store).__name__ == "MemcachedStore":
        assert "give all 64 digits" in error(app, "show", handle[:12])
        return
    for digits in (1, 12, 63):
        assert json.loads(output(app, "show", handle[:digits], "--json"))["handle"] == handle
    assert output(app, "revoke", handle[:12]) == "1 ended\n"
    assert browser.data == {}
    assert error(app, "show", handle[:12]) == "Error: this session was revoked"
    assert error(app, "revoke", handle[:12]) == "Error: there is no session under this handle"


def test_digits_that_two_sessions_have_are_an_error(kept: MemoryStore) -> None:
    app = shop(kept)
    for command in ("show", "revoke"):
        said = error(app, command, "a")
        assert said == "Error: 2 sessions have a handle that begins with a: give more digits"
        assert error(app, command, "e") == "Error: there is no session under this handle"
    assert len(names(app)) == 5


def test_the_first_digits_of_a_session_that_went_say_how(clock: Clock) -> None:
    store = MemoryStore()
    app = shop(store)
    browser = started(app, user="ada")
    before = handle_of(browser)
    browser.does(renew)
    assert error(app, "show", before[:12]).startswith("Error: this session was renewed, and goes on as ")
    assert output(app, "revoke", before[:12]) == "1 ended\n"
    assert browser.data == {}


def test_a_mark_is_no_session(clock: Clock) -> None:
    store = MemoryStore()
    store.mark("e" * 64, "f" * 64, DAY)
    assert error(shop(store), "show", "e") == "Error: there is no session under this handle"


@pytest.mark.parametrize("text", ["", "A" * 12, "g", "a" * 65, "-"])
def test_what_is_not_hexadecimal_is_not_a_handle(text: str) -> None:
    said = error(shop(MemoryStore()), "show", "--", text, code=2)
    assert said == "Error: a HANDLE is 64 hexadecimal digits in lower case, or the first of them"
