"""The settings: read once from ``app.config`` when the application is set up, checked, and turned into a policy.

A wrong one is an error at start that names the setting, what it is, and what to write. Flask's own settings keep
their meaning and are read by Flask's own attributes and methods at every request.
"""

from __future__ import annotations

import difflib
import importlib
import typing as t
import weakref
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache

import msgspec
from flask import Flask

from .errors import ConfigurationError
from .policy import LOGIN_KEYS, Policy, Rules
from .signing import SIGNED, Protection

#: Where the store comes from: a URL, a SessionStore, a pair (cache, store) of these, or a function of the application.
#: Default: files in the instance folder.
SESSION_STORE = "SESSION_STORE"
#: Keyword arguments for the store that a URL names.
SESSION_STORE_OPTIONS = "SESSION_STORE_OPTIONS"
#: Namespace in shared engines, for stores made from a URL.
SESSION_KEY_PREFIX = "SESSION_KEY_PREFIX"
#: "signed", or "private": encrypted.
SESSION_COOKIE_CONTENT_SECURITY = "SESSION_COOKIE_CONTENT_SECURITY"
#: Idle lifetime of sessions behind a browser-session cookie; None: PERMANENT_SESSION_LIFETIME.
SESSION_BROWSER_LIFETIME = "SESSION_BROWSER_LIFETIME"
#: Hard end, counted from creation or the last sign-in; None: none.
SESSION_ABSOLUTE_LIFETIME = "SESSION_ABSOLUTE_LIFETIME"
#: Whether new sessions are permanent.
SESSION_PERMANENT = "SESSION_PERMANENT"
#: No extension sooner than this after the last.
SESSION_REFRESH_INTERVAL = "SESSION_REFRESH_INTERVAL"
#: The key whose value says whom the session belongs to; None: no owners.
SESSION_OWNER_KEY = "SESSION_OWNER_KEY"
#: Keys that log-ins are known to write: their coming or changing renews the session.
SESSION_LOGIN_KEYS = "SESSION_LOGIN_KEYS"
#: Keys that are dropped at a sign-in and a sign-out.
SESSION_LOGIN_DROPS = "SESSION_LOGIN_DROPS"
#: How many sessions an owner may have: of more, those extended least recently end. None: any number.
SESSION_MAX_PER_OWNER = "SESSION_MAX_PER_OWNER"
#: Whether sessions keep the browser and the address of their last sign-in.
SESSION_RECORD_CLIENT = "SESSION_RECORD_CLIENT"
#: Whether a response that read the session of somebody signed in says ``Cache-Control: private``.
SESSION_PRIVATE_READS = "SESSION_PRIVATE_READS"
#: Whether records are encrypted at rest: False, True, or "required" (and what is not encrypted is refused).
SESSION_SEAL = "SESSION_SEAL"
#: Limit of the encoded state in bytes.
SESSION_MAX_SIZE = "SESSION_MAX_SIZE"
#: How long a request goes on merging against other writers.
SESSION_CONFLICT_TIMEOUT = "SESSION_CONFLICT_TIMEOUT"

DEFAULT_STORE = "file:sessions"

