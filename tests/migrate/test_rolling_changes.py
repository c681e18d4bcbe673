"""Changes of settings while two processes answer a browser in turn: what docs/changing-settings.rst says."""

from __future__ import annotations

import itertools
import typing as t
import uuid
from pathlib import Path

import pytest
from processes import Browser, deploy, started
from rolling_server import make_app
from servers import RedisServer

pytestmark = pytest.mark.server

ADA = {"_user_id": "7", "member": "ada"}
#: Another user: within ten seconds of a log-out the same one would be taken for a request that was under way.
BOB = {"_user_id": "8", "member": "bob"}
Settings = dict[str, t.Any]


@pytest.fixture(scope="module")
def ports() -> t.Iterator[tuple[int, int]]:
    """Those of the process that is deployed last, and of the one that is deployed first."""
    script = Path(__file__).parent / "rolling_server.py"
    with started(script) as last, started(script) as first:
        yield last, first


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"file://{tmp_path}/sessions"


class Rollout:
    """Deploys one step after the other, and one process after the other."""

    def __init__(self, ports: tuple[int, int], store: str, *steps: Settings) -> None:
        self.ports, self.steps = ports, [self._complete(store, **step) for step in steps]
        self.deploy(self.steps[0], self.steps[0])

    def _complete(self, store: str, importing: Settings | None = None, **settings: t.Any) -> Settings:
        return {"settings": {"SECRET_KEY": "old", "SESSION_STORE": store, **settings}, "importing": importing}

    def deploy(self, last: Settings, first: Settings) -> None:
        for port, step in zip(self.ports, (last, first), strict=True):
            deploy(port, **step)

    def moments(self) -> t.Iterator[None]:
        """In the midst of each deployment, and after it."""
        for before, after in itertools.pairwise(self.steps):
            for last in (before, after):
                self.deploy(last, after)
                yield


def browser_of(port: int, path: str = "/shop") -> Browser:
    browser = Browser()
    assert browser.asks(port, f"{path}/log-in", ADA) == ADA
    return browser


# -- nobody is logged out ------------------------------------------------------------------------------------------

