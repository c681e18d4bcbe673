"""What is kept of a browser: its name, its system, its address; whatever it sends."""

from __future__ import annotations

import time
import typing as t

import pytest
from http_support import make_app
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_sessionstore import SessionManager, session
from flask_sessionstore.manager import EXTENSION
from flask_sessionstore.stores.memory import MemoryStore
from flask_sessionstore.user_agents import describe_client

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
X11 = "Mozilla/5.0 (X11; Linux x86_64)"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0"
WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"

BROWSERS = {
    f"{WINDOWS} {BLINK} Safari/537.36": "Chrome on Windows",
    f"{MAC} {BLINK} Safari/537.36": "Chrome on macOS",
    f"{X11} {BLINK} Safari/537.36": "Chrome on Linux",
    f"{X11} {BLINK.replace('Chrome', 'HeadlessChrome')} Safari/537.36": "Chrome on Linux",
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {BLINK} Safari/537.36": "Chrome on ChromeOS",
    f"{ANDROID} {BLINK} Mobile Safari/537.36": "Chrome on Android",
    f"{IPHONE} {WEBKIT} CriOS/142.0.7444.77 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
    # An application's web view.
    "Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP4A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0"
    " Chrome/142.0.0.0 Mobile Safari/537.36": "Chrome on Android",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0": "Firefox on Windows",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:145.0) Gecko/20100101 Firefox/145.0": "Firefox on macOS",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0": "Firefox on Linux",
    "Mozilla/5.0 (X11; FreeBSD amd64; rv:145.0) Gecko/20100101 Firefox/145.0": "Firefox",
    "Mozilla/5.0 (Android 15; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0": "Firefox on Android",
    f"{IPHONE} {WEBKIT} FxiOS/145.0 Mobile/15E148 Safari/605.1.15": "Firefox on iPhone",
    f"{MAC} {WEBKIT} Version/26.0 Safari/605.1.15": "Safari on macOS",
    f"{IPHONE} {WEBKIT} Version/26.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
    f"Mozilla/5.0 (iPad; CPU OS 16_7 like Mac OS X) {WEBKIT} Version/16.6 Mobile/15E148 Safari/604.1": "Safari on iPad",
    f"{WINDOWS} {BLINK} Safari/537.36 Edg/142.0.0.0": "Edge on Windows",
    f"{ANDROID} {BLINK} Mobile Safari/537.36 EdgA/142.0.0.0": "Edge on Android",
    f"{IPHONE} {WEBKIT} Version/18.0 EdgiOS/142.0.0.0 Mobile/15E148 Safari/605.1.15": "Edge on iPhone",
    f"{WINDOWS} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/70.0.3538.102 Safari/537.36 Edge/18.1": "Edge on Windows",
    f"{WINDOWS} {BLINK} Safari/537.36 OPR/126.0.0.0": "Opera on Windows",
    f"{IPHONE} {WEBKIT} Version/18.6 Mobile/15E148 Safari/604.1 OPT/5.7.0": "Opera on iPhone",
    f"{ANDROID} AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile"
    " Safari/537.36": "Samsung Internet on Android",
    f"{X11} {BLINK} Safari/537.36 Vivaldi/7.6": "Vivaldi on Linux",
    f"{WINDOWS} {BLINK} YaBrowser/25.10.0.0 Safari/537.36": "Yandex Browser on Windows",
    f"{IPHONE} {WEBKIT} Version/18.6 Mobile/15E148 DuckDuckGo/7 Safari/605.1.15": "DuckDuckGo on iPhone",
    f"{MAC} {WEBKIT} Version/18.6 Safari/605.1.15 Ddg/18.6": "DuckDuckGo on macOS",
    f"{ANDROID} {BLINK} HuaweiBrowser/16.0.0.302 Mobile Safari/537.36": "Huawei Browser on Android",
    f"{ANDROID} {BLINK} UCBrowser/13.4.0.1306 Mobile Safari/537.36": "UC Browser on Android",
    "Mozilla/5.0 (Linux; Android 11; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/120.4.1 like"
    " Chrome/120.0.6099.230 Safari/537.36": "Silk on Android",
    # What is no browser, or none that says its name.
    f"{IPHONE} {WEBKIT} Mobile/15E148": "iPhone",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko": "Windows",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": None,
    "curl/8.14.1": "curl",
    "python-requests/2.32.5": "python-requests",
    "Go-http-client/2.0": "Go-http-client",
    "MyShop/2.1 (iPhone; iOS 18.6; Scale/3.00)": "MyShop on iPhone",
    "Dalvik/2.1.0 (Linux; U; Android 15; Pixel 9 Build/AP4A)": "Dalvik on Android",
}


