"""Headers beyond all measure: cheap to refuse, and no way to hide a session or to make up one."""

from __future__ import annotations

import tracemalloc

import pytest
from attacks import PROTECTIONS, identity, peek, send, target
from flask import Flask
from http_support import KEPT, Browser, fate, started, watch

from flask_sessionstore import session
from flask_sessionstore.stores.memory import MemoryStore

LENGTH = 256 * 1024  # more than any server lets through


@pytest.fixture(params=PROTECTIONS)
def app(request: pytest.FixtureRequest) -> Flask:
    return target(MemoryStore(), SESSION_COOKIE_CONTENT_SECURITY=request.param)


@pytest.fixture
def user(app: Flask) -> Browser:
    return started(app, _user_id="ann")


@pytest.mark.parametrize("piece", ["A", ".", "=", ";", '"', " ", "\xff", "\x00", "session=", ";session=", ";session=."])
def test_a_long_header_is_no_session_and_costs_a_dozen_times_its_length(app: Flask, piece: str) -> None:
    """What is not looked for is not parsed."""
    header = f"session={piece * (LENGTH // len(piece))}"
    assert peek(app, header) == {}  # whatever is made once is made by now
    tracemalloc.start()
    assert peek(app, header) == {}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * LENGTH


def test_among_hundreds_of_other_cookies_the_session_is_found(user: Browser) -> None:
    others = "; ".join(f"c{n}={'x' * 50}" for n in range(500))
    for header in (f"{others}; session={user.cookie}", f"session={user.cookie}; {others}"):
        assert peek(user.app, header) == {"_user_id": "ann"}


def test_names_like_ours_are_not_ours(user: Browser) -> None:
    for name in (
        "Session",
        "SESSION",
        "xsession",
        "session2",
        "session\xa0",
        "\xa0session",
        "\x85session",
        "\x1csession",
        "\u2003session".encode().decode("latin-1"),
        "session\x00",
        "__Host-session",
    ):
        assert peek(user.app, f"{name}={user.cookie}") == {}


def test_hundreds_of_cookies_of_our_name_hide_nothing(user: Browser) -> None:
    """What is forged costs a signature and no look into the store."""
    store = user.app.session_interface.store  # type: ignore[attr-defined]
    calls = watch(store)
    forged = [f"session={'A' * 43}.{'A' * 18}.{n:043}" for n in range(300)]
    header = "; ".join([*forged, f"session={user.cookie}"])
    assert peek(user.app, header) == {"_user_id": "ann"}
    assert fate(send(user.app, header, lambda: session.get("_user_id"))) == KEPT
    assert calls == ["load", "load"]


def test_all_are_looked_at_whatever_their_order(user: Browser) -> None:
    forged = [f"session=forged{n}" for n in range(9)]
    for position in range(10):
        cookies = [*forged[:position], f"session={user.cookie}", *forged[position:]]
        assert peek(user.app, "; ".join(cookies)) == {"_user_id": "ann"}
    assert identity(user)
