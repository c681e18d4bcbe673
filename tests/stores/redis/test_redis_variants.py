"""RedisStore on servers and behind proxies that know less than Redis, and with clients that it cannot use."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import time
import typing as t
import uuid
from datetime import timedelta

import pytest
import redis
import redis.asyncio
import servers
import valkey
from http_support import started
from live import live_app
from servers import StartServer
from twemproxy import Twemproxy

from flask_sessionstore import ConfigurationError, Record, StoreUnavailable
from flask_sessionstore.stores import from_url
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.testing import StoreContract

pytestmark = pytest.mark.redis

DAY = timedelta(days=1)
PASSWORD = "right-secret"


def without(*commands: str) -> dict[str, t.Any]:
    """The options of a server that does not know these commands."""
    return {"rename_command": [(command, "") for command in commands]}


class TestServerThatKnowsLess(StoreContract):
    """No digests of scripts, no greeting, nothing about clients."""

    @pytest.fixture
    def store(self, start_redis: StartServer) -> RedisStore:
        url = start_redis("redis7", **without("EVALSHA", "HELLO", "CLIENT", "SCRIPT")).url
        return t.cast("RedisStore", from_url(url))


@pytest.fixture(scope="module")
def twemproxy(shared_redis: t.Callable[[str], servers.RedisServer]) -> t.Iterator[Twemproxy]:
    with Twemproxy(shared_redis("valkey9")) as proxy:
        yield proxy


class TestTwemproxy(StoreContract):
    """It passes on commands with a key, and closes the connection at all others: what goes through all keys fails."""

    test_a_scan_finds_every_session: t.Any = None
    test_an_entry_stays_as_long_as_its_session: t.Any = None
    test_no_entry_outlives_its_session_for_long: t.Any = None

    @pytest.fixture
    def store(self, twemproxy: Twemproxy) -> RedisStore:
        return t.cast("RedisStore", from_url(f"redis://127.0.0.1:{twemproxy.port}", prefix=f"{uuid.uuid4()}:"))


def test_a_command_that_may_not_be_run_by_its_digest_is_tried_so_once(
    start_redis: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = t.cast("RedisStore", from_url(start_redis("redis7", **without("EVALSHA")).url))
    key = store.save(Record(state={"a": b"1"}), DAY)
    sent: list[str] = []
    ask = store.client.ask

    def noting(command: tuple[t.Any, ...], *args: t.Any) -> t.Any:
        sent.append(command[0])
        return ask(command, *args)

    monkeypatch.setattr(store.client, "ask", noting)
    for _ in range(3):
        store.update_ttl(key)
    assert sent == ["EVALSHA", "EVAL", "EVAL", "EVAL"]


# Saves a small and a large session, updates both, and reads them.
WITHOUT_HIREDIS = """
import sys
from datetime import timedelta

sys.modules["hiredis"] = None
from flask_sessionstore import Record
from flask_sessionstore.stores import from_url

store = from_url(sys.argv[1], prefix=sys.argv[2])
for size in (10, 50_000):
    key = store.save(Record(state={"a": b"1" * size}), timedelta(days=1))
    record = store.load(key)
    store.update(key, Record(state={"\u00e4": b"2" * size}), timedelta(days=1), replaces=record.revision)
    assert store.load(key).state == {"\u00e4": b"2" * size}