FORMER: Settings = {"former": {"SECRET_KEY": "old"}}
#: The settings of each step.
SMOOTH: dict[str, list[Settings]] = {
    "SECRET_KEY": [
        {"SECRET_KEY": "old"},
        {"SECRET_KEY": "old", "SECRET_KEY_FALLBACKS": ["new"]},
        {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["old"]},
        {"SECRET_KEY": "new"},
    ],
    "SECRET_KEY of private cookies": [
        {"SESSION_COOKIE_CONTENT_SECURITY": "private", "SECRET_KEY": "old"},
        {"SESSION_COOKIE_CONTENT_SECURITY": "private", "SECRET_KEY": "old", "SECRET_KEY_FALLBACKS": ["new"]},
        {"SESSION_COOKIE_CONTENT_SECURITY": "private", "SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["old"]},
        {"SESSION_COOKIE_CONTENT_SECURITY": "private", "SECRET_KEY": "new"},
    ],
    "SESSION_OWNER_KEY": [{}, {"SESSION_OWNER_KEY": "member", "SESSION_LOGIN_KEYS": ["_user_id"]}],
    "SESSION_SEAL": [{}, {"SESSION_SEAL": True}],
    "SESSION_COOKIE_DOMAIN": [{}, {"SESSION_COOKIE_DOMAIN": "shop.test"}],
    "SESSION_COOKIE_NAME": [{}, {"SESSION_COOKIE_NAME": "shop", "importing": FORMER}],
    "SESSION_COOKIE_PATH": [{}, {"SESSION_COOKIE_PATH": "/shop", "importing": FORMER}],
    "SESSION_COOKIE_CONTENT_SECURITY": [
        {},
        {"SESSION_COOKIE_CONTENT_SECURITY": "private", "SESSION_COOKIE_NAME": "shop", "importing": FORMER},
    ],
}


@pytest.mark.parametrize("name", SMOOTH)
def test_nobody_is_logged_out_and_no_write_is_lost(name: str, ports: tuple[int, int], store: str) -> None:
    rollout = Rollout(ports, store, *[_with_former_store(step, store) for step in SMOOTH[name]])
    writer, reader, absent = (browser_of(ports[0]) for _ in range(3))
    count = itertools.count(1)
    for _ in rollout.moments():
        for port in (*ports, *ports, *ports):
            assert writer.asks(port, "/shop/count") == {**ADA, "n": next(count)}
        for port in ports:
            assert reader.asks(port, "/shop/untouched") is None
            assert reader.asks(port, "/shop/read") == ADA
    if name.startswith("SECRET_KEY"):
        assert absent.asks(ports[0], "/shop/read") == {}, "the former secret has gone, and with it who never came"
    else:
        assert absent.asks(ports[0], "/shop/read") == ADA


def _with_former_store(step: Settings, store: str) -> Settings:
    if "importing" not in step:
        return step
    return {**step, "importing": {"url": store, "former": {**step["importing"]["former"], "SESSION_STORE": store}}}


@pytest.mark.parametrize("name", [name for name in SMOOTH if "importing" in SMOOTH[name][-1]])
def test_a_log_out_under_either_cookie_is_one_under_both(name: str, ports: tuple[int, int], store: str) -> None:
    rollout = Rollout(ports, store, *[_with_former_store(step, store) for step in SMOOTH[name]])
    browsers = [browser_of(ports[0]) for _ in ports]
    next(rollout.moments())
    for port, browser in zip(ports, browsers, strict=True):
        assert [browser.asks(each, "/shop/read") for each in ports] == [ADA, ADA]
        thief = browser.twin()
        browser.asks(port, "/shop/log-out", {})
        for each in ports:
            assert browser.asks(each, "/shop/read") == thief.asks(each, "/shop/read") == {}
        for each in ports:
            browser.asks(each, "/shop/log-in", BOB)
            assert browser.asks(each, "/shop/read") == BOB, "nobody is out for good"


def test_who_only_read_before_it_was_required_that_records_are_sealed_logs_in_again(
    ports: tuple[int, int], store: str
) -> None:
    rollout = Rollout(ports, store, {}, {"SESSION_SEAL": True}, {"SESSION_SEAL": "required"})
    writer, reader = browser_of(ports[0]), browser_of(ports[0])
    moments = rollout.moments()
    for _ in range(2):  # until all have the first step
        next(moments)
    n = writer.asks(ports[0], "/shop/count")["n"]
    assert reader.asks(ports[0], "/shop/read") == ADA
    for _ in moments:
        assert writer.asks(ports[1], "/shop/read") == {**ADA, "n": n}
    assert reader.asks(ports[1], "/shop/read") == {}
    assert reader.asks(ports[1], "/shop/log-in", ADA) == ADA


# -- a session for each, while both answer ---------------------------------------------------------------------------


@pytest.fixture(params=["SESSION_KEY_PREFIX", "files to Redis", "Redis to PostgreSQL"])
def move(
    request: pytest.FixtureRequest, store: str, valkey: RedisServer, database_url: t.Callable[[str], str]
) -> list[Settings]:
    """The steps of a change of the store."""
    prefix = f"{uuid.uuid4()}:"
    in_redis = {"SESSION_STORE": valkey.url, "SESSION_KEY_PREFIX": prefix}
    old, new, origin = {
        "SESSION_KEY_PREFIX": ({}, {"SESSION_KEY_PREFIX": prefix}, {"url": store}),
        "files to Redis": ({}, in_redis, {"url": store}),
        "Redis to PostgreSQL": (
            in_redis,
            {**in_redis, "SESSION_STORE": database_url("postgresql")},
            {"url": valkey.url, "prefix": prefix},
        ),
    }[request.param]
    return [old, {**new, "importing": origin}, new]


def test_a_new_store_takes_each_session_over_once_and_the_old_one_keeps_what_it_has(
    move: list[Settings], ports: tuple[int, int], store: str
) -> None:
    rollout, (last, first) = Rollout(ports, store, *move), ports
    browser, absent, thief = browser_of(last), browser_of(last), browser_of(last)
    moments = rollout.moments()
    next(moments)  # one process has the new store
    assert browser.asks(last, "/shop/count") == {**ADA, "n": 1}
    for n in (2, 3, 4):  # it comes over with the count 1
        assert browser.asks(first, "/shop/count") == browser.asks(last, "/shop/count") == {**ADA, "n": n}
    copied = thief.twin()
    thief.asks(first, "/shop/log-out", {})
    assert copied.asks(first, "/shop/read") == {}
    assert copied.asks(last, "/shop/read") == ADA, "the old store knows nothing of it"
    came_over = browser_of(last)
    assert came_over.asks(first, "/shop/read") == ADA
    thief = came_over.twin()
    came_over.asks(last, "/shop/log-out", {})
    assert came_over.asks(first, "/shop/read") == {}, "its cookie is gone"
    assert [thief.asks(port, "/shop/read") for port in ports] == [{}, ADA], "the new store knows nothing of it"
    next(moments)  # all have it
    assert browser.asks(last, "/shop/count") == {**ADA, "n": 5}
    assert copied.asks(last, "/shop/read") == {}
    app = make_app(**rollout.steps[1])
    result = app.test_cli_runner().invoke(args=["sessions", "import"])
    assert result.exit_code == 0, result.output
    for _ in moments:  # the importer goes
        assert absent.asks(last, "/shop/read") == ADA
        assert browser.asks(first, "/shop/read") == {**ADA, "n": 5}
        assert copied.asks(last, "/shop/read") == {}


# -- who logs in again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"SESSION_COOKIE_NAME": "shop"},
        {"SESSION_COOKIE_PATH": "/shop"},
        {"SESSION_COOKIE_CONTENT_SECURITY": "private", "SESSION_COOKIE_NAME": "shop"},
    ],
    ids="-".join,
)
def test_without_the_importer_a_visitor_has_a_session_in_each_version(
    change: Settings, ports: tuple[int, int], store: str
) -> None:
    rollout, (last, first) = Rollout(ports, store, {}, change), ports
    browser = browser_of(last)
    moments = rollout.moments()
    next(moments)
    assert [browser.asks(port, "/shop/read") for port in ports] == [ADA, {}]
    browser.asks(first, "/shop/log-in", ADA)
    for n in (1, 2, 3):
        assert [browser.asks(port, "/shop/count") for port in ports] == [{**ADA, "n": n}] * 2
    next(moments)
    assert browser.asks(last, "/shop/read") == {**ADA, "n": 3}


