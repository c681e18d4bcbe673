"""The servers that other tests build on: found, or missed loudly; started, disturbed and ended."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
import redis
import servers
from memcached_server import MemcachedServer
from redis.backoff import NoBackoff
from redis.retry import Retry
from sql_servers import PostgreSQL

if t.TYPE_CHECKING:
    from servers import StartServer

    from flask_sessionstore.testing import Clock


NEVER = Retry(NoBackoff(), 0)
SERVERS: dict[str, t.Callable[[], servers.Server]] = {
    "redis": lambda: servers.RedisServer(servers.program("valkey9")),
    "memcached": MemcachedServer,
    "postgresql": PostgreSQL,
}


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


def test_a_test_without_the_marker_starts_no_server() -> None:
    server = servers.Server(Path("never started"))
    try:
        with pytest.raises(RuntimeError, match=r"@pytest\.mark\.server"):
            server.start()
    finally:
        server.close()


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


def test_a_server_that_hangs_goes_on(start_redis: StartServer) -> None:
    server = start_redis()
    with redis.Redis.from_url(server.url, socket_timeout=0.1, retry=NEVER) as client:
        with server.hanging(), pytest.raises(redis.TimeoutError):
            client.ping()
        assert client.ping()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_hangs_may_be_ended_meanwhile(start_redis: StartServer, end: str) -> None:
    server = start_redis()
    with server.hanging():
        server.resume()
        getattr(server, end)()
    assert not server.running


@pytest.mark.server
@pytest.mark.parametrize("start", SERVERS.values(), ids=SERVERS)
def test_leaving_ends_a_paused_server_and_removes_its_files(start: t.Callable[[], servers.Server]) -> None:
    with start() as server:
        server.pause()
    assert not server.running
    assert not server.folder.exists()


def ended(connection: socket.socket) -> bool:
    """Whether the other side is gone, which is waited for."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@contextlib.contextmanager
def started_elsewhere(server: str) -> t.Iterator[tuple[subprocess.Popen[bytes], list[bytes]]]:
    """A process that has started a server and waits; and the server's port, process and folder."""
    code = f"""if True:
        import servers, sql_servers
        server = {server}
        server.install()
        server.start()
        print(server.port, server._process.pid, server.folder, flush=True)
        input()
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # for accounts that are not root's
        environment = {**os.environ, "PYTHONPATH": str(Path(servers.__file__).parent), "TMPDIR": folder}
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as starter:
            assert starter.stdout is not None
            yield starter, starter.stdout.readline().split()


@pytest.mark.server
@pytest.mark.skipif(not servers.LEASH, reason="setpriv is not installed")
def test_no_server_outlives_the_process_that_started_it() -> None:
    with (
        started_elsewhere('servers.RedisServer(servers.program("valkey9"))') as (starter, (port, *_)),
        socket.create_connection(("127.0.0.1", int(port)), timeout=30) as connection,
    ):
        starter.kill()
        assert ended(connection)


@pytest.mark.server
@pytest.mark.skipif(not servers.LEASH, reason="setpriv is not installed")
def test_a_postgresql_whose_starter_is_gone_leaves_nothing_behind() -> None:
    """Neither processes nor shared memory."""
    servers.program("postgresql")
    with started_elsewhere("sql_servers.PostgreSQL()") as (starter, (_, pid, folder)):
        memory = (Path(folder.decode()) / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]
        handle = os.pidfd_open(int(pid))
        starter.kill()
        assert select.select([handle], [], [], 30)[0]
        os.close(handle)
        held = [line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
        assert memory not in held


def test_the_clock_moves_only_by_hand(clock: Clock) -> None:
    start = clock()
    assert clock() == start
    clock.advance(1.5)
    assert clock() - start == 1.5