"""


def test_redis_py_packs_the_commands_without_hiredis(redis_server: servers.RedisServer) -> None:
    command = [sys.executable, "-c", WITHOUT_HIREDIS, redis_server.url, f"{uuid.uuid4()}:"]
    subprocess.run(command, check=True, timeout=60)


# -- passwords -----------------------------------------------------------------------------------------------------


def everything_said(error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    """The texts of an exception and of all that led to it, and all that was logged."""
    texts, seen = [caplog.text], set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            texts.append(f"{found!r} {found}")
            waiting += [found.__cause__, found.__context__]
    return "\n".join(texts)


def failure(attempt: t.Callable[[], object]) -> StoreUnavailable | None:
    try:
        attempt()
    except StoreUnavailable as error:
        return error
    return None


@pytest.mark.parametrize("missing", ["HELLO", "AUTH"])
@pytest.mark.parametrize("made_by", ["url", "url with the newer protocol", "client"])
def test_a_password_that_the_server_repeats_is_not_passed_on(
    missing: str, made_by: str, start_redis: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis("redis7", requirepass=PASSWORD, **without(missing))
    makers: dict[str, t.Callable[[], t.Any]] = {
        "url": lambda: from_url(server.url),
        "url with the newer protocol": lambda: from_url(f"{server.url}?protocol=3"),
        "client": lambda: RedisStore(redis.Redis(port=server.port, password=PASSWORD, protocol=3)),
    }
    store = makers[made_by]()
    caplog.set_level(logging.DEBUG)
    error = failure(lambda: store.save(Record(state={"a": b"1"}), DAY))
    assert error is None or PASSWORD not in everything_said(error, caplog)
    browser_app = live_app(t.cast("RedisStore", store))
    browser_app.config["PROPAGATE_EXCEPTIONS"] = False
    started(browser_app, a=1)
    assert PASSWORD not in caplog.text


def test_a_server_that_does_not_know_the_greeting_is_used(start_redis: StartServer) -> None:
    store = from_url(start_redis("redis7", requirepass=PASSWORD, **without("HELLO")).url)
    assert store.load(store.save(Record(state={"a": b"1"}), DAY)) is not None


def test_what_a_server_repeats_of_a_session_is_not_passed_on(
    start_redis: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = from_url(start_redis("redis7", **without("SET")).url)
    with pytest.raises(StoreUnavailable) as caught:
        store.save(Record(state={"a": b"\xacprivate data"}), DAY)
    assert "private data" not in everything_said(caught.value, caplog)
    assert "session:" not in everything_said(caught.value, caplog)


# -- what cannot work is refused at start --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "why"),
    [
        (redis.asyncio.Redis(), "synchronous"),
        (valkey.Valkey(), "valkey-py"),
        ("redis://localhost", "from_url"),
        (redis.Redis(decode_responses=True), "decode_responses"),
        (object(), "synchronous"),
    ],
    ids=["asyncio", "valkey-py", "url", "decoding", "something"],
)
def test_a_client_that_cannot_work_is_refused(client: t.Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        RedisStore(client)
    assert caught.value.key == "SESSION_STORE"


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost?decode_responses=True",
        "rediss://localhost?ssl_cert_reqs=CERT_NONE",
        "redis+cluster://one,two?decode_responses=True",
        "redis+sentinel://one/mymaster?decode_responses=True",
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        from_url(url)


def test_health_checks_that_a_url_asks_for_cost_no_trip(
    valkey: servers.RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was closed is noticed by the command itself, which is sent again over another."""
    store = t.cast("RedisStore", from_url(f"{valkey.url}?health_check_interval=1", prefix=f"{uuid.uuid4()}:"))
    watching = redis.Redis.from_url(valkey.url)

    def pings() -> int:
        return int(watching.info("commandstats").get("cmdstat_ping", {}).get("calls", 0))

    first = store.save(Record(state={"a": b"\x01"}, owner="ann"), DAY)  # it has connected
    seconds = itertools.count(1e9, 10)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))  # each look is a check's time later
    before = pings()
    second = store.save(Record(state={"a": b"\x01"}, owner="ann"), DAY)
    assert len(store.entries("ann")) == 2
    store.unfile("ann", first.handle, second.handle)
    assert pings() == before
    watching.close()


def test_in_a_sentinels_url_the_database_is_a_number() -> None:
    for database in ("first", "-1", "1/2"):
        with pytest.raises(ConfigurationError, match="the number of a database") as caught:
            from_url(f"redis+sentinel://127.0.0.1:1/mymaster/{database}")
        assert caught.value.key == "SESSION_STORE"
    assert isinstance(from_url("redis+sentinel://127.0.0.1:1/mymaster/2"), RedisStore)
