"""What is risky about an application's settings: for ``flask sessions check``."""

from __future__ import annotations

import os
import re
import typing as t

from flask import Flask

from .. import settings
from ..cookies import attributes_of
from ..errors import ConfigurationError, SessionError
from ..interface import StoreSessionInterface
from ..stores.base import SessionStore
from ..stores.memory import MemoryStore
from .findings import Finding, error_that, warning_that
from .sources import missing_for

#: Bytes. Shorter secrets can be found by trying.
MIN_SECRET = 32
_BETTER = "set it to what this prints: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_FORGES = "whoever knows it can forge cookies"
# Parts of the secrets in tutorials and templates, in lower case, only letters and digits. (A random secret does not
# contain them.)
_WELL_KNOWN = (
    "change",
    "develop",
    "example",
    "guess",
    "insecure",
    "password",
    "replace",
    "secret",
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",  # of Flask's documentation
)
_FEW_CHARACTERS = 8
# What starts more than one process of the application -> where it says how many.
_WORKERS = {
    "WEB_CONCURRENCY": r"(\d+)",
    "GUNICORN_CMD_ARGS": r"(?:^|\s)(?:-w|--workers)[\s=]*(\d+)",
    "UWSGI_PROCESSES": r"(\d+)",
    "UWSGI_WORKERS": r"(\d+)",
}


class Cookie(t.NamedTuple):
    """How the session's cookie is set."""

    name: str
    domain: str | None
    path: str
    secure: bool
    httponly: bool
    samesite: str | None
    partitioned: bool


def cookie_of(app: Flask, interface: StoreSessionInterface) -> Cookie:
    """How this application sets the cookie."""
    return Cookie(
        name=interface.get_cookie_name(app),
        domain=interface.get_cookie_domain(app),
        path=interface.get_cookie_path(app),
        secure=interface.get_cookie_secure(app),
        httponly=interface.get_cookie_httponly(app),
        samesite=interface.get_cookie_samesite(app),
        partitioned=interface.get_cookie_partitioned(app),
    )


def of_names(app: Flask) -> t.Iterator[Finding]:
    """Which settings are called as ours are, and are not ours."""
    for name in settings.unknown_names(app.config):
        yield warning_that(f"{name} is a setting that nobody is known to read: remove it if nothing else does.")


def of_secrets(app: Flask) -> t.Iterator[Finding]:
    """What is risky about SECRET_KEY and its fallbacks."""
    try:
        secrets = settings.secrets(app)
    except ConfigurationError as error:
        yield error_that(f"{error}.")
        return
    if not secrets:
        yield error_that(f"SECRET_KEY is not set, so sessions do not work: {_BETTER}")
    for number, secret in enumerate(secrets):
        why = _weakness(secret.encode() if isinstance(secret, str) else secret)
        if why and number:
            yield error_that(f"SECRET_KEY_FALLBACKS has a secret that {why}; {_FORGES}: remove it.")
        elif why:
            yield error_that(f"SECRET_KEY {why}; {_FORGES}: {_BETTER}")


def _weakness(secret: bytes) -> str | None:
    plain = "".join(filter(str.isalnum, secret.decode(errors="replace").lower()))
    if plain == "dev" or any(word in plain for word in _WELL_KNOWN) or len(set(secret)) < _FEW_CHARACTERS:
        return "is easy to guess"
    return f"has {len(secret)} bytes, fewer than {MIN_SECRET}" if len(secret) < MIN_SECRET else None


def of_cookie(cookie: Cookie) -> t.Iterator[Finding]:
    """What is risky about the cookie."""
    try:
        attributes_of(*cookie)
    except (ConfigurationError, ValueError) as error:
        yield error_that(f"Sessions do not work: {error}.")
    if not cookie.secure:
        yield warning_that(
            "SESSION_COOKIE_SECURE is off, so browsers also send the cookie without encryption: set it to True."
        )
    if not cookie.httponly:
        yield warning_that(
            "SESSION_COOKIE_HTTPONLY is off, so every script on a page can read the cookie: set it to True."
        )
    samesite = (cookie.samesite or "").lower()
    if not samesite:
        yield warning_that(
            "SESSION_COOKIE_SAMESITE is not set, so some browsers send the cookie with forms that other sites post: set"
            ' it to "Lax".'
        )
    elif samesite == "none" and not cookie.partitioned:
        yield warning_that(
            "SESSION_COOKIE_SAMESITE is None, so browsers send the cookie with forms that other sites post: set it to"
            ' "Lax"; for pages that are embedded in other sites, set SESSION_COOKIE_PARTITIONED to True instead.'
        )
    if not cookie.name.lower().startswith(("__host-", "__secure-")):
        prefix = "__Secure-" if cookie.domain or cookie.path != "/" else "__Host-"
        yield warning_that(
            "SESSION_COOKIE_NAME has no prefix, so other hosts of your domain can plant a cookie, and so can an"
            f' attacker who answers for them without encryption: set it to "{prefix}{cookie.name}".'
        )


def of_importers(interface: StoreSessionInterface) -> t.Iterator[Finding]:
    """Whether old sessions can be found, and whether the store may forget a log-out, so that an old cookie would sign
    the user in again.
    """
    for importer in interface.importers:
        try:
            missing = missing_for(importer)
        except SessionError as error:
            missing = f"Old sessions cannot be imported: {error}"
        if missing is not None:
            yield warning_that(f"{missing}.")
    if interface.importers and getattr(interface.store, "forgets", False):
        yield warning_that(
            "Sessions of another kind are imported into a store that may forget what it imported (when it is full, or"
            " restarts): then an old cookie signs in a user who has signed out. Use a lasting store, or remove"
            " import_session."
        )


def of_workers(store: SessionStore) -> t.Iterator[Finding]:
    """Whether the environment asks for several processes, though the sessions are in the memory of one."""
    if not isinstance(getattr(store, "store", store), MemoryStore):  # behind a cache, too
        return
    for name, pattern in _WORKERS.items():
        found = re.search(pattern, os.environ.get(name, ""))
        if found and int(found[1]) > 1:
            yield error_that(
                f"{name} asks for {found[1]} processes, but with memory: each of them has sessions of its own, so a"
                " visitor is logged out whenever another one answers: use files, Redis or a database."
            )
