"""``flask sessions revoke``: how many would end, who is kept; and long commands that are interrupted."""

from __future__ import annotations

import json
import signal
import typing as t
from datetime import timedelta

import pytest
from cli_support import error, handle_of, output, run, shop
from flask import Flask
from http_support import Browser, started
from views import renew

from flask_sessionstore import SessionKey
from flask_sessionstore.cli import progress
from flask_sessionstore.layout import pack
from flask_sessionstore.record import Record
from flask_sessionstore.stores import Entry, ServerSideStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

DAY = timedelta(days=1)


def data(app: Flask, *args: str) -> t.Any:
    return json.loads(output(app, *args, "--json"))


# -- only counted ----------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_and_ends_nothing(index: ServerSideStore) -> None:
    app = shop(index)
    browsers = [started(app, user="ada"), started(app, user="ada"), started(app, cart=1)]
    index.add("d" * 64, b"\1" + b"!" * 86 + b"\xdd" * 8 + b"!" * 10, DAY)
    handle = handle_of(browsers[0])
    for args, count in ((("--all",), 4), (("--owner", "ada"), 2), ((handle,), 1), (("d" * 64,), 1)):
        assert output(app, "revoke", *args, "--dry-run") == f"{count} would end\n"
        assert data(app, "revoke", *args, "--dry-run") == {"ended": 0, "would_end": count}
    assert data(app, "revoke", "--all", "--keep", handle, "--dry-run")["would_end"] == 3
    assert data(app, "revoke", "--owner", "ada", "--keep", handle, "--dry-run")["would_end"] == 1
    assert error(app, "revoke", "e" * 64, "--dry-run") == "Error: there is no session under this handle"
    assert [bool(browser.data) for browser in browsers] == [True, True, True]


def test_a_dry_run_follows_a_session_that_was_renewed() -> None:
    app = shop(MemoryStore())
    browser = started(app, user="ada")
    before = handle_of(browser)
    browser.does(renew)
    assert output(app, "revoke", before, "--dry-run") == "1 would end\n"
    assert output(app, "revoke", before) == "1 ended\n"
    assert error(app, "revoke", before, "--dry-run") == "Error: there is no session under this handle"


def test_revoke_says_how_many_before_it_asks() -> None:
    app = shop(MemoryStore())
    for _ in range(3):
        started(app, user="ada")
    asked = run(app, "revoke", "--all", input="n\n")
    assert "End 3 sessions? Everybody will have to sign in again. [y/N]" in asked.output
    kept = handle_of(started(app, user="operator"))
    asked = run(app, "revoke", "--all", "--keep", kept[:12], input="n\n")
    assert "End 3 sessions? Everybody else will have to sign in again. [y/N]" in asked.output
    assert run(app, "revoke", "--all", "--keep", kept, input="y\n").output.endswith("3 ended\n")
    assert run(app, "revoke", "--all", "--keep", kept).output.endswith("0 ended\n"), "nothing to ask about"


# -- who is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [("--all", "--yes"), ("--owner", "ada")], ids=" ".join)
def test_a_session_can_be_kept(index: ServerSideStore, which: tuple[str, ...]) -> None:
    app = shop(index)
    ours, others = started(app, user="ada"), [started(app, user="ada"), started(app, user="ada")]
    assert output(app, "revoke", *which, "--keep", handle_of(ours)[:12]) == "2 ended\n"
    assert ours.data == {"user": "ada"}
    assert [browser.data for browser in others] == [{}, {}]


@pytest.mark.parametrize("which", [("--all", "--yes"), ("--owner", "ada")], ids=" ".join)
def test_a_session_that_is_renewed_meanwhile_is_kept_too(clock: Clock, which: tuple[str, ...]) -> None:
    class Meanwhile(MemoryStore):
        """The session that is kept is renewed when the first of the others ends."""

        kept: Browser | None = None

        def swap(self, handle: str, data: bytes, ttl: timedelta, *, replaces: bytes | None) -> bool:
            kept, self.kept = self.kept, None
            if kept is not None:
                kept.does(renew)
            return super().swap(handle, data, ttl, replaces=replaces)

    store = Meanwhile()
    store.clock = clock
    app = shop(store)
    others = [started(app, user="ada"), started(app, user="ada")]
    ours = started(app, user="ada")
    handle = handle_of(ours)
    clock.advance(1)
    store.kept = ours
    assert output(app, "revoke", *which, "--keep", handle) == "2 ended\n"
    assert ours.data == {"user": "ada"}
    assert [browser.data for browser in others] == [{}, {}]


def test_what_is_kept_must_be_there_and_goes_with_many() -> None:
    app = shop(MemoryStore())
    browser = started(app, user="ada")
    handle = handle_of(browser)
    assert "--keep needs --owner or --all" in error(app, "revoke", handle, "--keep", handle, code=2)
    another = "e" if handle[0] != "e" else "f"
    for missing in (another, another * 64):
        for which in (("--all", "--yes"), ("--owner", "ada"), ("--all", "--dry-run")):
            said = error(app, "revoke", *which, "--keep", missing)
            assert said == "Error: there is no session under this handle"
    assert browser.data == {"user": "ada"}


# -- interrupted -----------------------------------------------------------------------------------------------------


class Interrupted(MemoryStore):
    """Somebody presses Ctrl-C after so many of the sessions."""

    after = 3

    def scan(self) -> t.Iterator[Entry]:
        for _ in range(self.after):
            handle = SessionKey.generate().handle
            yield Entry(handle, pack(Record().written(self._now_ms(), DAY), handle))
        raise KeyboardInterrupt

    def delete_expired(self, limit: int | None = None) -> int:
        if not self.after:
            raise KeyboardInterrupt
        self.after -= 1
        return limit or 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("stats",), "Aborted after 3 counted.\n"),
        (("revoke", "--all", "--yes"), "Aborted after 0 ended.\n"),
        (("revoke", "--all"), "Aborted after 3 counted.\n"),
        (("cleanup", "--batch", "1000"), "Aborted after 3,000 removed.\n"),
        (("list",), "Aborted after 3 read.\n"),
        (("list", "--json"), "Aborted after 3 read.\n"),
        (("list", "--sort", "size"), "Aborted after 3 read.\n"),
        (("list", "--limit", "2"), "Aborted after 1 counted.\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_who_interrupts_a_long_command_is_told_after_how_many(args: tuple[str, ...], said: str) -> None:
    result = run(shop(Interrupted()), *args, apart=True)
    assert result.stderr.endswith(said)
    assert result.exit_code == progress.INTERRUPTED == 128 + signal.SIGINT


def test_copy_is_interrupted_likewise() -> None:
    app = shop(MemoryStore(), OLD_STORE=Interrupted())
    result = run(app, "copy", "OLD_STORE", apart=True)
    assert result.stderr.endswith(" looked at.\n")
    assert result.exit_code == progress.INTERRUPTED
