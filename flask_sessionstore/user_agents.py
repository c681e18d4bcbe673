"""What a record says about the browser that signed in: only its name, its system and its address.

A user agent is a list of products that a browser claims to be. It is shortened to the names by which people know their
devices. Versions and the rest are not kept, since they could identify a browser. A client may send any text as its user
agent: so the result is kept short, and nothing relies on it.
"""

from __future__ import annotations

import ipaddress
import re

_MAX_READ = 500  # characters of a user agent; real browsers send fewer

# In this order, since nearly all browsers claim to be Chrome, Safari or both besides their own name.
_BROWSERS = (
    (r"\bEdg(e|A|iOS)?/", "Edge"),
    (r"\b(OPR|OPT|Opera)/", "Opera"),
    (r"\bSamsungBrowser/", "Samsung Internet"),
    (r"\bVivaldi/", "Vivaldi"),
    (r"\bYaBrowser/", "Yandex Browser"),
    (r"\b(DuckDuckGo|Ddg)/", "DuckDuckGo"),
    (r"\bHuaweiBrowser/", "Huawei Browser"),
    (r"\bUCBrowser/", "UC Browser"),
    (r"\bSilk/", "Silk"),
    (r"\b(Firefox|FxiOS)/", "Firefox"),
    (r"\b(HeadlessChrome|Chrome|Chromium|CriOS)/", "Chrome"),
    (r"\bVersion/[\d.]+ (Mobile/\w+ )?Safari/", "Safari"),
)
_SYSTEMS = (
    (r"\biPhone\b", "iPhone"),
    (r"\biPad\b", "iPad"),
    (r"\bAndroid\b", "Android"),
    (r"\bCrOS\b", "ChromeOS"),
    (r"\bWindows\b", "Windows"),
    (r"\bMac OS X\b|\bMacintosh\b", "macOS"),
    (r"\bLinux\b", "Linux"),
)
_PRODUCT = re.compile(r"[A-Za-z][\w .-]{0,38}\w", re.ASCII)


def describe_client(user_agent: str, address: str | None) -> str | None:
    """For people: "Firefox on Linux, 192.0.2.7"; None if there is nothing to say.

    :param user_agent: as the browser sent it; an unknown browser is shown by the name of its first product.
    :param address: as Flask has it (``request.remote_addr``). A proxy may have put anything there: what is not an IP
        address is left out.
    """
    user_agent = user_agent[:_MAX_READ]
    browser = _first(_BROWSERS, user_agent) or _first_product(user_agent)
    device = " on ".join(filter(None, (browser, _first(_SYSTEMS, user_agent))))
    return ", ".join(filter(None, (device, _address(address)))) or None


def _first(table: tuple[tuple[str, str], ...], user_agent: str) -> str | None:
    return next((name for pattern, name in table if re.search(pattern, user_agent)), None)


def _first_product(user_agent: str) -> str | None:
    """The name before the first slash, for programs that are not browsers: "curl". Browsers write Mozilla there."""
    product = user_agent.partition("/")[0]
    return product if product != "Mozilla" and _PRODUCT.fullmatch(product) else None


def _address(address: str | None) -> str | None:
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])  # an interface's name says nothing here
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)
