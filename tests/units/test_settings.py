"""The settings: what each takes, and the error at start that says so."""

from __future__ import annotations

import typing as t
from datetime import timedelta

import pytest
from flask import Flask

from flask_sessionstore import ConfigurationError, SessionManager, StoreSessionInterface, misnomers
from flask_sessionstore.policy import Policy
from flask_sessionstore.record import Record
from flask_sessionstore.settings import SETTINGS, read_settings, unknown_names


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
    "SESSION_SLOW_CALL": [0, -1, "2", True, 0.0009],
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
    "SESSION_COOKIE_NAME": [5, None, b"session"],
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


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("SESSION_COOKIE_CONTENT_SECURITY", "encrypted", 'is the text \'encrypted\'; it takes "signed" or "private"'),
        ("SESSION_SEAL", "Required", "is the text 'Required'; it takes True, False or \"required\""),
        ("SESSION_PERMANENT", "yes", "is the text 'yes'; it takes True or False"),
        ("SESSION_BROWSER_LIFETIME", "30 minutes", "is the text '30 minutes'; it takes a timedelta or a number of"),
        ("SESSION_KEY_PREFIX", None, "is None; it takes a str"),
        ("SESSION_SEAL", "tops3cret", "is of type str; it takes True"),
        ("SESSION_PERMANENT", "1", "is the text '1'; it takes True or False"),
        ("SESSION_SLOW_CALL", 0.0005, "is 0.0005; it takes a timedelta or a number of seconds, 0.001 or more"),
        ("SESSION_CONFLICT_TIMEOUT", 0, "is 0; it takes a timedelta or a number of seconds, 0.001 or more"),
        ("SESSION_OUTAGE_PAUSE", -1, "is -1; it takes a timedelta or a number of seconds, 0 or more"),
    ],
)
def test_the_message_shows_the_value_where_it_is_a_word_or_a_number(key: str, value: object, said: str) -> None:
    assert f"{key} {said}" in str(refusal(**{key: value}))


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("PERMANENT_SESSION_LIFETIME", "3600", 3600),
        ("SESSION_BROWSER_LIFETIME", "3600", 3600),
        ("SESSION_MAX_PER_OWNER", "3", 3),
        ("SESSION_PERMANENT", "True", True),
        ("SESSION_REFRESH_EACH_REQUEST", "false", False),
    ],
)
def test_a_text_from_the_environment_is_refused_with_the_way_to_read_it(
    key: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = str(refusal(**{key: text}))
    assert f"write {value!r} without quotes; app.config.from_prefixed_env() reads FLASK_{key}=" in said
    name, _, written = said.partition("reads ")[2].partition(" ")[0].partition("=")
    monkeypatch.setenv(name, written)
    app = app_with()
    app.config.from_prefixed_env()
    assert app.config[key] == value
    read_settings(app)


@pytest.mark.parametrize("secret", [5, ["secret"], True, object()])
def test_a_secret_that_is_neither_text_nor_bytes_is_refused_and_not_shown(secret: object) -> None:
    error = refusal(SECRET_KEY=secret)
    assert error.key == "SECRET_KEY"
    assert str(error) == f"SECRET_KEY is of type {type(secret).__name__}; it takes a str or bytes"


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
    ["SESSION_PROTECTION", "SESSIONS_STORE", "MY_SESSION_STORE"],
)
def test_what_is_not_like_a_setting_of_ours_belongs_to_somebody_else(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    SessionManager(app_with(**{key: "strong"}))
    assert caplog.messages == []


def test_settings_that_nobody_is_known_to_read_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(SESSION_TELEMETRY=True, SESSION_=1, SESSION_TYPE=None, SESSION_PROTECTION="strong")
    SessionManager(app)
    assert caplog.messages == ["settings that neither Flask nor flask_sessionstore knows: SESSION_TELEMETRY, SESSION_"]
    assert unknown_names(app.config) == ["SESSION_TELEMETRY", "SESSION_"]


ELSEWHERE = {
    "SESSION_STORE": "SESSION_STORE_URL SESSION_BACKEND SESSION_ENGINE SESSION_REDIS_URL SESSION_DRIVER SESSION_URL",
    "PERMANENT_SESSION_LIFETIME": (
        "SESSION_LIFETIME SESSION_MAX_AGE SESSION_TIMEOUT SESSION_TTL SESSION_COOKIE_AGE SESSION_EXPIRY"
        " SESSION_PERMANENT_LIFETIME SESSION_COOKIE_MAX_AGE SESSION_IDLE_TIMEOUT"
    ),
    "SESSION_SEAL": "SESSION_ENCRYPT SESSION_ENCRYPTION",
    "SESSION_COOKIE_SECURE": "SESSION_SECURE",
    "SESSION_COOKIE_SAMESITE": "SESSION_SAMESITE",
    "SESSION_COOKIE_HTTPONLY": "SESSION_HTTPONLY",
    "SESSION_COOKIE_DOMAIN": "SESSION_DOMAIN",
    "SESSION_COOKIE_PATH": "SESSION_PATH",
    "SESSION_COOKIE_NAME": "SESSION_NAME SESSION_COOKIE",
    "SESSION_OWNER_KEY": "SESSION_USER_KEY SESSION_OWNER SESSION_USER_ID",
    "SESSION_KEY_PREFIX": "SESSION_PREFIX SESSION_NAMESPACE",
    "SESSION_REFRESH_EACH_REQUEST": "SESSION_SAVE_EVERY_REQUEST SESSION_ROLLING",
    "SESSION_PERMANENT": "SESSION_EXPIRE_AT_BROWSER_CLOSE",
    "SESSION_STORE_OPTIONS": "SESSION_OPTIONS SESSION_TABLE",
    "SECRET_KEY": "SESSION_SECRET SESSION_SECRET_KEY",
}


@pytest.mark.parametrize(("name", "ours"), [(name, ours) for ours in ELSEWHERE for name in ELSEWHERE[ours].split()])
def test_another_framework_s_name_for_a_setting_is_an_error_that_names_ours(name: str, ours: str) -> None:
    error = refusal(**{name: None})
    assert error.key == name
    assert str(error) == f"{name} is not a setting here: write {ours}"


def test_every_name_that_is_said_to_be_ours_is_a_setting() -> None:
    known = {*(setting.name for setting in SETTINGS), *Flask("shop").config}
    assert known.issuperset(misnomers.ELSEWHERE)
    assert known.isdisjoint(misnomers.OURS)


def test_all_wrong_names_are_in_one_message() -> None:
    message = str(refusal(SESSION_LIFETIME=5, SESSION_PREFIX="a", SESSION_OWNERS_KEY="b", SESSION_TELEMETRY=1))
    assert message.splitlines() == [
        "SESSION_LIFETIME is not a setting here: write PERMANENT_SESSION_LIFETIME",
        "SESSION_PREFIX is not a setting here: write SESSION_KEY_PREFIX",
        "SESSION_OWNERS_KEY is not a setting; did you mean SESSION_OWNER_KEY?",
    ]


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
