"""The settings in force, and their risks: for ``flask sessions check``."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import typing as t
from datetime import timedelta

from flask import Flask

from .. import hints, settings, signins
from ..cookies import attributes_of
from ..errors import ConfigurationError, SessionCorrupt, SessionError
from ..interface import StoreSessionInterface
from ..layout import pack_tombstone, revision_of, unpack
from ..policy import Policy
from ..record import Record, Tombstone, new_revision, to_ms
from ..stores.base import Scans, ServerSideStore, SessionStore

#: Bytes. Shorter secrets can be found by trying.
MIN_SECRET = 32
_BETTER = "set it to what this prints: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
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
# How many sessions are read to see what the application does.
_SAMPLE = 1000
# The name of a note about the application that ran the check last, and how long the note stands.
_NOTE, _NOTE_TIME = hashlib.sha256(b"flask_sessionstore: who keeps sessions here").hexdigest(), timedelta(days=30)


class _Cookie(t.NamedTuple):
    """How the session's cookie is set."""

    name: str
    domain: str | None
    path: str
    secure: bool
    httponly: bool
    samesite: str | None
    partitioned: bool


def settings_of(app: Flask, interface: StoreSessionInterface) -> dict[str, t.Any]:
    """The settings in force, by name, without secrets."""
    store, policy = interface.store, interface.policy_of(app)
    return {
        "SESSION_STORE": _name_of(store),
        "SESSION_KEY_PREFIX": getattr(store, "prefix", None),
        **{f"SESSION_COOKIE_{name.upper()}": value for name, value in _cookie(app, interface)._asdict().items()},
        "SESSION_COOKIE_CONTENT_SECURITY": app.config.get("SESSION_COOKIE_CONTENT_SECURITY", "signed"),
        "SESSION_SEAL": getattr(store, "seal", False),
        "PERMANENT_SESSION_LIFETIME": policy.lifetime,
        "SESSION_REFRESH_EACH_REQUEST": policy.refresh,
        **{s.name: getattr(policy, s.field) for s in settings.SETTINGS if s.field in policy.__struct_fields__},
    }


def findings_of(app: Flask, interface: StoreSessionInterface) -> list[str]:
    """What is risky and what to do about it, one sentence each.

    Asks the store. If the store has sessions, leaves a note there about this application.
    """
    policy = interface.policy_of(app)
    return [
        *_names(app),
        *_secrets(app),
        *_cookies(_cookie(app, interface)),
        *_store(interface.store),
        *_imports(interface),
        *_logins(interface.store, policy),
        *_neighbours(app, interface.store),
    ]


def _cookie(app: Flask, interface: StoreSessionInterface) -> _Cookie:
    return _Cookie(
        name=interface.get_cookie_name(app),
        domain=interface.get_cookie_domain(app),
        path=interface.get_cookie_path(app),
        secure=interface.get_cookie_secure(app),
        httponly=interface.get_cookie_httponly(app),
        samesite=interface.get_cookie_samesite(app),
        partitioned=interface.get_cookie_partitioned(app),
    )


def _name_of(store: SessionStore) -> str:
    tiers = [_name_of(tier) for tier in (getattr(store, "cache", None), getattr(store, "store", None)) if tier]
    return type(store).__name__ + (f"({', '.join(tiers)})" if tiers else "")


# -- findings ------------------------------------------------------------------------------------------------------


def _names(app: Flask) -> t.Iterator[str]:
    for name in settings.unknown_names(app.config):
        yield f"{name} is a setting that nobody is known to read: remove it if nothing else does."


def _secrets(app: Flask) -> t.Iterator[str]:
    try:
        secrets = settings.secrets(app)
    except ConfigurationError as error:
        yield f"{error}."
        return
    if not secrets:
        yield f"SECRET_KEY is not set, so sessions do not work: {_BETTER}"
    for number, secret in enumerate(secrets):
        why = _weakness(secret.encode() if isinstance(secret, str) else secret)
        if why and number:
            yield f"SECRET_KEY_FALLBACKS has a secret that {why}; whoever knows it can forge cookies: remove it."
        elif why:
            yield f"SECRET_KEY {why}; whoever knows it can forge cookies: {_BETTER}"


def _weakness(secret: bytes) -> str | None:
    plain = "".join(filter(str.isalnum, secret.decode(errors="replace").lower()))
    if plain == "dev" or any(word in plain for word in _WELL_KNOWN) or len(set(secret)) < _FEW_CHARACTERS:
        return "is easy to guess"
    return f"has {len(secret)} bytes, fewer than {MIN_SECRET}" if len(secret) < MIN_SECRET else None


