"""Cookies: how they are read and written, what browsers refuse, and what caches between may keep."""

from __future__ import annotations

import logging
import typing as t
from functools import lru_cache

from flask.wrappers import Response
from werkzeug.http import dump_cookie, parse_list_header
from werkzeug.sansio.http import parse_cookie

from .errors import ConfigurationError, SessionTooLarge
from .record import Record, largest_keys

logger = logging.getLogger("flask_sessionstore")

#: What every browser keeps of one Set-Cookie header, in bytes (RFC 6265, section 6.1, asks for 4096 at least; some
#: count more).
MAX_COOKIE_SIZE = 4093


# -- the Cookie header ------------------------------------------------------------------------------------------------


def values_of(name: str, header: str) -> list[str]:
    """The different values of the cookies called ``name`` in a Cookie header.

    The header is split as browsers write it: at every semicolon, in quotes or not. What this package writes needs no
    unquoting, so the other cookies are not parsed.
    """
    values = [
        _unquoted(value.strip(" \t"))
        for part in header.split(";")
        if name in part
        for key, _, value in (part.partition("="),)
        # Blanks and tabs, as browsers cut them off: a name that begins with U+00A0, say, is another name to them.
        if key.strip(" \t") == name
    ]
    return values if len(values) < 2 else list(dict.fromkeys(values))


def _unquoted(value: str) -> str:
    """A cookie's value without quotes around it, as Werkzeug reads it."""
    if not (len(value) > 1 and value[0] == value[-1] == '"'):
        return value
    return parse_cookie(f"_={value}").get("_", "") if "\\" in value else value[1:-1]


# -- what browsers demand of a cookie ------------------------------------------------------------------------------


#: Stands in place of a cookie's value to delete the cookie: an empty value, and an end that has passed.
DELETED = "; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"


@lru_cache(maxsize=64)
def attributes_of(
    name: str, domain: str | None, path: str, secure: bool, httponly: bool, samesite: str | None, partitioned: bool
) -> str:
    """The attributes that follow a cookie's value and end, as Werkzeug writes them. Deleting a cookie needs the same.

    They are made once for each set of settings, since they are a third of what a cookie costs.

    :raises ConfigurationError: if browsers would drop such a cookie without a word.
    """
    _check_cookie(name, domain, path, secure, samesite, partitioned)
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


def _check_cookie(
    name: str, domain: str | None, path: str, secure: bool, samesite: str | None, partitioned: bool
) -> None:
    """RFC 6265bis, sections 4.1.3 and 5.6; for Partitioned, the CHIPS draft."""
    if name.lower().startswith(("__host-", "__secure-")) and not secure:
        raise _browsers_refuse(f"a name such as {name!r} without Secure", "SESSION_COOKIE_SECURE = True")
    if name.lower().startswith("__host-"):
        if domain:
            raise _browsers_refuse(f"a name such as {name!r} with a domain", "SESSION_COOKIE_DOMAIN = None")
        if path != "/":
            raise _browsers_refuse(f"a name such as {name!r} below a path", 'SESSION_COOKIE_PATH = "/"')
    if samesite is not None and samesite.lower() == "none" and not secure:
        raise _browsers_refuse("SameSite=None without Secure", "SESSION_COOKIE_SECURE = True")
    if partitioned and not secure:
        raise _browsers_refuse("Partitioned without Secure", "SESSION_COOKIE_SECURE = True")


def _browsers_refuse(what: str, instead: str) -> ConfigurationError:
    return ConfigurationError(f"browsers refuse a cookie of {what}; set {instead}", key=instead.partition(" ")[0])


def check_cookie_size(size: int, record: Record) -> None:
    """Refuse a cookie that is too long: browsers drop such a cookie without a word, and keep the cookie they had.

    :raises SessionTooLarge:
    """
    if size > MAX_COOKIE_SIZE:
        largest = largest_keys(record.state)
        raise SessionTooLarge(
            f"the session's cookie is {size} bytes, and browsers keep {MAX_COOKIE_SIZE}; its largest keys are"
            f" {', '.join(map(repr, largest))}. A server-side store has no such limit",
            size=size,
            limit=MAX_COOKIE_SIZE,
            largest=largest,
        )


# -- caches between us and the browser -----------------------------------------------------------------------------


def has_header(response: Response, header: str) -> bool:
    """As ``header in response.headers``. That takes ten times as long where the header is missing, as it mostly is.

    :param header: in lower case.
    """
    for name, _ in response.headers:  # noqa: SIM110  - a third faster than any()
        if name.lower() == header:
            return True
    return False


def vary_by_cookie(response: Response) -> None:
    """Tell caches that the response depends on the Cookie header."""
    if has_header(response, "vary"):
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
    """The headers that are meant for certain caches, and that those obey in place of Cache-Control (RFC 9213)."""
    return {name: value for name, value in response.headers if name.lower().endswith(_TARGETED)}


def is_public(response: Response) -> bool:
    """Whether the view has told shared caches to keep the response."""
    return not _PUBLIC.isdisjoint(_cache_control(response)) or any(
        _NOT_SHARED.isdisjoint(_directives(value)) for value in _targeted(response).values()
    )


def keep_private_with_cookie(response: Response) -> None:
    """Forbid shared caches to keep a response that sets the cookie (CVE-2023-30861 tells what happens otherwise)."""
    if not any(name.lower().endswith(_FOR_CACHES) for name, _ in response.headers):
        response.headers.add("Cache-Control", f"private, {_NOT_THE_COOKIE}")
        return
    if is_public(response):
        logger.warning("a response marked as public carries a session cookie: it was made private")
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
# Headers for content delivery networks, for surrogates and for nginx; and the values of them that forbid to share.
_TARGETED = ("cdn-cache-control", "surrogate-control", "x-accel-expires")
_FOR_CACHES = ("cache-control", *_TARGETED)
_NOT_SHARED = frozenset({"private", "no-store", "0"})