_FLASKS = (
    "SESSION_COOKIE_NAME",
    "SESSION_COOKIE_DOMAIN",
    "SESSION_COOKIE_PATH",
    "SESSION_COOKIE_HTTPONLY",
    "SESSION_COOKIE_SECURE",
    "SESSION_COOKIE_PARTITIONED",
    "SESSION_COOKIE_SAMESITE",
    "SESSION_REFRESH_EACH_REQUEST",
)
_OURS = (
    SESSION_STORE,
    SESSION_STORE_OPTIONS,
    SESSION_KEY_PREFIX,
    SESSION_COOKIE_CONTENT_SECURITY,
    SESSION_BROWSER_LIFETIME,
    SESSION_ABSOLUTE_LIFETIME,
    SESSION_PERMANENT,
    SESSION_REFRESH_INTERVAL,
    SESSION_OWNER_KEY,
    SESSION_LOGIN_KEYS,
    SESSION_LOGIN_DROPS,
    SESSION_MAX_PER_OWNER,
    SESSION_RECORD_CLIENT,
    SESSION_PRIVATE_READS,
    SESSION_SEAL,
    SESSION_MAX_SIZE,
    SESSION_CONFLICT_TIMEOUT,
)
# Flask-Session's, and the line to write instead.
_FLASK_SESSIONS = {
    "SESSION_TYPE": 'SESSION_STORE = "redis://localhost:6379/0", "file:sessions" or another URL',
    "SESSION_REDIS": 'SESSION_STORE = "redis://...", or RedisStore(your_client)',
    "SESSION_FILE_DIR": 'SESSION_STORE = "file:///the/folder"',
    "SESSION_FILE_THRESHOLD": 'SESSION_STORE = "file:sessions", which has no limit of files',
    "SESSION_FILE_MODE": 'SESSION_STORE = "file:sessions", whose files are always 0600',
    "SESSION_CACHELIB": 'SESSION_STORE = "file:///the/folder"',
    "SESSION_MEMCACHED": 'SESSION_STORE = "memcached://..."',
    "SESSION_MONGODB": 'SESSION_STORE = "mongodb://..."',
    "SESSION_MONGODB_DB": 'SESSION_STORE = "mongodb://.../database"',
    "SESSION_MONGODB_COLLECT": "SESSION_STORE_OPTIONS",
    "SESSION_SQLALCHEMY": "SESSION_STORE = lambda app: SQLAlchemyStore(db.engine)",
    "SESSION_SQLALCHEMY_TABLE": "SESSION_STORE_OPTIONS",
    "SESSION_SQLALCHEMY_SEQUENCE": "nothing: handles are the table's key",
    "SESSION_SQLALCHEMY_SCHEMA": "SESSION_STORE_OPTIONS",
    "SESSION_SQLALCHEMY_BIND_KEY": 'SESSION_STORE = lambda app: SQLAlchemyStore(db.engines["key"])',
    "SESSION_DYNAMODB": 'SESSION_STORE = "dynamodb://region/table"',
    "SESSION_DYNAMODB_TABLE": 'SESSION_STORE = "dynamodb://region/table"',
    "SESSION_USE_SIGNER": "nothing: cookies are always signed",
    "SESSION_ID_LENGTH": "nothing: session keys always hold 256 random bits",
    "SESSION_SERIALIZATION_FORMAT": "nothing: there is one format",
    "SESSION_CLEANUP_N_REQUESTS": "nothing: see the store's page about clean-up",
}
_ALIKE = 0.8


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What ``init_app`` needs beside the policy."""

    store: t.Any
    store_options: dict[str, t.Any]
    policy: Policy
    seal: bool | t.Literal["required"]


def read_settings(app: Flask, store: t.Any = None) -> Settings:
    """The settings of ``app``. ``store`` stands in where SESSION_STORE is not set.

    :raises ConfigurationError: naming the first setting that cannot work.
    """
    config = app.config
    _refuse_foreign(config)
    _refuse_misspelt(config)
    protection(app)
    if not isinstance(config.get("SESSION_REFRESH_EACH_REQUEST", True), bool):
        raise _wrong("SESSION_REFRESH_EACH_REQUEST", config["SESSION_REFRESH_EACH_REQUEST"], "True or False")
    secrets(app)
    configured = config.get(SESSION_STORE)
    return Settings(
        store=configured if configured is not None else store if store is not None else DEFAULT_STORE,
        store_options={"prefix": _text(config, SESSION_KEY_PREFIX, "session:"), **_options(config)},
        policy=_policy(app),
        seal=_seal(config),
    )


def secrets(app: Flask) -> tuple[str | bytes, ...]:
    """The application's secrets, the one that signs first; empty if it has none.

    :raises ConfigurationError: if SECRET_KEY_FALLBACKS is text where a list belongs.
    """
    if not app.secret_key:
        return ()
    fallbacks = app.config.get("SECRET_KEY_FALLBACKS")
    if not fallbacks:
        return (app.secret_key,)
    former = () if isinstance(fallbacks, (str, bytes)) or not isinstance(fallbacks, Iterable) else tuple(fallbacks)
    # An empty one would verify what anybody signs.
    if not former or not all(isinstance(secret, (str, bytes)) and secret for secret in former):
        raise ConfigurationError(
            "SECRET_KEY_FALLBACKS is a list of former secrets, none of them empty: write [former_secret]",
            key="SECRET_KEY_FALLBACKS",
        )
    return (app.secret_key, *former)


def protection(app: Flask) -> Protection:
    """What protects the application's cookie.

    :raises ConfigurationError: if there is no such protection, or the package it needs is missing.
    """
    content_security = app.config.get(SESSION_COOKIE_CONTENT_SECURITY, "signed")
    if content_security == "signed":
        return SIGNED
    if content_security == "private":
        return _encryption()
    raise _wrong(SESSION_COOKIE_CONTENT_SECURITY, content_security, '"signed" or "private"')


@lru_cache(maxsize=1)  # an import that has been made costs a microsecond all the same
def _encryption() -> Protection:
    _need_cryptography(SESSION_COOKIE_CONTENT_SECURITY)
    from .encryption import PRIVATE

    return PRIVATE


def _need_cryptography(key: str) -> None:
    try:
        importlib.import_module("cryptography")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{key} needs a package that is not installed: pip install cryptography (this package's extra 'crypto')",
            key=key,
        ) from error


def _policy(app: Flask) -> Policy:
    config = app.config
    return Policy(
        rules=Rules(
            owner_key=_owner_key(config),
            login_keys=_names(config, SESSION_LOGIN_KEYS, LOGIN_KEYS),
            login_drops=_names(config, SESSION_LOGIN_DROPS, ("csrf_token",)),
            permanent=_flag(config, SESSION_PERMANENT, False),
        ),
        lifetime=_flask_lifetime(app),
        browser_lifetime=_span(config, SESSION_BROWSER_LIFETIME, None),
        absolute_lifetime=_span(config, SESSION_ABSOLUTE_LIFETIME, None),
        refresh=config.get("SESSION_REFRESH_EACH_REQUEST", True),
        refresh_interval=_interval(config),
        max_size=_count(config, SESSION_MAX_SIZE, 1024 * 1024, "bytes"),
        max_per_owner=_count(config, SESSION_MAX_PER_OWNER, None, "sessions"),
        record_client=_flag(config, SESSION_RECORD_CLIENT, False),
        private_reads=_flag(config, SESSION_PRIVATE_READS, False),
        conflict_timeout=t.cast("timedelta", _span(config, SESSION_CONFLICT_TIMEOUT, timedelta(seconds=2))),
        sender=weakref.ref(app),
    )


def _refuse_foreign(config: t.Mapping[str, t.Any]) -> None:
    for key, instead in _FLASK_SESSIONS.items():
        if config.get(key) is not None:
            raise ConfigurationError(f"{key} is a setting of Flask-Session; here, write: {instead}", key=key)


def _refuse_misspelt(config: t.Mapping[str, t.Any]) -> None:
    known = [key.removeprefix("SESSION_") for key in (*_OURS, *_FLASKS)]
    for key in config:
        name = key.removeprefix("SESSION_")
        if name == key or name in known or key in _FLASK_SESSIONS:
            continue
        alike = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
        if alike:
            raise ConfigurationError(f"{key} is no setting; did you mean SESSION_{alike[0]}?", key=key)


def _wrong(key: str, value: object, expected: str) -> ConfigurationError:
    # The type, not the value: a setting may hold a password.
    return ConfigurationError(f"{key} is {_describe(value)}; it takes {expected}", key=key)


def _describe(value: object) -> str:
    return repr(value) if isinstance(value, (int, float, bool, timedelta)) else f"of type {type(value).__name__}"


def _options(config: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    options = config.get(SESSION_STORE_OPTIONS)
    if options is None:
        return {}
    if not isinstance(options, t.Mapping) or not all(isinstance(name, str) for name in options):
        raise _wrong(SESSION_STORE_OPTIONS, options, "a dict of keyword arguments")
    return dict(options)


def _text(config: t.Mapping[str, t.Any], key: str, default: str) -> str:
    value = config.get(key, default)
    if not isinstance(value, str):
        raise _wrong(key, value, "a str")
    return value


def _flag(config: t.Mapping[str, t.Any], key: str, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise _wrong(key, value, "True or False")
    return value


def _count(config: t.Mapping[str, t.Any], key: str, default: t.Any, of: str) -> t.Any:
    value = config.get(key, default)
    if value is None and default is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise _wrong(key, value, f"a number of {of} above 0")
    return value


def _seal(config: t.Mapping[str, t.Any]) -> bool | t.Literal["required"]:
    value = config.get(SESSION_SEAL, False)
    if not (isinstance(value, bool) or value == "required"):
        raise _wrong(SESSION_SEAL, value, 'True, False or "required"')
    if value:
        _need_cryptography(SESSION_SEAL)
    return t.cast('bool | t.Literal["required"]', value)


def _names(config: t.Mapping[str, t.Any], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = config.get(key, default)
    names = () if isinstance(value, str) or not isinstance(value, t.Iterable) else tuple(value)
    if isinstance(value, str) or not isinstance(value, t.Iterable) or not all(isinstance(name, str) for name in names):
        raise _wrong(key, value, "a list or tuple of session keys")
    return names


def _owner_key(config: t.Mapping[str, t.Any]) -> str | None:
    value = config.get(SESSION_OWNER_KEY, "_user_id")
    if value is not None and (not isinstance(value, str) or not value):
        raise _wrong(SESSION_OWNER_KEY, value, "a key of the session, a dotted path from one into its value, or None")
    return value


def _span(config: t.Mapping[str, t.Any], key: str, default: timedelta | None) -> timedelta | None:
    value = config.get(key, default)
    if value is None and default is None:
        return None
    span = _seconds(key, value)
    if span < timedelta(milliseconds=1):
        raise _wrong(key, value, "a timedelta or a number of seconds, above 0")
    return span


def _interval(config: t.Mapping[str, t.Any]) -> timedelta:
    value = config.get(SESSION_REFRESH_INTERVAL, 60)
    span = _seconds(SESSION_REFRESH_INTERVAL, value)
    if span < timedelta(0):
        raise _wrong(SESSION_REFRESH_INTERVAL, value, "a timedelta or a number of seconds, 0 or above")
    return span


def _seconds(key: str, value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return timedelta(seconds=value)
        except (OverflowError, ValueError):
            pass
    raise _wrong(key, value, "a timedelta or a number of seconds")


def _flask_lifetime(app: Flask) -> timedelta:
    try:
        lifetime = app.permanent_session_lifetime
    except (TypeError, ValueError, OverflowError):
        lifetime = None
    if not isinstance(lifetime, timedelta) or lifetime <= timedelta(0):
        raise _wrong(
            "PERMANENT_SESSION_LIFETIME",
            app.config.get("PERMANENT_SESSION_LIFETIME"),
            "a timedelta or a number of seconds, above 0",
        )
    return lifetime