def _cookies(cookie: _Cookie) -> t.Iterator[str]:
    try:
        attributes_of(*cookie)
    except (ConfigurationError, ValueError) as error:
        yield f"Sessions do not work: {error}."
    if not cookie.secure:
        yield "SESSION_COOKIE_SECURE is off, so browsers also send the cookie without encryption: set it to True."
    if not cookie.httponly:
        yield "SESSION_COOKIE_HTTPONLY is off, so every script on a page can read the cookie: set it to True."
    samesite = (cookie.samesite or "").lower()
    if not samesite:
        yield (
            "SESSION_COOKIE_SAMESITE is not set, so some browsers send the cookie with forms that other sites post: set"
            ' it to "Lax".'
        )
    elif samesite == "none" and not cookie.partitioned:
        yield (
            "SESSION_COOKIE_SAMESITE is None, so browsers send the cookie with forms that other sites post: set it to"
            ' "Lax"; for pages that are embedded in other sites, set SESSION_COOKIE_PARTITIONED to True instead.'
        )
    if not cookie.name.lower().startswith(("__host-", "__secure-")):
        prefix = "__Secure-" if cookie.domain or cookie.path != "/" else "__Host-"
        yield (
            "SESSION_COOKIE_NAME has no prefix, so other hosts of your domain can plant a cookie, and so can an"
            f' attacker who answers for them without encryption: set it to "{prefix}{cookie.name}".'
        )


def _logins(store: SessionStore, policy: Policy) -> t.Iterator[str]:
    """What a sample of the sessions in the store shows about the application's log-in."""
    used: dict[str, str] = {}
    for record in _sample(store):
        for hint, key in _hints_of(policy, record.state):
            used.setdefault(hint, key)
    for hint, key in used.items():
        yield f"{hint.format(key=key)}."


def _hints_of(policy: Policy, state: t.Mapping[str, bytes]) -> t.Iterator[tuple[str, str]]:
    keys = signins.who(policy, state)
    if keys and hints.names_no_owner(policy, state):
        yield hints.NO_OWNER, keys[0]
    for key in keys if signins.owner_in(policy, state) is None else ():
        if signins.is_nameless(state[key]):
            yield hints.NAMELESS, key
    if not signins.is_somebody(policy, state):  # otherwise a log-in has changed the session key
        for key in hints.looks_alike(policy, state.keys()):
            yield hints.LOOKALIKE, key


def _sample(store: SessionStore) -> t.Iterator[Record]:
    scans = store.ability(Scans)
    if scans is None:
        return
    try:
        for handle, data, _ in itertools.islice(scans.scan(), _SAMPLE):
            with contextlib.suppress(SessionCorrupt):
                found = None if data is None else unpack(data, handle)
                if isinstance(found, Record):
                    yield found
    except SessionError:
        return  # _store reports it


def _neighbours(app: Flask, store: SessionStore) -> t.Iterator[str]:
    """Whether an application with another secret ran the last check on sessions with the same prefix."""
    try:
        if not isinstance(store, ServerSideStore) or next(_sample(store), None) is None:
            return  # do not create a folder or table for a note alone: the check may run as another user
        data = store.read(_NOTE)
        found = None if data is None else unpack(data, _NOTE)
        marks = [_mark_of(secret) for secret in settings.secrets(app)]
        _leave_note(store, marks[0], before=data)
    except (SessionError, IndexError):
        return  # _store or _secrets reports it
    if isinstance(found, Tombstone) and found.before not in marks:
        yield (
            f'An application with another SECRET_KEY also keeps sessions under the prefix "{store.prefix}" (or this'
            " application's SECRET_KEY has changed). To find or end the sessions of an owner then also reaches the"
            " other application's owner of the same name: give each application a SESSION_KEY_PREFIX of its own."
        )


def _leave_note(store: ServerSideStore, mark: bytes, before: bytes | None) -> None:
    """Leave a tombstone under a name that no session has: commands do not show it, and it expires by itself."""
    now_ms = int(store.now() * 1000)
    ends_ms = now_ms + to_ms(_NOTE_TIME)
    note = Tombstone(kind="ended", revision=new_revision(), left_ms=now_ms, expires_ms=ends_ms, before=mark)
    data = pack_tombstone(note, _NOTE)
    if before is None or not store.swap(_NOTE, data, _NOTE_TIME, replaces=revision_of(before)):
        store.add(_NOTE, data, _NOTE_TIME)


def _mark_of(secret: str | bytes) -> bytes:
    """Four bytes by which a secret can be recognised, but not found out."""
    return hmac.digest(secret.encode() if isinstance(secret, str) else secret, _NOTE.encode(), "sha256")[:4]


def _imports(interface: StoreSessionInterface) -> t.Iterator[str]:
    """Whether the store may forget a log-out, so that an old cookie would sign the user in again."""
    if interface.importers and getattr(interface.store, "forgets", False):
        yield (
            "Sessions of another kind are imported into a store that may forget what it imported (when it is full, or"
            " restarts): then an old cookie signs in a user who has signed out. Use a lasting store, or remove"
            " import_session."
        )


def _store(store: SessionStore) -> list[str]:
    try:
        store.probe()
        return store.risks()
    except SessionError as error:
        return [f"The store cannot be used: {' '.join(str(error).split())}."]
