"""Cookies: how they are read and written, which cookies browsers refuse, and which responses caches may keep."""

from __future__ import annotations

import logging
import typing as t
from functools import lru_cache
from hashlib import sha256

from flask.wrappers import Response
from werkzeug.http import dump_cookie, parse_list_header
from werkzeug.sansio.http import parse_cookie

from .errors import ConfigurationError, SessionTooLarge
from .record import Record, largest_keys

logger = logging.getLogger("flask_sessionstore")

#: The size up to which every browser keeps a cookie, in bytes (RFC 6265, section 6.1, asks for at least 4096; some
#: browsers count more than it says).
MAX_COOKIE_SIZE = 4093


# -- the Cookie header ------------------------------------------------------------------------------------------------


def values_of(name: str, header: str) -> list[str]:
    """The different values of the cookies called ``name`` in a Cookie header.

    The header is split as browsers write it: at every semicolon, also within quotes. Our own values never need
    unquoting, so the other cookies are not parsed.
    """
    values = []
    for part in header.split(";"):
        if name in part:
            key, _, value = part.partition("=")
            # Only blanks and tabs, as browsers do: for them a name that begins with, say, U+00A0 is another name.
            if key.strip(" \t") == name:
                value = value.strip(" \t")
                values.append(_unquoted(value) if '"' in value else value)
    return values if len(values) < 2 else list(dict.fromkeys(values))


def _unquoted(value: str) -> str:
    """A cookie's value without the quotes around it, as Werkzeug reads it."""
    if not (len(value) > 1 and value[0] == value[-1] == '"'):
        return value
    return parse_cookie(f"_={value}").get("_", "") if "\\" in value else value[1:-1]


# -- what browsers require of a cookie -----------------------------------------------------------------------------


_SAMESITE = ("Lax", "None", "Strict")

#: Written instead of a cookie's value to delete the cookie: an empty value, and an expiry in the past.
DELETED = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"


@lru_cache(maxsize=64)
def attributes_of(
    name: str, domain: str | None, path: str, secure: bool, httponly: bool, samesite: str | None, partitioned: bool
) -> str:
    """The attributes after a cookie's value and expiry, as Werkzeug writes them.

    A response that deletes the cookie has to send the same attributes. They are made once for each set of
    settings, since making them is a third of the cost of a cookie.

    :raises ConfigurationError: if browsers would silently drop such a cookie.
    """
    check_cookie(name, domain, path, secure, samesite, partitioned)
    header = dump_cookie(
        name,
        domain=domain,
        path=path,
        secure=secure,
        httponly=httponly,
        samesite=samesite,
        partitioned=partitioned,
    )
    return header.removeprefix(f"{name}=")


@lru_cache(maxsize=64)
def mark_of(attributes: str) -> int:
    """A byte that tells these attributes from others: one of a hash of them."""
    return sha256(attributes.encode()).digest()[0]


def check_cookie(
    name: str, domain: str | None, path: str, secure: bool, samesite: str | None, partitioned: bool
) -> None:
    """Refuse what is not a cookie, and what browsers refuse: RFC 6265bis, sections 4.1.3 and 5.6; for Partitioned, the
    CHIPS draft.

    :raises ConfigurationError:
    """
    _check_types(name, domain, path, samesite)
    if name.lower().startswith(("__host-", "__secure-")) and not secure:
        raise _browsers_refuse(f"named {name!r} without Secure", "SESSION_COOKIE_SECURE = True")
    if name.lower().startswith("__host-"):
        if domain:
            raise _browsers_refuse(f"named {name!r} with a domain", "SESSION_COOKIE_DOMAIN = None")
        if path != "/":
            raise _browsers_refuse(f"named {name!r} with a path other than /", 'SESSION_COOKIE_PATH = "/"')
    if samesite is not None and samesite.lower() == "none" and not secure:
        raise _browsers_refuse("with SameSite=None but without Secure", "SESSION_COOKIE_SECURE = True")
    if partitioned and not secure:
        raise _browsers_refuse("with Partitioned but without Secure", "SESSION_COOKIE_SECURE = True")


def _check_types(name: object, domain: object, path: object, samesite: object) -> None:
    if not isinstance(name, str) or not name:
        raise _not_a("SESSION_COOKIE_NAME", name, "a text, such as 'session'")
    if domain and not isinstance(domain, str):
        raise _not_a("SESSION_COOKIE_DOMAIN", domain, "a host's name, or None")
    if path and not (isinstance(path, str) and path.startswith("/")):
        raise _not_a("SESSION_COOKIE_PATH", path, "a path that begins with /")
    if samesite is not None and (not isinstance(samesite, str) or samesite.title() not in _SAMESITE):
        raise _not_a("SESSION_COOKIE_SAMESITE", samesite, '"Lax", "Strict" or "None" (SameSite=None), or None: not set')