def test_of_two_kinds_of_cookies_under_one_name_the_last_that_was_written_is_left(
    ports: tuple[int, int], store: str
) -> None:
    rollout, (last, first) = Rollout(ports, store, {}, {"SESSION_COOKIE_CONTENT_SECURITY": "private"}), ports
    browser = browser_of(last)
    moments = rollout.moments()
    next(moments)
    assert browser.asks(first, "/shop/read") == {}
    assert browser.asks(last, "/shop/read") == ADA, "who only reads leaves the cookie alone"
    browser.asks(first, "/shop/log-in", ADA)
    assert [browser.asks(port, "/shop/read") for port in ports] == [{}, ADA]
    browser.asks(last, "/shop/log-in", ADA)
    assert [browser.asks(port, "/shop/read") for port in ports] == [ADA, {}]
    next(moments)
    assert browser.asks(last, "/shop/log-in", ADA) == ADA
    assert [browser.asks(port, "/shop/read") for port in ports] == [ADA, ADA]


def test_with_a_new_domain_who_has_sessions_on_two_hosts_loses_both(ports: tuple[int, int], store: str) -> None:
    rollout, (last, first) = Rollout(ports, store, {}, {"SESSION_COOKIE_DOMAIN": "shop.test"}), ports
    hosts = ("a.shop.test", "b.shop.test")
    browser = Browser()
    for host in hosts:
        browser.asks(last, "/shop/log-in", ADA, host=host)
    for _ in rollout.moments():
        assert [browser.asks(first, "/shop/read", host=host) for host in hosts] == [ADA, ADA]
    browser.asks(first, "/shop/count", host=hosts[0])  # its cookie is for both hosts now
    assert browser.asks(first, "/shop/read", host=hosts[1]) == {}
    for host in hosts:
        assert browser.asks(last, "/shop/log-in", ADA, host=host) == ADA
    assert [browser.asks(port, "/shop/read", host=host) for host in hosts for port in ports] == [ADA] * 4
