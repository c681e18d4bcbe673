"""The settings: what each takes, and the error at start that says so."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
from flask import Flask

from flask_sessionstore import ConfigurationError, SessionManager, StoreSessionInterface
from flask_sessionstore.policy import Policy
from flask_sessionstore.record import Record
from flask_sessionstore.settings import read_settings


def app_with(**settings: object) -> Flask:
    app = Flask("shop")
    app.config.update({"SECRET_KEY": "secret", "SESSION_STORE": "memory:", **settings})
    return app


def policy(**settings: object) -> Policy:
    return read_settings(app_with(**settings)).policy


def refusal(**settings: object) -> ConfigurationError:
    """The error with which an application with these settings does not start."""
    app = app_with(**settings)
    with pytest.raises(ConfigurationError) as caught:
        SessionManager(app)
    assert not isinstance(app.session_interface, StoreSessionInterface)
    assert "sessionstore" not in app.extensions
    return caught.value


# -- what they come to ---------------------------------------------------------------------------------------------


def test_without_settings_the_policy_is_flasks_and_the_design_s() -> None:
    settings = read_settings(Flask("shop"))
    assert settings.store == "file:sessions"
    assert (settings.prefix, settings.store_options) == ("session:", {})
    assert settings.policy.owner_key == "_user_id"
    assert settings.policy.login_drops == ("csrf_token",)
    assert settings.policy.permanent is False
    assert settings.policy.lifetime == timedelta(days=31)
    assert settings.policy.browser_lifetime is None
    assert settings.policy.absolute_lifetime is None
    assert settings.policy.refresh is True
    assert settings.policy.refresh_interval == timedelta(seconds=60)
    assert settings.policy.max_size == 1024 * 1024
    assert settings.policy.conflict_timeout == timedelta(seconds=2)
    assert settings.policy.sweep_interval == timedelta(seconds=60)


DURATIONS = [
    ("SESSION_BROWSER_LIFETIME", "browser_lifetime"),
    ("SESSION_ABSOLUTE_LIFETIME", "absolute_lifetime"),
    ("SESSION_REFRESH_INTERVAL", "refresh_interval"),
    ("SESSION_CONFLICT_TIMEOUT", "conflict_timeout"),
    ("SESSION_SWEEP_INTERVAL", "sweep_interval"),
    ("PERMANENT_SESSION_LIFETIME", "lifetime"),
]


@pytest.mark.parametrize(("key", "name"), DURATIONS)
@pytest.mark.parametrize("value", [90, 1.5, timedelta(minutes=5)])
def test_a_duration_is_a_timedelta_or_a_number_of_seconds(key: str, name: str, value: t.Any) -> None:
    expected = value if isinstance(value, timedelta) else timedelta(seconds=value)
    assert getattr(policy(**{key: value}), name) == expected


def test_the_other_settings_reach_the_policy() -> None:
    assert policy(SESSION_OWNER_KEY="user_id").owner_key == "user_id"
    assert policy(SESSION_OWNER_KEY=None).owner_key is None
    assert policy(SESSION_LOGIN_DROPS=["a", "b"]).login_drops == ("a", "b")
    assert policy(SESSION_LOGIN_DROPS=()).login_drops == ()
    assert policy(SESSION_PERMANENT=True).permanent is True
    assert policy(SESSION_MAX_PER_OWNER=3).max_per_owner == 3
    assert policy(SESSION_MAX_PER_OWNER=None).max_per_owner is None
    assert policy(SESSION_RECORD_CLIENT=True).record_client is True
    assert policy(SESSION_REFRESH_EACH_REQUEST=False).refresh is False
    assert policy(SESSION_REFRESH_INTERVAL=0).refresh_interval == timedelta(0)
    assert policy(SESSION_MAX_SIZE=1).max_size == 1
    assert policy(SESSION_BROWSER_LIFETIME=None).browser_lifetime is None


def test_an_extension_comes_no_sooner_than_a_tenth_of_the_lifetime_or_the_interval() -> None:
    minute = policy()
    assert minute.interval_ms(86_400_000) == 60_000
    assert minute.interval_ms(100_000) == 10_000
    assert policy(SESSION_REFRESH_INTERVAL=0).interval_ms(86_400_000) == 0


def test_a_session_behind_a_browser_cookie_may_have_another_lifetime() -> None:
    mixed = policy(PERMANENT_SESSION_LIFETIME=1000, SESSION_BROWSER_LIFETIME=100)
    assert mixed.idle(Record()) == timedelta(seconds=100)
    assert mixed.idle(Record(permanent=True)) == timedelta(seconds=1000)
    assert mixed.idle(Record(lifetime=timedelta(seconds=5))) == timedelta(seconds=5)
    assert policy(PERMANENT_SESSION_LIFETIME=1000).idle(Record()) == timedelta(seconds=1000)


# -- what is refused -----------------------------------------------------------------------------------------------

WRONG: dict[str, list[t.Any]] = {
    "SESSION_STORE": [
        5,
        b"memory:",
        ["memory:"],
        dict,
        ("memory:",),
        ("memory:", 5),
        "",
        "memory",
        "nosuch:",
        "memory:more",
    ],
    "SESSION_STORE_OPTIONS": ["max_bytes", 5, [("max_bytes", 5)], {"nosuch": 1}, {"max_bytes": "many"}],
    "SESSION_KEY_PREFIX": [5, None, b"session:"],
    "SESSION_COOKIE_CONTENT_SECURITY": ["none", "encrypted", None, True],
    "PERMANENT_SESSION_LIFETIME": [0, -5, "1h", None, timedelta(0)],
    "SESSION_BROWSER_LIFETIME": [0, -5, "1h", True, float("nan"), float("inf"), timedelta(0), 1e-9],
    "SESSION_ABSOLUTE_LIFETIME": [0, -5, "1h", True, float("nan"), 1e20, timedelta(days=-1)],
    "SESSION_REFRESH_INTERVAL": [-1, "60", None, False, timedelta(seconds=-1)],
    "SESSION_CONFLICT_TIMEOUT": [0, -1, "2", True, None],
    "SESSION_SWEEP_INTERVAL": [-1, "60", True, timedelta(seconds=-1)],
    "SESSION_PERMANENT": [1, "yes", None],
    "SESSION_MAX_PER_OWNER": [0, -1, 1.5, "3", True],
    "SESSION_RECORD_CLIENT": [1, "yes", None],
    "SESSION_SEAL": [1, "yes", None],
    "SESSION_REFRESH_EACH_REQUEST": [1, "no", None],
    "SESSION_OWNER_KEY": ["", 5, b"user_id", ["user_id"]],
    "SESSION_LOGIN_DROPS": ["csrf_token", 5, None, [5], b"csrf"],
    "SESSION_MAX_SIZE": [0, -1, 1.5, "1 MiB", True, None],
    "SECRET_KEY_FALLBACKS": ["former", b"former", 5],
}


@pytest.mark.parametrize(
    ("key", "value"), [pytest.param(key, value, id=f"{key}={value!r}") for key in WRONG for value in WRONG[key]]
)
def test_a_setting_of_a_wrong_type_or_value_is_an_error_at_start_that_names_it(key: str, value: object) -> None:
    error = refusal(**{key: value})
    assert error.key == key
    assert key in str(error)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PERMANENT_SESSION_LIFETIME", float("nan")),
        ("PERMANENT_SESSION_LIFETIME", 1e20),
        ("SESSION_STORE_OPTIONS", 0),
        ("SESSION_STORE_OPTIONS", {1: 1}),
    ],
)
def test_so_are_these(key: str, value: object) -> None:
    assert refusal(**{key: value}).key == key


def test_an_empty_former_secret_is_refused() -> None:
    """It would verify what anybody signs."""
    for fallbacks in ([""], ["good", ""], [b""], [None]):
        assert refusal(SECRET_KEY_FALLBACKS=fallbacks).key == "SECRET_KEY_FALLBACKS"


def test_names_that_can_be_read_only_once_are_read_once() -> None:
    assert policy(SESSION_LOGIN_DROPS=(name for name in ("a", "b"))).login_drops == ("a", "b")


def test_a_message_about_a_setting_holds_no_value_that_may_be_a_password() -> None:
    for key, value in (
        ("SESSION_STORE", "nosuch://user:tops3cret@host"),
        ("SESSION_STORE", ["redis://user:tops3cret@host"]),
        ("SESSION_STORE", "redis://user:tops3cret@host:port"),
        ("SESSION_STORE_OPTIONS", "password=tops3cret"),
        ("SESSION_KEY_PREFIX", b"tops3cret"),
        ("SECRET_KEY_FALLBACKS", "tops3cret"),
    ):
        assert "tops3cret" not in str(refusal(**{key: value}))


def test_nor_does_the_message_about_a_url_without_a_scheme() -> None:
    assert "tops3cret" not in str(refusal(SESSION_STORE="tops3cret@host/0"))


# -- other people's settings ---------------------------------------------------------------------------------------

FLASK_SESSIONS = [
    "SESSION_TYPE",
    "SESSION_REDIS",
    "SESSION_MEMCACHED",
    "SESSION_CACHELIB",
    "SESSION_FILE_DIR",
    "SESSION_FILE_THRESHOLD",
    "SESSION_FILE_MODE",
    "SESSION_MONGODB",
    "SESSION_MONGODB_DB",
    "SESSION_MONGODB_COLLECT",
    "SESSION_SQLALCHEMY",
    "SESSION_SQLALCHEMY_TABLE",
    "SESSION_DYNAMODB",
    "SESSION_USE_SIGNER",
    "SESSION_ID_LENGTH",
    "SESSION_SERIALIZATION_FORMAT",
    "SESSION_CLEANUP_N_REQUESTS",
]


@pytest.mark.parametrize(
    "key",
    [
        *FLASK_SESSIONS,
        "SESSION_SQLALCHEMY_SEQUENCE",
        "SESSION_SQLALCHEMY_SCHEMA",
        "SESSION_SQLALCHEMY_BIND_KEY",
        "SESSION_DYNAMODB_TABLE",
    ],
)
def test_a_setting_of_flask_session_is_an_error_that_shows_the_line_to_write_instead(key: str) -> None:
    error = refusal(**{key: "redis"})
    assert error.key == key
    assert f"{key} is a setting of Flask-Session. For flask_sessionstore, write:\n    " in str(error)
    assert "from flask_sessionstore.migrate.flask_session import Session" in str(error)


def test_all_settings_of_flask_session_are_in_one_message() -> None:
    message = str(refusal(SESSION_TYPE="redis", SESSION_REDIS=object(), SESSION_USE_SIGNER=True))
    assert "SESSION_TYPE, SESSION_REDIS, SESSION_USE_SIGNER are settings of Flask-Session" in message
    assert message.count("\n    ") == 4


@pytest.mark.parametrize(
    "name", ["redis", "memcached", "filesystem", "cachelib", "mongodb", "sqlalchemy", "dynamodb", "null", "FileSystem"]
)
def test_flask_sessions_types_are_answered_with_our_spelling(name: str) -> None:
    error = refusal(SESSION_STORE=name)
    assert error.key == "SESSION_STORE"
    assert f"{name.lower()!r} is a name of Flask-Session's; here, write " in str(error)


def test_a_setting_of_flask_session_that_is_none_is_left_alone() -> None:
    SessionManager(app_with(SESSION_TYPE=None, SESSION_REDIS=None))


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("SESSION_STORES", "SESSION_STORE"),
        ("SESSION_STORE_OPTION", "SESSION_STORE_OPTIONS"),
        ("SESSION_KEY_PREFX", "SESSION_KEY_PREFIX"),
        ("SESSION_ABSOLUTE_LIFETIMES", "SESSION_ABSOLUTE_LIFETIME"),
        ("SESSION_PERMANENTLY", "SESSION_PERMANENT"),
        ("SESSION_LOGIN_DROP", "SESSION_LOGIN_DROPS"),
        ("SESSION_OWNERS_KEY", "SESSION_OWNER_KEY"),
        ("SESSION_COOKIE_SAME_SITE", "SESSION_COOKIE_SAMESITE"),
        ("SESSION_COOKIE_NAMES", "SESSION_COOKIE_NAME"),
    ],
)
def test_a_misspelt_setting_is_an_error_that_names_the_right_one(misspelt: str, meant: str) -> None:
    error = refusal(**{misspelt: None})
    assert error.key == misspelt
    assert str(error).endswith(f"did you mean {meant}?")


@pytest.mark.parametrize(
    "key",
    ["SESSION_PROTECTION", "SESSION_LIFETIME", "SESSION_TIMEOUT", "SESSION_", "SESSIONS_STORE", "MY_SESSION_STORE"],
)
def test_what_is_not_like_a_setting_of_ours_belongs_to_somebody_else(key: str) -> None:
    SessionManager(app_with(**{key: "strong"}))


def test_flasks_own_settings_are_no_mistakes() -> None:
    SessionManager(app_with())
    assert {key for key in Flask("shop").config if key.startswith("SESSION_")} == {
        "SESSION_COOKIE_NAME",
        "SESSION_COOKIE_DOMAIN",
        "SESSION_COOKIE_PATH",
        "SESSION_COOKIE_HTTPONLY",
        "SESSION_COOKIE_SECURE",
        "SESSION_COOKIE_PARTITIONED",
        "SESSION_COOKIE_SAMESITE",
        "SESSION_REFRESH_EACH_REQUEST",
    }


def test_fallbacks_are_a_list_or_nothing() -> None:
    for fallbacks in (None, [], ["former"], ("former", b"older")):
        SessionManager(app_with(SECRET_KEY_FALLBACKS=fallbacks))


def test_options_of_none_are_no_options() -> None:
    assert read_settings(app_with(SESSION_STORE_OPTIONS=None)).store_options == {}
