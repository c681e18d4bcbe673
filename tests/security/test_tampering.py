"""Tampering: a token is believed exactly as it was sent, or not at all."""

from __future__ import annotations

import string
import typing as t
from urllib.parse import quote

import pytest
from attacks import PROTECTIONS, peek, target
from http_support import Browser, started, watch

from flask_sessionstore import SessionStore, session
from flask_sessionstore.stores.cookie import CookieStore
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.testing import Clock

SAFE = string.ascii_letters + string.digits + "-_"

STORES: dict[str, t.Callable[[], SessionStore]] = {"cookie": CookieStore, "memory": MemoryStore}


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return t.cast("str", request.param)


@pytest.fixture(params=PROTECTIONS)
def user(kind: str, request: pytest.FixtureRequest, clock: Clock) -> Browser:
    """A browser that is signed in."""
    app = target(STORES[kind](), clock, SESSION_COOKIE_CONTENT_SECURITY=request.param)
    return started(app, _user_id="ann")


def check_refused(user: Browser, texts: t.Iterable[str]) -> None:
    """None of these is the session, or any; and a cookie that is not ours is left alone."""
    assert peek(user.app, f"session={user.cookie}") == {"_user_id": "ann"}
    assert [text for text in texts if peek(user.app, f"session={text}")] == []


def test_no_character_of_a_token_can_be_changed(user: Browser) -> None:
    token = t.cast("str", user.cookie)
    check_refused(
        user,
        (
            token[:position] + other + token[position + 1 :]
            for position, character in enumerate(token)
            # Another bit, another case, another character of the alphabet, one from without.
            for other in {chr(ord(character) ^ 1), character.swapcase(), SAFE[position % 64], "~"} - {character}
        ),
    )


def test_no_token_can_be_cut_or_lengthened(user: Browser) -> None:
    token = t.cast("str", user.cookie)
    cut = [part for n in range(len(token)) for part in (token[:n], token[n + 1 :])]
    longer = [f"{more}{token}" for more in ("A", ".", "=", "AAAA")] + [f"{token}{more}" for more in ("A", ".", "AAAA")]
    check_refused(user, [*cut, *longer, token * 2, f"{token}.{token}", token[::-1]])


def test_a_token_has_one_spelling(user: Browser) -> None:
    token = t.cast("str", user.cookie)
    half = len(token) // 2
    check_refused(
        user,
        [
            token + "=",
            token + "==",
            token.replace(".", "=.", 1) if "." in token else token + "===",
            token.replace("-", "+").replace("_", "/") + "=",
            token.upper(),
            token.lower(),
            quote(token, safe="") + "%20",
            "".join(f"%{ord(character):02X}" for character in token),
            token[:half] + " " + token[half:],
            token[:half] + "\t" + token[half:],
            token[:half] + '"' + token[half:],
            token[:half] + "%00" + token[half:],
            token[:half] + "\x00" + token[half:],
            token.encode("utf-16-be").decode("latin-1"),
            "\xef\xbb\xbf" + token,
            token.replace(token[3], chr(0x100 + ord(token[3]) % 0x80).encode().decode("latin-1"), 1),
        ],
    )


def test_parts_of_two_tokens_make_no_third(user: Browser) -> None:
    other = started(user.app, _user_id="eve", note="x")
    ann, eve = t.cast("str", user.cookie), t.cast("str", other.cookie)
    mixed = [ann[:n] + eve[n:] for n in range(1, min(len(ann), len(eve)))] if len(ann) == len(eve) else []
    parts = zip(ann.split("."), eve.split("."), strict=True)
    swapped = [".".join(pair[i == n] for i, pair in enumerate(parts)) for n in range(3)] if "." in ann else []
    check_refused(user, [*(set(mixed) - {ann, eve}), *swapped, f"{ann}{eve}", f"{ann},{eve}"])


def test_what_was_tampered_with_is_refused_before_the_store_is_asked(user: Browser, kind: str) -> None:
    store = user.app.session_interface.store  # type: ignore[attr-defined]
    calls = watch(store)
    token = t.cast("str", user.cookie)
    for text in (token[:-1] + ("A" if token[-1] != "A" else "E"), token[:-2], "A" * 43, ""):
        Browser(user.app, text).does(lambda: session.get("_user_id"))
    assert calls == []