@pytest.mark.parametrize("user_agent", BROWSERS, ids=[f"{n}: {name}" for n, name in enumerate(BROWSERS.values())])
def test_a_browser_is_known_by_its_name(user_agent: str) -> None:
    assert describe_client(user_agent, None) == BROWSERS[user_agent]


@pytest.mark.parametrize(
    "user_agent",
    [
        "",
        "   ",
        "/",
        "Mozilla/5.0",
        "<script>alert(1)</script>/1.0",
        "'; DROP TABLE flask_sessions; --/1",
        "x\r\nSet-Cookie: session=1/1.0",
        "a\x00b/1.0",
        "\x1b[31mred/1.0",
        "\udc80\udcff/1.0",
        "Æther/1.0",
        "\u202egnp.exe/1.0",
        "A" * 41 + "/1.0",
        "A" * 100_000,
        "%s%n{0}/1.0",
        "../../etc/passwd",
    ],
    ids=ascii,
)
def test_what_is_no_name_is_left_out(user_agent: str) -> None:
    assert describe_client(user_agent, None) is None
    assert describe_client(user_agent, "192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize(
    "user_agent",
    [
        "Version/1.1 " * 5000,
        "Version/" + "1." * 30_000,
        "Version/1 Mobile/" + "a" * 60_000,
        "a.-" * 20_000,
        " " * 60_000,
    ],
    ids=lambda text: text[:20],
)
def test_a_huge_one_takes_no_time(user_agent: str) -> None:
    start = time.thread_time()  # of this thread alone, however busy the machine is
    assert len(describe_client(user_agent, "2001:db8::7") or "") < 60
    assert time.thread_time() - start < 0.5


def test_one_that_claims_everything_is_one_thing() -> None:
    everything = " ".join(f"{name}/1" for name in ("Firefox", "Chrome", "Safari", "Edg", "OPR", "Vivaldi"))
    assert describe_client(f"(Windows; iPhone; Linux; Android) {everything}", None) == ("Edge on iPhone")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::0:7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%<script>", "fe80::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        (None, None),
        ("", None),
        ("unix:", None),
        ("unknown", None),
        ("<script>alert(1)</script>", None),
        ("192.0.2.7, 192.0.2.8", None),
        ("1" * 100_000, None),
        ("2001:db8::" * 10_000, None),
    ],
    ids=lambda text: str(text)[:20],
)
def test_an_address_is_one(address: str | None, shown: str | None) -> None:
    assert describe_client("", address) == shown
    assert describe_client("curl/8", address) == ("curl" if shown is None else f"curl, {shown}")


@given(st.text(), st.text())
def test_whatever_comes_is_short_and_plain(user_agent: str, address: str) -> None:
    shown = describe_client(user_agent, address)
    assert shown is None or (0 < len(shown) <= 100 and shown.isascii() and shown.isprintable())


# -- as a record keeps it --------------------------------------------------------------------------------------------


def client_of(user_agent: str | None, forwarded: str | None = None, **config: object) -> str | None:
    """What ``find`` shows of the session of a browser that says so, behind a proxy that says where it is."""
    app = make_app(MemoryStore(), **config)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1)  # type: ignore[method-assign]

    @app.get("/in")
    def sign_in() -> str:
        session["_user_id"] = "ann"
        return ""

    headers = {"User-Agent": user_agent, "X-Forwarded-For": forwarded}
    response = app.test_client().get("/in", headers={name: text for name, text in headers.items() if text is not None})
    assert response.status_code == 200
    with app.app_context():
        (info,) = t.cast("SessionManager", app.extensions[EXTENSION]).find("ann")
    return info.client


def test_it_is_kept_if_it_is_asked_for() -> None:
    chrome = f"{ANDROID} {BLINK} Mobile Safari/537.36"
    assert client_of(chrome, "192.0.2.7") is None
    assert client_of(chrome, "192.0.2.7", SESSION_RECORD_CLIENT=True) == "Chrome on Android, 192.0.2.7"


@pytest.mark.parametrize("user_agent", ["", "é" * 300, "x" * 60_000, "\t", "<b>/1"], ids=lambda text: text[:5])
def test_hostile_headers_hurt_nobody(user_agent: str) -> None:
    assert client_of(user_agent, "<script>", SESSION_RECORD_CLIENT=True) is None
