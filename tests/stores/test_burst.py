"""A burst of greenlets is served over few connections, and does not hold them for good."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import redis
import servers
from memcached_server import MemcachedServer
from pymemcache import Client
from servers import StartServer

pytestmark = pytest.mark.server

Count = t.Callable[[], int]
#: Seconds for what has to happen. Also for who waits for a connection, since a busy machine may take its time to serve
#: the others.
SOON = 30


@contextlib.contextmanager
def bursting(**config: object) -> t.Iterator[t.Callable[[str, int], t.Any]]:
    """A process that serves visitors under gevent; it is told what to do, and says how it went."""
    command: list[str | Path] = [
        *servers.LEASH,
        sys.executable,
        Path(servers.__file__).with_name("burst.py"),
        json.dumps(config),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def tell(what: str, number: int) -> t.Any:
            print(what, number, file=stdin, flush=True)
            return json.loads(stdout.readline())

        yield tell
        stdin.close()


def check_burst(count: Count, **config: object) -> None:
    """
    :param count: how many connections of this process's the server has.
    """
    with bursting(**config) as tell:
        assert tell("burst", 300) == {"served": 300}
        assert 8 < count() <= 20
        assert tell("pass_time", 61) == "served"
        deadline = time.monotonic() + SOON
        while count() > 8 and time.monotonic() < deadline:
            pass  # the server sees a closed connection when it comes to it
        assert count() <= 8
        assert tell("burst", 300) == {"served": 300}


def test_a_burst_over_redis(start_redis: StartServer) -> None:
    server = start_redis()
    with redis.Redis(port=server.port) as client:
        check_burst(
            lambda: len(t.cast("list[t.Any]", client.client_list())) - 1,
            SESSION_STORE=f"{server.url}?max_connections=20&socket_timeout={SOON}",
        )


def test_a_burst_over_memcached() -> None:
    with MemcachedServer() as server, contextlib.closing(Client(("127.0.0.1", server.port))) as client:
        empty = int(client.stats()[b"curr_connections"])
        check_burst(
            lambda: int(client.stats()[b"curr_connections"]) - empty,
            SESSION_STORE=f"{server.url}?timeout={SOON}",
            SESSION_STORE_OPTIONS={"max_connections": 20},
        )
