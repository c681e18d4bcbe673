"""The servers that other tests build on: found, or missed loudly; started, disturbed and ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
import redis
import servers
from redis.backoff import NoBackoff
from redis.retry import Retry

if t.TYPE_CHECKING:
    from conftest import Clock, StartServer


NEVER = Retry(NoBackoff(), 0)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a program that is installed nowhere."""
    monkeypatch.setitem(servers.PROGRAMS, "redis1", (lambda: None, "ask a museum"))
    return "redis1"


def test_a_missing_program_is_a_skip_with_its_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(servers.ASKED_FOR, "valkey9")
    with pytest.raises(pytest.skip.Exception, match="redis1 is not installed: ask a museum"):
        servers.program(missing)


def test_a_missing_program_that_was_asked_for_is_a_failure(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(servers.ASKED_FOR, f"valkey9,{missing}")
    with pytest.raises(pytest.fail.Exception, match="asks for redis1, which is not installed: ask a museum"):
        servers.program(missing)


def test_a_name_that_no_program_has_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(servers.ASKED_FOR, "redis0")
    with pytest.raises(pytest.fail.Exception, match="asks for redis0: known are valkey9, redis6, redis7"):
        servers.program("valkey9")


def test_a_shared_server_answers_on_both_its_addresses(redis_server: servers.RedisServer) -> None:
    for url in (redis_server.url, redis_server.unix_url):
        with redis.Redis.from_url(url) as client:
            info = client.info("server")
            assert info["tcp_port"] == redis_server.port
            assert info.get("valkey_version", info["redis_version"]) == redis_server.version


def test_the_shared_server_is_one(valkey: servers.RedisServer, shared_redis: StartServer) -> None:
    assert shared_redis("valkey9") is valkey


def test_options_reach_the_server(start_redis: StartServer) -> None:
    server = start_redis(maxmemory="3mb", requirepass="secret")
    with redis.Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory") == {"maxmemory": "3145728"}
    with redis.Redis(port=server.port, retry=NEVER) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_wrong_options_are_an_error_with_the_servers_words(start_redis: StartServer) -> None:
    with pytest.raises(RuntimeError, match=r"(?i)no-such-option"):
        start_redis(no_such_option="1")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_ended_server_comes_back_empty_on_its_port(start_redis: StartServer, end: str) -> None:
    server = start_redis()
    port = server.port
    with redis.Redis.from_url(server.url) as client:
        client.set("cart", "milk")
    getattr(server, end)()
    assert not server.running
    assert not server.ping()
    server.start()
    assert server.port == port
    with redis.Redis.from_url(server.url) as client:
        assert client.get("cart") is None


def test_a_paused_server_hangs_and_goes_on(start_redis: StartServer) -> None:
    server = start_redis()
    with redis.Redis.from_url(server.url, socket_timeout=0.1, retry=NEVER) as client:
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_leaving_ends_a_paused_server_and_removes_its_files() -> None:
    with servers.RedisServer(servers.program("valkey9")) as server:
        server.pause()
    assert not server.running
    assert not server.folder.exists()


def ended(connection: socket.socket) -> bool:
    """Whether the other side is gone, which is waited for."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.skipif(not servers.LEASH, reason="setpriv is not installed")
def test_no_server_outlives_the_process_that_started_it() -> None:
    code = """if True:
        import servers
        server = servers.RedisServer(servers.program("valkey9"))
        server.start()
        print(server.port, flush=True)
        input()
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(servers.__file__).parent), "TMPDIR": folder},
        ) as starter,
    ):
        assert starter.stdout is not None
        port = int(starter.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            starter.kill()
            assert ended(connection)


def test_the_clock_moves_only_by_hand(clock: Clock) -> None:
    start = clock()
    assert clock() == start
    clock.advance(1.5)
    assert clock() - start == 1.5
