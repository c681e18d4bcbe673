"""Requests a second, through a real server: gunicorn with two workers, and four browsers at once."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import subprocess
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from time import perf_counter

from .apps import Place, Skip
from .cases import BARE, VALKEY
from .databases import wait_until_connectable
from .engines import OURS, THEIRS
from .measure import lower_tenth
from .server import free_port

SUBJECTS = (BARE, THEIRS(VALKEY), OURS(VALKEY))
TARGETS = {"read": 0.61, "write": 0.44}
BROWSERS, REQUESTS = 4, 100


def throughput_rows(place: Place, rounds: int) -> list[list[str]]:
    """One row for each subject: in every round each answers the same number of requests, in an order that changes."""
    with contextlib.ExitStack() as stack:
        url = place.url_of(VALKEY)
        cases = [(subject, name) for name in TARGETS for subject in SUBJECTS]
        sites = {case: stack.enter_context(serving(*case, url)) for case in cases}
        pool = stack.enter_context(ThreadPoolExecutor(BROWSERS))
        took = timed(sites, pool, rounds)
    rate = {case: BROWSERS * REQUESTS / lower_tenth(seconds) for case, seconds in took.items()}
    return [["", *TARGETS], *([subject, *(cell(rate, subject, name) for name in TARGETS)] for subject in SUBJECTS)]


def timed(sites: t.Mapping[tuple[str, str], Site], pool: ThreadPoolExecutor, rounds: int) -> dict[t.Any, list[float]]:
    took: dict[t.Any, list[float]] = {case: [] for case in sites}
    order = list(sites)
    for _ in range(rounds):
        random.Random(len(took[order[0]])).shuffle(order)
        for case in order:
            start = perf_counter()
            list(pool.map(Site.visit, repeat(sites[case], BROWSERS), range(BROWSERS)))
            took[case].append(perf_counter() - start)
    return took


def cell(rate: t.Mapping[tuple[str, str], float], subject: str, name: str) -> str:
    if subject == BARE:
        return f"{rate[subject, name]:.0f}"
    target = f" ({TARGETS[name]:.2f})" if subject == OURS(VALKEY) else ""
    return f"{rate[subject, name]:.0f}, {rate[subject, name] / rate[BARE, name]:.2f}{target}"


class Site:
    """An application that is served, and the cookies of its browsers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies = [self.cookie(self.get("/seed", "")) for _ in range(BROWSERS)]

    def visit(self, browser: int) -> None:
        for _ in repeat(None, REQUESTS):
            answer = self.get("/", self.cookies[browser])
            self.cookies[browser] = self.cookie(answer) or self.cookies[browser]

    def get(self, path: str, cookie: str) -> str:
        """The answer, head and body; a connection for each, since this kind of worker keeps none open."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nCookie: {cookie}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        if " 200 " not in answer[:20]:
            raise RuntimeError(answer[:200])
        return answer

    @staticmethod
    def cookie(answer: str) -> str:
        found = re.search(r"^Set-Cookie: ([^;\r]+)", answer, re.MULTILINE)
        return found[1] if found else ""


@contextlib.contextmanager
def serving(subject: str, name: str, url: str) -> t.Iterator[Site]:
    """The application under gunicorn, with two workers of its default kind."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers=2", f"--bind=127.0.0.1:{port}", "--log-level=warning"]
    if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode:
        raise Skip("gunicorn is not installed: pip install gunicorn")
    with subprocess.Popen([*command, f"bench.served:app({subject!r}, {name!r}, {url!r})"]) as process:
        try:
            wait_until_connectable(port)
            yield Site(port)
        finally:
            process.terminate()
