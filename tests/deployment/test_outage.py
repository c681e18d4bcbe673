"""A store that hangs behind a real server: whoever needs no session does not wait for it."""

from __future__ import annotations

import threading
import time
import typing as t
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from redis_clusters import until
from servers import StartServer
from web_servers import Gunicorn, GunicornGevent, WebServer

THREADS = 8
#: Seconds: far less than the time-out of two seconds, and far more than a page takes on a busy machine.
AT_ONCE = 1.0


class Crowd:
    """Visitors who use their sessions all the time; more than the server has threads."""

    def __init__(self, server: WebServer) -> None:
        self.url = f"http://127.0.0.1:{server.port}"
        self._over = threading.Event()
        self._browser = requests.Session()

    def __enter__(self) -> t.Self:
        until(lambda: self._browser.post(f"{self.url}/count", timeout=60).status_code == 200)
        self._pool = ThreadPoolExecutor(2 * THREADS)
        for _ in range(2 * THREADS):
            self._pool.submit(self._visit)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def _visit(self) -> None:
        browser = requests.Session()
        while not self._over.wait(0.05):
            browser.post(f"{self.url}/count", timeout=60)

    def ask(self, path: str) -> tuple[int, float]:
        """The status of a page for somebody who has a session, and how long it took."""
        began = time.monotonic()
        status = self._browser.get(f"{self.url}{path}", timeout=60).status_code
        return status, time.monotonic() - began


@pytest.fixture(params=["threads", "greenlets"])
def server_on(request: pytest.FixtureRequest) -> t.Callable[[str], WebServer]:
    def make(url: str) -> WebServer:
        settings = {"store": url, "prefix": f"{uuid.uuid4()}:", "warm": True, "max_age": 1, "folder": "{folder}"}
        if request.param == "threads":
            return Gunicorn(settings, 2, "--worker-class=gthread", f"--threads={THREADS}", "--preload")
        return GunicornGevent(settings, 2, "--worker-class=gevent", "--preload")

    return make


def at_once(found: tuple[int, float], status: int) -> bool:
    return found[0] == status and found[1] < AT_ONCE


@pytest.mark.deployment
def test_pages_without_a_session_do_not_wait_for_a_store_that_hangs(
    server_on: t.Callable[[str], WebServer], start_redis: StartServer
) -> None:
    redis = start_redis()
    with server_on(redis.url) as server, Crowd(server) as crowd:
        with redis.hanging():
            # Each process has to meet two time-outs before it knows; until then it refuses nobody at once.
            until(lambda: all(at_once(crowd.ask("/show"), 503) for _ in range(20)), seconds=120)
            for _ in range(40):
                status, took = crowd.ask("/health")
                assert status == 200
                assert took < AT_ONCE
        until(lambda: all(status == 200 for status, _ in (crowd.ask("/show") for _ in range(20))))