def _not_a(key: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{key} is {value!r}; it takes {expected}", key=key)


def _browsers_refuse(what: str, instead: str) -> ConfigurationError:
    return ConfigurationError(f"browsers refuse a cookie {what}; set {instead}", key=instead.partition(" ")[0])


def check_cookie_size(size: int, record: Record) -> None:
    """Refuse a cookie that is too long: browsers silently drop such a cookie, and keep the cookie they had.

    :raises SessionTooLarge:
    """
    if size > MAX_COOKIE_SIZE:
        largest = largest_keys(record.state)
        raise SessionTooLarge(
            f"the session's cookie is {size} bytes, and browsers keep at most {MAX_COOKIE_SIZE}; its largest keys are"
            f" {', '.join(map(repr, largest))}. A server-side store does not have this limit",
            size=size,
            limit=MAX_COOKIE_SIZE,
            largest=largest,
        )


# -- caches between the server and the browser ---------------------------------------------------------------------


def has_header(response: Response, header: str) -> bool:
    """Whether the response has the header.

    ``in response.headers`` takes ten times as long if the header is missing, as it usually is.

    :param header: its name in lower case.
    """
    for name, _ in response.headers:  # noqa: SIM110  - a third faster than any()
        if name.lower() == header:
            return True
    return False


def vary_by_cookie(response: Response) -> None:
    """Tell caches that the response depends on the Cookie header."""
    _vary(response, has_header(response, "vary"))


def _vary(response: Response, varies: bool) -> None:
    if varies:
        response.vary.add("Cookie")
    else:
        response.headers.add("Vary", "Cookie")


def _cache_control(response: Response) -> dict[str, str]:
    """The directives of Cache-Control by name."""
    if not has_header(response, "cache-control"):
        return {}
    return _directives(", ".join(response.headers.getlist("Cache-Control")))


def _directives(header: str) -> dict[str, str]:
    """The directives of a header by name, in lower case: their names are case-insensitive."""
    return {directive.partition("=")[0].strip().lower(): directive for directive in parse_list_header(header)}


def _targeted(response: Response) -> dict[str, str]:
    """The headers for certain caches only, which these caches obey instead of Cache-Control (RFC 9213)."""
    return {name: value for name, value in response.headers if name.lower().endswith(_TARGETED)}


def is_public(response: Response) -> bool:
    """Whether the view has allowed shared caches to keep the response."""
    return not _PUBLIC.isdisjoint(_cache_control(response)) or any(
        _NOT_SHARED.isdisjoint(_directives(value)) for value in _targeted(response).values()
    )


def keep_private_with_cookie(response: Response) -> None:
    """Forbid shared caches to keep a response that sets the cookie, and tell other caches that it depends on the Cookie
    header. CVE-2023-30861 shows what happens otherwise.

    So too for a response that does not set it only because the browser has this cookie already.
    """
    names = [name.lower() for name, _ in response.headers]
    _vary(response, "vary" in names)
    for name in names:
        if name.endswith(_FOR_CACHES):
            break
    else:
        response.headers.add("Cache-Control", f"private, {_NOT_THE_COOKIE}")
        return
    if is_public(response):
        logger.warning("a response that changes the session was marked as public: it was made private")
    directives = keep_private(response)
    if directives.isdisjoint(("no-store", "no-cache")):
        response.headers["Cache-Control"] += f", {_NOT_THE_COOKIE}"


def keep_private(response: Response) -> t.AbstractSet[str]:
    """Forbid shared caches to keep the response.

    :return: the names of the directives that the view had set.
    """
    for name in _targeted(response):
        response.headers.remove(name)
    directives = _cache_control(response)
    kept = [directive for name, directive in directives.items() if name not in (*_PUBLIC, "private")]
    response.headers["Cache-Control"] = ", ".join(["private", *kept])
    return directives.keys()


_PUBLIC = frozenset({"public", "s-maxage"})
_NOT_THE_COOKIE = 'no-cache="Set-Cookie"'  # RFC 9111, section 5.2.2.4
# Headers for content delivery networks, for surrogates and for nginx. _NOT_SHARED has their values that forbid sharing.
_TARGETED = ("cdn-cache-control", "surrogate-control", "x-accel-expires")
_FOR_CACHES = ("cache-control", *_TARGETED)
_NOT_SHARED = frozenset({"private", "no-store", "0"})
