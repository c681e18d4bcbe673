"""The settings: one table, read from ``app.config`` when the application is set up, checked, and turned into a policy.

The defaults are in :class:`~.policy.Policy`, and in :class:`Settings` for what only the start needs. A wrong setting is
an error at start, which names the setting, its type, and what to write instead. Flask's own settings
keep their meaning, and are read through Flask's own attributes and methods at every request.
"""

from __future__ import annotations

import importlib
import logging
import re
import typing as t
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache

import msgspec
from flask import Flask

from . import cookies
from .errors import ConfigurationError
from .policy import Policy
from .signing import SIGNED
from .tokens import Protection

logger = logging.getLogger("flask_sessionstore")

#: Checks a setting's value, and returns it as the package takes it.
Reader = t.Callable[[str, t.Any], t.Any]

DEFAULT_STORE = "file:sessions"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The policy, and what else ``init_app`` needs."""

    policy: Policy
    #: Where the store comes from: a URL, a SessionStore, a pair (cache, store) of these, or a function of the
    #: application. Default: files in the instance folder.
    store: t.Any
    #: Keyword arguments for the store that a URL names.
    store_options: dict[str, t.Any] = {}
    #: Namespace in shared engines, for stores made from a URL.
    prefix: str = "session:"
    #: What protects the cookie: "signed", or "private", which is encrypted.
    protection: Protection = SIGNED
    #: For how long most requests do not ask a store that hangs; zero: every request asks.
    outage_pause: timedelta = timedelta(seconds=1)
    #: Calls of the store that take longer are logged; None: no calls are.
    slow_call: timedelta | None = None
    #: Whether records are encrypted in the store: False, True, or "required" (records not encrypted are refused).
    seal: bool | t.Literal["required"] = False


class Setting(t.NamedTuple):
    """One of our settings. Its default is the default of its field, in ``Policy`` or in ``Settings``."""

    name: str
    read: Reader
    #: The field of :class:`~flask_sessionstore.policy.Policy` or :class:`Settings`; its meaning is explained there.
    field: str


# -- how values are read -------------------------------------------------------------------------------------------


# A text that may be shown, since it is a word or a number: no password. (Compiled only when there is an error.)
_PLAIN = r"[A-Za-z]{1,12}|[0-9.]{1,12} ?[A-Za-z]{0,8}"
_TEXTS_FOR_NO = ("false", "no", "off", "0")


def _wrong(key: str, value: object, expected: str) -> ConfigurationError:
    message = f"{key} is {_describe(value)}; it takes {expected}"
    from_environment = "[0-9]+" if "number" in expected else "true|false"  # and not read as JSON there
    if isinstance(value, str) and re.fullmatch(from_environment, value, re.IGNORECASE):
        message += (
            f": write {value.capitalize()} without quotes;"
            f" app.config.from_prefixed_env() reads FLASK_{key}={value.lower()} like this"
        )
    return ConfigurationError(message, key=key)


def _describe(value: object) -> str:
    """What may be said of a wrong value. Only its type, if it may be a password."""
    if value is None or isinstance(value, (int, float, bool, timedelta)):
        return repr(value)
    if isinstance(value, str) and re.fullmatch(_PLAIN, value):
        return f"the text {value!r}"
    return f"of type {type(value).__name__}"


def _anything(_key: str, value: t.Any) -> t.Any:
    return value


def _options(key: str, value: t.Any) -> dict[str, t.Any]:
    if value is None:
        return {}
    if not isinstance(value, t.Mapping) or not all(isinstance(name, str) for name in value):
        raise _wrong(key, value, "a dict of keyword arguments")
    return dict(value)


def _text(key: str, value: t.Any) -> str:
    if not isinstance(value, str):
        raise _wrong(key, value, "a str")
    return value


def _flag(key: str, value: t.Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "True or False")
    return value


def _count(of: str) -> Reader:
    def read(key: str, value: t.Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise _wrong(key, value, f"a number of {of} above 0")
        return value

    return read


def _names(key: str, value: t.Any) -> tuple[str, ...]:
    names = () if isinstance(value, str) or not isinstance(value, t.Iterable) else tuple(value)
    if isinstance(value, str) or not isinstance(value, t.Iterable) or not all(isinstance(name, str) for name in names):
        raise _wrong(key, value, "a list or tuple of session keys")
    return names


def _owner_key(key: str, value: t.Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(key, value, "a key of the session, a dotted path from a key into its value, or None")
    return value


def _span(key: str, value: t.Any) -> timedelta:
    span = _seconds(key, value)
    if span < timedelta(milliseconds=1):
        raise _wrong(key, value, "a timedelta or a number of seconds, 0.001 or more")
    return span


def _interval(key: str, value: t.Any) -> timedelta:
    span = _seconds(key, value)
    if span < timedelta(0):
        raise _wrong(key, value, "a timedelta or a number of seconds, 0 or more")
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


def _or_none(read: Reader) -> Reader:
    return lambda key, value: None if value is None else read(key, value)


def _content_security(key: str, value: t.Any) -> Protection:
    if value == "signed":
        return SIGNED
    if value == "private":
        return _encryption(key)
    raise _wrong(key, value, '"signed" or "private"')


@lru_cache(maxsize=1)  # an import statement costs a microsecond even if the module is loaded
def _encryption(key: str) -> Protection:
    _need_cryptography(key)
    from .encryption import PRIVATE

    return PRIVATE


def _seal(key: str, value: t.Any) -> bool | t.Literal["required"]:
    if not (isinstance(value, bool) or value == "required"):
        raise _wrong(key, value, 'True, False or "required"')
    if value:
        _need_cryptography(key)
    return t.cast('bool | t.Literal["required"]', value)


def _need_cryptography(key: str) -> None:
    try:
        importlib.import_module("cryptography")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{key} needs a package that is not installed: pip install cryptography (this package's extra 'crypto')",
            key=key,
        ) from error


# -- the tables ----------------------------------------------------------------------------------------------------

#: Our settings, in the order of the documentation.
SETTINGS = (
    Setting("SESSION_STORE", _anything, "store"),
    Setting("SESSION_STORE_OPTIONS", _options, "store_options"),
    Setting("SESSION_KEY_PREFIX", _text, "prefix"),
    Setting("SESSION_BROWSER_LIFETIME", _or_none(_span), "browser_lifetime"),
    Setting("SESSION_ABSOLUTE_LIFETIME", _or_none(_span), "absolute_lifetime"),
    Setting("SESSION_PERMANENT", _flag, "permanent"),
    Setting("SESSION_REFRESH_INTERVAL", _interval, "refresh_interval"),
    Setting("SESSION_OWNER_KEY", _or_none(_owner_key), "owner_key"),
    Setting("SESSION_LOGIN_KEYS", _names, "login_keys"),
    Setting("SESSION_LOGIN_DROPS", _names, "login_drops"),
    Setting("SESSION_MAX_PER_OWNER", _or_none(_count("sessions")), "max_per_owner"),
    Setting("SESSION_RECORD_CLIENT", _flag, "record_client"),
    Setting("SESSION_PRIVATE_READS", _flag, "private_reads"),
    Setting("SESSION_MAX_SIZE", _count("bytes"), "max_size"),
    Setting("SESSION_CONFLICT_TIMEOUT", _span, "conflict_timeout"),
    Setting("SESSION_SWEEP_INTERVAL", _or_none(_interval), "sweep_interval"),
    Setting("SESSION_OUTAGE_PAUSE", _interval, "outage_pause"),
    Setting("SESSION_SLOW_CALL", _or_none(_span), "slow_call"),
    Setting("SESSION_SEAL", _seal, "seal"),
    Setting("SESSION_COOKIE_CONTENT_SECURITY", _content_security, "protection"),
)
#: Flask's own settings whose names begin like ours.
_FLASK_KEYS = (
    "SESSION_COOKIE_NAME",
    "SESSION_COOKIE_DOMAIN",
    "SESSION_COOKIE_PATH",
    "SESSION_COOKIE_HTTPONLY",
    "SESSION_COOKIE_SECURE",
    "SESSION_COOKIE_PARTITIONED",
    "SESSION_COOKIE_SAMESITE",
    "SESSION_REFRESH_EACH_REQUEST",
)
#: Settings of other extensions that have names like these.
_OTHERS_KEYS = ("SESSION_PROTECTION",)  # Flask-Login's
_KNOWN = frozenset((*(setting.name for setting in SETTINGS), *_FLASK_KEYS, *_OTHERS_KEYS))


# -- reading all of them -------------------------------------------------------------------------------------------


def read_settings(app: Flask, store: t.Any = None, *, foreign: bool = False) -> Settings:
    """The settings of ``app``.

    :param store: used if SESSION_STORE is not set.
    :param foreign: whether Flask-Session's settings are accepted, and not an error.
    :raises ConfigurationError: naming the first setting that cannot work.
    """
    config = app.config
    _check_names(config, foreign=foreign)
    _check_flasks(config, app.secret_key)
    secrets(app)
    values = {
        setting.field: setting.read(setting.name, config[setting.name])
        for setting in SETTINGS
        if setting.name in config
    }
    if values.get("store") is None:
        values["store"] = DEFAULT_STORE if store is None else store
    refresh = _flag("SESSION_REFRESH_EACH_REQUEST", config.get("SESSION_REFRESH_EACH_REQUEST", True))
    obeyed = {field: values.pop(field) for field in Policy.__struct_fields__ if field in values}
    return Settings(policy=Policy(lifetime=_flask_lifetime(app), refresh=refresh, **obeyed), **values)


def secrets(app: Flask) -> tuple[str | bytes, ...]:
    """The application's secrets; the first one signs. Empty if the application has no secret.

    :raises ConfigurationError: if SECRET_KEY_FALLBACKS is text where a list belongs.
    """
    secret = app.secret_key
    if not secret:
        return ()
    fallbacks = app.config.get("SECRET_KEY_FALLBACKS")
    if not fallbacks:
        return (secret,)
    former = () if isinstance(fallbacks, (str, bytes)) or not isinstance(fallbacks, Iterable) else tuple(fallbacks)
    # With an empty secret, cookies that anybody signed would be accepted.
    if not former or not all(isinstance(secret, (str, bytes)) and secret for secret in former):
        raise ConfigurationError(
            "SECRET_KEY_FALLBACKS takes a list of former secrets (str or bytes, not empty): write [former_secret]",
            key="SECRET_KEY_FALLBACKS",
        )
    return (secret, *former)


def protection(app: Flask) -> Protection:
    """What protects the application's cookie.

    :raises ConfigurationError: if the setting names no known protection, or the package it needs is missing.
    """
    key = "SESSION_COOKIE_CONTENT_SECURITY"
    return _content_security(key, app.config.get(key, "signed"))


def unknown_names(config: t.Iterable[str]) -> list[str]:
    """The settings whose names begin like ours, and that nobody is known to read."""
    names = _strange_names(config)
    if not names:
        return []
    from . import misnomers

    return [key for key in names if key not in misnomers.FLASK_SESSION]


def _strange_names(config: t.Iterable[str]) -> list[str]:
    return [key for key in config if key.startswith("SESSION_") and key not in _KNOWN]


def _check_names(config: t.Mapping[str, t.Any], *, foreign: bool) -> None:
    """Refuse names that stand for settings of ours, all in one message. Warn of others that have no effect."""
    if not _strange_names(config):
        return
    from . import misnomers

    if not foreign:
        _refuse_foreign({key: line for key, line in misnomers.FLASK_SESSION.items() if config.get(key) is not None})
    names = unknown_names(config)
    meant = {key: instead for key in names if (instead := misnomers.setting(key, _KNOWN)) is not None}
    if meant:
        raise ConfigurationError("\n".join(meant.values()), key=next(iter(meant)))
    if names:
        logger.warning("settings that neither Flask nor flask_sessionstore knows: %s", ", ".join(names))


def _refuse_foreign(found: dict[str, str]) -> None:
    """Refuse Flask-Session's settings."""
    if not found:
        return
    keys = ", ".join(found)
    are = "are settings" if len(found) > 1 else "is a setting"
    raise ConfigurationError(
        "\n".join(
            [
                f"{keys} {are} of Flask-Session. For flask_sessionstore, write:",
                *(f"    {line}" for line in dict.fromkeys(found.values())),
                "or change one import, and leave the settings as they are:",
                "    from flask_sessionstore.migrate.flask_session import Session",
            ]
        ),
        key=next(iter(found)),
    )


def _check_flasks(config: t.Mapping[str, t.Any], secret: object) -> None:
    """Check Flask's settings as far as they are set. They are checked again when they are used: an application may set
    them late. So may it set SESSION_COOKIE_SECURE, which is taken as set here.
    """
    if secret and not isinstance(secret, (str, bytes)):
        raise ConfigurationError(
            f"SECRET_KEY is of type {type(secret).__name__}; it takes a str or bytes", key="SECRET_KEY"
        )
    for key in ("SESSION_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY", "SESSION_COOKIE_PARTITIONED"):
        value = config.get(key)
        if isinstance(value, str) and value.lower() in _TEXTS_FOR_NO:  # Flask would take it as True
            raise _wrong(key, value, "True or False")
    cookies.check_cookie(
        config.get("SESSION_COOKIE_NAME", "session"),
        config.get("SESSION_COOKIE_DOMAIN"),
        config.get("SESSION_COOKIE_PATH") or config.get("APPLICATION_ROOT", "/"),
        secure=True,
        samesite=config.get("SESSION_COOKIE_SAMESITE"),
        partitioned=bool(config.get("SESSION_COOKIE_PARTITIONED")),
    )


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
