"""The Cookie header is heard as browsers write it, and as Flask's own session hears it: two readers, one answer."""

from __future__ import annotations

import re
import typing as t

import pytest
from attacks import peek, send, target
from flask import Request, session
from http_support import Browser, started
from hypothesis import example, given
from hypothesis import strategies as st

from flask_sessionstore.interface import _Browser
from flask_sessionstore.stores.memory import MemoryStore

APP = target(MemoryStore())
#: Three cookies that we made. A number in braces stands for one of them below.
MADE = [str(started(APP, _user_id=name).cookie) for name in ("ann", "bob", "eve")]
ESCAPED = "".join(f"\\{ord(character):03o}" for character in MADE[0])


def request_with(header: str) -> Request:
    return Request({"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "HTTP_COOKIE": header})


def heard_by_us(header: str) -> list[str]:
    """The cookies of ours that are found in a header."""
    browser = _Browser(t.cast("t.Any", APP.session_interface), APP, request_with(header))
    keys = [str(token.key) for token in browser.tokens()]
    return [made for key in keys for made in MADE if made.startswith(f"{key}.")]


def heard_by_flask(header: str) -> list[str]:
    """The same, by what Flask's own session reads. (It takes the first; we look at all of them.)"""
    values = request_with(header).cookies.getlist("session")
    return list(dict.fromkeys(value for value in values if value in MADE))


def filled(header: str) -> str:
    return re.sub(r"\{(\d)\}", lambda match: MADE[int(match[1])], header).replace("{escaped}", ESCAPED)


def is_quoted_across(header: str) -> bool:
    """Whether a quotation may go on behind a semicolon."""
    return any(part.count('"') % 2 for part in header.split(";"))


ODD = [
    "session={0}",
    "session={0}; session={1}",
    "session={1};session={0};session={1}",
    "session={0};",
    ";session={0}",
    ";;; ;session={0};;",
    "session={0}; session",
    "session; session={0}",
    "session=; session={0}",
    "session; =; session={0}",
    "=session={0}",
    "= session={0}",
    "==; session={0}",
    "session=={0}",
    "session={0}=",
    "session = {0}",
    "session\t=\t{0}\t",
    "  session={0}  ",
    "session={0} {1}",
    "session={0} ; x",
    'session="{0}"',
    'session=""{0}""',
    'session="{0}',
    'session={0}"',
    "session='{0}'",
    'session=" {0} "',
    'session= "{0}" ',
    'session="{0}" x',
    'session="{escaped}"',
    "session={escaped}",
    '"session"={0}',
    'a="b"; session={0}',
    'a="; session={0}',
    'a=b"; session={0}',
    '"; session={0}',
    "Session={0}",
    "SESSION={0}; session={1}",
    "sessions={0}",
    "xsession={0}",
    "x session={0}",
    "session x={0}",
    "x=session={0}",
    "$Version=1; session={0}; $Path=/",
    "session={0}, session={1}",
    "session={0},session={1}",
    "a=1, session={0}",
    "a=1,session={0}; session={1}",
    "a=1; session={0}, b=2; session={1}",
    "session={0}\r\n session={1}",
    "session={0}\x00; session={1}",
    "session\x00={0}",
    "session[0]={0}",
    "session%3D={0}",
    "%73ession={0}",
    "session={0}%00",
    "s\xe9ssion=x; session={0}",
    "a=\xff\xfe; session={0}",
]


@pytest.mark.parametrize("header", ODD)
def test_of_an_odd_header_flask_and_we_hear_the_same(header: str) -> None:
    header = filled(header)
    assert heard_by_us(header) == heard_by_flask(header)


names = st.sampled_from(3 * ["session"] + ["Session", "session2", "xsession", "a", "", '"session"', "s s"])
PLAIN, QUOTED = ["{0}", "{1}", "{2}", "{0}=", "{0} {1}"], ['"{0}"', '""{0}""', '"{1}', '{1}"', '"{escaped}"']
values = st.sampled_from([*PLAIN, *QUOTED, '"', "", "=", "x\\"])
OTHER_BLANKS = "\x85\xa0\x1c\x1d\x1e\x1f"  # which older releases of Werkzeug cut off: see below
rests = st.text(st.characters(codec="latin-1", exclude_characters=OTHER_BLANKS), max_size=5)
blanks = st.sampled_from(["", "", "", " ", "\t", " \t "])
equals = st.sampled_from(["=", "=", "=", "==", ""])
joints = st.sampled_from(["; ", "; ", ";", ";;", ",", ", "])


@st.composite
def headers(draw: st.DrawFn) -> str:
    """Headers as browsers, proxies and attackers may write them."""
    header = ""
    for _ in range(draw(st.integers(1, 6))):
        pair = [draw(part) for part in (blanks, names, blanks, equals, blanks, values, blanks, joints)]
        header += "".join(pair)
    return header + draw(rests)


@given(header=headers())
@example('a="x; session={0}; b=y"')
def test_of_any_header_flask_and_we_hear_the_same(header: str) -> None:
    header = filled(header)
    # Browsers know nothing of quotes: each part is a cookie.
    of_each_part = [value for part in header.split(";") for value in heard_by_flask(part)]
    assert heard_by_us(header) == list(dict.fromkeys(of_each_part))
    if not is_quoted_across(header):
        assert heard_by_us(header) == heard_by_flask(header)


def test_two_cookies_with_a_quote_hide_none_that_lies_between_them() -> None:
    """Who may set cookies for the host, could otherwise keep the visitor signed out, or have the value echoed."""
    assert heard_by_us(filled('a="x; session={0}; b=y"')) == [MADE[0]]


#: What some parsers take for a blank, and browsers for a part of the name: in Latin-1, and as UTF-8.
NO_BLANKS = ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\xc2\xa0", "\xc2\x85", "\xe2\x80\x83"]


@pytest.mark.parametrize("blank", NO_BLANKS)
@pytest.mark.parametrize("name", ["session", "__Host-session"])
def test_a_name_that_begins_or_ends_with_no_true_blank_is_another_name(name: str, blank: str) -> None:
    """A host beside ours may not set ``__Host-session``; but it may set one with U+00A0 before it, for the domain."""
    app = target(MemoryStore(), SESSION_COOKIE_NAME=name, SESSION_COOKIE_SECURE=True)
    attacker, visitor = Browser(app, name=name), Browser(app, name=name)
    for browser, who in ((attacker, "eve"), (visitor, "ann")):
        browser.does(lambda: session.update(_user_id=who))  # noqa: B023  - called at once
    for planted in (f"{blank}{name}", f"{name}{blank}", f" {blank}{name}"):
        assert peek(app, f"{planted}={attacker.cookie}") == {}
        assert peek(app, f"{planted}={attacker.cookie}; {name}={visitor.cookie}") == {"_user_id": "ann"}
        assert peek(app, f"{name}={visitor.cookie}; {planted}={attacker.cookie}") == {"_user_id": "ann"}
    assert send(app, f"{blank}{name}={attacker.cookie}").status_code == 200
